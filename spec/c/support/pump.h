/* support/pump.h -- a service on a virtual worker with a scripted handler, and peers over memory streams. Nothing waits; the test turns the clock. */
#ifndef MP_SPEC_PUMP_H
#define MP_SPEC_PUMP_H

#include "base/buf.h"
#include "base/error.h"
#include "conn/conn.h"
#include "support/check.h"

typedef struct pump {
  mp_worker *worker;
  mp_service *service;
  mp_port *port;
  mp_buf log;                     /* what the handler was told, in words */
  mp_answer answers[MP_EV_COUNT]; /* what it says; PENDING keeps the connection in `asked` */
  mp_conn *asked;
  mp_buf body; /* octets of the last message */
  unsigned stopped, closed;
} pump;

static void pump_event(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  pump *p = ctx;
  mp_buf_fmt(&p->log, "%s ", mp_event_name(ev->kind));
  if (ev->kind == MP_EV_MESSAGE) {
    mp_message *msg = mp_conn_message(conn);
    char scratch[4096];
    uint64_t at = 0;
    int rc = 0;
    mp_buf_consume(&p->body, p->body.len);
    for (mp_str got; (got = mp_sink_read(msg->sink, at, scratch, sizeof scratch, &rc)).len; at += got.len)
      mp_buf_str(&p->body, got);
  }
  *answer = p->answers[ev->kind];
  if (answer->kind == MP_ANSWER_PENDING)
    p->asked = conn;
}

static void pump_tls(void *ctx, mp_conn *conn)
{
  (void)conn;
  mp_buf_fmt(&((pump *)ctx)->log, "tls ");
}

static void pump_refused(void *ctx, mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  (void)conn;
  mp_buf_fmt(&((pump *)ctx)->log, "refused:%s:%d:%.*s ", mp_event_name(kind), reply->code, (int)about.len,
             about.len ? about.ptr : "");
}

static void pump_lost(void *ctx, mp_conn *conn, mp_event_kind pending)
{
  pump *p = ctx;
  mp_buf_fmt(&p->log, "lost:%s ", mp_event_name(pending));
  if (p->asked == conn)
    p->asked = NULL;
}

static void pump_closed(void *ctx, mp_conn *conn, const char *why)
{
  pump *p = ctx;
  (void)conn, (void)why;
  p->closed++;
  mp_buf_fmt(&p->log, "closed ");
}

static void pump_stopped(void *ctx)
{
  pump *p = ctx;
  p->stopped++;
  p->service = NULL;
}

static void pump_crowded(void *ctx, mp_crowded why, const char *port, const mp_ip *peer)
{
  char text[MP_IP_TEXT] = "";
  if (peer)
    mp_ip_format(peer, text);
  mp_buf_fmt(&((pump *)ctx)->log, "crowded:%d:%s:%s ", why, port, text);
}

static const mp_handler pump_handler = { pump_event,  pump_tls,     pump_refused, pump_lost,
                                         pump_closed, pump_stopped, pump_crowded };

/* `machine` may be NULL: the defaults of a plain SMTP port. */
__attribute__((unused)) static bool pump_open(pump *p, const mp_server_opts *machine)
{
  *p = (pump){ 0 };
  mp_buf_init(&p->log, 65536, NULL);
  mp_buf_init(&p->body, 64 << 20, NULL);
  if (mp_worker_new(&p->worker, 0, NULL, true) < 0)
    return false;
  if (mp_service_new(&p->service, p->worker, "mx.example.org", &pump_handler, p) < 0)
    return false;
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  if (mp_rules_domains(&p->service->rules, 1) < 0 ||
      mp_rules_domain(&p->service->rules, MP_STR("example.org")) < 0)
    return false;
  return mp_service_port(p->service, "smtp", machine ? machine : &opts, MP_TLS_NONE, &p->port) == 0;
}

__attribute__((unused)) static void pump_turn(pump *p)
{
  for (int i = 0; i < 8; i++)
    mp_loop_turn(&p->worker->loop, false);
}

__attribute__((unused)) static void pump_close(pump *p)
{
  if (p->service) {
    mp_service_kill(p->service, &pump_handler);
    pump_turn(p);
  }
  CHECK_EQ_INT(p->stopped, 1);
  mp_worker_free(p->worker);
  mp_buf_dispose(&p->log);
  mp_buf_dispose(&p->body);
}

/* A connection from 203.0.113.`last`; NULL: no memory. */
__attribute__((unused)) static mp_stream *pump_connect(pump *p, unsigned last)
{
  mp_stream_peer peer = { .port = 40000, .local_port = 25 };
  char text[32];
  snprintf(text, sizeof text, "203.0.113.%u", last);
  mp_ip_parse(&peer.ip, mp_str_c(text));
  mp_ip_parse(&peer.local_ip, MP_STR("192.0.2.25"));
  mp_stream *stream;
  if (mp_stream_memory(&stream, &p->worker->loop, &peer) < 0)
    return NULL;
  mp_conn_open(p->port, stream);
  pump_turn(p);
  return stream;
}

__attribute__((unused)) static void pump_send(pump *p, mp_stream *stream, const char *octets)
{
  mp_stream_inject(stream, octets, (mp_ssize)strlen(octets));
  pump_turn(p);
}

/* What was said since the last look must be exactly this. */
#define PUMP_SAID(stream, text)                \
  do {                                         \
    mp_buf *said_ = mp_stream_written(stream); \
    CHECK_STR(mp_buf_view(said_), text);       \
    mp_buf_consume(said_, said_->len);         \
  } while (0)

#define PUMP_LOG(p, text)                    \
  do {                                       \
    CHECK_STR(mp_buf_view(&(p)->log), text); \
    mp_buf_consume(&(p)->log, (p)->log.len); \
  } while (0)

static const mp_answer pump_pending = { .kind = MP_ANSWER_PENDING };
static const mp_answer pump_default = { .kind = MP_ANSWER_DEFAULT };
__attribute__((unused)) static mp_answer pump_reply(int code, unsigned short b, unsigned short c, mp_str text)
{
  return (mp_answer){ .kind = MP_ANSWER_REPLY,
                      .reply = { .code = code, .enhanced = { (unsigned short)(code / 100), b, c }, .text = text } };
}

#endif
