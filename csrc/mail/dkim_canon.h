/* mail/dkim_canon.h -- the two canonical forms of DKIM (RFC 6376 3.4): of header fields, and of bodies that arrive in pieces, which are hashed
 * as they are read. Works in runs: octets that stay as they are go to the hash from where they lie. */
#ifndef MP_MAIL_DKIM_CANON_H
#define MP_MAIL_DKIM_CANON_H

#include "base/buf.h"

enum { MP_DKIM_DIGEST = 32 }; /* octets of SHA-256 */

typedef enum mp_dkim_canon { MP_DKIM_SIMPLE, MP_DKIM_RELAXED } mp_dkim_canon;

const char *mp_dkim_canon_name(mp_dkim_canon canon); /* "simple" or "relaxed" */

/* Appends a whole field (its name, ":", value; folded; with or without its last CRLF) in canonical form, ended by CRLF when `crlf`.
 * Returns as mp_buf_add. */
int mp_dkim_canon_field(mp_buf *out, mp_dkim_canon canon, mp_str raw, bool crlf);

typedef struct mp_dkim_body mp_dkim_body;

/* A hash of a body, of which `limit` canonical octets count (l=; UINT64_MAX: all). 0 or MP_E_NOMEM. */
int mp_dkim_body_new(mp_dkim_body **body, mp_dkim_canon canon, uint64_t limit);
void mp_dkim_body_free(mp_dkim_body *body);

/* The next octets, cut anywhere. 0 or MP_E_NOMEM. */
int mp_dkim_body_add(mp_dkim_body *body, mp_str octets);

/* Octets that are held back, and that finishing has to hash: line ends in front of a CR at the very end. */
uint64_t mp_dkim_body_held(const mp_dkim_body *body);

/* How it was made. */
mp_dkim_canon mp_dkim_body_form(const mp_dkim_body *body, uint64_t *limit);

/* No more octets: the digest, and how many canonical octets the whole body has. Once. 0 or MP_E_NOMEM. */
int mp_dkim_body_finish(mp_dkim_body *body, unsigned char digest[MP_DKIM_DIGEST], uint64_t *length);

#endif
