/* Claims. The index of the database gives the order; leases, in memory, say what is taken. Between a domain's first lease and its last the index remembers
 * how far claims have come, so that one does not walk over what others hold. */
#include "spool/impl.h"

/* One recipient of the claim. Its lease cannot end by time before all is done. */
typedef struct claimed {
  mp_lease *lease;
  bool read; /* what delivery needs was read, or it is damaged: the lease is kept */
} claimed;

typedef struct claiming {
  mp_spool *spool;
  mp_spool_claim_request *claim;
  mp_index_domain *domain; /* pinned; NULL: of many, or unknown */
  claimed *got;            /* in the order in which they were claimed */
  size_t count;
  int top;        /* no priority that waits is higher */
  bool exhausted; /* nothing more is due that could be claimed */
  int err;
} claiming;

static bool valid(const mp_spool_claim_request *claim)
{
  return (claim->alarms || (claim->id.len ? mp_spool_id_fits(claim->id) : mp_spool_domain_fits(claim->domain))) &&
         claim->lane >= -1 && claim->lane < MP_SPOOL_LANES && claim->max > 0 &&
         claim->max <= MP_SPOOL_CLAIM_MAX && claim->lease_ms > 0;
}

/* Takes a recipient unless somebody has it. One that was given back for later is nobody's, but to claims of its domain. False: no memory. */
static bool take(claiming *c, mp_index_domain *domain, mp_place place, int lane, int priority, bool held)
{
  mp_index *index = &c->spool->index;
  bool ok = true;
  pthread_mutex_lock(&c->spool->index_lock);
  mp_lease *lease = mp_index_lease_find(index, place.message, place.n);
  if (lease && lease->token == 0 && !c->domain) {
    mp_index_lease_give(index, lease, c->claim->lease, INT64_MAX);
    c->got[c->count++].lease = lease;
  } else if (!lease) {
    lease = mp_index_lease_new(index);
    ok = lease != NULL;
    if (ok) {
      lease->domain = domain;
      lease->token = c->claim->lease;
      lease->place = place;
      lease->lane = (uint8_t)lane;
      lease->priority = (int8_t)priority;
      lease->held = held;
      mp_index_lease_hold(index, lease, INT64_MAX);
      c->got[c->count++].lease = lease;
    }
  }
  pthread_mutex_unlock(&c->spool->index_lock);
  return ok;
}

/* What is due in a lane with one priority. */
static int claim_run_of(claiming *c, int lane, int priority)
{
  mp_spool *spool = c->spool;
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_CLAIM, &err);
  if (!s)
    return err;
  pthread_mutex_lock(&spool->index_lock);
  mp_place from = mp_index_stop_at(c->domain, lane, priority), at = from;
  uint32_t news = c->domain->news;
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_bind_text(s, 1, c->claim->domain);
  sqlite3_bind_int(s, 2, lane);
  sqlite3_bind_int(s, 3, priority);
  sqlite3_bind_int64(s, 4, from.due);
  sqlite3_bind_int64(s, 5, from.message);
  sqlite3_bind_int64(s, 6, from.n);
  sqlite3_bind_int64(s, 7, c->claim->now_ms);
  while (c->count < c->claim->max && (err = mp_spool_db_step(&spool->db, s)) == 1) {
    err = 0;
    at = (mp_place){ sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2) };
    if (!take(c, c->domain, at, lane, priority, false)) {
      err = MP_E_NOMEM;
      break;
    }
  }
  mp_spool_db_reset(s);
  if (err != 0 || at.n == from.n)
    return err;
  pthread_mutex_lock(&spool->index_lock);
  /* Unless a lease ended meanwhile, in front of where we are. */
  if (news == c->domain->news && c->domain->leased > 0 && mp_index_stop_room(c->domain) == 0)
    mp_index_stop(c->domain, lane, priority, at);
  pthread_mutex_unlock(&spool->index_lock);
  return 0;
}

/* The next lower priority in a lane for which something waits. 1, 0 when there is none, or an error. */
static int next_priority(claiming *c, int lane, int *priority)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&c->spool->db, MP_SPOOL_SQL_PRIORITY, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 1, mp_str_of(c->domain->name, c->domain->length));
  sqlite3_bind_int(s, 2, lane);
  sqlite3_bind_int(s, 3, *priority);
  int rc = mp_spool_db_step(&c->spool->db, s);
  if (rc == 1)
    *priority = sqlite3_column_int(s, 0);
  mp_spool_db_reset(s);
  return rc;
}

/* The highest priority below *priority for which something waits in any of `lanes`; those in which nothing does are left out. 1, 0 or an error. */
static int next_level(claiming *c, uint64_t lanes, int *priority)
{
  int found = -100;
  for (int lane = 0; lane < MP_SPOOL_LANES; lane++) {
    int of = *priority, rc = lanes >> lane & 1 ? next_priority(c, lane, &of) : 0;
    if (rc < 0)
      return rc;
    if (rc == 1 && of > found)
      found = of;
    if (found >= c->top && found < *priority)
      break; /* none is higher */
  }
  *priority = found;
  return found > -100;
}

/* Higher priorities first; within one of them lanes take turns. */
static int claim_lanes(claiming *c)
{
  pthread_mutex_lock(&c->spool->index_lock);
  uint64_t lanes = c->domain->lanes;
  unsigned turn = c->domain->turn;
  c->top = c->domain->top;
  pthread_mutex_unlock(&c->spool->index_lock);
  if (c->claim->lane >= 0)
    lanes &= UINT64_C(1) << c->claim->lane;
  int err = 0, priority = 100, highest = -100;
  unsigned next = turn;
  while (err == 0 && c->count < c->claim->max && (err = next_level(c, lanes, &priority)) == 1) {
    err = 0;
    highest = priority > highest ? priority : highest;
    for (unsigned i = 0; err == 0 && i < MP_SPOOL_LANES && c->count < c->claim->max; i++) {
      unsigned lane = (turn + i) % MP_SPOOL_LANES;
      size_t before = c->count;
      if (lanes >> lane & 1)
        err = claim_run_of(c, (int)lane, priority);
      if (c->count > before)
        next = lane + 1; /* the lane behind the last one has the next turn */
    }
    c->top = priority - 1;
  }
  if (c->claim->lane >= 0 || err < 0)
    return err;
  c->exhausted = c->count < c->claim->max;
  pthread_mutex_lock(&c->spool->index_lock);
  c->domain->turn = (uint8_t)(next % MP_SPOOL_LANES);
  if (highest > -100)
    c->domain->top = (int8_t)highest;
  pthread_mutex_unlock(&c->spool->index_lock);
  return 0;
}

/* When something is due next that nobody holds: everything due by now is leased. Lanes in which nothing waits are forgotten. */
static int next_due(claiming *c, int64_t *due, uint64_t *empty)
{
  mp_spool *spool = c->spool;
  pthread_mutex_lock(&spool->index_lock);
  uint64_t lanes = c->domain->lanes;
  pthread_mutex_unlock(&spool->index_lock);
  for (int lane = 0; lane < MP_SPOOL_LANES; lane++) {
    int priority = 100, rc = 0;
    if (!(lanes >> lane & 1))
      continue;
    bool any = false;
    while ((rc = next_priority(c, lane, &priority)) == 1) {
      any = true;
      sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_LATER, &rc);
      if (!s)
        return rc;
      mp_spool_bind_text(s, 1, mp_str_of(c->domain->name, c->domain->length));
      sqlite3_bind_int(s, 2, lane);
      sqlite3_bind_int(s, 3, priority);
      sqlite3_bind_int64(s, 4, c->claim->now_ms);
      rc = mp_spool_db_step(&spool->db, s);
      if (rc == 1 && sqlite3_column_int64(s, 0) < *due)
        *due = sqlite3_column_int64(s, 0);
      mp_spool_db_reset(s);
      if (rc < 0)
        break;
    }
    if (rc < 0)
      return rc;
    if (!any)
      *empty |= UINT64_C(1) << lane;
  }
  return 0;
}

/* The message by its name: 1, 0 when there is none, or an error. */
static int find_seq(mp_spool *spool, mp_str id, int64_t *seq)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_SEQ, &err);
  if (!s)
    return err;
  mp_spool_bind_text(s, 1, id);
  err = mp_spool_db_step(&spool->db, s);
  if (err == 1)
    *seq = sqlite3_column_int64(s, 0);
  mp_spool_db_reset(s);
  return err;
}

/* Everything that a statement gives and nobody has, of whichever domain and state. */
static int claim_rows(claiming *c, sqlite3_stmt *s)
{
  mp_spool *spool = c->spool;
  int err = 0;
  while (c->count < c->claim->max && (err = mp_spool_db_step(&spool->db, s)) == 1) {
    mp_place at = { sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2) };
    mp_str name = mp_spool_column(s, 3);
    err = 0;
    if (!mp_spool_domain_fits(name)) {
      mp_spool_aside(spool, at.message, "a recipient without a domain that makes sense");
      continue;
    }
    mp_index_domain *domain = mp_spool_pin(spool, name);
    bool held = !mp_str_eq(mp_spool_column(s, 6), MP_STR("waiting"));
    bool ok = domain && take(c, domain, at, sqlite3_column_int(s, 4) & (MP_SPOOL_LANES - 1),
                             sqlite3_column_int(s, 5), held);
    pthread_mutex_lock(&spool->index_lock);
    if (domain)
      mp_index_unpin(&spool->index, domain);
    pthread_mutex_unlock(&spool->index_lock);
    if (!ok) {
      err = MP_E_NOMEM;
      break;
    }
  }
  mp_spool_db_reset(s);
  c->exhausted = err == 0 && c->count < c->claim->max;
  return err;
}

static int claim_message(claiming *c)
{
  int64_t seq = 0;
  int err = find_seq(c->spool, c->claim->id, &seq);
  sqlite3_stmt *s = err == 1 ? mp_spool_db_get(&c->spool->db, MP_SPOOL_SQL_OF_MESSAGE, &err) : NULL;
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  return claim_rows(c, s);
}

static int claim_past(claiming *c)
{
  mp_spool *spool = c->spool;
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_ALARMS, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, c->claim->now_ms);
  err = claim_rows(c, s);
  if (!c->exhausted)
    return err;
  if (!(s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_ALARM, &err)))
    return err;
  sqlite3_bind_int64(s, 1, c->claim->now_ms);
  int rc = mp_spool_db_step(&spool->db, s);
  if (rc == 1) {
    pthread_mutex_lock(&spool->index_lock);
    if (sqlite3_column_int64(s, 0) < spool->index.alarm_ms)
      spool->index.alarm_ms = sqlite3_column_int64(s, 0);
    pthread_mutex_unlock(&spool->index_lock);
  }
  mp_spool_db_reset(s);
  return rc < 0 ? rc : 0;
}

/* ---- what delivery needs ------------------------------------------------------------------------------------------- */

static int fetch_message(mp_spool *spool, mp_spool_gather *gather, int64_t seq)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_GET_MESSAGE, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  err = mp_spool_db_step(&spool->db, s);
  err = err == 1 ? mp_spool_gather_message(gather, s, 0) : err == 0 ? MP_E_DAMAGED : err;
  mp_spool_db_reset(s);
  return err;
}

static int fetch_recipient(mp_spool *spool, mp_spool_gather *gather, mp_lease *lease)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_GET_RECIPIENT, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, lease->place.message);
  sqlite3_bind_int64(s, 2, lease->place.n);
  err = mp_spool_db_step(&spool->db, s);
  err = err == 1 ? mp_spool_gather_recipient(gather, s, 0) : err == 0 ? MP_E_DAMAGED : err;
  mp_spool_db_reset(s);
  if (err == 0) {
    const mp_spool_item *item = &gather->batch.items[gather->batch.count - 1];
    pthread_mutex_lock(&spool->index_lock);
    lease->alarm = item->recipients[item->count - 1].alarm_ms;
    pthread_mutex_unlock(&spool->index_lock);
  }
  return err;
}

/* Reads the message of what was claimed at `first`, with all of its recipients that were claimed. */
static int fetch_item(claiming *c, mp_spool_gather *gather, size_t first)
{
  int64_t seq = c->got[first].lease->place.message;
  size_t items = gather->batch.count, recipients = gather->batch.recipients;
  int err = fetch_message(c->spool, gather, seq);
  for (size_t i = first; i < c->count; i++) {
    claimed *got = &c->got[i];
    if (got->read || got->lease->place.message != seq)
      continue;
    if (err == 0)
      err = fetch_recipient(c->spool, gather, got->lease);
    if (err != 0 && err != MP_E_DAMAGED)
      break;
    got->read = true; /* what is damaged stays leased until it is set aside, so that nobody stumbles over it again */
  }
  if (err == MP_E_DAMAGED) {
    gather->batch.count = items;
    gather->batch.recipients = recipients;
    mp_spool_aside(c->spool, seq, "a row is missing, or holds what makes no sense");
    return 0;
  }
  if (err != 0 && gather->batch.count > items && gather->batch.items[items].count == 0)
    gather->batch.count = items;
  return err;
}

static mp_spool_gather *fetch(claiming *c)
{
  mp_spool_gather *gather = mp_spool_gather_new(c->count);
  if (!gather)
    c->err = MP_E_NOMEM;
  for (size_t i = 0; c->err == 0 && i < c->count; i++)
    if (!c->got[i].read)
      c->err = fetch_item(c, gather, i);
  /* What there was no memory for waits on; what was read is given out. */
  if (c->err == MP_E_NOMEM && gather && gather->batch.recipients > 0)
    c->err = 0;
  return gather;
}

/* Leases run from now; those of what is not given out end. */
static void start_leases(claiming *c)
{
  mp_index *index = &c->spool->index;
  pthread_mutex_lock(&c->spool->index_lock);
  int64_t end = mp_spool_clock(c->spool) + c->claim->lease_ms;
  for (size_t i = 0; i < c->count; i++)
    if (c->err == 0 && c->got[i].read)
      mp_timers_set(&index->ends, &c->got[i].lease->end, end);
    else
      mp_index_lease_end(index, c->got[i].lease, true);
  if (c->domain)
    mp_index_unpin(index, c->domain);
  pthread_mutex_unlock(&c->spool->index_lock);
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

static void claim_domain(claiming *c)
{
  mp_spool *spool = c->spool;
  mp_index *index = &spool->index;
  int64_t due, later = INT64_MAX;
  uint64_t empty = 0;
  pthread_mutex_lock(&spool->index_lock);
  due = c->domain->due_ms;
  /* From here on it tells of leases that end meanwhile. */
  mp_index_due(index, c->domain, INT64_MAX);
  mp_index_quiet(index, c->domain, INT64_MAX);
  pthread_mutex_unlock(&spool->index_lock);
  c->err = claim_lanes(c);
  bool known = c->err == 0 && c->exhausted;
  if (known) {
    c->err = next_due(c, &later, &empty);
    known = c->err == 0;
  }
  if (known)
    due = later;
  pthread_mutex_lock(&spool->index_lock);
  if (known)
    c->domain->lanes &= ~empty;
  if (due < c->domain->due_ms)
    mp_index_due(index, c->domain, due);
  pthread_mutex_unlock(&spool->index_lock);
}

static void claim_alarms(claiming *c)
{
  mp_index *index = &c->spool->index;
  pthread_mutex_lock(&c->spool->index_lock);
  mp_index_expire(index, mp_spool_clock(c->spool));
  int64_t alarm = index->alarm_ms;
  index->alarm_ms = INT64_MAX;
  pthread_mutex_unlock(&c->spool->index_lock);
  c->err = claim_past(c);
  if (c->err == 0 && c->exhausted)
    return;
  pthread_mutex_lock(&c->spool->index_lock);
  if (alarm < index->alarm_ms)
    index->alarm_ms = alarm;
  pthread_mutex_unlock(&c->spool->index_lock);
}

static mp_index_domain *pin_known(mp_spool *spool, mp_str name)
{
  pthread_mutex_lock(&spool->index_lock);
  mp_index_expire(&spool->index, mp_spool_clock(spool));
  mp_index_domain *domain = mp_index_find(&spool->index, name);
  if (domain)
    domain->pins++;
  pthread_mutex_unlock(&spool->index_lock);
  return domain;
}

void mp_spool_claim_run(mp_spool *spool, mp_spool_claim_request *claim)
{
  claiming c = { .spool = spool, .claim = claim };
  mp_spool_gather *gather = NULL;
  claim->batch = NULL;
  claim->lease = mp_spool_token(spool, claim->holder);
  if (!valid(claim))
    c.err = MP_E_INVALID;
  else
    c.err = mp_spool_recover(spool);
  if (c.err == 0 && !(c.got = mp_mem_zalloc(claim->max * sizeof *c.got)))
    c.err = MP_E_NOMEM;
  if (c.err == 0)
    c.err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_BEGIN_READ);
  if (c.err == 0) {
    c.domain = claim->alarms || claim->id.len ? NULL : pin_known(spool, claim->domain);
    if (claim->alarms)
      claim_alarms(&c);
    else if (claim->id.len)
      c.err = claim_message(&c);
    else if (c.domain)
      claim_domain(&c);
    if (c.err == MP_E_NOMEM && c.count > 0)
      c.err = 0; /* fewer, then */
    if (c.err == 0)
      gather = fetch(&c);
    if (c.err == 0)
      c.err = mp_spool_db_run(&spool->db, MP_SPOOL_SQL_COMMIT);
    mp_spool_db_rollback(&spool->db);
  }
  start_leases(&c);
  mp_mem_free(c.got);
  if (c.err == 0) {
    claim->batch = &gather->batch;
    pthread_mutex_lock(&spool->index_lock);
    spool->stats.claimed += gather->batch.recipients;
    pthread_mutex_unlock(&spool->index_lock);
  } else if (gather) {
    mp_spool_batch_free(&gather->batch);
  }
  mp_spool_finish(&claim->request, c.err);
}

void mp_spool_lease_run(mp_spool *spool, mp_spool_lease_request *request)
{
  int64_t seq = 0;
  int err = request->id.len ? mp_spool_recover(spool) : 0;
  if (err == 0 && request->id.len) {
    err = mp_spool_id_fits(request->id) ? find_seq(spool, request->id, &seq) : MP_E_INVALID;
    err = err == 1 ? 0 : err == 0 ? MP_E_CANCELLED : err;
  }
  size_t count = 0;
  pthread_mutex_lock(&spool->index_lock);
  int64_t clock = mp_spool_clock(spool);
  mp_index_expire(&spool->index, clock);
  mp_list *bucket = &spool->index.claims[request->lease % MP_INDEX_CLAIMS];
  if (err == 0 && (request->lease == 0 || request->lease_ms < 0))
    err = MP_E_INVALID;
  for (mp_list *at = bucket->next, *next; err == 0 && at != bucket; at = next) {
    mp_lease *lease = MP_CONTAINER(at, mp_lease, of);
    next = at->next;
    if (lease->token != request->lease || (request->id.len && lease->place.message != seq) ||
        (request->id.len && request->n && lease->place.n != request->n))
      continue;
    count++;
    int64_t end = request->lease_ms < INT64_MAX - clock ? clock + request->lease_ms : INT64_MAX - 1;
    if (!request->back)
      mp_timers_set(&spool->index.ends, &lease->end, end);
    else if (request->lease_ms > 0)
      mp_index_lease_give(&spool->index, lease, 0, end);
    else
      mp_index_lease_end(&spool->index, lease, true);
  }
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_finish(&request->request, err ? err : count ? 0 : MP_E_CANCELLED);
}

void mp_spool_leave(mp_spool *spool, uint16_t holder)
{
  mp_index *index = &spool->index;
  pthread_mutex_lock(&spool->index_lock);
  for (size_t i = 0; i < MP_INDEX_CLAIMS; i++)
    for (mp_list *at = index->claims[i].next, *next; at != &index->claims[i]; at = next) {
      mp_lease *lease = MP_CONTAINER(at, mp_lease, of);
      next = at->next;
      if (lease->token && lease->token >> MP_SPOOL_HOLDER_SHIFT == holder)
        mp_index_lease_end(index, lease, true);
    }
  pthread_mutex_unlock(&spool->index_lock);
  mp_spool_wake(spool);
}
