/* smtp/line.h -- command lines out of a byte stream. A line that lies whole in the fed octets is borrowed from them; only a line
 * that arrives in pieces is copied. */
#ifndef MP_SMTP_LINE_H
#define MP_SMTP_LINE_H

#include "base/buf.h"

typedef struct mp_line {
  mp_buf held;   /* the part of a line fed before */
  size_t limit;  /* octets in a line, CRLF included */
  bool skipping; /* the rest of a line that was cut is being dropped */
  bool after_cr; /* and its last octet was CR */
} mp_line;

void mp_line_init(mp_line *line, size_t limit, mp_pool *pool); /* held may grow to the largest limit ever set: 12,290 */
void mp_line_dispose(mp_line *line); /* wipes, as everything here does that lets go of octets: they may be a password */

/* Takes octets from `in` up to and with the first CRLF. *taken is how many. Returns
 *   1            a line; *out is it without CRLF, borrowed until the next call
 *   0            more octets are needed; all of `in` was taken
 *   MP_E_TOOLONG the line passed the limit; octets are dropped until its CRLF, then the next line is normal (reported once, at once)
 *   MP_E_BARELF  the line ended with a bare LF, or holds a bare CR or a NUL: it is consumed to its end (LF), *out is empty
 *   MP_E_NOMEM   nothing was taken */
int mp_line_next(mp_line *line, mp_str in, size_t *taken, mp_str *out);

#endif
