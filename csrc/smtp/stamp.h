/* smtp/stamp.h -- a date and time as RFC 3339 writes it, in the upper case that RFC 4865 wants. */
#ifndef MP_SMTP_STAMP_H
#define MP_SMTP_STAMP_H

#include "base/str.h"

/* "2026-07-01T12:00:00Z", "2026-07-01T12:00:00.5+02:00" into seconds since 1970 (a fraction is dropped). False on anything else:
 * a day that its month does not have, an hour past 23, an offset past 23:59. Second 60 is taken, as leap seconds are. */
bool mp_stamp_parse(mp_str text, int64_t *seconds);

#endif
