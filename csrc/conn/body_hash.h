/* conn/body_hash.h -- hashes of a large body, made while its octets go to the disk: who checks or makes signatures later (RFC 6376 3.7) finds them
 * there, and the body is read once. Which forms are wanted, the header's signatures say, and who has signed before. */
#ifndef MP_CONN_BODY_HASH_H
#define MP_CONN_BODY_HASH_H

#include "mail/dkim_canon.h"

enum { MP_BODY_HASHES_MOST = 4 };

typedef struct mp_body_hash mp_body_hash;

/* What is wanted of bodies to come. */
typedef struct mp_body_wants {
  bool verify;      /* the forms that signatures in the header name */
  unsigned signing; /* set of 1 << mp_dkim_canon: forms of the whole body */
} mp_body_wants;

/* *hash is NULL when nothing is wanted of this header's body. 0 or MP_E_NOMEM. */
int mp_body_hash_new(mp_body_hash **hash, mp_str header, const mp_body_wants *wants);
void mp_body_hash_free(mp_body_hash *hash);

/* The next octets of the body, by one thread at a time. Without memory there are no hashes in the end. */
void mp_body_hash_add(mp_body_hash *hash, mp_str octets);

/* After the last octet: the digest of that form and limit (UINT64_MAX: none), and how many canonical octets there were. False when it was not made. */
bool mp_body_hash_get(mp_body_hash *hash, mp_dkim_canon canon, uint64_t limit,
                      unsigned char digest[MP_DKIM_DIGEST], uint64_t *length);

#endif
