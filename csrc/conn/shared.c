#include "conn/shared.h"

#include "base/error.h"
#include "base/list.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

enum {
  SHARDS_MOST = 16,
  SHARE_FROM = 4096, /* entries from which a table is split: in a small one "the oldest" is meant to the letter */
  BUCKETS_LEAST = 16,
  MEMORY_LEAST = 65536,
  LARGE = 8 /* a value may take this part of its shard */
};

typedef struct entry {
  struct entry *next; /* in its bucket */
  mp_list age;
  uint64_t hash;
  int64_t until_ms; /* INT64_MAX: no end */
  union {
    bool b;
    int64_t i;
    double n;
    int64_t full_ns; /* RATE: when the bucket is full again */
  } is;
  uint32_t key_len, value_len;
  uint8_t kind;
  char octets[]; /* key, value */
} entry;

typedef struct shard {
  pthread_mutex_t lock;
  entry **buckets;
  size_t bucket_count, count, memory;
  mp_list age; /* written longest ago first */
} shard;

struct mp_shared {
  mp_shared *next;
  mp_str name; /* ours */
  uint64_t seed[2];
  size_t memory_most, entries_most; /* of a shard */
  unsigned shards;
  shard shard[SHARDS_MOST];
};

struct mp_shared_set {
  atomic_uint refs;
  pthread_mutex_t lock; /* of `tables` */
  mp_shared *tables;
};

/* ---- SipHash-1-3: keys come from peers, who must not be able to choose collisions ---------------------------------- */

static uint64_t rotl(uint64_t x, int by)
{
  return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
  v[0] += v[1];
  v[1] = rotl(v[1], 13) ^ v[0];
  v[0] = rotl(v[0], 32);
  v[2] += v[3];
  v[3] = rotl(v[3], 16) ^ v[2];
  v[0] += v[3];
  v[3] = rotl(v[3], 21) ^ v[0];
  v[2] += v[1];
  v[1] = rotl(v[1], 17) ^ v[2];
  v[2] = rotl(v[2], 32);
}

static uint64_t hash_of(const mp_shared *table, mp_str key)
{
  uint64_t k0 = table->seed[0], k1 = table->seed[1];
  uint64_t v[4] = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                    k1 ^ 0x7465646279746573u };
  size_t at = 0;
  for (; at + 8 <= key.len; at += 8) {
    uint64_t word;
    memcpy(&word, key.ptr + at, 8);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  uint64_t last = (uint64_t)(key.len & 0xff) << 56;
  if (at < key.len)
    memcpy(&last, key.ptr + at, key.len - at);
  v[3] ^= last;
  sip_round(v);
  v[0] ^= last;
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++)
    sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- shards, under their lock --------------------------------------------------------------------------------------- */

static size_t weight(const entry *e)
{
  return sizeof *e + e->key_len + e->value_len + 2 * sizeof(void *); /* its bucket, and what the heap adds */
}

static entry **slot_of(shard *s, uint64_t hash, mp_str key)
{
  entry **at = &s->buckets[hash & (s->bucket_count - 1)];
  while (*at && !((*at)->hash == hash && mp_str_eq(mp_str_of((*at)->octets, (*at)->key_len), key)))
    at = &(*at)->next;
  return at;
}

static void drop(shard *s, entry **at)
{
  entry *e = *at;
  *at = e->next;
  mp_list_remove(&e->age);
  s->memory -= weight(e);
  s->count--;
  mp_mem_free(e);
}

static void drop_entry(shard *s, entry *e)
{
  entry **at = &s->buckets[e->hash & (s->bucket_count - 1)];
  while (*at != e)
    at = &(*at)->next;
  drop(s, at);
}

/* The entry of `key`, unless its time is over. */
static entry *find(shard *s, uint64_t hash, mp_str key, int64_t now_ms)
{
  entry **at = slot_of(s, hash, key), *e = *at;
  if (!e || e->until_ms > now_ms)
    return e;
  drop(s, at);
  return NULL;
}

/* When there is no memory for more buckets the chains get longer, no more. */
static void grow(shard *s)
{
  size_t wider = s->bucket_count * 2;
  entry **buckets = mp_mem_zalloc(wider * sizeof(entry *));
  if (!buckets)
    return;
  for (size_t i = 0; i < s->bucket_count; i++)
    while (s->buckets[i]) {
      entry *e = s->buckets[i];
      s->buckets[i] = e->next;
      e->next = buckets[e->hash & (wider - 1)];
      buckets[e->hash & (wider - 1)] = e;
    }
  mp_mem_free(s->buckets);
  s->buckets = buckets;
  s->bucket_count = wider;
}

static void make_room(const mp_shared *table, shard *s, size_t octets)
{
  while (!mp_list_empty(&s->age) && (s->count >= table->entries_most || s->memory + octets > table->memory_most))
    drop_entry(s, MP_CONTAINER(s->age.next, entry, age));
}

static void written(shard *s, entry *e)
{
  mp_list_remove(&e->age);
  mp_list_push(&s->age, &e->age);
}

/* A new entry with room for `value_len` octets, in its place; an old one of that key is gone. NULL and *rc when it cannot be had: then the old
 * one stays. */
static entry *insert(mp_shared *table, shard *s, uint64_t hash, mp_str key, size_t value_len, int *rc)
{
  size_t size = sizeof(entry) + key.len + value_len;
  *rc = MP_E_FULL;
  if (size > table->memory_most / LARGE)
    return NULL;
  *rc = MP_E_NOMEM;
  entry *e = mp_mem_alloc(size);
  if (!e)
    return NULL;
  *e = (entry){ .hash = hash, .key_len = (uint32_t)key.len, .value_len = (uint32_t)value_len, .until_ms = INT64_MAX };
  mp_list_init(&e->age);
  memcpy(e->octets, key.ptr, key.len);
  entry **old = slot_of(s, hash, key);
  if (*old)
    drop(s, old);
  make_room(table, s, weight(e));
  if (s->count >= s->bucket_count)
    grow(s);
  entry **at = &s->buckets[hash & (s->bucket_count - 1)];
  e->next = *at;
  *at = e;
  mp_list_push(&s->age, &e->age);
  s->memory += weight(e);
  s->count++;
  *rc = 0;
  return e;
}

static int64_t until_of(int64_t ttl_ms, int64_t now_ms)
{
  return ttl_ms > 0 ? now_ms + ttl_ms : INT64_MAX;
}

static int store(mp_shared *table, shard *s, uint64_t hash, mp_str key, const mp_shared_value *value,
                 int64_t until_ms)
{
  int rc;
  entry *e = insert(table, s, hash, key, value->kind == MP_SHARED_STR ? value->s.len : 0, &rc);
  if (!e)
    return rc;
  e->kind = (uint8_t)value->kind;
  e->until_ms = until_ms;
  if (value->kind == MP_SHARED_BOOL)
    e->is.b = value->b;
  else if (value->kind == MP_SHARED_INT)
    e->is.i = value->i;
  else if (value->kind == MP_SHARED_NUM)
    e->is.n = value->n;
  else if (value->s.len > 0)
    memcpy(e->octets + key.len, value->s.ptr, value->s.len);
  return 0;
}

/* ---- tables --------------------------------------------------------------------------------------------------------- */

static void table_free(mp_shared *table)
{
  char *name = (char *)(uintptr_t)table->name.ptr;
  mp_mem_free(name);
  for (unsigned i = 0; i < table->shards; i++) {
    shard *s = &table->shard[i];
    while (s->buckets && !mp_list_empty(&s->age))
      drop_entry(s, MP_CONTAINER(s->age.next, entry, age));
    mp_mem_free(s->buckets);
    pthread_mutex_destroy(&s->lock);
  }
  mp_mem_free(table);
}

static mp_shared *table_new(mp_str name, size_t memory, size_t entries)
{
  mp_shared *table = mp_mem_zalloc(sizeof *table);
  if (!table)
    return NULL;
  if (entries == 0)
    entries = MP_SHARED_ENTRIES;
  if (memory == 0)
    memory = MP_SHARED_MEMORY;
  if (memory < MEMORY_LEAST)
    memory = MEMORY_LEAST;
  table->shards = entries >= SHARE_FROM && memory / SHARDS_MOST >= MEMORY_LEAST ? SHARDS_MOST : 1;
  table->memory_most = memory / table->shards;
  table->entries_most = (entries + table->shards - 1) / table->shards;
  bool ok = getrandom(table->seed, sizeof table->seed, 0) == sizeof table->seed;
  table->name = mp_str_of(mp_mem_dup(name.ptr, name.len), name.len);
  for (unsigned i = 0; i < table->shards; i++) {
    shard *s = &table->shard[i];
    pthread_mutex_init(&s->lock, NULL);
    mp_list_init(&s->age);
    s->bucket_count = BUCKETS_LEAST;
    s->buckets = mp_mem_zalloc(BUCKETS_LEAST * sizeof *s->buckets);
    ok = ok && s->buckets;
  }
  if (ok && table->name.ptr)
    return table;
  table_free(table);
  return NULL;
}

int mp_shared_set_new(mp_shared_set **out)
{
  mp_shared_set *set = mp_mem_zalloc(sizeof *set);
  if (!set)
    return MP_E_NOMEM;
  atomic_init(&set->refs, 1);
  pthread_mutex_init(&set->lock, NULL);
  *out = set;
  return 0;
}

mp_shared_set *mp_shared_set_ref(mp_shared_set *set)
{
  atomic_fetch_add(&set->refs, 1);
  return set;
}

void mp_shared_set_unref(mp_shared_set *set)
{
  if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
    return;
  while (set->tables) {
    mp_shared *table = set->tables;
    set->tables = table->next;
    table_free(table);
  }
  pthread_mutex_destroy(&set->lock);
  mp_mem_free(set);
}

int mp_shared_open(mp_shared_set *set, mp_str name, size_t memory, size_t entries, mp_shared **out)
{
  if (name.len == 0 || name.len > MP_SHARED_NAME_MOST)
    return MP_E_INVALID;
  pthread_mutex_lock(&set->lock);
  mp_shared *table = set->tables;
  while (table && !mp_str_eq(table->name, name))
    table = table->next;
  if (!table && (table = table_new(name, memory, entries))) {
    table->next = set->tables;
    set->tables = table;
  }
  pthread_mutex_unlock(&set->lock);
  *out = table;
  return table ? 0 : MP_E_NOMEM;
}

/* ---- what is asked of them ------------------------------------------------------------------------------------------ */

/* Locks the shard of `key`; NULL when it can be no key. */
static shard *enter(mp_shared *table, mp_str key, uint64_t *hash)
{
  if (key.len > MP_SHARED_KEY_MOST)
    return NULL;
  *hash = hash_of(table, key);
  shard *s = &table->shard[(*hash >> 60) % table->shards];
  pthread_mutex_lock(&s->lock);
  return s;
}

static int leave(shard *s, int rc)
{
  pthread_mutex_unlock(&s->lock);
  return rc;
}

size_t mp_shared_get(mp_shared *table, mp_str key, int64_t now_ms, mp_shared_value *value, char *room, size_t size)
{
  uint64_t hash;
  size_t whole = 0;
  *value = (mp_shared_value){ .kind = MP_SHARED_NONE };
  shard *s = enter(table, key, &hash);
  if (!s)
    return 0;
  const entry *e = find(s, hash, key, now_ms);
  if (e && e->kind != MP_SHARED_RATE) {
    value->kind = (mp_shared_kind)e->kind;
    if (value->kind == MP_SHARED_BOOL)
      value->b = e->is.b;
    else if (value->kind == MP_SHARED_INT)
      value->i = e->is.i;
    else if (value->kind == MP_SHARED_NUM)
      value->n = e->is.n;
    else {
      whole = e->value_len;
      value->s = mp_str_of(room, whole < size ? whole : size);
      if (value->s.len > 0)
        memcpy(room, e->octets + e->key_len, value->s.len);
    }
  }
  leave(s, 0);
  return whole;
}

int mp_shared_put(mp_shared *table, mp_str key, const mp_shared_value *value, int64_t ttl_ms, int64_t now_ms)
{
  uint64_t hash;
  shard *s = enter(table, key, &hash);
  return s ? leave(s, store(table, s, hash, key, value, until_of(ttl_ms, now_ms))) : MP_E_INVALID;
}

int mp_shared_add(mp_shared *table, mp_str key, const mp_shared_value *value, int64_t ttl_ms, int64_t now_ms)
{
  uint64_t hash;
  shard *s = enter(table, key, &hash);
  if (!s)
    return MP_E_INVALID;
  if (find(s, hash, key, now_ms))
    return leave(s, 0);
  int rc = store(table, s, hash, key, value, until_of(ttl_ms, now_ms));
  return leave(s, rc < 0 ? rc : 1);
}

static int sum_up(const entry *e, const mp_shared_value *by, mp_shared_value *sum)
{
  bool whole = e->kind == MP_SHARED_INT;
  if (!whole && e->kind != MP_SHARED_NUM)
    return MP_E_INVALID;
  if (whole && by->kind == MP_SHARED_INT) {
    sum->kind = MP_SHARED_INT;
    return __builtin_add_overflow(e->is.i, by->i, &sum->i) ? MP_E_INVALID : 0;
  }
  sum->kind = MP_SHARED_NUM;
  sum->n = (whole ? (double)e->is.i : e->is.n) + (by->kind == MP_SHARED_INT ? (double)by->i : by->n);
  return 0;
}

int mp_shared_incr(mp_shared *table, mp_str key, const mp_shared_value *by, int64_t ttl_ms, int64_t now_ms,
                   mp_shared_value *sum)
{
  uint64_t hash;
  shard *s = enter(table, key, &hash);
  if (!s)
    return MP_E_INVALID;
  *sum = *by;
  entry *e = find(s, hash, key, now_ms);
  if (!e)
    return leave(s, store(table, s, hash, key, by, until_of(ttl_ms, now_ms)));
  int rc = sum_up(e, by, sum);
  if (rc < 0)
    return leave(s, rc);
  e->kind = (uint8_t)sum->kind;
  if (sum->kind == MP_SHARED_INT)
    e->is.i = sum->i;
  else
    e->is.n = sum->n;
  written(s, e);
  return leave(s, 0);
}

/* One number per bucket: the moment at which it is full again. What is taken pushes that moment away by its price in time; there is enough
 * while the moment stays within a period. */
int mp_shared_rate(mp_shared *table, mp_str key, uint64_t count, int64_t period_ms, uint64_t cost,
                   int64_t now_ms, int64_t *wait_ms)
{
  int64_t period, price, now_ns;
  *wait_ms = 0;
  if (count == 0 || cost == 0 || cost > count || period_ms <= 0 ||
      __builtin_mul_overflow(period_ms, 1000000, &period) ||
      __builtin_mul_overflow(now_ms, 1000000, &now_ns) || count > (uint64_t)period)
    return MP_E_INVALID;
  /* Rounded down, so that a full bucket holds no less than `count`; the product is exact enough in a double's 53 bits. */
  price = (int64_t)((double)period / (double)count * (double)cost);
  uint64_t hash;
  shard *s = enter(table, key, &hash);
  if (!s)
    return MP_E_INVALID;
  entry *e = find(s, hash, key, now_ms);
  int64_t full = e && e->kind == MP_SHARED_RATE && e->is.full_ns > now_ns ? e->is.full_ns : now_ns;
  int64_t then = full + price;
  if (then - now_ns > period) {
    *wait_ms = (then - now_ns - period + 999999) / 1000000;
    return leave(s, 0);
  }
  int rc = 0;
  if (!e || e->kind != MP_SHARED_RATE)
    e = insert(table, s, hash, key, 0, &rc);
  if (!e)
    return leave(s, rc);
  e->kind = MP_SHARED_RATE;
  e->is.full_ns = then;
  e->until_ms = then / 1000000 + 1; /* a full bucket is the same as none */
  written(s, e);
  return leave(s, 1);
}

bool mp_shared_delete(mp_shared *table, mp_str key, int64_t now_ms)
{
  uint64_t hash;
  shard *s = enter(table, key, &hash);
  if (!s)
    return false;
  entry *e = find(s, hash, key, now_ms);
  if (e)
    drop_entry(s, e);
  return leave(s, e != NULL);
}

size_t mp_shared_count(mp_shared *table, int64_t now_ms)
{
  size_t count = 0;
  for (unsigned i = 0; i < table->shards; i++) {
    shard *s = &table->shard[i];
    pthread_mutex_lock(&s->lock);
    for (mp_list *node = s->age.next, *next; node != &s->age; node = next) {
      next = node->next;
      entry *e = MP_CONTAINER(node, entry, age);
      if (e->until_ms <= now_ms)
        drop_entry(s, e);
    }
    count += s->count;
    pthread_mutex_unlock(&s->lock);
  }
  return count;
}

void mp_shared_clear(mp_shared *table)
{
  for (unsigned i = 0; i < table->shards; i++) {
    shard *s = &table->shard[i];
    pthread_mutex_lock(&s->lock);
    while (!mp_list_empty(&s->age))
      drop_entry(s, MP_CONTAINER(s->age.next, entry, age));
    pthread_mutex_unlock(&s->lock);
  }
}
