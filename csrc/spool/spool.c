#include "spool/impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool name_octet(unsigned char c)
{
  return (c >= '0' && c <= '9') || (mp_ascii_lower(c) >= 'a' && mp_ascii_lower(c) <= 'z');
}

bool mp_spool_id_fits(mp_str id)
{
  if (id.len == 0 || id.len > MP_SPOOL_ID_MAX || !name_octet((unsigned char)id.ptr[0]))
    return false;
  for (size_t i = 0; i < id.len; i++)
    if (!name_octet((unsigned char)id.ptr[i]) && !memchr("-_.", id.ptr[i], 3))
      return false;
  return true;
}

bool mp_spool_domain_fits(mp_str domain)
{
  if (domain.len == 0 || domain.len > 255)
    return false;
  for (size_t i = 0; i < domain.len; i++)
    if ((unsigned char)domain.ptr[i] <= ' ' || domain.ptr[i] == 0x7f ||
        (domain.ptr[i] >= 'A' && domain.ptr[i] <= 'Z'))
      return false;
  return true;
}

static uint32_t hash(mp_str s)
{
  uint32_t h = 2166136261u; /* FNV-1a: the folders of bodies and the lanes on disk depend on it */
  for (size_t i = 0; i < s.len; i++)
    h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
  return h ^ h >> 16;
}

int mp_spool_lane(mp_str tenant, mp_str sender)
{
  return (int)(hash(tenant.len ? tenant : sender) % MP_SPOOL_LANES);
}

void mp_spool_body_folder(const mp_spool *spool, mp_str id, char *out)
{
  snprintf(out, MP_SPOOL_PATH_MAX, "%s/%02x", spool->bodies, (unsigned)(hash(id) & 0xff));
}

void mp_spool_body_path(const mp_spool *spool, mp_str id, char *out)
{
  snprintf(out, MP_SPOOL_PATH_MAX, "%s/%02x/%.*s", spool->bodies, (unsigned)(hash(id) & 0xff), (int)id.len,
           id.ptr);
}

void mp_spool_log(mp_spool *spool, const char *fmt, ...)
{
  char line[1024];
  va_list args;
  if (!spool->opts.log)
    return;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  spool->opts.log(spool->opts.ctx, line);
}

int64_t mp_spool_clock(mp_spool *spool)
{
  if (spool->opts.clock)
    return spool->opts.clock(spool->opts.ctx);
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool mp_spool_room(mp_spool *spool)
{
  uint64_t available, total;
  if (spool->disk->space(spool->disk->ctx, spool->folder, &available, &total) != 0)
    return true; /* whoever writes will see */
  uint64_t reserve = spool->opts.reserve;
  if (reserve == 0) {
    reserve = total / 100;
    if (reserve > 16 * 1024 * 1024)
      reserve = 16 * 1024 * 1024;
  }
  return available > reserve;
}

/* ---- open and close ------------------------------------------------------------------------------------------------ */

static char *join(const char *folder, const char *name)
{
  size_t size = strlen(folder) + strlen(name) + 2;
  char *path = size < MP_SPOOL_PATH_MAX - MP_SPOOL_ID_MAX - 8 ? mp_mem_alloc(size) : NULL;
  if (path)
    snprintf(path, size, "%s/%s", folder, name);
  return path;
}

static int init(mp_spool *spool, const char *folder, const mp_spool_opts *opts)
{
  if (opts)
    spool->opts = *opts;
  spool->disk = spool->opts.disk ? spool->opts.disk : &mp_spool_disk_system;
  spool->lock = -1;
  if (spool->opts.owners == 0)
    spool->opts.owners = 1;
  for (unsigned i = 0; i < MP_SPOOL_OWNERS; i++)
    spool->told_ms[i] = INT64_MIN;
  spool->writes.last = &spool->writes.first;
  spool->reads.last = &spool->reads.first;
  mp_arena_init(&spool->scratch, MP_SPOOL_SCRATCH_MAX, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&spool->queue_lock, NULL);
  pthread_mutex_init(&spool->index_lock, NULL);
  pthread_mutex_init(&spool->reader_lock, NULL);
  pthread_cond_init(&spool->writes.wake, &attr);
  pthread_cond_init(&spool->reads.wake, &attr);
  pthread_condattr_destroy(&attr);
  spool->folder = mp_mem_dup(folder, strlen(folder));
  spool->path = join(folder, "spool.db");
  spool->bodies = join(folder, "bodies");
  int err = mp_index_init(&spool->index, spool->opts.owners);
  if (err == 0)
    err = mp_walvfs_open(&spool->walvfs, spool->opts.vfs);
  return spool->folder && spool->path && spool->bodies ? err : MP_E_NOMEM;
}

static void dispose(mp_spool *spool)
{
  mp_spool_db_close(&spool->reader);
  if (spool->db.sql && !spool->db.broken)
    mp_spool_checkpoint(spool, true); /* a folder that somebody copies or looks into is then one file */
  mp_spool_db_close(&spool->db);
  mp_walvfs_close(&spool->walvfs);
  if (spool->failing)
    mp_spool_cut_log(spool);
  if (spool->lock >= 0)
    spool->disk->unlock(spool->disk->ctx, spool->lock);
  mp_index_dispose(&spool->index);
  mp_arena_dispose(&spool->scratch);
  pthread_cond_destroy(&spool->writes.wake);
  pthread_cond_destroy(&spool->reads.wake);
  pthread_mutex_destroy(&spool->queue_lock);
  pthread_mutex_destroy(&spool->index_lock);
  pthread_mutex_destroy(&spool->reader_lock);
  mp_mem_free(spool->folder);
  mp_mem_free(spool->path);
  mp_mem_free(spool->bodies);
  mp_mem_free(spool);
}

/* What the system said says more, where it said something. */
static const char *system_text(int err, char *text, size_t size)
{
  return errno ? strerror_r(errno, text, size) : mp_error_text(err);
}

static int take_lock(mp_spool *spool, char *why, size_t why_size)
{
  char *path = join(spool->folder, "lock"), holder[512] = "", text[128];
  if (!path)
    return MP_E_NOMEM;
  errno = 0;
  int lock = spool->disk->lock(spool->disk->ctx, path, holder, sizeof holder);
  mp_mem_free(path);
  if (lock >= 0) {
    spool->lock = lock;
    return 0;
  }
  if (lock == MP_E_INUSE)
    snprintf(why, why_size, "%s: in use by %s", spool->folder, *holder ? holder : "another process");
  else
    snprintf(why, why_size, "%s: cannot be locked: %s", spool->folder, system_text(lock, text, sizeof text));
  return lock;
}

static int make_folders(mp_spool *spool, char *why, size_t why_size)
{
  const mp_spool_disk *disk = spool->disk;
  char path[MP_SPOOL_PATH_MAX];
  bool fresh = true;
  char text[128];
  errno = 0;
  int err = disk->folder(disk->ctx, spool->folder);
  if (err == 0)
    err = disk->folder(disk->ctx, spool->bodies);
  /* All of them at once: threads that name bodies then make none. The last one says whether that was done. */
  snprintf(path, sizeof path, "%s/ff", spool->bodies);
  int fd = err == 0 ? disk->open(disk->ctx, path) : -1;
  if (fd >= 0) {
    fresh = false;
    disk->close(disk->ctx, fd);
  }
  for (unsigned i = 0; err == 0 && fresh && i < 256; i++) {
    snprintf(path, sizeof path, "%s/%02x", spool->bodies, i);
    err = disk->folder(disk->ctx, path);
  }
  if (err == 0 && fresh)
    err = disk->sync_folder(disk->ctx, spool->bodies);
  if (err == 0 && fresh)
    err = disk->sync_folder(disk->ctx, spool->folder);
  if (err == 0 && fresh) {
    /* the folder that ours is in */
    const char *slash = strrchr(spool->folder, '/');
    snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - spool->folder) : 1, slash ? spool->folder : ".");
    if (disk->sync_folder(disk->ctx, *path ? path : "/") != 0)
      mp_spool_log(spool, "%s: its folder cannot be synced", spool->folder);
  }
  if (err != 0)
    snprintf(why, why_size, "%s: cannot be made: %s", spool->folder, system_text(err, text, sizeof text));
  return err;
}

static void *write_thread(void *arg)
{
  mp_spool *spool = arg;
  pthread_mutex_lock(&spool->queue_lock);
  for (;;) {
    while (!spool->writes.first && !spool->writes.closing) {
      struct timespec until;
      clock_gettime(CLOCK_MONOTONIC, &until);
      until.tv_nsec += 200 * 1000000;
      until.tv_sec += until.tv_nsec / 1000000000;
      until.tv_nsec %= 1000000000;
      if (spool->log_pages == 0 && !spool->failing)
        pthread_cond_wait(&spool->writes.wake, &spool->queue_lock);
      else if (pthread_cond_timedwait(&spool->writes.wake, &spool->queue_lock, &until) != 0 &&
               !spool->writes.first) {
        pthread_mutex_unlock(&spool->queue_lock);
        mp_spool_idle(spool);
        pthread_mutex_lock(&spool->queue_lock);
      }
    }
    if (!spool->writes.first)
      break;
    pthread_mutex_unlock(&spool->queue_lock);
    mp_spool_write_turn(spool);
    pthread_mutex_lock(&spool->queue_lock);
  }
  pthread_mutex_unlock(&spool->queue_lock);
  return NULL;
}

static void *read_thread(void *arg)
{
  mp_spool *spool = arg;
  pthread_mutex_lock(&spool->queue_lock);
  for (;;) {
    while (!spool->reads.first && !spool->reads.closing)
      pthread_cond_wait(&spool->reads.wake, &spool->queue_lock);
    if (!spool->reads.first)
      break;
    pthread_mutex_unlock(&spool->queue_lock);
    mp_spool_read_turn(spool);
    pthread_mutex_lock(&spool->queue_lock);
  }
  pthread_mutex_unlock(&spool->queue_lock);
  return NULL;
}

/* A signal that is meant for the process is not for these. */
static int run_thread(mp_spool *spool, mp_spool_queue *queue, void *(*main)(void *))
{
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&queue->thread, NULL, main, spool);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  queue->running = rc == 0;
  return rc == 0 ? 0 : MP_E_SYSTEM;
}

int mp_spool_open(const char *folder, const mp_spool_opts *opts, mp_spool **out, char *why, size_t why_size)
{
  *out = NULL;
  snprintf(why, why_size, "%s", mp_error_text(MP_E_NOMEM));
  mp_spool *spool = mp_mem_zalloc(sizeof *spool);
  if (!spool)
    return MP_E_NOMEM;
  int err = init(spool, folder, opts);
  if (err == 0)
    err = make_folders(spool, why, why_size);
  if (err == 0)
    err = take_lock(spool, why, why_size);
  if (err == 0)
    err = mp_spool_start(spool, why, why_size);
  if (err == 0 && !spool->opts.pulled) {
    snprintf(why, why_size, "cannot start a thread");
    err = run_thread(spool, &spool->writes, write_thread);
    if (err == 0)
      err = run_thread(spool, &spool->reads, read_thread);
  }
  if (err != 0) {
    mp_spool_close(spool);
    return err;
  }
  *out = spool;
  return 0;
}

static void join_thread(mp_spool *spool, mp_spool_queue *queue)
{
  pthread_mutex_lock(&spool->queue_lock);
  queue->closing = true;
  pthread_cond_signal(&queue->wake);
  pthread_mutex_unlock(&spool->queue_lock);
  if (queue->running)
    pthread_join(queue->thread, NULL);
}

void mp_spool_close(mp_spool *spool)
{
  if (!spool)
    return;
  /* The reader first: what it finds damaged it asks of the writer. */
  join_thread(spool, &spool->reads);
  join_thread(spool, &spool->writes);
  while (mp_spool_write_turn(spool) + mp_spool_read_turn(spool) > 0)
    ; /* where pulled, what nobody has turned for */
  dispose(spool);
}

size_t mp_spool_turn(mp_spool *spool)
{
  mp_spool_recover(spool); /* readers wait for it too */
  size_t n = mp_spool_write_turn(spool);
  n += mp_spool_read_turn(spool);
  if (n == 0)
    mp_spool_idle(spool);
  return n;
}

/* ---- what is due --------------------------------------------------------------------------------------------------- */

/* Ends leases and quiet times that are over. */
static void sweep(mp_spool *spool)
{
  mp_index *index = &spool->index;
  int64_t clock = mp_spool_clock(spool);
  mp_index_expire(index, clock);
  while (mp_timers_next(&index->quiet) <= clock)
    mp_index_quiet(index, MP_CONTAINER(index->quiet.heap[0], mp_index_domain, quiet), INT64_MAX);
}

static void describe(const mp_index_domain *d, mp_spool_domain *out)
{
  memcpy(out->name, d->name, d->length);
  out->name[d->length] = '\0';
  out->length = d->length;
  out->due_ms = d->due_ms;
  out->waiting = d->waiting;
  out->leased = d->leased;
  out->lanes = d->lanes;
  out->roused = d->roused;
}

static int64_t least(int64_t a, int64_t b)
{
  return a < b ? a : b;
}

void mp_spool_wake(mp_spool *spool)
{
  bool earlier = false;
  pthread_mutex_lock(&spool->index_lock);
  int64_t given_back = least(mp_timers_next(&spool->index.quiet), mp_timers_next(&spool->index.ends));
  for (unsigned i = 0; i < spool->opts.owners; i++) {
    int64_t due = least(mp_timers_next(&spool->index.due[i]), i == 0 ? spool->index.alarm_ms : INT64_MAX);
    if (spool->told_ms[i] != INT64_MIN && (due < spool->told_ms[i] || given_back < spool->told_clock[i])) {
      spool->told_ms[i] = INT64_MIN; /* once, until somebody asks */
      earlier = true;
    }
  }
  pthread_mutex_unlock(&spool->index_lock);
  if (earlier && spool->opts.wake)
    spool->opts.wake(spool->opts.ctx);
}

size_t mp_spool_due(mp_spool *spool, unsigned owner, int64_t now_ms, int64_t again_ms, mp_spool_domain *out,
                    size_t max)
{
  mp_index *index = &spool->index;
  size_t n = 0;
  pthread_mutex_lock(&spool->index_lock);
  sweep(spool);
  int64_t clock = mp_spool_clock(spool);
  while (n < max && mp_timers_next(&index->due[owner]) <= now_ms) {
    mp_index_domain *d = MP_CONTAINER(index->due[owner].heap[0], mp_index_domain, due);
    describe(d, &out[n++]);
    d->roused = false;
    mp_index_quiet(index, d, clock + (again_ms > 0 ? again_ms : 1));
  }
  pthread_mutex_unlock(&spool->index_lock);
  return n;
}

size_t mp_spool_busiest(mp_spool *spool, mp_spool_domain *out, size_t max)
{
  mp_index *index = &spool->index;
  size_t n = 0;
  pthread_mutex_lock(&spool->index_lock);
  for (size_t i = 0; i < index->domain_room; i++)
    for (const mp_index_domain *d = index->domains[i]; d; d = d->next) {
      if (d->waiting == 0 || (n == max && out[n - 1].waiting >= d->waiting))
        continue;
      size_t at = n < max ? n++ : n - 1;
      for (; at > 0 && out[at - 1].waiting < d->waiting; at--)
        out[at] = out[at - 1];
      describe(d, &out[at]);
    }
  pthread_mutex_unlock(&spool->index_lock);
  return n;
}

int mp_spool_quiet(mp_spool *spool, mp_str domain, int64_t ms)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_index_domain *d = mp_index_find(&spool->index, domain);
  if (d)
    mp_index_quiet(&spool->index, d, ms > 0 ? mp_spool_clock(spool) + ms : INT64_MAX);
  pthread_mutex_unlock(&spool->index_lock);
  return d ? 0 : MP_E_NOTFOUND;
}

int mp_spool_give(mp_spool *spool, mp_str domain, unsigned owner)
{
  if (owner >= spool->opts.owners)
    return MP_E_INVALID;
  pthread_mutex_lock(&spool->index_lock);
  mp_index_domain *d = mp_index_find(&spool->index, domain);
  int err = d ? mp_index_give(&spool->index, d, owner) : MP_E_NOTFOUND;
  if (err == 0)
    mp_index_quiet(&spool->index, d, INT64_MAX);
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_wake(spool);
  return err;
}

int mp_spool_rouse(mp_spool *spool, mp_str domain)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_index_domain *d = mp_index_find(&spool->index, domain);
  if (d) {
    d->pins++;
    mp_list *nobodys = &spool->index.claims[0];
    for (mp_list *at = nobodys->next, *next; at != nobodys; at = next) {
      mp_lease *lease = MP_CONTAINER(at, mp_lease, of);
      next = at->next;
      if (lease->token == 0 && lease->domain == d)
        mp_index_lease_end(&spool->index, lease, true);
    }
    d->roused = true;
    mp_index_quiet(&spool->index, d, INT64_MAX);
    mp_index_unpin(&spool->index, d);
  }
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_wake(spool);
  return d ? 0 : MP_E_NOTFOUND;
}

static int64_t until(int64_t when_ms, int64_t now_ms)
{
  if (when_ms == INT64_MAX)
    return INT64_MAX;
  return when_ms <= now_ms ? 0 : when_ms - now_ms;
}

int64_t mp_spool_next(mp_spool *spool, unsigned owner, int64_t now_ms)
{
  mp_index *index = &spool->index;
  pthread_mutex_lock(&spool->index_lock);
  sweep(spool);
  int64_t clock = mp_spool_clock(spool);
  int64_t ms = least(until(mp_timers_next(&index->due[owner]), now_ms),
                     owner == 0 ? until(index->alarm_ms, now_ms) : INT64_MAX);
  ms = least(ms, least(until(mp_timers_next(&index->quiet), clock), until(mp_timers_next(&index->ends), clock)));
  spool->told_ms[owner] = ms == INT64_MAX ? INT64_MAX : now_ms + ms;
  spool->told_clock[owner] = ms == INT64_MAX ? INT64_MAX : clock + ms;
  pthread_mutex_unlock(&spool->index_lock);
  return ms;
}

bool mp_spool_alarming(mp_spool *spool, int64_t now_ms)
{
  pthread_mutex_lock(&spool->index_lock);
  bool is = spool->index.alarm_ms <= now_ms;
  pthread_mutex_unlock(&spool->index_lock);
  return is;
}

void mp_spool_stat(mp_spool *spool, mp_spool_stats *out)
{
  pthread_mutex_lock(&spool->index_lock);
  *out = spool->stats;
  out->domains = spool->index.domain_count;
  out->waiting = spool->index.waiting;
  out->leased = spool->index.lease_count - spool->index.nobodys;
  pthread_mutex_unlock(&spool->index_lock);
}
