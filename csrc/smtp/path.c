/* One pass from left to right: local part, '@', domain. Each octet is looked at a fixed number of times. */
#include "smtp/path.h"

#include "base/error.h"
#include "smtp/text.h"

/* RFC 5321 4.5.3.1: octets. The path counts its brackets and its route. */
enum { LOCAL_MOST = 64, DOMAIN_MOST = 255, PATH_MOST = 256, LABEL_MOST = 63 };

static bool is_alnum(unsigned char c)
{
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_atext(unsigned char c)
{
  return is_alnum(c) || (c > ' ' && c < 0x7f && memchr("!#$%&'*+-/=?^_`{|}~", c, 19));
}

static unsigned char at(mp_str s, size_t i)
{
  return i < s.len ? (unsigned char)s.ptr[i] : 0; /* NUL stands in no rule of the grammar */
}

bool mp_domain_check(mp_str name, bool utf8, bool underscore)
{
  if (name.len == 0 || name.len > DOMAIN_MOST || !mp_text_printable(name, utf8))
    return false;
  for (size_t from = 0; from <= name.len;) {
    mp_ssize dot = mp_str_find(name, '.', from);
    size_t end = dot < 0 ? name.len : (size_t)dot;
    if (end == from || name.ptr[from] == '-' || name.ptr[end - 1] == '-')
      return false;
    bool ascii = true;
    for (size_t i = from; i < end; i++) {
      unsigned char c = (unsigned char)name.ptr[i];
      if (!is_alnum(c) && c != '-' && c < 0x80 && !(c == '_' && underscore))
        return false;
      ascii = ascii && c < 0x80;
    }
    /* A U-label may take up to 252 octets as UTF-8 (RFC 5890 4.2). */
    if (ascii && end - from > LABEL_MOST)
      return false;
    from = end + 1;
  }
  return true;
}

/* RFC 5321 4.1.3: "::" stands for two groups at least, so that six of eight may be written beside it. */
static bool ipv6(mp_ip *ip, mp_str text)
{
  size_t groups = 0;
  bool gap = false;
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = at(text, i);
    bool begins = c != ':' && (i == 0 || at(text, i - 1) == ':');
    groups += begins;
    gap = gap || (c == ':' && at(text, i + 1) == ':');
  }
  if (mp_str_find(text, '.', 0) >= 0) /* an IPv4 address at the end counts as two */
    groups++;
  return groups <= (gap ? 6 : 8) && mp_str_find(text, ':', 0) >= 0 && mp_ip_parse(ip, text);
}

/* A tag that could be the first group of an IPv6 address: its own tag was forgotten. */
static bool is_group(mp_str tag)
{
  for (size_t i = 0; i < tag.len; i++)
    if (!is_alnum(at(tag, i)) || mp_ascii_lower(at(tag, i)) > 'f')
      return false;
  return tag.len <= 4;
}

/* What stands between '[' and ']' (RFC 5321 4.1.3). An IPv4 number with a leading zero is refused: readers disagree whether it
 * is octal. */
static bool literal(mp_path *path, mp_str inner)
{
  mp_str six = MP_STR("IPv6:");
  if (mp_str_istarts(inner, six)) {
    path->kind = MP_DOMAIN_IPV6;
    return ipv6(&path->ip, mp_str_sub(inner, six.len, inner.len));
  }
  mp_ssize colon = mp_str_find(inner, ':', 0);
  if (colon < 0) {
    path->kind = MP_DOMAIN_IPV4;
    return mp_ip_parse(&path->ip, inner);
  }
  path->kind = MP_DOMAIN_TAG;
  size_t tag = (size_t)colon;
  if (is_group(mp_str_sub(inner, 0, tag)) || tag + 1 == inner.len || !is_alnum(at(inner, tag - 1)))
    return false;
  for (size_t i = 0; i < tag; i++)
    if (!is_alnum(at(inner, i)) && at(inner, i) != '-')
      return false;
  for (size_t i = tag + 1; i < inner.len; i++) {
    unsigned char c = at(inner, i);
    if (c < 33 || c > 126 || (c > 90 && c < 94)) /* dcontent */
      return false;
  }
  return true;
}

/* Index behind the domain or address literal that starts at `from`, or MP_E_SYNTAX. It is not checked here. */
static mp_ssize domain_end(mp_str in, size_t from)
{
  if (at(in, from) == '[') {
    mp_ssize close = mp_str_find(in, ']', from);
    return close < 0 ? MP_E_SYNTAX : close + 1;
  }
  size_t i = from;
  while (i < in.len &&
         (is_alnum(at(in, i)) || at(in, i) == '-' || at(in, i) == '.' || at(in, i) == '_' || at(in, i) >= 0x80))
    i++;
  return i == from ? (mp_ssize)MP_E_SYNTAX : (mp_ssize)i;
}

/* Index behind the local part that starts at `from`, or MP_E_SYNTAX. */
static mp_ssize local_end(mp_path *path, mp_str in, size_t from, unsigned flags)
{
  size_t i = from;
  path->quoted = at(in, i) == '"';
  if (path->quoted) {
    for (i++; i < in.len && at(in, i) != '"'; i++) {
      unsigned char c = at(in, i);
      if (c == '\\') /* quoted-pairSMTP: RFC 6531 does not widen it */
        c = at(in, ++i) < 0x80 ? at(in, i) : 0;
      if (c < ' ' || c == 0x7f)
        return MP_E_SYNTAX;
    }
    return i < in.len ? (mp_ssize)i + 1 : (mp_ssize)MP_E_SYNTAX;
  }
  bool lax = flags & MP_PATH_LAX_DOTS, dot = true; /* a dot may not stand here */
  for (; i < in.len; i++) {
    unsigned char c = at(in, i);
    if (c == '.' ? dot && !lax : !is_atext(c) && c < 0x80)
      break;
    dot = c == '.';
  }
  return i == from || (dot && !lax) ? (mp_ssize)MP_E_SYNTAX : (mp_ssize)i;
}

/* The Mailbox that starts at `from`: its end, or an error. "postmaster" alone ends before what is no '@'. */
static mp_ssize mailbox(mp_path *path, mp_str in, size_t from, unsigned flags)
{
  mp_ssize end = local_end(path, in, from, flags);
  if (end < 0)
    return end;
  path->local = mp_str_sub(in, from, (size_t)end - from);
  if (at(in, (size_t)end) != '@') {
    path->address = path->local;
    path->domain = mp_str_sub(in, (size_t)end, 0);
    return (flags & MP_PATH_POSTMASTER) && mp_str_ieq(path->local, MP_STR("postmaster"))
               ? end
               : (mp_ssize)MP_E_SYNTAX;
  }
  size_t start = (size_t)end + 1;
  end = domain_end(in, start);
  if (end < 0)
    return end;
  path->domain = mp_str_sub(in, start, (size_t)end - start);
  path->address = mp_str_sub(in, from, (size_t)end - from);
  for (size_t i = 0; i < path->address.len; i++)
    path->utf8 = path->utf8 || (unsigned char)path->address.ptr[i] >= 0x80;
  if (!mp_text_printable(path->address, flags & MP_PATH_UTF8))
    return MP_E_SYNTAX;
  if (path->domain.len > DOMAIN_MOST || (path->local.len > LOCAL_MOST && !(flags & MP_PATH_LAX_LENGTH)))
    return MP_E_TOOLONG;
  if (path->domain.ptr[0] == '[')
    return literal(path, mp_str_sub(path->domain, 1, path->domain.len - 2)) ? end : (mp_ssize)MP_E_SYNTAX;
  path->kind = MP_DOMAIN_NAME;
  return mp_domain_check(path->domain, flags & MP_PATH_UTF8, flags & MP_PATH_LAX_UNDERSCORE)
             ? end
             : (mp_ssize)MP_E_SYNTAX;
}

/* Index behind "@a,@b:" at `from`; MP_E_SYNTAX when that is no route. */
static mp_ssize route(mp_path *path, mp_str in, size_t from, unsigned flags)
{
  for (size_t i = from;;) {
    if (at(in, i) != '@')
      return MP_E_SYNTAX;
    size_t start = i + 1;
    mp_ssize end = at(in, start) == '[' ? (mp_ssize)MP_E_SYNTAX : domain_end(in, start);
    if (end < 0)
      return end;
    mp_str domain = mp_str_sub(in, start, (size_t)end - start);
    if (!mp_domain_check(domain, flags & MP_PATH_UTF8, flags & MP_PATH_LAX_UNDERSCORE))
      return domain.len > DOMAIN_MOST ? MP_E_TOOLONG : MP_E_SYNTAX;
    i = (size_t)end;
    if (at(in, i) == ':') {
      path->route = mp_str_sub(in, from, i - from);
      return (mp_ssize)i + 1;
    }
    if (at(in, i) != ',')
      return MP_E_SYNTAX;
    i++;
  }
}

mp_ssize mp_path_parse(mp_path *path, mp_str in, unsigned flags)
{
  *path = (mp_path){ .kind = MP_DOMAIN_NONE };
  bool bracket = at(in, 0) == '<';
  if (!bracket && !(flags & MP_PATH_LAX_BRACKETS))
    return MP_E_SYNTAX;
  mp_ssize end = bracket;
  if (bracket && at(in, 1) == '>') {
    if (!(flags & MP_PATH_REVERSE))
      return MP_E_SYNTAX;
    path->address = path->local = path->domain = mp_str_sub(in, 1, 0);
  } else {
    unsigned inner = flags;
    if (bracket && at(in, 1) == '@') {
      end = route(path, in, 1, flags);
      if (end < 0)
        return end;
      inner &= ~(unsigned)MP_PATH_POSTMASTER;
    }
    end = mailbox(path, in, (size_t)end, inner);
    if (end < 0)
      return end;
  }
  if (bracket && at(in, (size_t)end++) != '>')
    return MP_E_SYNTAX;
  if ((size_t)end < in.len && in.ptr[end] != ' ')
    return MP_E_SYNTAX;
  /* A path without its brackets is as long as with them. */
  return end + (bracket ? 0 : 2) > PATH_MOST ? (mp_ssize)MP_E_TOOLONG : end;
}

int mp_mailbox_parse(mp_path *path, mp_str in, unsigned flags)
{
  *path = (mp_path){ .kind = MP_DOMAIN_NONE };
  mp_ssize end = mailbox(path, in, 0, flags & ~(unsigned)MP_PATH_POSTMASTER);
  if (end < 0)
    return (int)end;
  if ((size_t)end != in.len)
    return MP_E_SYNTAX;
  return in.len + 2 > PATH_MOST ? MP_E_TOOLONG : 0;
}

bool mp_helo_check(mp_str name, bool lax)
{
  if (name.len == 0 || name.len > DOMAIN_MOST || !mp_text_printable(name, false))
    return false;
  bool wrapped = name.len > 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']';
  mp_path scratch = { .kind = MP_DOMAIN_NONE };
  if (wrapped ? literal(&scratch, mp_str_sub(name, 1, name.len - 2)) : mp_domain_check(name, false, false))
    return true;
  for (size_t i = wrapped; lax && i < name.len - wrapped; i++)
    if (memchr(" []<>()", name.ptr[i], 7))
      return false;
  return lax;
}
