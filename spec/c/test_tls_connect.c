/* The side that connects, against our own that accepts: names, authorities, dates, fingerprints, and sessions that go on. */
#include "support/tls_duet.h"

static peer_id root, stranger;

static void make_root(void)
{
  if (!root.cert) {
    root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
    stranger = peer_make(&(peer_cert){ .cn = "Stranger", .ca = true });
    peer_pem("root.pem", root.cert, NULL);
  }
}

static mp_tls_client_config *client_config(mp_tls_client_opts opts)
{
  char why[256] = "";
  mp_tls_client_config *config = NULL;
  make_root();
  if (!opts.ca)
    opts.ca = peer_path("root.pem");
  if (mp_tls_client_config_new(&config, &opts, why, sizeof why) < 0)
    check_fail(__FILE__, __LINE__, "no configuration: %s", why);
  return config;
}

/* A server with a certificate made to order; `id` (may be NULL) gets it too. */
static mp_tls_config *server_config(peer_cert want, peer_id *id, mp_tls_opts opts)
{
  make_root();
  peer_id made = peer_make(&want);
  mp_tls_cert cert = { .certificate = peer_pem("server.pem", made.cert, made.key) };
  opts.certs = &cert;
  opts.cert_count = 1;
  mp_tls_config *config = peer_config(opts);
  if (id)
    *id = made;
  else
    peer_id_free(&made);
  return config;
}

static mp_tls_target by_names(const mp_str *names, size_t count)
{
  return (mp_tls_target){ .sni = names[0], .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = count };
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

TEST(a_good_name_under_a_known_authority)
{
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    mp_tls_config *server =
        server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net,DNS:mx2.example.net", .issuer = &root },
                      NULL, (mp_tls_opts){ .min_version = version });
    mp_tls_client_config *client = client_config((mp_tls_client_opts){ .min_version = version });
    mp_str names[] = { MP_STR("mx.example.net") };
    mp_tls_target target = by_names(names, 1);
    duet d;
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK_EQ_INT(d.client.rc, 1);
    CHECK_EQ_INT(d.server.rc, 1);
    CHECK(d.facts.verified);
    CHECK_STR(d.facts.how, "names");
    CHECK_EQ_INT(d.facts.why_not.len, 0);
    CHECK_STR(d.info.sni, "mx.example.net");
    CHECK(d.info.peer_verified && !d.info.resumed);
    CHECK_EQ_INT(d.info.peer_fingerprint.len, 64);
    CHECK_STR(d.info.peer_subject, "CN=x");
    if (CHECK_EQ_INT(d.info.peer_name_count, 2))
      CHECK_STR(d.info.peer_names[1], "mx2.example.net");
    duet_say(&d.server, &d.client, "220 mx.example.net\r\n");
    duet_say(&d.client, &d.server, "EHLO us.example\r\n");
    /* Both ends bind the same channel. */
    mp_tls_info theirs;
    mp_tls_info_get(d.server.tls, &theirs);
    CHECK_STR(theirs.sni, "mx.example.net");
    CHECK_EQ_INT(d.info.cb_exporter.len, 32);
    CHECK_EQ_STR(d.info.cb_exporter, theirs.cb_exporter);
    CHECK_EQ_STR(d.info.cb_unique, theirs.cb_unique);
    mp_tls_proof none;
    mp_tls_proof_get(d.server.tls, &none);
    CHECK(!none.verified && none.how.len == 0);
    CHECK_EQ_INT(mp_tls_shutdown(d.client.tls), 0);
    duet_carry(&d.client, &d.server);
    char octet;
    mp_tls_feed(d.server.tls, d.server.held, d.server.len);
    CHECK_EQ_INT(mp_tls_read(d.server.tls, &octet, 1), MP_E_EOF);
    duet_part(&d);
    mp_tls_client_config_unref(client);
    mp_tls_config_unref(server);
  }
}

TEST(an_octet_at_a_time)
{
  mp_tls_config *server = server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root },
                                        NULL, (mp_tls_opts){ 0 });
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  duet d = { .client = { .rc = 0 } };
  REQUIRE(mp_tls_connect(&d.client.tls, client, NULL, &target) == 0);
  REQUIRE(mp_tls_accept(&d.server.tls, server, NULL) == 0);
  mp_tls_proof facts;
  mp_tls_proof_get(d.client.tls, &facts);
  CHECK(!facts.verified && facts.how.len == 0);
  duet_shake(&d, 1);
  CHECK(d.facts.verified);
  duet_part(&d);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

typedef struct name_row {
  const char *cn, *san, *name, *why; /* why NULL: it fits */
} name_row;

/* RFC 6125 section 6.4 and 7.2. */
static const name_row name_rows[] = {
  { "x", "DNS:mx.example.net", "MX.Example.NET", NULL },
  { "x", "DNS:mx.example.net", "mx.example.net.", NULL },
  { "x", "DNS:*.example.net", "mx.example.net", NULL },
  { "x", "DNS:*.example.net", "a.mx.example.net", "certificate is for *.example.net, not a.mx.example.net" },
  { "x", "DNS:*.example.net", "example.net", "certificate is for *.example.net, not example.net" },
  { "x", "DNS:m*.example.net", "mx.example.net", "certificate is for a malformed name, not mx.example.net" },
  { "x", "DNS:mx.*.net", "mx.example.net", "certificate is for a malformed name, not mx.example.net" },
  { "x", "DNS:other.example", "mx.example.net", "certificate is for other.example, not mx.example.net" },
  { "x", "DNS:.example.net", "mx.example.net", "certificate is for a malformed name, not mx.example.net" },
  { "mx.example.net", NULL, "mx.example.net", "certificate is for no host, not mx.example.net" },
  { "mx.example.net", "email:a@mx.example.net", "mx.example.net",
    "certificate is for no host, not mx.example.net" },
  { "x", "DNS:a.example,DNS:b.example,DNS:c.example,DNS:d.example,DNS:e.example", "mx.example.net",
    "certificate is for a.example, b.example, c.example and 2 more, not mx.example.net" },
  { "x", "IP:192.0.2.1", "192.0.2.1", NULL },
  { "x", "IP:2001:db8::1", "2001:DB8:0::1", NULL },
  { "x", "IP:192.0.2.1", "192.0.2.2", "certificate is for 192.0.2.1, not 192.0.2.2" },
  { "x", "DNS:192.0.2.1", "192.0.2.1", "certificate is for 192.0.2.1, not 192.0.2.1" },
  { "192.0.2.1", NULL, "192.0.2.1", "certificate is for no host, not 192.0.2.1" },
  { "x", "IP:2001:db8::1,DNS:mx.example.net", "2001:db8::2",
    "certificate is for 2001:db8::1, mx.example.net, not 2001:db8::2" },
};

TEST(names_as_rfc_6125_has_them)
{
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  for (size_t i = 0; i < sizeof name_rows / sizeof *name_rows; i++) {
    const name_row *row = &name_rows[i];
    mp_tls_config *server =
        server_config((peer_cert){ .cn = row->cn, .san = row->san, .issuer = &root }, NULL, (mp_tls_opts){ 0 });
    mp_str names[] = { mp_str_c(row->name) };
    mp_tls_target target = by_names(names, 1);
    duet d;
    bool ok = CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    ok &= CHECK_EQ_INT(d.client.rc, row->why ? MP_E_CRYPTO : 1);
    if (row->why) {
      ok &= CHECK_EQ_STR(mp_str_c(mp_tls_why(d.client.tls)), mp_str_c(row->why));
      ok &= CHECK_EQ_STR(d.facts.why_not, mp_str_c(row->why));
      ok &= CHECK(!d.facts.verified && !mp_tls_ready(d.client.tls));
      ok &= CHECK_EQ_INT(mp_tls_handshake(d.client.tls), MP_E_CRYPTO);
      ok &= CHECK(d.server.rc == MP_E_TLS || d.server.rc == 1); /* it got an alert */
    }
    if (!ok)
      FAIL("in row %zu, %s", i, row->name);
    duet_part(&d);
    mp_tls_config_unref(server);
  }
  mp_tls_client_config_unref(client);
}

TEST(one_of_several_names_is_enough)
{
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_tls_config *server = server_config((peer_cert){ .cn = "x", .san = "DNS:example.net", .issuer = &root },
                                        NULL, (mp_tls_opts){ 0 });
  mp_str names[] = { MP_STR("mx.example.org"), MP_STR("192.0.2.1"), MP_STR("example.net") };
  mp_tls_target target = by_names(names, 3);
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK(d.facts.verified);
  duet_part(&d);
  target.name_count = 2;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
  CHECK_STR(d.facts.why_not, "certificate is for example.net, not mx.example.org or 192.0.2.1");
  duet_part(&d);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(client);
}

/* ---- chains ------------------------------------------------------------------------------------------------------ */

TEST(what_is_wrong_with_a_chain_is_said)
{
  make_root();
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  const struct {
    peer_cert cert;
    const char *begins, *why;
  } rows[] = {
    { { .cn = "x", .san = "DNS:mx.example.net" }, NULL, "self-signed certificate" },
    { { .cn = "x", .san = "DNS:mx.example.net", .issuer = &stranger }, NULL, "CN=Stranger is not a trusted authority" },
    { { .cn = "x", .san = "DNS:mx.example.net", .issuer = &root, .from_days = -40 }, "certificate expired 20", NULL },
    { { .cn = "x", .san = "DNS:mx.example.net", .issuer = &root, .from_days = 40 },
      "certificate is not valid before 20",
      NULL },
  };
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  duet d;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_tls_config *server = server_config(rows[i].cert, NULL, (mp_tls_opts){ 0 });
    target.trust = MP_TLS_TRUST_NAMES;
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
    mp_str why = mp_str_c(mp_tls_why(d.client.tls));
    if (rows[i].why)
      CHECK_EQ_STR(why, mp_str_c(rows[i].why));
    else if (CHECK(mp_str_istarts(why, mp_str_c(rows[i].begins))))
      CHECK_EQ_INT(why.len, strlen(rows[i].begins) + 8);
    duet_part(&d);
    /* Where nothing is asked of it the same is told as a fact, and the talk goes on. */
    target.trust = MP_TLS_TRUST_NONE;
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK_EQ_INT(d.client.rc, 1);
    CHECK(!d.facts.verified && !d.info.peer_verified);
    CHECK_STR(d.facts.how, "none");
    CHECK(mp_str_istarts(d.facts.why_not, mp_str_c(rows[i].why ? rows[i].why : rows[i].begins)));
    CHECK_EQ_INT(d.info.peer_name_count, 1);
    duet_say(&d.server, &d.client, "220 mx.example.net\r\n");
    duet_part(&d);
    mp_tls_config_unref(server);
  }
  mp_tls_client_config_unref(client);
}

TEST(asked_for_nothing_it_still_says_who_was_there)
{
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_tls_config *server = server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root },
                                        NULL, (mp_tls_opts){ 0 });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = { .names = names, .name_count = 1 };
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK(d.facts.verified);
  CHECK_STR(d.facts.how, "names");
  CHECK_EQ_INT(d.info.sni.len, 0);
  duet_part(&d);
  names[0] = MP_STR("other.example");
  target.sni = MP_STR("192.0.2.1"); /* an address is not sent */
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, 1);
  CHECK_STR(d.facts.why_not, "certificate is for mx.example.net, not other.example");
  CHECK_EQ_INT(d.info.sni.len, 0);
  duet_part(&d);
  target = (mp_tls_target){ .trust = MP_TLS_TRUST_NONE };
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK(!d.facts.verified);
  CHECK_STR(d.facts.why_not, "there is no name to hold the certificate against");
  duet_part(&d);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(client);
}

/* The intermediate of a chain is what expired, not the certificate itself. */
TEST(an_expired_intermediate_is_named)
{
  make_root();
  peer_id middle = peer_make(&(peer_cert){ .cn = "Middle", .ca = true, .issuer = &root, .from_days = -40 });
  peer_id leaf = peer_make(&(peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &middle });
  const char *path = peer_pem("chain.pem", leaf.cert, leaf.key);
  FILE *file = fopen(path, "a");
  REQUIRE(file && PEM_write_X509(file, middle.cert) == 1 && fclose(file) == 0);
  mp_tls_cert cert = { .certificate = path };
  mp_tls_config *server = peer_config((mp_tls_opts){ .certs = &cert, .cert_count = 1 });
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
  CHECK(mp_str_istarts(d.facts.why_not, MP_STR("certificate of CN=Middle expired 20")));
  duet_part(&d);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
  peer_id_free(&middle);
  peer_id_free(&leaf);
}

TEST(what_is_listed_by_hand_needs_nothing_above_it)
{
  make_root();
  peer_id middle = peer_make(&(peer_cert){ .cn = "Middle", .ca = true, .issuer = &root }), leaf;
  mp_tls_config *server = server_config(
      (peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &middle }, &leaf, (mp_tls_opts){ 0 });
  X509 *listed[] = { middle.cert, leaf.cert };
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  duet d;
  for (size_t i = 0; i < 2; i++) {
    mp_tls_client_config *client =
        client_config((mp_tls_client_opts){ .ca = peer_pem("listed.pem", listed[i], NULL) });
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK(d.facts.verified);
    duet_part(&d);
    mp_tls_client_config_unref(client);
  }
  mp_tls_config_unref(server);
  peer_id_free(&middle);
  peer_id_free(&leaf);
}

TEST(a_name_of_the_peers_cannot_break_a_line)
{
  make_root();
  peer_id evil = peer_make(&(peer_cert){ .cn = "a\r\n250 ok", .ca = true });
  mp_tls_config *server = server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &evil },
                                        NULL, (mp_tls_opts){ 0 });
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_STR(d.facts.why_not, "CN=a\\0D\\0A250 ok is not a trusted authority");
  duet_part(&d);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
  peer_id_free(&evil);
}

/* ---- fingerprints ------------------------------------------------------------------------------------------------ */

TEST(a_fingerprint_is_enough)
{
  peer_id id;
  mp_tls_config *server = server_config((peer_cert){ .cn = "x", .from_days = -40 }, &id, (mp_tls_opts){ 0 });
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  mp_tls_pin pins[2] = { { { 1 } } };
  unsigned char *der = NULL;
  int len = i2d_PUBKEY(id.key, &der);
  mp_tls_target target = {
    .sni = MP_STR("mx.example.net"), .trust = MP_TLS_TRUST_PINS, .pins = pins, .pin_count = 2
  };
  duet d;
  X509_digest(id.cert, EVP_sha256(), pins[1].octets, NULL);
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK(d.facts.verified);
  CHECK_STR(d.facts.how, "pin");
  duet_part(&d);
  EVP_Digest(der, (size_t)len, pins[1].octets, NULL, EVP_sha256(), NULL);
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK(d.facts.verified);
  duet_part(&d);
  pins[1].octets[31] ^= 1;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
  CHECK(mp_str_istarts(d.facts.why_not, MP_STR("fingerprint ")));
  duet_part(&d);
  /* A certificate that authorities speak for is no other matter. */
  mp_tls_config_unref(server);
  server = server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root }, NULL,
                         (mp_tls_opts){ 0 });
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
  duet_part(&d);
  OPENSSL_free(der);
  peer_id_free(&id);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
}

/* ---- our own certificate ----------------------------------------------------------------------------------------- */

TEST(our_certificate_is_shown_when_asked_for)
{
  make_root();
  peer_id ours = peer_make(&(peer_cert){ .cn = "us", .san = "DNS:us.example", .issuer = &root });
  mp_tls_client_config *with = client_config((mp_tls_client_opts){
      .certificate = peer_pem("us.pem", ours.cert, NULL), .key = peer_pem("us.key", NULL, ours.key) });
  mp_tls_client_config *without = client_config((mp_tls_client_opts){ 0 });
  mp_tls_config *server =
      server_config((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root }, NULL,
                    (mp_tls_opts){ .client = MP_TLS_VERIFY_REQUIRE, .client_ca = peer_path("root.pem") });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  mp_tls_info theirs;
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, with, &target), 0);
  CHECK_EQ_INT(d.server.rc, 1);
  mp_tls_info_get(d.server.tls, &theirs);
  CHECK(theirs.peer_verified);
  CHECK_STR(theirs.peer_subject, "CN=us");
  duet_say(&d.client, &d.server, "EHLO us.example\r\n");
  duet_part(&d);
  CHECK_EQ_INT(duet_meet(&d, server, without, &target), 0);
  CHECK_EQ_INT(d.server.rc, MP_E_TLS);
  /* Under TLS 1.3 the client hears of it only when it reads. */
  char octet;
  mp_tls_feed(d.client.tls, d.client.held, d.client.len);
  CHECK_EQ_INT(mp_tls_read(d.client.tls, &octet, 1), MP_E_TLS);
  CHECK(strstr(mp_tls_why(d.client.tls), "certificate required") != NULL);
  duet_part(&d);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(with);
  mp_tls_client_config_unref(without);
  peer_id_free(&ours);
}

/* ---- what is no matter of certificates --------------------------------------------------------------------------- */

TEST(a_failure_of_the_protocol_is_another_error)
{
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ .min_version = TLS1_3_VERSION });
  mp_str names[] = { MP_STR("mx.example.net") };
  mp_tls_target target = by_names(names, 1);
  const char *garbage[] = { "220 mx.example.net ESMTP\r\n", "\x15\x03\x03\x00\x02\x02\x28",
                            "\x16\x03\x03\x00\x04\x02\x00\x00\x00" };
  const size_t lens[] = { 26, 7, 9 };
  for (size_t i = 0; i < 3; i++) {
    mp_tls *tls;
    REQUIRE(mp_tls_connect(&tls, client, NULL, &target) == 0);
    CHECK_EQ_INT(mp_tls_handshake(tls), 0);
    CHECK(mp_tls_output(tls).len > 0);
    mp_tls_feed(tls, garbage[i], lens[i]);
    CHECK_EQ_INT(mp_tls_handshake(tls), MP_E_TLS);
    CHECK(mp_tls_why(tls)[0] != '\0');
    mp_tls_proof facts;
    mp_tls_proof_get(tls, &facts);
    CHECK(!facts.verified && facts.how.len == 0);
    mp_tls_free(tls);
  }
  mp_tls_client_config_unref(client);
}

TEST(targets_that_make_no_sense)
{
  mp_tls_client_config *client = client_config((mp_tls_client_opts){ 0 });
  const mp_str good[] = { MP_STR("mx.example.net") }, spaced[] = { MP_STR("mx example") },
               dotted[] = { MP_STR(".example.net") };
  const mp_str empty[] = { MP_STR("") }, nul[] = { MP_STR("mx\0.example") }, ip[] = { MP_STR("192.0.2.1") };
  const mp_tls_pin pins[1] = { { { 0 } } };
  static const char digest[32] = "x";
  const mp_tls_tlsa usable = { 3, 1, 1, { digest, 32 } }, unusable = { 1, 1, 1, { digest, 32 } };
  const mp_tls_target rows[] = {
    { .trust = MP_TLS_TRUST_NAMES },
    { .trust = MP_TLS_TRUST_NAMES, .names = spaced, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = dotted, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = empty, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = nul, .name_count = 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = good, .name_count = MP_TLS_REFERENCES_MOST + 1 },
    { .trust = MP_TLS_TRUST_NAMES, .names = good, .name_count = 1, .sni = MP_STR("a b") },
    { .trust = MP_TLS_TRUST_PINS, .pins = pins },
    { .trust = MP_TLS_TRUST_PINS, .pins = pins, .pin_count = MP_TLS_PINS_MOST + 1 },
    { .trust = MP_TLS_TRUST_DANE, .names = good, .name_count = 1 },
    { .trust = MP_TLS_TRUST_DANE, .names = good, .name_count = 1, .tlsa = &unusable, .tlsa_count = 1 },
    { .trust = MP_TLS_TRUST_DANE, .names = ip, .name_count = 1, .tlsa = &usable, .tlsa_count = 1 },
    { .trust = MP_TLS_TRUST_DANE, .tlsa = &usable, .tlsa_count = 1 },
    { .trust = (mp_tls_trust)9 },
  };
  mp_tls *tls;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (!CHECK_EQ_INT(mp_tls_connect(&tls, client, NULL, &rows[i]), MP_E_INVALID) || !CHECK(!tls))
      FAIL("in row %zu", i);
  }
  mp_tls_client_config_unref(client);
}

TEST(a_configuration_says_what_is_wrong_with_it)
{
  make_root();
  char why[256], want[256];
  peer_id ours = peer_make(&(peer_cert){ .cn = "us", .issuer = &root });
  peer_pem("us.pem", ours.cert, NULL);
  peer_pem("us.key", NULL, ours.key);
  peer_pem("root.key", NULL, root.key);
  peer_file("empty.pem", "", 0);
  const struct {
    mp_tls_client_opts opts;
    int rc;
    const char *why; /* %s: the folder */
  } rows[] = {
    { { .ca = "none.pem" }, MP_E_NOTFOUND, "none.pem: no such file or directory" },
    { { .ca = peer_path("empty.pem") }, MP_E_TLS, "%s/empty.pem is empty" },
    { { .certificate = peer_path("us.pem") }, MP_E_TLS, "no private key in %s/us.pem" },
    { { .certificate = peer_path("us.pem"), .key = peer_path("root.key") },
      MP_E_TLS,
      "%s/root.key does not belong to %s/us.pem" },
    { { .key = "us.key" }, MP_E_INVALID, "there is a key, us.key, but no certificate" },
    { { .min_version = 0x0305 }, MP_E_INVALID, "0x0305 is not a TLS version" },
    { { .ciphers = "NOSUCH" }, MP_E_TLS, "ciphers \"NOSUCH\": no cipher match" },
    { { .ciphersuites = "NOSUCH" }, MP_E_TLS, "ciphersuites \"NOSUCH\": no cipher match" },
    { { .sessions = 4097 }, MP_E_INVALID, "4097 sessions are more than can be kept, which is 4096" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_tls_client_config *config;
    size_t at = 0;
    for (const char *p = rows[i].why; *p && at + 80 < sizeof want; p++) {
      if (p[0] == '%')
        at += (size_t)snprintf(want + at, sizeof want - at, "%s", peer_dir), p++;
      else
        want[at++] = *p;
    }
    CHECK_EQ_INT(mp_tls_client_config_new(&config, &rows[i].opts, why, sizeof why), rows[i].rc);
    CHECK_EQ_STR(mp_str_c(why), mp_str_of(want, at));
    CHECK(!config);
  }
  mp_tls_client_config *config;
  CHECK_EQ_INT(mp_tls_client_config_new(&config, &(mp_tls_client_opts){ 0 }, why, sizeof why), 0);
  CHECK_CSTR(why, "");
  mp_tls_client_config_unref(config); /* the system's authorities */
  CHECK_EQ_INT(mp_tls_client_config_new(&config, &(mp_tls_client_opts){ .ca = peer_dir }, why, sizeof why), 0);
  mp_tls_client_config_unref(config);
  mp_tls_client_config_unref(NULL);
  peer_id_free(&ours);
}

CHECK_MAIN
