#include "tls/sni.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdlib.h>

enum { HOST_MOST = 253, LABEL_MOST = 63 };

struct mp_tls_name {
  char *text; /* lower case, no dot at the end */
  size_t len;
  size_t target;
};

bool mp_tls_hostname(mp_str host)
{
  if (host.len && host.ptr[host.len - 1] == '.')
    host.len--;
  if (host.len == 0 || host.len > HOST_MOST)
    return false;
  size_t label = 0;
  for (size_t i = 0; i < host.len; i++) {
    unsigned char c = mp_ascii_lower((unsigned char)host.ptr[i]);
    if (c == '.') {
      if (label == 0)
        return false;
      label = 0;
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      if (++label > LABEL_MOST)
        return false;
    } else {
      return false;
    }
  }
  return label > 0;
}

bool mp_tls_name_fits(mp_str name)
{
  bool wild = name.len > 2 && name.ptr[0] == '*' && name.ptr[1] == '.';
  return mp_tls_hostname(wild ? mp_str_sub(name, 2, name.len) : name);
}

void mp_tls_names_dispose(mp_tls_names *names)
{
  for (size_t i = 0; i < names->count; i++)
    mp_mem_free(names->list[i].text);
  mp_mem_free(names->list);
  *names = (mp_tls_names){ 0 };
}

int mp_tls_names_add(mp_tls_names *names, mp_str name, size_t target)
{
  if (!mp_tls_name_fits(name))
    return 0;
  if (name.ptr[name.len - 1] == '.')
    name.len--;
  if (names->count == names->cap) {
    size_t cap = names->cap ? names->cap * 2 : 8;
    struct mp_tls_name *list = mp_mem_realloc(names->list, cap * sizeof *list);
    if (!list)
      return MP_E_NOMEM;
    names->list = list;
    names->cap = cap;
  }
  char *text = mp_mem_dup(name.ptr, name.len);
  if (!text)
    return MP_E_NOMEM;
  for (size_t i = 0; i < name.len; i++)
    text[i] = (char)mp_ascii_lower((unsigned char)text[i]);
  names->list[names->count++] = (struct mp_tls_name){ .text = text, .len = name.len, .target = target };
  return 0;
}

static int compare(const char *a, size_t alen, const char *b, size_t blen)
{
  if (alen != blen)
    return alen < blen ? -1 : 1;
  return memcmp(a, b, alen);
}

int mp_tls_names_join(mp_tls_names *names, const mp_tls_names *own, size_t target)
{
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < own->count; i++)
    rc = mp_tls_names_add(names, mp_str_of(own->list[i].text, own->list[i].len), target);
  return rc;
}

bool mp_tls_names_same(const mp_tls_names *own, const mp_tls_names *names, size_t target)
{
  size_t theirs = 0, common = 0;
  for (size_t i = 0; i < names->count; i++) {
    const struct mp_tls_name *name = &names->list[i];
    if (name->target != target)
      continue;
    theirs++;
    for (size_t j = 0; j < own->count; j++)
      common += compare(name->text, name->len, own->list[j].text, own->list[j].len) == 0;
  }
  return theirs == own->count && common == theirs;
}

static int by_name(const void *left, const void *right)
{
  const struct mp_tls_name *a = left, *b = right;
  int order = compare(a->text, a->len, b->text, b->len);
  /* Targets are numbered in the order given, which decides between equals. */
  return order ? order : (a->target > b->target) - (a->target < b->target);
}

void mp_tls_names_done(mp_tls_names *names)
{
  if (names->count == 0)
    return;
  qsort(names->list, names->count, sizeof *names->list, by_name);
  size_t kept = 1;
  for (size_t i = 1; i < names->count; i++) {
    struct mp_tls_name *last = &names->list[kept - 1], *name = &names->list[i];
    if (compare(last->text, last->len, name->text, name->len) == 0)
      mp_mem_free(name->text);
    else
      names->list[kept++] = *name;
  }
  names->count = kept;
}

static mp_ssize lookup(const mp_tls_names *names, const char *text, size_t len)
{
  size_t low = 0, high = names->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const struct mp_tls_name *name = &names->list[middle];
    int order = compare(text, len, name->text, name->len);
    if (order == 0)
      return (mp_ssize)name->target;
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return -1;
}

mp_ssize mp_tls_names_find(const mp_tls_names *names, mp_str host)
{
  if (!mp_tls_hostname(host))
    return -1;
  if (host.ptr[host.len - 1] == '.')
    host.len--;
  char lower[HOST_MOST] = "";
  size_t dot = 0; /* the first one; a host name does not begin with it */
  for (size_t i = 0; i < host.len; i++) {
    lower[i] = (char)mp_ascii_lower((unsigned char)host.ptr[i]);
    if (dot == 0 && lower[i] == '.')
      dot = i;
  }
  mp_ssize target = lookup(names, lower, host.len);
  if (target >= 0 || dot == 0)
    return target;
  /* The label gives its last octet to the star, so that "*.example.org" stands in place. */
  lower[dot - 1] = '*';
  return lookup(names, lower + dot - 1, host.len - dot + 1);
}
