/* Our client against our server: messages arrive as they were sent, by DATA and by BDAT, over SMTP and LMTP, whatever the slices. */
#include "support/duet.h"

static mp_transaction *message(duet *d, cwire_tx *t, mp_str body, const char *const *to)
{
  cwire_tx_init(t, to);
  cwire_body(&d->c, body);
  return &t->tx;
}

TEST(a_session_with_starttls_and_two_messages)
{
  FOR_EACH_SLICE(slice)
  {
    duet d;
    cwire_tx t;
    duet_init(&d, MP_PROTOCOL_SMTP, slice);
    REQUIRE(duet_start(&d));
    REQUIRE(duet_starttls(&d));
    CHECK(mp_server_tls(d.w.srv) && mp_client_tls(d.c.cl));
    for (size_t i = 1; i <= 2; i++) {
      message(&d, &t, MP_STR("Subject: x\r\n\r\n.hello\r\n"), TO("b@example.org", "c@example.org"));
      duet_look(&d);
      CHECK_EQ_INT(mp_client_send(d.c.cl, &t.tx, d.c.now), 0);
      duet_run(&d);
      CHECK_CAME(&d.c, "body send=250+");
      CHECK_EQ_INT(d.w.messages, i);
      CHECK_BODY(&d.w, "Subject: x\r\n\r\n.hello\r\n");
      if (slice == 0)
        CHECK_EQ_INT(d.flights, 2); /* two round trips for each message */
      mp_transaction_dispose(&t.tx);
    }
    CHECK_EQ_INT(mp_client_quit(d.c.cl, d.c.now), 0);
    duet_run(&d);
    CHECK_CAME(&d.c, "quit=221+ close");
    CHECK(d.w.closed);
    duet_close(&d);
  }
}

TEST(bodies_arrive_as_one_canonical_message)
{
  const struct {
    mp_str body, arrives;
  } rows[] = {
    { MP_STR(""), MP_STR("") },
    { MP_STR("."), MP_STR(".\r\n") },
    { MP_STR(".\r\n"), MP_STR(".\r\n") },
    { MP_STR("..\r\n.x\r\n"), MP_STR("..\r\n.x\r\n") },
    { MP_STR("one\n.\r\ntwo"), MP_STR("one\r\n.\r\ntwo\r\n") },
    { MP_STR("one\n.\nMAIL FROM:<eve@example.org>\n"), MP_STR("one\r\n.\r\nMAIL FROM:<eve@example.org>\r\n") },
    { MP_STR("one\r.\rtwo\r"), MP_STR("one\r\n.\r\ntwo\r\n") },
    { MP_STR("one\r\r\n.\r\n"), MP_STR("one\r\n\r\n.\r\n") },
    { MP_STR("\r\n.\r\n"), MP_STR("\r\n.\r\n") },
  };
  FOR_EACH_SLICE(slice)
  for (int chunked = 0; chunked < 2; chunked++)
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
      duet d;
      cwire_tx t;
      duet_init(&d, MP_PROTOCOL_SMTP, slice);
      d.c.piece = slice;
      d.c.opts.chunk_from = 0;
      REQUIRE(duet_start(&d));
      message(&d, &t, rows[i].body, TO("b@example.org"));
      if (chunked) {
        t.tx.params.given = MP_PARAM_SIZE;
        t.tx.params.size = rows[i].body.len;
      }
      CHECK_EQ_INT(mp_client_send(d.c.cl, &t.tx, d.c.now), 0);
      duet_run(&d);
      CHECK_CAME(&d.c, "body send=250+");
      CHECK_EQ_INT(d.w.messages, 1);
      CHECK_EQ_STR(mp_str_of(d.w.body.ptr, d.w.body.len), rows[i].arrives);
      CHECK_EQ_INT(t.tx.chunked, chunked && rows[i].body.len > 0);
      mp_transaction_dispose(&t.tx);
      duet_close(&d);
    }
}

TEST(binary_and_large_bodies_arrive_octet_by_octet)
{
  enum { LARGE = 300000 };
  char *body = malloc(LARGE);
  uint32_t seed = 88172645u;
  for (size_t i = 0; i < LARGE; i++) {
    seed = seed * 1664525u + 1013904223u;
    body[i] = (char)(seed >> 24);
  }
  for (int known = 0; known < 2; known++)
    for (int binary = 0; binary < 2; binary++) {
      if (!binary)
        for (size_t i = 0; i < LARGE; i++)
          body[i] = i % 61 == 60 ? '\n' : i % 61 == 59 ? '\r' : i % 61 == 0 && i % 3 == 0 ? '.' : 'a';
      if (!binary)
        memcpy(body + LARGE - 2, "\r\n", 2);
      duet d;
      cwire_tx t;
      duet_init(&d, MP_PROTOCOL_SMTP, 0);
      REQUIRE(duet_start(&d));
      message(&d, &t, mp_str_of(body, LARGE), TO("b@example.org"));
      t.tx.canonical = true;
      t.tx.params = (mp_mail_params){ .given = (binary ? MP_PARAM_BODY : 0u) | (known ? MP_PARAM_SIZE : 0u),
                                      .body = MP_BODY_BINARY,
                                      .size = LARGE };
      CHECK_EQ_INT(mp_client_send(d.c.cl, &t.tx, d.c.now), 0);
      duet_run(&d);
      CHECK_CAME(&d.c, "body send=250+");
      CHECK_EQ_INT(t.tx.chunked, binary || known);
      CHECK(d.w.body.len == LARGE && memcmp(d.w.body.ptr, body, LARGE) == 0);
      mp_transaction_dispose(&t.tx);
      duet_close(&d);
    }
  free(body);
}

TEST(lmtp_with_a_reply_for_each)
{
  FOR_EACH_SLICE(slice)
  for (int chunked = 0; chunked < 2; chunked++) {
    duet d;
    cwire_tx t;
    duet_init(&d, MP_PROTOCOL_LMTP, slice);
    d.c.opts.chunk_from = 0;
    REQUIRE(duet_start(&d));
    message(&d, &t, MP_STR("x\r\n"), TO("b@example.org", "c@example.org", "d@example.org"));
    if (chunked)
      t.tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE, .size = 3 };
    wire_answer_next(&d.w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "nobody"));
    CHECK_EQ_INT(mp_client_send(d.c.cl, &t.tx, d.c.now), 0);
    duet_run(&d);
    CHECK_CAME(&d.c, "body send=250");
    CHECK_RCPT(&t, 0, "refused rcpt 550");
    CHECK_RCPT(&t, 1, "delivered body 250");
    CHECK_RCPT(&t, 2, "delivered body 250");
    mp_transaction_dispose(&t.tx);
    duet_close(&d);
  }
}

TEST(the_server_refuses_here_and_there)
{
  static const struct {
    mp_event_kind kind;
    const char *result;
  } rows[] = { { MP_EV_MAIL, "refused mail 550" },
               { MP_EV_RCPT, "refused rcpt 550" },
               { MP_EV_DATA, "refused data 550" },
               { MP_EV_MESSAGE, "refused body 550" } };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    duet d;
    cwire_tx t;
    duet_init(&d, MP_PROTOCOL_SMTP, slice);
    REQUIRE(duet_start(&d));
    for (int round = 0; round < 2; round++) {
      message(&d, &t, MP_STR("x\r\n"), TO("b@example.org"));
      if (round == 0)
        wire_answer_next(&d.w, rows[i].kind, MP_REPLY(550, 5, 7, 1, "no"));
      CHECK_EQ_INT(mp_client_send(d.c.cl, &t.tx, d.c.now), 0);
      duet_run(&d);
      CHECK_RCPT(&t, 0, round == 0 ? rows[i].result : "delivered body 250");
      mp_transaction_dispose(&t.tx);
    }
    CHECK_EQ_INT(d.w.messages, 1);
    duet_close(&d);
  }
}

CHECK_MAIN
