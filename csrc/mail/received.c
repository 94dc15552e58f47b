#include "mail/received.h"

#include "mail/date.h"

enum { COLUMNS = 78, LINE_MOST = 4096, NAME_MOST = 255, WORD_MOST = 320 };

/* The field under construction. Every piece has a ceiling, and the sum of them fits. */
typedef struct field {
  char text[LINE_MOST];
  size_t len, column;
} field;

/* One piece that is never broken, built aside so that its length is known before it is placed. */
typedef struct piece {
  char text[2 * WORD_MOST + 64];
  size_t len;
} piece;

static void put(piece *p, mp_str s)
{
  size_t room = sizeof p->text - p->len;
  size_t n = s.len < room ? s.len : room;
  if (n)
    memcpy(p->text + p->len, s.ptr, n);
  p->len += n;
}

static bool is_word(unsigned char c)
{
  return (c >= '0' && c <= '9') || (mp_ascii_lower(c) >= 'a' && mp_ascii_lower(c) <= 'z') || c == '.' ||
         c == '-' || c == '_';
}

/* What stands from *from to `at`, and a '?' in the place of the octet there. */
static void replace(piece *p, mp_str s, size_t *from, size_t at)
{
  put(p, mp_str_sub(s, *from, at - *from));
  put(p, MP_STR("?"));
  *from = at + 1;
}

/* A host name or an address literal; whatever could not stand in one becomes '?'. */
static void put_name(piece *p, mp_str name)
{
  name = mp_str_sub(name, 0, NAME_MOST);
  if (name.len == 0)
    name = MP_STR("unknown");
  bool literal = name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']';
  size_t from = 0;
  for (size_t i = 0; i < name.len; i++) {
    unsigned char c = (unsigned char)name.ptr[i];
    bool edge = literal && (i == 0 || i == name.len - 1);
    if (!(edge || is_word(c) || (literal && c == ':')))
      replace(p, name, &from, i);
  }
  put(p, mp_str_sub(name, from, name.len));
}

/* Text inside a comment (RFC 5322 3.2.2): printable ASCII but for parentheses and the backslash. */
static void put_comment(piece *p, mp_str s)
{
  s = mp_str_sub(s, 0, WORD_MOST);
  size_t from = 0;
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (!(c >= 0x20 && c <= 0x7e && c != '(' && c != ')' && c != '\\'))
      replace(p, s, &from, i);
  }
  put(p, mp_str_sub(s, from, s.len));
}

static void put_ip(piece *p, const mp_ip *ip)
{
  char text[MP_IP_TEXT];
  size_t len = mp_ip_format(ip, text);
  put(p, mp_ip_is4(ip) ? MP_STR("[") : MP_STR("[IPv6:"));
  put(p, mp_str_of(text, len));
  put(p, MP_STR("]"));
}

/* Can `path` stand between angle brackets as it is? It was parsed once as a path; a quoted-string may hold anything but
 * controls, the rest no more than dot-atoms, literals and UTF-8 do (RFC 6531 3.7.3). */
static bool is_path(mp_str path)
{
  bool quoted = false;
  if (path.len == 0 || path.len > WORD_MOST || !mp_str_utf8(path))
    return false;
  for (size_t i = 0; i < path.len; i++) {
    unsigned char c = (unsigned char)path.ptr[i];
    if (c < 0x20 || c == 0x7f)
      return false;
    if (quoted && c == '\\') {
      if (++i == path.len || (unsigned char)path.ptr[i] < 0x20 || path.ptr[i] == 0x7f)
        return false;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && (c == ' ' || c == '<' || c == '>' || c == '(' || c == ')' || c == ',' || c == ';' ||
                           c == '\\')) {
      return false;
    }
  }
  return !quoted;
}

static void append(field *f, const char *s, size_t len)
{
  size_t room = sizeof f->text - f->len;
  size_t n = len < room ? len : room;
  memcpy(f->text + f->len, s, n);
  f->len += n;
  f->column += n;
}

static void fold(field *f)
{
  append(f, "\r\n\t", 3);
  f->column = 1;
}

/* Places a piece behind a space, or on a line of its own where it would pass the 78th column (RFC 5322 2.1.1). */
static void place(field *f, const piece *p)
{
  if (f->column > 1 && f->column + 1 + p->len > COLUMNS)
    fold(f);
  else if (f->column > 1)
    append(f, " ", 1);
  append(f, p->text, p->len);
}

static void clause(field *f, const char *keyword, mp_str name)
{
  piece p = { .len = 0 };
  put(&p, mp_str_c(keyword));
  put_name(&p, name);
  place(f, &p);
}

/* TCP-info (RFC 5321 4.4): the name that was verified and the address the octets came from. */
static void tcp_info(field *f, const mp_trace *trace)
{
  piece p = { .len = 0 };
  put(&p, MP_STR("("));
  if (!trace->peer) {
    put(&p, MP_STR("local)"));
    place(f, &p);
    return;
  }
  if (trace->peer_name.len) {
    put_name(&p, trace->peer_name);
    put(&p, MP_STR(" "));
  }
  put_ip(&p, trace->peer);
  put(&p, MP_STR(")"));
  place(f, &p);
}

int mp_received_write(mp_buf *out, const mp_trace *trace)
{
  field f = { .len = 0 };
  append(&f, "Received:", 9);
  clause(&f, "from ", trace->helo);
  tcp_info(&f, trace);
  piece p = { .len = 0 };
  if (trace->show_user && trace->user.len) {
    fold(&f);
    put(&p, MP_STR("(authenticated as "));
    put_comment(&p, trace->user);
    put(&p, MP_STR(")"));
    place(&f, &p);
  }
  fold(&f);
  clause(&f, "by ", trace->by);
  clause(&f, "with ", trace->with.len ? trace->with : MP_STR("SMTP"));
  if (trace->tls_version.len) {
    p.len = 0;
    put(&p, MP_STR("("));
    put_comment(&p, trace->tls_version);
    if (trace->tls_cipher.len) {
      put(&p, MP_STR(" "));
      put_comment(&p, trace->tls_cipher);
    }
    put(&p, MP_STR(")"));
    place(&f, &p);
  }
  fold(&f);
  clause(&f, "id ", trace->id);
  if (is_path(trace->recipient)) {
    p.len = 0;
    put(&p, MP_STR("for <"));
    put(&p, trace->recipient);
    put(&p, MP_STR(">"));
    place(&f, &p);
  }
  append(&f, ";", 1);
  fold(&f);
  int offset = trace->offset_min == MP_DATE_LOCAL ? mp_date_offset(trace->unix_s) : trace->offset_min;
  char date[MP_DATE_TEXT];
  append(&f, date, mp_date_format(trace->unix_s, offset, date));
  append(&f, "\r\n", 2);
  return mp_buf_add(out, f.text, f.len);
}
