/* The pump of an outgoing connection, against a server of ours and against servers that no one would want. */
#include "support/link_rig.h"

#include "support/message.h"

#define MX      "220 mx\r\n"
#define HELLO   "250 mx\r\n"
#define SUBJECT "Subject: x\r\n\r\n"

static mp_tls_config *server_tls;
static mp_tls_client_config *client_tls;

static bool tls_made(void)
{
  char why[200];
  if (!server_tls)
    server_tls = peer_config((mp_tls_opts){ 0 });
  if (!client_tls && mp_tls_client_config_new(&client_tls, &(mp_tls_client_opts){ 0 }, why, sizeof why) < 0)
    FAIL("%s", why);
  return server_tls && client_tls;
}

__attribute__((destructor)) static void tls_gone(void)
{
  mp_tls_config_unref(server_tls);
  mp_tls_client_config_unref(client_tls);
}

static const struct way {
  mp_tls_mode mode;
  const char *plan, *pieces, *came;
} ways[] = {
  { MP_TLS_NONE, "hmnq", "hpnq", "greet=220+ hello=250+ send=250+ noop=250+ quit=221+ closed" },
  { MP_TLS_STARTTLS, "hshmq", "hshpq",
    "greet=220+ hello=250+ starttls=220+ hello=250+ send=250+ quit=221+ closed" },
  { MP_TLS_IMPLICIT, "hmmq", "hmpq", "greet=220+ hello=250+ send=250+ send=250+ quit=221+ closed" },
};

static bool came(const rig *r, const char *text)
{
  return r->events.len && memmem(r->events.ptr, r->events.len, text, strlen(text));
}

/* ---- conversations ------------------------------------------------------------------------------------------------- */

TEST(a_message_goes_every_way_in_every_slice)
{
  REQUIRE(tls_made());
  FOR_EACH_SLICE(slice) for (size_t i = 0; i < 3; i++)
  {
    served s;
    REQUIRE(served_open(&s, ways[i].plan, ways[i].mode, server_tls, client_tls, slice ? slice : 65536) == 0);
    served_run(&s);
    CHECK_EQ_STR(mp_str_of(s.r.events.ptr, s.r.events.len), mp_str_c(ways[i].came));
    CHECK_STR(mp_buf_view(&s.p.body), SUBJECT "hello\r\n");
    CHECK_EQ_INT(s.r.done, s.r.asked + 1);
    served_close(&s);
  }
}

TEST(a_body_comes_piece_by_piece)
{
  REQUIRE(tls_made());
  char *octets = octets_make(SUBJECT, 200000);
  const size_t sizes[] = { 333, 65536, 400000 };
  for (size_t i = 0; i < 3; i++)
    for (size_t k = 0; k < 3; k++) {
      served s;
      REQUIRE(served_open(&s, ways[i].pieces, ways[i].mode, server_tls, client_tls, 65536) == 0);
      s.r.pieces = mp_str_c(octets);
      s.r.piece = sizes[k];
      served_run(&s);
      CHECK_EQ_INT(s.r.closed, 1);
      CHECK_EQ_STR(mp_buf_view(&s.p.body), mp_str_c(octets));
      CHECK(s.r.wants >= (strlen(octets) + sizes[k] - 1) / sizes[k]);
      served_close(&s);
    }
  free(octets);
}

static mp_message *message_on(mp_worker *worker, mp_str octets)
{
  mp_sink *sink = NULL;
  mp_message *msg = NULL;
  mp_trace trace = trace_make();
  mp_envelope *env = envelope_make(1);
  int rc = env ? mp_sink_new(&sink, &worker->bodies) : MP_E_NOMEM, ready = NOT_READY;
  for (size_t at = 0; rc >= 0 && at < octets.len; at += 65536) {
    mp_sink_on_ready(sink, note_ready, &ready);
    ready = NOT_READY;
    rc = mp_sink_add(sink, mp_str_sub(octets, at, 65536));
    while (rc == 1 && ready == NOT_READY)
      mp_loop_turn(&worker->loop, false);
    if (rc == 1)
      rc = ready;
  }
  ready = NOT_READY;
  if (rc >= 0) {
    mp_sink_on_ready(sink, note_ready, &ready);
    rc = mp_sink_finish(sink);
    while (rc == 1 && ready == NOT_READY)
      mp_loop_turn(&worker->loop, false);
    mp_sink_on_ready(sink, NULL, NULL);
    rc = rc == 1 ? ready : rc;
  }
  if (rc == 0)
    mp_message_new(&msg, env, sink, &trace, 0);
  mp_sink_unref(sink);
  mp_envelope_unref(env);
  return msg;
}

TEST(a_received_message_goes_on_from_memory_and_from_a_file)
{
  REQUIRE(tls_made());
  const size_t sizes[] = { 1000, 600000 };
  for (size_t i = 0; i < 2; i++) {
    char *octets = octets_make(SUBJECT, sizes[i]);
    served s;
    REQUIRE(served_open(&s, "hmq", MP_TLS_NONE, NULL, NULL, 65536) == 0);
    mp_message *msg = message_on(s.p.worker, mp_str_c(octets));
    REQUIRE(msg);
    s.r.source = (mp_link_source){ .message = msg, .extra = MP_STR("X-Extra: yes\r\n") };
    served_run(&s);
    CHECK_EQ_INT(s.r.closed, 1);
    CHECK_EQ_INT(msg->refs, 1);
    mp_str got = mp_buf_view(&s.p.body);
    CHECK(mp_str_istarts(got, MP_STR("X-Extra: yes\r\n")));
    CHECK_EQ_STR(mp_str_sub(got, 14, got.len), mp_str_c(octets));
    mp_message_unref(msg);
    served_close(&s);
    free(octets);
  }
}

TEST(a_message_is_let_go_of_when_the_link_closes_in_its_middle)
{
  rig r;
  REQUIRE(rig_open(&r, "hm"));
  mp_message *msg = message_on(r.worker, MP_STR(SUBJECT "hello\r\n"));
  REQUIRE(msg);
  r.source = (mp_link_source){ .message = msg };
  RIG(&r, MX, "greet=220+");
  RIG(&r, HELLO, "hello=250+");
  CHECK_EQ_INT(msg->refs, 2);
  mp_link_close(r.link);
  r.link = NULL;
  rig_turn(&r);
  CHECK_EQ_INT(msg->refs, 1);
  mp_message_unref(msg);
  rig_close(&r);
}

TEST(commands_go_in_one_flight_and_are_shown)
{
  rig r;
  mp_worker *worker;
  REQUIRE(mp_worker_new(&worker, 0, NULL, true) == 0);
  rig_init(&r, worker, "hamq");
  r.opts.trace = true;
  r.login = (mp_client_login){ .user = MP_STR("me"), .password = MP_STR("secret"), .in_clear = ~0u };
  REQUIRE(rig_link(&r, NULL) == 0);
  RIG(&r, MX, "greet=220+");
  RIG(&r, "250-mx\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n", "hello=250+");
  RIG_SAID(&r, "EHLO client.example\r\nAUTH PLAIN AG1lAHNlY3JldA==\r\n");
  RIG(&r, "235 ok\r\n", "auth=235+");
  RIG_SAID(&r, "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n");
  RIG(&r, "250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n", "send!SYNTAX closed!SYNTAX"); /* ahead of its end */
  CHECK_EQ_STR(mp_str_of(r.trace.ptr, r.trace.len),
               MP_STR("<220 mx\r\n>EHLO client.example\r\n<250-mx\r\n250-PIPELINING\r\n250 AUTH PLAIN\r\n>AUTH PLAIN >***>\r\n"
                      "<235 ok\r\n>MAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"
                      "<250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"));
  rig_close(&r);
}

TEST(an_operation_waits_for_the_one_before)
{
  rig r;
  REQUIRE(rig_open(&r, ""));
  CHECK(!mp_link_idle(r.link));
  CHECK_EQ_INT(mp_link_hello(r.link), MP_E_MISUSE);
  CHECK_EQ_INT(mp_link_starttls(r.link, NULL), MP_E_MISUSE);
  RIG(&r, MX, "greet=220+");
  /* What is refused without asking the peer is over before it is told, and not before. */
  CHECK_EQ_INT(mp_link_starttls(r.link, NULL), 0); /* not announced */
  CHECK(!mp_link_idle(r.link));
  CHECK_EQ_INT(mp_link_noop(r.link), MP_E_MISUSE);
  CHECK_EQ_INT(rig_message(&r, false), MP_E_MISUSE);
  rig_turn(&r);
  CHECK_EQ_STR(mp_str_of(r.events.ptr, r.events.len), MP_STR("starttls=502l"));
  CHECK(mp_link_idle(r.link));
  rig_close(&r);
}

/* ---- the end ------------------------------------------------------------------------------------------------------- */

/* Whatever the server had said by then: every operation ends once, the link once, and nobody is called behind it. */
TEST(a_peer_may_go_at_every_octet)
{
  REQUIRE(tls_made());
  const mp_ssize ends[] = { 0, MP_E_SYSTEM };
  for (size_t i = 0; i < 3; i++)
    for (size_t k = 0; k < 2; k++)
      for (size_t cut = 1, over = 0; !over; cut += i == 0 ? 1 : 13) {
        served s;
        REQUIRE(served_open(&s, ways[i].plan, ways[i].mode, server_tls, client_tls, 65536) == 0);
        s.cut = cut;
        s.end = ends[k];
        served_run(&s);
        over = s.heard < cut;
        if (!CHECK_EQ_INT(s.r.closed, 1) || !CHECK_EQ_INT(s.r.done, s.r.asked + 1) || !CHECK(!s.r.link))
          FAIL("way %zu, cut at %zu: %.*s", i, cut, (int)s.r.events.len, s.r.events.ptr);
        CHECK(s.r.rc == 0 || s.r.rc == MP_E_EOF || s.r.rc == MP_E_TLS);
        CHECK(s.r.rc != 0 || over || came(&s.r, "quit"));
        served_close(&s);
      }
}

TEST(everything_that_is_called_may_close_leave_and_ask)
{
  REQUIRE(tls_made());
  for (size_t i = 0; i < 3; i++)
    for (int act = RIG_CLOSE; act <= RIG_ASK; act++)
      for (unsigned at = 1, calls = at; at <= calls; at++) {
        served s;
        REQUIRE(served_open(&s, ways[i].pieces, ways[i].mode, server_tls, client_tls, 65536) == 0);
        s.r.opts.trace = true;
        s.r.pieces = MP_STR(SUBJECT "hello\r\n");
        s.r.piece = 10;
        mp_link_close(s.r.link); /* once more, with the trace */
        mp_stream *first = s.r.stream;
        rig_turn(&s.r);
        mp_stream_release(first);
        if (i == 2)
          REQUIRE(rig_session(&s.r, &s.r.opts.tls) == 0);
        s.r.act_at = at;
        s.r.act = (rig_act)act;
        REQUIRE(rig_link(&s.r, NULL) == 0);
        served_run(&s);
        calls = s.r.calls;
        if (!CHECK(!s.r.link) || !CHECK_EQ_INT(s.r.closed, act == RIG_ASK || at > calls))
          FAIL("way %zu, act %d at call %u: %.*s", i, act, at, (int)s.r.events.len, s.r.events.ptr);
        served_close(&s);
      }
}

TEST(a_link_may_be_left_behind_when_the_loop_goes)
{
  REQUIRE(tls_made());
  for (size_t i = 0; i < 3; i++)
    for (unsigned turns = 0; turns < 12; turns++) {
      served s;
      REQUIRE(served_open(&s, ways[i].plan, ways[i].mode, server_tls, client_tls, 65536) == 0);
      for (unsigned k = 0; k < turns && s.r.link; k++) {
        rig_turn(&s.r);
        served_move(&s, s.r.stream, s.server, false);
        served_move(&s, s.server, s.r.stream, true);
      }
      mp_stream_release(s.r.stream);
      mp_stream_release(s.server);
      mp_service_kill(s.p.service, &pump_handler);
      mp_loop_turn(&s.p.worker->loop, false);
      mp_worker_free(s.p.worker);
      CHECK_EQ_INT(s.r.closed, 1);
      CHECK(s.r.link == NULL);
      mp_transaction_dispose(&s.r.tx);
      cwire_clear(&s.r.events);
      mp_buf_dispose(&s.p.log);
      mp_buf_dispose(&s.p.body);
    }
}

TEST(leaving_says_quit_when_nothing_is_under_way)
{
  rig r;
  REQUIRE(rig_open(&r, "h"));
  RIG(&r, MX, "greet=220+");
  RIG(&r, HELLO, "hello=250+");
  mp_stream_written(r.stream)->len = 0;
  mp_link_leave(r.link);
  r.link = NULL;
  RIG_SAID(&r, "QUIT\r\n");
  CHECK(!mp_stream_finished(r.stream));
  mp_loop_advance(&r.worker->loop, 60000); /* who does not answer is not waited for */
  CHECK(mp_stream_finished(r.stream));
  rig_close(&r);
  REQUIRE(rig_open(&r, "h"));
  RIG(&r, MX, "greet=220+");
  mp_link_leave(r.link);
  r.link = NULL;
  CHECK(mp_stream_finished(r.stream));
  rig_close(&r);
}

/* ---- time ---------------------------------------------------------------------------------------------------------- */

TEST(every_silence_ends)
{
  REQUIRE(tls_made());
  for (size_t i = 0; i < 3; i++)
    for (size_t cut = 0, over = 0; !over; cut += i == 0 ? 9 : 97) {
      served s;
      REQUIRE(served_open(&s, ways[i].plan, ways[i].mode, server_tls, client_tls, 65536) == 0);
      size_t heard = 0; /* and then nothing, with the connection open */
      for (bool moved = true; moved && s.r.link;) {
        rig_turn(&s.r);
        moved = served_move(&s, s.r.stream, s.server, false);
        mp_buf *said = mp_stream_written(s.server);
        size_t len = said->len < cut - heard ? said->len : cut - heard;
        if (len)
          mp_stream_inject(s.r.stream, mp_buf_view(said).ptr, (mp_ssize)len);
        mp_buf_consume(said, said->len);
        heard += len;
        moved |= len > 0;
      }
      over = heard < cut;
      mp_loop_advance(&s.r.worker->loop, 3600 * 1000 + 1);
      if (!CHECK_EQ_INT(s.r.closed, 1) || !CHECK_EQ_INT(s.r.done, s.r.asked + 1))
        FAIL("way %zu, silent behind %zu: %.*s", i, cut, (int)s.r.events.len, s.r.events.ptr);
      CHECK(over || s.r.rc == MP_E_TIMEOUT || came(&s.r, "quit!TIMEOUT") ||
            (s.r.rc == MP_E_TLS && strstr(s.r.why, "too long")));
      CHECK(mp_stream_finished(s.r.stream));
      served_close(&s);
    }
}

TEST(a_piece_is_given_when_it_is_wanted_and_waited_for)
{
  rig r;
  REQUIRE(rig_open(&r, "hp"));
  r.hold = true;
  RIG(&r, MX, "greet=220+");
  RIG(&r, HELLO, "hello=250+");
  RIG(&r, "250 ok\r\n", "");
  RIG(&r, "250 ok\r\n", "");
  CHECK_EQ_INT(mp_link_body(r.link, MP_STR("early"), false), MP_E_MISUSE);
  RIG(&r, "354 go\r\n", "");
  CHECK_EQ_INT(r.wants, 1);
  CHECK_EQ_INT(mp_link_body(r.link, MP_STR("one\r\n"), false), 0);
  CHECK_EQ_INT(r.wants, 2);
  static char large[(16 << 20) + 1];
  CHECK_EQ_INT(mp_link_body(r.link, mp_str_of(large, sizeof large), false), MP_E_NOMEM);
  CHECK_EQ_INT(mp_link_body(r.link, MP_STR("two\r\n"), false), 0); /* it was not taken, and another may be tried */
  CHECK_EQ_INT(r.wants, 3);
  mp_loop_advance(&r.worker->loop, 7200 * 1000); /* the peer's patience is what counts: it is our turn */
  CHECK(r.link != NULL);
  mp_stream_inject(r.stream, NULL, 0);
  CHECK_EQ_STR(mp_str_of(r.events.ptr, r.events.len), MP_STR("send!EOF closed!EOF"));
  CHECK_EQ_INT(r.rcpt.result.state, MP_RCPT_DEFERRED);
  rig_close(&r);
}

/* ---- TLS ----------------------------------------------------------------------------------------------------------- */

TEST(octets_behind_220_are_an_attack)
{
  REQUIRE(tls_made());
  FOR_EACH_SLICE(slice)
  {
    rig r;
    REQUIRE(rig_open(&r, "hsh"));
    r.config = client_tls;
    RIG(&r, MX, "greet=220+");
    RIG(&r, "250-mx\r\n250 STARTTLS\r\n", "hello=250+");
    RIG_SAID(&r, "EHLO client.example\r\nSTARTTLS\r\n");
    const char said[] = "220 go\r\n250 mx\r\n";
    rig_hear(&r, said, 8, slice ? slice : 8);
    if (slice == 0) {
      rig_close(&r);
      REQUIRE(rig_open(&r, "hsh"));
      r.config = client_tls;
      RIG(&r, MX, "greet=220+");
      RIG(&r, "250-mx\r\n250 STARTTLS\r\n", "hello=250+");
      rig_hear(&r, said, sizeof said - 1, sizeof said);
    } else {
      CHECK(r.link && !mp_link_tls(r.link));
      CHECK_EQ_INT(mp_link_noop(r.link), MP_E_MISUSE);
      rig_hear(&r, said + 8, sizeof said - 9, slice);
    }
    CHECK_EQ_STR(mp_str_of(r.events.ptr, r.events.len),
                 slice ? MP_STR("starttls!TLS closed!TLS") : MP_STR("starttls!SYNTAX closed!SYNTAX"));
    CHECK_EQ_INT(r.asked, 2);
    rig_close(&r);
  }
}

TEST(a_certificate_that_is_not_believed_ends_it_with_the_reason)
{
  REQUIRE(tls_made());
  for (size_t i = 1; i < 3; i++) {
    served s;
    mp_tls *other = NULL;
    REQUIRE(served_open(&s, "hsh", ways[i].mode, server_tls, client_tls, 65536) == 0);
    s.r.trust = MP_TLS_TRUST_NAMES;
    if (i == 2) {
      mp_link_close(s.r.link);
      rig_turn(&s.r);
      mp_stream_release(s.r.stream);
      REQUIRE(rig_session(&s.r, &other) == 0);
      s.r.opts.tls = other;
      REQUIRE(rig_link(&s.r, NULL) == 0);
    }
    served_run(&s);
    CHECK_EQ_STR(mp_str_of(s.r.events.ptr, s.r.events.len),
                 mp_str_c(i == 1 ? "greet=220+ hello=250+ starttls!CRYPTO closed!CRYPTO"
                                 : "greet!CRYPTO closed!CRYPTO"));
    CHECK_CSTR(s.r.why, "self-signed certificate");
    served_close(&s);
  }
}

/* ---- jobs ---------------------------------------------------------------------------------------------------------- */

/* Up to the point where a proof is being worked out. */
static bool upto_job(rig *r)
{
  static const char offer[] = "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n";
  char challenge[400];
  r->login = (mp_client_login){ .user = MP_STR("me"), .password = MP_STR("secret") };
  rig_hear(r, MX, sizeof MX - 1, 100);
  rig_hear(r, offer, sizeof offer - 1, 100);
  size_t len = rig_challenge(mp_buf_view(mp_stream_written(r->stream)), challenge, sizeof challenge);
  if (len)
    mp_stream_inject(r->stream, challenge, (mp_ssize)len);
  return len > 0;
}

TEST(a_proof_under_way_outlives_the_link)
{
  for (int how = 0; how < 5; how++) {
    rig r;
    REQUIRE(rig_open(&r, "ha"));
    REQUIRE(upto_job(&r));
    CHECK(r.link && !mp_link_idle(r.link));
    cwire_check(__FILE__, __LINE__, "what came", &r.events, MP_STR("greet=220+ hello=250+"));
    if (how == 0) {
      rig_turn(&r); /* it goes on */
      mp_str said = mp_buf_view(mp_stream_written(r.stream));
      CHECK(said.len > 60 && r.link);
    } else if (how == 1) {
      mp_link_close(r.link);
      r.link = NULL;
    } else if (how == 2) {
      mp_stream_inject(r.stream, NULL, 0);
      CHECK_EQ_STR(mp_str_of(r.events.ptr, r.events.len), MP_STR("auth!EOF closed!EOF"));
    } else if (how == 3) {
      mp_stream_inject(r.stream, "421 bye\r\n", 9);
      CHECK_EQ_STR(mp_str_of(r.events.ptr, r.events.len), MP_STR("auth=421 closed"));
    } else {
      mp_stream_release(r.stream);
      r.stream = NULL;
      mp_worker_free(r.worker);
      CHECK_EQ_INT(r.closed, 1);
      cwire_clear(&r.events);
      continue;
    }
    rig_close(&r);
  }
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

TEST(every_allocation_may_fail)
{
  REQUIRE(tls_made());
  for (size_t i = 0; i < 3; i++)
    FOR_EACH_ALLOC_FAILURE {
      served s;
      int rc = served_open(&s, ways[i].pieces, ways[i].mode, server_tls, client_tls, 65536);
      if (rc == 0) {
        s.r.pieces = MP_STR(SUBJECT "hello\r\n");
        served_run(&s);
        mp_loop_advance(&s.r.worker->loop, 7200 * 1000); /* a server that failed says nothing more */
        CHECK(s.r.link ? mp_link_idle(s.r.link) : s.r.closed == 1); /* an operation may have been refused */
        CHECK_EQ_INT(s.r.done, s.r.asked + 1);
        CHECK(CHECK_ALLOC_FAILED() || (s.r.closed == 1 && s.r.rc == 0));
      }
      served_close(&s);
    }
}

CHECK_MAIN
