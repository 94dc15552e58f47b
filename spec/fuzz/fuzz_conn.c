/* The pump under a peer that says anything in any slices, hooks that answer anything at any time, peers that vanish and services that stop.
 * What must hold: no message is shown twice, nothing is asked after a connection was told closed, and a stopped service ends. */
#include "conn/conn.h"

#include <stdlib.h>

typedef struct fuzz {
  const uint8_t *in;
  size_t len;
  mp_conn *asked;
  unsigned stopped, open;
} fuzz;

static unsigned pick(fuzz *f, unsigned most)
{
  if (f->len == 0)
    return 0;
  f->len--;
  return *f->in++ % most;
}

static void choose(fuzz *f, mp_answer *answer)
{
  static const mp_reply replies[] = {
    { .code = 250, .text = { "fine", 4 } },
    { .code = 450, .enhanced = { 4, 2, 0 }, .text = { "later", 5 } },
    { .code = 550, .enhanced = { 5, 1, 1 }, .text = { "no", 2 } },
    { .code = 421, .enhanced = { 4, 7, 0 }, .text = { "go", 2 } },
    { .code = 250, .text = { "bad\rtext", 8 } }, /* will not pass; must not get out */
  };
  unsigned what = pick(f, 12);
  *answer = (mp_answer){ .kind = MP_ANSWER_DEFAULT };
  if (what < 5) {
    answer->kind = MP_ANSWER_REPLY;
    answer->reply = replies[what];
  } else if (what == 5) {
    answer->kind = MP_ANSWER_ACCEPT;
  } else if (what == 6) {
    answer->kind = MP_ANSWER_CREDENTIALS;
    answer->credentials.password = MP_STR("secret");
    answer->senders = (mp_str){ "a@b.example\0", 13 };
  }
}

static void on_event(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  fuzz *f = ctx;
  if (!mp_conn_user(conn)) {
    mp_conn_set_user(conn, f);
    f->open++;
  }
  if (ev->kind == MP_EV_MESSAGE && !mp_conn_message(conn))
    abort();
  unsigned what = pick(f, 4);
  if (what == 0 && !f->asked && ev->kind != MP_EV_RESET && ev->kind != MP_EV_QUIT) {
    answer->kind = MP_ANSWER_PENDING;
    f->asked = conn;
  } else if (what == 1 && pick(f, 8) == 0) {
    mp_reply bye = MP_REPLY(421, 4, 3, 2, "closing");
    mp_conn_close(conn, &bye, "fuzz");
  } else {
    choose(f, answer);
  }
}

static void on_tls(void *ctx, mp_conn *conn)
{
  (void)ctx, (void)conn;
}

static void on_refused(void *ctx, mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  (void)ctx, (void)conn;
  bool unsaid = kind == MP_EV_NONE && reply->code == 0; /* the machine's own, of which 421 alone was said */
  if ((reply->code < 400 && !unsaid) || (about.len && !about.ptr))
    abort();
}

static void on_lost(void *ctx, mp_conn *conn, mp_event_kind pending)
{
  fuzz *f = ctx;
  if (pending == MP_EV_MESSAGE)
    abort();
  if (f->asked == conn)
    f->asked = NULL;
}

static void on_closed(void *ctx, mp_conn *conn, const char *why)
{
  fuzz *f = ctx;
  if (!why || f->asked == conn)
    abort();
  if (mp_conn_user(conn))
    f->open--;
}

static void on_stopped(void *ctx)
{
  ((fuzz *)ctx)->stopped++;
}

static const mp_handler handler = { on_event, on_tls, on_refused, on_lost, on_closed, on_stopped, NULL };

static void late_answer(fuzz *f)
{
  mp_conn *conn = f->asked;
  if (!conn)
    return;
  mp_answer answer;
  choose(f, &answer);
  f->asked = NULL; /* the answer may lead to the next question */
  mp_conn_answer(conn, &answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  fuzz f = { .in = data, .len = size };
  mp_worker *worker;
  mp_service *service;
  mp_port *port;
  mp_stream *stream;
  if (mp_worker_new(&worker, 0, NULL, true) < 0 ||
      mp_service_new(&service, worker, "mx.example.org", &handler, &f) < 0)
    abort();
  unsigned ways = pick(&f, 64);
  mp_server_opts opts;
  mp_server_opts_init(&opts, ways & 1 ? MP_PROTOCOL_LMTP : MP_PROTOCOL_SMTP);
  opts.tolerate_early = !(ways & 2);
  opts.mechanisms = 1u << MP_MECH_PLAIN | 1u << MP_MECH_LOGIN | 1u << MP_MECH_CRAM_MD5 | 1u << MP_MECH_XOAUTH2;
  opts.auth_in_clear = true;
  opts.auth_delay_ms = 0;
  opts.size = 20000;
  opts.extensions |= MP_EXT_XCLIENT | MP_EXT_BINARYMIME;
  service->hooks = ways & 4 ? 0x0fffffffu : 1u << MP_EV_MESSAGE;
  service->hooks |= ways & 8 ? MP_HOOK_DISCONNECT | MP_HOOK_REFUSED : 0;
  worker->bodies.threshold = ways & 16 ? 64 : 4096;
  if (mp_rules_domains(&service->rules, 1) < 0 || mp_rules_domain(&service->rules, MP_STR("example.org")) < 0 ||
      mp_rules_network(&service->rules, &service->rules.xclient, MP_STR("203.0.113.0/24")) < 0 ||
      (ways & 32 && mp_rules_network(&service->rules, &service->rules.proxy, MP_STR("203.0.113.0/24")) < 0) ||
      mp_service_port(service, "smtp", &opts, MP_TLS_NONE, &port) < 0)
    abort();
  mp_stream_peer peer = { .port = 4000, .local_port = 25 };
  mp_ip_parse(&peer.ip, MP_STR("203.0.113.9"));
  mp_ip_parse(&peer.local_ip, MP_STR("192.0.2.25"));
  if (mp_stream_memory(&stream, &worker->loop, &peer) < 0)
    abort();
  mp_conn_open(port, stream);
  while (f.len && !f.stopped) {
    unsigned what = pick(&f, 16);
    if (what < 10) {
      size_t len = pick(&f, 200) + 1u;
      len = len < f.len ? len : f.len;
      const char *octets = (const char *)f.in;
      f.in += len;
      f.len -= len;
      if (len)
        mp_stream_inject(stream, octets, (mp_ssize)len);
    } else if (what < 13) {
      late_answer(&f);
    } else if (what == 13) {
      mp_loop_advance(&worker->loop, (int64_t)pick(&f, 200) * 1000);
    } else if (what == 14) {
      mp_stream_inject(stream, NULL, pick(&f, 2) ? 0 : -1);
    } else {
      mp_loop_turn(&worker->loop, false);
    }
    mp_buf *said = mp_stream_written(stream);
    mp_str text = mp_buf_view(said);
    for (size_t i = 0; i < text.len; i++) /* nothing but whole lines of printable text is ever said */
      if ((unsigned char)text.ptr[i] < ' ' && text.ptr[i] != '\r' && text.ptr[i] != '\n')
        abort();
    mp_buf_consume(said, said->len);
  }
  mp_service_stop(service, 1000);
  for (int i = 0; i < 20 && !f.stopped; i++) {
    late_answer(&f);
    mp_loop_advance(&worker->loop, 1000);
    mp_loop_turn(&worker->loop, false);
  }
  if (f.stopped != 1 || f.open)
    abort();
  mp_stream_release(stream);
  mp_worker_free(worker);
  return 0;
}
