/* Lines are looked at as they come. A line in a header is kept; of a line in a body no more than a delimiter may have.
 *
 *   header --empty line--> leaf, preamble of a multipart, or the header of the message inside (RFC 2046 5.2.1)
 *   any    --delimiter---> everything open inside that multipart ends; header of its next part, or its epilogue
 *
 * What is open is a chain: `part` and its parents. The multiparts among them that still take parts stand in `open`, outermost first. */
#include "mime/scan.h"

#include "mime/value.h"

#include <stdlib.h>
#include <string.h>

enum {
  BOUNDARY_MOST = 900, /* RFC 2046 allows 70; lines have 998 */
  LINE_KEPT = 1000     /* octets of a body's line: a delimiter and what white space may follow it */
};

typedef struct open_multipart {
  int32_t part, last, before; /* its index, its last child, and the one before that */
  bool digest;
  size_t len;
  char *boundary;
} open_multipart;

struct mp_mime_scan {
  mp_mime_limits limits;
  mp_mime_fault fault;
  mp_mime_part *parts;
  size_t count, room;
  char *header; /* of all parts, one behind the other */
  size_t header_len, header_room;
  open_multipart *open;
  size_t open_count, open_room;
  char *line; /* what has come of a line whose end has not */
  size_t line_kept, line_room;
  uint64_t line_len; /* of it, kept or not */
  char line_last;
  uint64_t at;  /* where it begins */
  unsigned brk; /* octets of the line break in front of it */
  int32_t part; /* the innermost that is open */
  bool in_header;
};

mp_mime_scan *mp_mime_scan_new(const mp_mime_limits *limits)
{
  mp_mime_scan *scan = calloc(1, sizeof *scan);
  if (!scan)
    return NULL;
  scan->limits = *limits;
  scan->part = -1;
  return scan;
}

void mp_mime_scan_free(mp_mime_scan *scan)
{
  if (!scan)
    return;
  for (size_t i = 0; i < scan->open_count; i++)
    free(scan->open[i].boundary);
  free(scan->open);
  free(scan->parts);
  free(scan->header);
  free(scan->line);
  free(scan);
}

static bool fail(mp_mime_scan *scan, mp_mime_fault fault)
{
  scan->fault = fault;
  return false;
}

/* Makes room for `more` things of `size` octets; doubles, so that growing is linear. */
static bool reserve(mp_mime_scan *scan, void **block, size_t *room, size_t need, size_t size)
{
  if (need <= *room)
    return true;
  size_t bigger = *room ? *room : 16;
  while (bigger < need)
    bigger *= 2;
  void *moved = realloc(*block, bigger * size);
  if (!moved)
    return fail(scan, MP_MIME_NOMEM);
  *block = moved;
  *room = bigger;
  return true;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

/* A part whose header begins at `at`. */
static bool add_part(mp_mime_scan *scan, int32_t parent, int32_t before, uint64_t begin, uint64_t at, bool digest)
{
  uint32_t depth = parent < 0 ? 1 : scan->parts[parent].depth + 1;
  if (depth > scan->limits.depth)
    return fail(scan, MP_MIME_DEPTH);
  if (scan->count >= scan->limits.parts || scan->count >= INT32_MAX)
    return fail(scan, MP_MIME_PARTS);
  void *parts = scan->parts;
  if (!reserve(scan, &parts, &scan->room, scan->count + 1, sizeof *scan->parts))
    return false;
  scan->parts = parts;
  int32_t index = (int32_t)scan->count++;
  scan->parts[index] = (mp_mime_part){ .parent = parent,
                                       .child = -1,
                                       .next = -1,
                                       .depth = depth,
                                       .digest = digest,
                                       .begin = begin,
                                       .header_at = at,
                                       .body_at = at,
                                       .header = scan->header_len };
  if (before >= 0)
    scan->parts[before].next = index;
  else if (parent >= 0)
    scan->parts[parent].child = index;
  scan->part = index;
  scan->in_header = true;
  return true;
}

/* Nothing stands behind the delimiter: it was meant to be the last one. */
static bool is_nothing(const mp_mime_scan *scan, const mp_mime_part *part, int32_t outer, uint64_t at)
{
  return scan->part == (int32_t)scan->count - 1 && part->parent >= 0 && part->parent != outer &&
         part->begin < part->header_at && part->header_len == 0 && at - part->header_at <= 2;
}

static void drop_last(mp_mime_scan *scan, int32_t parent)
{
  open_multipart *of = &scan->open[scan->open_count];
  do
    of--;
  while (of->part != parent);
  of->last = of->before;
  if (of->last >= 0)
    scan->parts[of->last].next = -1;
  else
    scan->parts[parent].child = -1;
  scan->count--;
  scan->part = parent;
  scan->in_header = false;
}

/* Ends what is open inside `outer` (-1: everything): a delimiter line begins at `at`, or there is no more. */
static void close_inside(mp_mime_scan *scan, int32_t outer, uint64_t at, unsigned brk)
{
  while (scan->part != outer) {
    mp_mime_part *part = &scan->parts[scan->part];
    if (is_nothing(scan, part, outer, at)) {
      drop_last(scan, part->parent);
      continue;
    }
    if (scan->in_header)
      part->body_at = at; /* its header has no end */
    scan->in_header = false;
    if (part->kind == MP_MIME_MULTIPART && part->child < 0) /* nothing delimits it: what is there is its content */
      part->kind = MP_MIME_LEAF;
    part->finish = at;
    part->end = at >= part->body_at + brk ? at - brk : part->body_at;
    scan->part = part->parent;
  }
}

/* ---- headers ----------------------------------------------------------------------------------------------------- */

static bool keep_header(mp_mime_scan *scan, const char *line, size_t len)
{
  if (len > scan->limits.header - scan->header_len)
    return fail(scan, MP_MIME_HEADER);
  void *header = scan->header;
  if (!reserve(scan, &header, &scan->header_room, scan->header_len + len, 1))
    return false;
  scan->header = header;
  memcpy(scan->header + scan->header_len, line, len);
  scan->header_len += len;
  scan->parts[scan->part].header_len += len;
  return true;
}

static bool push_multipart(mp_mime_scan *scan, char *boundary, bool digest)
{
  void *open = scan->open;
  if (!reserve(scan, &open, &scan->open_room, scan->open_count + 1, sizeof *scan->open)) {
    free(boundary);
    return false;
  }
  scan->open = open;
  scan->open[scan->open_count++] = (open_multipart){
    .part = scan->part, .last = -1, .before = -1, .digest = digest, .len = strlen(boundary), .boundary = boundary
  };
  scan->parts[scan->part].kind = MP_MIME_MULTIPART;
  return true;
}

/* The header is over, and the body begins at `at`: what is it? */
static bool begin_body(mp_mime_scan *scan, uint64_t at)
{
  mp_mime_part *part = &scan->parts[scan->part];
  part->body_at = at;
  scan->in_header = false;
  mp_mime_type type;
  mp_mime_type_read(&type, mp_mime_scan_header(scan, part), part->header_len);
  part->digest = part->digest && !type.given;
  if (type.multipart) {
    char *boundary = mp_mime_boundary(mp_mime_scan_header(scan, part), part->header_len);
    if (boundary && strlen(boundary) <= BOUNDARY_MOST)
      return push_multipart(scan, boundary, type.digest);
    free(boundary);
  } else if ((type.message || part->digest) && type.identity) {
    part->kind = MP_MIME_MESSAGE;
    return add_part(scan, scan->part, -1, at, at, false);
  }
  return true;
}

/* A field's first line: a name and a colon. White space between them is tolerated, as mail readers do. */
static bool is_field(const char *line, size_t len)
{
  size_t i = 0;
  while (i < len && line[i] > 32 && line[i] < 127 && line[i] != ':')
    i++;
  if (i == 0)
    return false;
  while (i < len && (line[i] == ' ' || line[i] == '\t'))
    i++;
  return i < len && line[i] == ':';
}

static bool starts(const char *line, size_t len, const char *with)
{
  size_t n = strlen(with);
  return len >= n && memcmp(line, with, n) == 0;
}

/* True when the line was one of a header. */
static bool header_line(mp_mime_scan *scan, const char *line, size_t len, unsigned brk)
{
  mp_mime_part *part = &scan->parts[scan->part];
  if (len == brk) {
    begin_body(scan, scan->at + len);
    return true;
  }
  bool folded = line[0] == ' ' || line[0] == '\t';
  bool mbox = part->header_len == 0 && (starts(line, len, "From ") || starts(line, len, ">From "));
  if (folded ? part->header_len > 0 : is_field(line, len) || mbox)
    return keep_header(scan, line, len) || true;
  begin_body(scan, scan->at);
  return scan->fault != MP_MIME_OK; /* the line is one of the body, or of a message that begins with it */
}

/* ---- delimiters -------------------------------------------------------------------------------------------------- */

static bool blank(const char *octets, size_t len)
{
  for (size_t i = 0; i < len; i++)
    if (octets[i] != ' ' && octets[i] != '\t' && octets[i] != '\r' && octets[i] != '\n')
      return false;
  return true;
}

/* The innermost open multipart that the line delimits; -1 when it is no delimiter. */
static int match(const mp_mime_scan *scan, const char *line, size_t len, bool *closes)
{
  for (size_t i = scan->open_count; i-- > 0;) {
    const open_multipart *of = &scan->open[i];
    if (len < 2 + of->len || memcmp(line + 2, of->boundary, of->len) != 0)
      continue;
    const char *rest = line + 2 + of->len;
    size_t left = len - 2 - of->len;
    *closes = left >= 2 && rest[0] == '-' && rest[1] == '-';
    if (blank(rest, left) || (*closes && blank(rest + 2, left - 2)))
      return (int)i;
  }
  return -1;
}

static void drop_open(mp_mime_scan *scan, size_t count)
{
  while (scan->open_count > count)
    free(scan->open[--scan->open_count].boundary);
}

static bool delimiter_line(mp_mime_scan *scan, const char *line, size_t len)
{
  bool closes = false;
  int i = match(scan, line, len, &closes);
  if (i < 0)
    return false;
  open_multipart *of = &scan->open[i];
  close_inside(scan, of->part, scan->at, scan->brk);
  drop_open(scan, (size_t)i + (closes ? 0 : 1));
  if (closes)
    return true;
  if (add_part(scan, of->part, of->last, scan->at, scan->at + len, of->digest)) {
    of->before = of->last;
    of->last = scan->part;
  }
  return true;
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* A whole line: `kept` octets of the `len` it has, its line break among them. */
static void take_line(mp_mime_scan *scan, const char *line, size_t kept, uint64_t len, unsigned brk)
{
  bool dashes = kept == len && kept >= 2 && line[0] == '-' && line[1] == '-';
  if (!(dashes && delimiter_line(scan, line, kept)) && scan->in_header) {
    bool taken = false;
    while (!taken && scan->in_header && scan->fault == MP_MIME_OK)
      taken = header_line(scan, line, kept, brk);
    if (!taken && dashes && scan->fault == MP_MIME_OK) /* the first of a multipart whose header has no empty line */
      delimiter_line(scan, line, kept);
  }
  scan->at += len;
  scan->brk = brk;
}

/* Keeps what is there of a line whose end is not. */
static bool keep_line(mp_mime_scan *scan, const char *octets, size_t len)
{
  scan->line_len += len;
  if (len)
    scan->line_last = octets[len - 1];
  size_t most = scan->in_header ? scan->limits.header + 2 : LINE_KEPT;
  size_t some = scan->line_kept >= most ? 0 : most - scan->line_kept;
  if (some > len)
    some = len;
  void *line = scan->line;
  if (!reserve(scan, &line, &scan->line_room, scan->line_kept + some, 1))
    return false;
  scan->line = line;
  if (some)
    memcpy(scan->line + scan->line_kept, octets, some);
  scan->line_kept += some;
  return true;
}

static void take_kept(mp_mime_scan *scan, unsigned brk)
{
  size_t kept = scan->line_kept;
  uint64_t len = scan->line_len;
  scan->line_kept = 0;
  scan->line_len = 0;
  if (scan->in_header && kept < len)
    fail(scan, MP_MIME_HEADER);
  else
    take_line(scan, scan->line, kept, len, brk);
}

mp_mime_fault mp_mime_scan_feed(mp_mime_scan *scan, const char *octets, size_t len)
{
  if (scan->count == 0 && scan->fault == MP_MIME_OK)
    add_part(scan, -1, -1, 0, 0, false);
  const char *end = octets + len;
  while (octets < end && scan->fault == MP_MIME_OK) {
    const char *lf = memchr(octets, '\n', (size_t)(end - octets));
    size_t some = (size_t)((lf ? lf + 1 : end) - octets);
    if (lf && scan->line_len == 0) {
      take_line(scan, octets, some, some, some >= 2 && lf[-1] == '\r' ? 2 : 1);
    } else {
      bool cr = some >= 2 ? lf && lf[-1] == '\r' : scan->line_last == '\r';
      if (keep_line(scan, octets, some) && lf)
        take_kept(scan, cr && scan->line_len >= 2 ? 2 : 1);
    }
    octets += some;
  }
  return scan->fault;
}

mp_mime_fault mp_mime_scan_finish(mp_mime_scan *scan)
{
  mp_mime_scan_feed(scan, "", 0);
  if (scan->line_len && scan->fault == MP_MIME_OK)
    take_kept(scan, 0);
  if (scan->fault == MP_MIME_OK && scan->in_header)
    begin_body(scan, scan->at); /* a header alone has a type too */
  if (scan->fault == MP_MIME_OK)
    close_inside(scan, -1, scan->at, 0);
  drop_open(scan, 0);
  return scan->fault;
}

/* ---- what was found ---------------------------------------------------------------------------------------------- */

size_t mp_mime_scan_count(const mp_mime_scan *scan)
{
  return scan->count;
}

const mp_mime_part *mp_mime_scan_part(const mp_mime_scan *scan, size_t i)
{
  return &scan->parts[i];
}

const char *mp_mime_scan_header(const mp_mime_scan *scan, const mp_mime_part *part)
{
  return part->header_len ? scan->header + part->header : "";
}
