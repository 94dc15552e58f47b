/* SCRAM-SHA-1, SCRAM-SHA-256 and their -PLUS forms (RFC 5802, RFC 7677, RFC 9266).
 *
 *   client-first --> [credentials] --> server-first --> client-final --> [derivation] --> server-final --> empty, DONE
 *
 * The client's first message is read here for the name and for the channel binding, where we are stricter than libgsasl, which
 * then reads it again and does the proof. A user who does not exist walks the same way, with a salt of their own that stays the
 * same, and fails at the proof. After server-first every mistake of the client is a wrong proof: were a bad grammar told apart
 * there, it would tell whose keys were real. */
#include "smtp/sasl_impl.h"

#include <stdio.h>

enum phase { START, FIRST, FINAL, CONFIRMED };

static bool is_plus(const mp_sasl *sasl)
{
  return sasl->mech == MP_MECH_SCRAM_SHA_1_PLUS || sasl->mech == MP_MECH_SCRAM_SHA_256_PLUS;
}

static mp_scram_hash hash_of(const mp_sasl *sasl)
{
  return sasl->mech == MP_MECH_SCRAM_SHA_1 || sasl->mech == MP_MECH_SCRAM_SHA_1_PLUS ? MP_SCRAM_SHA_1
                                                                                     : MP_SCRAM_SHA_256;
}

/* RFC 5802 6: "p" and only "p" with -PLUS, of a type that we have; "y" says that the client thinks we offer no -PLUS, and where
 * we did, somebody took it out of our reply. */
static int check_binding(const mp_sasl *sasl, const mp_gs2 *head)
{
  if (!is_plus(sasl))
    return head->flag == 'p' || (head->flag == 'y' && sasl->plus_offered) ? MP_SASL_FAIL : 0;
  if (head->flag != 'p')
    return MP_SASL_FAIL;
  bool known = (mp_str_eq(head->binding, MP_STR("tls-unique")) && sasl->unique.len) ||
               (mp_str_eq(head->binding, MP_STR("tls-exporter")) && sasl->exporter.len);
  return known ? 0 : MP_SASL_FAIL;
}

/* client-first = gs2-header "n=" saslname "," "r=" nonce ["," extensions]; a mandatory extension, "m=", is one that we do not
 * know (RFC 5802 5.1). */
static int read_first(mp_sasl *sasl, mp_str input)
{
  mp_gs2 head;
  mp_str rest = input;
  if (input.len > MP_SASL_SCRAM_MAX || mp_str_find(input, '\0', 0) >= 0)
    return MP_SASL_SYNTAX;
  int rc = mp_gs2_parse(&head, &rest);
  if (rc)
    return rc;
  mp_ssize comma = mp_str_find(rest, ',', 0);
  if (comma < 2 || !mp_str_eq(mp_str_sub(rest, 0, 2), MP_STR("n=")) ||
      !mp_str_eq(mp_str_sub(rest, (size_t)comma + 1, 2), MP_STR("r=")))
    return MP_SASL_SYNTAX;
  if ((rc = mp_gs2_name(sasl->user, &sasl->user_len, mp_str_sub(rest, 2, (size_t)comma - 2))) != 0)
    return rc;
  /* libgsasl prepares the name too, and loses memory over one of which nothing is left. */
  char *prepared;
  if ((rc = mp_sasl_prep(&prepared, mp_sasl_user(sasl))) < 0)
    return rc == MP_E_NOMEM ? rc : (int)MP_SASL_SYNTAX;
  gsasl_free(prepared);
  if ((rc = check_binding(sasl, &head)) != 0 ||
      (rc = mp_sasl_identity(sasl, mp_str_of(head.authzid, head.authzid_len))) != 0)
    return rc;
  rc = mp_secret_set(&sasl->message, input);
  return rc < 0 ? rc : MP_SASL_CREDENTIALS;
}

/* Server-first, with the salt and the iterations in `keys`. */
static int answer_first(mp_sasl *sasl)
{
  char iterations[16];
  snprintf(iterations, sizeof iterations, "%u", sasl->keys.iterations);
  mp_secret output = { 0 };
  int answer, rc;
  if ((rc = mp_sasl_gs_start(sasl->ctx, mp_mech_name(sasl->mech), false, &sasl->session)) < 0 ||
      (rc = mp_sasl_gs_set(sasl->session, GSASL_SCRAM_ITER, mp_str_c(iterations))) < 0 ||
      (rc = mp_sasl_gs_set64(sasl->session, GSASL_SCRAM_SALT, mp_str_of(sasl->keys.salt, sasl->keys.salt_len))) < 0)
    return rc;
  /* Without -PLUS it is not told of a binding: it would take that for an offer, and we know better what was offered. */
  if (is_plus(sasl) &&
      ((sasl->unique.len &&
        (rc = mp_sasl_gs_set64(sasl->session, GSASL_CB_TLS_UNIQUE, mp_secret_view(&sasl->unique))) < 0) ||
       (sasl->exporter.len &&
        (rc = mp_sasl_gs_set64(sasl->session, GSASL_CB_TLS_EXPORTER, mp_secret_view(&sasl->exporter))) < 0)))
    return rc;
  if ((rc = mp_sasl_gs_step(sasl->session, mp_secret_view(&sasl->message), &output, &answer)) < 0)
    return rc;
  if (answer == GSASL_NEEDS_MORE) {
    sasl->phase = FINAL;
    rc = mp_sasl_challenged(sasl, mp_secret_view(&output));
  } else {
    rc = MP_SASL_SYNTAX; /* a nonce with a character that it must not have, say */
  }
  mp_secret_wipe(&output);
  return rc;
}

/* Checks the client-final in `message` against the keys. */
static int check_final(mp_sasl *sasl, const mp_scram_keys *keys)
{
  mp_secret output = { 0 };
  int answer, rc;
  if ((rc = mp_sasl_gs_set64(sasl->session, GSASL_SCRAM_STOREDKEY, mp_str_of(keys->stored, keys->key_len))) < 0 ||
      (rc = mp_sasl_gs_set64(sasl->session, GSASL_SCRAM_SERVERKEY, mp_str_of(keys->server, keys->key_len))) < 0 ||
      (rc = mp_sasl_gs_step(sasl->session, mp_secret_view(&sasl->message), &output, &answer)) < 0)
    return rc;
  if (answer == GSASL_OK) {
    sasl->phase = CONFIRMED;
    rc = mp_sasl_challenged(sasl, mp_secret_view(&output));
  } else {
    rc = MP_SASL_FAIL;
  }
  mp_secret_wipe(&output);
  return rc;
}

static int read_final(mp_sasl *sasl, mp_str input)
{
  int rc = input.len > MP_SASL_SCRAM_MAX + 512 ? MP_SASL_SYNTAX : mp_secret_set(&sasl->message, input);
  if (rc)
    return rc;
  if (sasl->keyed) {
    rc = check_final(sasl, &sasl->keys);
    return rc == MP_SASL_FAIL ? mp_sasl_burn_keys(sasl, hash_of(sasl)) : rc;
  }
  if (sasl->doomed)
    return mp_sasl_burn_keys(sasl, hash_of(sasl));
  return mp_sasl_derive(sasl, hash_of(sasl), mp_secret_view(&sasl->password),
                        mp_str_of(sasl->keys.salt, sasl->keys.salt_len), sasl->keys.iterations);
}

static int scram_step(mp_sasl *sasl, mp_str input)
{
  switch ((enum phase)sasl->phase) {
  case START:
    sasl->phase = FIRST;
    if (!input.ptr)
      return MP_SASL_MORE;
    return read_first(sasl, input);
  case FIRST:
    return read_first(sasl, input);
  case FINAL:
    return read_final(sasl, input);
  case CONFIRMED: /* the client has seen server-final, and has nothing left to say (RFC 4954 4) */
    return input.len ? MP_SASL_SYNTAX : MP_SASL_DONE;
  }
  return MP_E_MISUSE;
}

static int scram_credentials(mp_sasl *sasl, const mp_credentials *credentials)
{
  mp_scram_hash hash = hash_of(sasl);
  int rc =
      mp_scram_parse(&sasl->keys, hash == MP_SCRAM_SHA_1 ? credentials->scram_sha1 : credentials->scram_sha256);
  if (rc == MP_E_NOMEM)
    return rc;
  sasl->keyed = rc == 0 && sasl->keys.hash == hash;
  if (!sasl->keyed) {
    sasl->keys = (mp_scram_keys){ .hash = hash, .iterations = sasl->iterations, .salt_len = MP_SCRAM_SALT };
    if ((rc = mp_sasl_salt(sasl, hash, sasl->keys.salt)) < 0)
      return rc;
    if (credentials->password.len && credentials->password.len <= MP_SASL_PASSWORD_MAX)
      rc = mp_secret_set(&sasl->password, credentials->password);
    else
      sasl->doomed = true;
    if (rc < 0)
      return rc;
  }
  return answer_first(sasl);
}

static int scram_worked(mp_sasl *sasl, const mp_sasl_work *work)
{
  if (work->rc == MP_E_NOMEM)
    return MP_E_NOMEM;
  return work->rc < 0 ? MP_SASL_FAIL : check_final(sasl, &work->keys);
}

const mp_sasl_ops mp_sasl_scram = { .step = scram_step, .credentials = scram_credentials, .worked = scram_worked };
