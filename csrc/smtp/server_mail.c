/* MAIL and RCPT: grammar by path.c and param.c, order and limits here (RFC 5321 4.1.1.2, 4.1.1.3). */
#include "smtp/server_impl.h"

enum { REFUSED_TRUSTED = 10 }; /* times as many recipients may be refused to who is trusted */

/* Cuts "FROM:" or "TO:" off and leaves the path at the front; false when it is not there. One space may follow the colon; more, or
 * some before it, by MP_LAX_SPACE. */
static bool keyword(const mp_server *srv, mp_str word, mp_str *args)
{
  bool lax = srv->opts->lax & MP_LAX_SPACE;
  mp_str in = *args;
  while (lax && in.len && in.ptr[0] == ' ')
    in = mp_str_sub(in, 1, in.len);
  if (!mp_str_istarts(in, word))
    return false;
  in = mp_str_sub(in, word.len, in.len);
  while (lax && in.len && in.ptr[0] == ' ')
    in = mp_str_sub(in, 1, in.len);
  if (in.len == 0 || in.ptr[0] != ':')
    return false;
  in = mp_str_sub(in, 1, in.len);
  if (in.len && in.ptr[0] == ' ')
    in = mp_str_sub(in, 1, in.len);
  while (lax && in.len && in.ptr[0] == ' ')
    in = mp_str_sub(in, 1, in.len);
  *args = in;
  return true;
}

static unsigned path_flags(const mp_server *srv)
{
  unsigned lax = srv->opts->lax;
  return (srv->announced & MP_EXT_SMTPUTF8 ? MP_PATH_UTF8 : 0u) |
         (lax & MP_LAX_BRACKETS ? MP_PATH_LAX_BRACKETS : 0u) | (lax & MP_LAX_DOTS ? MP_PATH_LAX_DOTS : 0u) |
         (lax & MP_LAX_UNDERSCORE ? MP_PATH_LAX_UNDERSCORE : 0u) |
         (lax & MP_LAX_LENGTH ? MP_PATH_LAX_LENGTH : 0u);
}

/* A parameter is known where its extension was announced to this client, and only there (RFC 5321 4.1.1.11). */
static unsigned mail_params(const mp_server *srv)
{
  static const struct {
    unsigned extension, params;
  } rows[] = {
    { MP_EXT_SIZE, MP_PARAM_SIZE },
    { MP_EXT_8BITMIME, MP_PARAM_BODY },
    { MP_EXT_BINARYMIME, MP_PARAM_BODY | MP_PARAM_BINARY },
    { MP_EXT_SMTPUTF8, MP_PARAM_SMTPUTF8 },
    { MP_EXT_DSN, MP_PARAM_RET | MP_PARAM_ENVID },
    { MP_EXT_DELIVERBY, MP_PARAM_BY },
    { MP_EXT_FUTURERELEASE, MP_PARAM_HOLDFOR | MP_PARAM_HOLDUNTIL },
    { MP_EXT_MT_PRIORITY, MP_PARAM_PRIORITY },
    { MP_EXT_REQUIRETLS, MP_PARAM_REQUIRETLS },
    { MP_EXT_AUTH, MP_PARAM_AUTH },
  };
  unsigned set = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (srv->announced & rows[i].extension)
      set |= rows[i].params;
  return set;
}

static void refuse_bad(mp_server *srv, const mp_reply *refusal)
{
  bool on = mp_srv_counted(srv);
  srv->tally.bad_code = (unsigned short)refusal->code;
  srv->tally.bad_text = refusal->text.ptr; /* of param.c, whose texts are static */
  if (on)
    mp_srv_put(srv, refusal, MP_EV_NONE);
}

/* What the options say of values that are well-formed. */
static const char *limits(const mp_server *srv, const mp_mail_params *params)
{
  const mp_server_opts *opts = srv->opts;
  /* RFC 2852 4: by-time in mode R below the announced minimum. */
  if ((params->given & MP_PARAM_BY) && params->by_mode == 'R' && opts->by_min && params->by_seconds < opts->by_min)
    return "501 5.5.4 BY is below the minimum";
  /* RFC 4865 4: what lies further ahead than was announced is refused. */
  if ((params->given & MP_PARAM_HOLDFOR) && params->hold_for > opts->hold_max)
    return "501 5.5.4 HOLDFOR is above the maximum";
  int64_t now_s = (srv->now_ms + opts->wall_ms) / 1000;
  if ((params->given & MP_PARAM_HOLDUNTIL) && params->hold_until_s > now_s &&
      (uint64_t)(params->hold_until_s - now_s) > opts->hold_max)
    return "501 5.5.4 HOLDUNTIL is above the maximum";
  return NULL;
}

void mp_srv_mail(mp_server *srv, mp_str args)
{
  const mp_server_opts *opts = srv->opts;
  if (srv->state == ST_START && !(opts->lax & MP_LAX_NO_HELO)) {
    if (opts->protocol == MP_PROTOCOL_LMTP)
      BAD(srv, "503 5.5.1 Send LHLO first");
    else
      BAD(srv, "503 5.5.1 Send EHLO first");
    return;
  }
  if (opts->tls_required && !srv->tls) {
    BAD(srv, "530 5.7.0 Must issue a STARTTLS command first"); /* RFC 3207 4 */
    return;
  }
  if (opts->auth_required && !srv->user.ptr) {
    BAD(srv, "530 5.7.0 Authentication required"); /* RFC 4954 6 */
    return;
  }
  if (opts->messages && srv->messages >= opts->messages) {
    mp_srv_421(srv, "4.7.0", "Too many messages in one session", "too many messages");
    return;
  }
  if (!keyword(srv, MP_STR("FROM"), &args)) {
    BAD(srv, "501 5.5.4 Syntax: MAIL FROM:<address>");
    return;
  }
  mp_path path;
  mp_mail_params params;
  mp_reply refusal;
  mp_ssize n = mp_path_parse(&path, args, path_flags(srv) | MP_PATH_REVERSE);
  if (n < 0) {
    if (n == MP_E_TOOLONG)
      BAD(srv, "501 5.1.7 Sender address too long");
    else
      BAD(srv, "501 5.1.7 Bad sender address syntax");
    return;
  }
  if (!mp_mail_params_parse(&params, mp_str_sub(args, (size_t)n, args.len), mail_params(srv), opts->size,
                            &refusal)) {
    refuse_bad(srv, &refusal);
    return;
  }
  if (path.utf8 && !(params.given & MP_PARAM_SMTPUTF8)) {
    BAD(srv, "553 5.6.7 Address outside ASCII without SMTPUTF8"); /* RFC 6531 3.5 */
    return;
  }
  const char *over = limits(srv, &params);
  if (over) {
    mp_srv_bad(srv, mp_str_c(over));
    return;
  }
  srv->env = mp_envelope_new(opts->envelope_memory, opts->envelopes, opts->envelope_blocks);
  if (!srv->env || mp_envelope_mail(srv->env, &path, &params) < 0) {
    mp_srv_forget(srv);
    SAY(srv, "452 4.3.1 Out of memory for the envelope");
    return;
  }
  srv->messages++;
  mp_srv_push(srv, MP_EV_MAIL);
}

void mp_srv_answer_mail(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code >= 300) {
    mp_srv_refuse(srv, reply, MP_EV_MAIL);
    mp_srv_forget(srv);
    return;
  }
  mp_srv_enter(srv, ST_MAIL);
  srv->begun_ms = srv->now_ms;
  if (reply)
    mp_srv_put(srv, reply, MP_EV_MAIL);
  else
    SAY(srv, "250 2.1.0 Sender OK");
}

void mp_srv_rcpt(mp_server *srv, mp_str args)
{
  const mp_server_opts *opts = srv->opts;
  mp_envelope *env = srv->env;
  if (!keyword(srv, MP_STR("TO"), &args)) {
    BAD(srv, "501 5.5.4 Syntax: RCPT TO:<address>");
    return;
  }
  mp_path path;
  mp_rcpt_params params;
  mp_reply refusal;
  bool utf8 = env->params.given & MP_PARAM_SMTPUTF8;
  mp_ssize n = mp_path_parse(&path, args, path_flags(srv) | MP_PATH_POSTMASTER);
  if (n < 0) {
    if (n == MP_E_TOOLONG)
      BAD(srv, "501 5.1.3 Recipient address too long");
    else
      BAD(srv, "501 5.1.3 Bad recipient address syntax");
    return;
  }
  unsigned allowed = srv->announced & MP_EXT_DSN ? MP_PARAM_NOTIFY | MP_PARAM_ORCPT : 0u;
  if (!mp_rcpt_params_parse(&params, mp_str_sub(args, (size_t)n, args.len), allowed, utf8, &refusal)) {
    refuse_bad(srv, &refusal);
    return;
  }
  if (path.utf8 && !utf8) {
    BAD(srv, "553 5.6.7 Address outside ASCII without SMTPUTF8");
    return;
  }
  if (env->count >= opts->recipients || !mp_envelope_rcpt(env, &path, &params)) {
    srv->tally.rcpts_refused++;
    SAY(srv, "452 4.5.3 Too many recipients"); /* RFC 5321 4.5.3.1.10: those accepted stay */
    return;
  }
  mp_srv_push(srv, MP_EV_RCPT);
}

/* Counts a recipient that is refused for good; true when it was one too many. Who tries address after address is not told which of them are
 * there: this one's verdict is not said any more. Lists of users of ours age too, so who is trusted may be wrong more often. */
static bool harvests(mp_server *srv)
{
  uint64_t most = srv->opts->refused_recipients;
  if (srv->user.ptr || (srv->trust & MP_TRUST_REPAIR))
    most *= REFUSED_TRUSTED;
  return ++srv->refusals > most && most > 0;
}

void mp_srv_answer_rcpt(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code >= 300) {
    mp_envelope_drop(srv->env);
    srv->tally.rcpts_refused++;
    if (reply->code >= 500 && harvests(srv)) {
      mp_srv_421(srv, "4.7.0", "Too many recipients were refused", "too many refused recipients");
      return;
    }
    mp_srv_refuse(srv, reply, MP_EV_RCPT);
    return;
  }
  srv->tally.rcpts++;
  mp_srv_enter(srv, ST_RCPT);
  if (reply)
    mp_srv_put(srv, reply, MP_EV_RCPT);
  else
    SAY(srv, "250 2.1.5 Recipient OK");
}
