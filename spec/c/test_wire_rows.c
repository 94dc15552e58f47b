/* Rows of hostile input that stand between two parts: what the other test_server files do not show cell by cell. */
#include "support/wire.h"

#define HELLO     "EHLO client.example.net\r\n"
#define MAIL      HELLO "MAIL FROM:<a@example.net>\r\n"
#define RCPT      MAIL "RCPT TO:<b@example.org>\r\n"
#define TIM_PW    "AHRpbQBwdw=="     /* NUL tim NUL pw */
#define TIM_WRONG "AHRpbQB3cm9uZw==" /* NUL tim NUL wrong */

static mp_sasl_ctx *ctx;

static bool open_auth(wire *w, size_t slice)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  if (!ctx && mp_sasl_ctx_new(&ctx) < 0)
    return false;
  w->opts.sasl = ctx;
  w->opts.mechanisms = 1u << MP_MECH_PLAIN | 1u << MP_MECH_LOGIN;
  w->opts.auth_in_clear = true;
  w->secret = "pw";
  return true;
}

/* ---- octets that may stand nowhere --------------------------------------------------------------------------------- */

/* CR, LF and NUL at every place of every command that shows text to a hook: never an event. What stands behind a bare LF is
 * another line, which may come out of turn. */
TEST(cr_lf_and_nul_reach_no_hook)
{
  static const struct {
    const char *upto, *line;
  } rows[] = {
    { "", "EHLO cli?ent.example.net\r\n" },
    { "", "HELO cli?ent.example.net\r\n" },
    { "", "EHLO [192.0.2.1?]\r\n" },
    { "", "EHLO ?client.example.net\r\n" },
    { HELLO, "MAIL FROM:<a?@example.net>\r\n" },
    { HELLO, "MAIL FROM:<\"a?b\"@example.net>\r\n" },
    { HELLO, "MAIL FROM:<\"a\\?b\"@example.net>\r\n" },
    { HELLO, "MAIL FROM:<a@exam?ple.net>\r\n" },
    { HELLO, "MAIL FROM:<@x?y:a@example.net>\r\n" },
    { HELLO, "MAIL FROM:<a@[x-tag:?]>\r\n" },
    { HELLO, "MAIL FROM:<a@example.net>?\r\n" },
    { HELLO, "MAIL FROM:<a@example.net> ENVID=a?b\r\n" },
    { HELLO, "MAIL FROM:<a@example.net> AUTH=a?b\r\n" },
    { HELLO, "MAIL FROM:<a@example.net> RET=FULL?\r\n" },
    { MAIL, "RCPT TO:<b?@example.org>\r\n" },
    { MAIL, "RCPT TO:<\"b?\"@example.org>\r\n" },
    { MAIL, "RCPT TO:<b@example.org> ORCPT=rfc822;a?b\r\n" },
    { MAIL, "RCPT TO:<b@example.org> ORCPT=rfc?822;ab\r\n" },
    { HELLO, "AUTH PLAIN AHRp?bQBwdw==\r\n" },
    { HELLO, "AUTH PL?AIN AHRpbQBwdw==\r\n" },
    { HELLO, "VRFY b?ob\r\n" },
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (size_t bad = 0; bad < 3; bad++) {
      wire w;
      REQUIRE(open_auth(&w, slice));
      w.opts.extensions |= MP_EXT_DSN;
      REQUIRE(wire_start(&w));
      wire_upto(&w, rows[i].upto);
      char line[100];
      size_t len = strlen(rows[i].line);
      memcpy(line, rows[i].line, len);
      *(char *)memchr(line, '?', len) = "\r\n\0"[bad];
      wire_feed(&w, line, len);
      if (w.events.len && !mp_str_eq(mp_str_of(w.events.ptr, w.events.len), MP_STR("close")))
        FAIL("row %zu, octet %zu: %.*s", i, bad, (int)w.events.len, w.events.ptr);
      CHECK(w.said.len > 3 && w.said.ptr[0] == '5');
      wire_close(&w);
    }
}

/* The same octets spelled as xtext, and in base64. */
TEST(cr_lf_and_nul_in_disguise_reach_no_hook)
{
  static const char *const lines[] = {
    "MAIL FROM:<a@example.net> ENVID=a+0D\r\n",
    "MAIL FROM:<a@example.net> ENVID=a+0Ab\r\n",
    "MAIL FROM:<a@example.net> ENVID=+00\r\n",
    "MAIL FROM:<a@example.net> AUTH=a+0A@b\r\n",
    "MAIL FROM:<a@example.net> AUTH=a+00@b\r\n",
    "AUTH PLAIN AHQNaW0AcHc=\r\n", /* NUL t CR im NUL pw */
    "AUTH PLAIN AHQKaW0AcHc=\r\n", /* NUL t LF im NUL pw */
    "AUTH PLAIN AHRpbQBwAHc=\r\n", /* NUL tim NUL p NUL w */
    "AUTH PLAIN AHRpbQBwCnc=\r\n", /* NUL tim NUL p LF w */
    "AUTH PLAIN AHRpbQBwDXc=\r\n", /* NUL tim NUL p CR w */
    "AUTH LOGIN dAppbQ==\r\n",     /* t LF im */
    "AUTH LOGIN dABpbQ==\r\n",     /* t NUL im */
  };
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
    FOR_EACH_SLICE(slice)
    {
      wire w;
      REQUIRE(open_auth(&w, slice));
      w.opts.extensions |= MP_EXT_DSN;
      REQUIRE(wire_start(&w));
      wire_upto(&w, HELLO);
      wire_say(&w, lines[i]);
      if (memcmp(w.said.ptr, "334", 3) == 0)
        WIRE_SAY(&w, "cHc=\r\n");
      if (w.events.len)
        FAIL("row %zu: %.*s", i, (int)w.events.len, w.events.ptr);
      wire_close(&w);
    }
}

/* ---- a session that becomes another one ----------------------------------------------------------------------------- */

/* RFC 3207 4.2: whoever spoke in clear has not spoken (CVE-2024-34083). */
TEST(a_user_of_the_clear_is_nobody_behind_starttls)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice));
    w.opts.tls_offered = w.opts.auth_required = true;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO "AUTH PLAIN " TIM_PW "\r\n");
    CHECK_STR(mp_server_user(w.srv), "tim");
    wire_upto(&w, MAIL "RSET\r\n");
    TALK(&w, "STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n");
    CHECK_EQ_INT(mp_server_user(w.srv).len, 0);
    CHECK_EQ_INT(mp_server_mech(w.srv), -1);
    CHECK_EQ_INT(mp_server_helo(w.srv).len, 0);
    CHECK(mp_server_envelope(w.srv) == NULL);
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "503 Send MAIL first\r\n");
    wire_upto(&w, HELLO);
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "530 5.7.0 Authentication required\r\n");
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "235 2.7.0 Authentication successful\r\n");
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    wire_close(&w);
  }
}

/* EHLO and RSET forget the transaction and not the user. */
TEST(a_user_outlives_ehlo_and_rset)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice) && wire_start(&w));
    wire_upto(&w, HELLO "AUTH PLAIN " TIM_PW "\r\nMAIL FROM:<a@example.net>\r\nRSET\r\n" HELLO);
    CHECK_STR(mp_server_user(w.srv), "tim");
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "503 5.5.1 Already authenticated\r\n");
    wire_close(&w);
  }
}

TEST(three_failures_are_held_back_each)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice));
    w.opts.auth_delay_ms = 1000;
    REQUIRE(wire_start(&w));
    wire_upto(&w, HELLO);
    for (int i = 0; i < 3; i++) {
      TALK(&w, "AUTH PLAIN " TIM_WRONG "\r\n", "");
      CHECK(!w.closed);
      int64_t from = w.now;
      CHECK(wire_tick(&w));
      CHECK_EQ_INT(w.now - from, 1000);
      if (i < 2)
        CHECK_SAID(&w, "535 5.7.8 Authentication credentials invalid\r\n");
    }
    CHECK_SAID(&w, "421 4.7.0 mx.example.org Too many failed authentications\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

/* ---- groups that end -------------------------------------------------------------------------------------------------- */

/* In one flight behind each command that ends a group; an octet at a time, each reply read, the same is no early talk. */
TEST(one_flight_behind_what_ends_a_group)
{
  static const struct {
    const char *upto, *first;
  } rows[] = {
    { "", "HELO a\r\n" },
    { "", "EHLO a\r\n" },
    { HELLO, "EHLO a\r\n" },
    { HELLO, "EHLO\r\n" },
    { HELLO, "AUTH PLAIN " TIM_PW "\r\n" },
    { HELLO, "AUTH PLAIN\r\n" },
    { HELLO, "AUTH NONE\r\n" },
    { HELLO "AUTH LOGIN\r\n", "dGlt\r\n" },
    { HELLO "AUTH LOGIN\r\n", "*\r\n" },
    { RCPT, "DATA now\r\n" },
    { MAIL, "DATA\r\n" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int whole = 0; whole < 2; whole++) {
      wire w;
      REQUIRE(open_auth(&w, whole ? 0 : 1) && wire_start(&w));
      wire_upto(&w, rows[i].upto);
      char both[200];
      snprintf(both, sizeof both, "%s%s", rows[i].first, "bm8=\r\n"); /* base64 of "no", and no command */
      wire_say(&w, both);
      CHECK_EQ_INT(mp_server_early_talker(w.srv), whole);
      CHECK_EQ_INT(w.closed, whole);
      static const char turn[] = "Talking out of turn\r\n";
      CHECK_EQ_INT(w.said.len > 30 && memcmp(w.said.ptr + w.said.len - 21, turn, 21) == 0, whole);
      wire_close(&w);
    }
}

/* Without PIPELINING a BDAT is followed by its octets all the same. */
TEST(chunks_without_pipelining)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.extensions &= ~(unsigned)MP_EXT_PIPELINING;
    REQUIRE(wire_start(&w));
    wire_upto(&w, RCPT);
    TALK(&w, "BDAT 5\r\nhello", "250 2.0.0 5 octets received\r\n");
    TALK(&w, "BDAT 1 LAST\r\nx", "250 2.0.0 OK\r\n");
    TALK(&w, "BDAT 6\r\nNOOP\r\n", "503 5.5.1 Send MAIL first\r\n");
    TALK(&w, "NOOP\r\n", "250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "hellox");
    CHECK(!mp_server_early_talker(w.srv));
    wire_close(&w);
  }
  /* And a command behind them is early. */
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.extensions &= ~(unsigned)MP_EXT_PIPELINING;
  REQUIRE(wire_start(&w));
  wire_upto(&w, RCPT);
  TALK(&w, "BDAT 1\r\nxNOOP\r\n", "250 2.0.0 1 octets received\r\n554 5.5.1 Talking out of turn\r\n");
  CHECK(w.closed);
  wire_close(&w);
}

/* The chunk that comes while the hook of DATA waits is no early talk either. */
TEST(a_chunk_that_comes_while_the_hook_waits)
{
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.extensions &= ~(unsigned)MP_EXT_PIPELINING;
  REQUIRE(wire_start(&w));
  wire_upto(&w, RCPT);
  w.stop = true;
  WIRE_SAY(&w, "BDAT 5\r\n");
  CHECK_EQ_INT(w.waits.kind, MP_EV_DATA);
  CHECK_EQ_INT(mp_server_feed(w.srv, "hello", 5, w.now), 0);
  CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), 0);
  w.stop = false;
  TALK(&w, "hello", "250 2.0.0 5 octets received\r\n");
  TALK(&w, "BDAT 0 LAST\r\n", "250 2.0.0 OK\r\n");
  CHECK_BODY(&w, "hello");
  wire_close(&w);
}

/* ---- bodies ----------------------------------------------------------------------------------------------------------- */

TEST(a_long_line_is_never_split)
{
  enum { LONG = 65536 };
  char *text = malloc(LONG + 5);
  memset(text, 'x', LONG);
  memcpy(text + LONG, "\r\n.\r\n", 5);
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(wire_open(&w, slice));
    wire_upto(&w, RCPT "DATA\r\n");
    wire_feed(&w, text, LONG + 5);
    CHECK_SAID(&w, "250 2.0.0 OK\r\n");
    CHECK_EQ_STR(mp_str_of(w.body.ptr, w.body.len), mp_str_of(text, LONG + 2));
    wire_close(&w);
  }
  free(text);
}

/* Octets that are one fault from the first to the last: one reply, and nothing of them is a command. */
TEST(bodies_of_one_octet)
{
  static const struct {
    char octet;
    const char *said;
  } rows[] = {
    { '\n', "550 5.5.2 Message holds a bare CR or LF\r\n250 2.0.0 OK\r\n" },
    { '\r', "550 5.5.2 Message holds a bare CR or LF\r\n250 2.0.0 OK\r\n" },
    { '\0', "550 5.6.0 Message holds a NUL\r\n250 2.0.0 OK\r\n" },
    { '.', "550 5.6.0 Message holds an overlong line\r\n250 2.0.0 OK\r\n" },
  };
  enum { MANY = 200000 };
  char *text = malloc(MANY + 11);
  for (size_t i = 0; i < 4; i++)
    FOR_EACH_SLICE(slice)
    {
      wire w;
      REQUIRE(wire_open(&w, slice));
      wire_upto(&w, RCPT "DATA\r\n");
      memset(text, rows[i].octet, MANY);
      memcpy(text + MANY, "\r\n.\r\nNOOP\r\n", 11);
      CHECK_EQ_INT(wire_feed(&w, text, MANY + 11), 0);
      CHECK_EQ_STR(mp_str_of(w.said.ptr, w.said.len), mp_str_c(rows[i].said));
      CHECK_EQ_INT(w.messages, 0);
      wire_close(&w);
    }
  free(text);
}

TEST(the_largest_size_that_can_be_counted)
{
  FOR_EACH_SLICE(slice)
  for (int unlimited = 0; unlimited < 2; unlimited++) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    w.opts.size = unlimited ? 0 : 10;
    REQUIRE(wire_start(&w));
    wire_upto(&w, RCPT);
    WIRE_SAY(&w, "BDAT 1\r\nx");
    wire_look(&w);
    TALK(&w, "BDAT 18446744073709551615 LAST\r\nNOOP\r\nNOOP\r\n", ""); /* octets of it, not commands */
    CHECK(mp_server_in_body(w.srv));
    CHECK_EQ_INT(w.messages, 0);
    if (!unlimited) {
      TALK(&w, "012345678", "421 4.3.4 mx.example.org Message far too big\r\n");
      CHECK(w.closed);
    }
    wire_close(&w);
  }
}

/* ---- secrets ---------------------------------------------------------------------------------------------------------- */

#ifndef __SANITIZE_ADDRESS__
static bool holds(const char *block, size_t size, const char *what)
{
  for (size_t i = 0; i + strlen(what) <= size; i++)
    if (memcmp(block + i, what, strlen(what)) == 0)
      return true;
  return false;
}

/* What a line leaves when it comes in pieces: behind a step of growing, behind the limit, behind its end. The pool keeps blocks
 * as they were given back. */
TEST(responses_leave_nothing_behind)
{
  enum { BLOCK = 256 };
  static const size_t lengths[] = { 100, 1000, 14000 };
  for (size_t i = 0; i < 3; i++)
    for (int initial = 0; initial < 2; initial++) {
      mp_pool blocks;
      mp_pool_init(&blocks, BLOCK, 64);
      wire w;
      REQUIRE(open_auth(&w, 50));
      w.opts.out_blocks = &blocks;
      REQUIRE(wire_start(&w));
      wire_upto(&w, HELLO);
      static char line[14100];
      size_t n = initial ? 11 : 0;
      memcpy(line, "AUTH PLAIN ", n);
      if (!initial)
        wire_upto(&w, "AUTH PLAIN\r\n");
      while (n < lengths[i]) {
        memcpy(line + n, "SECRET", 6);
        n += 6;
      }
      memcpy(line + n, "\r\n", 2);
      wire_feed(&w, line, n + 2);
      CHECK(w.said.len > 3 && w.said.ptr[0] == '5');
      char *kept[64];
      for (size_t k = 0; k < 64; k++) {
        kept[k] = mp_pool_take(&blocks);
        REQUIRE(kept[k]);
        CHECK(!holds(kept[k], BLOCK, "SECRET"));
      }
      for (size_t k = 0; k < 64; k++)
        mp_pool_give(&blocks, kept[k]);
      wire_close(&w);
      mp_pool_dispose(&blocks);
    }
}
#endif

static void free_ctx(void) __attribute__((destructor));
static void free_ctx(void)
{
  mp_sasl_ctx_free(ctx);
}

CHECK_MAIN
