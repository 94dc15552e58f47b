#include "spool/index.h"

#include "base/mem.h"

enum { FIRST_ROOM = 64 };

/* FNV-1a */
static uint32_t hash_text(mp_str s)
{
  uint32_t h = 2166136261u;
  for (size_t i = 0; i < s.len; i++)
    h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
  return h;
}

static size_t hash_row(int64_t message, int64_t n)
{
  uint64_t h = ((uint64_t)message * 0x9e3779b97f4a7c15u) ^ ((uint64_t)n * 0xc2b2ae3d27d4eb4fu);
  return (size_t)(h >> 20);
}

int mp_index_init(mp_index *index, unsigned owners)
{
  *index = (mp_index){ .alarm_ms = INT64_MAX, .domain_room = FIRST_ROOM, .lease_room = FIRST_ROOM };
  mp_timers_init(&index->quiet);
  mp_timers_init(&index->ends);
  for (size_t i = 0; i < MP_INDEX_CLAIMS; i++)
    mp_list_init(&index->claims[i]);
  index->due = mp_mem_zalloc(owners * sizeof *index->due);
  for (unsigned i = 0; index->due && i < owners; i++)
    mp_timers_init(&index->due[i]);
  index->owners = owners;
  index->domains = mp_mem_zalloc(FIRST_ROOM * sizeof *index->domains);
  index->leases = mp_mem_zalloc(FIRST_ROOM * sizeof *index->leases);
  if (index->due && index->domains && index->leases)
    return 0;
  mp_index_dispose(index);
  return MP_E_NOMEM;
}

static void free_domain(mp_index_domain *domain)
{
  mp_mem_free(domain->stops);
  mp_mem_free(domain);
}

void mp_index_dispose(mp_index *index)
{
  for (unsigned i = 0; index->due && i < index->owners; i++)
    mp_timers_dispose(&index->due[i]);
  mp_timers_dispose(&index->quiet);
  mp_timers_dispose(&index->ends);
  for (size_t i = 0; index->domains && i < index->domain_room; i++)
    for (mp_index_domain *d = index->domains[i], *next; d; d = next) {
      next = d->next;
      free_domain(d);
    }
  for (size_t i = 0; index->leases && i < index->lease_room; i++)
    for (mp_lease *l = index->leases[i], *next; l; l = next) {
      next = l->next;
      mp_mem_free(l);
    }
  mp_mem_free(index->due);
  mp_mem_free(index->domains);
  mp_mem_free(index->leases);
  *index = (mp_index){ .alarm_ms = INT64_MAX };
}

/* ---- domains ------------------------------------------------------------------------------------------------------- */

mp_index_domain *mp_index_find(mp_index *index, mp_str name)
{
  uint32_t hash = hash_text(name);
  mp_index_domain *d = index->domains[hash & (index->domain_room - 1)];
  while (d && !(d->hash == hash && mp_str_eq(mp_str_of(d->name, d->length), name)))
    d = d->next;
  return d;
}

/* Without memory the chains become longer, which is no error. */
static void grow_domains(mp_index *index)
{
  size_t room = index->domain_room * 2;
  mp_index_domain **fresh = mp_mem_zalloc(room * sizeof *fresh);
  if (!fresh)
    return;
  for (size_t i = 0; i < index->domain_room; i++)
    for (mp_index_domain *d = index->domains[i], *next; d; d = next) {
      next = d->next;
      d->next = fresh[d->hash & (room - 1)];
      fresh[d->hash & (room - 1)] = d;
    }
  mp_mem_free(index->domains);
  index->domains = fresh;
  index->domain_room = room;
}

mp_index_domain *mp_index_domain_pin(mp_index *index, mp_str name)
{
  mp_index_domain *d = mp_index_find(index, name);
  if (!d) {
    if (index->domain_count >= index->domain_room)
      grow_domains(index);
    d = mp_mem_zalloc(sizeof *d + name.len + 1);
    if (!d)
      return NULL;
    uint32_t hash = hash_text(name);
    d->owner = (uint8_t)(hash % index->owners);
    /* Both timers are set for good, so that to move one takes no memory. */
    if (mp_timers_set(&index->due[d->owner], &d->due, INT64_MAX) != 0 ||
        mp_timers_set(&index->quiet, &d->quiet, INT64_MAX) != 0) {
      mp_timers_clear(&index->due[d->owner], &d->due);
      mp_mem_free(d);
      return NULL;
    }
    memcpy(d->name, name.ptr, name.len);
    d->length = (uint8_t)name.len;
    d->hash = hash;
    d->due_ms = INT64_MAX;
    d->top = -9;
    mp_index_domain **bucket = &index->domains[d->hash & (index->domain_room - 1)];
    d->next = *bucket;
    *bucket = d;
    index->domain_count++;
  }
  d->pins++;
  return d;
}

static void maybe_free(mp_index *index, mp_index_domain *domain)
{
  if (domain->waiting || domain->leased || domain->pins)
    return;
  mp_index_domain **at = &index->domains[domain->hash & (index->domain_room - 1)];
  while (*at != domain)
    at = &(*at)->next;
  *at = domain->next;
  mp_timers_clear(&index->due[domain->owner], &domain->due);
  mp_timers_clear(&index->quiet, &domain->quiet);
  index->domain_count--;
  free_domain(domain);
}

void mp_index_unpin(mp_index *index, mp_index_domain *domain)
{
  domain->pins--;
  maybe_free(index, domain);
}

static void waits_in(mp_index_domain *domain, int lane, int priority)
{
  domain->lanes |= UINT64_C(1) << lane;
  if (priority > domain->top)
    domain->top = (int8_t)priority;
}

void mp_index_load(mp_index_domain *domain, int lane, int priority, int64_t due_ms)
{
  domain->waiting++;
  waits_in(domain, lane, priority);
  if (due_ms < domain->due_ms)
    domain->due_ms = due_ms;
}

int mp_index_give(mp_index *index, mp_index_domain *domain, unsigned owner)
{
  mp_timers *from = &index->due[domain->owner], *to = &index->due[owner];
  mp_timers_clear(from, &domain->due);
  if (mp_timers_set(to, &domain->due, INT64_MAX) != 0) {
    mp_timers_set(from, &domain->due, INT64_MAX); /* there was room for it */
    mp_index_due(index, domain, domain->due_ms);
    return MP_E_NOMEM;
  }
  domain->owner = (uint8_t)owner;
  mp_index_due(index, domain, domain->due_ms);
  return 0;
}

void mp_index_due(mp_index *index, mp_index_domain *domain, int64_t due_ms)
{
  domain->due_ms = due_ms;
  mp_timers_set(&index->due[domain->owner], &domain->due, domain->quiet.due_ms == INT64_MAX ? due_ms : INT64_MAX);
}

void mp_index_quiet(mp_index *index, mp_index_domain *domain, int64_t until_ms)
{
  mp_timers_set(&index->quiet, &domain->quiet, until_ms);
  mp_index_due(index, domain, domain->due_ms);
}

/* ---- how far claims have come -------------------------------------------------------------------------------------- */

static bool before(mp_place a, mp_place b)
{
  if (a.due != b.due)
    return a.due < b.due;
  return a.message != b.message ? a.message < b.message : a.n < b.n;
}

static mp_stop *find_stop(const mp_index_domain *domain, int lane, int priority)
{
  for (uint32_t i = 0; i < domain->stop_count; i++)
    if (domain->stops[i].lane == lane && domain->stops[i].priority == priority)
      return &domain->stops[i];
  return NULL;
}

mp_place mp_index_stop_at(const mp_index_domain *domain, int lane, int priority)
{
  mp_stop *stop = find_stop(domain, lane, priority);
  return stop ? stop->at : (mp_place){ INT64_MIN, 0, 0 };
}

int mp_index_stop_room(mp_index_domain *domain)
{
  if (domain->stop_count < domain->stop_cap)
    return 0;
  uint32_t cap = domain->stop_cap ? domain->stop_cap * 2 : 2;
  mp_stop *stops = mp_mem_realloc(domain->stops, cap * sizeof *stops);
  if (!stops)
    return MP_E_NOMEM;
  domain->stops = stops;
  domain->stop_cap = cap;
  return 0;
}

void mp_index_stop(mp_index_domain *domain, int lane, int priority, mp_place at)
{
  mp_stop *stop = find_stop(domain, lane, priority);
  if (!stop)
    stop = &domain->stops[domain->stop_count++];
  *stop = (mp_stop){ lane, priority, at };
}

/* A recipient may be claimed now that waits at `place`. */
static void claimable(mp_index *index, mp_index_domain *domain, int lane, int priority, mp_place place)
{
  mp_stop *stop = find_stop(domain, lane, priority);
  if (stop && !before(stop->at, place)) {
    stop->at = place;
    stop->at.n--; /* numbers start at 1: no recipient is between the two */
  }
  domain->news++;
  waits_in(domain, lane, priority);
  if (place.due < domain->due_ms)
    mp_index_due(index, domain, place.due);
}

/* ---- leases -------------------------------------------------------------------------------------------------------- */

mp_lease *mp_index_lease_new(mp_index *index)
{
  mp_lease *lease = mp_mem_zalloc(sizeof *lease);
  /* Its timer is set from the start, so that to hold it takes no memory. */
  if (lease && mp_timers_set(&index->ends, &lease->end, INT64_MAX) != 0) {
    mp_mem_free(lease);
    return NULL;
  }
  if (lease)
    mp_list_init(&lease->of);
  return lease;
}

void mp_index_lease_drop(mp_index *index, mp_lease *lease)
{
  mp_timers_clear(&index->ends, &lease->end);
  mp_mem_free(lease);
}

static void grow_leases(mp_index *index)
{
  size_t room = index->lease_room * 2;
  mp_lease **fresh = mp_mem_zalloc(room * sizeof *fresh);
  if (!fresh)
    return;
  for (size_t i = 0; i < index->lease_room; i++)
    for (mp_lease *l = index->leases[i], *next; l; l = next) {
      mp_lease **bucket = &fresh[hash_row(l->place.message, l->place.n) & (room - 1)];
      next = l->next;
      l->next = *bucket;
      *bucket = l;
    }
  mp_mem_free(index->leases);
  index->leases = fresh;
  index->lease_room = room;
}

static mp_lease **lease_slot(mp_index *index, int64_t message, int64_t n)
{
  mp_lease **at = &index->leases[hash_row(message, n) & (index->lease_room - 1)];
  while (*at && ((*at)->place.message != message || (*at)->place.n != n))
    at = &(*at)->next;
  return at;
}

mp_lease *mp_index_lease_find(mp_index *index, int64_t message, int64_t n)
{
  return *lease_slot(index, message, n);
}

void mp_index_lease_hold(mp_index *index, mp_lease *lease, int64_t end_ms)
{
  if (index->lease_count >= index->lease_room)
    grow_leases(index);
  mp_lease **bucket = &index->leases[hash_row(lease->place.message, lease->place.n) & (index->lease_room - 1)];
  lease->next = *bucket;
  *bucket = lease;
  index->lease_count++;
  lease->domain->leased++;
  mp_list_push(&index->claims[lease->token % MP_INDEX_CLAIMS], &lease->of);
  mp_timers_set(&index->ends, &lease->end, end_ms);
}

void mp_index_lease_give(mp_index *index, mp_lease *lease, uint64_t token, int64_t end_ms)
{
  mp_list_remove(&lease->of);
  index->nobodys += (token == 0) - (size_t)(lease->token == 0);
  lease->token = token;
  mp_list_push(&index->claims[token % MP_INDEX_CLAIMS], &lease->of);
  mp_timers_set(&index->ends, &lease->end, end_ms);
  if (!token && lease->alarm && lease->alarm < index->alarm_ms) /* it does not wait for that */
    index->alarm_ms = lease->alarm;
}

void mp_index_lease_end(mp_index *index, mp_lease *lease, bool waits)
{
  mp_index_domain *domain = lease->domain;
  mp_lease **slot = lease_slot(index, lease->place.message, lease->place.n);
  *slot = lease->next;
  index->lease_count--;
  index->nobodys -= lease->token == 0;
  domain->leased--;
  if (waits && !lease->held)
    claimable(index, domain, lease->lane, lease->priority, lease->place);
  if (waits && lease->alarm && lease->alarm < index->alarm_ms)
    index->alarm_ms = lease->alarm;
  if (domain->leased == 0) {
    mp_mem_free(domain->stops);
    domain->stops = NULL;
    domain->stop_count = domain->stop_cap = 0;
  }
  mp_list_remove(&lease->of);
  mp_index_lease_drop(index, lease);
  maybe_free(index, domain);
}

void mp_index_expire(mp_index *index, int64_t clock_ms)
{
  while (mp_timers_next(&index->ends) <= clock_ms)
    mp_index_lease_end(index, MP_CONTAINER(index->ends.heap[0], mp_lease, end), true);
}

/* ---- what a commit did --------------------------------------------------------------------------------------------- */

void mp_index_settle(mp_index *index, mp_effect *e, int64_t end_ms)
{
  /* Somebody with `sqlite3` may have changed what we counted. */
  if (e->from && e->from->waiting > 0) {
    e->from->waiting--;
    index->waiting--;
  }
  mp_lease *held = e->lease ? NULL : mp_index_lease_find(index, e->place.message, e->place.n);
  if (e->to) {
    e->to->waiting++;
    waits_in(e->to, e->lane, e->priority);
    index->waiting++;
  }
  if (held && e->ends_lease) {
    mp_index_lease_end(index, held, false);
    held = NULL;
  }
  if (held) {
    /* It stays with whoever claimed it; when the lease ends it waits where this commit left it. */
    held->place.due = e->place.due;
    held->alarm = e->alarm;
    if (e->to && e->to != held->domain) {
      e->to->leased++;
      held->domain->leased--;
      mp_index_domain *old = held->domain;
      held->domain = e->to;
      maybe_free(index, old);
    }
    held->held = !e->to;
  } else if (e->to && e->lease) {
    mp_index_lease_hold(index, e->lease, end_ms);
    e->lease = NULL;
  } else if (e->to) {
    claimable(index, e->to, e->lane, e->priority, e->place);
  }
  if (e->alarm && e->alarm < index->alarm_ms)
    index->alarm_ms = e->alarm;
}
