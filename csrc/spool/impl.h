/* spool/impl.h -- the spool's inside. Who may touch what:
 *   the queues                 under queue_lock
 *   index, leases, counters    under index_lock, which is never held over a call that may wait for a disk
 *   db, work                   the writer (its thread; where pulled, the thread that turns)
 *   reader                     under reader_lock; the writer takes it to close the reader before it reopens the database */
#ifndef MP_SPOOL_IMPL_H
#define MP_SPOOL_IMPL_H

#include "base/arena.h"
#include "base/buf.h"
#include "spool/db.h"
#include "spool/disk.h"
#include "spool/index.h"
#include "spool/spool.h"
#include "spool/walvfs.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum {
  MP_SPOOL_BATCH_REQUESTS = 2000,           /* in one transaction at most */
  MP_SPOOL_BATCH_OCTETS = 32 * 1024 * 1024, /* of heads and bodies */
  MP_SPOOL_SCRATCH_MAX = 256 * 1024 * 1024, /* octets that the writer notes about one transaction */
  MP_SPOOL_ASIDE_MOST = 1000,               /* damaged messages that one look takes note of */
  MP_SPOOL_PATH_MAX = 4096
};

enum mp_spool_op {
  MP_SPOOL_OP_PUT,
  MP_SPOOL_OP_CHANGE,
  MP_SPOOL_OP_CLAIM,
  MP_SPOOL_OP_LEASE,
  MP_SPOOL_OP_LIST,
  MP_SPOOL_OP_READ,
  MP_SPOOL_OP_CHECK,
  MP_SPOOL_OP_ASIDE
};

typedef struct mp_spool_queue {
  mp_spool_request *first, **last;
  pthread_cond_t wake;
  pthread_t thread;
  bool running, closing;
} mp_spool_queue;

/* A message file to be removed once the commit is done. */
typedef struct mp_spool_gone {
  struct mp_spool_gone *next;
  char id[MP_SPOOL_ID_MAX + 1];
} mp_spool_gone;

/* What one request did within the transaction that is open. In the scratch of the batch. */
typedef struct mp_spool_work {
  mp_spool_request *request;
  struct mp_spool_work *next;
  mp_effect *effects, **last_effect;
  mp_spool_gone *gone;
  uint64_t ends[4]; /* counts by verb: delivered, bounced, expired, removed */
  uint64_t rescheduled;
  int result;
} mp_spool_work;

struct mp_spool {
  mp_spool_opts opts;
  const mp_spool_disk *disk;
  char *folder, *path, *bodies;
  int lock;

  pthread_mutex_t queue_lock;
  mp_spool_queue writes, reads;

  pthread_mutex_t index_lock;
  mp_index index;
  mp_spool_stats stats;
  int64_t told_ms[MP_SPOOL_OWNERS]; /* what mp_spool_next last said to each owner, as unix time; INT64_MIN: nothing yet */
  int64_t told_clock[MP_SPOOL_OWNERS]; /* the same by the clock of leases */

  mp_walvfs walvfs; /* what `db` writes its log by; the reader writes nothing */
  mp_spool_db db;
  mp_arena scratch;
  int64_t last_seq;
  uint64_t last_token;
  int64_t page_size;
  int64_t log_pages;  /* in the log that the database does not have yet, or has since a moment */
  int64_t log_frames; /* in the log since it began anew */
  /* Where the log ended when it was last synced: after a failed sync everything behind is cut off, so that nothing comes back which was refused. */
  struct {
    bool known;
    unsigned char salt[8]; /* another one: the log began anew, and everything before is in the database */
    int64_t frames;
  } mark;
  int64_t data_version; /* another one: somebody else has written */
  bool failing;         /* the database is closed, and what the disk has is not known */

  pthread_mutex_t reader_lock;
  mp_spool_db reader;
  atomic_bool reader_off; /* the writer is about to reopen the database: what is being read is broken off */
};

/* ---- names */
bool mp_spool_id_fits(mp_str id);
bool mp_spool_domain_fits(mp_str domain);
int mp_spool_lane(mp_str tenant, mp_str sender);
/* The file of `id`, or its folder, in `out` of MP_SPOOL_PATH_MAX octets. */
void mp_spool_body_path(const mp_spool *spool, mp_str id, char *out);
void mp_spool_body_folder(const mp_spool *spool, mp_str id, char *out);

void mp_spool_log(mp_spool *spool, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int64_t mp_spool_clock(mp_spool *spool);

/* Tells who is to hear of something earlier than mp_spool_next said. */
void mp_spool_wake(mp_spool *spool);

/* Whether there is more free space than puts must leave. */
bool mp_spool_room(mp_spool *spool);

/* ---- starting (start.c) */
int mp_spool_start(mp_spool *spool, char *why, size_t why_size); /* opens the database, reads the index */
int mp_spool_load(mp_spool *spool);                              /* reads the index anew; leases end */
int mp_spool_orphans(mp_spool *spool);
/* After a call failed for the disk's sake: opens the database anew. 0 when it works again. */
int mp_spool_recover(mp_spool *spool);
/* With the database closed: cuts what was refused off the log. An error when it may still be there. */
int mp_spool_cut_log(mp_spool *spool);
/* Closes both connections; nothing is asked of them any more until mp_spool_recover has worked. */
void mp_spool_fail(mp_spool *spool);
/* Copies the log into the database: as far as it goes without waiting, or all of it. An error of the disk is noted in spool->db. */
int mp_spool_checkpoint(mp_spool *spool, bool all);
/* A commit has been synced: notes where the log ends. */
void mp_spool_mark(mp_spool *spool);

/* ---- the writer (writer.c) */
void mp_spool_submit(mp_spool *spool, mp_spool_request *request, enum mp_spool_op op);
size_t mp_spool_write_turn(mp_spool *spool); /* everything that was asked of the writer; how many requests */
void mp_spool_idle(mp_spool *spool);
void mp_spool_finish(mp_spool_request *request, int result);

/* ---- what requests do within a transaction; 0 or an error, after which the transaction must not be committed */
int mp_spool_put_check(const mp_spool_put_request *put); /* before one */
int mp_spool_put_apply(mp_spool *spool, mp_spool_work *work, mp_spool_put_request *put);
int mp_spool_change_check(const mp_spool_change *changes, size_t count);
int mp_spool_change_apply(mp_spool *spool, mp_spool_work *work, mp_spool_change *changes, size_t count);
mp_effect *mp_spool_effect(mp_spool *spool, mp_spool_work *work, mp_place place); /* NULL: no memory */
mp_index_domain *mp_spool_pin(mp_spool *spool, mp_str domain);
/* Notes that the file of `id` is to go. */
int mp_spool_gone_add(mp_spool *spool, mp_spool_work *work, mp_str id);

/* ---- claims (claim.c); outside of a transaction */
enum { MP_SPOOL_HOLDER_SHIFT = 48 }; /* of a token: whose it is stands in front of a number */
static inline uint64_t mp_spool_token(mp_spool *spool, uint16_t holder)
{
  return (uint64_t)holder << MP_SPOOL_HOLDER_SHIFT | ++spool->last_token;
}
void mp_spool_claim_run(mp_spool *spool, mp_spool_claim_request *claim);
void mp_spool_lease_run(mp_spool *spool, mp_spool_lease_request *request);

/* ---- batches (batch.c) */
typedef struct mp_spool_gather {
  mp_spool_batch batch; /* first: what is given out */
  mp_arena arena;
  mp_spool_recipient *rows; /* of all items, one behind the other */
  size_t max;
} mp_spool_gather;

mp_spool_gather *mp_spool_gather_new(size_t max); /* of recipients. NULL: no memory */
/* Copies the row that `stmt` stands on, whose columns from `at` are MP_SPOOL_MESSAGE_COLUMNS, as a new item. MP_E_DAMAGED: a value that we never write. */
int mp_spool_gather_message(mp_spool_gather *gather, sqlite3_stmt *stmt, int at);
/* The same with MP_SPOOL_RECIPIENT_COLUMNS, for the last item. MP_E_FULL past `max`. */
int mp_spool_gather_recipient(mp_spool_gather *gather, sqlite3_stmt *stmt, int at);

/* ---- reads (read.c, list.c, check.c), on the reader, under its lock */
size_t mp_spool_read_turn(mp_spool *spool);
/* Takes the reader's lock, and opens it when it is not. On an error the lock is not held. */
int mp_spool_reader_take(mp_spool *spool);
void mp_spool_reader_give(mp_spool *spool);
void mp_spool_list_run(mp_spool *spool, mp_spool_list_request *list);
void mp_spool_read_run(mp_spool *spool, mp_spool_read_request *read);
void mp_spool_check_run(mp_spool *spool, mp_spool_check_request *check);

/* ---- what is damaged (damage.c) */
typedef struct mp_spool_aside_request {
  mp_spool_request request;
  int64_t seq;
  const char *reason; /* static */
} mp_spool_aside_request;
int mp_spool_aside_apply(mp_spool *spool, mp_spool_work *work, int64_t seq, const char *reason);
/* Asks the writer for it, from any thread; nobody waits. */
void mp_spool_aside(mp_spool *spool, int64_t seq, const char *reason);

#endif
