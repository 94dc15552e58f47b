#include "mail/header.h"

#include "base/error.h"

enum { BLOCK_MOST = 16 << 20, EDITS_MOST = 1 << 20, LINE_MOST = 998, COLUMNS = 78 };

/* Where a field is and what its name begins with: enough to pass over all others without touching their octets. */
typedef struct entry {
  const char *ptr; /* into the block, or into the arena when the field is ours */
  uint32_t len;
  uint32_t name_len : 24;
  uint32_t first : 8; /* of the name, in lower case */
} entry;

struct mp_header {
  entry *fields;
  size_t count, room;
  mp_arena edits;
  bool edited;
};

/* ---- the received block ------------------------------------------------------------------------------------------ */

static bool is_wsp(char c)
{
  return c == ' ' || c == '\t';
}

static bool is_ftext(char c) /* RFC 5322 3.6.8 */
{
  return c > ' ' && c < 0x7f && c != ':';
}

/* The end of the line at `pos`, its CRLF included, or 0 when the CRLF is not there. A lone LF is an octet like others. */
static size_t line_end(mp_str s, size_t pos)
{
  const char *from = s.ptr + pos, *end = s.ptr + s.len;
  for (const char *lf = from; lf < end; lf++) {
    lf = memchr(lf, '\n', (size_t)(end - lf));
    if (!lf)
      return 0;
    if (lf > from && lf[-1] == '\r')
      return (size_t)(lf - s.ptr) + 1;
  }
  return 0;
}

typedef enum start { START_FIELD, START_OTHER, START_CUT } start;

/* Does a field start at `pos`? Its name's length, and where its colon is. CUT: the octets end before that is known. */
static start field_start(mp_str s, size_t pos, size_t *name_len, size_t *colon)
{
  size_t i = pos;
  while (i < s.len && is_ftext(s.ptr[i]))
    i++;
  *name_len = i - pos;
  if (*name_len == 0 || *name_len > LINE_MOST)
    return i < s.len || *name_len ? START_OTHER : START_CUT;
  while (i < s.len && is_wsp(s.ptr[i])) /* obsolete, but seen (RFC 5322 4.5) */
    i++;
  *colon = i;
  if (i == s.len)
    return START_CUT;
  return s.ptr[i] == ':' ? START_FIELD : START_OTHER;
}

/* The end of the field that starts at `pos`: with the CRLF of its last line, or the end of the octets. *open is set when
 * that end may lie further on. */
static size_t field_end(mp_str s, size_t pos, bool *open)
{
  *open = false;
  for (;;) {
    size_t end = line_end(s, pos);
    if (end == 0 || end == s.len) {
      *open = true;
      return s.len;
    }
    if (!is_wsp(s.ptr[end]))
      return end;
    pos = end;
  }
}

static bool is_empty_line(mp_str s, size_t pos)
{
  return s.len - pos >= 2 && s.ptr[pos] == '\r' && s.ptr[pos + 1] == '\n';
}

size_t mp_header_end(mp_str octets, bool *open)
{
  size_t pos = 0, name_len, colon;
  *open = false;
  while (pos < octets.len) {
    if (is_empty_line(octets, pos))
      return pos + 2;
    if (octets.len - pos == 1 && octets.ptr[pos] == '\r')
      break;
    switch (field_start(octets, pos, &name_len, &colon)) {
    case START_OTHER:
      return pos;
    case START_CUT:
      *open = true;
      return pos;
    case START_FIELD:
      pos = field_end(octets, pos, open);
      break;
    }
  }
  *open = true;
  return pos;
}

/* White space at both ends, folding included. */
static mp_str trim(mp_str s)
{
  for (;;) {
    size_t skip = s.len && is_wsp(s.ptr[0]) ? 1 : s.len >= 2 && s.ptr[0] == '\r' && s.ptr[1] == '\n' ? 2 : 0;
    if (skip == 0)
      break;
    s = mp_str_sub(s, skip, s.len);
  }
  while (s.len) {
    if (is_wsp(s.ptr[s.len - 1]))
      s.len--;
    else if (s.len >= 2 && s.ptr[s.len - 1] == '\n' && s.ptr[s.len - 2] == '\r')
      s.len -= 2;
    else
      break;
  }
  return s;
}

static void view(mp_field *field, mp_str raw, size_t name_len)
{
  size_t colon = name_len;
  while (raw.ptr[colon] != ':')
    colon++;
  field->raw = raw;
  field->name = mp_str_sub(raw, 0, name_len);
  field->value = trim(mp_str_sub(raw, colon + 1, raw.len));
}

/* The next field's place, without its value. */
static bool next(mp_str block, size_t *pos, mp_str *raw, size_t *name_len)
{
  size_t colon;
  bool open;
  if (*pos >= block.len || field_start(block, *pos, name_len, &colon) != START_FIELD)
    return false;
  size_t end = field_end(block, *pos, &open);
  *raw = mp_str_sub(block, *pos, end - *pos);
  *pos = end;
  return true;
}

bool mp_header_next(mp_str block, size_t *pos, mp_field *field)
{
  mp_str raw;
  size_t name_len;
  if (!next(block, pos, &raw, &name_len))
    return false;
  view(field, raw, name_len);
  return true;
}

/* ---- the index --------------------------------------------------------------------------------------------------- */

static bool grow(mp_header *header)
{
  if (header->count < header->room)
    return true;
  size_t room = header->room ? header->room * 2 : 32;
  entry *fields = mp_mem_realloc(header->fields, room * sizeof *fields);
  if (!fields)
    return false;
  header->fields = fields;
  header->room = room;
  return true;
}

static entry entry_of(mp_str raw, size_t name_len)
{
  return (entry){ .ptr = raw.ptr,
                  .len = (uint32_t)raw.len,
                  .name_len = (uint32_t)name_len & 0xffffff,
                  .first = mp_ascii_lower((unsigned char)raw.ptr[0]) };
}

int mp_header_new(mp_header **out, mp_str block)
{
  if (block.len > BLOCK_MOST)
    return MP_E_TOOLONG;
  mp_header *header = mp_mem_zalloc(sizeof *header);
  if (!header)
    return MP_E_NOMEM;
  mp_arena_init(&header->edits, EDITS_MOST, NULL);
  mp_str raw;
  size_t pos = 0, name_len;
  while (next(block, &pos, &raw, &name_len)) {
    if (!grow(header)) {
      mp_header_free(header);
      return MP_E_NOMEM;
    }
    header->fields[header->count++] = entry_of(raw, name_len);
  }
  *out = header;
  return 0;
}

void mp_header_free(mp_header *header)
{
  if (!header)
    return;
  mp_arena_dispose(&header->edits);
  mp_mem_free(header->fields);
  mp_mem_free(header);
}

size_t mp_header_count(const mp_header *header)
{
  return header->count;
}

void mp_header_at(const mp_header *header, size_t i, mp_field *field)
{
  const entry *e = &header->fields[i];
  view(field, mp_str_of(e->ptr, e->len), e->name_len);
}

static bool is_named(const entry *e, mp_str name, unsigned char first)
{
  return e->name_len == name.len && e->first == first && mp_str_ieq(mp_str_of(e->ptr, e->name_len), name);
}

static unsigned char first_of(mp_str name)
{
  return mp_ascii_lower(name.len ? (unsigned char)name.ptr[0] : 0);
}

mp_ssize mp_header_find(const mp_header *header, mp_str name, size_t from)
{
  unsigned char first = first_of(name);
  for (size_t i = from; i < header->count; i++) {
    if (is_named(&header->fields[i], name, first))
      return (mp_ssize)i;
  }
  return -1;
}

size_t mp_header_count_of(const mp_header *header, mp_str name)
{
  unsigned char first = first_of(name);
  size_t n = 0;
  for (size_t i = 0; i < header->count; i++)
    n += is_named(&header->fields[i], name, first);
  return n;
}

int mp_field_unfold(const mp_field *field, mp_buf *out)
{
  size_t before = out->len;
  mp_str s = field->value;
  while (s.len) {
    size_t end = line_end(s, 0);
    bool folded = end && end < s.len && is_wsp(s.ptr[end]);
    size_t run = end == 0 ? s.len : folded ? end - 2 : end;
    int rc = mp_buf_add(out, s.ptr, run);
    if (rc < 0) {
      mp_buf_cut(out, before);
      return rc;
    }
    s = mp_str_sub(s, end ? end : s.len, s.len);
  }
  return 0;
}

/* ---- edits ------------------------------------------------------------------------------------------------------- */

/* One line of a value that was given folded: up to its CRLF or LF, which *pos is moved behind. */
static mp_str value_line(mp_str value, size_t *pos)
{
  mp_ssize lf = mp_str_find(value, '\n', *pos);
  size_t end = lf < 0 ? value.len : (size_t)lf;
  mp_str line = mp_str_sub(value, *pos, end - *pos);
  if (lf >= 0 && line.len && line.ptr[line.len - 1] == '\r')
    line.len--;
  *pos = lf < 0 ? value.len : end + 1;
  return line;
}

/* No line break but before white space, no line of white space alone, no other control than TAB, well-formed UTF-8. */
static bool is_value(mp_str value)
{
  if (!mp_str_utf8(value))
    return false;
  size_t pos = 0;
  while (pos < value.len) {
    bool further = pos > 0;
    mp_str line = value_line(value, &pos);
    if (further && (line.len == 0 || !is_wsp(line.ptr[0]) || mp_str_trim(line).len == 0))
      return false;
    for (size_t i = 0; i < line.len; i++) {
      unsigned char c = (unsigned char)line.ptr[i];
      if ((c < 0x20 && c != '\t') || c == 0x7f)
        return false;
    }
  }
  return value.len == 0 || value.ptr[value.len - 1] != '\n';
}

static bool is_name(mp_str name)
{
  for (size_t i = 0; i < name.len; i++) {
    if (!is_ftext(name.ptr[i]))
      return false;
  }
  return name.len > 0;
}

/* Appends one line that is `column` octets long already. Past 998 octets it is folded (RFC 5322 2.1.1), and then at 78
 * columns; only in front of a word, so that no line of white space alone comes into being. */
static int add_line(mp_buf *out, mp_str line, size_t column)
{
  if (column + line.len <= LINE_MOST)
    return mp_buf_str(out, line);
  size_t pos = 0;
  while (pos < line.len) {
    size_t end = pos;
    while (end < line.len && is_wsp(line.ptr[end]))
      end++;
    while (end < line.len && !is_wsp(line.ptr[end]))
      end++;
    size_t word = end - pos;
    int rc = 0;
    if (column > 0 && column + word > COLUMNS && is_wsp(line.ptr[pos])) {
      rc = mp_buf_add(out, "\r\n", 2);
      column = 0;
    }
    if (column + word > LINE_MOST)
      return MP_E_TOOLONG;
    if (rc == 0)
      rc = mp_buf_add(out, line.ptr + pos, word);
    if (rc < 0)
      return rc;
    column += word;
    pos = end;
  }
  return 0;
}

static size_t first_word(mp_str s)
{
  size_t n = 0;
  while (n < s.len && !is_wsp(s.ptr[n]) && s.ptr[n] != '\n')
    n++;
  return n;
}

/* Lays a field out in `out`. */
static int compose(mp_buf *out, mp_str name, mp_str value)
{
  int rc = mp_buf_str(out, name);
  if (rc == 0)
    rc = mp_buf_char(out, ':');
  size_t pos = 0, column = name.len + 1;
  if (rc == 0 && value.len) {
    /* A long name and a long first word do not go on one line. */
    bool fits = column + 1 + first_word(value) <= LINE_MOST;
    rc = fits ? mp_buf_char(out, ' ') : mp_buf_add(out, "\r\n ", 3);
    column = fits ? column + 1 : 1;
  }
  while (rc == 0 && pos < value.len) {
    bool further = pos > 0;
    mp_str line = value_line(value, &pos);
    if (further) {
      rc = mp_buf_add(out, "\r\n", 2);
      column = 0;
    }
    if (rc == 0)
      rc = add_line(out, line, column);
  }
  return rc < 0 ? rc : mp_buf_add(out, "\r\n", 2);
}

/* Makes a field of our own in the arena. */
static int make(mp_header *header, mp_str name, mp_str value, entry *out)
{
  value = mp_str_trim(value);
  if (!is_name(name) || !is_value(value))
    return MP_E_INVALID;
  if (name.len + 1 > LINE_MOST)
    return MP_E_TOOLONG;
  mp_buf buf;
  mp_buf_init(&buf, EDITS_MOST, NULL);
  int rc = compose(&buf, name, value);
  mp_str text = mp_buf_view(&buf);
  if (rc == 0 && text.len > header->edits.max - header->edits.total)
    rc = MP_E_FULL;
  char *copy = rc == 0 ? mp_arena_alloc(&header->edits, text.len) : NULL;
  if (rc == 0 && !copy)
    rc = MP_E_NOMEM;
  if (rc == 0) {
    memcpy(copy, text.ptr, text.len);
    *out = entry_of(mp_str_of(copy, text.len), name.len);
  }
  mp_buf_dispose(&buf);
  return rc;
}

int mp_header_insert(mp_header *header, size_t at, mp_str name, mp_str value)
{
  entry made;
  int rc = make(header, name, value, &made);
  if (rc < 0)
    return rc;
  if (!grow(header))
    return MP_E_NOMEM;
  at = at < header->count ? at : header->count;
  memmove(header->fields + at + 1, header->fields + at, (header->count - at) * sizeof made);
  header->fields[at] = made;
  header->count++;
  header->edited = true;
  return 0;
}

int mp_header_replace(mp_header *header, size_t i, mp_str value)
{
  entry *e = &header->fields[i], made;
  int rc = make(header, mp_str_of(e->ptr, e->name_len), value, &made);
  if (rc < 0)
    return rc;
  *e = made;
  header->edited = true;
  return 0;
}

void mp_header_remove(mp_header *header, size_t i)
{
  header->count--;
  memmove(header->fields + i, header->fields + i + 1, (header->count - i) * sizeof *header->fields);
  header->edited = true;
}

size_t mp_header_remove_all(mp_header *header, mp_str name)
{
  unsigned char first = first_of(name);
  size_t kept = 0, before = header->count;
  for (size_t i = 0; i < before; i++) {
    if (!is_named(&header->fields[i], name, first))
      header->fields[kept++] = header->fields[i];
  }
  header->count = kept;
  if (kept < before)
    header->edited = true;
  return before - kept;
}

bool mp_header_edited(const mp_header *header)
{
  return header->edited;
}

int mp_header_write(const mp_header *header, mp_buf *out)
{
  size_t before = out->len, i = 0;
  int rc = 0;
  while (rc == 0 && i < header->count) {
    /* Neighbours that were received side by side are copied as one. */
    mp_str run = mp_str_of(header->fields[i].ptr, header->fields[i].len);
    for (i++; i < header->count && header->fields[i].ptr == run.ptr + run.len; i++)
      run.len += header->fields[i].len;
    rc = mp_buf_str(out, run);
    if (rc == 0 && (run.len < 2 || memcmp(run.ptr + run.len - 2, "\r\n", 2) != 0))
      rc = mp_buf_add(out, "\r\n", 2);
  }
  if (rc < 0)
    mp_buf_cut(out, before);
  return rc;
}
