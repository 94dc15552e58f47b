/* DATA and BDAT: the octets of a message, their faults, and the one reply they get (RFC 5321 4.1.1.4, RFC 3030 2).
 * The machine goes back to commands at the true end only. What makes a message impossible is told at once (ABORT), so that nobody keeps
 * what will be refused; the reply waits for the end. */
#include "smtp/server_impl.h"

static bool binary(const mp_server *srv)
{
  return srv->env && srv->env->params.body == MP_BODY_BINARY;
}

static bool repairs(const mp_server *srv)
{
  const mp_server_opts *opts = srv->opts;
  return !opts->repair_none && (opts->repair_all || (srv->trust & MP_TRUST_REPAIR) || srv->user.ptr);
}

static void begin(mp_server *srv, bool raw)
{
  size_t limit = srv->opts->long_lines_refused ? srv->opts->line_limit : MP_SRV_HARD_LINE;
  mp_data_init(&srv->data, raw, !binary(srv) && repairs(srv), binary(srv) ? 0 : limit);
  srv->body_open = true;
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

/* The reply that the message deserves as far as it is known, the gravest first; a null view when there is none. */
static mp_str fault(const mp_server *srv, const char **why)
{
  const mp_data *data = &srv->data;
  if (srv->opts->size && data->size > srv->opts->size) {
    *why = "message over the size limit";
    return MP_STR("552 5.3.4 Message too big");
  }
  if ((data->faults & MP_DATA_NUL) && !binary(srv)) {
    *why = "NUL in the message";
    return MP_STR("550 5.6.0 Message holds a NUL");
  }
  if ((data->faults & (MP_DATA_BARE_CR | MP_DATA_BARE_LF)) && !data->repair && !binary(srv)) {
    *why = "bare CR or LF in the message";
    return MP_STR("550 5.5.2 Message holds a bare CR or LF");
  }
  if (data->faults & MP_DATA_LONG_LINE) {
    *why = "overlong line in the message";
    return MP_STR("550 5.6.0 Message holds an overlong line");
  }
  if (srv->failed) {
    *why = "message could not be kept";
    return MP_STR("452 4.3.1 Message cannot be kept");
  }
  return MP_STR_NULL;
}

static void abandon(mp_server *srv, int code, const char *why)
{
  if (!srv->body_open || srv->dropping)
    return;
  srv->dropping = true;
  srv->abort_code = (unsigned short)code;
  srv->why = why;
  mp_srv_push(srv, MP_EV_ABORT);
}

static void look_for_faults(mp_server *srv)
{
  const char *why;
  mp_str line = srv->dropping ? MP_STR_NULL : fault(srv, &why);
  if (line.len) /* a reply's first digits are its code */
    abandon(srv, (line.ptr[0] - '0') * 100 + (line.ptr[1] - '0') * 10 + line.ptr[2] - '0', why);
}

/* Octets past the size limit are read so that the reply can be said, but not for ever. True: the session is over. */
static bool overrun(mp_server *srv, uint64_t octets)
{
  uint64_t size = srv->opts->size, more = srv->opts->overrun ? srv->opts->overrun : size;
  if (size == 0 || octets <= size || octets - size <= more)
    return false;
  mp_srv_421(srv, "4.3.4", "Message far too big", "message over the overrun limit");
  return true;
}

static void say_fault(mp_server *srv)
{
  const char *why;
  mp_str line = fault(srv, &why);
  if (srv->kept && line.ptr[0] == '4') /* the only fault that is not the peer's */
    mp_srv_put(srv, &srv->kept->reply, MP_EV_MESSAGE);
  else
    mp_srv_say(srv, line);
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static void over(mp_server *srv)
{
  mp_srv_forget(srv);
  mp_srv_enter(srv, mp_srv_base(srv));
}

/* RFC 2033 4.2: over LMTP a reply for each recipient. */
static size_t replies(const mp_server *srv)
{
  return srv->opts->protocol == MP_PROTOCOL_LMTP && srv->env ? srv->env->count : 1;
}

static void complete(mp_server *srv)
{
  look_for_faults(srv);
  if (srv->dropping) {
    srv->tally.messages_refused++;
    for (size_t i = replies(srv); i > 0; i--)
      say_fault(srv);
    over(srv);
    return;
  }
  /* Once the message is accepted somebody has it: room for saying so is taken before. */
  if (!mp_buf_room(&srv->out, 512)) {
    mp_srv_nomem(srv);
    return;
  }
  mp_srv_enter(srv, ST_MESSAGE);
  mp_srv_push(srv, MP_EV_MESSAGE);
}

/* True when it was taken. */
static bool say_verdict(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code)
    mp_srv_put(srv, reply, MP_EV_MESSAGE);
  else
    SAY(srv, "250 2.0.0 OK");
  return !reply || reply->code < 400;
}

void mp_srv_answer_message(mp_server *srv, const mp_reply *reply)
{
  size_t count = replies(srv);
  bool closing = reply && (reply->code == 421 || reply->code == 521);
  bool taken = false; /* over LMTP: for somebody */
  for (size_t i = 0; i < count; i++)
    taken |= say_verdict(srv, srv->rcpt_reply && srv->rcpt_reply[i].code ? &srv->rcpt_reply[i] : reply);
  srv->tally.messages += taken;
  srv->tally.messages_refused += !taken;
  over(srv);
  if (closing)
    mp_srv_finish(srv, "refused by policy");
}

int mp_server_reply_rcpt(mp_server *srv, size_t index, const mp_reply *reply)
{
  enum { TEXT_MOST = 512 }; /* of a reply that may stand beside many others in output */
  if (srv->waiting != MP_EV_MESSAGE || srv->opts->protocol != MP_PROTOCOL_LMTP)
    return MP_E_MISUSE;
  int class = reply->code / 100;
  if (index >= srv->env->count || mp_reply_check(reply) || class == 3)
    return MP_E_INVALID;
  mp_arena *arena = &srv->env->arena;
  if (!srv->rcpt_reply) {
    mp_reply *all = mp_arena_alloc(arena, srv->env->count * sizeof *all);
    if (!all)
      return MP_E_NOMEM;
    memset(all, 0, srv->env->count * sizeof *all);
    srv->rcpt_reply = all;
  }
  mp_str text = mp_str_sub(reply->text, 0, TEXT_MOST);
  while (text.len && text.len < reply->text.len && ((unsigned char)reply->text.ptr[text.len] & 0xc0) == 0x80)
    text.len--;
  bool ok = true;
  mp_reply copy = *reply;
  copy.text = mp_arena_str(arena, text, &ok);
  if (!ok)
    return MP_E_NOMEM;
  srv->rcpt_reply[index] = copy;
  return 0;
}

int mp_server_body_failed(mp_server *srv, const mp_reply *reply)
{
  if (reply && (mp_reply_check(reply) || reply->code < 400))
    return MP_E_INVALID;
  if (!srv->body_open || srv->state == ST_CLOSED)
    return MP_E_MISUSE;
  if (srv->failed)
    return 0;
  if (reply)
    (void)mp_srv_keep(srv, reply); /* without memory the default is said */
  srv->failed = true;
  srv->queued = 0; /* a CHUNK or MESSAGE that was not taken yet */
  if (srv->state == ST_MESSAGE) {
    srv->waiting = MP_EV_NONE;
    mp_reply lost = MP_REPLY(452, 4, 3, 1, "Message cannot be kept");
    mp_srv_answer_message(srv, reply ? reply : &lost);
    return 0;
  }
  look_for_faults(srv);
  return 0;
}

/* ---- DATA -------------------------------------------------------------------------------------------------------- */

/* Why there can be no message now, or NULL. */
static const char *not_now(const mp_server *srv)
{
  switch (srv->state) {
  case ST_START:
    return srv->opts->protocol == MP_PROTOCOL_LMTP ? "503 5.5.1 Send LHLO first" : "503 5.5.1 Send EHLO first";
  case ST_READY:
    return "503 5.5.1 Send MAIL first";
  case ST_MAIL:
    return "554 5.5.1 No valid recipients";
  default:
    return NULL;
  }
}

void mp_srv_data(mp_server *srv, mp_str args)
{
  (void)args;
  const char *no = not_now(srv);
  if (no)
    mp_srv_bad(srv, mp_str_c(no));
  else if (srv->state == ST_BDAT)
    BAD(srv, "503 5.5.1 BDAT has begun"); /* RFC 3030 2 */
  else if (binary(srv))
    BAD(srv, "503 5.5.1 BODY=BINARYMIME goes with BDAT"); /* RFC 3030 3 */
  else
    mp_srv_push(srv, MP_EV_DATA);
}

static void answer_bdat(mp_server *srv, const mp_reply *reply)
{
  if (!reply || reply->code < 400) { /* there is no 354 to be said */
    begin(srv, true);
  } else if (reply->code == 421 || reply->code == 521) {
    mp_srv_refuse(srv, reply, MP_EV_DATA);
  } else {
    srv->refusal = mp_srv_keep(srv, reply) ? "" : "451 4.3.0 Out of memory";
  }
}

void mp_srv_answer_data(mp_server *srv, const mp_reply *reply)
{
  if (srv->state == ST_CHUNK) {
    answer_bdat(srv, reply);
    return;
  }
  if (reply && reply->code >= 400) {
    mp_srv_refuse(srv, reply, MP_EV_DATA);
    return;
  }
  bool behind = srv->behind;
  srv->behind = false;
  if (behind && !mp_srv_early(srv))
    return;
  begin(srv, false);
  mp_srv_enter(srv, ST_DATA);
  srv->received = 0;
  srv->body_ms = srv->now_ms;
  if (reply)
    mp_srv_put(srv, reply, MP_EV_DATA);
  else if (mp_buf_str(&srv->out, MP_STR("354 End data with <CR><LF>.<CR><LF>\r\n")) < 0)
    mp_srv_finish(srv, "out of memory for a reply");
  else
    mp_srv_said(srv);
}

size_t mp_srv_feed_data(mp_server *srv, mp_str in)
{
  if (srv->received == 0 && srv->solo && !mp_srv_early(srv))
    return in.len;
  size_t taken;
  mp_str run;
  int rc = mp_data_next(&srv->data, in, &taken, &run);
  srv->received += taken;
  srv->tally.octets += taken;
  srv->since_ms = srv->now_ms;
  if (rc == 2) {
    srv->ends_group = !(srv->announced & MP_EXT_PIPELINING);
    srv->behind = srv->ends_group && taken < in.len;
    complete(srv);
    return taken;
  }
  look_for_faults(srv);
  if (overrun(srv, srv->data.size))
    return taken;
  if (rc == 1 && !srv->dropping) {
    srv->chunk = run;
    mp_srv_push(srv, MP_EV_CHUNK);
  }
  return taken;
}

/* ---- BDAT -------------------------------------------------------------------------------------------------------- */

/* Why this chunk is thrown away, or NULL. */
static const char *chunk_refusal(const mp_server *srv, uint64_t size, bool clean)
{
  uint64_t most = srv->opts->size, before = srv->body_open ? srv->data.size : 0;
  if (!(srv->opts->extensions & MP_EXT_CHUNKING))
    return "502 5.5.1 CHUNKING is not offered";
  if (!clean)
    return "501 5.5.4 Syntax: BDAT size [LAST]";
  const char *no = not_now(srv);
  if (no)
    return no;
  if (!(srv->announced & MP_EXT_CHUNKING))
    return "503 5.5.1 Send EHLO first";
  if (srv->chunk_failed)
    return "503 5.5.1 A chunk was refused: send RSET";
  if (most && (size > most || before > most - size))
    return "552 5.3.4 Message too big";
  return NULL;
}

void mp_srv_bdat(mp_server *srv, mp_str args)
{
  mp_ssize space = mp_str_find(args, ' ', 0);
  mp_str digits = mp_str_sub(args, 0, space < 0 ? args.len : (size_t)space),
         tail = mp_str_sub(args, digits.len, args.len);
  uint64_t size;
  if (!mp_str_u64(digits, UINT64_MAX, &size)) {
    /* How many octets follow is unknown, so nothing that follows can be trusted to be a command. */
    SAY(srv, "501 5.5.4 Unreadable size");
    mp_srv_finish(srv, "unreadable size of BDAT");
    return;
  }
  srv->chunk_last = mp_str_ieq(tail, MP_STR(" LAST"));
  srv->refusal = chunk_refusal(srv, size, srv->chunk_last || tail.len == 0);
  srv->resume = srv->state;
  srv->left = size;
  srv->received = 0;
  srv->body_ms = srv->now_ms;
  mp_srv_enter(srv, ST_CHUNK);
  if (srv->refusal)
    abandon(srv, 552, "chunk refused");
  else if (!srv->body_open)
    mp_srv_push(srv, MP_EV_DATA);
}

size_t mp_srv_feed_chunk(mp_server *srv, mp_str in)
{
  in = mp_str_sub(in, 0, srv->left < in.len ? (size_t)srv->left : in.len);
  size_t taken = in.len;
  mp_str run;
  int rc = srv->refusal ? 0 : mp_data_next(&srv->data, in, &taken, &run);
  srv->left -= taken;
  srv->received += taken;
  srv->tally.octets += taken;
  srv->since_ms = srv->now_ms;
  if (srv->refusal) {
    overrun(srv, srv->received);
    return taken;
  }
  look_for_faults(srv);
  if (overrun(srv, srv->data.size))
    return taken;
  if (rc == 1 && !srv->dropping) {
    srv->chunk = run;
    mp_srv_push(srv, MP_EV_CHUNK);
  }
  return taken;
}

static void say_refusal(mp_server *srv, const char *refusal)
{
  if (!*refusal)
    mp_srv_put(srv, &srv->kept->reply, MP_EV_DATA);
  else
    mp_srv_say(srv, mp_str_c(refusal));
}

static void refused_end(mp_server *srv)
{
  const char *refusal = srv->refusal;
  bool bad = refusal[0] == '5' && refusal[1] == '0';
  bool inside = srv->resume == ST_RCPT || srv->resume == ST_BDAT;
  if (bad && !mp_srv_counted(srv))
    return;
  srv->refusal = NULL;
  if (!inside) {
    mp_srv_enter(srv, (enum mp_srv_state)srv->resume);
    mp_srv_say(srv, mp_str_c(refusal));
  } else if (!srv->chunk_last) {
    /* A message with a hole is no message: the client must say RSET (RFC 3030 2). */
    srv->chunk_failed = true;
    mp_srv_enter(srv, ST_BDAT);
    say_refusal(srv, refusal);
  } else {
    bool told = srv->dropping;
    srv->tally.messages_refused++;
    for (size_t i = replies(srv); i > 0; i--)
      say_refusal(srv, refusal);
    over(srv);
    if (!told && srv->state != ST_CLOSED)
      mp_srv_push(srv, MP_EV_RESET);
  }
}

void mp_srv_chunk_end(mp_server *srv)
{
  mp_str run;
  srv->ends_group = !(srv->announced & MP_EXT_PIPELINING);
  srv->behind = false; /* what stood behind BDAT was the chunk */
  if (srv->refusal) {
    refused_end(srv);
  } else if (srv->chunk_last) {
    if (mp_data_finish(&srv->data, &run) > 0 && !srv->dropping) {
      srv->chunk = run;
      mp_srv_push(srv, MP_EV_CHUNK);
      return; /* and here again when that was taken */
    }
    complete(srv);
  } else if (srv->dropping) {
    srv->chunk_failed = true;
    mp_srv_enter(srv, ST_BDAT);
    say_fault(srv);
  } else {
    mp_srv_enter(srv, ST_BDAT);
    bool codes = srv->announced & MP_EXT_ENHANCEDSTATUSCODES;
    if (mp_buf_fmt(&srv->out, "250 %s%llu octets received\r\n", codes ? "2.0.0 " : "",
                   (unsigned long long)srv->received) < 0)
      mp_srv_finish(srv, "out of memory for a reply");
    else
      mp_srv_said(srv);
  }
}
