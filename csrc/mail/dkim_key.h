/* mail/dkim_key.h -- keys of DKIM: public ones as the DNS has them (RFC 6376 3.6.1, RFC 8463), private ones of whoever signs. Parsed once and
 * used often, by one thread at a time. */
#ifndef MP_MAIL_DKIM_KEY_H
#define MP_MAIL_DKIM_KEY_H

#include "base/buf.h"

enum {
  MP_DKIM_RSA_LEAST = 1024, /* bits: below, a signature never passes (RFC 8301 3.2) */
  MP_DKIM_RSA_MOST = 8192,  /* above, checking it would be an attack on us */
  MP_DKIM_SIGNATURE = MP_DKIM_RSA_MOST / 8,
  MP_DKIM_KEY_TEXT = 65536 /* a private key's text */
};

typedef enum mp_dkim_kind { MP_DKIM_RSA, MP_DKIM_ED25519 } mp_dkim_kind;

typedef struct mp_dkim_key mp_dkim_key;

typedef struct mp_dkim_key_facts {
  mp_dkim_kind kind;
  unsigned bits;
  bool testing; /* t=y: its owner only tries DKIM out */
  bool strict;  /* t=s: i= has to have the domain of d= */
  bool sha256;  /* h= allows it, or does not say */
} mp_dkim_key_facts;

/* Reads a key record (the joined strings of one TXT record). 0; MP_E_SYNTAX, and MP_E_DENIED for a key that is there and not for us (revoked, or
 * for another service), with a sentence in *why; MP_E_NOMEM. */
int mp_dkim_key_record(mp_dkim_key **key, mp_str record, const char **why);

/* Reads a private key: PEM (PKCS#8 or PKCS#1, not encrypted), or the 32 octets of an Ed25519 seed in base64. 0; MP_E_SYNTAX with *why; MP_E_NOMEM. */
int mp_dkim_key_private(mp_dkim_key **key, mp_str text, const char **why);

/* Makes a private key; `bits` for RSA, 1024 to 8192. Takes seconds when large. 0, MP_E_INVALID, or MP_E_NOMEM. */
int mp_dkim_key_make(mp_dkim_key **key, mp_dkim_kind kind, unsigned bits);

void mp_dkim_key_free(mp_dkim_key *key);
const mp_dkim_key_facts *mp_dkim_key_look(const mp_dkim_key *key);

/* The private key as PEM (PKCS#8); the key record of its public half ("v=DKIM1; k=...; p=..."). 0, MP_E_INVALID without a private half, or as mp_buf_add. */
int mp_dkim_key_pem(const mp_dkim_key *key, mp_buf *out);
int mp_dkim_key_text(const mp_dkim_key *key, mp_buf *out);

/* Signs a SHA-256 digest (Ed25519 signs the digest's octets, RFC 8463 3). *len is the room at first. 0, MP_E_INVALID for a public key, MP_E_NOMEM. */
int mp_dkim_key_sign(mp_dkim_key *key, const unsigned char digest[32], unsigned char *out, size_t *len);

/* 0 it is; MP_E_CRYPTO it is not; MP_E_INVALID for a private key; MP_E_NOMEM. */
int mp_dkim_key_verify(mp_dkim_key *key, const unsigned char digest[32], mp_str signature);

#endif
