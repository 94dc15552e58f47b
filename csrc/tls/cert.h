/* tls/cert.h -- certificates and keys out of PEM files, with errors that name the file and the reason. */
#ifndef MP_TLS_CERT_H
#define MP_TLS_CERT_H

#include "base/buf.h"
#include "tls/sni.h"

#include <openssl/x509.h>

typedef struct mp_tls_pair {
  X509 *leaf;
  STACK_OF(X509) * chain; /* what stands behind the leaf in the file, perhaps empty */
  EVP_PKEY *key;
} mp_tls_pair;

/* Appends a file of at most the buffer's ceiling. Returns 0 or MP_E_NOTFOUND, MP_E_DENIED, MP_E_SYSTEM, MP_E_FULL, MP_E_NOMEM with
 * `why`. What was read may be a secret: the caller wipes it (mp_tls_file_drop). */
int mp_tls_file(mp_buf *out, const char *path, char *why, size_t room);
void mp_tls_file_drop(mp_buf *buf);

/* Reads a chain (leaf first) and the leaf's key; `key_path` NULL: from the same file. Returns 0, MP_E_TLS, or as mp_tls_file.
 * An expired certificate, or one that is not valid yet, is told in `why` with return 0; otherwise `why` is left alone. */
int mp_tls_pair_load(mp_tls_pair *pair, const char *cert_path, const char *key_path, char *why, size_t room);
void mp_tls_pair_dispose(mp_tls_pair *pair);

/* A private key alone; the same returns. */
int mp_tls_key_load(EVP_PKEY **key, const char *path, char *why, size_t room);

/* The certificates of a file, or of all files of a folder, appended to `list`. A file without one is an error, but not in a folder
 * as long as another file has some. */
int mp_tls_ca_load(STACK_OF(X509) * list, const char *path, char *why, size_t room);

/* Adds the certificate's DNS names, or, where it has none, its common name. 0 or MP_E_NOMEM. */
int mp_tls_pair_names(mp_tls_names *names, const X509 *leaf, size_t target);

#endif
