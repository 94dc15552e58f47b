/* smtp/proxy.h -- the PROXY protocol header, versions 1 and 2 (haproxy's proxy-protocol.txt), and XCLIENT's attributes (Postfix). */
#ifndef MP_SMTP_PROXY_H
#define MP_SMTP_PROXY_H

#include "base/ip.h"

typedef struct mp_proxy {
  bool known; /* false for LOCAL and UNKNOWN, and for unix addresses */
  bool local; /* v2 LOCAL: the proxy speaks for itself (health check) */
  mp_ip source, destination;
  uint16_t source_port, destination_port;
} mp_proxy;

enum { MP_PROXY_MOST = 536 }; /* longest header that is taken: v1 107, v2 16 + 520 of addresses and TLVs */

/* Parses a header at the start of `in`. Returns the octets it takes, 0 when more are needed, or MP_E_SYNTAX for what can be no header
 * (as soon as that is certain) or one over MP_PROXY_MOST. TLVs are skipped; a CRC32C TLV is verified. */
mp_ssize mp_proxy_parse(mp_proxy *proxy, mp_str in);

typedef struct mp_xclient {
  unsigned given;           /* set of MP_XCLIENT_* */
  unsigned unavailable;     /* those given as [UNAVAILABLE] or [TEMPUNAVAIL] */
  mp_str name, helo, login; /* xtext-decoded into the caller's scratch */
  mp_ip addr, destaddr;
  uint16_t port, destport;
  bool esmtp; /* PROTO=ESMTP */
} mp_xclient;

enum {
  MP_XCLIENT_NAME = 1,
  MP_XCLIENT_ADDR = 2,
  MP_XCLIENT_PORT = 4,
  MP_XCLIENT_PROTO = 8,
  MP_XCLIENT_HELO = 16,
  MP_XCLIENT_LOGIN = 32,
  MP_XCLIENT_DESTADDR = 64,
  MP_XCLIENT_DESTPORT = 128
};

/* Parses "ADDR=... NAME=..." (IPv6 with the prefix "IPV6:"). `scratch` (at least in.len octets) receives decoded values.
 * 0, or MP_E_SYNTAX: unknown attribute, bad xtext, control characters in a value, bad address. */
int mp_xclient_parse(mp_xclient *xclient, mp_str in, char *scratch);

#endif
