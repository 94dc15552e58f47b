/* The development certificate: made once, whole, and in nobody's way. */
#include "support/tls_peer.h"

static char why[256];

static X509 *read_cert(const char *path)
{
  FILE *file = fopen(path, "r");
  X509 *cert = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
  if (file)
    fclose(file);
  return cert;
}

static unsigned mode_of(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0 ? (unsigned)(st.st_mode & 07777) : 0;
}

static int count_files(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void)path, (void)st, (void)ftw;
  return type == FTW_F ? 256 : 0; /* a leftover stops the walk */
}

TEST(it_is_made_with_its_folders_and_serves)
{
  const char *cert_path = peer_path("a/b/dev.pem"), *key_path = peer_path("a/keys/dev.key");
  mode_t mask = umask(0);
  CHECK_EQ_INT(mp_tls_selfsigned(cert_path, key_path, "mx.example.org", why, sizeof why), 1);
  umask(mask);
  CHECK_CSTR(why, "");
  CHECK_EQ_INT(mode_of(key_path), 0600);
  CHECK_EQ_INT(mode_of(cert_path), 0644);
  X509 *cert = read_cert(cert_path);
  REQUIRE(cert);
  static const char *const hosts[] = { "mx.example.org", "localhost" };
  static const char *const ips[] = { "127.0.0.1", "::1" };
  for (int i = 0; i < 2; i++) {
    CHECK_EQ_INT(X509_check_host(cert, hosts[i], 0, 0, NULL), 1);
    CHECK_EQ_INT(X509_check_ip_asc(cert, ips[i], 0), 1);
  }
  CHECK_EQ_INT(X509_check_host(cert, "other.example.org", 0, 0, NULL), 0);
  int days, seconds;
  CHECK(ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), X509_get0_notAfter(cert)));
  CHECK_EQ_INT(days, 825);
  CHECK(X509_cmp_current_time(X509_get0_notBefore(cert)) < 0);

  /* A client that trusts just this certificate is content. */
  mp_tls_cert pair = { .certificate = cert_path, .key = key_path };
  mp_tls_config *config = peer_config((mp_tls_opts){ .certs = &pair, .cert_count = 1 });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ .sni = "mx.example.org" });
  X509_STORE_add_cert(SSL_CTX_get_cert_store(client.ctx), cert);
  SSL_set_verify(client.ssl, SSL_VERIFY_PEER, NULL);
  SSL_set1_host(client.ssl, "mx.example.org");
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1);
  mp_tls_free(tls);
  peer_dispose(&client);
  mp_tls_config_unref(config);
  X509_free(cert);
}

TEST(the_second_run_does_nothing)
{
  const char *cert_path = peer_path("twice.pem"), *key_path = peer_path("twice.key");
  CHECK_EQ_INT(mp_tls_selfsigned(cert_path, key_path, NULL, why, sizeof why), 1);
  X509 *first = read_cert(cert_path);
  CHECK_EQ_INT(mp_tls_selfsigned(cert_path, key_path, "other.example", why, sizeof why), 0);
  X509 *second = read_cert(cert_path);
  REQUIRE(first && second);
  CHECK_EQ_INT(X509_cmp(first, second), 0);
  X509_free(first);
  X509_free(second);
}

TEST(a_key_that_is_there_is_used_and_a_certificate_alone_is_left_alone)
{
  const char *cert_path = peer_path("half.pem"), *key_path = peer_path("half.key");
  mp_tls_cert pair = { .certificate = cert_path, .key = key_path };
  peer_id id = peer_make(&(peer_cert){ .cn = "x", .rsa = true });
  peer_pem("half.key", NULL, id.key);
  CHECK_EQ_INT(mp_tls_selfsigned(cert_path, key_path, "mx.example.org", why, sizeof why), 1);
  X509 *cert = read_cert(cert_path);
  REQUIRE(cert);
  CHECK_EQ_INT(X509_check_private_key(cert, id.key), 1);
  X509_free(cert);
  mp_tls_config_unref(peer_config((mp_tls_opts){ .certs = &pair, .cert_count = 1 }));
  peer_id_free(&id);

  unlink(key_path);
  CHECK_EQ_INT(mp_tls_selfsigned(cert_path, key_path, "mx.example.org", why, sizeof why), MP_E_EXISTS);
  CHECK(strstr(why, "half.pem is there, but its key ") != NULL);
  CHECK_EQ_INT(access(key_path, F_OK), -1);
}

TEST(names_of_all_kinds)
{
  char longest[200];
  memset(longest, 'a', sizeof longest);
  for (int i = 50; i < 190; i += 50)
    longest[i] = '.';
  longest[190] = '\0'; /* longer than a common name may be */
  CHECK_EQ_INT(mp_tls_selfsigned(peer_path("long.pem"), peer_path("long.key"), longest, why, sizeof why), 1);
  X509 *cert = read_cert(peer_path("long.pem"));
  REQUIRE(cert);
  CHECK_EQ_INT(X509_check_host(cert, longest, 0, 0, NULL), 1);
  X509_free(cert);
  CHECK_EQ_INT(mp_tls_selfsigned(peer_path("ip.pem"), peer_path("ip.key"), "192.0.2.7", why, sizeof why), 1);
  cert = read_cert(peer_path("ip.pem"));
  REQUIRE(cert);
  CHECK_EQ_INT(X509_check_ip_asc(cert, "192.0.2.7", 0), 1);
  X509_free(cert);
  CHECK_EQ_INT(mp_tls_selfsigned(peer_path("no.pem"), peer_path("no.key"), "a,IP:1.2.3.4", why, sizeof why),
               MP_E_INVALID);
  CHECK_CSTR(why, "\"a,IP:1.2.3.4\" is not a host name");
  CHECK_EQ_INT(mp_tls_selfsigned(peer_path("no.pem"), peer_path("no.pem"), NULL, why, sizeof why), MP_E_INVALID);
  CHECK_EQ_INT(access(peer_path("no.key"), F_OK), -1);
}

TEST(what_cannot_be_written_is_named)
{
  char path[200], want[300];
  const char *file = peer_file("file", "", 0);
  snprintf(path, sizeof path, "%s/x.pem", file);
  snprintf(want, sizeof want, "%s: not a directory", file);
  CHECK_EQ_INT(mp_tls_selfsigned(path, peer_path("x.key"), NULL, why, sizeof why), MP_E_NOTFOUND);
  CHECK_EQ_STR(mp_str_c(why), mp_str_c(want));
  CHECK_EQ_INT(access(peer_path("x.key"), F_OK), -1);
}

TEST(every_failing_allocation_leaves_no_half_file)
{
  const char *cert_path = peer_path("f/c.pem"), *key_path = peer_path("f/c.key");
  FOR_EACH_ALLOC_FAILURE {
    int rc = mp_tls_selfsigned(cert_path, key_path, "mx.example.org", why, sizeof why);
    if (rc < 0) {
      CHECK_EQ_INT(rc, MP_E_NOMEM);
      CHECK_EQ_INT(access(cert_path, F_OK), -1);
    } else {
      CHECK_EQ_INT(rc, 1);
    }
    unlink(cert_path);
    unlink(key_path);
    CHECK_EQ_INT(nftw(peer_path("f"), count_files, 4, FTW_PHYS), access(peer_path("f"), F_OK));
  }
}

CHECK_MAIN
