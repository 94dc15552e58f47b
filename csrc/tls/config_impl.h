/* tls/config_impl.h -- what a configuration holds, for the files of this folder. All of it is set before the first session and only
 * read afterwards, so sessions of any thread use it without a lock. */
#ifndef MP_TLS_CONFIG_IMPL_H
#define MP_TLS_CONFIG_IMPL_H

#include "tls/sni.h"
#include "tls/ticket.h"
#include "tls/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct mp_tls_config {
  atomic_uint refs;
  BIO_METHOD *bio; /* of every session's two ends (session.c) */
  SSL_CTX **ctxs;  /* one per certificate; two of different key types for the same names share one */
  size_t ctx_count;
  mp_tls_names names;      /* SNI -> index in ctxs */
  mp_tls_tickets *tickets; /* NULL: none are given */
};

/* The BIO of a session: made here once per configuration because OpenSSL wants a method object. NULL when out of memory. */
BIO_METHOD *mp_tls_bio_method(void);

#endif
