/* base/base64.h -- RFC 4648 section 4, strict: no white space, padding required, no bits left over. */
#ifndef MP_BASE_BASE64_H
#define MP_BASE_BASE64_H

#include "base/buf.h"

/* Appends the encoding of `in`. Returns as mp_buf_add. */
int mp_base64_encode(mp_buf *out, mp_str in);

/* Appends the decoding. Returns 0, MP_E_SYNTAX on anything that is not canonical base64 (then nothing was added), or as
 * mp_buf_add. */
int mp_base64_decode(mp_buf *out, mp_str in);

#endif
