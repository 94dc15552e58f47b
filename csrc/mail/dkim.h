/* mail/dkim.h -- DKIM (RFC 6376, 8301, 8463) without I/O: judging the signatures of a message, and making them.
 *   verifier: new(header) -> question(i) asks for a TXT record; body octets -> finish() -> judge(i, key)
 *   signer:   hash the body (mail/dkim_canon.h) -> mp_dkim_sign() appends the field
 * Reaches no socket, clock or Lua state. The body of a verifier may be fed on another thread, while this one leaves it alone. */
#ifndef MP_MAIL_DKIM_H
#define MP_MAIL_DKIM_H

#include "mail/dkim_sig.h"

enum {
  MP_DKIM_SIGNATURES_MOST = 10, /* of a message that are judged: from the top */
  MP_DKIM_DRIFT = 300           /* seconds that clocks may differ */
};

typedef struct mp_dkim_verifier mp_dkim_verifier;

typedef struct mp_dkim_verify_opts {
  int64_t now;  /* seconds since 1970 */
  bool partial; /* l= may leave octets of the body unsigned; else such a signature is "policy" */
} mp_dkim_verify_opts;

/* `block` is the header block as it was received; borrowed. 0, MP_E_NOMEM, MP_E_TOOLONG (over 65,535 fields or 32 MB). */
int mp_dkim_verifier_new(mp_dkim_verifier **verifier, mp_str block, const mp_dkim_verify_opts *opts);
void mp_dkim_verifier_free(mp_dkim_verifier *verifier);

size_t mp_dkim_verifier_count(const mp_dkim_verifier *verifier); /* signatures that are judged */
size_t mp_dkim_verifier_more(const mp_dkim_verifier *verifier);  /* that are not */
const mp_dkim_sig *mp_dkim_verifier_at(const mp_dkim_verifier *verifier, size_t i);

/* Appends the name of the TXT record that holds the key: false when it is judged already. *rc as mp_buf_add. */
bool mp_dkim_verifier_question(const mp_dkim_verifier *verifier, size_t i, mp_buf *name, int *rc);

/* Whether any signature wants the body. Then its octets in order, cut anywhere, and finish. 0 or MP_E_NOMEM. */
bool mp_dkim_verifier_wants_body(const mp_dkim_verifier *verifier);
int mp_dkim_verifier_body(mp_dkim_verifier *verifier, mp_str octets);
int mp_dkim_verifier_finish(mp_dkim_verifier *verifier);

/* In their place: hashes that somebody has made before. `known` says the digest of a form and a limit, and how many canonical octets the body has, or
 * that it does not have it. True when all that are wanted were there: it is finished then. */
typedef bool mp_dkim_known(void *ctx, mp_dkim_canon canon, uint64_t limit,
                           unsigned char digest[MP_DKIM_DIGEST], uint64_t *length);
bool mp_dkim_verifier_given(mp_dkim_verifier *verifier, mp_dkim_known *known, void *ctx);

/* Judges one that is open, by its key or by what became of the question for it. After finish. 0 or MP_E_NOMEM. */
int mp_dkim_verifier_judge(mp_dkim_verifier *verifier, size_t i, mp_dkim_key *key);
void mp_dkim_verifier_refuse(mp_dkim_verifier *verifier, size_t i, mp_dkim_result result, const char *why);

typedef struct mp_dkim_sign_opts {
  mp_str domain, selector;
  mp_str identity;                         /* empty: left out */
  mp_str headers;                          /* h= as it is to be written: mp_dkim_choose */
  mp_dkim_canon header_canon, body_canon;  /* the latter is the body hash's */
  int64_t time, end;                       /* seconds since 1970; -1: left out */
  uint64_t limit;                          /* l=; UINT64_MAX: left out */
  unsigned char body_hash[MP_DKIM_DIGEST]; /* mp_dkim_body_finish */
} mp_dkim_sign_opts;

/* Appends h= for `fields`: each of `names` (with ":" between) as often as it is there, and the names of `over` once more, so that no other can be
 * added: those that are there, or all of them when `absent`. As mp_buf_add. */
int mp_dkim_choose(mp_buf *out, const mp_dkim_fields *fields, mp_str names, mp_str over, bool absent);

/* The names that are signed, and those that are signed once more, when nobody says: constants, with ":" between (RFC 6376 5.4.1). */
mp_str mp_dkim_default_headers(void);
mp_str mp_dkim_default_over(void);

/* Appends the value of a DKIM-Signature field, folded; the field's octets are "DKIM-Signature: ", this, CRLF. 0, MP_E_INVALID (no From field, a domain,
 * selector or identity that is none, a public key), MP_E_NOMEM, or as mp_buf_add. */
int mp_dkim_sign(mp_buf *out, mp_dkim_fields *fields, const mp_dkim_sign_opts *opts, mp_dkim_key *key);

#endif
