/* smtp/reply_read.h -- replies out of a byte stream (RFC 5321 4.2). Nothing that a server sends grows without a bound here, and the text that
 * comes out may go to a log, a terminal or another peer: controls are gone, and it is UTF-8. */
#ifndef MP_SMTP_REPLY_READ_H
#define MP_SMTP_REPLY_READ_H

#include "smtp/reply.h"

enum {
  MP_READER_LINE = 12288 + 2,   /* octets of a line: a SASL challenge may be that long (RFC 4954 4) */
  MP_READER_LINES = 512,        /* of one reply */
  MP_READER_OCTETS = 64 * 1024, /* of one reply */
  MP_READER_TEXT = 8192         /* of its text that are kept; what is over is read and dropped */
};

typedef struct mp_reader {
  mp_buf held;    /* the part of a line that was fed before, then the line */
  mp_buf text;    /* of a reply of several lines, or of one that had to be cleaned */
  mp_reply reply; /* as far as it was read */
  size_t octets, lines;
  bool over; /* `reply` was given out */
} mp_reader;

void mp_reader_init(mp_reader *reader, mp_pool *blocks);
void mp_reader_dispose(mp_reader *reader);

/* Takes octets from `in` up to and with the end of a reply. *taken is how many. Returns
 *   1            *reply is it: lines with LF between them, without codes; an enhanced code (RFC 2034) is taken out of the text
 *                when its class fits the code. Borrowed, from `in` too, until the next call
 *   0            more octets are needed; all of `in` was taken
 *   MP_E_SYNTAX  what came is no reply, or its lines have different codes
 *   MP_E_TOOLONG it passed a bound
 *   MP_E_NOMEM
 * After an error it is of no further use. A line may end with a bare LF. */
int mp_reader_next(mp_reader *reader, mp_str in, size_t *taken, mp_reply *reply);

/* True in the middle of a reply. */
bool mp_reader_begun(const mp_reader *reader);

#endif
