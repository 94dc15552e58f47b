/* The work that takes CPU time, as jobs: crypt(3), and PBKDF2 for the keys of SCRAM. */
#include "smtp/sasl_impl.h"

#include "base/list.h"

#include <crypt.h>

static void run(mp_job *job)
{
  mp_sasl_work *work = MP_CONTAINER(job, mp_sasl_work, job);
  if (work->crypt) {
    struct crypt_data *data = work->scratch;
    const char *out = crypt_rn(work->password.ptr, work->hash.ptr, data, sizeof *data);
    work->match = out && mp_str_eq_consttime(mp_str_c(out), mp_secret_view(&work->hash));
  } else {
    mp_str salt = mp_str_of(work->keys.salt, work->keys.salt_len);
    work->rc = mp_scram_derive(&work->keys, work->keys.hash, mp_secret_view(&work->password), salt,
                               work->keys.iterations);
    if (work->rc == MP_E_INVALID) { /* a password that SASLprep refuses is refused no faster than another */
      mp_scram_keys spent;
      mp_scram_derive(&spent, work->keys.hash, MP_STR("nobody"), salt, work->keys.iterations);
      mp_mem_wipe(&spent, sizeof spent);
    }
  }
  work->ran = true;
}

static void discard(mp_job *job)
{
  mp_sasl_work *work = MP_CONTAINER(job, mp_sasl_work, job);
  mp_secret_wipe(&work->password);
  mp_secret_wipe(&work->hash);
  if (work->scratch)
    mp_mem_wipe(work->scratch, sizeof(struct crypt_data));
  mp_mem_free(work->scratch);
  mp_mem_wipe(work, sizeof *work);
  mp_mem_free(work);
}

static mp_sasl_work *work_new(mp_str password)
{
  mp_sasl_work *work = mp_mem_zalloc(sizeof *work);
  if (!work)
    return NULL;
  work->job = (mp_job){ .run = run, .free = discard };
  if (mp_secret_set(&work->password, password) < 0) {
    discard(&work->job);
    return NULL;
  }
  return work;
}

static int crypt_work(mp_sasl *sasl, mp_str password, mp_str setting)
{
  mp_sasl_work *work = work_new(password);
  if (!work)
    return MP_E_NOMEM;
  work->crypt = true;
  work->scratch = mp_mem_zalloc(sizeof(struct crypt_data));
  if (!work->scratch || mp_secret_set(&work->hash, setting) < 0) {
    discard(&work->job);
    return MP_E_NOMEM;
  }
  sasl->work = work;
  return MP_SASL_JOB;
}

int mp_sasl_derive(mp_sasl *sasl, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations)
{
  mp_sasl_work *work = work_new(password);
  if (!work)
    return MP_E_NOMEM;
  work->keys.hash = hash;
  work->keys.iterations = iterations;
  work->keys.salt_len = salt.len; /* at most MP_SCRAM_SALT_MAX: our own, or parsed */
  memcpy(work->keys.salt, salt.ptr, salt.len);
  sasl->work = work;
  return MP_SASL_JOB;
}

/* ---- refusals that cost as much as a check ---------------------------------------------------------------------- */

int mp_sasl_burn_keys(mp_sasl *sasl, mp_scram_hash hash)
{
  sasl->doomed = true;
  return mp_sasl_derive(sasl, hash, MP_STR("nobody"), MP_STR("sixteen octets.."), sasl->iterations);
}

int mp_sasl_burn(mp_sasl *sasl)
{
  if (!sasl->ctx->setting[0])
    return mp_sasl_burn_keys(sasl, MP_SCRAM_SHA_256);
  sasl->doomed = true;
  return crypt_work(sasl, MP_STR("nobody"), mp_str_c(sasl->ctx->setting));
}

/* A setting is a hash without its digest: up to the last '$', except for bcrypt, whose salt is of fixed length and runs
 * into the digest. The old schemes without a '$' are quick, and not worth copying. */
static void remember_cost(mp_sasl_ctx *ctx, mp_str hash)
{
  enum { BCRYPT = 29 };
  size_t len = 0;
  for (size_t i = 1; i < hash.len && hash.ptr[0] == '$'; i++)
    if (hash.ptr[i] == '$')
      len = i;
  if (len && hash.ptr[1] == '2')
    len = hash.len < BCRYPT ? 0 : BCRYPT;
  if (len == 0 || len >= sizeof ctx->setting)
    return;
  memcpy(ctx->setting, hash.ptr, len);
  ctx->setting[len] = '\0';
}

/* What crypt(3) would turn down at once, a locked account's "*" or a password longer than it takes, is paid for like the
 * rest. */
int mp_sasl_crypt(mp_sasl *sasl, mp_str password, mp_str hash)
{
  if (password.len >= CRYPT_MAX_PASSPHRASE_SIZE || mp_str_find(hash, '\0', 0) >= 0)
    return mp_sasl_burn(sasl);
  int rc = crypt_work(sasl, password, hash);
  if (rc < 0)
    return rc;
  if (crypt_checksalt(sasl->work->hash.ptr) == CRYPT_SALT_INVALID) {
    discard(&sasl->work->job);
    sasl->work = NULL;
    return mp_sasl_burn(sasl);
  }
  remember_cost(sasl->ctx, hash);
  return rc;
}

/* ---- libgsasl's arithmetic -------------------------------------------------------------------------------------- */

/* RFC 5802 3: one iteration of PBKDF2 is HMAC(password, salt + INT(1)), which makes it a keyed hash of the user's name. The
 * key is written in hex because libgsasl takes a C string; the hash's name keeps the salts of two mechanisms apart. */
int mp_sasl_salt(const mp_sasl *sasl, mp_scram_hash hash, char salt[MP_SCRAM_SALT])
{
  static const char digits[] = "0123456789abcdef";
  char key[2 * MP_SASL_SECRET_MAX + 1], what[1 + MP_SASL_NAME_MAX], mac[GSASL_HASH_MAX_SIZE],
      none[3][GSASL_HASH_MAX_SIZE];
  size_t n = 0;
  for (size_t i = 0; i < sasl->secret.len; i++) {
    unsigned char c = (unsigned char)sasl->secret.ptr[i];
    key[n++] = digits[c >> 4];
    key[n++] = digits[c & 15];
  }
  key[n] = '\0';
  what[0] = hash == MP_SCRAM_SHA_1 ? '1' : '2';
  memcpy(what + 1, sasl->user, sasl->user_len);
  int rc = gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, key, 1, what, 1 + sasl->user_len, mac,
                                             none[0], none[1], none[2]);
  memcpy(salt, mac, MP_SCRAM_SALT);
  mp_mem_wipe(key, sizeof key);
  mp_mem_wipe(mac, sizeof mac);
  mp_mem_wipe(none, sizeof none);
  return rc == GSASL_OK ? 0 : MP_E_NOMEM;
}

int mp_sasl_prep(char **out, mp_str text)
{
  mp_secret copy = { 0 };
  if (text.len == 0 || mp_str_find(text, '\0', 0) >= 0)
    return MP_E_INVALID;
  if (mp_secret_set(&copy, text) < 0)
    return MP_E_NOMEM;
  *out = NULL;
  int rc = gsasl_saslprep(copy.ptr, GSASL_ALLOW_UNASSIGNED, out, NULL);
  mp_secret_wipe(&copy);
  if (rc == GSASL_OK && **out)
    return 0;
  gsasl_free(*out);
  return rc == GSASL_MALLOC_ERROR ? MP_E_NOMEM : MP_E_INVALID;
}
