/* tls/sni.h -- host names and which certificate each belongs to (RFC 6066 section 3, RFC 6125 section 6.4). */
#ifndef MP_TLS_SNI_H
#define MP_TLS_SNI_H

#include "base/str.h"

typedef struct mp_tls_names {
  struct mp_tls_name *list; /* sorted by mp_tls_names_done */
  size_t count, cap;
} mp_tls_names;

void mp_tls_names_dispose(mp_tls_names *names);

/* Adds `name` (copied, in lower case) for certificate number `target`. What is neither a host name nor "*." before one is passed over.
 * Returns 0 or MP_E_NOMEM. */
int mp_tls_names_add(mp_tls_names *names, mp_str name, size_t target);

/* Adds a copy of each of `own` for `target`. 0 or MP_E_NOMEM. */
int mp_tls_names_join(mp_tls_names *names, const mp_tls_names *own, size_t target);

/* True when `target` has exactly the names `own` (without doubles) among `names`. */
bool mp_tls_names_same(const mp_tls_names *own, const mp_tls_names *names, size_t target);

/* Sorts; of two equal names the one that came first stays. */
void mp_tls_names_done(mp_tls_names *names);

/* The certificate for `host`: its exact name, else a wildcard in place of its first label; -1 when none fits. A dot at the end does
 * not matter. */
mp_ssize mp_tls_names_find(const mp_tls_names *names, mp_str host);

/* Letters, digits, '-', '_' in labels of 1 to 63, 253 octets in all, perhaps with a dot at the end. */
bool mp_tls_hostname(mp_str host);

/* The same, or "*." in front of such a name. */
bool mp_tls_name_fits(mp_str name);

#endif
