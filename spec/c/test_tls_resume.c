/* Sessions that a client goes on with, under the terms they were made under alone; and clients that run out of memory. */
#include "support/tls_duet.h"

#include "tls/resume.h"

static peer_id root;

static void make_root(void)
{
  if (!root.cert)
    root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
}

static mp_tls_client_config *client_config(size_t sessions)
{
  char why[256];
  mp_tls_client_config *config = NULL;
  mp_tls_client_opts opts = { .ca = peer_pem("root.pem", root.cert, NULL), .sessions = sessions };
  if (mp_tls_client_config_new(&config, &opts, why, sizeof why) < 0)
    check_fail(__FILE__, __LINE__, "no configuration: %s", why);
  return config;
}

static mp_tls_config *server_config(const char *san, peer_id *id)
{
  make_root();
  peer_id made = peer_make(&(peer_cert){ .cn = "x", .san = san, .issuer = &root });
  mp_tls_cert cert = { .certificate = peer_pem("server.pem", made.cert, made.key) };
  if (id)
    *id = made;
  else
    peer_id_free(&made);
  return peer_config((mp_tls_opts){ .certs = &cert, .cert_count = 1 });
}

/* Meets, hears a greeting (with the tickets of TLS 1.3 in front), and parts. Returns whether the session was resumed, -1 where there was none. */
static int visit(mp_tls_config *server, mp_tls_client_config *client, const mp_tls_target *target,
                 mp_tls_proof *facts)
{
  duet d;
  int resumed = -1;
  if (CHECK_EQ_INT(duet_meet(&d, server, client, target), 0) && d.client.rc == 1) {
    mp_tls_info theirs;
    resumed = d.info.resumed;
    mp_tls_info_get(d.server.tls, &theirs);
    CHECK_EQ_INT(theirs.resumed, resumed);
    CHECK_EQ_STR(theirs.cb_exporter, d.info.cb_exporter);
    CHECK_EQ_STR(theirs.cb_unique, d.info.cb_unique);
    CHECK_EQ_INT(d.info.peer_fingerprint.len, 64);
    CHECK_EQ_INT(d.info.peer_verified, d.facts.verified);
    duet_say(&d.server, &d.client, "220 mx.example.net\r\n");
    duet_say(&d.client, &d.server, "EHLO us.example\r\n");
  }
  if (facts) { /* the views go with the session; what they say here is static, or known to the test */
    *facts = d.facts;
    facts->why_not.ptr = NULL;
  }
  duet_part(&d);
  return resumed;
}

TEST(a_session_goes_on_where_it_was_made)
{
  mp_tls_config *server = server_config("DNS:mx.example.net", NULL);
  mp_str names[] = { MP_STR("mx.example.net") };
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    char why[200];
    mp_tls_client_config *client;
    mp_tls_client_opts opts = { .ca = peer_pem("root.pem", root.cert, NULL), .sessions = 4, .min_version = version };
    mp_tls_proof facts;
    REQUIRE(mp_tls_client_config_new(&client, &opts, why, sizeof why) == 0);
    mp_tls_target target = { .sni = names[0],
                             .trust = MP_TLS_TRUST_NAMES,
                             .names = names,
                             .name_count = 1,
                             .session_key = MP_STR("mx.example.net:25") };
    CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
    for (int i = 0; i < 4; i++) {
      CHECK_EQ_INT(visit(server, client, &target, &facts), 1);
      CHECK(facts.verified);
      CHECK_STR(facts.how, "names");
    }
    target.session_key = MP_STR("mx.example.net:587");
    CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
    target.session_key = MP_STR_NULL;
    CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
    CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
    target.session_key = MP_STR("mx.example.net:25");
    CHECK_EQ_INT(visit(server, client, &target, NULL), 1);
    mp_tls_client_config_unref(client);
  }
  mp_tls_config_unref(server);
}

/* A peer of TLS 1.2 gives its session in the handshake, and again and again. */
TEST(a_session_of_tls_1_2_goes_on)
{
  make_root();
  mp_tls_client_config *client = client_config(4);
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  peer_id id = peer_make(&(peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root });
  SSL_CTX_use_certificate(ctx, id.cert);
  SSL_CTX_use_PrivateKey(ctx, id.key);
  SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = {
    .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = 1, .session_key = MP_STR("mx.example.net:25")
  };
  for (int i = 0; i < 3; i++) {
    mp_tls *tls;
    mp_tls_info info;
    mp_tls_proof facts;
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);
    SSL_set_accept_state(ssl);
    REQUIRE(mp_tls_connect(&tls, client, NULL, &target) == 0);
    int rc = mp_tls_handshake(tls);
    for (int turn = 0; rc == 0 && turn < 8; turn++) {
      mp_str said = mp_tls_output(tls);
      BIO_write(in, said.ptr, (int)said.len);
      mp_tls_sent(tls, said.len);
      SSL_do_handshake(ssl);
      char *octets;
      long len = BIO_get_mem_data(out, &octets);
      mp_tls_feed(tls, octets, (size_t)len);
      rc = mp_tls_handshake(tls);
      mp_tls_feed(tls, NULL, 0);
      (void)BIO_reset(out);
    }
    CHECK_EQ_INT(rc, 1);
    mp_tls_info_get(tls, &info);
    mp_tls_proof_get(tls, &facts);
    CHECK_STR(info.version, "TLSv1.2");
    CHECK_EQ_INT(info.resumed, i > 0);
    CHECK(facts.verified);
    CHECK_EQ_INT(info.cb_unique.len, 12);
    char finished[64];
    size_t len = i > 0 ? SSL_get_finished(ssl, finished, sizeof finished)
                       : SSL_get_peer_finished(ssl, finished, sizeof finished);
    CHECK_EQ_STR(info.cb_unique, mp_str_of(finished, len));
    mp_tls_free(tls);
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
  }
  SSL_CTX_free(ctx);
  peer_id_free(&id);
  mp_tls_client_config_unref(client);
}

TEST(no_session_is_a_way_round_what_is_asked)
{
  peer_id id;
  mp_tls_config *server = server_config("DNS:mx.example.net", &id);
  mp_tls_client_config *client = client_config(64);
  mp_str names[] = { MP_STR("mx.example.net"), MP_STR("example.net") }, other[] = { MP_STR("other.example") };
  mp_tls_pin pins[2] = { 0 };
  X509_digest(id.cert, EVP_sha256(), pins[0].octets, NULL);
  unsigned char *der = NULL;
  int der_len = i2d_X509(id.cert, &der);
  mp_tls_tlsa tlsa[] = { { 3, 0, 1, { (char *)pins[0].octets, 32 } },
                         { 3, 0, 0, { (char *)der, (size_t)der_len } } };
  const mp_tls_target rows[] = {
    { .trust = MP_TLS_TRUST_NONE },
    { .trust = MP_TLS_TRUST_NONE, .names = names, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NONE, .names = names, .name_count = 1, .sni = names[0] },
    { .trust = MP_TLS_TRUST_NONE, .names = other, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = 2 },
    { .trust = MP_TLS_TRUST_PINS, .pins = pins, .pin_count = 1 },
    { .trust = MP_TLS_TRUST_PINS, .pins = pins, .pin_count = 2 },
    { .trust = MP_TLS_TRUST_DANE, .names = names, .name_count = 1, .tlsa = tlsa, .tlsa_count = 1 },
    { .trust = MP_TLS_TRUST_DANE, .names = names, .name_count = 1, .tlsa = tlsa, .tlsa_count = 2 },
    { .trust = MP_TLS_TRUST_DANE, .names = names, .name_count = 1, .tlsa = tlsa + 1, .tlsa_count = 1 },
  };
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
      mp_tls_target target = rows[i];
      mp_tls_proof facts;
      target.session_key = MP_STR("mx.example.net:25");
      if (!CHECK_EQ_INT(visit(server, client, &target, &facts), round))
        FAIL("in row %zu", i);
      /* A session that was taken as it is stays what it was. */
      CHECK_EQ_INT(facts.verified, i != 0 && i != 3);
      CHECK_EQ_INT(facts.why_not.len > 0, !facts.verified);
    }
  }
  mp_tls_target refused = {
    .trust = MP_TLS_TRUST_NAMES, .names = other, .name_count = 1, .session_key = MP_STR("mx.example.net:25")
  };
  CHECK_EQ_INT(visit(server, client, &refused, NULL), -1);
  CHECK_EQ_INT(visit(server, client, &refused, NULL), -1);
  OPENSSL_free(der);
  peer_id_free(&id);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

TEST(the_longest_unused_session_gives_way)
{
  mp_tls_config *server = server_config("DNS:mx.example.net", NULL);
  mp_tls_client_config *client = client_config(2);
  mp_tls_target target = { .trust = MP_TLS_TRUST_NONE };
  const char *keys[] = { "a", "b", "a", "c", "b", "a" };
  const int resumed[] = { 0, 0, 1, 0, 0, 0 }; /* c takes the place of b, b that of a */
  for (size_t i = 0; i < 6; i++) {
    target.session_key = mp_str_c(keys[i]);
    if (!CHECK_EQ_INT(visit(server, client, &target, NULL), resumed[i]))
      FAIL("at visit %zu", i);
  }
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

TEST(a_server_that_forgot_is_no_failure)
{
  mp_tls_config *server = server_config("DNS:mx.example.net", NULL),
                *other = server_config("DNS:mx.example.net", NULL);
  mp_tls_client_config *client = client_config(2);
  mp_tls_target target = { .trust = MP_TLS_TRUST_NONE, .session_key = MP_STR("a") };
  CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
  CHECK_EQ_INT(visit(other, client, &target, NULL), 0);
  CHECK_EQ_INT(visit(other, client, &target, NULL), 1);
  mp_tls_config_unref(server);
  mp_tls_config_unref(other);
  mp_tls_client_config_unref(client);
}

/* ---- the store by itself ----------------------------------------------------------------------------------------- */

/* However often it was resumed since, the certificate is looked at again after two hours. */
TEST(a_session_has_its_time)
{
  SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
  SSL *ssl = SSL_new(ctx);
  SSL_SESSION *session = SSL_SESSION_new(), *taken;
  SSL_SESSION_set_protocol_version(session, TLS1_2_VERSION);
  SSL_SESSION_set1_id(session, (const unsigned char *)"id", 2);
  SSL_SESSION_set_cipher(session, sk_SSL_CIPHER_value(SSL_get_ciphers(ssl), 0));
  mp_tls_resume *store = mp_tls_resume_new(2);
  mp_tls_resume_key key = { { 1 } };
  mp_tls_verdict verdict = { .why_not = mp_mem_dup("x", 1), .at_s = 1000 }, back;
  mp_tls_resume_put(store, &key, session, &verdict, 1000);
  for (int i = 0; i < 2; i++) {
    taken = mp_tls_resume_take(store, &key, &back, 1000 + MP_TLS_RESUME_LIFE_S - 1);
    CHECK(taken != NULL);
    CHECK_EQ_INT(back.at_s, 1000);
    CHECK_CSTR(back.why_not, "x");
    mp_tls_verdict_dispose(&back);
    SSL_SESSION_free(taken);
  }
  mp_tls_resume_put(store, &key, session, &verdict, 1000 + MP_TLS_RESUME_LIFE_S);
  CHECK(!mp_tls_resume_take(store, &key, &back, 1000 + MP_TLS_RESUME_LIFE_S));
  CHECK(!back.why_not);
  mp_tls_resume_put(store, &key, session, &verdict, 1000);
  mp_tls_resume_drop(store, &key);
  CHECK(!mp_tls_resume_take(store, &key, &back, 1000));
  mp_tls_resume_put(store, &key, session, &verdict, 1000);
  mp_tls_resume_free(store);
  mp_tls_resume_free(NULL);
  mp_tls_verdict_dispose(&verdict);
  SSL_SESSION_free(session);
  SSL_free(ssl);
  SSL_CTX_free(ctx);
}

/* RFC 8446 appendix C.4: a ticket that comes twice tells whoever listens that the two connections are one client's. */
TEST(a_ticket_of_tls_1_3_is_used_once)
{
  mp_tls_config *server = server_config("DNS:mx.example.net", NULL);
  mp_tls_client_config *client = client_config(2);
  mp_tls_target target = { .trust = MP_TLS_TRUST_NONE, .session_key = MP_STR("a") };
  CHECK_EQ_INT(visit(server, client, &target, NULL), 0);
  duet first, second; /* at the same time: the second finds none left */
  CHECK_EQ_INT(duet_meet(&first, server, client, &target), 0);
  CHECK_EQ_INT(duet_meet(&second, server, client, &target), 0);
  CHECK(first.info.resumed);
  CHECK(!second.info.resumed);
  duet_say(&second.server, &second.client, "220 mx.example.net\r\n");
  duet_part(&first);
  duet_part(&second);
  CHECK_EQ_INT(visit(server, client, &target, NULL), 1); /* with a fresh one, which came with the second */
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

/* ---- out of memory ----------------------------------------------------------------------------------------------- */

TEST(every_failing_allocation_gives_no_configuration)
{
  make_root();
  peer_id ours = peer_make(&(peer_cert){ .cn = "us", .issuer = &root });
  mp_tls_client_opts opts = { .ca = peer_pem("root.pem", root.cert, NULL),
                              .certificate = peer_pem("us.pem", ours.cert, ours.key),
                              .sessions = 4 };
  FOR_EACH_ALLOC_FAILURE {
    char why[200];
    mp_tls_client_config *config;
    int rc = mp_tls_client_config_new(&config, &opts, why, sizeof why);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    CHECK_EQ_INT(config != NULL, rc == 0);
    CHECK_EQ_INT(why[0] != '\0', rc < 0);
    mp_tls_client_config_unref(config);
  }
  peer_id_free(&ours);
}

/* Whatever fails, nobody is verified who should not be, and what is not verified that must be gets no octet of ours. */
static void starve(mp_tls_config *server, mp_tls_client_config *client, const mp_tls_target *target, bool fits)
{
  FOR_EACH_ALLOC_FAILURE {
    duet d;
    int rc = duet_meet(&d, server, client, target);
    if (rc == 0 && d.client.rc == 1) {
      CHECK(fits || target->trust == MP_TLS_TRUST_NONE);
      CHECK_EQ_INT(d.facts.verified, fits);
      CHECK(fits || d.facts.why_not.len > 0);
    } else if (!CHECK_ALLOC_FAILED()) {
      CHECK(!fits && target->trust != MP_TLS_TRUST_NONE);
      CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
    } else if (rc == 0) {
      CHECK(d.client.rc == MP_E_NOMEM || d.client.rc == MP_E_CRYPTO || d.server.rc == MP_E_NOMEM ||
            d.client.rc == 0);
      CHECK(!d.facts.verified || d.client.rc == MP_E_NOMEM || d.server.rc == MP_E_NOMEM);
      CHECK(d.client.rc >= 0 || mp_tls_why(d.client.tls)[0] != '\0');
    } else {
      CHECK_EQ_INT(rc, MP_E_NOMEM);
    }
    duet_part(&d);
  }
}

TEST(every_failing_allocation_of_a_handshake_is_clean)
{
  peer_id id;
  mp_tls_config *server = server_config("DNS:mx.example.net", &id);
  mp_tls_client_config *client = client_config(4);
  mp_str names[] = { MP_STR("mx.example.net") }, other[] = { MP_STR("other.example") };
  mp_tls_pin pins[1];
  X509_digest(id.cert, EVP_sha256(), pins[0].octets, NULL);
  mp_tls_tlsa tlsa = { 3, 0, 1, { (char *)pins[0].octets, 32 } };
  const mp_str key = MP_STR("mx.example.net:25");
  const struct {
    mp_tls_target target;
    bool fits;
  } rows[] = {
    { { .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = 1, .session_key = key }, true },
    { { .trust = MP_TLS_TRUST_NAMES, .names = other, .name_count = 1 }, false },
    { { .trust = MP_TLS_TRUST_NONE, .names = other, .name_count = 1, .session_key = key }, false },
    { { .trust = MP_TLS_TRUST_PINS, .pins = pins, .pin_count = 1 }, true },
    { { .trust = MP_TLS_TRUST_DANE, .names = names, .name_count = 1, .tlsa = &tlsa, .tlsa_count = 1 }, true },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    starve(server, client, &rows[i].target, rows[i].fits);
  peer_id_free(&id);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

TEST(a_session_that_finds_no_memory_is_not_kept)
{
  mp_tls_config *server = server_config("DNS:mx.example.net", NULL);
  mp_tls_client_config *client = client_config(4);
  mp_tls_target target = { .trust = MP_TLS_TRUST_NONE, .session_key = MP_STR("a") };
  FOR_EACH_ALLOC_FAILURE {
    duet d;
    mp_tls_info info;
    mp_tls_proof facts;
    if (duet_meet(&d, server, client, &target) == 0 && d.client.rc == 1 && d.server.rc == 1) {
      char line[64];
      if (mp_tls_write(d.server.tls, "220 a\r\n", 7) == 0) {
        duet_carry(&d.server, &d.client);
        mp_tls_feed(d.client.tls, d.client.held, d.client.len);
        mp_ssize n = mp_tls_read(d.client.tls, line, sizeof line);
        CHECK(n == 7 || n == MP_E_NOMEM);
      }
      mp_tls_info_get(d.client.tls, &info);
      mp_tls_proof_get(d.client.tls, &facts);
      CHECK(!facts.verified && facts.why_not.len > 0);
    }
    duet_part(&d);
  }
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

CHECK_MAIN
