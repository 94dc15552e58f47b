/* The server machine under a driver that does anything a driver may do. An input is eight octets of options, then what the peer says; its end,
 * read backwards, is what the driver does: sizes of slices, answers, time, sending. What must hold whatever happens is demanded here; then the
 * same words are spoken twice to two obliging drivers, whole and octet by octet, which has to end in the same replies and events. */
#include "base/error.h"
#include "smtp/server.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 8, OUT_MOST = 64 * 1024 + 32 * 1024 };

#define demand(HELD) ((HELD) ? (void)0 : abort())

typedef struct logs { /* apart: how they are woven depends on slices */
  mp_buf said, events;
} logs;

typedef struct play {
  mp_server_opts opts;
  mp_server *srv;
  const uint8_t *will; /* taken from its end */
  size_t will_len;
  int64_t now;
  unsigned waits; /* kind of the event that waits */
  mp_job *job;
  bool open; /* DATA was accepted, and neither MESSAGE nor ABORT came */
  bool binary, repaired;
  uint64_t octets;      /* of CHUNK since */
  unsigned char before; /* the last of them */
  bool bare, nul;
  bool closed;
  char line[4]; /* the start of the reply line that is being said */
  size_t at;    /* octets of it */
  bool cr;
  logs *log;   /* of an obliging driver; else NULL */
  mp_buf body; /* what of a message came before its fault depends on slices: it is logged when it is complete */
} play;

static unsigned will(play *p)
{
  return p->will_len ? p->will[--p->will_len] : 0;
}

static void clean(mp_str s)
{
  for (size_t i = 0; i < s.len; i++)
    demand((unsigned char)s.ptr[i] >= 0x20 && s.ptr[i] != 0x7f);
}

/* Every line said is "ddd " or "ddd-", text, CRLF, at most 512 octets (but for EHLO's and long base64). */
static void said(play *p, mp_str out)
{
  for (size_t i = 0; i < out.len; i++) {
    char c = out.ptr[i];
    if (p->cr) {
      demand(c == '\n' && p->at >= 4);
      p->cr = false;
      p->at = 0;
      continue;
    }
    demand(c != '\n' && c != '\0');
    if (c == '\r') {
      p->cr = true;
      continue;
    }
    if (p->at < 3)
      demand(c >= '0' && c <= '9');
    else if (p->at == 3)
      demand(c == ' ' || c == '-');
    p->at++;
  }
}

static void sent(play *p, size_t len)
{
  mp_str out = mp_server_output(p->srv);
  demand(out.len <= OUT_MOST + p->opts.recipients * 1024);
  if (len > out.len)
    len = out.len;
  said(p, mp_str_sub(out, 0, len));
  if (p->log)
    demand(mp_buf_str(&p->log->said, mp_str_sub(out, 0, len)) == 0);
  mp_server_sent(p->srv, len);
}

/* ---- answers ------------------------------------------------------------------------------------------------------- */

static const mp_reply *verdict(play *p, mp_reply *room)
{
  static const char text[] = "line\none \xc3\xbc";
  unsigned what = p->log ? 0 : will(p);
  if (what < 160)
    return NULL;
  static const int codes[] = { 250, 451, 550, 421, 354, 235, 521, 554 };
  *room = (mp_reply){ .code = codes[what % 8], .text = mp_str_of(text, what % sizeof text) };
  if (what & 16)
    room->enhanced[0] = (unsigned short)(room->code / 100);
  return room;
}

static void answer(play *p)
{
  mp_reply room;
  const mp_reply *reply = verdict(p, &room);
  unsigned kind = p->waits;
  mp_tls_facts facts = { .cb_exporter = MP_STR("0123456789abcdef") };
  mp_credentials cred = { .password = MP_STR("pw"), .ask = !p->log && (will(p) & 1) };
  p->waits = MP_EV_NONE;
  demand(mp_server_worked(p->srv, p->job ? p->job : (mp_job *)p, p->now) == MP_E_MISUSE || kind == MP_EV_JOB);
  switch (kind) {
  case MP_EV_NONE:
    demand(mp_server_reply(p->srv, reply, p->now) == MP_E_MISUSE);
    return;
  case MP_EV_STARTTLS:
    demand(mp_server_reply(p->srv, NULL, p->now) == MP_E_MISUSE);
    demand(mp_server_tls_done(p->srv, &facts, p->now) == 0);
    return;
  case MP_EV_CREDENTIALS:
    if (!reply || mp_server_credentials_fail(p->srv, reply, p->now) == MP_E_INVALID)
      demand(mp_server_credentials(p->srv, &cred, p->now) == 0);
    return;
  case MP_EV_JOB: /* it was given back above, not run: that costs too much here, and proves nothing */
    p->job = NULL;
    return;
  case MP_EV_MESSAGE:
    if (reply && p->opts.protocol == MP_PROTOCOL_LMTP)
      mp_server_reply_rcpt(p->srv, will(p) % 4, reply);
    break;
  default:
    break;
  }
  int rc = mp_server_reply(p->srv, reply, p->now);
  if (rc == MP_E_INVALID) {
    demand(reply);
    reply = NULL;
    rc = mp_server_reply(p->srv, NULL, p->now);
  }
  demand(rc == 0);
  if (kind == MP_EV_DATA && !(reply && reply->code >= 400) && mp_server_in_body(p->srv)) {
    p->open = true;
    p->octets = 0;
    mp_buf_dispose(&p->body);
    p->bare = p->nul = false;
    p->before = 0;
    p->binary = mp_server_envelope(p->srv) && mp_server_envelope(p->srv)->params.body == MP_BODY_BINARY;
  }
}

/* ---- events -------------------------------------------------------------------------------------------------------- */

static void chunk(play *p, mp_str octets)
{
  demand(p->open && octets.len > 0);
  for (size_t i = 0; i < octets.len; i++) {
    unsigned char c = (unsigned char)octets.ptr[i];
    p->bare = p->bare || (c == '\n') != (p->before == '\r');
    p->nul = p->nul || c == 0;
    p->before = c;
  }
  p->octets += octets.len;
  demand(p->opts.size == 0 || p->octets <= p->opts.size);
  if (p->log)
    demand(mp_buf_str(&p->body, octets) == 0);
  if (!p->log && will(p) == 7) {
    mp_reply full = MP_REPLY(452, 4, 3, 1, "full");
    demand(mp_server_body_failed(p->srv, will(p) & 1 ? &full : NULL) == 0);
  }
}

static void message(play *p, const mp_event *ev)
{
  demand(p->open && ev->message.size == p->octets);
  /* What is accepted can be passed on: no octets that another server reads differently. */
  demand(p->binary || (!p->nul && !p->bare && p->before != '\r'));
  p->open = false;
  if (p->log)
    demand(mp_buf_str(&p->log->events, mp_buf_view(&p->body)) == 0);
}

static void look(play *p, const mp_event *ev)
{
  mp_envelope *env = mp_server_envelope(p->srv);
  if (p->log && ev->kind != MP_EV_CHUNK)
    demand(mp_buf_fmt(&p->log->events, "[%s]", mp_event_name(ev->kind)) == 0);
  switch (ev->kind) {
  case MP_EV_HELO:
    clean(ev->helo.name);
    break;
  case MP_EV_MAIL:
    clean(ev->mail.path->address);
    clean(ev->mail.params->envid);
    break;
  case MP_EV_RCPT:
    clean(ev->rcpt.recipient->path.address);
    clean(ev->rcpt.recipient->params.orcpt);
    demand(env && env->count <= p->opts.recipients);
    break;
  case MP_EV_CREDENTIALS:
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    clean(ev->auth.user);
    break;
  case MP_EV_JOB:
    p->job = ev->job.job;
    break;
  case MP_EV_CHUNK:
    chunk(p, ev->chunk.octets);
    break;
  case MP_EV_MESSAGE:
    message(p, ev);
    break;
  case MP_EV_ABORT:
    demand(p->open && ev->abort.code >= 400);
    p->open = false;
    break;
  case MP_EV_RESET:
    demand(!env);
    p->open = false;
    break;
  case MP_EV_CLOSE:
    demand(!p->open);
    p->closed = true;
    break;
  default:
    break;
  }
}

/* Takes what there is; answers unless it would rather keep the machine waiting. */
static void events(play *p)
{
  mp_event ev;
  for (;;) {
    while (!p->waits && mp_server_next(p->srv, &ev)) {
      demand(!p->closed);
      look(p, &ev);
      p->waits = mp_server_waiting(p->srv) ? ev.kind : MP_EV_NONE;
    }
    if (!p->waits)
      return;
    demand(mp_server_next(p->srv, &ev) == 0 && mp_server_deadline(p->srv) == INT64_MAX);
    if (!p->log && will(p) > 230)
      return;
    answer(p);
  }
}

/* ---- plays --------------------------------------------------------------------------------------------------------- */

static void begin(play *p, const uint8_t head[HEAD], mp_sasl_ctx *ctx)
{
  mp_server_opts *o = &p->opts;
  mp_server_opts_init(o, (mp_protocol)(head[0] % 3));
  o->hostname = MP_STR("mx.example.org");
  o->extensions = (unsigned)head[1] << 8 | head[2] | (head[0] & 64 ? MP_EXT_DEFAULT : 0u);
  o->lax = head[3] & 127;
  o->auth_required = o->tls_required = false;
  o->tls_offered = head[4] & 1;
  o->tolerate_early = head[4] & 2;
  o->tolerate_injection = head[4] & 4;
  o->repair_all = head[4] & 8;
  o->repair_none = (head[4] & 24) == 16;
  o->long_lines_refused = head[4] & 32;
  o->auth_in_clear = head[4] & 64;
  o->auth_required = head[4] & 128;
  o->size = head[5] & 128 ? (uint64_t)(head[5] & 127) * 8 : 0;
  o->overrun = head[5] & 1 ? 100 : 0;
  o->line_limit = 78;
  o->recipients = 1 + head[6] % 8;
  o->messages = head[6] / 8 % 8;
  o->errors = head[6] / 64 * 5;
  o->envelope_memory = 16384;
  o->auth_delay_ms = head[7] & 1 ? 1000 : 0;
  o->greet_delay_ms = head[7] & 2 ? 1000 : 0;
  o->mechanisms = (1u << MP_MECH_COUNT) - 1;
  o->sasl = ctx;
  o->sasl_secret = MP_STR("sixteen octets and more");
  o->sasl_iterations = 1;
  mp_buf_init(&p->body, 1 << 26, NULL);
  p->now = 1000;
  unsigned trust = (head[7] & 4 ? MP_TRUST_REPAIR : 0u) | (head[7] & 8 ? MP_TRUST_XCLIENT : 0u);
  demand(mp_server_new(&p->srv, o, trust, head[7] & 16, p->now) == 0);
}

static void end(play *p)
{
  if (p->closed) {
    mp_event ev;
    demand(mp_server_next(p->srv, &ev) == 0 && mp_server_feed(p->srv, "x", 1, p->now) == MP_E_CLOSED);
  }
  if (p->job)
    p->job->free(p->job);
  mp_server_free(p->srv);
  mp_buf_dispose(&p->body);
}

static void anything_goes(const uint8_t *head, mp_str in, mp_sasl_ctx *ctx)
{
  play p = { .will = (const uint8_t *)in.ptr, .will_len = in.len };
  begin(&p, head, ctx);
  events(&p);
  while (in.len && !p.closed) {
    unsigned what = will(&p);
    size_t len = what < 100 ? in.len : what % 16 + 1;
    if (len > in.len)
      len = in.len;
    char *slice = malloc(len);
    memcpy(slice, in.ptr, len);
    bool waited = p.waits;
    mp_ssize taken = mp_server_feed(p.srv, slice, len, p.now);
    demand(taken <= (mp_ssize)len);
    if (waited && taken > 0)
      demand(p.waits == MP_EV_STARTTLS && p.opts.tolerate_injection);
    if (waited && !mp_server_waiting(p.srv))
      p.waits = MP_EV_NONE; /* it has closed: the event is gone */
    events(&p);
    free(slice);
    if (taken > 0)
      in = mp_str_sub(in, (size_t)taken, in.len);
    what = will(&p);
    if (what & 1 || taken <= 0)
      sent(&p, what & 2 ? what : SIZE_MAX);
    if (what > 240 || taken <= 0) {
      int64_t due = mp_server_deadline(p.srv);
      if (p.waits) {
        answer(&p);
      } else if (due != INT64_MAX) {
        p.now = due;
        mp_server_tick(p.srv, p.now);
      }
      events(&p);
    }
    if (what == 200)
      mp_server_trust(p.srv, will(&p));
    if (what == 201) {
      mp_server_close(p.srv, NULL, "will");
      p.waits = MP_EV_NONE;
      events(&p);
    }
    p.now += what % 8;
  }
  sent(&p, SIZE_MAX);
  end(&p);
}

/* Speaks to a driver that answers and sends at once. */
static void speak(const uint8_t *head, mp_str in, size_t slice, mp_sasl_ctx *ctx, logs *log)
{
  play p = { .log = log };
  begin(&p, head, ctx);
  p.opts.tolerate_early = true; /* what is early depends on slices by its nature */
  p.opts.auth_delay_ms = p.opts.greet_delay_ms = 0;
  p.opts.tls_offered = false;
  p.opts.mechanisms &= ~(1u << MP_MECH_CRAM_MD5); /* its challenge is random */
  for (int mech = MP_MECH_SCRAM_SHA_1; mech <= MP_MECH_SCRAM_SHA_256_PLUS; mech++)
    p.opts.mechanisms &= ~(1u << mech);
  events(&p);
  while (in.len && !p.closed) {
    size_t len = slice < in.len ? slice : in.len;
    mp_ssize taken = mp_server_feed(p.srv, in.ptr, len, p.now);
    demand(taken >= 0);
    events(&p);
    sent(&p, SIZE_MAX);
    in = mp_str_sub(in, (size_t)taken, in.len);
  }
  sent(&p, SIZE_MAX);
  end(&p);
}

static void same(const char *what, const mp_buf *whole, const mp_buf *single)
{
  mp_str a = mp_buf_view(whole), b = mp_buf_view(single);
  if (mp_str_eq(a, b))
    return;
  fprintf(stderr, "%s, fed whole:\n%.*s\n%s, octet by octet:\n%.*s\n", what, (int)a.len, a.ptr, what,
          (int)b.len, b.ptr);
  abort();
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
  logs whole, single;
  logs *both[] = { &whole, &single };
  for (size_t i = 0; i < 2; i++) {
    mp_buf_init(&both[i]->said, 1 << 26, NULL);
    mp_buf_init(&both[i]->events, 1 << 26, NULL);
    speak(data, in, i == 0 ? SIZE_MAX : 1, ctx, both[i]);
  }
  same("said", &whole.said, &single.said);
  same("happened", &whole.events, &single.events);
  for (size_t i = 0; i < 2; i++) {
    mp_buf_dispose(&both[i]->said);
    mp_buf_dispose(&both[i]->events);
  }
  return 0;
}
