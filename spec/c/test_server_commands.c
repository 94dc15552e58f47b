/* The commands of a session without TLS, AUTH or a body of interest (RFC 5321). Each row of hostile input about commands has a test. */
#include "support/wire.h"

#define EHLO_REPLY              \
  "250-mx.example.org\r\n"      \
  "250-PIPELINING\r\n"          \
  "250-SIZE 50000000\r\n"       \
  "250-8BITMIME\r\n"            \
  "250-SMTPUTF8\r\n"            \
  "250-CHUNKING\r\n"            \
  "250-ENHANCEDSTATUSCODES\r\n" \
  "250 LIMITS MAILMAX=1000 RCPTMAX=100\r\n"

#define HELLO "EHLO client.example.net\r\n"
#define MAIL  HELLO "MAIL FROM:<a@example.net>\r\n"
#define RCPT  MAIL "RCPT TO:<b@example.org>\r\n"

/* Runs a command at every slice size in a fresh session that stands behind `upto`. */
#define ROW(UPTO, LINE, SAID)        \
  FOR_EACH_SLICE(slice_)             \
  {                                  \
    wire w_;                         \
    REQUIRE(wire_open(&w_, slice_)); \
    wire_upto(&w_, UPTO);            \
    TALK(&w_, LINE, SAID);           \
    wire_close(&w_);                 \
  }

TEST(a_message_from_banner_to_quit)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    REQUIRE(wire_start(&w));
    CHECK_SAID(&w, "220 mx.example.org ESMTP moonpost\r\n");
    CHECK_EVENTS(&w, "connect");
    TALK(&w, "EHLO client.example.net\r\n", EHLO_REPLY);
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    TALK(&w, "Subject: x\r\n\r\n..dot\r\n.\r\n", "250 2.0.0 OK\r\n");
    TALK(&w, "QUIT\r\n", "221 2.0.0 mx.example.org Bye\r\n");
    CHECK_EVENTS(&w, "ehlo=client.example.net mail=a@example.net rcpt=b@example.org data message=20 quit close");
    CHECK_BODY(&w, "Subject: x\r\n\r\n.dot\r\n");
    wire_close(&w);
  }
}

TEST(helo_announces_nothing_and_has_no_enhanced_codes)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    TALK(&w, "HELO client.example.net\r\n", "250 mx.example.org\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> SIZE=5\r\n", "555 Parameter not recognized or not implemented\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 Sender OK\r\n");
    CHECK_CSTR(mp_server_with(w.srv), "SMTP");
    CHECK_EVENTS(&w, "helo=client.example.net mail=a@example.net");
    wire_close(&w);
  }
}

TEST(verbs_in_any_case_and_surplus_space)
{
  ROW(HELLO, "mAiL fRoM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> \t \r\n", "250 2.1.0 Sender OK\r\n"); /* RFC 5321 4.1.1 */
  ROW(HELLO, "NOOP   \r\n", "250 2.0.0 OK\r\n");
  ROW(HELLO, "MAIL FROM: <a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
  ROW(MAIL, "RCPT TO: <b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
  ROW(HELLO, "MAIL  FROM:<a@example.net>\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
  ROW(HELLO, "MAIL FROM:  <a@example.net>\r\n", "501 5.1.7 Bad sender address syntax\r\n");
  ROW(HELLO, " NOOP\r\n", "500 5.5.1 Command not recognized\r\n");
  ROW(HELLO, "MAIL FROM:a@example.net\r\n", "501 5.1.7 Bad sender address syntax\r\n");
  ROW(HELLO, "MAIL\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
  ROW(HELLO, "\r\n", "500 5.5.1 Command not recognized\r\n");
}

TEST(laxities_are_each_asked_for)
{
  static const struct {
    unsigned lax;
    const char *line;
  } rows[] = {
    { MP_LAX_SPACE, "MAIL  FROM : <a@example.net>\r\n" },
    { MP_LAX_SPACE, "MAIL FROM:   <a@example.net>\r\n" },
    { MP_LAX_BRACKETS, "MAIL FROM:a@example.net\r\n" },
    { MP_LAX_DOTS, "MAIL FROM:<a..b@example.net>\r\n" },
    { MP_LAX_UNDERSCORE, "MAIL FROM:<a@my_host.net>\r\n" },
    { MP_LAX_HELO, "EHLO my_host\r\n" },
    { MP_LAX_LENGTH,
      "MAIL FROM:<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.net>\r\n" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int on = 0; on < 2; on++) {
      wire w;
      wire_init(&w, MP_PROTOCOL_SMTP, 0);
      w.opts.lax = on ? rows[i].lax : ~rows[i].lax & 127u & ~(unsigned)MP_LAX_NO_HELO;
      REQUIRE(wire_start(&w));
      wire_upto(&w, HELLO);
      wire_say(&w, rows[i].line);
      CHECK(w.said.len > 3 && memcmp(w.said.ptr, on ? "250" : "501", 3) == 0);
      wire_close(&w);
    }
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.lax = MP_LAX_NO_HELO;
  REQUIRE(wire_start(&w));
  wire_look(&w);
  TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 Sender OK\r\n");
  TALK(&w, "RSET\r\n", "250 OK\r\n");
  CHECK_CSTR(mp_server_state(w.srv), "START");
  wire_close(&w);
}

TEST(parameters_of_mail)
{
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=99999999999999999999\r\n",
      "552 5.3.4 Message size exceeds fixed limit\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=50000001\r\n", "552 5.3.4 Message size exceeds fixed limit\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=50000000\r\n", "250 2.1.0 Sender OK\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=\r\n", "501 5.5.4 Syntax error in parameters\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=-1\r\n", "501 5.5.4 SIZE is no number\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> SIZE=1 SIZE=1\r\n", "501 5.5.4 Parameter given twice\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> X-THING=1\r\n",
      "555 5.5.4 Parameter not recognized or not implemented\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> BODY=BINARYMIME\r\n", "504 5.5.4 BODY value not implemented\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> BODY=8BITMIME SIZE=10 SMTPUTF8\r\n", "250 2.1.0 Sender OK\r\n");
  /* What was not announced is not known. */
  ROW(HELLO, "MAIL FROM:<a@example.net> RET=FULL\r\n",
      "555 5.5.4 Parameter not recognized or not implemented\r\n");
  ROW(HELLO, "MAIL FROM:<a@example.net> REQUIRETLS\r\n",
      "555 5.5.4 Parameter not recognized or not implemented\r\n");
  ROW(MAIL, "RCPT TO:<b@example.org> NOTIFY=NEVER\r\n",
      "555 5.5.4 Parameter not recognized or not implemented\r\n");
}

TEST(every_parameter_reaches_the_driver)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SUBMISSION, slice);
    w.opts.extensions |= MP_EXT_DSN | MP_EXT_DELIVERBY | MP_EXT_FUTURERELEASE | MP_EXT_MT_PRIORITY |
                         MP_EXT_REQUIRETLS | MP_EXT_BINARYMIME;
    w.opts.auth_required = false;
    w.opts.by_min = 60;
    w.opts.hold_max = 100000;
    w.opts.priority_profile = MP_STR("MIXER");
    w.tls_from_start = true;
    REQUIRE(wire_start(&w));
    wire_look(&w);
    TALK(&w, HELLO,
         "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n"
         "250-BINARYMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-DELIVERBY 60\r\n"
         "250-FUTURERELEASE 100000 1970-01-02T04:03:20Z\r\n250-MT-PRIORITY MIXER\r\n250-REQUIRETLS\r\n"
         "250 LIMITS MAILMAX=1000 RCPTMAX=100\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> BY=59;R\r\n", "501 5.5.4 BY is below the minimum\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> HOLDFOR=100001\r\n", "501 5.5.4 HOLDFOR is above the maximum\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> HOLDUNTIL=1970-01-03T04:03:20Z\r\n",
         "501 5.5.4 HOLDUNTIL is above the maximum\r\n");
    w.stop = true;
    WIRE_SAY(&w, "MAIL FROM:<a@example.net> BY=60;RT HOLDFOR=99 MT-PRIORITY=-3 REQUIRETLS RET=HDRS ENVID=QQ+2B SIZE=77 "
                 "BODY=BINARYMIME\r\n");
    REQUIRE(w.waits.kind == MP_EV_MAIL);
    const mp_mail_params *p = w.waits.mail.params;
    CHECK_EQ_INT(p->by_seconds, 60);
    CHECK(p->by_trace && p->by_mode == 'R');
    CHECK_EQ_INT(p->hold_for, 99);
    CHECK_EQ_INT(p->priority, -3);
    CHECK(p->given & MP_PARAM_REQUIRETLS);
    CHECK_EQ_INT(p->ret, MP_RET_HDRS);
    CHECK_STR(p->envid, "QQ+2B");
    CHECK_EQ_INT(p->size, 77);
    CHECK_EQ_INT(p->body, MP_BODY_BINARY);
    CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
    WIRE_SAY(&w, "RCPT TO:<b@example.org> NOTIFY=DELAY,FAILURE ORCPT=rfc822;c+40x\r\n");
    REQUIRE(w.waits.kind == MP_EV_RCPT);
    CHECK_EQ_INT(w.waits.rcpt.recipient->params.notify, MP_NOTIFY_DELAY | MP_NOTIFY_FAILURE);
    CHECK_STR(w.waits.rcpt.recipient->params.orcpt, "rfc822;c+40x");
    wire_close(&w);
  }
}

TEST(paths_as_rfc_5321_says)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO);
    TALK(&w, "MAIL FROM:<>\r\n", "250 2.1.0 Sender OK\r\n");
    TALK(&w, "RCPT TO:<@a.example,@b.example:c@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<\"quoted @ \\\"local\"@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<d@[192.0.2.1]>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<e@[IPv6:2001:db8::1]>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<f@[x-tag:thing]>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<PostMaster>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "RCPT TO:<>\r\n", "501 5.1.3 Bad recipient address syntax\r\n");
    TALK(&w, "RCPT TO:<\"a@evil b\"@good.example\r\n", "501 5.1.3 Bad recipient address syntax\r\n");
    TALK(&w, "RCPT TO:<\"unclosed@example.org>\r\n", "501 5.1.3 Bad recipient address syntax\r\n");
    TALK(&w, "RCPT TO:<a@b@example.org>\r\n", "501 5.1.3 Bad recipient address syntax\r\n");
    TALK(&w, "RCPT TO:<\xe2\x80\x8b@example.org>\r\n", "553 5.6.7 Address outside ASCII without SMTPUTF8\r\n");
    CHECK_EVENTS(&w, "mail= rcpt=c@example.org rcpt=\"quoted @ \\\"local\"@example.org rcpt=d@[192.0.2.1] "
                     "rcpt=e@[IPv6:2001:db8::1] rcpt=f@[x-tag:thing] rcpt=PostMaster");
    wire_close(&w);
  }
}

TEST(utf8_without_smtputf8_is_refused_everywhere)
{
  ROW(HELLO, "MAIL FROM:<\xc3\xbc@example.net>\r\n", "553 5.6.7 Address outside ASCII without SMTPUTF8\r\n");
  ROW(HELLO, "MAIL FROM:<\xc3\xbc@example.net> SMTPUTF8\r\n", "250 2.1.0 Sender OK\r\n");
  ROW(MAIL, "RCPT TO:<\xc3\xbc@example.org>\r\n", "553 5.6.7 Address outside ASCII without SMTPUTF8\r\n");
  ROW(HELLO "MAIL FROM:<a@example.net> SMTPUTF8\r\n", "RCPT TO:<\xc3\xbc@\xc3\xb6.example>\r\n",
      "250 2.1.5 Recipient OK\r\n");
  ROW(HELLO "MAIL FROM:<a@example.net> SMTPUTF8\r\n", "RCPT TO:<\xc3@example.org>\r\n",
      "501 5.1.3 Bad recipient address syntax\r\n");
  ROW("", "EHLO \xc3\xbc.example\r\n", "501 Send a domain or an address literal\r\n");
  ROW(HELLO, "VRFY \xc3\xbc\r\n", "553 5.6.7 Address outside ASCII without SMTPUTF8\r\n");
  ROW(HELLO, "VRFY \xc3\xbc SMTPUTF8\r\n",
      "252 2.5.0 Cannot verify, but will accept mail for what RCPT accepts\r\n");
}

TEST(replies_in_utf8_only_to_those_who_asked_for_it)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, MAIL);
    wire_answer_next(&w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "k\xc3\xb6nnte"));
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "550 5.1.1 k??nnte\r\n");
    wire_upto(&w, "RSET\r\nMAIL FROM:<a@example.net> SMTPUTF8\r\n");
    wire_answer_next(&w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "k\xc3\xb6nnte"));
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "550 5.1.1 k\xc3\xb6nnte\r\n");
    CHECK_CSTR(mp_server_with(w.srv), "UTF8SMTP");
    wire_close(&w);
  }
}

TEST(control_characters_never_reach_an_event)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.extensions |= MP_EXT_DSN;
    REQUIRE(wire_start(&w));
    wire_look(&w);
    TALK(&w, "EHLO a\rb\r\n", "500 Line holds a bare CR or LF, or a NUL\r\n");
    TALK(&w, "EHLO a\0b\r\n", "500 Line holds a bare CR or LF, or a NUL\r\n");
    TALK(&w, "EHLO a\n", "500 Line holds a bare CR or LF, or a NUL\r\n");
    TALK(&w,
         "EHLO a\x01"
         "b\r\n",
         "501 Send a domain or an address literal\r\n");
    wire_upto(&w, HELLO);
    TALK(&w, "MAIL FROM:<a\x07@example.net>\r\n", "501 5.1.7 Bad sender address syntax\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> ENVID=a\x02\r\n", "501 5.5.4 Syntax error in parameters\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> ENVID=a+0D+0A\r\n", "501 5.5.4 Bad ENVID\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    TALK(&w, "RCPT TO:<b@example.org> ORCPT=rfc822;a+0A\r\n", "501 5.5.4 Bad ORCPT\r\n");
    TALK(&w, "RCPT TO:<b@exa\rmple.org>\r\n", "500 5.5.2 Line holds a bare CR or LF, or a NUL\r\n");
    TALK(&w, "VRFY a\x1b[2J\r\n", "501 5.5.4 Syntax: VRFY address\r\n");
    CHECK_EVENTS(&w, "mail=a@example.net");
    wire_close(&w);
  }
}

TEST(the_order_of_commands)
{
  ROW("", "MAIL FROM:<a@example.net>\r\n", "503 Send EHLO first\r\n");
  ROW("", "RCPT TO:<a@example.net>\r\n", "503 Send MAIL first\r\n");
  ROW("", "DATA\r\n", "503 Send EHLO first\r\n");
  ROW(HELLO, "RCPT TO:<a@example.net>\r\n", "503 5.5.1 Send MAIL first\r\n");
  ROW(HELLO, "DATA\r\n", "503 5.5.1 Send MAIL first\r\n");
  ROW(MAIL, "MAIL FROM:<a@example.net>\r\n", "503 5.5.1 Sender already given\r\n");
  ROW(MAIL, "DATA\r\n", "554 5.5.1 No valid recipients\r\n");
  ROW(RCPT, "DATA now\r\n", "501 5.5.4 No argument allowed\r\n");
  ROW(HELLO, "RSET now\r\n", "501 5.5.4 No argument allowed\r\n");
  ROW(HELLO, "LHLO client.example.net\r\n", "500 5.5.1 Command not recognized\r\n");
  ROW(HELLO, "ETRN example.org\r\n", "502 5.5.1 Command not implemented\r\n");
  ROW(HELLO, "XYZZY\r\n", "500 5.5.1 Command not recognized\r\n");
  ROW(HELLO, "STARTTLS\r\n", "502 5.5.1 STARTTLS is not offered\r\n");
  ROW(HELLO, "AUTH PLAIN\r\n", "502 5.5.1 AUTH is not offered\r\n");
  ROW("", "EHLO\r\n", "501 Send a domain or an address literal\r\n");
  ROW("", "EHLO a b\r\n", "501 Send a domain or an address literal\r\n");
  ROW("", "EHLO [192.0.2.1]\r\n", EHLO_REPLY);
}

TEST(rset_noop_vrfy_help_expn_anywhere)
{
  static const char *const places[] = { HELLO, MAIL, RCPT, RCPT "BDAT 1\r\nx" };
  for (size_t i = 0; i < 4; i++) {
    ROW(places[i], "NOOP\r\n", "250 2.0.0 OK\r\n");
    ROW(places[i], "NOOP whatever this is\r\n", "250 2.0.0 OK\r\n");
    ROW(places[i], "VRFY b@example.org\r\n",
        "252 2.5.0 Cannot verify, but will accept mail for what RCPT accepts\r\n");
    ROW(places[i], "EXPN list\r\n", "502 5.5.1 EXPN not implemented\r\n");
    ROW(places[i], "HELP\r\n",
        "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH\r\n");
    ROW(places[i], "RSET\r\n", "250 2.0.0 OK\r\n");
  }
  ROW("", "RSET\r\n", "250 OK\r\n");
  ROW("", "NOOP\r\n", "250 OK\r\n");
}

TEST(rcpt_after_a_failed_mail)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO);
    wire_answer_next(&w, MP_EV_MAIL, MP_REPLY(550, 5, 7, 1, "Not you"));
    TALK(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
         "550 5.7.1 Not you\r\n503 5.5.1 Send MAIL first\r\n503 5.5.1 Send MAIL first\r\n");
    CHECK(mp_server_envelope(w.srv) == NULL);
    TALK(&w, "MAIL FROM:<c@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    CHECK_EVENTS(&w, "mail=a@example.net mail=c@example.net");
    wire_close(&w);
  }
}

TEST(a_refused_recipient_is_not_in_the_envelope)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, MAIL);
    wire_answer_next(&w, MP_EV_RCPT, (mp_reply){ .code = 450, .text = MP_STR("Later") });
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "450 4.0.0 Later\r\n");
    CHECK_EQ_INT(mp_server_envelope(w.srv)->count, 0);
    TALK(&w, "DATA\r\n", "554 5.5.1 No valid recipients\r\n");
    TALK(&w, "RCPT TO:<c@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    wire_answer_next(&w, MP_EV_RCPT, MP_REPLY(551, 5, 1, 6, "Moved\ntwice"));
    TALK(&w, "RCPT TO:<d@example.org>\r\n", "551-5.1.6 Moved\r\n551 5.1.6 twice\r\n");
    REQUIRE(mp_server_envelope(w.srv)->count == 1);
    CHECK_STR(mp_server_envelope(w.srv)->rcpts[0]->path.address, "c@example.org");
    wire_close(&w);
  }
}

TEST(rset_and_a_second_ehlo_forget_the_transaction)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, RCPT);
    TALK(&w, "RSET\r\n", "250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "reset");
    CHECK(mp_server_envelope(w.srv) == NULL);
    TALK(&w, "RSET\r\n", "250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "EHLO other.example\r\n", EHLO_REPLY);
    CHECK_EVENTS(&w, "ehlo=other.example reset");
    CHECK_STR(mp_server_helo(w.srv), "other.example");
    TALK(&w, "DATA\r\n", "503 5.5.1 Send MAIL first\r\n");
    wire_close(&w);
  }
}

/* RFC 5321 4.1.4: one that is not accepted leaves everything as it was. */
TEST(a_refused_ehlo_forgets_nothing)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, RCPT);
    TALK(&w, "EHLO\r\n", "501 5.5.4 Send a domain or an address literal\r\n");
    wire_answer_next(&w, MP_EV_HELO, MP_REPLY(550, 5, 7, 1, "Not that name"));
    TALK(&w, "EHLO evil.example\r\n", "550 Not that name\r\n");
    CHECK_STR(mp_server_helo(w.srv), "client.example.net");
    TALK(&w, "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    wire_close(&w);
  }
}

TEST(the_driver_speaks_in_banner_and_ehlo)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 1);
  w.opts.extensions = MP_EXT_PIPELINING;
  wire_answer_next(&w, MP_EV_CONNECT, (mp_reply){ .code = 220, .text = MP_STR("hello\nno spam here") });
  wire_answer_next(&w, MP_EV_HELO, (mp_reply){ .code = 250, .text = MP_STR("nice to meet you") });
  REQUIRE(wire_start(&w));
  CHECK_SAID(&w, "220-mx.example.org hello\r\n220 no spam here\r\n");
  TALK(&w, HELLO, "250-mx.example.org nice to meet you\r\n250 PIPELINING\r\n");
  wire_answer_next(&w, MP_EV_HELO, (mp_reply){ .code = 250, .text = MP_STR("hi") });
  TALK(&w, "HELO me.example\r\n", "250 mx.example.org hi\r\n");
  wire_close(&w);
}

TEST(connect_is_refused_and_closed)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 1);
  wire_answer_next(&w, MP_EV_CONNECT, MP_REPLY(554, 5, 7, 1, "No service for you"));
  REQUIRE(wire_start(&w));
  CHECK_SAID(&w, "554 No service for you\r\n");
  CHECK_EVENTS(&w, "connect close");
  CHECK_EQ_INT(mp_server_feed(w.srv, "x", 1, w.now), MP_E_CLOSED);
  wire_close(&w);
}

TEST(a_421_from_the_driver_closes)
{
  static const char *const lines[] = { HELLO, MAIL, RCPT };
  static const mp_event_kind kinds[] = { MP_EV_HELO, MP_EV_MAIL, MP_EV_RCPT };
  for (size_t i = 0; i < 3; i++) {
    wire w;
    REQUIRE(wire_open(&w, 0));
    wire_answer_next(&w, kinds[i], MP_REPLY(421, 4, 7, 0, "Enough"));
    wire_upto(&w, lines[i]);
    CHECK(w.closed);
    CHECK_EQ_INT(mp_server_feed(w.srv, "x", 1, w.now), MP_E_CLOSED);
    wire_close(&w);
  }
}

TEST(replies_that_make_no_sense_are_not_said)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.stop = true;
  REQUIRE(wire_start(&w));
  mp_reply three = { .code = 354, .text = MP_STR("x") }, split = { .code = 550, .text = MP_STR("a\r\n250 b") };
  mp_reply class = MP_REPLY(550, 4, 7, 1, "x"), low = { .code = 99 };
  CHECK_EQ_INT(mp_server_reply(w.srv, &three, w.now), MP_E_INVALID);
  CHECK_EQ_INT(mp_server_reply(w.srv, &split, w.now), MP_E_INVALID);
  CHECK_EQ_INT(mp_server_reply(w.srv, &class, w.now), MP_E_INVALID);
  CHECK_EQ_INT(mp_server_reply(w.srv, &low, w.now), MP_E_INVALID);
  CHECK(mp_server_waiting(w.srv));
  CHECK_EQ_INT(mp_server_output(w.srv).len, 0);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), MP_E_MISUSE);
  wire_close(&w);
}

TEST(no_octet_is_taken_while_an_event_waits)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  wire_upto(&w, HELLO);
  w.stop = true;
  CHECK_EQ_INT(WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\nNOOP\r\n"), 6);
  CHECK_EQ_INT(mp_server_feed(w.srv, "NOOP\r\n", 6, w.now), 0);
  mp_event ev;
  CHECK_EQ_INT(mp_server_next(w.srv, &ev), 0);
  CHECK_EQ_INT(mp_server_deadline(w.srv), INT64_MAX);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  TALK(&w, "NOOP\r\n", "250 2.1.0 Sender OK\r\n250 2.0.0 OK\r\n");
  wire_close(&w);
}

TEST(a_pipelined_group_in_one_flight)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO);
    w.hold = slice == 0;
    WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n");
    w.hold = false;
    wire_say(&w, "");
    CHECK_SAID(&w, "250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n250 2.1.5 Recipient OK\r\n"
                   "354 End data with <CR><LF>.<CR><LF>\r\n");
    CHECK(!mp_server_early_talker(w.srv));
    wire_close(&w);
  }
}

TEST(http_and_tls_on_a_plain_port_are_closed_at_once)
{
  static const char *const greetings[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "POST /a HTTP/1.1\r\n",
                                           "CONNECT a:25 HTTP/1.1\r\n",
                                           "OPTIONS * HTTP/1.1\r\n",
                                           "XGET / HTTP/1.0\r\n",
                                           "\x16\x03\x01\x02" };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof greetings / sizeof *greetings; i++) {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_say(&w, greetings[i]);
    CHECK_SAID(&w, "");
    CHECK_EVENTS(&w, "close");
    CHECK_CSTR(w.why, "not SMTP");
    wire_close(&w);
  }
  /* Before the banner too. */
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.stop = true;
  REQUIRE(wire_start(&w));
  CHECK_EQ_INT(mp_server_feed(w.srv, "GET / HTTP/1.1\r\n", 16, w.now), 0);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  w.stop = false;
  wire_say(&w, "");
  CHECK_SAID(&w, "");
  CHECK_EVENTS(&w, "close");
  wire_close(&w);
}

/* ---- octets where none may be -------------------------------------------------------------------------------------- */

TEST(octets_before_the_banner)
{
  for (int tolerate = 0; tolerate < 2; tolerate++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, 0);
    w.stop = true;
    w.opts.tolerate_early = tolerate;
    REQUIRE(wire_start(&w));
    CHECK_EQ_INT(mp_server_feed(w.srv, "EHLO a\r\n", 8, w.now), 0);
    CHECK(mp_server_early_talker(w.srv));
    CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
    w.stop = false;
    wire_say(&w, "");
    if (tolerate) {
      CHECK_SAID(&w, "220 mx.example.org ESMTP moonpost\r\n");
      TALK(&w, "EHLO a\r\n", EHLO_REPLY);
    } else {
      CHECK_SAID(&w, "554 Talking out of turn\r\n");
      CHECK(w.closed);
    }
    wire_close(&w);
  }
}

TEST(octets_in_one_flight_behind_ehlo)
{
  for (int tolerate = 0; tolerate < 2; tolerate++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, 0);
    w.opts.tolerate_early = tolerate;
    REQUIRE(wire_start(&w));
    wire_look(&w);
    if (tolerate)
      TALK(&w, "EHLO a\r\nNOOP\r\n", EHLO_REPLY "250 2.0.0 OK\r\n");
    else
      TALK(&w, "EHLO a\r\nNOOP\r\n", EHLO_REPLY "554 5.5.1 Talking out of turn\r\n");
    CHECK_EQ_INT(w.closed, !tolerate);
    CHECK(mp_server_early_talker(w.srv));
    wire_close(&w);
  }
}

/* One octet at a time: what was said has not left, so the peer cannot have read it. */
TEST(octets_before_the_reply_to_ehlo_was_sent)
{
  wire w;
  REQUIRE(wire_open(&w, 1));
  w.hold = true;
  WIRE_SAY(&w, "EHLO a\r\nNOOP\r\n");
  CHECK(w.closed && mp_server_early_talker(w.srv));
  wire_close(&w);
}

TEST(octets_while_the_hook_of_ehlo_waits)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  w.stop = true;
  WIRE_SAY(&w, "EHLO a\r\n");
  CHECK_EQ_INT(mp_server_feed(w.srv, "NOOP\r\n", 6, w.now), 0);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  w.stop = false;
  wire_say(&w, "");
  TALK(&w, "NOOP\r\n", EHLO_REPLY "554 5.5.1 Talking out of turn\r\n");
  wire_close(&w);
}

TEST(quit_may_follow_anything)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  TALK(&w, "EHLO a\r\nQUIT\r\n", EHLO_REPLY "221 2.0.0 mx.example.org Bye\r\n");
  CHECK(!mp_server_early_talker(w.srv));
  wire_close(&w);
}

TEST(octets_between_data_and_354)
{
  for (int tolerate = 0; tolerate < 2; tolerate++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, 0);
    w.opts.tolerate_early = tolerate;
    REQUIRE(wire_start(&w));
    wire_upto(&w, RCPT);
    WIRE_SAY(&w, "DATA\r\nhello\r\n.\r\n");
    if (tolerate) {
      CHECK_SAID(&w, "354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 OK\r\n");
      CHECK_EVENTS(&w, "data message=7");
    } else {
      CHECK_SAID(&w, "554 5.5.1 Talking out of turn\r\n");
      CHECK_EVENTS(&w, "data close");
    }
    CHECK(mp_server_early_talker(w.srv));
    wire_close(&w);
  }
  /* And a body that comes while 354 has not left. */
  wire w;
  REQUIRE(wire_open(&w, 1));
  wire_upto(&w, RCPT);
  w.hold = true;
  WIRE_SAY(&w, "DATA\r\nhello\r\n.\r\n");
  CHECK_EVENTS(&w, "data abort=421 close");
  CHECK_EQ_INT(w.messages, 0);
  wire_close(&w);
}

TEST(pipelining_that_was_not_offered)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  TALK(&w, "HELO a\r\n", "250 mx.example.org\r\n");
  TALK(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n",
       "250 Sender OK\r\n554 Talking out of turn\r\n");
  CHECK(w.closed);
  wire_close(&w);
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.extensions &= ~(unsigned)MP_EXT_PIPELINING;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO);
  WIRE_SAY(&w, "RSET\r\nRSET\r\n");
  CHECK(w.closed);
  wire_close(&w);
}

TEST(the_facts_of_a_session)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  CHECK(mp_server_idle(w.srv));
  CHECK_STR(mp_server_helo(w.srv), "");
  CHECK_CSTR(mp_server_with(w.srv), "SMTP");
  wire_upto(&w, HELLO);
  CHECK_CSTR(mp_server_with(w.srv), "ESMTP");
  CHECK(mp_server_esmtp(w.srv) && !mp_server_tls(w.srv) && mp_server_mech(w.srv) == -1);
  WIRE_SAY(&w, "NOO");
  CHECK(!mp_server_idle(w.srv));
  WIRE_SAY(&w, "P\r\n");
  CHECK(mp_server_idle(w.srv));
  wire_upto(&w, "MAIL FROM:<a@example.net>\r\n");
  CHECK(!mp_server_idle(w.srv) && !mp_server_in_body(w.srv));
  CHECK_STR(mp_server_envelope(w.srv)->sender.address, "a@example.net");
  CHECK_CSTR(mp_event_name(MP_EV_STARTTLS), "starttls");
  CHECK_CSTR(mp_event_name(MP_EV_COUNT), "unknown");
  wire_close(&w);
}

TEST(the_driver_closes)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  wire_upto(&w, RCPT "DATA\r\n");
  mp_reply bye = MP_REPLY(421, 4, 3, 2, "mx.example.org Going down");
  mp_server_close(w.srv, &bye, "shutdown");
  wire_say(&w, "");
  CHECK_SAID(&w, "421 4.3.2 mx.example.org Going down\r\n");
  CHECK_EVENTS(&w, "abort=421 close");
  CHECK_CSTR(w.why, "shutdown");
  mp_server_close(w.srv, NULL, "again");
  mp_event ev;
  CHECK_EQ_INT(mp_server_next(w.srv, &ev), 0);
  wire_close(&w);
}

TEST(options_that_make_no_sense)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  CHECK(!mp_server_opts_check(&opts));
  opts.hostname = MP_STR("not a host");
  CHECK(mp_server_opts_check(&opts));
  mp_server_opts_init(&opts, MP_PROTOCOL_SUBMISSION);
  CHECK_CSTR(mp_server_opts_check(&opts), "auth_required without a mechanism: nobody could send");
  opts.mechanisms = 1u << MP_MECH_PLAIN;
  CHECK_CSTR(mp_server_opts_check(&opts), "mechanisms are given without a SASL context");
}

CHECK_MAIN
