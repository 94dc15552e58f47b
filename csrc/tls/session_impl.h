/* tls/session_impl.h -- what a session holds, for the files of this folder. */
#ifndef MP_TLS_SESSION_IMPL_H
#define MP_TLS_SESSION_IMPL_H

#include "tls/config_impl.h"

struct mp_tls {
  SSL *ssl;
  mp_tls_config *config;        /* of a server session */
  struct mp_tls_client *client; /* of a client session; else NULL */
  const char *in;               /* the driver's octets, `unread` of them */
  size_t unread;
  mp_buf out;
  char *why;                  /* of the failure; heap */
  struct mp_tls_known *facts; /* made when first asked for (info.c) */
  int failed;                 /* the error that ended the session; nothing is done after it */
  int starved;                /* why the BIO could not take ciphertext: MP_E_NOMEM, MP_E_FULL */
  bool ready, eof, closed;
};

/* What both sides begin with; the SSL object is still of neither. 0 or MP_E_NOMEM. */
int mp_tls_session_new(mp_tls **tls, SSL_CTX *ctx, const BIO_METHOD *method, mp_pool *pool);

void mp_tls_known_free(struct mp_tls_known *facts); /* NULL does nothing */

#endif
