/* What the server machine says: its own replies, the driver's, and what closes a session with 421. */
#include "smtp/server_impl.h"

/* The reply that could not be written is lost, so the session is too. */
static void broken(mp_server *srv)
{
  mp_srv_finish(srv, "out of memory for a reply");
}

static bool enhanced(const mp_server *srv)
{
  return srv->announced & MP_EXT_ENHANCEDSTATUSCODES;
}

void mp_srv_said(mp_server *srv)
{
  srv->since_ms = srv->now_ms;
  if (srv->ends_group)
    srv->solo = true;
}

void mp_srv_say(mp_server *srv, mp_str line)
{
  char *out = mp_buf_room(&srv->out, line.len + 2);
  if (!out) {
    broken(srv);
    return;
  }
  size_t head = 0, from = 0;
  if (!enhanced(srv)) {
    head = 4;
    from = (size_t)mp_str_find(line, ' ', 4) + 1; /* behind "250 2.1.0" */
    memcpy(out, line.ptr, head);
  }
  memcpy(out + head, line.ptr + from, line.len - from);
  size_t len = head + line.len - from;
  out[len++] = '\r';
  out[len++] = '\n';
  mp_buf_grow(&srv->out, len);
  mp_srv_said(srv);
}

void mp_srv_put(mp_server *srv, const mp_reply *reply, mp_event_kind event)
{
  mp_reply full = *reply;
  unsigned short class = (unsigned short)(reply->code / 100);
  if (full.enhanced[0] == 0 && (class == 2 || class == 4 || class == 5)) {
    /* RFC 2034 4: where it was announced every reply carries one. */
    full.enhanced[0] = class;
    full.enhanced[1] = class == 2 && (event == MP_EV_MAIL || event == MP_EV_RCPT) ? 1 : 0;
    full.enhanced[2] = class == 2 && event == MP_EV_RCPT ? 5 : 0;
  }
  /* RFC 2034 4 leaves out the greeting and the replies to HELO and EHLO; RFC 6531 3.7.4.2 wants a client that said SMTPUTF8. */
  bool codes = enhanced(srv) && event != MP_EV_CONNECT && event != MP_EV_HELO;
  bool utf8 = srv->env && (srv->env->params.given & MP_PARAM_SMTPUTF8);
  int rc = mp_reply_write(&srv->out, &full, codes, utf8);
  if (rc == MP_E_FULL) { /* what it says counts more than how */
    full.text = MP_STR_NULL;
    rc = mp_reply_write(&srv->out, &full, codes, utf8);
  }
  if (rc < 0)
    broken(srv);
  else
    mp_srv_said(srv);
}

void mp_srv_refuse(mp_server *srv, const mp_reply *reply, mp_event_kind event)
{
  mp_srv_put(srv, reply, event);
  if (reply->code == 421 || reply->code == 521)
    mp_srv_finish(srv, "refused by policy");
}

void mp_srv_421(mp_server *srv, const char *code, const char *text, const char *why)
{
  mp_str host = srv->opts->hostname;
  if (srv->state == ST_CLOSED)
    return;
  /* RFC 5321 4.2.3: the host name behind 421. Not being able to say it changes nothing. */
  (void)mp_buf_fmt(&srv->out, "421 %s%s%.*s %s\r\n", enhanced(srv) ? code : "", enhanced(srv) ? " " : "",
                   (int)host.len, host.ptr, text);
  mp_srv_finish(srv, why);
}

bool mp_srv_counted(mp_server *srv)
{
  srv->errors++;
  srv->tally.bad++;
  srv->tally.bad_code = 0;
  if (srv->opts->errors == 0 || srv->errors < srv->opts->errors)
    return true;
  mp_srv_421(srv, "4.7.0", "Too many errors", "too many errors");
  return false;
}

void mp_srv_bad(mp_server *srv, mp_str line)
{
  bool on = mp_srv_counted(srv);
  srv->tally.bad_code =
      (unsigned short)((line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + line.ptr[2] - '0');
  srv->tally.bad_text = line.ptr + mp_str_find(line, ' ', 4) + 1; /* behind "501 5.5.4" */
  if (on)
    mp_srv_say(srv, line);
}

bool mp_srv_early(mp_server *srv)
{
  srv->early = true;
  if (srv->opts->tolerate_early)
    return true;
  SAY(srv, "554 5.5.1 Talking out of turn");
  mp_srv_finish(srv, "talked out of turn");
  return false;
}
