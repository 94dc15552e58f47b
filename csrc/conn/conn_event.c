/* conn/conn_event.c -- what the machine's events mean here: rules first, then the handler where a hook is set, then the default verdict. */
#include "conn/conn_impl.h"

#include "base/error.h"

#include <stdio.h>

static int64_t now_of(const mp_conn *conn)
{
  return mp_loop_now(&conn->service->worker->loop);
}

void conn_trust(mp_conn *conn)
{
  const mp_rules *rules = &conn->service->rules;
  conn->relay_network = !conn->is_unix && !conn->no_relay && mp_networks_have(&rules->relay, &conn->peer);
  unsigned trust = conn->relay_network ? MP_TRUST_REPAIR : 0;
  /* Who a proxy could not name is not the proxy, though the address is the proxy's. */
  if (!conn->is_unix && !conn->unnamed && mp_networks_have(&rules->xclient, &conn->origin))
    trust |= MP_TRUST_XCLIENT;
  mp_server_trust(conn->srv, trust);
}

/* Answers the machine; a reply it will not take (a script's nonsense that got this far) closes with 451 instead. */
static void say(mp_conn *conn, const mp_reply *reply)
{
  if (mp_server_reply(conn->srv, reply, now_of(conn)) == MP_E_INVALID) {
    mp_reply fault = MP_REPLY(451, 4, 3, 0, "Temporary fault in the mail policy");
    mp_server_reply(conn->srv, &fault, now_of(conn));
  }
}

static void tell_refused(mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  mp_service *service = conn->service;
  if (service->hooks & MP_HOOK_REFUSED)
    service->handler->refused(service->ctx, conn, kind, reply, about);
}

void conn_tell_bad(mp_conn *conn)
{
  const mp_tally *tally = mp_server_tally(conn->srv);
  if (tally->bad == conn->told_bad)
    return;
  conn->told_bad = tally->bad;
  mp_reply reply = { .code = tally->bad_code, .text = mp_str_c(tally->bad_code ? tally->bad_text : NULL) };
  tell_refused(conn, MP_EV_NONE, &reply, MP_STR_NULL);
}

/* A refusal that no hook has asked for. */
static void refuse(mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  tell_refused(conn, kind, reply, about);
  say(conn, reply);
}

static bool may_relay(const mp_conn *conn)
{
  return conn->relay_network ||
         (!conn->no_relay && conn->service->rules.relay_authenticated && mp_server_user(conn->srv).len > 0);
}

static void classify(mp_conn *conn, mp_recipient *recipient)
{
  if (mp_rules_local(&conn->service->rules, &recipient->path, &conn->local))
    recipient->rclass = MP_CLASS_LOCAL;
  else
    recipient->rclass = may_relay(conn) ? MP_CLASS_RELAY : MP_CLASS_NONE;
}

static mp_recipient *last_recipient(mp_conn *conn)
{
  mp_envelope *env = mp_server_envelope(conn->srv);
  return env && env->count ? env->rcpts[env->count - 1] : NULL;
}

static void drop_sink(mp_conn *conn)
{
  if (!conn->sink)
    return;
  mp_sink_on_ready(conn->sink, NULL, NULL);
  mp_sink_unref(conn->sink);
  conn->sink = NULL;
  conn->sink_behind = conn->sink_finishing = false;
}

static void drop_message(mp_conn *conn)
{
  mp_message_unref(conn->msg);
  conn->msg = NULL;
  drop_sink(conn);
}

/* What a broken sink means to the peer. */
static mp_reply sink_fault(int rc)
{
  if (rc == MP_E_NOSPACE)
    return MP_REPLY(452, 4, 3, 1, "Insufficient system storage");
  return MP_REPLY(451, 4, 3, 0, "The message could not be kept; try again later");
}

static void chunk(mp_conn *conn, mp_str octets)
{
  int rc = 0;
  if (!conn->sink) {
    rc = mp_sink_new(&conn->sink, &conn->service->worker->bodies);
    if (rc == 0)
      mp_sink_on_ready(conn->sink, conn_sink_ready, conn);
  }
  if (rc == 0)
    rc = mp_sink_add(conn->sink, octets);
  if (rc == 1) {
    conn->sink_behind = true;
    conn->stopped_reading = true;
    mp_stream_stop(conn->stream);
  } else if (rc < 0) {
    mp_reply fault = sink_fault(rc);
    mp_server_body_failed(conn->srv, &fault);
    drop_sink(conn);
  }
}

/* Asks the handler, when it has a hook for this, and applies what it says at once. */
static void ask(mp_conn *conn, const mp_event *ev)
{
  mp_service *service = conn->service;
  mp_answer answer = { .kind = MP_ANSWER_DEFAULT };
  mp_event_kind kind = ev->kind;
  if (service->hooks & 1u << kind) {
    conn->pending = (unsigned char)kind;
    service->handler->event(service->ctx, conn, ev, &answer);
    if (answer.kind == MP_ANSWER_PENDING || conn->pending != kind)
      return;
    conn->pending = MP_EV_NONE;
  }
  conn_apply(conn, kind, &answer);
}

static void tell(mp_conn *conn, const mp_event *ev)
{
  mp_answer ignored = { .kind = MP_ANSWER_DEFAULT };
  if (conn->service->hooks & 1u << ev->kind)
    conn->service->handler->event(conn->service->ctx, conn, ev, &ignored);
}

static void message_complete(mp_conn *conn)
{
  mp_service *service = conn->service;
  mp_worker *worker = service->worker;
  mp_server *srv = conn->srv;
  mp_tls_info tls;
  conn_tls_info(conn, &tls);
  int64_t ms = worker->wall_ms(worker);
  mp_trace trace = {
    .helo = mp_server_helo(srv),
    .peer = conn->is_unix ? NULL : &conn->peer,
    .by = mp_str_c(service->hostname),
    .with = mp_str_c(mp_server_with(srv)),
    .tls_version = tls.version,
    .tls_cipher = tls.cipher,
    .user = mp_server_user(srv),
    .unix_s = ms / 1000,
    .offset_min = worker->loop.is_virtual ? 0 : MP_DATE_LOCAL,
  };
  char id[24];
  mp_message_id(id, ms, worker->process, worker->number, &worker->messages);
  trace.id = mp_str_c(id);
  int rc = mp_message_new(&conn->msg, mp_server_envelope(srv), conn->sink, &trace, conn->message_facts);
  size_t fields = 0;
  int hops = rc < 0 ? rc : mp_message_hops(conn->msg, &fields);
  if (hops < 0) {
    mp_reply fault =
        hops == MP_E_TOOLONG ? MP_REPLY(552, 5, 3, 4, "The message's header is too long") : sink_fault(hops);
    drop_message(conn);
    refuse(conn, MP_EV_MESSAGE, &fault, MP_STR_NULL);
    return;
  }
  if (service->fields && fields > service->fields) {
    mp_reply many = MP_REPLY(552, 5, 3, 4, "The message's header has too many fields");
    drop_message(conn);
    refuse(conn, MP_EV_MESSAGE, &many, MP_STR_NULL);
    return;
  }
  if (service->hops && (unsigned)hops > service->hops) {
    mp_reply loop = MP_REPLY(554, 5, 4, 6, "Too many Received fields: this message is going round in circles");
    drop_message(conn);
    refuse(conn, MP_EV_MESSAGE, &loop, MP_STR_NULL);
    return;
  }
  mp_event ev = { .kind = MP_EV_MESSAGE, .message = { conn->msg->size, conn->message_facts } };
  ask(conn, &ev);
}

static void message_octets(mp_conn *conn, const mp_event *ev)
{
  int rc = 0;
  conn->message_facts = ev->message.facts;
  if (!conn->sink) {
    rc = mp_sink_new(&conn->sink, &conn->service->worker->bodies);
    if (rc == 0)
      mp_sink_on_ready(conn->sink, conn_sink_ready, conn);
  }
  if (rc == 0)
    rc = mp_sink_finish(conn->sink);
  if (rc == 1) {
    conn->sink_finishing = true;
  } else if (rc < 0) {
    mp_reply fault = sink_fault(rc);
    drop_sink(conn);
    refuse(conn, MP_EV_MESSAGE, &fault, MP_STR_NULL);
  } else {
    message_complete(conn);
  }
}

void conn_sink_ready(void *ctx, int rc)
{
  mp_conn *conn = ctx;
  bool finishing = conn->sink_finishing;
  conn->in_pump = true; /* an answer given inside resumes nothing: that is done below */
  conn->sink_behind = conn->sink_finishing = false;
  if (rc < 0) {
    mp_reply fault = sink_fault(rc);
    drop_sink(conn);
    if (finishing)
      refuse(conn, MP_EV_MESSAGE, &fault, MP_STR_NULL);
    else
      mp_server_body_failed(conn->srv, &fault);
  } else if (finishing) {
    message_complete(conn);
  }
  conn->in_pump = false;
  conn_resume(conn);
}

/* The addresses that a user may send as go with the user. */
static void forget_senders(mp_conn *conn)
{
  mp_mem_free(conn->senders);
  conn->senders = NULL;
}

static void start_tls(mp_conn *conn)
{
  mp_worker *worker = conn->service->worker;
  if (!conn_flush(conn))
    return;
  if (!conn->service->pretend_tls &&
      (!conn->service->tls || mp_tls_accept(&conn->tls, conn->service->tls, &worker->cipher_blocks) < 0)) {
    conn_cut(conn, "no TLS session could be made");
    return;
  }
  forget_senders(conn);
  conn->tls_started = true;
  conn->phase_due = now_of(conn) + conn->service->handshake_ms;
}

/* From here on the limit of an address means the client's, as behind a PROXY header. False: that has too many, and was told so. */
static bool recount(mp_conn *conn, const mp_ip *addr)
{
  mp_service *service = conn->service;
  mp_gate *gate = service->worker->gate;
  if (memcmp(addr, &conn->counted, sizeof *addr) == 0)
    return true;
  mp_gate_answer answer = mp_gate_enter(gate, addr, 0, service->connections_each);
  if (answer == MP_GATE_OPEN) {
    mp_gate_leave(gate, &conn->counted);
    conn->counted = *addr;
    return true;
  }
  char text[320]; /* RFC 5321 3.8: 421 names the host */
  int n = snprintf(text, sizeof text, "%s Too many connections from your address", service->hostname);
  mp_reply bye = { .code = 421,
                   .enhanced = { 4, 7, 0 },
                   .text = mp_str_of(text, n < (int)sizeof text ? (size_t)n : sizeof text - 1) };
  service->refused++;
  mp_port_crowded(conn->port, answer == MP_GATE_NOMEM ? MP_CROWDED_MACHINE : MP_CROWDED_ADDRESS, addr);
  mp_server_close(conn->srv, &bye, "too many connections from this address");
  return false;
}

static void xclient(mp_conn *conn, const mp_xclient *given)
{
  if (given->given & MP_XCLIENT_ADDR && !(given->unavailable & MP_XCLIENT_ADDR)) {
    if (!recount(conn, &given->addr))
      return;
    conn->peer = given->addr;
    conn->is_unix = false;
  }
  if (given->given & MP_XCLIENT_PORT && !(given->unavailable & MP_XCLIENT_PORT))
    conn->peer_port = given->port;
  if (given->given & MP_XCLIENT_DESTADDR && !(given->unavailable & MP_XCLIENT_DESTADDR))
    conn->local = given->destaddr;
  if (given->given & MP_XCLIENT_DESTPORT && !(given->unavailable & MP_XCLIENT_DESTPORT))
    conn->local_port = given->destport;
  /* An address that is not known relays nothing, and one that was not named is as unknown as before: attributes may come in several commands. */
  if (given->given & MP_XCLIENT_ADDR)
    conn->no_relay = (given->unavailable & MP_XCLIENT_ADDR) != 0;
  forget_senders(conn);
  conn->proxied = true;
  conn_trust(conn);
  say(conn, NULL);
}

static void job_back(void *ctx, mp_job *job)
{
  mp_conn *conn = ctx;
  conn->job = NULL;
  if (mp_server_worked(conn->srv, job, now_of(conn)) < 0)
    job->free(job);
  conn_resume(conn);
}

void conn_job_forget(mp_conn *conn)
{
  mp_errand_forget(conn->job);
  conn->job = NULL;
}

static void start_job(mp_conn *conn, mp_job *job)
{
  conn->job = mp_errand_send(&conn->service->worker->loop, job, job_back, conn);
  if (conn->job)
    return;
  mp_reply fault = MP_REPLY(421, 4, 3, 0, "Out of resources");
  mp_server_close(conn->srv, &fault, "a password check could not be started");
}

void conn_event(mp_conn *conn, mp_event *ev)
{
  switch (ev->kind) {
  case MP_EV_MAIL:
    if (conn->senders && mp_server_user(conn->srv).len && !mp_senders_have(conn->senders, ev->mail.path)) {
      mp_reply no = MP_REPLY(553, 5, 7, 1, "Sender address is not yours to use");
      refuse(conn, MP_EV_MAIL, &no, ev->mail.path->address);
      return;
    }
    ask(conn, ev);
    return;
  case MP_EV_RCPT:
    conn->allow_relay = false;
    classify(conn, ev->rcpt.recipient);
    ask(conn, ev);
    return;
  case MP_EV_CHUNK:
    chunk(conn, ev->chunk.octets);
    return;
  case MP_EV_MESSAGE:
    message_octets(conn, ev);
    return;
  case MP_EV_ABORT: {
    mp_reply why = { .code = ev->abort.code, .text = mp_str_c(ev->abort.why) };
    drop_sink(conn);
    tell_refused(conn, MP_EV_ABORT, &why, MP_STR_NULL);
    return;
  }
  case MP_EV_STARTTLS:
    start_tls(conn);
    return;
  case MP_EV_JOB:
    start_job(conn, ev->job.job);
    return;
  case MP_EV_AUTHENTICATED:
    if (!ev->authenticated.ok)
      forget_senders(conn);
    return;
  case MP_EV_XCLIENT:
    xclient(conn, ev->xclient.attributes);
    return;
  case MP_EV_RESET:
    drop_sink(conn);
    tell(conn, ev);
    return;
  case MP_EV_QUIT:
    tell(conn, ev);
    return;
  case MP_EV_CLOSE:
    conn_end(conn, ev->close.why);
    return;
  default: /* CONNECT, HELO, CREDENTIALS, AUTH, TOKEN, DATA: the handler's word is the machine's */
    ask(conn, ev);
    return;
  }
}

static void apply_rcpt(mp_conn *conn, const mp_answer *answer)
{
  const mp_recipient *recipient = last_recipient(conn);
  if (answer->kind == MP_ANSWER_REPLY && answer->reply.code >= 400) {
    say(conn, &answer->reply);
  } else if (recipient && recipient->rclass == MP_CLASS_NONE && !conn->allow_relay) {
    mp_reply no = MP_REPLY(550, 5, 7, 1, "Relaying denied");
    refuse(conn, MP_EV_RCPT, &no, recipient->path.address);
  } else {
    if (recipient && recipient->rclass == MP_CLASS_NONE)
      mp_server_envelope(conn->srv)->rcpts[recipient->index]->rclass = MP_CLASS_RELAY;
    say(conn, answer->kind == MP_ANSWER_REPLY ? &answer->reply : NULL);
  }
}

static void apply_message(mp_conn *conn, const mp_answer *answer)
{
  drop_message(conn);
  if (answer->kind == MP_ANSWER_REPLY) {
    if (answer->reply.code < 300)
      conn->service->messages++;
    say(conn, &answer->reply);
    return;
  }
  /* Nobody said what becomes of it, so it is not ours to take (a 250 has an owner). */
  mp_reply nobody = MP_REPLY(451, 4, 3, 5, "Nobody takes this message now; try again later");
  say(conn, &nobody);
}

void conn_apply(mp_conn *conn, mp_event_kind kind, const mp_answer *answer)
{
  mp_reply no = MP_REPLY(535, 5, 7, 8, "Authentication credentials invalid");
  bool reply = answer->kind == MP_ANSWER_REPLY;
  switch (kind) {
  case MP_EV_RCPT:
    apply_rcpt(conn, answer);
    return;
  case MP_EV_MESSAGE:
    apply_message(conn, answer);
    return;
  case MP_EV_CREDENTIALS:
    if (reply) {
      mp_server_credentials_fail(conn->srv, &answer->reply, now_of(conn));
      return;
    }
    /* Without the list any address would do. */
    if (mp_conn_senders(conn, answer->kind == MP_ANSWER_CREDENTIALS ? answer->senders : MP_STR_NULL) < 0) {
      mp_reply fault = MP_REPLY(454, 4, 7, 0, "Temporary authentication failure");
      mp_server_credentials_fail(conn->srv, &fault, now_of(conn));
      return;
    }
    mp_server_credentials(conn->srv, &answer->credentials, now_of(conn));
    return;
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    if (answer->kind == MP_ANSWER_ACCEPT && mp_conn_senders(conn, answer->senders) == 0)
      say(conn, NULL);
    else
      say(conn, reply ? &answer->reply : &no);
    return;
  default:
    say(conn, reply ? &answer->reply : NULL);
    return;
  }
}

bool mp_conn_answer(mp_conn *conn, const mp_answer *answer)
{
  mp_event_kind kind = (mp_event_kind)conn->pending;
  if (kind == MP_EV_NONE)
    return false;
  conn->pending = MP_EV_NONE;
  conn_apply(conn, kind, answer);
  conn_go_on(conn);
  return true;
}

int mp_conn_answer_rcpt(mp_conn *conn, size_t index, const mp_reply *reply)
{
  return mp_server_reply_rcpt(conn->srv, index, reply);
}

void mp_conn_allow_relay(mp_conn *conn)
{
  conn->allow_relay = true;
}
