/* tls/client_impl.h -- what a client session holds besides, for the files of this folder and the test of the chain's verification. */
#ifndef MP_TLS_CLIENT_IMPL_H
#define MP_TLS_CLIENT_IMPL_H

#include "tls/client.h"
#include "tls/resume.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct mp_tls_client_config { /* all but the store is only read after it was made */
  atomic_uint refs;
  BIO_METHOD *bio;
  SSL_CTX *ctx;
  mp_tls_resume *sessions; /* NULL: none are kept; has a lock of its own */
  int level;               /* OpenSSL's security level for what is verified */
};

typedef struct mp_tls_client {
  mp_tls_client_config *config;
  mp_tls_trust trust;
  char *names; /* each with its NUL, one behind the other; NULL after the handshake */
  size_t name_count;
  mp_tls_pin *pins; /* NULL after the handshake */
  size_t pin_count;
  bool judged;  /* the verdict is there */
  bool refused; /* and ends the handshake */
  bool starved; /* no memory to judge with */
  bool keyed;   /* sessions are kept, under `key` */
  bool offered; /* one was offered to the server; then `earlier` is its verdict */
  mp_tls_resume_key key;
  mp_tls_verdict verdict, earlier;
} mp_tls_client;

void mp_tls_client_free(mp_tls_client *client); /* NULL does nothing */

/* Looks at the server's chain: a callback of OpenSSL's for SSL_CTX_set_cert_verify_callback (verify.c). */
int mp_tls_client_verify(X509_STORE_CTX *store, void *unused);

/* Keeps a session: a callback for SSL_CTX_sess_set_new_cb. */
int mp_tls_client_keep(SSL *ssl, SSL_SESSION *session);

/* The session failed, and is not offered again. Returns whether the certificate is why: MP_E_CRYPTO refused, MP_E_NOMEM, or 0. */
int mp_tls_client_failed(const mp_tls_client *client);
const char *mp_tls_client_why(const mp_tls_client *client);

/* The handshake is over. 0, or MP_E_CRYPTO where nobody has shown a certificate, or MP_E_NOMEM. */
int mp_tls_client_done(mp_tls *tls);

#endif
