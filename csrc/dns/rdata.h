/* dns/rdata.h -- what stands in records. The octets are hostile: whoever owns a name chooses them. Names in them are uncompressed. */
#ifndef MP_DNS_RDATA_H
#define MP_DNS_RDATA_H

#include "dns/name.h"

/* RFC 1035 3.2.2, RFC 3596, RFC 6698 */
#define MP_DNS_TYPE_MAP(X) X(A, 1) X(CNAME, 5) X(PTR, 12) X(MX, 15) X(TXT, 16) X(AAAA, 28) X(TLSA, 52)

typedef enum mp_dns_type {
#define MP_DNS_TYPE_ENUM(name, number) MP_DNS_##name = (number),
  MP_DNS_TYPE_MAP(MP_DNS_TYPE_ENUM)
#undef MP_DNS_TYPE_ENUM
} mp_dns_type;

const char *mp_dns_type_name(mp_dns_type type); /* "MX"; static; "?" for a number that is not in the list */
bool mp_dns_type_of(mp_dns_type *type, mp_str name); /* by its name, in capitals */

typedef struct mp_dns_mx {
  unsigned preference;
  char host[MP_DNS_NAME_TEXT]; /* "" is the root: there is no mail here (RFC 7505) */
} mp_dns_mx;

typedef struct mp_dns_tlsa {
  unsigned usage, selector, mtype;
  mp_str data; /* borrowed; not empty */
} mp_dns_tlsa;

/* Each reads the whole rdata of one record: 0, or MP_E_SYNTAX when it is cut short or too long. */
int mp_dns_read_mx(mp_str rdata, mp_dns_mx *out);
int mp_dns_read_host(mp_str rdata, char out[MP_DNS_NAME_TEXT]); /* CNAME, PTR */
int mp_dns_read_ip(mp_str rdata, mp_ip *out);                   /* A (four octets) or AAAA (sixteen) */
int mp_dns_read_tlsa(mp_str rdata, mp_dns_tlsa *out);

/* The strings of a TXT record joined. `out` has room for rdata.len octets. Returns the length, or MP_E_SYNTAX. */
mp_ssize mp_dns_read_text(mp_str rdata, char *out);

#endif
