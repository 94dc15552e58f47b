/* The canonical forms of DKIM (RFC 6376 3.4), whole and in every slicing, against a plain reading of the rules; and tag lists. */
#include "support/check.h"

#include "base/error.h"
#include "mail/dkim_canon.h"
#include "mail/tags.h"

#include <openssl/evp.h>

enum { ROOM = 1 << 16 };

static bool digest_is(const unsigned char *digest, mp_str octets)
{
  unsigned char want[MP_DKIM_DIGEST];
  EVP_Digest(octets.len ? octets.ptr : "", octets.len, want, NULL, EVP_sha256(), NULL);
  return memcmp(digest, want, sizeof want) == 0;
}

/* Fed in pieces of `slice` octets; true when what was hashed is `canonical`. */
static bool body_is(mp_dkim_canon canon, mp_str body, size_t slice, mp_str canonical)
{
  mp_dkim_body *hash;
  unsigned char digest[MP_DKIM_DIGEST];
  uint64_t length = 0;
  if (mp_dkim_body_new(&hash, canon, UINT64_MAX) < 0)
    return false;
  for (size_t at = 0; at < body.len; at += slice)
    CHECK_EQ_INT(mp_dkim_body_add(hash, mp_str_sub(body, at, slice)), 0);
  CHECK_EQ_INT(mp_dkim_body_finish(hash, digest, &length), 0);
  mp_dkim_body_free(hash);
  return length == canonical.len && digest_is(digest, canonical);
}

static void check_body(int line, mp_dkim_canon canon, mp_str body, mp_str canonical)
{
  for (size_t slice = 1; slice <= body.len + 1; slice++)
    if (!body_is(canon, body, slice, canonical))
      check_fail(__FILE__, line, "%s, %zu octets at a time", mp_dkim_canon_name(canon), slice);
}

#define SIMPLE(BODY, WANT)  check_body(__LINE__, MP_DKIM_SIMPLE, MP_STR(BODY), MP_STR(WANT))
#define RELAXED(BODY, WANT) check_body(__LINE__, MP_DKIM_RELAXED, MP_STR(BODY), MP_STR(WANT))

TEST(a_simple_body_loses_its_empty_lines_at_the_end)
{
  SIMPLE("", "\r\n");
  SIMPLE("\r\n", "\r\n");
  SIMPLE("\r\n\r\n\r\n", "\r\n");
  SIMPLE("a", "a\r\n");
  SIMPLE("a\r\n", "a\r\n");
  SIMPLE("a\r\n\r\n\r\n", "a\r\n");
  SIMPLE("\r\n\r\na \t\r\n \r\n", "\r\n\r\na \t\r\n \r\n");
  SIMPLE(" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n"); /* RFC 6376 3.4.5 */
}

TEST(a_relaxed_body_loses_white_space)
{
  RELAXED("", "");
  RELAXED("\r\n", "");
  RELAXED(" \t\r\n\r\n", "");
  RELAXED(" ", "");
  RELAXED("a", "a\r\n");
  RELAXED("a \t b", "a b\r\n");
  RELAXED("\ta b \r\n \r\nc\r\n \t\r\n", " a b\r\n\r\nc\r\n");
  RELAXED(" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"); /* RFC 6376 3.4.5 */
  RELAXED(
      "one line that is longer than a vector register is wide  and goes on\r\nanother one without any fault in it\r\n",
      "one line that is longer than a vector register is wide and goes on\r\nanother one without any fault in it\r\n");
}

TEST(a_lone_cr_or_lf_is_an_octet_like_others)
{
  SIMPLE("a\nb\rc\r\r\n\n\r\n", "a\nb\rc\r\r\n\n\r\n");
  SIMPLE("a\r", "a\r\r\n");
  SIMPLE("a\r\n\r", "a\r\n\r\r\n");
  RELAXED("a \nb \rc\t\r\r\n\n \r\n", "a \nb \rc \r\r\n\n\r\n");
  RELAXED("a \r", "a \r\r\n");
  RELAXED("a \r ", "a \r\r\n");
}

/* The rules once more, slowly: the whole body at once, line by line. */
static mp_str slowly(mp_dkim_canon canon, mp_str body, char *out)
{
  size_t n = 0, kept = 0;
  for (size_t i = 0; i < body.len;) {
    size_t end = i;
    while (end < body.len && !(body.ptr[end] == '\r' && end + 1 < body.len && body.ptr[end + 1] == '\n'))
      end++;
    bool closed = end < body.len;
    size_t begin = n;
    for (; i < end; i++) {
      bool white = body.ptr[i] == ' ' || body.ptr[i] == '\t';
      if (canon == MP_DKIM_SIMPLE || !white)
        out[n++] = body.ptr[i];
      else if (n == begin || out[n - 1] != ' ')
        out[n++] = ' ';
    }
    if (canon == MP_DKIM_RELAXED && n > begin && out[n - 1] == ' ')
      n--;
    if (closed || n > begin) {
      out[n++] = '\r';
      out[n++] = '\n';
    }
    if (n > begin + 2)
      kept = n;
    i = end + 2;
  }
  if (kept == 0 && canon == MP_DKIM_SIMPLE) {
    memcpy(out, "\r\n", 2);
    kept = 2;
  }
  return mp_str_of(out, kept);
}

TEST(bodies_by_chance_are_read_as_the_rules_say)
{
  static const char letters[] = "\r\n\r\n\r\n  \t\tab";
  char *body = malloc(ROOM), *want = malloc(2 * ROOM);
  REQUIRE(body && want);
  unsigned long state = 4711;
  for (int round = 0; round < 4000; round++) {
    size_t len = 0, most = round % 400 + 1u;
    while (len < most) {
      state = state * 6364136223846793005UL + 1442695040888963407UL;
      body[len++] = letters[(state >> 33) % (sizeof letters - 1)];
    }
    mp_str in = mp_str_of(body, len);
    size_t slice = (state >> 40) % len + 1;
    for (int canon = MP_DKIM_SIMPLE; canon <= MP_DKIM_RELAXED; canon++)
      if (!CHECK(body_is((mp_dkim_canon)canon, in, slice, slowly((mp_dkim_canon)canon, in, want))))
        round = 4000;
  }
  free(body);
  free(want);
}

TEST(a_limit_counts_canonical_octets)
{
  mp_dkim_body *hash;
  unsigned char digest[MP_DKIM_DIGEST];
  uint64_t length;
  REQUIRE(mp_dkim_body_new(&hash, MP_DKIM_RELAXED, 4) == 0);
  CHECK_EQ_INT(mp_dkim_body_add(hash, MP_STR("a  b  c\r\nmore\r\n\r\n")), 0);
  CHECK_EQ_INT(mp_dkim_body_finish(hash, digest, &length), 0);
  CHECK_EQ_INT(length, 13);
  CHECK(digest_is(digest, MP_STR("a b ")));
  mp_dkim_body_free(hash);
}

TEST(many_empty_lines_that_count_after_all)
{
  mp_dkim_body *hash;
  unsigned char digest[MP_DKIM_DIGEST];
  uint64_t length;
  char *lines = malloc(2 * 10001);
  REQUIRE(lines);
  for (size_t i = 0; i < 10000; i++)
    memcpy(lines + 2 * i, "\r\n", 2);
  memcpy(lines + 20000, "x", 1);
  REQUIRE(mp_dkim_body_new(&hash, MP_DKIM_RELAXED, UINT64_MAX) == 0);
  CHECK_EQ_INT(mp_dkim_body_add(hash, mp_str_of(lines, 20001)), 0);
  CHECK_EQ_INT(mp_dkim_body_finish(hash, digest, &length), 0);
  CHECK_EQ_INT(length, 20003);
  mp_dkim_body_free(hash);
  free(lines);
}

static void check_field(int line, mp_dkim_canon canon, mp_str raw, mp_str want)
{
  mp_buf out;
  mp_buf_init(&out, ROOM, NULL);
  CHECK_EQ_INT(mp_dkim_canon_field(&out, canon, raw, true), 0);
  if (!mp_str_eq(mp_buf_view(&out), want))
    check_fail(__FILE__, line, "\"%.*s\"", (int)out.len, mp_buf_view(&out).ptr);
  mp_buf_dispose(&out);
}

TEST(header_fields)
{
  check_field(__LINE__, MP_DKIM_SIMPLE, MP_STR("B : Y\t\r\n\tZ  \r\n"), MP_STR("B : Y\t\r\n\tZ  \r\n"));
  check_field(__LINE__, MP_DKIM_RELAXED, MP_STR("A: X\r\n"), MP_STR("a:X\r\n")); /* RFC 6376 3.4.5 */
  check_field(__LINE__, MP_DKIM_RELAXED, MP_STR("B : Y\t\r\n\tZ  \r\n"), MP_STR("b:Y Z\r\n"));
  check_field(__LINE__, MP_DKIM_RELAXED, MP_STR("Subject:\r\n \r\n\tHey  you"), MP_STR("subject:Hey you\r\n"));
  check_field(__LINE__, MP_DKIM_RELAXED, MP_STR("Empty:\r\n"), MP_STR("empty:\r\n"));
}

TEST(tag_lists)
{
  mp_tags tags;
  REQUIRE(mp_tags_parse(&tags, MP_STR(" a = b=c ;\r\n\td=;; e_1= x\r\n y ; ")) == 0);
  CHECK_EQ_INT(tags.count, 3);
  CHECK_STR(mp_tags_find(&tags, MP_STR("a"))->value, "b=c");
  CHECK_STR(mp_tags_find(&tags, MP_STR("a"))->room, " b=c ");
  CHECK_STR(mp_tags_find(&tags, MP_STR("d"))->value, "");
  CHECK_STR(mp_tags_find(&tags, MP_STR("e_1"))->value, "x\r\n y");
  CHECK(!mp_tags_find(&tags, MP_STR("A")));
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("a=1; a=2")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("a")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("1a=2")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("a b=2")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("=2")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("a=\x01")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_tags_parse(&tags, MP_STR("")), 0);
  char many[33 * 4 + 1] = "";
  for (int i = 0; i < 33; i++)
    snprintf(many + 4 * i, 5, "%c%c=;", 'a' + i / 26, 'a' + i % 26);
  CHECK_EQ_INT(mp_tags_parse(&tags, mp_str_of(many, 32 * 4)), 0);
  CHECK_EQ_INT(mp_tags_parse(&tags, mp_str_c(many)), MP_E_TOOLONG);
}

TEST(lists_inside_of_tags)
{
  size_t pos = 0;
  mp_str item, value = MP_STR("from : to::");
  REQUIRE(mp_tag_next(value, ':', &pos, &item));
  CHECK_STR(item, "from");
  REQUIRE(mp_tag_next(value, ':', &pos, &item));
  CHECK_STR(item, "to");
  REQUIRE(mp_tag_next(value, ':', &pos, &item));
  CHECK_STR(item, "");
  REQUIRE(mp_tag_next(value, ':', &pos, &item));
  CHECK_STR(item, "");
  CHECK(!mp_tag_next(value, ':', &pos, &item));
  pos = 0;
  CHECK(!mp_tag_next(MP_STR(""), ':', &pos, &item));
}

CHECK_MAIN
