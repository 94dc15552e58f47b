#include "spool/impl.h"

enum {
  WINDOW = 5000, /* messages in one transaction */
  FILTER_MAX = 1024,
  TEXTS = 7
};

/* A filter as SQL: the patterns are parameters from FIRST_TEXT on. */
enum { FIRST_TEXT = 6 };

typedef struct listing {
  mp_spool *spool;
  mp_spool_list_request *list;
  mp_spool_gather *gather; /* NULL: only counts */
  mp_buf sql;
  mp_buf texts[TEXTS]; /* patterns of LIKE */
  size_t text_count;
  char after[MP_SPOOL_ID_MAX + 1], until[MP_SPOOL_ID_MAX + 1];
  int64_t after_n;
} listing;

/* `*` becomes `%`; what LIKE takes for special does not. */
static int pattern(mp_buf *out, mp_str s, bool within)
{
  int err = within ? mp_buf_char(out, '%') : 0;
  for (size_t i = 0; err == 0 && i < s.len; i++) {
    if (s.ptr[i] == '*' && !within) {
      err = mp_buf_char(out, '%');
    } else {
      if (memchr("%_\\", s.ptr[i], 3))
        err = mp_buf_char(out, '\\');
      if (err == 0)
        err = mp_buf_char(out, s.ptr[i]);
    }
  }
  return err == 0 && within ? mp_buf_char(out, '%') : err;
}

static int like(listing *l, const char *column, mp_str s, bool within)
{
  if (s.len == 0)
    return 0;
  size_t i = l->text_count;
  if (s.len > FILTER_MAX)
    return MP_E_INVALID;
  int err = pattern(&l->texts[i], s, within);
  if (err == 0)
    err = mp_buf_fmt(&l->sql, " AND %s LIKE ?%d ESCAPE '\\'", column, FIRST_TEXT + (int)i);
  l->text_count++;
  return err;
}

static int compose(listing *l)
{
  const mp_spool_filter *f = &l->list->filter;
  const char *what = l->gather ? MP_SPOOL_MESSAGE_COLUMNS ", " MP_SPOOL_RECIPIENT_COLUMNS ", m.seq"
                               : "count(*), count(DISTINCT m.seq)";
  int err = mp_buf_fmt(&l->sql,
                       "SELECT %s FROM message m CROSS JOIN recipient r ON r.message = m.seq "
                       "WHERE m.id >= ?1 AND m.id <= ?2 AND (m.id > ?1 OR r.n > ?3)",
                       what);
  if (err == 0 && mp_str_eq(f->sender, MP_STR("<>")))
    err = mp_buf_str(&l->sql, MP_STR(" AND m.sender = ''"));
  else if (err == 0)
    err = like(l, "m.sender", f->sender, false);
  if (err == 0)
    err = like(l, "r.address", f->recipient, false);
  if (err == 0)
    err = like(l, "r.domain", f->domain, false);
  if (err == 0)
    err = like(l, "r.site", f->site, false);
  if (err == 0)
    err = like(l, "m.tenant", f->tenant, false);
  if (err == 0)
    err = like(l, "r.reply", f->reply, true);
  if (err == 0 && f->waiting != f->held)
    err = mp_buf_fmt(&l->sql, " AND r.state = '%s'", f->held ? "held" : "waiting");
  if (err == 0 && f->before_ms)
    err = mp_buf_str(&l->sql, MP_STR(" AND m.received < ?4"));
  if (err == 0 && f->after_ms)
    err = mp_buf_str(&l->sql, MP_STR(" AND m.received > ?5"));
  if (err == 0 && l->gather)
    err = mp_buf_str(&l->sql, MP_STR(" ORDER BY m.id, r.n"));
  return err;
}

static void set_name(char *out, mp_str name)
{
  size_t len = name.len < MP_SPOOL_ID_MAX ? name.len : MP_SPOOL_ID_MAX;
  if (len)
    memcpy(out, name.ptr, len);
  out[len] = '\0';
}

/* The last name of the window. 1 when there are more behind it. */
static int find_window(listing *l)
{
  mp_spool_db *db = &l->spool->reader;
  sqlite3_stmt *s = NULL;
  set_name(l->until, MP_STR("~")); /* behind every name */
  if (l->list->filter.id.len) {
    set_name(l->until, l->list->filter.id);
    return 0;
  }
  int err = mp_spool_db_fail(
      db, sqlite3_prepare_v2(db->sql, "SELECT id FROM message WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", -1,
                             &s, NULL));
  if (err == 0) {
    mp_spool_bind_text(s, 1, mp_str_c(l->after));
    sqlite3_bind_int(s, 2, WINDOW - 1);
    err = mp_spool_db_step(db, s);
  }
  if (err == 1)
    set_name(l->until, mp_spool_column(s, 0));
  sqlite3_finalize(s);
  return err;
}

static int gather_row(listing *l, sqlite3_stmt *s)
{
  mp_spool_batch *batch = &l->gather->batch;
  mp_str id = mp_spool_column(s, 0);
  int err = 0;
  if (batch->count == 0 || !mp_str_eq(batch->items[batch->count - 1].message.id, id))
    err = mp_spool_gather_message(l->gather, s, 0);
  if (err == 0)
    err = mp_spool_gather_recipient(l->gather, s, MP_SPOOL_MESSAGE_WIDTH);
  if (err == 0) {
    const mp_spool_item *item = &batch->items[batch->count - 1];
    mp_spool_recipient *to = &item->recipients[item->count - 1];
    pthread_mutex_lock(&l->spool->index_lock);
    const mp_lease *lease = mp_index_lease_find(
        &l->spool->index, sqlite3_column_int64(s, MP_SPOOL_MESSAGE_WIDTH + MP_SPOOL_RECIPIENT_WIDTH), to->n);
    to->claimed = lease && lease->token;
    pthread_mutex_unlock(&l->spool->index_lock);
  }
  if (err != MP_E_DAMAGED)
    return err;
  /* One that makes no sense is not shown: claims and checks set it aside. Nor is a message that shows nobody, for there is room for as many as recipients. */
  if (batch->count > 0 && batch->items[batch->count - 1].count == 0)
    batch->count--;
  return 0;
}

static int run_window(listing *l)
{
  mp_spool_db *db = &l->spool->reader;
  mp_spool_list_request *list = l->list;
  sqlite3_stmt *s = NULL;
  int err =
      mp_spool_db_fail(db, sqlite3_prepare_v2(db->sql, l->sql.ptr + l->sql.off, (int)l->sql.len, &s, NULL));
  if (err == 0) {
    mp_spool_bind_text(s, 1, mp_str_c(l->after));
    mp_spool_bind_text(s, 2, mp_str_c(l->until));
    sqlite3_bind_int64(s, 3, l->after_n);
    sqlite3_bind_int64(s, 4, list->filter.before_ms);
    sqlite3_bind_int64(s, 5, list->filter.after_ms);
    for (size_t i = 0; i < l->text_count; i++)
      mp_spool_bind_text(s, FIRST_TEXT + (int)i, mp_buf_view(&l->texts[i]));
  }
  while (err == 0 && (!l->gather || l->gather->batch.recipients < list->max) &&
         (err = mp_spool_db_step(db, s)) == 1) {
    err = 0;
    if (l->gather) {
      err = gather_row(l, s);
    } else {
      list->total += (size_t)sqlite3_column_int64(s, 0);
      list->messages += (size_t)sqlite3_column_int64(s, 1);
    }
  }
  sqlite3_finalize(s);
  return err;
}

/* Window by window, each in a transaction of its own. */
static int run(listing *l)
{
  int more = 1, err = 0;
  while (err == 0 && more == 1) {
    err = mp_spool_reader_take(l->spool);
    if (err != 0)
      break;
    err = mp_spool_db_run(&l->spool->reader, MP_SPOOL_SQL_BEGIN_READ);
    if (err == 0 && (more = find_window(l)) < 0)
      err = more;
    if (err == 0)
      err = run_window(l);
    mp_spool_reader_give(l->spool);
    memcpy(l->after, l->until, sizeof l->after);
    l->after_n = INT64_MAX;
    if (l->gather && l->gather->batch.recipients >= l->list->max)
      break;
  }
  return err;
}

static bool valid(const mp_spool_list_request *list)
{
  return list->max <= MP_SPOOL_LIST_MAX && (list->after.len == 0 || mp_spool_id_fits(list->after)) &&
         (list->filter.id.len == 0 || mp_spool_id_fits(list->filter.id));
}

void mp_spool_list_run(mp_spool *spool, mp_spool_list_request *list)
{
  listing l = { .spool = spool, .list = list };
  list->batch = NULL;
  list->total = list->messages = 0;
  mp_buf_init(&l.sql, 8192, NULL);
  for (size_t i = 0; i < TEXTS; i++)
    mp_buf_init(&l.texts[i], 2 * FILTER_MAX + 2, NULL);
  int err = valid(list) ? 0 : MP_E_INVALID;
  if (err == 0 && list->max > 0 && !(l.gather = mp_spool_gather_new(list->max)))
    err = MP_E_NOMEM;
  if (err == 0)
    err = compose(&l);
  if (err == 0) {
    set_name(l.after, list->after);
    l.after_n = list->after_n ? (int64_t)list->after_n : list->after.len ? INT64_MAX : 0;
    if (list->filter.id.len && strcmp(l.after, "") == 0) {
      set_name(l.after, list->filter.id);
      l.after_n = 0;
    }
    err = run(&l);
  }
  mp_buf_dispose(&l.sql);
  for (size_t i = 0; i < TEXTS; i++)
    mp_buf_dispose(&l.texts[i]);
  if (err == 0 && l.gather) {
    mp_spool_batch *batch = &l.gather->batch;
    if (batch->count > 0 && batch->items[batch->count - 1].count == 0)
      batch->count--;
    list->batch = batch;
  } else if (l.gather) {
    mp_spool_batch_free(&l.gather->batch);
  }
  mp_spool_finish(&list->request, err);
}
