#include "spool/impl.h"

static bool time_fits(int64_t ms)
{
  return ms > INT64_MIN / 2 && ms < INT64_MAX / 2;
}

static bool text_fits(mp_str s)
{
  return s.len <= MP_SPOOL_TEXT_MAX && (s.ptr || s.len == 0);
}

static bool message_fits(const mp_spool_message *m)
{
  return mp_spool_id_fits(m->id) && text_fits(m->sender) && text_fits(m->tenant) && text_fits(m->user) &&
         text_fits(m->params) && text_fits(m->meta) && m->priority >= -9 && m->priority <= 9 &&
         time_fits(m->received_ms) && m->head.len <= INT32_MAX / 2 && m->body.len <= INT32_MAX / 2 &&
         m->body_length <= INT64_MAX / 2 && (!m->in_file || m->body.len == 0);
}

int mp_spool_put_check(const mp_spool_put_request *put)
{
  if (!put->message || !message_fits(put->message) || put->count == 0 || put->count > UINT32_MAX)
    return MP_E_INVALID;
  for (size_t i = 0; i < put->count; i++) {
    const mp_spool_recipient *r = &put->recipients[i];
    if (!text_fits(r->address) || !mp_spool_domain_fits(r->domain) || !text_fits(r->original) ||
        !text_fits(r->params) || !text_fits(r->site) || !time_fits(r->due_ms) || !time_fits(r->expiry_ms) ||
        !time_fits(r->alarm_ms))
      return MP_E_INVALID;
  }
  return mp_spool_change_check(put->changes, put->change_count);
}

/* Binds a text that is never NULL. */
static void bind_always(sqlite3_stmt *stmt, int at, mp_str text)
{
  mp_spool_bind_text(stmt, at, text.len ? text : MP_STR(""));
}

static int put_message(mp_spool *spool, const mp_spool_message *m, int64_t seq, bool *existed)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_PUT_MESSAGE, &err);
  if (!s)
    return err;
  uint64_t body = m->in_file ? m->body_length : m->body.len;
  int at = 1;
  sqlite3_bind_int64(s, at++, seq);
  mp_spool_bind_text(s, at++, m->id);
  bind_always(s, at++, m->sender);
  mp_spool_bind_opt(s, at++, m->tenant);
  mp_spool_bind_opt(s, at++, m->user);
  mp_spool_bind_opt(s, at++, m->params);
  mp_spool_bind_opt(s, at++, m->meta);
  sqlite3_bind_int(s, at++, m->report);
  sqlite3_bind_int(s, at++, m->priority);
  sqlite3_bind_int64(s, at++, m->received_ms);
  sqlite3_bind_int(s, at++, m->in_file);
  sqlite3_bind_int64(s, at++, (int64_t)m->head.len);
  sqlite3_bind_int64(s, at++, (int64_t)body);
  sqlite3_bind_int64(s, at++, (int64_t)(m->head.len + body));
  err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  *existed = err == 0 && sqlite3_changes(spool->db.sql) == 0;
  return err;
}

static int put_content(mp_spool *spool, const mp_spool_message *m, int64_t seq)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_PUT_CONTENT, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  sqlite3_bind_blob64(s, 2, m->head.len ? m->head.ptr : "", m->head.len, SQLITE_STATIC);
  if (!m->in_file)
    sqlite3_bind_blob64(s, 3, m->body.len ? m->body.ptr : "", m->body.len, SQLITE_STATIC);
  err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  return err;
}

static int put_recipient(mp_spool *spool, const mp_spool_recipient *r, const mp_effect *e)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_PUT_RECIPIENT, &err);
  if (!s)
    return err;
  int at = 1;
  sqlite3_bind_int64(s, at++, e->place.message);
  sqlite3_bind_int64(s, at++, e->place.n);
  bind_always(s, at++, r->address);
  mp_spool_bind_text(s, at++, r->domain);
  bind_always(s, at++, r->original);
  mp_spool_bind_opt(s, at++, r->params);
  mp_spool_bind_opt(s, at++, r->site);
  sqlite3_bind_int64(s, at++, e->place.due);
  mp_spool_bind_time(s, at++, r->expiry_ms);
  mp_spool_bind_time(s, at++, e->alarm);
  sqlite3_bind_int(s, at++, e->lane);
  sqlite3_bind_int(s, at++, e->priority);
  mp_spool_bind_text(s, at++, r->state == MP_SPOOL_HELD ? MP_STR("held") : MP_STR("waiting"));
  err = mp_spool_db_step(&spool->db, s);
  mp_spool_db_reset(s);
  return err;
}

/* A lease that nobody holds until the commit is done. */
static mp_lease *make_lease(mp_spool *spool, const mp_effect *e, uint64_t token)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_lease *lease = mp_index_lease_new(&spool->index);
  pthread_mutex_unlock(&spool->index_lock);
  if (lease) {
    lease->domain = e->to;
    lease->token = token;
    lease->place = e->place;
    lease->alarm = e->alarm;
    lease->lane = (uint8_t)e->lane;
    lease->priority = (int8_t)e->priority;
  }
  return lease;
}

int mp_spool_put_apply(mp_spool *spool, mp_spool_work *work, mp_spool_put_request *put)
{
  const mp_spool_message *m = put->message;
  int64_t seq = spool->last_seq + 1;
  put->existed = false;
  put->lease = 0;
  int err = put_message(spool, m, seq, &put->existed);
  if (err == 0 && !put->existed) {
    spool->last_seq = seq; /* also when the transaction fails: numbers are plenty */
    err = put_content(spool, m, seq);
    if (put->lease_ms > 0)
      put->lease = mp_spool_token(spool, put->holder);
  }
  int lane = mp_spool_lane(m->tenant, m->sender);
  for (size_t i = 0; err == 0 && !put->existed && i < put->count; i++) {
    const mp_spool_recipient *r = &put->recipients[i];
    int64_t due = r->expiry_ms && r->due_ms > r->expiry_ms ? r->expiry_ms : r->due_ms;
    mp_effect *e = mp_spool_effect(spool, work, (mp_place){ due, seq, (int64_t)i + 1 });
    if (!e)
      return MP_E_NOMEM;
    e->lane = lane;
    e->priority = m->priority;
    e->alarm = r->alarm_ms ? r->alarm_ms : r->expiry_ms;
    e->to = r->state == MP_SPOOL_HELD ? NULL : mp_spool_pin(spool, r->domain);
    if (!e->to && r->state != MP_SPOOL_HELD)
      return MP_E_NOMEM;
    if (e->to && put->lease && due <= m->received_ms && !(e->lease = make_lease(spool, e, put->lease)))
      return MP_E_NOMEM;
    err = put_recipient(spool, r, e);
  }
  if (err == 0 && put->change_count > 0)
    err = mp_spool_change_apply(spool, work, put->changes, put->change_count);
  return err;
}
