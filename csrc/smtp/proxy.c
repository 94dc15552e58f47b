#include "smtp/proxy.h"

#include "base/error.h"

enum { V1_MOST = 107, V2_HEAD = 16, TLV_CRC32C = 3 };

static uint16_t be16(const unsigned char *p)
{
  return (uint16_t)(p[0] << 8 | p[1]);
}

/* ---- version 1: a line of text ---------------------------------------------------------------------------------- */

static bool word(mp_str *rest, mp_str *out)
{
  mp_ssize space = mp_str_find(*rest, ' ', 0);
  size_t end = space < 0 ? rest->len : (size_t)space;
  *out = mp_str_sub(*rest, 0, end);
  *rest = mp_str_sub(*rest, end + (space >= 0), rest->len);
  return out->len > 0;
}

static bool port(mp_str text, uint16_t *out)
{
  uint64_t value;
  if (text.len > 5 || !mp_str_u64(text, 65535, &value))
    return false;
  *out = (uint16_t)value;
  return true;
}

static bool address(mp_str text, bool six, mp_ip *out)
{
  return (mp_str_find(text, ':', 0) >= 0) == six && mp_ip_parse(out, text);
}

static mp_ssize parse_v1(mp_proxy *proxy, mp_str in)
{
  mp_str head = MP_STR("PROXY ");
  size_t seen = in.len < head.len ? in.len : head.len;
  if (memcmp(in.ptr, head.ptr, seen) != 0)
    return MP_E_SYNTAX;
  mp_ssize lf = mp_str_find(mp_str_sub(in, 0, V1_MOST), '\n', 0);
  if (lf < 0)
    return in.len < V1_MOST ? 0 : (mp_ssize)MP_E_SYNTAX;
  mp_str line = mp_str_sub(in, 0, (size_t)lf);
  if (line.len < head.len || line.ptr[line.len - 1] != '\r')
    return MP_E_SYNTAX;
  line = mp_str_sub(line, head.len, line.len - 1 - head.len);
  if (mp_str_find(line, '\r', 0) >= 0 || mp_str_find(line, '\0', 0) >= 0)
    return MP_E_SYNTAX;
  mp_str family, source, destination, source_port;
  if (!word(&line, &family))
    return MP_E_SYNTAX;
  if (mp_str_eq(family, MP_STR("UNKNOWN"))) /* what follows is to be ignored */
    return lf + 1;
  bool six = mp_str_eq(family, MP_STR("TCP6"));
  if (!six && !mp_str_eq(family, MP_STR("TCP4")))
    return MP_E_SYNTAX;
  if (!word(&line, &source) || !word(&line, &destination) || !word(&line, &source_port))
    return MP_E_SYNTAX;
  if (!address(source, six, &proxy->source) || !address(destination, six, &proxy->destination) ||
      !port(source_port, &proxy->source_port) || !port(line, &proxy->destination_port))
    return MP_E_SYNTAX;
  proxy->known = true;
  return lf + 1;
}

/* ---- version 2: binary ------------------------------------------------------------------------------------------ */

/* CRC-32C (Castagnoli) of a header whose own checksum at `hole` counts as zeros. Bit by bit: a header is read once. */
static uint32_t crc32c(const unsigned char *p, size_t len, size_t hole)
{
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < len; i++) {
    crc ^= i >= hole && i < hole + 4 ? 0 : p[i];
    for (int bit = 0; bit < 8; bit++)
      crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

/* The TLVs from `from` to the end of the header are whole, and a checksum among them is right. */
static bool check_tlvs(const unsigned char *p, size_t from, size_t len)
{
  bool summed = false;
  for (size_t i = from; i < len;) {
    if (len - i < 3 || len - i - 3 < be16(p + i + 1))
      return false;
    size_t value = i + 3, size = be16(p + i + 1);
    if (p[i] == TLV_CRC32C) {
      if (size != 4 || summed)
        return false;
      summed = true;
      uint32_t want = (uint32_t)be16(p + value) << 16 | be16(p + value + 2);
      if (crc32c(p, len, value) != want)
        return false;
    }
    i = value + size;
  }
  return true;
}

static void mapped(mp_ip *ip, const unsigned char *four)
{
  static const unsigned char head[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
  memcpy(ip->octets, head, sizeof head);
  memcpy(ip->octets + sizeof head, four, 4);
}

static mp_ssize parse_v2(mp_proxy *proxy, mp_str in)
{
  static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";
  if (memcmp(in.ptr, signature, in.len < sizeof signature ? in.len : sizeof signature) != 0)
    return MP_E_SYNTAX;
  const unsigned char *p = (const unsigned char *)in.ptr;
  if (in.len > 12 && p[12] != 0x20 && p[12] != 0x21) /* version 2; LOCAL or PROXY */
    return MP_E_SYNTAX;
  if (in.len < V2_HEAD)
    return 0;
  size_t len = (size_t)V2_HEAD + be16(p + 14);
  if (len > MP_PROXY_MOST)
    return MP_E_SYNTAX;
  if (in.len < len)
    return 0;
  proxy->local = p[12] == 0x20;
  if (proxy->local) /* the rest is to be discarded, whatever it says */
    return (mp_ssize)len;
  unsigned family = p[13] >> 4, transport = p[13] & 15;
  if (family > 3 || transport > 2)
    return MP_E_SYNTAX;
  if (family == 0 || transport == 0)
    return (mp_ssize)len;
  size_t sizes[] = { 0, 12, 36, 216 }, addresses = sizes[family];
  if (len - V2_HEAD < addresses || !check_tlvs(p, V2_HEAD + addresses, len))
    return MP_E_SYNTAX;
  if (transport != 1 || family == 3)
    return (mp_ssize)len;
  p += V2_HEAD;
  if (family == 1) {
    mapped(&proxy->source, p);
    mapped(&proxy->destination, p + 4);
  } else {
    memcpy(proxy->source.octets, p, 16);
    memcpy(proxy->destination.octets, p + 16, 16);
  }
  proxy->source_port = be16(p + addresses - 4);
  proxy->destination_port = be16(p + addresses - 2);
  proxy->known = true;
  return (mp_ssize)len;
}

mp_ssize mp_proxy_parse(mp_proxy *proxy, mp_str in)
{
  *proxy = (mp_proxy){ .known = false };
  if (in.len == 0)
    return 0;
  return in.ptr[0] == '\r' ? parse_v2(proxy, in) : parse_v1(proxy, in);
}
