/* conn/lines.h -- a message's octets with the line ends of the files here: CRLF belongs to the wire (RFC 5321 2.3.8), and what reads Maildirs
 * and standard inputs on Unix takes the CR for a part of the line. */
#ifndef MP_CONN_LINES_H
#define MP_CONN_LINES_H

#include "conn/message.h"

typedef struct mp_lines {
  mp_sink *sink;
  uint64_t off; /* of the next octet in the sink */
  bool lf;      /* CRLF is given out as LF; a CR without LF stays */
  bool cr;      /* a CR is held back until it is known what follows it */
} mp_lines;

/* The body of `msg`. `crlf`: as it came. So does what was sent as binary (RFC 3030 3), whose octets are no lines. */
void mp_lines_init(mp_lines *lines, mp_message *msg, bool crlf);

/* The next octets: a view into the sink, or in `scratch` of `room` octets, 32768 at least. Empty at the end; *rc is set on a read error. For any one
 * thread at a time, after mp_sink_finish. */
mp_str mp_lines_read(mp_lines *lines, char *scratch, size_t room, int *rc);

/* The same in place, for octets that are whole; the new length. */
size_t mp_lines_shorten(char *octets, size_t len);

#endif
