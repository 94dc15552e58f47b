#include "smtp/scram.h"

#include "base/base64.h"
#include "smtp/sasl_impl.h"

static const char *const schemes[] = { [MP_SCRAM_SHA_1] = "SCRAM-SHA-1", [MP_SCRAM_SHA_256] = "SCRAM-SHA-256" };

static Gsasl_hash hash_of(mp_scram_hash hash)
{
  return hash == MP_SCRAM_SHA_1 ? GSASL_HASH_SHA1 : GSASL_HASH_SHA256;
}

/* Derives the keys, and the salted password that they come from. */
static int derive(mp_scram_keys *keys, char salted[GSASL_HASH_MAX_SIZE], mp_scram_hash hash, mp_str password,
                  mp_str salt, unsigned iterations)
{
  if (salt.len == 0 || salt.len > MP_SCRAM_SALT_MAX || iterations == 0 ||
      iterations > MP_SCRAM_ITERATIONS_MAX || password.len > MP_SASL_PASSWORD_MAX)
    return MP_E_INVALID;
  char *prepared;
  int rc = mp_sasl_prep(&prepared, password);
  if (rc < 0)
    return rc;
  mp_scram_keys made = {
    .hash = hash, .iterations = iterations, .salt_len = salt.len, .key_len = gsasl_hash_length(hash_of(hash))
  };
  memcpy(made.salt, salt.ptr, salt.len);
  char client[GSASL_HASH_MAX_SIZE];
  int failed = gsasl_scram_secrets_from_password(hash_of(hash), prepared, iterations, made.salt,
                                                 made.salt_len, salted, client, made.server, made.stored);
  mp_mem_wipe(prepared, strlen(prepared));
  gsasl_free(prepared);
  mp_mem_wipe(client, sizeof client);
  if (failed == GSASL_OK)
    *keys = made;
  mp_mem_wipe(&made, sizeof made);
  return failed == GSASL_OK ? 0 : failed == GSASL_MALLOC_ERROR ? MP_E_NOMEM : MP_E_INVALID;
}

int mp_scram_derive(mp_scram_keys *keys, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations)
{
  char salted[GSASL_HASH_MAX_SIZE];
  int rc = derive(keys, salted, hash, password, salt, iterations);
  mp_mem_wipe(salted, sizeof salted);
  return rc;
}

int mp_scram_salted(char salted[MP_SCRAM_KEY_MAX], mp_scram_hash hash, mp_str password, mp_str salt,
                    unsigned iterations)
{
  char octets[GSASL_HASH_MAX_SIZE];
  mp_scram_keys keys;
  int rc = derive(&keys, octets, hash, password, salt, iterations);
  if (rc == 0) {
    memcpy(salted, octets, keys.key_len);
    mp_mem_wipe(&keys, sizeof keys);
  }
  mp_mem_wipe(octets, sizeof octets);
  return rc;
}

int mp_scram_make(mp_buf *out, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations)
{
  char random[MP_SCRAM_SALT];
  if (salt.len == 0) {
    if (gsasl_nonce(random, sizeof random) != GSASL_OK)
      return MP_E_SYSTEM;
    salt = mp_str_of(random, sizeof random);
  }
  mp_scram_keys keys;
  int rc = mp_scram_derive(&keys, hash, password, salt, iterations ? iterations : MP_SCRAM_ITERATIONS);
  if (rc < 0)
    return rc;
  size_t before = mp_buf_view(out).len;
  if ((rc = mp_buf_fmt(out, "%s$%u:", schemes[hash], keys.iterations)) < 0 ||
      (rc = mp_base64_encode(out, mp_str_of(keys.salt, keys.salt_len))) < 0 || (rc = mp_buf_char(out, '$')) < 0 ||
      (rc = mp_base64_encode(out, mp_str_of(keys.stored, keys.key_len))) < 0 ||
      (rc = mp_buf_char(out, ':')) < 0 || (rc = mp_base64_encode(out, mp_str_of(keys.server, keys.key_len))) < 0)
    mp_buf_cut(out, before);
  mp_mem_wipe(&keys, sizeof keys);
  return rc;
}

/* Takes what stands before `end` off the front; the rest when `end` is NUL. */
static bool field(mp_str *rest, char end, mp_str *out)
{
  mp_ssize at = end ? mp_str_find(*rest, end, 0) : (mp_ssize)rest->len;
  if (at < 0)
    return false;
  *out = mp_str_sub(*rest, 0, (size_t)at);
  *rest = mp_str_sub(*rest, (size_t)at + 1, rest->len);
  return true;
}

/* Decodes base64 of `least` to `most` octets. */
static int octets(char *out, size_t *len, size_t least, size_t most, mp_str text)
{
  if (text.len > (most + 2) / 3 * 4)
    return MP_E_INVALID;
  mp_buf buf;
  mp_buf_init(&buf, most, NULL);
  int rc = mp_base64_decode(&buf, text);
  mp_str got = mp_buf_view(&buf);
  if (rc == 0 && got.len >= least && got.len <= most) {
    memcpy(out, got.ptr, got.len);
    *len = got.len;
  } else if (rc != MP_E_NOMEM) {
    rc = MP_E_INVALID;
  }
  if (buf.ptr)
    mp_mem_wipe(buf.ptr, buf.cap);
  mp_buf_dispose(&buf);
  return rc;
}

int mp_scram_parse(mp_scram_keys *keys, mp_str text)
{
  mp_str scheme, iterations, salt, stored, server;
  if (!field(&text, '$', &scheme) || !field(&text, ':', &iterations) || !field(&text, '$', &salt) ||
      !field(&text, ':', &stored) || !field(&text, '\0', &server))
    return MP_E_INVALID;
  mp_scram_keys made = { .hash = MP_SCRAM_SHA_1 };
  if (mp_str_eq(scheme, mp_str_c(schemes[MP_SCRAM_SHA_256])))
    made.hash = MP_SCRAM_SHA_256;
  else if (!mp_str_eq(scheme, mp_str_c(schemes[MP_SCRAM_SHA_1])))
    return MP_E_INVALID;
  uint64_t count;
  if (!mp_str_u64(iterations, MP_SCRAM_ITERATIONS_MAX, &count) || count == 0)
    return MP_E_INVALID;
  made.iterations = (unsigned)count;
  size_t size = gsasl_hash_length(hash_of(made.hash));
  int rc;
  if ((rc = octets(made.salt, &made.salt_len, 1, sizeof made.salt, salt)) == 0 &&
      (rc = octets(made.stored, &made.key_len, size, size, stored)) == 0 &&
      (rc = octets(made.server, &made.key_len, size, size, server)) == 0)
    *keys = made;
  mp_mem_wipe(&made, sizeof made);
  return rc;
}
