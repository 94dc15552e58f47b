/* spool/index.h -- what is in memory of a spool: for each domain its lanes, and when something of each is due; which deliveries are claimed. It grows
 * with the number of domains that have mail, not with that of messages. Not safe by itself: the spool locks. */
#ifndef MP_SPOOL_INDEX_H
#define MP_SPOOL_INDEX_H

#include "base/arena.h"
#include "base/str.h"
#include "base/timers.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct index_lane {
  uint16_t lane;
  uint32_t count; /* deliveries */
  double next;    /* nothing is due before; INFINITY: nothing that is not claimed or held */
} index_lane;

typedef struct index_domain index_domain;
struct index_domain {
  mp_timer timer; /* when it is to be looked at; idle: it has been given to somebody, or nothing is due */
  index_domain *chain;
  index_lane *lanes;
  uint16_t lane_count, lane_cap;
  uint16_t last; /* the lane that was claimed from last */
  uint32_t hash;
  double sleeps;
  size_t len;
  char name[];
};

typedef struct index_claim {
  int64_t handle; /* 0: free, -1: was used */
  double until;   /* INFINITY: claimed */
  uint16_t lane;
} index_claim;

typedef struct spool_index {
  index_domain **buckets;
  size_t bucket_count, domain_count;
  mp_timers timers; /* of domains, in milliseconds on the wall */
  index_claim *claims;
  size_t claim_cap, claim_used, claim_count; /* used: with those that were */
  uint64_t deliveries;
} spool_index;

enum { INDEX_HASHES = 64, INDEX_LANES = 19 * INDEX_HASHES };

/* The lane of a message: those of a higher priority have smaller numbers. */
uint16_t index_lane_of(int priority, mp_str tenant, mp_str sender);
static inline unsigned index_class(uint16_t lane)
{
  return lane / INDEX_HASHES;
}

void index_init(spool_index *index);
void index_dispose(spool_index *index);

/* The domain, made when it is missing; NULL when out of memory. */
index_domain *index_domain_get(spool_index *index, mp_str name);
index_domain *index_domain_find(const spool_index *index, mp_str name);

/* `by` deliveries more, or fewer; a domain without any goes. False when out of memory, which only adding can be. */
bool index_count(spool_index *index, mp_str name, uint16_t lane, int by);

/* Something of a lane is due at `due`. */
void index_due(spool_index *index, index_domain *domain, uint16_t lane, double due);

/* Somebody looks into a lane: what becomes due from here on is due, whatever he will find. */
void index_look(index_domain *domain, index_lane *lane);
/* What he has found: the next that is not claimed is due at `next`. */
void index_looked(spool_index *index, mp_str name, uint16_t lane, double next);

/* The lane to claim from: one with something due, of the highest priority, in turn. NULL: none. */
index_lane *index_choose(index_domain *domain, double now);

/* Sets the domain's timer by its lanes and its sleep. */
void index_arm(spool_index *index, index_domain *domain);

/* Claims. False when out of memory. */
bool index_claim_set(spool_index *index, int64_t handle, uint16_t lane, double until);
const index_claim *index_claim_find(const spool_index *index, int64_t handle);
void index_claim_end(spool_index *index, int64_t handle);

#endif
