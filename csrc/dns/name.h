/* dns/name.h -- domain names: from people to what the DNS asks for, and from the wire to text. */
#ifndef MP_DNS_NAME_H
#define MP_DNS_NAME_H

#include "base/ip.h"
#include "base/str.h"

enum {
  MP_DNS_NAME_TEXT = 1024, /* room for any name as text with its NUL: 255 octets, each perhaps written \DDD */
  MP_DNS_NAME_ASKED = 256  /* room for a name that may be asked for, with its NUL */
};

/* The form in which a name is asked for: A-labels (UTS 46, non-transitional), lower case, no dot at the end. Writes a NUL and
 * returns the length, 1 to 253, or MP_E_INVALID (an empty or long label, a space, a backslash, a control character, what IDNA
 * forbids), or MP_E_NOMEM. */
mp_ssize mp_dns_name_ascii(char out[MP_DNS_NAME_ASKED], mp_str name);

/* The form in which people read a name: U-labels where it has A-labels, UTF-8, without a dot at the end. An A-label that stands for nothing, or
 * for what would be written otherwise (RFC 5890 2.3.2.1), is no name. Writes a NUL and returns the length, or an error as above. */
mp_ssize mp_dns_name_unicode(char out[MP_DNS_NAME_TEXT], mp_str name);

/* One uncompressed name of the wire (RFC 1035 3.1) at the front of `wire`, as text: lower case, no dot at the end; the root is "". What
 * is no printable octet, and dot and backslash inside a label, come out escaped (RFC 1035 5.1). Returns the octets read, or
 * MP_E_SYNTAX. */
mp_ssize mp_dns_name_read(char out[MP_DNS_NAME_TEXT], mp_str wire);

/* Where the PTR records of an address are. Writes a NUL and returns the length. */
size_t mp_dns_name_reverse(char out[MP_DNS_NAME_ASKED], const mp_ip *ip);

#endif
