#include "base/base64.h"

#include "base/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int mp_base64_encode(mp_buf *out, mp_str in)
{
  if (in.len > SIZE_MAX / 2)
    return MP_E_FULL;
  size_t need = (in.len + 2) / 3 * 4;
  if (need == 0)
    return 0;
  size_t before = mp_buf_view(out).len;
  char *p = mp_buf_room(out, need);
  if (!p)
    return before + need > out->max ? MP_E_FULL : MP_E_NOMEM;
  const unsigned char *s = (const unsigned char *)in.ptr;
  for (size_t i = 0; i < in.len; i += 3) {
    size_t left = in.len - i;
    unsigned long v = (unsigned long)s[i] << 16;
    v |= left > 1 ? (unsigned long)s[i + 1] << 8 : 0;
    v |= left > 2 ? (unsigned long)s[i + 2] : 0;
    *p++ = alphabet[v >> 18];
    *p++ = alphabet[v >> 12 & 63];
    *p++ = left > 1 ? alphabet[v >> 6 & 63] : '=';
    *p++ = left > 2 ? alphabet[v & 63] : '=';
  }
  mp_buf_grow(out, need);
  return 0;
}

static int value(char c)
{
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int mp_base64_decode(mp_buf *out, mp_str in)
{
  if (in.len % 4)
    return MP_E_SYNTAX;
  if (in.len == 0)
    return 0;
  size_t pad = in.ptr[in.len - 1] != '=' ? 0 : in.ptr[in.len - 2] != '=' ? 1 : 2;
  size_t need = in.len / 4 * 3 - pad;
  size_t before = mp_buf_view(out).len;
  char *p = mp_buf_room(out, need);
  if (!p)
    return before + need > out->max ? MP_E_FULL : MP_E_NOMEM;
  for (size_t i = 0; i < in.len; i += 4) {
    size_t here = i + 4 == in.len ? 4 - pad : 4;
    unsigned long v = 0;
    for (size_t k = 0; k < 4; k++) {
      int digit = k < here ? value(in.ptr[i + k]) : 0;
      if (digit < 0)
        return MP_E_SYNTAX;
      v = v << 6 | (unsigned long)digit;
    }
    if ((here == 2 && (v & 0xffff)) || (here == 3 && (v & 0xff)))
      return MP_E_SYNTAX;
    *p++ = (char)(v >> 16);
    if (here > 2)
      *p++ = (char)(v >> 8);
    if (here > 3)
      *p++ = (char)v;
  }
  mp_buf_grow(out, need);
  return 0;
}
