/* The pump of an outgoing connection, against octets that come in any order and at any time.
 *
 * The first octet chooses: bit 0 TLS from the start; bit 1 a trace; bits 2 and 3 the way of a body: a string, pieces, pieces of which none ever comes,
 * and one that fails. The second is which call from the link closes it (bit 7: leaves), 0 none. The rest is what happens: an octet N below 240 says that
 * N octets from the peer follow, 240 to 254 let time pass, 255 ends it. What must hold: each operation ends once, before the link does, and that ends
 * once; nobody is called who has let go; nobody is DELIVERED without a reply. */
#include "base/error.h"
#include "conn/link.h"
#include "tls/client.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define demand(HELD) ((HELD) ? (void)0 : abort())

enum { BODY = 3000 };

typedef struct play {
  mp_worker *worker;
  mp_stream *stream;
  mp_link *link; /* NULL: over */
  unsigned how, act_at, calls, plan;
  bool leave;
  size_t asked, done, closed;
  mp_transaction tx;
  mp_send_rcpt rcpt;
} play;

static mp_tls_client_config *config;
static char body[BODY];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  char why[200];
  demand(mp_tls_client_config_new(&config, &(mp_tls_client_opts){ 0 }, why, sizeof why) == 0);
  for (size_t i = 0; i < BODY; i++)
    body[i] = "a line.\r\n.\n"[i % 11];
  return 0;
}

static mp_tls *session(play *p)
{
  static const mp_str name = { "mx.example.net", 14 };
  mp_tls *tls;
  mp_tls_target target = { .sni = name, .names = &name, .name_count = 1 };
  demand(mp_tls_connect(&tls, config, &p->worker->cipher_blocks, &target) == 0);
  return tls;
}

static void next(play *p)
{
  static const mp_client_login login = {
    .user = { "me", 2 }, .password = { "secret", 6 }, .token = { "token", 5 }, .in_clear = ~0u
  };
  static const char plan[] = "hsahmnmvrq";
  if (!p->link || !mp_link_idle(p->link))
    return;
  mp_link_source source = { .octets = { body, BODY }, .has_octets = (p->how >> 2 & 3) == 0 };
  int rc = MP_E_MISUSE;
  switch (plan[p->plan < sizeof plan - 1 ? p->plan++ : sizeof plan - 2]) {
  case 'h':
    rc = mp_link_hello(p->link);
    break;
  case 's':
    rc = mp_link_starttls(p->link, session(p));
    break;
  case 'a':
    rc = mp_link_auth(p->link, &login);
    break;
  case 'm':
    mp_transaction_dispose(&p->tx);
    mp_transaction_init(&p->tx, NULL);
    p->tx.sender = MP_STR("a@example.net");
    p->rcpt = (mp_send_rcpt){ .address = MP_STR("x@example.org") };
    p->tx.rcpts = &p->rcpt;
    p->tx.count = 1;
    rc = mp_link_send(p->link, &p->tx, &source, true);
    break;
  case 'n':
    rc = mp_link_noop(p->link);
    break;
  case 'v':
    rc = mp_link_vrfy(p->link, MP_STR("x"));
    break;
  case 'r':
    rc = mp_link_rset(p->link);
    break;
  case 'q':
    rc = mp_link_quit(p->link);
    break;
  }
  p->asked += rc == 0;
}

static bool acts(play *p)
{
  demand(p->link != NULL);
  if (++p->calls != p->act_at)
    return false;
  mp_link *link = p->link;
  p->link = NULL;
  p->leave ? mp_link_leave(link) : mp_link_close(link);
  return true;
}

static void on_done(void *ctx, const mp_client_result *result)
{
  play *p = ctx;
  demand(++p->done <= p->asked + 1);
  demand(result->op != MP_OP_SEND || p->rcpt.result.state != MP_RCPT_NONE);
  demand(p->rcpt.result.state != MP_RCPT_DELIVERED || p->rcpt.result.reply.code / 100 == 2);
  if (!acts(p) && result->rc == 0)
    next(p);
}

static void on_want(void *ctx)
{
  play *p = ctx;
  if (acts(p))
    return;
  switch (p->how >> 2 & 3) {
  case 1:
    mp_link_body(p->link, mp_str_of(body, 50), p->calls > 8);
    break;
  case 3:
    mp_link_body_failed(p->link, "it is gone");
    break;
  default:
    break;
  }
}

static void on_closed(void *ctx, int rc, const char *why)
{
  play *p = ctx;
  (void)rc;
  demand(p->link && why && *why);
  demand(p->done == p->asked + 1); /* nothing is under way any more */
  p->link = NULL;
  p->closed++;
}

static void on_trace(void *ctx, bool sent, mp_str octets, size_t len)
{
  play *p = ctx;
  demand(p->link && !mp_link_idle(p->link));
  (void)sent, (void)octets, (void)len;
  acts(p);
}

static const mp_link_calls calls = { on_done, on_want, on_closed, on_trace };

static void hear(play *p, const uint8_t *octets, size_t len)
{
  char *copy = malloc(len); /* of its own: a read behind it is seen */
  demand(copy != NULL);
  memcpy(copy, octets, len);
  mp_stream_inject(p->stream, copy, (mp_ssize)len);
  free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  play p = { .how = data[0], .act_at = data[1] & 0x7f, .leave = data[1] & 0x80 };
  demand(mp_worker_new(&p.worker, 0, NULL, true) == 0);
  demand(mp_stream_memory(&p.stream, &p.worker->loop, &(mp_stream_peer){ .port = 25 }) == 0);
  mp_link_opts opts = { .trace = p.how & 2 };
  mp_client_opts_init(&opts.machine);
  opts.machine.hostname = MP_STR("client.example");
  if (p.how & 1)
    opts.tls = session(&p);
  mp_transaction_init(&p.tx, NULL);
  demand(mp_link_open(&p.link, p.worker, p.stream, &opts, &calls, &p) == 0);
  demand(p.calls == 0);
  for (size_t at = 2; at < size;) {
    size_t what = data[at++];
    if (what < 240) {
      size_t len = what < size - at ? what : size - at;
      if (len)
        hear(&p, data + at, len);
      at += len;
    } else if (what < 255) {
      mp_loop_advance(&p.worker->loop, (int64_t)(what - 240) * 40000);
    } else {
      mp_stream_inject(p.stream, NULL, 0);
    }
    mp_loop_turn(&p.worker->loop, false);
    demand(mp_stream_written(p.stream)->len < 1 << 20);
  }
  mp_link *link = p.link;
  p.link = NULL;
  mp_link_close(link);
  mp_loop_turn(&p.worker->loop, false);
  mp_stream_release(p.stream);
  mp_worker_free(p.worker);
  mp_transaction_dispose(&p.tx);
  return 0;
}
