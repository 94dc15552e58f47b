/* What may be asked of a server machine at any time. */
#include "smtp/server_impl.h"

static const char *const state_names[] = {
#define STATE_NAME(name) #name,
  MP_SRV_STATE_MAP(STATE_NAME)
#undef STATE_NAME
};

const char *mp_server_state(const mp_server *srv)
{
  return state_names[srv->state];
}

const char *mp_event_name(mp_event_kind kind)
{
  static const char *const names[] = { "none",
#define EVENT_NAME(name, text) text,
                                       MP_EVENT_MAP(EVENT_NAME)
#undef EVENT_NAME
  };
  return (unsigned)kind < MP_EV_COUNT ? names[kind] : "unknown";
}

void mp_server_trust(mp_server *srv, unsigned trust)
{
  srv->trust = trust;
}

bool mp_server_idle(const mp_server *srv)
{
  return (srv->state == ST_START || srv->state == ST_READY) && !srv->waiting && !srv->queued &&
         srv->line.held.len == 0 && !srv->line.skipping;
}

bool mp_server_waiting(const mp_server *srv)
{
  return srv->waiting != MP_EV_NONE;
}

bool mp_server_in_body(const mp_server *srv)
{
  return srv->state == ST_DATA || srv->state == ST_CHUNK || srv->state == ST_BDAT;
}

mp_envelope *mp_server_envelope(const mp_server *srv)
{
  return srv->env;
}

mp_str mp_server_helo(const mp_server *srv)
{
  return srv->helo;
}

mp_str mp_server_user(const mp_server *srv)
{
  return srv->user;
}

int mp_server_mech(const mp_server *srv)
{
  return srv->user.ptr ? srv->mech : -1;
}

bool mp_server_tls(const mp_server *srv)
{
  return srv->tls;
}

bool mp_server_esmtp(const mp_server *srv)
{
  return srv->esmtp;
}

/* RFC 3848, RFC 6531 4.3: ESMTP and its suffixes mean that EHLO was said; LMTP always. */
const char *mp_server_with(const mp_server *srv)
{
  static const char *const names[4][4] = {
    { "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA" },
    { "UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA" },
    { "LMTP", "LMTPA", "LMTPS", "LMTPSA" },
    { "UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA" },
  };
  bool lmtp = srv->opts->protocol == MP_PROTOCOL_LMTP;
  bool utf8 = srv->env && (srv->env->params.given & MP_PARAM_SMTPUTF8);
  if (!srv->esmtp && !lmtp)
    return "SMTP";
  return names[lmtp * 2 + utf8][srv->tls * 2 + (srv->user.ptr != NULL)];
}

unsigned mp_server_errors(const mp_server *srv)
{
  return srv->errors;
}

const mp_tally *mp_server_tally(const mp_server *srv)
{
  return &srv->tally;
}

bool mp_server_secrets(mp_server *srv)
{
  bool fed = srv->secret;
  srv->secret = false;
  return fed;
}

size_t mp_server_held(const mp_server *srv)
{
  return srv->out.cap + srv->line.held.cap + (srv->env ? srv->env->arena.total : 0);
}

bool mp_server_early_talker(const mp_server *srv)
{
  return srv->early;
}
