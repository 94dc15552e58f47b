/* base/str.h -- a borrowed view of octets. Peer data travels as pointer and length, never as a C string. */
#ifndef MP_BASE_STR_H
#define MP_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

typedef struct mp_str {
  const char *ptr; /* not NUL-terminated; may be NULL when len is 0 */
  size_t len;
} mp_str;

/* Sizes that may also be a negative error of base/error.h. */
typedef ssize_t mp_ssize;

#define MP_STR(lit) ((mp_str){ (lit), sizeof(lit) - 1 })
#define MP_STR_NULL ((mp_str){ NULL, 0 })

static inline mp_str mp_str_of(const char *ptr, size_t len)
{
  return (mp_str){ ptr, len };
}

static inline mp_str mp_str_c(const char *cstr)
{
  return (mp_str){ cstr, cstr ? strlen(cstr) : 0 };
}

static inline bool mp_str_eq(mp_str a, mp_str b)
{
  return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Compares ASCII letters without case; other octets must be equal. */
bool mp_str_ieq(mp_str a, mp_str b);

/* True when `s` starts with `prefix`, ASCII letters without case. */
bool mp_str_istarts(mp_str s, mp_str prefix);

/* First index of `c` at or after `from`, or -1. */
mp_ssize mp_str_find(mp_str s, char c, size_t from);

/* The part of `s` from `from`, at most `len` octets; clipped to what is there. */
mp_str mp_str_sub(mp_str s, size_t from, size_t len);

/* Without spaces and tabs at both ends. */
mp_str mp_str_trim(mp_str s);

/* Reads a whole view of decimal digits (1 to 20 of them). Returns false on anything else, and on a value above `max`. */
bool mp_str_u64(mp_str s, uint64_t max, uint64_t *out);

/* Compares without an early exit: time depends on the lengths alone. For secrets. */
bool mp_str_eq_consttime(mp_str a, mp_str b);

/* True when the octets are well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates). */
bool mp_str_utf8(mp_str s);

static inline unsigned char mp_ascii_lower(unsigned char c)
{
  return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static inline unsigned char mp_ascii_upper(unsigned char c)
{
  return (unsigned char)(c >= 'a' && c <= 'z' ? c & ~0x20 : c);
}

#endif
