/* mail/date.h -- RFC 5322 3.3 dates, in the C locale whatever the process's is. */
#ifndef MP_MAIL_DATE_H
#define MP_MAIL_DATE_H

#include "base/str.h"

#define MP_DATE_TEXT 40

/* For who takes an offset: that of the system's zone at the time in question. It is looked up when it is needed. */
enum { MP_DATE_LOCAL = 1 << 20 };

/* "Sun, 22 Nov 2026 22:41:50 +0000" of seconds since 1970 at `offset_min` minutes east of UTC; NUL-terminated; its length. */
size_t mp_date_format(int64_t unix_s, int offset_min, char text[MP_DATE_TEXT]);

/* Minutes east of UTC of the system's zone at that time. */
int mp_date_offset(int64_t unix_s);

#endif
