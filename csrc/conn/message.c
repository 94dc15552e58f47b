#include "conn/message.h"

#include "base/error.h"

enum { STRINGS_MOST = 8192, MESSAGES_IDLE = 256 };

typedef struct mp_body_before { /* in the message's arena */
  mp_sink *sink;
  struct mp_body_before *next;
} mp_body_before;

/* Copies what is there; an empty view takes no memory. */
static mp_str kept(mp_arena *arena, mp_str s, bool *ok)
{
  return s.len ? mp_arena_str(arena, s, ok) : MP_STR_NULL;
}

static bool copy_trace(mp_message *msg, const mp_trace *trace)
{
  mp_arena *arena = &msg->strings;
  bool ok = true;
  msg->trace = *trace;
  msg->trace.helo = kept(arena, trace->helo, &ok);
  msg->trace.peer_name = kept(arena, trace->peer_name, &ok);
  msg->trace.by = kept(arena, trace->by, &ok);
  msg->trace.with = kept(arena, trace->with, &ok);
  msg->trace.tls_version = kept(arena, trace->tls_version, &ok);
  msg->trace.tls_cipher = kept(arena, trace->tls_cipher, &ok);
  msg->trace.user = kept(arena, trace->user, &ok);
  if (trace->peer) {
    mp_ip *ip = mp_arena_alloc(arena, sizeof *ip);
    if (!ip)
      return false;
    *ip = *trace->peer;
    msg->trace.peer = ip;
  }
  /* One recipient may be named; more would tell each of the others (RFC 5321 4.4, 7.2). */
  msg->trace.recipient = msg->env->count == 1 ? msg->env->rcpts[0]->path.address : MP_STR_NULL;
  size_t len = trace->id.len < sizeof msg->id - 1 ? trace->id.len : sizeof msg->id - 1;
  if (len)
    memcpy(msg->id, trace->id.ptr, len);
  msg->trace.id = mp_str_of(msg->id, len);
  return ok;
}

int mp_message_new(mp_message **out, mp_envelope *env, mp_sink *sink, const mp_trace *trace, unsigned facts)
{
  mp_body_store *store = mp_sink_store(sink);
  if (!store->messages.block)
    mp_pool_init(&store->messages, sizeof(mp_message), MESSAGES_IDLE);
  mp_message *msg = mp_pool_take(&store->messages);
  if (!msg)
    return MP_E_NOMEM;
  *msg = (mp_message){ .refs = 1 };
  msg->env = mp_envelope_ref(env);
  msg->sink = mp_sink_ref(sink);
  msg->size = mp_sink_size(sink);
  msg->facts = facts;
  mp_arena_init(&msg->strings, STRINGS_MOST, &store->strings);
  int rc = copy_trace(msg, trace) ? 0 : MP_E_NOMEM;
  if (rc == 0) {
    msg->header_len = mp_sink_header(sink, &rc).len;
    if (rc == MP_E_TOOLONG) /* told by whoever looks at the header */
      rc = 0;
  }
  if (rc < 0) {
    mp_message_unref(msg);
    return rc;
  }
  *out = msg;
  return 0;
}

mp_message *mp_message_ref(mp_message *msg)
{
  msg->refs++;
  return msg;
}

void mp_message_unref(mp_message *msg)
{
  if (!msg || --msg->refs > 0)
    return;
  mp_body_store *store = mp_sink_store(msg->sink);
  mp_header_free(msg->header);
  mp_envelope_unref(msg->env);
  for (mp_body_before *before = msg->before; before; before = before->next)
    mp_sink_unref(before->sink);
  mp_arena_dispose(&msg->strings);
  mp_sink_unref(msg->received);
  mp_sink_unref(msg->sink);
  mp_pool_give(&store->messages, msg);
}

mp_sink *mp_message_came(mp_message *msg)
{
  return msg->received ? msg->received : msg->sink;
}

mp_header *mp_message_header(mp_message *msg, int *rc)
{
  *rc = 0;
  if (msg->header)
    return msg->header;
  mp_str block = mp_sink_header(mp_message_came(msg), rc);
  if (*rc == 0)
    *rc = mp_header_new(&msg->header, block);
  return *rc == 0 ? msg->header : NULL;
}

int mp_message_hops(mp_message *msg, size_t *fields)
{
  int rc;
  mp_str block = mp_sink_header(mp_message_came(msg), &rc);
  if (rc < 0)
    return rc;
  int hops = 0;
  size_t pos = 0;
  mp_field field;
  size_t count = 0;
  for (; mp_header_next(block, &pos, &field); count++)
    hops += mp_str_ieq(field.name, MP_STR("Received"));
  if (fields)
    *fields = count;
  return hops;
}

bool mp_message_delivered_to(mp_message *msg, mp_str address)
{
  int rc;
  mp_str block = mp_sink_header(mp_message_came(msg), &rc);
  size_t pos = 0;
  mp_field field;
  while (rc == 0 && mp_header_next(block, &pos, &field)) {
    if (mp_str_ieq(field.name, MP_STR("Delivered-To")) && mp_str_ieq(field.value, address))
      return true;
  }
  return false;
}

/* The received block without its empty line. */
static int received_fields(mp_message *msg, mp_buf *out)
{
  int rc;
  mp_str block = mp_sink_header(mp_message_came(msg), &rc);
  if (rc < 0)
    return rc;
  bool crlf = block.len >= 2 && memcmp(block.ptr + block.len - 2, "\r\n", 2) == 0;
  if (crlf && (block.len == 2 || (block.len >= 4 && memcmp(block.ptr + block.len - 4, "\r\n", 2) == 0)))
    block.len -= 2;
  rc = mp_buf_str(out, block);
  /* A message that ends in the middle of a field. */
  return rc == 0 && block.len && !crlf ? mp_buf_add(out, "\r\n", 2) : rc;
}

int mp_message_head(mp_message *msg, mp_str extra, bool received, mp_buf *out)
{
  size_t before = out->len;
  int rc = mp_buf_str(out, extra);
  if (rc == 0 && received && !msg->made)
    rc = mp_received_write(out, &msg->trace);
  if (rc == 0)
    rc = msg->header ? mp_header_write(msg->header, out) : received_fields(msg, out);
  if (rc == 0)
    rc = mp_buf_add(out, "\r\n", 2);
  if (rc < 0)
    mp_buf_cut(out, before);
  return rc;
}

uint64_t mp_message_body_at(const mp_message *msg)
{
  return msg->header_len;
}

void mp_message_id(char id[24], int64_t unix_ms, unsigned process, unsigned worker, uint64_t *counter)
{
  /* 80 bits: 42 of milliseconds (until 2109), 22 of the process, 6 of the worker, 10 of the counter. Sorted by name, messages stand in
   * the order of time. */
  static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  uint64_t time = (uint64_t)unix_ms & ((UINT64_C(1) << 42) - 1);
  uint64_t rest = (uint64_t)(worker & 63) << 10 | (++*counter & 1023);
  /* 80 bits as two halves of 40: 8 digits each. */
  uint64_t halves[2] = { time >> 2, (time & 3) << 38 | (uint64_t)(process & 0x3fffff) << 16 | rest };
  for (int half = 0; half < 2; half++) {
    for (int i = 0; i < 8; i++)
      id[half * 8 + i] = digits[halves[half] >> (35 - 5 * i) & 31];
  }
  id[16] = '\0';
}

int mp_message_rewriting(mp_message *msg, mp_sink **sink, size_t *head_len)
{
  int rc;
  if (!mp_message_header(msg, &rc)) /* it borrows from what came, and must not begin to later */
    return rc;
  mp_buf head;
  mp_buf_init(&head, SIZE_MAX / 2, NULL);
  rc = received_fields(msg, &head);
  if (rc == 0)
    rc = mp_buf_add(&head, "\r\n", 2);
  mp_sink *made = NULL;
  if (rc == 0)
    rc = mp_sink_new(&made, mp_sink_store(msg->sink));
  if (rc == 0)
    rc = mp_sink_add(made, mp_buf_view(&head));
  *head_len = head.len;
  mp_buf_dispose(&head);
  if (rc < 0) {
    mp_sink_unref(made);
    return rc;
  }
  *sink = made; /* what waits for the disk is told with the next octets */
  return 0;
}

int mp_message_rewrite(mp_message *msg, mp_sink *sink, size_t head_len)
{
  mp_body_before *before = NULL;
  if (msg->received) { /* who began to read the last body may still hold on to it */
    before = mp_arena_alloc(&msg->strings, sizeof *before);
    if (!before)
      return MP_E_NOMEM;
    *before = (mp_body_before){ msg->sink, msg->before };
    msg->before = before;
  } else {
    msg->received = msg->sink;
  }
  msg->sink = mp_sink_ref(sink);
  msg->header_len = head_len;
  msg->size = mp_sink_size(sink);
  return 0;
}
