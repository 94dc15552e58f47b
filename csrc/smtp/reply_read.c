#include "smtp/reply_read.h"

#include "base/error.h"
#include "smtp/text.h"

void mp_reader_init(mp_reader *reader, mp_pool *blocks)
{
  *reader = (mp_reader){ .lines = 0 };
  mp_buf_init(&reader->held, MP_READER_LINE, blocks);
  mp_buf_init(&reader->text, MP_READER_TEXT, blocks);
}

static void forget(mp_reader *reader)
{
  mp_buf_dispose(&reader->held);
  mp_buf_dispose(&reader->text);
  reader->reply = (mp_reply){ .code = 0 };
  reader->octets = reader->lines = 0;
  reader->over = false;
}

void mp_reader_dispose(mp_reader *reader)
{
  forget(reader);
}

bool mp_reader_begun(const mp_reader *reader)
{
  return !reader->over && (reader->lines > 0 || reader->held.len > 0);
}

/* "250 2.1.5 Ok": the code into *code, whether it is the last line, and what is left. */
static bool head(mp_str line, int *code, bool *last, mp_str *text)
{
  if (line.len < 3)
    return false;
  const char *p = line.ptr;
  if (p[0] < '2' || p[0] > '5' || p[1] < '0' || p[1] > '9' || p[2] < '0' || p[2] > '9')
    return false;
  *code = (p[0] - '0') * 100 + (p[1] - '0') * 10 + p[2] - '0';
  if (line.len > 3 && p[3] != ' ' && p[3] != '-')
    return false;
  *last = line.len == 3 || p[3] == ' ';
  *text = mp_str_sub(line, 4, line.len);
  return true;
}

static void enhanced(mp_reader *reader, mp_str *text)
{
  mp_ssize space = mp_str_find(*text, ' ', 0);
  unsigned short code[3];
  if (!mp_reply_enhanced_parse(mp_str_sub(*text, 0, space < 0 ? text->len : (size_t)space), code) ||
      code[0] != reader->reply.code / 100)
    return;
  if (reader->lines == 0)
    memcpy(reader->reply.enhanced, code, sizeof code);
  else if (memcmp(reader->reply.enhanced, code, sizeof code) != 0)
    return; /* it says something else than the first line did, and stays where it can be read */
  *text = mp_str_trim(mp_str_sub(*text, space < 0 ? text->len : (size_t)space + 1, text->len));
}

/* Adds a line to the text, cleaned, as far as there is room. */
static int add(mp_reader *reader, mp_str line)
{
  mp_buf *out = &reader->text;
  size_t room = out->max - out->len;
  if (reader->lines > 0 && room > 0) {
    if (mp_buf_char(out, '\n') < 0)
      return MP_E_NOMEM;
    room--;
  }
  bool utf8 = mp_str_utf8(line);
  if (line.len > room) {
    line.len = room;
    while (utf8 && line.len && ((unsigned char)line.ptr[line.len] & 0xc0) == 0x80)
      line.len--;
  }
  if (line.len == 0)
    return 0;
  char *p = mp_buf_room(out, line.len);
  if (!p)
    return MP_E_NOMEM;
  for (size_t i = 0; i < line.len; i++) {
    unsigned char c = (unsigned char)line.ptr[i];
    bool control = c < 0x20 || c == 0x7f;
    if (c == 0xc2 && utf8 && i + 1 < line.len && (unsigned char)line.ptr[i + 1] < 0xa0) {
      p[i++] = '?'; /* U+0080 to U+009F: controls as well */
      control = true;
    }
    p[i] = c == '\t' ? ' ' : control || (c >= 0x80 && !utf8) ? '?' : line.ptr[i];
  }
  mp_buf_grow(out, line.len);
  return 0;
}

/* One line, without its end. 1 when the reply is complete, 0, or an error. */
static int take(mp_reader *reader, mp_str line)
{
  int code;
  bool last;
  mp_str text;
  if (!head(line, &code, &last, &text))
    return MP_E_SYNTAX;
  if (reader->lines > 0 && code != reader->reply.code)
    return MP_E_SYNTAX;
  reader->reply.code = code;
  text = mp_str_trim(text);
  enhanced(reader, &text);
  if (last && reader->lines == 0 && text.len <= MP_READER_TEXT && mp_text_printable(text, true)) {
    reader->reply.text = text;
    return 1;
  }
  int rc = add(reader, text);
  if (rc < 0)
    return rc;
  reader->lines++;
  reader->reply.text = mp_buf_view(&reader->text);
  return last ? 1 : reader->lines >= MP_READER_LINES ? MP_E_TOOLONG : 0;
}

int mp_reader_next(mp_reader *reader, mp_str in, size_t *taken, mp_reply *reply)
{
  *taken = 0;
  if (reader->over)
    forget(reader);
  for (;;) {
    mp_str rest = mp_str_sub(in, *taken, in.len);
    mp_ssize lf = mp_str_find(rest, '\n', 0);
    size_t len = lf < 0 ? rest.len : (size_t)lf + 1;
    reader->octets += len;
    if (len > MP_READER_LINE - reader->held.len || reader->octets > MP_READER_OCTETS)
      return MP_E_TOOLONG;
    mp_str line = mp_str_sub(rest, 0, len);
    bool whole = lf >= 0 && reader->held.len == 0;
    if (!whole && mp_buf_str(&reader->held, line) < 0)
      return MP_E_NOMEM;
    *taken += len;
    if (lf < 0)
      return 0;
    if (!whole)
      line = mp_buf_view(&reader->held);
    line.len--;
    if (line.len && line.ptr[line.len - 1] == '\r')
      line.len--;
    int rc = take(reader, line);
    if (rc == 1) {
      reader->over = true;
      *reply = reader->reply;
    }
    if (rc != 0)
      return rc;
    mp_buf_dispose(&reader->held);
  }
}
