/* AUTH (RFC 4954): when it may be said, how it goes on the wire, and what a failure costs. The mechanisms have specs of their own. */
#include "support/wire.h"

#include "base/base64.h"

#include <gsasl.h>

#define HELLO      "EHLO client.example.net\r\n"
#define ALL_MECHS  ((1u << MP_MECH_COUNT) - 1)

#define TIM_PW     "AHRpbQBwdw=="     /* NUL tim NUL pw */
#define TIM_WRONG  "AHRpbQB3cm9uZw==" /* NUL tim NUL wrong */
#define EVE_AS_TIM "ZXZlAHRpbQBwdw=="
#define CONTROL    "AHQKaW0AeA==" /* NUL t LF im NUL x */
#define BEARER     "bixhPXRpbSwBYXV0aD1CZWFyZXIgdG9rMTIzAQE="

static mp_sasl_ctx *ctx; /* libgsasl's, one for all tests */

static bool open_auth(wire *w, size_t slice, unsigned mechanisms)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  if (!ctx && mp_sasl_ctx_new(&ctx) < 0)
    return false;
  w->opts.sasl = ctx;
  w->opts.sasl_secret = MP_STR("sixteen octets and more");
  w->opts.mechanisms = mechanisms;
  w->opts.auth_in_clear = true;
  w->secret = "pw";
  return true;
}

static bool ready(wire *w)
{
  if (!wire_start(w))
    return false;
  wire_upto(w, HELLO);
  return true;
}

TEST(plain_with_an_initial_response)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, 1u << MP_MECH_PLAIN) && ready(&w));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "235 2.7.0 Authentication successful\r\n");
    CHECK_EVENTS(&w, "credentials=tim authenticated=yes:tim");
    CHECK_STR(mp_server_user(w.srv), "tim");
    CHECK_EQ_INT(mp_server_mech(w.srv), MP_MECH_PLAIN);
    CHECK_CSTR(mp_server_with(w.srv), "ESMTPA");
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "503 5.5.1 Already authenticated\r\n");
    wire_close(&w);
  }
}

TEST(plain_and_login_by_challenge)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, 1u << MP_MECH_PLAIN | 1u << MP_MECH_LOGIN) && ready(&w));
    TALK(&w, "auth plain\r\n", "334 \r\n");
    TALK(&w, TIM_WRONG "\r\n", "535 5.7.8 Authentication credentials invalid\r\n");
    TALK(&w, "AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n");
    TALK(&w, "dGlt\r\n", "334 UGFzc3dvcmQ6\r\n");
    TALK(&w, "cHc=\r\n", "235 2.7.0 Authentication successful\r\n");
    CHECK_EVENTS(&w, "credentials=tim job authenticated=no:tim credentials=tim authenticated=yes:tim");
    wire_close(&w);
  }
}

TEST(what_is_announced)
{
  wire w;
  REQUIRE(open_auth(&w, 0, ALL_MECHS));
  w.tls_from_start = false;
  w.opts.extensions = MP_EXT_AUTH | MP_EXT_STARTTLS;
  w.opts.tls_offered = true;
  w.facts_tls = (mp_tls_facts){ .cb_exporter = MP_STR("0123456789abcdef0123456789abcdef") };
  REQUIRE(wire_start(&w));
  wire_look(&w);
  TALK(&w, HELLO,
       "250-mx.example.org\r\n250-STARTTLS\r\n"
       "250 AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 XOAUTH2 OAUTHBEARER\r\n");
  TALK(&w, "AUTH SCRAM-SHA-256-PLUS\r\n", "504 Mechanism not offered\r\n");
  TALK(&w, "STARTTLS\r\n", "220 Ready to start TLS\r\n");
  TALK(&w, HELLO,
       "250-mx.example.org\r\n250 AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 "
       "SCRAM-SHA-256-PLUS XOAUTH2 OAUTHBEARER\r\n");
  wire_close(&w);
}

TEST(auth_without_tls)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.opts.auth_in_clear = false;
    w.opts.extensions &= ~(unsigned)MP_EXT_LIMITS;
    REQUIRE(wire_start(&w));
    wire_look(&w);
    TALK(&w, HELLO,
         "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n"
         "250 ENHANCEDSTATUSCODES\r\n");
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "538 5.7.11 Encryption required for authentication\r\n");
    CHECK_EVENTS(&w, "ehlo=client.example.net");
    wire_close(&w);
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.opts.tls_required = true;
    REQUIRE(ready(&w));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "530 5.7.0 Must issue a STARTTLS command first\r\n");
    wire_close(&w);
  }
}

TEST(auth_where_it_may_not_stand)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS) && wire_start(&w));
    wire_look(&w);
    TALK(&w, "AUTH PLAIN\r\n", "503 Send EHLO first\r\n");
    TALK(&w, "HELO a\r\n", "250 mx.example.org\r\n");
    TALK(&w, "AUTH PLAIN\r\n", "503 Send EHLO first\r\n");
    wire_upto(&w, HELLO "MAIL FROM:<a@example.net>\r\n");
    TALK(&w, "AUTH PLAIN\r\n", "503 5.5.1 Not permitted in a transaction\r\n");
    TALK(&w, "RSET\r\n", "250 2.0.0 OK\r\n");
    TALK(&w, "AUTH\r\n", "501 5.5.4 Syntax: AUTH mechanism [response]\r\n");
    TALK(&w, "AUTH PLAIN a b\r\n", "501 5.5.4 Syntax: AUTH mechanism [response]\r\n");
    TALK(&w, "AUTH GSSAPI\r\n", "504 5.5.4 Mechanism not offered\r\n");
    wire_close(&w);
  }
}

TEST(stars_equals_and_bad_base64)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS) && ready(&w));
    TALK(&w, "AUTH PLAIN\r\n", "334 \r\n");
    TALK(&w, "*\r\n", "501 5.0.0 Authentication cancelled\r\n");
    TALK(&w, "AUTH PLAIN =\r\n", "501 5.5.2 Malformed authentication response\r\n");
    TALK(&w, "AUTH PLAIN\r\n", "334 \r\n");
    TALK(&w, "\r\n", "501 5.5.2 Malformed authentication response\r\n");
    TALK(&w, "AUTH PLAIN AAA\r\n", "501 5.5.2 Response is no base64\r\n");
    TALK(&w, "AUTH PLAIN *\r\n", "501 5.5.2 Response is no base64\r\n");
    TALK(&w, "AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n");
    TALK(&w, "dGl=\r\n", "501 5.5.2 Response is no base64\r\n");
    TALK(&w, "AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n");
    TALK(&w, "dG\rl0\r\n", "501 5.5.2 Line holds a bare CR or LF, or a NUL\r\n");
    TALK(&w, "AUTH PLAIN " CONTROL "\r\n", "501 5.5.2 Malformed authentication response\r\n");
    CHECK_EVENTS(&w, ""); /* never a hook with bad octets */
    CHECK_EQ_INT(mp_server_errors(w.srv), 8);
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "235 2.7.0 Authentication successful\r\n");
    wire_close(&w);
  }
}

TEST(another_authorisation_identity_is_refused)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS) && ready(&w));
    TALK(&w, "AUTH PLAIN " EVE_AS_TIM "\r\n", "535 5.7.8 Authentication credentials invalid\r\n");
    CHECK_EQ_INT(mp_server_user(w.srv).len, 0);
    wire_close(&w);
  }
}

TEST(lines_of_an_exchange_may_be_long)
{
  char line[13000];
  FOR_EACH_SLICE(slice)
  for (size_t octets = 12288; octets < 12290; octets++)
    for (int initial = 0; initial < 2; initial++) {
      wire w;
      REQUIRE(open_auth(&w, slice, ALL_MECHS) && ready(&w));
      size_t n = 0;
      if (initial) {
        memcpy(line, "AUTH PLAIN ", 11);
        n = 11;
      } else {
        TALK(&w, "AUTH PLAIN\r\n", "334 \r\n");
      }
      memset(line + n, 'A', octets - n);
      memcpy(line + octets, "\r\n", 2);
      wire_feed(&w, line, octets + 2);
      if (octets > 12288)
        CHECK_SAID(&w, "500 5.5.6 Authentication exchange line is too long\r\n");
      else /* it was read whole, and looked at */
        CHECK(w.said.len > 4 && memcmp(w.said.ptr, "501 5.5.2", 9) == 0);
      wire_look(&w);
      TALK(&w, "NOOP\r\n", "250 2.0.0 OK\r\n");
      wire_close(&w);
    }
}

TEST(a_failure_is_answered_after_a_delay)
{
  wire w;
  REQUIRE(open_auth(&w, 1, ALL_MECHS));
  w.opts.auth_delay_ms = 1500;
  REQUIRE(ready(&w));
  TALK(&w, "AUTH PLAIN " TIM_WRONG "\r\n", "");
  CHECK_EVENTS(&w, "credentials=tim job authenticated=no:tim");
  CHECK_EQ_INT(mp_server_deadline(w.srv), w.now + 1500);
  mp_server_tick(w.srv, w.now + 1499);
  CHECK_EQ_INT(mp_server_output(w.srv).len, 0);
  CHECK(wire_tick(&w));
  CHECK_SAID(&w, "535 5.7.8 Authentication credentials invalid\r\n");
  TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "235 2.7.0 Authentication successful\r\n"); /* a good one is not held back */
  wire_close(&w);
}

TEST(octets_while_the_reply_is_held_back)
{
  wire w;
  REQUIRE(open_auth(&w, 0, ALL_MECHS));
  w.opts.auth_delay_ms = 1000;
  REQUIRE(ready(&w));
  WIRE_SAY(&w, "AUTH PLAIN " TIM_WRONG "\r\n");
  CHECK_EQ_INT(mp_server_feed(w.srv, "NOOP\r\n", 6, w.now), 0);
  CHECK(wire_tick(&w));
  TALK(&w, "NOOP\r\n", "535 5.7.8 Authentication credentials invalid\r\n554 5.5.1 Talking out of turn\r\n");
  CHECK(w.closed);
  wire_close(&w);
}

TEST(three_failures)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.secret = NULL; /* no such user looks like a wrong password */
    REQUIRE(ready(&w));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "535 5.7.8 Authentication credentials invalid\r\n");
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "535 5.7.8 Authentication credentials invalid\r\n");
    wire_look(&w);
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "421 4.7.0 mx.example.org Too many failed authentications\r\n");
    CHECK(w.closed);
    wire_close(&w);
  }
}

TEST(octets_in_one_flight_behind_auth)
{
  wire w;
  REQUIRE(open_auth(&w, 0, ALL_MECHS) && ready(&w));
  TALK(&w, "AUTH PLAIN " TIM_PW "\r\nMAIL FROM:<a@example.net>\r\n",
       "235 2.7.0 Authentication successful\r\n554 5.5.1 Talking out of turn\r\n");
  CHECK(w.closed);
  wire_close(&w);
  REQUIRE(open_auth(&w, 0, ALL_MECHS));
  w.opts.tolerate_early = true;
  REQUIRE(ready(&w));
  TALK(&w, "AUTH LOGIN\r\ndGlt\r\ncHc=\r\nNOOP\r\n",
       "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 2.7.0 Authentication successful\r\n250 2.0.0 OK\r\n");
  CHECK(mp_server_early_talker(w.srv));
  wire_close(&w);
}

TEST(the_script_judges_the_password)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.secret = NULL;
    w.ask = true;
    REQUIRE(ready(&w));
    wire_answer_next(&w, MP_EV_AUTH, MP_REPLY(535, 5, 7, 8, "Says who"));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "535 5.7.8 Says who\r\n");
    CHECK_EVENTS(&w, "credentials=tim auth=tim:pw authenticated=no:tim");
    wire_answer_next(&w, MP_EV_AUTH, MP_REPLY(454, 4, 7, 0, "Directory is down"));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "454 4.7.0 Directory is down\r\n");
    wire_answer_next(&w, MP_EV_AUTH,
                     (mp_reply){ .code = 235, .enhanced = { 2, 7, 0 }, .text = MP_STR("hello tim") });
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "235 2.7.0 hello tim\r\n");
    CHECK_EVENTS(
        &w, "credentials=tim auth=tim:pw authenticated=no:tim credentials=tim auth=tim:pw authenticated=yes:tim");
    wire_close(&w);
  }
}

TEST(a_lookup_that_fails_is_no_failed_attempt)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.opts.auth_failures = 1;
    REQUIRE(ready(&w));
    w.stop = true;
    WIRE_SAY(&w, "AUTH PLAIN " TIM_PW "\r\n");
    CHECK_EQ_INT(mp_server_reply(w.srv, NULL, w.now), MP_E_MISUSE);
    CHECK_EQ_INT(mp_server_credentials_fail(w.srv, NULL, w.now), 0);
    w.stop = false;
    wire_say(&w, "");
    CHECK_SAID(&w, "454 4.7.0 Temporary authentication failure\r\n");
    wire_answer_next(&w, MP_EV_CREDENTIALS, MP_REPLY(535, 5, 7, 8, "Locked"));
    TALK(&w, "AUTH PLAIN " TIM_PW "\r\n", "421 4.7.0 mx.example.org Too many failed authentications\r\n");
    wire_close(&w);
  }
}

/* RFC 7628 3.2.3: the refusal is a challenge, the client answers with ^A, and then it has failed. */
TEST(a_bearer_token_is_refused)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS) && ready(&w));
    wire_answer_next(&w, MP_EV_TOKEN, MP_REPLY(535, 5, 7, 8, "Token has expired"));
    TALK(&w, "AUTH OAUTHBEARER " BEARER "\r\n", "334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n");
    TALK(&w, "AQ==\r\n", "535 5.7.8 Token has expired\r\n");
    CHECK_EVENTS(&w, "token=tim:tok123 authenticated=no:tim");
    /* Fleeing from it counts too. */
    wire_answer_next(&w, MP_EV_TOKEN, MP_REPLY(535, 5, 7, 8, "Token has expired"));
    TALK(&w, "AUTH OAUTHBEARER " BEARER "\r\n", "334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n");
    TALK(&w, "*\r\n", "535 5.7.8 Token has expired\r\n");
    wire_look(&w);
    TALK(&w, "AUTH OAUTHBEARER " BEARER "\r\n", "235 2.7.0 Authentication successful\r\n");
    CHECK_EVENTS(&w, "token=tim:tok123 authenticated=yes:tim");
    wire_close(&w);
  }
}

static size_t last_line(const wire *w) /* where the last reply's text begins */
{
  size_t at = w->said.len - 2;
  while (at > 0 && w->said.ptr[at - 1] != '\n')
    at--;
  return at + 4;
}

/* The server's last message is a challenge with an empty answer, since 235 carries no data. */
TEST(scram_with_channel_binding)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    REQUIRE(open_auth(&w, slice, ALL_MECHS));
    w.opts.tls_offered = true;
    w.facts_tls = (mp_tls_facts){ .cb_unique = MP_STR("0123456789ab") };
    REQUIRE(ready(&w));
    wire_upto(&w, "STARTTLS\r\n" HELLO);
    Gsasl *gsasl;
    Gsasl_session *client;
    REQUIRE(gsasl_init(&gsasl) == GSASL_OK &&
            gsasl_client_start(gsasl, "SCRAM-SHA-256-PLUS", &client) == GSASL_OK);
    gsasl_property_set(client, GSASL_AUTHID, "tim");
    gsasl_property_set(client, GSASL_PASSWORD, "pw");
    gsasl_property_set(client, GSASL_CB_TLS_UNIQUE, "MDEyMzQ1Njc4OWFi");
    WIRE_SAY(&w, "AUTH SCRAM-SHA-256-PLUS\r\n");
    CHECK_SAID(&w, "334 \r\n");
    char challenge[2000] = "", *response;
    for (int step = 0; step < 3; step++) {
      int rc = gsasl_step64(client, challenge, &response);
      REQUIRE(rc == GSASL_OK || rc == GSASL_NEEDS_MORE);
      wire_say(&w, response);
      wire_say(&w, "\r\n");
      gsasl_free(response);
      if (step < 2) {
        size_t from = last_line(&w), len = w.said.len - 2 - from;
        memcpy(challenge, w.said.ptr + from, len);
        challenge[len] = '\0';
        CHECK(memcmp(w.said.ptr + from - 4, "334 ", 4) == 0);
        wire_look(&w);
      }
    }
    CHECK_SAID(&w, "235 2.7.0 Authentication successful\r\n");
    CHECK_STR(mp_server_user(w.srv), "tim");
    CHECK_CSTR(mp_server_with(w.srv), "ESMTPSA");
    gsasl_finish(client);
    gsasl_done(gsasl);
    wire_close(&w);
  }
}

TEST(submission_demands_tls_and_auth)
{
  FOR_EACH_SLICE(slice)
  {
    wire w;
    wire_init(&w, MP_PROTOCOL_SUBMISSION, slice);
    if (!ctx)
      REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
    w.opts.sasl = ctx;
    w.opts.mechanisms = 1u << MP_MECH_PLAIN;
    w.opts.tls_offered = true;
    w.secret = "pw";
    REQUIRE(!mp_server_opts_check(&w.opts));
    REQUIRE(ready(&w));
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "530 5.7.0 Must issue a STARTTLS command first\r\n");
    wire_upto(&w, "STARTTLS\r\n" HELLO);
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "530 5.7.0 Authentication required\r\n");
    wire_upto(&w, "AUTH PLAIN " TIM_PW "\r\n");
    TALK(&w, "MAIL FROM:<a@example.net> AUTH=<>\r\n", "250 2.1.0 Sender OK\r\n");
    /* Authenticated users are trusted: their line ends are repaired. */
    wire_upto(&w, "RCPT TO:<b@example.org>\r\nDATA\r\n");
    TALK(&w, "a\nb\r\n.\r\n", "250 2.0.0 OK\r\n");
    CHECK_BODY(&w, "a\r\nb\r\n");
    wire_close(&w);
  }
}

/* A crypt(3) hash is checked by a job. Given back when nobody waits for it, it stays the caller's. */
TEST(a_job_outlives_the_session)
{
  wire w;
  REQUIRE(open_auth(&w, 0, 1u << MP_MECH_PLAIN) && ready(&w));
  w.stop = true;
  WIRE_SAY(&w, "AUTH PLAIN " TIM_PW "\r\n");
  mp_credentials cred = {
    .hash = MP_STR(
        "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/")
  };
  REQUIRE(mp_server_credentials(w.srv, &cred, w.now) == 0);
  mp_event ev;
  REQUIRE(mp_server_next(w.srv, &ev) == 1 && ev.kind == MP_EV_JOB);
  mp_job *job = ev.job.job;
  mp_reply bye = MP_REPLY(421, 4, 3, 2, "Going down");
  mp_server_close(w.srv, &bye, "shutdown");
  job->run(job);
  CHECK_EQ_INT(mp_server_worked(w.srv, job, w.now), MP_E_MISUSE);
  job->free(job);
  wire_close(&w);
}

static void free_ctx(void) __attribute__((destructor));
static void free_ctx(void)
{
  mp_sasl_ctx_free(ctx);
}

CHECK_MAIN
