#include "conn/body_hash.h"

#include "base/error.h"
#include "mail/dkim_sig.h"

enum { ARENA_MOST = 256 << 10, SIGNATURES_MOST = 20, HELD_MOST = 1 << 20 };

typedef struct form {
  mp_dkim_body *body;
  mp_dkim_canon canon;
  uint64_t limit, length;
  unsigned char digest[MP_DKIM_DIGEST];
} form;

struct mp_body_hash {
  form forms[MP_BODY_HASHES_MOST];
  size_t count;
  bool finished, failed;
};

/* More forms than there is room for are made by whoever asks for them. */
static int want(mp_body_hash *hash, mp_dkim_canon canon, uint64_t limit)
{
  for (size_t i = 0; i < hash->count; i++)
    if (hash->forms[i].canon == canon && hash->forms[i].limit == limit)
      return 0;
  if (hash->count == MP_BODY_HASHES_MOST)
    return 0;
  form *one = &hash->forms[hash->count];
  *one = (form){ .canon = canon, .limit = limit };
  int rc = mp_dkim_body_new(&one->body, canon, limit);
  if (rc == 0)
    hash->count++;
  return rc;
}

static bool is_signature(mp_str name)
{
  return mp_str_ieq(name, MP_STR("DKIM-Signature")) || mp_str_ieq(name, MP_STR("ARC-Message-Signature"));
}

static int want_signed(mp_body_hash *hash, mp_str header)
{
  mp_arena arena;
  mp_arena_init(&arena, ARENA_MOST, NULL);
  size_t pos = 0, seen = 0;
  int rc = 0;
  mp_field field;
  while (rc == 0 && seen < SIGNATURES_MOST && mp_header_next(header, &pos, &field)) {
    mp_dkim_sig sig;
    if (!is_signature(field.name))
      continue;
    seen++;
    rc = mp_dkim_sig_read(&sig, &field, &arena);
    if (rc == 0 && sig.body_hash.len == MP_DKIM_DIGEST)
      rc = want(hash, sig.body_canon, sig.limit);
  }
  mp_arena_dispose(&arena);
  return rc;
}

int mp_body_hash_new(mp_body_hash **out, mp_str header, const mp_body_wants *wants)
{
  *out = NULL;
  if (!wants->verify && !wants->signing)
    return 0;
  mp_body_hash *hash = mp_mem_zalloc(sizeof *hash);
  if (!hash)
    return MP_E_NOMEM;
  int rc = wants->verify ? want_signed(hash, header) : 0;
  for (unsigned canon = 0; rc == 0 && canon < 2; canon++)
    if (wants->signing & 1u << canon)
      rc = want(hash, (mp_dkim_canon)canon, UINT64_MAX);
  if (rc < 0 || hash->count == 0) {
    mp_body_hash_free(hash);
    return rc;
  }
  *out = hash;
  return 0;
}

void mp_body_hash_free(mp_body_hash *hash)
{
  if (!hash)
    return;
  for (size_t i = 0; i < hash->count; i++)
    mp_dkim_body_free(hash->forms[i].body);
  mp_mem_free(hash);
}

void mp_body_hash_add(mp_body_hash *hash, mp_str octets)
{
  for (size_t i = 0; i < hash->count && !hash->failed; i++)
    hash->failed = mp_dkim_body_add(hash->forms[i].body, octets) < 0;
}

static void finish(mp_body_hash *hash)
{
  hash->finished = true;
  for (size_t i = 0; i < hash->count && !hash->failed; i++) {
    form *one = &hash->forms[i];
    /* This may be the loop's thread: what is long is left to those who hash in the pool. */
    hash->failed = mp_dkim_body_held(one->body) > HELD_MOST ||
                   mp_dkim_body_finish(one->body, one->digest, &one->length) < 0;
  }
}

bool mp_body_hash_get(mp_body_hash *hash, mp_dkim_canon canon, uint64_t limit,
                      unsigned char digest[MP_DKIM_DIGEST], uint64_t *length)
{
  if (!hash->finished)
    finish(hash);
  for (size_t i = 0; i < hash->count && !hash->failed; i++) {
    const form *one = &hash->forms[i];
    if (one->canon != canon || one->limit != limit)
      continue;
    memcpy(digest, one->digest, MP_DKIM_DIGEST);
    *length = one->length;
    return true;
  }
  return false;
}
