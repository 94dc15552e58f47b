#include "tls/why.h"

#include "base/error.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

void mp_tls_say(char *why, size_t room, const char *fmt, ...)
{
  if (room == 0)
    return;
  char raw[MP_TLS_WHY_MAX];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(raw, sizeof raw, fmt, ap);
  va_end(ap);
  if (n < 0)
    n = 0;
  size_t len = (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
  bool utf8 = mp_str_utf8(mp_str_of(raw, len));
  size_t at = 0;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)raw[i];
    bool plain = (c >= 0x20 && c < 0x7f) || (c >= 0x80 && utf8);
    if (at + (plain ? 1 : 4) >= room)
      break;
    if (plain)
      why[at++] = (char)c;
    else
      at += (size_t)snprintf(why + at, room - at, "\\x%02x", c);
  }
  why[at] = '\0';
}

int mp_tls_say_errno(int sys, const char *path, char *why, size_t room)
{
  char text[128];
  const char *said = strerror_r(sys, text, sizeof text);
  /* The system's sentence stands in the middle of ours. */
  mp_tls_say(why, room, "%s: %c%s", path, mp_ascii_lower((unsigned char)said[0]), said[0] ? said + 1 : "");
  return mp_error_errno(sys);
}

const char *mp_tls_reason(const char *otherwise)
{
  unsigned long code, told = 0;
  while ((code = ERR_get_error()) != 0) {
    if (told == 0 || (ERR_GET_LIB(told) != ERR_LIB_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL))
      told = code;
  }
  const char *text = told ? ERR_reason_error_string(told) : NULL;
  return text ? text : otherwise;
}
