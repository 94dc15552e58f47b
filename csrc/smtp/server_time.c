/* Deadlines (RFC 5321 4.5.3.2): computed when asked for, so that an octet that arrives costs no timer. */
#include "smtp/server_impl.h"

enum { RATE_GRACE_MS = 30 * 1000 }; /* how long a body may be slow before it is called so */

static int64_t earlier(int64_t a, int64_t b)
{
  return a < b ? a : b;
}

/* Until when the octets received so far are enough: `data_rate` a second on average, from the 30th second on. */
static int64_t rate_deadline(const mp_server *srv)
{
  unsigned rate = srv->opts->data_rate;
  if (rate == 0)
    return INT64_MAX;
  uint64_t ms = srv->received / rate * 1000 + srv->received % rate * 1000 / rate;
  if (ms < RATE_GRACE_MS)
    ms = RATE_GRACE_MS;
  return ms > INT32_MAX ? INT64_MAX : srv->body_ms + (int64_t)ms;
}

static int64_t body_deadline(const mp_server *srv)
{
  return earlier(srv->since_ms + srv->opts->data_ms, rate_deadline(srv));
}

static bool partial(const mp_server *srv)
{
  return srv->line.held.len > 0 || srv->line.skipping;
}

/* The whole session between transactions; inside one, outside its body, it may not last longer than a whole session might. */
static int64_t session_deadline(const mp_server *srv)
{
  if (srv->opts->session_ms == 0)
    return INT64_MAX;
  int64_t from = srv->env && srv->begun_ms > srv->start_ms ? srv->begun_ms : srv->start_ms;
  return from + srv->opts->session_ms;
}

static int64_t command_deadline(const mp_server *srv)
{
  int64_t due = earlier(srv->since_ms + srv->opts->command_ms, session_deadline(srv));
  return partial(srv) ? earlier(due, srv->line_ms + srv->opts->line_ms) : due;
}

int64_t mp_server_deadline(const mp_server *srv)
{
  if (srv->waiting || srv->queued)
    return INT64_MAX;
  switch (srv->state) {
  case ST_GREET:
  case ST_HELD:
    return srv->begun_ms;
  case ST_DATA:
  case ST_CHUNK:
    return body_deadline(srv);
  case ST_START:
  case ST_READY:
  case ST_MAIL:
  case ST_RCPT:
  case ST_BDAT:
  case ST_AUTH:
    return command_deadline(srv);
  default:
    return INT64_MAX;
  }
}

void mp_server_tick(mp_server *srv, int64_t now_ms)
{
  if (now_ms < mp_server_deadline(srv))
    return;
  srv->now_ms = now_ms;
  switch (srv->state) {
  case ST_GREET:
    mp_srv_banner(srv, srv->kept ? srv->kept->reply.text : MP_STR_NULL);
    mp_srv_forget(srv);
    break;
  case ST_HELD:
    mp_srv_auth_release(srv);
    break;
  case ST_DATA:
  case ST_CHUNK:
    if (now_ms >= rate_deadline(srv))
      mp_srv_421(srv, "4.4.2", "Message arrives too slowly", "message too slow");
    else
      mp_srv_421(srv, "4.4.2", "Timeout in the message", "timeout in the message");
    break;
  default:
    if (now_ms >= session_deadline(srv))
      mp_srv_421(srv, "4.4.2", "Session too long", "session too long");
    else
      mp_srv_421(srv, "4.4.2", "Timeout", "timeout");
    break;
  }
}
