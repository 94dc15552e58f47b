/* conn/conn.c -- the life of a connection: admitted, begun, ended, gone. */
#include "conn/conn_impl.h"

#include "base/error.h"

static void fire(mp_timer *timer, int64_t now_ms);

void conn_enter(mp_conn *conn, conn_state state)
{
  conn->state = (unsigned char)state;
}

static void stream_drained(void *ctx)
{
  conn_charge(ctx);
}

static void stream_closed(void *ctx)
{
  mp_conn *conn = ctx;
  conn->stream = NULL;
  conn_enter(conn, CONN_GONE);
  conn_check_gone(conn);
}

static const mp_stream_calls stream_calls = { conn_read, stream_drained, stream_closed };

/* A stream that is refused has no mp_conn: it only has to go away by itself. */
static void orphan_read(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len;
}

static void orphan_said(void *ctx)
{
  (void)ctx;
}

static const mp_stream_calls orphan_calls = { orphan_read, orphan_said, orphan_said };

static void refuse(mp_port *port, mp_stream *stream, const char *code, const char *text)
{
  mp_service *service = port->service;
  service->refused++;
  mp_stream_attach(stream, &orphan_calls, NULL);
  if (port->tls != MP_TLS_IMPLICIT) {
    mp_buf out;
    mp_buf_init(&out, 1024, NULL);
    if (mp_buf_fmt(&out, "421 %s %s %s\r\n", code, service->hostname, text) == 0)
      mp_stream_write(stream, mp_buf_view(&out).ptr, mp_buf_view(&out).len, service->write_most);
    mp_buf_dispose(&out);
  }
  mp_stream_finish(stream, CONN_LINGER_MS);
}

void mp_conn_open(mp_port *port, mp_stream *stream)
{
  mp_service *service = port->service;
  mp_worker *worker = service->worker;
  mp_stream_peer peer;
  mp_stream_peer_get(stream, &peer);
  service->accepted++;
  if (service->stopping) {
    refuse(port, stream, "4.7.0", "Service is closing");
    return;
  }
  /* What is left is for the sessions there are. */
  if (worker->buffers > service->buffers_most - service->buffers_most / 8) {
    refuse(port, stream, "4.3.2", "Too busy now");
    mp_port_crowded(port, MP_CROWDED_BUFFERS, NULL);
    return;
  }
  bool behind_proxy = !peer.is_unix && port->proxy->count && mp_networks_have(port->proxy, &peer.ip);
  /* Behind a proxy the address limit waits for the address that the header names. */
  switch (mp_gate_enter(worker->gate, &peer.ip, service->connections_most,
                        behind_proxy || peer.is_unix ? 0 : service->connections_each)) {
  case MP_GATE_OPEN:
    break;
  case MP_GATE_FULL:
    refuse(port, stream, "4.7.0", "Too many connections");
    mp_port_crowded(port, MP_CROWDED_TOTAL, NULL);
    return;
  case MP_GATE_ADDRESS:
    refuse(port, stream, "4.7.0", "Too many connections from your address");
    mp_port_crowded(port, MP_CROWDED_ADDRESS, &peer.ip);
    return;
  case MP_GATE_NOMEM:
    refuse(port, stream, "4.7.0", "Out of memory");
    mp_port_crowded(port, MP_CROWDED_MACHINE, NULL);
    return;
  }
  mp_conn *conn = mp_pool_take(&worker->conns);
  if (!conn) {
    mp_gate_leave(worker->gate, &peer.ip);
    refuse(port, stream, "4.7.0", "Out of memory");
    mp_port_crowded(port, MP_CROWDED_MACHINE, NULL);
    return;
  }
  *conn = (mp_conn){
    .service = service,
    .port = port,
    .stream = stream,
    .state = CONN_PROXY,
    .peer = peer.ip,
    .local = peer.local_ip,
    .counted = peer.ip,
    .origin = peer.ip,
    .peer_port = peer.port,
    .local_port = peer.local_port,
    .is_unix = peer.is_unix,
    .uid = peer.uid,
    .pid = peer.pid,
    .gate_held = true,
    .why = "closed",
    .opened_ms = mp_loop_now(&worker->loop),
  };
  mp_buf_init(&conn->rest, CONN_REST_MOST + MP_WORKER_PLAIN + MP_LOOP_READ, NULL);
  conn->rest.secret = true; /* a password may wait there, behind a command that does */
  mp_buf_init(&conn->cipher_rest, CONN_REST_MOST + MP_LOOP_READ, NULL);
  mp_timer_init(&conn->timer, fire);
  mp_list_init(&conn->node);
  mp_list_push(&service->conns, &conn->node);
  service->conn_count++;
  mp_stream_attach(stream, &stream_calls, conn);
  conn->phase_due = mp_loop_now(&worker->loop) + service->handshake_ms;
  if (!behind_proxy)
    conn_begin(conn);
  if (conn->state != CONN_ENDING && conn->state != CONN_GONE && mp_stream_start(stream) < 0)
    conn_cut(conn, "cannot read from the socket");
  conn_rearm(conn);
}

void conn_begin(mp_conn *conn)
{
  mp_worker *worker = conn->service->worker;
  if (conn->port->tls != MP_TLS_IMPLICIT) {
    conn_talk(conn);
    return;
  }
  if (!conn->service->pretend_tls &&
      (!conn->service->tls || mp_tls_accept(&conn->tls, conn->service->tls, &worker->cipher_blocks) < 0)) {
    conn_cut(conn, "no TLS session could be made");
    return;
  }
  conn->phase_due = mp_loop_now(&worker->loop) + conn->service->handshake_ms;
  conn_enter(conn, CONN_HANDSHAKE);
}

void conn_talk(mp_conn *conn)
{
  int64_t now = mp_loop_now(&conn->service->worker->loop);
  mp_tls_info info;
  bool secure = conn_tls_info(conn, &info);
  if (mp_server_new(&conn->srv, &conn->port->machine, 0, secure, now) < 0) {
    conn_cut(conn, "out of memory");
    return;
  }
  conn_trust(conn);
  conn->phase_due = INT64_MAX;
  conn_enter(conn, CONN_TALK);
  if (secure) {
    mp_tls_facts facts = { info.version, info.cipher, info.cb_unique, info.cb_exporter };
    mp_server_tls_done(conn->srv, &facts, now);
    if (conn->service->hooks & MP_HOOK_TLS)
      conn->service->handler->tls(conn->service->ctx, conn);
  }
  conn_resume(conn);
}

static int64_t deadline(const mp_conn *conn)
{
  if (conn->state != CONN_TALK)
    return conn->state == CONN_PROXY || conn->state == CONN_HANDSHAKE ? conn->phase_due : INT64_MAX;
  int64_t due = conn->phase_due;
  if (!conn->tls_started && !conn->sink_behind && !conn->sink_finishing) {
    int64_t machine = mp_server_deadline(conn->srv);
    due = machine < due ? machine : due;
  }
  return due;
}

/* The timer moves only when something is due earlier than it: most deadlines move later all the time, and the timer finds out when it fires. */
void conn_rearm(mp_conn *conn)
{
  if (conn->state == CONN_GONE || conn->state == CONN_ENDING)
    return;
  int64_t due = conn->again ? 0 : deadline(conn);
  if (due == INT64_MAX || (conn->timer.slot && conn->timer.due_ms <= due))
    return;
  if (mp_timers_set(&conn->service->worker->loop.timers, &conn->timer, due) < 0)
    conn_cut(conn, "out of memory");
}

static void fire(mp_timer *timer, int64_t now_ms)
{
  mp_conn *conn = MP_CONTAINER(timer, mp_conn, timer);
  if (conn->again) {
    conn->again = false;
    conn_resume(conn);
    return;
  }
  int64_t due = deadline(conn);
  if (due <= now_ms) {
    if (conn->state == CONN_PROXY) {
      conn_cut(conn, "no PROXY header in time");
    } else if (conn->state == CONN_HANDSHAKE || conn->tls_started) {
      conn_cut(conn, "TLS handshake took too long");
    } else if (conn->state == CONN_TALK) {
      mp_server_tick(conn->srv, now_ms);
      conn_resume(conn);
    }
  }
  conn_rearm(conn);
}

/* Whoever waits for an answer hears that there is nobody to give it to. A message that was taken goes on. */
static void tell_lost(mp_conn *conn)
{
  mp_event_kind pending = (mp_event_kind)conn->pending;
  if (pending == MP_EV_NONE || pending == MP_EV_MESSAGE || conn->told_lost)
    return;
  conn->told_lost = true;
  conn->pending = MP_EV_NONE;
  conn->service->handler->lost(conn->service->ctx, conn, pending);
}

void conn_end(mp_conn *conn, const char *why)
{
  if (conn->state == CONN_ENDING || conn->state == CONN_GONE)
    return;
  conn->why = why;
  if (conn->srv && !conn_flush(conn))
    return;
  if (conn->tls && mp_tls_ready(conn->tls) && mp_tls_shutdown(conn->tls) == 0) {
    mp_str out = mp_tls_output(conn->tls);
    if (out.len && mp_stream_write(conn->stream, out.ptr, out.len, conn->service->write_most) == 0)
      mp_tls_sent(conn->tls, out.len);
  }
  conn_enter(conn, CONN_ENDING);
  mp_timers_clear(&conn->service->worker->loop.timers, &conn->timer);
  tell_lost(conn);
  mp_stream_finish(conn->stream, CONN_LINGER_MS);
}

void conn_cut(mp_conn *conn, const char *why)
{
  if (conn->state == CONN_GONE)
    return;
  if (conn->state != CONN_ENDING)
    conn->why = why;
  conn_enter(conn, CONN_GONE);
  mp_timers_clear(&conn->service->worker->loop.timers, &conn->timer);
  tell_lost(conn);
  if (conn->stream)
    mp_stream_close(conn->stream);
}

/* The struct goes when the stream is gone and no message of it is being dealt with. */
void conn_check_gone(mp_conn *conn)
{
  if (conn->state != CONN_GONE || conn->stream || conn->in_pump)
    return;
  tell_lost(conn);
  if (conn->pending == MP_EV_MESSAGE || conn->sink_finishing)
    return;
  mp_service *service = conn->service;
  mp_worker *worker = service->worker;
  mp_timers_clear(&worker->loop.timers, &conn->timer);
  if (conn->user || (service->hooks & MP_HOOK_DISCONNECT))
    service->handler->closed(service->ctx, conn, conn->why);
  conn_job_forget(conn);
  if (conn->sink) {
    mp_sink_on_ready(conn->sink, NULL, NULL);
    mp_sink_unref(conn->sink);
  }
  mp_message_unref(conn->msg);
  mp_server_free(conn->srv);
  mp_tls_free(conn->tls);
  conn_pretended_free(conn->pretended);
  worker->buffers -= conn->charged;
  mp_buf_dispose(&conn->rest);
  mp_buf_dispose(&conn->cipher_rest);
  mp_mem_free(conn->senders);
  if (conn->gate_held)
    mp_gate_leave(worker->gate, &conn->counted);
  mp_list_remove(&conn->node);
  mp_pool_give(&worker->conns, conn);
  service->conn_count--;
  if ((service->stopping || service->retiring) && service->conn_count == 0)
    mp_timers_set(&worker->loop.timers, &service->grace, 0);
}

void mp_conn_close(mp_conn *conn, const mp_reply *reply, const char *why)
{
  if (conn->state == CONN_ENDING || conn->state == CONN_GONE)
    return;
  if (!conn->srv) {
    conn_cut(conn, why);
    return;
  }
  mp_server_close(conn->srv, reply, why);
  tell_lost(conn);
  conn_resume(conn);
}

int mp_conn_senders(mp_conn *conn, mp_str senders)
{
  char *copy = NULL;
  if (senders.len && !(copy = mp_mem_dup(senders.ptr, senders.len)))
    return MP_E_NOMEM;
  mp_mem_free(conn->senders);
  conn->senders = copy;
  return 0;
}

void mp_conn_set_user(mp_conn *conn, void *user)
{
  conn->user = user;
}

void *mp_conn_user(const mp_conn *conn)
{
  return conn->user;
}

void mp_conn_facts_get(const mp_conn *conn, mp_conn_facts *facts)
{
  *facts = (mp_conn_facts){
    .port = conn->port,
    .is_unix = conn->is_unix,
    .alive = mp_conn_alive(conn),
    .proxied = conn->proxied,
    .peer = conn->peer,
    .local = conn->local,
    .peer_port = conn->peer_port,
    .local_port = conn->local_port,
    .uid = conn->uid,
    .pid = conn->pid,
    .senders = conn->senders,
    .pending = (mp_event_kind)conn->pending,
  };
  facts->tls = conn_tls_info(conn, &facts->tls_info);
  facts->open_ms = mp_loop_now(&conn->service->worker->loop) - conn->opened_ms;
  facts->tally = conn->srv ? mp_server_tally(conn->srv) : NULL;
  if (!conn->srv)
    return;
  facts->helo = mp_server_helo(conn->srv);
  facts->user = mp_server_user(conn->srv);
  facts->esmtp = mp_server_esmtp(conn->srv);
  facts->early = mp_server_early_talker(conn->srv);
  facts->with = mp_server_with(conn->srv);
  facts->errors = mp_server_errors(conn->srv);
  int mech = mp_server_mech(conn->srv);
  facts->mech = mech < 0 ? NULL : mp_mech_name((mp_mech)mech);
  facts->may_relay =
      conn->relay_network || (!conn->no_relay && conn->service->rules.relay_authenticated && facts->user.len);
}

bool conn_tls_info(const mp_conn *conn, mp_tls_info *info)
{
  *info = (mp_tls_info){ 0 };
  if (conn->pretended)
    *info = *conn_pretended_info(conn->pretended);
  else if (conn->tls && mp_tls_ready(conn->tls))
    mp_tls_info_get(conn->tls, info);
  else
    return false;
  return true;
}

bool mp_conn_alive(const mp_conn *conn)
{
  return conn->state != CONN_ENDING && conn->state != CONN_GONE;
}

mp_server *mp_conn_machine(const mp_conn *conn)
{
  return conn->srv;
}

mp_message *mp_conn_message(const mp_conn *conn)
{
  return conn->msg;
}

mp_service *mp_conn_service(const mp_conn *conn)
{
  return conn->service;
}
