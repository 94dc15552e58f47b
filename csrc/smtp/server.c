/* The server machine: what it holds, how it moves, what goes in and out. The parts of the conversation are in server_*.c.
 *
 *                      CONNECT accepted                HELO, EHLO, LHLO accepted
 *   CONNECT --------+----------------------> START --------------------------------> READY <----------------+
 *      ^            | (greet_delay)            ^                                     |  |  ^                 |
 *      |            v            banner        | mp_server_tls_done         STARTTLS |  |  | AUTH over       |
 *      |          GREET ------------------> (START)          TLS <-------------------+  |  +--------- HELD   |
 *      |                                                                                |  |           ^    |
 *      | XCLIENT accepted (from START or READY)                                    AUTH |  v  failed   |    |
 *      +----------------------------------------                                        +->AUTH -------+    |
 *                                                                                                           |
 *   READY --MAIL accepted--> MAIL --RCPT accepted--> RCPT --DATA accepted--> DATA --CRLF.CRLF--> MESSAGE ---+
 *                                                      |                                           ^  answered, or the
 *                                                      | BDAT (DATA event, first time)             |  fault of the body
 *                                                      v           octets taken, not LAST          |  is the answer
 *                                                    CHUNK <----------------------------> BDAT     |
 *                                                      |                      BDAT                 |
 *                                                      +------ octets taken, LAST -----------------+
 *   RSET and HELO lead from MAIL, RCPT and BDAT to READY; a closing event leads from everywhere to CLOSED.
 *
 * What holds in each state, while no event waits:
 *   CONNECT  nothing was said; the CONNECT event is queued or waits. No octets are taken.
 *   GREET    begun_ms is when the banner is due. No octets are taken; any that come are early talk.
 *   START    helo is null, env is NULL, announced is 0.
 *   READY    helo is set, env is NULL.
 *   MAIL     env is set and has no recipient.
 *   RCPT     env has at least one recipient. body_open is false.
 *   DATA     body_open; data decodes what comes. Command lines are not looked for before the true end.
 *   CHUNK    left octets are no commands, whatever they look like. With `refusal` they belong to nothing; else body_open or
 *            chunk_failed. It may also be entered from START to MAIL, for a BDAT that is refused: `resume` is where it goes back.
 *   BDAT     env has recipients; body_open, or chunk_failed: a BDAT failed and RSET must follow (RFC 3030 2).
 *   MESSAGE  the MESSAGE event is queued or waits; every octet has been given out.
 *   AUTH     sasl is set; a line is a response (RFC 4954 4), whatever it looks like.
 *   HELD     sasl is NULL; begun_ms is when the reply is due. No octets are taken.
 *   TLS      the STARTTLS event is queued or waits. Octets that are fed are plaintext behind STARTTLS.
 *   CLOSED   CLOSE is queued or was given out.
 * An event waits at most one at a time, and no octet is taken while one is queued or waits. */
#include "smtp/server_impl.h"

#include <limits.h>

_Static_assert(sizeof(struct mp_server) <= 432, "an idle session is small");

/* ---- moving ------------------------------------------------------------------------------------------------------ */

void mp_srv_enter(mp_server *srv, enum mp_srv_state state)
{
  if (srv->state == ST_CLOSED)
    return; /* for good */
  srv->state = (unsigned char)state;
  srv->since_ms = srv->now_ms;
  srv->line.limit = state == ST_AUTH ? MP_SRV_AUTH_LINE : srv->command_limit;
}

enum mp_srv_state mp_srv_base(const mp_server *srv)
{
  return srv->helo.ptr ? ST_READY : ST_START;
}

void mp_srv_push(mp_server *srv, mp_event_kind kind)
{
  if (srv->queued < MP_SRV_QUEUE)
    srv->queue[srv->queued++] = (unsigned char)kind;
}

void mp_srv_banner(mp_server *srv, mp_str text)
{
  const mp_server_opts *opts = srv->opts;
  if (text.len == 0)
    text = opts->banner;
  if (text.len == 0)
    text = opts->protocol == MP_PROTOCOL_LMTP ? MP_STR("LMTP moonpost") : MP_STR("ESMTP moonpost");
  /* The host name first: RFC 5321 4.2. Lines behind the first carry no name. */
  mp_reply reply = { .code = 220, .text = opts->hostname };
  mp_buf joined;
  mp_buf_init(&joined, opts->hostname.len + 1 + text.len, opts->out_blocks);
  if (mp_buf_str(&joined, opts->hostname) == 0 && mp_buf_char(&joined, ' ') == 0 && mp_buf_str(&joined, text) == 0)
    reply.text = mp_buf_view(&joined);
  srv->ends_group = true;
  mp_srv_enter(srv, mp_srv_base(srv));
  mp_srv_put(srv, &reply, MP_EV_CONNECT);
  mp_buf_dispose(&joined);
}

bool mp_srv_no_banner(mp_server *srv)
{
  if (!srv->behind)
    return false;
  if (srv->foreign) {
    mp_srv_finish(srv, "not SMTP");
    return true;
  }
  return !mp_srv_early(srv);
}

void mp_srv_forget(mp_server *srv)
{
  mp_envelope_unref(srv->env);
  srv->env = NULL;
  mp_mem_free(srv->kept);
  srv->kept = NULL;
  srv->rcpt_reply = NULL;
  srv->refusal = NULL;
  srv->body_open = srv->dropping = srv->failed = srv->chunk_last = srv->chunk_failed = false;
}

static void drop_str(mp_str *view)
{
  union {
    const char *in;
    char *out;
  } ptr = { .in = view->ptr }; /* views are of const octets, these are ours */
  mp_mem_free(ptr.out);
  *view = MP_STR_NULL;
}

bool mp_srv_set(mp_str *view, mp_str value)
{
  char *copy = mp_mem_dup(value.ptr, value.len);
  if (!copy)
    return false;
  drop_str(view);
  *view = mp_str_of(copy, value.len);
  return true;
}

static void drop_note(mp_server *srv)
{
  mp_mem_free(srv->note);
  srv->note = NULL;
}

mp_srv_note *mp_srv_note_new(mp_server *srv, size_t room)
{
  drop_note(srv);
  srv->note = mp_mem_alloc(sizeof *srv->note + room);
  if (srv->note)
    *srv->note = (mp_srv_note){ .name = MP_STR_NULL };
  return srv->note;
}

bool mp_srv_keep(mp_server *srv, const mp_reply *reply)
{
  mp_srv_kept *kept = mp_mem_alloc(sizeof *kept + reply->text.len);
  if (!kept)
    return false;
  kept->reply = *reply;
  if (reply->text.len)
    memcpy(kept->text, reply->text.ptr, reply->text.len);
  kept->reply.text = mp_str_of(kept->text, reply->text.len);
  mp_mem_free(srv->kept);
  srv->kept = kept;
  return true;
}

void mp_srv_forget_session(mp_server *srv)
{
  mp_srv_forget(srv);
  mp_sasl_free(srv->sasl);
  srv->sasl = NULL;
  drop_str(&srv->helo);
  drop_str(&srv->user);
  srv->mech = -1;
  srv->esmtp = false;
  srv->announced = srv->mechanisms = 0;
}

void mp_srv_finish(mp_server *srv, const char *why)
{
  if (srv->state == ST_CLOSED)
    return;
  /* A message that waits for its verdict is the driver's; one that is on its way is not to be kept. */
  bool abort = srv->body_open && !srv->dropping && srv->state != ST_MESSAGE;
  srv->waiting = MP_EV_NONE;
  size_t kept = 0; /* what is only told is still told */
  for (size_t i = 0; i < srv->queued; i++)
    if (srv->queue[i] == MP_EV_AUTHENTICATED || srv->queue[i] == MP_EV_ABORT ||
        srv->queue[i] == MP_EV_RESET || srv->queue[i] == MP_EV_QUIT)
      srv->queue[kept++] = srv->queue[i];
  srv->queued = (unsigned char)kept;
  srv->why = why;
  if (abort) {
    srv->abort_code = 421;
    mp_srv_push(srv, MP_EV_ABORT);
  }
  mp_srv_push(srv, MP_EV_CLOSE);
  mp_srv_enter(srv, ST_CLOSED);
}

void mp_srv_nomem(mp_server *srv)
{
  mp_srv_421(srv, "4.3.0", "Out of memory", "out of memory");
}

/* ---- octets in --------------------------------------------------------------------------------------------------- */

/* Octets came while an event waits for its answer or a reply is held back. They are not taken; where none may be they are noted.
 * Plaintext behind STARTTLS (CVE-2011-0411) is never looked at. */
static mp_ssize feed_waiting(mp_server *srv, mp_str in)
{
  if (in.len == 0)
    return 0;
  if (srv->state == ST_TLS && srv->waiting == MP_EV_STARTTLS) {
    srv->early = true;
    if (srv->opts->tolerate_injection)
      return (mp_ssize)in.len;
    srv->waiting = MP_EV_NONE;
    if (srv->out.len >= srv->left) {
      mp_buf_cut(&srv->out, srv->out.len - (size_t)srv->left); /* nobody has seen a part of the 220 */
      SAY(srv, "554 5.5.1 Plaintext behind STARTTLS");
    }
    mp_srv_finish(srv, "plaintext behind STARTTLS");
    return 0;
  }
  if (srv->state == ST_CONNECT) {
    srv->early = true;
    srv->foreign = srv->foreign || mp_srv_foreign(srv, in); /* said when the banner would be due */
  }
  if (srv->ends_group)
    srv->behind = true;
  if (srv->state == ST_GREET)
    mp_srv_no_banner(srv);
  return 0;
}

static size_t feed_line(mp_server *srv, mp_str in, bool *nomem)
{
  size_t taken;
  mp_str line;
  if (srv->line.held.len == 0 && !srv->line.skipping) {
    srv->line_ms = srv->now_ms;
    srv->line_early = srv->solo || srv->behind;
    srv->behind = false;
  }
  srv->secret = srv->secret || srv->state == ST_AUTH;
  if (srv->state != ST_AUTH) {
    if (mp_srv_foreign(srv, in)) {
      mp_srv_finish(srv, "not SMTP");
      return in.len;
    }
    mp_srv_set_limit(srv, in);
  }
  int rc = mp_line_next(&srv->line, in, &taken, &line);
  srv->more = taken < in.len;
  bool auth = srv->state == ST_AUTH;
  switch (rc) {
  case 0:
    return taken;
  case 1:
    if (auth)
      mp_srv_auth_line(srv, line);
    else
      mp_srv_command(srv, line);
    break;
  case MP_E_TOOLONG:
    srv->ends_group = auth || !(srv->announced & MP_EXT_PIPELINING);
    if (srv->overlong)
      mp_srv_421(srv, "4.7.0", "Too many overlong lines", "overlong lines");
    else if (auth)
      mp_srv_auth_broken(srv, MP_STR("500 5.5.6 Authentication exchange line is too long"));
    else if (srv->line.limit == MP_SRV_AUTH_LINE)
      BAD(srv, "500 5.5.6 Authentication exchange line is too long");
    else
      BAD(srv, "500 5.5.2 Line too long");
    srv->overlong = true;
    return taken;
  case MP_E_BARELF:
    srv->ends_group = auth || !(srv->announced & MP_EXT_PIPELINING);
    if (auth)
      mp_srv_auth_broken(srv, MP_STR("501 5.5.2 Line holds a bare CR or LF, or a NUL"));
    else
      BAD(srv, "500 5.5.2 Line holds a bare CR or LF, or a NUL");
    break;
  default:
    mp_srv_nomem(srv);
    *nomem = true;
    return 0;
  }
  mp_line_dispose(&srv->line); /* an idle session holds no buffer */
  return taken;
}

/* The end of a chunk needs no octet of its own. */
static void settle(mp_server *srv)
{
  while (srv->state == ST_CHUNK && srv->left == 0 && !srv->queued && !srv->waiting)
    mp_srv_chunk_end(srv);
}

mp_ssize mp_server_feed(mp_server *srv, const void *in, size_t len, int64_t now_ms)
{
  mp_str rest = mp_str_of(in, len);
  if (srv->state == ST_CLOSED)
    return srv->queued ? 0 : MP_E_CLOSED;
  srv->now_ms = now_ms;
  if (srv->queued || srv->waiting || srv->state == ST_GREET || srv->state == ST_HELD)
    return feed_waiting(srv, rest);
  if (srv->note)
    drop_note(srv); /* what the last events showed */
  settle(srv);
  bool nomem = false;
  while (rest.len && !srv->queued && !srv->waiting && srv->out.len <= MP_SRV_HIGH_WATER && srv->state != ST_HELD) {
    size_t taken;
    if (srv->state == ST_DATA)
      taken = mp_srv_feed_data(srv, rest);
    else if (srv->state == ST_CHUNK)
      taken = mp_srv_feed_chunk(srv, rest);
    else
      taken = feed_line(srv, rest, &nomem);
    rest = mp_str_sub(rest, taken, rest.len);
    settle(srv);
  }
  if (nomem && rest.len == len)
    return MP_E_NOMEM;
  return (mp_ssize)(len - rest.len);
}

/* ---- events out -------------------------------------------------------------------------------------------------- */

static bool wants_answer(mp_event_kind kind)
{
  switch (kind) {
  case MP_EV_AUTHENTICATED:
  case MP_EV_CHUNK:
  case MP_EV_ABORT:
  case MP_EV_RESET:
  case MP_EV_QUIT:
  case MP_EV_CLOSE:
    return false;
  default:
    return true;
  }
}

static void show(mp_server *srv, mp_event *ev)
{
  mp_envelope *env = srv->env;
  switch (ev->kind) {
  case MP_EV_HELO:
    ev->helo.name = srv->note->name;
    ev->helo.esmtp = srv->hello_esmtp;
    break;
  case MP_EV_CREDENTIALS:
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    ev->auth.user = mp_sasl_user(srv->sasl);
    ev->auth.mech = (mp_mech)srv->mech;
    ev->auth.password = ev->kind == MP_EV_CREDENTIALS ? MP_STR_NULL : mp_sasl_password(srv->sasl);
    break;
  case MP_EV_JOB:
    ev->job.job = mp_sasl_job(srv->sasl);
    break;
  case MP_EV_AUTHENTICATED:
    ev->authenticated.ok = srv->user.ptr != NULL;
    ev->authenticated.mech = (mp_mech)srv->mech;
    ev->authenticated.user = srv->user.ptr ? srv->user : srv->note ? srv->note->name : MP_STR_NULL;
    ev->authenticated.authzid = srv->note ? srv->note->authzid : MP_STR_NULL;
    break;
  case MP_EV_XCLIENT:
    ev->xclient.attributes = &srv->note->xclient;
    break;
  case MP_EV_MAIL:
    ev->mail.path = &env->sender;
    ev->mail.params = &env->params;
    break;
  case MP_EV_RCPT:
    ev->rcpt.recipient = env->rcpts[env->count - 1];
    break;
  case MP_EV_DATA:
    ev->data.bdat = srv->state == ST_CHUNK;
    break;
  case MP_EV_CHUNK:
    ev->chunk.octets = srv->chunk;
    break;
  case MP_EV_MESSAGE:
    ev->message.size = srv->data.size;
    ev->message.facts = srv->data.faults & ~(unsigned)MP_DATA_LONG_LINE;
    break;
  case MP_EV_ABORT:
    ev->abort.code = srv->abort_code;
    ev->abort.why = srv->why;
    break;
  case MP_EV_CLOSE:
    ev->close.why = srv->why;
    break;
  default:
    break;
  }
}

int mp_server_next(mp_server *srv, mp_event *ev)
{
  *ev = (mp_event){ .kind = MP_EV_NONE };
  if (srv->waiting)
    return 0;
  settle(srv);
  if (srv->queued == 0)
    return 0;
  ev->kind = (mp_event_kind)srv->queue[0];
  srv->queued--;
  memmove(srv->queue, srv->queue + 1, srv->queued);
  if (wants_answer(ev->kind))
    srv->waiting = (unsigned char)ev->kind;
  show(srv, ev);
  return 1;
}

void mp_server_close(mp_server *srv, const mp_reply *reply, const char *why)
{
  if (srv->state == ST_CLOSED)
    return;
  if (reply && !mp_reply_check(reply))
    mp_srv_put(srv, reply, MP_EV_CLOSE);
  mp_srv_finish(srv, why);
}

/* ---- octets out -------------------------------------------------------------------------------------------------- */

mp_str mp_server_output(const mp_server *srv)
{
  return mp_buf_view(&srv->out);
}

void mp_server_sent(mp_server *srv, size_t len)
{
  mp_buf_consume(&srv->out, len);
  if (srv->out.len == 0)
    srv->solo = false; /* the peer may have read all there is */
}

/* ---- birth, death ---------------------------------------------------------------------------------------------- */

/* What all replies that can stand in output together may take: below the high-water mark any number, above it what one command or
 * message says: 8 KB of text and its codes, and over LMTP one for each recipient. */
static size_t out_most(const mp_server_opts *opts)
{
  size_t most = MP_SRV_HIGH_WATER + 32 * 1024;
  return opts->protocol == MP_PROTOCOL_LMTP ? most + (size_t)opts->recipients * 1024 : most;
}

int mp_server_new(mp_server **out, const mp_server_opts *opts, unsigned trust, bool tls_from_start, int64_t now_ms)
{
  mp_server *srv = *out = mp_mem_zalloc(sizeof *srv);
  if (!srv)
    return MP_E_NOMEM;
  srv->opts = opts;
  srv->trust = trust;
  srv->tls = tls_from_start;
  srv->mech = -1;
  srv->now_ms = srv->start_ms = now_ms;
  srv->command_limit = (unsigned short)mp_srv_command_limit(opts);
  mp_line_init(&srv->line, srv->command_limit, opts->out_blocks);
  mp_buf_init(&srv->out, out_most(opts), opts->out_blocks);
  srv->ends_group = true;
  mp_srv_enter(srv, ST_CONNECT);
  mp_srv_push(srv, MP_EV_CONNECT);
  return 0;
}

void mp_server_free(mp_server *srv)
{
  if (!srv)
    return;
  mp_srv_forget_session(srv);
  drop_note(srv);
  mp_mem_free(srv->binding);
  mp_line_dispose(&srv->line);
  mp_buf_dispose(&srv->out);
  mp_mem_free(srv);
}
