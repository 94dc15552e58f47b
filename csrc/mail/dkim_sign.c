/* mail/dkim_sign.c -- making a signature: which fields, and the text of the field (RFC 6376 5). */
#include "mail/dkim.h"

#include "base/base64.h"
#include "base/error.h"
#include "mail/tags.h"

#include <inttypes.h>
#include <stdio.h>

enum { COLUMNS = 76, VALUE_MOST = 65536 };

mp_str mp_dkim_default_headers(void)
{
  return MP_STR("From:Sender:Reply-To:Subject:Date:Message-ID:To:Cc:In-Reply-To:References:"
                "MIME-Version:Content-Type:Content-Transfer-Encoding:Content-ID:Content-Description:"
                "Resent-From:Resent-Sender:Resent-To:Resent-Cc:Resent-Date:Resent-Message-ID:"
                "List-ID:List-Help:List-Unsubscribe:List-Unsubscribe-Post:List-Subscribe:List-Post:"
                "List-Owner:List-Archive");
}

mp_str mp_dkim_default_over(void)
{
  return MP_STR("From:Sender:Reply-To:Subject:Date:Message-ID:To:Cc:MIME-Version:Content-Type:"
                "Content-Transfer-Encoding");
}

static int add_name(mp_buf *out, size_t begin, mp_str name)
{
  int rc = out->len > begin ? mp_buf_char(out, ':') : 0;
  return rc == 0 ? mp_buf_str(out, name) : rc;
}

int mp_dkim_choose(mp_buf *out, const mp_dkim_fields *fields, mp_str names, mp_str over, bool absent)
{
  size_t begin = out->len, pos = 0;
  mp_str name;
  int rc = 0;
  while (rc == 0 && mp_tag_next(names, ':', &pos, &name))
    for (size_t n = mp_dkim_fields_named(fields, name); rc == 0 && n > 0; n--)
      rc = add_name(out, begin, name);
  pos = 0;
  while (rc == 0 && mp_tag_next(over, ':', &pos, &name))
    if (absent || mp_dkim_fields_named(fields, name) > 0)
      rc = add_name(out, begin, name);
  if (rc < 0)
    mp_buf_cut(out, begin);
  return rc;
}

/* ---- the text of the field --------------------------------------------------------------------------------------- */

typedef struct text {
  mp_buf *out;
  size_t column;
  int rc;
} text;

static void put(text *t, mp_str s)
{
  if (t->rc == 0)
    t->rc = mp_buf_str(t->out, s);
  t->column += s.len;
}

static void fold(text *t)
{
  put(t, MP_STR("\r\n\t"));
  t->column = 8;
}

/* A tag that does not fit on the line begins another. */
static void put_tag(text *t, const char *name, mp_str value)
{
  size_t need = strlen(name) + 2 + value.len;
  if (t->column + 1 + need > COLUMNS)
    fold(t);
  else if (t->column > 16)
    put(t, MP_STR(" "));
  put(t, mp_str_c(name));
  put(t, MP_STR("="));
  put(t, value);
  put(t, MP_STR(";"));
}

static void put_number(text *t, const char *name, uint64_t value)
{
  char digits[24];
  int len = snprintf(digits, sizeof digits, "%" PRIu64, value);
  put_tag(t, name, mp_str_of(digits, (size_t)len));
}

/* h= is folded at its colons. */
static void put_headers(text *t, mp_str headers)
{
  fold(t);
  put(t, MP_STR("h="));
  size_t pos = 0;
  mp_str name;
  for (bool first = true; mp_tag_next(headers, ':', &pos, &name); first = false) {
    if (!first)
      put(t, MP_STR(":"));
    if (!first && t->column + name.len + 1 > COLUMNS)
      fold(t);
    put(t, name);
  }
  put(t, MP_STR(";"));
}

static void put_base64(text *t, mp_str octets)
{
  mp_buf digits;
  mp_buf_init(&digits, MP_DKIM_SIGNATURE * 2, NULL);
  if (t->rc == 0)
    t->rc = mp_base64_encode(&digits, octets);
  mp_str left = mp_buf_view(&digits);
  while (left.len && t->rc == 0) {
    if (t->column >= COLUMNS)
      fold(t);
    mp_str line = mp_str_sub(left, 0, COLUMNS - t->column);
    put(t, line);
    left = mp_str_sub(left, line.len, left.len);
  }
  mp_buf_dispose(&digits);
}

/* dkim-quoted-printable (RFC 6376 2.11) of what stands in i=. */
static int quote(mp_buf *out, mp_str in)
{
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < in.len; i++) {
    unsigned char c = (unsigned char)in.ptr[i];
    bool plain = c > ' ' && c < 0x7f && c != '=' && c != ';';
    rc = plain || c > 0x7f ? mp_buf_char(out, (char)c) : mp_buf_fmt(out, "=%02X", c);
  }
  return rc;
}

static void put_identity(text *t, mp_str identity)
{
  mp_buf quoted;
  mp_buf_init(&quoted, VALUE_MOST, NULL);
  if (t->rc == 0)
    t->rc = quote(&quoted, identity);
  put_tag(t, "i", mp_buf_view(&quoted));
  mp_buf_dispose(&quoted);
}

static void put_tags(text *t, const mp_dkim_sign_opts *opts, const mp_dkim_key *key)
{
  static const char *const canons[2][2] = { { "simple/simple", "simple/relaxed" },
                                            { "relaxed/simple", "relaxed/relaxed" } };
  bool rsa = mp_dkim_key_look(key)->kind == MP_DKIM_RSA;
  put(t, MP_STR("v=1;"));
  put_tag(t, "a", rsa ? MP_STR("rsa-sha256") : MP_STR("ed25519-sha256"));
  put_tag(t, "c", mp_str_c(canons[opts->header_canon == MP_DKIM_RELAXED][opts->body_canon == MP_DKIM_RELAXED]));
  put_tag(t, "d", opts->domain);
  put_tag(t, "s", opts->selector);
  if (opts->identity.len)
    put_identity(t, opts->identity);
  if (opts->time >= 0)
    put_number(t, "t", (uint64_t)opts->time);
  if (opts->end >= 0)
    put_number(t, "x", (uint64_t)opts->end);
  if (opts->limit != UINT64_MAX)
    put_number(t, "l", opts->limit);
  put_headers(t, opts->headers);
  fold(t);
  put(t, MP_STR("bh="));
  put_base64(t, mp_str_of((const char *)opts->body_hash, MP_DKIM_DIGEST));
  put(t, MP_STR(";"));
  fold(t);
  put(t, MP_STR("b="));
}

/* What we write has to read as what was meant: the options are checked by reading them back. */
static int check(const mp_buf *value)
{
  mp_buf field;
  mp_arena arena;
  mp_dkim_sig sig;
  mp_buf_init(&field, VALUE_MOST * 2, NULL);
  mp_arena_init(&arena, VALUE_MOST, NULL);
  int rc = mp_buf_str(&field, MP_STR("DKIM-Signature: "));
  if (rc == 0)
    rc = mp_buf_str(&field, mp_buf_view(value));
  if (rc == 0)
    rc = mp_buf_str(&field, MP_STR("AAAA"));
  mp_field read = { .raw = mp_buf_view(&field) };
  if (rc == 0)
    rc = mp_dkim_sig_read(&sig, &read, &arena);
  if (rc == 0 && sig.result != MP_DKIM_OPEN)
    rc = MP_E_INVALID;
  mp_arena_dispose(&arena);
  mp_buf_dispose(&field);
  return rc;
}

static int sign(mp_buf *value, mp_dkim_fields *fields, const mp_dkim_sign_opts *opts, mp_dkim_key *key)
{
  text t = { .out = value, .column = sizeof "DKIM-Signature: " - 1 };
  put_tags(&t, opts, key);
  int rc = t.rc == 0 ? check(value) : t.rc;
  mp_buf own;
  mp_buf_init(&own, VALUE_MOST * 2, NULL);
  if (rc == 0)
    rc = mp_buf_str(&own, MP_STR("DKIM-Signature: "));
  if (rc == 0)
    rc = mp_buf_str(&own, mp_buf_view(value));
  unsigned char digest[MP_DKIM_DIGEST], signature[MP_DKIM_SIGNATURE];
  size_t len = sizeof signature;
  if (rc == 0)
    rc = mp_dkim_hash_header(fields, opts->headers, opts->header_canon, mp_buf_view(&own), MP_STR_NULL, digest);
  if (rc == 0)
    rc = mp_dkim_key_sign(key, digest, signature, &len);
  mp_buf_dispose(&own);
  if (rc < 0)
    return rc;
  put_base64(&t, mp_str_of((const char *)signature, len));
  return t.rc;
}

int mp_dkim_sign(mp_buf *out, mp_dkim_fields *fields, const mp_dkim_sign_opts *opts, mp_dkim_key *key)
{
  if (mp_dkim_fields_named(fields, MP_STR("From")) == 0)
    return MP_E_INVALID;
  mp_buf value;
  mp_buf_init(&value, VALUE_MOST, NULL);
  int rc = sign(&value, fields, opts, key);
  if (rc == 0)
    rc = mp_buf_str(out, mp_buf_view(&value));
  mp_buf_dispose(&value);
  return rc;
}
