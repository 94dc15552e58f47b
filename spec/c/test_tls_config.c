/* Loading: what is wrong is told with the file and the reason. */
#include "support/tls_peer.h"

static char why[256];

/* Tries a configuration and gives it back at once; the return and `why` are what counts. */
static int try_opts(const mp_tls_opts *opts)
{
  mp_tls_config *config = NULL;
  int rc = mp_tls_config_new(&config, opts, why, sizeof why);
  CHECK((rc == 0) == (config != NULL));
  mp_tls_config_unref(config);
  CHECK_EQ_INT(ERR_peek_error(), 0);
  return rc;
}

static int try_pair(const char *certificate, const char *key)
{
  mp_tls_cert cert = { .certificate = certificate, .key = key };
  return try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1 });
}

/* `why` is `fmt` with the two paths put in. */
static void check_why(const char *fmt_a, const char *path_a, const char *fmt_b, const char *path_b,
                      const char *fmt_c)
{
  char want[400];
  snprintf(want, sizeof want, "%s%s%s%s%s", fmt_a, path_a, fmt_b, path_b, fmt_c);
  CHECK_EQ_STR(mp_str_c(why), mp_str_c(want));
}

TEST(a_good_pair_has_nothing_to_say)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org", .san = "DNS:mx.example.org" });
  CHECK_EQ_INT(try_pair(cert.certificate, cert.key), 0);
  CHECK_CSTR(why, "");
}

TEST(certificate_and_key_may_be_in_one_file)
{
  peer_id id = peer_make(&(peer_cert){ .cn = "mx.example.org" });
  CHECK_EQ_INT(try_pair(peer_pem("both.pem", id.cert, id.key), NULL), 0);
  CHECK_CSTR(why, "");
  peer_id_free(&id);
}

TEST(a_missing_file)
{
  const char *path = peer_path("nowhere.pem");
  CHECK_EQ_INT(try_pair(path, NULL), MP_E_NOTFOUND);
  check_why("", path, ": no such file or directory", "", "");
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  CHECK_EQ_INT(try_pair(cert.certificate, path), MP_E_NOTFOUND);
  check_why("", path, ": no such file or directory", "", "");
}

TEST(an_unreadable_file)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  const char *folder = peer_path("folder");
  mkdir(folder, 0700);
  CHECK_EQ_INT(try_pair(folder, cert.key), MP_E_SYSTEM);
  check_why("", folder, ": is a directory", "", "");
  if (geteuid() != 0) { /* root reads everything */
    chmod(cert.key, 0);
    CHECK_EQ_INT(try_pair(cert.certificate, cert.key), MP_E_DENIED);
    check_why("", cert.key, ": permission denied", "", "");
    chmod(cert.key, 0600);
  }
}

TEST(what_is_not_pem)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  const char *der = peer_file("der.pem", "\x30\x82\x01\x00\x00", 5), *empty = peer_file("empty.pem", "", 0);
  CHECK_EQ_INT(try_pair(der, cert.key), MP_E_TLS);
  check_why("", der, " is not PEM", "", "");
  CHECK_EQ_INT(try_pair(cert.certificate, der), MP_E_TLS);
  check_why("", der, " is not PEM", "", "");
  CHECK_EQ_INT(try_pair(empty, cert.key), MP_E_TLS);
  check_why("", empty, " is empty", "", "");
  CHECK_EQ_INT(try_pair(cert.certificate, empty), MP_E_TLS);
  check_why("", empty, " is empty", "", "");
}

TEST(the_wrong_kind_of_pem)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  CHECK_EQ_INT(try_pair(cert.key, cert.key), MP_E_TLS);
  check_why("no certificate in ", cert.key, "", "", "");
  CHECK_EQ_INT(try_pair(cert.certificate, cert.certificate), MP_E_TLS);
  check_why("no private key in ", cert.certificate, "", "", "");
  CHECK_EQ_INT(try_pair(cert.certificate, NULL), MP_E_TLS);
  check_why("no private key in ", cert.certificate, "", "", "");
}

TEST(a_damaged_certificate_and_a_damaged_key)
{
  static const char bad_cert[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  static const char bad_key[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  const char *path = peer_file("damaged.pem", bad_cert, sizeof bad_cert - 1);
  CHECK_EQ_INT(try_pair(path, cert.key), MP_E_TLS);
  CHECK(strstr(why, path) && strstr(why, ": certificate 1 is damaged ("));
  path = peer_file("damaged.key", bad_key, sizeof bad_key - 1);
  CHECK_EQ_INT(try_pair(cert.certificate, path), MP_E_TLS);
  CHECK(strstr(why, path) && strstr(why, ": the key is damaged ("));
}

TEST(a_key_of_another_certificate)
{
  mp_tls_cert a = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  mp_tls_cert b = peer_pair("other", &(peer_cert){ .cn = "mx.example.org" });
  mp_tls_cert rsa = peer_pair("rsa", &(peer_cert){ .cn = "mx.example.org", .rsa = true });
  CHECK_EQ_INT(try_pair(a.certificate, b.key), MP_E_TLS);
  check_why("", b.key, " does not belong to ", a.certificate, "");
  CHECK_EQ_INT(try_pair(a.certificate, rsa.key), MP_E_TLS);
  check_why("", rsa.key, " does not belong to ", a.certificate, "");
}

TEST(an_encrypted_key)
{
  peer_id id = peer_make(&(peer_cert){ .cn = "mx.example.org" });
  const char *certificate = peer_pem("locked.pem", id.cert, NULL), *key = peer_path("locked.key");
  FILE *file = fopen(key, "w");
  REQUIRE(file && PEM_write_PKCS8PrivateKey(file, id.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL) == 1);
  fclose(file);
  CHECK_EQ_INT(try_pair(certificate, key), MP_E_TLS);
  check_why("the key in ", key, " is encrypted; a key without a passphrase is needed", "", "");
  file = fopen(key, "w"); /* the older form, with its headers */
  REQUIRE(file && PEM_write_PrivateKey_ex(file, id.key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6,
                                          NULL, NULL, NULL, NULL) == 1);
  fclose(file);
  CHECK_EQ_INT(try_pair(certificate, key), MP_E_TLS);
  check_why("the key in ", key, " is encrypted; a key without a passphrase is needed", "", "");
  peer_id_free(&id);
}

TEST(dates_are_warnings)
{
  mp_tls_cert old = peer_pair("old", &(peer_cert){ .cn = "mx.example.org", .from_days = -40, .days = 30 });
  mp_tls_cert young = peer_pair("young", &(peer_cert){ .cn = "mx.example.org", .from_days = 10 });
  time_t then = time(NULL) - 10 * 86400 - 3600;
  char date[32];
  strftime(date, sizeof date, "%Y-%m-%d", gmtime(&then));
  CHECK_EQ_INT(try_pair(old.certificate, old.key), 0);
  check_why("", old.certificate, " expired ", date, "");
  CHECK_EQ_INT(try_pair(young.certificate, young.key), 0);
  CHECK(strstr(why, young.certificate) && strstr(why, " is not valid before 20"));
}

TEST(the_first_warning_stays_and_an_error_replaces_it)
{
  mp_tls_cert certs[] = {
    peer_pair("old", &(peer_cert){ .cn = "a.example.org", .from_days = -40, .days = 30 }),
    peer_pair("older", &(peer_cert){ .cn = "b.example.org", .from_days = -80, .days = 30 }),
    { .certificate = peer_path("nowhere.pem") },
  };
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = certs, .cert_count = 2 }), 0);
  CHECK(strstr(why, "old.pem expired ") != NULL);
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = certs, .cert_count = 3 }), MP_E_NOTFOUND);
  check_why("", certs[2].certificate, ": no such file or directory", "", "");
}

TEST(options_that_cannot_be)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  const char *nowhere = peer_path("nowhere.pem");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ 0 }), MP_E_INVALID);
  CHECK_CSTR(why, "no certificate is given");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1, .min_version = 0x300 }), MP_E_INVALID);
  CHECK_CSTR(why, "0x0300 is not a TLS version");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1, .ciphers = "ROT13" }), MP_E_TLS);
  CHECK_CSTR(why, "ciphers \"ROT13\": no cipher match");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1, .ciphersuites = "ROT13" }), MP_E_TLS);
  CHECK_CSTR(why, "ciphersuites \"ROT13\": no cipher match");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1, .client = MP_TLS_VERIFY_ASK }),
               MP_E_INVALID);
  CHECK_CSTR(why, "client certificates are asked for, but there is no client_ca to check them with");
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){
                   .certs = &cert, .cert_count = 1, .client = MP_TLS_VERIFY_REQUIRE, .client_ca = nowhere }),
               MP_E_NOTFOUND);
  check_why("", nowhere, ": no such file or directory", "", "");
  cert.name = "no host";
  CHECK_EQ_INT(try_opts(&(mp_tls_opts){ .certs = &cert, .cert_count = 1 }), MP_E_INVALID);
  CHECK_CSTR(why, "\"no host\" is not a host name");
}

TEST(a_folder_of_cas)
{
  mp_tls_cert cert = peer_pair("good", &(peer_cert){ .cn = "mx.example.org" });
  const char *folder = peer_path("cas");
  mp_tls_opts opts = { .certs = &cert, .cert_count = 1, .client = MP_TLS_VERIFY_ASK, .client_ca = folder };
  mkdir(folder, 0700);
  CHECK_EQ_INT(try_opts(&opts), MP_E_TLS);
  check_why("no certificate in the folder ", folder, "", "", "");
  peer_id ca = peer_make(&(peer_cert){ .cn = "CA", .ca = true });
  peer_pem("cas/one.pem", ca.cert, NULL);
  peer_pem("cas/twice.pem", ca.cert, NULL); /* as c_rehash's links make it */
  peer_file("cas/README", "one CA\n", 7);
  CHECK_EQ_INT(try_opts(&opts), 0);
  CHECK_CSTR(why, "");
  peer_id_free(&ca);
}

TEST(a_file_name_cannot_break_the_line)
{
  CHECK_EQ_INT(try_pair("/nowhere/a\nb\x1b[1m.pem", NULL), MP_E_NOTFOUND);
  CHECK_CSTR(why, "/nowhere/a\\x0ab\\x1b[1m.pem: no such file or directory");
  mp_tls_config *config;
  mp_tls_cert cert = { .certificate = "/nowhere" };
  char tiny[8];
  CHECK_EQ_INT(mp_tls_config_new(&config, &(mp_tls_opts){ .certs = &cert, .cert_count = 1 }, tiny, sizeof tiny),
               MP_E_NOTFOUND);
  CHECK_CSTR(tiny, "/nowher");
  CHECK_EQ_INT(mp_tls_config_new(&config, &(mp_tls_opts){ .certs = &cert, .cert_count = 1 }, NULL, 0),
               MP_E_NOTFOUND);
}

/* Returns the version that a client limited to `max` ends up with, or 0. */
static int version_with(mp_tls_config *config, peer_opts opts, char cipher[64])
{
  peer client;
  mp_tls *tls = NULL;
  int version = 0;
  peer_init(&client, opts);
  if (CHECK(mp_tls_accept(&tls, config, NULL) == 0) && peer_handshake(&client, tls, 65536) == 1) {
    version = SSL_version(client.ssl);
    snprintf(cipher, 64, "%s", SSL_get_cipher_name(client.ssl));
  }
  mp_tls_free(tls);
  peer_dispose(&client);
  return version;
}

TEST(the_least_version)
{
  static const struct {
    int least, client, want;
  } rows[] = {
    { 0, TLS1_1_VERSION, 0 },
    { 0, TLS1_2_VERSION, TLS1_2_VERSION },
    { 0, TLS1_3_VERSION, TLS1_3_VERSION },
    { TLS1_3_VERSION, TLS1_2_VERSION, 0 },
    { TLS1_3_VERSION, TLS1_3_VERSION, TLS1_3_VERSION },
    { TLS1_VERSION, TLS1_VERSION, TLS1_VERSION },
    { TLS1_VERSION, TLS1_3_VERSION, TLS1_3_VERSION },
    { TLS1_1_VERSION, TLS1_1_VERSION, TLS1_1_VERSION },
  };
  char cipher[64];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_tls_config *config = peer_config((mp_tls_opts){ .min_version = rows[i].least });
    CHECK_EQ_INT(version_with(config, (peer_opts){ .min = rows[i].client, .max = rows[i].client }, cipher),
                 rows[i].want);
    mp_tls_config_unref(config);
  }
}

TEST(default_ciphers_are_forward_secret_and_aead_comes_first)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  char cipher[64];
  CHECK_EQ_INT(version_with(config,
                            (peer_opts){ .max = TLS1_2_VERSION, .ciphers = "AES256-GCM-SHA384:AES128-SHA" },
                            cipher),
               0);
  CHECK_EQ_INT(version_with(config,
                            (peer_opts){ .max = TLS1_2_VERSION,
                                         .ciphers = "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256" },
                            cipher),
               TLS1_2_VERSION);
  CHECK_CSTR(cipher, "ECDHE-ECDSA-AES128-GCM-SHA256"); /* ours decides, not the client's order */
  mp_tls_config_unref(config);
  config = peer_config(
      (mp_tls_opts){ .ciphers = "ECDHE-ECDSA-AES128-SHA", .ciphersuites = "TLS_AES_128_GCM_SHA256" });
  CHECK_EQ_INT(version_with(config, (peer_opts){ .max = TLS1_2_VERSION }, cipher), TLS1_2_VERSION);
  CHECK_CSTR(cipher, "ECDHE-ECDSA-AES128-SHA");
  CHECK_EQ_INT(version_with(config, (peer_opts){ .max = TLS1_3_VERSION }, cipher), TLS1_3_VERSION);
  CHECK_CSTR(cipher, "TLS_AES_128_GCM_SHA256");
  mp_tls_config_unref(config);
}

TEST(an_open_session_outlives_its_configuration)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  peer client;
  mp_tls *tls;
  char heard[8];
  peer_init(&client, (peer_opts){ 0 });
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  mp_tls_config_unref(config);
  CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1);
  CHECK_EQ_INT(mp_tls_write(tls, "still", 5), 0);
  peer_receive(&client, tls);
  CHECK_EQ_INT(SSL_read(client.ssl, heard, sizeof heard), 5);
  mp_tls_free(tls);
  peer_dispose(&client);
}

TEST(every_failing_allocation_gives_no_configuration)
{
  peer_id ca = peer_make(&(peer_cert){ .cn = "CA", .ca = true });
  mp_tls_cert certs[] = {
    peer_pair("good", &(peer_cert){ .cn = "x", .san = "DNS:a.example,DNS:*.b.example" }),
    peer_pair("rsa", &(peer_cert){ .cn = "x", .san = "DNS:a.example,DNS:*.b.example", .rsa = true }),
    peer_pair("other", &(peer_cert){ .cn = "c.example" }),
  };
  mp_tls_opts opts = { .certs = certs, .cert_count = 3, .client = MP_TLS_VERIFY_ASK };
  opts.client_ca = peer_pem("ca.pem", ca.cert, NULL);
  FOR_EACH_ALLOC_FAILURE {
    int rc = try_opts(&opts);
    if (CHECK_ALLOC_FAILED()) {
      CHECK_EQ_INT(rc, MP_E_NOMEM);
      CHECK(strstr(why, "out of memory") != NULL);
    } else {
      CHECK_EQ_INT(rc, 0);
    }
  }
  peer_id_free(&ca);
}

CHECK_MAIN
