/* smtp/reply.h -- a reply as a value: code, enhanced status code, text (RFC 5321 4.2, RFC 2034, RFC 3463). */
#ifndef MP_SMTP_REPLY_H
#define MP_SMTP_REPLY_H

#include "base/buf.h"

typedef struct mp_reply {
  int code;                   /* 200 to 599 */
  unsigned short enhanced[3]; /* { 0 } = none: written only where ENHANCEDSTATUSCODES has been announced */
  mp_str text; /* may hold LF between lines; no other control character, checked by mp_reply_check */
} mp_reply;

#define MP_REPLY(code_, a, b, c, text_) \
  ((mp_reply){ .code = (code_), .enhanced = { (a), (b), (c) }, .text = MP_STR(text_) })

/* NULL when `reply` may go on the wire, else a static sentence that says what is wrong: code out of range, an enhanced code
 * whose class does not fit (RFC 2034 4), a control character, octets outside ASCII that are not UTF-8, or a text over 8 KB. */
const char *mp_reply_check(const mp_reply *reply);

/* "5.7.1" into three numbers; false on anything else (RFC 3463 2: class 2, 4 or 5, then up to three digits each). */
bool mp_reply_enhanced_parse(mp_str text, unsigned short out[3]);

/* Appends the reply as lines "250-...\r\n250 ...\r\n"; the enhanced code is repeated on every line when `enhanced`. Text that
 * is too long for a line of 512 octets is continued on the next; octets outside ASCII become '?' unless `utf8` (RFC 6531 3.7.4.1).
 * Returns as mp_buf_add; on failure nothing was added. */
int mp_reply_write(mp_buf *out, const mp_reply *reply, bool enhanced, bool utf8);

#endif
