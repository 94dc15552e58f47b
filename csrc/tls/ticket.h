/* tls/ticket.h -- the keys that session tickets are sealed with (RFC 5077 section 4, RFC 8446 section 4.6.1): one to seal, and the one
 * before it, still good for opening. They belong to a counted store, so that the configurations before and behind a reload share them;
 * any thread may ask. */
#ifndef MP_TLS_TICKET_H
#define MP_TLS_TICKET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mp_tls_tickets mp_tls_tickets;

/* A key seals for half a day and opens for another half, so no ticket is worth anything after a day, and a key that is stolen
 * opens (forward secrecy apart) no more than that. */
enum { MP_TLS_TICKET_ROTATE_S = 12 * 3600 };

typedef struct mp_tls_ticket_key {
  unsigned char name[16], aes[32], hmac[32];
} mp_tls_ticket_key;

mp_tls_tickets *mp_tls_tickets_new(void); /* one reference; NULL when out of memory */
mp_tls_tickets *mp_tls_tickets_ref(mp_tls_tickets *tickets);
void mp_tls_tickets_unref(mp_tls_tickets *tickets); /* keys are wiped; NULL does nothing */

/* The key that seals at `now_s` (any monotonic clock, in seconds), made or rotated when it is time. False when the random source
 * failed. The caller wipes the copy. */
bool mp_tls_tickets_seal(mp_tls_tickets *tickets, int64_t now_s, mp_tls_ticket_key *key);

/* The key called `name`: 1 it still seals, 2 it only opens (the client is due a fresh ticket), 0 unknown or too old. */
int mp_tls_tickets_open(mp_tls_tickets *tickets, int64_t now_s, const unsigned char name[16],
                        mp_tls_ticket_key *key);

#endif
