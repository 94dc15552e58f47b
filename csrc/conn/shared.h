/* conn/shared.h -- tables that every worker of a process reads and writes: the one thing Lua states share, beside the spool. Bounded in
 * octets and in entries, locked by shard, forgetting what was written longest ago. Time is the caller's monotonic clock, so that tests can
 * turn it. Every function may be called from any thread. */
#ifndef MP_CONN_SHARED_H
#define MP_CONN_SHARED_H

#include "base/str.h"

enum {
  MP_SHARED_KEY_MOST = 4096,   /* octets */
  MP_SHARED_NAME_MOST = 255,   /* octets of a table's name */
  MP_SHARED_MEMORY = 64 << 20, /* octets of a table, when nothing else is said */
  MP_SHARED_ENTRIES = 1000000
};

typedef struct mp_shared mp_shared;         /* one table */
typedef struct mp_shared_set mp_shared_set; /* the tables of a process by name */

int mp_shared_set_new(mp_shared_set **set); /* one reference. 0 or MP_E_NOMEM */
mp_shared_set *mp_shared_set_ref(mp_shared_set *set);
void mp_shared_set_unref(mp_shared_set *set); /* NULL does nothing; the last one frees the tables */

/* The table of that name, made at the first call; borrowed from the set. `memory` octets (64 KiB at least) and `entries` are its ceilings,
 * 0 = the default; those of the first call count. 0, MP_E_NOMEM, or MP_E_INVALID for an empty name or one that is too long. */
int mp_shared_open(mp_shared_set *set, mp_str name, size_t memory, size_t entries, mp_shared **table);

typedef enum mp_shared_kind {
  MP_SHARED_NONE,
  MP_SHARED_BOOL,
  MP_SHARED_INT,
  MP_SHARED_NUM,
  MP_SHARED_STR,
  MP_SHARED_RATE /* inside alone: a bucket has no value */
} mp_shared_kind;

typedef struct mp_shared_value {
  mp_shared_kind kind;
  bool b;
  int64_t i;
  double n;
  mp_str s;
} mp_shared_value;

/* Reads. A string is copied into `room` as far as it fits: value->s is what was copied, the result its whole length. A missing key is
 * MP_SHARED_NONE; so is a bucket. Returns the length of a string, else 0. */
size_t mp_shared_get(mp_shared *table, mp_str key, int64_t now_ms, mp_shared_value *value, char *room,
                     size_t size);

/* Writes; `ttl_ms` 0 = until it is forgotten for want of room. 0, MP_E_NOMEM, MP_E_INVALID (the key) or MP_E_FULL (larger than an eighth of
 * what its shard may hold); on an error the old value stays. */
int mp_shared_put(mp_shared *table, mp_str key, const mp_shared_value *value, int64_t ttl_ms, int64_t now_ms);

/* The same unless there is one already: 1 when it was written, 0 when not. */
int mp_shared_add(mp_shared *table, mp_str key, const mp_shared_value *value, int64_t ttl_ms, int64_t now_ms);

/* Adds `by` (INT or NUM) to a number; what is missing starts at 0 and lives for `ttl_ms`, which a later call does not lengthen. Fills *sum.
 * 0, MP_E_NOMEM, MP_E_INVALID (the key; the value is no number; beyond 64 bits). */
int mp_shared_incr(mp_shared *table, mp_str key, const mp_shared_value *by, int64_t ttl_ms, int64_t now_ms,
                   mp_shared_value *sum);

/* Takes `cost` from the bucket of `key`, which holds `count` and gains as many in `period_ms`, evenly. 1 when it held enough, 0 when not
 * (nothing is taken, and *wait_ms says when it will), MP_E_NOMEM or MP_E_INVALID (the key; count or cost of 0; a cost over count; a rate
 * that cannot be counted). */
int mp_shared_rate(mp_shared *table, mp_str key, uint64_t count, int64_t period_ms, uint64_t cost,
                   int64_t now_ms, int64_t *wait_ms);

bool mp_shared_delete(mp_shared *table, mp_str key, int64_t now_ms); /* true when there was one */

/* Entries that live. Looks at every one. */
size_t mp_shared_count(mp_shared *table, int64_t now_ms);
void mp_shared_clear(mp_shared *table);

#endif
