#include "spool/impl.h"

enum { OCTETS_MAX = 128 * 1024 * 1024 };

mp_spool_gather *mp_spool_gather_new(size_t max)
{
  mp_spool_gather *gather = mp_mem_zalloc(sizeof *gather);
  if (!gather)
    return NULL;
  mp_arena_init(&gather->arena, OCTETS_MAX, NULL);
  gather->max = max;
  gather->batch.items = mp_arena_alloc(&gather->arena, (max ? max : 1) * sizeof *gather->batch.items);
  gather->rows = mp_arena_alloc(&gather->arena, (max ? max : 1) * sizeof *gather->rows);
  if (gather->batch.items && gather->rows)
    return gather;
  mp_spool_batch_free(&gather->batch);
  return NULL;
}

void mp_spool_batch_free(mp_spool_batch *batch)
{
  if (!batch)
    return;
  mp_spool_gather *gather = MP_CONTAINER(batch, mp_spool_gather, batch);
  mp_arena_dispose(&gather->arena);
  mp_mem_free(gather);
}

/* What has been read so far of a row, and what went wrong with it. */
typedef struct reading {
  mp_spool_gather *gather;
  sqlite3_stmt *stmt;
  int at;
  bool memory, sense;
} reading;

static mp_str text(reading *r)
{
  int type = sqlite3_column_type(r->stmt, r->at);
  r->sense = r->sense && (type == SQLITE_TEXT || type == SQLITE_NULL);
  return mp_arena_str(&r->gather->arena, mp_spool_column(r->stmt, r->at++), &r->memory);
}

static int64_t number(reading *r, int64_t least, int64_t most)
{
  int64_t value = sqlite3_column_int64(r->stmt, r->at);
  int type = sqlite3_column_type(r->stmt, r->at++);
  r->sense = r->sense && (type == SQLITE_NULL || (type == SQLITE_INTEGER && value >= least && value <= most));
  return type == SQLITE_NULL ? 0 : value;
}

static int64_t when(reading *r)
{
  return number(r, INT64_MIN / 2, INT64_MAX / 2);
}

/* Which of the words it is. */
static int word(reading *r, const char *const *words, int count)
{
  mp_str s = mp_spool_column(r->stmt, r->at++);
  for (int i = 0; i < count; i++)
    if (mp_str_eq(s, mp_str_c(words[i])))
      return i;
  r->sense = false;
  return 0;
}

static int outcome(const reading *r)
{
  return !r->memory ? MP_E_NOMEM : r->sense ? 0 : MP_E_DAMAGED;
}

int mp_spool_gather_message(mp_spool_gather *gather, sqlite3_stmt *stmt, int at)
{
  reading r = { gather, stmt, at, true, true };
  mp_spool_item *item = &gather->batch.items[gather->batch.count];
  if (gather->batch.recipients >= gather->max)
    return MP_E_FULL;
  *item = (mp_spool_item){ .recipients = gather->rows + gather->batch.recipients };
  mp_spool_message *m = &item->message;
  m->id = text(&r);
  m->sender = text(&r);
  m->tenant = text(&r);
  m->user = text(&r);
  m->params = text(&r);
  m->meta = text(&r);
  m->report = number(&r, 0, 1) == 1;
  m->priority = (int)number(&r, -9, 9);
  m->received_ms = when(&r);
  m->in_file = number(&r, 0, 1) == 1;
  m->head_length = (uint64_t)number(&r, 0, INT32_MAX);
  m->body_length = (uint64_t)number(&r, 0, INT64_MAX / 2);
  r.sense = r.sense && mp_spool_id_fits(m->id);
  int err = outcome(&r);
  if (err == 0)
    gather->batch.count++;
  return err;
}

int mp_spool_gather_recipient(mp_spool_gather *gather, sqlite3_stmt *stmt, int at)
{
  static const char *const states[] = { "waiting", "held" };
  reading r = { gather, stmt, at, true, true };
  mp_spool_item *item = &gather->batch.items[gather->batch.count - 1];
  if (gather->batch.recipients >= gather->max)
    return MP_E_FULL;
  mp_spool_recipient *to = &item->recipients[item->count];
  *to = (mp_spool_recipient){ 0 };
  to->n = (uint32_t)number(&r, 1, UINT32_MAX);
  to->address = text(&r);
  to->domain = text(&r);
  to->original = text(&r);
  to->params = text(&r);
  to->site = text(&r);
  to->host = text(&r);
  to->reply = text(&r);
  to->due_ms = when(&r);
  to->expiry_ms = when(&r);
  to->alarm_ms = when(&r);
  to->attempt_ms = when(&r);
  to->attempts = (uint32_t)number(&r, 0, UINT32_MAX);
  to->warned = (uint32_t)number(&r, 0, UINT32_MAX);
  to->state = (enum mp_spool_state)word(&r, states, 2);
  r.sense = r.sense && mp_spool_domain_fits(to->domain);
  int err = outcome(&r);
  if (err == 0) {
    item->count++;
    gather->batch.recipients++;
  }
  return err;
}
