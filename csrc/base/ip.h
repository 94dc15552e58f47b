/* base/ip.h -- an IP address as a value, and networks. IPv4 is kept as an IPv4-mapped IPv6 address, so that one comparison
 * serves both families and a peer reached over a dual-stack socket is the same peer. */
#ifndef MP_BASE_IP_H
#define MP_BASE_IP_H

#include "base/str.h"

typedef struct mp_ip {
  unsigned char octets[16];
} mp_ip;

typedef struct mp_network {
  mp_ip ip;
  unsigned bits; /* of 128; an IPv4 /8 is 104 */
} mp_network;

#define MP_IP_TEXT 46 /* room for any address as text with its NUL */

/* "192.0.2.1", "2001:db8::1"; no zone, no brackets. Returns false on anything else. */
bool mp_ip_parse(mp_ip *ip, mp_str text);

bool mp_ip_is4(const mp_ip *ip);

/* Writes the canonical text (RFC 5952) with a NUL and returns its length. */
size_t mp_ip_format(const mp_ip *ip, char text[MP_IP_TEXT]);

/* "10.0.0.0/8", "2001:db8::/32", or a bare address. False on anything else, host bits that are set included. */
bool mp_network_parse(mp_network *net, mp_str text);

bool mp_network_has(const mp_network *net, const mp_ip *ip);

#endif
