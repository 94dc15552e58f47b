/* AUTH (RFC 4954): lines and base64 here, mechanisms in sasl.c. The machine waits where the exchange waits; secrets live in the exchange
 * alone and go with it. */
#include "smtp/server_impl.h"

#include "base/base64.h"

/* ---- how it ends ------------------------------------------------------------------------------------------------- */

static void end_exchange(mp_server *srv)
{
  srv->refused = false;
  mp_sasl_free(srv->sasl);
  srv->sasl = NULL;
  mp_srv_enter(srv, ST_READY);
}

static void fail(mp_server *srv);

/* The client's fault of form, or its "*": a bad command, not a failed proof. Unless it flees from a token's refusal, which comes as a
 * challenge (RFC 7628 3.2.2). */
static void break_off(mp_server *srv, mp_str line)
{
  if (srv->refused) {
    fail(srv);
    return;
  }
  end_exchange(srv);
  srv->mech = -1;
  mp_srv_bad(srv, line);
}

void mp_srv_auth_broken(mp_server *srv, mp_str line)
{
  break_off(srv, line);
}

/* Whom AUTHENTICATED shows when the exchange is gone. Without memory nobody: it is for logs. */
static void note_names(mp_server *srv)
{
  mp_str user = mp_sasl_user(srv->sasl), authzid = mp_sasl_authzid(srv->sasl);
  mp_srv_note *note = mp_srv_note_new(srv, user.len + authzid.len);
  if (!note)
    return;
  if (user.len)
    memcpy(note->text, user.ptr, user.len);
  if (authzid.len)
    memcpy(note->text + user.len, authzid.ptr, authzid.len);
  note->name = mp_str_of(note->text, user.len);
  note->authzid = mp_str_of(note->text + user.len, authzid.len);
}

static void succeed(mp_server *srv)
{
  note_names(srv);
  if (!mp_srv_set(&srv->user, mp_sasl_user(srv->sasl))) {
    mp_srv_nomem(srv);
    return;
  }
  end_exchange(srv);
  mp_srv_push(srv, MP_EV_AUTHENTICATED);
  if (srv->kept)
    mp_srv_put(srv, &srv->kept->reply, MP_EV_AUTH);
  else
    SAY(srv, "235 2.7.0 Authentication successful");
  mp_mem_free(srv->kept);
  srv->kept = NULL;
}

/* A refusal that says nothing of the proof (4xx) is answered at once and not counted. */
static void fail(mp_server *srv)
{
  note_names(srv);
  bool passing = srv->kept && srv->kept->reply.code < 500;
  end_exchange(srv);
  mp_srv_push(srv, MP_EV_AUTHENTICATED);
  if (!passing)
    srv->failures++;
  if (!passing && srv->opts->auth_delay_ms) {
    mp_srv_enter(srv, ST_HELD);
    srv->begun_ms = srv->now_ms + (int64_t)srv->opts->auth_delay_ms;
    return;
  }
  mp_srv_auth_release(srv);
}

void mp_srv_auth_release(mp_server *srv)
{
  mp_srv_kept *kept = srv->kept;
  srv->kept = NULL;
  mp_srv_enter(srv, ST_READY);
  if (srv->opts->auth_failures && srv->failures >= srv->opts->auth_failures)
    mp_srv_421(srv, "4.7.0", "Too many failed authentications", "failed authentications");
  else if (kept)
    mp_srv_refuse(srv, &kept->reply, MP_EV_AUTH);
  else
    SAY(srv, "535 5.7.8 Authentication credentials invalid");
  mp_mem_free(kept);
}

/* ---- how it goes on ---------------------------------------------------------------------------------------------- */

static void challenge(mp_server *srv)
{
  size_t before = srv->out.len;
  if (mp_buf_str(&srv->out, MP_STR("334 ")) < 0 || mp_base64_encode(&srv->out, mp_sasl_challenge(srv->sasl)) < 0 ||
      mp_buf_str(&srv->out, MP_STR("\r\n")) < 0) {
    mp_buf_cut(&srv->out, before);
    mp_srv_nomem(srv);
    return;
  }
  mp_srv_enter(srv, ST_AUTH);
  mp_srv_said(srv);
}

/* `state` is what the exchange answered. */
static void advance(mp_server *srv, int state)
{
  switch (state) {
  case MP_SASL_MORE:
    challenge(srv);
    break;
  case MP_SASL_DONE:
    succeed(srv);
    break;
  case MP_SASL_FAIL:
    fail(srv);
    break;
  case MP_SASL_SYNTAX:
    break_off(srv, MP_STR("501 5.5.2 Malformed authentication response"));
    break;
  case MP_SASL_CREDENTIALS:
    mp_srv_push(srv, MP_EV_CREDENTIALS);
    break;
  case MP_SASL_JOB:
    mp_srv_push(srv, MP_EV_JOB);
    break;
  case MP_SASL_ASK:
    mp_srv_push(srv, MP_EV_AUTH);
    break;
  case MP_SASL_TOKEN:
    mp_srv_push(srv, MP_EV_TOKEN);
    break;
  default:
    end_exchange(srv);
    SAY(srv, "454 4.7.0 Temporary authentication failure");
    break;
  }
}

/* `text` is base64, or "=" for an empty initial response. */
static void respond(mp_server *srv, mp_str text)
{
  mp_buf decoded;
  mp_buf_init(&decoded, MP_SRV_AUTH_LINE, NULL);
  /* All the room at once, so that growing leaves no copy behind. */
  if (!mp_buf_room(&decoded, text.len + 1)) {
    mp_srv_nomem(srv);
    return;
  }
  int rc = mp_base64_decode(&decoded, text);
  if (rc == 0) {
    mp_str in = mp_buf_view(&decoded); /* never a null pointer: the response is there, though it may be empty */
    advance(srv, mp_sasl_step(srv->sasl, in));
  } else if (rc == MP_E_SYNTAX) {
    break_off(srv, MP_STR("501 5.5.2 Response is no base64"));
  } else {
    mp_srv_nomem(srv);
  }
  mp_mem_wipe(decoded.ptr, decoded.cap);
  mp_buf_dispose(&decoded);
}

void mp_srv_auth_line(mp_server *srv, mp_str line)
{
  srv->ends_group = true;
  srv->behind = srv->more;
  if (srv->line_early && !mp_srv_early(srv))
    return;
  if (mp_str_eq(line, MP_STR("*")))
    break_off(srv, MP_STR("501 5.0.0 Authentication cancelled")); /* RFC 4954 4 */
  else
    respond(srv, line);
}

/* ---- how it begins ----------------------------------------------------------------------------------------------- */

static int start(mp_server *srv, int mech)
{
  const mp_server_opts *opts = srv->opts;
  unsigned plus = 1u << MP_MECH_SCRAM_SHA_1_PLUS | 1u << MP_MECH_SCRAM_SHA_256_PLUS;
  mp_sasl_opts sasl = {
    .hostname = opts->hostname,
    .secret = opts->sasl_secret,
    .cb_unique = srv->binding ? srv->binding->unique : MP_STR_NULL,
    .cb_exporter = srv->binding ? srv->binding->exporter : MP_STR_NULL,
    .iterations = opts->sasl_iterations,
    .plus_offered = (srv->mechanisms & plus) != 0,
  };
  return mp_sasl_new(&srv->sasl, opts->sasl, (mp_mech)mech, &sasl);
}

void mp_srv_auth(mp_server *srv, mp_str args)
{
  const mp_server_opts *opts = srv->opts;
  srv->secret = true; /* an initial response */
  if (!(opts->extensions & MP_EXT_AUTH) || opts->mechanisms == 0) {
    BAD(srv, "502 5.5.1 AUTH is not offered");
    return;
  }
  if (srv->user.ptr) {
    BAD(srv, "503 5.5.1 Already authenticated"); /* RFC 4954 4 */
    return;
  }
  if (!srv->tls && opts->tls_required) {
    BAD(srv, "530 5.7.0 Must issue a STARTTLS command first");
    return;
  }
  if (!srv->tls && !opts->auth_in_clear) {
    BAD(srv, "538 5.7.11 Encryption required for authentication");
    return;
  }
  if (!(srv->announced & MP_EXT_AUTH)) {
    BAD(srv, "503 5.5.1 Send EHLO first");
    return;
  }
  mp_ssize space = mp_str_find(args, ' ', 0);
  mp_str name = mp_str_sub(args, 0, space < 0 ? args.len : (size_t)space);
  mp_str initial = mp_str_sub(args, name.len + 1, args.len);
  if (name.len == 0 || mp_str_find(initial, ' ', 0) >= 0) {
    BAD(srv, "501 5.5.4 Syntax: AUTH mechanism [response]");
    return;
  }
  int mech = mp_mech_find(name);
  if (mech < 0 || !(srv->mechanisms & (1u << mech))) {
    BAD(srv, "504 5.5.4 Mechanism not offered");
    return;
  }
  mp_mem_free(srv->kept);
  srv->kept = NULL;
  int rc = start(srv, mech);
  if (rc < 0) {
    SAY(srv, "454 4.7.0 Temporary authentication failure");
    return;
  }
  srv->mech = (signed char)mech;
  mp_srv_enter(srv, ST_AUTH);
  if (initial.len == 0)
    advance(srv, mp_sasl_step(srv->sasl, MP_STR_NULL));
  else
    respond(srv, mp_str_eq(initial, MP_STR("=")) ? mp_str_of(initial.ptr, 0) : initial);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

void mp_srv_answer_auth(mp_server *srv, const mp_reply *reply)
{
  bool accepted = !reply || reply->code < 300;
  if (reply && !mp_srv_keep(srv, reply)) {
    mp_srv_nomem(srv);
    return;
  }
  if (reply && accepted)
    srv->kept->reply.code = 235; /* the only one that means it (RFC 4954 6) */
  srv->refused = !accepted;
  advance(srv, mp_sasl_verdict(srv->sasl, accepted));
}

void mp_srv_auth_credentials(mp_server *srv, const mp_credentials *credentials, const mp_reply *refusal)
{
  if (credentials) {
    advance(srv, mp_sasl_credentials(srv->sasl, credentials));
    return;
  }
  mp_reply later = MP_REPLY(454, 4, 7, 0, "Temporary authentication failure");
  if (mp_srv_keep(srv, refusal ? refusal : &later))
    fail(srv);
  else
    mp_srv_nomem(srv);
}

int mp_srv_auth_worked(mp_server *srv, mp_job *job)
{
  int state = mp_sasl_worked(srv->sasl, job);
  if (state == MP_E_MISUSE) /* another's job: it proves nothing here */
    return MP_E_MISUSE;
  srv->waiting = MP_EV_NONE;
  advance(srv, state);
  return 0;
}
