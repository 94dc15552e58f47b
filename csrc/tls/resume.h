/* tls/resume.h -- sessions that a client can go on with, and what was found out when they were made. A bounded store with a lock: the
 * longest unused gives way. Sessions are kept as octets, so no two connections share an object of OpenSSL's. */
#ifndef MP_TLS_RESUME_H
#define MP_TLS_RESUME_H

#include "base/str.h"

#include <openssl/ssl.h>

typedef struct mp_tls_resume mp_tls_resume;

enum {
  MP_TLS_RESUME_LIFE_S = 2 * 3600, /* since the certificate was last looked at, however often resumed since */
  MP_TLS_RESUME_LARGEST = 16 << 10 /* octets of a session, most of them the certificate; a larger one is not kept */
};

typedef struct mp_tls_resume_key { /* a digest of where and under which terms */
  unsigned char octets[32];
} mp_tls_resume_key;

typedef enum mp_tls_how {
  MP_TLS_HOW_NONE,
  MP_TLS_HOW_NAMES,
  MP_TLS_HOW_PIN,
  MP_TLS_HOW_DANE_TA,
  MP_TLS_HOW_DANE_EE
} mp_tls_how;

typedef struct mp_tls_verdict {
  bool verified;
  mp_tls_how how;
  char *why_not; /* heap; NULL when verified */
  int64_t at_s;  /* when the certificate was looked at (mp_tls_resume_now) */
} mp_tls_verdict;

void mp_tls_verdict_dispose(mp_tls_verdict *verdict);

int64_t mp_tls_resume_now(void); /* seconds of a clock that never goes back */

mp_tls_resume *mp_tls_resume_new(size_t most); /* NULL when out of memory */
void mp_tls_resume_free(mp_tls_resume *store); /* secrets are wiped; NULL does nothing */

/* Keeps a copy of the session in place of what was kept under the key. Where that cannot be done nothing is kept. */
void mp_tls_resume_put(mp_tls_resume *store, const mp_tls_resume_key *key, SSL_SESSION *session,
                       const mp_tls_verdict *verdict, int64_t now_s);

/* The session kept under the key, or NULL; its verdict is then the caller's to dispose of. One of TLS 1.2 stays for the next connection; a
 * ticket of TLS 1.3 is used once (RFC 8446 appendix C.4), and servers send another with each handshake. */
SSL_SESSION *mp_tls_resume_take(mp_tls_resume *store, const mp_tls_resume_key *key, mp_tls_verdict *verdict,
                                int64_t now_s);

void mp_tls_resume_drop(mp_tls_resume *store, const mp_tls_resume_key *key);

#endif
