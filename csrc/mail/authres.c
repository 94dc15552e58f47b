#include "mail/authres.h"

#include "base/error.h"

static bool is_space(unsigned char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(unsigned char c)
{
  return c >= '0' && c <= '9';
}

/* Letters of Keyword (RFC 5321 4.1.1.1), and "_", which methods in the wild have. */
static bool is_word(unsigned char c)
{
  unsigned char lower = mp_ascii_lower(c);
  return (lower >= 'a' && lower <= 'z') || is_digit(c) || c == '-' || c == '_';
}

static bool more(const mp_authres *r)
{
  return r->at < r->text.len;
}

static unsigned char peek(const mp_authres *r)
{
  return more(r) ? (unsigned char)r->text.ptr[r->at] : 0;
}

static mp_str since(const mp_authres *r, size_t from)
{
  return mp_str_of(r->text.ptr + from, r->at - from);
}

/* A comment, perhaps with others inside. One that is not closed goes on to the end. */
static mp_str comment(mp_authres *r)
{
  size_t from = ++r->at;
  for (size_t depth = 1; more(r); r->at++) {
    unsigned char c = peek(r);
    if (c == '\\' && r->at + 1 < r->text.len)
      r->at++;
    else if (c == '(')
      depth++;
    else if (c == ')' && --depth == 0) {
      mp_str inside = since(r, from);
      r->at++;
      return inside;
    }
  }
  r->damaged = true;
  return since(r, from);
}

/* Passes CFWS; the first comment is kept when `first` wants one and has none. */
static void blank(mp_authres *r, mp_str *first)
{
  while (more(r)) {
    if (is_space(peek(r))) {
      r->at++;
    } else if (peek(r) == '(') {
      mp_str found = comment(r);
      if (first && !first->ptr)
        *first = found;
    } else {
      return;
    }
  }
}

/* Behind the quote at the end; at the end of the text when there is none. */
static void quoted(mp_authres *r)
{
  for (r->at++; more(r); r->at++) {
    unsigned char c = peek(r);
    if (c == '\\' && r->at + 1 < r->text.len) {
      r->at++;
    } else if (c == '"') {
      r->at++;
      return;
    }
  }
  r->damaged = true;
}

static mp_str word(mp_authres *r)
{
  size_t from = r->at;
  while (more(r) && is_word(peek(r)))
    r->at++;
  return since(r, from);
}

/* A value, or a mailbox (pvalue). More is taken than a token may have: keys and signatures are often written without quotes. */
static mp_str pvalue(mp_authres *r)
{
  size_t from = r->at;
  while (more(r)) {
    unsigned char c = peek(r);
    if (c == '"')
      quoted(r);
    else if (is_space(c) || c == ';' || c == '(' || c == ')')
      break;
    else
      r->at++;
  }
  return since(r, from);
}

/* Up to and behind the next ";" that is none of a comment's or a string's. */
static void pass_over(mp_authres *r)
{
  r->result = false;
  while (more(r)) {
    unsigned char c = peek(r);
    if (c == '"') {
      quoted(r);
    } else if (c == '(') {
      comment(r);
    } else {
      r->at++;
      if (c == ';')
        return;
    }
  }
}

int mp_authres_begin(mp_authres *r, mp_str value)
{
  *r = (mp_authres){ .text = value };
  blank(r, NULL);
  size_t start = r->at;
  mp_str id = pvalue(r);
  if (id.len == 0 && !more(r))
    return MP_E_SYNTAX;
  /* Some write results at once: "spf=pass ...". No name has such a sign. */
  if (id.len == 0 || (id.ptr[0] != '"' && memchr(id.ptr, '=', id.len))) {
    r->at = start;
    return 0;
  }
  blank(r, NULL);
  if (peek(r) == '=') {
    r->at = start;
    return 0;
  }
  r->id = id;
  size_t from = r->at;
  while (is_digit(peek(r)))
    r->at++;
  r->version = since(r, from);
  blank(r, NULL);
  if (more(r) && peek(r) != ';') { /* nobody can say what this is: not who says so, and not what */
    r->damaged = true;
    r->id = MP_STR_NULL;
    pass_over(r);
  }
  return 0;
}

/* method [/ version] = result */
static bool result(mp_authres *r, mp_authres_item *item)
{
  *item = (mp_authres_item){ .kind = MP_AUTHRES_RESULT, .name = word(r) };
  blank(r, NULL);
  if (peek(r) == '/') {
    r->at++;
    blank(r, NULL);
    size_t from = r->at;
    while (is_digit(peek(r)))
      r->at++;
    item->version = since(r, from);
    blank(r, NULL);
  }
  if (item->name.len == 0 || peek(r) != '=')
    return false;
  r->at++;
  blank(r, NULL);
  item->value = word(r);
  if (item->value.len == 0)
    return false;
  blank(r, &item->comment);
  r->result = true;
  return true;
}

/* reason = value, or type . name = value */
static bool property(mp_authres *r, mp_authres_item *item)
{
  *item = (mp_authres_item){ .kind = MP_AUTHRES_PROPERTY, .name = word(r) };
  blank(r, NULL);
  if (peek(r) == '.') {
    r->at++;
    blank(r, NULL);
    item->type = item->name;
    item->name = word(r);
    blank(r, NULL);
  } else if (mp_str_ieq(item->name, MP_STR("reason"))) {
    item->kind = MP_AUTHRES_REASON;
  }
  if (item->name.len == 0 || peek(r) != '=')
    return false;
  r->at++;
  blank(r, NULL);
  item->value = pvalue(r);
  blank(r, NULL);
  return true;
}

/* "none" where a result would stand, and nothing behind it. */
static bool says_none(mp_authres *r)
{
  size_t start = r->at;
  mp_str none = word(r);
  blank(r, NULL);
  if (mp_str_ieq(none, MP_STR("none")) && (!more(r) || peek(r) == ';'))
    return true;
  r->at = start;
  return false;
}

bool mp_authres_next(mp_authres *r, mp_authres_item *item)
{
  for (;;) {
    blank(r, NULL);
    if (!more(r))
      return false;
    if (peek(r) == ';') {
      r->result = false;
      r->at++;
    } else if (r->result ? property(r, item) : !says_none(r) && result(r, item)) {
      return true;
    } else if (more(r) && peek(r) != ';') {
      r->damaged = true;
      pass_over(r);
    }
  }
}

/* Whether the first quote is closed by the last octet. */
static bool is_quoted(mp_str value)
{
  if (value.len < 2 || value.ptr[0] != '"')
    return false;
  mp_authres r = { .text = value };
  quoted(&r);
  return r.at == value.len && !r.damaged;
}

int mp_authres_text(mp_buf *out, mp_str value)
{
  bool plain = is_quoted(value);
  for (size_t i = plain; i < value.len - plain; i++) {
    if (plain && value.ptr[i] == '\\' && i + 2 < value.len)
      i++;
    if (value.ptr[i] == '\r' || value.ptr[i] == '\n')
      continue;
    int rc = mp_buf_add(out, value.ptr + i, 1);
    if (rc < 0)
      return rc;
  }
  return 0;
}
