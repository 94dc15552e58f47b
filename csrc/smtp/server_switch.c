/* What makes a session another one: STARTTLS (RFC 3207) and XCLIENT (Postfix). */
#include "smtp/server_impl.h"

void mp_srv_starttls(mp_server *srv, mp_str args)
{
  const mp_server_opts *opts = srv->opts;
  if (!(opts->extensions & MP_EXT_STARTTLS) || !opts->tls_offered) {
    BAD(srv, "502 5.5.1 STARTTLS is not offered");
    return;
  }
  if (args.len) {
    BAD(srv, "501 5.5.4 No argument allowed");
    return;
  }
  if (srv->tls) {
    BAD(srv, "503 5.5.1 TLS is on already");
    return;
  }
  if (srv->more && !opts->tolerate_injection) {
    srv->early = true;
    SAY(srv, "554 5.5.1 Plaintext behind STARTTLS");
    mp_srv_finish(srv, "plaintext behind STARTTLS");
    return;
  }
  size_t before = srv->out.len;
  mp_srv_enter(srv, ST_TLS);
  SAY(srv, "220 2.0.0 Ready to start TLS");
  srv->left = srv->out.len - before;
  if (srv->state != ST_CLOSED)
    mp_srv_push(srv, MP_EV_STARTTLS);
}

static bool keep_binding(mp_server *srv, const mp_tls_facts *facts)
{
  unsigned plus = 1u << MP_MECH_SCRAM_SHA_1_PLUS | 1u << MP_MECH_SCRAM_SHA_256_PLUS;
  mp_mem_free(srv->binding);
  srv->binding = NULL;
  size_t unique = facts->cb_unique.len, exporter = facts->cb_exporter.len;
  if (!(srv->opts->mechanisms & plus) || unique + exporter == 0)
    return true;
  mp_srv_binding *binding = mp_mem_alloc(sizeof *binding + unique + exporter);
  if (!binding)
    return false;
  if (unique)
    memcpy(binding->text, facts->cb_unique.ptr, unique);
  if (exporter)
    memcpy(binding->text + unique, facts->cb_exporter.ptr, exporter);
  binding->unique = mp_str_of(binding->text, unique);
  binding->exporter = mp_str_of(binding->text + unique, exporter);
  srv->binding = binding;
  return true;
}

int mp_server_tls_done(mp_server *srv, const mp_tls_facts *facts, int64_t now_ms)
{
  if (srv->state == ST_CONNECT && srv->tls) /* TLS from the start */
    return keep_binding(srv, facts) ? 0 : MP_E_NOMEM;
  if (srv->waiting != MP_EV_STARTTLS)
    return MP_E_MISUSE;
  srv->now_ms = now_ms;
  srv->waiting = MP_EV_NONE;
  /* RFC 3207 4.2: nothing learned in clear is kept. A part of a line neither. */
  mp_line_dispose(&srv->line);
  mp_srv_forget_session(srv);
  srv->tls = true;
  srv->solo = srv->behind = false;
  mp_srv_enter(srv, ST_START);
  if (!keep_binding(srv, facts))
    mp_srv_nomem(srv);
  return 0;
}

/* ---- XCLIENT ----------------------------------------------------------------------------------------------------- */

void mp_srv_xclient(mp_server *srv, mp_str args)
{
  if (!(srv->opts->extensions & MP_EXT_XCLIENT)) {
    BAD(srv, "502 5.5.1 XCLIENT is not offered");
    return;
  }
  if (args.len == 0) {
    BAD(srv, "501 5.5.4 Syntax: XCLIENT attribute=value...");
    return;
  }
  if (!(srv->trust & MP_TRUST_XCLIENT)) {
    BAD(srv, "550 5.7.0 Insufficient authorization");
    return;
  }
  if (srv->env) {
    BAD(srv, "503 5.5.1 MAIL transaction in progress");
    return;
  }
  mp_srv_note *note = mp_srv_note_new(srv, args.len);
  if (!note)
    mp_srv_nomem(srv);
  else if (mp_xclient_parse(&note->xclient, args, note->text) < 0)
    BAD(srv, "501 5.5.4 Bad XCLIENT attribute");
  else
    mp_srv_push(srv, MP_EV_XCLIENT);
}

/* Another client speaks from here on: what the first one did is not counted against it. */
void mp_srv_answer_xclient(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code >= 300) {
    mp_srv_refuse(srv, reply, MP_EV_XCLIENT);
    return;
  }
  const mp_xclient *x = &srv->note->xclient;
  unsigned given = x->given & ~x->unavailable;
  mp_srv_forget_session(srv);
  bool ok = true;
  if (given & MP_XCLIENT_LOGIN)
    ok = mp_srv_set(&srv->user, x->login);
  if (ok && (given & MP_XCLIENT_HELO))
    ok = mp_srv_set(&srv->helo, x->helo);
  if (!ok) {
    mp_srv_nomem(srv);
    return;
  }
  srv->esmtp = (given & MP_XCLIENT_PROTO) && x->esmtp;
  srv->errors = srv->messages = srv->refusals = 0;
  srv->idle = srv->failures = 0;
  srv->early = srv->overlong = srv->foreign = false;
  srv->start_ms = srv->now_ms;
  mp_srv_enter(srv, ST_CONNECT);
  mp_srv_push(srv, MP_EV_CONNECT);
}
