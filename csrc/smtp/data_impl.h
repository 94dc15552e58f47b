/* smtp/data_impl.h -- the scanner that the decoder of DATA and the encoder of bodies share. Only they include it. */
#ifndef MP_SMTP_DATA_IMPL_H
#define MP_SMTP_DATA_IMPL_H

#include "smtp/data.h"

/* The picture is in data.c. */
enum mp_data_state { MP_DATA_START, MP_DATA_TEXT, MP_DATA_CR, MP_DATA_DOT, MP_DATA_DOTCR, MP_DATA_END };

/* How many octets at the start of `p` are whole lines and parts of lines without a bare CR, a bare LF or, unless data->raw, a dot that starts
 * a line; their account (state, line length, faults) is kept. To be called in START or TEXT, with an octet in front that none of
 * these is. It may stop early, even at once. */
size_t mp_data_plain(mp_data *data, const char *p, size_t len);

#endif
