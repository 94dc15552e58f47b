#include "spool/index.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { BUCKETS_FIRST = 64, CLAIMS_FIRST = 256 };

static uint32_t hash_of(mp_str s)
{
  uint32_t hash = 2166136261u; /* FNV-1a */
  for (size_t i = 0; i < s.len; i++)
    hash = (hash ^ (unsigned char)s.ptr[i]) * 16777619u;
  return hash;
}

uint16_t index_lane_of(int priority, mp_str tenant, mp_str sender)
{
  unsigned class = (unsigned)(9 - (priority < -9 ? -9 : priority > 9 ? 9 : priority));
  return (uint16_t)(class * INDEX_HASHES + hash_of(tenant.len ? tenant : sender) % INDEX_HASHES);
}

void index_init(spool_index *index)
{
  *index = (spool_index){ 0 };
  mp_timers_init(&index->timers);
}

void index_dispose(spool_index *index)
{
  mp_timers_dispose(&index->timers);
  for (size_t i = 0; i < index->bucket_count; i++) {
    index_domain *domain = index->buckets[i];
    while (domain) {
      index_domain *next = domain->chain;
      mp_mem_free(domain->lanes);
      mp_mem_free(domain);
      domain = next;
    }
  }
  mp_mem_free(index->buckets);
  mp_mem_free(index->claims);
  *index = (spool_index){ 0 };
}

/* ---- domains ----------------------------------------------------------------------------------------------------- */

index_domain *index_domain_find(const spool_index *index, mp_str name)
{
  if (!index->bucket_count)
    return NULL;
  uint32_t hash = hash_of(name);
  index_domain *domain = index->buckets[hash % index->bucket_count];
  while (domain && !(domain->hash == hash && mp_str_eq(mp_str_of(domain->name, domain->len), name)))
    domain = domain->chain;
  return domain;
}

static bool grow(spool_index *index)
{
  size_t count = index->bucket_count ? index->bucket_count * 2 : BUCKETS_FIRST;
  index_domain **buckets = mp_mem_zalloc(count * sizeof *buckets);
  if (!buckets)
    return index->bucket_count > 0; /* longer chains will do */
  for (size_t i = 0; i < index->bucket_count; i++) {
    index_domain *domain = index->buckets[i];
    while (domain) {
      index_domain *next = domain->chain;
      domain->chain = buckets[domain->hash % count];
      buckets[domain->hash % count] = domain;
      domain = next;
    }
  }
  mp_mem_free(index->buckets);
  index->buckets = buckets;
  index->bucket_count = count;
  return true;
}

/* A domain's timer only keeps its place in the heap: who asks what is due takes it out. */
static void fire(mp_timer *timer, int64_t now_ms)
{
  (void)timer, (void)now_ms;
}

index_domain *index_domain_get(spool_index *index, mp_str name)
{
  index_domain *domain = index_domain_find(index, name);
  if (domain)
    return domain;
  if (index->domain_count >= index->bucket_count && !grow(index))
    return NULL;
  domain = mp_mem_zalloc(sizeof *domain + name.len + 1);
  if (!domain)
    return NULL;
  mp_timer_init(&domain->timer, fire);
  /* In the heap from the start, if only for the end of days: moving it never wants memory. */
  if (mp_timers_set(&index->timers, &domain->timer, INT64_MAX) < 0) {
    mp_mem_free(domain);
    return NULL;
  }
  domain->hash = hash_of(name);
  domain->len = name.len;
  memcpy(domain->name, name.ptr, name.len);
  domain->chain = index->buckets[domain->hash % index->bucket_count];
  index->buckets[domain->hash % index->bucket_count] = domain;
  index->domain_count++;
  return domain;
}

static void remove_domain(spool_index *index, index_domain *domain)
{
  index_domain **at = &index->buckets[domain->hash % index->bucket_count];
  while (*at != domain)
    at = &(*at)->chain;
  *at = domain->chain;
  index->domain_count--;
  mp_timers_clear(&index->timers, &domain->timer);
  mp_mem_free(domain->lanes);
  mp_mem_free(domain);
}

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

static index_lane *lane_find(const index_domain *domain, uint16_t lane)
{
  for (unsigned i = 0; i < domain->lane_count; i++)
    if (domain->lanes[i].lane == lane)
      return &domain->lanes[i];
  return NULL;
}

/* In the order of their numbers. */
static index_lane *lane_get(index_domain *domain, uint16_t lane)
{
  index_lane *found = lane_find(domain, lane);
  if (found)
    return found;
  if (domain->lane_count == domain->lane_cap) {
    unsigned cap = domain->lane_cap ? domain->lane_cap * 2u : 1;
    index_lane *lanes = mp_mem_realloc(domain->lanes, cap * sizeof *lanes);
    if (!lanes)
      return NULL;
    domain->lanes = lanes;
    domain->lane_cap = (uint16_t)cap;
  }
  unsigned at = domain->lane_count;
  while (at > 0 && domain->lanes[at - 1].lane > lane) {
    domain->lanes[at] = domain->lanes[at - 1];
    at--;
  }
  domain->lanes[at] = (index_lane){ .lane = lane, .next = INFINITY };
  domain->lane_count++;
  return &domain->lanes[at];
}

bool index_count(spool_index *index, mp_str name, uint16_t lane, int by)
{
  index_domain *domain = by > 0 ? index_domain_get(index, name) : index_domain_find(index, name);
  if (!domain)
    return by < 0;
  index_lane *of = by > 0 ? lane_get(domain, lane) : lane_find(domain, lane);
  if (!of)
    return by < 0;
  uint32_t less = by < 0 ? (uint32_t)-by : 0;
  index->deliveries = by > 0 ? index->deliveries + (uint32_t)by : index->deliveries - less;
  of->count = by > 0 ? of->count + (uint32_t)by : of->count > less ? of->count - less : 0;
  if (of->count == 0) {
    size_t at = (size_t)(of - domain->lanes);
    memmove(of, of + 1, (domain->lane_count - at - 1) * sizeof *of);
    domain->lane_count--;
  }
  if (domain->lane_count == 0)
    remove_domain(index, domain);
  return true;
}

static int64_t ms_of(double seconds)
{
  return seconds > 9e15 ? INT64_MAX - 1 : (int64_t)ceil(seconds * 1000);
}

void index_arm(spool_index *index, index_domain *domain)
{
  double next = INFINITY;
  for (unsigned i = 0; i < domain->lane_count; i++)
    next = fmin(next, domain->lanes[i].next);
  mp_timers_set(&index->timers, &domain->timer, isinf(next) ? INT64_MAX : ms_of(fmax(next, domain->sleeps)));
}

void index_due(spool_index *index, index_domain *domain, uint16_t lane, double due)
{
  index_lane *of = lane_find(domain, lane);
  if (of && due < of->next) {
    of->next = due;
    index_arm(index, domain);
  }
}

void index_look(index_domain *domain, index_lane *lane)
{
  lane->next = INFINITY;
  domain->last = lane->lane;
}

void index_looked(spool_index *index, mp_str name, uint16_t lane, double next)
{
  index_domain *domain = index_domain_find(index, name);
  if (!domain)
    return;
  index_lane *of = lane_find(domain, lane);
  if (of)
    of->next = fmin(of->next, next);
  index_arm(index, domain);
}

index_lane *index_choose(index_domain *domain, double now)
{
  index_lane *best = NULL;
  bool best_behind = false;
  for (unsigned i = 0; i < domain->lane_count; i++) {
    index_lane *lane = &domain->lanes[i];
    if (lane->next > now)
      continue;
    bool behind = lane->lane > domain->last; /* its turn comes before that of the lanes up to the last one */
    if (best && index_class(lane->lane) != index_class(best->lane))
      break;
    if (!best || (behind && !best_behind)) {
      best = lane;
      best_behind = behind;
    }
  }
  return best;
}

/* ---- claims ------------------------------------------------------------------------------------------------------ */

static size_t slot_of(const spool_index *index, int64_t handle)
{
  return (size_t)((uint64_t)handle * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (index->claim_cap - 1);
}

static index_claim *claim_find(const spool_index *index, int64_t handle)
{
  if (!index->claim_cap)
    return NULL;
  for (size_t i = slot_of(index, handle);; i = (i + 1) & (index->claim_cap - 1)) {
    if (index->claims[i].handle == handle)
      return &index->claims[i];
    if (index->claims[i].handle == 0)
      return NULL;
  }
}

const index_claim *index_claim_find(const spool_index *index, int64_t handle)
{
  return claim_find(index, handle);
}

static bool claims_grow(spool_index *index)
{
  size_t cap = CLAIMS_FIRST;
  while (cap < index->claim_count * 3)
    cap *= 2;
  spool_index more = { .claims = mp_mem_zalloc(cap * sizeof *more.claims), .claim_cap = cap };
  if (!more.claims)
    return false;
  for (size_t i = 0; i < index->claim_cap; i++) {
    if (index->claims[i].handle <= 0)
      continue;
    size_t at = slot_of(&more, index->claims[i].handle);
    while (more.claims[at].handle)
      at = (at + 1) & (cap - 1);
    more.claims[at] = index->claims[i];
  }
  mp_mem_free(index->claims);
  index->claims = more.claims;
  index->claim_cap = cap;
  index->claim_used = index->claim_count;
  return true;
}

bool index_claim_set(spool_index *index, int64_t handle, uint16_t lane, double until)
{
  index_claim *claim = claim_find(index, handle);
  if (claim) {
    claim->until = until;
    return true;
  }
  if ((index->claim_used + 1) * 2 > index->claim_cap && !claims_grow(index))
    return false;
  size_t at = slot_of(index, handle);
  while (index->claims[at].handle > 0)
    at = (at + 1) & (index->claim_cap - 1);
  index->claim_used += index->claims[at].handle == 0;
  index->claims[at] = (index_claim){ handle, until, lane };
  index->claim_count++;
  return true;
}

void index_claim_end(spool_index *index, int64_t handle)
{
  index_claim *claim = claim_find(index, handle);
  if (claim) {
    claim->handle = -1;
    index->claim_count--;
  }
}
