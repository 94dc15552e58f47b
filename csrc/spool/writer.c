/* The writer. What it finds asked when it looks goes into one transaction:
 *
 *   take -> check -> BEGIN, apply each, COMMIT -> settle (memory) -> done -> files removed -> claims -> log copied when it is long
 *                      |
 *                      +-- one failed: ROLLBACK, and each in a transaction of its own
 *                      +-- the disk failed: everything MP_E_IO, the database closed; opened anew before the next
 *
 * Claims come after the commit, so that they see nothing that could still be undone. */
#include "spool/impl.h"

#include <stdio.h>

typedef struct turn {
  mp_spool_work *first, **last;
  size_t count;
} turn;

void mp_spool_finish(mp_spool_request *request, int result)
{
  request->result = result;
  request->done(request);
}

void mp_spool_submit(mp_spool *spool, mp_spool_request *request, enum mp_spool_op op)
{
  bool reads = op == MP_SPOOL_OP_LIST || op == MP_SPOOL_OP_READ || op == MP_SPOOL_OP_CHECK;
  mp_spool_queue *queue = reads ? &spool->reads : &spool->writes;
  request->kind = (int)op;
  request->next = NULL;
  pthread_mutex_lock(&spool->queue_lock);
  if (!queue->first)
    pthread_cond_signal(&queue->wake);
  *queue->last = request;
  queue->last = &request->next;
  pthread_mutex_unlock(&spool->queue_lock);
}

void mp_spool_put(mp_spool *spool, mp_spool_put_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_PUT);
}

void mp_spool_update(mp_spool *spool, mp_spool_update_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_CHANGE);
}

void mp_spool_claim(mp_spool *spool, mp_spool_claim_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_CLAIM);
}

void mp_spool_lease(mp_spool *spool, mp_spool_lease_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_LEASE);
}

/* ---- what a work holds --------------------------------------------------------------------------------------------- */

mp_effect *mp_spool_effect(mp_spool *spool, mp_spool_work *work, mp_place place)
{
  mp_effect *effect = mp_arena_alloc(&spool->scratch, sizeof *effect);
  if (!effect)
    return NULL;
  *effect = (mp_effect){ .place = place };
  *work->last_effect = effect;
  work->last_effect = &effect->next;
  return effect;
}

mp_index_domain *mp_spool_pin(mp_spool *spool, mp_str domain)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_index_domain *d = mp_index_domain_pin(&spool->index, domain);
  pthread_mutex_unlock(&spool->index_lock);
  return d;
}

int mp_spool_gone_add(mp_spool *spool, mp_spool_work *work, mp_str id)
{
  mp_spool_gone *gone = mp_arena_alloc(&spool->scratch, sizeof *gone);
  if (!gone)
    return MP_E_NOMEM;
  memcpy(gone->id, id.ptr, id.len);
  gone->id[id.len] = '\0';
  gone->next = work->gone;
  work->gone = gone;
  return 0;
}

/* Lets go of domains and of leases that nobody holds. */
static void let_go(mp_spool *spool, mp_spool_work *work)
{
  for (mp_effect *e = work->effects; e; e = e->next) {
    if (e->lease)
      mp_index_lease_drop(&spool->index, e->lease);
    if (e->from)
      mp_index_unpin(&spool->index, e->from);
    if (e->to)
      mp_index_unpin(&spool->index, e->to);
  }
}

static void forget(mp_spool *spool, mp_spool_work *work)
{
  pthread_mutex_lock(&spool->index_lock);
  let_go(spool, work);
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_request *request = work->request;
  mp_spool_work *next = work->next;
  *work = (mp_spool_work){ .request = request, .next = next };
  work->last_effect = &work->effects;
}

/* ---- transactions -------------------------------------------------------------------------------------------------- */

static int check(mp_spool *spool, mp_spool_request *request, bool room)
{
  if (request->kind == MP_SPOOL_OP_PUT) {
    mp_spool_put_request *put = (mp_spool_put_request *)request;
    put->existed = false;
    put->lease = 0;
    int err = mp_spool_put_check(put);
    return err == 0 && !room ? MP_E_NOSPACE : err;
  }
  if (request->kind == MP_SPOOL_OP_CHANGE) {
    mp_spool_update_request *change = (mp_spool_update_request *)request;
    return mp_spool_change_check(change->changes, change->count);
  }
  (void)spool;
  return 0;
}

static int apply(mp_spool *spool, mp_spool_work *work)
{
  if (work->request->kind == MP_SPOOL_OP_PUT)
    return mp_spool_put_apply(spool, work, (mp_spool_put_request *)work->request);
  if (work->request->kind == MP_SPOOL_OP_CHANGE) {
    mp_spool_update_request *change = (mp_spool_update_request *)work->request;
    return mp_spool_change_apply(spool, work, change->changes, change->count);
  }
  mp_spool_aside_request *aside = (mp_spool_aside_request *)work->request;
  return mp_spool_aside_apply(spool, work, aside->seq, aside->reason);
}

/* When somebody with `sqlite3` has written since our last commit, the log goes on behind what we know of. */
static int look_for_others(mp_spool *spool)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_DATA_VERSION, &err);
  if (!s)
    return err;
  err = mp_spool_db_step(&spool->db, s);
  if (err == 1 && sqlite3_column_int64(s, 0) != spool->data_version) {
    spool->data_version = sqlite3_column_int64(s, 0);
    spool->mark.known = false;
  }
  mp_spool_db_reset(s);
  return err < 0 ? err : 0;
}

/* The works from `first` to before `end`, in one transaction. `*begun` false: nothing can be written at the moment. */
static int transact(mp_spool *spool, mp_spool_work *first, mp_spool_work *end, bool *begun)
{
  int err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_BEGIN);
  *begun = err == 0;
  if (err == 0)
    err = look_for_others(spool);
  for (mp_spool_work *w = first; err == 0 && w != end; w = w->next)
    if (w->result == 0)
      err = apply(spool, w);
  if (err == 0)
    err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_COMMIT);
  if (err == 0) {
    mp_spool_mark(spool);
    return 0;
  }
  mp_spool_db_rollback(&spool->db);
  for (mp_spool_work *w = first; w != end; w = w->next)
    if (w->result == 0)
      forget(spool, w);
  return err;
}

/* After a commit: what it did becomes so in memory. */
static void settle(mp_spool *spool, mp_spool_work *first, mp_spool_work *end)
{
  mp_spool_stats *stats = &spool->stats;
  int64_t clock = mp_spool_clock(spool);
  pthread_mutex_lock(&spool->index_lock);
  stats->commits++;
  for (mp_spool_work *w = first; w != end; w = w->next) {
    if (w->result != 0)
      continue;
    int64_t lease_ms = 0;
    stats->committed++;
    if (w->request->kind == MP_SPOOL_OP_PUT) {
      mp_spool_put_request *put = (mp_spool_put_request *)w->request;
      stats->puts += !put->existed;
      lease_ms = put->lease_ms;
    }
    stats->delivered += w->ends[MP_SPOOL_DELIVERED];
    stats->bounced += w->ends[MP_SPOOL_BOUNCED];
    stats->expired += w->ends[MP_SPOOL_EXPIRED];
    stats->removed += w->ends[MP_SPOOL_REMOVED];
    stats->rescheduled += w->rescheduled;
    for (mp_effect *e = w->effects; e; e = e->next)
      mp_index_settle(&spool->index, e, clock + lease_ms);
    let_go(spool, w);
  }
  pthread_mutex_unlock(&spool->index_lock);
}

static bool any(const mp_spool_work *first, const mp_spool_work *end)
{
  while (first != end && first->result != 0)
    first = first->next;
  return first != end;
}

static void fail_rest(mp_spool *spool, mp_spool_work *first, int result)
{
  for (mp_spool_work *w = first; w; w = w->next)
    if (w->result == 0) {
      forget(spool, w);
      w->result = result;
    }
}

static void commit(mp_spool *spool, turn *t)
{
  if (!any(t->first, NULL))
    return;
  bool begun;
  int err = transact(spool, t->first, NULL, &begun);
  if (err == 0) {
    settle(spool, t->first, NULL);
    return;
  }
  /* Somebody holds the database for longer than we waited once: nobody waits for it again, one by one. */
  if (!begun && !spool->db.broken) {
    fail_rest(spool, t->first, err);
    return;
  }
  if (err == MP_E_NOSPACE)
    mp_spool_checkpoint(spool, true); /* what the log takes up may be all there is */
  for (mp_spool_work *w = t->first; w && !spool->db.broken; w = w->next) {
    if (w->result != 0)
      continue;
    err = transact(spool, w, w->next, &begun);
    if (err == 0)
      settle(spool, w, w->next);
    w->result = err == 0 ? 1 : err; /* 1: done, so that it is not undone below */
  }
  if (spool->db.broken) {
    mp_spool_fail(spool);
    fail_rest(spool, t->first, MP_E_IO);
  }
  for (mp_spool_work *w = t->first; w; w = w->next)
    if (w->result == 1)
      w->result = 0;
}

/* ---- a turn -------------------------------------------------------------------------------------------------------- */

static size_t octets_of(const mp_spool_request *request)
{
  if (request->kind != MP_SPOOL_OP_PUT)
    return 0;
  const mp_spool_message *message = ((const mp_spool_put_request *)request)->message;
  return message ? message->head.len + message->body.len : 0;
}

/* Takes what one transaction may hold off the queue. */
static mp_spool_request *take(mp_spool *spool, size_t *count)
{
  mp_spool_queue *queue = &spool->writes;
  size_t octets = 0;
  pthread_mutex_lock(&spool->queue_lock);
  mp_spool_request *first = queue->first, **at = &queue->first;
  *count = 0;
  while (*at && *count < MP_SPOOL_BATCH_REQUESTS &&
         (*count == 0 || octets + octets_of(*at) <= MP_SPOOL_BATCH_OCTETS)) {
    octets += octets_of(*at);
    at = &(*at)->next;
    ++*count;
  }
  queue->first = *at;
  if (!queue->first)
    queue->last = &queue->first;
  *at = NULL;
  if (*count == 0)
    first = NULL;
  pthread_mutex_unlock(&spool->queue_lock);
  return first;
}

static bool add(mp_spool *spool, turn *t, mp_spool_request *request)
{
  mp_spool_work *work = mp_arena_alloc(&spool->scratch, sizeof *work);
  if (!work)
    return false;
  *work = (mp_spool_work){ .request = request };
  work->last_effect = &work->effects;
  *t->last = work;
  t->last = &work->next;
  t->count++;
  return true;
}

static void remove_files(mp_spool *spool, const turn *t)
{
  char path[MP_SPOOL_PATH_MAX];
  for (mp_spool_work *w = t->first; w; w = w->next)
    for (mp_spool_gone *gone = w->result == 0 ? w->gone : NULL; gone; gone = gone->next) {
      mp_spool_body_path(spool, mp_str_c(gone->id), path);
      int err = spool->disk->remove(spool->disk->ctx, path);
      if (err != 0 && err != MP_E_NOTFOUND)
        mp_spool_log(spool, "%s: cannot be removed: %s", path, mp_error_text(err));
    }
}

/* What was taken: writes in one transaction, then the rest. Requests are their callers' again as soon as `done` is called. */
static void process(mp_spool *spool, mp_spool_request *first)
{
  turn t = { .last = &t.first };
  mp_spool_request *others = NULL, **last_other = &others;
  bool room = true, asked = false;
  bool works = mp_spool_recover(spool) == 0; /* before anything is in the scratch, which it uses */
  for (mp_spool_request *r = first, *next; r; r = next) {
    next = r->next;
    r->next = NULL;
    if (r->kind == MP_SPOOL_OP_CLAIM || r->kind == MP_SPOOL_OP_LEASE) {
      *last_other = r;
      last_other = &r->next;
    } else if (!add(spool, &t, r)) {
      mp_spool_finish(r, MP_E_NOMEM);
    }
  }
  for (mp_spool_work *w = t.first; w; w = w->next) {
    if (w->request->kind == MP_SPOOL_OP_PUT && !asked) {
      room = mp_spool_room(spool);
      asked = true;
    }
    w->result = works ? check(spool, w->request, room) : MP_E_IO;
  }
  if (works)
    commit(spool, &t);
  remove_files(spool, &t);
  for (mp_spool_work *w = t.first; w; w = w->next)
    mp_spool_finish(w->request, w->result);
  mp_arena_dispose(&spool->scratch);
  for (mp_spool_request *r = others, *next; r; r = next) {
    next = r->next;
    if (r->kind == MP_SPOOL_OP_CLAIM)
      mp_spool_claim_run(spool, (mp_spool_claim_request *)r);
    else
      mp_spool_lease_run(spool, (mp_spool_lease_request *)r);
    mp_arena_dispose(&spool->scratch);
  }
  if (spool->db.broken)
    mp_spool_fail(spool);
  mp_spool_wake(spool);
}

enum {
  LOG_LONG = 32 * 1024 * 1024,     /* octets of log from which it is copied between two commits */
  LOG_TOO_LONG = 256 * 1024 * 1024 /* ...and from which the writer waits for readers to let it begin anew */
};

size_t mp_spool_write_turn(mp_spool *spool)
{
  size_t count;
  mp_spool_request *first = take(spool, &count);
  if (!first)
    return 0;
  process(spool, first);
  int64_t octets = spool->log_pages * spool->page_size;
  if (!spool->failing && octets >= LOG_LONG)
    mp_spool_checkpoint(spool, octets >= LOG_TOO_LONG);
  if (spool->db.broken)
    mp_spool_fail(spool);
  return count;
}

enum { VACUUM_PAGES = 2000 };

/* Gives pages that have been free for a while back to the file system, some at a time, when more than a quarter of the file is free. */
static void shrink(mp_spool *spool)
{
  int64_t pages = 0, idle = 0;
  char sql[64];
  if (mp_spool_db_number(&spool->db, "PRAGMA page_count", &pages, NULL) != 0 ||
      mp_spool_db_number(&spool->db, "PRAGMA freelist_count", &idle, NULL) != 0 || idle < VACUUM_PAGES ||
      idle < pages / 4)
    return;
  snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", (int)VACUUM_PAGES);
  if (mp_spool_db_exec(&spool->db, sql) == 0)
    mp_spool_mark(spool);
}

void mp_spool_idle(mp_spool *spool)
{
  if (mp_spool_recover(spool) != 0)
    return;
  if (spool->log_pages > 0)
    mp_spool_checkpoint(spool, false);
  if (!spool->db.broken && spool->log_pages == 0)
    shrink(spool);
  if (spool->db.broken)
    mp_spool_fail(spool);
}
