/* SCRAM: the stored form, the grammar, what strangers see, channel binding. */
#include "base/base64.h"
#include "support/sasl.h"

TEST(scram_strings_are_those_of_the_rfcs)
{
  mp_buf out;
  mp_buf_init(&out, 512, NULL);
  /* RFC 5802 5: user "user", password "pencil", salt QSXCR+Q6sek8bf92, i=4096. */
  CHECK_EQ_INT(mp_scram_make(&out, MP_SCRAM_SHA_1, MP_STR("pencil"),
                             MP_STR("\x41\x25\xc2\x47\xe4\x3a\xb1\xe9\x3c\x6d\xff\x76"), 4096),
               0);
  CHECK_STR(mp_buf_view(&out),
            "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=");
  mp_scram_keys keys;
  CHECK_EQ_INT(mp_scram_parse(&keys, mp_buf_view(&out)), 0);
  CHECK(keys.hash == MP_SCRAM_SHA_1 && keys.iterations == 4096 && keys.salt_len == 12 && keys.key_len == 20);
  mp_buf_dispose(&out);
  /* RFC 7677 3: the same with salt W22ZaJ0SNY7soEsUEjb6gQ==. */
  mp_buf salt;
  mp_buf_init(&salt, 64, NULL);
  REQUIRE(mp_base64_decode(&salt, MP_STR("W22ZaJ0SNY7soEsUEjb6gQ==")) == 0);
  CHECK_EQ_INT(mp_scram_make(&out, MP_SCRAM_SHA_256, MP_STR("pencil"), mp_buf_view(&salt), 0), 0);
  CHECK_STR(mp_buf_view(&out),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
            "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=");
  CHECK_EQ_INT(mp_scram_parse(&keys, mp_buf_view(&out)), 0);
  CHECK_EQ_STR(mp_str_of(keys.salt, keys.salt_len), mp_buf_view(&salt));
  mp_buf_dispose(&salt);
  mp_buf_dispose(&out);
}

TEST(scram_strings_are_made_with_care)
{
  mp_buf one, two;
  mp_buf_init(&one, 512, NULL);
  mp_buf_init(&two, 512, NULL);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("pencil"), MP_STR_NULL, 10), 0);
  CHECK_EQ_INT(mp_scram_make(&two, MP_SCRAM_SHA_256, MP_STR("pencil"), MP_STR_NULL, 10), 0);
  CHECK(!mp_str_eq(mp_buf_view(&one), mp_buf_view(&two))); /* salts are random */
  size_t before = mp_buf_view(&one).len;
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR(""), MP_STR_NULL, 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("a\0b"), MP_STR_NULL, 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("a\177"), MP_STR_NULL, 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("\302\255"), MP_STR_NULL, 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("\377"), MP_STR_NULL, 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("pencil"), MP_STR_NULL, 1000001), MP_E_INVALID);
  char salt[129] = "x";
  CHECK_EQ_INT(mp_scram_make(&one, MP_SCRAM_SHA_256, MP_STR("pencil"), mp_str_of(salt, 129), 10), MP_E_INVALID);
  CHECK_EQ_INT(mp_buf_view(&one).len, before);
  mp_buf tight;
  mp_buf_init(&tight, 100, NULL);
  CHECK_EQ_INT(mp_scram_make(&tight, MP_SCRAM_SHA_256, MP_STR("pencil"), MP_STR_NULL, 10), MP_E_FULL);
  CHECK_EQ_INT(mp_buf_view(&tight).len, 0);
  mp_buf_dispose(&tight);
  mp_buf_dispose(&one);
  mp_buf_dispose(&two);
  static const char *const wrong[] = {
    "",
    "SCRAM-SHA-1",
    "SCRAM-SHA-512$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-256$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$0:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$1000001:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$-1:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$4096:$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE= ",
    "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf9$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
    "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/",
  };
  mp_scram_keys keys;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    if (!CHECK_EQ_INT(mp_scram_parse(&keys, mp_str_c(wrong[i])), MP_E_INVALID))
      FAIL("string %zu", i);
}

TEST(scram_reads_client_first_strictly)
{
  mp_mech mech = MP_MECH_SCRAM_SHA_1;
  server s = open_server(mech, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("n,a=a=2Cb=3Dc,n=a=2Cb=3Dc,r=fyko")), MP_SASL_CREDENTIALS);
  CHECK_STR(mp_sasl_user(s.sasl), "a,b=c");
  CHECK_STR(mp_sasl_authzid(s.sasl), "");
  close_server(&s);
  CHECK_EQ_INT(first_step(mech, MP_STR("n,,n=user,r=fyko,x=1"), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(mech, MP_STR("y,,n=user,r=fyko"), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(mech, MP_STR("p=tls-unique,,n=user,r=fyko"), NULL), MP_SASL_FAIL);
  static const mp_str wrong[] = {
    { "", 0 },
    { "n", 1 },
    { "n,", 2 },
    { "n,,", 3 },
    { "n,,n=user", 9 },
    { "n,,n=user,", 10 },
    { "n,,r=fyko,n=user", 16 },
    { "n,,n=,r=fyko", 12 },
    { "n,,n=us=er,r=fyko", 17 },
    { "n,,n=us=2c,r=fyko", 17 },
    { "n,,n=us=,r=fyko", 15 },
    { "n,,n=us\ner,r=fyko", 17 },
    { "n,,n=us\0er,r=fyko", 17 },
    { "n,,n=us\377er,r=fyko", 17 },
    { "n,,n=\302\255,r=fyko", 14 },
    { "n,,m=x,n=user,r=fyko", 20 },
    { "n,b=c,n=user,r=fyko", 19 },
    { "n,a=,n=user,r=fyko", 18 },
    { "q,,n=user,r=fyko", 16 },
    { "nn,,n=user,r=fyko", 17 },
    { "p,,n=user,r=fyko", 16 },
    { "p=,,n=user,r=fyko", 17 },
    { ",,n=user,r=fyko", 15 },
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    if (!CHECK_EQ_INT(first_step(mech, wrong[i], NULL), MP_SASL_SYNTAX))
      FAIL("message %zu", i);
  char message[4096];
  memset(message, 'x', sizeof message);
  memcpy(message, "n,,n=", 5);
  memcpy(message + 5 + 255, ",r=", 3); /* the longest name, the longest message */
  CHECK_EQ_INT(first_step(mech, mp_str_of(message, 2048), NULL), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(first_step(mech, mp_str_of(message, 2049), NULL), MP_SASL_SYNTAX);
  message[5 + 255] = 'x';
  memcpy(message + 5 + 256, ",r=", 3);
  CHECK_EQ_INT(first_step(mech, mp_str_of(message, 2048), NULL), MP_SASL_SYNTAX);
  message[5 + 256] = 'x';
  memcpy(message + 5 + 257, ",r=", 3);
  CHECK_EQ_INT(first_step(mech, mp_str_of(message, 2048), NULL), MP_SASL_SYNTAX);
  s = open_server(mech, NULL);
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR_NULL), MP_SASL_MORE);
  CHECK_STR(mp_sasl_challenge(s.sasl), "");
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("n,,n=user,r=")), MP_SASL_CREDENTIALS);
  CHECK_EQ_INT(mp_sasl_credentials(s.sasl, &nobody), MP_SASL_SYNTAX);
  close_server(&s);
}

/* What a client sees of a user before it proves anything: ",s=...,i=...". */
static void server_first(mp_mech mech, const char *user, const mp_credentials *credentials,
                         const mp_sasl_opts *opts, char out[128])
{
  char message[128];
  snprintf(message, sizeof message, "n,,n=%s,r=fyko", user);
  server s = open_server(mech, opts);
  out[0] = '\0';
  if (CHECK_EQ_INT(mp_sasl_step(s.sasl, mp_str_c(message)), MP_SASL_CREDENTIALS) &&
      CHECK_EQ_INT(mp_sasl_credentials(s.sasl, credentials), MP_SASL_MORE)) {
    mp_str all = mp_sasl_challenge(s.sasl);
    mp_ssize comma = mp_str_find(all, ',', 0);
    if (CHECK(comma > 0))
      snprintf(out, 128, "%.*s", (int)(all.len - (size_t)comma), all.ptr + comma);
  }
  close_server(&s);
}

TEST(salts_do_not_tell_who_exists)
{
  char a[128], b[128];
  const mp_credentials kept = { .password = MP_STR("pw") };
  mp_mech mech = MP_MECH_SCRAM_SHA_256;
  server_first(mech, "alice", &nobody, NULL, a);
  server_first(mech, "alice", &nobody, NULL, b);
  CHECK(strstr(a, ",i=64") && strlen(a) == strlen(",s=AAAAAAAAAAAAAAAAAAAAAA==,i=64"));
  CHECK_EQ_STR(mp_str_c(a), mp_str_c(b)); /* the same at every attempt */
  server_first(mech, "alice", &kept, NULL, b);
  CHECK_EQ_STR(mp_str_c(a), mp_str_c(b)); /* and when there is such a user */
  server_first(mech, "alicf", &nobody, NULL, b);
  CHECK(strcmp(a, b) != 0);
  server_first(MP_MECH_SCRAM_SHA_1, "alice", &nobody, NULL, b);
  CHECK(strcmp(a, b) != 0);
  mp_sasl_opts other = defaults;
  other.secret = MP_STR("0123456789abcdeg");
  server_first(mech, "alice", &nobody, &other, b);
  CHECK(strcmp(a, b) != 0);
  other.iterations = 0;
  server_first(mech, "alice", &nobody, &other, b);
  CHECK(strstr(b, ",i=4096") != NULL);
}

/* Nobody's final message is told apart by its grammar: all of it is a wrong proof, paid for with a job. */
TEST(a_broken_client_final_is_a_wrong_proof)
{
  static const char *const finals[] = { "", "c=biws", "c=biws,r=fyko,p=AAAA", "x", "c=biws,r=fyko,p=" };
  mp_buf text;
  mp_buf_init(&text, 512, NULL);
  REQUIRE(mp_scram_make(&text, MP_SCRAM_SHA_1, MP_STR("pw"), MP_STR_NULL, 10) == 0);
  const mp_credentials all[] = { { .password = MP_STR("pw") },
                                 { .scram_sha1 = mp_buf_view(&text) },
                                 { .ask = false } };
  for (size_t i = 0; i < sizeof finals / sizeof *finals; i++) {
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
      server s = open_server(MP_MECH_SCRAM_SHA_1, NULL);
      int jobs = 0;
      CHECK_EQ_INT(advance(s.sasl, mp_sasl_step(s.sasl, MP_STR("n,,n=user,r=fyko")), &all[k], &jobs),
                   MP_SASL_MORE);
      CHECK_EQ_INT(jobs, 0);
      CHECK_EQ_INT(advance(s.sasl, mp_sasl_step(s.sasl, mp_str_c(finals[i])), &all[k], &jobs), MP_SASL_FAIL);
      CHECK_EQ_INT(jobs, 1);
      close_server(&s);
    }
  }
  mp_buf_dispose(&text);
}

TEST(channel_bindings_bind)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  static const mp_mech plus[] = { MP_MECH_SCRAM_SHA_1_PLUS, MP_MECH_SCRAM_SHA_256_PLUS };
  for (size_t i = 0; i < 2; i++) {
    party p = party_of(plus[i], "pw", &kept);
    CHECK_EQ_INT(converse(&p), MP_SASL_DONE);
    p.exporter = MP_STR("exporter-data\0y");
    CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    p.exporter = MP_STR("exporter-data");
    CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    p.exporter = MP_STR_NULL;
    p.unique = defaults.cb_unique;
    CHECK_EQ_INT(converse(&p), MP_SASL_DONE);
    p.unique = defaults.cb_exporter;
    CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    /* One that we do not have. */
    mp_sasl_opts half = defaults;
    half.cb_unique = MP_STR_NULL;
    p.opts = &half;
    p.unique = defaults.cb_unique;
    CHECK_EQ_INT(converse(&p), MP_SASL_FAIL);
    half.cb_exporter = MP_STR_NULL;
    mp_sasl *none = NULL;
    CHECK_EQ_INT(mp_sasl_new(&none, NULL, plus[i], &half), MP_E_INVALID);
    CHECK_EQ_INT(first_step(plus[i], MP_STR("n,,n=user,r=fyko"), NULL), MP_SASL_FAIL);
    CHECK_EQ_INT(first_step(plus[i], MP_STR("y,,n=user,r=fyko"), NULL), MP_SASL_FAIL);
    CHECK_EQ_INT(first_step(plus[i], MP_STR("p=tls-server-end-point,,n=user,r=fyko"), NULL), MP_SASL_FAIL);
    CHECK_EQ_INT(first_step(plus[i], MP_STR("p=tls-unique,,n=user,r=fyko"), NULL), MP_SASL_CREDENTIALS);
  }
}

TEST(a_downgrade_is_seen)
{
  const mp_credentials kept = { .password = MP_STR("pw") };
  mp_sasl_opts offered = defaults;
  offered.plus_offered = true;
  party p = party_of(MP_MECH_SCRAM_SHA_256, "pw", &kept);
  CHECK_EQ_INT(converse(&p), MP_SASL_DONE); /* "n": the client knows of no binding */
  p.opts = &offered;
  CHECK_EQ_INT(converse(&p), MP_SASL_DONE);
  /* "y": it does, and was told that we do not. libgsasl's client never says so, it gives up instead. */
  CHECK_EQ_INT(first_step(MP_MECH_SCRAM_SHA_256, MP_STR("y,,n=user,r=fyko"), &offered), MP_SASL_FAIL);
  CHECK_EQ_INT(first_step(MP_MECH_SCRAM_SHA_256, MP_STR("n,,n=user,r=fyko"), &offered), MP_SASL_CREDENTIALS);
  int jobs = 0;
  server s = open_server(MP_MECH_SCRAM_SHA_256, NULL);
  CHECK_EQ_INT(advance(s.sasl, mp_sasl_step(s.sasl, MP_STR("y,,n=user,r=fyko")), &kept, &jobs), MP_SASL_MORE);
  close_server(&s);
}

TEST(after_server_final_the_client_is_silent)
{
  server s = open_server(MP_MECH_SCRAM_SHA_256, NULL);
  Gsasl *gsasl;
  Gsasl_session *client;
  REQUIRE(gsasl_init(&gsasl) == GSASL_OK && gsasl_client_start(gsasl, "SCRAM-SHA-256", &client) == GSASL_OK);
  gsasl_property_set(client, GSASL_AUTHID, "tim");
  gsasl_property_set(client, GSASL_PASSWORD, "pw");
  const mp_credentials kept = { .password = MP_STR("pw") };
  int state = MP_SASL_MORE, jobs = 0;
  for (int i = 0; i < 2; i++) {
    mp_str challenge = mp_sasl_challenge(s.sasl);
    char *out = NULL;
    size_t len = 0;
    CHECK_EQ_INT(gsasl_step(client, challenge.ptr, challenge.len, &out, &len), GSASL_NEEDS_MORE);
    state = advance(s.sasl, mp_sasl_step(s.sasl, mp_str_of(out, len)), &kept, &jobs);
    gsasl_free(out);
  }
  CHECK_EQ_INT(state, MP_SASL_MORE);
  CHECK(mp_str_istarts(mp_sasl_challenge(s.sasl), MP_STR("v=")));
  CHECK_EQ_INT(mp_sasl_step(s.sasl, MP_STR("thanks")), MP_SASL_SYNTAX);
  gsasl_finish(client);
  gsasl_done(gsasl);
  close_server(&s);
}

TEST(out_of_memory_makes_no_scram_string)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_buf out;
    mp_buf_init(&out, 512, NULL);
    int rc = mp_scram_make(&out, MP_SCRAM_SHA_256, MP_STR("pw"), MP_STR_NULL, 10);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_buf_dispose(&out);
  }
}

CHECK_MAIN
