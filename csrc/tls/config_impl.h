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

/* Shared with the side that connects (client_config.c). Each returns 0, or an error with `why`. */
int mp_tls_version_check(int least, char *why, size_t room);
int mp_tls_ciphers_set(SSL_CTX *ctx, const char *list, const char *suites, char *why,
                       size_t room); /* `suites` may be NULL */
int mp_tls_store_load(X509_STORE *store, STACK_OF(X509) * cas, const char *path, char *why, size_t room);

/* The BIO of a session: made here once per configuration because OpenSSL wants a method object. NULL when out of memory. */
BIO_METHOD *mp_tls_bio_method(void);

#endif
