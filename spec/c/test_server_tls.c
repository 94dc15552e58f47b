/* STARTTLS (RFC 3207): where it may stand, what it forgets, and what may not stand behind it (CVE-2011-0411). */
#include "support/wire.h"

#define HELLO "EHLO client.example.net\r\n"

static bool open_tls(wire *w, size_t slice)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  w->opts.tls_offered = true;
  if (!wire_start(w))
    return false;
  wire_upto(w, HELLO);
  return true;
}

TEST(starttls_is_announced_until_it_is_on)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.tls_offered = true;
    w.opts.extensions = MP_EXT_STARTTLS | MP_EXT_REQUIRETLS;
    REQUIRE(wire_start(&w));
    wire_look(&w);
    TALK(&w, HELLO, "250-mx.example.org\r\n250 STARTTLS\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> REQUIRETLS\r\n", "555 Parameter not recognized or not implemented\r\n");
    TALK(&w, "STARTTLS\r\n", "220 Ready to start TLS\r\n");
    TALK(&w, HELLO, "250-mx.example.org\r\n250 REQUIRETLS\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> REQUIRETLS\r\n", "250 Sender OK\r\n");
    CHECK(mp_server_tls(w.srv));
    CHECK_CSTR(mp_server_with(w.srv), "ESMTPS");
    wire_close(&w);
  }
}

TEST(where_starttls_may_not_stand)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_tls(&w, slice));
    TALK(&w, "STARTTLS x\r\n", "501 5.5.4 No argument allowed\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    TALK(&w, "STARTTLS\r\n", "503 5.5.1 Not permitted in a transaction\r\n");
    wire_upto(&w, "RSET\r\nSTARTTLS\r\n" HELLO);
    TALK(&w, "STARTTLS\r\n", "503 5.5.1 TLS is on already\r\n");
    wire_close(&w);
  }
}

TEST(what_is_forgotten_after_the_handshake)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_tls(&w, slice));
    TALK(&w, "STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n");
    CHECK_EVENTS(&w, "starttls");
    CHECK_EQ_INT(mp_server_helo(w.srv).len, 0);
    CHECK(!mp_server_esmtp(w.srv));
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "503 Send EHLO first\r\n"); /* enhanced codes too */
    wire_close(&w);
  }
}

TEST(plaintext_behind_starttls)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_tls(&w, slice));
    w.stop = true; /* the handshake has not been */
    w.hold = true;
    WIRE_SAY(&w, "STARTTLS\r\nMAIL FROM:<eve@example.net>\r\n");
    if (slice && !w.closed) {
      CHECK_EQ_INT(mp_server_feed(w.srv, "MAIL FROM:<eve@example.net>\r\n", 29, w.now), 0);
      w.stop = false;
      wire_say(&w, "");
    }
    w.hold = false;
    wire_say(&w, "");
    CHECK_SAID(&w, "554 5.5.1 Plaintext behind STARTTLS\r\n");
    CHECK(w.closed && mp_server_early_talker(w.srv));
    wire_close(&w);
  }
}

TEST(plaintext_behind_starttls_is_discarded_by_option)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.tls_offered = w.opts.tolerate_injection = true;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO);
    w.stop = true;
    WIRE_SAY(&w, "STARTTLS\r\n");
    CHECK_EQ_INT(mp_server_feed(w.srv, "MAIL FROM:<eve@example.net>\r\nRCP", 32, w.now), 32);
    mp_tls_facts facts = { .version = MP_STR("TLSv1.3") };
    CHECK_EQ_INT(mp_server_tls_done(w.srv, &facts, w.now), 0);
    w.stop = false;
    wire_look(&w);
    wire_upto(&w, HELLO);
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "503 5.5.1 Send MAIL first\r\n");
    CHECK_EVENTS(&w, "");
    wire_close(&w);
  }
}

/* The 220 has gone: what comes then is the handshake's, and whoever feeds it here says that it was in clear. */
TEST(plaintext_behind_a_220_that_was_read)
{
  wire w;
  REQUIRE(open_tls(&w, 1));
  w.stop = true;
  WIRE_SAY(&w, "STARTTLS\r\n");
  CHECK_SAID(&w, "220 2.0.0 Ready to start TLS\r\n");
  CHECK_EQ_INT(mp_server_feed(w.srv, "M", 1, w.now), 0);
  CHECK_EQ_INT(mp_server_output(w.srv).len, 0);
  w.stop = false;
  wire_say(&w, "");
  CHECK_EVENTS(&w, "close");
  wire_close(&w);
}

TEST(tls_from_the_start)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.tls_from_start = w.opts.tls_offered = true;
    w.stop = true;
    REQUIRE(wire_start(&w));
    mp_tls_facts facts = { .cb_exporter = MP_STR("x") };
    CHECK_EQ_INT(mp_server_tls_done(w.srv, &facts, w.now), 0);
    CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
    w.stop = false;
    wire_say(&w, "");
    wire_upto(&w, HELLO);
    CHECK_EQ_INT(mp_server_tls_done(w.srv, &facts, w.now), MP_E_MISUSE);
    TALK(&w, "STARTTLS\r\n", "503 5.5.1 TLS is on already\r\n");
    CHECK_CSTR(mp_server_with(w.srv), "ESMTPS");
    wire_close(&w);
  }
}

TEST(a_handshake_is_the_drivers_time)
{
  wire w;
  REQUIRE(open_tls(&w, 1));
  w.stop = true;
  WIRE_SAY(&w, "STARTTLS\r\n");
  CHECK_EQ_INT(mp_server_deadline(w.srv), INT64_MAX);
  wire_close(&w);
}

CHECK_MAIN
