#include "base/buf.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

void mp_buf_init(mp_buf *buf, size_t max, mp_pool *pool)
{
  *buf = (mp_buf){ .max = max, .pool = pool };
}

static void release(mp_buf *buf, char *block, size_t cap)
{
  if (buf->secret)
    mp_mem_wipe(block, cap);
  /* Only blocks of the pool's own size came from it. */
  if (buf->pool && cap == buf->pool->block)
    mp_pool_give(buf->pool, block);
  else
    mp_mem_free(block);
}

void mp_buf_dispose(mp_buf *buf)
{
  if (buf->ptr)
    release(buf, buf->ptr, buf->cap);
  buf->ptr = NULL;
  buf->off = buf->len = buf->cap = 0;
}

/* Makes room for `more` octets behind the contents. */
static int reserve(mp_buf *buf, size_t more)
{
  if (more > buf->max || buf->len > buf->max - more)
    return MP_E_FULL;
  size_t need = buf->len + more;
  if (buf->off + need <= buf->cap && buf->ptr)
    return 0;
  if (buf->ptr && need <= buf->cap && buf->off >= buf->cap / 2) {
    memmove(buf->ptr, buf->ptr + buf->off, buf->len);
    buf->off = 0;
    return 0;
  }
  char *block;
  size_t cap;
  if (!buf->ptr && buf->pool && need <= buf->pool->block) {
    cap = buf->pool->block;
    block = mp_pool_take(buf->pool);
  } else {
    cap = buf->cap ? buf->cap : 64;
    while (cap < need)
      cap = cap > buf->max / 2 ? (need > buf->max ? need : buf->max) : cap * 2;
    /* A heap block must never pass for one of the pool's. */
    if (buf->pool && cap == buf->pool->block)
      cap++;
    block = mp_mem_alloc(cap);
  }
  if (!block)
    return MP_E_NOMEM;
  if (buf->len)
    memcpy(block, buf->ptr + buf->off, buf->len);
  if (buf->ptr)
    release(buf, buf->ptr, buf->cap);
  buf->ptr = block;
  buf->cap = cap;
  buf->off = 0;
  return 0;
}

char *mp_buf_room(mp_buf *buf, size_t len)
{
  return reserve(buf, len) < 0 ? NULL : buf->ptr + buf->off + buf->len;
}

void mp_buf_grow(mp_buf *buf, size_t len)
{
  buf->len += len;
}

int mp_buf_add(mp_buf *buf, const void *ptr, size_t len)
{
  int rc = reserve(buf, len);
  if (rc < 0)
    return rc;
  if (len)
    memcpy(buf->ptr + buf->off + buf->len, ptr, len);
  buf->len += len;
  return 0;
}

int mp_buf_str(mp_buf *buf, mp_str s)
{
  return mp_buf_add(buf, s.ptr, s.len);
}

int mp_buf_char(mp_buf *buf, char c)
{
  return mp_buf_add(buf, &c, 1);
}

int mp_buf_fmt(mp_buf *buf, const char *fmt, ...)
{
  char small[256];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(small, sizeof small, fmt, ap);
  va_end(ap);
  if (n < 0)
    return MP_E_INVALID;
  if ((size_t)n < sizeof small)
    return mp_buf_add(buf, small, (size_t)n);
  int rc = reserve(buf, (size_t)n + 1);
  if (rc < 0)
    return rc;
  va_start(ap, fmt);
  vsnprintf(buf->ptr + buf->off + buf->len, (size_t)n + 1, fmt, ap);
  va_end(ap);
  buf->len += (size_t)n;
  return 0;
}

void mp_buf_consume(mp_buf *buf, size_t len)
{
  if (len >= buf->len) {
    mp_buf_dispose(buf);
    return;
  }
  buf->off += len;
  buf->len -= len;
}

void mp_buf_cut(mp_buf *buf, size_t len)
{
  if (len < buf->len)
    buf->len = len;
}

char *mp_buf_detach(mp_buf *buf, size_t *len)
{
  char *copy = mp_mem_dup(buf->ptr ? buf->ptr + buf->off : NULL, buf->len);
  if (!copy)
    return NULL;
  *len = buf->len;
  mp_buf_dispose(buf);
  return copy;
}
