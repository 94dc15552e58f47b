/* mime/scan.h -- where the parts of a message begin and end (RFC 2046 5), found in one pass over octets that are fed in pieces of any size. Keeps
 * offsets and the parts' header fields, no bodies; nothing is called back, nothing recurses, and the time is linear in what is fed.
 * Memory is the C library's; a content type with parameters is read by GMime, whose allocator (GLib's) ends the process when there is none. */
#ifndef MP_MIME_SCAN_H
#define MP_MIME_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum mp_mime_kind { MP_MIME_LEAF, MP_MIME_MULTIPART, MP_MIME_MESSAGE } mp_mime_kind;

/* Indexes are those of mp_mime_scan_part, in the order of the message; -1: none. Offsets count octets from the first that was fed. */
typedef struct mp_mime_part {
  int32_t parent, child, next;
  uint32_t depth; /* 1: the message itself */
  mp_mime_kind kind;
  bool digest; /* it has no Content-Type, and stands in a multipart/digest: message/rfc822 (RFC 2046 5.1.5) */
  uint64_t begin;            /* its delimiter line; header_at where there is none */
  uint64_t header_at;        /* behind the delimiter line */
  uint64_t body_at;          /* behind the empty line */
  uint64_t end;              /* of the body, without the line break that belongs to the delimiter behind it */
  uint64_t finish;           /* where that delimiter line begins, or the whole ends */
  size_t header, header_len; /* its fields, in mp_mime_scan_header */
} mp_mime_part;

typedef struct mp_mime_limits {
  size_t depth;  /* of nesting; the message itself is 1 */
  size_t parts;  /* in all, the message itself among them */
  size_t header; /* octets of header fields in all */
} mp_mime_limits;

typedef enum mp_mime_fault {
  MP_MIME_OK = 0,
  MP_MIME_DEPTH = 1, /* a limit is passed; nothing more is taken */
  MP_MIME_PARTS = 2,
  MP_MIME_HEADER = 3,
  MP_MIME_NOMEM = 4
} mp_mime_fault;

typedef struct mp_mime_scan mp_mime_scan;

mp_mime_scan *mp_mime_scan_new(const mp_mime_limits *limits); /* NULL: no memory */
void mp_mime_scan_free(mp_mime_scan *scan);

/* The next octets. A fault stays. */
mp_mime_fault mp_mime_scan_feed(mp_mime_scan *scan, const char *octets, size_t len);
/* There are no more. Afterwards the parts below are complete. */
mp_mime_fault mp_mime_scan_finish(mp_mime_scan *scan);

size_t mp_mime_scan_count(const mp_mime_scan *scan);
const mp_mime_part *mp_mime_scan_part(const mp_mime_scan *scan, size_t i); /* i less than count; until the next feed */
const char *mp_mime_scan_header(const mp_mime_scan *scan, const mp_mime_part *part);

#endif
