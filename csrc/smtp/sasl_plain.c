/* PLAIN (RFC 4616) and LOGIN: the password arrives in clear, and everything a script can keep of one is able to judge it. Their
 * grammar is all that libgsasl could do for them, and the checks it makes on the way are made here in constant time. */
#include "smtp/sasl_impl.h"

/* No mechanism lets an empty password through, to the script neither: a directory takes one for an anonymous bind, which
 * succeeds for everybody (RFC 4513 5.1.2). Nor one of two lines: SASLprep has no line ends (RFC 4013 2.3), and scripts hand
 * passwords to protocols of lines. */
static int keep_password(mp_sasl *sasl, mp_str password)
{
  if (password.len == 0 || password.len > MP_SASL_PASSWORD_MAX)
    return MP_SASL_SYNTAX;
  if (memchr(password.ptr, '\0', password.len) || memchr(password.ptr, '\r', password.len) ||
      memchr(password.ptr, '\n', password.len))
    return MP_SASL_SYNTAX;
  return mp_secret_set(&sasl->password, password);
}

/* message = [authzid] NUL authcid NUL passwd (RFC 4616 2) */
static int plain_step(mp_sasl *sasl, mp_str input)
{
  if (sasl->phase++ == 0 && !input.ptr)
    return MP_SASL_MORE; /* an empty challenge asks for the message (RFC 4954 4) */
  mp_ssize first = mp_str_find(input, '\0', 0);
  mp_ssize second = first < 0 ? -1 : mp_str_find(input, '\0', (size_t)first + 1);
  if (second < 0)
    return MP_SASL_SYNTAX;
  mp_str authzid = mp_str_sub(input, 0, (size_t)first);
  mp_str user = mp_str_sub(input, (size_t)first + 1, (size_t)(second - first - 1));
  int rc = mp_sasl_name(sasl->user, &sasl->user_len, user);
  if (rc == 0)
    rc = keep_password(sasl, mp_str_sub(input, (size_t)second + 1, input.len));
  if (rc == 0)
    rc = mp_sasl_identity(sasl, authzid);
  return rc ? rc : MP_SASL_CREDENTIALS;
}

/* Two questions. The first may be answered before it is asked, by an initial response. */
static int login_step(mp_sasl *sasl, mp_str input)
{
  enum { START, NAME, PASSWORD };
  if (sasl->phase == START) {
    sasl->phase = NAME;
    if (!input.ptr)
      return mp_sasl_challenged(sasl, MP_STR("Username:"));
  }
  if (sasl->phase == NAME) {
    sasl->phase = PASSWORD;
    int rc = mp_sasl_name(sasl->user, &sasl->user_len, input);
    return rc ? rc : mp_sasl_challenged(sasl, MP_STR("Password:"));
  }
  int rc = keep_password(sasl, input);
  return rc ? rc : MP_SASL_CREDENTIALS;
}

/* True when the passwords are the same octets, or the same after SASLprep (RFC 4616 2). */
static int same(mp_str given, mp_str kept, bool *out)
{
  *out = mp_str_eq_consttime(given, kept) && given.len > 0;
  char *a = NULL, *b = NULL;
  int rc = mp_sasl_prep(&a, given), rd = mp_sasl_prep(&b, kept);
  if (rc == 0 && rd == 0)
    *out |= mp_str_eq_consttime(mp_str_c(a), mp_str_c(b));
  if (rc == 0) {
    mp_mem_wipe(a, strlen(a));
    gsasl_free(a);
  }
  if (rd == 0) {
    mp_mem_wipe(b, strlen(b));
    gsasl_free(b);
  }
  return rc == MP_E_NOMEM || rd == MP_E_NOMEM ? MP_E_NOMEM : 0;
}

static int plain_credentials(mp_sasl *sasl, const mp_credentials *credentials)
{
  mp_str password = mp_secret_view(&sasl->password);
  if (credentials->ask)
    return MP_SASL_ASK;
  if (credentials->password.ptr) {
    bool right;
    int rc = same(password, credentials->password, &right);
    return rc < 0 ? rc : right ? MP_SASL_DONE : mp_sasl_burn(sasl);
  }
  if (credentials->hash.ptr)
    return mp_sasl_crypt(sasl, password, credentials->hash);
  mp_str scram = credentials->scram_sha256.ptr ? credentials->scram_sha256 : credentials->scram_sha1;
  int rc = mp_scram_parse(&sasl->keys, scram);
  if (rc == MP_E_NOMEM)
    return rc;
  if (rc < 0)
    return mp_sasl_burn(sasl);
  return mp_sasl_derive(sasl, sasl->keys.hash, password, mp_str_of(sasl->keys.salt, sasl->keys.salt_len),
                        sasl->keys.iterations);
}

static int plain_worked(mp_sasl *sasl, const mp_sasl_work *work)
{
  if (work->crypt)
    return work->match ? MP_SASL_DONE : MP_SASL_FAIL;
  if (work->rc == MP_E_NOMEM)
    return MP_E_NOMEM;
  bool right = work->rc == 0 && mp_str_eq_consttime(mp_str_of(work->keys.stored, work->keys.key_len),
                                                    mp_str_of(sasl->keys.stored, sasl->keys.key_len));
  return right ? MP_SASL_DONE : MP_SASL_FAIL;
}

static int plain_verdict(mp_sasl *sasl, bool accepted)
{
  (void)sasl;
  return accepted ? MP_SASL_DONE : MP_SASL_FAIL;
}

const mp_sasl_ops mp_sasl_plain = {
  .step = plain_step,
  .credentials = plain_credentials,
  .worked = plain_worked,
  .verdict = plain_verdict,
};

const mp_sasl_ops mp_sasl_login = {
  .step = login_step,
  .credentials = plain_credentials,
  .worked = plain_worked,
  .verdict = plain_verdict,
};
