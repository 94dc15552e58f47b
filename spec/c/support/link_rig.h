/* support/link_rig.h -- a link over a memory stream on a virtual worker, with a plan: one letter for each operation, asked for inside the `done` of the
 * one before. Its server is the test (rig_hear), or one of ours (rig_serve).
 *
 *   rig r;
 *   rig_open(&r, "hmq", NULL);                  hello, a message, quit
 *   RIG(&r, "220 mx\r\n", "greet=220+");        what is heard, and what came of it; the clock stands still
 *   rig_close(&r);
 *
 * h hello, s starttls, m message, p message in pieces, n noop, r rset, a auth, q quit. */
#ifndef MP_SPEC_LINK_RIG_H
#define MP_SPEC_LINK_RIG_H

#include "base/base64.h"
#include "conn/link.h"
#include "support/client_wire.h"
#include "support/pump.h"
#include "support/tls_peer.h"
#include "tls/client.h"

#define RIG_FN __attribute__((unused)) static

typedef enum rig_act { RIG_NOTHING, RIG_CLOSE, RIG_LEAVE, RIG_ASK } rig_act;

typedef struct rig {
  mp_worker *worker;
  mp_stream *stream; /* the link's, whose other end is ours */
  mp_link *link;     /* NULL: over */
  mp_link_opts opts;
  const char *plan;
  cwire_text events, trace;
  unsigned asked, done, wants, closed, calls;
  int rc; /* of closed */
  char why[200];
  mp_tls_client_config *config;
  mp_tls_trust trust;
  mp_transaction tx;
  mp_send_rcpt rcpt;
  mp_link_source source;
  mp_str pieces; /* of a body that is given so */
  size_t piece;
  bool hold; /* pieces are given by the test */
  mp_client_login login;
  unsigned act_at; /* which call, from 1 */
  rig_act act;
} rig;

RIG_FN void rig_event(rig *r, const char *text)
{
  if (r->events.len)
    cwire_note(&r->events, " ", 1);
  cwire_note(&r->events, text, strlen(text));
}

/* True: the link is over, or it has something to do. */
RIG_FN bool rig_acts(rig *r)
{
  if (++r->calls != r->act_at || !r->link)
    return false;
  mp_link *link = r->link;
  switch (r->act) {
  case RIG_CLOSE:
    r->link = NULL;
    mp_link_close(link);
    return true;
  case RIG_LEAVE:
    r->link = NULL;
    mp_link_leave(link);
    return true;
  case RIG_ASK: {
    bool idle = mp_link_idle(link), begun = mp_link_noop(link) == 0;
    CHECK(idle == begun);
    r->asked += begun;
    return begun;
  }
  case RIG_NOTHING:
    break;
  }
  return false;
}

RIG_FN int rig_session(rig *r, mp_tls **tls)
{
  static const mp_str name = { "mx.example.org", 14 };
  mp_tls_target target = { .sni = name, .trust = r->trust, .names = &name, .name_count = 1 };
  return mp_tls_connect(tls, r->config, &r->worker->cipher_blocks, &target);
}

RIG_FN int rig_message(rig *r, bool pieces)
{
  mp_transaction_dispose(&r->tx);
  mp_transaction_init(&r->tx, NULL);
  r->rcpt = (mp_send_rcpt){ .address = MP_STR("x@example.org") };
  r->tx.sender = MP_STR("a@b.example");
  r->tx.rcpts = &r->rcpt;
  r->tx.count = 1;
  mp_link_source none = { 0 };
  return mp_link_send(r->link, &r->tx, pieces ? &none : &r->source, true);
}

/* The next of the plan. */
RIG_FN void rig_next(rig *r)
{
  if (!*r->plan || !r->link)
    return;
  int rc = 0;
  mp_tls *tls = NULL;
  switch (*r->plan++) {
  case 'h':
    rc = mp_link_hello(r->link);
    break;
  case 's':
    rc = rig_session(r, &tls);
    if (rc == 0)
      rc = mp_link_starttls(r->link, tls);
    break;
  case 'm':
    rc = rig_message(r, false);
    break;
  case 'p':
    rc = rig_message(r, true);
    break;
  case 'n':
    rc = mp_link_noop(r->link);
    break;
  case 'r':
    rc = mp_link_rset(r->link);
    break;
  case 'a':
    rc = mp_link_auth(r->link, &r->login);
    break;
  case 'q':
    rc = mp_link_quit(r->link);
    break;
  default:
    FAIL("no such operation");
  }
  r->asked += rc == 0;
  if (rc < 0)
    rig_event(r, mp_error_name(rc));
}

RIG_FN void rig_on_done(void *ctx, const mp_client_result *result)
{
  rig *r = ctx;
  char text[80];
  CHECK(r->link || !r->stream); /* nobody is called who has let go */
  if (result->rc)
    snprintf(text, sizeof text, "%s!%s", mp_client_op_name(result->op), mp_error_name(result->rc));
  else
    snprintf(text, sizeof text, "%s=%d%s%s", mp_client_op_name(result->op), result->reply.code,
             result->ok ? "+" : "", result->local ? "l" : "");
  rig_event(r, text);
  r->done++;
  if (!rig_acts(r) && result->rc == 0)
    rig_next(r);
}

RIG_FN void rig_give(rig *r)
{
  mp_str piece = mp_str_sub(r->pieces, 0, r->piece);
  r->pieces = mp_str_sub(r->pieces, piece.len, r->pieces.len);
  char *copy = malloc(piece.len + 1); /* of its own: it is copied, or a sanitizer tells */
  if (piece.len)
    memcpy(copy, piece.ptr, piece.len);
  int rc = mp_link_body(r->link, mp_str_of(copy, piece.len), r->pieces.len == 0);
  free(copy);
  if (rc == MP_E_NOMEM && r->link)
    mp_link_body_failed(r->link, "no memory for a piece");
  else
    CHECK_EQ_INT(rc, 0);
}

RIG_FN void rig_on_want(void *ctx)
{
  rig *r = ctx;
  CHECK(r->link != NULL);
  r->wants++;
  if (!rig_acts(r) && !r->hold)
    rig_give(r);
}

RIG_FN void rig_on_closed(void *ctx, int rc, const char *why)
{
  rig *r = ctx;
  CHECK(r->link != NULL);
  CHECK(why && *why);
  r->closed++;
  r->rc = rc;
  snprintf(r->why, sizeof r->why, "%s", why);
  r->link = NULL;
  char text[60];
  snprintf(text, sizeof text, "closed%s%s", rc ? "!" : "", rc ? mp_error_name(rc) : "");
  rig_event(r, text);
}

RIG_FN void rig_on_trace(void *ctx, bool sent, mp_str octets, size_t body)
{
  rig *r = ctx;
  CHECK(r->link != NULL);
  char text[40];
  snprintf(text, sizeof text, "[%zu]", body);
  cwire_note(&r->trace, sent ? ">" : "<", 1);
  cwire_note(&r->trace, octets.ptr, octets.len);
  if (body)
    cwire_note(&r->trace, text, strlen(text));
  if (r->link)
    rig_acts(r);
}

static const mp_link_calls rig_calls = { rig_on_done, rig_on_want, rig_on_closed, rig_on_trace };

RIG_FN void rig_init(rig *r, mp_worker *worker, const char *plan)
{
  *r = (rig){ .worker = worker, .plan = plan, .piece = 100 };
  mp_client_opts_init(&r->opts.machine);
  r->opts.machine.hostname = MP_STR("client.example");
  mp_transaction_init(&r->tx, NULL);
  r->source = (mp_link_source){ .octets = MP_STR("Subject: x\r\n\r\nhello\r\n"), .has_octets = true };
}

/* The link, on `stream` when there is one, else on a memory stream of its own. */
RIG_FN int rig_link(rig *r, mp_stream *stream)
{
  if (!stream) {
    int rc = mp_stream_memory(&r->stream, &r->worker->loop, &(mp_stream_peer){ .port = 25 });
    if (rc < 0) {
      mp_tls_free(r->opts.tls);
      return rc;
    }
    stream = r->stream;
  }
  int rc = mp_link_open(&r->link, r->worker, stream, &r->opts, &rig_calls, r);
  CHECK_EQ_INT(r->calls, 0);
  return rc;
}

RIG_FN void rig_turn(rig *r)
{
  for (int i = 0; i < 8; i++)
    mp_loop_turn(&r->worker->loop, false);
}

RIG_FN bool rig_open(rig *r, const char *plan)
{
  mp_worker *worker;
  if (mp_worker_new(&worker, 0, NULL, true) < 0)
    return false;
  rig_init(r, worker, plan);
  return rig_link(r, NULL) == 0;
}

RIG_FN void rig_hear(rig *r, const char *octets, size_t len, size_t slice)
{
  for (size_t at = 0; at < len; at += slice) {
    mp_stream_inject(r->stream, octets + at, (mp_ssize)(len - at < slice ? len - at : slice));
    rig_turn(r);
  }
}

/* Replies, then what came of them. */
#define RIG(R, REPLIES, EVENTS)                                                    \
  do {                                                                             \
    rig_hear((R), "" REPLIES, sizeof(REPLIES) - 1, sizeof(REPLIES));               \
    cwire_check(__FILE__, __LINE__, "what came", &(R)->events, MP_STR("" EVENTS)); \
  } while (0)

/* What was said since the last look must be exactly this. */
#define RIG_SAID(R, TEXT) PUMP_SAID((R)->stream, TEXT)

RIG_FN void rig_drop(rig *r)
{
  if (r->link)
    mp_link_close(r->link);
  r->link = NULL;
  rig_turn(r);
  if (r->stream)
    mp_stream_release(r->stream);
  mp_transaction_dispose(&r->tx);
  cwire_clear(&r->events);
  cwire_clear(&r->trace);
}

RIG_FN void rig_close(rig *r)
{
  rig_drop(r);
  mp_worker_free(r->worker);
}

/* What a SCRAM server says to the first message that is in `said`; its length, or 0. */
RIG_FN size_t rig_challenge(mp_str said, char *out, size_t room)
{
  static const char verb[] = "SCRAM-SHA-256 ";
  mp_buf first, line;
  mp_buf_init(&first, 1000, NULL);
  mp_buf_init(&line, 1000, NULL);
  const char *at = said.len ? memmem(said.ptr, said.len, verb, sizeof verb - 1) : NULL;
  const char *end = at ? memmem(at, (size_t)(said.ptr + said.len - at), "\r\n", 2) : NULL;
  at = at ? at + sizeof verb - 1 : NULL;
  size_t len = 0;
  if (end && mp_base64_decode(&first, mp_str_of(at, (size_t)(end - at))) == 0) {
    mp_str plain = mp_buf_view(&first);
    const char *nonce = memmem(plain.ptr, plain.len, "r=", 2);
    char challenge[300];
    int n = snprintf(challenge, sizeof challenge, "%.*sx,s=c2FsdHNhbHQ=,i=4096",
                     nonce ? (int)(plain.ptr + plain.len - nonce) : 0, nonce ? nonce : "");
    if (nonce && mp_base64_encode(&line, mp_str_of(challenge, (size_t)n)) == 0)
      len = (size_t)snprintf(out, room, "334 %.*s\r\n", (int)line.len, mp_buf_view(&line).ptr);
  }
  mp_buf_dispose(&first);
  mp_buf_dispose(&line);
  return len;
}

/* ---- a server of ours ---------------------------------------------------------------------------------------------- */

typedef struct served {
  pump p;
  rig r;
  mp_stream *server; /* its end is ours too */
  size_t slice;
  size_t heard, cut; /* octets that the link has heard, and after how many it hears no more; 0: never */
  mp_ssize end;      /* what it hears then: 0 or an error */
} served;

RIG_FN bool served_move(served *s, mp_stream *from, mp_stream *to, bool to_link)
{
  mp_buf *said = mp_stream_written(from);
  if (!said->len)
    return false;
  mp_str part = mp_str_sub(mp_buf_view(said), 0, s->slice);
  if (to_link && s->cut && part.len > s->cut - s->heard)
    part.len = s->cut - s->heard;
  char *copy = malloc(part.len + 1);
  if (part.len)
    memcpy(copy, part.ptr, part.len);
  if (part.len)
    mp_stream_inject(to, copy, (mp_ssize)part.len);
  free(copy);
  mp_buf_consume(said, part.len);
  if (to_link && s->cut && (s->heard += part.len) == s->cut) {
    mp_stream_inject(to, NULL, s->end);
    mp_buf_consume(said, said->len);
  }
  mp_loop_turn(&s->r.worker->loop, false);
  return true;
}

RIG_FN void served_run(served *s)
{
  bool moved = true;
  while (moved) {
    rig_turn(&s->r);
    moved = served_move(s, s->r.stream, s->server, false);
    moved |= served_move(s, s->server, s->r.stream, true);
  }
}

/* 0 or an error, with nothing left to close but the two parts. */
RIG_FN int served_open(served *s, const char *plan, mp_tls_mode mode, mp_tls_config *server,
                       mp_tls_client_config *client, size_t slice)
{
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.extensions |= MP_EXT_BINARYMIME;
  *s = (served){ .slice = slice };
  if (!pump_open(&s->p, &opts))
    return MP_E_NOMEM;
  rig_init(&s->r, s->p.worker, plan);
  s->r.config = client;
  s->p.service->hooks = 1u << MP_EV_MESSAGE;
  s->p.answers[MP_EV_MESSAGE] = pump_reply(250, 0, 0, MP_STR("taken"));
  if (server)
    s->p.service->tls = mp_tls_config_ref(server);
  if (mode != MP_TLS_NONE && mp_service_port(s->p.service, "tls", &opts, mode, &s->p.port) < 0)
    return MP_E_NOMEM;
  s->server = pump_connect(&s->p, 9);
  if (!s->server)
    return MP_E_NOMEM;
  int rc = mode == MP_TLS_IMPLICIT ? rig_session(&s->r, &s->r.opts.tls) : 0;
  return rc == 0 ? rig_link(&s->r, NULL) : rc;
}

RIG_FN void served_close(served *s)
{
  if (s->p.worker && s->r.worker)
    rig_drop(&s->r);
  if (s->server) {
    mp_stream_inject(s->server, NULL, 0);
    pump_turn(&s->p);
    mp_stream_release(s->server);
  }
  if (s->p.service && s->r.worker) {
    pump_close(&s->p);
    return;
  }
  if (s->p.service)
    mp_service_kill(s->p.service, &pump_handler);
  if (s->p.worker) {
    pump_turn(&s->p);
    mp_worker_free(s->p.worker);
  }
  mp_buf_dispose(&s->p.log);
  mp_buf_dispose(&s->p.body);
}

#endif
