/* mail/header.h -- the header block of a message as an ordered index, and edits on it (RFC 5322 2.2). The received octets never change:
 * an edit is a field of its own, and writing the block out gives untouched fields back octet for octet. */
#ifndef MP_MAIL_HEADER_H
#define MP_MAIL_HEADER_H

#include "base/arena.h"
#include "base/buf.h"

/* Where the header block ends in `octets`: the number of octets up to and with the empty line (CRLF CRLF, or CRLF at the very start), the
 * whole when no empty line is there (then *open is true: a message of headers alone, or more must be read; a last line that has neither its
 * CRLF nor a colon yet is not counted). A line that can be no field and no continuation ends the block before it (the body starts there;
 * *open false), as mail readers do. Once *open is false, octets behind change nothing. */
size_t mp_header_end(mp_str octets, bool *open);

typedef struct mp_field {
  mp_str raw;  /* the whole field with its CRLF, folding included */
  mp_str name; /* as written */
  mp_str value; /* behind the colon, without the final CRLF, white space at both ends trimmed; inner folding kept */
} mp_field;

/* The field that starts at *pos (0 at first), without an index. *pos moves behind it. False at the end of the fields. */
bool mp_header_next(mp_str block, size_t *pos, mp_field *field);

typedef struct mp_header mp_header;

/* Indexes `block` (as mp_header_end delimits it; its empty line may be there or not). `block` is borrowed for the index's life.
 * 0, MP_E_NOMEM, or MP_E_TOOLONG over 16 MB. Lone CR or LF inside are ordinary octets here (the server has dealt with them). */
int mp_header_new(mp_header **header, mp_str block);
void mp_header_free(mp_header *header);

size_t mp_header_count(const mp_header *header);
void mp_header_at(const mp_header *header, size_t i,
                  mp_field *field); /* i from 0, less than count; views last until the next edit of that field */

/* The first field at or after `from` with that name (ASCII case-insensitive), or -1. */
mp_ssize mp_header_find(const mp_header *header, mp_str name, size_t from);
size_t mp_header_count_of(const mp_header *header, mp_str name);

/* Copies the value without folding: each CRLF in front of white space is dropped (RFC 5322 2.2.3). */
int mp_field_unfold(const mp_field *field, mp_buf *out);

/* Edits. `name` must be ftext (RFC 5322 3.6.8); `value` UTF-8 or ASCII, where CR, LF, NUL and other controls but TAB are refused (a folded
 * value may be given: CRLF or LF followed by a space or tab, but no line of white space alone, RFC 5322 3.2.2). White space at both ends is
 * dropped. A value over 998 octets a line is folded at white space; one that cannot be is MP_E_TOOLONG. Returns 0, MP_E_INVALID, MP_E_TOOLONG, MP_E_NOMEM, or MP_E_FULL past 1 MB of edits. */
int mp_header_insert(mp_header *header, size_t at, mp_str name,
                     mp_str value); /* at = 0: on top; at = count: at the end */
int mp_header_replace(mp_header *header, size_t i, mp_str value);
void mp_header_remove(mp_header *header, size_t i);
size_t mp_header_remove_all(mp_header *header,
                            mp_str name); /* every field of that name, in linear time; how many there were */

bool mp_header_edited(const mp_header *header);

/* Appends all fields, without the empty line; a last field that came without CRLF gets one. Returns as mp_buf_add. */
int mp_header_write(const mp_header *header, mp_buf *out);

#endif
