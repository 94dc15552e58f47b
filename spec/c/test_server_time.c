/* Deadlines (RFC 5321 4.5.3.2): each silence has its own, and slowness has one too. */
#include "support/wire.h"

#define HELLO "EHLO client.example.net\r\n"
#define RCPT  HELLO "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"

static bool open_with(wire *w, const char *upto)
{
  wire_init(w, MP_PROTOCOL_SMTP, 0);
  if (!wire_start(w))
    return false;
  wire_upto(w, upto);
  return true;
}

TEST(silent_after_connect)
{
  wire w;
  REQUIRE(open_with(&w, ""));
  int64_t from = w.now;
  CHECK(wire_tick(&w));
  CHECK_EQ_INT(w.now - from, 300 * 1000);
  CHECK_SAID(&w, "421 mx.example.org Timeout\r\n");
  CHECK_EVENTS(&w, "close");
  CHECK(!wire_tick(&w));
  wire_close(&w);
}

TEST(silent_in_the_middle_of_a_command)
{
  wire w;
  REQUIRE(open_with(&w, HELLO));
  int64_t from = w.now += 1000;
  WIRE_SAY(&w, "NO");
  w.now += 50 * 1000;
  WIRE_SAY(&w, "O"); /* an octet now and then is no progress */
  CHECK(wire_tick(&w));
  CHECK_EQ_INT(w.now - from, 60 * 1000);
  CHECK_SAID(&w, "421 4.4.2 mx.example.org Timeout\r\n");
  wire_close(&w);
}

TEST(an_overlong_line_that_never_ends)
{
  wire w;
  REQUIRE(open_with(&w, HELLO));
  char big[4000];
  memset(big, 'x', sizeof big);
  int64_t from = w.now;
  wire_feed(&w, big, sizeof big);
  for (int i = 0; i < 10; i++) {
    w.now += 5000;
    wire_feed(&w, big, sizeof big);
  }
  wire_look(&w);
  CHECK(wire_tick(&w));
  CHECK_EQ_INT(w.now - from, 60 * 1000);
  CHECK_SAID(&w, "421 4.4.2 mx.example.org Timeout\r\n");
  wire_close(&w);
}

TEST(silent_in_the_middle_of_a_body)
{
  wire w;
  REQUIRE(open_with(&w, RCPT "DATA\r\n"));
  char big[65536];
  memset(big, 'x', sizeof big);
  WIRE_SAY(&w, "a\r\n");
  for (int i = 0; i < 100; i++) { /* enough octets that the rate is good for hours */
    wire_feed(&w, big, sizeof big);
    WIRE_SAY(&w, "\r\n");
  }
  int64_t from = w.now;
  CHECK(wire_tick(&w));
  CHECK_EQ_INT(w.now - from, 180 * 1000);
  CHECK_SAID(&w, "421 4.4.2 mx.example.org Timeout in the message\r\n");
  CHECK_EVENTS(&w, "abort=421 close");
  wire_close(&w);
}

TEST(a_body_slower_than_the_rate)
{
  for (int bdat = 0; bdat < 2; bdat++) {
    wire w;
    REQUIRE(open_with(&w, RCPT));
    wire_say(&w, bdat ? "BDAT 100000\r\n" : "DATA\r\n");
    wire_look(&w);
    int64_t from = w.now;
    while (!w.closed && w.now - from < 1000 * 1000) {
      w.now += 1000;
      mp_server_tick(w.srv, w.now);
      WIRE_SAY(&w, "0123456789");
    }
    CHECK_EQ_INT(w.now - from, 30 * 1000);
    CHECK_SAID(&w, "421 4.4.2 mx.example.org Message arrives too slowly\r\n");
    CHECK_EQ_INT(w.messages, 0);
    wire_close(&w);
  }
}

TEST(a_body_just_fast_enough)
{
  wire w;
  REQUIRE(open_with(&w, RCPT "DATA\r\n"));
  char line[110];
  memset(line, 'x', sizeof line);
  line[108] = '\r';
  line[109] = '\n';
  for (int i = 0; i < 600; i++) {
    wire_feed(&w, line, sizeof line);
    w.now += 1000;
    mp_server_tick(w.srv, w.now);
  }
  WIRE_SAY(&w, ".\r\n");
  CHECK_SAID(&w, "250 2.0.0 OK\r\n");
  wire_close(&w);
}

TEST(silent_between_chunks_and_in_auth_and_in_a_transaction)
{
  static const char *const places[] = { HELLO, HELLO "MAIL FROM:<a@example.net>\r\n", RCPT, RCPT "BDAT 1\r\nx" };
  for (size_t i = 0; i < 4; i++) {
    wire w;
    REQUIRE(open_with(&w, places[i]));
    int64_t from = w.now;
    CHECK(wire_tick(&w));
    CHECK_EQ_INT(w.now - from, 300 * 1000);
    CHECK_SAID(&w, "421 4.4.2 mx.example.org Timeout\r\n");
    CHECK_EQ_INT(w.closed, true);
    wire_close(&w);
  }
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  mp_sasl_ctx *ctx;
  REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  w.opts.sasl = ctx;
  w.opts.mechanisms = 1u << MP_MECH_PLAIN;
  w.opts.auth_in_clear = true;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO "AUTH PLAIN\r\n");
  CHECK(wire_tick(&w));
  CHECK_SAID(&w, "421 4.4.2 mx.example.org Timeout\r\n");
  wire_close(&w);
  mp_sasl_ctx_free(ctx);
}

TEST(a_session_without_end)
{
  wire w;
  REQUIRE(open_with(&w, HELLO));
  int64_t from = w.now;
  while (!w.closed && w.now - from < 2 * 3600 * 1000) {
    w.now += 200 * 1000;
    mp_server_tick(w.srv, w.now);
    WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\nRSET\r\n");
  }
  CHECK(w.now - from >= 3600 * 1000 && w.now - from <= 3800 * 1000);
  CHECK_CSTR(w.why, "session too long");
  wire_close(&w);
}

/* It is looked at between transactions, but a transaction may not last for ever either. */
TEST(a_transaction_without_end)
{
  wire w;
  REQUIRE(open_with(&w, HELLO));
  w.now += 3000 * 1000;
  w.opts.command_ms = 700 * 1000;
  w.opts.refused_recipients = 0;
  WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\n");
  int64_t from = w.now;
  for (int i = 0; i < 1000 && !w.closed; i++) {
    w.now += 60 * 1000;
    mp_server_tick(w.srv, w.now);
    w.answers[0] = (wire_answer){ MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "Nobody") };
    w.answer_count = 1;
    WIRE_SAY(&w, "RCPT TO:<guess@example.org>\r\n");
  }
  CHECK_EQ_INT(w.now - from, 3600 * 1000);
  wire_close(&w);
}

TEST(nothing_is_due_while_an_event_waits)
{
  wire w;
  REQUIRE(open_with(&w, HELLO));
  w.stop = true;
  WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\n");
  CHECK_EQ_INT(mp_server_deadline(w.srv), INT64_MAX);
  w.now += 10000 * 1000;
  mp_server_tick(w.srv, w.now);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  CHECK_EQ_INT(mp_server_deadline(w.srv), w.now + 300 * 1000); /* our slowness is not the peer's */
  wire_close(&w);
}

TEST(the_banner_is_held_back)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.greet_delay_ms = 2000;
  wire_answer_next(&w, MP_EV_CONNECT, (mp_reply){ .code = 220, .text = MP_STR("hello") });
  REQUIRE(wire_start(&w));
  CHECK_SAID(&w, "");
  CHECK_EQ_INT(mp_server_deadline(w.srv), w.now + 2000);
  CHECK(wire_tick(&w));
  CHECK_SAID(&w, "220 mx.example.org hello\r\n");
  wire_close(&w);
}

TEST(octets_before_a_banner_that_is_held_back)
{
  for (int tolerate = 0; tolerate < 2; tolerate++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, 0);
    w.opts.greet_delay_ms = 2000;
    w.opts.tolerate_early = tolerate;
    REQUIRE(wire_start(&w));
    CHECK_EQ_INT(WIRE_SAY(&w, "HELO a\r\n"), 8);
    CHECK(mp_server_early_talker(w.srv));
    if (!tolerate) {
      CHECK_SAID(&w, "554 Talking out of turn\r\n");
      CHECK(w.closed);
    } else {
      CHECK(wire_tick(&w));
      TALK(&w, "HELO a\r\n", "220 mx.example.org ESMTP moonpost\r\n250 mx.example.org\r\n");
    }
    wire_close(&w);
  }
}

CHECK_MAIN
