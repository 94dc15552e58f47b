/* spool/index.h -- what the spool keeps in memory: the domains for which something waits, and the leases. Not thread-safe: the spool's index lock is held.
 * Memory is taken by mp_index_domain, mp_index_lease_new and mp_index_stop alone, before anything is committed, so that what follows a commit cannot fail. */
#ifndef MP_SPOOL_INDEX_H
#define MP_SPOOL_INDEX_H

#include "base/error.h"
#include "base/list.h"
#include "base/str.h"
#include "base/timers.h"

/* A recipient by its place in the database, and its place in the order of claims. */
typedef struct mp_place {
  int64_t due, message;
  int64_t n;
} mp_place;

/* How far claims of a lane and priority have come: everything up to here that waits is leased. Kept while the domain has leases. */
typedef struct mp_stop {
  int lane, priority;
  mp_place at;
} mp_stop;

typedef struct mp_index_domain {
  struct mp_index_domain *next; /* in its bucket */
  mp_timer due;   /* unix time; INT64_MAX while it is quiet, or nothing but leased recipients waits */
  mp_timer quiet; /* the clock that does not jump; INT64_MAX: not quiet */
  int64_t due_ms; /* of the first that is not leased; a lower bound */
  uint64_t lanes;
  mp_stop *stops;
  uint32_t stop_count, stop_cap;
  uint32_t waiting, leased, pins;
  uint32_t news; /* counts what became claimable */
  uint32_t hash;
  uint8_t turn; /* the lane that comes next */
  int8_t top;   /* no priority that waits is higher */
  uint8_t owner;
  bool roused;
  uint8_t length;
  char name[];
} mp_index_domain;

typedef struct mp_lease {
  struct mp_lease *next; /* in its bucket */
  mp_timer end;
  mp_list of; /* the leases of one claim */
  mp_index_domain *domain;
  uint64_t token;
  mp_place place;
  int64_t alarm; /* 0: never */
  uint8_t lane;
  int8_t priority;
  bool held; /* claimed for its alarm, or by its id, while held: nothing waits when the lease ends */
} mp_lease;

enum { MP_INDEX_CLAIMS = 256 };

typedef struct mp_index {
  mp_index_domain **domains;
  mp_lease **leases;
  size_t domain_count, domain_room; /* room: buckets, a power of two */
  size_t lease_count, lease_room;
  size_t nobodys; /* leases among them that nobody holds: given back for later */
  mp_timers *due; /* of each owner */
  unsigned owners;
  mp_timers quiet, ends;
  mp_list claims[MP_INDEX_CLAIMS]; /* leases that are held, by token */
  uint64_t waiting;
  int64_t alarm_ms; /* of the first that is not known to be leased; a lower bound */
} mp_index;

/* What a commit did to a recipient. */
typedef struct mp_effect {
  struct mp_effect *next;
  mp_index_domain *from, *to; /* where it waited, where it waits now; NULL: nowhere. Pinned */
  mp_lease *lease;            /* of a put: to be held from now on */
  mp_place place;
  int64_t alarm;
  int lane, priority;
  bool ends_lease;
} mp_effect;

int mp_index_init(mp_index *index, unsigned owners);
void mp_index_dispose(mp_index *index);

/* The domain by its name, or NULL. */
mp_index_domain *mp_index_find(mp_index *index, mp_str name);

/* The same, made if it is missing, and pinned: it stays until mp_index_unpin. NULL: no memory. */
mp_index_domain *mp_index_domain_pin(mp_index *index, mp_str name);
void mp_index_unpin(mp_index *index, mp_index_domain *domain);

/* Counts a row that waits, while the index is read from the database. */
void mp_index_load(mp_index_domain *domain, int lane, int priority, int64_t due_ms);

/* A lease that nobody holds yet, or NULL. */
mp_lease *mp_index_lease_new(mp_index *index);
void mp_index_lease_drop(mp_index *index, mp_lease *lease); /* one that was never held */
/* It is another claim's from now on; nobody's, who waits for its end, with token 0. */
void mp_index_lease_give(mp_index *index, mp_lease *lease, uint64_t token, int64_t end_ms);
void mp_index_lease_hold(mp_index *index, mp_lease *lease, int64_t end_ms);
void mp_index_lease_end(mp_index *index, mp_lease *lease, bool waits); /* `waits`: what it held may be claimed again */
mp_lease *mp_index_lease_find(mp_index *index, int64_t message, int64_t n);

/* Ends the leases whose time is over. */
void mp_index_expire(mp_index *index, int64_t clock_ms);

/* Where to go on claiming in a lane and priority; all zero at the front. */
mp_place mp_index_stop_at(const mp_index_domain *domain, int lane, int priority);
/* Room for one more to be kept. Returns 0 or MP_E_NOMEM. */
int mp_index_stop_room(mp_index_domain *domain);
void mp_index_stop(mp_index_domain *domain, int lane, int priority, mp_place at);

/* Does what a commit did. */
void mp_index_settle(mp_index *index, mp_effect *effect, int64_t end_ms);

/* 0 or MP_E_NOMEM. */
int mp_index_give(mp_index *index, mp_index_domain *domain, unsigned owner);

/* Sets when the domain is due next. */
void mp_index_due(mp_index *index, mp_index_domain *domain, int64_t due_ms);
void mp_index_quiet(mp_index *index, mp_index_domain *domain, int64_t until_ms); /* INT64_MAX: not */

#endif
