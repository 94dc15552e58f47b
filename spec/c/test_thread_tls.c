/* Two threads accept on one configuration, while a third reloads and drops it. To be run under the thread sanitizer. */
#include "support/tls_peer.h"

#include <pthread.h>

enum { THREADS = 2, ROUNDS = 30 };

static mp_tls_config *shared; /* each thread has its own reference */

static void *accept_and_talk(void *arg)
{
  mp_tls_config *config = arg;
  SSL_SESSION *session = NULL;
  int resumed = 0;
  for (int i = 0; i < ROUNDS; i++) {
    mp_tls *tls;
    peer client;
    mp_tls_info info;
    char heard[8];
    int version = i / 2 % 2 ? TLS1_2_VERSION : TLS1_3_VERSION; /* two of each in a row: the second resumes */
    peer_init(&client, (peer_opts){ .max = version, .sni = "two.example" });
    if (session && SSL_SESSION_get_protocol_version(session) == version)
      SSL_set_session(client.ssl, session);
    if (!CHECK(mp_tls_accept(&tls, config, NULL) == 0))
      break;
    if (CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1)) {
      mp_tls_info_get(tls, &info);
      resumed += info.resumed;
      CHECK_EQ_INT(mp_tls_write(tls, "250 ok\r\n", 8), 0);
      peer_receive(&client, tls);
      CHECK_EQ_INT(SSL_read(client.ssl, heard, sizeof heard), 8);
    }
    if (client.ticket) {
      SSL_SESSION_free(session);
      session = client.ticket;
      client.ticket = NULL;
    }
    mp_tls_free(tls);
    peer_dispose(&client);
    /* Each session takes and leaves a reference beside the thread's own. */
    mp_tls_config_unref(mp_tls_config_ref(config));
  }
  CHECK_EQ_INT(resumed, ROUNDS / 2);
  SSL_SESSION_free(session);
  mp_tls_config_unref(config);
  return NULL;
}

TEST(one_configuration_serves_two_threads)
{
  mp_tls_cert certs[] = {
    peer_pair("one", &(peer_cert){ .cn = "one.example" }),
    peer_pair("two", &(peer_cert){ .cn = "two.example" }),
  };
  shared = peer_config((mp_tls_opts){ .certs = certs, .cert_count = 2 });
  REQUIRE(shared);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    REQUIRE(pthread_create(&threads[i], NULL, accept_and_talk, mp_tls_config_ref(shared)) == 0);
  /* A reload on the way: the new one shares the ticket keys with the one in use, and the old one loses its owner. */
  mp_tls_config *next = peer_config((mp_tls_opts){ .certs = certs, .cert_count = 2 });
  REQUIRE(next);
  mp_tls_config_inherit(next, shared);
  mp_tls_config_unref(shared);
  accept_and_talk(next);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
}

CHECK_MAIN
