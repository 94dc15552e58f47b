/* smtp/path.h -- reverse-path and forward-path (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3). Linear time, no recursion, nothing copied. */
#ifndef MP_SMTP_PATH_H
#define MP_SMTP_PATH_H

#include "base/ip.h"

typedef enum mp_domain_kind {
  MP_DOMAIN_NONE, /* "<>", "<postmaster>" */
  MP_DOMAIN_NAME, /* host name, A-label or U-label */
  MP_DOMAIN_IPV4, /* [192.0.2.1] */
  MP_DOMAIN_IPV6, /* [IPv6:2001:db8::1] */
  MP_DOMAIN_TAG   /* [tag:content] */
} mp_domain_kind;

typedef struct mp_path {
  mp_str address; /* "local@domain" as received, without route and brackets; empty for "<>" */
  mp_str local;   /* as received: quotes included when it is a quoted-string */
  mp_str domain;  /* as received, brackets included for a literal; empty for "<>" and "<postmaster>" */
  mp_str route;   /* "@a,@b" of a source route, which is accepted and ignored (RFC 5321 appendix C) */
  bool quoted;    /* local is a quoted-string */
  bool utf8;      /* octets outside ASCII occur: needs SMTPUTF8 */
  mp_domain_kind kind;
  mp_ip ip; /* of an IPv4 or IPv6 literal */
} mp_path;

enum mp_path_flags {
  MP_PATH_REVERSE = 1,      /* "<>" is allowed */
  MP_PATH_POSTMASTER = 2,   /* "<postmaster>" without a domain is allowed, in any case */
  MP_PATH_UTF8 = 4,         /* SMTPUTF8 is in force: UTF-8 in local part and domain (must be well-formed) */
  MP_PATH_LAX_BRACKETS = 8, /* a bare address without <> is taken */
  MP_PATH_LAX_DOTS = 16,    /* leading, trailing and doubled dots in an unquoted local part are taken */
  MP_PATH_LAX_UNDERSCORE = 32, /* '_' in host names is taken */
  MP_PATH_LAX_LENGTH = 64      /* local part over 64 octets is taken (path limit still holds) */
};

/* Parses one path at the start of `in`. Returns the number of octets it took (parameters may follow behind a space), or
 * MP_E_SYNTAX for what is no path, MP_E_TOOLONG for local part over 64, domain over 255 or path over 256 octets (RFC 5321 4.5.3.1;
 * a path in SMTPUTF8 counts octets too). CR, LF, NUL and other controls are syntax errors wherever they stand. */
mp_ssize mp_path_parse(mp_path *path, mp_str in, unsigned flags);

/* A whole Mailbox ("local@domain"), nothing before or behind it. 0 or as above. Used for ORCPT, AUTH=, senders' lists. */
int mp_mailbox_parse(mp_path *path, mp_str in, unsigned flags);

/* The argument of HELO, EHLO, LHLO: a domain or an address literal. `lax` takes any run of printable octets without spaces or
 * brackets out of place (well-known clients send "localhost_" or a bare address). Octets outside ASCII are always refused. */
bool mp_helo_check(mp_str name, bool lax);

/* A host name by the letters-digits-hyphen rule, labels up to 63, whole up to 255; UTF-8 labels where `utf8`. */
bool mp_domain_check(mp_str name, bool utf8, bool underscore);

#endif
