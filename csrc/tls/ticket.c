#include "tls/ticket.h"

#include "base/mem.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct mp_tls_tickets {
  atomic_uint refs;
  pthread_mutex_t lock; /* of all below */
  mp_tls_ticket_key current, previous;
  int64_t born_s;          /* when `current` began to seal */
  int64_t previous_born_s; /* the same of `previous` */
  bool have_current, have_previous;
};

mp_tls_tickets *mp_tls_tickets_new(void)
{
  mp_tls_tickets *tickets = mp_mem_zalloc(sizeof *tickets);
  if (!tickets)
    return NULL;
  if (pthread_mutex_init(&tickets->lock, NULL) != 0) {
    mp_mem_free(tickets);
    return NULL;
  }
  atomic_init(&tickets->refs, 1);
  return tickets;
}

mp_tls_tickets *mp_tls_tickets_ref(mp_tls_tickets *tickets)
{
  atomic_fetch_add_explicit(&tickets->refs, 1, memory_order_relaxed);
  return tickets;
}

void mp_tls_tickets_unref(mp_tls_tickets *tickets)
{
  if (!tickets || atomic_fetch_sub_explicit(&tickets->refs, 1, memory_order_acq_rel) != 1)
    return;
  pthread_mutex_destroy(&tickets->lock);
  mp_mem_wipe(tickets, sizeof *tickets);
  mp_mem_free(tickets);
}

/* Forgets what has had its time. A key seals for one period and opens for one more. */
static void expire(mp_tls_tickets *tickets, int64_t now_s)
{
  if (tickets->have_current && now_s - tickets->born_s >= 2 * MP_TLS_TICKET_ROTATE_S) {
    mp_mem_wipe(&tickets->current, sizeof tickets->current);
    tickets->have_current = false;
  }
  if (tickets->have_previous && now_s - tickets->previous_born_s >= 2 * MP_TLS_TICKET_ROTATE_S) {
    mp_mem_wipe(&tickets->previous, sizeof tickets->previous);
    tickets->have_previous = false;
  }
}

static bool rotate(mp_tls_tickets *tickets, int64_t now_s)
{
  mp_tls_ticket_key fresh;
  if (RAND_bytes(fresh.name, sizeof fresh.name) != 1 || RAND_priv_bytes(fresh.aes, sizeof fresh.aes) != 1 ||
      RAND_priv_bytes(fresh.hmac, sizeof fresh.hmac) != 1) {
    mp_mem_wipe(&fresh, sizeof fresh);
    return false;
  }
  if (tickets->have_current) {
    tickets->previous = tickets->current;
    tickets->previous_born_s = tickets->born_s;
    tickets->have_previous = true;
  }
  tickets->current = fresh;
  tickets->have_current = true;
  tickets->born_s = now_s;
  mp_mem_wipe(&fresh, sizeof fresh);
  return true;
}

bool mp_tls_tickets_seal(mp_tls_tickets *tickets, int64_t now_s, mp_tls_ticket_key *key)
{
  pthread_mutex_lock(&tickets->lock);
  expire(tickets, now_s);
  bool ok = tickets->have_current && now_s - tickets->born_s < MP_TLS_TICKET_ROTATE_S;
  if (!ok)
    ok = rotate(tickets, now_s);
  if (ok)
    *key = tickets->current;
  pthread_mutex_unlock(&tickets->lock);
  return ok;
}

int mp_tls_tickets_open(mp_tls_tickets *tickets, int64_t now_s, const unsigned char name[16],
                        mp_tls_ticket_key *key)
{
  int found = 0;
  pthread_mutex_lock(&tickets->lock);
  expire(tickets, now_s);
  if (tickets->have_current && memcmp(name, tickets->current.name, sizeof tickets->current.name) == 0) {
    *key = tickets->current;
    found = now_s - tickets->born_s < MP_TLS_TICKET_ROTATE_S ? 1 : 2;
  } else if (tickets->have_previous && memcmp(name, tickets->previous.name, sizeof tickets->previous.name) == 0) {
    *key = tickets->previous;
    found = 2;
  }
  pthread_mutex_unlock(&tickets->lock);
  return found;
}
