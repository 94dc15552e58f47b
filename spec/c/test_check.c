/* The harness itself: a failing allocator must really fail, each allocation in turn, and give up afterwards. */
#include "support/check.h"

TEST(each_allocation_fails_once_and_the_last_round_succeeds)
{
  int rounds = 0, whole = 0;
  FOR_EACH_ALLOC_FAILURE {
    rounds++;
    void *a = mp_mem_alloc(10), *b = a ? mp_mem_zalloc(20) : NULL, *c = b ? mp_mem_dup("abc", 3) : NULL;
    CHECK_EQ_INT(CHECK_ALLOC_FAILED(), c == NULL);
    whole += c != NULL;
    mp_mem_free(a);
    mp_mem_free(b);
    mp_mem_free(c);
  }
  CHECK_EQ_INT(rounds, 4);
  CHECK_EQ_INT(whole, 1);
}

TEST(a_view_with_nul_is_compared_whole)
{
  CHECK_STR(mp_str_of("a\0b", 3), "a\0b");
  CHECK(!mp_str_eq(mp_str_of("a\0b", 3), MP_STR("a\0c")));
  CHECK_EQ_STR(mp_str_of("abc", 2), MP_STR("ab"));
}

TEST(octets_are_quoted_as_a_literal_and_cut_when_long)
{
  char out[16];
  CHECK_CSTR(check_quote(MP_STR("a\r\n\x01"), out, sizeof out), "a\\r\\n\\001");
  CHECK_CSTR(check_quote(MP_STR("0123456789abcdef"), out, sizeof out), "012345678...");
}

CHECK_MAIN
