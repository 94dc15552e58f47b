/* conn/conn_io.c -- octets: from the stream through TLS into the machine, and the machine's output back.
 * What the machine does not take waits in `rest` (plaintext) and `cipher_rest`; past their ceiling the stream is not read. */
#include "conn/conn_impl.h"

#include "base/error.h"

#include <stdio.h>

/* The machine, or the sink behind it, cannot take more now. */
static bool blocked(const mp_conn *conn)
{
  return mp_server_waiting(conn->srv) || conn->sink_behind || conn->sink_finishing;
}

static bool send_cipher(mp_conn *conn)
{
  mp_str out = mp_tls_output(conn->tls);
  if (!out.len)
    return true;
  int rc = mp_stream_write(conn->stream, out.ptr, out.len, conn->service->write_most);
  mp_tls_sent(conn->tls, out.len);
  if (rc < 0)
    conn_cut(conn, rc == MP_E_FULL ? "peer does not read its replies" : "peer is gone");
  return rc == 0;
}

bool conn_flush(mp_conn *conn)
{
  if (conn->state == CONN_GONE || !conn->stream)
    return false;
  mp_str out = mp_server_output(conn->srv);
  if (!out.len)
    return true;
  if (conn->tls_started) { /* between the records of a handshake nothing can be said */
    mp_server_sent(conn->srv, out.len);
    return true;
  }
  int rc;
  if (conn->tls && mp_tls_ready(conn->tls)) {
    rc = mp_tls_write(conn->tls, out.ptr, out.len);
    mp_server_sent(conn->srv, out.len);
    if (rc == 0)
      return send_cipher(conn);
  } else {
    rc = mp_stream_write(conn->stream, out.ptr, out.len, conn->service->write_most);
    mp_server_sent(conn->srv, out.len);
    if (rc == 0)
      return true;
  }
  conn_cut(conn, rc == MP_E_FULL    ? "peer does not read its replies"
                 : rc == MP_E_NOMEM ? "out of memory"
                                    : "peer is gone");
  return false;
}

/* Runs the machine over `in`; returns how many octets it took. */
static size_t run(mp_conn *conn, const char *in, size_t len)
{
  size_t taken = 0;
  bool closed = false, fed = false;
  in = in ? in : "";
  for (;;) {
    bool came = false;
    mp_event ev;
    while (conn->state == CONN_TALK && mp_server_next(conn->srv, &ev) > 0) {
      came = true;
      conn_event(conn, &ev);
      if (conn->tls_started)
        return len; /* whatever was said in clear behind STARTTLS is never heard */
    }
    if (conn->state != CONN_TALK || blocked(conn) || closed || (fed && !came && taken == len))
      return taken;
    fed = true;
    mp_ssize n = mp_server_feed(conn->srv, in + taken, len - taken, mp_loop_now(&conn->service->worker->loop));
    if (conn->service->hooks & MP_HOOK_REFUSED)
      conn_tell_bad(conn);
    if (n < 0) {
      closed = true; /* once more round for the CLOSE event */
      taken = len;
      continue;
    }
    taken += (size_t)n;
    if (n == 0 && !came) {
      /* Nothing moves: out of octets, or the output stands above its mark and has to go first. */
      if (taken == len || mp_server_output(conn->srv).len == 0 || !conn_flush(conn))
        return taken;
    }
  }
}

static bool keep(mp_conn *conn, mp_buf *where, const char *in, size_t len)
{
  if (len && mp_buf_add(where, in, len) < 0) {
    conn_cut(conn, "out of memory");
    return false;
  }
  if (where->len >= CONN_REST_MOST && !conn->stopped_reading) {
    conn->stopped_reading = true;
    mp_stream_stop(conn->stream);
  }
  return true;
}

/* After octets, an answer or a tick: send what there is to say, see whether that was all. */
static void settle(mp_conn *conn)
{
  if (conn->state != CONN_TALK || !conn_flush(conn))
    return;
  if (conn->eof && !blocked(conn) && conn->rest.len == 0 && conn->cipher_rest.len == 0 && !conn->again) {
    conn_end(conn, mp_server_in_body(conn->srv) ? "peer left in the middle of a message"
                                                : "peer closed the connection");
    return;
  }
  if (conn->service->stopping && mp_server_idle(conn->srv) && conn->rest.len == 0) {
    char text[320]; /* RFC 5321 3.8: 421 names the host */
    int n = snprintf(text, sizeof text, "%s Service is closing", conn->service->hostname);
    mp_reply bye = { .code = 421,
                     .enhanced = { 4, 3, 2 },
                     .text = mp_str_of(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1) };
    mp_server_close(conn->srv, &bye, "service is stopping");
    conn_pump(conn, NULL, 0);
    return;
  }
  if (conn->stopped_reading && !conn->sink_behind && conn->rest.len < CONN_REST_MOST &&
      conn->cipher_rest.len < CONN_REST_MOST) {
    conn->stopped_reading = false;
    if (mp_stream_start(conn->stream) < 0)
      conn_cut(conn, "cannot read from the socket");
  }
  if (conn->state == CONN_TALK)
    conn_rearm(conn);
}

void conn_pump(mp_conn *conn, const char *in, size_t len)
{
  if (conn->state != CONN_TALK)
    return;
  if (conn->rest.len || blocked(conn)) {
    /* A machine that waits takes nothing, but hears that somebody talks out of turn. */
    if (len && !conn->rest.len)
      mp_server_feed(conn->srv, in, len, mp_loop_now(&conn->service->worker->loop));
    keep(conn, &conn->rest, in, len);
    return;
  }
  conn->in_pump = true;
  size_t taken = run(conn, in, len);
  conn->in_pump = false;
  if (conn->state == CONN_TALK && taken < len && !keep(conn, &conn->rest, in + taken, len - taken))
    return;
  if (conn->tls_started)
    mp_buf_dispose(&conn->rest);
  settle(conn);
  conn_check_gone(conn);
}

void conn_tls_ready(mp_conn *conn)
{
  int64_t now = mp_loop_now(&conn->service->worker->loop);
  conn->phase_due = INT64_MAX;
  if (conn->state == CONN_HANDSHAKE) {
    conn_talk(conn);
    return;
  }
  conn->tls_started = false;
  mp_tls_info info;
  conn_tls_info(conn, &info);
  mp_tls_facts facts = { info.version, info.cipher, info.cb_unique, info.cb_exporter };
  mp_server_tls_done(conn->srv, &facts, now);
  if (conn->service->hooks & MP_HOOK_TLS)
    conn->service->handler->tls(conn->service->ctx, conn);
  conn_resume(conn);
}

/* True when plaintext may be asked of the TLS session. */
static bool handshaken(mp_conn *conn)
{
  if (mp_tls_ready(conn->tls))
    return true;
  int rc = mp_tls_handshake(conn->tls);
  if (!send_cipher(conn))
    return false;
  if (rc < 0) {
    conn->why = mp_tls_why(conn->tls); /* the session lasts until closed() has been told */
    conn_enter(conn, CONN_ENDING);
    mp_timers_clear(&conn->service->worker->loop.timers, &conn->timer);
    mp_stream_finish(conn->stream, CONN_LINGER_MS);
    return false;
  }
  if (rc == 0)
    return false;
  conn_tls_ready(conn);
  return conn->state == CONN_TALK;
}

/* Ciphertext in; plaintext on to the machine until it will not take more, then the rest of `in` is kept. */
static void decrypt(mp_conn *conn, const char *in, size_t len)
{
  mp_worker *worker = conn->service->worker;
  mp_tls_feed(conn->tls, in, len);
  conn->in_decrypt = true; /* the session reads this slice; a resume inside must not give it another */
  if (handshaken(conn)) {
    while (conn->state == CONN_TALK && !blocked(conn) && !conn->rest.len) {
      mp_ssize n = mp_tls_read(conn->tls, worker->plain, MP_WORKER_PLAIN);
      if (n == MP_E_EOF) {
        conn->eof = true;
        settle(conn);
        break;
      }
      if (n < 0) {
        send_cipher(conn);
        conn_cut(conn, mp_tls_why(conn->tls));
        break;
      }
      if (n == 0) {
        send_cipher(conn); /* TLS has answers of its own, such as the alert that refuses a renegotiation */
        break;
      }
      bool busy = worker->plain_busy;
      worker->plain_busy = true;
      conn_pump(conn, worker->plain, (size_t)n);
      if (mp_server_secrets(conn->srv))
        mp_mem_wipe(worker->plain, (size_t)n);
      worker->plain_busy = busy;
    }
  }
  conn->in_decrypt = false;
  if (conn->state == CONN_GONE || conn->state == CONN_ENDING)
    return;
  size_t unread = mp_tls_unread(conn->tls);
  if (unread && keep(conn, &conn->cipher_rest, in + len - unread, unread))
    mp_tls_feed(conn->tls, NULL, 0);
}

static void take(mp_conn *conn, const char *in, size_t len)
{
  if (!conn->tls) {
    if (!conn->tls_started) /* else a handshake that is only pretended: whatever these are, they are not commands */
      conn_pump(conn, in, len);
    return;
  }
  if (conn->cipher_rest.len ||
      (conn->state == CONN_TALK && !conn->tls_started && (blocked(conn) || conn->rest.len)))
    keep(conn, &conn->cipher_rest, in, len);
  else
    decrypt(conn, in, len);
}

void conn_resume(mp_conn *conn)
{
  if (conn->in_pump)
    return; /* run() goes on by itself */
  if (conn->state != CONN_TALK) {
    conn_check_gone(conn);
    return;
  }
  do {
    conn->again = false;
    conn->in_pump = true;
    mp_str rest = mp_buf_view(&conn->rest);
    size_t taken = run(conn, rest.ptr, rest.len);
    conn->in_pump = false;
    if (taken)
      mp_buf_consume(&conn->rest, taken);
    if (conn->state != CONN_TALK || conn->tls_started)
      break;
    if (conn->tls && !conn->in_decrypt && !blocked(conn) && !conn->rest.len) {
      mp_buf held = conn->cipher_rest;
      mp_buf_init(&conn->cipher_rest, held.max, NULL);
      decrypt(conn, mp_buf_view(&held).ptr, mp_buf_view(&held).len);
      mp_buf_dispose(&held);
    }
  } while (conn->again && conn->state == CONN_TALK);
  settle(conn);
  conn_charge(conn);
  conn_check_gone(conn);
}

void conn_go_on(mp_conn *conn)
{
  if (conn->service->worker->plain_busy && conn->state == CONN_TALK && !conn->in_pump) {
    conn->again = true; /* our turn comes by the timer */
    conn_rearm(conn);
  } else {
    conn_resume(conn);
  }
}

static void proxy_header(mp_conn *conn, const char *in, size_t len)
{
  if (mp_buf_add(&conn->rest, in, len) < 0) {
    conn_cut(conn, "out of memory");
    return;
  }
  mp_proxy proxy;
  mp_ssize n = mp_proxy_parse(&proxy, mp_buf_view(&conn->rest));
  if (n == 0)
    return;
  if (n < 0) {
    conn_cut(conn, "no PROXY header where one must be");
    return;
  }
  conn->proxied = true;
  mp_service *service = conn->service;
  if (proxy.known) {
    /* From here on the limits and rules mean the peer, not the proxy. */
    mp_gate_answer gate = mp_gate_enter(service->worker->gate, &proxy.source, 0, service->connections_each);
    if (gate != MP_GATE_OPEN) {
      service->refused++;
      mp_str no = MP_STR("421 4.7.0 Too many connections from your address\r\n");
      if (conn->port->tls != MP_TLS_IMPLICIT)
        mp_stream_write(conn->stream, no.ptr, no.len, service->write_most);
      conn->why = "too many connections from this address";
      conn_enter(conn, CONN_ENDING);
      mp_stream_finish(conn->stream, CONN_LINGER_MS);
      mp_port_crowded(conn->port, gate == MP_GATE_NOMEM ? MP_CROWDED_MACHINE : MP_CROWDED_ADDRESS, &proxy.source);
      return;
    }
    mp_gate_leave(service->worker->gate, &conn->counted);
    conn->counted = conn->origin = conn->peer = proxy.source;
    conn->local = proxy.destination;
    conn->peer_port = proxy.source_port;
    conn->local_port = proxy.destination_port;
  } else {
    conn->no_relay = conn->unnamed = true;
  }
  mp_buf_consume(&conn->rest, (size_t)n);
  if (conn->port->tls != MP_TLS_IMPLICIT) { /* what is left was said before the banner, and the machine shall see that */
    conn_begin(conn);
    return;
  }
  mp_buf held = conn->rest;
  mp_buf_init(&conn->rest, held.max, NULL);
  conn->rest.secret = true;
  conn_begin(conn);
  if (held.len && conn->state != CONN_ENDING && conn->state != CONN_GONE)
    take(conn, mp_buf_view(&held).ptr, held.len);
  mp_buf_dispose(&held);
}

void conn_charge(mp_conn *conn)
{
  size_t held = conn->rest.cap + conn->cipher_rest.cap;
  if (conn->stream)
    held += mp_stream_queued(conn->stream);
  if (conn->srv)
    held += mp_server_held(conn->srv);
  conn->service->worker->buffers += held - conn->charged; /* modulo, when it is less */
  conn->charged = held;
}

/* Each buffer has a ceiling of its own, and ten thousand of them still are more than there is. Past the sum whoever has grown beyond
 * what a session needs that is served as fast as it talks goes first. */
static void check_buffers(mp_conn *conn)
{
  mp_service *service = conn->service;
  if (service->worker->buffers <= service->buffers_most)
    return;
  char text[320]; /* RFC 5321 3.8: 421 names the host */
  int n = snprintf(text, sizeof text, "%s Out of memory for this session", service->hostname);
  mp_reply bye = { .code = 421,
                   .enhanced = { 4, 3, 0 },
                   .text = mp_str_of(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1) };
  mp_port_crowded(conn->port, MP_CROWDED_BUFFERS, conn->is_unix ? NULL : &conn->peer);
  mp_conn_close(conn, &bye, "memory of all sessions is full");
}

void conn_read(void *ctx, const char *in, mp_ssize len)
{
  mp_conn *conn = ctx;
  if (conn->state == CONN_ENDING || conn->state == CONN_GONE)
    return;
  if (len < 0) {
    conn_cut(conn, "connection lost");
    return;
  }
  if (len == 0) {
    conn->eof = true;
    if (conn->state != CONN_TALK || conn->tls_started)
      conn_cut(conn, "peer closed the connection");
    else
      settle(conn);
    return;
  }
  if (conn->state == CONN_PROXY)
    proxy_header(conn, in, (size_t)len);
  else
    take(conn, in, (size_t)len);
  size_t before = conn->charged;
  conn_charge(conn);
  if (conn->charged > before && conn->charged > CONN_FAIR)
    check_buffers(conn);
  conn_rearm(conn);
}
