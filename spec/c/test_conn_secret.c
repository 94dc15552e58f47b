/* What is left of a password in the buffers that it went through. */
#include "support/tls_talk.h"

#define SECRET "AGFsaWNlAHNlY3JldA==" /* of PLAIN: alice, "secret" */

static bool holds(const char *octets, size_t len, const char *what)
{
  return memmem(octets, len, what, strlen(what)) != NULL;
}

TEST(the_buffer_of_plaintext_is_wiped_after_auth)
{
  static const char *const ways[] = { "AUTH PLAIN " SECRET "\r\n", "AUTH PLAIN\r\n" };
  for (size_t i = 0; i < 2; i++) {
    pump p;
    mp_server_opts opts;
    mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
    opts.mechanisms = 1u << MP_MECH_PLAIN;
    REQUIRE(pump_open(&p, NULL));
    p.service->tls = peer_config((mp_tls_opts){ 0 });
    REQUIRE(mp_service_port(p.service, "smtps", &opts, MP_TLS_IMPLICIT, &p.port) == 0);
    p.service->hooks = 1u << MP_EV_CREDENTIALS;
    p.answers[MP_EV_CREDENTIALS] =
        (mp_answer){ .kind = MP_ANSWER_CREDENTIALS, .credentials = { .password = MP_STR("secret") } };
    peer client;
    peer_init(&client, (peer_opts){ 0 });
    mp_stream *s = pump_connect(&p, 1);
    REQUIRE(s);
    SSL_do_handshake(client.ssl);
    carry(&p, &client, s);
    say(&p, &client, s, "EHLO a.example\r\n");
    CHECK(holds(p.worker->plain, MP_WORKER_PLAIN, "EHLO a.example"));
    heard(&client);
    say(&p, &client, s, ways[i]);
    if (i == 1) {
      HEAR(&client, "334 \r\n");
      say(&p, &client, s, SECRET "\r\n");
    }
    HEAR(&client, "235 2.7.0 Authentication successful\r\n");
    CHECK(!holds(p.worker->plain, MP_WORKER_PLAIN, SECRET));
    CHECK(!holds(p.worker->plain, MP_WORKER_PLAIN, "AGFs"));
    mp_stream_release(s);
    peer_dispose(&client);
    pump_close(&p);
  }
}

CHECK_MAIN
