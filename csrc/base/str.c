#include "base/str.h"

bool mp_str_ieq(mp_str a, mp_str b)
{
  if (a.len != b.len)
    return false;
  for (size_t i = 0; i < a.len; i++)
    if (mp_ascii_lower((unsigned char)a.ptr[i]) != mp_ascii_lower((unsigned char)b.ptr[i]))
      return false;
  return true;
}

bool mp_str_istarts(mp_str s, mp_str prefix)
{
  return s.len >= prefix.len && mp_str_ieq(mp_str_of(s.ptr, prefix.len), prefix);
}

mp_ssize mp_str_find(mp_str s, char c, size_t from)
{
  if (from >= s.len)
    return -1;
  const char *hit = memchr(s.ptr + from, c, s.len - from);
  return hit ? (mp_ssize)(hit - s.ptr) : -1;
}

mp_str mp_str_sub(mp_str s, size_t from, size_t len)
{
  if (from > s.len)
    from = s.len;
  if (len > s.len - from)
    len = s.len - from;
  return mp_str_of(s.ptr ? s.ptr + from : NULL, len);
}

mp_str mp_str_trim(mp_str s)
{
  while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
    s = mp_str_sub(s, 1, s.len);
  while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
    s.len--;
  return s;
}

bool mp_str_u64(mp_str s, uint64_t max, uint64_t *out)
{
  if (s.len == 0 || s.len > 20)
    return false;
  uint64_t value = 0;
  for (size_t i = 0; i < s.len; i++) {
    if (s.ptr[i] < '0' || s.ptr[i] > '9')
      return false;
    uint64_t digit = (uint64_t)(s.ptr[i] - '0');
    if (value > (UINT64_MAX - digit) / 10)
      return false;
    value = value * 10 + digit;
  }
  if (value > max)
    return false;
  *out = value;
  return true;
}

bool mp_str_eq_consttime(mp_str a, mp_str b)
{
  unsigned char diff = a.len != b.len;
  for (size_t i = 0; i < a.len; i++)
    diff |= (unsigned char)(a.ptr[i] ^ (b.len ? b.ptr[i % b.len] : 0xff));
  return diff == 0;
}

bool mp_str_utf8(mp_str s)
{
  const unsigned char *p = (const unsigned char *)s.ptr;
  size_t i = 0;
  while (i < s.len) {
    unsigned char c = p[i];
    if (c < 0x80) {
      i++;
      continue;
    }
    /* The second octet's range excludes overlong forms, surrogates and values past U+10FFFF. */
    size_t more = c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 0;
    if (more == 0 || s.len - i <= more)
      return false;
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[i + 1] < low || p[i + 1] > high)
      return false;
    for (size_t k = 2; k <= more; k++)
      if ((p[i + k] & 0xc0) != 0x80)
        return false;
    i += more + 1;
  }
  return true;
}
