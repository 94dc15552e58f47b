#include "dns/name.h"

#include "base/error.h"
#include "base/mem.h"

#include <idn2.h>
#include <stdio.h>

enum {
  NAME_MOST = 253, /* as text; 255 on the wire (RFC 1035 2.3.4) */
  LABEL_MOST = 63,
  WIRE_MOST = 255,
  GIVEN_MOST = 1024 /* of a name in UTF-8, before it is looked at more closely */
};

static mp_ssize copy_ascii(char out[MP_DNS_NAME_ASKED], mp_str name)
{
  if (name.len && name.ptr[name.len - 1] == '.')
    name.len--;
  if (name.len == 0 || name.len > NAME_MOST)
    return MP_E_INVALID;
  size_t label = 0;
  for (size_t i = 0; i < name.len; i++) {
    unsigned char c = (unsigned char)name.ptr[i];
    if (c == '.' ? label == 0 : c <= ' ' || c >= 0x7f || c == '\\')
      return MP_E_INVALID;
    label = c == '.' ? 0 : label + 1;
    if (label > LABEL_MOST)
      return MP_E_INVALID;
    out[i] = (char)mp_ascii_lower(c);
  }
  if (label == 0)
    return MP_E_INVALID;
  out[name.len] = '\0';
  return (mp_ssize)name.len;
}

static bool is_ascii(mp_str name)
{
  for (size_t i = 0; i < name.len; i++)
    if ((unsigned char)name.ptr[i] >= 0x80)
      return false;
  return true;
}

mp_ssize mp_dns_name_ascii(char out[MP_DNS_NAME_ASKED], mp_str name)
{
  if (is_ascii(name))
    return copy_ascii(out, name);
  if (name.len > GIVEN_MOST || memchr(name.ptr, '\0', name.len) || !mp_str_utf8(name))
    return MP_E_INVALID;
  char *given = mp_mem_dup(name.ptr, name.len);
  if (!given)
    return MP_E_NOMEM;
  uint8_t *mapped = NULL;
  int rc = idn2_lookup_u8((const uint8_t *)given, &mapped, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
  mp_mem_free(given);
  if (rc != IDN2_OK)
    return rc == IDN2_MALLOC ? MP_E_NOMEM : MP_E_INVALID;
  /* UTS 46 maps more than letters: what came out is held to the same rules. */
  mp_ssize len = copy_ascii(out, mp_str_c((const char *)mapped));
  idn2_free(mapped);
  return len;
}

mp_ssize mp_dns_name_unicode(char out[MP_DNS_NAME_TEXT], mp_str name)
{
  char ascii[MP_DNS_NAME_ASKED], again[MP_DNS_NAME_ASKED];
  mp_ssize rc = mp_dns_name_ascii(ascii, name);
  if (rc < 0)
    return rc;
  char *text = NULL;
  int idn = idn2_to_unicode_8z8z(ascii, &text, IDN2_NONTRANSITIONAL);
  if (idn != IDN2_OK)
    return idn == IDN2_MALLOC ? MP_E_NOMEM : MP_E_INVALID;
  mp_str found = mp_str_c(text);
  rc = found.len < MP_DNS_NAME_TEXT ? mp_dns_name_ascii(again, found) : MP_E_INVALID;
  if (rc >= 0 && strcmp(ascii, again) != 0)
    rc = MP_E_INVALID;
  if (rc >= 0) {
    memcpy(out, found.ptr, found.len + 1);
    rc = (mp_ssize)found.len;
  }
  idn2_free(text);
  return rc;
}

static size_t put_octet(char *out, unsigned char c)
{
  if (c <= ' ' || c >= 0x7f)
    return (size_t)snprintf(out, 5, "\\%03u", (unsigned)c);
  size_t len = 0;
  if (c == '.' || c == '\\')
    out[len++] = '\\';
  out[len++] = (char)mp_ascii_lower(c);
  return len;
}

mp_ssize mp_dns_name_read(char out[MP_DNS_NAME_TEXT], mp_str wire)
{
  size_t at = 0, len = 0;
  for (;;) {
    if (at >= wire.len || at >= WIRE_MOST)
      return MP_E_SYNTAX;
    size_t label = (unsigned char)wire.ptr[at++];
    if (label == 0)
      break;
    /* Room for the root's octet behind it; and no compression (the two high bits), which rdata was freed of. */
    if (label > LABEL_MOST || label >= wire.len - at || at + label >= WIRE_MOST)
      return MP_E_SYNTAX;
    if (len)
      out[len++] = '.';
    for (size_t end = at + label; at < end; at++)
      len += put_octet(out + len, (unsigned char)wire.ptr[at]);
  }
  out[len] = '\0';
  return (mp_ssize)at;
}

size_t mp_dns_name_reverse(char out[MP_DNS_NAME_ASKED], const mp_ip *ip)
{
  const unsigned char *o = ip->octets;
  if (mp_ip_is4(ip))
    return (size_t)snprintf(out, MP_DNS_NAME_ASKED, "%u.%u.%u.%u.in-addr.arpa", o[15], o[14], o[13], o[12]);
  size_t len = 0;
  for (int i = 15; i >= 0; i--)
    len += (size_t)snprintf(out + len, MP_DNS_NAME_ASKED - len, "%x.%x.", o[i] & 15u, o[i] >> 4u);
  return len + (size_t)snprintf(out + len, MP_DNS_NAME_ASKED - len, "ip6.arpa");
}
