/* The options' defaults, how long each step may take, and facts. */
#include "smtp/client_impl.h"

/* ---- options ------------------------------------------------------------------------------------------------------ */

void mp_client_opts_init(mp_client_opts *opts)
{
  const int64_t minute = 60 * 1000;
  *opts = (mp_client_opts){
    .hostname = MP_STR("localhost"),
    .chunk_from = 64 * 1024,
    .banner_ms = 5 * minute,
    .hello_ms = 5 * minute,
    .auth_ms = 5 * minute,
    .mail_ms = 5 * minute,
    .rcpt_ms = 5 * minute,
    .data_ms = 2 * minute,
    .block_ms = 3 * minute,
    .final_ms = 10 * minute,
    .quit_ms = 10 * 1000,
    .operation_ms = 60 * minute,
  };
}

const char *mp_client_opts_check(const mp_client_opts *opts)
{
  if (!mp_helo_check(opts->hostname, false))
    return "hostname is neither a domain nor an address literal";
  const int64_t each[] = { opts->banner_ms, opts->hello_ms, opts->auth_ms,  opts->mail_ms, opts->rcpt_ms,
                           opts->data_ms,   opts->block_ms, opts->final_ms, opts->quit_ms };
  for (size_t i = 0; i < sizeof each / sizeof *each; i++)
    if (each[i] <= 0)
      return "a deadline is not above 0";
  if (opts->flight_most > MP_CL_HIGH_WATER)
    return "flight_most is above 64 KB";
  return opts->operation_ms < 0 ? "operation_ms is below 0" : NULL;
}

/* ---- time --------------------------------------------------------------------------------------------------------- */

static int64_t patience(const mp_client *cl)
{
  const mp_client_opts *o = cl->opts;
  switch ((enum mp_cl_state)cl->state) {
  case CL_BANNER:
    return o->banner_ms;
  case CL_EHLO:
  case CL_HELO:
  case CL_STARTTLS:
    return o->hello_ms;
  case CL_AUTH:
    return o->auth_ms;
  case CL_LINE:
    return o->mail_ms;
  case CL_QUIT:
    return o->quit_ms;
  case CL_ENVELOPE:
    if (cl->said && cl->reply == STEP_DATA)
      return cl->out.len ? o->block_ms : o->final_ms;
    return cl->reply == STEP_RCPT ? o->rcpt_ms : cl->reply == STEP_DATA ? o->data_ms : o->mail_ms;
  case CL_BODY:
    return cl->out.len ? o->block_ms : mp_client_wants_body(cl) ? INT64_MAX : o->final_ms;
  case CL_FINAL:
    return cl->out.len ? o->block_ms : o->final_ms;
  case CL_IDLE:
  case CL_HANDSHAKE:
  case CL_JOB:
  case CL_CLOSED:
    break;
  }
  return INT64_MAX;
}

int64_t mp_client_deadline(const mp_client *cl)
{
  int64_t wait = patience(cl);
  if (wait == INT64_MAX || cl->pending)
    return INT64_MAX;
  int64_t due = cl->since_ms + wait;
  if (cl->opts->operation_ms && cl->start_ms + cl->opts->operation_ms < due)
    due = cl->start_ms + cl->opts->operation_ms;
  return due;
}

void mp_client_tick(mp_client *cl, int64_t now_ms)
{
  if (now_ms < mp_client_deadline(cl))
    return;
  cl->now_ms = now_ms;
  mp_cl_fail(cl, MP_E_TIMEOUT, cl->out.len ? "peer does not read" : "peer was silent for too long");
}

/* ---- facts -------------------------------------------------------------------------------------------------------- */

const char *mp_client_why(const mp_client *cl)
{
  return cl->why ? cl->why : "";
}

mp_client_op mp_client_busy(const mp_client *cl)
{
  return (mp_client_op)cl->op;
}

bool mp_client_closed(const mp_client *cl)
{
  return cl->state == CL_CLOSED;
}

bool mp_client_spent(const mp_client *cl)
{
  return cl->state == CL_CLOSED || (cl->caps.mail_max && cl->mails >= cl->caps.mail_max);
}

bool mp_client_in_body(const mp_client *cl)
{
  if (cl->ahead)
    return cl->tx && cl->tx->octets && cl->out.len;
  return cl->state == CL_BODY || (cl->state == CL_FINAL && cl->out.len);
}

bool mp_client_tls(const mp_client *cl)
{
  return cl->tls;
}

bool mp_client_esmtp(const mp_client *cl)
{
  return cl->esmtp;
}

int mp_client_mech(const mp_client *cl)
{
  return cl->state == CL_AUTH || cl->state == CL_JOB ? -1 : cl->mech;
}

const mp_client_caps *mp_client_caps_of(const mp_client *cl)
{
  return &cl->caps;
}
