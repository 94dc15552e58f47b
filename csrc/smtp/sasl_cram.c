/* CRAM-MD5 (RFC 2195). libgsasl's server would name itself "localhost" in the challenge and compare digests with memcmp; so the
 * challenge is ours, and libgsasl's client is asked what the right response to it is. */
#include "smtp/sasl_impl.h"

#include <stdio.h>

enum { DIGEST = 32 }; /* hex digits */

static int ask(mp_sasl *sasl)
{
  unsigned char random[12];
  char challenge[64 + MP_SASL_HOSTNAME_MAX], *p = challenge;
  if (gsasl_nonce((char *)random, sizeof random) != GSASL_OK)
    return MP_E_SYSTEM;
  *p++ = '<';
  for (size_t i = 0; i < sizeof random; i++)
    p += snprintf(p, 4, "%u", random[i]);
  p += snprintf(p, sizeof challenge - (size_t)(p - challenge), ".0@%s>", sasl->hostname);
  mp_str text = mp_str_of(challenge, (size_t)(p - challenge));
  int rc = mp_secret_set(&sasl->message, text);
  return rc < 0 ? rc : mp_sasl_challenged(sasl, text);
}

/* response = user SP digest, and a user may have spaces in the name */
static int cram_step(mp_sasl *sasl, mp_str input)
{
  if (sasl->phase++ == 0)
    return input.ptr ? MP_SASL_SYNTAX : ask(sasl); /* the server speaks first, an initial response is an error */
  if (input.len <= DIGEST + 1 || input.ptr[input.len - DIGEST - 1] != ' ')
    return MP_SASL_SYNTAX;
  mp_str digest = mp_str_sub(input, input.len - DIGEST, DIGEST);
  for (size_t i = 0; i < DIGEST; i++)
    if (!memchr("0123456789abcdef", digest.ptr[i], 16))
      return MP_SASL_SYNTAX;
  int rc = mp_sasl_name(sasl->user, &sasl->user_len, mp_str_sub(input, 0, input.len - DIGEST - 1));
  if (rc == 0)
    rc = mp_secret_set(&sasl->password, digest);
  return rc ? rc : MP_SASL_CREDENTIALS;
}

static int cram_credentials(mp_sasl *sasl, const mp_credentials *credentials)
{
  mp_str password = credentials->password;
  if (password.len == 0 || password.len > MP_SASL_PASSWORD_MAX || mp_str_find(password, '\0', 0) >= 0) {
    sasl->doomed = true;
    password = MP_STR("nobody");
  }
  mp_secret right = { 0 };
  int answer, rc;
  /* The user's name is not in the digest; it is only put in front of it. */
  if ((rc = mp_sasl_gs_start(sasl->ctx, "CRAM-MD5", true, &sasl->session)) < 0 ||
      (rc = mp_sasl_gs_set(sasl->session, GSASL_AUTHID, MP_STR("user"))) < 0 ||
      (rc = mp_sasl_gs_set(sasl->session, GSASL_PASSWORD, password)) < 0 ||
      (rc = mp_sasl_gs_step(sasl->session, mp_secret_view(&sasl->message), &right, &answer)) < 0)
    return rc;
  bool same = answer == GSASL_OK && right.len > DIGEST &&
              mp_str_eq_consttime(mp_str_sub(mp_secret_view(&right), right.len - DIGEST, DIGEST),
                                  mp_secret_view(&sasl->password));
  mp_secret_wipe(&right);
  return same && !sasl->doomed ? MP_SASL_DONE : MP_SASL_FAIL;
}

const mp_sasl_ops mp_sasl_cram = { .step = cram_step, .credentials = cram_credentials };
