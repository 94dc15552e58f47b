#include "mail/dkim_sig.h"

#include "base/base64.h"
#include "base/error.h"
#include "mail/tags.h"

#include <stdarg.h>
#include <stdio.h>

enum { DECODED_MOST = 4096, IDENTITY_MOST = 1024, TIME_DIGITS = 12, LENGTH_DIGITS = 18 };

const char *mp_dkim_result_name(mp_dkim_result result)
{
  static const char *const names[] = { "none", "pass", "fail", "policy", "neutral", "temperror", "permerror" };
  return names[result];
}

void mp_dkim_sig_judge(mp_dkim_sig *sig, mp_dkim_result result, const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  vsnprintf(sig->reason, sizeof sig->reason, fmt, args);
  va_end(args);
  sig->result = result;
}

/* The first thing that is wrong is the one that is told. */
static void wrong(mp_dkim_sig *sig, mp_dkim_result result, const char *why)
{
  if (sig->result == MP_DKIM_OPEN)
    mp_dkim_sig_judge(sig, result, "%s", why);
}

static mp_str get(const mp_tags *tags, mp_str name)
{
  const mp_tag *tag = mp_tags_find(tags, name);
  return tag ? tag->value : MP_STR_NULL;
}

/* base64 with white space in it, kept in the arena. */
static int read_base64(mp_dkim_sig *sig, mp_arena *arena, mp_str value, const char *why, mp_str *out)
{
  mp_buf text, octets;
  mp_buf_init(&text, DECODED_MOST * 2, NULL);
  mp_buf_init(&octets, DECODED_MOST, NULL);
  int rc = mp_tag_squeeze(value, &text);
  if (rc == 0)
    rc = mp_base64_decode(&octets, mp_buf_view(&text));
  bool ok = true;
  if (rc == 0 && octets.len)
    *out = mp_arena_str(arena, mp_buf_view(&octets), &ok);
  mp_buf_dispose(&text);
  mp_buf_dispose(&octets);
  if (!ok || rc == MP_E_NOMEM)
    return MP_E_NOMEM;
  if (rc < 0)
    wrong(sig, MP_DKIM_NEUTRAL, why);
  return 0;
}

static int hex(char c)
{
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* dkim-quoted-printable (RFC 6376 2.11): white space does not count. A "=" that escapes nothing stands for itself: some signers do not quote. */
static size_t unquote(mp_str in, char *out)
{
  size_t len = 0;
  for (size_t i = 0; i < in.len; i++) {
    char c = in.ptr[i];
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
      continue;
    if (c == '=' && in.len - i >= 3 && hex(in.ptr[i + 1]) >= 0 && hex(in.ptr[i + 2]) >= 0) {
      c = (char)(hex(in.ptr[i + 1]) << 4 | hex(in.ptr[i + 2]));
      i += 2;
    }
    out[len++] = c;
  }
  return len;
}

/* A domain name or a selector; octets over 0x7f where it is not in A-labels (RFC 8616 5). */
static bool is_domain(mp_str s)
{
  size_t label = 0;
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i], low = mp_ascii_lower(c);
    if (c == '.') {
      if (label == 0)
        return false;
      label = 0;
    } else if ((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c > 0x7f) {
      if (++label > 63)
        return false;
    } else {
      return false;
    }
  }
  return label > 0 && s.len <= 253;
}

/* Whether the domain of an identity is `domain` or lies below it. */
static bool is_below(mp_str identity, mp_str domain)
{
  const char *at = identity.len ? memrchr(identity.ptr, '@', identity.len) : NULL;
  if (!at)
    return false;
  mp_str own = mp_str_sub(identity, (size_t)(at - identity.ptr) + 1, identity.len);
  if (mp_str_ieq(own, domain))
    return true;
  return own.len > domain.len && own.ptr[own.len - domain.len - 1] == '.' &&
         mp_str_ieq(mp_str_sub(own, own.len - domain.len, domain.len), domain);
}

static int read_identity(mp_dkim_sig *sig, mp_arena *arena, const mp_tags *tags)
{
  mp_str given = get(tags, MP_STR("i"));
  if (given.len > IDENTITY_MOST) {
    wrong(sig, MP_DKIM_NEUTRAL, "i= is malformed");
    given = MP_STR_NULL;
  }
  char *out = mp_arena_alloc(arena, given.len + sig->domain.len + 2);
  if (!out)
    return MP_E_NOMEM;
  size_t len = 0;
  if (given.len == 0) {
    out[len++] = '@';
    if (sig->domain.len)
      memcpy(out + len, sig->domain.ptr, sig->domain.len);
    len += sig->domain.len;
  } else {
    len = unquote(given, out);
  }
  sig->identity = mp_str_of(out, len);
  if (!is_below(sig->identity, sig->domain))
    wrong(sig, MP_DKIM_PERMERROR, "the domain of i= is not that of d=, nor below it");
  return 0;
}

static void read_algorithm(mp_dkim_sig *sig)
{
  if (mp_str_eq(sig->algorithm, MP_STR("rsa-sha256")))
    sig->kind = MP_DKIM_RSA;
  else if (mp_str_eq(sig->algorithm, MP_STR("ed25519-sha256")))
    sig->kind = MP_DKIM_ED25519;
  else if (mp_str_eq(sig->algorithm, MP_STR("rsa-sha1")))
    wrong(sig, MP_DKIM_POLICY, "rsa-sha1 proves nothing any more");
  else
    wrong(sig, MP_DKIM_NEUTRAL, "the algorithm is unknown");
}

static void read_canon(mp_dkim_sig *sig, mp_str value)
{
  mp_str forms[2] = { value, MP_STR("simple") };
  mp_dkim_canon *to[2] = { &sig->header_canon, &sig->body_canon };
  mp_ssize slash = mp_str_find(value, '/', 0);
  if (slash >= 0) {
    forms[0] = mp_str_sub(value, 0, (size_t)slash);
    forms[1] = mp_str_sub(value, (size_t)slash + 1, value.len);
  }
  for (int i = 0; i < 2; i++) {
    *to[i] = mp_str_ieq(forms[i], MP_STR("relaxed")) ? MP_DKIM_RELAXED : MP_DKIM_SIMPLE;
    if (forms[i].len && *to[i] == MP_DKIM_SIMPLE && !mp_str_ieq(forms[i], MP_STR("simple")))
      wrong(sig, MP_DKIM_NEUTRAL, "the canonicalization is unknown");
  }
}

static void read_number(mp_dkim_sig *sig, const mp_tags *tags, mp_str name, size_t digits, const char *why,
                        int64_t *out)
{
  const mp_tag *tag = mp_tags_find(tags, name);
  uint64_t value;
  if (!tag)
    return;
  if (tag->value.len > digits || !mp_str_u64(tag->value, INT64_MAX, &value))
    wrong(sig, MP_DKIM_NEUTRAL, why);
  else
    *out = (int64_t)value;
}

static void read_numbers(mp_dkim_sig *sig, const mp_tags *tags)
{
  int64_t limit = -1;
  read_number(sig, tags, MP_STR("l"), LENGTH_DIGITS, "l= is malformed", &limit);
  read_number(sig, tags, MP_STR("t"), TIME_DIGITS, "t= is malformed", &sig->time);
  read_number(sig, tags, MP_STR("x"), TIME_DIGITS, "x= is malformed", &sig->end);
  if (limit >= 0)
    sig->limit = (uint64_t)limit;
  if (sig->time >= 0 && sig->end >= 0 && sig->end < sig->time)
    wrong(sig, MP_DKIM_NEUTRAL, "it expires before it was made");
}

/* From has to be among the fields that are signed (RFC 6376 6.1.1), and a list without names is none. */
static void check_headers(mp_dkim_sig *sig)
{
  size_t pos = 0;
  mp_str name;
  bool from = false;
  while (mp_tag_next(sig->headers, ':', &pos, &name)) {
    from |= mp_str_ieq(name, MP_STR("From"));
    if (name.len == 0) {
      wrong(sig, MP_DKIM_NEUTRAL, "h= is malformed");
      return;
    }
  }
  if (!from)
    wrong(sig, MP_DKIM_PERMERROR, "the From field is not signed");
}

static void check_query(mp_dkim_sig *sig, const mp_tags *tags)
{
  const mp_tag *q = mp_tags_find(tags, MP_STR("q"));
  size_t pos = 0;
  mp_str way;
  bool known = !q;
  while (q && mp_tag_next(q->value, ':', &pos, &way))
    known |= mp_str_eq(way, MP_STR("dns/txt"));
  if (!known)
    wrong(sig, MP_DKIM_NEUTRAL, "the key is not in the DNS");
}

static int read_tags(mp_dkim_sig *sig, const mp_tags *tags, mp_arena *arena)
{
  static const char *const needed[] = { "v", "a", "b", "bh", "d", "h", "s" };
  const mp_tag *b = mp_tags_find(tags, MP_STR("b")), *v = mp_tags_find(tags, MP_STR("v"));
  sig->room = b ? b->room : MP_STR_NULL;
  sig->domain = get(tags, MP_STR("d"));
  sig->selector = get(tags, MP_STR("s"));
  sig->algorithm = get(tags, MP_STR("a"));
  sig->headers = get(tags, MP_STR("h"));
  if (v && !mp_str_eq(v->value, MP_STR("1")))
    wrong(sig, MP_DKIM_NEUTRAL, "it is of an unknown version");
  for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
    if (!mp_tags_find(tags, mp_str_c(needed[i])) && sig->result == MP_DKIM_OPEN)
      mp_dkim_sig_judge(sig, MP_DKIM_PERMERROR, "%s= is missing", needed[i]);
  if (!is_domain(sig->domain) || !is_domain(sig->selector)) {
    wrong(sig, MP_DKIM_NEUTRAL, "d= or s= is no domain name");
    sig->domain = sig->selector = MP_STR_NULL;
  }
  int rc = read_identity(sig, arena, tags);
  if (rc == 0)
    rc = read_base64(sig, arena, get(tags, MP_STR("b")), "b= is no base64", &sig->signature);
  if (rc == 0)
    rc = read_base64(sig, arena, get(tags, MP_STR("bh")), "bh= is no base64", &sig->body_hash);
  read_algorithm(sig);
  read_canon(sig, get(tags, MP_STR("c")));
  read_numbers(sig, tags);
  check_query(sig, tags);
  check_headers(sig);
  if (sig->body_hash.len != MP_DKIM_DIGEST)
    wrong(sig, MP_DKIM_NEUTRAL, "bh= has not the length of a hash");
  if (sig->signature.len == 0 || sig->signature.len > MP_DKIM_SIGNATURE)
    wrong(sig, MP_DKIM_NEUTRAL, "b= has not the length of a signature");
  return rc;
}

int mp_dkim_sig_read(mp_dkim_sig *sig, const mp_field *field, mp_arena *arena)
{
  *sig = (mp_dkim_sig){ .field = *field, .limit = UINT64_MAX, .time = -1, .end = -1 };
  mp_tags tags;
  /* Of the whole behind the colon: what b= holds is cut out of the field by its place. */
  const char *colon = memchr(field->raw.ptr, ':', field->raw.len);
  mp_str value = mp_str_sub(field->raw, (size_t)(colon - field->raw.ptr) + 1, field->raw.len);
  if (value.len >= 2 && memcmp(value.ptr + value.len - 2, "\r\n", 2) == 0)
    value.len -= 2;
  if (mp_tags_parse(&tags, value) < 0) {
    mp_dkim_sig_judge(sig, MP_DKIM_NEUTRAL, "it is no list of tags");
    return 0;
  }
  return read_tags(sig, &tags, arena);
}
