/* Whom the pump trusts after the peer has become another one: PROXY, XCLIENT, AUTH. */
#include "support/pump.h"

#define GREETING     "220 mx.example.org ESMTP moonpost\r\n"
#define HELLO        "HELO a.example\r\n"
#define HELLO_SAID   "250 mx.example.org\r\n"
#define TO_ELSEWHERE "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.com>\r\n"
#define DENIED       "250 Sender OK\r\n550 Relaying denied\r\n"

static mp_server_opts gateway(void)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = true;
  opts.extensions |= MP_EXT_XCLIENT;
  return opts;
}

/* 203.0.113.7 may relay, say XCLIENT and speak for others. */
static bool trust_a_proxy(pump *p)
{
  mp_rules *rules = &p->service->rules;
  return mp_rules_network(rules, &rules->relay, MP_STR("203.0.113.7")) == 0 &&
         mp_rules_network(rules, &rules->xclient, MP_STR("203.0.113.7")) == 0;
}

/* What was learned stayed until the next XCLIENT, which made the client that nobody knows the proxy itself: and that may relay. Clients of
 * XCLIENT spread their attributes over several commands. */
TEST(a_second_xclient_does_not_make_an_unknown_client_the_proxy)
{
  pump p;
  mp_server_opts opts = gateway();
  REQUIRE(pump_open(&p, &opts));
  REQUIRE(trust_a_proxy(&p));
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, "XCLIENT ADDR=[UNAVAILABLE]\r\n" HELLO TO_ELSEWHERE);
  PUMP_SAID(s, GREETING GREETING HELLO_SAID DENIED);
  pump_send(&p, s, "RSET\r\nXCLIENT NAME=a.example\r\n" HELLO TO_ELSEWHERE);
  PUMP_SAID(s, "250 OK\r\n" GREETING HELLO_SAID DENIED);
  pump_send(&p, s, "RSET\r\nXCLIENT ADDR=203.0.113.7\r\n" HELLO TO_ELSEWHERE);
  PUMP_SAID(s, "250 OK\r\n" GREETING HELLO_SAID "250 Sender OK\r\n250 Recipient OK\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

/* A stranger behind a proxy that says UNKNOWN stood at the proxy's address, and could name any other with XCLIENT. */
TEST(whom_the_proxy_does_not_name_may_not_say_xclient)
{
  pump p;
  mp_server_opts opts = gateway();
  REQUIRE(pump_open(&p, &opts));
  REQUIRE(trust_a_proxy(&p));
  REQUIRE(mp_rules_network(&p.service->rules, &p.service->rules.proxy, MP_STR("203.0.113.7")) == 0);
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, "PROXY UNKNOWN\r\nXCLIENT ADDR=203.0.113.7\r\n" HELLO TO_ELSEWHERE);
  PUMP_SAID(s, GREETING "550 Insufficient authorization\r\n" HELLO_SAID DENIED);
  mp_stream_release(s);
  pump_close(&p);
}

static mp_answer alice(void)
{
  static const char senders[] = "alice@example.org\0";
  return (mp_answer){ .kind = MP_ANSWER_CREDENTIALS,
                      .credentials = { .password = MP_STR("secret") },
                      .senders = mp_str_of(senders, sizeof senders) };
}

/* PLAIN, as alice with "secret". */
#define AUTH "EHLO a.example\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"

/* The addresses of one user were those of the next, whom XCLIENT named. */
TEST(the_senders_of_a_user_do_not_outlive_an_xclient)
{
  pump p;
  mp_server_opts opts = gateway();
  opts.mechanisms = 1u << MP_MECH_PLAIN;
  opts.auth_in_clear = true;
  REQUIRE(pump_open(&p, &opts));
  REQUIRE(trust_a_proxy(&p));
  p.service->hooks = 1u << MP_EV_CREDENTIALS;
  p.answers[MP_EV_CREDENTIALS] = alice();
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, AUTH);
  mp_buf_consume(mp_stream_written(s), mp_stream_written(s)->len);
  pump_send(&p, s, "MAIL FROM:<bob@example.org>\r\nMAIL FROM:<alice@example.org>\r\nRSET\r\n");
  PUMP_SAID(s, "553 5.7.1 Sender address is not yours to use\r\n250 2.1.0 Sender OK\r\n250 2.0.0 OK\r\n");
  pump_send(&p, s, "XCLIENT LOGIN=bob\r\n" HELLO "MAIL FROM:<bob@example.org>\r\n");
  PUMP_SAID(s, GREETING HELLO_SAID "250 Sender OK\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

/* Clients behind a gateway were all of them the gateway to limits.connections_per_address. */
TEST(whom_xclient_names_is_who_counts)
{
  enum { SESSIONS = 3 };
  pump p;
  mp_server_opts opts = gateway();
  REQUIRE(pump_open(&p, &opts));
  REQUIRE(trust_a_proxy(&p));
  p.service->connections_each = 2;
  mp_stream *s[SESSIONS];
  for (int i = 0; i < SESSIONS; i++) { /* more than the gateway could have at a time */
    s[i] = pump_connect(&p, 7);
    REQUIRE(s[i]);
    pump_send(&p, s[i], i < 2 ? "XCLIENT ADDR=198.51.100.1\r\n" : "XCLIENT ADDR=198.51.100.2\r\n");
    PUMP_SAID(s[i], GREETING GREETING);
  }
  /* once more the same, and what is not known, count nothing anew */
  pump_send(&p, s[1], "XCLIENT ADDR=198.51.100.1\r\nXCLIENT ADDR=[UNAVAILABLE]\r\n");
  PUMP_SAID(s[1], GREETING GREETING);
  pump_send(&p, s[2], "XCLIENT ADDR=198.51.100.1\r\n" HELLO);
  PUMP_SAID(s[2], "421 mx.example.org Too many connections from your address\r\n");
  CHECK(mp_stream_finished(s[2]));
  PUMP_LOG(&p, "crowded:2:smtp:198.51.100.1 ");
  mp_stream_inject(s[0], NULL, MP_E_SYSTEM);
  mp_stream_inject(s[1], NULL, MP_E_SYSTEM);
  pump_turn(&p);
  CHECK_EQ_INT(mp_gate_count(p.worker->gate), 0);
  for (int i = 0; i < SESSIONS; i++)
    mp_stream_release(s[i]);
  pump_close(&p);
}

CHECK_MAIN
