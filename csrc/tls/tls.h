/* tls/tls.h -- TLS contexts and sessions over OpenSSL, without a descriptor: ciphertext in, plaintext out, and the other way round. */
#ifndef MP_TLS_TLS_H
#define MP_TLS_TLS_H

#include "base/buf.h"

typedef struct mp_tls_config mp_tls_config; /* certificates, SNI, versions; counted, so that a reload leaves open sessions alone */
typedef struct mp_tls mp_tls; /* one session */

typedef enum mp_tls_verify { MP_TLS_VERIFY_OFF, MP_TLS_VERIFY_ASK, MP_TLS_VERIFY_REQUIRE } mp_tls_verify;

typedef struct mp_tls_cert { /* file names, PEM; borrowed during mp_tls_config_new */
  const char *certificate;   /* chain, leaf first */
  const char *key;           /* NULL: in the certificate's file */
  const char *name; /* SNI host name this pair serves ("*.example.org" for one label); NULL: the names in the certificate */
} mp_tls_cert;

typedef struct mp_tls_opts {
  const mp_tls_cert *certs; /* the first is the default when SNI names none of them */
  size_t cert_count;
  int min_version;          /* 0x0303 (default when 0) or 0x0304; 0x0301, 0x0302 when a script insists */
  const char *ciphers;      /* TLS 1.2 list; NULL: forward-secret only, AEAD first (config.c) */
  const char *ciphersuites; /* TLS 1.3; NULL: OpenSSL's */
  mp_tls_verify client;     /* certificates asked of clients */
  const char *client_ca;    /* file or folder of CAs for them; needed unless OFF */
  bool no_tickets;
} mp_tls_opts;

/* Builds a server configuration with one reference. Returns 0, MP_E_INVALID for what is wrong with the options, MP_E_TLS for what is
 * wrong inside a file, MP_E_NOTFOUND, MP_E_DENIED, MP_E_SYSTEM, MP_E_FULL (over 4 MB) for one that cannot be read, or MP_E_NOMEM, with
 * one line in `why` that names the file and the reason ("mx.pem: no such file or directory", "mx.key does not belong to mx.pem"). A
 * warning that does not stop ("old.pem expired 2024-01-01") is written to `why` with return 0; else `why` is then empty.
 * Two pairs for the same names with keys of different types (RSA, ECDSA) serve each client the one it can use.
 * Configurations may be shared by threads. */
int mp_tls_config_new(mp_tls_config **config, const mp_tls_opts *opts, char *why, size_t room);
mp_tls_config *mp_tls_config_ref(mp_tls_config *config);
void mp_tls_config_unref(mp_tls_config *config); /* NULL does nothing */

/* Ticket keys of `from` go on in `to`, so that clients resume across a reload (unless how clients are verified has changed). To be
 * called before the first session of `to`. Keys are rotated every 12 hours and gone after 24. */
void mp_tls_config_inherit(mp_tls_config *to, mp_tls_config *from);

/* Makes a self-signed development certificate (P-256, for `hostname`, localhost, 127.0.0.1 and ::1; 825 days) and its key at the two
 * paths unless both are there already (mode 0600 for the key, folders made). Nothing that is there is replaced: a key alone is used,
 * a certificate alone is MP_E_EXISTS. Returns 0 (nothing done), 1 (made), or an error with `why`. `hostname` may be NULL. */
int mp_tls_selfsigned(const char *cert_path, const char *key_path, const char *hostname, char *why, size_t room);

/* A server session; `pool` (may be NULL) serves its ciphertext buffer. 0 or MP_E_NOMEM. */
int mp_tls_accept(mp_tls **tls, mp_tls_config *config, mp_pool *pool);
void mp_tls_free(mp_tls *tls); /* NULL does nothing */

/* Gives ciphertext from the peer in place of what was fed before: octets that are still unread are given again in front. Borrowed, not
 * copied: they must stay until the next mp_tls_feed or until mp_tls_unread() says 0. Nothing is taken after close_notify or a failure. */
void mp_tls_feed(mp_tls *tls, const void *in, size_t len);
size_t mp_tls_unread(const mp_tls *tls); /* octets fed and not yet taken by the session; the driver keeps those */

/* Goes on with the handshake. 1 done, 0 needs more ciphertext, MP_E_TLS failed (mp_tls_why; an alert may stand in the output),
 * MP_E_CRYPTO a server's certificate was refused (tls/client.h), MP_E_NOMEM. A failure of any call ends the session: later calls return the same. */
int mp_tls_handshake(mp_tls *tls);
bool mp_tls_ready(const mp_tls *tls); /* the handshake is done; stays true when the session fails later */

/* Plaintext into `out`, at most a record's. Octets read; 0 needs more ciphertext; MP_E_EOF the peer said close_notify (nothing after it
 * is ever read); MP_E_TLS, MP_E_NOMEM; MP_E_MISUSE before the handshake is done. Renegotiation is refused. */
mp_ssize mp_tls_read(mp_tls *tls, void *out, size_t room);

/* Encrypts all of `in` into the output. 0 or an error: MP_E_FULL (about 1 MB of output would wait) and MP_E_NOMEM took nothing and may
 * be tried again, MP_E_MISUSE before the handshake is done or after mp_tls_shutdown, MP_E_TLS. */
int mp_tls_write(mp_tls *tls, const void *in, size_t len);
int mp_tls_shutdown(mp_tls *tls); /* puts a close_notify in the output; 0, also when there is nothing to do, or an error */

mp_str mp_tls_output(const mp_tls *tls); /* ciphertext to send; borrowed until the next call that is not output() */
void mp_tls_sent(mp_tls *tls, size_t len);

const char *mp_tls_why(const mp_tls *tls); /* reason of the last failure in one line, escaped; static or the session's */

typedef struct mp_tls_info {   /* views last as long as the session, after the handshake */
  mp_str version, cipher, sni; /* SNI as sent, checked to be a host name; empty when none */
  bool resumed;
  mp_str peer_subject; /* RFC 2253 form, empty without a certificate */
  bool peer_verified;  /* the chain leads to a CA of client_ca; of a client session: tls/client.h */
  const mp_str *peer_names; /* DNS and e-mail alternative names of a verified certificate; of a server's, whether verified or not */
  size_t peer_name_count;
  mp_str peer_fingerprint;       /* sha256 of the certificate, hex */
  mp_str cb_unique, cb_exporter; /* channel bindings: tls-unique (TLS 1.2 only), tls-exporter (RFC 9266) */
} mp_tls_info;

void mp_tls_info_get(mp_tls *tls, mp_tls_info *info);

#endif
