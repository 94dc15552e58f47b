/* The client machine as transcripts: greeting, commands, envelopes, bodies. The hostile servers of the client's table are in test_client_rows.c,
 * AUTH in test_client_auth.c. */
#include "support/client_wire.h"

#define PIPE "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 DSN\r\n"
#define FLAT "250-mx.example\r\n250 8BITMIME\r\n"

TEST(a_conversation_from_banner_to_quit)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_init(&c, slice);
    REQUIRE(cwire_start(&c, NULL));
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), MP_E_MISUSE); /* the banner is to come */
    CWIRE(&c, "220-mx.example\r\n220 ESMTP\r\n", "", "greet=220+");
    CHECK_CSTR(c.text, "mx.example\nESMTP");
    CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
    CWIRE(&c, PIPE, "EHLO client.example\r\n", "hello=250+");
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), 0);
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), MP_E_MISUSE);
    CWIRE(&c, "250 2.0.0 OK\r\n", "NOOP\r\n", "noop=250+");
    CHECK_EQ_INT(c.done.reply.enhanced[0], 2);
    CHECK_CSTR(c.text, "OK");
    CHECK_EQ_INT(mp_client_vrfy(c.cl, MP_STR("tim"), c.now), 0);
    CWIRE(&c, "252 Cannot VRFY\r\n", "VRFY tim\r\n", "vrfy=252+");
    CHECK_EQ_INT(mp_client_command(c.cl, MP_STR("HELP"), c.now), 0);
    CWIRE(&c, "502 5.5.1 No\r\n", "HELP\r\n", "command=502");
    CHECK_EQ_INT(mp_client_rset(c.cl, c.now), 0);
    CWIRE(&c, "250 OK\r\n", "RSET\r\n", "rset=250+");
    CHECK_EQ_INT(mp_client_quit(c.cl, c.now), 0);
    CWIRE(&c, "221 Bye\r\n", "QUIT\r\n", "quit=221+ close");
    CHECK_EQ_INT(c.rc, 0);
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), MP_E_CLOSED);
    CHECK_EQ_INT(mp_client_feed(c.cl, "x", 1, c.now), MP_E_CLOSED);
    cwire_close(&c);
  }
}

TEST(what_an_ehlo_announces)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    REQUIRE(cwire_open(
        &c, slice,
        "250-mx.example greets you\r\n250-SIZE 5000\r\n250-size\r\n250-AUTH PLAIN x-own scram-sha-256\r\n"
        "250-AUTH=LOGIN\r\n250-LIMITS MAILMAX=5 RCPTMAX=20 RCPTDOMAINMAX=0 OTHER=1\r\n250-DELIVERBY 240\r\n"
        "250-FUTURERELEASE 3600 2027-01-01T00:00:00Z\r\n250-X-ODD \x01\r\n250 chunking\r\n"));
    const mp_client_caps *caps = mp_client_caps_of(c.cl);
    CHECK_STR(caps->name, "mx.example");
    CHECK_EQ_INT(caps->extensions, MP_EXT_SIZE | MP_EXT_AUTH | MP_EXT_LIMITS | MP_EXT_DELIVERBY |
                                       MP_EXT_FUTURERELEASE | MP_EXT_CHUNKING);
    CHECK_EQ_INT(caps->size, 5000);
    CHECK_EQ_INT(caps->mechanisms, 1u << MP_MECH_PLAIN | 1u << MP_MECH_SCRAM_SHA_256 | 1u << MP_MECH_LOGIN);
    CHECK_EQ_INT(caps->mail_max, 5);
    CHECK_EQ_INT(caps->rcpt_max, 20);
    CHECK_EQ_INT(caps->rcpt_domain_max, 0);
    CHECK_EQ_INT(caps->by_min, 240);
    CHECK_EQ_INT(caps->hold_max, 3600);
    CHECK_EQ_INT(caps->hold_until, 1798761600);
    CHECK(mp_str_find(caps->lines, '\1', 0) < 0);
    CHECK(mp_client_esmtp(c.cl));
    cwire_close(&c);
  }
}

/* Scripts count in 63 bits: what is beyond them would be a negative size there, and is no limit to anybody. */
TEST(a_size_beyond_all_messages_is_no_limit)
{
  static const struct {
    const char *ehlo;
    uint64_t size;
  } rows[] = { { "250-mx\r\n250 SIZE 9223372036854775807\r\n", INT64_MAX },
               { "250-mx\r\n250 SIZE 9223372036854775808\r\n", 0 },
               { "250-mx\r\n250 SIZE 18446744073709551615\r\n", 0 } };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cwire c;
    REQUIRE(cwire_open(&c, 0, rows[i].ehlo));
    CHECK(mp_client_caps_of(c.cl)->size == rows[i].size);
    cwire_close(&c);
  }
}

TEST(helo_when_ehlo_is_unknown)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_init(&c, slice);
    REQUIRE(cwire_start(&c, NULL));
    CWIRE(&c, "220 mx\r\n", "", "greet=220+");
    CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
    CWIRE(&c, "502 What?\r\n", "EHLO client.example\r\n", "");
    CWIRE(&c, "250 mx\r\n", "HELO client.example\r\n", "hello=250+");
    CHECK(!mp_client_esmtp(c.cl));
    CHECK_EQ_INT(mp_client_caps_of(c.cl)->extensions, 0);
    cwire_close(&c);
  }
}

TEST(a_message_in_one_flight_and_two_round_trips)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, PIPE));
    c.piece = slice;
    cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
    for (int round = 0; round < 2; round++) {
      for (size_t i = 0; i < t.tx.count; i++)
        t.rcpts[i].result.state = MP_RCPT_NONE;
      cwire_body(&c, MP_STR("Subject: x\r\n\r\n.dot\r\n"));
      CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
      CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
            "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n",
            "body");
      CWIRE(&c, "250 2.0.0 queued as 1\r\n", "Subject: x\r\n\r\n..dot\r\n.\r\n", "send=250+");
      CHECK_RCPT(&t, 0, "delivered body 250");
      CHECK_RCPT(&t, 1, "delivered body 250");
      CHECK_STR(t.rcpts[1].result.reply.text, "queued as 1");
      CHECK(!t.rcpts[1].result.dsn_lost);
      CHECK_EQ_INT(t.tx.octets, 20);
    }
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(a_message_in_lock_step)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, FLAT));
    cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
    t.tx.params.given = MP_PARAM_SIZE;
    t.tx.params.size = 3;
    t.rcpts[0].params = (mp_rcpt_params){ .given = MP_PARAM_NOTIFY, .notify = MP_NOTIFY_FAILURE };
    cwire_body(&c, MP_STR("hi"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n", "MAIL FROM:<a@example.net>\r\n", "");
    CWIRE(&c, "550 5.1.1 nobody\r\n", "RCPT TO:<b@example.org>\r\n", "");
    CWIRE(&c, "251 will forward\r\n", "RCPT TO:<c@example.org>\r\n", "");
    CWIRE(&c, "354 go\r\n", "DATA\r\n", "body");
    CWIRE(&c, "250 taken\r\n", "hi\r\n.\r\n", "send=250");
    CHECK_RCPT(&t, 0, "refused rcpt 550");
    CHECK_RCPT(&t, 1, "delivered body 250");
    CHECK(t.rcpts[1].result.dsn_lost);
    CHECK_EQ_INT(t.tx.dropped, MP_PARAM_SIZE);
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(all_parameters_as_they_stand_on_the_wire)
{
  cwire c;
  cwire_tx t;
  REQUIRE(cwire_open(&c, 0,
                     "250-mx\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-DELIVERBY\r\n"
                     "250-FUTURERELEASE 99999 2030-01-01T00:00:00Z\r\n250-MT-PRIORITY\r\n250 AUTH PLAIN\r\n"));
  cwire_tx_init(&t, TO("b\xc3\xbc@example.org"));
  t.tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE | MP_PARAM_BODY | MP_PARAM_RET | MP_PARAM_ENVID |
                                           MP_PARAM_BY | MP_PARAM_HOLDFOR | MP_PARAM_PRIORITY | MP_PARAM_AUTH,
                                  .size = 10,
                                  .body = MP_BODY_8BIT,
                                  .ret = MP_RET_HDRS,
                                  .envid = MP_STR("id+2B1"),
                                  .by_seconds = 120,
                                  .by_mode = 'N',
                                  .by_trace = true,
                                  .hold_for = 60,
                                  .priority = -3,
                                  .auth = MP_STR("<>") };
  t.rcpts[0].params = (mp_rcpt_params){ .given = MP_PARAM_NOTIFY | MP_PARAM_ORCPT,
                                        .notify = MP_NOTIFY_SUCCESS | MP_NOTIFY_DELAY,
                                        .orcpt = MP_STR("rfc822;b@example.org") };
  CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
  CWIRE(&c, "250 ok\r\n250 ok\r\n451 later\r\n",
        "MAIL FROM:<a@example.net> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1 BY=120;NT HOLDFOR=60 MT-PRIORITY=-3 "
        "AUTH=<>\r\nRCPT TO:<b\xc3\xbc@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@example.org\r\nDATA\r\n",
        "send=451");
  CHECK_RCPT(&t, 0, "deferred data 451");
  CHECK_EQ_INT(t.tx.dropped, 0);
  mp_transaction_dispose(&t.tx);
  cwire_close(&c);
}

TEST(rset_only_where_the_peer_holds_an_old_transaction)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, PIPE));
    cwire_tx_init(&t, TO("b@example.org"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n550 no\r\n503 no recipients\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", "send=550");
    CHECK_RCPT(&t, 0, "refused rcpt 550");
    t.rcpts[0].result.state = MP_RCPT_NONE;
    cwire_body(&c, MP_STR("x\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n",
          "RSET\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", "body");
    CWIRE(&c, "554 5.6.0 spam\r\n", "x\r\n.\r\n", "send=554");
    CHECK_RCPT(&t, 0, "refused body 554");
    t.rcpts[0].result.state = MP_RCPT_NONE;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0); /* the body ended the last one: no RSET */
    CWIRE(&c, "550 not you\r\n503 no\r\n503 no\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", "send=550");
    CHECK_RCPT(&t, 0, "refused mail 550");
    t.rcpts[0].result.state = MP_RCPT_NONE;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0); /* MAIL was refused: nothing to forget */
    CWIRE(&c, "", "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", "");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(steps_one_by_one)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, PIPE));
    cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
    CHECK_EQ_INT(mp_client_rcpt(c.cl, &t.tx, 0, c.now), MP_E_MISUSE);
    CHECK_EQ_INT(mp_client_mail(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n", "MAIL FROM:<a@example.net>\r\n", "mail=250+");
    CHECK_EQ_INT(mp_client_rcpt(c.cl, &t.tx, 0, c.now), 0);
    CWIRE(&c, "250 ok\r\n", "RCPT TO:<b@example.org>\r\n", "rcpt=250+");
    CHECK_RCPT(&t, 0, "accepted rcpt 0");
    CHECK_EQ_INT(mp_client_rcpt(c.cl, &t.tx, 1, c.now), 0);
    CWIRE(&c, "450 busy\r\n", "RCPT TO:<c@example.org>\r\n", "rcpt=450");
    cwire_body(&c, MP_STR("x"));
    CHECK_EQ_INT(mp_client_data(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "354 go\r\n", "DATA\r\n", "body");
    CWIRE(&c, "250 done\r\n", "x\r\n.\r\n", "data=250");
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK_RCPT(&t, 1, "deferred rcpt 450");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(a_large_body_goes_by_bdat)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n"));
    c.opts.chunk_from = 5;
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.params.given = MP_PARAM_SIZE;
    t.tx.params.size = 12;
    cwire_body(&c, MP_STR("12345\n.78901\n")); /* as told it would be 12, and it is not canonical */
    c.piece = 6;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n", "MAIL FROM:<a@example.net> SIZE=12\r\nRCPT TO:<b@example.org>\r\n", "body");
    CWIRE(&c, "250 7\r\n250 6\r\n250 done\r\n", "BDAT 7\r\n12345\r\nBDAT 6\r\n.78901BDAT 2 LAST\r\n\r\n",
          "send=250+");
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK(t.tx.chunked);
    t.rcpts[0].result.state = MP_RCPT_NONE;
    t.tx.canonical = true;
    t.tx.params.size = 14;
    cwire_body(&c, MP_STR("12345\r\n.7890\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n", "MAIL FROM:<a@example.net> SIZE=14\r\nRCPT TO:<b@example.org>\r\n", "body");
    CWIRE(&c, "250 done\r\n", "BDAT 14 LAST\r\n12345\r\n.7890\r\n", "send=250+");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(chunks_wait_for_their_replies_where_nothing_is_pipelined)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"));
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.params.given = MP_PARAM_BODY;
    t.tx.params.body = MP_BODY_BINARY;
    cwire_body(&c, MP_STR("a\rb\n.\0"));
    c.piece = 4;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n", "MAIL FROM:<a@example.net> BODY=BINARYMIME\r\n", "");
    CWIRE(&c, "250 ok\r\n", "RCPT TO:<b@example.org>\r\n", "body");
    CWIRE(&c, "250 ok\r\n", "BDAT 4\r\na\rb\n", "");
    CWIRE(&c, "250 ok\r\n", "BDAT 2 LAST\r\n.\0", "send=250+");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(a_chunk_that_is_refused_ends_the_transaction)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"));
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.params.given = MP_PARAM_BODY;
    t.tx.params.body = MP_BODY_BINARY;
    cwire_body(&c, MP_STR("abcdef"));
    c.piece = 4;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_feed(&c, "250 ok\r\n250 ok\r\n", 16);
    cwire_clear(&c.said);
    cwire_clear(&c.events);
    CWIRE(&c, "452 4.3.1 full\r\n", "", "send=452");
    CHECK_RCPT(&t, 0, "deferred body 452");
    CHECK(!mp_client_wants_body(c.cl));
    t.rcpts[0].result.state = MP_RCPT_NONE;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "", "RSET\r\n", ""); /* RFC 3030 2 */
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

/* Once the last octet of the only chunk is out the message is the peer's, cut where SIZE said: so that octet waits for the driver's word that
 * nothing follows. */
TEST(a_body_that_is_not_as_long_as_was_said)
{
  static const size_t pieces[] = { 0, 1, 2, 5 };
  for (size_t k = 0; k < sizeof pieces / sizeof *pieces * 2; k++) {
    bool more = k % 2;
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, 0, "250-mx\r\n250-SIZE\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"));
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.params = (mp_mail_params){ .given = MP_PARAM_BODY | MP_PARAM_SIZE, .body = MP_BODY_BINARY, .size = 5 };
    cwire_body(&c, more ? MP_STR("123456") : MP_STR("1234"));
    c.piece = pieces[k / 2];
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_feed(&c, "250 ok\r\n", 8);
    cwire_feed(&c, "250 ok\r\n", 8);
    CHECK_EQ_INT(c.body_rc, MP_E_INVALID);
    CHECK_CAME(&c, "body send!INVALID close");
    CHECK(memmem(c.said.ptr, c.said.len, "12345", 5) == NULL);
    CHECK_RCPT(&t, 0, "deferred connection 0");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(a_body_that_was_said_to_be_empty)
{
  for (int more = 0; more < 2; more++) {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, 0, "250-mx\r\n250-SIZE\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"));
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.params = (mp_mail_params){ .given = MP_PARAM_BODY | MP_PARAM_SIZE, .body = MP_BODY_BINARY };
    cwire_body(&c, more ? MP_STR("ab") : MP_STR(""));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_feed(&c, "250 ok\r\n", 8);
    cwire_clear(&c.said);
    cwire_feed(&c, "250 ok\r\n", 8);
    if (more)
      CHECK_ASKED(&c, "BDAT 2 LAST\r\nab");
    else
      CHECK_ASKED(&c, "BDAT 0 LAST\r\n");
    cwire_clear(&c.events);
    CWIRE(&c, "250 ok\r\n", "", "send=250+");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(many_domains_in_one_transaction)
{
  enum { MANY = 24, MOST = 20 };
  FOR_EACH_ALLOC_FAILURE {
    cwire c;
    char addresses[MANY][32];
    mp_send_rcpt rcpts[MANY] = { { .address = { NULL, 0 } } };
    mp_transaction tx;
    mp_transaction_init(&tx, NULL);
    tx.sender = MP_STR("a@example.net");
    tx.rcpts = rcpts;
    tx.count = MANY;
    for (int i = 0; i < MANY; i++) {
      snprintf(addresses[i], sizeof addresses[i], "b@%d.example.org", i);
      rcpts[i].address = mp_str_c(addresses[i]);
    }
    if (cwire_open(&c, 0, "250-mx\r\n250-PIPELINING\r\n250 LIMITS RCPTDOMAINMAX=20\r\n") &&
        mp_client_send(c.cl, &tx, c.now) == 0) {
      cwire_pump(&c);
      size_t offered = 0;
      for (size_t i = 0; i + 4 < c.said.len; i++)
        offered += memcmp(c.said.ptr + i, "RCPT", 4) == 0;
      if (!CHECK_ALLOC_FAILED()) {
        CHECK_EQ_INT(offered, MOST);
        CHECK_EQ_INT(mp_transaction_count(&tx, MP_RCPT_AGAIN), MANY - MOST);
      } else if (c.closed) {
        CHECK_EQ_INT(c.rc, MP_E_NOMEM);
        CHECK_EQ_INT(mp_transaction_count(&tx, MP_RCPT_NONE), 0);
      }
    }
    mp_transaction_dispose(&tx);
    cwire_close(&c);
  }
}

TEST(limits_of_the_peer)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice,
                       "250-mx\r\n250-PIPELINING\r\n250 LIMITS MAILMAX=2 RCPTMAX=2 RCPTDOMAINMAX=1\r\n"));
    cwire_tx_init(&t, TO("b@example.org", "c@example.net", "d@EXAMPLE.org", "e@example.org"));
    cwire_body(&c, MP_STR("x\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<d@EXAMPLE.org>\r\nDATA\r\n",
          "body send=250+");
    CHECK_EQ_INT(c.done.again, 2);
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK_RCPT(&t, 1, "again none 0");
    CHECK_RCPT(&t, 2, "delivered body 250");
    CHECK_RCPT(&t, 3, "again none 0");
    cwire_clear(&c.said);
    cwire_body(&c, MP_STR("x\r\n"));
    CHECK(!mp_client_spent(c.cl));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n", "body send=250+");
    CHECK_EQ_INT(c.done.again, 1);
    CHECK(mp_client_spent(c.cl));
    cwire_clear(&c.said);
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "", "", "send=452l");
    CHECK_EQ_INT(c.done.again, 1);
    CHECK_RCPT(&t, 3, "again mail 0");
    mp_transaction_dispose(&t.tx);
    cwire_close(&c);
  }
}

TEST(thousands_of_recipients_keep_the_output_within_its_mark)
{
  enum { MANY = 20000 };
  cwire c;
  REQUIRE(cwire_open(&c, 0, PIPE));
  mp_transaction tx;
  mp_transaction_init(&tx, NULL);
  tx.sender = MP_STR("a@example.net");
  mp_send_rcpt *rcpts = calloc(MANY, sizeof *rcpts);
  for (size_t i = 0; i < MANY; i++)
    rcpts[i].address = MP_STR("somebody.with.a.long.name@department.example.org");
  tx.rcpts = rcpts;
  tx.count = MANY;
  CHECK_EQ_INT(mp_client_send(c.cl, &tx, c.now), 0);
  cwire_body(&c, MP_STR("x\r\n"));
  size_t lines = 0;
  while (mp_client_output(c.cl).len) {
    mp_str out = mp_client_output(c.cl);
    CHECK(out.len < 65 * 1024);
    for (size_t i = 0; i < out.len; i++)
      lines += out.ptr[i] == '\n';
    mp_client_sent(c.cl, out.len, c.now);
  }
  CHECK_EQ_INT(lines, MANY + 2);
  for (size_t i = 0; i < MANY + 1; i++)
    cwire_feed(&c, i % 2 ? "250 ok\r\n" : i ? "550 no\r\n" : "250 yes\r\n", i ? 8 : 9);
  cwire_feed(&c, "354 go\r\n250 done\r\n", 18);
  CHECK_CAME(&c, "body send=250");
  CHECK_EQ_INT(mp_transaction_count(&tx, MP_RCPT_DELIVERED), MANY / 2);
  CHECK_EQ_INT(mp_transaction_count(&tx, MP_RCPT_REFUSED), MANY / 2);
  mp_transaction_dispose(&tx);
  free(rcpts);
  cwire_close(&c);
}

TEST(deadlines_of_each_step)
{
  cwire c;
  cwire_tx t;
  cwire_init(&c, 0);
  REQUIRE(cwire_start(&c, NULL));
  const int64_t minute = 60000;
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 5 * minute);
  cwire_feed(&c, "220 mx\r\n", 8);
  CHECK_EQ_INT(mp_client_deadline(c.cl), INT64_MAX);
  REQUIRE(mp_client_hello(c.cl, c.now) == 0);
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 5 * minute);
  cwire_feed(&c, PIPE, sizeof PIPE - 1);
  cwire_tx_init(&t, TO("b@example.org"));
  c.now += 1000;
  REQUIRE(mp_client_send(c.cl, &t.tx, c.now) == 0);
  c.body_over = true; /* the driver has no octets yet */
  cwire_pump(&c);
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 5 * minute);
  cwire_feed(&c, "250 ok\r\n250 ok\r\n", 16);
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 2 * minute); /* DATA alone is not answered */
  cwire_feed(&c, "354 ok\r\n", 8);
  CHECK_EQ_INT(mp_client_deadline(c.cl), INT64_MAX); /* our turn */
  size_t taken;
  REQUIRE(mp_client_body(c.cl, "x\r\n", 3, true, &taken, c.now) == 0);
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 3 * minute); /* the peer is to read */
  cwire_pump(&c);
  CHECK_EQ_INT(mp_client_deadline(c.cl), c.now + 10 * minute);
  mp_client_tick(c.cl, c.now + 10 * minute - 1);
  cwire_clear(&c.events);
  c.now += 9 * minute;
  mp_client_feed(c.cl, "25", 2, c.now); /* half a reply is no progress */
  c.now += minute;
  mp_client_tick(c.cl, c.now);
  cwire_pump(&c);
  CHECK_CAME(&c, "send!TIMEOUT close");
  CHECK_RCPT(&t, 0, "unknown connection 0");
  mp_transaction_dispose(&t.tx);
  cwire_close(&c);
}

CHECK_MAIN
