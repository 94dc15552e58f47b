/* DATA and BDAT: where a message ends, what may not be in it, and what is said of it. */
#include "support/wire.h"

#define UPTO_RCPT "EHLO client.example.net\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"
#define UPTO_DATA UPTO_RCPT "DATA\r\n"

#define BARE      "550 5.5.2 Message holds a bare CR or LF\r\n"
#define NUL       "550 5.6.0 Message holds a NUL\r\n"

typedef struct row {
  const char *in;
  size_t len;
  const char *out; /* the message; NULL: it is refused as bare */
  size_t out_len;
} row;

#define R(IN)                   \
  {                             \
    IN, sizeof(IN) - 1, NULL, 0 \
  }
#define A(IN, OUT)                           \
  {                                          \
    IN, sizeof(IN) - 1, OUT, sizeof(OUT) - 1 \
  }

static bool said(wire *w, const char *text)
{
  return w->said.len == strlen(text) && memcmp(w->said.ptr, text, w->said.len) == 0;
}

/* ---- the end of DATA ----------------------------------------------------------------------------------------------- */

TEST(what_ends_data)
{
  static const row rows[] = { A(".\r\n", ""),
                              A("..\r\n.\r\n", ".\r\n"),
                              A(".x\r\n.\r\n", "x\r\n"),
                              A("a\r\n.\r\n", "a\r\n"),
                              A("a\r\n. \r\n.\r\n", "a\r\n \r\n"),
                              A("\r\n.\r\n", "\r\n"),
                              A("a\r\n..\r\n.\r\n", "a\r\n.\r\n") };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    CHECK_EQ_INT(wire_feed(&w, rows[i].in, rows[i].len), 0);
    CHECK_SAID(&w, "250 2.0.0 OK\r\n");
    CHECK_EQ_STR(mp_str_of(w.body.ptr, w.body.len), mp_str_of(rows[i].out, rows[i].out_len));
    CHECK_EQ_INT(w.size, rows[i].out_len);
    CHECK_CSTR(mp_server_state(w.srv), "READY");
    wire_close(&w);
  }
}

/* CVE-2023-51764, -51765, -51766, CVE-2024-27305: none of these ends a message, for nobody. */
TEST(what_does_not_end_data)
{
  static const row rows[] = { R("\n.\n"),       R("\r.\r"),       R("\r.\n"),       R("\n.\r"),
                              R("\n.\r\n"),     R("\r\n.\n"),     R("\r.\r\n"),     R("\r\n.\r"),
                              R("\r\n\0.\r\n"), R("\r\n.\0\r\n"), R("\r\n.\r\r\n"), R("\r\n. \r\n") };
  static const char behind[] =
      "MAIL FROM:<eve@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nsmuggled\r\n.\r\n";
  for (int trusted = 0; trusted < 2; trusted++)
    FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.trust = trusted ? MP_TRUST_REPAIR : 0u;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    char all[200];
    memcpy(all, "x", 1);
    memcpy(all + 1, rows[i].in, rows[i].len);
    memcpy(all + 1 + rows[i].len, behind, sizeof behind - 1);
    wire_feed(&w, all, 1 + rows[i].len + sizeof behind - 1);
    bool nul = memchr(rows[i].in, 0, rows[i].len), space = i == 11;
    CHECK(said(&w, space || (trusted && !nul) ? "250 2.0.0 OK\r\n" : nul ? NUL : BARE));
    CHECK_EQ_INT(w.messages, space || (trusted && !nul) ? 1 : 0);
    CHECK_CSTR(mp_server_state(w.srv), "READY"); /* one reply to the whole, no command read from it */
    wire_close(&w);
  }
}

TEST(bare_cr_and_lf_of_strangers_are_read_to_the_true_end_and_refused)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    TALK(&w, "one\ntwo\r\nthree\rfour\r\n.\r\n", BARE);
    CHECK_EVENTS(&w, "abort=550");
    TALK(&w, "NOOP\r\n", "250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(bare_cr_and_lf_of_trusted_peers_are_repaired)
{
  FOR_EACH_SLICE(slice)
  for (int how = 0; how < 3; how++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.trust = how == 0 ? MP_TRUST_REPAIR : how == 1 ? MP_TRUST_REPAIR : 0u;
    w.opts.repair_none = how == 1;
    w.opts.repair_all = how == 2;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    WIRE_SAY(&w, "one\ntwo\rthree\r\n.\r\n");
    if (how == 1) {
      CHECK_SAID(&w, BARE);
    } else {
      CHECK_SAID(&w, "250 2.0.0 OK\r\n");
      CHECK_BODY(&w, "one\r\ntwo\r\nthree\r\n");
      CHECK_EQ_INT(w.size, w.body.len);
      CHECK_EQ_INT(w.facts, MP_DATA_BARE_CR | MP_DATA_BARE_LF);
    }
    wire_close(&w);
  }
}

TEST(a_nul_is_refused_after_the_end_always)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.repair_all = true;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    TALK(&w, "a\0b\r\n.\r\n", NUL);
    CHECK_EVENTS(&w, "abort=550");
    wire_close(&w);
  }
}

TEST(octets_past_ascii_are_accepted_and_told)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    TALK(&w, "\xc3\xbc\r\n.\r\n", "250 2.0.0 OK\r\n");
    CHECK_EQ_INT(w.facts, MP_DATA_8BIT);
    wire_close(&w);
  }
}

/* ---- size and lines ------------------------------------------------------------------------------------------------ */

static char *many(const char *what, size_t times, const char *end, size_t *len)
{
  size_t one = strlen(what), tail = strlen(end);
  char *text = malloc(one * times + tail + 1);
  for (size_t i = 0; i < times; i++)
    memcpy(text + i * one, what, one);
  memcpy(text + one * times, end, tail);
  *len = one * times + tail;
  return text;
}

TEST(oversize_is_read_to_the_end_and_not_kept)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 100;
    w.opts.overrun = 5000;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    size_t len;
    char *text = many("0123456\r\n", 500, ".\r\nNOOP\r\n", &len);
    CHECK_EQ_INT(wire_feed(&w, text, len), 0);
    CHECK_SAID(&w, "552 5.3.4 Message too big\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "abort=552");
    CHECK(w.body.len <= 100);
    free(text);
    wire_close(&w);
  }
}

TEST(a_message_of_just_the_size_is_accepted)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 9;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    TALK(&w, "..23456\r\n.\r\n", "250 2.0.0 OK\r\n");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    TALK(&w, "01234567\r\n.\r\n", "552 5.3.4 Message too big\r\n");
    wire_close(&w);
  }
}

TEST(oversize_past_the_overrun_cap_closes)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 100;
    w.opts.overrun = 0; /* as much again */
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    size_t len;
    char *text = many("0123456\r\n", 500, ".\r\n", &len);
    CHECK(wire_feed(&w, text, len) > 0);
    CHECK_SAID(&w, "421 4.3.4 mx.example.org Message far too big\r\n");
    CHECK(w.closed && w.messages == 0 && w.body.len <= 100);
    free(text);
    wire_close(&w);
  }
}

TEST(lines_longer_than_the_limit)
{
  size_t len;
  for (int refused = 0; refused < 2; refused++)
    for (size_t octets = 998; octets < 1000; octets++)
      FOR_EACH_SLICE(slice)
      {
        wire w;
        wire_init(&w, MP_PROTOCOL_SMTP, slice);
        w.opts.long_lines_refused = refused;
        REQUIRE(wire_start(&w));
        wire_upto(&w, UPTO_DATA);
        char *text = many("x", octets, "\r\n.\r\n", &len);
        wire_feed(&w, text, len);
        CHECK(said(&w, refused && octets > 998 ? "550 5.6.0 Message holds an overlong line\r\n"
                                               : "250 2.0.0 OK\r\n"));
        free(text);
        wire_close(&w);
      }
  /* 64 KB is hard. */
  for (size_t octets = 65536; octets < 65538; octets++) {
    wire w;
    REQUIRE(wire_open(&w, 0));
    wire_upto(&w, UPTO_DATA);
    char *text = many("x", octets, "\r\n.\r\n", &len);
    wire_feed(&w, text, len);
    CHECK(said(&w, octets > 65536 ? "550 5.6.0 Message holds an overlong line\r\n" : "250 2.0.0 OK\r\n"));
    free(text);
    wire_close(&w);
  }
}

TEST(the_gravest_fault_is_the_reply)
{
  static const struct {
    const char *in;
    size_t len;
    const char *out;
  } rows[] = {
    { "a\0\n0123456789012345678901234567890\r\n.\r\n", 39, "552 5.3.4 Message too big\r\n" },
    { "a\nb\0\r\n.\r\n", 9, NUL },
    { "a\nb\r\n.\r\n", 8, BARE },
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < 3; i++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 30;
    w.opts.overrun = 1000;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_DATA);
    wire_feed(&w, rows[i].in, rows[i].len);
    CHECK(said(&w, rows[i].out));
    wire_close(&w);
  }
}

/* ---- verdicts ------------------------------------------------------------------------------------------------------ */

TEST(data_is_refused)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    wire_answer_next(&w, MP_EV_DATA, MP_REPLY(451, 4, 3, 0, "Not now"));
    TALK(&w, "DATA\r\n", "451 4.3.0 Not now\r\n");
    CHECK_CSTR(mp_server_state(w.srv), "RCPT");
    wire_answer_next(&w, MP_EV_DATA, (mp_reply){ .code = 354, .text = MP_STR("go on") });
    TALK(&w, "DATA\r\n", "354 go on\r\n");
    TALK(&w, ".\r\n", "250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(the_message_is_refused_and_the_next_command_works)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    wire_answer_next(&w, MP_EV_MESSAGE, MP_REPLY(451, 4, 3, 0, "Temporary fault"));
    TALK(&w, "x\r\n.\r\n", "451 4.3.0 Temporary fault\r\n");
    CHECK_EQ_INT(w.messages, 0);
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    wire_answer_next(&w, MP_EV_MESSAGE, (mp_reply){ .code = 250, .text = MP_STR("queued as 42") });
    TALK(&w, "x\r\n.\r\n", "250 2.0.0 queued as 42\r\n");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    wire_answer_next(&w, MP_EV_MESSAGE, MP_REPLY(421, 4, 3, 2, "Going down"));
    TALK(&w, "x\r\n.\r\n", "421 4.3.2 Going down\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

static int fail_at_chunk(wire *w, const mp_event *ev)
{
  mp_reply full = MP_REPLY(452, 4, 3, 1, "Disk full");
  if (ev->kind != MP_EV_CHUNK)
    return 0;
  CHECK_EQ_INT(mp_server_body_failed(w->srv, &full), 0);
  CHECK_EQ_INT(mp_server_body_failed(w->srv, NULL), 0);
  return 1;
}

TEST(the_disk_fills_in_the_middle_of_data)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    w.before_reply = fail_at_chunk;
    TALK(&w, "line one\r\nMAIL FROM:<x@y.example>\r\n.\r\nNOOP\r\n", "452 4.3.1 Disk full\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "abort=452");
    CHECK_EQ_INT(mp_server_body_failed(w.srv, NULL), MP_E_MISUSE);
    wire_close(&w);
  }
}

static int fail_at_message(wire *w, const mp_event *ev)
{
  if (ev->kind != MP_EV_MESSAGE)
    return 0;
  CHECK_EQ_INT(mp_server_body_failed(w->srv, NULL), 0);
  return 1;
}

TEST(the_disk_fills_when_all_was_read)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    w.before_reply = fail_at_message;
    TALK(&w, "x\r\n.\r\n", "452 4.3.1 Message cannot be kept\r\n");
    CHECK_EVENTS(&w, "message=3");
    TALK(&w, "NOOP\r\n", "250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(the_peer_disappears_in_the_middle)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    WIRE_SAY(&w, "half a message\r\n.\r");
    CHECK(mp_server_in_body(w.srv));
    CHECK_EQ_INT(w.messages, 0);
    wire_close(&w);
  }
}

TEST(commands_in_one_flight_behind_the_end_are_answered_in_order)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_DATA);
    TALK(&w, "x\r\n.\r\nMAIL FROM:<c@example.net>\r\nRCPT TO:<d@example.org>\r\nRSET\r\nQUIT\r\n",
         "250 2.0.0 OK\r\n250 2.1.0 Sender OK\r\n250 2.1.5 Recipient OK\r\n250 2.0.0 OK\r\n221 2.0.0 mx.example.org Bye\r\n");
    CHECK_EVENTS(&w, "message=3 mail=c@example.net rcpt=d@example.org reset quit close");
    wire_close(&w);
  }
}

/* ---- BDAT ---------------------------------------------------------------------------------------------------------- */

#define UPTO_BINARY \
  "EHLO client.example.net\r\nMAIL FROM:<a@example.net> BODY=BINARYMIME\r\nRCPT TO:<b@example.org>\r\n"

TEST(a_message_in_chunks)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 5\r\nab\r\n.BDAT 6\r\n\r\nend\r",
         "250 2.0.0 5 octets received\r\n250 2.0.0 6 octets received\r\n");
    TALK(&w, "BDAT 1 last\r\n\nNOOP\r\n", "250 2.0.0 OK\r\n250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "ab\r\n.\r\nend\r\n");
    CHECK_EVENTS(&w, "data message=12");
    wire_close(&w);
  }
}

TEST(bdat_0_last)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 0\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\n",
         "250 2.0.0 0 octets received\r\n250 2.0.0 3 octets received\r\n250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "a\r\n");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "BDAT 0 LAST\r\n", "250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "data message=0");
    wire_close(&w);
  }
}

TEST(octets_of_a_refused_bdat_are_consumed)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, "EHLO client.example.net\r\n");
    TALK(&w, "BDAT 6\r\nNOOP\r\nNOOP\r\n", "503 5.5.1 Send MAIL first\r\n250 2.0.0 OK\r\n");
    wire_answer_next(&w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "Nobody"));
    TALK(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nBDAT 9 LAST\r\nRSET\r\nabcNOOP\r\n",
         "250 2.1.0 Sender OK\r\n550 5.1.1 Nobody\r\n554 5.5.1 No valid recipients\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "mail=a@example.net rcpt=b@example.org");
    wire_upto(&w, "RSET\r\n");
    TALK(&w, "BDAT 6 EVER\r\nNOOP\r\nNOOP\r\n", "501 5.5.4 Syntax: BDAT size [LAST]\r\n250 2.0.0 OK\r\n");
    wire_close(&w);
    /* Without the extension too. */
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.extensions &= ~(unsigned)MP_EXT_CHUNKING;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 6 LAST\r\nNOOP\r\nNOOP\r\n", "502 5.5.1 CHUNKING is not offered\r\n250 2.0.0 OK\r\n");
    wire_close(&w);
    REQUIRE(wire_open(&w, slice));
    TALK(&w, "BDAT 6\r\n", "");
    TALK(&w, "NOOP\r\n", "503 Send EHLO first\r\n");
    wire_close(&w);
  }
}

TEST(an_unreadable_size_closes)
{
  static const char *const sizes[] = { "BDAT -1\r\n",   "BDAT +1\r\n",
                                       "BDAT 0x9\r\n",  "BDAT 18446744073709551616\r\n",
                                       "BDAT\r\n",      "BDAT LAST\r\n",
                                       "BDAT 1,000\r\n" };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    wire_say(&w, sizes[i]);
    CHECK_SAID(&w, "501 5.5.4 Unreadable size\r\n");
    CHECK_EVENTS(&w, "close");
    wire_close(&w);
  }
}

TEST(countable_sizes_over_the_limit_are_consumed_to_the_cap)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 10;
    w.opts.overrun = 10;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 20 LAST\r\n01234567890123456789NOOP\r\n", "552 5.3.4 Message too big\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "reset");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "BDAT 2147483648\r\n01234567890123456789", "");
    TALK(&w, "0", "421 4.3.4 mx.example.org Message far too big\r\n");
    CHECK_EVENTS(&w, "close");
    wire_close(&w);
  }
}

TEST(the_running_total_counts)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 10;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 6\r\n012345", "250 2.0.0 6 octets received\r\n");
    TALK(&w, "BDAT 5\r\n01234", "552 5.3.4 Message too big\r\n");
    CHECK_EVENTS(&w, "data abort=552");
    TALK(&w, "BDAT 2\r\nxy", "503 5.5.1 A chunk was refused: send RSET\r\n");
    TALK(&w, "BDAT 18446744073709551615 x\r\n", "");
    CHECK(mp_server_in_body(w.srv));
    wire_close(&w);
  }
}

TEST(behind_a_refused_chunk_nothing_is_accepted)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = 10;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 6\r\n012345BDAT 9\r\n012345678BDAT 2 LAST\r\nxyNOOP\r\n",
         "250 2.0.0 6 octets received\r\n552 5.3.4 Message too big\r\n503 5.5.1 A chunk was refused: send RSET\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "data abort=552");
    CHECK_EQ_INT(w.messages, 0);
    CHECK_CSTR(mp_server_state(w.srv), "READY");
    wire_close(&w);
  }
}

TEST(the_driver_refuses_bdat)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    wire_answer_next(&w, MP_EV_DATA, MP_REPLY(550, 5, 7, 1, "No body from you"));
    TALK(&w, "BDAT 6\r\nNOOP\r\nBDAT 6 LAST\r\nNOOP\r\nNOOP\r\n",
         "550 5.7.1 No body from you\r\n503 5.5.1 A chunk was refused: send RSET\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "data reset");
    wire_close(&w);
  }
}

/* Found by the fuzzer: a text for 354, which BDAT has no place for, was taken for a refusal. */
TEST(the_driver_accepts_bdat_with_a_354)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    wire_answer_next(&w, MP_EV_DATA, (mp_reply){ .code = 354, .text = MP_STR("go on") });
    TALK(&w, "BDAT 3 LAST\r\nabc", "250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "abc");
    wire_close(&w);
  }
}

TEST(rset_between_chunks)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 4\r\nold RSET\r\n", "250 2.0.0 4 octets received\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "data reset");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "BDAT 3 LAST\r\nnew", "250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "new");
    CHECK_EVENTS(&w, "data message=3");
    wire_close(&w);
  }
}

TEST(data_and_rcpt_after_bdat)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 4\r\nabcd", "250 2.0.0 4 octets received\r\n");
    TALK(&w, "DATA\r\n", "503 5.5.1 BDAT has begun\r\n");
    TALK(&w, "RCPT TO:<c@example.org>\r\n", "503 5.5.1 BDAT has begun\r\n");
    TALK(&w, "MAIL FROM:<c@example.org>\r\n", "503 5.5.1 Sender already given\r\n");
    TALK(&w, "BDAT 0 LAST\r\n", "250 2.0.0 OK\r\n");
    wire_close(&w);
  }
}

TEST(a_chunk_then_disconnect)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    WIRE_SAY(&w, "BDAT 4\r\nabcdBDAT 9 LAST\r\nabcd");
    CHECK(mp_server_in_body(w.srv));
    CHECK_EQ_INT(w.messages, 0);
    wire_close(&w);
  }
}

TEST(faults_in_chunks)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 3\r\na\nbBDAT 1 LAST\r\nx", BARE "503 5.5.1 A chunk was refused: send RSET\r\n");
    CHECK_EVENTS(&w, "data abort=550");
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "BDAT 3 LAST\r\na\0b", NUL);
    wire_upto(&w, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n");
    TALK(&w, "BDAT 2 LAST\r\na\r", BARE); /* a CR at the very end belongs to no CRLF */
    CHECK_EVENTS(&w, "data abort=550");
    wire_close(&w);
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.trust = MP_TRUST_REPAIR;
    REQUIRE(wire_start(&w));
    wire_upto(&w, UPTO_RCPT);
    TALK(&w, "BDAT 2\r\na\nBDAT 2 LAST\r\nb\r", "250 2.0.0 2 octets received\r\n250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "a\r\nb\r\n");
    CHECK_EQ_INT(w.size, 6);
    wire_close(&w);
  }
}

TEST(the_disk_fills_between_chunks)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, UPTO_RCPT);
    w.before_reply = fail_at_chunk;
    TALK(&w, "BDAT 4\r\nabcdBDAT 1 LAST\r\nxNOOP\r\n",
         "452 4.3.1 Disk full\r\n503 5.5.1 A chunk was refused: send RSET\r\n250 2.0.0 OK\r\n");
    CHECK_EVENTS(&w, "data abort=452");
    wire_close(&w);
  }
}

static bool start_binary(wire *w, size_t slice)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  w->opts.extensions |= MP_EXT_BINARYMIME;
  return wire_start(w);
}

TEST(binarymime_takes_any_octet_and_no_data)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(start_binary(&w, slice));
    wire_upto(&w, UPTO_BINARY);
    TALK(&w, "DATA\r\n", "503 5.5.1 BODY=BINARYMIME goes with BDAT\r\n");
    TALK(&w, "BDAT 7 LAST\r\na\nb\rc\0\r", "250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "a\nb\rc\0\r");
    wire_close(&w);
  }
}

TEST(more_than_the_high_water_mark_is_not_said_ahead)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  wire_upto(&w, "EHLO client.example.net\r\n");
  w.hold = true;
  size_t len;
  w.opts.idle_commands = 0;
  char *text = many("NOOP\r\n", 10000, "", &len);
  size_t rest = wire_feed(&w, text, len);
  CHECK(rest > 0);
  size_t out = mp_server_output(w.srv).len;
  CHECK(out > 64 * 1024 && out < 64 * 1024 + 100);
  w.hold = false;
  CHECK_EQ_INT(wire_feed(&w, text + len - rest, rest), 0);
  CHECK_EQ_INT(w.said.len, 10000 * 14);
  free(text);
  wire_close(&w);
}

CHECK_MAIN
