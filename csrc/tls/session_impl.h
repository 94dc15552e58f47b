/* tls/session_impl.h -- what a session holds, for the files of this folder. */
#ifndef MP_TLS_SESSION_IMPL_H
#define MP_TLS_SESSION_IMPL_H

#include "tls/config_impl.h"

struct mp_tls {
  SSL *ssl;
  mp_tls_config *config;
  const char *in; /* the driver's octets, `unread` of them */
  size_t unread;
  mp_buf out;
  char *why;                  /* of the failure; heap */
  struct mp_tls_known *facts; /* made when first asked for (info.c) */
  int failed;                 /* the error that ended the session; nothing is done after it */
  int starved;                /* why the BIO could not take ciphertext: MP_E_NOMEM, MP_E_FULL */
  bool ready, eof, closed;
};

void mp_tls_known_free(struct mp_tls_known *facts); /* NULL does nothing */

#endif
