/* Command lines out of a byte stream. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/line.h"

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)

/* Feeds `in` in slices and writes down what comes: a line as "text|", an error as its name and '|'. */
static void read_all(mp_line *line, mp_str in, size_t slice, char *log, size_t size)
{
  size_t n = 0;
  for (size_t from = 0; from < in.len;) {
    size_t most = in.len - from < slice ? in.len - from : slice;
    char *copy = malloc(most);
    memcpy(copy, in.ptr + from, most);
    mp_str rest = mp_str_of(copy, most);
    while (rest.len) {
      size_t taken = 0;
      mp_str text;
      int rc = mp_line_next(line, rest, &taken, &text);
      if (taken > rest.len || (rc == 0 && taken != rest.len) || n + text.len + 16 > size) {
        FAIL("rc %d, taken %zu of %zu", rc, taken, rest.len);
        free(copy);
        return;
      }
      if (rc > 0 && text.len)
        memcpy(log + n, text.ptr, text.len);
      if (rc > 0)
        n += text.len;
      if (rc < 0) {
        CHECK_EQ_INT(text.len, 0);
        n += (size_t)snprintf(log + n, size - n, "%s", mp_error_name(rc));
      }
      if (rc != 0)
        log[n++] = '|';
      rest = mp_str_sub(rest, taken, rest.len);
    }
    free(copy);
    from += most;
  }
  log[n] = '\0';
}

static void check_lines(mp_str in, size_t limit, const char *want)
{
  static const size_t slices[] = { 1, 2, 3, 5, 64, SIZE_MAX };
  char log[4096];
  for (size_t s = 0; s < sizeof slices / sizeof *slices; s++)
    for (int pooled = 0; pooled <= 1; pooled++) {
      mp_pool pool;
      mp_line line;
      mp_pool_init(&pool, 128, 2);
      mp_line_init(&line, limit, pooled ? &pool : NULL);
      read_all(&line, in, slices[s], log, sizeof log);
      if (strcmp(log, want) != 0)
        FAIL("slices of %zu: \"%s\", not \"%s\"", slices[s], log, want);
      mp_line_dispose(&line);
      mp_pool_dispose(&pool);
    }
}

TEST(lines_are_given_without_their_crlf)
{
  check_lines(LIT("EHLO a\r\nNOOP\r\n\r\nQUIT\r\n"), 512, "EHLO a|NOOP||QUIT|");
}

TEST(a_part_without_its_end_is_kept)
{
  check_lines(LIT("NOOP\r\nQUI"), 512, "NOOP|");
  check_lines(LIT("NOOP\r\nQUIT\r"), 512, "NOOP|");
}

TEST(a_line_of_exactly_the_limit_is_taken)
{
  check_lines(LIT("12345678\r\nNOOP\r\n"), 10, "12345678|NOOP|");
}

TEST(a_line_over_the_limit_is_dropped_to_its_crlf_and_the_next_is_normal)
{
  check_lines(LIT("123456789\r\nNOOP\r\n"), 10, "TOOLONG|NOOP|");
  check_lines(LIT("1234567890123456789012345678901234567890\r\nNOOP\r\n"), 10, "TOOLONG|NOOP|");
}

TEST(a_line_over_the_limit_is_reported_once)
{
  check_lines(LIT("12345678901234567890\r\n12345678901234567890\r\nA\r\n"), 10, "TOOLONG|TOOLONG|A|");
}

TEST(a_line_over_the_limit_is_reported_before_its_end_comes)
{
  mp_line line;
  mp_line_init(&line, 10, NULL);
  size_t taken;
  mp_str text;
  CHECK_EQ_INT(mp_line_next(&line, LIT("123456789"), &taken, &text), 0);
  CHECK_EQ_INT(mp_line_next(&line, LIT("0"), &taken, &text), MP_E_TOOLONG);
  CHECK_EQ_INT(mp_line_next(&line, LIT("1234567890"), &taken, &text), 0);
  CHECK_EQ_INT(taken, 10);
  CHECK_EQ_INT(mp_line_next(&line, LIT("1\r\nNOOP\r\n"), &taken, &text), 1);
  CHECK_STR(text, "NOOP");
  mp_line_dispose(&line);
}

TEST(a_bare_lf_in_a_dropped_line_begins_no_command)
{
  check_lines(LIT("12345678901234567890\nMAIL FROM:<a@b>\n\r\nNOOP\r\n"), 10, "TOOLONG|NOOP|");
  check_lines(LIT("12345678901234567890\r\rQUIT\n\r\nNOOP\r\n"), 10, "TOOLONG|NOOP|");
}

TEST(a_bare_lf_ends_a_line_in_error)
{
  check_lines(LIT("NOOP\nQUIT\r\n"), 512, "BARELF|QUIT|");
  check_lines(LIT("\nQUIT\r\n"), 512, "BARELF|QUIT|");
}

TEST(a_bare_cr_in_a_line_is_an_error)
{
  check_lines(LIT("NO\rOP\r\nQUIT\r\n"), 512, "BARELF|QUIT|");
  check_lines(LIT("NOOP\r\r\nQUIT\r\n"), 512, "BARELF|QUIT|");
  check_lines(LIT("NO\rOP\nQUIT\r\n"), 512, "BARELF|QUIT|");
}

TEST(a_nul_in_a_line_is_an_error)
{
  check_lines(LIT("NO\0OP\r\nQUIT\r\n"), 512, "BARELF|QUIT|");
  check_lines(LIT("\0\r\nQUIT\r\n"), 512, "BARELF|QUIT|");
}

TEST(a_whole_line_is_borrowed_and_takes_no_memory)
{
  mp_line line;
  mp_line_init(&line, 512, NULL);
  mp_str in = LIT("NOOP\r\nQUIT\r\n"), text;
  size_t taken;
  mp_mem_fail_after(0);
  CHECK_EQ_INT(mp_line_next(&line, in, &taken, &text), 1);
  CHECK(text.ptr == in.ptr && text.len == 4);
  CHECK_EQ_INT(taken, 6);
  CHECK_EQ_INT(mp_mem_failed(), 0);
  mp_line_dispose(&line);
}

TEST(a_line_in_pieces_gives_its_memory_back_at_the_next_call)
{
  mp_line line;
  mp_line_init(&line, 512, NULL);
  size_t taken;
  mp_str text;
  CHECK_EQ_INT(mp_line_next(&line, LIT("NO"), &taken, &text), 0);
  CHECK(line.held.ptr != NULL);
  CHECK_EQ_INT(mp_line_next(&line, LIT("OP\r\n"), &taken, &text), 1);
  CHECK_STR(text, "NOOP");
  CHECK_EQ_INT(mp_line_next(&line, MP_STR_NULL, &taken, &text), 0);
  CHECK(line.held.ptr == NULL);
  mp_line_dispose(&line);
}

TEST(the_limit_may_change_between_lines)
{
  static char in[12290];
  memset(in, 'A', sizeof in);
  memcpy(in + sizeof in - 2, "\r\n", 2);
  for (size_t slice = 1; slice < 20000; slice += 4999) {
    mp_line line;
    mp_line_init(&line, 512, NULL);
    line.limit = sizeof in;
    static char log[16384];
    read_all(&line, mp_str_of(in, sizeof in), slice, log, sizeof log);
    CHECK_EQ_INT(strlen(log), sizeof in - 1);
    line.limit = 512;
    read_all(&line, mp_str_of(in, sizeof in), slice, log, sizeof log);
    CHECK_CSTR(log, "TOOLONG|");
    mp_line_dispose(&line);
  }
}

TEST(a_limit_lowered_below_what_is_held_cuts_the_line)
{
  mp_line line;
  mp_line_init(&line, 512, NULL);
  size_t taken;
  mp_str text;
  CHECK_EQ_INT(mp_line_next(&line, LIT("0123456789"), &taken, &text), 0);
  line.limit = 5;
  CHECK_EQ_INT(mp_line_next(&line, LIT("\r\nA\r\n"), &taken, &text), MP_E_TOOLONG);
  CHECK_EQ_INT(taken, 2);
  mp_line_dispose(&line);
}

TEST(a_limit_past_the_ceiling_is_the_ceiling)
{
  static char in[20000];
  memset(in, 'A', sizeof in);
  mp_line line;
  mp_line_init(&line, SIZE_MAX, NULL);
  size_t taken;
  mp_str text;
  CHECK_EQ_INT(mp_line_next(&line, mp_str_of(in, 10000), &taken, &text), 0);
  CHECK_EQ_INT(mp_line_next(&line, mp_str_of(in, 10000), &taken, &text), MP_E_TOOLONG);
  CHECK_EQ_INT(mp_line_next(&line, LIT("\r\nNOOP\r\n"), &taken, &text), 1);
  CHECK_STR(text, "NOOP");
  mp_line_dispose(&line);
}

TEST(without_memory_nothing_is_taken_and_trying_again_works)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_line line;
    mp_line_init(&line, 512, NULL);
    mp_str text, pieces[] = { LIT("NO"), LIT("OP"), LIT("\r\n") };
    int rc = 0;
    for (size_t i = 0; i < 3; i++) {
      size_t taken = 99;
      rc = mp_line_next(&line, pieces[i], &taken, &text);
      if (rc < 0) {
        CHECK(CHECK_ALLOC_FAILED());
        CHECK_EQ_INT(rc, MP_E_NOMEM);
        CHECK_EQ_INT(taken, 0);
        mp_mem_fail_after(-1);
        rc = mp_line_next(&line, pieces[i], &taken, &text);
        mp_mem_fail_after(0);
        mp_mem_free(mp_mem_alloc(1)); /* the round counts as one that failed */
      }
    }
    CHECK_EQ_INT(rc, 1);
    CHECK_STR(text, "NOOP");
    mp_line_dispose(&line);
  }
}

CHECK_MAIN
