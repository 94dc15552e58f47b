/* mime/value.h -- values of header fields that are structured: what a part is (RFC 2045 5), parameters (RFC 2231), encoded words (RFC 2047), addresses,
 * dates and message ids (RFC 5322). Octets of the peer come as pointer and length; NUL and control characters in them count as white space.
 * GMime's parsers end the process when there is no memory, as all of GLib does; the rest says so. */
#ifndef MP_MIME_VALUE_H
#define MP_MIME_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MP_MIME_VALUE_MOST = 1 << 20 }; /* octets of a value that is looked at */

/* Before anything else of this folder, by any thread: GMime's tables are made once in a process, and never changed afterwards. */
void mp_mime_begin(void);

/* What decides how a part is divided. */
typedef struct mp_mime_type {
  bool given;     /* there is a Content-Type */
  bool multipart; /* multipart/anything */
  bool digest;    /* multipart/digest */
  bool message;   /* message/rfc822, message/global, message/news */
  bool identity;  /* its encoding leaves octets as they are */
} mp_mime_type;

void mp_mime_type_read(mp_mime_type *type, const char *header, size_t len);

/* The value of the first field of that name among the lines of `header`, folding included; NULL when there is none. */
const char *mp_mime_field(const char *header, size_t len, const char *name, size_t *value_len);

/* The parameter `boundary` of the Content-Type, to free; NULL when there is none that can delimit anything, or no memory. */
char *mp_mime_boundary(const char *header, size_t len);

/* The two halves of "type/subtype; parameters" in lower case, each cut at 127 octets; `subtype` is empty where there is none. Returns where the parameters
 * begin, behind the first ";" or where one was forgotten (or `len`). */
size_t mp_mime_type_of(const char *value, size_t len, char type[128], char subtype[128]);

/* A copy as C text for GMime: a fold is one space, and so is a control character and, without `comments`, a comment; white space at both ends is
 * left out. To free. NULL: no memory, or longer than MP_MIME_VALUE_MOST. */
char *mp_mime_text(const char *value, size_t len, bool comments);

#endif
