#include "conn/gate.h"

#include "base/error.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct entry {
  struct entry *next;
  mp_ip key;
  unsigned count;
} entry;

enum { BUCKETS = 1024 };

struct mp_gate {
  atomic_uint refs;
  pthread_mutex_t lock;
  unsigned count;
  uint64_t seed;
  mp_pool entries;
  entry *buckets[BUCKETS];
};

int mp_gate_new(mp_gate **out)
{
  mp_gate *gate = mp_mem_zalloc(sizeof *gate);
  if (!gate)
    return MP_E_NOMEM;
  atomic_init(&gate->refs, 1);
  pthread_mutex_init(&gate->lock, NULL);
  mp_pool_init(&gate->entries, sizeof(entry), 1024);
  /* The address of a fresh block is as unguessable as the address space; enough to spoil chosen collisions. */
  gate->seed = (uint64_t)(uintptr_t)gate * 0x9e3779b97f4a7c15u;
  *out = gate;
  return 0;
}

mp_gate *mp_gate_ref(mp_gate *gate)
{
  atomic_fetch_add(&gate->refs, 1);
  return gate;
}

void mp_gate_unref(mp_gate *gate)
{
  if (!gate || atomic_fetch_sub(&gate->refs, 1) != 1)
    return;
  for (size_t i = 0; i < BUCKETS; i++)
    while (gate->buckets[i]) {
      entry *e = gate->buckets[i];
      gate->buckets[i] = e->next;
      mp_mem_free(e);
    }
  mp_pool_dispose(&gate->entries);
  pthread_mutex_destroy(&gate->lock);
  mp_mem_free(gate);
}

static mp_ip key_of(const mp_ip *ip)
{
  mp_ip key = *ip;
  if (!mp_ip_is4(ip))
    memset(key.octets + 8, 0, 8);
  return key;
}

static entry **find(mp_gate *gate, const mp_ip *key)
{
  uint64_t a, b;
  memcpy(&a, key->octets, 8);
  memcpy(&b, key->octets + 8, 8);
  uint64_t h = (a ^ gate->seed) * 0x9e3779b97f4a7c15u ^ b;
  h *= 0xbf58476d1ce4e5b9u;
  entry **at = &gate->buckets[h >> 54];
  while (*at && memcmp((*at)->key.octets, key->octets, sizeof key->octets) != 0)
    at = &(*at)->next;
  return at;
}

mp_gate_answer mp_gate_enter(mp_gate *gate, const mp_ip *ip, unsigned most, unsigned each)
{
  mp_ip key = key_of(ip);
  mp_gate_answer answer = MP_GATE_OPEN;
  pthread_mutex_lock(&gate->lock);
  entry **at = find(gate, &key);
  if (most && gate->count >= most) {
    answer = MP_GATE_FULL;
  } else if (each && *at && (*at)->count >= each) {
    answer = MP_GATE_ADDRESS;
  } else {
    entry *e = *at;
    if (!e && (e = mp_pool_take(&gate->entries))) {
      *e = (entry){ .key = key };
      *at = e;
    }
    if (e) {
      e->count++;
      gate->count++;
    } else {
      answer = MP_GATE_NOMEM;
    }
  }
  pthread_mutex_unlock(&gate->lock);
  return answer;
}

void mp_gate_leave(mp_gate *gate, const mp_ip *ip)
{
  mp_ip key = key_of(ip);
  pthread_mutex_lock(&gate->lock);
  entry **at = find(gate, &key);
  if (*at) {
    entry *e = *at;
    gate->count--;
    if (--e->count == 0) {
      *at = e->next;
      mp_pool_give(&gate->entries, e);
    }
  }
  pthread_mutex_unlock(&gate->lock);
}

unsigned mp_gate_count(mp_gate *gate)
{
  pthread_mutex_lock(&gate->lock);
  unsigned count = gate->count;
  pthread_mutex_unlock(&gate->lock);
  return count;
}
