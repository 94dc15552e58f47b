#include "base/ip.h"

#include <arpa/inet.h>

static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool mp_ip_parse(mp_ip *ip, mp_str text)
{
  char copy[MP_IP_TEXT];
  if (text.len == 0 || text.len >= sizeof copy || memchr(text.ptr, 0, text.len))
    return false;
  memcpy(copy, text.ptr, text.len);
  copy[text.len] = '\0';
  if (memchr(copy, ':', text.len))
    return inet_pton(AF_INET6, copy, ip->octets) == 1;
  memcpy(ip->octets, mapped, sizeof mapped);
  return inet_pton(AF_INET, copy, ip->octets + 12) == 1;
}

bool mp_ip_is4(const mp_ip *ip)
{
  return memcmp(ip->octets, mapped, sizeof mapped) == 0;
}

/* By hand, for it stands in the Received field of every message. */
static size_t format4(const unsigned char octets[4], char *text)
{
  char *at = text;
  for (int i = 0; i < 4; i++) {
    unsigned n = octets[i];
    if (n >= 100)
      *at++ = (char)('0' + n / 100);
    if (n >= 10)
      *at++ = (char)('0' + n / 10 % 10);
    *at++ = (char)('0' + n % 10);
    *at++ = i < 3 ? '.' : '\0';
  }
  return (size_t)(at - text) - 1;
}

size_t mp_ip_format(const mp_ip *ip, char text[MP_IP_TEXT])
{
  if (mp_ip_is4(ip))
    return format4(ip->octets + 12, text);
  inet_ntop(AF_INET6, ip->octets, text, MP_IP_TEXT);
  return strlen(text);
}

bool mp_network_parse(mp_network *net, mp_str text)
{
  mp_ssize slash = mp_str_find(text, '/', 0);
  mp_str address = slash < 0 ? text : mp_str_sub(text, 0, (size_t)slash);
  if (!mp_ip_parse(&net->ip, address))
    return false;
  unsigned most = mp_str_find(address, ':', 0) < 0 ? 32 : 128;
  uint64_t bits = most;
  if (slash >= 0 && !mp_str_u64(mp_str_sub(text, (size_t)slash + 1, text.len), most, &bits))
    return false;
  net->bits = (unsigned)bits + 128 - most;
  for (unsigned i = net->bits; i < 128; i++)
    if (net->ip.octets[i / 8] >> (7 - i % 8) & 1)
      return false;
  return true;
}

bool mp_network_has(const mp_network *net, const mp_ip *ip)
{
  unsigned whole = net->bits / 8, rest = net->bits % 8;
  if (memcmp(net->ip.octets, ip->octets, whole) != 0)
    return false;
  return rest == 0 || ((net->ip.octets[whole] ^ ip->octets[whole]) >> (8 - rest)) == 0;
}
