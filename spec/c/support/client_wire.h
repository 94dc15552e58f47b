/* support/client_wire.h -- a driver for transcripts of the client machine: a test plays the server. It feeds replies in slices, hands out a
 * body in pieces, and keeps what was said and what happened. One machine, a clock that the test turns, no I/O.
 *
 *   cwire c;
 *   cwire_open(&c, slice, "250-mx\r\n250 PIPELINING\r\n");      banner and EHLO are over
 *   CHECK_EQ_INT(mp_client_noop(c.cl, c.now), 0);
 *   CWIRE(&c, "250 2.0.0 OK\r\n", "NOOP\r\n", "noop=250+");      the replies, what had been said by then, what came of it
 *   cwire_close(&c);
 *
 * An event is written as op=code, with '+' for ok, '!' for an error, 'l' for local; CLOSE as close. */
#ifndef MP_SPEC_CLIENT_WIRE_H
#define MP_SPEC_CLIENT_WIRE_H

#include "base/error.h"
#include "smtp/client.h"
#include "support/check.h"

typedef struct cwire_text { /* not from base/mem.h: the driver's memory does not fail with the machine's */
  char *ptr;
  size_t len, room;
} cwire_text;

typedef struct cwire {
  mp_client_opts opts;
  mp_client *cl;
  size_t slice; /* octets a feed; 0 = all at once */
  size_t piece; /* octets of the body at a time; 0 = all at once */
  int64_t now;
  mp_str body; /* what is left to give */
  bool body_over;
  bool hold; /* leave output unsent */
  bool keep_job;
  mp_job *job;
  cwire_text said, events;
  mp_client_result done; /* of the last DONE; its text is gone */
  char text[1200];       /* of the last DONE's reply */
  bool closed;
  int rc; /* of CLOSE */
  const char *why;
  int body_rc;
  mp_tls_facts facts;
  size_t dones, begun; /* operations that ended, and that were asked for (by the tests that count) */
} cwire;

#ifndef FOR_EACH_SLICE
static const size_t cwire_slices[] = { 1, 2, 3, 64, 0 };
#define FOR_EACH_SLICE(S)                                      \
  for (size_t slice_i_ = 0, S = cwire_slices[0]; slice_i_ < 5; \
       slice_i_++, S = slice_i_ < 5 ? cwire_slices[slice_i_] : 0)
#endif

static void cwire_note(cwire_text *text, const void *ptr, size_t len)
{
  if (text->len + len + 1 > text->room) {
    text->room = (text->len + len + 1) * 2;
    text->ptr = realloc(text->ptr, text->room);
  }
  if (len)
    memcpy(text->ptr + text->len, ptr, len);
  text->len += len;
}

static void cwire_clear(cwire_text *text)
{
  free(text->ptr);
  *text = (cwire_text){ NULL, 0, 0 };
}

static void cwire_event(cwire *c, const char *text)
{
  if (c->events.len)
    cwire_note(&c->events, " ", 1);
  cwire_note(&c->events, text, strlen(text));
}

static void cwire_handle(cwire *c, const mp_client_event *ev)
{
  char text[100];
  switch (ev->kind) {
  case MP_CE_STARTTLS:
    cwire_event(c, "starttls");
    break;
  case MP_CE_JOB:
    cwire_event(c, "job");
    c->job = ev->job.job;
    if (c->keep_job)
      break;
    c->job->run(c->job);
    CHECK_EQ_INT(mp_client_worked(c->cl, c->job, c->now), 0);
    c->job = NULL;
    break;
  case MP_CE_BODY:
    cwire_event(c, "body");
    break;
  case MP_CE_DONE:
    c->done = ev->done;
    c->dones++;
    CHECK(ev->done.reply.code == 0 || !mp_reply_check(&ev->done.reply));
    snprintf(c->text, sizeof c->text, "%.*s", (int)ev->done.reply.text.len, ev->done.reply.text.ptr);
    if (ev->done.rc)
      snprintf(text, sizeof text, "%s!%s", mp_client_op_name(ev->done.op), mp_error_name(ev->done.rc));
    else
      snprintf(text, sizeof text, "%s=%d%s%s", mp_client_op_name(ev->done.op), ev->done.reply.code,
               ev->done.ok ? "+" : "", ev->done.local ? "l" : "");
    cwire_event(c, text);
    break;
  case MP_CE_CLOSE:
    CHECK(!c->closed);
    c->closed = true;
    c->rc = ev->close.rc;
    c->why = ev->close.why;
    cwire_event(c, "close");
    break;
  case MP_CE_NONE:
    break;
  }
}

/* What the header's loop does without octets that came. */
static void cwire_pump(cwire *c)
{
  mp_client_event ev;
  for (;;) {
    while (mp_client_next(c->cl, &ev))
      cwire_handle(c, &ev);
    mp_str out = mp_client_output(c->cl);
    if (out.len && !c->hold) {
      cwire_note(&c->said, out.ptr, out.len);
      mp_client_sent(c->cl, out.len, c->now);
      continue;
    }
    if (!mp_client_wants_body(c->cl) || c->body_over)
      return;
    size_t len = c->piece && c->piece < c->body.len ? c->piece : c->body.len, taken;
    char *copy = malloc(len + 1); /* reading past it, or after it is gone, is seen by the address sanitizer */
    if (len)
      memcpy(copy, c->body.ptr, len);
    bool last = len == c->body.len;
    c->body_rc = mp_client_body(c->cl, copy, len, last, &taken, c->now);
    free(copy);
    c->body = mp_str_sub(c->body, taken, c->body.len);
    c->body_over = c->body_rc < 0 || (last && taken == len);
    if (c->body_rc < 0)
      continue;
  }
}

/* Feeds replies. Returns the octets that were not taken. */
static size_t cwire_feed(cwire *c, const char *octets, size_t len)
{
  size_t at = 0;
  cwire_pump(c);
  while (at < len && !c->closed) {
    size_t n = c->slice && len - at > c->slice ? c->slice : len - at, done = 0;
    char *copy = malloc(n);
    memcpy(copy, octets + at, n);
    for (;;) {
      mp_ssize taken = mp_client_feed(c->cl, copy + done, n - done, c->now);
      if (taken > 0)
        done += (size_t)taken;
      cwire_pump(c);
      if (taken <= 0 || done == n)
        break;
    }
    free(copy);
    at += done;
    if (done < n)
      break;
  }
  cwire_pump(c);
  return len - at;
}

__attribute__((unused)) static bool cwire_check(const char *file, int line, const char *what, cwire_text *got,
                                                mp_str want)
{
  bool ok = check_eq_str(file, line, what, mp_str_of(got->ptr, got->len), want);
  cwire_clear(got);
  return ok;
}

/* Each compares with all of it since the last look, and forgets it. */
#define CHECK_ASKED(C, LIT) cwire_check(__FILE__, __LINE__, "what was said", &(C)->said, MP_STR("" LIT))
#define CHECK_CAME(C, LIT)  cwire_check(__FILE__, __LINE__, "what happened", &(C)->events, MP_STR("" LIT))
/* What has been said until now; then replies are fed; then what happened. */
#define CWIRE(C, REPLIES, SAID, EVENTS)               \
  do {                                                \
    cwire_pump(C);                                    \
    CHECK_ASKED((C), SAID);                           \
    cwire_feed((C), "" REPLIES, sizeof(REPLIES) - 1); \
    CHECK_CAME((C), EVENTS);                          \
  } while (0)

static void cwire_init(cwire *c, size_t slice)
{
  *c = (cwire){ .slice = slice, .now = 1000000 };
  mp_client_opts_init(&c->opts);
  c->opts.hostname = MP_STR("client.example");
}

__attribute__((unused)) static void cwire_body(cwire *c, mp_str body)
{
  c->body = body;
  c->body_over = false;
  c->body_rc = 0;
}

static bool cwire_start(cwire *c, const mp_tls_facts *tls)
{
  return mp_client_new(&c->cl, &c->opts, tls, c->now) == 0;
}

/* Banner, EHLO and its reply, with what was said and what happened thrown away. */
static bool cwire_hello(cwire *c, const char *ehlo)
{
  cwire_feed(c, "220 mx.example ESMTP\r\n", 22);
  if (mp_client_hello(c->cl, c->now) < 0)
    return false;
  cwire_feed(c, ehlo, strlen(ehlo));
  cwire_clear(&c->said);
  cwire_clear(&c->events);
  return c->done.ok;
}

__attribute__((unused)) static bool cwire_open(cwire *c, size_t slice, const char *ehlo)
{
  cwire_init(c, slice);
  return cwire_start(c, NULL) && cwire_hello(c, ehlo);
}

__attribute__((unused)) static void cwire_close(cwire *c)
{
  if (c->job)
    c->job->free(c->job);
  mp_client_free(c->cl);
  c->cl = NULL;
  cwire_clear(&c->said);
  cwire_clear(&c->events);
}

/* ---- transactions -------------------------------------------------------------------------------------------------- */

enum { CWIRE_RCPTS = 8 };

typedef struct cwire_tx {
  mp_transaction tx;
  mp_send_rcpt rcpts[CWIRE_RCPTS];
} cwire_tx;

/* From a@example.net to each of `to` (up to its NULL). */
__attribute__((unused)) static void cwire_tx_init(cwire_tx *t, const char *const *to)
{
  *t = (cwire_tx){ .rcpts = { { .address = { NULL, 0 } } } };
  mp_transaction_init(&t->tx, NULL);
  t->tx.sender = MP_STR("a@example.net");
  t->tx.rcpts = t->rcpts;
  for (; *to; to++)
    t->rcpts[t->tx.count++].address = mp_str_c(*to);
}
#define TO(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* "delivered body 250" of recipient `i`, with "local" behind it where it is. */
__attribute__((unused)) static bool cwire_check_rcpt(const char *file, int line, const cwire_tx *t, size_t i,
                                                     const char *want)
{
  char got[100];
  const mp_rcpt_result *r = &t->rcpts[i].result;
  snprintf(got, sizeof got, "%s %s %d%s", mp_rcpt_state_name((mp_rcpt_state)r->state),
           mp_stage_name((mp_stage)r->stage), r->reply.code, r->local ? " local" : "");
  return check_eq_str(file, line, "the recipient", mp_str_c(got), mp_str_c(want));
}
#define CHECK_RCPT(T, I, WANT) cwire_check_rcpt(__FILE__, __LINE__, (T), (I), (WANT))

#endif
