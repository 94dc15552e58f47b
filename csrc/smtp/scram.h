/* smtp/scram.h -- what a server keeps of a password for SCRAM (RFC 5802): a line of text in the form of RFC 5803,
 *   SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>     salt and keys in base64
 * It proves a password without being one. Work over the iterations takes CPU time: mp_scram_make may be called on any
 * thread, and so may the rest. */
#ifndef MP_SMTP_SCRAM_H
#define MP_SMTP_SCRAM_H

#include "base/buf.h"

enum {
  MP_SCRAM_ITERATIONS = 4096,        /* when nobody says otherwise (RFC 7677 4) */
  MP_SCRAM_ITERATIONS_MAX = 1000000, /* a second of CPU; more is a mistake or an attack on ourselves */
  MP_SCRAM_SALT = 16,                /* octets of a salt of our making */
  MP_SCRAM_SALT_MAX = 128,
  MP_SCRAM_KEY_MAX = 32
};

typedef enum mp_scram_hash { MP_SCRAM_SHA_1, MP_SCRAM_SHA_256 } mp_scram_hash;

typedef struct mp_scram_keys {
  mp_scram_hash hash;
  unsigned iterations;
  size_t salt_len;
  size_t key_len; /* 20 or 32 */
  char salt[MP_SCRAM_SALT_MAX];
  char stored[MP_SCRAM_KEY_MAX], server[MP_SCRAM_KEY_MAX];
} mp_scram_keys;

/* Derives the keys of `password` with `salt` (1 to MP_SCRAM_SALT_MAX octets) and `iterations` (1 to
 * MP_SCRAM_ITERATIONS_MAX). The password is prepared as RFC 4013 says. Returns 0, MP_E_NOMEM, or MP_E_INVALID: a number
 * out of range, or a password that is empty, too long (1,024 octets), holds NUL or cannot be prepared. */
int mp_scram_derive(mp_scram_keys *keys, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations);

/* The SaltedPassword alone (RFC 5802 3), which is what a client needs; as long as the hash. Returns as mp_scram_derive. */
int mp_scram_salted(char salted[MP_SCRAM_KEY_MAX], mp_scram_hash hash, mp_str password, mp_str salt,
                    unsigned iterations);

/* Appends the text form of the keys of `password`. A `salt` of no octets stands for random ones, 0 iterations for
 * MP_SCRAM_ITERATIONS. Returns as mp_scram_derive and mp_buf_add. */
int mp_scram_make(mp_buf *out, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations);

/* Reads the text form. Returns 0, MP_E_INVALID (also when the iterations are over the maximum), or MP_E_NOMEM. */
int mp_scram_parse(mp_scram_keys *keys, mp_str text);

#endif
