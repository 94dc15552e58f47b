#include "smtp/reply.h"

#include "base/error.h"
#include "smtp/text.h"

/* A reply line is at most 512 octets, code and CRLF included (RFC 5321 4.5.3.1.5). */
enum { LINE_MOST = 512, TEXT_MOST = 8192 };

const char *mp_reply_check(const mp_reply *reply)
{
  if (reply->code < 200 || reply->code > 599)
    return "reply code is not between 200 and 599";
  const unsigned short *e = reply->enhanced;
  if (e[0] == 0 && (e[1] != 0 || e[2] != 0))
    return "enhanced status code has no class";
  if (e[0] != 0) {
    if (e[0] != 2 && e[0] != 4 && e[0] != 5)
      return "enhanced status code is of no known class";
    if (e[0] != reply->code / 100)
      return "class of the enhanced status code does not fit the reply code";
    if (e[1] > 999 || e[2] > 999)
      return "enhanced status code has more than three digits in a place";
  }
  if (reply->text.len > TEXT_MOST)
    return "reply text is longer than 8 KB";
  size_t from = 0;
  while (from < reply->text.len) {
    mp_ssize lf = mp_str_find(reply->text, '\n', from);
    size_t end = lf < 0 ? reply->text.len : (size_t)lf;
    if (!mp_text_printable(mp_str_sub(reply->text, from, end - from), true))
      return "reply text holds a control character or is not UTF-8";
    from = end + 1;
  }
  return NULL;
}

bool mp_reply_enhanced_parse(mp_str text, unsigned short out[3])
{
  unsigned short parts[3];
  size_t from = 0;
  for (size_t i = 0; i < 3; i++) {
    mp_ssize dot = mp_str_find(text, '.', from);
    if ((dot < 0) != (i == 2))
      return false;
    mp_str digits = mp_str_sub(text, from, dot < 0 ? text.len : (size_t)dot - from);
    uint64_t value;
    if (digits.len > 3 || !mp_str_u64(digits, 999, &value))
      return false;
    /* RFC 3463 2: no leading zeros. */
    if (digits.len > 1 && digits.ptr[0] == '0')
      return false;
    parts[i] = (unsigned short)value;
    from = dot < 0 ? text.len : (size_t)dot + 1;
  }
  if (parts[0] != 2 && parts[0] != 4 && parts[0] != 5)
    return false;
  memcpy(out, parts, sizeof parts);
  return true;
}

/* How much of `rest` (no LF in it) goes on a line that has room for `room` octets: a break stands before a word where one
 * starts in the line's second half, and never inside a UTF-8 character. */
static size_t fit(mp_str rest, size_t room)
{
  if (rest.len <= room)
    return rest.len;
  for (size_t n = room; n > room / 2; n--)
    if (rest.ptr[n] == ' ')
      return n;
  size_t n = room;
  while (n > 1 && ((unsigned char)rest.ptr[n] & 0xc0) == 0x80)
    n--;
  return n;
}

/* A number of up to three digits; returns the place behind it. */
static char *put_number(char *at, unsigned value)
{
  if (value > 99)
    *at++ = (char)('0' + value / 100 % 10);
  if (value > 9)
    *at++ = (char)('0' + value / 10 % 10);
  *at++ = (char)('0' + value % 10);
  return at;
}

static int write_line(mp_buf *out, const mp_reply *reply, bool enhanced, bool utf8, mp_str text, bool last)
{
  char head[20], *at = put_number(head, (unsigned)reply->code);
  *at++ = last ? ' ' : '-';
  if (enhanced && reply->enhanced[0]) {
    for (size_t i = 0; i < 3; i++) {
      at = put_number(at, reply->enhanced[i]);
      *at++ = i < 2 ? '.' : ' ';
    }
    if (text.len == 0)
      at--;
  }
  size_t head_len = (size_t)(at - head);
  char *line = mp_buf_room(out, head_len + text.len + 2);
  if (!line)
    return out->max - out->len < head_len + text.len + 2 ? MP_E_FULL : MP_E_NOMEM;
  memcpy(line, head, head_len);
  char *words = line + head_len;
  if (text.len)
    memcpy(words, text.ptr, text.len);
  for (size_t i = 0; i < text.len && !utf8; i++)
    if ((unsigned char)words[i] >= 0x80)
      words[i] = '?';
  memcpy(words + text.len, "\r\n", 2);
  mp_buf_grow(out, head_len + text.len + 2);
  return 0;
}

int mp_reply_write(mp_buf *out, const mp_reply *reply, bool enhanced, bool utf8)
{
  size_t before = out->len, head = 4;
  if (enhanced && reply->enhanced[0])
    for (size_t i = 0; i < 3; i++)
      head += reply->enhanced[i] > 99 ? 4 : reply->enhanced[i] > 9 ? 3 : 2;
  mp_str rest = reply->text;
  for (bool last = false; !last;) {
    mp_ssize lf = mp_str_find(rest, '\n', 0);
    mp_str line = mp_str_sub(rest, 0, lf < 0 ? rest.len : (size_t)lf);
    size_t n = fit(line, LINE_MOST - 2 - head);
    size_t next = n;
    if (n < line.len && line.ptr[n] == ' ') /* the space that gave way to the break */
      next++;
    bool more = lf >= 0 && next == line.len;
    next += more;
    last = !more && next >= rest.len;
    int rc = write_line(out, reply, enhanced, utf8, mp_str_sub(line, 0, n), last);
    if (rc < 0) {
      mp_buf_cut(out, before);
      return rc;
    }
    rest = mp_str_sub(rest, next, rest.len);
  }
  return 0;
}
