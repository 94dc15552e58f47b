/* mail/tags.h -- tag=value lists (RFC 6376 3.2): DKIM signatures and key records, ARC, DMARC records. One linear pass, views only. */
#ifndef MP_MAIL_TAGS_H
#define MP_MAIL_TAGS_H

#include "base/buf.h"

enum { MP_TAGS_MOST = 32 };

typedef struct mp_tag {
  mp_str name;  /* as written: names are case-sensitive */
  mp_str value; /* white space at both ends trimmed; folding inside kept */
  mp_str room;  /* all between the "=" and the ";" or the end */
} mp_tag;

typedef struct mp_tags {
  mp_tag list[MP_TAGS_MOST];
  size_t count;
} mp_tags;

/* Reads a list whose white space may be folded. Views are of `text`. 0; MP_E_SYNTAX: a name is none, a "=" is missing, a control character,
 * a name twice; MP_E_TOOLONG past 32 tags. An empty place between two ";" is passed over, for some people's records have them. */
int mp_tags_parse(mp_tags *tags, mp_str text);

/* The tag of that name, or NULL. */
const mp_tag *mp_tags_find(const mp_tags *tags, mp_str name);

/* Appends `value` without its white space (for base64 and numbers that are folded). Returns as mp_buf_add. */
int mp_tag_squeeze(mp_str value, mp_buf *out);

/* The next element of a list with `separator`, trimmed; may be empty. *pos is 0 at first. False at the end. */
bool mp_tag_next(mp_str value, char separator, size_t *pos, mp_str *item);

#endif
