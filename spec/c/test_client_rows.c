/* The rows of the client's table: what a hostile or broken server does, and what must happen. Each is fed in slices. */
#include "support/client_wire.h"

#define PIPE    "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 DSN\r\n"
#define FLAT    "250 mx.example\r\n"
#define FLIGHT1 "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
#define FLIGHT2 "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"

/* A transaction to `to` that was begun behind this EHLO. */
static bool sending(cwire *c, cwire_tx *t, size_t slice, const char *ehlo, const char *const *to)
{
  if (!cwire_open(c, slice, ehlo))
    return false;
  cwire_tx_init(t, to);
  cwire_body(c, MP_STR("x\r\n"));
  return mp_client_send(c->cl, &t->tx, c->now) == 0;
}

static void over(cwire *c, cwire_tx *t)
{
  mp_transaction_dispose(&t->tx);
  cwire_close(c);
}

/* ---- STARTTLS ------------------------------------------------------------------------------------------------------ */

TEST(octets_behind_220_to_starttls_abort)
{
  FOR_EACH_SLICE(slice)
  for (int with_event = 0; with_event < 2; with_event++) {
    cwire c;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250 STARTTLS\r\n"));
    CHECK_EQ_INT(mp_client_starttls(c.cl, c.now), 0);
    cwire_pump(&c);
    CHECK_ASKED(&c, "STARTTLS\r\n");
    if (with_event) { /* in a segment of their own */
      cwire_feed(&c, "220 go\r\n", 8);
      CHECK_CAME(&c, "starttls");
      CHECK_EQ_INT(mp_client_deadline(c.cl), INT64_MAX);
      cwire_feed(&c, "250", 3);
    } else {
      cwire_feed(&c, "220 go\r\n250 injected\r\n", 22);
    }
    if (!with_event && slice == 0)
      CHECK_CAME(&c, "starttls!SYNTAX close");
    else if (!with_event)
      CHECK(c.closed);
    else
      CHECK_CAME(&c, "starttls!SYNTAX close");
    CHECK_EQ_INT(c.rc, MP_E_SYNTAX);
    CHECK_EQ_INT(mp_client_tls_done(c.cl, &c.facts, c.now), MP_E_MISUSE);
    cwire_close(&c);
  }
}

TEST(starttls_missing_or_refused)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-AUTH PLAIN LOGIN XOAUTH2\r\n250 SIZE\r\n"));
    CHECK_EQ_INT(mp_client_starttls(c.cl, c.now), 0);
    CWIRE(&c, "", "", "starttls=502l");
    mp_client_login login = { .user = MP_STR("tim"), .password = MP_STR("secret"), .token = MP_STR("token") };
    CHECK_EQ_INT(mp_client_auth(c.cl, &login, c.now), 0);
    CWIRE(&c, "", "", "auth=538l"); /* and nothing was said */
    cwire_close(&c);
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250 STARTTLS\r\n"));
    CHECK_EQ_INT(mp_client_starttls(c.cl, c.now), 0);
    CWIRE(&c, "454 4.7.0 not now\r\n", "STARTTLS\r\n", "starttls=454");
    CHECK(!mp_client_tls(c.cl));
    CHECK_EQ_INT(mp_client_busy(c.cl), MP_OP_NONE);
    cwire_close(&c);
  }
}

TEST(only_what_is_announced_behind_tls_counts)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-PIPELINING\r\n250 SIZE 1\r\n"));
    CHECK_EQ_INT(mp_client_starttls(c.cl, c.now), 0);
    CWIRE(&c, "220 go\r\n", "STARTTLS\r\n", "starttls");
    CHECK_EQ_INT(mp_client_tls_done(c.cl, &c.facts, c.now), 0);
    CWIRE(&c, "", "", "starttls=220+");
    CHECK_EQ_INT(mp_client_caps_of(c.cl)->extensions, 0);
    CHECK(mp_client_tls(c.cl) && !mp_client_esmtp(c.cl));
    CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
    CWIRE(&c, "250-mx\r\n250 SIZE 77\r\n", "EHLO client.example\r\n", "hello=250+");
    CHECK_EQ_INT(mp_client_caps_of(c.cl)->extensions, MP_EXT_SIZE);
    CHECK_EQ_INT(mp_client_caps_of(c.cl)->size, 77);
    CHECK_EQ_INT(mp_client_caps_of(c.cl)->mechanisms, 0);
    cwire_close(&c);
  }
}

/* ---- replies ------------------------------------------------------------------------------------------------------- */

TEST(an_endless_reply_mixed_codes_and_a_line_of_10_mb)
{
  FOR_EACH_SLICE(slice)
  for (int what = 0; what < 4; what++) {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, FLAT, TO("b@example.org")));
    if (what == 0) {
      for (int i = 0; i < 2000 && !c.closed; i++)
        cwire_feed(&c, "250-more\r\n", 10);
    } else if (what == 1) {
      cwire_feed(&c, "250-ok\r\n251 ok\r\n", 16);
    } else if (what == 2) {
      static char line[4096];
      memset(line, 'a', sizeof line);
      cwire_feed(&c, "250 ", 4);
      for (int i = 0; i < 2560 && !c.closed; i++)
        cwire_feed(&c, line, sizeof line);
    } else {
      cwire_feed(&c, "SSH-2.0-OpenSSH\r\n", 17);
    }
    CHECK(c.closed);
    if (what % 2)
      CHECK_CAME(&c, "send!SYNTAX close");
    else
      CHECK_CAME(&c, "send!TOOLONG close");
    CHECK_RCPT(&t, 0, "deferred connection 0");
    over(&c, &t);
  }
}

TEST(control_characters_reach_nobody)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org")));
    CWIRE(&c, "250 ok\r\n550-\033]0;title\007\r\n550 \x9b\xff\0no\r\n503 no\r\n", FLIGHT1, "send=550");
    CHECK_STR(t.rcpts[0].result.reply.text, "?]0;title?\n???no");
    CHECK(!mp_reply_check(&t.rcpts[0].result.reply));
    over(&c, &t);
  }
}

TEST(a_reply_that_nothing_asked_for)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    REQUIRE(cwire_open(&c, slice, PIPE));
    CWIRE(&c, "250 surprise\r\n", "", "close");
    CHECK_EQ_INT(c.rc, MP_E_SYNTAX);
    cwire_close(&c);
    REQUIRE(cwire_open(&c, slice, PIPE));
    CWIRE(&c, "421 4.3.2 stopping\r\n", "", "close");
    CHECK_EQ_INT(c.rc, 0);
    cwire_close(&c);
  }
}

/* ---- 421, close, silence ------------------------------------------------------------------------------------------- */

/* What the server says to a transaction with two recipients, of whom the second is refused. */
static const char *const script[] = { "250 2.1.0 ok\r\n", "250 2.1.5 ok\r\n", "550 5.1.1 no\r\n",
                                      "354 go\r\n", "250 2.0.0 taken\r\n" };
enum { SCRIPT = sizeof script / sizeof *script };

/* After `answered` replies (and, with `part`, a piece of the next): the states that may be. */
static void check_known(const cwire *c, const cwire_tx *t, size_t answered, bool said421, const char *how)
{
  mp_rcpt_state first = (mp_rcpt_state)t->rcpts[0].result.state, second = (mp_rcpt_state)t->rcpts[1].result.state;
  mp_rcpt_state want_first = answered == SCRIPT                   ? MP_RCPT_DELIVERED
                             : answered == SCRIPT - 1 && !said421 ? MP_RCPT_UNKNOWN
                                                                  : MP_RCPT_DEFERRED;
  mp_rcpt_state want_second = answered >= 3 ? MP_RCPT_REFUSED : MP_RCPT_DEFERRED;
  if (first != want_first || second != want_second)
    FAIL("%s after %zu replies: %s, %s", how, answered, mp_rcpt_state_name(first), mp_rcpt_state_name(second));
  CHECK_EQ_INT(c->dones, 3);
  CHECK(c->closed);
}

TEST(the_state_of_each_recipient_is_known_wherever_it_ends)
{
  FOR_EACH_SLICE(slice)
  for (int pipelined = 0; pipelined < 2; pipelined++)
    for (size_t answered = 0; answered < SCRIPT; answered++)
      for (int how = 0; how < 4; how++) {
        cwire c;
        cwire_tx t;
        REQUIRE(sending(&c, &t, slice, pipelined ? PIPE : FLAT, TO("b@example.org", "c@example.org")));
        for (size_t i = 0; i < answered; i++)
          cwire_feed(&c, script[i], strlen(script[i]));
        if (how == 0) {
          cwire_feed(&c, "421 4.3.2 stopping\r\n", 20);
        } else if (how == 1) {
          mp_client_lost(c.cl, MP_E_EOF, "closed");
        } else if (how == 2) { /* in the middle of a reply */
          cwire_feed(&c, script[answered], 5);
          mp_client_lost(c.cl, MP_E_EOF, "closed");
        } else {
          c.now = mp_client_deadline(c.cl);
          REQUIRE(c.now != INT64_MAX);
          mp_client_tick(c.cl, c.now);
        }
        cwire_pump(&c);
        static const char *const hows[] = { "421", "close", "close in a reply", "silence" };
        check_known(&c, &t, answered, how == 0, hows[how]);
        CHECK_EQ_INT(c.done.rc, how == 0 ? 0 : how == 3 ? MP_E_TIMEOUT : MP_E_EOF);
        over(&c, &t);
      }
}

TEST(an_end_in_the_middle_of_the_body)
{
  for (int how = 0; how < 3; how++) {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, 0, PIPE, TO("b@example.org")));
    c.body_over = true; /* no octets yet */
    cwire_feed(&c, "250 ok\r\n250 ok\r\n354 go\r\n", 24);
    size_t taken;
    CHECK_EQ_INT(mp_client_body(c.cl, "half", 4, false, &taken, c.now), 0);
    cwire_pump(&c);
    cwire_clear(&c.events);
    if (how == 0)
      mp_client_lost(c.cl, MP_E_EOF, "closed");
    else if (how == 1)
      mp_client_body_failed(c.cl, "the file cannot be read");
    else
      cwire_feed(&c, "552 5.3.4 too big\r\n", 19);
    cwire_pump(&c);
    if (how == 2) {
      CHECK_CAME(&c, "send=552 close");
      CHECK_RCPT(&t, 0, "refused body 552");
    } else {
      CHECK_RCPT(&t, 0, "deferred connection 0");
      CHECK(c.closed);
    }
    over(&c, &t);
  }
}

TEST(a_message_accepted_before_its_end)
{
  cwire c;
  cwire_tx t;
  REQUIRE(sending(&c, &t, 0, PIPE, TO("b@example.org")));
  c.body_over = true;
  cwire_feed(&c, "250 ok\r\n250 ok\r\n354 go\r\n250 thanks\r\n", 36);
  CHECK_CAME(&c, "body send!SYNTAX close");
  CHECK_RCPT(&t, 0, "deferred connection 0");
  over(&c, &t);
}

TEST(a_message_accepted_before_its_end_has_left)
{
  cwire c;
  cwire_tx t;
  REQUIRE(sending(&c, &t, 0, PIPE, TO("b@example.org")));
  cwire_feed(&c, "250 ok\r\n250 ok\r\n", 16);
  c.hold = true;
  cwire_feed(&c, "354 go\r\n", 8);
  CHECK(c.body_over);
  cwire_feed(&c, "250 thanks\r\n", 12);
  CHECK_CAME(&c, "body send!SYNTAX close");
  CHECK_RCPT(&t, 0, "unknown connection 0");
  over(&c, &t);
}

/* ---- recipients ---------------------------------------------------------------------------------------------------- */

TEST(each_recipient_has_its_own_result)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org", "c@example.org", "d@example.org")));
    CWIRE(&c, "250 ok\r\n450 4.2.0 greylisted\r\n250 ok\r\n550 5.1.1 unknown\r\n354 go\r\n250 2.0.0 taken\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\nDATA\r\n",
          "body send=250");
    CHECK_RCPT(&t, 0, "deferred rcpt 450");
    CHECK_STR(t.rcpts[0].result.reply.text, "greylisted");
    CHECK_RCPT(&t, 1, "delivered body 250");
    CHECK_RCPT(&t, 2, "refused rcpt 550");
    over(&c, &t);
  }
}

TEST(a_354_with_nobody_accepted_gets_a_lone_dot)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org", "c@example.org")));
    CWIRE(&c, "250 ok\r\n550 no\r\n450 no\r\n354 go\r\n", FLIGHT2, "");
    CWIRE(&c, "250 taken, strangely\r\n", ".\r\n", "send=450");
    CHECK_RCPT(&t, 0, "refused rcpt 550");
    CHECK_RCPT(&t, 1, "deferred rcpt 450");
    CHECK(!c.closed);
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), 0);
    CWIRE(&c, "250 ok\r\n", "NOOP\r\n", "noop=250+");
    over(&c, &t);
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org"))); /* MAIL was refused, and nobody told DATA */
    CWIRE(&c, "550 5.7.1 not you\r\n503 no\r\n354 go\r\n", FLIGHT1, "");
    CWIRE(&c, "250 taken\r\n", ".\r\n", "send=550");
    CHECK_RCPT(&t, 0, "refused mail 550");
    over(&c, &t);
  }
}

TEST(a_5xx_to_what_comes_before_mail_is_final_for_nobody)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_init(&c, slice);
    REQUIRE(cwire_start(&c, NULL));
    CWIRE(&c, "554 5.7.1 not you\r\n", "", "greet=554");
    cwire_close(&c);
    cwire_init(&c, slice);
    REQUIRE(cwire_start(&c, NULL));
    cwire_feed(&c, "220 mx\r\n", 8);
    CHECK_CAME(&c, "greet=220+");
    CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
    CWIRE(&c, "554 5.7.1 not you\r\n", "EHLO client.example\r\n", "hello=554");
    cwire_close(&c);
    cwire_tx t; /* RSET before MAIL is one of them */
    REQUIRE(sending(&c, &t, slice, FLAT, TO("b@example.org")));
    cwire_feed(&c, "250 ok\r\n550 no\r\n", 16);
    t.rcpts[0].result.state = MP_RCPT_NONE;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_feed(&c, "500 what\r\n", 10);
    CHECK_RCPT(&t, 0, "deferred connection 500");
    over(&c, &t);
  }
}

TEST(too_many_recipients_follow_in_the_next_transaction)
{
  FOR_EACH_SLICE(slice)
  for (int code = 452; code <= 552; code += 100) {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org", "c@example.org")));
    if (code == 452)
      CWIRE(&c, "250 ok\r\n250 ok\r\n452 4.5.3 too many\r\n354 go\r\n250 taken\r\n", FLIGHT2, "body send=250+");
    else
      CWIRE(&c, "250 ok\r\n250 ok\r\n552 too many\r\n354 go\r\n250 taken\r\n", FLIGHT2, "body send=250+");
    CHECK_EQ_INT(c.done.again, 1);
    CHECK_EQ_INT(t.rcpts[1].result.state, MP_RCPT_AGAIN);
    cwire_clear(&c.said);
    cwire_body(&c, MP_STR("x\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n", "body send=250+");
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK_RCPT(&t, 1, "delivered body 250");
    over(&c, &t);
    /* the first of all is no "too many", nor is a full mailbox: there is no end to "again" else */
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org", "c@example.org")));
    cwire_pump(&c);
    cwire_clear(&c.said);
    CWIRE(&c, "250 ok\r\n452 no\r\n250 ok\r\n354 go\r\n250 taken\r\n", "", "body send=250");
    CHECK_RCPT(&t, 0, "deferred rcpt 452");
    over(&c, &t);
    REQUIRE(sending(&c, &t, slice, PIPE, TO("b@example.org", "c@example.org")));
    CWIRE(&c, "250 ok\r\n250 ok\r\n552 5.2.2 mailbox full\r\n354 go\r\n250 taken\r\n", FLIGHT2, "body send=250");
    CHECK_RCPT(&t, 1, "refused rcpt 552");
    over(&c, &t);
  }
}

/* ---- LMTP ---------------------------------------------------------------------------------------------------------- */

static bool lmtp(cwire *c, cwire_tx *t, size_t slice)
{
  cwire_init(c, slice);
  c->opts.lmtp = true;
  if (!cwire_start(c, NULL) || !cwire_hello(c, "250-mx\r\n250 PIPELINING\r\n"))
    return false;
  cwire_tx_init(t, TO("b", "c@example.org", "d@example.org"));
  cwire_body(c, MP_STR("x\r\n"));
  return mp_client_send(c->cl, &t->tx, c->now) == 0;
}

TEST(lmtp_replies_go_each_to_its_own_recipient)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(lmtp(&c, &t, slice));
    CWIRE(&c, "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<b>\r\nRCPT TO:<c@example.org>\r\nRCPT TO:<d@example.org>\r\nDATA\r\n",
          "body");
    CWIRE(&c, "452 4.2.2 full\r\n", "x\r\n.\r\n", "");
    CWIRE(&c, "250 2.0.0 stored\r\n", "", "send=250");
    CHECK_RCPT(&t, 0, "deferred body 452");
    CHECK_RCPT(&t, 1, "refused rcpt 550");
    CHECK_RCPT(&t, 2, "delivered body 250");
    over(&c, &t);
    for (int how = 0; how < 2; how++) { /* an end between the replies */
      REQUIRE(lmtp(&c, &t, slice));
      cwire_feed(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 stored\r\n", 52);
      if (how)
        mp_client_lost(c.cl, MP_E_EOF, "closed");
      else
        cwire_feed(&c, "421 stopping\r\n", 14);
      cwire_pump(&c);
      CHECK_RCPT(&t, 0, "delivered body 250");
      CHECK_RCPT(&t, 1, "unknown connection 0");
      CHECK_RCPT(&t, 2, "unknown connection 0");
      over(&c, &t);
    }
    REQUIRE(lmtp(&c, &t, slice)); /* 354 with nobody accepted */
    cwire_feed(&c, "250 ok\r\n550 no\r\n550 no\r\n550 no\r\n354 go\r\n", 40);
    CHECK(c.closed);
    CHECK_RCPT(&t, 2, "refused rcpt 550");
    over(&c, &t);
  }
}

TEST(lmtp_says_lhlo_and_knows_no_helo)
{
  cwire c;
  cwire_init(&c, 0);
  c.opts.lmtp = true;
  REQUIRE(cwire_start(&c, NULL));
  CWIRE(&c, "220 mx\r\n", "", "greet=220+");
  CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
  CWIRE(&c, "500 what\r\n", "LHLO client.example\r\n", "hello=500");
  cwire_close(&c);
}

/* ---- what the peer cannot carry ------------------------------------------------------------------------------------ */

typedef struct local_row {
  const char *ehlo;
  mp_mail_params params;
  int code, enhanced; /* 100 * class + 100ths of the rest: 5.6.3 is 563, 5.7.30 is 600 */
} local_row;

TEST(what_the_peer_cannot_carry_is_refused_locally)
{
  const local_row rows[] = {
    { "250-mx\r\n250 SIZE 1000\r\n", { .given = MP_PARAM_SIZE, .size = 1001 }, 552, 534 },
    { "250 mx\r\n", { .given = MP_PARAM_BODY, .body = MP_BODY_8BIT }, 554, 563 },
    { "250-mx\r\n250 CHUNKING\r\n", { .given = MP_PARAM_BODY, .body = MP_BODY_BINARY }, 554, 563 },
    { "250-mx\r\n250 BINARYMIME\r\n", { .given = MP_PARAM_BODY, .body = MP_BODY_BINARY }, 554, 563 },
    { "250-mx\r\n250 8BITMIME\r\n", { .given = MP_PARAM_SMTPUTF8 }, 550, 567 },
    { "250-mx\r\n250 REQUIRETLS\r\n", { .given = MP_PARAM_REQUIRETLS }, 550, 600 }, /* it means nothing without TLS */
    { "250 mx\r\n", { .given = MP_PARAM_BY, .by_seconds = 60, .by_mode = 'R' }, 550, 533 },
    { "250-mx\r\n250 DELIVERBY 100\r\n", { .given = MP_PARAM_BY, .by_seconds = 60, .by_mode = 'R' }, 550, 547 },
    { "250-mx\r\n250 DELIVERBY\r\n", { .given = MP_PARAM_BY, .by_seconds = -1, .by_mode = 'R' }, 550, 547 },
    { "250 mx\r\n", { .given = MP_PARAM_HOLDFOR, .hold_for = 60 }, 555, 554 },
    { "250-mx\r\n250 FUTURERELEASE 50 2030-01-01T00:00:00Z\r\n",
      { .given = MP_PARAM_HOLDFOR, .hold_for = 60 },
      501,
      554 },
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, rows[i].ehlo));
    cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
    t.tx.params = rows[i].params;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_pump(&c);
    CHECK_ASKED(&c, "");
    for (size_t k = 0; k < 2; k++) {
      const mp_rcpt_result *r = &t.rcpts[k].result;
      CHECK(r->state == MP_RCPT_REFUSED && r->local);
      CHECK_EQ_INT(r->reply.code, rows[i].code);
      CHECK_EQ_INT(r->reply.enhanced[0] * 100 + r->reply.enhanced[1] * 10 + r->reply.enhanced[2],
                   rows[i].enhanced);
    }
    CHECK(c.done.local && c.done.op == MP_OP_SEND);
    CHECK_EQ_INT(mp_client_noop(c.cl, c.now), 0); /* and the conversation goes on */
    over(&c, &t);
  }
}

TEST(what_can_be_left_out_is_left_out_and_told)
{
  cwire c;
  cwire_tx t;
  REQUIRE(cwire_open(&c, 0, FLAT));
  cwire_tx_init(&t, TO("b@example.org"));
  t.tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE | MP_PARAM_RET | MP_PARAM_ENVID | MP_PARAM_PRIORITY |
                                           MP_PARAM_BY,
                                  .ret = MP_RET_FULL,
                                  .envid = MP_STR("x"),
                                  .by_seconds = 60,
                                  .by_mode = 'N' };
  CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
  CWIRE(&c, "250 ok\r\n", "MAIL FROM:<a@example.net>\r\n", "");
  CHECK_EQ_INT(t.tx.dropped, t.tx.params.given);
  over(&c, &t);
}

TEST(an_address_or_parameter_with_a_line_end_or_nul_is_an_error)
{
  static const mp_str bad[] = { { "b\r@example.org", 14 },
                                { "b\n@example.org", 14 },
                                { "b@example.org\0", 14 },
                                { "b@example.org>\r\nRSET", 20 } };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    for (int where = 0; where < 9; where++) {
      cwire c;
      cwire_tx t;
      REQUIRE(cwire_open(&c, 0, "250-mx\r\n250-PIPELINING\r\n250 DSN\r\n"));
      cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
      int rc = 0;
      switch (where) {
      case 0:
        t.tx.sender = bad[i];
        break;
      case 1:
        t.rcpts[1].address = bad[i];
        break;
      case 2:
        t.rcpts[1].ascii = bad[i];
        break;
      case 3:
        t.tx.sender_ascii = bad[i];
        break;
      case 4:
        t.tx.params = (mp_mail_params){ .given = MP_PARAM_ENVID, .envid = bad[i] };
        break;
      case 5:
        t.tx.params = (mp_mail_params){ .given = MP_PARAM_AUTH, .auth = bad[i] };
        break;
      case 6:
        t.rcpts[1].params = (mp_rcpt_params){ .given = MP_PARAM_ORCPT, .orcpt = bad[i] };
        break;
      case 7:
        rc = mp_client_command(c.cl, bad[i], c.now);
        break;
      default:
        rc = mp_client_vrfy(c.cl, bad[i], c.now);
        break;
      }
      CHECK_EQ_INT(where < 7 ? mp_client_send(c.cl, &t.tx, c.now) : rc, MP_E_INVALID);
      CHECK(mp_client_why(c.cl)[0]);
      cwire_pump(&c);
      CHECK_ASKED(&c, "");
      CHECK_CAME(&c, "");
      CHECK_EQ_INT(mp_client_busy(c.cl), MP_OP_NONE);
      over(&c, &t);
    }
}

TEST(a_recipient_that_is_no_address_is_refused_alone)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(sending(&c, &t, slice, PIPE,
                    TO("b@example.org> NOTIFY=NEVER", "c d@example.org", "\"e f\"@example.org", "root", "")));
    CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<\"e f\"@example.org>\r\nRCPT TO:<root>\r\nDATA\r\n",
          "body send=250");
    CHECK_RCPT(&t, 0, "refused rcpt 501 local");
    CHECK_RCPT(&t, 1, "refused rcpt 501 local");
    CHECK_RCPT(&t, 2, "delivered body 250");
    CHECK_RCPT(&t, 3, "delivered body 250");
    CHECK_RCPT(&t, 4, "refused rcpt 501 local");
    over(&c, &t);
  }
}

TEST(commands_that_are_more_than_a_line_are_refused)
{
  cwire c;
  REQUIRE(cwire_open(&c, 0, PIPE));
  CHECK_EQ_INT(mp_client_command(c.cl, MP_STR("starttls"), c.now), MP_E_INVALID);
  CHECK_EQ_INT(mp_client_command(c.cl, MP_STR(" BDAT 9"), c.now), MP_E_INVALID);
  CHECK_EQ_INT(mp_client_command(c.cl, MP_STR("BDATX"), c.now), 0);
  CWIRE(&c, "500 what\r\n", "BDATX\r\n", "command=500");
  cwire_close(&c);
}

/* ---- addresses that are not ASCII ---------------------------------------------------------------------------------- */

#define U_LABEL \
  "b@b\xc3\xbc" \
  "cher.example"
#define A_LABEL "b@xn--bcher-kva.example"

TEST(a_u_label_becomes_an_a_label_and_a_local_part_fails)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, PIPE));
    cwire_tx_init(&t, TO(U_LABEL, "b\xc3\xbc@example.org"));
    t.rcpts[0].ascii = MP_STR(A_LABEL);
    cwire_body(&c, MP_STR("x\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n",
          "MAIL FROM:<a@example.net>\r\nRCPT TO:<" A_LABEL ">\r\nDATA\r\n", "body send=250");
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK_RCPT(&t, 1, "refused rcpt 553 local");
    CHECK_EQ_INT(t.rcpts[1].result.reply.enhanced[2], 7);
    over(&c, &t);
    REQUIRE(cwire_open(&c, slice, "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"));
    cwire_tx_init(&t, TO(U_LABEL, "b\xc3\xbc@example.org"));
    t.rcpts[0].ascii = MP_STR(A_LABEL);
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "",
          "MAIL FROM:<a@example.net> SMTPUTF8\r\nRCPT TO:<" A_LABEL
          ">\r\nRCPT TO:<b\xc3\xbc@example.org>\r\nDATA\r\n",
          "");
    over(&c, &t);
    REQUIRE(cwire_open(&c, slice, PIPE)); /* a sender that cannot be written */
    cwire_tx_init(&t, TO("b@example.org"));
    t.tx.sender = MP_STR("\xc3\xbc@example.org");
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "", "", "send=553l");
    CHECK_RCPT(&t, 0, "refused mail 553 local");
    over(&c, &t);
  }
}

/* ---- bodies -------------------------------------------------------------------------------------------------------- */

TEST(a_lone_line_end_can_be_refused)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_tx t;
    REQUIRE(cwire_open(&c, slice, PIPE));
    c.opts.refuse_bare = true;
    c.piece = slice;
    cwire_tx_init(&t, TO("b@example.org"));
    cwire_body(&c, MP_STR("one\r\ntwo\nthree\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_feed(&c, "250 ok\r\n250 ok\r\n354 go\r\n", 24);
    CHECK_CAME(&c, "body send!BARELF close");
    CHECK_EQ_INT(c.body_rc, MP_E_BARELF);
    CHECK_RCPT(&t, 0, "refused body 550 local");
    over(&c, &t);
  }
}

CHECK_MAIN
