/* A sink has two lives. In memory its octets stand in blocks. Past the threshold it is spilled: the blocks become a queue, jobs in the
 * thread pool write the front of it to the file, one job at a time, and the blocks go back to the pool.
 *
 *   blocks:   [ in the job ][ full, waiting ][ being filled ]
 *             ^ offset `written` of the file              ^ `tail` octets
 *
 * What all sinks of a store hold in memory has a ceiling too. When it is near, a sink is spilled whatever its size, and keeps a block, no more,
 * while its peer is slow; when it is reached there is no room for more octets.
 *
 * After mp_sink_finish a sink is either wholly in memory or wholly in the file, and nothing of it changes any more: any thread may read. */
#include "conn/body.h"

#include "base/error.h"
#include "conn/body_file.h"
#include "mail/header.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

enum {
  BLOCK = 16384,
  BLOCKS_IDLE = 128,
  BLOCKS_FIRST = 16, /* room in the sink itself */
  BATCH_LEAST = 8,   /* blocks worth a job while more may come */
  BATCH_MOST = 16,
  BEHIND = 1 << 20,          /* octets not yet in the file: feeding stops past it ... */
  BEHIND_CROWDED = 4 * BLOCK /* the same where memory is short; it goes on at half as many, both times */
};

typedef struct spill {
  mp_work work; /* first: this is how a job finds its spill */
  mp_sink *sink;
  const char *folder;
  mp_body_file file;
  bool busy;    /* a job runs; it owns the members below, and the blocks of its batch */
  int error;    /* of the last job */
  size_t batch; /* blocks in the job */
  size_t octets;
  uint64_t written;
  mp_body_hash *hash; /* NULL: nobody wants it. The body is what lies behind `body_at` */
  uint64_t body_at;
  struct iovec iov[BATCH_MOST];
} spill;

typedef enum head_state { HEAD_UNKNOWN, HEAD_FOUND, HEAD_TOOLONG } head_state;

struct mp_sink {
  mp_body_store *store;
  unsigned refs;
  int error;           /* sticky */
  bool finished, owed; /* `ready` is owed to who feeds */
  unsigned char head;  /* head_state */
  char **blocks;
  size_t count, room;
  size_t tail; /* octets in the last block */
  uint64_t size;
  spill *spill; /* NULL: in memory */
  void (*ready)(void *ctx, int rc);
  void *ctx;
  mp_buf gather;    /* the start of the message, while its header block has not ended */
  size_t next_look; /* gather's length at which to look for the end again */
  mp_str header;    /* HEAD_FOUND: into block 0, or into `gather` */
  char *first[BLOCKS_FIRST];
};

void mp_body_store_init(mp_body_store *store, mp_loop *loop)
{
  const char *tmpdir = getenv("TMPDIR");
  *store = (mp_body_store){
    .loop = loop,
    .threshold = 256 << 10,
    .memory_most = 256 << 20,
    .header_most = 256 << 10,
    .folder = tmpdir && *tmpdir ? tmpdir : "/tmp",
    .running_most = 32,
  };
  mp_list_init(&store->waits);
  mp_list_init(&store->programs);
  mp_pool_init(&store->blocks, BLOCK, BLOCKS_IDLE);
  mp_pool_init(&store->sinks, sizeof(mp_sink), BLOCKS_IDLE);
  mp_pool_init(&store->strings, 1024, BLOCKS_IDLE);
}

void mp_body_store_dispose(mp_body_store *store)
{
  mp_body_file_drop_idle(store);
  mp_pool_dispose(&store->blocks);
  mp_pool_dispose(&store->sinks);
  mp_pool_dispose(&store->messages);
  mp_pool_dispose(&store->strings);
}

int mp_sink_new(mp_sink **out, mp_body_store *store)
{
  mp_sink *sink = mp_pool_take(&store->sinks);
  if (!sink)
    return MP_E_NOMEM;
  *sink = (mp_sink){ .store = store, .refs = 1, .room = BLOCKS_FIRST, .tail = BLOCK, .next_look = BLOCK };
  sink->blocks = sink->first;
  mp_buf_init(&sink->gather, store->header_most + 1, NULL);
  *out = sink;
  return 0;
}

mp_sink *mp_sink_ref(mp_sink *sink)
{
  sink->refs++;
  return sink;
}

/* ---- the ceiling of all ------------------------------------------------------------------------------------------ */

static bool has_room(const mp_body_store *store, size_t octets)
{
  return octets <= store->memory_most && store->held <= store->memory_most - octets;
}

static bool is_crowded(const mp_body_store *store)
{
  return store->held > store->memory_most / 2;
}

static void give_blocks(mp_sink *sink, size_t count)
{
  for (size_t i = 0; i < count; i++)
    mp_pool_give(&sink->store->blocks, sink->blocks[i]);
  sink->store->held -= count * BLOCK;
}

static void drop_gathered(mp_sink *sink)
{
  sink->store->held -= sink->gather.cap;
  mp_buf_dispose(&sink->gather);
}

/* ---- life's end -------------------------------------------------------------------------------------------------- */

static void close_file(mp_work *work)
{
  mp_body_file_close(&((spill *)work)->file);
}

static void file_closed(mp_work *work)
{
  mp_mem_free(work);
}

static void destroy(mp_sink *sink)
{
  give_blocks(sink, sink->count);
  if (sink->blocks != sink->first)
    mp_mem_free(sink->blocks);
  drop_gathered(sink);
  spill *sp = sink->spill;
  if (sp)
    mp_body_hash_free(sp->hash);
  if (sp && !mp_body_file_keep(sink->store, &sp->file)) {
    /* Closing the file frees its octets on the disk, which takes time. */
    sp->work = (mp_work){ .work = close_file, .done = file_closed };
    if (mp_loop_work(sink->store->loop, &sp->work) == 0)
      sp = NULL;
    else
      mp_body_file_close(&sp->file);
  }
  mp_mem_free(sp);
  mp_pool_give(&sink->store->sinks, sink);
}

void mp_sink_unref(mp_sink *sink)
{
  if (!sink || --sink->refs > 0)
    return;
  sink->ready = NULL;
  if (!sink->spill || !sink->spill->busy)
    destroy(sink);
}

/* ---- the header block -------------------------------------------------------------------------------------------- */

/* Looks for the end in what was gathered. `last`: nothing more will come. */
static void look(mp_sink *sink, bool last)
{
  bool open;
  mp_str octets = mp_buf_view(&sink->gather);
  size_t end = mp_header_end(octets, &open);
  size_t most = sink->store->header_most;
  if ((open && octets.len > most) || end > most) {
    drop_gathered(sink);
    sink->head = HEAD_TOOLONG;
  } else if (!open || last) {
    mp_buf_cut(&sink->gather, end);
    sink->header = mp_buf_view(&sink->gather);
    sink->head = HEAD_FOUND;
  } else {
    sink->next_look = sink->next_look * 2 <= most ? sink->next_look * 2 : most + 1;
  }
}

/* Keeps a copy of the first octets until the header block is whole. It is looked at each time it has doubled, which is linear in all. */
static int gather(mp_sink *sink, mp_str octets)
{
  while (sink->head == HEAD_UNKNOWN && octets.len) {
    size_t most = sink->store->header_most;
    if (sink->next_look > most + 1)
      sink->next_look = most + 1;
    mp_str part = mp_str_sub(octets, 0, sink->next_look - sink->gather.len);
    size_t cap = sink->gather.cap;
    if (sink->gather.len + part.len > cap && !has_room(sink->store, cap + part.len)) /* it grows to twice its size */
      return MP_E_NOSPACE;
    if (mp_buf_str(&sink->gather, part) < 0)
      return MP_E_NOMEM;
    sink->store->held += sink->gather.cap - cap;
    octets = mp_str_sub(octets, part.len, octets.len);
    if (sink->gather.len == sink->next_look)
      look(sink, false);
  }
  return 0;
}

static mp_str block_at(const mp_sink *sink, size_t i)
{
  return mp_str_of(sink->blocks[i], i + 1 == sink->count ? sink->tail : (size_t)BLOCK);
}

static int gather_blocks(mp_sink *sink)
{
  int rc = 0;
  for (size_t i = 0; i < sink->count && rc == 0 && sink->head == HEAD_UNKNOWN; i++)
    rc = gather(sink, block_at(sink, i));
  return rc;
}

mp_str mp_sink_header(mp_sink *sink, int *rc)
{
  *rc = 0;
  if (sink->head == HEAD_UNKNOWN && sink->count) {
    /* Nearly always it ends in the first block, and no copy is needed. */
    bool open;
    mp_str block = block_at(sink, 0);
    size_t end = mp_header_end(block, &open);
    if ((!open || sink->count == 1) && end <= sink->store->header_most) {
      sink->header = mp_str_sub(block, 0, end);
      sink->head = HEAD_FOUND;
    } else {
      *rc = gather_blocks(sink);
    }
  }
  if (*rc == 0 && sink->head == HEAD_UNKNOWN)
    look(sink, true);
  if (*rc == 0 && sink->head == HEAD_TOOLONG)
    *rc = MP_E_TOOLONG;
  return *rc == 0 ? sink->header : MP_STR_NULL;
}

/* ---- to the file ------------------------------------------------------------------------------------------------- */

/* The batch into the hashes, but for what belongs to the header. */
static void hash_batch(spill *sp)
{
  uint64_t at = sp->written;
  for (size_t i = 0; i < sp->batch; i++) {
    mp_str part = mp_str_of(sp->iov[i].iov_base, sp->iov[i].iov_len);
    uint64_t before = at < sp->body_at ? sp->body_at - at : 0;
    at += part.len;
    if (before < part.len)
      mp_body_hash_add(sp->hash, mp_str_sub(part, (size_t)before, part.len));
  }
}

/* In a thread of the pool. */
static void write_batch(mp_work *work)
{
  spill *sp = (spill *)work;
  if (sp->hash)
    hash_batch(sp);
  sp->error = mp_body_file_write(&sp->file, sp->folder, sp->iov, sp->batch, sp->written);
}

static void batch_done(mp_work *work);

/* Hands the front of the queue to the pool, when there is enough of it. */
static void push(mp_sink *sink)
{
  spill *sp = sink->spill;
  if (sp->busy || sink->error || sink->count == 0)
    return;
  size_t ready = sink->finished || sink->tail == BLOCK ? sink->count : sink->count - 1;
  if (ready == 0 || (ready < BATCH_LEAST && !sink->finished && !is_crowded(sink->store)))
    return;
  sp->batch = ready < BATCH_MOST ? ready : BATCH_MOST;
  sp->octets = 0;
  for (size_t i = 0; i < sp->batch; i++) {
    size_t len = block_at(sink, i).len;
    sp->iov[i] = (struct iovec){ .iov_base = sink->blocks[i], .iov_len = len };
    sp->octets += len;
  }
  /* Octets added meanwhile go into a block of their own: the job's blocks are the job's. */
  sp->busy = true;
  sp->work = (mp_work){ .work = write_batch, .done = batch_done };
  int rc = mp_loop_work(sink->store->loop, &sp->work);
  if (rc < 0) {
    sp->busy = false;
    sink->error = rc;
  }
}

/* Octets not yet in the file past which feeding stops. */
static uint64_t behind(const mp_sink *sink)
{
  return is_crowded(sink->store) ? BEHIND_CROWDED : BEHIND;
}

static uint64_t pending(const mp_sink *sink)
{
  return sink->count ? (uint64_t)(sink->count - 1) * BLOCK + sink->tail : 0;
}

static void batch_done(mp_work *work)
{
  spill *sp = (spill *)work;
  mp_sink *sink = sp->sink;
  sp->busy = false;
  if (sink->refs == 0) {
    destroy(sink);
    return;
  }
  if (sp->error < 0) {
    sink->error = sp->error;
    if (sink->error == MP_E_NOSPACE)
      mp_body_file_drop_idle(sink->store); /* room for those that come after */
  } else {
    sp->written += sp->octets;
    give_blocks(sink, sp->batch);
    sink->count -= sp->batch;
    memmove(sink->blocks, sink->blocks + sp->batch, sink->count * sizeof *sink->blocks);
    if (sink->count == 0)
      sink->tail = BLOCK;
    push(sink);
  }
  bool done = sink->finished ? sink->count == 0 : pending(sink) <= behind(sink) / 2;
  if (sink->owed && (done || sink->error)) {
    sink->owed = false;
    if (sink->ready)
      sink->ready(sink->ctx, sink->error); /* may drop the sink */
  }
}

static int start_spill(mp_sink *sink)
{
  int rc = gather_blocks(sink);
  if (rc < 0)
    return rc;
  spill *sp = mp_mem_zalloc(sizeof *sp);
  if (!sp)
    return MP_E_NOMEM;
  sp->sink = sink;
  sp->folder = sink->store->folder;
  sp->file = mp_body_file_take(sink->store);
  sink->spill = sp;
  /* Where the header has no end yet nobody knows what is wanted; without memory it is made later. */
  if (sink->head == HEAD_UNKNOWN)
    look(sink, false);
  if (sink->head == HEAD_FOUND && mp_body_hash_new(&sp->hash, sink->header, &sink->store->wants) == 0)
    sp->body_at = sink->header.len;
  return 0;
}

/* ---- filling ----------------------------------------------------------------------------------------------------- */

/* 0, MP_E_NOMEM, or MP_E_NOSPACE past the ceiling of the store. */
static int add_block(mp_sink *sink)
{
  if (!has_room(sink->store, BLOCK))
    return MP_E_NOSPACE;
  if (sink->count == sink->room) {
    size_t room = sink->room * 2;
    char **blocks = mp_mem_alloc(room * sizeof *blocks);
    if (!blocks)
      return MP_E_NOMEM;
    memcpy(blocks, sink->blocks, sink->count * sizeof *blocks);
    if (sink->blocks != sink->first)
      mp_mem_free(sink->blocks);
    sink->blocks = blocks;
    sink->room = room;
  }
  char *block = mp_pool_take(&sink->store->blocks);
  if (!block)
    return MP_E_NOMEM;
  sink->store->held += BLOCK;
  sink->blocks[sink->count++] = block;
  sink->tail = 0;
  return 0;
}

int mp_sink_add(mp_sink *sink, mp_str octets)
{
  if (sink->finished)
    return MP_E_MISUSE;
  if (!sink->error && sink->spill)
    sink->error = gather(sink, octets);
  while (octets.len && !sink->error) {
    if (sink->tail == BLOCK)
      sink->error = add_block(sink);
    if (sink->error)
      break;
    size_t room = (size_t)BLOCK - sink->tail;
    size_t n = octets.len < room ? octets.len : room;
    memcpy(sink->blocks[sink->count - 1] + sink->tail, octets.ptr, n);
    sink->tail += n;
    sink->size += n;
    octets = mp_str_sub(octets, n, octets.len);
  }
  if (!sink->error && !sink->spill && (sink->size > sink->store->threshold || is_crowded(sink->store)))
    sink->error = start_spill(sink);
  if (!sink->error && sink->spill)
    push(sink);
  if (sink->error)
    return sink->error;
  if (!sink->spill || pending(sink) <= behind(sink))
    return 0;
  sink->owed = true;
  return 1;
}

int mp_sink_finish(mp_sink *sink)
{
  if (sink->error || sink->finished)
    return sink->error ? sink->error : MP_E_MISUSE;
  sink->finished = true;
  if (!sink->spill)
    return 0;
  if (sink->head == HEAD_UNKNOWN)
    look(sink, true);
  push(sink);
  if (sink->error)
    return sink->error;
  sink->owed = sink->spill->busy;
  return sink->owed;
}

void mp_sink_on_ready(mp_sink *sink, void (*ready)(void *ctx, int rc), void *ctx)
{
  sink->ready = ready;
  sink->ctx = ctx;
}

mp_body_store *mp_sink_store(const mp_sink *sink)
{
  return sink->store;
}

uint64_t mp_sink_size(const mp_sink *sink)
{
  return sink->size;
}

bool mp_sink_in_file(const mp_sink *sink)
{
  return sink->spill != NULL;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

mp_str mp_sink_read(mp_sink *sink, uint64_t off, char *scratch, size_t room, int *rc)
{
  *rc = 0;
  if (off >= sink->size)
    return MP_STR_NULL;
  if (!sink->spill) {
    mp_str block = block_at(sink, (size_t)(off / BLOCK));
    return mp_str_sub(block, (size_t)(off % BLOCK), block.len);
  }
  /* The file may hold octets of another message behind ours. */
  uint64_t left = sink->size - off;
  return mp_body_file_read(&sink->spill->file, off, scratch, room < left ? room : (size_t)left, rc);
}

bool mp_sink_digest(mp_sink *sink, mp_dkim_canon canon, uint64_t limit, unsigned char digest[MP_DKIM_DIGEST],
                    uint64_t *length)
{
  spill *sp = sink->spill;
  return sp && sp->hash && sink->finished && !sp->busy && sp->written == sink->size &&
         mp_body_hash_get(sp->hash, canon, limit, digest, length);
}

static int copy_memory(mp_sink *sink, uint64_t off, int fd)
{
  struct iovec iov[BLOCKS_FIRST];
  while (off < sink->size) {
    int n = 0;
    uint64_t at = off;
    for (; n < BLOCKS_FIRST && at < sink->size; n++) {
      int unused;
      mp_str part = mp_sink_read(sink, at, NULL, 0, &unused);
      iov[n] = (struct iovec){ .iov_base = sink->blocks[at / BLOCK] + at % BLOCK, .iov_len = part.len };
      at += part.len;
    }
    ssize_t put = writev(fd, iov, n);
    if (put < 0 && errno != EINTR)
      return mp_error_errno(errno);
    off += put > 0 ? (uint64_t)put : 0;
  }
  return 0;
}

int mp_sink_copy(mp_sink *sink, uint64_t off, int fd)
{
  return sink->spill ? mp_body_file_copy(&sink->spill->file, sink->size, off, fd) : copy_memory(sink, off, fd);
}
