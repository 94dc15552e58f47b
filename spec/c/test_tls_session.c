/* One session, its client a plain OpenSSL client in memory. */
#include "support/tls_peer.h"

static char plain[70000]; /* what the server read last */

/* A session that is past its handshake, with the client that spoke it. */
typedef struct talk {
  mp_tls_config *config;
  mp_tls *tls;
  peer client;
} talk;

static bool talk_begin(talk *t, mp_tls_opts opts, peer_opts client, size_t slice)
{
  *t = (talk){ .config = peer_config(opts) };
  if (!t->config || mp_tls_accept(&t->tls, t->config, NULL) < 0)
    return false;
  peer_init(&t->client, client);
  return peer_handshake(&t->client, t->tls, slice) == 1;
}

static void talk_end(talk *t)
{
  mp_tls_free(t->tls);
  mp_tls_config_unref(t->config);
  if (t->client.ssl)
    peer_dispose(&t->client);
}

static mp_str say(talk *t, const char *text, mp_ssize *rc)
{
  SSL_write(t->client.ssl, text, (int)strlen(text));
  *rc = peer_read(&t->client, t->tls, plain, sizeof plain);
  return mp_str_of(plain, *rc > 0 ? (size_t)*rc : 0);
}

static mp_str hear(talk *t, char *out, size_t room)
{
  peer_receive(&t->client, t->tls);
  int n = SSL_read(t->client.ssl, out, (int)room);
  return mp_str_of(out, n > 0 ? (size_t)n : 0);
}

TEST(a_handshake_is_done_at_any_slice_size)
{
  static const size_t slices[] = { 1, 2, 3, 64, 1000, 65536 };
  static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
  for (size_t v = 0; v < 2; v++) {
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
      talk t;
      char heard[64];
      mp_ssize n;
      if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ .max = versions[v] }, slices[i]))) {
        CHECK(mp_tls_ready(t.tls));
        CHECK_STR(say(&t, "EHLO a.example\r\n", &n), "EHLO a.example\r\n");
        CHECK_EQ_INT(mp_tls_write(t.tls, "250 hello\r\n", 11), 0);
        CHECK_STR(hear(&t, heard, sizeof heard), "250 hello\r\n");
        CHECK_EQ_INT(mp_tls_output(t.tls).len, 0);
      }
      talk_end(&t);
    }
  }
}

TEST(plaintext_does_not_change_with_the_slices_of_its_ciphertext)
{
  static const size_t slices[] = { 1, 5, 6, 1023, 16384, 70000 };
  static char sent[50000];
  for (size_t i = 0; i < sizeof sent; i++)
    sent[i] = (char)(i * 7 + i / 251);
  for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
    talk t;
    size_t got = 0;
    if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
      SSL_write(t.client.ssl, sent, sizeof sent);
      peer_take(&t.client);
      for (size_t at = 0; at < t.client.len;) {
        size_t n = t.client.len - at < slices[i] ? t.client.len - at : slices[i];
        mp_tls_feed(t.tls, t.client.held + at, n);
        mp_ssize rc;
        while ((rc = mp_tls_read(t.tls, plain + got, 1000)) > 0)
          got += (size_t)rc;
        CHECK_EQ_INT(rc, 0);
        CHECK_EQ_INT(mp_tls_unread(t.tls), 0);
        at += n;
      }
      CHECK_EQ_STR(mp_str_of(plain, got), mp_str_of(sent, sizeof sent));
    }
    talk_end(&t);
  }
}

TEST(large_writes_arrive_whole)
{
  static char sent[200000], heard[200000];
  talk t;
  for (size_t i = 0; i < sizeof sent; i++)
    sent[i] = (char)(i * 31 + i / 509);
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    CHECK_EQ_INT(mp_tls_write(t.tls, sent, sizeof sent), 0);
    size_t got = 0;
    for (mp_str s; got < sizeof heard && (s = hear(&t, heard + got, sizeof heard - got)).len;)
      got += s.len;
    CHECK_EQ_STR(mp_str_of(heard, got), mp_str_of(sent, sizeof sent));
  }
  talk_end(&t);
}

TEST(output_has_a_ceiling_and_a_refused_write_takes_nothing)
{
  static char block[100000], heard[100000];
  talk t;
  memset(block, 'x', sizeof block);
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    int rc = 0, written = 0;
    while (written < 100 && (rc = mp_tls_write(t.tls, block, sizeof block)) == 0)
      written++;
    CHECK_EQ_INT(rc, MP_E_FULL);
    CHECK(mp_tls_output(t.tls).len <= 1 << 20);
    CHECK_EQ_INT(mp_tls_write(t.tls, block, (size_t)2 << 20), MP_E_FULL);
    size_t got = 0;
    for (mp_str s; (s = hear(&t, heard, sizeof heard)).len;)
      got += s.len;
    CHECK_EQ_INT(got, (size_t)written * sizeof block);
    CHECK_EQ_INT(mp_tls_write(t.tls, "on", 2), 0);
    CHECK_STR(hear(&t, heard, sizeof heard), "on");
  }
  talk_end(&t);
}

TEST(output_comes_from_the_pool_and_goes_back_when_drained)
{
  mp_pool pool;
  mp_pool_init(&pool, 4096, 4);
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ 0 });
  REQUIRE(mp_tls_accept(&tls, config, &pool) == 0);
  CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1);
  for (int i = 0; i < 3; i++) {
    CHECK_EQ_INT(mp_tls_write(tls, "250 ok\r\n", 8), 0);
    CHECK(mp_tls_output(tls).len > 8);
    peer_receive(&client, tls);
    CHECK_EQ_INT(mp_tls_output(tls).len, 0);
  }
  mp_tls_free(tls);
  peer_dispose(&client);
  mp_tls_config_unref(config);
  mp_pool_dispose(&pool);
}

/* Exim's CVE-2026-45185: what came behind close_notify was read as if it were plain text of the session. */
TEST(nothing_behind_close_notify_is_ever_read)
{
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    talk t;
    if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ .max = version }, 65536))) {
      static const char clear[] = "QUIT\r\n";
      SSL_write(t.client.ssl, "BDAT 9\r\nhalf", 12);
      SSL_shutdown(t.client.ssl);
      peer_take(&t.client);
      size_t whole = t.client.len + sizeof clear - 1;
      char *stream = malloc(whole);
      REQUIRE(stream);
      memcpy(stream, t.client.held, t.client.len);
      memcpy(stream + t.client.len, clear, sizeof clear - 1);
      mp_tls_feed(t.tls, stream, whole);
      CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), 12);
      CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), MP_E_EOF);
      CHECK_EQ_INT(mp_tls_unread(t.tls), 0);
      mp_tls_feed(t.tls, clear, sizeof clear - 1);
      CHECK_EQ_INT(mp_tls_unread(t.tls), 0);
      CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), MP_E_EOF);
      CHECK_EQ_INT(mp_tls_read(t.tls, plain, 1), MP_E_EOF);
      /* The other direction is still open. */
      CHECK_EQ_INT(mp_tls_write(t.tls, "221 bye\r\n", 9), 0);
      free(stream);
    }
    talk_end(&t);
  }
}

TEST(plain_text_in_the_stream_is_a_failure)
{
  talk t;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    mp_tls_feed(t.tls, "MAIL FROM:<eve@example.org>\r\n", 29);
    CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), MP_E_TLS);
    CHECK_CSTR(mp_tls_why(t.tls), "wrong version number");
    CHECK_EQ_INT(mp_tls_unread(t.tls), 0);
    CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), MP_E_TLS);
    CHECK_EQ_INT(mp_tls_write(t.tls, "x", 1), MP_E_TLS);
    CHECK_EQ_INT(mp_tls_shutdown(t.tls), MP_E_TLS);
    CHECK(mp_tls_ready(t.tls)); /* a driver that asks must not fall back to clear text */
  }
  talk_end(&t);
}

TEST(a_changed_octet_is_a_failure)
{
  talk t;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    SSL_write(t.client.ssl, "RSET\r\n", 6);
    peer_take(&t.client);
    t.client.held[t.client.len - 1] ^= 1;
    CHECK_EQ_INT(peer_read(&t.client, t.tls, plain, sizeof plain), MP_E_TLS);
    CHECK_CSTR(mp_tls_why(t.tls), "decryption failed or bad record mac");
    CHECK(mp_tls_output(t.tls).len > 0); /* the alert */
  }
  talk_end(&t);
}

TEST(plain_text_instead_of_a_handshake_is_told_from_tls)
{
  static const struct {
    const char *sent, *why;
  } rows[] = {
    { "EHLO a.example\r\n", "wrong version number" },
    { "GET / HTTP/1.1\r\n", "http request" },
  };
  for (size_t i = 0; i < 2; i++) {
    mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
    mp_tls *tls;
    REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
    CHECK_CSTR(mp_tls_why(tls), "");
    mp_tls_feed(tls, rows[i].sent, strlen(rows[i].sent));
    CHECK_EQ_INT(mp_tls_handshake(tls), MP_E_TLS);
    CHECK_EQ_STR(mp_str_c(mp_tls_why(tls)), mp_str_c(rows[i].why));
    CHECK_EQ_INT(mp_tls_handshake(tls), MP_E_TLS);
    mp_tls_free(tls);
    mp_tls_config_unref(config);
  }
}

TEST(calls_before_the_handshake_are_misuse)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_tls *tls;
  mp_tls_info info;
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  CHECK_EQ_INT(mp_tls_read(tls, plain, sizeof plain), MP_E_MISUSE);
  CHECK_EQ_INT(mp_tls_write(tls, "x", 1), MP_E_MISUSE);
  CHECK_EQ_INT(mp_tls_shutdown(tls), 0);
  CHECK_EQ_INT(mp_tls_output(tls).len, 0);
  CHECK_EQ_INT(mp_tls_handshake(tls), 0);
  mp_tls_info_get(tls, &info);
  CHECK_EQ_INT(info.version.len, 0);
  mp_tls_free(tls);
  mp_tls_free(NULL);
  mp_tls_config_unref(config);
  mp_tls_config_unref(NULL);
}

TEST(shutdown_is_heard_as_close_notify)
{
  talk t;
  char octet;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    CHECK_EQ_INT(mp_tls_write(t.tls, "!", 1), 0);
    CHECK_EQ_INT(mp_tls_shutdown(t.tls), 0);
    size_t len = mp_tls_output(t.tls).len;
    CHECK_EQ_INT(mp_tls_shutdown(t.tls), 0);
    CHECK_EQ_INT(mp_tls_output(t.tls).len, len);
    CHECK_EQ_INT(mp_tls_write(t.tls, "x", 1), MP_E_MISUSE);
    CHECK_STR(hear(&t, &octet, 1), "!");
    int rc = SSL_read(t.client.ssl, &octet, 1);
    CHECK_EQ_INT(SSL_get_error(t.client.ssl, rc), SSL_ERROR_ZERO_RETURN);
    mp_ssize n;
    CHECK_STR(say(&t, "late", &n), "late"); /* the peer's direction is its own */
  }
  talk_end(&t);
}

TEST(a_close_in_the_handshake_is_a_failure_not_an_end)
{
  static const unsigned char close_notify[] = { 21, 3, 3, 0, 2, 1, 0 };
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ .max = TLS1_2_VERSION });
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  SSL_do_handshake(client.ssl);
  peer_take(&client);
  mp_tls_feed(tls, client.held, client.len);
  CHECK_EQ_INT(mp_tls_handshake(tls), 0);
  mp_tls_feed(tls, close_notify, sizeof close_notify);
  CHECK_EQ_INT(mp_tls_handshake(tls), MP_E_TLS);
  CHECK_CSTR(mp_tls_why(tls), "the peer closed before the handshake was done");
  CHECK(!mp_tls_ready(tls));
  mp_tls_free(tls);
  mp_tls_config_unref(config);
  peer_dispose(&client);
}

TEST(renegotiation_is_refused)
{
  talk t;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ .max = TLS1_2_VERSION }, 65536))) {
    CHECK_EQ_INT(SSL_renegotiate(t.client.ssl), 1);
    SSL_do_handshake(t.client.ssl); /* a ClientHello under the session */
    CHECK_EQ_INT(peer_read(&t.client, t.tls, plain, sizeof plain), 0);
    peer_receive(&t.client, t.tls);
    CHECK(SSL_do_handshake(t.client.ssl) != 1);
    CHECK_EQ_INT(ERR_GET_REASON(ERR_peek_last_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
  }
  talk_end(&t);
}

TEST(a_stale_entry_of_the_error_queue_fools_nobody)
{
  talk t;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ 0 }, 65536))) {
    mp_tls_feed(t.tls, NULL, 0);
    ERR_raise(ERR_LIB_SSL, SSL_R_NO_SHARED_CIPHER);
    CHECK_EQ_INT(mp_tls_read(t.tls, plain, sizeof plain), 0);
    ERR_raise(ERR_LIB_SSL, SSL_R_NO_SHARED_CIPHER);
    CHECK_EQ_INT(mp_tls_write(t.tls, "x", 1), 0);
    CHECK_EQ_INT(ERR_peek_error(), 0);
  }
  talk_end(&t);
}

TEST(the_reason_is_in_words_and_the_alert_in_the_output)
{
  static const struct {
    peer_opts client;
    const char *why;
  } rows[] = {
    { { .max = TLS1_1_VERSION, .min = TLS1_VERSION }, "unsupported protocol" },
    { { .max = TLS1_2_VERSION, .ciphers = "AES128-SHA" }, "no shared cipher" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    talk t;
    CHECK(!talk_begin(&t, (mp_tls_opts){ 0 }, rows[i].client, 65536));
    CHECK_EQ_INT(mp_tls_handshake(t.tls), MP_E_TLS);
    CHECK_EQ_STR(mp_str_c(mp_tls_why(t.tls)), mp_str_c(rows[i].why));
    SSL_do_handshake(t.client.ssl);
    int reason = ERR_GET_REASON(ERR_peek_error());
    CHECK(reason == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION || reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE);
    ERR_clear_error();
    talk_end(&t);
  }
}

TEST(an_alert_of_the_peer_is_the_reason)
{
  /* A client that trusts nobody says unknown_ca when it has seen our certificate. */
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ 0 });
  SSL_set_verify(client.ssl, SSL_VERIFY_PEER, NULL);
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  CHECK_EQ_INT(peer_handshake(&client, tls, 65536), MP_E_TLS);
  CHECK_CSTR(mp_tls_why(tls), "tlsv1 alert unknown ca");
  mp_tls_free(tls);
  mp_tls_config_unref(config);
  peer_dispose(&client);
}

TEST(facts_of_the_session)
{
  talk t;
  mp_tls_info info;
  if (CHECK(talk_begin(&t, (mp_tls_opts){ 0 }, (peer_opts){ .max = TLS1_2_VERSION, .sni = "MX.example.org" },
                       65536))) {
    mp_tls_info_get(t.tls, &info);
    CHECK_STR(info.version, "TLSv1.2");
    CHECK_STR(info.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    CHECK_STR(info.sni, "MX.example.org");
    CHECK(!info.resumed && !info.peer_verified);
    CHECK_EQ_INT(info.peer_subject.len + info.peer_fingerprint.len + info.peer_name_count, 0);
  }
  talk_end(&t);
}

TEST(alpn_of_any_kind_does_not_matter)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ 0 });
  SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2\x03zzz", 7);
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1);
  mp_tls_free(tls);
  mp_tls_config_unref(config);
  peer_dispose(&client);
}

TEST(octets_behind_the_handshake_wait_for_read)
{
  /* TLS 1.2 with a client that speaks in the flight of its Finished is not possible; in TLS 1.3 it is. */
  mp_tls_config *config = peer_config((mp_tls_opts){ .no_tickets = true });
  mp_tls *tls;
  peer client;
  peer_init(&client, (peer_opts){ .max = TLS1_3_VERSION });
  REQUIRE(mp_tls_accept(&tls, config, NULL) == 0);
  SSL_do_handshake(client.ssl);
  peer_take(&client);
  mp_tls_feed(tls, client.held, client.len);
  CHECK_EQ_INT(mp_tls_handshake(tls), 0);
  peer_drop(&client, client.len);
  peer_receive(&client, tls);
  CHECK_EQ_INT(SSL_do_handshake(client.ssl), 1);
  SSL_write(client.ssl, "EHLO b\r\n", 8);
  peer_take(&client);
  mp_tls_feed(tls, client.held, client.len);
  CHECK_EQ_INT(mp_tls_handshake(tls), 1);
  CHECK(mp_tls_unread(tls) > 0);
  CHECK_EQ_INT(mp_tls_read(tls, plain, sizeof plain), 8);
  CHECK_EQ_INT(mp_tls_unread(tls), 0);
  mp_tls_free(tls);
  mp_tls_config_unref(config);
  peer_dispose(&client);
}

TEST(every_failing_allocation_ends_a_session_cleanly)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  FOR_EACH_ALLOC_FAILURE {
    mp_tls *tls = NULL;
    peer client;
    char heard[16];
    peer_init(&client, (peer_opts){ .sni = "mx.example.org" });
    int rc = mp_tls_accept(&tls, config, NULL);
    if (rc == 0)
      rc = peer_handshake(&client, tls, 65536);
    if (rc == 1) {
      mp_tls_info info;
      mp_tls_info_get(tls, &info);
      CHECK(CHECK_ALLOC_FAILED() || info.cb_exporter.len == 32);
      rc = mp_tls_write(tls, "250 ok\r\n", 8);
      if (rc == 0) {
        peer_receive(&client, tls);
        CHECK_EQ_INT(SSL_read(client.ssl, heard, sizeof heard), 8);
      }
    }
    if (CHECK_ALLOC_FAILED())
      CHECK_EQ_INT(rc, MP_E_NOMEM);
    else
      CHECK_EQ_INT(rc, 0);
    mp_tls_free(tls);
    peer_dispose(&client);
    ERR_clear_error();
  }
  mp_tls_config_unref(config);
}

CHECK_MAIN
