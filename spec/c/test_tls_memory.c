/* What an idle session holds, in octets of heap: the larger part of what an idle connection under TLS costs. */
#include "support/tls_peer.h"

#include <malloc.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEAP_IS_COUNTED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEAP_IS_COUNTED 0
#else
#define HEAP_IS_COUNTED 1
#endif
#else
#define HEAP_IS_COUNTED 1
#endif

enum { SESSIONS = 200, MOST = 17 * 1024 };

TEST(an_idle_session_holds_little)
{
  static mp_tls *sessions[SESSIONS];
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_pool pool;
  mp_pool_init(&pool, 4096, 4);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    size_t before = 0;
    for (int i = -10; i < SESSIONS; i++) { /* the first ten fill OpenSSL's own caches */
      mp_tls *tls;
      peer client;
      mp_tls_info info;
      char line[16];
      if (i == 0)
        before = mallinfo2().uordblks;
      peer_init(&client, (peer_opts){ .sni = "mx.example.org", .max = version });
      REQUIRE(mp_tls_accept(&tls, config, &pool) == 0);
      CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1);
      SSL_write(client.ssl, "EHLO a\r\n", 8);
      CHECK_EQ_INT(peer_read(&client, tls, line, sizeof line), 8);
      mp_tls_info_get(tls, &info);
      CHECK_EQ_INT(mp_tls_write(tls, "250 ok\r\n", 8), 0);
      peer_receive(&client, tls);
      peer_dispose(&client);
      if (i < 0)
        mp_tls_free(tls);
      else
        sessions[i] = tls;
    }
    size_t each = (mallinfo2().uordblks - before) / SESSIONS;
    if (HEAP_IS_COUNTED && !CHECK(each <= MOST))
      FAIL("%zu octets a session", each);
    for (int i = 0; i < SESSIONS; i++)
      mp_tls_free(sessions[i]);
  }
  mp_pool_dispose(&pool);
  mp_tls_config_unref(config);
}

CHECK_MAIN
