#include "base/error.h"
#include "smtp/path.h"
#include "smtp/proxy.h"
#include "smtp/text.h"

/* Decodes xtext into *scratch and moves that behind the result. Postfix writes attributes so; '=' needs no coding there. */
static bool decode(mp_str in, char **scratch, mp_str *out)
{
  char *p = *scratch;
  for (size_t i = 0; i < in.len; i++) {
    char c = in.ptr[i];
    if (c == '+') {
      int value = 0;
      if (in.len - i < 3)
        return false;
      for (size_t k = 1; k <= 2; k++) {
        char digit = (char)mp_ascii_lower((unsigned char)in.ptr[i + k]);
        if (!((digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f')))
          return false;
        value = value << 4 | (digit <= '9' ? digit - '0' : digit - 'a' + 10);
      }
      c = (char)value;
      i += 2;
    }
    *p++ = c;
  }
  *out = mp_str_of(*scratch, (size_t)(p - *scratch));
  *scratch = p;
  return true;
}

static bool parse_ip(mp_str text, mp_ip *ip)
{
  mp_str six = MP_STR("IPV6:");
  if (!mp_str_istarts(text, six))
    return mp_str_find(text, ':', 0) < 0 && mp_ip_parse(ip, text);
  text = mp_str_sub(text, six.len, text.len);
  return mp_str_find(text, ':', 0) >= 0 && mp_ip_parse(ip, text);
}

static bool parse_port(mp_str text, uint16_t *port)
{
  uint64_t value;
  if (text.len > 5 || !mp_str_u64(text, 65535, &value))
    return false;
  *port = (uint16_t)value;
  return true;
}

static bool take(mp_xclient *xclient, unsigned bit, mp_str value)
{
  switch (bit) {
  case MP_XCLIENT_NAME:
    xclient->name = value;
    return mp_domain_check(value, false, true);
  case MP_XCLIENT_ADDR:
    return parse_ip(value, &xclient->addr);
  case MP_XCLIENT_PORT:
    return parse_port(value, &xclient->port);
  case MP_XCLIENT_PROTO:
    xclient->esmtp = mp_str_ieq(value, MP_STR("ESMTP"));
    return xclient->esmtp || mp_str_ieq(value, MP_STR("SMTP"));
  case MP_XCLIENT_HELO:
    xclient->helo = value;
    return mp_text_printable(value, false);
  case MP_XCLIENT_LOGIN:
    xclient->login = value;
    return mp_text_printable(value, true);
  case MP_XCLIENT_DESTADDR:
    return parse_ip(value, &xclient->destaddr);
  default:
    return parse_port(value, &xclient->destport);
  }
}

static unsigned find(mp_str name)
{
  static const char *const names[] = { "NAME", "ADDR",  "PORT",     "PROTO",
                                       "HELO", "LOGIN", "DESTADDR", "DESTPORT" };
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (mp_str_ieq(name, mp_str_c(names[i])))
      return 1u << i;
  return 0;
}

int mp_xclient_parse(mp_xclient *xclient, mp_str in, char *scratch)
{
  *xclient = (mp_xclient){ .given = 0 };
  in = mp_str_trim(in);
  if (in.len == 0)
    return MP_E_SYNTAX;
  while (in.len) {
    mp_ssize space = mp_str_find(in, ' ', 0), equals = mp_str_find(in, '=', 0);
    size_t end = space < 0 ? in.len : (size_t)space;
    if (equals < 0 || (size_t)equals >= end)
      return MP_E_SYNTAX;
    unsigned bit = find(mp_str_sub(in, 0, (size_t)equals));
    mp_str value, coded = mp_str_sub(in, (size_t)equals + 1, end - (size_t)equals - 1);
    if (!bit || (xclient->given & bit) || !decode(coded, &scratch, &value) || value.len == 0)
      return MP_E_SYNTAX;
    xclient->given |= bit;
    if (mp_str_ieq(value, MP_STR("[UNAVAILABLE]")) || mp_str_ieq(value, MP_STR("[TEMPUNAVAIL]")))
      xclient->unavailable |= bit;
    else if (!take(xclient, bit, value))
      return MP_E_SYNTAX;
    in = mp_str_sub(in, end, in.len);
    while (in.len && in.ptr[0] == ' ')
      in = mp_str_sub(in, 1, in.len);
  }
  return 0;
}
