/* The SASL server against libgsasl's client, and against clients that mean no good. SCRAM's own part is in test_scram.c. */
#include "support/sasl.h"

TEST(names_of_mechanisms)
{
  CHECK_EQ_INT(mp_mech_find(MP_STR("scram-sha-256-plus")), MP_MECH_SCRAM_SHA_256_PLUS);
  CHECK_EQ_INT(mp_mech_find(MP_STR("PLAIN")), MP_MECH_PLAIN);
  CHECK_EQ_INT(mp_mech_find(MP_STR("PLAI")), -1);
  CHECK_EQ_INT(mp_mech_find(MP_STR_NULL), -1);
  CHECK_CSTR(mp_mech_name(MP_MECH_CRAM_MD5), "CRAM-MD5");
}

TEST(a_clear_password_serves_every_mechanism)
{
  const mp_credentials kept = { .password = MP_STR("tanstaaftanstaaf") };
  for (size_t i = 0; i < PASSWORDS; i++) {
    party p = party_of(passwords[i], "tanstaaftanstaaf", &kept);
    if (!CHECK_EQ_INT(converse(&p), MP_SASL_DONE) || !CHECK_EQ_INT(p.client, GSASL_OK))
      FAIL("by %s", mp_mech_name(p.mech));
    p.password = "tanstaaftanstaaF";
    if (!CHECK_EQ_INT(converse(&p), MP_SASL_FAIL))
      FAIL("by %s", mp_mech_name(p.mech));
    p = party_of(passwords[i], "tanstaaftanstaaf", &kept);
    p.user = "a name, with = and \303\244";
    p.prompt = true;
    if (!CHECK_EQ_INT(converse(&p), MP_SASL_DONE))
      FAIL("by %s", mp_mech_name(p.mech));
  }
}

TEST(passwords_are_the_same_after_saslprep)
{
  /* U+FF30 and its kin are compatibility forms; U+00AD is mapped to nothing. */
  const mp_credentials kept = { .password = MP_STR("\357\274\260\303\244ss\302\255") };
  for (size_t i = 0; i < PASSWORDS; i++) {
    party p = party_of(passwords[i], "P\303\244ss", &kept);
    if (!CHECK_EQ_INT(converse(&p), MP_SASL_DONE))
      FAIL("by %s", mp_mech_name(p.mech));
  }
}

TEST(stored_keys_serve_scram_and_clear_passwords)
{
  mp_buf one, two;
  mp_buf_init(&one, 512, NULL);
  mp_buf_init(&two, 512, NULL);
  REQUIRE(mp_scram_make(&one, MP_SCRAM_SHA_1, MP_STR("pencil"), MP_STR_NULL, 100) == 0);
  REQUIRE(mp_scram_make(&two, MP_SCRAM_SHA_256, MP_STR("pencil"), MP_STR_NULL, 0) == 0);
  const mp_credentials both = { .scram_sha1 = mp_buf_view(&one), .scram_sha256 = mp_buf_view(&two) };
  const mp_credentials crossed = { .scram_sha1 = mp_buf_view(&two), .scram_sha256 = mp_buf_view(&one) };
  const mp_credentials first = { .scram_sha1 = mp_buf_view(&one) };
  for (size_t i = 0; i < PASSWORDS; i++) {
    mp_mech mech = passwords[i];
    bool clear = mech == MP_MECH_PLAIN || mech == MP_MECH_LOGIN;
    bool sha1 = mech == MP_MECH_SCRAM_SHA_1 || mech == MP_MECH_SCRAM_SHA_1_PLUS;
    party p = party_of(mech, "pencil", &both);
    if (!CHECK_EQ_INT(converse(&p), mech == MP_MECH_CRAM_MD5 ? MP_SASL_FAIL : MP_SASL_DONE) ||
        !CHECK_EQ_INT(p.jobs, clear)) /* stored keys need no work */
      FAIL("by %s", mp_mech_name(mech));
    p.password = "pen";
    if (!CHECK_EQ_INT(converse(&p), MP_SASL_FAIL) || !CHECK_EQ_INT(p.jobs, mech != MP_MECH_CRAM_MD5))
      FAIL("by %s", mp_mech_name(mech));
    p = party_of(mech, "pencil", &crossed);
    CHECK_EQ_INT(converse(&p), clear ? MP_SASL_DONE : MP_SASL_FAIL);
    p = party_of(mech, "pencil", &first);
    CHECK_EQ_INT(converse(&p), clear || sha1 ? MP_SASL_DONE : MP_SASL_FAIL);
  }
  mp_buf_dispose(&one);
  mp_buf_dispose(&two);
}

TEST(a_hash_serves_plain_and_login_alone)
{
  for (size_t k = 0; k < sizeof hashes / sizeof *hashes; k++) {
    const mp_credentials kept = { .hash = mp_str_c(hashes[k]) };
    for (size_t i = 0; i < PASSWORDS; i++) {
      bool clear = passwords[i] == MP_MECH_PLAIN || passwords[i] == MP_MECH_LOGIN;
      party p = party_of(passwords[i], "correct horse", &kept);
      if (!CHECK_EQ_INT(converse(&p), clear ? MP_SASL_DONE : MP_SASL_FAIL))
        FAIL("by %s and %s", mp_mech_name(p.mech), hashes[k]);
      p.password = "correct horsf";
      CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    }
  }
}

TEST(unusable_credentials_fail)
{
  static const mp_credentials unusable[] = {
    { .hash = { "*", 1 } },
    { .hash = { "!", 1 } },
    { .hash = { "", 0 } },
    { .hash = { "$6$", 3 } },
    { .hash = { "$6$a\0b", 6 } },
    { .password = { "", 0 } },
    { .scram_sha256 = { "", 0 } },
    { .scram_sha256 = { "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", 33 } },
    { .password = { "pen\0cil", 7 } },
    { .password = { "\a", 1 } },
  };
  for (size_t k = 0; k < sizeof unusable / sizeof *unusable; k++) {
    for (size_t i = 0; i < PASSWORDS; i++) {
      party p = party_of(passwords[i], "pen", &unusable[k]);
      if (!CHECK_EQ_INT(converse(&p), MP_SASL_FAIL) || !CHECK_EQ_INT(p.jobs, p.mech != MP_MECH_CRAM_MD5))
        FAIL("by %s with %zu", mp_mech_name(p.mech), k);
    }
  }
}

/* A password that no check can be made of costs what any other does. */
TEST(unusable_passwords_fail_no_faster)
{
  char *text = mp_mem_alloc(1100);
  mp_buf scram;
  mp_buf_init(&scram, 512, NULL);
  REQUIRE(text && mp_scram_make(&scram, MP_SCRAM_SHA_1, MP_STR("pencil"), MP_STR_NULL, 10) == 0);
  const mp_credentials all[] = { { .hash = mp_str_c(hashes[0]) }, { .scram_sha1 = mp_buf_view(&scram) } };
  memset(text, 'x', 1100);
  text[0] = '\0', text[2] = '\0';
  mp_str tries[] = { MP_STR("\0x\0\a"), mp_str_of(text, 3 + 512), mp_str_of(text, 3 + 1024) };
  for (size_t k = 0; k < 2; k++) {
    for (size_t i = 0; i < 3; i++) {
      server s = open_server(MP_MECH_PLAIN, NULL);
      int jobs = 0;
      CHECK_EQ_INT(advance(s.sasl, mp_sasl_step(s.sasl, tries[i]), &all[k], &jobs), MP_SASL_FAIL);
      CHECK_EQ_INT(jobs, 1);
      close_server(&s);
    }
  }
  mp_buf_dispose(&scram);
  mp_mem_free(text);
}

TEST(an_unknown_user_walks_like_a_wrong_password)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  for (size_t i = 0; i < PASSWORDS; i++) {
    party known = party_of(passwords[i], "guess", &kept), unknown = party_of(passwords[i], "guess", &nobody);
    CHECK_EQ_INT(converse(&known), MP_SASL_FAIL);
    CHECK_EQ_INT(converse(&unknown), MP_SASL_FAIL);
    CHECK_EQ_INT(known.jobs, unknown.jobs);
    CHECK_EQ_INT(known.jobs, passwords[i] != MP_MECH_CRAM_MD5);
    unknown.password = "nobody"; /* not a password of everybody either */
    CHECK_EQ_INT(converse(&unknown), MP_SASL_FAIL);
  }
}

TEST(refusals_cost_what_the_last_hash_cost)
{
  server s = open_server(MP_MECH_PLAIN, NULL);
  CHECK_CSTR(s.ctx->setting, "");
  for (size_t k = 0; k < sizeof hashes / sizeof *hashes; k++) {
    const mp_credentials kept = { .hash = mp_str_c(hashes[k]) };
    mp_sasl *sasl = NULL;
    REQUIRE(mp_sasl_new(&sasl, s.ctx, MP_MECH_PLAIN, &defaults) == 0);
    int jobs = 0;
    CHECK_EQ_INT(advance(sasl, mp_sasl_step(sasl, MP_STR("\0tim\0pw")), &kept, &jobs), MP_SASL_FAIL);
    mp_sasl_free(sasl);
    mp_str setting = mp_str_c(s.ctx->setting);
    CHECK(setting.len > 10 && setting.len < strlen(hashes[k]) - 20 &&
          mp_str_istarts(mp_str_c(hashes[k]), setting));
    REQUIRE(mp_sasl_new(&sasl, s.ctx, MP_MECH_PLAIN, &defaults) == 0);
    CHECK_EQ_INT(mp_sasl_step(sasl, MP_STR("\0tim\0pw")), MP_SASL_CREDENTIALS);
    CHECK_EQ_INT(mp_sasl_credentials(sasl, &nobody), MP_SASL_JOB);
    REQUIRE(sasl->work && sasl->work->crypt);
    /* The work is real: the setting makes a hash. */
    mp_sasl_work *work = sasl->work;
    mp_job *job = mp_sasl_job(sasl);
    job->run(job);
    CHECK_EQ_STR(mp_str_sub(mp_str_c(work->scratch), 0, setting.len), setting);
    CHECK_EQ_INT(mp_sasl_worked(sasl, job), MP_SASL_FAIL);
    mp_sasl_free(sasl);
  }
  close_server(&s);
}

/* ---- one step at a time ----------------------------------------------------------------------------------------- */

TEST(plain_has_a_grammar)
{
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, MP_STR("\0tim\0pw"), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, MP_STR("tim\0tim\0pw"), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, MP_STR_NULL, NULL), MP_SASL_MORE);
  static const mp_str wrong[] = {
    { "", 0 },
    { "tim", 3 },
    { "\0tim", 4 },
    { "\0tim\0", 5 },
    { "\0\0pw", 4 },
    { "\0tim\0pw\0", 8 },
    { "\0t\nim\0pw", 8 },
    { "\0t\177im\0pw", 8 },
    { "\0t\302\205im\0pw", 9 },
    { "\0t\377im\0pw", 8 },
    { "a\rb\0tim\0pw", 10 },
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    if (!CHECK_EQ_INT(first_step(MP_MECH_PLAIN, wrong[i], NULL), MP_SASL_SYNTAX))
      FAIL("message %zu", i);
  char message[9217];
  memset(message, 'x', sizeof message);
  CHECK_EQ_INT(first_step(MP_MECH_XOAUTH2, mp_str_of(message, sizeof message), NULL), MP_SASL_SYNTAX);
  message[0] = message[256] = '\0'; /* a name of 255 */
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, mp_str_of(message, 300), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, mp_str_of(message, 257 + 1024), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, mp_str_of(message, 257 + 1025), NULL), MP_SASL_SYNTAX);
  message[256] = 'x';
  message[257] = '\0';
  CHECK_EQ_INT(first_step(MP_MECH_PLAIN, mp_str_of(message, 300), NULL), MP_SASL_SYNTAX);
}

TEST(another_identity_is_refused)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  static const mp_mech with[] = { MP_MECH_PLAIN, MP_MECH_SCRAM_SHA_1, MP_MECH_SCRAM_SHA_256_PLUS };
  for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
    party p = party_of(with[i], "pw", &kept);
    p.authzid = "root";
    CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    p.authzid = "tim";
    CHECK_EQ_INT(converse(&p), MP_SASL_DONE);
  }
  server s = open_server(MP_MECH_PLAIN, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("root\0tim\0pw")), MP_SASL_FAIL);
  CHECK_STR(mp_sasl_authzid(s.sasl), "root");
  CHECK_STR(mp_sasl_user(s.sasl), "tim");
  close_server(&s);
}

TEST(login_asks_twice_and_takes_an_initial_response)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  server s = open_server(MP_MECH_LOGIN, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "Username:");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("tim")), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "Password:");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("pw")), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_SASL_DONE);
  close_server(&s);
  s = open_server(MP_MECH_LOGIN, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("tim")), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "Password:");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("")), MP_SASL_SYNTAX);
  close_server(&s);
  CHECK_EQ_INT(first_step(MP_MECH_LOGIN, MP_STR(""), NULL), MP_SASL_SYNTAX);
  CHECK_EQ_INT(first_step(MP_MECH_LOGIN, MP_STR("t\tim"), NULL), MP_SASL_SYNTAX);
}

TEST(ask_leaves_the_verdict_to_the_script)
{
  const mp_credentials kept = { .ask = true };
  for (int accepted = 0; accepted < 2; accepted++) {
    server s = open_server(MP_MECH_PLAIN, NULL);
    CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0pw")), MP_SASL_CREDENTIALS);
    CHECK_STR(mp_sasl_password(s.sasl), "");
    CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_SASL_ASK);
    CHECK_STR(mp_sasl_user(s.sasl), "tim");
    CHECK_STR(mp_sasl_password(s.sasl), "pw");
    CHECK_EQ_INT(mp_sasl_verdict(s.sasl, accepted), accepted ? MP_SASL_DONE : MP_SASL_FAIL);
    CHECK_STR(mp_sasl_password(s.sasl), "");
    CHECK_STR(mp_sasl_user(s.sasl), "tim");
    close_server(&s);
  }
  /* There is no password to ask about in a proof. */
  party p = party_of(MP_MECH_SCRAM_SHA_256, "pw", &kept);
  CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
  p = party_of(MP_MECH_CRAM_MD5, "pw", &kept);
  CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
}

TEST(cram_md5_names_the_host_and_knows_rfc_2195)
{
  server s = open_server(MP_MECH_CRAM_MD5, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
  mp_str challenge = mp_sasl_challenge(s.sasl);
  CHECK(challenge.len > 30 && challenge.ptr[0] == '<');
  CHECK_STR(mp_str_sub(challenge, challenge.len - 18, 18), ".0@mx.example.org>");
  /* The example of section 2 has a challenge of its own. */
  REQUIRE(mp_secret_set(&s.sasl->message, MP_STR("<1896.697170952@postoffice.reston.mci.net>")) == 0);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("tim b913a602c7eda7a495b4e6e7334d3890")), MP_SASL_CREDENTIALS);
  const mp_credentials kept = { .password = MP_STR("tanstaaftanstaaf") };
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_SASL_DONE);
  close_server(&s);

  static const char *const wrong[] = { "",
                                       "tim",
                                       " b913a602c7eda7a495b4e6e7334d3890",
                                       "tim b913a602c7eda7a495b4e6e7334d389",
                                       "tim B913A602C7EDA7A495B4E6E7334D3890",
                                       "tim-b913a602c7eda7a495b4e6e7334d3890",
                                       "t\nm b913a602c7eda7a495b4e6e7334d3890" };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    s = open_server(MP_MECH_CRAM_MD5, NULL);
    CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
    CHECK_EQ_INT(mp_sasl_step(s.sasl, mp_str_c(wrong[i])), MP_SASL_SYNTAX);
    close_server(&s);
  }
  CHECK_EQ_INT(first_step(MP_MECH_CRAM_MD5, MP_STR(""), NULL), MP_SASL_SYNTAX); /* the server speaks first */
  char name[256];
  memset(name, 'h', sizeof name);
  mp_sasl_opts opts = { .hostname = mp_str_of(name, 255) };
  s = open_server(MP_MECH_CRAM_MD5, &opts);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
  challenge = mp_sasl_challenge(s.sasl);
  CHECK(challenge.len > 255 && challenge.ptr[challenge.len - 1] == '>');
  close_server(&s);
}

/* ---- bearer tokens ---------------------------------------------------------------------------------------------- */

TEST(oauthbearer_brings_a_token)
{
  mp_str message = MP_STR(
      "n,a=user@example.com,\1host=server.example.com\1port=587\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1");
  server s = open_server(MP_MECH_OAUTHBEARER, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, message), MP_SASL_TOKEN);
  CHECK_STR(mp_sasl_user(s.sasl), "user@example.com");
  CHECK_STR(mp_sasl_password(s.sasl), "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, true), MP_SASL_DONE);
  CHECK_STR(mp_sasl_password(s.sasl), "");
  close_server(&s);

  s = open_server(MP_MECH_OAUTHBEARER, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("n,,\1auth=bearer t\1\1")), MP_SASL_TOKEN);
  CHECK_STR(mp_sasl_user(s.sasl), ""); /* the token says who it is */
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, false), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "{\"status\":\"invalid_token\"}");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\1")), MP_SASL_FAIL);
  close_server(&s);

  /* Without a token the client asks what it would need (RFC 7628 4.3). */
  s = open_server(MP_MECH_OAUTHBEARER, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("n,,\1auth=\1\1")), MP_SASL_MORE);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\1")), MP_SASL_FAIL);
  close_server(&s);
}

TEST(xoauth2_brings_a_user_and_a_token)
{
  server s = open_server(MP_MECH_XOAUTH2, NULL);
  CHECK_EQ_INT(
      mp_sasl_step(
          s.sasl,
          MP_STR("user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\1\1")),
      MP_SASL_TOKEN);
  CHECK_STR(mp_sasl_user(s.sasl), "someuser@example.com");
  CHECK_STR(mp_sasl_password(s.sasl), "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, false), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "{\"status\":\"401\",\"schemes\":\"bearer\"}");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("")), MP_SASL_FAIL);
  close_server(&s);
}

TEST(bearer_messages_have_a_grammar)
{
  static const char *const bearer[] = {
    "",
    "n",
    "n,",
    "n,,",
    "n,,\1",
    "n,,x\1\1",
    "n,,\1auth=Bearer t\1",
    "n,,\1auth=Bearer t\1\1\1",
    "n,,\1auth=Bearer \1\1",
    "n,,\1auth=Basic dDp0\1\1",
    "n,,\1auth=Bearer a b\1\1",
    "n,,\1auth=Bearer a\1auth=Bearer b\1\1",
    "n,,\1=x\1auth=Bearer a\1\1",
    "n,,\1ho st=x\1auth=Bearer a\1\1",
    "n,,\1host=x\ny\1auth=Bearer a\1\1",
    "p=tls-unique,,\1auth=Bearer t\1\1",
    "n,a=a\nb,\1auth=Bearer t\1\1",
    "n,a=,\1auth=Bearer t\1\1",
    "n,,\1auth=Bearer \303\244\1\1",
  };
  for (size_t i = 0; i < sizeof bearer / sizeof *bearer; i++) {
    if (!CHECK_EQ_INT(first_step(MP_MECH_OAUTHBEARER, mp_str_c(bearer[i]), NULL), MP_SASL_SYNTAX))
      FAIL("message %zu", i);
  }
  static const char *const xoauth[] = {
    "",
    "\1",
    "user=a\1",
    "auth=Bearer t\1\1",
    "user=\1auth=Bearer t\1\1",
    "user=a\nb\1auth=Bearer t\1\1",
    "user=a\1user=b\1auth=Bearer t\1\1",
    "user=a\1auth=Bearer t\1",
    "user=a\1auth=Bearer t",
    "user=a auth=Bearer t\1\1\1",
  };
  for (size_t i = 0; i < sizeof xoauth / sizeof *xoauth; i++)
    if (!CHECK_EQ_INT(first_step(MP_MECH_XOAUTH2, mp_str_c(xoauth[i]), NULL), MP_SASL_SYNTAX))
      FAIL("message %zu", i);
}

/* ---- order, ownership, memory ----------------------------------------------------------------------------------- */

TEST(calls_out_of_order_change_nothing)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  server s = open_server(MP_MECH_PLAIN, NULL);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, true), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_worked(s.sasl, NULL), MP_E_MISUSE);
  CHECK(!mp_sasl_job(s.sasl));
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0pw")), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0pw")), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, true), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &nobody), MP_SASL_JOB);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("x")), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_verdict(s.sasl, true), MP_E_MISUSE);
  mp_job *job = mp_sasl_job(s.sasl);
  REQUIRE(job);
  mp_job stranger = { 0 };
  CHECK_EQ_INT(mp_sasl_worked(s.sasl, &stranger), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_worked(s.sasl, job), MP_SASL_FAIL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0pw")), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_E_MISUSE);
  close_server(&s);
}

TEST(a_job_that_was_not_run_proves_nothing)
{
  const mp_credentials kept = { .hash = mp_str_c(hashes[0]) };
  server s = open_server(MP_MECH_PLAIN, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0correct horse")), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_SASL_JOB);
  CHECK_EQ_INT(mp_sasl_worked(s.sasl, mp_sasl_job(s.sasl)), MP_SASL_FAIL);
  close_server(&s);
}

TEST(a_job_outlives_its_exchange)
{
  const mp_credentials kept = { .hash = mp_str_c(hashes[0]) };
  for (int fetched = 0; fetched < 2; fetched++) {
    server s = open_server(MP_MECH_PLAIN, NULL);
    CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("\0tim\0correct horse")), MP_SASL_CREDENTIALS);
    CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &kept), MP_SASL_JOB);
    mp_job *job = fetched ? mp_sasl_job(s.sasl) : NULL;
    close_server(&s);
    if (job) {
      job->run(job);
      job->free(job);
    }
  }
}

TEST(options_have_ranges)
{
  mp_sasl *sasl = NULL;
  mp_sasl_opts opts = { .secret = MP_STR("fifteen octets.") };
  CHECK_EQ_INT(mp_sasl_new(&sasl, NULL, MP_MECH_SCRAM_SHA_1, &opts), MP_E_INVALID);
  CHECK_EQ_INT(mp_sasl_new(&sasl, NULL, MP_MECH_PLAIN, &opts), 0);
  mp_sasl_free(sasl);
  opts = defaults;
  opts.iterations = 1000001;
  CHECK_EQ_INT(mp_sasl_new(&sasl, NULL, MP_MECH_SCRAM_SHA_1, &opts), MP_E_INVALID);
  mp_sasl_free(NULL);
  mp_sasl_ctx_free(NULL);
}

TEST(out_of_memory_ends_an_exchange_cleanly)
{
  mp_buf text;
  mp_buf_init(&text, 512, NULL);
  REQUIRE(mp_scram_make(&text, MP_SCRAM_SHA_256, MP_STR("correct horse"), MP_STR_NULL, 10) == 0);
  const mp_credentials all[] = { { .password = MP_STR("correct horse") },
                                 { .scram_sha256 = mp_buf_view(&text) },
                                 { .hash = mp_str_c(hashes[2]) },
                                 { .ask = false } };
  for (size_t i = 0; i < PASSWORDS; i++) {
    for (size_t k = 0; k < 4; k++) {
      bool sha1 = passwords[i] == MP_MECH_SCRAM_SHA_1 || passwords[i] == MP_MECH_SCRAM_SHA_1_PLUS;
      bool clear = passwords[i] == MP_MECH_PLAIN || passwords[i] == MP_MECH_LOGIN;
      bool served = k == 0 || (k == 1 && passwords[i] != MP_MECH_CRAM_MD5 && !sha1) || (k == 2 && clear);
      FOR_EACH_ALLOC_FAILURE {
        party p = party_of(passwords[i], "correct horse", &all[k]);
        int state = converse(&p);
        if (CHECK_ALLOC_FAILED())
          CHECK_EQ_INT(state, MP_E_NOMEM);
        else
          CHECK_EQ_INT(state, served ? MP_SASL_DONE : MP_SASL_FAIL);
      }
    }
  }
  mp_buf_dispose(&text);
  FOR_EACH_ALLOC_FAILURE {
    mp_sasl_ctx *ctx = NULL;
    mp_sasl *sasl = NULL;
    int rc = mp_sasl_ctx_new(&ctx);
    if (rc == 0)
      rc = mp_sasl_new(&sasl, ctx, MP_MECH_OAUTHBEARER, &defaults);
    if (rc == 0)
      rc = mp_sasl_step(sasl, MP_STR("n,a=u,\1auth=Bearer t\1\1"));
    if (rc == MP_SASL_TOKEN)
      rc = mp_sasl_verdict(sasl, false);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : MP_SASL_MORE);
    mp_sasl_free(sasl);
    mp_sasl_ctx_free(ctx);
  }
}

CHECK_MAIN
