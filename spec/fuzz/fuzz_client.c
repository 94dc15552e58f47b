/* The client machine under a driver that does anything a driver may do. An input is six octets of options, then what the server says; its end,
 * read backwards, is what the driver does: sizes of slices, operations, time, sending, the body. What must hold whatever happens is
 * demanded here: every operation ends once, what is written is lines without anything of a line end in them, nobody is DELIVERED whose RCPT
 * and body were not answered with 2xx. Then the same server is heard by two obliging drivers, line by line and octet by octet: they have
 * to say the same. (Not whole: what stands behind the last reply that was asked for ends the conversation when it comes along with that.) */
#include "base/error.h"
#include "smtp/client.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 6, RCPTS = 5, OUT_MOST = 256 * 1024 };

#define demand(HELD) ((HELD) ? (void)0 : abort())

typedef struct play {
  mp_client_opts opts;
  mp_client *cl;
  const uint8_t *will; /* taken from its end */
  size_t will_len;
  int64_t now;
  bool obliging;
  unsigned step; /* of an obliging driver */
  size_t begun, dones;
  mp_client_op op; /* under way */
  bool closed, handshake;
  mp_job *job;
  mp_transaction tx;
  mp_send_rcpt rcpts[RCPTS];
  mp_str body;
  bool body_over;
  mp_buf said, happened; /* of an obliging driver */
} play;

static unsigned will(play *p)
{
  return p->will_len ? p->will[--p->will_len] : 0;
}

static const char text_body[] = "Subject: x\r\n\r\n.one\r\ntwo\n.\r\n\rthree";

static void renew(play *p, unsigned what)
{
  static const mp_str addresses[] = { { "b@example.org", 13 },
                                      { "c@example.net", 13 },
                                      { "d\xc3\xbc@example.org", 14 },
                                      { "no address", 10 },
                                      { "e@EXAMPLE.org", 13 } };
  p->tx.sender = MP_STR("a@example.net");
  p->tx.params = (mp_mail_params){ .given = 0 };
  if (what & 1)
    p->tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE, .size = sizeof text_body - 1 };
  if (what & 2) {
    p->tx.params.given |= MP_PARAM_BODY;
    p->tx.params.body = what & 4 ? MP_BODY_BINARY : MP_BODY_8BIT;
  }
  if (what & 8) {
    p->tx.params.given |= MP_PARAM_ENVID | MP_PARAM_RET;
    p->tx.params.envid = MP_STR("x");
    p->tx.params.ret = MP_RET_FULL;
  }
  p->tx.canonical = what & 16;
  p->tx.rcpts = p->rcpts;
  p->tx.count = 1 + what % RCPTS;
  for (size_t i = 0; i < RCPTS; i++)
    p->rcpts[i] = (mp_send_rcpt){ .address = addresses[(i + what / 32) % RCPTS] };
  p->body = MP_STR(text_body);
  p->body_over = false;
}

/* ---- operations ---------------------------------------------------------------------------------------------------- */

static int ask(play *p, unsigned what)
{
  static const mp_client_login login = { .user = { "tim", 3 }, .password = { "pw", 2 }, .in_clear = ~0u };
  switch (what % 16) {
  case 0:
    return mp_client_hello(p->cl, p->now);
  case 1:
    return mp_client_starttls(p->cl, p->now);
  case 2:
    return mp_client_auth(p->cl, &login, p->now);
  case 3:
    return mp_client_noop(p->cl, p->now);
  case 4:
    return mp_client_command(p->cl, MP_STR("XCMD"), p->now);
  case 5:
    return mp_client_mail(p->cl, &p->tx, p->now);
  case 6:
    return mp_client_rcpt(p->cl, &p->tx, what / 16 % RCPTS, p->now);
  case 7:
    return mp_client_data(p->cl, &p->tx, p->now);
  case 8:
    return mp_client_rset(p->cl, p->now);
  case 9:
    return mp_client_quit(p->cl, p->now);
  case 10:
    if (p->dones == p->begun)
      renew(p, what / 16 * 37 + will(p));
    return mp_client_send(p->cl, &p->tx, p->now);
  default:
    p->body = MP_STR(text_body);
    p->body_over = false;
    return mp_client_send(p->cl, &p->tx, p->now);
  }
}

static void begin(play *p)
{
  static const unsigned order[] = { 0, 2, 10, 11, 3, 11, 9 };
  unsigned what = p->obliging ? order[p->step < 6 ? p->step : 6] : will(p);
  mp_client_op before = mp_client_busy(p->cl);
  if (p->obliging) {
    p->step++;
    if (what == 10)
      renew(p, p->opts.lmtp ? 4 : 12);
  }
  int rc = ask(p, what);
  demand(rc == 0 || rc == MP_E_MISUSE || rc == MP_E_CLOSED || rc == MP_E_INVALID);
  demand(rc != 0 || before == MP_OP_NONE);
  if (rc == 0)
    p->begun++;
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

static void done(play *p, const mp_client_result *r)
{
  p->dones++;
  demand(p->dones == p->begun);
  demand(r->reply.code == 0 || !mp_reply_check(&r->reply));
  demand(!r->ok || (r->rc == 0 && !r->local));
  for (size_t i = 0; i < p->tx.count; i++) {
    const mp_rcpt_result *rcpt = &p->rcpts[i].result;
    demand(rcpt->reply.code == 0 || !mp_reply_check(&rcpt->reply));
    demand(rcpt->state != MP_RCPT_DELIVERED ||
           (rcpt->reply.code / 100 == 2 && rcpt->stage == MP_STAGE_BODY && !rcpt->local));
    demand(rcpt->state != MP_RCPT_REFUSED || rcpt->reply.code >= 500);
    if (r->op == MP_OP_SEND)
      demand(rcpt->state != MP_RCPT_NONE && rcpt->state != MP_RCPT_ACCEPTED);
  }
  if (p->obliging)
    demand(mp_buf_fmt(&p->happened, "[%s %d %d %d]", mp_client_op_name(r->op), r->rc, r->ok, r->reply.code) == 0);
}

static void events(play *p)
{
  mp_client_event ev;
  while (mp_client_next(p->cl, &ev)) {
    demand(!p->closed);
    switch (ev.kind) {
    case MP_CE_STARTTLS:
      p->handshake = true;
      break;
    case MP_CE_JOB:
      demand(!p->job);
      p->job = ev.job.job;
      break;
    case MP_CE_BODY:
      break;
    case MP_CE_DONE:
      p->handshake = false;
      done(p, &ev.done);
      break;
    case MP_CE_CLOSE:
      p->closed = true;
      demand(mp_client_busy(p->cl) == MP_OP_NONE);
      break;
    case MP_CE_NONE:
      abort();
    }
  }
}

/* Commands end with CRLF and hold no other control character; bodies are not looked at. */
static void send(play *p, size_t len)
{
  mp_str out = mp_client_output(p->cl), secret = mp_client_secret(p->cl);
  demand(out.len <= OUT_MOST && secret.len <= out.len);
  if (len > out.len)
    len = out.len;
  if (!mp_client_in_body(p->cl) && mp_client_busy(p->cl) != MP_OP_SEND && mp_client_busy(p->cl) != MP_OP_DATA)
    for (size_t i = 0; i < len; i++)
      demand((unsigned char)out.ptr[i] >= 0x20 || out.ptr[i] == '\r' || out.ptr[i] == '\n');
  if (p->obliging)
    demand(mp_buf_str(&p->said, mp_str_sub(out, 0, len)) == 0);
  mp_client_sent(p->cl, len, p->now);
}

static void give_body(play *p, size_t most)
{
  size_t taken, len = most < p->body.len ? most : p->body.len;
  bool last = len == p->body.len, wants = mp_client_wants_body(p->cl);
  int rc = mp_client_body(p->cl, p->body.ptr, len, last, &taken, p->now);
  demand(taken <= len && (wants || taken == 0));
  demand(rc == 0 || rc == MP_E_MISUSE || rc == MP_E_BARELF || rc == MP_E_INVALID);
  p->body = mp_str_sub(p->body, taken, p->body.len);
  p->body_over = p->body_over || (rc == 0 && last && taken == len);
}

/* ---- plays --------------------------------------------------------------------------------------------------------- */

static void open_play(play *p, const uint8_t head[HEAD], mp_sasl_ctx *ctx)
{
  mp_client_opts_init(&p->opts);
  p->opts.hostname = MP_STR("client.example");
  p->opts.lmtp = head[0] & 1;
  p->opts.no_helo = head[0] & 2;
  p->opts.refuse_bare = head[0] & 4;
  p->opts.chunk_from = head[1] & 1 ? 0 : 1024;
  p->opts.ignore = head[2] & 1 ? (unsigned)MP_EXT_PIPELINING : 0u;
  p->opts.operation_ms = head[3] & 1 ? 0 : 1000;
  p->opts.sasl = ctx;
  mp_transaction_init(&p->tx, NULL);
  renew(p, head[4]);
  mp_buf_init(&p->said, 1 << 26, NULL);
  mp_buf_init(&p->happened, 1 << 26, NULL);
  p->now = 1000;
  mp_tls_facts facts = { .cb_exporter = MP_STR("0123456789abcdef") };
  demand(mp_client_new(&p->cl, &p->opts, head[5] & 1 ? &facts : NULL, p->now) == 0);
  p->begun = 1; /* the banner */
}

static void close_play(play *p)
{
  if (!p->closed) {
    mp_client_lost(p->cl, MP_E_EOF, "end");
    events(p);
  }
  demand(p->closed && p->dones == p->begun);
  mp_client_event ev;
  demand(mp_client_next(p->cl, &ev) == 0 && mp_client_feed(p->cl, "x", 1, p->now) == MP_E_CLOSED);
  if (p->job)
    p->job->free(p->job);
  mp_client_free(p->cl);
  mp_transaction_dispose(&p->tx);
}

static void turn_of_driver(play *p)
{
  unsigned what = will(p);
  mp_tls_facts facts = { .cb_exporter = MP_STR("0123456789abcdef") };
  if (p->handshake && what & 1) {
    demand(mp_client_tls_done(p->cl, &facts, p->now) == 0);
    p->handshake = false;
  }
  if (p->job && what & 2) {
    mp_job *job = p->job;
    p->job = NULL;
    if (what & 16)
      job->run(job);
    if (mp_client_worked(p->cl, job, p->now) != 0)
      job->free(job);
  }
  if (what & 4 && (!p->body_over || what & 8))
    give_body(p, what & 32 ? SIZE_MAX : will(p) % 16);
  if (will(p) & 1)
    events(p); /* else the operation that is over may still have to be told */
  if (what & 64 && !mp_client_busy(p->cl))
    begin(p);
  if (what & 128)
    send(p, what & 8 ? SIZE_MAX : will(p));
  if (what == 3) {
    p->now = mp_client_deadline(p->cl);
    if (p->now == INT64_MAX)
      p->now = 1000;
    mp_client_tick(p->cl, p->now);
  }
  if (what == 5)
    mp_client_body_failed(p->cl, "will");
  p->now += what % 8;
}

static void anything_goes(const uint8_t *head, mp_str in, mp_sasl_ctx *ctx)
{
  play p = { .will = (const uint8_t *)in.ptr, .will_len = in.len };
  open_play(&p, head, ctx);
  while (in.len && !p.closed) {
    unsigned what = will(&p);
    size_t len = what < 100 ? in.len : what % 16 + 1;
    if (len > in.len)
      len = in.len;
    char *slice = malloc(len);
    memcpy(slice, in.ptr, len);
    mp_ssize taken = mp_client_feed(p.cl, slice, len, p.now);
    demand(taken <= (mp_ssize)len);
    events(&p);
    free(slice);
    if (taken > 0)
      in = mp_str_sub(in, (size_t)taken, in.len);
    turn_of_driver(&p);
    events(&p);
    if (taken <= 0 && p.will_len == 0)
      break;
  }
  close_play(&p);
  mp_buf_dispose(&p.said);
  mp_buf_dispose(&p.happened);
}

/* What can be done, is, before the next octets are fed. */
static void oblige(play *p)
{
  for (bool moved = true; moved;) {
    moved = false;
    events(p);
    if (p->closed) {
      send(p, SIZE_MAX);
      return;
    }
    if (p->job) {
      mp_job *job = p->job;
      p->job = NULL;
      demand(mp_client_worked(p->cl, job, p->now) == 0); /* not run: that costs too much here */
      moved = true;
    } else if (mp_client_wants_body(p->cl) && !p->body_over) {
      give_body(p, 16);
      moved = true;
    } else if (mp_client_output(p->cl).len) {
      send(p, SIZE_MAX);
      moved = true;
    } else if (!mp_client_busy(p->cl)) {
      begin(p);
      moved = true;
    }
  }
}

static size_t line_of(mp_str in)
{
  mp_ssize lf = mp_str_find(in, '\n', 0);
  return lf < 0 ? in.len : (size_t)lf + 1;
}

static void listen_to(const uint8_t *head, mp_str in, bool lines, mp_sasl_ctx *ctx, play *p)
{
  *p = (play){ .obliging = true };
  open_play(p, head, ctx);
  p->opts.refuse_bare = false;
  p->opts.operation_ms = 0;
  oblige(p);
  while (in.len && !p->closed) {
    mp_ssize taken = mp_client_feed(p->cl, in.ptr, lines ? line_of(in) : 1, p->now);
    demand(taken >= 0);
    in = mp_str_sub(in, (size_t)taken, in.len);
    oblige(p);
  }
  close_play(p);
}

static void same(const char *what, mp_buf *by_line, mp_buf *single)
{
  mp_str a = mp_buf_view(by_line), b = mp_buf_view(single);
  if (!mp_str_eq(a, b)) {
    fprintf(stderr, "%s, line by line:\n%.*s\n%s, octet by octet:\n%.*s\n", what, (int)a.len, a.ptr, what,
            (int)b.len, b.ptr);
    abort();
  }
  mp_buf_dispose(by_line);
  mp_buf_dispose(single);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static mp_sasl_ctx *ctx;
  if (!ctx)
    demand(mp_sasl_ctx_new(&ctx) == 0);
  if (size < HEAD)
    return 0;
  mp_str in = mp_str_of((const char *)data + HEAD, size - HEAD);
  anything_goes(data, in, ctx);
  play by_line, single;
  uint8_t head[HEAD];
  memcpy(head, data, HEAD);
  head[4] = 0;
  listen_to(head, in, true, NULL, &by_line); /* no SCRAM: its nonce is random */
  listen_to(head, in, false, NULL, &single);
  same("said", &by_line.said, &single.said);
  same("happened", &by_line.happened, &single.happened);
  return 0;
}
