/* Where parts begin and end, whatever the pieces a message comes in; and what is made to be hard to read. */
#include "support/check.h"

#include "mime/scan.h"
#include "mime/value.h"

static const mp_mime_limits wide = { 100, 10000, 1 << 20 };

/* The tree as text: "multipart(leaf[body] leaf[body])"; empty when a limit is passed. */
static void show(mp_mime_scan *scan, const char *octets, int32_t index, char *out, size_t room)
{
  static const char *const names[] = { "leaf", "multi", "message" };
  const mp_mime_part *part = mp_mime_scan_part(scan, (size_t)index);
  size_t n = strlen(out);
  if (part->kind == MP_MIME_LEAF)
    snprintf(out + n, room - n, "leaf[%.*s]", (int)(part->end - part->body_at), octets + part->body_at);
  else
    snprintf(out + n, room - n, "%s(", names[part->kind]);
  for (int32_t child = part->child; child >= 0; child = mp_mime_scan_part(scan, (size_t)child)->next) {
    show(scan, octets, child, out, room);
    n = strlen(out);
    if (mp_mime_scan_part(scan, (size_t)child)->next >= 0)
      snprintf(out + n, room - n, " ");
  }
  n = strlen(out);
  if (part->kind != MP_MIME_LEAF)
    snprintf(out + n, room - n, ")");
}

static mp_mime_fault scan_in(const char *octets, size_t len, size_t slice, const mp_mime_limits *limits,
                             char *out, size_t room)
{
  mp_mime_begin();
  mp_mime_scan *scan = mp_mime_scan_new(limits);
  mp_mime_fault fault = MP_MIME_OK;
  for (size_t at = 0; at < len; at += slice)
    fault = mp_mime_scan_feed(scan, octets + at, len - at < slice ? len - at : slice);
  fault = mp_mime_scan_finish(scan);
  out[0] = '\0';
  if (fault == MP_MIME_OK)
    show(scan, octets, 0, out, room);
  mp_mime_scan_free(scan);
  return fault;
}

static void check_tree(const char *octets, const char *want)
{
  static const size_t slices[] = { 1, 2, 3, 7, 64, 1 << 20 };
  for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
    char got[4096];
    CHECK_EQ_INT(scan_in(octets, strlen(octets), slices[i], &wide, got, sizeof got), MP_MIME_OK);
    CHECK_EQ_STR(mp_str_c(got), mp_str_c(want));
  }
}

#define MIXED "Content-Type: multipart/mixed; boundary=a\r\n\r\n"

TEST(a_message_without_parts_is_one)
{
  check_tree("", "leaf[]");
  check_tree("\r\n", "leaf[]");
  check_tree("Subject: x\r\n\r\nbody\r\n", "leaf[body\r\n]");
  check_tree("Subject: x\r\nbody\r\n", "leaf[body\r\n]");
  check_tree(" x\r\n", "leaf[ x\r\n]");
  check_tree("Subject: x", "leaf[]");
}

TEST(the_line_break_before_a_delimiter_belongs_to_it)
{
  check_tree(MIXED "--a\r\n\r\none\r\n--a\r\n\r\ntwo\r\n\r\n--a--\r\n", "multi(leaf[one] leaf[two\r\n])");
  check_tree("Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\n\ntwo\n--a--",
             "multi(leaf[one] leaf[two])");
  check_tree(MIXED "preamble\r\n--a\r\n\r\n\r\n--a--\r\nepilogue\r\n--a\r\n\r\nnot a part", "multi(leaf[])");
  check_tree(MIXED "--a \t\r\n\r\none\r\n--a-- \r\n", "multi(leaf[one])");
}

TEST(a_delimiter_is_its_whole_line)
{
  check_tree(MIXED "--a\r\n\r\none\r\n--ab\r\n --a\r\nx--a\r\n--a-\r\n--a--\r\n",
             "multi(leaf[one\r\n--ab\r\n --a\r\nx--a\r\n--a-])");
}

TEST(what_no_delimiter_divides_is_a_part_itself)
{
  check_tree(MIXED "--b\r\nbody", "leaf[--b\r\nbody]");
  check_tree("Content-Type: multipart/mixed\r\n\r\n--a\r\n", "leaf[--a\r\n]");
  check_tree("Content-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n", "leaf[--\r\n]");
}

TEST(a_delimiter_of_what_is_around_ends_everything_inside)
{
  check_tree(MIXED
             "--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--a\r\n\r\ntwo\r\n--a--\r\n",
             "multi(multi(leaf[one]) leaf[two])");
  check_tree(MIXED "--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n--a\r\n\r\ntwo",
             "multi(message(leaf[]) leaf[two])");
  check_tree(MIXED "--a\r\nX: y\r\n--a\r\nContent-Type: text/plain\r\n\r\ntwo", "multi(leaf[] leaf[two])");
}

TEST(a_delimiter_with_nothing_behind_it_begins_no_part)
{
  check_tree(MIXED "--a\r\n\r\none\r\n--a\r\n", "multi(leaf[one])");
  check_tree(MIXED
             "--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\n--a\r\n\r\ntwo\r\n--a--",
             "multi(multi(leaf[one]) leaf[two])");
  check_tree(MIXED "--a\r\n", "leaf[--a\r\n]");
}

TEST(a_message_inside_has_parts_of_its_own)
{
  check_tree("Content-Type: message/rfc822\r\n\r\n" MIXED "--a\r\n\r\none\r\n--a--\r\n",
             "message(multi(leaf[one]))");
  check_tree("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3Vi\r\n",
             "leaf[U3Vi\r\n]");
  check_tree("Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\nSubject: x\r\n\r\none\r\n--a\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--a--",
             "multi(message(leaf[one]) leaf[two])");
}

TEST(a_boundary_is_read_as_senders_write_it)
{
  static const char *const rows[] = {
    "multipart/mixed; boundary=\"a\"",
    "multipart/mixed;boundary=a;type=x",
    "Multipart/Mixed (a comment; boundary=b); x=\"; boundary=c\"; BOUNDARY=a",
    "multipart/mixed;\r\n\tboundary = \"a \"",
    "multipart/mixed\r\n boundary=a",
    "multipart/mixed; boundary=\"\\a\"; boundary=b",
    "multipart/mixed; boundary*=us-ascii''%61",
    "multipart/mixed; boundary*0=\"a\"",
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char octets[512];
    snprintf(octets, sizeof octets, "Content-Type: %s\r\n\r\n--a\r\n\r\none\r\n--a--\r\n", rows[i]);
    check_tree(octets, "multi(leaf[one])");
  }
}

/* ---- limits -------------------------------------------------------------------------------------------------------- */

static char *repeat(const char *head, const char *one, size_t count, size_t *len)
{
  size_t head_len = strlen(head), one_len = strlen(one);
  char *all = malloc(head_len + one_len * count + 1);
  if (!all)
    abort();
  memcpy(all, head, head_len);
  for (size_t i = 0; i < count; i++)
    memcpy(all + head_len + i * one_len, one, one_len);
  *len = head_len + one_len * count;
  return all;
}

static mp_mime_fault fault_of(const char *head, const char *one, size_t count, const mp_mime_limits *limits,
                              size_t *parts)
{
  size_t len;
  char *all = repeat(head, one, count, &len);
  mp_mime_begin();
  mp_mime_scan *scan = mp_mime_scan_new(limits);
  mp_mime_scan_feed(scan, all, len);
  mp_mime_fault fault = mp_mime_scan_finish(scan);
  *parts = mp_mime_scan_count(scan);
  CHECK_EQ_INT(mp_mime_scan_feed(scan, "x", 1), fault); /* it stays */
  mp_mime_scan_free(scan);
  free(all);
  return fault;
}

TEST(limits_hold_at_their_number_and_not_past_it)
{
  size_t parts;
  mp_mime_limits limits = { 100, 11, 1 << 20 };
  CHECK_EQ_INT(fault_of(MIXED, "--a\r\n\r\nx\r\n", 10, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(parts, 11);
  CHECK_EQ_INT(fault_of(MIXED, "--a\r\n\r\nx\r\n", 11, &limits, &parts), MP_MIME_PARTS);
  limits = (mp_mime_limits){ 11, 100, 1 << 20 };
  CHECK_EQ_INT(fault_of("", "Content-Type: message/rfc822\r\n\r\n", 10, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(parts, 11);
  CHECK_EQ_INT(fault_of("", "Content-Type: message/rfc822\r\n\r\n", 11, &limits, &parts), MP_MIME_DEPTH);
  limits = (mp_mime_limits){ 11, 100, 80 };
  CHECK_EQ_INT(fault_of("", "X: 45678\r\n", 8, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(fault_of("", "X: 45678\r\n", 9, &limits, &parts), MP_MIME_HEADER);
  CHECK_EQ_INT(fault_of("X: ", "4", 100, &limits, &parts), MP_MIME_HEADER); /* a line that does not end */
}

TEST(a_hundred_thousand_parts_and_ten_thousand_levels_are_read)
{
  size_t parts;
  mp_mime_limits limits = { 100000, 1000000, 64 << 20 };
  CHECK_EQ_INT(fault_of(MIXED, "--a\r\n\r\nx\r\n", 100000, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(parts, 100001);
  CHECK_EQ_INT(fault_of("", "Content-Type: message/rfc822\r\n\r\n", 10000, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(parts, 10001);
  CHECK_EQ_INT(fault_of("", "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n", 10000, &limits, &parts),
               MP_MIME_OK);
  CHECK_EQ_INT(fault_of(MIXED, "--a\r\n", 100000, &limits, &parts), MP_MIME_OK);
  CHECK_EQ_INT(fault_of(MIXED "--a\r\n\r\n", "--", 1000000, &limits, &parts), MP_MIME_OK);
}

TEST(values_are_made_fit_for_c)
{
  char *text = mp_mime_text(" a\0b\r\n\t c\x01\x1b(B\r\n", 15, true);
  REQUIRE(text);
  CHECK_EQ_STR(mp_str_c(text), mp_str_c("a b c \x1b(B"));
  free(text);
  text = mp_mime_text("a (b (c) \\) d) e \"(f)\"", 22, false);
  REQUIRE(text);
  CHECK_EQ_STR(mp_str_c(text), mp_str_c("a  e \"(f)\""));
  free(text);
  CHECK(mp_mime_text("", (size_t)MP_MIME_VALUE_MOST + 1, true) == NULL);
}

CHECK_MAIN
