/* smtp/encode.h -- a body on its way out: line ends made CRLF, dots stuffed (RFC 5321 4.5.2), the last line ended. It copies nothing: runs of
 * octets are borrowed from the input, and a canonical body is one run. */
#ifndef MP_SMTP_ENCODE_H
#define MP_SMTP_ENCODE_H

#include "smtp/data.h"

typedef enum mp_encode_mode {
  MP_ENCODE_REPAIR, /* lone CR and lone LF become CRLF */
  MP_ENCODE_REFUSE, /* they are an error */
  MP_ENCODE_RAW     /* nothing is looked at */
} mp_encode_mode;

typedef struct mp_encode {
  mp_data scan; /* `faults`: what was repaired, NUL, 8BIT */
  unsigned char mode;
  bool stuff; /* DATA: a dot is put before one that starts a line */
} mp_encode;

void mp_encode_init(mp_encode *enc, mp_encode_mode mode, bool stuff);

/* Encodes from `in`. *taken is how many octets were consumed, *out the next run: borrowed from `in` or static. Returns
 *   1            *out holds octets; call again with the rest of `in` until 0
 *   0            all of `in` was taken and nothing is left to give
 *   MP_E_BARELF  by MP_ENCODE_REFUSE
 * The runs of one input are at most twice as long as it, and two octets. */
int mp_encode_next(mp_encode *enc, mp_str in, size_t *taken, mp_str *out);

/* What has to follow the last octet for the last line to end: empty, LF or CRLF; static. An empty body stays empty. MP_E_BARELF as above. */
int mp_encode_finish(mp_encode *enc, mp_str *out);

#endif
