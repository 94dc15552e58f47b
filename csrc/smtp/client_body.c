/* The octets of a message: behind 354, with dots stuffed, or in chunks (RFC 3030), and the replies that follow them.
 *
 * Three ways. DATA. One chunk for all, where the length on the wire is known before: then the octets are as many as SIZE said, or it is the
 * caller's mistake. Else a chunk for each piece that the driver gives, as long as what it came to. */
#include "smtp/client_impl.h"

#include <stdio.h>

enum { CHUNK_LINE = 40 }; /* "BDAT 18446744073709551615 LAST" CRLF */

static size_t chunk_line(char line[CHUNK_LINE], uint64_t size, bool last)
{
  return (size_t)snprintf(line, CHUNK_LINE, "BDAT %llu%s\r\n", (unsigned long long)size, last ? " LAST" : "");
}

void mp_cl_body_begin(mp_client *cl)
{
  mp_transaction *tx = cl->tx;
  const mp_mail_params *p = &tx->params;
  cl->lone = cl->accepted == 0;
  if (cl->lone) { /* RFC 2920 3.1: a 354 has to be answered, and nothing is what there is to say to nobody */
    if (!mp_cl_say(cl, MP_STR(".\r\n")))
      return;
    mp_cl_enter(cl, CL_FINAL);
    if (cl->opts->lmtp) { /* nobody knows how many replies a server gives that was to give none (RFC 2033 4.2) */
      mp_cl_finish(cl, &tx->final);
      mp_cl_close(cl, MP_E_SYNTAX, "peer took DATA for no recipient");
    }
    return;
  }
  bool binary = (p->given & MP_PARAM_BODY) && p->body == MP_BODY_BINARY;
  mp_encode_init(&cl->enc,
                 binary                  ? MP_ENCODE_RAW
                 : cl->opts->refuse_bare ? MP_ENCODE_REFUSE
                                         : MP_ENCODE_REPAIR,
                 !cl->bdat);
  cl->broken = false;
  cl->whole = cl->bdat && (p->given & MP_PARAM_SIZE) && p->size > 0 && (binary || tx->canonical);
  cl->left = p->size;
  cl->kept = false;
  tx->chunked = cl->bdat;
  mp_cl_enter(cl, CL_BODY);
  mp_cl_push(cl, PENDING_BODY);
  char line[CHUNK_LINE];
  if (cl->whole)
    mp_cl_say(cl, mp_str_of(line, chunk_line(line, cl->left, true)));
}

void mp_cl_body_ahead(mp_client *cl)
{
  char line[CHUNK_LINE];
  mp_transaction *tx = cl->tx;
  mp_encode_init(&cl->enc, MP_ENCODE_RAW, false);
  cl->broken = cl->lone = cl->kept = false;
  cl->whole = tx->chunked = true;
  cl->left = tx->params.size;
  if (!mp_cl_say(cl, mp_str_of(line, chunk_line(line, cl->left, true))))
    return;
  mp_cl_enter(cl, CL_BODY);
  mp_cl_push(cl, PENDING_BODY);
}

bool mp_client_wants_body(const mp_client *cl)
{
  if (cl->state != CL_BODY || cl->broken || cl->out.len >= MP_CL_HIGH_WATER)
    return false;
  return cl->flight == 0 || mp_cl_has(cl, MP_EXT_PIPELINING);
}

/* ---- octets ------------------------------------------------------------------------------------------------------- */

static int fail(mp_client *cl, int rc, const char *why)
{
  mp_cl_fail(cl, rc, why);
  return rc;
}

static int nomem(mp_client *cl)
{
  return fail(cl, MP_E_NOMEM, "out of memory");
}

/* A lone CR or LF that nobody wants repaired: the message is refused for good, and the connection is lost over it. */
static int bare(mp_client *cl)
{
  static const mp_reply refusal = { .code = 550,
                                    .enhanced = { 5, 6, 0 },
                                    .text = { "Message holds a lone CR or LF", 29 } };
  mp_transaction *tx = cl->tx;
  for (size_t i = 0; i < tx->count; i++)
    if (tx->rcpts[i].result.state == MP_RCPT_ACCEPTED)
      tx->rcpts[i].result.local = true;
  mp_cl_settle_reply(cl, MP_STAGE_BODY, &refusal);
  return fail(cl, MP_E_BARELF, "the message holds a lone CR or LF");
}

/* Encodes all of `in` into output. */
static int encode(mp_client *cl, mp_str in)
{
  while (in.len) {
    size_t taken;
    mp_str run;
    int rc = mp_encode_next(&cl->enc, in, &taken, &run);
    if (rc < 0)
      return bare(cl);
    if (run.len && mp_buf_str(&cl->out, run) < 0)
      return nomem(cl);
    in = mp_str_sub(in, taken, in.len);
  }
  return 0;
}

static int encode_end(mp_client *cl)
{
  mp_str rest;
  if (mp_encode_finish(&cl->enc, &rest) < 0)
    return bare(cl);
  return mp_buf_str(&cl->out, rest) < 0 ? nomem(cl) : 0;
}

static int end_data(mp_client *cl)
{
  int rc = encode_end(cl);
  if (rc == 0 && mp_buf_str(&cl->out, MP_STR(".\r\n")) < 0)
    rc = nomem(cl);
  return rc;
}

/* A piece as a chunk of its own. Its length stands in front, and is known behind; a guess keeps the octets where they are. */
static int chunk(mp_client *cl, mp_str in, bool last)
{
  char line[CHUNK_LINE];
  size_t at = cl->out.len, guess = chunk_line(line, in.len, last);
  if (mp_buf_add(&cl->out, line, guess) < 0)
    return nomem(cl);
  int rc = encode(cl, in);
  if (rc == 0 && last)
    rc = encode_end(cl);
  if (rc < 0)
    return rc;
  size_t made = cl->out.len - at - guess;
  size_t head = chunk_line(line, made, last);
  if (head > guess && mp_buf_add(&cl->out, line, head - guess) < 0)
    return nomem(cl);
  char *p = cl->out.ptr + cl->out.off + at;
  memmove(p + head, p + guess, made);
  memcpy(p, line, head);
  cl->out.len = at + head + made;
  if (!last)
    cl->flight++;
  return 0;
}

/* A piece of the chunk that is all there is. With its last octet the peer has the message: that one stays here until the driver has said
 * that nothing follows. It is canonical, or binary, by the driver's word, and nobody looks. */
static int part(mp_client *cl, mp_str in, bool last)
{
  if (in.len > cl->left || (last && in.len < cl->left))
    return fail(cl, MP_E_INVALID, "the message is not as long as SIZE said");
  if (last && cl->kept && mp_buf_char(&cl->out, cl->last_octet) < 0)
    return nomem(cl);
  cl->left -= in.len;
  if (in.len && cl->left == 0 && !last) {
    cl->kept = true;
    cl->last_octet = in.ptr[--in.len];
  }
  return mp_buf_str(&cl->out, in) < 0 ? nomem(cl) : 0;
}

int mp_client_body(mp_client *cl, const void *octets, size_t len, bool last, size_t *taken, int64_t now_ms)
{
  *taken = 0;
  if (!mp_client_wants_body(cl))
    return MP_E_MISUSE;
  cl->now_ms = now_ms;
  cl->pending &= (unsigned char)~PENDING_BODY;
  mp_transaction *tx = cl->tx;
  size_t room = MP_CL_HIGH_WATER - cl->out.len;
  mp_str in = mp_str_sub(mp_str_of(octets, len), 0, room);
  bool ends = last && in.len == len;
  int rc = 0;
  if (cl->whole)
    rc = part(cl, in, ends);
  else if (cl->bdat)
    rc = in.len || ends ? chunk(cl, in, ends) : 0;
  else if ((rc = encode(cl, in)) == 0 && ends)
    rc = end_data(cl);
  if (rc < 0)
    return rc;
  *taken = in.len;
  tx->octets += in.len;
  tx->body_facts = cl->enc.scan.faults;
  if (!ends)
    return 0;
  cl->said = cl->ahead;
  mp_cl_enter(cl, cl->ahead ? CL_ENVELOPE : CL_FINAL); /* what was asked ahead is yet to be answered */
  return 0;
}

void mp_client_body_failed(mp_client *cl, const char *why)
{
  if (cl->state == CL_BODY)
    mp_cl_fail(cl, MP_E_CANCELLED, why);
}

/* ---- replies ------------------------------------------------------------------------------------------------------ */

/* The transaction is over on the peer's side too. */
static void ended(mp_client *cl, const mp_reply *reply)
{
  cl->begun = false;
  cl->dirty = cl->bdat && reply->code >= 300; /* RFC 3030 2: RSET has to follow a chunk that failed */
  mp_cl_finish(cl, reply);
}

static void chunk_reply(mp_client *cl, const mp_reply *reply)
{
  cl->flight--;
  if (reply->code >= 300 && !cl->broken) {
    cl->broken = true;
    mp_cl_settle_reply(cl, MP_STAGE_BODY, reply);
    cl->pending &= (unsigned char)~PENDING_BODY;
    if (cl->state == CL_FINAL && cl->opts->lmtp) { /* and how many replies the last chunk gets, nobody knows */
      mp_cl_finish(cl, reply);
      mp_cl_close(cl, 0, "peer refused a chunk in front of the last one");
      return;
    }
  }
  if (cl->broken && cl->flight == 0 && cl->state == CL_BODY)
    mp_cl_finish(cl, &cl->tx->final);
}

/* Something was said to a body that has not ended. There is no way to go on, for the peer still reads. */
static void early(mp_client *cl, const mp_reply *reply)
{
  if (reply->code < 400) {
    mp_cl_fail(cl, MP_E_SYNTAX, "peer accepted a message before its end");
    return;
  }
  mp_cl_settle_reply(cl, MP_STAGE_BODY, reply);
  mp_cl_finish(cl, reply);
  mp_cl_close(cl, 0, "peer refused a message before its end");
}

/* To the chunk that went along with its envelope. */
void mp_cl_ahead_reply(mp_client *cl, const mp_reply *reply)
{
  if (cl->state == CL_BODY || cl->out.len) {
    early(cl, reply);
    return;
  }
  if (reply->code >= 300 && reply->code < 400) {
    mp_cl_fail(cl, MP_E_SYNTAX, "peer answered a message with what is neither yes nor no");
    return;
  }
  if (cl->accepted > 0 && reply->code < 300) /* else it only says that there is nobody */
    mp_cl_settle(cl, MP_RCPT_DELIVERED, MP_STAGE_BODY, reply);
  else if (cl->accepted > 0)
    mp_cl_settle_reply(cl, MP_STAGE_BODY, reply);
  cl->dirty = cl->begun && reply->code >= 300;
  cl->begun = cl->said = false;
}

/* LMTP: the reply is for the next recipient that was accepted (RFC 2033 4.2). True: it was the last. */
static bool one_reply(mp_client *cl, const mp_reply *reply)
{
  mp_transaction *tx = cl->tx;
  bool found = false;
  for (size_t i = 0; i < tx->count; i++) {
    mp_rcpt_result *result = &tx->rcpts[i].result;
    if (result->state != MP_RCPT_ACCEPTED)
      continue;
    if (found)
      return false;
    found = true;
    tx->final = result->reply = mp_tx_keep(tx, reply, &tx->final);
    result->stage = MP_STAGE_BODY;
    result->state = (unsigned char)(reply->code < 300   ? MP_RCPT_DELIVERED
                                    : reply->code < 500 ? MP_RCPT_DEFERRED
                                                        : MP_RCPT_REFUSED);
  }
  return true;
}

void mp_cl_body_reply(mp_client *cl, const mp_reply *reply)
{
  if (cl->flight > 0) {
    chunk_reply(cl, reply);
    return;
  }
  if (cl->state == CL_BODY || (cl->out.len && !cl->lone)) { /* the end was written, and has not left */
    early(cl, reply);
    return;
  }
  if (cl->lone || cl->broken) { /* there is nobody left whom it could be about */
    cl->begun = false;
    cl->dirty = cl->broken;
    mp_cl_finish(cl, &cl->tx->final);
    return;
  }
  if (cl->opts->lmtp) {
    if (one_reply(cl, reply))
      ended(cl, reply);
    return;
  }
  if (reply->code >= 300 && reply->code < 400) {
    mp_cl_fail(cl, MP_E_SYNTAX, "peer answered a message with what is neither yes nor no");
    return;
  }
  if (reply->code < 300)
    mp_cl_settle(cl, MP_RCPT_DELIVERED, MP_STAGE_BODY, reply);
  else
    mp_cl_settle_reply(cl, MP_STAGE_BODY, reply);
  ended(cl, reply);
}
