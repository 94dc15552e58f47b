/* smtp/param.h -- parameters of MAIL and RCPT, parsed into one struct each (RFC 1870, 6152, 3461, 2852, 4865, 6710, 8689, 6531,
 * 4954, 3030). Views point into the input. */
#ifndef MP_SMTP_PARAM_H
#define MP_SMTP_PARAM_H

#include "smtp/path.h"
#include "smtp/reply.h"

/* Which parameters were given; also the set that is allowed. */
enum mp_param_bit {
  MP_PARAM_SIZE = 1 << 0,
  MP_PARAM_BODY = 1 << 1,
  MP_PARAM_SMTPUTF8 = 1 << 2,
  MP_PARAM_RET = 1 << 3,
  MP_PARAM_ENVID = 1 << 4,
  MP_PARAM_BY = 1 << 5,
  MP_PARAM_HOLDFOR = 1 << 6,
  MP_PARAM_HOLDUNTIL = 1 << 7,
  MP_PARAM_PRIORITY = 1 << 8, /* MT-PRIORITY */
  MP_PARAM_REQUIRETLS = 1 << 9,
  MP_PARAM_AUTH = 1 << 10,
  MP_PARAM_NOTIFY = 1 << 11,
  MP_PARAM_ORCPT = 1 << 12,
  MP_PARAM_BINARY = 1 << 13 /* in an allowed set only: BODY=BINARYMIME is known */
};

typedef enum mp_body { MP_BODY_7BIT, MP_BODY_8BIT, MP_BODY_BINARY } mp_body;

typedef struct mp_mail_params {
  unsigned given;
  uint64_t size;
  mp_body body;
  enum { MP_RET_NONE, MP_RET_FULL, MP_RET_HDRS } ret;
  mp_str envid; /* xtext as received (checked: decodes to printable ASCII, at most 100 characters, RFC 3461 4.4) */
  int64_t by_seconds; /* RFC 2852: -999999999 to 999999999 */
  char by_mode;       /* 'R' or 'N' */
  bool by_trace;
  uint64_t hold_for;    /* seconds, RFC 4865 */
  mp_str hold_until;    /* RFC 3339 date-time as received, checked */
  int64_t hold_until_s; /* the same as seconds since 1970 */
  int priority;         /* -9 to 9 */
  mp_str auth;          /* xtext of a mailbox, or "<>" */
} mp_mail_params;

enum { MP_NOTIFY_NEVER = 1, MP_NOTIFY_SUCCESS = 2, MP_NOTIFY_FAILURE = 4, MP_NOTIFY_DELAY = 8 };

typedef struct mp_rcpt_params {
  unsigned given;
  unsigned notify; /* set of MP_NOTIFY_*; NEVER stands alone */
  mp_str orcpt; /* "rfc822;xtext" as received, checked (RFC 3461 4.2; utf-8 address type of RFC 6533 where SMTPUTF8) */
} mp_rcpt_params;

/* `in` is what follows the path, from its first space on (may be empty). `allowed` is a set of mp_param_bit. `max_size` 0 = no limit.
 * Returns true, or false with *refusal set: 501 5.5.4 for a bad value or a parameter given twice, 555 5.5.4 for one that is unknown or
 * not allowed, 552 5.3.4 for a SIZE over max_size (a number past 64 bits included), 504 5.5.4 for a BODY value that is not implemented. */
bool mp_mail_params_parse(mp_mail_params *params, mp_str in, unsigned allowed, uint64_t max_size,
                          mp_reply *refusal);
bool mp_rcpt_params_parse(mp_rcpt_params *params, mp_str in, unsigned allowed, bool utf8, mp_reply *refusal);

/* Decodes xtext (RFC 3461 4) into `out`. 0, MP_E_SYNTAX, or as mp_buf_add. */
int mp_xtext_decode(mp_buf *out, mp_str in);
int mp_xtext_encode(mp_buf *out, mp_str in);

#endif
