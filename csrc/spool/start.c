/* Opening the database, at the start and after the disk failed; and its write-ahead log.
 *
 * After a sync has failed nobody knows what of the log is on the disk, and to sync it again may say yes to what was lost. So the database is closed, the
 * log cut off behind the last commit whose sync was good (`mark`), and the database opened anew: what was refused is not there, what was promised is. */
#include "spool/impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { LOG_HEADER = 32, FRAME_HEADER = 24, SALT_AT = 16 };

static void log_path(const mp_spool *spool, char *out)
{
  snprintf(out, MP_SPOOL_PATH_MAX, "%s-wal", spool->path);
}

/* The salt of the log, which changes when it begins anew. 1, 0 when there is no log, or an error: nobody knows then whether there is one. */
static int read_salt(mp_spool *spool, unsigned char *salt)
{
  const mp_spool_disk *disk = spool->disk;
  char path[MP_SPOOL_PATH_MAX], header[LOG_HEADER];
  log_path(spool, path);
  int fd = disk->open(disk->ctx, path);
  if (fd < 0)
    return fd == MP_E_NOTFOUND ? 0 : fd;
  mp_ssize n = disk->read(disk->ctx, fd, header, sizeof header, 0);
  disk->close(disk->ctx, fd);
  if (n == LOG_HEADER)
    memcpy(salt, header + SALT_AT, sizeof spool->mark.salt);
  return n < 0 ? (int)n : n == LOG_HEADER;
}

void mp_spool_mark(mp_spool *spool)
{
  /* Each time, for somebody with `sqlite3` may have copied the log and begun it anew. */
  spool->mark.known = read_salt(spool, spool->mark.salt) == 1;
  spool->mark.frames = spool->log_frames;
  pthread_mutex_lock(&spool->index_lock);
  spool->stats.log_octets = (uint64_t)(spool->log_pages * spool->page_size);
  pthread_mutex_unlock(&spool->index_lock);
}

static int count_pages(void *arg, sqlite3 *sql, const char *name, int pages)
{
  mp_spool *spool = arg;
  (void)sql;
  (void)name;
  spool->log_pages = spool->log_frames = pages;
  return SQLITE_OK;
}

int mp_spool_checkpoint(mp_spool *spool, bool all)
{
  int pages = 0, copied = 0;
  int code = sqlite3_wal_checkpoint_v2(
      spool->db.sql, NULL, all ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, &pages, &copied);
  if (code == SQLITE_BUSY) /* a reader is on its way: the next time will do */
    return 0;
  if (code != SQLITE_OK) {
    mp_spool_log(spool, "%s: the log cannot be copied: %s", spool->path, sqlite3_errmsg(spool->db.sql));
    return mp_spool_db_fail(&spool->db, code);
  }
  if (pages == copied)
    spool->log_pages = 0;
  return 0;
}

/* ---- the index ----------------------------------------------------------------------------------------------------- */

typedef struct damage {
  int64_t seqs[MP_SPOOL_ASIDE_MOST];
  size_t count;
} damage;

static void note_damage(damage *d, int64_t seq)
{
  if (d->count < MP_SPOOL_ASIDE_MOST && (d->count == 0 || d->seqs[d->count - 1] != seq))
    d->seqs[d->count++] = seq;
}

static bool is_whole(sqlite3_stmt *stmt, int at, int64_t least, int64_t most)
{
  int64_t value = sqlite3_column_int64(stmt, at);
  return sqlite3_column_type(stmt, at) == SQLITE_INTEGER && value >= least && value <= most;
}

static void forget_counts(mp_index *index)
{
  index->waiting = 0;
  index->alarm_ms = INT64_MAX;
  for (size_t i = 0; i < index->domain_room; i++)
    for (mp_index_domain *d = index->domains[i], *next; d; d = next) {
      next = d->next;
      d->waiting = 0;
      d->lanes = 0;
      d->stop_count = 0;
      d->due_ms = INT64_MAX;
      d->pins++; /* counted anew below; one that has become empty goes when it is unpinned */
      mp_index_unpin(index, d);
    }
}

/* One walk along the index of what is due; rows are not looked at. The one time that the index lock is held over the disk: nothing that is asked of
 * the index before the end of it would be true. */
static int walk(mp_spool *spool, damage *found)
{
  mp_index *index = &spool->index;
  mp_index_domain *domain = NULL;
  sqlite3_stmt *stmt = NULL;
  int err = mp_spool_db_fail(
      &spool->db,
      sqlite3_prepare_v2(spool->db.sql,
                         "SELECT domain, lane, priority, due, message, n FROM recipient INDEXED BY recipient_due "
                         "WHERE state = 'waiting'",
                         -1, &stmt, NULL));
  while (err == 0 && (err = mp_spool_db_step(&spool->db, stmt)) == 1) {
    mp_str name = mp_spool_column(stmt, 0);
    err = 0;
    if (sqlite3_column_type(stmt, 0) != SQLITE_TEXT || !mp_spool_domain_fits(name) ||
        !is_whole(stmt, 1, 0, MP_SPOOL_LANES - 1) || !is_whole(stmt, 2, -9, 9) ||
        !is_whole(stmt, 3, INT64_MIN + 1, INT64_MAX - 1)) {
      note_damage(found, sqlite3_column_int64(stmt, 4));
      continue;
    }
    if (!domain || !mp_str_eq(mp_str_of(domain->name, domain->length), name)) {
      if (domain) {
        mp_index_due(index, domain, domain->due_ms);
        mp_index_unpin(index, domain);
      }
      domain = mp_index_domain_pin(index, name);
      if (!domain) {
        err = MP_E_NOMEM;
        break;
      }
    }
    bool leased =
        mp_index_lease_find(index, sqlite3_column_int64(stmt, 4), sqlite3_column_int64(stmt, 5)) != NULL;
    mp_index_load(domain, sqlite3_column_int(stmt, 1), sqlite3_column_int(stmt, 2),
                  leased ? INT64_MAX : sqlite3_column_int64(stmt, 3));
    index->waiting++;
  }
  if (domain) {
    mp_index_due(index, domain, domain->due_ms);
    mp_index_unpin(index, domain);
  }
  sqlite3_finalize(stmt);
  return err;
}

static void aside_done(mp_spool_request *request)
{
  (void)request;
}

static int set_aside(mp_spool *spool, const damage *found)
{
  int err = 0;
  for (size_t i = 0; err == 0 && i < found->count; i++) {
    mp_spool_aside_request request = { .request = { .done = aside_done }, .seq = found->seqs[i] };
    mp_spool_work work = { .request = &request.request };
    work.last_effect = &work.effects;
    err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_BEGIN);
    if (err == 0)
      err = mp_spool_aside_apply(spool, &work, request.seq,
                                 "a recipient without a domain, or a time, that makes sense");
    if (err == 0)
      err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_COMMIT);
    if (err != 0)
      mp_spool_db_rollback(&spool->db);
    /* The index is read again: what the work would do to it does not count. */
    pthread_mutex_lock(&spool->index_lock);
    for (mp_effect *e = work.effects; e; e = e->next)
      if (e->from)
        mp_index_unpin(&spool->index, e->from);
    pthread_mutex_unlock(&spool->index_lock);
    mp_arena_dispose(&spool->scratch);
  }
  return err;
}

int mp_spool_load(mp_spool *spool)
{
  damage *found = mp_mem_zalloc(sizeof *found);
  int err = found ? 0 : MP_E_NOMEM;
  for (int round = 0; err == 0 && round < 100; round++) {
    found->count = 0;
    pthread_mutex_lock(&spool->index_lock);
    forget_counts(&spool->index);
    err = walk(spool, found);
    pthread_mutex_unlock(&spool->index_lock);
    if (err != 0 || found->count == 0)
      break;
    err = set_aside(spool, found);
  }
  mp_mem_free(found);
  bool any = false;
  int64_t alarm = 0;
  if (err == 0)
    err = mp_spool_db_number(
        &spool->db, "SELECT alarm FROM recipient WHERE alarm IS NOT NULL ORDER BY alarm LIMIT 1", &alarm, &any);
  if (err == 0)
    err = mp_spool_db_number(&spool->db, "SELECT coalesce(max(seq), 0) FROM message", &spool->last_seq, NULL);
  pthread_mutex_lock(&spool->index_lock);
  if (any)
    spool->index.alarm_ms = alarm;
  pthread_mutex_unlock(&spool->index_lock);
  return err;
}

/* ---- files that no message names ----------------------------------------------------------------------------------- */

typedef struct sweep {
  mp_spool *spool;
  const char *folder;
  sqlite3_stmt *named;
  size_t removed;
} sweep;

static int look_at_file(void *arg, const char *name)
{
  sweep *s = arg;
  mp_spool *spool = s->spool;
  char path[MP_SPOOL_PATH_MAX];
  sqlite3_bind_text(s->named, 1, name, -1, SQLITE_STATIC);
  int rc = mp_spool_db_step(&spool->db, s->named);
  mp_spool_db_reset(s->named);
  if (rc != 0)
    return rc < 0 ? rc : 0;
  snprintf(path, sizeof path, "%s/%s", s->folder, name);
  rc = spool->disk->remove(spool->disk->ctx, path);
  if (rc == 0)
    s->removed++;
  else
    mp_spool_log(spool, "%s: no message has it, and it cannot be removed: %s", path, mp_error_text(rc));
  return 0;
}

int mp_spool_orphans(mp_spool *spool)
{
  char folder[MP_SPOOL_PATH_MAX];
  sweep s = { .spool = spool, .folder = folder };
  int err = mp_spool_db_fail(&spool->db, sqlite3_prepare_v2(spool->db.sql,
                                                            "SELECT 1 FROM message WHERE id = ?1 AND file = 1 "
                                                            "UNION ALL SELECT 1 FROM damaged WHERE id = ?1",
                                                            -1, &s.named, NULL));
  for (unsigned i = 0; err == 0 && i < 256; i++) {
    snprintf(folder, sizeof folder, "%s/%02x", spool->bodies, i);
    err = spool->disk->list(spool->disk->ctx, folder, look_at_file, &s);
    if (err == MP_E_NOTFOUND) /* somebody tidied an empty folder away */
      err = spool->disk->folder(spool->disk->ctx, folder);
  }
  sqlite3_finalize(s.named);
  if (s.removed > 0)
    mp_spool_log(spool, "%s: removed %zu files of messages that were never accepted", spool->bodies, s.removed);
  return err;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static int open_database(mp_spool *spool, bool create, char *why, size_t why_size)
{
  /* SQLite would make it readable by others where the folder is. */
  int fd = create ? open(spool->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd >= 0)
    close(fd);
  int err = mp_spool_db_open(&spool->db, spool->path, mp_walvfs_name(&spool->walvfs), create, why, why_size);
  if (err == 0) {
    sqlite3_wal_hook(spool->db.sql, count_pages, spool);
    char text[512] = "";
    err = mp_spool_db_schema(&spool->db, text, sizeof text);
    if (err != 0)
      snprintf(why, why_size, "%s: %s", spool->path, text);
  }
  if (err == 0)
    err = mp_spool_db_number(&spool->db, "PRAGMA page_size", &spool->page_size, NULL);
  if (err == 0)
    err = mp_spool_db_number(&spool->db, "PRAGMA data_version", &spool->data_version, NULL);
  return err;
}

/* Below this size the whole database is looked through before anything is done with it; above, that is mp_spool_check's. */
enum { QUICK_PAGES = 512 };

static int quick_check(mp_spool *spool, char *why, size_t why_size)
{
  int64_t pages = 0;
  int err = mp_spool_db_number(&spool->db, "PRAGMA page_count", &pages, NULL);
  if (err != 0 || pages > QUICK_PAGES)
    return err;
  sqlite3_stmt *stmt = NULL;
  err = mp_spool_db_fail(&spool->db, sqlite3_prepare_v2(spool->db.sql, "PRAGMA quick_check(1)", -1, &stmt, NULL));
  if (err == 0 && (err = mp_spool_db_step(&spool->db, stmt)) == 1) {
    mp_str verdict = mp_spool_column(stmt, 0);
    err = 0;
    if (!mp_str_eq(verdict, MP_STR("ok"))) {
      snprintf(why, why_size, "%s: damaged: %.*s", spool->path, (int)verdict.len, verdict.ptr);
      err = MP_E_DAMAGED;
    }
  }
  sqlite3_finalize(stmt);
  return err;
}

int mp_spool_start(mp_spool *spool, char *why, size_t why_size)
{
  int err = open_database(spool, true, why, why_size);
  /* A new database had a journal for a moment. When the power fails, and that comes back, it undoes everything that was done since. */
  if (err == 0) {
    snprintf(why, why_size, "%s: cannot be synced", spool->folder);
    err = spool->disk->sync_folder(spool->disk->ctx, spool->folder);
  }
  if (err == 0) {
    snprintf(why, why_size, "%s: cannot be read", spool->path);
    err = quick_check(spool, why, why_size);
    if (err == 0)
      err = mp_spool_load(spool);
    if (err == 0)
      err = mp_spool_orphans(spool);
    /* From an empty log on it is known where it ends. */
    if (err == 0 && mp_spool_checkpoint(spool, true) == 0 && spool->log_pages == 0)
      spool->mark.known = true;
    if (err == 0)
      err = spool->db.broken ? MP_E_IO : 0;
    if (err == MP_E_NOMEM)
      snprintf(why, why_size, "%s", mp_error_text(err));
  }
  return err;
}

int mp_spool_cut_log(mp_spool *spool)
{
  unsigned char salt[8];
  char path[MP_SPOOL_PATH_MAX];
  uint64_t length = 0;
  if (!spool->mark.known)
    return 0;
  int whole = read_salt(spool, salt);
  if (whole < 0)
    return whole; /* a log that cannot be read now holds what was promised */
  /* Another salt: begun anew by the commit that failed. Then everything before it is in the database, and synced there. */
  if (whole && spool->mark.frames > 0 && memcmp(salt, spool->mark.salt, sizeof salt) == 0)
    length = LOG_HEADER + (uint64_t)spool->mark.frames * (FRAME_HEADER + (uint64_t)spool->page_size);
  log_path(spool, path);
  return spool->disk->cut(spool->disk->ctx, path, length);
}

void mp_spool_fail(mp_spool *spool)
{
  if (!spool->failing)
    mp_spool_log(spool, "%s: the disk failed: nothing is taken until it answers", spool->path);
  spool->failing = true;
  pthread_mutex_lock(&spool->index_lock);
  spool->stats.failing = true;
  pthread_mutex_unlock(&spool->index_lock);
  atomic_store(&spool->reader_off, true);
  pthread_mutex_lock(&spool->reader_lock);
  mp_spool_db_close(&spool->reader);
  pthread_mutex_unlock(&spool->reader_lock);
  mp_spool_db_close(&spool->db);
  mp_spool_cut_log(spool); /* else before the next that is tried, or at the close: a process that starts takes what it finds for done */
}

int mp_spool_recover(mp_spool *spool)
{
  if (!spool->failing)
    return 0;
  char why[512];
  int err = mp_spool_cut_log(spool);
  if (err == 0)
    err = open_database(spool, false, why, sizeof why);
  if (err == 0)
    err = mp_spool_load(spool);
  if (err != 0) {
    mp_spool_db_close(&spool->db);
    return err;
  }
  spool->failing = false;
  atomic_store(&spool->reader_off, false);
  pthread_mutex_lock(&spool->index_lock);
  spool->stats.failing = false;
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_log(spool, "%s: the disk answers again", spool->path);
  return 0;
}
