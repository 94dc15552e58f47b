/* DANE for SMTP (RFC 7672): TLSA records against a server of ours, and against the chains that OpenSSL tests itself with. */
#include "support/tls_duet.h"

#include "tls/client_impl.h"
#include "tls/session_impl.h"

static peer_id root; /* that nobody trusts but a record */

typedef struct record { /* with the octets it stands on */
  mp_tls_tlsa tlsa;
  unsigned char octets[4096];
} record;

/* A record that fits. */
static record record_of(int usage, int selector, int mtype, X509 *cert)
{
  record r = { .tlsa = { (uint8_t)usage, (uint8_t)selector, (uint8_t)mtype, MP_STR_NULL } };
  unsigned char der[4096], *end = der;
  int len = selector ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &end) : i2d_X509(cert, &end);
  unsigned size = (unsigned)len;
  if (mtype == 0)
    memcpy(r.octets, der, size);
  else
    EVP_Digest(der, (size_t)len, r.octets, &size, mtype == 1 ? EVP_sha256() : EVP_sha512(), NULL);
  r.tlsa.data.len = size;
  return r;
}

static mp_tls_tlsa settle(record *r)
{
  r->tlsa.data.ptr = (const char *)r->octets;
  return r->tlsa;
}

/* A server whose chain is the certificate and, where it has one, its issuer. */
static mp_tls_config *server_of(peer_cert want, peer_id *id)
{
  if (!root.cert)
    root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
  *id = peer_make(&want);
  const char *path = peer_pem("server.pem", id->cert, id->key);
  FILE *file = fopen(path, "a");
  if (!file || (want.issuer && PEM_write_X509(file, want.issuer->cert) != 1) || fclose(file) != 0)
    abort();
  mp_tls_cert cert = { .certificate = path };
  return peer_config((mp_tls_opts){ .certs = &cert, .cert_count = 1 });
}

/* The authorities hold nothing that a test uses. */
static mp_tls_client_config *client_config(void)
{
  char why[256];
  mp_tls_client_config *config = NULL;
  peer_id other = peer_make(&(peer_cert){ .cn = "Other", .ca = true });
  if (mp_tls_client_config_new(&config, &(mp_tls_client_opts){ .ca = peer_pem("other.pem", other.cert, NULL) },
                               why, sizeof why) < 0)
    check_fail(__FILE__, __LINE__, "no configuration: %s", why);
  peer_id_free(&other);
  return config;
}

static const mp_str names[] = { { "mx.example.net", 14 }, { "example.net", 11 } };

static mp_tls_target by_dane(const mp_tls_tlsa *tlsa, size_t count)
{
  return (mp_tls_target){
    .sni = names[0], .trust = MP_TLS_TRUST_DANE, .names = names, .name_count = 2, .tlsa = tlsa, .tlsa_count = count
  };
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

TEST(records_that_can_be_used)
{
  peer_id id = peer_make(&(peer_cert){ .cn = "x" });
  for (int usage = 0; usage < 6; usage++) {
    for (int selector = 0; selector < 3; selector++) {
      for (int mtype = 0; mtype < 4; mtype++) {
        record r = record_of(usage, selector, mtype, id.cert);
        mp_tls_tlsa tlsa = settle(&r);
        bool usable = (usage == 2 || usage == 3) && selector < 2 && mtype < 3;
        CHECK_EQ_INT(mp_tls_dane_usable(&tlsa, 1), usable);
        tlsa.data.len--;
        CHECK_EQ_INT(mp_tls_dane_usable(&tlsa, 1), 0);
        tlsa.data.len += 2;
        CHECK_EQ_INT(mp_tls_dane_usable(&tlsa, 1), 0);
        tlsa.data.len = 0;
        CHECK_EQ_INT(mp_tls_dane_usable(&tlsa, 1), 0);
      }
    }
  }
  record r = record_of(3, 0, 0, id.cert);
  mp_tls_tlsa crossed[] = { settle(&r), settle(&r) };
  crossed[0].selector = 1; /* a certificate where a key should be */
  CHECK_EQ_INT(mp_tls_dane_usable(crossed, 2), 1);
  CHECK_EQ_INT(ERR_peek_error(), 0);
  peer_id_free(&id);
}

/* ---- a server's own certificate ---------------------------------------------------------------------------------- */

TEST(dane_ee_looks_at_neither_names_nor_dates)
{
  if (!root.cert)
    root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
  const peer_cert certs[] = {
    { .cn = "x", .san = "DNS:mx.example.net" },
    { .cn = "x", .san = "DNS:other.example" },
    { .cn = "x", .san = "DNS:mx.example.net", .from_days = -40 },
    { .cn = "x", .from_days = 40 },
    { .cn = "x", .san = "DNS:mx.example.net", .issuer = &root },
  };
  mp_tls_client_config *client = client_config();
  for (size_t i = 0; i < sizeof certs / sizeof *certs; i++) {
    peer_id id;
    mp_tls_config *server = server_of(certs[i], &id);
    for (int kind = 0; kind < 6; kind++) {
      record r = record_of(3, kind / 3, kind % 3, id.cert);
      mp_tls_tlsa tlsa = settle(&r);
      mp_tls_target target = by_dane(&tlsa, 1);
      duet d;
      CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
      if (!CHECK_EQ_INT(d.client.rc, 1) || !CHECK(d.facts.verified))
        FAIL("3 %d %d, certificate %zu: %s", kind / 3, kind % 3, i, mp_tls_why(d.client.tls));
      CHECK_STR(d.facts.how, "dane-ee");
      CHECK(d.info.peer_verified);
      CHECK_EQ_INT(d.facts.why_not.len, 0);
      duet_say(&d.server, &d.client, "220 mx.example.net\r\n");
      duet_part(&d);
    }
    mp_tls_config_unref(server);
    peer_id_free(&id);
  }
  mp_tls_client_config_unref(client);
}

/* ---- an authority of its own ------------------------------------------------------------------------------------- */

TEST(dane_ta_looks_at_names_and_dates)
{
  if (!root.cert)
    root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
  const struct {
    peer_cert cert;
    const char *why; /* NULL: it fits; else how the reason begins */
  } rows[] = {
    { { .cn = "x", .san = "DNS:mx.example.net", .issuer = &root }, NULL },
    { { .cn = "x", .san = "DNS:example.net", .issuer = &root }, NULL }, /* the domain itself */
    { { .cn = "x", .san = "DNS:*.example.net", .issuer = &root }, NULL },
    { { .cn = "mx.example.net", .issuer = &root }, NULL }, /* 3.2.3: a common name where there is no DNS name */
    { { .cn = "mx.example.net", .san = "DNS:other.example", .issuer = &root },
      "certificate is for other.example, not mx.example.net or example.net" },
    { { .cn = "x", .san = "DNS:m*.example.net", .issuer = &root }, "certificate is for a malformed name" },
    { { .cn = "x", .san = "DNS:mx.example.net", .issuer = &root, .from_days = -40 }, "certificate expired 20" },
  };
  mp_tls_client_config *client = client_config();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    peer_id id;
    mp_tls_config *server = server_of(rows[i].cert, &id);
    for (int kind = 0; kind < 6; kind++) {
      record r = record_of(2, kind / 3, kind % 3, root.cert);
      mp_tls_tlsa tlsa = settle(&r);
      mp_tls_target target = by_dane(&tlsa, 1);
      duet d;
      CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
      bool ok = CHECK_EQ_INT(d.client.rc, rows[i].why ? MP_E_CRYPTO : 1);
      ok &= CHECK_EQ_INT(d.facts.verified, !rows[i].why);
      if (rows[i].why)
        ok &= CHECK(mp_str_istarts(d.facts.why_not, mp_str_c(rows[i].why)));
      else
        ok &= CHECK_STR(d.facts.how, "dane-ta");
      if (!ok)
        FAIL("2 %d %d, row %zu: %s", kind / 3, kind % 3, i, mp_tls_why(d.client.tls));
      duet_part(&d);
    }
    mp_tls_config_unref(server);
    peer_id_free(&id);
  }
  mp_tls_client_config_unref(client);
}

/* ---- sets of records --------------------------------------------------------------------------------------------- */

TEST(any_record_that_fits_is_enough_and_none_is_not)
{
  peer_id id, other = peer_make(&(peer_cert){ .cn = "y", .ca = true });
  mp_tls_config *server = server_of((peer_cert){ .cn = "x", .san = "DNS:mx.example.net" }, &id);
  mp_tls_client_config *client = client_config();
  record good = record_of(3, 1, 1, id.cert), bad_ee = record_of(3, 1, 1, other.cert),
         bad_ta = record_of(2, 0, 1, other.cert), pkix = record_of(1, 1, 1, id.cert);
  mp_tls_tlsa tlsa[] = { settle(&bad_ee), settle(&bad_ta), settle(&pkix), settle(&good) };
  mp_tls_target target = by_dane(tlsa, 4);
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, 1);
  CHECK_STR(d.facts.how, "dane-ee");
  duet_part(&d);
  /* The one that fits is of a usage that mail has no use for. */
  target.tlsa_count = 3;
  for (size_t first = 0; first < 2; first++) {
    target.tlsa = tlsa + first;
    target.tlsa_count = 3 - first;
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
    CHECK_CSTR(mp_tls_why(d.client.tls), "no TLSA record matches");
    CHECK_STR(d.facts.how, "none");
    duet_part(&d);
  }
  target.tlsa = &tlsa[2];
  target.tlsa_count = 1;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), MP_E_INVALID);
  CHECK_EQ_INT(mp_tls_dane_usable(target.tlsa, target.tlsa_count), 0);
  duet_part(&d);
  peer_id_free(&id);
  peer_id_free(&other);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(client);
}

/* Authorities are for others: a chain that leads to one does not stand in for a record. */
TEST(an_authority_does_not_stand_in_for_a_record)
{
  peer_id id, other = peer_make(&(peer_cert){ .cn = "y", .ca = true });
  mp_tls_config *server = server_of((peer_cert){ .cn = "x", .san = "DNS:mx.example.net" }, &id);
  mp_tls_config_unref(server);
  peer_id_free(&id);
  server = server_of((peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root }, &id);
  char why[200];
  mp_tls_client_config *client;
  REQUIRE(mp_tls_client_config_new(&client, &(mp_tls_client_opts){ .ca = peer_pem("root.pem", root.cert, NULL) },
                                   why, sizeof why) == 0);
  for (int usage = 2; usage <= 3; usage++) {
    record r = record_of(usage, 1, 1, other.cert);
    mp_tls_tlsa tlsa = settle(&r);
    mp_tls_target target = by_dane(&tlsa, 1);
    duet d;
    CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
    CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
    CHECK_CSTR(mp_tls_why(d.client.tls), "no TLSA record matches");
    duet_part(&d);
  }
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
  peer_id_free(&id);
  peer_id_free(&other);
}

/* RFC 7671 section 9: of the digests of one usage and selector the strongest counts. */
TEST(a_weaker_digest_does_not_count_beside_a_stronger_one)
{
  peer_id id, other = peer_make(&(peer_cert){ .cn = "y" });
  mp_tls_config *server = server_of((peer_cert){ .cn = "x", .san = "DNS:mx.example.net" }, &id);
  mp_tls_client_config *client = client_config();
  record weak = record_of(3, 1, 1, id.cert), strong = record_of(3, 1, 2, other.cert);
  mp_tls_tlsa tlsa[] = { settle(&weak), settle(&strong) };
  mp_tls_target target = by_dane(tlsa, 2);
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_EQ_INT(d.client.rc, MP_E_CRYPTO);
  duet_part(&d);
  peer_id_free(&id);
  peer_id_free(&other);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(client);
}

/* Without a name for SNI the base domain is sent (RFC 7672 section 8.1). */
TEST(the_base_domain_is_sent)
{
  peer_id id;
  mp_tls_config *server = server_of((peer_cert){ .cn = "x" }, &id);
  mp_tls_client_config *client = client_config();
  record r = record_of(3, 1, 1, id.cert);
  mp_tls_tlsa tlsa = settle(&r);
  mp_tls_target target = by_dane(&tlsa, 1);
  target.sni = MP_STR_NULL;
  duet d;
  CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0);
  CHECK_STR(d.info.sni, "mx.example.net");
  duet_part(&d);
  peer_id_free(&id);
  mp_tls_config_unref(server);
  mp_tls_client_config_unref(client);
}

/* ---- the chains of OpenSSL's own test, where they lie ------------------------------------------------------------ */

enum { RECORDS_MOST = 4, LINE_MOST = 8192 };

typedef struct block {
  int tlsa_count, cert_count, no_names, error, depth;
  record records[RECORDS_MOST];
  X509 *leaf;
  STACK_OF(X509) * chain;
} block;

static const char *data_path(const char *name)
{
  static char paths[2][1024];
  const char *folder = getenv("MOONPOST_DATA");
  char *path = paths[strstr(name, ".pem") != NULL];
#ifdef MOONPOST_SOURCE_DIR
  snprintf(path, sizeof paths[0], "%s/%s", folder ? folder : MOONPOST_SOURCE_DIR "/../shared/data", name);
#else
  snprintf(path, sizeof paths[0], "%s/%s", folder ? folder : "../shared/data", name);
#endif
  return path;
}

/* The next line that says something. */
static bool next_line(FILE *in, char *line)
{
  while (fgets(line, LINE_MOST, in)) {
    if (line[0] != '#' && line[strspn(line, " \t\r\n")] != '\0')
      return true;
  }
  return false;
}

static bool read_record(FILE *in, record *r)
{
  char line[LINE_MOST];
  int usage, selector, mtype, at = 0;
  if (!next_line(in, line) || sscanf(line, "%d %d %d %n", &usage, &selector, &mtype, &at) != 3)
    return false;
  *r = (record){ .tlsa = { (uint8_t)usage, (uint8_t)selector, (uint8_t)mtype, MP_STR_NULL } };
  unsigned octet;
  size_t n = 0;
  for (const char *p = line + at; n < sizeof r->octets && sscanf(p, "%2x", &octet) == 1; p += 2)
    r->octets[n++] = (unsigned char)octet;
  r->tlsa.data.len = n;
  return true;
}

static bool read_block(FILE *in, block *b)
{
  char line[LINE_MOST];
  *b = (block){ .chain = NULL };
  if (!next_line(in, line))
    return false;
  bool ok =
      sscanf(line, "%d %d %d %d %d", &b->tlsa_count, &b->cert_count, &b->no_names, &b->error, &b->depth) == 5 &&
      b->tlsa_count <= RECORDS_MOST && (b->chain = sk_X509_new_null());
  for (int i = 0; ok && i < b->tlsa_count; i++)
    ok = read_record(in, &b->records[i]);
  for (int i = 0; ok && i < b->cert_count; i++) {
    X509 *cert = PEM_read_X509(in, NULL, NULL, NULL);
    ok = cert && sk_X509_push(b->chain, cert) > 0;
    if (i == 0)
      b->leaf = cert;
  }
  return ok || check_fail(__FILE__, __LINE__, "not a block: %s", line);
}

/* What the handshake would do, without one: nobody has the keys of these certificates. Returns the code, and the depth of the match. */
static int verify(mp_tls_client_config *config, mp_tls *tls, const block *b, int *depth)
{
  X509_STORE_CTX *store = X509_STORE_CTX_new();
  X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(config->ctx), b->leaf, b->chain);
  X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), tls->ssl);
  X509_STORE_CTX_set_default(store, "ssl_server");
  X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(store), SSL_get0_param(tls->ssl));
  X509_STORE_CTX_set0_dane(store, SSL_get0_dane(tls->ssl));
  int ok = mp_tls_client_verify(store, NULL);
  int code = X509_STORE_CTX_get_error(store);
  CHECK_EQ_INT(ok == 1, code == X509_V_OK);
  CHECK_EQ_INT(tls->client->verdict.verified, code == X509_V_OK);
  *depth = SSL_get0_dane_authority(tls->ssl, NULL, NULL);
  X509_STORE_CTX_free(store);
  return code;
}

/* Counts those that were verified. */
static bool judge(mp_tls_client_config *config, block *b, int *verified)
{
  const mp_str base = MP_STR("example.com");
  mp_tls_tlsa tlsa[RECORDS_MOST];
  for (int i = 0; i < b->tlsa_count; i++)
    tlsa[i] = settle(&b->records[i]);
  size_t count = (size_t)b->tlsa_count, usable = mp_tls_dane_usable(tlsa, count);
  mp_tls_target target = {
    .sni = base, .trust = MP_TLS_TRUST_DANE, .names = &base, .name_count = 1, .tlsa = tlsa, .tlsa_count = count
  };
  mp_tls *tls;
  int rc = mp_tls_connect(&tls, config, NULL, &target);
  if (usable == 0) { /* usages 0 and 1 are of no use to SMTP (RFC 7672 section 3.1.3) */
    bool pkix = true;
    for (int i = 0; i < b->tlsa_count; i++)
      pkix &= tlsa[i].usage < 2;
    return CHECK(pkix) && CHECK_EQ_INT(rc, MP_E_INVALID);
  }
  if (!CHECK_EQ_INT(rc, 0))
    return false;
  int depth, code = verify(config, tls, b, &depth);
  ++*verified;
  bool ignored = tlsa[0].usage == 3 && b->error == X509_V_ERR_HOSTNAME_MISMATCH; /* RFC 7672 section 3.1.1 */
  bool judged = CHECK_EQ_INT(code, ignored ? X509_V_OK : b->error);
  bool ok = CHECK_EQ_INT(depth, b->depth) && judged;
  mp_tls_free(tls);
  ERR_clear_error();
  return ok;
}

TEST(the_chains_of_openssls_own_test)
{
  char why[200];
  mp_tls_client_config *config;
  FILE *in = fopen(data_path("dane-openssl/danetest.in"), "r");
  if (!in) {
    printf("skipped: no %s\n", data_path("dane-openssl/danetest.in"));
    return;
  }
  if (CHECK_EQ_INT(mp_tls_client_config_new(
                       &config, &(mp_tls_client_opts){ .ca = data_path("dane-openssl/danetest.pem") }, why,
                       sizeof why),
                   0)) {
    block b;
    int blocks = 0, verified = 0;
    for (bool more = true; more; blocks += more) {
      more = read_block(in, &b);
      if (more && !judge(config, &b, &verified))
        FAIL("in block %d: expected %d at %d", blocks + 1, b.error, b.depth);
      sk_X509_pop_free(b.chain, X509_free);
    }
    CHECK_EQ_INT(blocks, 54);
    CHECK_EQ_INT(verified, 34); /* the rest has PKIX usages alone */
    mp_tls_client_config_unref(config);
  }
  fclose(in);
}

CHECK_MAIN
