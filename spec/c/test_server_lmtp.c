/* LMTP (RFC 2033): LHLO, and a reply for each recipient. */
#include "support/wire.h"

#define UPTO_RCPT                                                                                                  \
  "LHLO client.example.net\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n" \
  "RCPT TO:<d@example.org>\r\n"

static bool open_lmtp(wire *w, size_t slice, const char *upto)
{
  wire_init(w, MP_PROTOCOL_LMTP, slice);
  if (!wire_start(w))
    return false;
  wire_upto(w, upto);
  return true;
}

TEST(lhlo_and_nothing_else)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_LMTP, slice);
    REQUIRE(wire_start(&w));
    CHECK_SAID(&w, "220 mx.example.org LMTP moonpost\r\n");
    TALK(&w, "HELO a\r\n", "500 Command not recognized\r\n");
    TALK(&w, "EHLO a\r\n", "500 Command not recognized\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "503 Send LHLO first\r\n");
    WIRE_SAY(&w, "LHLO a\r\n");
    CHECK(w.said.len > 4 && memcmp(w.said.ptr, "250-mx.example.org\r\n250-PIPELINING", 34) == 0);
    CHECK_CSTR(mp_server_with(w.srv), "LMTP");
    CHECK_EVENTS(&w, "connect ehlo=a");
    wire_close(&w);
  }
}

TEST(data_with_no_valid_recipient_has_one_reply)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_lmtp(&w, slice, "LHLO a\r\nMAIL FROM:<a@example.net>\r\n"));
    TALK(&w, "DATA\r\n", "554 5.5.1 No valid recipients\r\n");
    wire_close(&w);
  }
}

static int each_its_own(wire *w, const mp_event *ev)
{
  if (ev->kind != MP_EV_MESSAGE)
    return 0;
  mp_reply full = MP_REPLY(452, 4, 2, 2, "Mailbox full"), nobody = MP_REPLY(550, 5, 1, 1, "Nobody"),
           odd = { .code = 354 };
  CHECK_EQ_INT(mp_server_reply_rcpt(w->srv, 2, &full), 0);
  CHECK_EQ_INT(mp_server_reply_rcpt(w->srv, 0, &nobody), 0);
  CHECK_EQ_INT(mp_server_reply_rcpt(w->srv, 3, &full), MP_E_INVALID);
  CHECK_EQ_INT(mp_server_reply_rcpt(w->srv, 1, &odd), MP_E_INVALID);
  return 0;
}

TEST(a_reply_for_each_recipient_after_data)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_lmtp(&w, slice, UPTO_RCPT "DATA\r\n"));
    w.before_reply = each_its_own;
    TALK(&w, "x\r\n.\r\nNOOP\r\n",
         "550 5.1.1 Nobody\r\n250 2.0.0 OK\r\n452 4.2.2 Mailbox full\r\n250 2.0.0 OK\r\n");
    mp_reply late = MP_REPLY(250, 2, 0, 0, "x");
    CHECK_EQ_INT(mp_server_reply_rcpt(w.srv, 0, &late), MP_E_MISUSE);
    wire_close(&w);
  }
}

TEST(a_reply_for_each_recipient_after_bdat_last)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_lmtp(&w, slice, UPTO_RCPT));
    TALK(&w, "BDAT 3\r\nabcBDAT 3 LAST\r\ndef",
         "250 2.0.0 3 octets received\r\n250 2.0.0 OK\r\n250 2.0.0 OK\r\n250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(a_fault_of_the_message_is_said_to_each)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_lmtp(&w, slice, UPTO_RCPT "DATA\r\n"));
    TALK(&w, "a\nb\r\n.\r\n",
         "550 5.5.2 Message holds a bare CR or LF\r\n550 5.5.2 Message holds a bare CR or LF\r\n"
         "550 5.5.2 Message holds a bare CR or LF\r\n");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n");
    wire_answer_next(&w, MP_EV_MESSAGE, MP_REPLY(451, 4, 3, 0, "Later"));
    TALK(&w, "x\r\n.\r\n", "451 4.3.0 Later\r\n451 4.3.0 Later\r\n");
    wire_close(&w);
  }
}

static int talkative(wire *w, const mp_event *ev)
{
  static char text[8000];
  memset(text, '\n', sizeof text);
  memset(text, 'x', 300);
  if (ev->kind == MP_EV_MESSAGE)
    for (size_t i = 0; i < 100; i++) {
      mp_reply reply = { .code = 250, .enhanced = { 2, 0, 0 }, .text = mp_str_of(text, sizeof text) };
      CHECK_EQ_INT(mp_server_reply_rcpt(w->srv, i, &reply), 0);
    }
  return 0;
}

/* The ceiling of output holds however much a script has to say, and each recipient still has its code. */
TEST(a_hundred_replies_that_are_too_long)
{
  wire w;
  REQUIRE(open_lmtp(&w, 0, "LHLO a\r\nMAIL FROM:<a@example.net>\r\n"));
  for (int i = 0; i < 100; i++)
    WIRE_SAY(&w, "RCPT TO:<b@example.org>\r\n");
  WIRE_SAY(&w, "DATA\r\n");
  w.before_reply = talkative;
  wire_look(&w);
  WIRE_SAY(&w, "x\r\n.\r\n");
  CHECK(!w.closed);
  size_t finals = 0;
  for (size_t i = 0; i + 4 < w.said.len; i++)
    finals += (i == 0 || w.said.ptr[i - 1] == '\n') && memcmp(w.said.ptr + i, "250 ", 4) == 0;
  CHECK_EQ_INT(finals, 100);
  wire_close(&w);
}

CHECK_MAIN
