/* The pump over memory streams: what reaches the handler, what stops, what is said when a peer, the memory or the service goes away. */
#include "support/pump.h"

#define GREETING  "220 mx.example.org ESMTP moonpost\r\n"
#define UPTO_DATA "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"
#define UPTO_DATA_SAID \
  "250 mx.example.org\r\n250 Sender OK\r\n250 Recipient OK\r\n354 End data with <CR><LF>.<CR><LF>\r\n"

static mp_server_opts lenient(void)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = true;
  return opts;
}

static unsigned bit(mp_event_kind kind)
{
  return 1u << kind;
}

TEST(without_hooks_the_rules_answer_and_a_message_nobody_owns_is_not_taken)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, GREETING);
  pump_send(
      &p, s,
      "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\nRCPT TO:<x@EXAMPLE.org>\r\nDATA\r\n");
  PUMP_SAID(
      s, "250 mx.example.org\r\n250 Sender OK\r\n550 Relaying denied\r\n250 Recipient OK\r\n354 End data with <CR><LF>.<CR><LF>\r\n");
  pump_send(&p, s, "hello\r\n.\r\n");
  PUMP_SAID(s, "451 Nobody takes this message now; try again later\r\n");
  PUMP_LOG(&p, "");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(true_from_a_hook_opens_no_relay_and_allow_relay_does)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_RCPT);
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, GREETING);
  pump_send(&p, s, "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\n");
  PUMP_SAID(s, "250 mx.example.org\r\n250 Sender OK\r\n550 Relaying denied\r\n");
  p.answers[MP_EV_RCPT] = pump_reply(250, 1, 5, MP_STR("as you like"));
  pump_send(&p, s, "RCPT TO:<x@example.com>\r\n");
  PUMP_SAID(s, "550 Relaying denied\r\n");
  p.answers[MP_EV_RCPT] = pump_pending;
  pump_send(&p, s, "RCPT TO:<x@example.com>\r\n");
  REQUIRE(p.asked);
  mp_conn_allow_relay(p.asked);
  CHECK(mp_conn_answer(p.asked, &pump_default));
  CHECK(!mp_conn_answer(p.asked, &pump_default)); /* one event, one answer */
  pump_turn(&p);
  PUMP_SAID(s, "250 Recipient OK\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(what_rules_and_limits_refuse_is_told_for_the_log)
{
  pump p;
  mp_server_opts opts = lenient();
  opts.size = 1000;
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = MP_HOOK_REFUSED;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\n");
  PUMP_LOG(&p, "refused:rcpt:550:x@example.com ");
  pump_send(&p, s, "RCPT TO:<x@example.org>\r\nDATA\r\n");
  mp_stream_inject(s, "b\0c\r\n.\r\n", 9);
  pump_turn(&p);
  PUMP_LOG(&p, "refused:abort:550: ");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(what_comes_while_an_event_waits_is_answered_in_order_afterwards)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MAIL);
  p.answers[MP_EV_MAIL] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, GREETING);
  pump_send(&p, s, "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@exam");
  PUMP_SAID(s, "250 mx.example.org\r\n");
  pump_send(&p, s, "ple.org\r\nNOOP\r\nQUIT\r\n");
  PUMP_SAID(s, "");
  mp_answer no = pump_reply(450, 2, 0, MP_STR("later"));
  REQUIRE(p.asked && mp_conn_answer(p.asked, &no));
  PUMP_SAID(s, "450 later\r\n503 Send MAIL first\r\n250 OK\r\n221 mx.example.org Bye\r\n");
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_peer_that_talks_on_while_an_event_waits_is_not_read_for_ever)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MAIL);
  p.answers[MP_EV_MAIL] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, "HELO a.example\r\nMAIL FROM:<a@b.example>\r\n");
  mp_buf_consume(mp_stream_written(s), SIZE_MAX);
  for (int i = 0; i < 20000; i++)
    mp_stream_inject(s, "NOOP\r\nNOOP\r\n", 12); /* 240 KB: what is past the ceiling stays in the stream */
  pump_turn(&p);
  REQUIRE(p.asked);
  mp_answer yes = pump_default;
  p.answers[MP_EV_MAIL] = pump_default;
  CHECK(mp_conn_answer(p.asked, &yes));
  pump_turn(&p);
  /* 100 idle commands are free, then they count as errors, and the session ends; it does not hang and does not grow. */
  mp_str said = mp_buf_view(mp_stream_written(s));
  CHECK(said.len > 0 && memcmp(said.ptr, "250 Sender OK\r\n", 15) == 0);
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_peer_lost_before_the_final_dot_cancels_the_hook_that_waits)
{
  pump p;
  REQUIRE(pump_open(&p, NULL));
  p.service->hooks = bit(MP_EV_HELO);
  p.answers[MP_EV_HELO] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, "HELO a.example\r\n");
  REQUIRE(p.asked);
  mp_stream_inject(s, NULL, -1);
  pump_turn(&p);
  PUMP_LOG(&p, "helo lost:helo ");
  CHECK_EQ_INT(p.service->conn_count, 0);
  mp_stream_release(s);
  pump_close(&p);
}

TEST(end_of_file_alone_is_no_loss_every_command_gets_its_reply)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MAIL);
  p.answers[MP_EV_MAIL] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, GREETING);
  mp_stream_inject(s, UPTO_DATA "x\r\n.\r\nQUIT\r\n", (mp_ssize)strlen(UPTO_DATA "x\r\n.\r\nQUIT\r\n"));
  mp_stream_inject(s, NULL, 0);
  pump_turn(&p);
  REQUIRE(p.asked);
  CHECK(!mp_stream_finished(s));
  mp_answer yes = pump_default;
  CHECK(mp_conn_answer(p.asked, &yes));
  PUMP_SAID(s, UPTO_DATA_SAID "451 Nobody takes this message now; try again later\r\n221 mx.example.org Bye\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_peer_lost_after_the_final_dot_does_not_stop_what_was_taken)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MESSAGE) | MP_HOOK_DISCONNECT;
  p.answers[MP_EV_MESSAGE] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, UPTO_DATA "hello\r\n.\r\n");
  REQUIRE(p.asked);
  mp_stream_inject(s, NULL, -1);
  pump_turn(&p);
  PUMP_LOG(&p, "message "); /* neither lost nor closed: its message is being dealt with */
  CHECK_EQ_INT(p.service->conn_count, 1);
  CHECK(!mp_conn_alive(p.asked));
  CHECK_STR(mp_buf_view(&p.body), "hello\r\n");
  mp_answer taken = pump_reply(250, 0, 0, MP_STR("taken"));
  CHECK(mp_conn_answer(p.asked, &taken));
  PUMP_LOG(&p, "closed ");
  CHECK_EQ_INT(p.service->messages, 1);
  CHECK_EQ_INT(p.service->conn_count, 0);
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_body_past_the_threshold_goes_through_a_file_and_comes_back_whole)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MESSAGE);
  p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
  p.worker->bodies.threshold = 65536;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, UPTO_DATA);
  mp_buf sent;
  mp_buf_init(&sent, 4 << 20, NULL);
  for (int i = 0; i < 20000; i++)
    mp_buf_fmt(&sent, "line %d of a body that is larger than what memory takes\r\n", i);
  for (size_t at = 0; at < sent.len; at += 50000) {
    mp_str part = mp_str_sub(mp_buf_view(&sent), at, 50000);
    mp_stream_inject(s, part.ptr, (mp_ssize)part.len);
    pump_turn(&p);
  }
  pump_send(&p, s, ".\r\n");
  CHECK(mp_str_eq(mp_buf_view(&p.body), mp_buf_view(&sent)));
  mp_str said = mp_buf_view(mp_stream_written(s));
  CHECK(said.len >= 11 && memcmp(said.ptr + said.len - 11, "250 taken\r\n", 11) == 0);
  mp_buf_dispose(&sent);
  mp_stream_release(s);
  pump_close(&p);
}

TEST(headers_with_more_fields_than_the_limit_are_refused)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->fields = 3;
  p.service->hooks = bit(MP_EV_MESSAGE);
  p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, UPTO_DATA "A: b\r\nC: d\r\n e\r\nF: g\r\n\r\nX: y\r\n.\r\n");
  pump_send(&p, s,
            "MAIL FROM:<>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\n\r\n.\r\n");
  mp_str said = mp_buf_view(mp_stream_written(s));
  CHECK(memmem(said.ptr, said.len, "250 taken\r\n", 11) != NULL);
  CHECK(memmem(said.ptr, said.len, "552 The message's header has too many fields", 44) != NULL);
  PUMP_LOG(&p, "message ");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(too_many_received_fields_are_a_loop)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hops = 3;
  p.service->hooks = bit(MP_EV_MESSAGE);
  p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, UPTO_DATA "Received: a\r\nReceived: b\r\nreceived: c\r\n\r\n.\r\n");
  pump_send(
      &p, s,
      "MAIL FROM:<>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nReceived: a\r\nReceived: b\r\nreceived: c\r\nReceived: d\r\n\r\n.\r\n");
  mp_str said = mp_buf_view(mp_stream_written(s));
  CHECK(memmem(said.ptr, said.len, "250 taken\r\n", 11) != NULL);
  CHECK(memmem(said.ptr, said.len, "554 Too many Received fields", 28) != NULL);
  PUMP_LOG(&p, "message ");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(connections_past_a_limit_are_told_421_without_a_hook_and_the_log_once_a_minute)
{
  pump p;
  REQUIRE(pump_open(&p, NULL));
  p.service->hooks = bit(MP_EV_CONNECT);
  p.service->connections_most = 3;
  p.service->connections_each = 2;
  mp_stream *a = pump_connect(&p, 1), *b = pump_connect(&p, 1), *c = pump_connect(&p, 1);
  REQUIRE(a && b && c);
  PUMP_SAID(b, GREETING);
  PUMP_SAID(c, "421 4.7.0 mx.example.org Too many connections from your address\r\n");
  CHECK(mp_stream_finished(c));
  mp_stream *d = pump_connect(&p, 2), *e = pump_connect(&p, 3);
  REQUIRE(d && e);
  PUMP_SAID(d, GREETING);
  PUMP_SAID(e, "421 4.7.0 mx.example.org Too many connections\r\n");
  PUMP_LOG(&p, "connect connect crowded:2:smtp:203.0.113.1 connect crowded:1:smtp: ");
  mp_stream *quiet = pump_connect(&p, 1);
  REQUIRE(quiet);
  PUMP_LOG(&p, "");
  mp_stream_release(quiet);
  pump_send(&p, a, "QUIT\r\n");
  mp_stream_inject(a, NULL, 0);
  pump_turn(&p);
  mp_loop_advance(&p.worker->loop, 5000);
  mp_stream *f = pump_connect(&p, 1);
  REQUIRE(f);
  PUMP_SAID(f, GREETING);
  mp_stream *all[] = { a, b, c, d, e, f };
  for (size_t i = 0; i < 6; i++)
    mp_stream_release(all[i]);
  pump_close(&p);
}

static void talk_on(mp_stream *s, size_t octets)
{
  char noops[6001];
  for (size_t i = 0; i < 6000; i += 6)
    memcpy(noops + i, "NOOP\r\n", 7);
  for (size_t sent = 0; sent < octets; sent += 6000)
    mp_stream_inject(s, noops, 6000);
}

TEST(what_all_sessions_hold_has_a_ceiling)
{
  enum { PEERS = 3 };
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->buffers_most = 200000;
  p.service->hooks = bit(MP_EV_MAIL);
  p.answers[MP_EV_MAIL] = pump_pending;
  mp_stream *s[PEERS], *late;
  for (unsigned i = 0; i < PEERS; i++) {
    s[i] = pump_connect(&p, i + 1);
    REQUIRE(s[i]);
    pump_send(&p, s[i], "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n");
    mp_buf *out = mp_stream_written(s[i]);
    mp_buf_consume(out, out->len);
  }
  CHECK(p.worker->buffers < 20000);
  mp_buf_consume(&p.log, p.log.len);
  talk_on(s[0], 60000);
  CHECK(p.worker->buffers >= 60000 && p.worker->buffers < 100000);
  talk_on(s[1], 60000);
  CHECK(!mp_stream_finished(s[0]) && !mp_stream_finished(s[1]));
  /* what little is left is for who is there */
  p.service->buffers_most = 140000;
  late = pump_connect(&p, 9);
  REQUIRE(late);
  PUMP_SAID(late, "421 4.3.2 mx.example.org Too busy now\r\n");
  CHECK(mp_stream_finished(late));
  mp_stream_release(late);
  pump_send(&p, s[2], "NOOP\r\n");
  CHECK(!mp_stream_finished(s[2]));
  talk_on(s[2], 60000);
  pump_turn(&p);
  PUMP_SAID(s[2], "421 4.3.0 mx.example.org Out of memory for this session\r\n");
  CHECK(mp_stream_finished(s[2]) && !mp_stream_finished(s[0]) && !mp_stream_finished(s[1]));
  PUMP_LOG(&p, "crowded:3:smtp: lost:mail ");
  for (unsigned i = 0; i < PEERS; i++) {
    mp_stream_inject(s[i], NULL, MP_E_SYSTEM);
    mp_stream_release(s[i]);
  }
  pump_turn(&p);
  CHECK_EQ_INT(p.worker->buffers, 0);
  late = pump_connect(&p, 9);
  PUMP_SAID(late, GREETING);
  mp_stream_release(late);
  pump_close(&p);
}

TEST(a_proxy_header_names_the_peer_and_its_absence_closes)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  CHECK_EQ_INT(mp_rules_network(&p.service->rules, &p.service->rules.proxy, MP_STR("203.0.113.7")), 0);
  CHECK_EQ_INT(mp_rules_network(&p.service->rules, &p.service->rules.relay, MP_STR("10.0.0.0/8")), 0);
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  PUMP_SAID(s, "");
  pump_send(&p, s, "PROXY TCP4 10.1.2.3 192.0.2.25 4");
  PUMP_SAID(s, "");
  pump_send(&p, s, "0000 25\r\nHELO a.example\r\n");
  PUMP_SAID(s, GREETING "250 mx.example.org\r\n");
  pump_send(&p, s, "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\n");
  PUMP_SAID(s, "250 Sender OK\r\n250 Recipient OK\r\n"); /* the named address may relay */
  mp_stream *t = pump_connect(&p, 7);
  REQUIRE(t);
  pump_send(&p, t, "EHLO a.example\r\n");
  PUMP_SAID(t, "");
  CHECK(mp_stream_finished(t));
  mp_stream *u = pump_connect(&p, 7);
  REQUIRE(u);
  pump_send(&p, u, "PROXY UNKNOWN\r\nHELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\n");
  PUMP_SAID(u, GREETING "250 mx.example.org\r\n250 Sender OK\r\n550 Relaying denied\r\n");
  mp_stream *v = pump_connect(&p, 7);
  REQUIRE(v);
  mp_loop_advance(&p.worker->loop, 31000);
  CHECK(mp_stream_finished(v)); /* it never said who is behind it */
  mp_stream *all[] = { s, t, u, v };
  for (size_t i = 0; i < 4; i++)
    mp_stream_release(all[i]);
  pump_close(&p);
}

TEST(silence_is_answered_421_when_its_deadline_comes)
{
  pump p;
  REQUIRE(pump_open(&p, NULL));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, GREETING);
  mp_loop_advance(&p.worker->loop, 299000);
  CHECK(!mp_stream_finished(s));
  pump_send(&p, s, "NOOP\r\n");
  PUMP_SAID(s, "250 OK\r\n");
  mp_loop_advance(&p.worker->loop, 299000);
  CHECK(!mp_stream_finished(s));
  mp_loop_advance(&p.worker->loop, 2000);
  pump_turn(&p);
  mp_str said = mp_buf_view(mp_stream_written(s));
  CHECK(said.len > 4 && memcmp(said.ptr, "421 ", 4) == 0);
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_stop_tells_idle_peers_421_and_lets_a_busy_one_finish)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  p.service->hooks = bit(MP_EV_MESSAGE);
  p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
  mp_stream *idle = pump_connect(&p, 1), *busy = pump_connect(&p, 2);
  REQUIRE(idle && busy);
  pump_send(&p, busy, UPTO_DATA "half a mes");
  PUMP_SAID(idle, GREETING);
  PUMP_SAID(busy, GREETING UPTO_DATA_SAID);
  mp_service_stop(p.service, 10000);
  pump_turn(&p);
  PUMP_SAID(idle, "421 mx.example.org Service is closing\r\n");
  CHECK(mp_stream_finished(idle));
  PUMP_SAID(busy, "");
  pump_send(&p, busy, "sage\r\n.\r\n");
  PUMP_SAID(busy, "250 taken\r\n421 mx.example.org Service is closing\r\n");
  mp_stream_inject(idle, NULL, 0);
  mp_stream_inject(busy, NULL, 0);
  pump_turn(&p);
  mp_loop_advance(&p.worker->loop, 3000);
  pump_turn(&p);
  CHECK_EQ_INT(p.stopped, 1);
  mp_stream_release(idle);
  mp_stream_release(busy);
  pump_close(&p);
}

TEST(a_stop_cuts_what_is_left_when_the_grace_is_over)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  mp_stream *busy = pump_connect(&p, 2);
  REQUIRE(busy);
  pump_send(&p, busy, UPTO_DATA "half a mes");
  mp_service_stop(p.service, 10000);
  mp_loop_advance(&p.worker->loop, 9000);
  pump_turn(&p);
  CHECK_EQ_INT(p.stopped, 0);
  mp_loop_advance(&p.worker->loop, 2000);
  pump_turn(&p);
  CHECK_EQ_INT(p.stopped, 1);
  mp_stream_release(busy);
  pump_close(&p);
}

TEST(a_replaced_service_leaves_idle_peers_alone_until_its_grace_is_over)
{
  pump p;
  mp_server_opts opts = lenient();
  REQUIRE(pump_open(&p, &opts));
  mp_stream *idle = pump_connect(&p, 1), *other = pump_connect(&p, 2);
  REQUIRE(idle && other);
  PUMP_SAID(idle, GREETING);
  mp_service_retire(p.service, 10000);
  mp_loop_advance(&p.worker->loop, 9000);
  pump_send(&p, idle, "NOOP\r\n");
  PUMP_SAID(idle, "250 OK\r\n");
  pump_send(&p, other, "QUIT\r\n");
  mp_stream_inject(other, NULL, 0);
  pump_turn(&p);
  CHECK_EQ_INT(p.stopped, 0);
  mp_loop_advance(&p.worker->loop, 1000);
  pump_turn(&p);
  PUMP_SAID(idle, "421 mx.example.org Service is closing\r\n");
  mp_loop_advance(&p.worker->loop, 5000);
  pump_turn(&p);
  CHECK_EQ_INT(p.stopped, 1);
  mp_stream_release(idle);
  mp_stream_release(other);
  pump_close(&p);
}

/* The whole life of a session with the nth allocation failing: nothing leaks, nothing is taken that was not answered, the service goes on. */
TEST(every_allocation_may_fail)
{
  FOR_EACH_ALLOC_FAILURE {
    pump p;
    mp_server_opts opts = lenient();
    if (!pump_open(&p, &opts)) {
      if (p.service)
        mp_service_kill(p.service, &pump_handler);
      if (p.worker) {
        pump_turn(&p);
        mp_worker_free(p.worker);
      }
      mp_buf_dispose(&p.log);
      mp_buf_dispose(&p.body);
      continue;
    }
    p.service->hooks = bit(MP_EV_MESSAGE) | bit(MP_EV_RCPT);
    p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
    mp_stream *s = pump_connect(&p, 9);
    if (s) {
      pump_send(&p, s, UPTO_DATA "Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n");
      mp_stream_inject(s, NULL, 0);
      pump_turn(&p);
      mp_stream_release(s);
    }
    pump_close(&p);
  }
}

CHECK_MAIN
