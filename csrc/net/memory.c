/* Memory streams: the peer's end is in the hands of the caller. Two own one: who attached to it lets go by closing, the
 * tester by mp_stream_release; the memory goes when both have. */
#include "net/handle.h"

#include "base/error.h"

enum { MEMORY_MOST = 256 << 20 }; /* octets held in either direction */

typedef struct memory {
  mp_stream stream;
  mp_stream_peer peer;
  mp_buf written, held; /* to the peer; from it, while nobody reads */
  mp_ssize end;         /* after `held`: 0 = end of file, or an error */
  mp_leftover left;     /* dispose of the loop closes it */
  mp_post post;         /* delivers what is held, and closed() */
  bool has_end, posted, inside, gone, released;
} memory;

static memory *memory_of(mp_stream *stream)
{
  return MP_CONTAINER(stream, memory, stream);
}

static void free_when_done(memory *mem)
{
  if (!mem->gone || !mem->released)
    return;
  mp_buf_dispose(&mem->written);
  mp_buf_dispose(&mem->held);
  mp_mem_free(mem);
}

static bool wants(const memory *mem)
{
  const mp_stream *stream = &mem->stream;
  return stream->reading && !stream->ended && !stream->closing && !mem->inside;
}

/* Each part is a block of its own, as long as its octets and gone behind the call: a reader that keeps the pointer or looks
 * past the end is caught by the sanitizer. */
static void deliver(memory *mem)
{
  mp_stream *stream = &mem->stream;
  while (wants(mem) && (mem->held.len > 0 || mem->has_end)) {
    mp_str part = mp_str_sub(mp_buf_view(&mem->held), 0, MP_LOOP_READ);
    char *copy = part.len > 0 ? mp_mem_dup(part.ptr, part.len) : NULL;
    mp_ssize len = copy ? (mp_ssize)part.len : part.len > 0 ? MP_E_NOMEM : mem->end;
    stream->ended = len <= 0;
    mp_buf_consume(&mem->held, part.len);
    mem->inside = true;
    if (stream->calls)
      stream->calls->read(stream->ctx, copy, len);
    mem->inside = false;
    mp_mem_free(copy);
  }
}

static void on_post(mp_post *post)
{
  memory *mem = MP_CONTAINER(post, memory, post);
  mem->posted = false;
  if (!mem->stream.closing) {
    deliver(mem);
    return;
  }
  mem->gone = true;
  mem->stream.loop->alive--;
  mp_list_remove(&mem->left.node);
  if (mem->stream.calls)
    mem->stream.calls->closed(mem->stream.ctx);
  free_when_done(mem);
}

static void post(memory *mem)
{
  if (mem->posted)
    return;
  mem->posted = true;
  mp_loop_post(mem->stream.loop, &mem->post);
}

static void on_left(mp_leftover *left)
{
  mp_stream_close(&MP_CONTAINER(left, memory, left)->stream);
}

int mp_stream_memory(mp_stream **out, mp_loop *loop, const mp_stream_peer *peer)
{
  memory *mem = mp_mem_zalloc(sizeof *mem);
  if (!mem)
    return MP_E_NOMEM;
  mem->stream.loop = loop;
  mem->stream.is_memory = true;
  mp_timer_init(&mem->stream.linger, NULL);
  mem->peer = *peer;
  mp_buf_init(&mem->written, MEMORY_MOST, NULL);
  mp_buf_init(&mem->held, MEMORY_MOST, NULL);
  mem->post.run = on_post;
  mp_list_init(&mem->post.node);
  mem->left.close = on_left;
  mp_list_push(&loop->left, &mem->left.node);
  loop->alive++;
  *out = &mem->stream;
  return 0;
}

void mp_stream_memory_start(mp_stream *stream)
{
  memory *mem = memory_of(stream);
  if (mem->held.len > 0 || mem->has_end)
    post(mem); /* not from inside: whoever starts reading is in the middle of something */
}

int mp_stream_memory_write(mp_stream *stream, const void *in, size_t len)
{
  return mp_buf_add(&memory_of(stream)->written, in, len);
}

void mp_stream_memory_close(mp_stream *stream)
{
  post(memory_of(stream));
}

void mp_stream_memory_peer(const mp_stream *stream, mp_stream_peer *peer)
{
  const memory *mem = (const void *)stream; /* its first member */
  *peer = mem->peer;
}

void mp_stream_inject(mp_stream *stream, const char *in, mp_ssize len)
{
  memory *mem = memory_of(stream);
  if (stream->closing || mem->has_end)
    return;
  int rc = len > 0 ? mp_buf_add(&mem->held, in, (size_t)len) : 0;
  if (len <= 0 || rc < 0) {
    mem->has_end = true;
    mem->end = rc < 0 ? rc : len;
  }
  deliver(mem);
}

mp_buf *mp_stream_written(mp_stream *stream)
{
  return &memory_of(stream)->written;
}

bool mp_stream_finished(const mp_stream *stream)
{
  return stream->shut || stream->closing;
}

void mp_stream_release(mp_stream *stream)
{
  memory *mem = memory_of(stream);
  mem->released = true;
  free_when_done(mem);
}
