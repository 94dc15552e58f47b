#include "tls/resume.h"

#include "base/mem.h"

#include <pthread.h>
#include <time.h>

typedef struct entry { /* empty while `octets` is NULL */
  mp_tls_resume_key key;
  unsigned char *octets; /* the session in DER; it holds a secret */
  size_t len;
  uint64_t used; /* what the store's counter said */
  mp_tls_verdict verdict;
} entry;

struct mp_tls_resume {
  pthread_mutex_t lock; /* of all below */
  uint64_t counter;
  size_t most;
  entry list[];
};

int64_t mp_tls_resume_now(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts); /* goes on while the machine sleeps: certificates run out then too */
  return (int64_t)ts.tv_sec;
}

void mp_tls_verdict_dispose(mp_tls_verdict *verdict)
{
  mp_mem_free(verdict->why_not);
  *verdict = (mp_tls_verdict){ 0 };
}

static bool copy_verdict(mp_tls_verdict *to, const mp_tls_verdict *from)
{
  *to = *from;
  if (from->why_not)
    to->why_not = mp_mem_dup(from->why_not, strlen(from->why_not));
  return !from->why_not || to->why_not;
}

static void empty(entry *e)
{
  if (e->octets)
    mp_mem_wipe(e->octets, e->len);
  mp_mem_free(e->octets);
  mp_tls_verdict_dispose(&e->verdict);
  *e = (entry){ .octets = NULL };
}

mp_tls_resume *mp_tls_resume_new(size_t most)
{
  mp_tls_resume *store = mp_mem_zalloc(sizeof *store + most * sizeof store->list[0]);
  if (!store)
    return NULL;
  if (pthread_mutex_init(&store->lock, NULL) != 0) {
    mp_mem_free(store);
    return NULL;
  }
  store->most = most;
  return store;
}

void mp_tls_resume_free(mp_tls_resume *store)
{
  if (!store)
    return;
  for (size_t i = 0; i < store->most; i++)
    empty(&store->list[i]);
  pthread_mutex_destroy(&store->lock);
  mp_mem_free(store);
}

/* A walk over a few thousand digests costs microseconds, a thousandth of the handshake it is for. */
static entry *find(mp_tls_resume *store, const mp_tls_resume_key *key)
{
  for (size_t i = 0; i < store->most; i++) {
    if (store->list[i].octets && memcmp(&store->list[i].key, key, sizeof *key) == 0)
      return &store->list[i];
  }
  return NULL;
}

/* An empty place, or the one that was not used for longest. */
static entry *make_place(mp_tls_resume *store)
{
  entry *oldest = &store->list[0];
  for (size_t i = 0; i < store->most && oldest->octets; i++) {
    if (!store->list[i].octets || store->list[i].used < oldest->used)
      oldest = &store->list[i];
  }
  empty(oldest);
  return oldest;
}

static unsigned char *encode(SSL_SESSION *session, size_t *len)
{
  int need = i2d_SSL_SESSION(session, NULL);
  if (need <= 0 || need > MP_TLS_RESUME_LARGEST)
    return NULL;
  unsigned char *octets = mp_mem_alloc((size_t)need), *end = octets;
  if (!octets)
    return NULL;
  *len = (size_t)need;
  if (i2d_SSL_SESSION(session, &end) == need)
    return octets;
  mp_mem_wipe(octets, *len);
  mp_mem_free(octets);
  return NULL;
}

static bool too_old(const mp_tls_verdict *verdict, int64_t now_s)
{
  return now_s - verdict->at_s >= MP_TLS_RESUME_LIFE_S;
}

void mp_tls_resume_put(mp_tls_resume *store, const mp_tls_resume_key *key, SSL_SESSION *session,
                       const mp_tls_verdict *verdict, int64_t now_s)
{
  entry fresh = { .key = *key };
  fresh.octets = too_old(verdict, now_s) ? NULL : encode(session, &fresh.len);
  if (!fresh.octets || !copy_verdict(&fresh.verdict, verdict)) {
    empty(&fresh);
    return;
  }
  pthread_mutex_lock(&store->lock);
  entry *place = find(store, key);
  if (place)
    empty(place);
  else
    place = make_place(store);
  fresh.used = ++store->counter;
  *place = fresh;
  pthread_mutex_unlock(&store->lock);
}

/* With the lock held. */
static SSL_SESSION *take(mp_tls_resume *store, const mp_tls_resume_key *key, mp_tls_verdict *verdict, int64_t now_s)
{
  entry *e = find(store, key);
  if (!e)
    return NULL;
  const unsigned char *at = e->octets;
  SSL_SESSION *session = too_old(&e->verdict, now_s) ? NULL : d2i_SSL_SESSION(NULL, &at, (long)e->len);
  if (session && !copy_verdict(verdict, &e->verdict)) {
    SSL_SESSION_free(session);
    session = NULL;
  }
  if (!session || SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
    empty(e); /* a ticket is no secret on the wire */
  else
    e->used = ++store->counter;
  return session;
}

SSL_SESSION *mp_tls_resume_take(mp_tls_resume *store, const mp_tls_resume_key *key, mp_tls_verdict *verdict,
                                int64_t now_s)
{
  *verdict = (mp_tls_verdict){ 0 };
  pthread_mutex_lock(&store->lock);
  SSL_SESSION *session = take(store, key, verdict, now_s);
  pthread_mutex_unlock(&store->lock);
  return session;
}

void mp_tls_resume_drop(mp_tls_resume *store, const mp_tls_resume_key *key)
{
  pthread_mutex_lock(&store->lock);
  entry *e = find(store, key);
  if (e)
    empty(e);
  pthread_mutex_unlock(&store->lock);
}
