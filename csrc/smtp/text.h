/* smtp/text.h -- what may stand in text that goes from a peer to a log, a header or another peer. */
#ifndef MP_SMTP_TEXT_H
#define MP_SMTP_TEXT_H

#include "base/str.h"

/* True when `s` holds printable ASCII and spaces only or, where `utf8`, well-formed UTF-8 besides. The C1 controls (U+0080 to
 * U+009F) are refused like those of ASCII: terminals obey them. */
bool mp_text_printable(mp_str s, bool utf8);

/* True when every line ends with CRLF, the last one too, and CR and LF stand nowhere else. *eight: some octet is above 127. */
bool mp_text_canonical(mp_str s, bool *eight);

#endif
