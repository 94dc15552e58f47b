/* A service that stops while its connections have to do with each other: what one is told ends another, or comes while another's octets stand in
 * the worker's buffer. */
#include "support/tls_talk.h"

#define GREETING   "220 mx.example.org ESMTP moonpost\r\n"
#define HELLO      "HELO a.example\r\n"
#define HELLO_SAID "250 mx.example.org\r\n"

static mp_server_opts lenient(void)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = true;
  return opts;
}

/* ---- one ends another --------------------------------------------------------------------------------------------- */

static mp_conn *waiting; /* for the answer to its message; its peer is gone */

static void answer_waiting(void *ctx, mp_conn *conn, mp_event_kind pending)
{
  pump_lost(ctx, conn, pending);
  if (waiting)
    CHECK(mp_conn_answer(waiting, &pump_default));
  waiting = NULL;
}

/* The connections were walked by their next, and what the first was told ended that one: a hook that is cancelled lets another go on, whose
 * message was all that its connection waited for. */
TEST(what_a_cut_connection_is_told_may_end_the_next_one)
{
  static const mp_handler handler = {
    .event = pump_event, .tls = pump_tls, .lost = answer_waiting, .closed = pump_closed, .stopped = pump_stopped
  };
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->handler = &handler;
  p.service->hooks = 1u << MP_EV_RCPT | 1u << MP_EV_MESSAGE | MP_HOOK_DISCONNECT;
  mp_stream *first = pump_connect(&p, 1), *second = pump_connect(&p, 2);
  REQUIRE(first && second);
  p.answers[MP_EV_MESSAGE] = pump_pending;
  pump_send(&p, second, HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nhello\r\n.\r\n");
  waiting = p.asked;
  REQUIRE(waiting);
  mp_stream_inject(second, NULL, MP_E_SYSTEM);
  pump_turn(&p);
  p.answers[MP_EV_RCPT] = pump_pending;
  pump_send(&p, first, HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\n");
  CHECK_EQ_INT(p.service->conn_count, 2);
  mp_service_stop(p.service, 1000);
  mp_loop_advance(&p.worker->loop, 2000);
  pump_turn(&p);
  CHECK_EQ_INT(p.closed, 2);
  CHECK_EQ_INT(p.stopped, 1);
  mp_stream_release(first);
  mp_stream_release(second);
  pump_close(&p);
}

/* ---- the worker's buffer ------------------------------------------------------------------------------------------ */

static void stop_inside(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  pump *p = ctx;
  mp_conn *other = p->asked;
  if (ev->kind == MP_EV_HELO && other) {
    p->asked = NULL;
    CHECK(mp_conn_answer(other, &pump_default));
    mp_service_stop(p->service, 10000);
    return;
  }
  pump_event(ctx, conn, ev, answer);
}

/* A hook of one session that answered another and then stopped the service had the other's octets decrypted over its own, of which the rest was
 * read as commands of the one. */
TEST(a_stop_inside_a_hook_leaves_the_octets_of_the_session_alone)
{
  static const mp_handler handler = {
    .event = stop_inside, .tls = pump_tls, .lost = pump_lost, .closed = pump_closed, .stopped = pump_stopped
  };
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, NULL));
  p.service->tls = peer_config((mp_tls_opts){ 0 });
  p.service->handler = &handler;
  p.service->hooks = 1u << MP_EV_HELO | 1u << MP_EV_RCPT;
  REQUIRE(mp_service_port(p.service, "smtps", &opts, MP_TLS_IMPLICIT, &p.port) == 0);
  peer clients[2];
  mp_stream *streams[2];
  for (unsigned i = 0; i < 2; i++) {
    peer_init(&clients[i], (peer_opts){ 0 });
    streams[i] = pump_connect(&p, i + 1);
    REQUIRE(streams[i]);
    SSL_do_handshake(clients[i].ssl);
    carry(&p, &clients[i], streams[i]);
    HEAR(&clients[i], GREETING);
  }
  p.answers[MP_EV_RCPT] = pump_pending;
  say(&p, &clients[1], streams[1], HELLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\n");
  REQUIRE(p.asked);
  p.answers[MP_EV_RCPT] = pump_default;
  say(&p, &clients[1], streams[1], "RCPT TO:<y@example.org>\r\nRCPT TO:<z@example.org>\r\n");
  say(&p, &clients[0], streams[0], HELLO "MAIL FROM:<c@d.example>\r\nRCPT TO:<u@example.org>\r\n");
  HEAR(&clients[0], HELLO_SAID "250 Sender OK\r\n250 Recipient OK\r\n");
  carry(&p, &clients[1], streams[1]);
  HEAR(&clients[1], HELLO_SAID "250 Sender OK\r\n250 Recipient OK\r\n250 Recipient OK\r\n250 Recipient OK\r\n");
  for (unsigned i = 0; i < 2; i++) {
    mp_stream_release(streams[i]);
    peer_dispose(&clients[i]);
  }
  pump_close(&p);
}

/* ---- inside a handshake ------------------------------------------------------------------------------------------- */

static mp_conn *met;

static void meet(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  met = conn;
  pump_event(ctx, conn, ev, answer);
}

/* The goodbye to a session that a policy ends went out in clear between the records of the handshake. */
TEST(a_session_closed_inside_its_handshake_says_nothing_in_clear)
{
  static const mp_handler handler = {
    .event = meet, .tls = pump_tls, .lost = pump_lost, .closed = pump_closed, .stopped = pump_stopped
  };
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, NULL));
  p.service->tls = peer_config((mp_tls_opts){ 0 });
  p.service->handler = &handler;
  p.service->hooks = 1u << MP_EV_HELO;
  REQUIRE(mp_service_port(p.service, "smtp", &opts, MP_TLS_STARTTLS, &p.port) == 0);
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, HELLO "STARTTLS\r\n");
  PUMP_SAID(s, GREETING HELLO_SAID "220 Ready to start TLS\r\n");
  REQUIRE(met);
  mp_reply bye = MP_REPLY(421, 4, 7, 0, "Enough");
  mp_conn_close(met, &bye, "enough");
  pump_turn(&p);
  CHECK(mp_stream_finished(s));
  PUMP_SAID(s, "");
  mp_stream_release(s);
  pump_close(&p);
}

CHECK_MAIN
