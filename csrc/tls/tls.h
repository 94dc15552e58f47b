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
  const char *ciphers;      /* TLS 1.2 list; NULL: forward-secret AEAD first (a documented default) */
  const char *ciphersuites; /* TLS 1.3; NULL: OpenSSL's */
  mp_tls_verify client;     /* certificates asked of clients */
  const char *client_ca;    /* file or folder of CAs for them; needed unless OFF */
  bool no_tickets;
} mp_tls_opts;

/* Builds a server configuration with one reference. Returns 0 or MP_E_TLS, MP_E_NOTFOUND, MP_E_NOMEM with one line in `why` that
 * names the file and the reason ("mx.pem: no such file", "mx.key does not belong to mx.pem", "old.pem expired 2024-01-01"): a warning
 * that does not stop (an expired certificate) is written to `why` with return 0. Configurations may be shared by threads. */
int mp_tls_config_new(mp_tls_config **config, const mp_tls_opts *opts, char *why, size_t room);
mp_tls_config *mp_tls_config_ref(mp_tls_config *config);
void mp_tls_config_unref(mp_tls_config *config); /* NULL does nothing */

/* Ticket keys of `from` go on in `to`, so that clients resume across a reload. */
void mp_tls_config_inherit(mp_tls_config *to, mp_tls_config *from);

/* Makes a self-signed development certificate (P-256, for `hostname`, localhost, 127.0.0.1 and ::1; 825 days) and its key at the two
 * paths unless both are there already (mode 0600 for the key, folders made). Returns 0 (nothing done), 1 (made), or an error with `why`. */
int mp_tls_selfsigned(const char *cert_path, const char *key_path, const char *hostname, char *why, size_t room);

/* A server session; `pool` (may be NULL) serves its ciphertext buffer. 0 or MP_E_NOMEM. */
int mp_tls_accept(mp_tls **tls, mp_tls_config *config, mp_pool *pool);
void mp_tls_free(mp_tls *tls); /* NULL does nothing */

/* Gives ciphertext from the peer; borrowed, not copied: it must stay until the next mp_tls_feed or until mp_tls_unread() says 0. */
void mp_tls_feed(mp_tls *tls, const void *in, size_t len);
size_t mp_tls_unread(const mp_tls *tls); /* octets fed and not yet taken by the session; the driver keeps those */

/* Goes on with the handshake. 1 done, 0 needs more ciphertext, MP_E_TLS failed (mp_tls_why; an alert may stand in the output). */
int mp_tls_handshake(mp_tls *tls);
bool mp_tls_ready(const mp_tls *tls);

/* Plaintext into `out`. Octets read; 0 needs more ciphertext; MP_E_EOF the peer said close_notify (nothing after it is ever read);
 * MP_E_TLS. Renegotiation is refused. */
mp_ssize mp_tls_read(mp_tls *tls, void *out, size_t room);

/* Encrypts all of `in` into the output. 0 or an error (MP_E_TLS, MP_E_NOMEM, MP_E_MISUSE before the handshake is done). */
int mp_tls_write(mp_tls *tls, const void *in, size_t len);
int mp_tls_shutdown(mp_tls *tls); /* puts a close_notify in the output */

mp_str mp_tls_output(const mp_tls *tls); /* ciphertext to send; borrowed until the next call that is not output() */
void mp_tls_sent(mp_tls *tls, size_t len);

const char *mp_tls_why(const mp_tls *tls); /* reason of the last failure in one line, escaped; static or the session's */

typedef struct mp_tls_info {   /* views last as long as the session, after the handshake */
  mp_str version, cipher, sni; /* SNI as sent, checked to be a host name; empty when none */
  bool resumed;
  mp_str peer_subject;      /* RFC 2253 form, empty without a certificate */
  bool peer_verified;       /* the chain leads to a CA of client_ca */
  const mp_str *peer_names; /* DNS and e-mail alternative names of a verified certificate */
  size_t peer_name_count;
  mp_str peer_fingerprint;       /* sha256 of the certificate, hex */
  mp_str cb_unique, cb_exporter; /* channel bindings: tls-unique (TLS 1.2 only), tls-exporter (RFC 9266) */
} mp_tls_info;

void mp_tls_info_get(mp_tls *tls, mp_tls_info *info);

#endif
