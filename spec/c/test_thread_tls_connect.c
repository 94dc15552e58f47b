/* Threads connect with one configuration and share its sessions. To be run under the thread sanitizer. */
#include "support/tls_duet.h"

#include <pthread.h>

enum { THREADS = 3, ROUNDS = 30 };

static mp_tls_config *server;
static mp_tls_client_config *client;
static atomic_int resumed;

static void *visit(void *arg)
{
  static const char *const keys[] = { "a", "b", "c" }; /* one more than there is room for */
  mp_str names[] = { { "mx.example.net", 14 } };
  mp_tls_target target = { .sni = names[0], .trust = MP_TLS_TRUST_NAMES, .names = names, .name_count = 1 };
  (void)arg;
  for (int i = 0; i < ROUNDS; i++) {
    duet d;
    target.session_key = mp_str_c(keys[i / 3 % 3]);
    if (!CHECK_EQ_INT(duet_meet(&d, server, client, &target), 0))
      return NULL;
    CHECK(d.facts.verified);
    CHECK_STR(d.facts.how, "names");
    atomic_fetch_add(&resumed, d.info.resumed);
    duet_say(&d.server, &d.client, "220 mx.example.net\r\n");
    duet_part(&d);
    mp_tls_client_config_unref(mp_tls_client_config_ref(client));
  }
  return NULL;
}

TEST(one_configuration_serves_threads)
{
  char why[200];
  peer_id root = peer_make(&(peer_cert){ .cn = "Example Root", .ca = true });
  mp_tls_cert cert =
      peer_pair("server", &(peer_cert){ .cn = "x", .san = "DNS:mx.example.net", .issuer = &root });
  mp_tls_client_opts opts = { .ca = peer_pem("root.pem", root.cert, NULL), .sessions = 2 };
  server = peer_config((mp_tls_opts){ .certs = &cert, .cert_count = 1 });
  REQUIRE(mp_tls_client_config_new(&client, &opts, why, sizeof why) == 0);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, visit, NULL) == 0);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK(atomic_load(&resumed) > 0);
  mp_tls_client_config_unref(client);
  mp_tls_config_unref(server);
  peer_id_free(&root);
}

CHECK_MAIN
