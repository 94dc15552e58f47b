/* AUTH (RFC 4954): which mechanism, and the exchange line by line. */
#include "base/base64.h"
#include "smtp/client_impl.h"

enum {
  FIRST_LINE = 512
}; /* an initial response that makes the command longer waits for an empty challenge (RFC 4954 4) */

#define BIT(name) (1u << MP_MECH_##name)

/* The strongest first. The bearers do not compete with the others: a login has a token or a password. */
static const mp_mech order[] = { MP_MECH_SCRAM_SHA_256_PLUS,
                                 MP_MECH_SCRAM_SHA_1_PLUS,
                                 MP_MECH_SCRAM_SHA_256,
                                 MP_MECH_SCRAM_SHA_1,
                                 MP_MECH_OAUTHBEARER,
                                 MP_MECH_XOAUTH2,
                                 MP_MECH_CRAM_MD5,
                                 MP_MECH_PLAIN,
                                 MP_MECH_LOGIN };

static unsigned usable(const mp_client *cl, const mp_client_login *login)
{
  unsigned set = cl->caps.mechanisms & mp_sasl_login_serves(login);
  if (!mp_cl_has(cl, MP_EXT_AUTH))
    return 0;
  if (!cl->opts->sasl)
    set &= BIT(PLAIN) | BIT(LOGIN) | BIT(XOAUTH2) | BIT(OAUTHBEARER);
  if (cl->unique.len == 0 && cl->exporter.len == 0)
    set &= ~(BIT(SCRAM_SHA_1_PLUS) | BIT(SCRAM_SHA_256_PLUS));
  return set;
}

/* What shows the secret to whoever listens. */
static unsigned shown(const mp_client *cl, const mp_client_login *login)
{
  return cl->tls ? 0 : (BIT(PLAIN) | BIT(LOGIN) | BIT(XOAUTH2) | BIT(OAUTHBEARER)) & ~login->in_clear;
}

void mp_cl_auth_end(mp_client *cl)
{
  mp_sasl_client_free(cl->sasl);
  cl->sasl = NULL;
}

/* Says `head`, and `response` in base64 behind it. Its room is made before, so that growing leaves no copy behind. */
static bool say_secret(mp_client *cl, mp_str head, mp_str name, mp_str response)
{
  size_t coded = (response.len + 2) / 3 * 4;
  if (!mp_buf_room(&cl->out, head.len + name.len + coded + 4)) {
    mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
    return false;
  }
  cl->secret = coded;
  return mp_cl_say(cl, head) && mp_cl_say(cl, name) &&
         (!name.len || !response.ptr || mp_cl_say(cl, MP_STR(" "))) &&
         mp_base64_encode(&cl->out, response) == 0 && mp_cl_say(cl, MP_STR("\r\n"));
}

/* Proposes the next mechanism. 0; 1 when there is none; MP_E_NOMEM. */
static int propose(mp_client *cl)
{
  unsigned set = usable(cl, cl->login) & ~shown(cl, cl->login) & ~cl->tried;
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    mp_mech mech = order[i];
    if (!(set & 1u << mech))
      continue;
    cl->tried |= 1u << mech;
    mp_cl_auth_end(cl);
    int rc = mp_sasl_client_new(&cl->sasl, cl->opts->sasl, mech, cl->login, cl->unique, cl->exporter);
    if (rc == MP_E_SYSTEM)
      continue;
    int move = rc < 0 ? rc : mp_sasl_client_start(cl->sasl);
    if (move == MP_E_NOMEM)
      return move;
    if (move != MP_SASL_MOVE_WAIT && move != MP_SASL_MOVE_SAY)
      continue; /* a name that SASLprep refuses, say: another mechanism may not mind */
    cl->mech = (signed char)mech;
    cl->stopped = false;
    mp_str name = mp_str_c(mp_mech_name(mech)), response = MP_STR_NULL;
    if (move == MP_SASL_MOVE_SAY) {
      response = mp_sasl_client_response(cl->sasl);
      cl->held = 5 + name.len + 1 + (response.len + 2) / 3 * 4 + 2 > FIRST_LINE;
      if (cl->held)
        response = MP_STR_NULL;
    } else {
      cl->held = false;
    }
    mp_cl_enter(cl, CL_AUTH);
    say_secret(cl, MP_STR("AUTH "), name, response);
    return 0;
  }
  return 1;
}

int mp_client_auth(mp_client *cl, const mp_client_login *login, int64_t now_ms)
{
  const char *why = mp_sasl_login_check(login);
  if (why)
    return mp_cl_invalid(cl, why);
  int rc = mp_cl_begin(cl, MP_OP_AUTH, now_ms);
  if (rc < 0)
    return rc;
  cl->login = login;
  cl->tried = 0;
  cl->mech = -1;
  rc = propose(cl);
  if (rc < 0) {
    mp_cl_auth_end(cl);
    mp_cl_cancel(cl);
    return rc;
  }
  if (rc == 1) {
    bool clear = usable(cl, login) & shown(cl, login);
    mp_cl_done_local(cl, clear ? &MP_REPLY(538, 5, 7, 11, "Encryption is required for the mechanisms that are left")
                               : &MP_REPLY(504, 5, 5, 4, "No mechanism that both sides can use"));
  }
  return 0;
}

static void go_on(mp_client *cl, int move)
{
  switch (move) {
  case MP_SASL_MOVE_SAY:
    mp_cl_enter(cl, CL_AUTH);
    say_secret(cl, MP_STR_NULL, MP_STR_NULL, mp_sasl_client_response(cl->sasl));
    return;
  case MP_SASL_MOVE_JOB:
    mp_cl_enter(cl, CL_JOB);
    mp_cl_push(cl, PENDING_JOB);
    return;
  case MP_SASL_MOVE_FRAUD:
    mp_cl_fail(cl, MP_E_CRYPTO, "the server does not know the password either");
    return;
  case MP_E_NOMEM:
    mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
    return;
  default: /* RFC 4954 4: the server answers 501, and the next mechanism may be tried */
    mp_cl_enter(cl, CL_AUTH);
    cl->stopped = true;
    mp_cl_say(cl, MP_STR("*\r\n"));
    return;
  }
}

int mp_client_worked(mp_client *cl, mp_job *job, int64_t now_ms)
{
  if (cl->state != CL_JOB || !cl->sasl)
    return MP_E_MISUSE;
  int move = mp_sasl_client_worked(cl->sasl, job);
  if (move == MP_E_MISUSE)
    return move;
  cl->now_ms = now_ms;
  go_on(cl, move);
  return 0;
}

static void challenged(mp_client *cl, mp_str text)
{
  if (cl->stopped) {
    mp_cl_fail(cl, MP_E_SYNTAX, "peer goes on with an AUTH that was cancelled");
    return;
  }
  if (cl->held) { /* whatever it says, it asks for the initial response */
    cl->held = false;
    say_secret(cl, MP_STR_NULL, MP_STR_NULL, mp_sasl_client_response(cl->sasl));
    return;
  }
  go_on(cl, mp_sasl_client_step(cl->sasl, text));
}

void mp_cl_auth_reply(mp_client *cl, const mp_reply *reply)
{
  if (reply->code == 334) {
    challenged(cl, reply->text);
    return;
  }
  if (reply->code < 400 && (reply->code != 235 || cl->stopped || !mp_sasl_client_proved(cl->sasl))) {
    mp_cl_fail(cl, MP_E_CRYPTO, "peer accepted an AUTH that was not finished");
    return;
  }
  if (reply->code == 235) {
    mp_cl_done(cl, true, reply);
    return;
  }
  if (cl->stopped || reply->code == 504 || reply->code == 534) {
    int rc = propose(cl);
    if (rc < 0)
      mp_cl_fail(cl, rc, "out of memory");
    if (rc <= 0)
      return;
  }
  mp_cl_done(cl, false, reply);
}
