/* Octets and events: from the stream through TLS into the machine, and the machine's output back. mp_link_run is the one place where the
 * machine moves; whoever is called out of it may call in again, and is then served by the same run. */
#include "conn/link_impl.h"

#include "base/error.h"

enum { PLAIN = 16384, CIPHER_BESIDES = 65536 /* a handshake, with our certificate */ };

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void trace(mp_link *link, bool sent, mp_str octets, size_t body)
{
  if (!link->opts.trace || !link->calls || !link->calls->trace)
    return;
  link->tracing = true; /* an operation would move the output that is being shown */
  link->calls->trace(link->ctx, sent, octets, body);
  link->tracing = false;
}

static void trace_sent(mp_link *link, mp_str out)
{
  if (mp_client_in_body(link->cl)) {
    trace(link, true, MP_STR_NULL, out.len);
    return;
  }
  mp_str secret = mp_client_secret(link->cl);
  if (!secret.len) {
    trace(link, true, out, 0);
    return;
  }
  size_t before = (size_t)(secret.ptr - out.ptr);
  trace(link, true, mp_str_sub(out, 0, before), 0);
  trace(link, true, MP_STR("***"), 0);
  trace(link, true, mp_str_sub(out, before + secret.len, out.len), 0);
}

static void write_failed(mp_link *link, int rc)
{
  switch (rc) {
  case MP_E_NOMEM:
    mp_link_lost(link, rc, "out of memory");
    return;
  case MP_E_FULL:
    mp_link_lost(link, rc, "the peer does not read");
    return;
  case MP_E_TLS:
    mp_link_lost(link, rc, mp_tls_why(link->tls));
    return;
  default:
    mp_link_lost(link, MP_E_EOF, "the peer closed the connection");
    return;
  }
}

static int write_cipher(mp_link *link)
{
  mp_str out = mp_tls_output(link->tls);
  int rc =
      out.len ? mp_stream_write(link->stream, out.ptr, out.len, link->opts.write_most * 2 + CIPHER_BESIDES) : 0;
  mp_tls_sent(link->tls, out.len);
  return rc;
}

bool mp_link_send_cipher(mp_link *link)
{
  int rc = write_cipher(link);
  if (rc < 0)
    write_failed(link, rc);
  return rc == 0;
}

int mp_link_first_flight(mp_link *link)
{
  int rc = mp_tls_handshake(link->tls);
  link->why = rc < 0 ? mp_tls_why(link->tls) : "the peer closed the connection";
  if (rc == 0 && (rc = write_cipher(link)) < 0 && rc != MP_E_NOMEM)
    rc = MP_E_EOF;
  return rc;
}

/* Whoever hears nothing of the end under TLS has to take it for an attack (RFC 8446 6.1). */
static void say_goodbye(mp_link *link)
{
  if (link->tls && !link->closing && mp_tls_ready(link->tls) && mp_tls_shutdown(link->tls) == 0)
    write_cipher(link);
}

/* Writes what the machine has to say as long as the peer keeps up. False when nothing more can be written now, or ever. */
bool mp_link_flush(mp_link *link)
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
      write_failed(link, rc);
      return false;
    }
    mp_client_sent(link->cl, out.len, link_now(link));
    if (link->tls && !mp_link_send_cipher(link))
      return false;
    link->queued = mp_stream_queued(link->stream);
    link->stalled_ms = link_now(link);
  }
  return false;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void job_back(void *ctx, mp_job *job)
{
  mp_link *link = ctx;
  link->job = NULL;
  if (mp_client_worked(link->cl, job, link_now(link)) < 0)
    job->free(job);
  mp_link_run(link);
}

static void start_job(mp_link *link, mp_job *job)
{
  link->job = mp_errand_send(&link->worker->loop, job, job_back, link);
  if (!link->job)
    mp_client_lost(link->cl, MP_E_NOMEM, "a proof could not be computed");
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
      mp_link_source_end(&link->body);
    if (ev->done.op == MP_OP_STARTTLS && link->next_tls) {
      mp_tls_free(link->next_tls);
      link->next_tls = NULL;
    }
    link->busy = false;
    if (link->calls)
      link->calls->done(link->ctx, &ev->done);
    break;
  case MP_CE_CLOSE:
    if (!link->closing)
      mp_link_flush(link);
    say_goodbye(link);
    mp_link_end(link, ev->close.rc, ev->close.why, link->closing || ev->close.rc == 0);
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
void mp_link_run(mp_link *link)
{
  link->again = true;
  if (link->running)
    return;
  link->running = true;
  while (link->again && link->state == LINK_TALK) {
    link->again = false;
    if (take_events(link) || mp_link_feed_body(link))
      link->again = true;
    if (link->state == LINK_TALK)
      mp_link_flush(link);
  }
  link->running = false;
  mp_link_rearm(link);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static void secure(mp_link *link);

static void take_plain(mp_link *link, const char *in, size_t len)
{
  trace(link, false, mp_str_of(in, len), 0);
  while (len && link->state == LINK_TALK) {
    mp_ssize n = mp_client_feed(link->cl, in, len, link_now(link));
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
  if (link->secure_now && link->state == LINK_TALK) {
    link->secure_now = false;
    secure(link);
  }
  if (link->state == LINK_TALK)
    mp_link_run(link);
}

static void handshake_done(mp_link *link)
{
  mp_tls_info info;
  mp_tls_info_get(link->tls, &info);
  mp_tls_facts facts = { info.version, info.cipher, info.cb_unique, info.cb_exporter };
  link->phase_due = INT64_MAX;
  if (link->cl) {
    mp_link_enter(link, LINK_TALK);
    if (mp_client_tls_done(link->cl, &facts, link_now(link)) < 0)
      mp_client_lost(link->cl, MP_E_NOMEM, "out of memory");
  } else if (mp_client_new(&link->cl, &link->opts.machine, &facts, link_now(link)) < 0) {
    mp_link_lost(link, MP_E_NOMEM, "out of memory");
    return;
  } else {
    mp_link_enter(link, LINK_TALK);
  }
  mp_link_run(link);
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
    mp_link_lost(link, rc, why);
    return false;
  }
  if (!mp_link_send_cipher(link))
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
    /* Records that came together are heard together: what stands behind a reply was said before whatever is asked next. */
    size_t have = 0;
    mp_ssize n = 1;
    while (n > 0 && have < sizeof plain) {
      n = mp_tls_read(link->tls, plain + have, sizeof plain - have);
      have += n > 0 ? (size_t)n : 0;
    }
    if (have)
      take_plain(link, plain, have);
    if (n > 0 || link->state != LINK_TALK)
      continue;
    if (n == 0) {
      mp_link_send_cipher(link);
      return;
    }
    mp_link_lost(link, n == MP_E_EOF ? MP_E_EOF : (int)n,
                 n == MP_E_EOF ? "the peer closed the connection" : mp_tls_why(link->tls));
    return;
  }
}

static void secure(mp_link *link)
{
  if (!link->next_tls) {
    if (mp_client_tls_done(link->cl, &mp_link_believed, link_now(link)) < 0)
      mp_client_lost(link->cl, MP_E_NOMEM, "out of memory");
    return;
  }
  link->tls = link->next_tls;
  link->next_tls = NULL;
  link->phase_due = link_now(link) + link->opts.handshake_ms;
  mp_link_enter(link, LINK_SECURING);
  shake(link);
  mp_link_rearm(link);
}

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  mp_link *link = ctx;
  if (link->state == LINK_GONE)
    return;
  if (len <= 0) {
    mp_link_lost(link, MP_E_EOF, len == 0 ? "the peer closed the connection" : "the connection was lost");
    return;
  }
  if (link->tls)
    decrypt(link, in, (size_t)len);
  else
    take_plain(link, in, (size_t)len);
  mp_link_rearm(link);
}

static void on_drained(void *ctx)
{
  mp_link *link = ctx;
  if (link->state == LINK_TALK)
    mp_link_run(link);
}

const mp_stream_calls mp_link_stream_calls = { .read = on_read, .drained = on_drained, .closed = mp_link_closed };
