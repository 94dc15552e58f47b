/* XCLIENT, as Postfix has it: a trusted proxy says who the client is, and the session starts anew. */
#include "support/wire.h"

#define HELLO "EHLO client.example.net\r\n"

static bool open_x(wire *w, size_t slice, unsigned trust)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  w->opts.extensions = MP_EXT_PIPELINING | MP_EXT_ENHANCEDSTATUSCODES | MP_EXT_XCLIENT;
  w->trust = trust;
  if (!wire_start(w))
    return false;
  wire_upto(w, HELLO);
  return true;
}

TEST(xclient_is_announced_to_those_who_may)
{
  wire w;
  REQUIRE(open_x(&w, 1, MP_TRUST_XCLIENT));
  TALK(&w, HELLO,
       "250-mx.example.org\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n"
       "250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n");
  mp_server_trust(w.srv, 0);
  TALK(&w, HELLO, "250-mx.example.org\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n");
  wire_close(&w);
}

TEST(who_may_not)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_x(&w, slice, 0));
    TALK(&w, "XCLIENT ADDR=192.0.2.1\r\n", "550 5.7.0 Insufficient authorization\r\n");
    CHECK_EVENTS(&w, "");
    wire_close(&w);
    REQUIRE(wire_open(&w, slice));
    TALK(&w, "XCLIENT ADDR=192.0.2.1\r\n", "502 XCLIENT is not offered\r\n");
    wire_close(&w);
  }
}

TEST(bad_attributes_and_bad_places)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_x(&w, slice, MP_TRUST_XCLIENT));
    TALK(&w, "XCLIENT\r\n", "501 5.5.4 Syntax: XCLIENT attribute=value...\r\n");
    TALK(&w, "XCLIENT ADDR=300.0.2.1\r\n", "501 5.5.4 Bad XCLIENT attribute\r\n");
    TALK(&w, "XCLIENT SHOE=42\r\n", "501 5.5.4 Bad XCLIENT attribute\r\n");
    TALK(&w, "XCLIENT HELO=a+0D+0Ab\r\n", "501 5.5.4 Bad XCLIENT attribute\r\n");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\n");
    TALK(&w, "XCLIENT ADDR=192.0.2.1\r\n", "503 5.5.1 MAIL transaction in progress\r\n");
    CHECK_EVENTS(&w, "");
    wire_close(&w);
  }
}

static int look(wire *w, const mp_event *ev)
{
  if (ev->kind == MP_EV_XCLIENT) {
    const mp_xclient *x = ev->xclient.attributes;
    char text[MP_IP_TEXT];
    size_t len = mp_ip_format(&x->addr, text);
    CHECK(mp_str_eq(mp_str_of(text, len), MP_STR("192.0.2.7")));
    CHECK_STR(x->name, "spike.example");
    CHECK_EQ_INT(x->unavailable, MP_XCLIENT_PORT);
  }
  (void)w;
  return 0;
}

TEST(the_session_starts_anew)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_x(&w, slice, MP_TRUST_XCLIENT));
    WIRE_SAY(&w, "XYZZY\r\n");
    wire_look(&w);
    w.before_reply = look;
    TALK(&w, "XCLIENT NAME=spike.example ADDR=192.0.2.7 PORT=[UNAVAILABLE]\r\n",
         "220 mx.example.org ESMTP moonpost\r\n");
    CHECK_EVENTS(&w, "xclient connect");
    CHECK_EQ_INT(mp_server_helo(w.srv).len, 0);
    CHECK_EQ_INT(mp_server_errors(w.srv), 0);
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "503 Send EHLO first\r\n");
    TALK(&w, "EHLO other.example\r\n",
         "250-mx.example.org\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n"
         "250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT\r\n");
    wire_close(&w);
  }
}

TEST(login_and_helo_are_taken_over)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_x(&w, slice, MP_TRUST_XCLIENT));
    TALK(&w, "XCLIENT LOGIN=tim+40example HELO=spike.example PROTO=ESMTP\r\n",
         "220 mx.example.org ESMTP moonpost\r\n");
    CHECK_STR(mp_server_user(w.srv), "tim@example");
    CHECK_STR(mp_server_helo(w.srv), "spike.example");
    CHECK_CSTR(mp_server_with(w.srv), "ESMTPA");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 Sender OK\r\n");
    wire_upto(&w, "RSET\r\n");
    TALK(&w, "XCLIENT LOGIN=[UNAVAILABLE]\r\n", "220 mx.example.org ESMTP moonpost\r\n");
    CHECK_EQ_INT(mp_server_user(w.srv).len, 0);
    wire_close(&w);
  }
}

TEST(refused_by_the_driver)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_x(&w, slice, MP_TRUST_XCLIENT));
    wire_answer_next(&w, MP_EV_XCLIENT, MP_REPLY(550, 5, 7, 0, "Not that one"));
    TALK(&w, "XCLIENT ADDR=192.0.2.7\r\n", "550 5.7.0 Not that one\r\n");
    CHECK_STR(mp_server_helo(w.srv), "client.example.net");
    wire_answer_next(&w, MP_EV_CONNECT, MP_REPLY(554, 5, 7, 1, "Listed"));
    TALK(&w, "XCLIENT ADDR=192.0.2.7\r\n", "554 Listed\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

CHECK_MAIN
