/* base/buf.h -- a growable run of octets, born with a ceiling. It takes its first block from a pool where one is given,
 * so that a buffer which fills and drains all day touches no heap; an idle one holds nothing. */
#ifndef MP_BASE_BUF_H
#define MP_BASE_BUF_H

#include "base/mem.h"
#include "base/str.h"

typedef struct mp_buf {
  char *ptr; /* contents start at ptr + off */
  size_t off, len, cap, max;
  mp_pool *pool; /* may be NULL */
  bool secret;   /* for the owner to set: blocks are wiped before they go back */
} mp_buf;

/* `max` is the ceiling in octets. Takes no memory. `pool` is borrowed for the life of the buffer. */
void mp_buf_init(mp_buf *buf, size_t max, mp_pool *pool);
void mp_buf_dispose(mp_buf *buf); /* gives memory back; ready for append again */

/* Each returns 0, MP_E_NOMEM, or MP_E_FULL when the ceiling would be passed; on an error nothing was added. */
int mp_buf_add(mp_buf *buf, const void *ptr, size_t len);
int mp_buf_str(mp_buf *buf, mp_str s);
int mp_buf_char(mp_buf *buf, char c);
int mp_buf_fmt(mp_buf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Room for `len` more octets, to be written at the pointer and then told with mp_buf_grow; NULL as add fails. */
char *mp_buf_room(mp_buf *buf, size_t len);
void mp_buf_grow(mp_buf *buf, size_t len);

static inline mp_str mp_buf_view(const mp_buf *buf) /* borrowed until the next change */
{
  return mp_str_of(buf->ptr ? buf->ptr + buf->off : NULL, buf->len);
}

/* Drops `len` octets from the front; when none are left the memory is given back. */
void mp_buf_consume(mp_buf *buf, size_t len);

/* Shortens to `len` octets; keeps the memory. */
void mp_buf_cut(mp_buf *buf, size_t len);

/* Hands over a heap block of *len octets with a NUL behind it, to release with mp_mem_free; the buffer is then empty.
 * NULL when out of memory (the buffer is intact). */
char *mp_buf_detach(mp_buf *buf, size_t *len);

#endif
