/* Each scenario again with allocation 0, 1, 2, ... failing: nothing leaks, nothing is accepted that was not said, and the machine always ends
 * in a state from which it can be fed or freed. */
#include "support/wire.h"

#define HELLO "EHLO client.example.net\r\n"

typedef struct scenario {
  mp_protocol protocol;
  const char *text; /* commands in lines; a body ends with a line of its own */
  unsigned trust;
  size_t messages; /* accepted when nothing fails */
} scenario;

static const scenario scenarios[] = {
  { MP_PROTOCOL_SMTP,
    HELLO "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n..y\r\n.\r\nQUIT\r\n", 0, 1 },
  { MP_PROTOCOL_SMTP,
    "HELO a\r\nMAIL FROM:<a@example.net>\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n.\r\n",
    0, 1 },
  { MP_PROTOCOL_SMTP,
    HELLO
    "MAIL FROM:<a@example.net> SIZE=9 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n"
    "RCPT TO:<d@example.org>\r\nRCPT TO:<e@example.org>\r\nRCPT TO:<f@example.org>\r\nBDAT 3\r\na\nbBDAT 2 LAST\r\nc\rNOOP\r\n",
    MP_TRUST_REPAIR, 1 },
  { MP_PROTOCOL_LMTP,
    "LHLO a\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\nx\r\n.\r\n",
    0, 1 },
  { MP_PROTOCOL_SMTP,
    HELLO "STARTTLS\r\n" HELLO "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n",
    0, 1 },
  { MP_PROTOCOL_SMTP, HELLO "AUTH PLAIN AHRpbQBwdw==\r\nMAIL FROM:<a@example.net>\r\nQUIT\r\n", 0, 0 },
  { MP_PROTOCOL_SMTP, HELLO "AUTH LOGIN\r\ndGlt\r\nd3Jvbmc=\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN !\r\n", 0, 0 },
  { MP_PROTOCOL_SMTP, HELLO "AUTH OAUTHBEARER bixhPXRpbSwBYXV0aD1CZWFyZXIgdG9rMTIzAQE=\r\n", 0, 0 },
  { MP_PROTOCOL_SMTP, HELLO "XCLIENT ADDR=192.0.2.7 LOGIN=tim HELO=spike.example\r\nMAIL FROM:<a@example.net>\r\n",
    MP_TRUST_XCLIENT, 0 },
  { MP_PROTOCOL_SMTP,
    HELLO "BDAT 3 LAST\r\nabcMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nBDAT -1\r\n", 0, 0 },
};

static mp_sasl_ctx *ctx;

static void play(const scenario *s, size_t slice, bool refuse)
{
  wire w;
  wire_init(&w, s->protocol, slice);
  w.opts.extensions |= MP_EXT_XCLIENT;
  w.opts.tls_offered = w.opts.auth_in_clear = w.opts.tolerate_early = true;
  w.opts.mechanisms = 1u << MP_MECH_PLAIN | 1u << MP_MECH_LOGIN | 1u << MP_MECH_OAUTHBEARER |
                      1u << MP_MECH_SCRAM_SHA_256_PLUS;
  w.opts.sasl = ctx;
  w.opts.sasl_secret = MP_STR("sixteen octets and more");
  w.facts_tls = (mp_tls_facts){ .cb_exporter = MP_STR("0123456789abcdef") };
  w.trust = s->trust;
  w.secret = "pw";
  if (refuse) { /* replies that are kept for later take memory */
    wire_answer_next(&w, MP_EV_TOKEN, MP_REPLY(535, 5, 7, 8, "No"));
    wire_answer_next(&w, MP_EV_DATA, MP_REPLY(550, 5, 7, 1, "No"));
    wire_answer_next(&w, MP_EV_MESSAGE, MP_REPLY(550, 5, 7, 1, "No"));
  }
  if (!wire_start(&w)) {
    CHECK(w.srv == NULL && CHECK_ALLOC_FAILED());
    wire_close(&w);
    return;
  }
  for (const char *line = s->text; *line;) { /* nothing may stand behind STARTTLS */
    size_t len = (size_t)(strstr(line, "\r\n") - line) + 2;
    wire_feed(&w, line, len);
    line += len;
  }
  if (!CHECK_ALLOC_FAILED() && !refuse)
    CHECK_EQ_INT(w.messages, s->messages);
  /* Whoever was told 250 behind a body is counted, and nobody else. */
  CHECK(w.messages <= s->messages);
  if (w.closed) {
    CHECK_EQ_INT(mp_server_feed(w.srv, "x", 1, w.now), MP_E_CLOSED);
    CHECK_EQ_INT(mp_server_deadline(w.srv), INT64_MAX);
  }
  wire_close(&w);
}

TEST(every_allocation_of_every_scenario_fails_once)
{
  if (!ctx)
    REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
    for (int refuse = 0; refuse < 2; refuse++) {
      FOR_EACH_ALLOC_FAILURE
        play(&scenarios[i], 0, refuse);
      FOR_EACH_ALLOC_FAILURE
        play(&scenarios[i], 1, refuse);
    }
}

TEST(feeding_without_memory_takes_nothing_and_closes)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  mp_mem_fail_after(0);
  CHECK_EQ_INT(mp_server_feed(w.srv, "NO", 2, w.now), MP_E_NOMEM); /* a part of a line must be kept */
  mp_mem_fail_after(-1);
  wire_say(&w, "");
  CHECK(w.closed);
  wire_close(&w);
}

TEST(an_envelope_without_memory_is_452)
{
  wire w;
  REQUIRE(wire_open(&w, 0));
  wire_upto(&w, HELLO);
  mp_pool blocks, envelopes;
  mp_pool_init(&blocks, 2048, 2);
  mp_pool_init(&envelopes, sizeof(mp_envelope), 0);
  w.opts.out_blocks = &blocks;
  w.opts.envelopes = &envelopes;
  CHECK(mp_server_output(w.srv).ptr == NULL);
  w.hold = true;
  WIRE_SAY(&w, "NOOP\r\n"); /* output has its block */
  mp_mem_fail_after(0);
  WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\n");
  mp_mem_fail_after(-1);
  w.hold = false;
  wire_say(&w, "");
  CHECK_SAID(&w, "250 2.0.0 OK\r\n452 4.3.1 Out of memory for the envelope\r\n");
  TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
  wire_close(&w);
  mp_pool_dispose(&blocks);
  mp_pool_dispose(&envelopes);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOLS_ARE_THE_HEAP 1
#endif
#endif
#if !defined(__SANITIZE_ADDRESS__) && !defined(POOLS_ARE_THE_HEAP)
/* In steady state no command touches the heap: what it needs comes from the pools. */
TEST(a_second_message_allocates_nothing)
{
  mp_pool blocks, envelopes, arena;
  mp_pool_init(&blocks, 2048, 4);
  mp_pool_init(&envelopes, sizeof(mp_envelope), 4);
  mp_pool_init(&arena, 4096, 4);
  wire w;
  wire_init(&w, MP_PROTOCOL_SMTP, 0);
  w.opts.out_blocks = &blocks;
  w.opts.envelopes = &envelopes;
  w.opts.envelope_blocks = &arena;
  REQUIRE(wire_start(&w));
  wire_upto(&w, HELLO);
  for (int i = 0; i < 3; i++) {
    if (i == 1)
      mp_mem_fail_after(0);
    WIRE_SAY(&w, "MAIL FROM:<a@example.net>\r\n");
    WIRE_SAY(&w, "RCPT TO:<b@example.org>\r\nDATA\r\n");
    WIRE_SAY(&w, "Subject: x\r\n\r\nhello\r\n.\r\n");
  }
  CHECK_EQ_INT(mp_mem_failed(), 0);
  mp_mem_fail_after(-1);
  CHECK_EQ_INT(w.messages, 3);
  wire_close(&w);
  mp_pool_dispose(&blocks);
  mp_pool_dispose(&envelopes);
  mp_pool_dispose(&arena);
}
#endif

static void free_ctx(void) __attribute__((destructor));
static void free_ctx(void)
{
  mp_sasl_ctx_free(ctx);
}

CHECK_MAIN
