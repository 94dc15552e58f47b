#include "mail/tags.h"

#include "base/error.h"

static bool is_space(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_alpha(char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static mp_str trim(mp_str s)
{
  while (s.len && is_space(s.ptr[0])) {
    s.ptr++;
    s.len--;
  }
  while (s.len && is_space(s.ptr[s.len - 1]))
    s.len--;
  return s;
}

static bool is_name(mp_str s)
{
  if (s.len == 0 || !is_alpha(s.ptr[0]))
    return false;
  for (size_t i = 1; i < s.len; i++)
    if (!is_alpha(s.ptr[i]) && !(s.ptr[i] >= '0' && s.ptr[i] <= '9') && s.ptr[i] != '_')
      return false;
  return true;
}

/* Octets over 0x7f may stand in values where names of domains and mailboxes are internationalised (RFC 8616 5). */
static bool is_value(mp_str s)
{
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if ((c < 0x20 && !is_space(s.ptr[i])) || c == 0x7f)
      return false;
  }
  return true;
}

int mp_tags_parse(mp_tags *tags, mp_str text)
{
  tags->count = 0;
  for (size_t pos = 0; pos < text.len;) {
    const char *from = text.ptr + pos;
    const char *semi = memchr(from, ';', text.len - pos);
    mp_str spec = mp_str_of(from, semi ? (size_t)(semi - from) : text.len - pos);
    pos += spec.len + 1;
    const char *equals = spec.len ? memchr(spec.ptr, '=', spec.len) : NULL;
    if (!equals) {
      if (trim(spec).len)
        return MP_E_SYNTAX;
      continue;
    }
    mp_tag tag;
    tag.name = trim(mp_str_of(spec.ptr, (size_t)(equals - spec.ptr)));
    tag.room = mp_str_of(equals + 1, spec.len - (size_t)(equals - spec.ptr) - 1);
    tag.value = trim(tag.room);
    if (!is_name(tag.name) || !is_value(tag.value) || mp_tags_find(tags, tag.name))
      return MP_E_SYNTAX;
    if (tags->count == MP_TAGS_MOST)
      return MP_E_TOOLONG;
    tags->list[tags->count++] = tag;
  }
  return 0;
}

const mp_tag *mp_tags_find(const mp_tags *tags, mp_str name)
{
  for (size_t i = 0; i < tags->count; i++)
    if (mp_str_eq(tags->list[i].name, name))
      return &tags->list[i];
  return NULL;
}

int mp_tag_squeeze(mp_str value, mp_buf *out)
{
  for (size_t i = 0; i < value.len;) {
    size_t end = i;
    while (end < value.len && !is_space(value.ptr[end]))
      end++;
    int rc = mp_buf_add(out, value.ptr + i, end - i);
    if (rc < 0)
      return rc;
    for (i = end; i < value.len && is_space(value.ptr[i]);)
      i++;
  }
  return 0;
}

bool mp_tag_next(mp_str value, char separator, size_t *pos, mp_str *item)
{
  if (*pos > value.len || (*pos == value.len && value.len == 0))
    return false;
  mp_ssize end = mp_str_find(value, separator, *pos);
  size_t stop = end < 0 ? value.len : (size_t)end;
  *item = trim(mp_str_of(value.ptr + *pos, stop - *pos));
  *pos = stop + 1;
  return true;
}
