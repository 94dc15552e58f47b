/* support/check.h -- the harness of the C tests: one header, one executable per test file, no Lua in the process.
 *
 *   #include "support/check.h"
 *
 *   TEST(a_bare_lf_is_refused)
 *   {
 *     mp_server *srv = new_server();
 *     REQUIRE(srv);                            leaves the test when it does not hold
 *     CHECK_EQ_INT(mp_server_feed(srv, "\n", 1, 0), MP_E_BARELF);
 *     CHECK_STR(output, "500 5.5.2 Bare LF\r\n");
 *     mp_server_free(srv);
 *   }
 *
 *   CHECK_MAIN
 *
 * Tests run in the order of the file and print their names. A failed check prints its place and the test goes on; the
 * last line is
 * `N passed, N failed`, counted in tests, and the exit status is 1 when one failed. An argument runs only the tests
 * whose name contains it. Checks may be made from any thread, FOR_EACH_ALLOC_FAILURE counts in its own. */
#ifndef MP_SPEC_CHECK_H
#define MP_SPEC_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

typedef struct check_test {
  const char *name;
  int line;
  void (*run)(void);
  struct check_test *next;
} check_test;

static check_test *check_first;
static atomic_int check_failures; /* of the test that runs */

/* By line, for optimising across files turns the order of constructors round. */
static void check_register(check_test *test)
{
  check_test **at = &check_first;
  while (*at && (*at)->line < test->line)
    at = &(*at)->next;
  test->next = *at;
  *at = test;
}

/* Defines a test and puts it on the list before main begins. */
#define TEST(NAME)                                                   \
  static void test_##NAME(void);                                     \
  __attribute__((constructor)) static void register_##NAME(void)     \
  {                                                                  \
    static check_test test = { #NAME, __LINE__, test_##NAME, NULL }; \
    check_register(&test);                                           \
  }                                                                  \
  static void test_##NAME(void)

__attribute__((format(printf, 3, 4), unused)) static bool check_fail(const char *file, int line,
                                                                     const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  flockfile(stdout);
  printf("%s:%d: ", file, line);
  vprintf(fmt, args);
  putchar('\n');
  fflush(stdout);
  funlockfile(stdout);
  va_end(args);
  atomic_fetch_add(&check_failures, 1);
  return false;
}

/* Prints octets the way a C literal would hold them, so that CR, LF and NUL are seen; a long view is cut. */
__attribute__((unused)) static const char *check_quote(mp_str s, char *out, size_t size)
{
  size_t n = 0;
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (n + 8 > size) {
      memcpy(out + n, "...", 3);
      n += 3;
      break;
    }
    if (c == '\r' || c == '\n') {
      out[n++] = '\\';
      out[n++] = c == '\r' ? 'r' : 'n';
    } else if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
      n += (size_t)snprintf(out + n, size - n, "\\%03o", c);
    } else {
      out[n++] = (char)c;
    }
  }
  out[n] = '\0';
  return out;
}

__attribute__((unused)) static bool check_eq_int(const char *file, int line, const char *what, intmax_t got,
                                                 intmax_t want)
{
  return got == want || check_fail(file, line, "%s is %" PRIdMAX ", not %" PRIdMAX, what, got, want);
}

__attribute__((unused)) static bool check_eq_str(const char *file, int line, const char *what, mp_str got,
                                                 mp_str want)
{
  char a[400], b[400];
  return mp_str_eq(got, want) ||
         check_fail(file, line, "%s is \"%s\" (%zu), not \"%s\" (%zu)", what, check_quote(got, a, sizeof a),
                    got.len, check_quote(want, b, sizeof b), want.len);
}

/* Each answers whether it held, and the test goes on. */
#define CHECK(COND)             ((COND) ? true : check_fail(__FILE__, __LINE__, "does not hold: %s", #COND))
#define CHECK_EQ_INT(GOT, WANT) check_eq_int(__FILE__, __LINE__, #GOT, (intmax_t)(GOT), (intmax_t)(WANT))
/* A view against a string literal (which may hold NUL), and a view against a view. */
#define CHECK_STR(GOT, LIT)     check_eq_str(__FILE__, __LINE__, #GOT, (GOT), mp_str_of("" LIT, sizeof(LIT) - 1))
#define CHECK_EQ_STR(GOT, WANT) check_eq_str(__FILE__, __LINE__, #GOT, (GOT), (WANT))
/* A C string against a literal. */
#define CHECK_CSTR(GOT, LIT) \
  check_eq_str(__FILE__, __LINE__, #GOT, mp_str_c(GOT), mp_str_of("" LIT, sizeof(LIT) - 1))
#define FAIL(...) check_fail(__FILE__, __LINE__, __VA_ARGS__)

/* As CHECK, but leaves the function (of type void) when it does not hold. */
#define REQUIRE(COND)   \
  do {                  \
    if (!CHECK(COND)) { \
      return;           \
    }                   \
  } while (0)

#ifdef MP_MEM_FAULTS
typedef struct check_failing {
  long round; /* -1 before the first */
} check_failing;

enum { CHECK_FAILING_MOST = 20000 };

__attribute__((unused)) static bool check_failing_next(check_failing *f, const char *file, int line)
{
  if (f->round >= 0 && mp_mem_failed() == 0) {
    mp_mem_fail_after(-1);
    return false;
  }
  if (f->round >= CHECK_FAILING_MOST) {
    mp_mem_fail_after(-1);
    return check_fail(file, line, "still allocating after %ld failing rounds", f->round);
  }
  mp_mem_fail_after(++f->round);
  return true;
}

/* Runs the block again and again, with this thread's first allocation failing, then the second, and so on, until a round
 * in which none failed: that one must succeed, the others must fail cleanly (the leak checker and the block's own checks
 * tell). CHECK_ALLOC_FAILED() says inside the block whether one failed so far in this round. */
#define FOR_EACH_ALLOC_FAILURE \
  for (check_failing check_round_ = { .round = -1 }; check_failing_next(&check_round_, __FILE__, __LINE__);)
#define CHECK_ALLOC_FAILED() (mp_mem_failed() > 0)
#endif

__attribute__((unused)) static int check_run(int argc, char **argv)
{
  int passed = 0, failed = 0;
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a crash must not take the name of its test with it */
  for (check_test *test = check_first; test; test = test->next) {
    if (argc > 1 && !strstr(test->name, argv[1])) {
      continue;
    }
    printf("%s\n", test->name);
    atomic_store(&check_failures, 0);
    test->run();
#ifdef MP_MEM_FAULTS
    mp_mem_fail_after(-1); /* a REQUIRE may have left a loop with failing on */
#endif
    int failures = atomic_load(&check_failures);
    if (failures > 0) {
      printf("FAILED %s\n", test->name);
      failed++;
    } else {
      passed++;
    }
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed > 0 || passed == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define CHECK_MAIN                \
  int main(int argc, char **argv) \
  {                               \
    return check_run(argc, argv); \
  }

#endif
