/* conn/body.h -- where message octets go while they arrive: blocks of memory, and past a threshold a temporary file (unlinked at birth) that
 * the thread pool writes, so that a slow disk never holds the loop. The header block stays in memory always. */
#ifndef MP_CONN_BODY_H
#define MP_CONN_BODY_H

#include "base/buf.h"
#include "conn/body_hash.h"
#include "net/loop.h"

enum { MP_BODY_FILES_IDLE = 2 };

typedef struct mp_body_file { /* conn/body_file.h */
  int fd;                     /* -1: not open yet */
  uint64_t size;              /* octets in it, of this message or of one before */
  uint64_t room;              /* octets reserved for it */
} mp_body_file;

typedef struct mp_body_store { /* shared by the bodies of one loop */
  mp_loop *loop;
  mp_pool blocks;                   /* of 16 KB */
  mp_pool sinks, messages, strings; /* a message that comes and goes touches no heap; `strings` of 1 KB */
  size_t threshold;                 /* octets kept in memory; default 256 KB */
  size_t memory_most; /* octets of all bodies in memory; default 256 MB. From the half on they go to files at once, past it there is no room */
  size_t held;        /* of these */
  size_t header_most; /* a header block over this is refused by the message's owner; default 256 KB */
  mp_body_wants wants;                   /* hashes of bodies that go to files; nothing at first */
  const char *folder;                    /* of temporary files; default $TMPDIR or /tmp; borrowed */
  mp_body_file idle[MP_BODY_FILES_IDLE]; /* files of past messages, each up to 64 MB, for the next to write over */
  unsigned idle_count;
  mp_list waits;    /* deliveries that may be cancelled: they wait for what is not ours (conn/deliver.c) */
  mp_list programs; /* deliveries to programs that wait for their turn (conn/deliver_pipe.c) */
  unsigned running; /* programs that run */
  unsigned running_most; /* default 32 */
} mp_body_store;

void mp_body_store_init(mp_body_store *store, mp_loop *loop);
void mp_body_store_dispose(mp_body_store *store);

typedef struct mp_sink mp_sink;

/* A sink with one reference. 0 or MP_E_NOMEM. */
int mp_sink_new(mp_sink **sink, mp_body_store *store);
mp_sink *mp_sink_ref(mp_sink *sink);
void mp_sink_unref(mp_sink *sink); /* works in flight finish behind; nothing is called back afterwards when it was the last */

/* Copies octets in. 0; 1 taken, but the disk is behind: stop feeding until `ready(ctx, 0)`; or an error (NOMEM, NOSPACE, SYSTEM): the sink is
 * broken and must be dropped. NOSPACE is also said when the store's memory is full. */
int mp_sink_add(mp_sink *sink, mp_str octets);

/* No more octets. 0 complete; 1 complete when `ready(ctx, rc)` comes with 0 or an error; or an error. */
int mp_sink_finish(mp_sink *sink);
void mp_sink_on_ready(mp_sink *sink, void (*ready)(void *ctx, int rc), void *ctx); /* NULL: nobody is told any more */

mp_body_store *mp_sink_store(const mp_sink *sink);
uint64_t mp_sink_size(const mp_sink *sink);
bool mp_sink_in_file(const mp_sink *sink);

/* The header block, contiguous, as mp_header_end delimits it; borrowed for the sink's life. NULL view with *rc = MP_E_TOOLONG when it is over
 * header_most, MP_E_NOMEM, MP_E_NOSPACE. After finish. */
mp_str mp_sink_header(mp_sink *sink, int *rc);

/* Octets from `off` on: a view of some (borrowed for the sink's life, when they are in memory) or read into `scratch` (when in the file).
 * Empty at the end; *rc is set on a read error. After finish; any one thread at a time. */
mp_str mp_sink_read(mp_sink *sink, uint64_t off, char *scratch, size_t room, int *rc);

/* The hash of the body, when it was made while the octets came (store->wants; bodies in files): behind the header block as mp_sink_header has it.
 * After finish. False: it is to be made of what mp_sink_read gives. */
bool mp_sink_digest(mp_sink *sink, mp_dkim_canon canon, uint64_t limit, unsigned char digest[MP_DKIM_DIGEST],
                    uint64_t *length);

/* Writes all octets from `off` to the end to `fd` (writev, or copy_file_range / sendfile). For pool threads. 0, or an error with errno set. */
int mp_sink_copy(mp_sink *sink, uint64_t off, int fd);

#endif
