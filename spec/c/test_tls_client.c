/* Certificates of clients, and what binds a login to its channel. */
#include "support/tls_peer.h"

static peer_id ca, stranger_ca;

static void make_cas(void)
{
  if (!ca.cert) {
    ca = peer_make(&(peer_cert){ .cn = "Example CA", .ca = true });
    stranger_ca = peer_make(&(peer_cert){ .cn = "Example CA", .ca = true }); /* the same name, another key */
    peer_pem("ca.pem", ca.cert, NULL);
  }
}

static mp_tls_opts verify(mp_tls_verify how)
{
  make_cas();
  return (mp_tls_opts){ .client = how, .client_ca = peer_path("ca.pem") };
}

typedef struct meeting {
  int rc; /* of the server's handshake */
  mp_tls *tls;
  peer client;
  mp_tls_info info;
} meeting;

static void meet(meeting *m, mp_tls_config *config, peer_opts opts)
{
  *m = (meeting){ .rc = MP_E_NOMEM };
  peer_init(&m->client, opts);
  if (config && mp_tls_accept(&m->tls, config, NULL) == 0) {
    m->rc = peer_handshake(&m->client, m->tls, 65536);
    mp_tls_info_get(m->tls, &m->info);
  }
}

static void part(meeting *m)
{
  mp_tls_free(m->tls);
  peer_dispose(&m->client);
}

TEST(a_verified_certificate_gives_its_names)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_REQUIRE));
  peer_id id =
      peer_make(&(peer_cert){ .cn = "relay",
                              .san = "DNS:relay.example.org,email:ops@example.org,IP:192.0.2.1,URI:https://x/",
                              .issuer = &ca });
  unsigned char digest[32];
  char hex[65];
  X509_digest(id.cert, EVP_sha256(), digest, NULL);
  for (int i = 0; i < 32; i++)
    snprintf(hex + 2 * i, 3, "%02x", digest[i]);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    meeting m;
    meet(&m, config, (peer_opts){ .id = &id, .max = version });
    CHECK_EQ_INT(m.rc, 1);
    CHECK(m.info.peer_verified);
    CHECK_STR(m.info.peer_subject, "CN=relay");
    CHECK_EQ_STR(m.info.peer_fingerprint, mp_str_of(hex, 64));
    if (CHECK_EQ_INT(m.info.peer_name_count, 2)) {
      CHECK_STR(m.info.peer_names[0], "relay.example.org");
      CHECK_STR(m.info.peer_names[1], "ops@example.org");
    }
    /* And they are the same when the session is resumed. */
    meeting again;
    meet(&again, config, (peer_opts){ .id = &id, .max = version, .session = m.client.ticket });
    CHECK_EQ_INT(again.rc, 1);
    CHECK(again.info.resumed && again.info.peer_verified);
    CHECK_EQ_STR(again.info.peer_fingerprint, m.info.peer_fingerprint);
    CHECK_EQ_INT(again.info.peer_name_count, 2);
    part(&again);
    part(&m);
  }
  peer_id_free(&id);
  mp_tls_config_unref(config);
}

TEST(asked_for_a_certificate_that_leads_nowhere_counts_for_nothing)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_ASK));
  const peer_cert rows[] = {
    { .cn = "relay", .san = "DNS:relay.example.org" },
    { .cn = "relay", .san = "DNS:relay.example.org", .issuer = &stranger_ca },
    { .cn = "relay", .san = "DNS:relay.example.org", .issuer = &ca, .from_days = -40 },
    { .cn = "relay", .san = "DNS:relay.example.org", .issuer = &ca, .from_days = 40 },
  };
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
      peer_id id = peer_make(&rows[i]);
      meeting m, again;
      meet(&m, config, (peer_opts){ .id = &id, .max = version });
      CHECK_EQ_INT(m.rc, 1);
      CHECK(!m.info.peer_verified);
      CHECK_EQ_INT(m.info.peer_name_count, 0);
      CHECK_STR(m.info.peer_subject, "CN=relay");
      CHECK_EQ_INT(m.info.peer_fingerprint.len, 64);
      meet(&again, config, (peer_opts){ .id = &id, .max = version, .session = m.client.ticket });
      CHECK_EQ_INT(again.rc, 1);
      CHECK(again.info.resumed && !again.info.peer_verified); /* what was not believed is not believed later */
      CHECK_EQ_INT(again.info.peer_name_count, 0);
      part(&again);
      part(&m);
      peer_id_free(&id);
    }
    meeting none;
    meet(&none, config, (peer_opts){ .max = version });
    CHECK_EQ_INT(none.rc, 1);
    CHECK(!none.info.peer_verified);
    CHECK_EQ_INT(none.info.peer_subject.len + none.info.peer_fingerprint.len, 0);
    part(&none);
  }
  mp_tls_config_unref(config);
}

TEST(required_it_must_be_there_and_lead_to_a_ca)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_REQUIRE));
  const struct {
    peer_cert cert;
    const char *why;
  } rows[] = {
    { { .cn = "relay" }, "certificate verify failed: self-signed certificate" },
    { { .cn = "relay", .issuer = &stranger_ca }, "certificate verify failed: certificate signature failure" },
    { { .cn = "relay", .issuer = &ca, .from_days = -40 }, "certificate verify failed: certificate has expired" },
  };
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    meeting m;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
      peer_id id = peer_make(&rows[i].cert);
      meet(&m, config, (peer_opts){ .id = &id, .max = version });
      CHECK_EQ_INT(m.rc, MP_E_TLS);
      CHECK(!mp_tls_ready(m.tls));
      CHECK_EQ_STR(mp_str_c(mp_tls_why(m.tls)), mp_str_c(rows[i].why));
      CHECK(!m.info.peer_verified);
      part(&m);
      peer_id_free(&id);
    }
    meet(&m, config, (peer_opts){ .max = version });
    CHECK_EQ_INT(m.rc, MP_E_TLS);
    CHECK_CSTR(mp_tls_why(m.tls), "peer did not return a certificate");
    part(&m);
  }
  mp_tls_config_unref(config);
}

TEST(not_asked_for_it_is_not_sent)
{
  make_cas();
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  peer_id id = peer_make(&(peer_cert){ .cn = "relay", .issuer = &ca });
  meeting m;
  meet(&m, config, (peer_opts){ .id = &id });
  CHECK_EQ_INT(m.rc, 1);
  CHECK(!m.info.peer_verified);
  CHECK_EQ_INT(m.info.peer_fingerprint.len, 0);
  part(&m);
  peer_id_free(&id);
  mp_tls_config_unref(config);
}

TEST(an_intermediate_ca_in_the_list_is_enough)
{
  make_cas();
  peer_id middle = peer_make(&(peer_cert){ .cn = "Department", .issuer = &ca, .ca = true });
  peer_id id = peer_make(&(peer_cert){ .cn = "relay", .san = "DNS:a.example", .issuer = &middle });
  mp_tls_config *config = peer_config((mp_tls_opts){ .client = MP_TLS_VERIFY_REQUIRE,
                                                     .client_ca = peer_pem("middle.pem", middle.cert, NULL) });
  meeting m;
  meet(&m, config, (peer_opts){ .id = &id });
  CHECK_EQ_INT(m.rc, 1);
  CHECK(m.info.peer_verified);
  part(&m);
  mp_tls_config_unref(config);
  peer_id_free(&id);
  peer_id_free(&middle);
}

TEST(a_subject_cannot_break_a_line)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_ASK));
  peer_id id = peer_make(&(peer_cert){ .cn = "a,b\r\n250 \xc3\xa9\x01", .issuer = &ca });
  meeting m;
  meet(&m, config, (peer_opts){ .id = &id });
  CHECK_EQ_INT(m.rc, 1);
  CHECK_STR(m.info.peer_subject, "CN=a\\,b\\0D\\0A250 \\C3\\A9\\01");
  part(&m);
  peer_id_free(&id);
  mp_tls_config_unref(config);
}

TEST(a_name_with_a_hidden_end_is_left_out)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_ASK));
  peer_id id = peer_make(&(peer_cert){ .cn = "relay", .issuer = &ca });
  static const char trick[] = "bank.example\0.evil.example";
  GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
  for (int i = 0; i < 2; i++) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, i ? "fine.example" : trick, i ? -1 : (int)sizeof trick - 1);
    GENERAL_NAME_set0_value(name, GEN_DNS, text);
    sk_GENERAL_NAME_push(names, name);
  }
  X509_add1_ext_i2d(id.cert, NID_subject_alt_name, names, 0, 0);
  GENERAL_NAMES_free(names);
  X509_sign(id.cert, ca.key, EVP_sha256());
  meeting m;
  meet(&m, config, (peer_opts){ .id = &id });
  CHECK(m.info.peer_verified);
  if (CHECK_EQ_INT(m.info.peer_name_count, 1))
    CHECK_STR(m.info.peer_names[0], "fine.example");
  part(&m);
  peer_id_free(&id);
  mp_tls_config_unref(config);
}

/* ---- channel bindings -------------------------------------------------------------------------------------------- */

static mp_str exported(SSL *ssl, unsigned char out[32])
{
  if (SSL_export_keying_material(ssl, out, 32, "EXPORTER-Channel-Binding", 24, (const unsigned char *)"", 0,
                                 1) != 1)
    return MP_STR_NULL;
  return mp_str_of((const char *)out, 32);
}

TEST(tls_exporter_is_the_same_at_both_ends)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  unsigned char theirs[32];
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    meeting m;
    meet(&m, config, (peer_opts){ .max = version });
    CHECK_EQ_INT(m.info.cb_exporter.len, 32);
    CHECK_EQ_STR(m.info.cb_exporter, exported(m.client.ssl, theirs));
    meeting again;
    meet(&again, config, (peer_opts){ .max = version, .session = m.client.ticket });
    CHECK(again.info.resumed);
    CHECK(!mp_str_eq(again.info.cb_exporter, m.info.cb_exporter));
    CHECK_EQ_STR(again.info.cb_exporter, exported(again.client.ssl, theirs));
    part(&again);
    part(&m);
  }
  mp_tls_config_unref(config);
}

TEST(tls_unique_is_the_first_finished_message)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  char finished[64];
  meeting m, again;
  meet(&m, config, (peer_opts){ .max = TLS1_2_VERSION });
  size_t len = SSL_get_finished(m.client.ssl, finished, sizeof finished);
  CHECK_EQ_INT(m.info.cb_unique.len, 12);
  CHECK_EQ_STR(m.info.cb_unique, mp_str_of(finished, len));
  /* When the session is resumed the server speaks first (RFC 5929 section 3.1). */
  meet(&again, config, (peer_opts){ .max = TLS1_2_VERSION, .session = m.client.ticket });
  CHECK(again.info.resumed);
  len = SSL_get_peer_finished(again.client.ssl, finished, sizeof finished);
  CHECK_EQ_STR(again.info.cb_unique, mp_str_of(finished, len));
  part(&again);
  part(&m);
  meet(&m, config, (peer_opts){ .max = TLS1_3_VERSION });
  CHECK_EQ_INT(m.info.cb_unique.len, 0); /* undefined there (RFC 8446 appendix C.5) */
  part(&m);
  mp_tls_config_unref(config);
}

TEST(without_an_extended_master_secret_a_channel_binds_less)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  meeting m, again;
  peer_opts opts = { .max = TLS1_2_VERSION, .options = SSL_OP_NO_EXTENDED_MASTER_SECRET };
  meet(&m, config, opts);
  CHECK_EQ_INT(m.rc, 1);
  CHECK_EQ_INT(m.info.cb_exporter.len, 0);
  CHECK_EQ_INT(m.info.cb_unique.len, 12);
  opts.session = m.client.ticket;
  meet(&again, config, opts);
  CHECK(again.info.resumed);
  CHECK_EQ_INT(again.info.cb_exporter.len, 0);
  CHECK_EQ_INT(again.info.cb_unique.len, 0);
  part(&again);
  part(&m);
  mp_tls_config_unref(config);
}

TEST(out_of_memory_verifies_nobody)
{
  mp_tls_config *config = peer_config(verify(MP_TLS_VERIFY_REQUIRE));
  peer_id id = peer_make(&(peer_cert){ .cn = "relay", .san = "DNS:relay.example.org", .issuer = &ca });
  meeting m;
  meet(&m, config, (peer_opts){ .id = &id });
  REQUIRE(m.rc == 1);
  mp_tls_free(m.tls);
  part(&(meeting){ .client = m.client });
  FOR_EACH_ALLOC_FAILURE {
    meet(&m, config, (peer_opts){ .id = &id });
    if (m.rc == 1)
      CHECK_EQ_INT(m.info.peer_verified, m.info.peer_name_count == 1);
    if (!CHECK_ALLOC_FAILED())
      CHECK(m.info.peer_verified);
    part(&m);
  }
  peer_id_free(&id);
  peer_id_free(&ca);
  peer_id_free(&stranger_ca);
  mp_tls_config_unref(config);
}

CHECK_MAIN
