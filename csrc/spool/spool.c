/* A spool's life: folder, lock, threads, and what is asked of them. */
#include "spool/spool_impl.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* RESERVE: octets of the disk that new messages leave free, or a quarter of a small one, so that what is there can always be finished. */
enum { ARENA_MOST = 1 << 30, RESERVE = 16 << 20 };

void mp_spool_request_init(mp_spool_request *req, mp_spool_verb verb)
{
  *req = (mp_spool_request){ .verb = verb };
  mp_list_init(&req->node);
  mp_arena_init(&req->arena, ARENA_MOST, NULL);
  mp_buf_init(&req->out, SIZE_MAX / 2, NULL);
}

void mp_spool_request_dispose(mp_spool_request *req)
{
  mp_arena_dispose(&req->arena);
  mp_buf_dispose(&req->out);
  mp_mem_free(req->found);
  req->found = NULL;
  req->found_count = 0;
}

/* ---- the writer -------------------------------------------------------------------------------------------------- */

static int execute(spool_db *db, mp_spool_request *req, spool_effect **effects)
{
  switch (req->verb) {
  case MP_SPOOL_PUT:
    return spool_put(db, req, effects);
  case MP_SPOOL_FINISH:
    return spool_finish(db, req, effects);
  default:
    return spool_reschedule(db, req, effects);
  }
}

/* What needs memory is done before the commit: what is on disk is never forgotten for want of it. False when there is none. */
static bool make_ready(mp_spool *spool, spool_effect *list)
{
  spool_index *index = &spool->index;
  for (spool_effect *one = list; one; one = one->next) {
    if (one->by > 0 && !index_count(index, one->domain, one->lane, one->by))
      return false;
    if (one->claim && !index_claim_set(index, one->handle, one->lane, INFINITY)) {
      index_count(index, one->domain, one->lane, -one->by);
      return false;
    }
    one->ready = true;
  }
  return true;
}

static void undo(mp_spool *spool, spool_effect *list)
{
  for (spool_effect *one = list; one && one->ready; one = one->next) {
    if (one->claim)
      index_claim_end(&spool->index, one->handle);
    if (one->by > 0)
      index_count(&spool->index, one->domain, one->lane, -one->by);
  }
}

/* What is on disk is made known: counts, claims that are over, what is due. */
static bool make_known(mp_spool *spool, spool_effect *list)
{
  bool changed = false;
  spool_index *index = &spool->index;
  for (spool_effect *one = list; one; one = one->next) {
    if (one->over)
      index_claim_end(index, one->handle);
    if (one->by < 0)
      index_count(index, one->domain, one->lane, one->by);
    spool->next_alarm = fmin(spool->next_alarm, one->alarm);
    index_domain *domain = isinf(one->due) ? NULL : index_domain_find(index, one->domain);
    if (domain) {
      index_due(index, domain, one->lane, one->due);
      changed = true;
    }
  }
  return changed;
}

/* A transaction for all of `requests`. SQLITE_OK, or what went wrong, with `why` and *rc; then nothing of it is there. */
static int transact(mp_spool *spool, mp_list *requests, spool_effect **effects, int *rc, char why[MP_SPOOL_WHY])
{
  spool_db *db = &spool->writer.db;
  *effects = NULL;
  int code = spool_run(db, S_BEGIN);
  for (mp_list *node = requests->next; node != requests && code == SQLITE_OK; node = node->next) {
    mp_spool_request *req = MP_CONTAINER(node, mp_spool_request, node);
    req->rc = 0;
    code = execute(db, req, effects);
  }
  bool ready = false;
  if (code == SQLITE_OK) {
    pthread_mutex_lock(&spool->lock);
    ready = make_ready(spool, *effects);
    pthread_mutex_unlock(&spool->lock);
    code = ready ? spool_run(db, S_COMMIT) : SQLITE_NOMEM;
  }
  if (code == SQLITE_OK)
    return code;
  *rc = ready || code != SQLITE_NOMEM ? spool_fault(db, code, why)
                                      : MP_E_NOMEM; /* the rollback forgets what it was */
  pthread_mutex_lock(&spool->lock);
  undo(spool, *effects);
  pthread_mutex_unlock(&spool->lock);
  if (db->db && !sqlite3_get_autocommit(db->db))
    spool_run(db, S_ROLLBACK);
  return code;
}

static void answer(mp_list *requests)
{
  while (!mp_list_empty(requests)) {
    mp_spool_request *req = MP_CONTAINER(requests->next, mp_spool_request, node);
    mp_list_remove(&req->node);
    req->done(req);
  }
}

static void answer_with(mp_list *requests, int rc, const char *why)
{
  for (mp_list *node = requests->next; node != requests; node = node->next) {
    mp_spool_request *req = MP_CONTAINER(node, mp_spool_request, node);
    req->rc = rc;
    snprintf(req->why, sizeof req->why, "%s", why);
  }
  answer(requests);
}

/* Octets of the database that nothing stands in. */
static uint64_t unused(spool_db *db)
{
  uint64_t pages = 0;
  sqlite3_stmt *st = spool_statement(db, S_UNUSED);
  if (st && sqlite3_step(st) == SQLITE_ROW)
    pages = (uint64_t)sqlite3_column_int64(st, 0);
  sqlite3_reset(st);
  return pages * SPOOL_PAGE;
}

/* Whether the disk has room for `octets` of new messages: in the log, and behind it in the database, where what stands in the log alone has to go too. */
static bool has_room(mp_spool *spool, uint64_t octets, char why[MP_SPOOL_WHY])
{
  struct statvfs disk;
  struct stat log;
  char path[4096];
  uint64_t free_inside = unused(&spool->writer.db),
           wanted = octets + (octets > free_inside ? octets - free_inside : 0);
  if (snprintf(path, sizeof path, "%s-wal", spool->path) < (int)sizeof path && stat(path, &log) == 0)
    wanted += (uint64_t)log.st_size;
  if (statvfs(spool->folder, &disk) < 0)
    return true; /* the write will tell */
  uint64_t block = disk.f_frsize, reserve = disk.f_blocks * block / 4;
  reserve = reserve < RESERVE ? reserve : RESERVE;
  snprintf(why, MP_SPOOL_WHY, "the disk is nearly full: %llu KB are free, %llu KB are kept for what is there",
           (unsigned long long)(disk.f_bavail * block >> 10), (unsigned long long)(reserve >> 10));
  return disk.f_bavail * block >= reserve + wanted;
}

/* New messages are refused before the disk is full: else nothing could be finished either. */
static void keep_reserve(mp_spool *spool, mp_list *requests)
{
  uint64_t octets = 0;
  for (mp_list *node = requests->next; node != requests; node = node->next) {
    mp_spool_request *req = MP_CONTAINER(node, mp_spool_request, node);
    octets += req->verb == MP_SPOOL_PUT ? (uint64_t)req->octets.len : 0;
  }
  char why[MP_SPOOL_WHY];
  if (!octets || has_room(spool, octets, why))
    return;
  if (spool->writer.db.db)
    sqlite3_wal_checkpoint_v2(spool->writer.db.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
  if (has_room(spool, octets, why))
    return;
  mp_list refused;
  mp_list_init(&refused);
  for (mp_list *node = requests->next, *next; node != requests; node = next) {
    next = node->next;
    if (MP_CONTAINER(node, mp_spool_request, node)->verb == MP_SPOOL_PUT) {
      mp_list_remove(node);
      mp_list_push(&refused, node);
    }
  }
  answer_with(&refused, MP_E_NOSPACE, why);
}

/* After an error of the disk nobody knows what the file holds: it is read anew, by a new connection, rather than synced again. */
static int reopen(mp_spool *spool, char why[MP_SPOOL_WHY])
{
  spool_db_close(&spool->writer.db);
  return spool_db_open(&spool->writer.db, spool->path, false, why);
}

/* One transaction for all; when that fails, and there are several, one for each. */
static void write_all(mp_spool *spool, mp_list *requests)
{
  spool_effect *effects;
  char why[MP_SPOOL_WHY];
  int rc = spool->writer.db.db ? 0 : reopen(spool, why); /* an error of the disk closed it */
  if (rc < 0) {
    answer_with(requests, rc, why);
    return;
  }
  int code = transact(spool, requests, &effects, &rc, why);
  if (rc == MP_E_NOSPACE) { /* the log gives back what it holds twice */
    sqlite3_wal_checkpoint_v2(spool->writer.db.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    code = transact(spool, requests, &effects, &rc, why);
  }
  if (code == SQLITE_OK) {
    pthread_mutex_lock(&spool->moving);
    pthread_mutex_lock(&spool->lock);
    bool changed = make_known(spool, effects);
    pthread_mutex_unlock(&spool->lock);
    pthread_mutex_unlock(&spool->moving);
    answer(requests);
    if (changed && spool->changed)
      spool->changed(spool->ctx);
    return;
  }
  if (rc == MP_E_SYSTEM)
    spool_db_close(&spool->writer.db);
  if (requests->next->next == requests)
    answer_with(requests, rc, why);
  while (!mp_list_empty(requests)) {
    mp_list alone;
    mp_list *node = requests->next;
    mp_list_init(&alone);
    mp_list_remove(node);
    mp_list_push(&alone, node);
    write_all(spool, &alone);
  }
}

/* Everything that has been asked of a thread, in one list. False: nothing more will be. */
static bool collect(mp_spool *spool, spool_thread *thread, mp_list *into)
{
  pthread_mutex_lock(&spool->lock);
  while (mp_list_empty(&thread->asked) && !spool->closing)
    pthread_cond_wait(&thread->wake, &spool->lock);
  while (!mp_list_empty(&thread->asked)) {
    mp_list *node = thread->asked.next;
    mp_list_remove(node);
    mp_list_push(into, node);
  }
  bool more = !mp_list_empty(into);
  pthread_mutex_unlock(&spool->lock);
  return more;
}

static void *write_thread(void *arg)
{
  mp_spool *spool = arg;
  mp_list requests;
  mp_list_init(&requests);
  while (collect(spool, &spool->writer, &requests)) {
    keep_reserve(spool, &requests);
    if (!mp_list_empty(&requests))
      write_all(spool, &requests);
  }
  return NULL;
}

/* ---- the reader -------------------------------------------------------------------------------------------------- */

static void look(mp_spool *spool, mp_spool_request *req)
{
  req->rc = 0;
  if (!spool->reader.db.db) /* an error of the disk closed it */
    req->rc = spool_db_open(&spool->reader.db, spool->path, false, req->why);
  if (req->rc == 0) {
    switch (req->verb) {
    case MP_SPOOL_CLAIM:
      spool_claim(spool, req);
      break;
    case MP_SPOOL_ALARMS:
      spool_alarms(spool, req);
      break;
    case MP_SPOOL_TAKE:
      spool_take(spool, req);
      break;
    case MP_SPOOL_READ:
      spool_read(spool, req);
      break;
    default:
      spool_list(spool, req);
    }
  }
  if (req->rc == MP_E_SYSTEM)
    spool_db_close(&spool->reader.db);
}

static void *read_thread(void *arg)
{
  mp_spool *spool = arg;
  mp_list requests;
  mp_list_init(&requests);
  while (collect(spool, &spool->reader, &requests)) {
    while (!mp_list_empty(&requests)) {
      mp_spool_request *req = MP_CONTAINER(requests.next, mp_spool_request, node);
      mp_list_remove(&req->node);
      look(spool, req);
      req->done(req);
    }
  }
  return NULL;
}

void mp_spool_ask(mp_spool *spool, mp_spool_request *req)
{
  spool_thread *thread = req->verb <= MP_SPOOL_RESCHEDULE ? &spool->writer : &spool->reader;
  pthread_mutex_lock(&spool->lock);
  mp_list_push(&thread->asked, &req->node);
  pthread_cond_signal(&thread->wake);
  pthread_mutex_unlock(&spool->lock);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

/* The folder is ours alone as long as the lock on a file in it is held, which says who holds it. */
static int take_lock(mp_spool *spool, char why[MP_SPOOL_WHY])
{
  char path[4096];
  snprintf(path, sizeof path, "%s/lock", spool->folder);
  spool->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (spool->lock_fd < 0) {
    snprintf(why, MP_SPOOL_WHY, "lock: %s", strerror(errno));
    return mp_error_errno(errno);
  }
  char holder[64] = "";
  if (flock(spool->lock_fd, LOCK_EX | LOCK_NB) < 0) {
    ssize_t got = pread(spool->lock_fd, holder, sizeof holder - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
    snprintf(why, MP_SPOOL_WHY, "another process has it open (%s)", holder[0] ? holder : "unknown");
    return MP_E_INUSE;
  }
  int len = snprintf(holder, sizeof holder, "process %ld\n", (long)getpid());
  if (ftruncate(spool->lock_fd, 0) < 0 || pwrite(spool->lock_fd, holder, (size_t)len, 0) < 0) {
    snprintf(why, MP_SPOOL_WHY, "lock: %s", strerror(errno));
    return mp_error_errno(errno);
  }
  return 0;
}

static int make_folder(mp_spool *spool, char why[MP_SPOOL_WHY])
{
  if (mkdir(spool->folder, 0700) == 0 || errno == EEXIST)
    return 0;
  snprintf(why, MP_SPOOL_WHY, "%s", strerror(errno));
  return mp_error_errno(errno);
}

static void dispose(mp_spool *spool)
{
  spool_db_close(&spool->reader.db);
  spool_db_close(&spool->writer.db);
  if (spool->lock_fd >= 0)
    close(spool->lock_fd);
  index_dispose(&spool->index);
  pthread_cond_destroy(&spool->reader.wake);
  pthread_cond_destroy(&spool->writer.wake);
  pthread_mutex_destroy(&spool->moving);
  pthread_mutex_destroy(&spool->lock);
  mp_mem_free(spool->folder);
  mp_mem_free(spool->path);
  mp_mem_free(spool);
}

static int start(mp_spool *spool, char why[MP_SPOOL_WHY])
{
  int rc = make_folder(spool, why);
  if (rc == 0)
    rc = take_lock(spool, why);
  if (rc == 0)
    rc = spool_db_open(&spool->writer.db, spool->path, true, why);
  if (rc == 0)
    rc = spool_db_open(&spool->reader.db, spool->path, false, why);
  if (rc == 0)
    rc = spool_load(spool, why);
  if (rc == 0 && pthread_create(&spool->writer.id, NULL, write_thread, spool) != 0)
    rc = MP_E_SYSTEM;
  spool->writer.running = rc == 0;
  if (rc == 0 && pthread_create(&spool->reader.id, NULL, read_thread, spool) != 0)
    rc = MP_E_SYSTEM;
  spool->reader.running = rc == 0;
  return rc;
}

int mp_spool_open(mp_spool **out, const char *folder, void (*changed)(void *ctx), void *ctx,
                  char why[MP_SPOOL_WHY])
{
  why[0] = '\0';
  size_t len = strlen(folder);
  mp_spool *spool = mp_mem_zalloc(sizeof *spool);
  if (!spool)
    return MP_E_NOMEM;
  spool->folder = mp_mem_dup(folder, len);
  spool->path = mp_mem_alloc(len + sizeof "/spool.db");
  spool->lock_fd = -1;
  spool->changed = changed;
  spool->ctx = ctx;
  spool->next_alarm = INFINITY;
  pthread_mutex_init(&spool->lock, NULL);
  pthread_mutex_init(&spool->moving, NULL);
  pthread_cond_init(&spool->writer.wake, NULL);
  pthread_cond_init(&spool->reader.wake, NULL);
  mp_list_init(&spool->writer.asked);
  mp_list_init(&spool->reader.asked);
  index_init(&spool->index);
  int rc = spool->folder && spool->path ? 0 : MP_E_NOMEM;
  if (rc == 0) {
    snprintf(spool->path, len + sizeof "/spool.db", "%s/spool.db", folder);
    rc = start(spool, why);
  }
  if (rc < 0) {
    if (!why[0])
      snprintf(why, MP_SPOOL_WHY, "%s", mp_error_text(rc));
    mp_spool_close(spool);
    return rc;
  }
  *out = spool;
  return 0;
}

void mp_spool_close(mp_spool *spool)
{
  if (!spool)
    return;
  pthread_mutex_lock(&spool->lock);
  spool->closing = true;
  pthread_cond_signal(&spool->writer.wake);
  pthread_cond_signal(&spool->reader.wake);
  pthread_mutex_unlock(&spool->lock);
  if (spool->writer.running)
    pthread_join(spool->writer.id, NULL);
  if (spool->reader.running)
    pthread_join(spool->reader.id, NULL);
  dispose(spool);
}

/* ---- what is in memory ------------------------------------------------------------------------------------------- */

size_t mp_spool_due(mp_spool *spool, double now, size_t most, mp_arena *arena, mp_str *names)
{
  size_t count = 0;
  pthread_mutex_lock(&spool->lock);
  mp_timers *timers = &spool->index.timers;
  int64_t now_ms = (int64_t)(now * 1000);
  while (count < most && timers->count && timers->heap[0]->due_ms <= now_ms) {
    index_domain *domain = MP_CONTAINER(timers->heap[0], index_domain, timer);
    bool ok = true;
    names[count] = mp_arena_str(arena, mp_str_of(domain->name, domain->len), &ok);
    if (!ok)
      break;
    mp_timers_set(timers, &domain->timer, INT64_MAX);
    count++;
  }
  pthread_mutex_unlock(&spool->lock);
  return count;
}

double mp_spool_next(mp_spool *spool)
{
  pthread_mutex_lock(&spool->lock);
  int64_t next = mp_timers_next(&spool->index.timers);
  double due = next == INT64_MAX ? INFINITY : (double)next / 1000;
  due = fmin(due, spool->next_alarm);
  pthread_mutex_unlock(&spool->lock);
  return due;
}

void mp_spool_sleep(mp_spool *spool, mp_str name, double until)
{
  pthread_mutex_lock(&spool->lock);
  index_domain *domain = index_domain_find(&spool->index, name);
  if (domain) {
    domain->sleeps = until;
    index_arm(&spool->index, domain);
  }
  pthread_mutex_unlock(&spool->lock);
  if (spool->changed)
    spool->changed(spool->ctx);
}

void mp_spool_release(mp_spool *spool, const mp_spool_delivery *deliveries, size_t count, double until)
{
  pthread_mutex_lock(&spool->lock);
  for (size_t i = 0; i < count; i++) {
    const index_claim *claim = index_claim_find(&spool->index, deliveries[i].handle);
    if (!claim)
      continue;
    uint16_t lane = claim->lane;
    if (until > 0)
      index_claim_set(&spool->index, deliveries[i].handle, lane, until);
    else
      index_claim_end(&spool->index, deliveries[i].handle);
    index_domain *domain = index_domain_find(&spool->index, deliveries[i].domain);
    if (domain)
      index_due(&spool->index, domain, lane, until);
  }
  pthread_mutex_unlock(&spool->lock);
  if (spool->changed)
    spool->changed(spool->ctx);
}

void mp_spool_count(mp_spool *spool, mp_spool_counts *counts)
{
  pthread_mutex_lock(&spool->lock);
  *counts = (mp_spool_counts){ .deliveries = spool->index.deliveries,
                               .claimed = spool->index.claim_count,
                               .domains = spool->index.domain_count };
  pthread_mutex_unlock(&spool->lock);
}
