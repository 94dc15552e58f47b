#include "spool/impl.h"

/* A recipient's row, as the verbs need it. Its texts are in the scratch. */
typedef struct row {
  mp_place place;
  mp_index_domain *domain; /* pinned by the effect; NULL: held, or in no domain */
  mp_str name;
  int lane, priority;
  int64_t expiry, alarm;
  bool waiting;
} row;

int mp_spool_change_check(const mp_spool_change *changes, size_t count)
{
  if (count > MP_SPOOL_CLAIM_MAX || (count > 0 && !changes))
    return MP_E_INVALID;
  for (size_t i = 0; i < count; i++) {
    const mp_spool_change *c = &changes[i];
    const int64_t times[] = { c->when_ms, c->now_ms, c->alarm_ms };
    const mp_str texts[] = { c->reply, c->site, c->host, c->address };
    if (!mp_spool_id_fits(c->id) || c->verb > MP_SPOOL_REDIRECT)
      return MP_E_INVALID;
    for (size_t t = 0; t < sizeof times / sizeof *times; t++)
      if (times[t] <= INT64_MIN / 2 || times[t] >= INT64_MAX / 2)
        return MP_E_INVALID;
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
      if (texts[t].len > MP_SPOOL_TEXT_MAX)
        return MP_E_INVALID;
    if (c->verb == MP_SPOOL_REDIRECT && (c->address.len == 0 || !mp_spool_domain_fits(c->domain)))
      return MP_E_INVALID;
  }
  return 0;
}

/* The effect of leaving a row as it is; a verb changes it from there. */
static mp_effect *effect_of(mp_spool *spool, mp_spool_work *work, const row *r)
{
  mp_effect *e = mp_spool_effect(spool, work, r->place);
  if (!e)
    return NULL;
  e->lane = r->lane;
  e->priority = r->priority;
  e->alarm = r->alarm;
  if (!r->waiting)
    return e;
  e->from = mp_spool_pin(spool, r->name);
  e->to = e->from ? mp_spool_pin(spool, r->name) : NULL;
  return e->to ? e : NULL;
}

/* The recipient will not wait any more, or waits somewhere else. */
static bool move_to(mp_spool *spool, mp_effect *e, mp_str domain)
{
  mp_index_domain *to = domain.len ? mp_spool_pin(spool, domain) : NULL;
  if (domain.len && !to)
    return false;
  pthread_mutex_lock(&spool->index_lock);
  if (e->to)
    mp_index_unpin(&spool->index, e->to);
  e->to = to;
  pthread_mutex_unlock(&spool->index_lock);
  return true;
}

static int run_row(mp_spool *spool, sqlite3_stmt *s)
{
  int err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  return err;
}

/* The statement with the row bound to its first two parameters. */
static sqlite3_stmt *on_row(mp_spool *spool, enum mp_spool_statement which, const row *r, int *err)
{
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, which, err);
  if (s) {
    sqlite3_bind_int64(s, 1, r->place.message);
    sqlite3_bind_int64(s, 2, r->place.n);
  }
  return s;
}

static int set_number(mp_spool *spool, enum mp_spool_statement which, const row *r, int64_t value)
{
  int err;
  sqlite3_stmt *s = on_row(spool, which, r, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 3, value);
  return run_row(spool, s);
}

static int set_state(mp_spool *spool, const row *r, mp_str state)
{
  int err;
  sqlite3_stmt *s = on_row(spool, MP_SPOOL_SQL_STATE, r, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 3, state);
  return run_row(spool, s);
}

static int reschedule(mp_spool *spool, const row *r, const mp_spool_change *c, const mp_effect *e)
{
  int err;
  sqlite3_stmt *s = on_row(spool, MP_SPOOL_SQL_RESCHEDULE, r, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 3, e->place.due);
  mp_spool_bind_time(s, 4, c->now_ms);
  mp_spool_bind_text(s, 5, c->reply);
  mp_spool_bind_text(s, 6, c->site);
  mp_spool_bind_text(s, 7, c->host);
  mp_spool_bind_time(s, 8, e->alarm);
  sqlite3_bind_int64(s, 9, c->warned);
  return run_row(spool, s);
}

static int redirect(mp_spool *spool, const row *r, const mp_spool_change *c)
{
  int err;
  sqlite3_stmt *s = on_row(spool, MP_SPOOL_SQL_REDIRECT, r, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 3, c->address);
  mp_spool_bind_text(s, 4, c->domain);
  return run_row(spool, s);
}

static int64_t not_later(int64_t due, int64_t expiry)
{
  return expiry && due > expiry ? expiry : due;
}

/* Whether the change was made by who holds the recipient. */
static bool lease_holds(mp_spool *spool, const row *r, uint64_t token)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_index_expire(&spool->index, mp_spool_clock(spool));
  const mp_lease *lease = mp_index_lease_find(&spool->index, r->place.message, r->place.n);
  bool holds = lease && lease->token == token;
  pthread_mutex_unlock(&spool->index_lock);
  return holds;
}

static int change_row(mp_spool *spool, mp_spool_work *work, const row *r, mp_spool_change *c)
{
  if (c->verb == MP_SPOOL_RESCHEDULE && c->lease && !lease_holds(spool, r, c->lease)) {
    c->result = MP_E_CANCELLED;
    return 0;
  }
  mp_effect *e = effect_of(spool, work, r);
  if (!e)
    return MP_E_NOMEM;
  switch (c->verb) {
  case MP_SPOOL_DELIVERED:
  case MP_SPOOL_BOUNCED:
  case MP_SPOOL_EXPIRED:
  case MP_SPOOL_REMOVED: {
    int err;
    sqlite3_stmt *s = on_row(spool, MP_SPOOL_SQL_END, r, &err);
    e->ends_lease = true;
    e->alarm = 0;
    move_to(spool, e, MP_STR_NULL);
    work->ends[c->verb]++;
    return s ? run_row(spool, s) : err;
  }
  case MP_SPOOL_RESCHEDULE:
    e->ends_lease = true;
    e->place.due = not_later(c->when_ms, r->expiry);
    if (c->alarm_ms)
      e->alarm = c->alarm_ms;
    work->rescheduled++;
    return reschedule(spool, r, c, e);
  case MP_SPOOL_HOLD:
    move_to(spool, e, MP_STR_NULL);
    return set_state(spool, r, MP_STR("held"));
  case MP_SPOOL_RELEASE:
    if (!move_to(spool, e, r->name))
      return MP_E_NOMEM;
    return set_state(spool, r, MP_STR("waiting"));
  case MP_SPOOL_RETRY:
    e->place.due = not_later(c->when_ms, r->expiry);
    return set_number(spool, MP_SPOOL_SQL_DUE, r, e->place.due);
  case MP_SPOOL_REDIRECT:
    if (r->waiting && !move_to(spool, e, c->domain))
      return MP_E_NOMEM;
    return redirect(spool, r, c);
  }
  return MP_E_INVALID;
}

/* Reads the row that `s` stands on. False: no memory. */
static bool read_row(mp_spool *spool, sqlite3_stmt *s, int64_t seq, row *r)
{
  bool ok = true;
  *r = (row){
    .place = { sqlite3_column_int64(s, 4), seq, sqlite3_column_int64(s, 0) },
    .name = mp_arena_str(&spool->scratch, mp_spool_column(s, 1), &ok),
    .lane = sqlite3_column_int(s, 2) & (MP_SPOOL_LANES - 1),
    .priority = sqlite3_column_int(s, 3),
    .alarm = sqlite3_column_int64(s, 5),
    .waiting = mp_str_eq(mp_spool_column(s, 6), MP_STR("waiting")),
    .expiry = sqlite3_column_int64(s, 7),
  };
  return ok;
}

/* The rows that a change is about, in the scratch. */
static int find_rows(mp_spool *spool, int64_t seq, uint32_t n, row **rows, size_t *count)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, n ? MP_SPOOL_SQL_ROW : MP_SPOOL_SQL_ROWS, &err);
  size_t cap = 0;
  *rows = NULL;
  *count = 0;
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  if (n)
    sqlite3_bind_int64(s, 2, n);
  while ((err = mp_spool_db_step(&spool->db, s)) == 1) {
    if (*count == cap) {
      cap = cap ? cap * 4 : n ? 1 : 16;
      row *more = mp_arena_alloc(&spool->scratch, cap * sizeof *more);
      if (!more) {
        err = MP_E_NOMEM;
        break;
      }
      if (*count)
        memcpy(more, *rows, *count * sizeof *more);
      *rows = more;
    }
    if (!read_row(spool, s, seq, &(*rows)[*count])) {
      err = MP_E_NOMEM;
      break;
    }
    ++*count;
  }
  mp_spool_db_reset(s);
  return err;
}

/* With its last recipient a message goes, and its file when the commit is done. */
static int end_message(mp_spool *spool, mp_spool_work *work, int64_t seq, mp_str id)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_ANY, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  if (err != 0)
    return err < 0 ? err : 0;
  if (!(s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_END_MESSAGE, &err)))
    return err;
  sqlite3_bind_int64(s, 1, seq);
  err = mp_spool_db_step(&spool->db, s);
  bool file = err == 1 && sqlite3_column_int(s, 0) == 1;
  if (err == 1) /* to the end, or it counts as being on its way */
    err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  if (err == 0 && !(s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_END_CONTENT, &err)))
    return err;
  if (err == 0) {
    sqlite3_bind_int64(s, 1, seq);
    err = run_row(spool, s);
  }
  return err == 0 && file ? mp_spool_gone_add(spool, work, id) : err;
}

static int change_one(mp_spool *spool, mp_spool_work *work, mp_spool_change *c)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_SEQ, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 1, c->id);
  err = mp_spool_db_step(&spool->db, s);
  int64_t seq = err == 1 ? sqlite3_column_int64(s, 0) : 0;
  mp_spool_db_reset(s);
  c->result = err == 0 ? MP_E_NOTFOUND : 0;
  if (err != 1)
    return err;
  row *rows;
  size_t count;
  err = find_rows(spool, seq, c->n, &rows, &count);
  if (err == 0 && count == 0)
    c->result = MP_E_NOTFOUND;
  for (size_t i = 0; err == 0 && i < count; i++)
    if (!mp_spool_domain_fits(rows[i].name)) {
      c->result = MP_E_DAMAGED;
      return mp_spool_aside_apply(spool, work, seq, "a recipient without a domain that makes sense");
    }
  for (size_t i = 0; err == 0 && i < count; i++)
    err = change_row(spool, work, &rows[i], c);
  if (err == 0 && count > 0 && c->verb <= MP_SPOOL_REMOVED)
    err = end_message(spool, work, seq, c->id);
  return err;
}

int mp_spool_change_apply(mp_spool *spool, mp_spool_work *work, mp_spool_change *changes, size_t count)
{
  int err = 0;
  for (size_t i = 0; err == 0 && i < count; i++)
    err = change_one(spool, work, &changes[i]);
  return err;
}
