/* TLS by decree: what the session believes, and where it cannot be decreed. */
#include "support/pump.h"

static const mp_str names[] = { { "a.example", 9 }, { "b.example", 9 } };

static mp_tls_info facts(void)
{
  mp_tls_info info = { .version = MP_STR("TLSv1.3"),
                       .cipher = MP_STR("TLS_AES_128_GCM_SHA256"),
                       .sni = MP_STR("mx.example.org"),
                       .peer_subject = MP_STR("CN=a"),
                       .peer_verified = true,
                       .peer_names = names,
                       .peer_name_count = 2 };
  return info;
}

/* A pump whose service pretends, and a port with STARTTLS or implicit TLS. */
static bool pretending(pump *p, mp_tls_mode mode)
{
  if (!pump_open(p, NULL))
    return false;
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = true;
  p->service->pretend_tls = true;
  p->service->hooks = MP_HOOK_TLS | 1u << MP_EV_MAIL;
  p->answers[MP_EV_MAIL] = pump_pending;
  return mp_service_port(p->service, "pretend", &opts, mode, &p->port) == 0;
}

static void discard(pump *p)
{
  if (p->service)
    mp_service_kill(p->service, &pump_handler);
  if (p->worker) {
    pump_turn(p);
    mp_worker_free(p->worker);
  }
  mp_buf_dispose(&p->log);
  mp_buf_dispose(&p->body);
}

TEST(a_session_believes_the_facts_it_is_given)
{
  pump p;
  REQUIRE(pretending(&p, MP_TLS_STARTTLS));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  mp_tls_info info = facts();
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), MP_E_MISUSE);
  pump_send(&p, s, "EHLO a.example\r\nSTARTTLS\r\n");
  mp_buf *said = mp_stream_written(s);
  REQUIRE(said->len > 30);
  CHECK_STR(mp_str_sub(mp_buf_view(said), said->len - 30, 30), "220 2.0.0 Ready to start TLS\r\n");
  mp_buf_consume(said, said->len);
  pump_send(&p, s, "MAIL FROM:<plain@b.example>\r\n"); /* never heard: it stands where a handshake would */
  PUMP_SAID(s, "");
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), 0);
  PUMP_LOG(&p, "tls ");
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), MP_E_MISUSE);
  pump_send(&p, s, "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n");
  REQUIRE(p.asked);
  mp_conn_facts seen;
  mp_conn_facts_get(p.asked, &seen);
  CHECK(seen.tls && seen.tls_info.peer_verified);
  CHECK_STR(seen.tls_info.version, "TLSv1.3");
  CHECK_STR(seen.tls_info.sni, "mx.example.org");
  CHECK_EQ_INT(seen.tls_info.peer_name_count, 2);
  CHECK_STR(seen.tls_info.peer_names[1], "b.example");
  CHECK_STR(mp_str_c(seen.with), "ESMTPS");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(an_implicit_listener_greets_behind_the_decree)
{
  pump p;
  REQUIRE(pretending(&p, MP_TLS_IMPLICIT));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  PUMP_SAID(s, "");
  pump_send(&p, s, "EHLO a.example\r\n");
  PUMP_SAID(s, "");
  mp_tls_info info = facts();
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), 0);
  PUMP_SAID(s, "220 mx.example.org ESMTP moonpost\r\n");
  mp_stream_release(s);
  pump_close(&p);
}

TEST(a_service_that_does_not_pretend_cannot_be_told)
{
  pump p;
  REQUIRE(pump_open(&p, NULL));
  mp_stream *s = pump_connect(&p, 9);
  REQUIRE(s);
  mp_tls_info info = facts();
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), MP_E_MISUSE);
  mp_stream_inject(s, NULL, 0);
  pump_turn(&p);
  CHECK_EQ_INT(mp_conn_pretend_tls(p.service, s, &info), MP_E_EOF);
  mp_stream_release(s);
  pump_close(&p);
}

TEST(every_allocation_may_fail)
{
  FOR_EACH_ALLOC_FAILURE {
    pump p;
    if (!pretending(&p, MP_TLS_STARTTLS)) {
      discard(&p);
      continue;
    }
    mp_stream *s = pump_connect(&p, 9);
    if (s) {
      mp_tls_info info = facts();
      pump_send(&p, s, "EHLO a.example\r\nSTARTTLS\r\n");
      mp_conn_pretend_tls(p.service, s, &info);
      pump_send(&p, s, "EHLO a.example\r\nMAIL FROM:<a@b.example>\r\n");
      mp_stream_inject(s, NULL, 0);
      pump_turn(&p);
      mp_stream_release(s);
    }
    discard(&p);
  }
}

CHECK_MAIN
