/* Where a body comes from: a string, a received message, or pieces that are given one by one. */
#include "conn/link_impl.h"

#include "base/error.h"

enum { PIECE = 65536, PUSHED_MOST = 16 << 20 };

void mp_link_source_end(link_source *body)
{
  if (body->msg)
    mp_message_unref(body->msg);
  mp_buf_dispose(&body->head);
  mp_mem_free(body->scratch);
  *body = (link_source){ 0 };
}

/* What stands in front of the sink's octets is put together now; the sink is read as the peer takes it. */
int mp_link_source_begin(mp_link *link, const mp_link_source *from)
{
  link_source *body = &link->body;
  *body = (link_source){ .active = true };
  if (!from->message) {
    body->rest = from->octets;
    body->pushed = !from->has_octets;
    body->last = from->has_octets;
    return 0;
  }
  mp_buf_init(&body->head, SIZE_MAX / 2, NULL);
  body->scratch = mp_mem_alloc(PIECE);
  int rc = body->scratch ? mp_message_head(from->message, from->extra, from->received, &body->head) : MP_E_NOMEM;
  if (rc < 0)
    return rc;
  body->msg = mp_message_ref(from->message);
  body->at = mp_message_body_at(from->message);
  body->rest = mp_buf_view(&body->head);
  return 0;
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

/* Sees to it that `rest` holds octets or `last` is set. 1; 0: somebody has to give them; or an error. */
static int next_piece(mp_link *link)
{
  link_source *body = &link->body;
  if (body->rest.len || body->last)
    return 1;
  if (body->pushed) {
    if (!body->asked) {
      body->asked = true;
      mp_buf_dispose(&body->head);
      if (link->calls)
        link->calls->want(link->ctx);
    }
    return body->rest.len || body->last ? 1 : 0;
  }
  if (!body->msg) {
    body->last = true;
    return 1;
  }
  int rc = 0;
  body->rest = mp_sink_read(body->msg->sink, body->at, body->scratch, PIECE, &rc);
  body->at += body->rest.len;
  body->last = body->at >= mp_sink_size(body->msg->sink);
  return rc < 0 ? rc : 1;
}

/* Gives the machine of the body what it has room for. True when something moved. */
bool mp_link_feed_body(mp_link *link)
{
  bool moved = false;
  if (link->opts.trace && link->body.active && mp_client_wants_body(link->cl) && !mp_link_flush(link))
    return false; /* commands are shown, a body is counted: they go by themselves */
  while (link->state == LINK_TALK && link->body.active && mp_client_wants_body(link->cl) &&
         !mp_stream_queued(link->stream)) {
    int rc = next_piece(link);
    if (link->state != LINK_TALK || rc == 0)
      return moved;
    if (rc < 0) {
      mp_client_body_failed(link->cl, "the message cannot be read");
      return true;
    }
    link_source *body = &link->body;
    size_t taken = 0;
    rc = mp_client_body(link->cl, body->rest.ptr, body->rest.len, body->last, &taken, link_now(link));
    body->rest = mp_str_sub(body->rest, taken, body->rest.len);
    moved = true;
    if (rc < 0)
      return true;
    if (!mp_link_flush(link))
      return true;
  }
  return moved;
}

int mp_link_body(mp_link *link, mp_str octets, bool last)
{
  link_source *body = &link->body;
  if (link->state != LINK_TALK || !body->active || !body->pushed || !body->asked || body->rest.len || body->last)
    return MP_E_MISUSE;
  mp_buf_init(&body->head, PUSHED_MOST, NULL);
  if (octets.len > PUSHED_MOST || mp_buf_add(&body->head, octets.ptr, octets.len) < 0)
    return MP_E_NOMEM;
  body->asked = false;
  body->rest = mp_buf_view(&body->head);
  body->last = last;
  mp_link_run(link);
  return 0;
}

void mp_link_body_failed(mp_link *link, const char *why)
{
  if (link->state != LINK_TALK || !link->body.active)
    return;
  mp_client_body_failed(link->cl, why);
  mp_link_run(link);
}
