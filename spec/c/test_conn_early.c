/* Who speaks before the banner, where a PROXY header may stand before it and nothing else. */
#include "support/pump.h"

#define GREETING "220 mx.example.org ESMTP moonpost\r\n"
#define HEADER   "PROXY TCP4 10.1.2.3 192.0.2.25 40000 25\r\n"
#define TURN     "554 Talking out of turn\r\n"

static bool open_proxied(pump *p, bool tolerate)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = tolerate;
  return pump_open(p, &opts) &&
         mp_rules_network(&p->service->rules, &p->service->rules.proxy, MP_STR("203.0.113.7")) == 0;
}

TEST(what_stands_behind_a_proxy_header_came_before_the_banner)
{
  pump p;
  REQUIRE(open_proxied(&p, false));
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, HEADER "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n");
  PUMP_SAID(s, GREETING TURN);
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_header_alone_in_any_pieces_is_no_early_talk)
{
  pump p;
  REQUIRE(open_proxied(&p, false));
  p.service->hooks = 1u << MP_EV_HELO;
  p.answers[MP_EV_HELO] = pump_pending;
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  const char header[] = HEADER;
  for (size_t i = 0; i + 1 < sizeof header; i++) {
    mp_stream_inject(s, header + i, 1);
    pump_turn(&p);
  }
  PUMP_SAID(s, GREETING);
  pump_send(&p, s, "HELO a.example\r\n");
  REQUIRE(p.asked);
  mp_conn_facts facts;
  mp_conn_facts_get(p.asked, &facts);
  CHECK(!facts.early && facts.proxied);
  CHECK(mp_conn_answer(p.asked, &pump_default));
  PUMP_SAID(s, "250 mx.example.org\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(it_is_noted_where_it_is_tolerated)
{
  pump p;
  REQUIRE(open_proxied(&p, true));
  p.service->hooks = 1u << MP_EV_HELO;
  p.answers[MP_EV_HELO] = pump_pending;
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, HEADER "HELO a.example\r\n");
  REQUIRE(p.asked);
  mp_conn_facts facts;
  mp_conn_facts_get(p.asked, &facts);
  CHECK(facts.early);
  CHECK(mp_conn_answer(p.asked, &pump_default));
  PUMP_SAID(s, GREETING "250 mx.example.org\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

/* The connect hook decides nothing about octets that are there already. */
TEST(behind_a_header_while_the_hook_waits)
{
  pump p;
  REQUIRE(open_proxied(&p, false));
  p.service->hooks = 1u << MP_EV_CONNECT;
  p.answers[MP_EV_CONNECT] = pump_pending;
  mp_stream *s = pump_connect(&p, 7);
  REQUIRE(s);
  pump_send(&p, s, HEADER "EHLO a.example\r\n");
  PUMP_SAID(s, "");
  REQUIRE(p.asked);
  CHECK(mp_conn_answer(p.asked, &pump_default));
  PUMP_SAID(s, GREETING TURN);
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

TEST(before_the_banner_while_the_hook_waits)
{
  pump p;
  REQUIRE(open_proxied(&p, false));
  p.service->hooks = 1u << MP_EV_CONNECT;
  p.answers[MP_EV_CONNECT] = pump_pending;
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  pump_send(&p, s, "EHLO a.example\r\n");
  REQUIRE(p.asked);
  CHECK(mp_conn_answer(p.asked, &pump_default));
  PUMP_SAID(s, TURN);
  CHECK(mp_stream_finished(s));
  mp_stream_release(s);
  pump_close(&p);
}

CHECK_MAIN
