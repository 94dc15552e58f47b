/* support/wire.h -- a driver for transcripts: it feeds a server machine in slices, answers its events by a script, and keeps what was
 * said and what happened. One machine, a clock that the test turns, no I/O.
 *
 *   wire w;
 *   wire_open(&w, slice);                       banner included
 *   wire_say(&w, "EHLO mx.example.net\r\n");    feeds and answers until the machine rests
 *   CHECK_SAID(&w, "250 2.0.0 OK\r\n");         all that was said since the last look
 *   CHECK_EVENTS(&w, "mail rcpt");              all that happened since the last look
 *   wire_close(&w);
 *
 * A test fills `w.opts` between wire_init and wire_start where the defaults are not what it is about. */
#ifndef MP_SPEC_WIRE_H
#define MP_SPEC_WIRE_H

#include "base/error.h"
#include "smtp/server.h"
#include "support/check.h"

typedef struct wire_answer { /* for the next event of its kind; once */
  mp_event_kind kind;
  mp_reply reply;
} wire_answer;

typedef struct wire_text { /* not from base/mem.h: the driver's memory does not fail with the machine's */
  char *ptr;
  size_t len, room;
} wire_text;

typedef struct wire {
  mp_server_opts opts;
  mp_server *srv;
  size_t slice; /* octets a feed; 0 = all at once */
  int64_t now;
  unsigned trust;
  bool tls_from_start;
  bool hold;          /* leave output unsent, as a driver that has not been able to write */
  bool stop;          /* leave events that want an answer unanswered */
  const char *secret; /* password of every user in CREDENTIALS; NULL: no such user */
  bool ask;           /* let AUTH decide */
  wire_text said, events, body;
  unsigned happened; /* events so far */
  uint64_t size;     /* of the last MESSAGE */
  unsigned facts;
  size_t messages; /* accepted */
  bool closed;
  const char *why; /* of the last CLOSE or ABORT */
  wire_answer answers[8];
  size_t answer_count;
  mp_event waits; /* with `stop` */
  mp_tls_facts facts_tls;
  int (*before_reply)(struct wire *w, const mp_event *ev); /* may answer by itself and return 1 */
} wire;

static const size_t wire_slices[] = { 1, 2, 3, 64, 0 };
#define FOR_EACH_SLICE(S)                                     \
  for (size_t slice_i_ = 0, S = wire_slices[0]; slice_i_ < 5; \
       slice_i_++, S = slice_i_ < 5 ? wire_slices[slice_i_] : 0)

static void wire_init(wire *w, mp_protocol protocol, size_t slice)
{
  *w = (wire){ .slice = slice, .now = 1000000 };
  mp_server_opts_init(&w->opts, protocol);
  w->opts.hostname = MP_STR("mx.example.org");
  w->opts.auth_delay_ms = 0;
}

static void wire_note(wire_text *text, const void *ptr, size_t len)
{
  if (text->len + len + 1 > text->room) {
    text->room = (text->len + len + 1) * 2;
    text->ptr = realloc(text->ptr, text->room);
  }
  if (len)
    memcpy(text->ptr + text->len, ptr, len);
  text->len += len;
}

static void wire_clear(wire_text *text)
{
  free(text->ptr);
  *text = (wire_text){ NULL, 0, 0 };
}

static void wire_event(wire *w, const char *text)
{
  if (w->events.len)
    wire_note(&w->events, " ", 1);
  wire_note(&w->events, text, strlen(text));
}

/* The next event of `kind` gets this reply instead of no objection. */
__attribute__((unused)) static void wire_answer_next(wire *w, mp_event_kind kind, mp_reply reply)
{
  w->answers[w->answer_count++] = (wire_answer){ kind, reply };
}

static const mp_reply *wire_answer_for(wire *w, mp_event_kind kind, mp_reply *room)
{
  for (size_t i = 0; i < w->answer_count; i++)
    if (w->answers[i].kind == kind) {
      *room = w->answers[i].reply;
      w->answer_count--;
      memmove(&w->answers[i], &w->answers[i + 1], (w->answer_count - i) * sizeof w->answers[0]);
      return room;
    }
  return NULL;
}

static void wire_drain(wire *w)
{
  if (w->hold)
    return;
  mp_str out = mp_server_output(w->srv);
  wire_note(&w->said, out.ptr, out.len);
  mp_server_sent(w->srv, out.len);
}

static void wire_credentials(wire *w, const mp_event *ev)
{
  (void)ev;
  mp_credentials cred = { .ask = w->ask, .password = w->secret ? mp_str_c(w->secret) : MP_STR_NULL };
  CHECK_EQ_INT(mp_server_credentials(w->srv, &cred, w->now), 0);
}

static void wire_handle(wire *w, const mp_event *ev)
{
  w->happened++;
  mp_reply room;
  const mp_reply *reply = wire_answer_for(w, ev->kind, &room);
  char text[700];
  switch (ev->kind) {
  case MP_EV_HELO:
    snprintf(text, sizeof text, "%s=%.*s", ev->helo.esmtp ? "ehlo" : "helo", (int)ev->helo.name.len,
             ev->helo.name.ptr);
    break;
  case MP_EV_MAIL:
    snprintf(text, sizeof text, "mail=%.*s", (int)ev->mail.path->address.len, ev->mail.path->address.ptr);
    break;
  case MP_EV_RCPT:
    snprintf(text, sizeof text, "rcpt=%.*s", (int)ev->rcpt.recipient->path.address.len,
             ev->rcpt.recipient->path.address.ptr);
    break;
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    snprintf(text, sizeof text, "%s=%.*s:%.*s", mp_event_name(ev->kind), (int)ev->auth.user.len,
             ev->auth.user.ptr, (int)ev->auth.password.len, ev->auth.password.ptr);
    break;
  case MP_EV_CREDENTIALS:
    CHECK_EQ_INT(ev->auth.password.len, 0);
    snprintf(text, sizeof text, "credentials=%.*s", (int)ev->auth.user.len, ev->auth.user.ptr);
    break;
  case MP_EV_AUTHENTICATED:
    snprintf(text, sizeof text, "authenticated=%s:%.*s", ev->authenticated.ok ? "yes" : "no",
             (int)ev->authenticated.user.len, ev->authenticated.user.ptr);
    break;
  case MP_EV_MESSAGE:
    snprintf(text, sizeof text, "message=%llu", (unsigned long long)ev->message.size);
    break;
  case MP_EV_ABORT:
    snprintf(text, sizeof text, "abort=%d", ev->abort.code);
    break;
  case MP_EV_CHUNK:
    text[0] = '\0';
    break;
  default:
    snprintf(text, sizeof text, "%s", mp_event_name(ev->kind));
    break;
  }
  if (text[0])
    wire_event(w, text);
  if (w->before_reply && w->before_reply(w, ev))
    return;
  switch (ev->kind) {
  case MP_EV_CHUNK:
    wire_note(&w->body, ev->chunk.octets.ptr, ev->chunk.octets.len);
    break;
  case MP_EV_DATA:
    wire_clear(&w->body);
    CHECK_EQ_INT(mp_server_reply(w->srv, reply, w->now), 0);
    break;
  case MP_EV_MESSAGE:
    w->size = ev->message.size;
    w->facts = ev->message.facts;
    w->messages += !reply || reply->code < 300;
    CHECK_EQ_INT(mp_server_reply(w->srv, reply, w->now), 0);
    break;
  case MP_EV_STARTTLS:
    if (!w->hold)
      wire_drain(w);
    CHECK_EQ_INT(mp_server_tls_done(w->srv, &w->facts_tls, w->now), 0);
    break;
  case MP_EV_CREDENTIALS:
    if (reply)
      CHECK_EQ_INT(mp_server_credentials_fail(w->srv, reply, w->now), 0);
    else
      wire_credentials(w, ev);
    break;
  case MP_EV_JOB:
    ev->job.job->run(ev->job.job);
    CHECK_EQ_INT(mp_server_worked(w->srv, ev->job.job, w->now), 0);
    break;
  case MP_EV_ABORT:
    w->why = ev->abort.why;
    break;
  case MP_EV_CLOSE:
    w->why = ev->close.why;
    w->closed = true;
    break;
  case MP_EV_AUTHENTICATED:
  case MP_EV_RESET:
  case MP_EV_QUIT:
  case MP_EV_NONE:
  case MP_EV_COUNT:
    break;
  default:
    CHECK_EQ_INT(mp_server_reply(w->srv, reply, w->now), 0);
    break;
  }
}

/* Takes events until none is left, or with `stop` one that wants an answer: false. */
static bool wire_events(wire *w)
{
  mp_event ev;
  for (;;) {
    if (mp_server_next(w->srv, &ev) == 0)
      return !mp_server_waiting(w->srv);
    if (w->stop && mp_server_waiting(w->srv)) {
      w->waits = ev;
      return false;
    }
    wire_handle(w, &ev);
  }
}

/* One read's worth: output is sent behind it. False: the machine takes no more. */
static bool wire_flight(wire *w, const char *octets, size_t len, size_t *taken)
{
  for (*taken = 0; *taken < len;) {
    unsigned before = w->happened;
    mp_ssize n = mp_server_feed(w->srv, octets + *taken, len - *taken, w->now);
    bool goes_on = wire_events(w);
    if (n > 0)
      *taken += (size_t)n;
    if (n < 0 || !goes_on || w->closed)
      return false;
    if (n == 0 && w->happened == before) {
      if (w->hold || mp_server_output(w->srv).len == 0)
        return false;
      wire_drain(w);
    }
  }
  return true;
}

/* Feeds as the header's loop does. Returns the octets that were not taken. */
static size_t wire_feed(wire *w, const char *octets, size_t len)
{
  size_t at = 0;
  bool goes_on = wire_events(w) && !w->closed;
  while (at < len && goes_on) {
    size_t n = w->slice && len - at > w->slice ? w->slice : len - at, taken;
    /* A copy of exactly this slice: reading past it, or after it is gone, is seen by the address sanitizer. */
    char *copy = malloc(n);
    memcpy(copy, octets + at, n);
    goes_on = wire_flight(w, copy, n, &taken);
    free(copy);
    at += taken;
    wire_drain(w);
  }
  wire_events(w);
  wire_drain(w);
  return len - at;
}

__attribute__((unused)) static size_t wire_say(wire *w, const char *text)
{
  return wire_feed(w, text, strlen(text));
}

#define WIRE_SAY(W, LIT) wire_feed((W), "" LIT, sizeof(LIT) - 1)

static bool wire_start(wire *w)
{
  if (mp_server_new(&w->srv, &w->opts, w->trust, w->tls_from_start, w->now) < 0)
    return false;
  wire_events(w);
  wire_drain(w);
  return true;
}

__attribute__((unused)) static void wire_look(wire *w)
{
  wire_clear(&w->said);
  wire_clear(&w->events);
}

/* A session up to a command of the transaction, with what was said thrown away. */
__attribute__((unused)) static void wire_upto(wire *w, const char *text)
{
  size_t slice = w->slice;
  w->slice = 0;
  while (*text) { /* a line at a time: HELO may not be followed by anything */
    const char *end = strstr(text, "\r\n");
    size_t len = end ? (size_t)(end - text) + 2 : strlen(text);
    wire_feed(w, text, len);
    text += len;
  }
  w->slice = slice;
  wire_look(w);
}

__attribute__((unused)) static bool wire_open(wire *w, size_t slice)
{
  wire_init(w, MP_PROTOCOL_SMTP, slice);
  if (!wire_start(w))
    return false;
  wire_look(w);
  return true;
}

static void wire_close(wire *w)
{
  mp_server_free(w->srv);
  w->srv = NULL;
  wire_clear(&w->said);
  wire_clear(&w->events);
  wire_clear(&w->body);
}

/* Turns the clock to the machine's deadline and ticks. False when nothing is due. */
__attribute__((unused)) static bool wire_tick(wire *w)
{
  int64_t due = mp_server_deadline(w->srv);
  if (due == INT64_MAX)
    return false;
  w->now = due;
  mp_server_tick(w->srv, w->now);
  wire_events(w);
  wire_drain(w);
  return true;
}

__attribute__((unused)) static bool wire_check(const char *file, int line, const char *what, wire_text *got,
                                               mp_str want)
{
  bool ok = check_eq_str(file, line, what, mp_str_of(got->ptr, got->len), want);
  wire_clear(got);
  return ok;
}

/* Each compares with all of it since the last look, and forgets it. */
#define CHECK_SAID(W, LIT)   wire_check(__FILE__, __LINE__, "what was said", &(W)->said, MP_STR("" LIT))
#define CHECK_EVENTS(W, LIT) wire_check(__FILE__, __LINE__, "what happened", &(W)->events, MP_STR("" LIT))
#define CHECK_BODY(W, LIT)                                                                 \
  check_eq_str(__FILE__, __LINE__, "the message", mp_str_of((W)->body.ptr, (W)->body.len), \
               mp_str_of("" LIT, sizeof(LIT) - 1))
/* Says a text and compares the replies. */
#define TALK(W, LIT, SAID) \
  do {                     \
    WIRE_SAY((W), LIT);    \
    CHECK_SAID((W), SAID); \
  } while (0)

#endif
