/* smtp/data.h -- the octets between 354 and CRLF.CRLF (RFC 5321 4.5.2), decoded without copying.
 * Only CRLF.CRLF ends DATA. The decoder gives runs of message octets that borrow from the input, with the stuffed dots and the final
 * ".CRLF" left out, and notes what was wrong on the way; it never goes back to commands before the true end. */
#ifndef MP_SMTP_DATA_H
#define MP_SMTP_DATA_H

#include "base/str.h"

enum mp_data_fault {
  MP_DATA_BARE_CR = 1,
  MP_DATA_BARE_LF = 2,
  MP_DATA_NUL = 4,
  MP_DATA_LONG_LINE = 8, /* a line over line_limit octets (CRLF not counted) */
  MP_DATA_8BIT = 16      /* octets above 127 occurred: a fact, not a fault */
};

typedef struct mp_data {
  unsigned char state; /* see data.c */
  bool repair;         /* bare CR and bare LF become CRLF in the output instead of only being noted */
  bool raw;            /* BDAT: no dot-stuffing, no end; only notes faults (and repairs) */
  unsigned faults;     /* set of mp_data_fault seen so far */
  size_t line_limit;   /* 0 = none */
  size_t line_len;
  uint64_t size; /* message octets given out so far */
} mp_data;

void mp_data_init(mp_data *data, bool raw, bool repair, size_t line_limit);

/* Decodes from `in`. *taken is how many octets were consumed, *out the next run of message octets: borrowed from `in` or static
 * (a repaired "\r\n", or a held CR that turned out to belong to the message). Returns
 *   1  *out holds octets (call again with the rest of `in`, even when that is empty, until 0 or 2)
 *   0  all of `in` was taken and nothing is left to give
 *   2  the end: CRLF.CRLF was taken; *out is empty; octets behind it were not touched */
int mp_data_next(mp_data *data, mp_str in, size_t *taken, mp_str *out);

/* For BDAT LAST: what the decoder still holds back (a CR at the very end). Returns 1 with *out, or 0. */
int mp_data_finish(mp_data *data, mp_str *out);

#endif
