/* The reader: a connection of its own, so that whoever looks does not hold up whoever keeps. Each transaction is short, for the log cannot begin anew
 * while one is open. */
#include "spool/impl.h"

static int break_off(void *arg)
{
  return atomic_load(&((mp_spool *)arg)->reader_off);
}

int mp_spool_reader_take(mp_spool *spool)
{
  char why[512];
  pthread_mutex_lock(&spool->reader_lock);
  int err = atomic_load(&spool->reader_off) ? MP_E_IO : 0;
  if (err == 0 && !spool->reader.sql) {
    err = mp_spool_db_open(&spool->reader, spool->path, spool->opts.vfs, false, why, sizeof why);
    if (err == 0)
      sqlite3_progress_handler(spool->reader.sql, 10000, break_off, spool);
  }
  if (err != 0)
    pthread_mutex_unlock(&spool->reader_lock);
  return err;
}

void mp_spool_reader_give(mp_spool *spool)
{
  mp_spool_db_rollback(&spool->reader);
  if (spool->reader.broken)
    mp_spool_db_close(&spool->reader);
  pthread_mutex_unlock(&spool->reader_lock);
}

void mp_spool_list(mp_spool *spool, mp_spool_list_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_LIST);
}

void mp_spool_read(mp_spool *spool, mp_spool_read_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_READ);
}

void mp_spool_check(mp_spool *spool, mp_spool_check_request *request)
{
  mp_spool_submit(spool, &request->request, MP_SPOOL_OP_CHECK);
}

size_t mp_spool_read_turn(mp_spool *spool)
{
  mp_spool_queue *queue = &spool->reads;
  size_t count = 0;
  pthread_mutex_lock(&spool->queue_lock);
  mp_spool_request *first = queue->first;
  queue->first = NULL;
  queue->last = &queue->first;
  pthread_mutex_unlock(&spool->queue_lock);
  for (mp_spool_request *r = first, *next; r; r = next, count++) {
    next = r->next;
    if (r->kind == MP_SPOOL_OP_LIST)
      mp_spool_list_run(spool, (mp_spool_list_request *)r);
    else if (r->kind == MP_SPOOL_OP_READ)
      mp_spool_read_run(spool, (mp_spool_read_request *)r);
    else
      mp_spool_check_run(spool, (mp_spool_check_request *)r);
  }
  return count;
}

/* ---- octets -------------------------------------------------------------------------------------------------------- */

typedef struct content {
  int64_t seq;
  bool in_file;
  uint64_t head, body;
} content;

static int find_content(mp_spool *spool, mp_str id, content *c)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->reader, MP_SPOOL_SQL_GET_CONTENT, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 1, id);
  err = mp_spool_db_step(&spool->reader, s);
  if (err == 1)
    *c = (content){
      .in_file = sqlite3_column_int(s, 0) == 1,
      .head = (uint64_t)sqlite3_column_int64(s, 1),
      .body = (uint64_t)sqlite3_column_int64(s, 2),
      .seq = sqlite3_column_int64(s, 3),
    };
  mp_spool_db_reset(s);
  return err == 1 ? 0 : err == 0 ? MP_E_NOTFOUND : err;
}

/* A part of a column of the content's row, which has to be `length` octets long. */
static int read_column(mp_spool *spool, const content *c, const char *column, uint64_t length, char *into,
                       size_t size, uint64_t offset)
{
  sqlite3_blob *blob = NULL;
  int code = sqlite3_blob_open(spool->reader.sql, "main", "content", column, c->seq, 0, &blob);
  int err = code == SQLITE_ERROR ? MP_E_DAMAGED
                                 : mp_spool_db_fail(&spool->reader, code); /* ERROR: no such row, or NULL */
  if (err == 0 && (uint64_t)sqlite3_blob_bytes(blob) != length)
    err = MP_E_DAMAGED;
  if (err == 0)
    err = mp_spool_db_fail(&spool->reader, sqlite3_blob_read(blob, into, (int)size, (int)offset));
  sqlite3_blob_close(blob);
  return err;
}

static int read_file(mp_spool *spool, mp_str id, char *into, size_t size, uint64_t offset)
{
  int fd = mp_spool_file_open(spool, id);
  if (fd < 0)
    return fd == MP_E_NOTFOUND ? MP_E_DAMAGED : fd;
  mp_ssize n = spool->disk->read(spool->disk->ctx, fd, into, size, offset);
  spool->disk->close(spool->disk->ctx, fd);
  return n < 0 ? (int)n : (size_t)n < size ? MP_E_DAMAGED : 0;
}

static size_t smaller(uint64_t a, uint64_t b)
{
  return (size_t)(a < b ? a : b);
}

static int read_octets(mp_spool *spool, mp_spool_read_request *r, content *c)
{
  int err = mp_spool_db_run(&spool->reader, MP_SPOOL_SQL_BEGIN_READ);
  if (err == 0)
    err = find_content(spool, r->id, c);
  if (err != 0)
    return err;
  r->head_length = c->head;
  r->total = c->head + c->body;
  size_t want = r->offset < r->total ? smaller(r->total - r->offset, r->size) : 0, head = 0;
  if (want > 0 && r->offset < c->head) {
    head = smaller(c->head - r->offset, want);
    err = read_column(spool, c, "head", c->head, r->into, head, r->offset);
  }
  uint64_t offset = r->offset > c->head ? r->offset - c->head : 0;
  if (err == 0 && want > head && !c->in_file)
    err = read_column(spool, c, "body", c->body, r->into + head, want - head, offset);
  if (err == 0 && want > head && c->in_file)
    err = read_file(spool, r->id, r->into + head, want - head, offset);
  if (err == 0)
    r->length = want;
  return err;
}

void mp_spool_read_run(mp_spool *spool, mp_spool_read_request *r)
{
  content c = { 0 };
  r->length = 0;
  r->head_length = r->total = 0;
  int err = mp_spool_id_fits(r->id) && r->size <= MP_SPOOL_READ_MAX && (r->into || r->size == 0)
                ? mp_spool_reader_take(spool)
                : MP_E_INVALID;
  if (err == 0) {
    err = read_octets(spool, r, &c);
    mp_spool_reader_give(spool);
  }
  /* One that ended meanwhile has no file any more. */
  if (err == MP_E_DAMAGED && c.in_file && mp_spool_reader_take(spool) == 0) {
    if (find_content(spool, r->id, &c) == MP_E_NOTFOUND)
      err = MP_E_NOTFOUND;
    mp_spool_reader_give(spool);
  }
  if (err == MP_E_DAMAGED && c.seq)
    mp_spool_aside(spool, c.seq, "its octets are gone, or are not as many as they were");
  mp_spool_finish(&r->request, err);
}
