/* A message in one flight with its envelope: MAIL, RCPT and the only chunk before anybody has answered. */
#include "support/duet.h"

#define PIPE  "250-mx\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n"
#define MAIL_ "MAIL FROM:<a@example.net> SIZE=5\r\n"
#define TWO   MAIL_ "RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nBDAT 5 LAST\r\nabc\r\n"

static bool open_flight(cwire *c, cwire_tx *t, size_t slice, const char *caps)
{
  bool ok = cwire_open(c, slice, caps);
  c->opts.flight_most = 1000;
  cwire_tx_init(t, TO("b@example.org", "c@example.org"));
  t->tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE, .size = 5 };
  t->tx.canonical = true;
  cwire_body(c, MP_STR("abc\r\n"));
  return ok;
}

static void over(cwire *c, cwire_tx *t)
{
  mp_transaction_dispose(&t->tx);
  cwire_close(c);
}

TEST(a_message_in_one_flight_and_one_round_trip)
{
  FOR_EACH_SLICE(slice)
  for (size_t piece = 0; piece < 4; piece += 3) {
    cwire c;
    cwire_tx t;
    REQUIRE(open_flight(&c, &t, slice, PIPE));
    c.piece = piece;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 done\r\n", TWO, "body send=250+");
    CHECK_RCPT(&t, 0, "delivered body 250");
    CHECK_RCPT(&t, 1, "delivered body 250");
    CHECK(t.tx.chunked);
    CHECK_EQ_INT(t.tx.octets, 5);
    t.rcpts[0].result.state = t.rcpts[1].result.state = MP_RCPT_NONE; /* and again, without RSET */
    cwire_body(&c, MP_STR("abc\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 done\r\n", TWO, "body send=250+");
    over(&c, &t);
  }
}

TEST(it_is_refused_here_and_there)
{
  static const struct {
    const char *replies, *events, *first, *second;
    bool reset; /* before the next */
  } rows[] = {
    { "550 5.7.1 no\r\n503 no\r\n503 no\r\n503 no\r\n", "body send=550", "refused mail 550",
      "refused mail 550", false },
    { "250 ok\r\n550 5.1.1 no\r\n450 4.2.1 no\r\n503 nobody\r\n", "body send=450", "refused rcpt 550",
      "deferred rcpt 450", true },
    { "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 done\r\n", "body send=250", "delivered body 250",
      "refused rcpt 550", false },
    { "250 ok\r\n250 ok\r\n452 4.5.3 no\r\n250 done\r\n", "body send=250+", "delivered body 250",
      "again rcpt 452", false },
    { "250 ok\r\n250 ok\r\n250 ok\r\n452 4.3.1 full\r\n", "body send=452", "deferred body 452",
      "deferred body 452", true },
    { "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n554 5.6.0 spam\r\n", "body send=554", "refused body 554",
      "refused rcpt 550", true },
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cwire c;
    cwire_tx t;
    REQUIRE(open_flight(&c, &t, slice, PIPE));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_pump(&c);
    CHECK_ASKED(&c, TWO);
    cwire_feed(&c, rows[i].replies, strlen(rows[i].replies));
    cwire_check(__FILE__, __LINE__, "what happened", &c.events, mp_str_c(rows[i].events));
    CHECK_RCPT(&t, 0, rows[i].first);
    CHECK_RCPT(&t, 1, rows[i].second);
    CHECK(!c.closed);
    t.rcpts[0].result.state = t.rcpts[1].result.state = MP_RCPT_NONE;
    cwire_body(&c, MP_STR("abc\r\n"));
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    if (rows[i].reset)
      CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 done\r\n", "RSET\r\n" TWO, "body send=250+");
    else
      CWIRE(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 done\r\n", TWO, "body send=250+");
    over(&c, &t);
  }
}

/* Once the octets have left, an end before the last reply leaves open what the peer did with them. */
TEST(an_end_before_the_last_reply_is_unknown_for_all_who_were_not_refused)
{
  static const char *const replies[] = { "", "250 ok\r\n", "250 ok\r\n250 ok\r\n",
                                         "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n" };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
    for (int how = 0; how < 3; how++) {
      cwire c;
      cwire_tx t;
      REQUIRE(open_flight(&c, &t, slice, PIPE));
      CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
      cwire_pump(&c);
      cwire_feed(&c, replies[i], strlen(replies[i]));
      if (how == 0) {
        mp_client_lost(c.cl, MP_E_EOF, "gone");
      } else if (how == 1) {
        CHECK(mp_client_deadline(c.cl) < INT64_MAX);
        c.now = mp_client_deadline(c.cl);
        mp_client_tick(c.cl, c.now);
      } else {
        cwire_feed(&c, "421 4.3.2 bye\r\n", 15);
      }
      cwire_pump(&c);
      CHECK(c.closed);
      cwire_clear(&c.said);
      cwire_clear(&c.events);
      CHECK_RCPT(&t, 0,
                 how == 2 ? (i == 0   ? "deferred mail 421"
                             : i == 3 ? "deferred data 421"
                                      : "deferred rcpt 421")
                          : "unknown connection 0");
      if (i == 3)
        CHECK_RCPT(&t, 1, "refused rcpt 550");
      over(&c, &t);
    }
}

TEST(a_yes_before_the_end_has_left_is_no_yes)
{
  cwire c;
  cwire_tx t;
  REQUIRE(open_flight(&c, &t, 0, PIPE));
  c.hold = true;
  CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
  cwire_feed(&c, "250 ok\r\n250 ok\r\n250 ok\r\n250 done\r\n", 34);
  CHECK(c.closed);
  CHECK(t.rcpts[0].result.state != MP_RCPT_DELIVERED);
  cwire_clear(&c.said);
  cwire_clear(&c.events);
  over(&c, &t);
}

TEST(nothing_goes_ahead_where_it_may_not)
{
  static const struct {
    const char *caps;
    uint64_t most;
    bool canonical, lmtp;
  } rows[] = {
    { "250-mx\r\n250-SIZE\r\n250 CHUNKING\r\n", 1000, true, false },
    { "250-mx\r\n250-SIZE\r\n250 PIPELINING\r\n", 1000, true, false },
    { PIPE, 4, true, false },
    { PIPE, 1000, false, false },
    { PIPE, 1000, true, true },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cwire c;
    cwire_tx t;
    cwire_init(&c, 0);
    c.opts.lmtp = rows[i].lmtp;
    REQUIRE(open_flight(&c, &t, 0, rows[i].caps));
    c.opts.flight_most = rows[i].most;
    c.opts.lmtp = rows[i].lmtp;
    t.tx.canonical = rows[i].canonical;
    CHECK_EQ_INT(mp_client_send(c.cl, &t.tx, c.now), 0);
    cwire_pump(&c);
    CHECK(memmem(c.said.ptr, c.said.len, "BDAT", 4) == NULL);
    CHECK(memmem(c.said.ptr, c.said.len, "abc", 3) == NULL);
    cwire_clear(&c.said);
    cwire_clear(&c.events);
    over(&c, &t);
  }
  mp_client_opts opts;
  mp_client_opts_init(&opts);
  opts.hostname = MP_STR("client.example");
  opts.flight_most = 64 * 1024;
  CHECK(mp_client_opts_check(&opts) == NULL);
  opts.flight_most++;
  CHECK(mp_client_opts_check(&opts) != NULL);
}

static void send_to_ours(size_t slice, bool refuse)
{
  duet d;
  cwire_tx t;
  duet_init(&d, MP_PROTOCOL_SMTP, slice);
  d.c.opts.flight_most = 64 * 1024;
  cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
  t.tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE, .size = 10 };
  t.tx.canonical = true;
  if (refuse)
    wire_answer_next(&d.w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "nobody"));
  bool began = false;
  if (wire_start(&d.w)) {
    if (cwire_start(&d.c, NULL)) {
      duet_run(&d);
      if (d.c.done.ok && mp_client_hello(d.c.cl, d.c.now) == 0)
        duet_run(&d);
      cwire_body(&d.c, MP_STR("one\r\n.two\r\n"));
      t.tx.params.size = 11;
      began = d.c.done.ok && !d.c.closed && mp_client_send(d.c.cl, &t.tx, d.c.now) == 0;
      duet_run(&d);
      if (d.w.closed && !d.c.closed)
        mp_client_lost(d.c.cl, MP_E_EOF, "closed");
      duet_run(&d);
    }
    for (size_t i = 0; i < t.tx.count; i++)
      CHECK(t.rcpts[i].result.state != MP_RCPT_DELIVERED || d.w.messages == 1);
    if (!CHECK_ALLOC_FAILED()) {
      CHECK(began);
      CHECK_EQ_INT(d.w.messages, 1);
      CHECK_EQ_INT(mp_transaction_count(&t.tx, MP_RCPT_DELIVERED), refuse ? 1 : 2);
    }
  }
  mp_transaction_dispose(&t.tx);
  duet_close(&d);
}

TEST(our_server_takes_it)
{
  FOR_EACH_SLICE(slice)
  for (int refuse = 0; refuse < 2; refuse++)
    FOR_EACH_ALLOC_FAILURE {
      send_to_ours(slice, refuse);
    }
}

CHECK_MAIN
