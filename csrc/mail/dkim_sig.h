/* mail/dkim_sig.h -- the DKIM-Signature field (RFC 6376 3.5), and the header fields that a signature covers (5.4). */
#ifndef MP_MAIL_DKIM_SIG_H
#define MP_MAIL_DKIM_SIG_H

#include "base/arena.h"
#include "mail/dkim_canon.h"
#include "mail/dkim_key.h"
#include "mail/header.h"

typedef enum mp_dkim_result {
  MP_DKIM_OPEN, /* not judged yet */
  MP_DKIM_PASS,
  MP_DKIM_FAIL,
  MP_DKIM_POLICY,
  MP_DKIM_NEUTRAL,
  MP_DKIM_TEMPERROR,
  MP_DKIM_PERMERROR
} mp_dkim_result;

const char *mp_dkim_result_name(mp_dkim_result result); /* as RFC 8601 2.7.1 has it */

enum { MP_DKIM_REASON = 96 };

/* Results before a key is there: neutral, what is said cannot be understood; permerror, it can and never holds; policy, it may hold and does not count. */
typedef struct mp_dkim_sig {
  mp_field field; /* borrowed, as everything beneath is from it or from the arena */
  mp_str room;    /* of b=: what counts as empty when the field itself is hashed */
  mp_str domain, selector, algorithm;
  mp_str identity; /* i=, decoded; "@domain" when it is left out */
  mp_str headers;  /* h= as written, folding included */
  mp_str signature, body_hash;
  mp_dkim_kind kind;
  mp_dkim_canon header_canon, body_canon;
  uint64_t limit;    /* l=; UINT64_MAX without */
  int64_t time, end; /* t=, x=, seconds since 1970; -1 without */
  mp_dkim_result result;
  char reason[MP_DKIM_REASON];
} mp_dkim_sig;

/* Reads a signature field. What is wrong with it is in result and reason, and what could be read is there in any case. 0 or MP_E_NOMEM. */
int mp_dkim_sig_read(mp_dkim_sig *sig, const mp_field *field, mp_arena *arena);

void mp_dkim_sig_judge(mp_dkim_sig *sig, mp_dkim_result result, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The fields of a header, found by name from the bottom up; each is taken once for a signature (RFC 6376 5.4.2). */
typedef struct mp_dkim_fields mp_dkim_fields;

/* `block` is borrowed. 0, MP_E_NOMEM, MP_E_TOOLONG over 65,535 fields or 32 MB. */
int mp_dkim_fields_new(mp_dkim_fields **fields, mp_str block);
void mp_dkim_fields_free(mp_dkim_fields *fields);
size_t mp_dkim_fields_count(const mp_dkim_fields *fields);
const mp_field *mp_dkim_fields_at(const mp_dkim_fields *fields, size_t i); /* in the order of the block */
size_t mp_dkim_fields_named(const mp_dkim_fields *fields, mp_str name);    /* how many of that name */
void mp_dkim_fields_reset(mp_dkim_fields *fields);                         /* none is taken */
const mp_field *mp_dkim_fields_take(mp_dkim_fields *fields, mp_str name);  /* NULL when none is left */

/* Hashes the fields that `headers` (names with ":" between) takes, and `field` itself with its `room` left out. `field` stands without CRLF at
 * the end. 0 or MP_E_NOMEM. */
int mp_dkim_hash_header(mp_dkim_fields *fields, mp_str headers, mp_dkim_canon canon, mp_str field,
                        mp_str room, unsigned char digest[MP_DKIM_DIGEST]);

/* What b= holds in a field (its name, ":", a list of tags), as `room` wants it; empty without one. */
mp_str mp_dkim_room(mp_str field);

/* Hashes fields in relaxed form, one behind the other, the last one with its `room` left out and without CRLF at the end: an ARC-Seal (RFC 8617
 * 5.1.1). 0 or MP_E_NOMEM. */
int mp_dkim_hash_list(const mp_str *fields, size_t count, mp_str room, unsigned char digest[MP_DKIM_DIGEST]);

#endif
