/* tls/client.h -- the side that connects: what is asked of a server's certificate, and what came of it. The session is the mp_tls of
 * tls/tls.h: feed, handshake, read, write, output, sent, shutdown, info and free are the same. */
#ifndef MP_TLS_CLIENT_H
#define MP_TLS_CLIENT_H

#include "tls/tls.h"

typedef struct mp_tls_client_config mp_tls_client_config; /* counted; may be shared by threads */

typedef struct mp_tls_client_opts {
  const char *ca; /* file or folder of authorities (PEM); NULL: the system's (SSL_CERT_FILE and SSL_CERT_DIR count) */
  const char *certificate; /* our own chain, leaf first, for a server that asks; NULL: none */
  const char *key;         /* NULL: in the certificate's file */
  int min_version;         /* as mp_tls_opts has it */
  const char *ciphers; /* TLS 1.2 list; NULL: forward-secret AEAD first, all else that still encrypts behind (client_config.c) */
  const char *ciphersuites; /* TLS 1.3; NULL: OpenSSL's */
  size_t sessions;          /* kept for resuming, at most MP_TLS_SESSIONS_MOST; 0: none */
} mp_tls_client_opts;

enum {
  MP_TLS_SESSIONS_MOST = 4096,
  MP_TLS_REFERENCES_MOST = 16, /* names in a target */
  MP_TLS_PINS_MOST = 64,
  MP_TLS_TLSA_MOST = 64,
  MP_TLS_PIN_LEN = 32
};

/* Builds a configuration with one reference. Returns and `why` as mp_tls_config_new. */
int mp_tls_client_config_new(mp_tls_client_config **config, const mp_tls_client_opts *opts, char *why,
                             size_t room);
mp_tls_client_config *mp_tls_client_config_ref(mp_tls_client_config *config);
void mp_tls_client_config_unref(mp_tls_client_config *config); /* NULL does nothing */

typedef enum mp_tls_trust {                    /* what ends the handshake */
                            MP_TLS_TRUST_NONE, /* nothing: any certificate will do, and the facts say what it is worth */
                            MP_TLS_TRUST_NAMES, /* unless the chain leads to an authority and the certificate has one of the names */
                            MP_TLS_TRUST_PINS, /* unless it is one of these certificates or keys; authorities, names and dates do not matter */
                            MP_TLS_TRUST_DANE /* unless it fits a TLSA record (RFC 7672) */
} mp_tls_trust;

typedef struct mp_tls_tlsa { /* RFC 6698 section 2.1 */
  uint8_t usage, selector, mtype;
  mp_str data; /* octets, not hex */
} mp_tls_tlsa;

typedef struct mp_tls_pin { /* SHA-256 of the certificate, or of its public key (SubjectPublicKeyInfo) */
  unsigned char octets[MP_TLS_PIN_LEN];
} mp_tls_pin;

typedef struct mp_tls_target { /* borrowed during mp_tls_connect */
  mp_str sni; /* host name (A-labels); empty, or an address: none is sent. With DANE the TLSA base domain */
  mp_tls_trust trust;
  /* Names of which the certificate must have one: host names, or addresses (without brackets). NAMES needs one; with NONE they are
   * for the facts; with DANE host names alone, for DANE-TA: the base domain first (RFC 7672 section 3.2.2). Subject alternative
   * names count, a wildcard as the whole first label; a common name never does, save under DANE-TA where there is no DNS name
   * (RFC 7672 section 3.2.3). */
  const mp_str *names;
  size_t name_count;
  const mp_tls_pin *pins;
  size_t pin_count;
  const mp_tls_tlsa *tlsa; /* those that cannot be used are passed over */
  size_t tlsa_count;
  /* Where a session may be resumed, such as "mx.example.net:25"; empty: nowhere. What is asked of the certificate is added to it, so
   * no session is resumed under other terms than it was made. */
  mp_str session_key;
} mp_tls_target;

/* How many of the records can be used: usage 2 or 3, selector 0 or 1, matching type 0 to 2, a digest of its length, and a whole
 * certificate or key for type 0. Usages 0 and 1 cannot (RFC 7672 section 3.1.3). */
size_t mp_tls_dane_usable(const mp_tls_tlsa *records, size_t count);

/* A client session; its first mp_tls_handshake puts the ClientHello in the output. `pool` as mp_tls_accept.
 * Returns 0, MP_E_NOMEM, or MP_E_INVALID: a name that is none, more of anything than there may be, NAMES or DANE without a name, PINS
 * without a pin, DANE without a record that can be used (TLS is then a must and nobody is verified, RFC 7672 section 2.2: that is the
 * caller's to choose, with NONE).
 *
 * Where a certificate is refused mp_tls_handshake returns MP_E_CRYPTO and mp_tls_why says why: "certificate expired 2024-01-01",
 * "certificate is for other.example, not mx.example.net". Any other failure is MP_E_TLS or MP_E_NOMEM. */
int mp_tls_connect(mp_tls **tls, mp_tls_client_config *config, mp_pool *pool, const mp_tls_target *target);

typedef struct mp_tls_proof { /* views last as long as the session */
  bool verified;              /* it is known who is there. With NONE: the names and the chain held */
  mp_str how;                 /* what showed it: "names", "pin", "dane-ta", "dane-ee"; else "none" */
  mp_str why_not;             /* one line, escaped; empty when verified */
} mp_tls_proof;

/* What a client session found out; a session that was resumed has the facts of the one it goes on with. All false and empty before the
 * certificate was looked at, and of server sessions. After MP_E_CRYPTO why_not is what mp_tls_why says. Of mp_tls_info, peer_verified
 * is the same as `verified` here, and peer_names are what the certificate says, believed or not. */
void mp_tls_proof_get(const mp_tls *tls, mp_tls_proof *facts);

#endif
