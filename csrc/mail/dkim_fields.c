/* mail/dkim_fields.c -- fields by name, from the bottom up, and the hash of those that are signed. A signature may name thousands of fields of a
 * header that has thousands: they are sorted once, and each name is found by halving. */
#include "mail/dkim_sig.h"

#include "base/error.h"
#include "mail/tags.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* What is hashed is never longer than the block, the own field once more, and a CRLF each. */
enum { FIELDS_MOST = 65535, BLOCK_MOST = 32 << 20, HEADER_MOST = 65 << 20 };

typedef struct item {
  mp_str name;
  uint32_t at;
} item;

struct mp_dkim_fields {
  mp_field *fields; /* in the order of the block */
  item *sorted;     /* by name, then by place */
  uint32_t *taken;  /* at the place in `sorted` where a name begins: how many of it */
  size_t count;
};

static int compare_names(mp_str a, mp_str b)
{
  size_t len = a.len < b.len ? a.len : b.len;
  for (size_t i = 0; i < len; i++) {
    int diff = mp_ascii_lower((unsigned char)a.ptr[i]) - mp_ascii_lower((unsigned char)b.ptr[i]);
    if (diff)
      return diff;
  }
  return a.len < b.len ? -1 : a.len > b.len;
}

static int compare(const void *a, const void *b)
{
  const item *one = a, *other = b;
  int diff = compare_names(one->name, other->name);
  return diff ? diff : one->at < other->at ? -1 : 1;
}

static size_t count_fields(mp_str block)
{
  size_t pos = 0, count = 0;
  mp_field field;
  while (mp_header_next(block, &pos, &field))
    count++;
  return count;
}

int mp_dkim_fields_new(mp_dkim_fields **out, mp_str block)
{
  size_t count = count_fields(block), pos = 0;
  if (count > FIELDS_MOST || block.len > BLOCK_MOST)
    return MP_E_TOOLONG;
  mp_dkim_fields *fields = mp_mem_zalloc(sizeof *fields);
  if (!fields)
    return MP_E_NOMEM;
  fields->fields = mp_mem_alloc(count * sizeof *fields->fields);
  fields->sorted = mp_mem_alloc(count * sizeof *fields->sorted);
  fields->taken = mp_mem_zalloc(count * sizeof *fields->taken);
  if (!fields->fields || !fields->sorted || !fields->taken) {
    mp_dkim_fields_free(fields);
    return MP_E_NOMEM;
  }
  for (; fields->count < count && mp_header_next(block, &pos, &fields->fields[fields->count]); fields->count++)
    fields->sorted[fields->count] = (item){ fields->fields[fields->count].name, (uint32_t)fields->count };
  qsort(fields->sorted, count, sizeof *fields->sorted, compare);
  *out = fields;
  return 0;
}

void mp_dkim_fields_free(mp_dkim_fields *fields)
{
  if (!fields)
    return;
  mp_mem_free(fields->fields);
  mp_mem_free(fields->sorted);
  mp_mem_free(fields->taken);
  mp_mem_free(fields);
}

size_t mp_dkim_fields_count(const mp_dkim_fields *fields)
{
  return fields->count;
}

const mp_field *mp_dkim_fields_at(const mp_dkim_fields *fields, size_t i)
{
  return &fields->fields[i];
}

/* The first place in `sorted` whose name is not below `name` (`past`: is above it). */
static size_t bound(const mp_dkim_fields *fields, mp_str name, bool past)
{
  size_t low = 0, high = fields->count;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    int diff = compare_names(fields->sorted[mid].name, name);
    if (diff < 0 || (past && diff == 0))
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

size_t mp_dkim_fields_named(const mp_dkim_fields *fields, mp_str name)
{
  return bound(fields, name, true) - bound(fields, name, false);
}

void mp_dkim_fields_reset(mp_dkim_fields *fields)
{
  if (fields->count)
    memset(fields->taken, 0, fields->count * sizeof *fields->taken);
}

const mp_field *mp_dkim_fields_take(mp_dkim_fields *fields, mp_str name)
{
  size_t begin = bound(fields, name, false), end = bound(fields, name, true);
  if (begin == end || fields->taken[begin] == end - begin)
    return NULL;
  fields->taken[begin]++;
  return &fields->fields[fields->sorted[end - fields->taken[begin]].at];
}

/* The signature's own field, as if b= were empty. */
static int add_own(mp_buf *text, mp_dkim_canon canon, mp_str field, mp_str room)
{
  mp_buf own;
  mp_buf_init(&own, HEADER_MOST, NULL);
  size_t before = room.len ? (size_t)(room.ptr - field.ptr) : field.len;
  int rc = mp_buf_add(&own, field.ptr, before);
  if (rc == 0 && room.len)
    rc = mp_buf_add(&own, room.ptr + room.len, field.len - before - room.len);
  if (rc == 0)
    rc = mp_dkim_canon_field(text, canon, mp_buf_view(&own), false);
  mp_buf_dispose(&own);
  return rc;
}

/* The value of b= in a field, wherever it stands; empty when it has none. */
mp_str mp_dkim_room(mp_str field)
{
  const char *colon = field.len ? memchr(field.ptr, ':', field.len) : NULL;
  mp_tags tags;
  if (!colon || mp_tags_parse(&tags, mp_str_sub(field, (size_t)(colon - field.ptr) + 1, field.len)) < 0)
    return MP_STR_NULL;
  const mp_tag *b = mp_tags_find(&tags, MP_STR("b"));
  return b ? b->room : MP_STR_NULL;
}

static int digest_of(mp_buf *text, int rc, unsigned char digest[MP_DKIM_DIGEST])
{
  mp_str all = mp_buf_view(text);
  if (rc == 0 && !EVP_Digest(all.ptr, all.len, digest, NULL, EVP_sha256(), NULL))
    rc = MP_E_NOMEM;
  mp_buf_dispose(text);
  return rc;
}

int mp_dkim_hash_list(const mp_str *fields, size_t count, mp_str room, unsigned char digest[MP_DKIM_DIGEST])
{
  mp_buf text;
  mp_buf_init(&text, HEADER_MOST, NULL);
  int rc = 0;
  for (size_t i = 0; rc == 0 && i + 1 < count; i++)
    rc = mp_dkim_canon_field(&text, MP_DKIM_RELAXED, fields[i], true);
  if (rc == 0 && count > 0)
    rc = add_own(&text, MP_DKIM_RELAXED, fields[count - 1], room);
  return digest_of(&text, rc, digest);
}

int mp_dkim_hash_header(mp_dkim_fields *fields, mp_str headers, mp_dkim_canon canon, mp_str field,
                        mp_str room, unsigned char digest[MP_DKIM_DIGEST])
{
  mp_buf text;
  mp_buf_init(&text, HEADER_MOST, NULL);
  mp_dkim_fields_reset(fields);
  int rc = 0;
  size_t pos = 0;
  mp_str name;
  while (rc == 0 && mp_tag_next(headers, ':', &pos, &name)) {
    const mp_field *taken = mp_dkim_fields_take(fields, name);
    if (taken)
      rc = mp_dkim_canon_field(&text, canon, taken->raw, true);
  }
  if (rc == 0)
    rc = add_own(&text, canon, field, room);
  return digest_of(&text, rc, digest);
}
