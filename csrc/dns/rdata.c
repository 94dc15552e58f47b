#include "dns/rdata.h"

#include "base/error.h"

static const struct {
  mp_dns_type type;
  const char *name;
} types[] = {
#define TYPE_ROW(name, number) { MP_DNS_##name, #name },
  MP_DNS_TYPE_MAP(TYPE_ROW)
#undef TYPE_ROW
};

enum { TYPES = sizeof types / sizeof *types };

const char *mp_dns_type_name(mp_dns_type type)
{
  for (size_t i = 0; i < TYPES; i++)
    if (types[i].type == type)
      return types[i].name;
  return "?";
}

bool mp_dns_type_of(mp_dns_type *type, mp_str name)
{
  for (size_t i = 0; i < TYPES; i++)
    if (mp_str_eq(name, mp_str_c(types[i].name))) {
      *type = types[i].type;
      return true;
    }
  return false;
}

static unsigned octet(mp_str s, size_t at)
{
  return (unsigned char)s.ptr[at];
}

int mp_dns_read_host(mp_str rdata, char out[MP_DNS_NAME_TEXT])
{
  mp_ssize used = mp_dns_name_read(out, rdata);
  return used >= 0 && (size_t)used == rdata.len ? 0 : MP_E_SYNTAX;
}

int mp_dns_read_mx(mp_str rdata, mp_dns_mx *out)
{
  if (rdata.len < 3)
    return MP_E_SYNTAX;
  out->preference = octet(rdata, 0) << 8 | octet(rdata, 1);
  return mp_dns_read_host(mp_str_sub(rdata, 2, rdata.len - 2), out->host);
}

int mp_dns_read_ip(mp_str rdata, mp_ip *out)
{
  static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
  if (rdata.len == 16) {
    memcpy(out->octets, rdata.ptr, 16);
    return 0;
  }
  if (rdata.len != 4)
    return MP_E_SYNTAX;
  memcpy(out->octets, mapped, sizeof mapped);
  memcpy(out->octets + sizeof mapped, rdata.ptr, 4);
  return 0;
}

int mp_dns_read_tlsa(mp_str rdata, mp_dns_tlsa *out)
{
  if (rdata.len < 4)
    return MP_E_SYNTAX;
  *out = (mp_dns_tlsa){ .usage = octet(rdata, 0),
                        .selector = octet(rdata, 1),
                        .mtype = octet(rdata, 2),
                        .data = mp_str_sub(rdata, 3, rdata.len - 3) };
  return 0;
}

mp_ssize mp_dns_read_text(mp_str rdata, char *out)
{
  size_t len = 0, at = 0;
  if (rdata.len == 0)
    return MP_E_SYNTAX;
  while (at < rdata.len) {
    size_t part = octet(rdata, at++);
    if (part > rdata.len - at)
      return MP_E_SYNTAX;
    memcpy(out + len, rdata.ptr + at, part);
    len += part;
    at += part;
  }
  return (mp_ssize)len;
}
