/* mail/authres.h -- Authentication-Results (RFC 8601 2.2), read piece by piece from a field's value. Linear, whatever a peer wrote: what makes no
 * sense is passed over up to the next ";". */
#ifndef MP_MAIL_AUTHRES_H
#define MP_MAIL_AUTHRES_H

#include "base/buf.h"

typedef enum mp_authres_kind {
  MP_AUTHRES_RESULT,   /* name "dkim", version "1" or empty, value "pass", comment */
  MP_AUTHRES_REASON,   /* value; of the result before it, as properties are */
  MP_AUTHRES_PROPERTY, /* type "header", name "d", value; the type is empty where somebody left it out */
} mp_authres_kind;

typedef struct mp_authres_item {
  mp_authres_kind kind;
  mp_str type, name, version; /* views of the value that is read */
  mp_str value;               /* as written: for mp_authres_text */
  mp_str comment;             /* the first one behind a result, without its parentheses */
} mp_authres_item;

typedef struct mp_authres {
  mp_str text; /* borrowed until the last item */
  size_t at;
  mp_str id;      /* who says so (authserv-id), as written; empty when the field does not begin with one */
  mp_str version; /* digits, or empty for 1 */
  bool result;    /* there is one that reasons and properties belong to */
  bool damaged;   /* something was passed over */
} mp_authres;

/* Starts to read a value (unfolded or not) and reads its authserv-id. Returns 0, or MP_E_SYNTAX when there is nothing to read. */
int mp_authres_begin(mp_authres *reader, mp_str value);

/* The next piece. False at the end. */
bool mp_authres_next(mp_authres *reader, mp_authres_item *item);

/* Appends a value without the quotes around it, and without line breaks. A quoted local part in an address keeps its own. Returns as
 * mp_buf_add. */
int mp_authres_text(mp_buf *out, mp_str value);

#endif
