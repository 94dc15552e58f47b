/* AUTH from the client's side: every mechanism against our own server, the choice among them, and servers that cheat. */
#include "base/base64.h"
#include "smtp/scram.h"
#include "support/duet.h"

#define ALL ((1u << MP_MECH_COUNT) - 1)

static const mp_client_login login = {
  .user = { "tim", 3 },
  .password = { "correct horse", 13 },
};
static const mp_client_login bearer = {
  .user = { "tim@example.org", 15 }, .token = { "ya29.token", 10 }, .host = { "mx.example.org", 14 }, .port = 587
};

static const mp_client_login *login_for(mp_mech mech)
{
  return mech == MP_MECH_XOAUTH2 || mech == MP_MECH_OAUTHBEARER ? &bearer : &login;
}

TEST(every_mechanism_against_our_server)
{
  FOR_EACH_SLICE(slice)
  for (int mech = 0; mech < MP_MECH_COUNT; mech++)
    for (int wrong = 0; wrong < 2; wrong++) {
      duet d;
      duet_init(&d, MP_PROTOCOL_SMTP, slice);
      REQUIRE(duet_sasl(&d, ALL));
      mp_client_login l = *login_for((mp_mech)mech);
      l.mechanisms = 1u << mech;
      if (wrong) {
        l.password = MP_STR("battery staple");
        wire_answer_next(&d.w, MP_EV_TOKEN, MP_REPLY(535, 5, 7, 8, "No"));
      }
      REQUIRE(duet_start(&d) && duet_starttls(&d));
      duet_look(&d);
      CHECK_EQ_INT(mp_client_auth(d.c.cl, &l, d.c.now), 0);
      duet_run(&d);
      CHECK_EQ_INT(d.c.done.ok, !wrong);
      CHECK_EQ_INT(d.c.done.rc, 0);
      CHECK_EQ_INT(d.c.done.reply.code, wrong ? 535 : 235);
      CHECK_EQ_INT(mp_client_mech(d.c.cl), wrong ? -1 : mech);
      CHECK_EQ_STR(mp_server_user(d.w.srv), wrong ? MP_STR_NULL : l.user);
      CHECK_EQ_INT(mp_client_noop(d.c.cl, d.c.now), 0);
      duet_run(&d);
      CHECK_EQ_INT(d.c.done.reply.code, 250);
      duet_close(&d);
    }
}

TEST(the_strongest_mechanism_is_chosen)
{
  static const struct {
    unsigned offered;
    bool tls, token;
    int chosen;
  } rows[] = {
    { ALL, true, false, MP_MECH_SCRAM_SHA_256_PLUS },
    { ALL, true, true, MP_MECH_OAUTHBEARER },
    { ALL & ~(1u << MP_MECH_OAUTHBEARER), true, true, MP_MECH_XOAUTH2 },
    { ALL, false, false, MP_MECH_SCRAM_SHA_256 },
    { 1u << MP_MECH_SCRAM_SHA_1 | 1u << MP_MECH_PLAIN, true, false, MP_MECH_SCRAM_SHA_1 },
    { 1u << MP_MECH_CRAM_MD5 | 1u << MP_MECH_PLAIN, true, false, MP_MECH_CRAM_MD5 },
    { 1u << MP_MECH_LOGIN | 1u << MP_MECH_PLAIN, true, false, MP_MECH_PLAIN },
    { 1u << MP_MECH_LOGIN, true, false, MP_MECH_LOGIN },
    { 1u << MP_MECH_LOGIN | 1u << MP_MECH_PLAIN, false, false, -1 },
    { ALL, false, true, -1 },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    duet d;
    duet_init(&d, MP_PROTOCOL_SMTP, 0);
    REQUIRE(duet_sasl(&d, rows[i].offered));
    d.w.opts.auth_in_clear = true;
    REQUIRE(duet_start(&d));
    if (rows[i].tls)
      REQUIRE(duet_starttls(&d));
    duet_look(&d);
    CHECK_EQ_INT(mp_client_auth(d.c.cl, rows[i].token ? &bearer : &login, d.c.now), 0);
    duet_run(&d);
    CHECK_EQ_INT(mp_client_mech(d.c.cl), rows[i].chosen);
    if (rows[i].chosen < 0) {
      CHECK_CAME(&d.c, "auth=538l");
      CHECK_EQ_INT(d.flights, 0);
    }
    duet_close(&d);
  }
}

TEST(a_password_in_clear_only_where_it_is_allowed_by_name)
{
  duet d;
  duet_init(&d, MP_PROTOCOL_SMTP, 0);
  REQUIRE(duet_sasl(&d, 1u << MP_MECH_LOGIN | 1u << MP_MECH_PLAIN));
  d.w.opts.auth_in_clear = true;
  REQUIRE(duet_start(&d));
  mp_client_login l = login;
  l.in_clear = 1u << MP_MECH_LOGIN;
  CHECK_EQ_INT(mp_client_auth(d.c.cl, &l, d.c.now), 0);
  duet_run(&d);
  CHECK_EQ_INT(mp_client_mech(d.c.cl), MP_MECH_LOGIN);
  duet_close(&d);
}

TEST(a_mechanism_that_the_server_takes_back_is_followed_by_the_next)
{
  FOR_EACH_SLICE(slice)
  {
    cwire c;
    cwire_init(&c, slice);
    REQUIRE(cwire_start(&c, &duet_tls) && cwire_hello(&c, "250-mx\r\n250 AUTH PLAIN LOGIN\r\n"));
    CHECK_EQ_INT(mp_client_auth(c.cl, &login, c.now), 0);
    CHECK_STR(mp_client_secret(c.cl), "AHRpbQBjb3JyZWN0IGhvcnNl");
    CWIRE(&c, "504 5.5.4 not that\r\n", "AUTH PLAIN AHRpbQBjb3JyZWN0IGhvcnNl\r\n", "");
    CHECK_EQ_INT(mp_client_secret(c.cl).len, 0);
    CWIRE(&c, "334 \r\n", "AUTH LOGIN\r\n", "");
    CHECK_ASKED(&c, "dGlt\r\n");
    c.hold = true;
    cwire_feed(&c, "334 UGFzc3dvcmQ6\r\n", 18);
    CHECK_STR(mp_client_secret(c.cl), "Y29ycmVjdCBob3JzZQ==");
    c.hold = false;
    CWIRE(&c, "534 5.7.9 too weak\r\n", "Y29ycmVjdCBob3JzZQ==\r\n", "auth=534");
    cwire_close(&c);
  }
}

TEST(no_mechanism_in_common)
{
  cwire c;
  cwire_init(&c, 0);
  REQUIRE(cwire_start(&c, &duet_tls) && cwire_hello(&c, "250-mx\r\n250 AUTH GSSAPI SCRAM-SHA-256\r\n"));
  CHECK_EQ_INT(mp_client_auth(c.cl, &login, c.now), 0); /* no SASL context: SCRAM is unknown */
  CWIRE(&c, "", "", "auth=504l");
  cwire_close(&c);
}

TEST(a_long_token_waits_for_an_empty_challenge)
{
  FOR_EACH_SLICE(slice)
  {
    char token[600];
    memset(token, 't', sizeof token);
    duet d;
    duet_init(&d, MP_PROTOCOL_SMTP, slice);
    REQUIRE(duet_sasl(&d, 1u << MP_MECH_XOAUTH2));
    REQUIRE(duet_start(&d) && duet_starttls(&d));
    mp_client_login l = bearer;
    l.token = mp_str_of(token, sizeof token);
    duet_look(&d);
    CHECK_EQ_INT(mp_client_auth(d.c.cl, &l, d.c.now), 0);
    duet_run(&d);
    CHECK_CAME(&d.c, "auth=235+");
    CHECK(d.asked.len > 14 && memcmp(d.asked.ptr, "AUTH XOAUTH2\r\n", 14) == 0);
    duet_close(&d);
  }
}

TEST(names_that_need_escapes_and_an_identity_to_act_as)
{
  cwire c;
  cwire_init(&c, 0);
  REQUIRE(cwire_start(&c, &duet_tls) && cwire_hello(&c, "250-mx\r\n250 AUTH OAUTHBEARER PLAIN\r\n"));
  mp_client_login l = { .user = MP_STR("a,b=c"), .token = MP_STR("tok") };
  CHECK_EQ_INT(mp_client_auth(c.cl, &l, c.now), 0);
  CWIRE(&c, "235 ok\r\n", "AUTH OAUTHBEARER bixhPWE9MkNiPTNEYywBYXV0aD1CZWFyZXIgdG9rAQE=\r\n", "auth=235+");
  l = (mp_client_login){ .user = MP_STR("tim"), .authzid = MP_STR("kim"), .password = MP_STR("pw") };
  CHECK_EQ_INT(mp_client_auth(c.cl, &l, c.now), 0);
  CWIRE(&c, "535 no\r\n", "AUTH PLAIN a2ltAHRpbQBwdw==\r\n", "auth=535");
  cwire_close(&c);
}

TEST(logins_that_may_never_be_written)
{
  cwire c;
  cwire_init(&c, 0);
  REQUIRE(cwire_start(&c, &duet_tls) && cwire_hello(&c, "250-mx\r\n250 AUTH OAUTHBEARER PLAIN\r\n"));
  static const mp_client_login rows[] = {
    { .user = { "t\1m", 3 }, .password = { "pw", 2 } },
    { .user = { "t\xff", 2 }, .password = { "pw", 2 } },
    { .user = { "tim", 3 }, .password = { "p\0w", 3 } },
    { .user = { "tim", 3 }, .token = { "a\1b", 3 } },
    { .user = { "tim", 3 }, .token = { "a b", 3 } },
    { .token = { "a", 1 }, .host = { "h\1x", 3 } },
    { .authzid = { "\r\n", 2 }, .password = { "pw", 2 } },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    CHECK_EQ_INT(mp_client_auth(c.cl, &rows[i], c.now), MP_E_INVALID);
  cwire_pump(&c);
  CHECK_ASKED(&c, "");
  cwire_close(&c);
}

/* ---- servers that cheat -------------------------------------------------------------------------------------------- */

static void say64(cwire *c, const char *text)
{
  mp_buf line;
  mp_buf_init(&line, 8192, NULL);
  mp_buf_str(&line, MP_STR("334 "));
  mp_base64_encode(&line, mp_str_c(text));
  mp_buf_str(&line, MP_STR("\r\n"));
  cwire_feed(c, mp_buf_view(&line).ptr, line.len);
  mp_buf_dispose(&line);
}

/* A client that has said its first SCRAM message; its nonce. */
static bool scram(cwire *c, mp_sasl_ctx *ctx, const char *ehlo, mp_client_login *l, char nonce[100])
{
  cwire_init(c, 0);
  c->opts.sasl = ctx;
  if (!cwire_start(c, &duet_tls) || !cwire_hello(c, ehlo) || mp_client_auth(c->cl, l, c->now) < 0)
    return false;
  cwire_pump(c);
  mp_str said = mp_str_of(c->said.ptr, c->said.len);
  mp_buf first;
  mp_buf_init(&first, 1024, NULL);
  bool ok = said.len > 22 && mp_base64_decode(&first, mp_str_sub(said, 19, said.len - 21)) == 0;
  if (ok) {
    mp_str text = mp_buf_view(&first);
    mp_ssize at = mp_str_find(text, 'r', 5);
    snprintf(nonce, 100, "%.*s", (int)(text.len - (size_t)at - 2), text.ptr + at + 2);
  }
  mp_buf_dispose(&first);
  cwire_clear(&c->said);
  return ok;
}

TEST(a_scram_server_that_does_not_know_the_password)
{
  mp_sasl_ctx *ctx;
  REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  mp_client_login l = login;
  char nonce[100], text[300];
  for (int how = 0; how < 3; how++) {
    cwire c;
    REQUIRE(scram(&c, ctx, "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n", &l, nonce));
    if (how == 0) {
      cwire_feed(&c, "235 welcome\r\n", 13);
      CHECK_CAME(&c, "auth!CRYPTO close");
    } else {
      snprintf(text, sizeof text, "r=%sserver,s=c2FsdA==,i=16", nonce);
      say64(&c, text);
      CHECK_CAME(&c, "job");
      if (how == 1)
        cwire_feed(&c, "235 welcome\r\n", 13);
      else
        say64(&c, "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
      CHECK_CAME(&c, "auth!CRYPTO close");
    }
    CHECK_EQ_INT(mp_client_mech(c.cl), -1);
    cwire_close(&c);
  }
  mp_sasl_ctx_free(ctx);
}

TEST(challenges_that_make_no_sense_cancel_and_lead_to_the_next_mechanism)
{
  mp_sasl_ctx *ctx;
  REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  static const char *const rows[] = { "r=%sx,s=c2FsdA==,i=1000001",
                                      "r=%sx,s=c2FsdA==,i=0",
                                      "r=%sx,s=c2FsdA==,i=99999999999999999999",
                                      "r=%sx,s=!,i=16",
                                      "r=%sx,s=,i=16",
                                      "m=x,r=%sx,s=c2FsdA==,i=16",
                                      "r=%sx,i=16",
                                      "e=%s",
                                      "" };
  mp_client_login l = login;
  for (size_t i = 0; i <= sizeof rows / sizeof *rows; i++) {
    char nonce[100], text[300], *at = text;
    cwire c;
    REQUIRE(scram(&c, ctx, "250-mx\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n", &l, nonce));
    if (i == sizeof rows / sizeof *rows) {
      cwire_feed(&c, "334 not base64!\r\n", 17);
    } else {
      for (const char *p = rows[i]; *p; p++)
        if (p[0] == '%')
          at += sprintf(at, "%s", nonce), p++;
        else
          *at++ = *p;
      *at = '\0';
      say64(&c, text);
    }
    CHECK_ASKED(&c, "*\r\n");
    CWIRE(&c, "501 5.7.0 cancelled\r\n", "", "");
    CWIRE(&c, "235 ok\r\n", "AUTH PLAIN AHRpbQBjb3JyZWN0IGhvcnNl\r\n", "auth=235+");
    cwire_close(&c);
  }
  char nonce[100]; /* a nonce that is not ours is seen by libgsasl, behind the derivation */
  cwire c;
  REQUIRE(scram(&c, ctx, "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n", &l, nonce));
  say64(&c, "r=another,s=c2FsdA==,i=16");
  CHECK_CAME(&c, "job");
  CHECK_ASKED(&c, "*\r\n");
  CWIRE(&c, "501 cancelled\r\n", "", "auth=501");
  cwire_close(&c);
  mp_sasl_ctx_free(ctx);
}

TEST(a_job_that_never_comes_back)
{
  mp_sasl_ctx *ctx;
  REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  mp_client_login l = login;
  char nonce[100], text[300];
  cwire c;
  REQUIRE(scram(&c, ctx, "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n", &l, nonce));
  c.keep_job = true;
  snprintf(text, sizeof text, "r=%sserver,s=c2FsdA==,i=16", nonce);
  say64(&c, text);
  REQUIRE(c.job);
  CHECK_EQ_INT(mp_client_deadline(c.cl), INT64_MAX);
  mp_client_lost(c.cl, MP_E_EOF, "closed");
  cwire_pump(&c);
  CHECK_CAME(&c, "job auth!EOF close");
  CHECK_EQ_INT(mp_client_worked(c.cl, c.job, c.now), MP_E_MISUSE); /* it stays ours, and cwire_close frees it */
  cwire_close(&c);
  mp_sasl_ctx_free(ctx);
}

/* What it answers is still ours, and may be a password that a trace stars by its place at the end of what is to be sent. */
TEST(an_answer_to_what_was_not_sent_yet)
{
  const mp_client_login by_login = { .mechanisms = 1u << MP_MECH_LOGIN,
                                     .in_clear = 1u << MP_MECH_LOGIN,
                                     .user = MP_STR("tim"),
                                     .password = MP_STR("correct horse") };
  for (int op = 0; op < 4; op++) {
    cwire c;
    REQUIRE(cwire_open(&c, 0, "250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN\r\n"));
    c.hold = true;
    CHECK_EQ_INT(op == 0   ? mp_client_auth(c.cl, &by_login, c.now)
                 : op == 1 ? mp_client_starttls(c.cl, c.now)
                 : op == 2 ? mp_client_hello(c.cl, c.now)
                           : mp_client_noop(c.cl, c.now),
                 0);
    const char *reply = op == 0 ? "334 VXNlcm5hbWU6\r\n" : op == 1 ? "220 go\r\n" : "250 mx\r\n";
    cwire_feed(&c, reply, strlen(reply));
    CHECK(c.closed);
    CHECK_EQ_INT(c.rc, MP_E_SYNTAX);
    cwire_close(&c);
  }
}

CHECK_MAIN
