#include "mail/dkim.h"

#include "base/error.h"
#include "mail/tags.h"

#include <inttypes.h>
#include <openssl/crypto.h>

enum { ARENA_MOST = 1 << 20 };

typedef struct body_hash { /* one for each form and limit that a signature names */
  mp_dkim_body *body;
  mp_dkim_canon canon;
  uint64_t limit, length;
  unsigned char digest[MP_DKIM_DIGEST];
} body_hash;

struct mp_dkim_verifier {
  mp_dkim_verify_opts opts;
  mp_dkim_fields *fields;
  mp_arena arena;
  mp_dkim_sig sigs[MP_DKIM_SIGNATURES_MOST];
  body_hash *hash_of[MP_DKIM_SIGNATURES_MOST];
  body_hash hashes[MP_DKIM_SIGNATURES_MOST];
  size_t count, more, hash_count;
};

static body_hash *hash_for(mp_dkim_verifier *v, const mp_dkim_sig *sig)
{
  for (size_t i = 0; i < v->hash_count; i++)
    if (v->hashes[i].canon == sig->body_canon && v->hashes[i].limit == sig->limit)
      return &v->hashes[i];
  body_hash *hash = &v->hashes[v->hash_count];
  *hash = (body_hash){ .canon = sig->body_canon, .limit = sig->limit };
  if (mp_dkim_body_new(&hash->body, sig->body_canon, sig->limit) < 0)
    return NULL;
  v->hash_count++;
  return hash;
}

static int add_signature(mp_dkim_verifier *v, const mp_field *field)
{
  if (v->count == MP_DKIM_SIGNATURES_MOST) {
    v->more++;
    return 0;
  }
  mp_dkim_sig *sig = &v->sigs[v->count];
  int rc = mp_dkim_sig_read(sig, field, &v->arena);
  if (rc < 0)
    return rc;
  /* A signature of the future is none's harm: t= is there to be known (RFC 6376 3.5). */
  if (sig->result == MP_DKIM_OPEN && sig->end >= 0 && v->opts.now > sig->end + MP_DKIM_DRIFT)
    mp_dkim_sig_judge(sig, MP_DKIM_POLICY, "it has expired");
  if (sig->result == MP_DKIM_OPEN) {
    v->hash_of[v->count] = hash_for(v, sig);
    if (!v->hash_of[v->count])
      return MP_E_NOMEM;
  }
  v->count++;
  return 0;
}

int mp_dkim_verifier_new(mp_dkim_verifier **out, mp_str block, const mp_dkim_verify_opts *opts)
{
  mp_dkim_verifier *v = mp_mem_zalloc(sizeof *v);
  if (!v)
    return MP_E_NOMEM;
  v->opts = *opts;
  mp_arena_init(&v->arena, ARENA_MOST, NULL);
  int rc = mp_dkim_fields_new(&v->fields, block);
  for (size_t i = 0; rc == 0 && i < mp_dkim_fields_count(v->fields); i++) {
    const mp_field *field = mp_dkim_fields_at(v->fields, i);
    if (mp_str_ieq(field->name, MP_STR("DKIM-Signature")))
      rc = add_signature(v, field);
  }
  if (rc < 0) {
    mp_dkim_verifier_free(v);
    return rc;
  }
  *out = v;
  return 0;
}

void mp_dkim_verifier_free(mp_dkim_verifier *v)
{
  if (!v)
    return;
  for (size_t i = 0; i < v->hash_count; i++)
    mp_dkim_body_free(v->hashes[i].body);
  mp_dkim_fields_free(v->fields);
  mp_arena_dispose(&v->arena);
  mp_mem_free(v);
}

size_t mp_dkim_verifier_count(const mp_dkim_verifier *v)
{
  return v->count;
}

size_t mp_dkim_verifier_more(const mp_dkim_verifier *v)
{
  return v->more;
}

const mp_dkim_sig *mp_dkim_verifier_at(const mp_dkim_verifier *v, size_t i)
{
  return &v->sigs[i];
}

bool mp_dkim_verifier_question(const mp_dkim_verifier *v, size_t i, mp_buf *name, int *rc)
{
  const mp_dkim_sig *sig = &v->sigs[i];
  *rc = 0;
  if (sig->result != MP_DKIM_OPEN)
    return false;
  *rc = mp_buf_str(name, sig->selector);
  if (*rc == 0)
    *rc = mp_buf_str(name, MP_STR("._domainkey."));
  if (*rc == 0)
    *rc = mp_buf_str(name, sig->domain);
  return *rc == 0;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

bool mp_dkim_verifier_wants_body(const mp_dkim_verifier *v)
{
  return v->hash_count > 0;
}

int mp_dkim_verifier_body(mp_dkim_verifier *v, mp_str octets)
{
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < v->hash_count; i++)
    rc = mp_dkim_body_add(v->hashes[i].body, octets);
  return rc;
}

int mp_dkim_verifier_finish(mp_dkim_verifier *v)
{
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < v->hash_count; i++)
    rc = mp_dkim_body_finish(v->hashes[i].body, v->hashes[i].digest, &v->hashes[i].length);
  return rc;
}

bool mp_dkim_verifier_given(mp_dkim_verifier *v, mp_dkim_known *known, void *ctx)
{
  for (size_t i = 0; i < v->hash_count; i++) {
    body_hash *hash = &v->hashes[i];
    if (!known(ctx, hash->canon, hash->limit, hash->digest, &hash->length))
      return false;
  }
  return true;
}

/* ---- the verdict ------------------------------------------------------------------------------------------------- */

/* What is wrong between a key and the signature that names it. */
static bool refuse_key(mp_dkim_sig *sig, const mp_dkim_key_facts *key)
{
  mp_str domain = mp_str_sub(sig->identity, sig->identity.len - sig->domain.len, sig->domain.len);
  bool same = sig->identity.len > sig->domain.len &&
              sig->identity.ptr[sig->identity.len - sig->domain.len - 1] == '@' &&
              mp_str_ieq(domain, sig->domain);
  if (key->kind != sig->kind)
    mp_dkim_sig_judge(sig, MP_DKIM_PERMERROR, "the key is of another kind than the signature");
  else if (!key->sha256)
    mp_dkim_sig_judge(sig, MP_DKIM_PERMERROR, "the key is not for sha256");
  else if (key->strict && !same)
    mp_dkim_sig_judge(sig, MP_DKIM_PERMERROR, "the key is not for domains below its own");
  else if (key->kind == MP_DKIM_RSA && key->bits < MP_DKIM_RSA_LEAST)
    mp_dkim_sig_judge(sig, MP_DKIM_POLICY, "the RSA key has only %u bits", key->bits);
  return sig->result != MP_DKIM_OPEN;
}

static bool refuse_body(const mp_dkim_verifier *v, mp_dkim_sig *sig, const body_hash *hash)
{
  if (sig->limit != UINT64_MAX && sig->limit > hash->length)
    mp_dkim_sig_judge(sig, MP_DKIM_PERMERROR, "l= is more than the body has");
  else if (CRYPTO_memcmp(hash->digest, sig->body_hash.ptr, MP_DKIM_DIGEST) != 0)
    mp_dkim_sig_judge(sig, MP_DKIM_FAIL, "the body has been changed");
  else if (sig->limit < hash->length && !v->opts.partial)
    mp_dkim_sig_judge(sig, MP_DKIM_POLICY, "%" PRIu64 " octets of the body are not signed",
                      hash->length - sig->limit);
  return sig->result != MP_DKIM_OPEN;
}

int mp_dkim_verifier_judge(mp_dkim_verifier *v, size_t i, mp_dkim_key *key)
{
  mp_dkim_sig *sig = &v->sigs[i];
  if (sig->result != MP_DKIM_OPEN || refuse_key(sig, mp_dkim_key_look(key)) || refuse_body(v, sig, v->hash_of[i]))
    return 0;
  mp_str field = sig->field.raw;
  if (field.len >= 2 && memcmp(field.ptr + field.len - 2, "\r\n", 2) == 0)
    field.len -= 2;
  unsigned char digest[MP_DKIM_DIGEST];
  int rc = mp_dkim_hash_header(v->fields, sig->headers, sig->header_canon, field, sig->room, digest);
  if (rc == 0)
    rc = mp_dkim_key_verify(key, digest, sig->signature);
  if (rc == 0)
    mp_dkim_sig_judge(sig, MP_DKIM_PASS, "%s", "");
  else if (rc == MP_E_CRYPTO)
    mp_dkim_sig_judge(sig, MP_DKIM_FAIL, "the signature does not hold");
  return rc == MP_E_CRYPTO ? 0 : rc;
}

void mp_dkim_verifier_refuse(mp_dkim_verifier *v, size_t i, mp_dkim_result result, const char *why)
{
  if (v->sigs[i].result == MP_DKIM_OPEN)
    mp_dkim_sig_judge(&v->sigs[i], result, "%s", why);
}
