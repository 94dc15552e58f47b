/* The driver's answers: which one fits the event that waits, and the part that it goes to. */
#include "smtp/server_impl.h"

/* A class that makes no sense in reply to the event. 354 alone is a 3xx that a driver may say, and it alone accepts DATA. */
static bool misfit(mp_event_kind waiting, const mp_reply *reply)
{
  int class = reply->code / 100;
  if (waiting == MP_EV_DATA)
    return class == 2 || (class == 3 && reply->code != 354);
  return class == 3;
}

static void answer_connect(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code >= 300) {
    mp_srv_put(srv, reply, MP_EV_CONNECT);
    mp_srv_finish(srv, "refused by policy");
    return;
  }
  if (mp_srv_no_banner(srv))
    return;
  int64_t due = srv->start_ms + (int64_t)srv->opts->greet_delay_ms;
  /* Held back for a stranger: behind XCLIENT somebody we trust speaks. */
  if (due > srv->now_ms && !(srv->trust & MP_TRUST_XCLIENT)) {
    if (reply && !mp_srv_keep(srv, reply)) {
      mp_srv_nomem(srv);
      return;
    }
    mp_srv_enter(srv, ST_GREET);
    srv->begun_ms = due;
    return;
  }
  mp_srv_banner(srv, reply ? reply->text : MP_STR_NULL);
}

int mp_server_reply(mp_server *srv, const mp_reply *reply, int64_t now_ms)
{
  mp_event_kind waiting = (mp_event_kind)srv->waiting;
  switch (waiting) {
  case MP_EV_NONE:
  case MP_EV_STARTTLS:
  case MP_EV_CREDENTIALS:
  case MP_EV_JOB:
    return MP_E_MISUSE;
  default:
    break;
  }
  if (reply && (mp_reply_check(reply) || misfit(waiting, reply)))
    return MP_E_INVALID;
  srv->now_ms = now_ms;
  srv->waiting = MP_EV_NONE;
  switch (waiting) {
  case MP_EV_CONNECT:
    answer_connect(srv, reply);
    break;
  case MP_EV_HELO:
    mp_srv_answer_helo(srv, reply);
    break;
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    mp_srv_answer_auth(srv, reply);
    break;
  case MP_EV_XCLIENT:
    mp_srv_answer_xclient(srv, reply);
    break;
  case MP_EV_MAIL:
    mp_srv_answer_mail(srv, reply);
    break;
  case MP_EV_RCPT:
    mp_srv_answer_rcpt(srv, reply);
    break;
  case MP_EV_DATA:
    mp_srv_answer_data(srv, reply);
    break;
  default:
    mp_srv_answer_message(srv, reply);
    break;
  }
  return 0;
}

int mp_server_credentials(mp_server *srv, const mp_credentials *credentials, int64_t now_ms)
{
  if (srv->waiting != MP_EV_CREDENTIALS)
    return MP_E_MISUSE;
  srv->now_ms = now_ms;
  srv->waiting = MP_EV_NONE;
  mp_srv_auth_credentials(srv, credentials, NULL);
  return 0;
}

int mp_server_credentials_fail(mp_server *srv, const mp_reply *reply, int64_t now_ms)
{
  if (srv->waiting != MP_EV_CREDENTIALS)
    return MP_E_MISUSE;
  if (reply && (mp_reply_check(reply) || reply->code < 400))
    return MP_E_INVALID;
  srv->now_ms = now_ms;
  srv->waiting = MP_EV_NONE;
  mp_srv_auth_credentials(srv, NULL, reply);
  return 0;
}

int mp_server_worked(mp_server *srv, mp_job *job, int64_t now_ms)
{
  if (srv->waiting != MP_EV_JOB)
    return MP_E_MISUSE;
  srv->now_ms = now_ms;
  return mp_srv_auth_worked(srv, job);
}
