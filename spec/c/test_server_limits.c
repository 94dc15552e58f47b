/* Every limit has a number, a reply code and a test. */
#include "support/wire.h"

#define HELLO "EHLO client.example.net\r\n"

TEST(twenty_bad_commands)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO);
    for (int i = 0; i < 19; i++)
      TALK(&w, "XYZZY\r\n", "500 5.5.1 Command not recognized\r\n");
    CHECK_EQ_INT(mp_server_errors(w.srv), 19);
    TALK(&w, "XYZZY\r\nNOOP\r\n", "421 4.7.0 mx.example.org Too many errors\r\n");
    CHECK_CSTR(w.why, "too many errors");
    CHECK(w.closed);
    wire_close(&w);
  }
}

TEST(errors_of_every_kind_count)
{
  static const char *const bad[] = { "XYZZY\r\n",    "MAIL\r\n", "RCPT TO:<a@b.example>\r\n",
                                     "STARTTLS\r\n", "EHLO\r\n", "MAIL FROM:<a@b.example> X=1\r\n",
                                     "VRFY\r\n",     "TURN\r\n", "a\nb\r\n",
                                     "BDAT 0\r\n" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    wire w;
    REQUIRE(wire_open(&w, 0));
    wire_upto(&w, HELLO);
    wire_say(&w, bad[i]);
    CHECK(mp_server_errors(w.srv) >= 1);
    wire_close(&w);
  }
}

TEST(an_endless_line)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO);
    char big[8192];
    memset(big, 'x', sizeof big);
    CHECK_EQ_INT(wire_feed(&w, big, sizeof big), 0);
    CHECK_SAID(&w, "500 5.5.2 Line too long\r\n");  /* at once */
    TALK(&w, "\n\r\nNOOP\r\n", "250 2.0.0 OK\r\n"); /* and the rest is no command */
    wire_feed(&w, big, sizeof big);
    CHECK_SAID(&w, "421 4.7.0 mx.example.org Too many overlong lines\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

/* RFC 5321 4.5.3.1.4 and what each extension adds. */
TEST(the_longest_line)
{
  static const struct {
    unsigned extensions;
    size_t most;
  } rows[] = { { 0, 512 }, { MP_EXT_SIZE | MP_EXT_8BITMIME, 555 }, { MP_EXT_DEFAULT, 1065 }, { MP_EXT_DSN, 1040 } };
  for (size_t i = 0; i < 4; i++)
    FOR_EACH_SLICE(slice)
  for (size_t over = 0; over < 2; over++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.extensions = rows[i].extensions;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO);
    char line[2000];
    memset(line, 'x', sizeof line);
    memcpy(line, "NOOP ", 5);
    memcpy(line + rows[i].most + over - 2, "\r\n", 2);
    wire_feed(&w, line, rows[i].most + over);
    CHECK(w.said.len > 3 && memcmp(w.said.ptr, over ? "500" : "250", 3) == 0);
    wire_close(&w);
  }
}

TEST(recipients_over_the_limit)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
    for (int i = 0; i < 100; i++)
      TALK(&w, "RCPT TO:<b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    wire_look(&w);
    TALK(&w, "RCPT TO:<c@example.org>\r\n", "452 4.5.3 Too many recipients\r\n");
    CHECK_EVENTS(&w, "");
    CHECK_EQ_INT(mp_server_envelope(w.srv)->count, 100);
    TALK(&w, "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    TALK(&w, ".\r\n", "250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(envelope_memory)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.envelope_memory = 16384;
  w.opts.recipients = 100000;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
  size_t accepted = 0;
  for (int i = 0; i < 300; i++) {
    wire_look(&w);
    WIRE_SAY(&w, "RCPT TO:<somebody.with.a.long.name@example.org>\r\n");
    accepted += w.said.len > 3 && memcmp(w.said.ptr, "250", 3) == 0;
  }
  CHECK(accepted > 20 && accepted < 200);
  CHECK_SAID(&w, "452 4.5.3 Too many recipients\r\n");
  CHECK_EQ_INT(mp_server_envelope(w.srv)->count, accepted);
  wire_close(&w);
}

TEST(messages_in_one_session)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.messages = 2;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO);
    TALK(&w, "MAIL FROM:<a@example.net>\r\nRSET\r\n", "250 2.1.0 Sender OK\r\n250 2.0.0 OK\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\nRSET\r\n", "250 2.1.0 Sender OK\r\n250 2.0.0 OK\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "421 4.7.0 mx.example.org Too many messages in one session\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

/* Refuses one recipient and expects SAID. */
#define REFUSE_ONE(W, SAID)                                                    \
  do {                                                                         \
    wire_answer_next((W), MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "No such user")); \
    TALK((W), "RCPT TO:<nobody@example.org>\r\n", SAID);                       \
  } while (0)

#define NO_SUCH_USER     "550 5.1.1 No such user\r\n"
#define TOO_MANY_REFUSED "421 4.7.0 mx.example.org Too many recipients were refused\r\n"

TEST(recipients_refused_in_one_session)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.refused_recipients = 3;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
    REFUSE_ONE(&w, NO_SUCH_USER);
    REFUSE_ONE(&w, NO_SUCH_USER);
    /* what is refused for now, and what is taken, tells nothing */
    wire_answer_next(&w, MP_EV_RCPT, MP_REPLY(450, 4, 2, 0, "Come back"));
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "450 4.2.0 Come back\r\n");
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    /* a new transaction is no new start */
    wire_upto(&w, "RSET\r\nMAIL FROM:<a@example.net>\r\n");
    REFUSE_ONE(&w, NO_SUCH_USER);
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    CHECK(!w.closed);
    REFUSE_ONE(&w, TOO_MANY_REFUSED);
    CHECK(w.closed);
    CHECK_CSTR(w.why, "too many refused recipients");
    wire_close(&w);
  }
}

TEST(recipients_refused_to_who_is_trusted)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.refused_recipients = 3;
  w.trust = MP_TRUST_REPAIR;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
  for (int i = 0; i < 30; i++)
    REFUSE_ONE(&w, NO_SUCH_USER);
  CHECK(!w.closed);
  REFUSE_ONE(&w, TOO_MANY_REFUSED);
  CHECK(w.closed);
  wire_close(&w);
}

TEST(recipients_refused_without_a_limit)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.refused_recipients = 0;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
  for (int i = 0; i < 200; i++)
    REFUSE_ONE(&w, NO_SUCH_USER);
  CHECK(!w.closed);
  wire_close(&w);
}

TEST(commands_that_move_nothing)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.idle_commands = 5;
  w.opts.errors = 3;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO);
  for (int i = 0; i < 5; i++)
    TALK(&w, "NOOP\r\n", "250 2.0.0 OK\r\n");
  wire_upto(&w, "MAIL FROM:<a@example.net>\r\n"); /* and begin anew */
  for (int i = 0; i < 7; i++)
    TALK(&w, "RSET\r\n", "250 2.0.0 OK\r\n");
  TALK(&w, "HELP\r\n", "421 4.7.0 mx.example.org Too many errors\r\n");
  wire_close(&w);
}

TEST(an_idle_session_holds_no_buffer)
{
  mp_pool blocks;
  mp_pool_init(&blocks, 2048, 4);
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 1);
  w.opts.out_blocks = &blocks;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\nRSET\r\n");
  CHECK_EQ_INT(mp_server_output(w.srv).len, 0);
  CHECK(mp_server_output(w.srv).ptr == NULL);
  wire_close(&w);
  mp_pool_dispose(&blocks);
}

CHECK_MAIN
