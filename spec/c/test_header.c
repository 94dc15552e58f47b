/* The header block: where it ends, what its fields are, and that what nobody edited comes out as it came in. */
#include "support/check.h"

#include "base/error.h"
#include "mail/header.h"

static mp_str text(const char *s)
{
  return mp_str_c(s);
}

static mp_header *header_of(const char *block)
{
  mp_header *header = NULL;
  return mp_header_new(&header, text(block)) == 0 ? header : NULL;
}

static void check_written(const mp_header *header, const char *want)
{
  mp_buf out;
  mp_buf_init(&out, 1 << 22, NULL);
  CHECK_EQ_INT(mp_header_write(header, &out), 0);
  CHECK_EQ_STR(mp_buf_view(&out), text(want));
  mp_buf_dispose(&out);
}

TEST(the_block_ends_at_the_first_empty_line_or_before_what_is_no_field)
{
  static const struct row {
    const char *octets;
    size_t end;
    bool open;
  } rows[] = {
    { "", 0, true },
    { "\r", 0, true },
    { "\r\n", 2, false },
    { "\r\nbody", 2, false },
    { "A: b\r\n\r\nbody\r\n\r\n", 8, false },
    { "A: b\r\n c\r\n\td\r\n\r\nbody", 16, false },
    { "A: b\r\nB: c\r\n", 12, true },
    { "A: b\r\nB: c", 10, true }, /* a message may end within a field */
    { "A: b\r\nBar", 6, true },   /* the start of a field, or a body that nobody set off */
    { "A: b\r\nBar ", 6, true },
    { "A: b\r\n\r", 6, true },
    { "A: b\r\nBar Baz: c\r\n\r\n", 6, false },
    { "A: b\r\n: c\r\n\r\n", 6, false },
    { "From a@b Sun\r\nA: b\r\n", 0, false },
    { " A: b\r\n\r\n", 0, false },     /* nothing to continue */
    { "A : b\r\n\r\nx", 9, false },    /* obsolete white space, RFC 5322 4.5 */
    { "A: b\nc\r\n\r\nx", 10, false }, /* a lone LF is an octet of the value */
    { "A: b\n\nc\r\n\r\nx", 11, false },
    { "A: b\r\rc\r\n\r\nx", 11, false },
    { "A: b\r\n \r\n\r\nx", 11, false },
    { "A\x80: b\r\n\r\n", 0, false },
    { "A:\r\n\r\n", 6, false },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    bool open = !rows[i].open;
    size_t end = mp_header_end(text(rows[i].octets), &open);
    if (end != rows[i].end || open != rows[i].open)
      FAIL("row %zu ends at %zu%s", i, end, open ? ", open" : "");
  }
}

TEST(what_has_ended_does_not_change_with_what_follows)
{
  static const char *const messages[] = { "A: b\r\n c\r\nB:\r\n\r\nbody", "A: b\r\nno field\r\n", "\r\n\r\n",
                                          "A: b\r\n\n: c\r\n\r\n" };
  for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
    mp_str all = text(messages[i]);
    bool open;
    size_t end = mp_header_end(all, &open);
    for (size_t len = 0; len < all.len; len++) {
      bool part_open;
      size_t part = mp_header_end(mp_str_sub(all, 0, len), &part_open);
      CHECK(part <= end || part_open);
      CHECK(part_open || (!open && part == end));
    }
  }
}

TEST(an_overlong_name_is_no_field)
{
  char line[1100];
  memset(line, 'a', sizeof line);
  line[999] = ':';
  bool open;
  CHECK_EQ_INT(mp_header_end(mp_str_of(line, sizeof line), &open), 0);
  CHECK(!open);
  line[998] = ':';
  CHECK_EQ_INT(mp_header_end(mp_str_of(line, sizeof line), &open), sizeof line);
  CHECK(open);
}

TEST(fields_are_views_with_folding_kept_and_white_space_trimmed)
{
  const char *block =
      "Subject:  hello \r\n world\t\r\nX-Empty:\r\nFrom : a@b\r\nfolded:\r\n\tv\r\n \r\nsubject: two\r\n\r\nbody: x\r\n";
  mp_header *header = header_of(block);
  REQUIRE(header);
  CHECK_EQ_INT(mp_header_count(header), 5);
  mp_field field;
  mp_header_at(header, 0, &field);
  CHECK_STR(field.name, "Subject");
  CHECK_STR(field.value, "hello \r\n world");
  CHECK_STR(field.raw, "Subject:  hello \r\n world\t\r\n");
  CHECK(field.raw.ptr == block);
  mp_header_at(header, 1, &field);
  CHECK_STR(field.value, "");
  mp_header_at(header, 2, &field);
  CHECK_STR(field.name, "From");
  CHECK_STR(field.value, "a@b");
  mp_header_at(header, 3, &field);
  CHECK_STR(field.value, "v");
  CHECK_EQ_INT(mp_header_find(header, MP_STR("SUBJECT"), 0), 0);
  CHECK_EQ_INT(mp_header_find(header, MP_STR("SUBJECT"), 1), 4);
  CHECK_EQ_INT(mp_header_find(header, MP_STR("SUBJECT"), 5), -1);
  CHECK_EQ_INT(mp_header_find(header, MP_STR("Subjec"), 0), -1);
  CHECK_EQ_INT(mp_header_find(header, MP_STR(""), 0), -1);
  CHECK_EQ_INT(mp_header_count_of(header, MP_STR("sUBJECT")), 2);
  CHECK(!mp_header_edited(header));
  mp_header_free(header);
}

TEST(a_value_is_unfolded_by_dropping_the_line_ends_alone)
{
  mp_header *header = header_of("A: one\r\n  two\r\n\tthree\nfour\rfive\r\n");
  REQUIRE(header);
  mp_field field;
  mp_header_at(header, 0, &field);
  mp_buf out;
  mp_buf_init(&out, 100, NULL);
  CHECK_EQ_INT(mp_field_unfold(&field, &out), 0);
  CHECK_STR(mp_buf_view(&out), "one  two\tthree\nfour\rfive");
  mp_buf_dispose(&out);
  mp_buf_init(&out, 5, NULL);
  CHECK_EQ_INT(mp_field_unfold(&field, &out), MP_E_FULL);
  CHECK_EQ_INT(out.len, 0);
  mp_buf_dispose(&out);
  mp_header_free(header);
}

TEST(an_untouched_block_is_written_octet_for_octet)
{
  static const char *const blocks[] = {
    "",
    "A: b\r\n",
    "a :b \r\n\t c\r\nB:\r\nC: \n\r x\r\n",
    "A: \xff\xfe\r\nA: \xff\r\n",
  };
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
    char with_end[100];
    snprintf(with_end, sizeof with_end, "%s\r\n", blocks[i]);
    mp_header *header = header_of(with_end);
    REQUIRE(header);
    check_written(header, blocks[i]);
    mp_header_free(header);
  }
}

TEST(edits_leave_their_neighbours_alone)
{
  mp_header *header = header_of("A:  1 \r\nSUBJECT: old\r\n folded\r\nB:\t2\r\n\r\n");
  REQUIRE(header);
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("X-Top"), MP_STR("t")), 0);
  CHECK_EQ_INT(mp_header_insert(header, mp_header_count(header), MP_STR("X-End"), MP_STR("e")), 0);
  CHECK_EQ_INT(mp_header_insert(header, 99, MP_STR("X-Past"), MP_STR("")), 0);
  CHECK_EQ_INT(mp_header_replace(header, 2, MP_STR("new")), 0);
  CHECK(mp_header_edited(header));
  check_written(header, "X-Top: t\r\nA:  1 \r\nSUBJECT: new\r\nB:\t2\r\nX-End: e\r\nX-Past:\r\n");
  mp_field field;
  mp_header_at(header, 2, &field);
  CHECK_STR(field.name, "SUBJECT");
  CHECK_STR(field.value, "new");
  CHECK_EQ_INT(mp_header_find(header, MP_STR("x-end"), 0), 4);
  mp_header_remove(header, 1);
  mp_header_remove(header, 1);
  check_written(header, "X-Top: t\r\nB:\t2\r\nX-End: e\r\nX-Past:\r\n");
  mp_header_free(header);
}

TEST(all_fields_of_a_name_can_go_at_once)
{
  mp_header *header = header_of("X: 1\r\nA: 2\r\nx: 3\r\nX-: 4\r\nX: 5\r\n");
  REQUIRE(header);
  CHECK_EQ_INT(mp_header_remove_all(header, MP_STR("none")), 0);
  CHECK(!mp_header_edited(header));
  CHECK_EQ_INT(mp_header_remove_all(header, MP_STR("X")), 3);
  CHECK(mp_header_edited(header));
  check_written(header, "A: 2\r\nX-: 4\r\n");
  mp_header_free(header);
}

TEST(a_field_that_came_without_its_line_end_gets_one)
{
  mp_header *header = header_of("A: 1\r\nB: 2");
  REQUIRE(header);
  check_written(header, "A: 1\r\nB: 2\r\n");
  CHECK_EQ_INT(mp_header_insert(header, 2, MP_STR("C"), MP_STR("3")), 0);
  check_written(header, "A: 1\r\nB: 2\r\nC: 3\r\n");
  mp_header_free(header);
}

TEST(names_and_values_that_would_break_the_block_are_refused)
{
  static const char *const names[] = { "", "a b", "a:", "a\r\nb", "a\t", "\x7f", "\xc3\xa4", "a\n" };
  static const char *const values[] = {
    "a\rb",      "a\nb",      "a\r\nb", "a\r\nB: c",   "a\r\n\r\nbody", "a\n\nb",    "a\x01",
    "a\x7f",     "a\r\n",     "a\n",    "a\r\n ",      "a\r\n \r\n b",  "a\n\t\n b", "\xff",
    "a\xc0\xaf", "a\r\r\n b", "\r",     "\xed\xa0\x80"
  };
  mp_header *header = header_of("A: 1\r\n\r\n");
  REQUIRE(header);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    CHECK_EQ_INT(mp_header_insert(header, 0, text(names[i]), MP_STR("v")), MP_E_INVALID);
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    if (mp_header_insert(header, 0, MP_STR("N"), text(values[i])) != MP_E_INVALID)
      FAIL("value %zu was taken", i);
    CHECK_EQ_INT(mp_header_replace(header, 0, text(values[i])), MP_E_INVALID);
  }
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("N"), mp_str_of("a\0b", 3)), MP_E_INVALID);
  CHECK(!mp_header_edited(header));
  check_written(header, "A: 1\r\n");
  mp_header_free(header);
}

TEST(a_folded_value_is_taken_and_its_line_ends_made_whole)
{
  mp_header *header = header_of("");
  REQUIRE(header);
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("A"),
                                MP_STR(" one\r\n two\n\tthr\xc3\xa9"
                                       "e \t")),
               0);
  check_written(header, "A: one\r\n two\r\n\tthr\xc3\xa9"
                        "e\r\n");
  mp_header_free(header);
}

/* Every line, and that no line is of white space alone. */
static void check_lines(mp_str block, size_t most)
{
  size_t start = 0;
  for (size_t i = 0; i + 1 < block.len; i++) {
    if (block.ptr[i] != '\r')
      continue;
    CHECK(block.ptr[i + 1] == '\n');
    CHECK(i - start <= most);
    CHECK(mp_str_trim(mp_str_sub(block, start, i - start)).len > 0);
    start = i + 2;
  }
  CHECK_EQ_INT(start, block.len);
}

TEST(a_long_value_is_folded_at_white_space_and_reads_the_same)
{
  static char value[8000];
  for (size_t i = 0; i < sizeof value; i++)
    value[i] = i % 11 == 10 || (i > 2000 && i < 4000) ? (i % 3 ? ' ' : '\t') : 'x';
  mp_header *header = header_of("");
  mp_buf out;
  mp_buf_init(&out, 1 << 20, NULL);
  REQUIRE(header);
  /* 998 octets are the most that stay on one line. */
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("Name"), mp_str_of(value, 992)), 0);
  mp_field field;
  mp_header_at(header, 0, &field);
  CHECK(memchr(field.value.ptr, '\r', field.value.len) == NULL);
  CHECK_EQ_INT(mp_header_insert(header, 1, MP_STR("Name"), mp_str_of(value, 993)), 0);
  mp_header_at(header, 1, &field);
  CHECK(memchr(field.value.ptr, '\r', field.value.len) != NULL);
  /* A run of white space stays whole, so only words may be long. */
  CHECK_EQ_INT(mp_header_insert(header, 2, MP_STR("Name"), mp_str_of(value, 2000)), 0);
  mp_header_at(header, 2, &field);
  check_lines(field.raw, 78);
  CHECK_EQ_INT(mp_field_unfold(&field, &out), 0);
  CHECK_EQ_STR(mp_buf_view(&out), mp_str_trim(mp_str_of(value, 2000)));
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("Name"), mp_str_of(value, sizeof value)), MP_E_TOOLONG);
  memset(value, 'y', sizeof value);
  CHECK_EQ_INT(mp_header_insert(header, 0, MP_STR("Name"), mp_str_of(value, 1000)), MP_E_TOOLONG);
  CHECK_EQ_INT(mp_header_insert(header, 0, mp_str_of(value, 998), MP_STR("")), MP_E_TOOLONG);
  CHECK_EQ_INT(mp_header_insert(header, 0, mp_str_of(value, 997), MP_STR("")), 0);
  /* A name and a word which fit a line each. */
  CHECK_EQ_INT(mp_header_insert(header, 0, mp_str_of(value, 997), mp_str_of(value, 997)), 0);
  mp_header_at(header, 0, &field);
  check_lines(field.raw, 998);
  CHECK_EQ_INT(field.value.len, 997);
  CHECK_EQ_INT(mp_header_count(header), 5);
  mp_buf_dispose(&out);
  mp_header_free(header);
}

TEST(edits_have_a_ceiling)
{
  static char value[900];
  memset(value, 'z', sizeof value);
  mp_header *header = header_of("A: 1\r\n\r\n");
  REQUIRE(header);
  int rc = 0;
  size_t made = 0;
  for (; rc == 0 && made < 5000; made++)
    rc = mp_header_insert(header, made, MP_STR("X"), mp_str_of(value, sizeof value));
  CHECK_EQ_INT(rc, MP_E_FULL);
  CHECK(made > 1000 && made < 1200);
  CHECK_EQ_INT(mp_header_count(header), made);
  mp_header_free(header);
}

TEST(a_block_over_the_ceiling_is_refused)
{
  size_t len = (16 << 20) + 1;
  char *block = malloc(len);
  REQUIRE(block);
  memset(block, 'a', len);
  mp_header *header = NULL;
  CHECK_EQ_INT(mp_header_new(&header, mp_str_of(block, len)), MP_E_TOOLONG);
  free(block);
}

TEST(many_fields_are_indexed)
{
  enum { FIELDS = 20000 };
  char *block = malloc(FIELDS * 12 + 1), *at = block;
  REQUIRE(block);
  for (int i = 0; i < FIELDS; i++)
    at += sprintf(at, "F%05d:x\r\n", i);
  mp_header *header = NULL;
  REQUIRE(mp_header_new(&header, mp_str_of(block, (size_t)(at - block))) == 0);
  CHECK_EQ_INT(mp_header_count(header), FIELDS);
  CHECK_EQ_INT(mp_header_find(header, MP_STR("f19999"), 0), FIELDS - 1);
  mp_header_free(header);
  free(block);
}

TEST(memory_may_run_out_anywhere)
{
  char block[4000], *at = block;
  for (int i = 0; i < 100; i++)
    at += sprintf(at, "Name-%d: value\r\n", i);
  FOR_EACH_ALLOC_FAILURE {
    mp_header *header = NULL;
    mp_buf out;
    mp_buf_init(&out, 1 << 16, NULL);
    int rc = mp_header_new(&header, mp_str_of(block, (size_t)(at - block)));
    if (rc == 0) {
      rc = mp_header_insert(header, 3, MP_STR("New"), MP_STR("value"));
      CHECK_EQ_INT(mp_header_count(header), rc == 0 ? 101 : 100);
      CHECK(mp_header_edited(header) == (rc == 0));
    }
    if (rc == 0)
      rc = mp_header_replace(header, 50, MP_STR("other"));
    if (rc == 0)
      rc = mp_header_write(header, &out);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    CHECK(rc == 0 || out.len == 0);
    mp_buf_dispose(&out);
    mp_header_free(header);
  }
}

CHECK_MAIN
