/* States. enter() is the only writer.
 *   SECURING ---> TALK <---> SECURING ... ---> GONE
 * SECURING   a handshake is under way: implicit TLS (no machine yet) or behind STARTTLS
 * TALK       the machine talks, over TLS or not
 * GONE       closed by us or by the machine; the struct waits for closed() of the stream
 * run() is the one place where the machine moves; whoever is called out of it may call in again, and is then served by the same run(). */
#include "conn/link.h"

#include "base/error.h"

#include <stdio.h>

enum {
  HANDSHAKE_MS = 30000,
  WRITE_MOST = 1 << 20,
  LINGER_MS = 2000,
  PLAIN = 16384,
  PIECE = 65536,
  PUSHED_MOST = 16 << 20
};

typedef enum link_state { LINK_SECURING, LINK_TALK, LINK_GONE } link_state;

typedef struct source {
  bool active, pushed, asked, last;
  mp_str rest;     /* of the piece that is being taken */
  mp_message *msg; /* behind the head */
  uint64_t at;     /* in its sink */
  mp_buf head;     /* of the message; or a piece that was pushed and did not fit */
  char *scratch;
} source;

typedef struct link_job {
  mp_work work;
  mp_job *job;
  mp_link *link; /* NULL: it is gone */
} link_job;

struct mp_link {
  mp_worker *worker;
  mp_stream *stream; /* NULL once closed() came */
  mp_client *cl;
  mp_tls *tls;
  mp_tls *next_tls; /* to be begun when the machine says so */
  link_job *job;
  const mp_link_calls *calls; /* NULL: nobody is called any more */
  void *ctx;
  mp_link_opts opts;
  char *hostname;
  source body;
  mp_timer timer;
  int64_t phase_due;
  unsigned char state; /* link_state */
  bool running, again, reading_plain, secure_now, closing;
  int rc;
  const char *why;
};

static int64_t now_of(const mp_link *link)
{
  return mp_loop_now(&link->worker->loop);
}

static void enter(mp_link *link, link_state state)
{
  link->state = (unsigned char)state;
}

static void run(mp_link *link);
static void rearm(mp_link *link);

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void source_end(source *body)
{
  if (body->msg)
    mp_message_unref(body->msg);
  mp_buf_dispose(&body->head);
  mp_mem_free(body->scratch);
  *body = (source){ 0 };
}

static void free_link(mp_link *link)
{
  source_end(&link->body);
  mp_client_free(link->cl);
  mp_tls_free(link->tls);
  mp_tls_free(link->next_tls);
  mp_mem_free(link->hostname);
  mp_mem_free(link);
}

static void on_closed(void *ctx)
{
  mp_link *link = ctx;
  link->stream = NULL;
  if (link->state != LINK_GONE && link->calls) { /* the loop is being disposed of */
    const mp_link_calls *calls = link->calls;
    link->calls = NULL;
    calls->closed(link->ctx, MP_E_CANCELLED, "the loop ended");
  }
  mp_timers_clear(&link->worker->loop.timers, &link->timer);
  if (link->job)
    link->job->link = NULL;
  free_link(link);
}

/* Closes the stream, at once or when what is queued has gone; who asked for the link hears of it unless it was their own wish. */
static void end(mp_link *link, int rc, const char *why, bool at_once)
{
  if (link->state == LINK_GONE)
    return;
  enter(link, LINK_GONE);
  mp_timers_clear(&link->worker->loop.timers, &link->timer);
  if (link->job)
    link->job->link = NULL;
  link->job = NULL;
  if (at_once)
    mp_stream_close(link->stream);
  else
    mp_stream_finish(link->stream, LINGER_MS);
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
  end(link, 0, "closed", true);
}

void mp_link_leave(mp_link *link)
{
  if (!link)
    return;
  link->calls = NULL;
  if (link->state == LINK_TALK && mp_client_busy(link->cl) == MP_OP_NONE && mp_link_quit(link) == 0)
    return;
  end(link, 0, "closed", true);
}

/* Nothing can be read or written any more: the machine says what that means for what is under way. */
static void lost(mp_link *link, int rc, const char *why)
{
  if (link->state == LINK_GONE)
    return;
  if (link->cl) {
    enter(link, LINK_TALK); /* a handshake is over too */
    link->closing = true;
    mp_client_lost(link->cl, rc, why);
    run(link);
    return;
  }
  mp_client_result greet = { .op = MP_OP_GREET, .rc = rc };
  link->rc = rc;
  link->why = why;
  if (link->calls)
    link->calls->done(link->ctx, &greet);
  end(link, rc, why, true);
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void trace_sent(mp_link *link, mp_str out)
{
  if (!link->opts.trace || !link->calls || !link->calls->trace)
    return;
  if (mp_client_in_body(link->cl)) {
    link->calls->trace(link->ctx, true, MP_STR_NULL, out.len);
    return;
  }
  mp_str secret = mp_client_secret(link->cl);
  if (!secret.len) {
    link->calls->trace(link->ctx, true, out, 0);
    return;
  }
  size_t before = (size_t)(secret.ptr - out.ptr);
  static const mp_str stars = { "***", 3 };
  link->calls->trace(link->ctx, true, mp_str_sub(out, 0, before), 0);
  if (link->calls)
    link->calls->trace(link->ctx, true, stars, 0);
  if (link->calls)
    link->calls->trace(link->ctx, true, mp_str_sub(out, before + secret.len, out.len), 0);
}

static bool send_cipher(mp_link *link)
{
  mp_str out = mp_tls_output(link->tls);
  if (!out.len)
    return true;
  int rc = mp_stream_write(link->stream, out.ptr, out.len, link->opts.write_most * 2);
  mp_tls_sent(link->tls, out.len);
  if (rc < 0)
    lost(link, rc == MP_E_NOMEM ? rc : MP_E_EOF, "the peer closed the connection");
  return rc == 0;
}

/* Writes what the machine has to say as long as the peer keeps up. False when nothing more can be written now, or ever. */
static bool flush(mp_link *link)
{
  while (link->state == LINK_TALK && !link->closing) {
    mp_str out = mp_client_output(link->cl);
    if (!out.len)
      return true;
    if (mp_stream_queued(link->stream))
      return false;
    trace_sent(link, out);
    if (link->state != LINK_TALK)
      return false;
    int rc = link->tls ? mp_tls_write(link->tls, out.ptr, out.len)
                       : mp_stream_write(link->stream, out.ptr, out.len, link->opts.write_most);
    if (rc < 0) {
      lost(link, rc == MP_E_NOMEM || rc == MP_E_TLS ? rc : MP_E_EOF,
           rc == MP_E_TLS ? mp_tls_why(link->tls) : "the peer closed the connection");
      return false;
    }
    mp_client_sent(link->cl, out.len, now_of(link));
    if (link->tls && !send_cipher(link))
      return false;
  }
  return false;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

/* Sees to it that `rest` holds octets or `last` is set. 1; 0: somebody has to give them; or an error. */
static int next_piece(mp_link *link)
{
  source *body = &link->body;
  if (body->rest.len || body->last)
    return 1;
  if (body->pushed) {
    if (!body->asked) {
      body->asked = true;
      mp_buf_dispose(&body->head);
      if (link->calls)
        link->calls->want(link->ctx);
    }
    return body->rest.len || body->last ? 1 : 0;
  }
  if (!body->msg) {
    body->last = true;
    return 1;
  }
  int rc = 0;
  body->rest = mp_sink_read(body->msg->sink, body->at, body->scratch, PIECE, &rc);
  body->at += body->rest.len;
  body->last = body->at >= mp_sink_size(body->msg->sink);
  return rc < 0 ? rc : 1;
}

/* Gives the machine of the body what it has room for. True when something moved. */
static bool feed_body(mp_link *link)
{
  bool moved = false;
  while (link->state == LINK_TALK && link->body.active && mp_client_wants_body(link->cl) &&
         !mp_stream_queued(link->stream)) {
    int rc = next_piece(link);
    if (link->state != LINK_TALK || rc == 0)
      return moved;
    if (rc < 0) {
      mp_client_body_failed(link->cl, "the message cannot be read");
      return true;
    }
    source *body = &link->body;
    size_t taken = 0;
    rc = mp_client_body(link->cl, body->rest.ptr, body->rest.len, body->last, &taken, now_of(link));
    body->rest = mp_str_sub(body->rest, taken, body->rest.len);
    moved = true;
    if (rc < 0)
      return true;
    if (!flush(link))
      return true;
  }
  return moved;
}

int mp_link_body(mp_link *link, mp_str octets, bool last)
{
  source *body = &link->body;
  if (link->state != LINK_TALK || !body->active || !body->pushed || !body->asked || body->rest.len || body->last)
    return MP_E_MISUSE;
  body->asked = false;
  mp_buf_init(&body->head, PUSHED_MOST, NULL);
  if (octets.len > PUSHED_MOST || mp_buf_add(&body->head, octets.ptr, octets.len) < 0)
    return MP_E_NOMEM;
  body->rest = mp_buf_view(&body->head);
  body->last = last;
  run(link);
  return 0;
}

void mp_link_body_failed(mp_link *link, const char *why)
{
  if (link->state != LINK_TALK || !link->body.active)
    return;
  mp_client_body_failed(link->cl, why);
  run(link);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void job_run(mp_work *work)
{
  link_job *box = MP_CONTAINER(work, link_job, work);
  box->job->run(box->job);
}

static void job_done(mp_work *work)
{
  link_job *box = MP_CONTAINER(work, link_job, work);
  mp_link *link = box->link;
  mp_job *job = box->job;
  mp_mem_free(box);
  if (!link) {
    job->free(job);
    return;
  }
  link->job = NULL;
  if (mp_client_worked(link->cl, job, now_of(link)) < 0)
    job->free(job);
  run(link);
}

static void start_job(mp_link *link, mp_job *job)
{
  link_job *box = mp_mem_alloc(sizeof *box);
  if (box)
    *box = (link_job){ .work = { .work = job_run, .done = job_done }, .job = job, .link = link };
  if (!box || mp_loop_work(&link->worker->loop, &box->work) < 0) {
    mp_mem_free(box);
    job->free(job);
    mp_client_lost(link->cl, MP_E_NOMEM, "a proof could not be computed");
    return;
  }
  link->job = box;
}

static void event(mp_link *link, const mp_client_event *ev)
{
  switch (ev->kind) {
  case MP_CE_STARTTLS:
    link->secure_now = true; /* once everything that was read has been shown to the machine */
    break;
  case MP_CE_JOB:
    start_job(link, ev->job.job);
    break;
  case MP_CE_BODY:
  case MP_CE_NONE:
    break;
  case MP_CE_DONE:
    if (ev->done.op == MP_OP_SEND || ev->done.op == MP_OP_DATA)
      source_end(&link->body);
    if (ev->done.op == MP_OP_STARTTLS && link->next_tls) {
      mp_tls_free(link->next_tls);
      link->next_tls = NULL;
    }
    link->rc = ev->done.rc;
    if (link->calls)
      link->calls->done(link->ctx, &ev->done);
    break;
  case MP_CE_CLOSE:
    if (!link->closing)
      flush(link);
    end(link, ev->close.rc, ev->close.why, link->closing || ev->close.rc == 0);
    break;
  }
}

static bool take_events(mp_link *link)
{
  bool any = false;
  mp_client_event ev;
  while (link->state == LINK_TALK && mp_client_next(link->cl, &ev)) {
    any = true;
    event(link, &ev);
  }
  return any;
}

/* Moves what can be moved. Whoever calls in meanwhile only says that there is more to do. */
static void run(mp_link *link)
{
  link->again = true;
  if (link->running)
    return;
  link->running = true;
  while (link->again && link->state == LINK_TALK) {
    link->again = false;
    if (take_events(link) || feed_body(link))
      link->again = true;
    if (link->state == LINK_TALK)
      flush(link);
  }
  link->running = false;
  rearm(link);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static void secure(mp_link *link);

static void take_plain(mp_link *link, const char *in, size_t len)
{
  if (link->opts.trace && link->calls && link->calls->trace && len)
    link->calls->trace(link->ctx, false, mp_str_of(in, len), 0);
  link->reading_plain = true;
  while (len && link->state == LINK_TALK) {
    mp_ssize n = mp_client_feed(link->cl, in, len, now_of(link));
    if (n > 0) {
      in += n;
      len -= (size_t)n;
    }
    bool had = link->running;
    link->running = true; /* operations that are asked for now go out when these octets have been heard */
    bool any = take_events(link);
    link->running = had;
    if (n < 0 || (n == 0 && !any))
      break;
  }
  link->reading_plain = false;
  if (link->secure_now && link->state == LINK_TALK) {
    link->secure_now = false;
    secure(link);
  }
  if (link->state == LINK_TALK)
    run(link);
}

static void handshake_done(mp_link *link)
{
  mp_tls_info info;
  mp_tls_info_get(link->tls, &info);
  mp_tls_facts facts = { info.version, info.cipher, info.cb_unique, info.cb_exporter };
  link->phase_due = INT64_MAX;
  if (link->cl) {
    enter(link, LINK_TALK);
    if (mp_client_tls_done(link->cl, &facts, now_of(link)) < 0)
      mp_client_lost(link->cl, MP_E_NOMEM, "out of memory");
  } else if (mp_client_new(&link->cl, &link->opts.machine, &facts, now_of(link)) < 0) {
    lost(link, MP_E_NOMEM, "out of memory");
    return;
  } else {
    enter(link, LINK_TALK);
  }
  run(link);
}

/* Goes on with the handshake; true when it is done. */
static bool shake(mp_link *link)
{
  int rc = mp_tls_handshake(link->tls);
  if (rc < 0) {
    const char *why = mp_tls_why(link->tls); /* the session lives as long as the link */
    mp_str alert = mp_tls_output(link->tls);
    if (alert.len)
      mp_stream_write(link->stream, alert.ptr, alert.len, link->opts.write_most);
    mp_tls_sent(link->tls, alert.len);
    lost(link, rc, why);
    return false;
  }
  if (!send_cipher(link))
    return false;
  if (rc == 1)
    handshake_done(link);
  return rc == 1 && link->state == LINK_TALK;
}

static void decrypt(mp_link *link, const char *in, size_t len)
{
  mp_tls_feed(link->tls, in, len);
  if (!mp_tls_ready(link->tls) && !shake(link))
    return;
  char plain[PLAIN]; /* of its own: what is called out of here may come to another link */
  while (link->state == LINK_TALK) {
    mp_ssize n = mp_tls_read(link->tls, plain, sizeof plain);
    if (n == 0) {
      send_cipher(link);
      return;
    }
    if (n < 0) {
      lost(link, n == MP_E_EOF ? MP_E_EOF : (int)n,
           n == MP_E_EOF ? "the peer closed the connection" : mp_tls_why(link->tls));
      return;
    }
    take_plain(link, plain, (size_t)n);
  }
}

static void secure(mp_link *link)
{
  link->tls = link->next_tls;
  link->next_tls = NULL;
  link->phase_due = now_of(link) + link->opts.handshake_ms;
  enter(link, LINK_SECURING);
  shake(link);
  rearm(link);
}

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  mp_link *link = ctx;
  if (link->state == LINK_GONE)
    return;
  if (len <= 0) {
    lost(link, MP_E_EOF, len == 0 ? "the peer closed the connection" : "the connection was lost");
    return;
  }
  if (link->tls)
    decrypt(link, in, (size_t)len);
  else
    take_plain(link, in, (size_t)len);
  rearm(link);
}

static void on_drained(void *ctx)
{
  mp_link *link = ctx;
  if (link->state == LINK_TALK)
    run(link);
}

static const mp_stream_calls stream_calls = { .read = on_read, .drained = on_drained, .closed = on_closed };

/* ---- time -------------------------------------------------------------------------------------------------------- */

static int64_t deadline(const mp_link *link)
{
  if (link->state == LINK_GONE)
    return INT64_MAX;
  return link->state == LINK_SECURING ? link->phase_due : mp_client_deadline(link->cl);
}

/* The timer moves only when something is due earlier than it: deadlines move later all the time, and it finds out when it fires. */
static void rearm(mp_link *link)
{
  int64_t due = deadline(link);
  if (due == INT64_MAX || (link->timer.slot && link->timer.due_ms <= due))
    return;
  if (mp_timers_set(&link->worker->loop.timers, &link->timer, due) < 0)
    lost(link, MP_E_NOMEM, "out of memory");
}

static void fire(mp_timer *timer, int64_t now_ms)
{
  mp_link *link = MP_CONTAINER(timer, mp_link, timer);
  if (link->state == LINK_SECURING && link->phase_due <= now_ms) {
    lost(link, MP_E_TIMEOUT, "the TLS handshake took too long");
    return;
  }
  if (link->state == LINK_TALK) {
    mp_client_tick(link->cl, now_ms);
    run(link);
  }
  rearm(link);
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
  link->opts.machine.out_blocks = &worker->out_blocks;
  link->opts.handshake_ms = opts->handshake_ms > 0 ? opts->handshake_ms : HANDSHAKE_MS;
  link->opts.write_most = opts->write_most ? opts->write_most : WRITE_MOST;
  link->phase_due = INT64_MAX;
  mp_timer_init(&link->timer, fire);
  mp_stream_attach(stream, &stream_calls, link);
  int rc = 0;
  if (opts->tls) {
    link->tls = opts->tls;
    link->phase_due = now_of(link) + link->opts.handshake_ms;
    enter(link, LINK_SECURING);
  } else {
    enter(link, LINK_TALK);
    rc = mp_client_new(&link->cl, &link->opts.machine, NULL, now_of(link));
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
  if (link->tls) /* ours to begin. A failure is told on the next turn, when the stream reports it */
    if (mp_tls_handshake(link->tls) == 0)
      send_cipher(link);
  return 0;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

/* After an operation was taken: what it has to say goes out, and events that came of it wait for the next turn, for `done` is never called inside. */
static int begun(mp_link *link, int rc)
{
  if (rc < 0 || link->running || link->reading_plain) {
    if (rc == 0)
      link->again = true;
    return rc;
  }
  link->running = true; /* a peer that turns out to be gone is told of later */
  flush(link);
  link->running = false;
  if (link->state == LINK_TALK)
    mp_timers_set(&link->worker->loop.timers, &link->timer, 0); /* without memory the deadline that is set finds it */
  return 0;
}

static int may(const mp_link *link)
{
  return link->state == LINK_TALK ? 0 : link->state == LINK_GONE ? MP_E_CLOSED : MP_E_MISUSE;
}

#define OPERATION(CALL) \
  int rc_ = may(link);  \
  return rc_ < 0 ? rc_ : begun(link, CALL)

int mp_link_hello(mp_link *link)
{
  OPERATION(mp_client_hello(link->cl, now_of(link)));
}

int mp_link_auth(mp_link *link, const mp_client_login *login)
{
  OPERATION(mp_client_auth(link->cl, login, now_of(link)));
}

int mp_link_mail(mp_link *link, mp_transaction *tx)
{
  OPERATION(mp_client_mail(link->cl, tx, now_of(link)));
}

int mp_link_rcpt(mp_link *link, mp_transaction *tx, size_t index)
{
  OPERATION(mp_client_rcpt(link->cl, tx, index, now_of(link)));
}

int mp_link_command(mp_link *link, mp_str line)
{
  OPERATION(mp_client_command(link->cl, line, now_of(link)));
}

int mp_link_rset(mp_link *link)
{
  OPERATION(mp_client_rset(link->cl, now_of(link)));
}

int mp_link_noop(mp_link *link)
{
  OPERATION(mp_client_noop(link->cl, now_of(link)));
}

int mp_link_vrfy(mp_link *link, mp_str what)
{
  OPERATION(mp_client_vrfy(link->cl, what, now_of(link)));
}

int mp_link_quit(mp_link *link)
{
  OPERATION(mp_client_quit(link->cl, now_of(link)));
}

int mp_link_starttls(mp_link *link, mp_tls *tls)
{
  int rc = may(link);
  if (rc == 0 && link->tls)
    rc = MP_E_MISUSE;
  if (rc == 0)
    rc = mp_client_starttls(link->cl, now_of(link));
  if (rc < 0) {
    mp_tls_free(tls);
    return rc;
  }
  link->next_tls = tls;
  return begun(link, 0);
}

/* What stands in front of the sink's octets is put together now; the sink is read as the peer takes it. */
static int source_begin(mp_link *link, const mp_link_source *from)
{
  source *body = &link->body;
  *body = (source){ .active = true };
  if (!from->message) {
    body->rest = from->octets;
    body->pushed = !from->has_octets;
    body->last = from->has_octets;
    return 0;
  }
  mp_buf_init(&body->head, SIZE_MAX / 2, NULL);
  body->scratch = mp_mem_alloc(PIECE);
  int rc = body->scratch ? mp_message_head(from->message, from->extra, from->received, &body->head) : MP_E_NOMEM;
  if (rc < 0)
    return rc;
  body->msg = mp_message_ref(from->message);
  body->at = mp_message_body_at(from->message);
  body->rest = mp_buf_view(&body->head);
  return 0;
}

int mp_link_send(mp_link *link, mp_transaction *tx, const mp_link_source *from, bool whole)
{
  int rc = may(link);
  if (rc < 0)
    return rc;
  if (mp_client_busy(link->cl) != MP_OP_NONE)
    return MP_E_MISUSE;
  rc = source_begin(link, from);
  if (rc == 0)
    rc = whole ? mp_client_send(link->cl, tx, now_of(link)) : mp_client_data(link->cl, tx, now_of(link));
  if (rc < 0) {
    source_end(&link->body);
    return rc;
  }
  return begun(link, 0);
}

/* ---- facts ------------------------------------------------------------------------------------------------------- */

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
