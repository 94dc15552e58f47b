/* Bearer tokens: OAUTHBEARER (RFC 7628) and XOAUTH2, which came before it. The script judges the token. A refusal is a challenge
 * that says so in JSON, the client answers with a message that says nothing, and only then the exchange fails. */
#include "smtp/sasl_impl.h"

enum phase { START, MESSAGE, REFUSED };

static int refuse(mp_sasl *sasl)
{
  sasl->phase = REFUSED;
  mp_secret_wipe(&sasl->password);
  return mp_sasl_challenged(sasl, sasl->mech == MP_MECH_XOAUTH2
                                      ? MP_STR("{\"status\":\"401\",\"schemes\":\"bearer\"}")
                                      : MP_STR("{\"status\":\"invalid_token\"}"));
}

/* Takes key "=" value %x01 off the front; a key is letters. */
static bool pair(mp_str *rest, mp_str *key, mp_str *value)
{
  mp_ssize end = mp_str_find(*rest, '\1', 0);
  mp_ssize equals = mp_str_find(*rest, '=', 0);
  if (end < 0 || equals < 1 || equals > end)
    return false;
  *key = mp_str_sub(*rest, 0, (size_t)equals);
  *value = mp_str_sub(*rest, (size_t)equals + 1, (size_t)(end - equals - 1));
  for (size_t i = 0; i < key->len; i++) {
    unsigned char c = mp_ascii_lower((unsigned char)key->ptr[i]);
    if (c < 'a' || c > 'z')
      return false;
  }
  for (size_t i = 0; i < value->len;
       i++) /* no controls; white space has no use here, save in between scheme and token */
    if ((unsigned char)value->ptr[i] < 0x20 || value->ptr[i] == 0x7f)
      return false;
  *rest = mp_str_sub(*rest, (size_t)end + 1, rest->len);
  return true;
}

/* "Bearer" SP token. An empty value asks for the refusal and what it tells (RFC 7628 4.3). */
static int credentials_of(mp_sasl *sasl, mp_str value)
{
  static const mp_str scheme = { "Bearer ", 7 };
  if (value.len == 0)
    return 0;
  if (!mp_str_istarts(value, scheme))
    return MP_SASL_SYNTAX;
  mp_str token = mp_str_trim(mp_str_sub(value, scheme.len, value.len));
  for (size_t i = 0; i < token.len; i++)
    if (token.ptr[i] < 0x21 || token.ptr[i] > 0x7e)
      return MP_SASL_SYNTAX;
  return token.len ? mp_secret_set(&sasl->password, token) : (int)MP_SASL_SYNTAX;
}

/* *(key "=" value %x01) %x01. Keys that we do not know, host and port among them, are passed over. */
static int read_pairs(mp_sasl *sasl, mp_str rest)
{
  bool user = false, auth = false;
  mp_str key, value;
  while (rest.len && rest.ptr[0] != '\1') {
    int rc = 0;
    if (!pair(&rest, &key, &value))
      return MP_SASL_SYNTAX;
    if (mp_str_eq(key, MP_STR("auth"))) {
      rc = auth ? (int)MP_SASL_SYNTAX : credentials_of(sasl, value);
      auth = true;
    } else if (mp_str_eq(key, MP_STR("user")) && sasl->mech == MP_MECH_XOAUTH2) {
      rc = user ? (int)MP_SASL_SYNTAX : mp_sasl_name(sasl->user, &sasl->user_len, value);
      user = true;
    }
    if (rc)
      return rc;
  }
  if (rest.len != 1 || (sasl->mech == MP_MECH_XOAUTH2 && !user))
    return MP_SASL_SYNTAX;
  return sasl->password.len ? (int)MP_SASL_TOKEN : refuse(sasl);
}

static int read_message(mp_sasl *sasl, mp_str input)
{
  if (sasl->mech == MP_MECH_XOAUTH2)
    return read_pairs(sasl, input);
  mp_gs2 head;
  int rc = mp_gs2_parse(&head, &input);
  if (rc)
    return rc;
  if (head.flag == 'p' || input.len == 0 || input.ptr[0] != '\1') /* there is no binding with a token (RFC 7628 3.1) */
    return MP_SASL_SYNTAX;
  memcpy(sasl->user, head.authzid, head.authzid_len);
  sasl->user_len = head.authzid_len;
  return read_pairs(sasl, mp_str_sub(input, 1, input.len));
}

static int bearer_step(mp_sasl *sasl, mp_str input)
{
  switch ((enum phase)sasl->phase) {
  case START:
    sasl->phase = MESSAGE;
    if (!input.ptr)
      return MP_SASL_MORE;
    return read_message(sasl, input);
  case MESSAGE:
    return read_message(sasl, input);
  case REFUSED:
    return MP_SASL_FAIL;
  }
  return MP_E_MISUSE;
}

static int bearer_verdict(mp_sasl *sasl, bool accepted)
{
  return accepted ? (int)MP_SASL_DONE : refuse(sasl);
}

const mp_sasl_ops mp_sasl_bearer = { .step = bearer_step, .verdict = bearer_verdict };
