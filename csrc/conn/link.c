/* The life of a link, and what may be asked of it. */
#include "conn/link_impl.h"

#include "base/error.h"

const mp_tls_facts mp_link_believed = { .version = { "TLSv1.3", 7 }, .cipher = { "TLS_AES_256_GCM_SHA384", 22 } };

void mp_link_enter(mp_link *link, link_state state)
{
  link->state = (unsigned char)state;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void free_link(mp_link *link)
{
  mp_link_source_end(&link->body);
  mp_client_free(link->cl);
  mp_tls_free(link->tls);
  mp_tls_free(link->next_tls);
  mp_mem_free(link->hostname);
  mp_mem_free(link);
}

void mp_link_closed(void *ctx)
{
  mp_link *link = ctx;
  link->stream = NULL;
  bool told = link->state == LINK_GONE;
  mp_link_enter(link, LINK_GONE);
  if (!told && link->calls) { /* the loop is being disposed of */
    const mp_link_calls *calls = link->calls;
    link->calls = NULL;
    calls->closed(link->ctx, MP_E_CANCELLED, "the loop ended");
  }
  mp_timers_clear(&link->worker->loop.timers, &link->timer);
  mp_errand_forget(link->job);
  free_link(link);
}

/* Closes the stream, at once or when what is queued has gone; who asked for the link hears of it unless it was their own wish. */
void mp_link_end(mp_link *link, int rc, const char *why, bool at_once)
{
  if (link->state == LINK_GONE)
    return;
  mp_link_enter(link, LINK_GONE);
  mp_timers_clear(&link->worker->loop.timers, &link->timer);
  mp_errand_forget(link->job);
  link->job = NULL;
  if (at_once)
    mp_stream_close(link->stream);
  else
    mp_stream_finish(link->stream, LINK_LINGER_MS);
  const mp_link_calls *calls = link->calls;
  link->calls = NULL;
  if (calls)
    calls->closed(link->ctx, rc, why);
}

void mp_link_close(mp_link *link)
{
  if (!link)
    return;
  link->calls = NULL;
  mp_link_end(link, 0, "closed", true);
}

void mp_link_leave(mp_link *link)
{
  if (!link)
    return;
  link->calls = NULL;
  if (mp_link_quit(link) == 0)
    return;
  mp_link_end(link, 0, "closed", true);
}

/* Nothing can be read or written any more: the machine says what that means for what is under way. */
void mp_link_lost(mp_link *link, int rc, const char *why)
{
  if (link->state == LINK_GONE)
    return;
  if (link->state == LINK_SECURING && (rc == MP_E_EOF || rc == MP_E_TIMEOUT)) {
    /* However a handshake fails, it is one that failed: who may do without TLS asks for no more than that. */
    why = rc == MP_E_EOF ? "the connection ended within the TLS handshake" : why;
    rc = MP_E_TLS;
  }
  if (link->cl) {
    mp_link_enter(link, LINK_TALK); /* a handshake is over too */
    link->closing = true;
    mp_client_lost(link->cl, rc, why);
    mp_link_run(link);
    return;
  }
  mp_client_result greet = { .op = MP_OP_GREET, .rc = rc };
  link->why = why;
  link->busy = false;
  if (link->calls)
    link->calls->done(link->ctx, &greet);
  mp_link_end(link, rc, why, true);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* What the machine has said is gone for it, and it waits for more of a body, without a deadline since that is our turn. But it is the peer's as long
 * as it does not read. */
static int64_t stall_due(const mp_link *link)
{
  int64_t block = link->opts.machine.block_ms, whole = link->opts.machine.operation_ms;
  int64_t due = link->stalled_ms + block;
  return whole && link->begun_ms + whole < due ? link->begun_ms + whole : due;
}

static int64_t deadline(const mp_link *link)
{
  if (link->state == LINK_GONE)
    return INT64_MAX;
  if (link->state == LINK_SECURING)
    return link->phase_due;
  int64_t due = mp_client_deadline(link->cl);
  return mp_stream_queued(link->stream) && stall_due(link) < due ? stall_due(link) : due;
}

/* The timer moves only when something is due earlier than it: deadlines move later all the time, and it finds out when it fires. It is always set,
 * if only for the end of days: so moving it never wants memory, and no operation is left without its deadline. */
void mp_link_rearm(mp_link *link)
{
  int64_t due = deadline(link);
  if (due < link->timer.due_ms && link->state != LINK_GONE)
    mp_timers_set(&link->worker->loop.timers, &link->timer, due);
}

static void fire(mp_timer *timer, int64_t now_ms)
{
  mp_link *link = MP_CONTAINER(timer, mp_link, timer);
  mp_timers_set(&link->worker->loop.timers, timer, INT64_MAX); /* there is room: it was just taken out */
  if (link->rc < 0) {
    mp_link_lost(link, link->rc, link->why);
    return;
  }
  if (link->state == LINK_SECURING && link->phase_due <= now_ms) {
    mp_link_lost(link, MP_E_TIMEOUT, "the TLS handshake took too long");
    return;
  }
  if (link->state == LINK_TALK) {
    size_t queued = mp_stream_queued(link->stream);
    if (queued < link->queued)
      link->stalled_ms = now_ms;
    link->queued = queued;
    mp_client_tick(link->cl, now_ms);
    if (queued && stall_due(link) <= now_ms) {
      mp_link_lost(link, MP_E_TIMEOUT, "the peer does not read");
      return;
    }
    mp_link_run(link);
  }
  mp_link_rearm(link);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

int mp_link_open(mp_link **out, mp_worker *worker, mp_stream *stream, const mp_link_opts *opts,
                 const mp_link_calls *calls, void *ctx)
{
  mp_link *link = mp_mem_zalloc(sizeof *link);
  char *hostname = mp_mem_dup(opts->machine.hostname.ptr, opts->machine.hostname.len);
  if (!link || !hostname) {
    mp_mem_free(link);
    mp_mem_free(hostname);
    mp_tls_free(opts->tls);
    mp_stream_attach(stream, NULL, NULL);
    mp_stream_close(stream);
    return MP_E_NOMEM;
  }
  link->worker = worker;
  link->stream = stream;
  link->calls = calls;
  link->ctx = ctx;
  link->opts = *opts;
  link->opts.tls = NULL;
  link->hostname = hostname;
  link->opts.machine.hostname = mp_str_of(hostname, opts->machine.hostname.len);
  link->opts.machine.sasl = worker->sasl;
  link->opts.machine.out_blocks = &worker->flight_blocks;
  link->opts.machine.line_blocks = &worker->out_blocks;
  link->opts.handshake_ms = opts->handshake_ms > 0 ? opts->handshake_ms : LINK_HANDSHAKE_MS;
  link->opts.write_most = opts->write_most ? opts->write_most : LINK_WRITE_MOST;
  if (link->opts.write_most < LINK_WRITE_LEAST)
    link->opts.write_most = LINK_WRITE_LEAST;
  link->phase_due = INT64_MAX;
  link->begun_ms = link_now(link);
  link->busy = true;
  mp_timer_init(&link->timer, fire);
  mp_stream_attach(stream, &mp_link_stream_calls, link);
  int rc = 0;
  if (opts->tls) {
    link->tls = opts->tls;
    link->phase_due = link_now(link) + link->opts.handshake_ms;
    mp_link_enter(link, LINK_SECURING);
  } else {
    mp_link_enter(link, LINK_TALK);
    rc = mp_client_new(&link->cl, &link->opts.machine, opts->pretend_tls ? &mp_link_believed : NULL,
                       link_now(link));
  }
  if (rc == 0)
    rc = mp_stream_start(stream);
  if (rc == 0)
    rc = mp_timers_set(&worker->loop.timers, &link->timer, deadline(link));
  if (rc < 0) {
    mp_link_close(link);
    return rc;
  }
  *out = link;
  link->rc = link->tls ? mp_link_first_flight(link) : 0; /* ours to begin */
  if (link->rc < 0)                                      /* told on the next turn: nobody is called in here */
    mp_timers_set(&worker->loop.timers, &link->timer, 0);
  return 0;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

/* After an operation was taken: what it has to say goes out, and events that came of it wait for the next turn, for `done` is never called inside. */
static int begun(mp_link *link, int rc)
{
  if (rc < 0)
    return rc;
  link->busy = true;
  link->begun_ms = link_now(link);
  if (link->running) {
    link->again = true;
    return 0;
  }
  link->running = true; /* a peer that turns out to be gone is told of later */
  mp_link_flush(link);
  link->running = false;
  if (link->state == LINK_TALK)
    mp_timers_set(&link->worker->loop.timers, &link->timer, 0);
  return 0;
}

static int may(const mp_link *link)
{
  if (link->state == LINK_GONE || (link->cl && mp_client_closed(link->cl)))
    return MP_E_CLOSED;
  return link->state == LINK_TALK && !link->busy && !link->tracing ? 0 : MP_E_MISUSE;
}

#define OPERATION(CALL) \
  int rc_ = may(link);  \
  return rc_ < 0 ? rc_ : begun(link, CALL)

int mp_link_hello(mp_link *link)
{
  OPERATION(mp_client_hello(link->cl, link_now(link)));
}

int mp_link_auth(mp_link *link, const mp_client_login *login)
{
  OPERATION(mp_client_auth(link->cl, login, link_now(link)));
}

int mp_link_mail(mp_link *link, mp_transaction *tx)
{
  OPERATION(mp_client_mail(link->cl, tx, link_now(link)));
}

int mp_link_rcpt(mp_link *link, mp_transaction *tx, size_t index)
{
  OPERATION(mp_client_rcpt(link->cl, tx, index, link_now(link)));
}

int mp_link_command(mp_link *link, mp_str line)
{
  OPERATION(mp_client_command(link->cl, line, link_now(link)));
}

int mp_link_rset(mp_link *link)
{
  OPERATION(mp_client_rset(link->cl, link_now(link)));
}

int mp_link_noop(mp_link *link)
{
  OPERATION(mp_client_noop(link->cl, link_now(link)));
}

int mp_link_vrfy(mp_link *link, mp_str what)
{
  OPERATION(mp_client_vrfy(link->cl, what, link_now(link)));
}

int mp_link_quit(mp_link *link)
{
  OPERATION(mp_client_quit(link->cl, link_now(link)));
}

int mp_link_starttls(mp_link *link, mp_tls *tls)
{
  int rc = may(link);
  if (rc == 0 && link->tls)
    rc = MP_E_MISUSE;
  if (rc == 0)
    rc = mp_client_starttls(link->cl, link_now(link));
  if (rc < 0) {
    mp_tls_free(tls);
    return rc;
  }
  link->next_tls = tls;
  return begun(link, 0);
}

/* What is known of a received message: its length as it goes out, which is not what its sender said, and whether it is 8-bit. */
static void describe(const mp_link *link, const mp_message *msg, mp_transaction *tx)
{
  mp_mail_params *p = &tx->params;
  p->given |= MP_PARAM_SIZE;
  p->size = link->body.rest.len + (mp_sink_size(msg->sink) - mp_message_body_at(msg));
  if ((msg->facts & MP_DATA_8BIT) && (!(p->given & MP_PARAM_BODY) || p->body == MP_BODY_7BIT)) {
    p->given |= MP_PARAM_BODY;
    p->body = MP_BODY_8BIT;
  }
}

int mp_link_send(mp_link *link, mp_transaction *tx, const mp_link_source *from, bool whole)
{
  int rc = may(link);
  if (rc < 0)
    return rc;
  rc = mp_link_source_begin(link, from);
  if (rc == 0 && from->message)
    describe(link, from->message, tx);
  if (rc == 0)
    rc = whole ? mp_client_send(link->cl, tx, link_now(link)) : mp_client_data(link->cl, tx, link_now(link));
  if (rc < 0) {
    mp_link_source_end(&link->body);
    return rc;
  }
  return begun(link, 0);
}

/* ---- facts ------------------------------------------------------------------------------------------------------- */

bool mp_link_idle(const mp_link *link)
{
  return may(link) == 0;
}

mp_client *mp_link_machine(const mp_link *link)
{
  return link->cl;
}

mp_tls *mp_link_tls(const mp_link *link)
{
  return link->tls && mp_tls_ready(link->tls) ? link->tls : NULL;
}

void mp_link_peer(const mp_link *link, mp_stream_peer *peer)
{
  if (link->stream)
    mp_stream_peer_get(link->stream, peer);
  else
    *peer = (mp_stream_peer){ 0 };
}

const char *mp_link_why(const mp_link *link)
{
  return link->cl ? mp_client_why(link->cl) : link->why ? link->why : "";
}
