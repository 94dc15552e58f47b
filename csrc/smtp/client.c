/* The client machine: what it holds, how it moves, what goes in and out. The parts of the conversation are in client_*.c.
 *
 *   BANNER --reply--> IDLE <------------------------------------------------------------------------------+
 *                      |  hello          EHLO --refused--> HELO                                           |
 *                      |  starttls       STARTTLS --220--> HANDSHAKE --tls_done                           | the operation
 *                      |  auth           AUTH <--> JOB                                                    | is over: DONE
 *                      |  command, ...   LINE                                                             |
 *                      |  send, ...      ENVELOPE --354, or recipients for BDAT--> BODY --end--> FINAL ---+
 *                      |  quit           QUIT ----------------------------------------------------> CLOSED
 *   From everywhere to CLOSED: 421, a reply that is none, a deadline, mp_client_lost.
 *
 * What holds in each state:
 *   IDLE       op is NONE, tx and login are NULL. A reply that comes is 421 or a breach of protocol.
 *   ENVELOPE   two cursors: `send` is what is to be written next, `reply` what is to be answered next; `flight` commands stand between them.
 *              Without PIPELINING it is 0 or 1. The operation ends when send is END and flight 0.
 *   BODY       DATA: every command was answered. BDAT: `flight` chunks were not.
 *   FINAL      the end of the body has been written: whoever has no result when the connection ends is UNKNOWN.
 *   HANDSHAKE  octets that are fed were said in clear behind 220.
 *   CLOSED     CLOSE is pending or was told. */
#include "smtp/client_impl.h"

const char *mp_client_op_name(mp_client_op op)
{
  static const char *const names[] = {
#define NAME(name, text) [MP_OP_##name] = (text),
    MP_CLIENT_OP_MAP(NAME)
#undef NAME
  };
  return names[op];
}

const char *mp_client_state(const mp_client *cl)
{
  static const char *const names[] = {
#define NAME(name) [CL_##name] = #name,
    MP_CL_STATE_MAP(NAME)
#undef NAME
  };
  return names[cl->state];
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* Replaces the channel bindings. */
static int bind_channel(mp_client *cl, const mp_tls_facts *facts)
{
  char *block = mp_mem_alloc(facts->cb_unique.len + facts->cb_exporter.len);
  if (!block)
    return MP_E_NOMEM;
  mp_mem_free((void *)(uintptr_t)cl->unique.ptr);
  if (facts->cb_unique.len)
    memcpy(block, facts->cb_unique.ptr, facts->cb_unique.len);
  if (facts->cb_exporter.len)
    memcpy(block + facts->cb_unique.len, facts->cb_exporter.ptr, facts->cb_exporter.len);
  cl->unique = mp_str_of(block, facts->cb_unique.len);
  cl->exporter = mp_str_of(block + facts->cb_unique.len, facts->cb_exporter.len);
  cl->tls = true;
  return 0;
}

int mp_client_new(mp_client **out, const mp_client_opts *opts, const mp_tls_facts *tls, int64_t now_ms)
{
  *out = NULL;
  mp_client *cl = mp_mem_zalloc(sizeof *cl);
  if (!cl)
    return MP_E_NOMEM;
  cl->opts = opts;
  cl->mech = -1;
  cl->op = MP_OP_GREET;
  cl->now_ms = cl->since_ms = cl->start_ms = now_ms;
  mp_reader_init(&cl->reader, opts->line_blocks);
  mp_buf_init(&cl->out, MP_CL_OUTPUT, opts->out_blocks);
  if (tls && bind_channel(cl, tls) < 0) {
    mp_mem_free(cl);
    return MP_E_NOMEM;
  }
  *out = cl;
  return 0;
}

/* Responses of AUTH may still stand in the output. */
static void drop_output(mp_client *cl)
{
  if (cl->secret && cl->out.ptr)
    mp_mem_wipe(cl->out.ptr, cl->out.cap);
  cl->secret = 0;
  mp_buf_dispose(&cl->out);
}

void mp_client_free(mp_client *cl)
{
  if (!cl)
    return;
  mp_cl_auth_end(cl);
  mp_cl_forget_caps(cl);
  drop_output(cl);
  mp_reader_dispose(&cl->reader);
  mp_mem_free((void *)(uintptr_t)cl->unique.ptr);
  mp_mem_free(cl->domain);
  mp_mem_free(cl);
}

/* ---- moving ------------------------------------------------------------------------------------------------------- */

void mp_cl_enter(mp_client *cl, enum mp_cl_state state)
{
  cl->state = (unsigned char)state;
  cl->since_ms = cl->now_ms;
}

void mp_cl_push(mp_client *cl, enum mp_cl_pending event)
{
  cl->pending |= (unsigned char)event;
}

int mp_cl_invalid(mp_client *cl, const char *why)
{
  cl->why = why;
  return MP_E_INVALID;
}

int mp_cl_begin(mp_client *cl, mp_client_op op, int64_t now_ms)
{
  if (cl->state == CL_CLOSED)
    return MP_E_CLOSED;
  if (cl->op != MP_OP_NONE || cl->pending)
    return MP_E_MISUSE;
  cl->op = (unsigned char)op;
  cl->early = mp_reader_begun(&cl->reader);
  cl->done.again = 0;
  cl->now_ms = cl->since_ms = cl->start_ms = now_ms;
  return 0;
}

void mp_cl_cancel(mp_client *cl)
{
  cl->op = MP_OP_NONE;
  cl->tx = NULL;
  cl->login = NULL;
  mp_cl_enter(cl, CL_IDLE);
}

static void over(mp_client *cl)
{
  mp_cl_auth_end(cl);
  if (cl->op == MP_OP_AUTH && !cl->done.ok)
    cl->mech = -1;
  cl->done.op = (mp_client_op)cl->op;
  cl->pending = PENDING_DONE;
  mp_cl_cancel(cl);
}

void mp_cl_done(mp_client *cl, bool ok, const mp_reply *reply)
{
  cl->done = (mp_client_result){ .ok = ok, .reply = *reply, .again = cl->done.again };
  over(cl);
}

void mp_cl_done_local(mp_client *cl, const mp_reply *reply)
{
  mp_cl_done(cl, false, reply);
  cl->done.local = true;
}

void mp_cl_close(mp_client *cl, int rc, const char *why)
{
  if (cl->state == CL_CLOSED)
    return;
  cl->rc = rc;
  cl->why = why;
  mp_cl_enter(cl, CL_CLOSED);
  mp_cl_push(cl, PENDING_CLOSE);
}

void mp_cl_fail(mp_client *cl, int rc, const char *why)
{
  if (cl->state == CL_CLOSED)
    return;
  if (cl->op != MP_OP_NONE) {
    if (cl->tx)
      mp_cl_settle_lost(cl);
    cl->done = (mp_client_result){ .rc = rc, .again = cl->tx ? mp_transaction_count(cl->tx, MP_RCPT_AGAIN) : 0 };
    bool quit = cl->op == MP_OP_QUIT; /* nobody minds how a conversation ends that was over */
    over(cl);
    if (quit)
      rc = 0;
  }
  mp_cl_close(cl, rc, why);
}

bool mp_cl_say(mp_client *cl, mp_str octets)
{
  if (cl->state == CL_CLOSED)
    return false;
  if (mp_buf_str(&cl->out, octets) == 0)
    return true;
  mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
  return false;
}

void mp_client_lost(mp_client *cl, int rc, const char *why)
{
  mp_cl_fail(cl, rc, why);
}

int mp_client_tls_done(mp_client *cl, const mp_tls_facts *facts, int64_t now_ms)
{
  if (cl->state != CL_HANDSHAKE || cl->pending)
    return MP_E_MISUSE;
  if (bind_channel(cl, facts) < 0)
    return MP_E_NOMEM;
  cl->now_ms = now_ms;
  cl->esmtp = cl->begun = cl->dirty = false;
  cl->mech = -1;
  mp_cl_forget_caps(cl);
  mp_cl_done(cl, true, &(mp_reply){ .code = 220 });
  return 0;
}

/* ---- replies ------------------------------------------------------------------------------------------------------ */

static void hello_reply(mp_client *cl, const mp_reply *reply)
{
  bool unknown = reply->code >= 500 && reply->code != 521 && reply->code != 554;
  if (cl->state == CL_EHLO && unknown && !cl->opts->lmtp && !cl->opts->no_helo) {
    if (mp_cl_say(cl, MP_STR("HELO ")) && mp_cl_say(cl, cl->opts->hostname) && mp_cl_say(cl, MP_STR("\r\n")))
      mp_cl_enter(cl, CL_HELO);
    return;
  }
  if (reply->code == 250) {
    mp_cl_forget_caps(cl);
    cl->esmtp = cl->state == CL_EHLO;
    cl->begun = cl->dirty = false; /* RFC 5321 4.1.4 */
    if (cl->esmtp && mp_cl_caps(cl, reply) < 0) {
      mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
      return;
    }
  }
  mp_cl_done(cl, reply->code == 250, reply);
}

/* 421 may come at any time, and is the last thing that is said (RFC 5321 3.8). */
static void closing(mp_client *cl, const mp_reply *reply)
{
  if (cl->op != MP_OP_NONE) {
    if (cl->tx) {
      if (cl->state == CL_FINAL && cl->opts->lmtp)
        mp_cl_settle_lost(cl); /* it was about one recipient at most */
      else
        mp_cl_settle(cl, MP_RCPT_DEFERRED, mp_cl_stage(cl), reply);
      cl->done.again = mp_transaction_count(cl->tx, MP_RCPT_AGAIN);
    }
    mp_cl_done(cl, false, reply);
  }
  mp_cl_close(cl, 0, MP_CL_BYE);
}

/* The reply to one command, which has not been sent yet. */
static bool is_too_soon(const mp_client *cl)
{
  const unsigned one = 1u << CL_EHLO | 1u << CL_HELO | 1u << CL_STARTTLS | 1u << CL_AUTH | 1u << CL_LINE;
  return cl->out.len > 0 && (one & 1u << cl->state);
}

static void react(mp_client *cl, const mp_reply *reply)
{
  cl->since_ms = cl->now_ms;
  if (reply->code == 421 && cl->state != CL_QUIT) {
    closing(cl, reply);
    return;
  }
  if (cl->early || is_too_soon(cl)) { /* its first octets were there before what it would be the answer to */
    mp_cl_fail(cl, MP_E_SYNTAX, MP_CL_UNASKED);
    return;
  }
  switch ((enum mp_cl_state)cl->state) {
  case CL_BANNER:
    mp_cl_done(cl, reply->code == 220, reply);
    return;
  case CL_EHLO:
  case CL_HELO:
    hello_reply(cl, reply);
    return;
  case CL_STARTTLS:
    if (reply->code != 220) {
      mp_cl_done(cl, false, reply);
      return;
    }
    mp_cl_enter(cl, CL_HANDSHAKE);
    mp_cl_push(cl, PENDING_STARTTLS);
    return;
  case CL_AUTH:
    mp_cl_auth_reply(cl, reply);
    return;
  case CL_LINE:
    cl->challenged = cl->op == MP_OP_COMMAND && reply->code == 334;
    if (cl->op == MP_OP_RSET && reply->code == 250)
      cl->dirty = cl->begun = false;
    mp_cl_done(cl, reply->code < (cl->op == MP_OP_COMMAND ? 400 : 300), reply);
    return;
  case CL_QUIT:
    mp_cl_done(cl, reply->code == 221, reply);
    mp_cl_close(cl, 0, "QUIT");
    return;
  case CL_ENVELOPE:
    mp_cl_envelope_reply(cl, reply);
    return;
  case CL_BODY:
  case CL_FINAL:
    if (cl->ahead)
      mp_cl_envelope_reply(cl, reply);
    else
      mp_cl_body_reply(cl, reply);
    return;
  case CL_IDLE:
  case CL_JOB:
  case CL_HANDSHAKE:
  case CL_CLOSED:
    mp_cl_fail(cl, MP_E_SYNTAX, MP_CL_UNASKED);
    return;
  }
}

/* ---- in and out --------------------------------------------------------------------------------------------------- */

mp_ssize mp_client_feed(mp_client *cl, const void *octets, size_t len, int64_t now_ms)
{
  if (cl->state == CL_CLOSED)
    return MP_E_CLOSED;
  cl->now_ms = now_ms;
  mp_str in = mp_str_of(octets, len);
  size_t at = 0;
  for (;;) {
    if (cl->state == CL_HANDSHAKE && at < len) {
      cl->pending = 0;
      mp_cl_fail(cl, MP_E_SYNTAX,
                 "peer spoke between 220 and the handshake"); /* somebody between, or no server worth it */
      return (mp_ssize)len;
    }
    if (at < len && cl->state == CL_IDLE && cl->pending == PENDING_DONE) {
      /* Behind the last reply that was asked for. Whoever heard it later would take it for the answer to what is asked next. */
      bool bye = mp_str_istarts(mp_str_sub(in, at, len), MP_STR("421"));
      mp_cl_close(cl, bye ? 0 : MP_E_SYNTAX, bye ? MP_CL_BYE : MP_CL_UNASKED);
      return (mp_ssize)len;
    }
    if (at == len || cl->pending || cl->state == CL_CLOSED)
      return (mp_ssize)at;
    size_t taken;
    mp_reply reply;
    int rc = mp_reader_next(&cl->reader, mp_str_sub(in, at, len), &taken, &reply);
    at += taken;
    if (rc == 1)
      react(cl, &reply);
    else if (rc < 0)
      mp_cl_fail(cl, rc,
                 rc == MP_E_SYNTAX    ? "peer sent what is no reply"
                 : rc == MP_E_TOOLONG ? "peer sent a reply without end"
                                      : "out of memory");
  }
}

int mp_client_next(mp_client *cl, mp_client_event *ev)
{
  unsigned char pending = cl->pending;
  *ev = (mp_client_event){ .kind = MP_CE_NONE };
  if (!pending)
    return 0;
  pending &= (unsigned char)-pending;
  cl->pending &= (unsigned char)~pending;
  switch ((enum mp_cl_pending)pending) {
  case PENDING_STARTTLS:
    ev->kind = MP_CE_STARTTLS;
    break;
  case PENDING_JOB:
    ev->kind = MP_CE_JOB;
    ev->job.job = mp_sasl_client_job(cl->sasl);
    break;
  case PENDING_BODY:
    ev->kind = MP_CE_BODY;
    break;
  case PENDING_DONE:
    ev->kind = MP_CE_DONE;
    ev->done = cl->done;
    break;
  case PENDING_CLOSE:
    ev->kind = MP_CE_CLOSE;
    ev->close.rc = cl->rc;
    ev->close.why = cl->why;
    break;
  }
  return 1;
}

mp_str mp_client_output(const mp_client *cl)
{
  return mp_buf_view(&cl->out);
}

mp_str mp_client_secret(const mp_client *cl)
{
  mp_str out = mp_buf_view(&cl->out);
  if (!cl->secret || out.len <= 2)
    return MP_STR_NULL;
  size_t len = cl->secret < out.len - 2 ? cl->secret : out.len - 2;
  return mp_str_of(out.ptr + out.len - 2 - len, len);
}

void mp_client_sent(mp_client *cl, size_t len, int64_t now_ms)
{
  if (len == 0)
    return;
  cl->now_ms = cl->since_ms = now_ms;
  if (len >= cl->out.len)
    drop_output(cl);
  else
    mp_buf_consume(&cl->out, len);
  if (cl->state == CL_ENVELOPE && !(cl->pending & PENDING_DONE))
    mp_cl_write(cl);
}
