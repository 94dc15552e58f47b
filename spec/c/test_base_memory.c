/* The ground floor's memory: the door to the heap, pools, buffers with a ceiling, arenas. */
#include "support/check.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)

/* ---- memory ------------------------------------------------------------------------------------------------------ */

TEST(mem_of_no_size_is_still_a_block)
{
  void *a = mp_mem_alloc(0), *b = mp_mem_zalloc(0);
  CHECK(a && b);
  a = mp_mem_realloc(a, 0);
  CHECK(a);
  mp_mem_free(a);
  mp_mem_free(b);
  mp_mem_free(NULL);
}

TEST(mem_copies_with_a_nul_behind)
{
  char *copy = mp_mem_dup("abc", 2);
  REQUIRE(copy);
  CHECK_CSTR(copy, "ab");
  mp_mem_free(copy);
  volatile size_t endless = SIZE_MAX; /* so that the compiler does not warn of what is tried here */
  CHECK(!mp_mem_dup("abc", endless));
}

TEST(mem_wipes)
{
  char secret[] = "secret";
  mp_mem_wipe(secret, sizeof secret);
  for (size_t i = 0; i < sizeof secret; i++)
    CHECK_EQ_INT(secret[i], 0);
  mp_mem_wipe(NULL, 0);
}

TEST(mem_fails_from_the_nth_allocation_on)
{
  mp_mem_fail_after(1);
  void *a = mp_mem_alloc(1);
  void *b = mp_mem_alloc(1);
  void *c = mp_mem_zalloc(1);
  CHECK(a && !b && !c);
  CHECK(!mp_mem_realloc(a, 2));
  CHECK_EQ_INT(mp_mem_failed(), 3);
  mp_mem_fail_after(-1);
  mp_mem_free(a);
}

TEST(pool_takes_and_gives)
{
  mp_pool pool;
  mp_pool_init(&pool, 100, 2);
  void *blocks[4];
  for (int i = 0; i < 4; i++) {
    blocks[i] = mp_pool_take(&pool);
    REQUIRE(blocks[i]);
    memset(blocks[i], i, 100);
  }
  for (int i = 0; i < 4; i++)
    mp_pool_give(&pool, blocks[i]);
  CHECK(pool.idle <= 2);
  mp_pool_give(&pool, NULL);
  size_t idle = pool.idle;
  void *again = mp_pool_take(&pool);
  CHECK(again && pool.idle + (idle > 0) == idle);
  mp_pool_dispose(&pool);
  CHECK_EQ_INT(pool.idle, 0);
  mp_mem_free(again);
}

TEST(pool_blocks_hold_at_least_a_pointer)
{
  mp_pool pool;
  mp_pool_init(&pool, 1, 1);
  void *block = mp_pool_take(&pool);
  REQUIRE(block);
  mp_pool_give(&pool, block);
  mp_pool_dispose(&pool);
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

TEST(buf_adds_and_consumes)
{
  mp_buf buf;
  mp_buf_init(&buf, 100, NULL);
  CHECK(mp_buf_view(&buf).len == 0);
  CHECK_EQ_INT(mp_buf_add(&buf, "abc", 3), 0);
  CHECK_EQ_INT(mp_buf_str(&buf, LIT("def")), 0);
  CHECK_EQ_INT(mp_buf_char(&buf, 'g'), 0);
  CHECK_EQ_INT(mp_buf_fmt(&buf, "%d", 42), 0);
  CHECK_STR(mp_buf_view(&buf), "abcdefg42");
  mp_buf_consume(&buf, 3);
  CHECK_STR(mp_buf_view(&buf), "defg42");
  mp_buf_cut(&buf, 4);
  mp_buf_cut(&buf, 99);
  CHECK_STR(mp_buf_view(&buf), "defg");
  mp_buf_consume(&buf, 4);
  CHECK(buf.ptr == NULL);
  CHECK_EQ_INT(mp_buf_add(&buf, NULL, 0), 0);
  CHECK_EQ_INT(mp_buf_char(&buf, 'x'), 0);
  mp_buf_consume(&buf, 99);
  CHECK(buf.ptr == NULL);
  mp_buf_dispose(&buf);
}

TEST(buf_has_a_ceiling)
{
  mp_buf buf;
  mp_buf_init(&buf, 10, NULL);
  CHECK_EQ_INT(mp_buf_add(&buf, "0123456789", 10), 0);
  CHECK_EQ_INT(mp_buf_char(&buf, 'x'), MP_E_FULL);
  CHECK_EQ_INT(mp_buf_fmt(&buf, "%s", "x"), MP_E_FULL);
  volatile size_t endless = SIZE_MAX;
  CHECK_EQ_INT(mp_buf_add(&buf, "x", endless), MP_E_FULL);
  CHECK(!mp_buf_room(&buf, 1));
  CHECK_STR(mp_buf_view(&buf), "0123456789");
  mp_buf_consume(&buf, 4);
  CHECK_EQ_INT(mp_buf_add(&buf, "abcd", 4), 0);
  CHECK_EQ_INT(mp_buf_char(&buf, 'x'), MP_E_FULL);
  CHECK_STR(mp_buf_view(&buf), "456789abcd");
  mp_buf_dispose(&buf);
}

TEST(buf_formats_what_is_long)
{
  char text[600];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  mp_buf buf;
  mp_buf_init(&buf, 2000, NULL);
  CHECK_EQ_INT(mp_buf_fmt(&buf, "<%s>", text), 0);
  CHECK_EQ_INT(buf.len, 601);
  CHECK_EQ_INT(mp_buf_view(&buf).ptr[600], '>');
  mp_buf_dispose(&buf);
}

TEST(buf_gives_room_to_write_into)
{
  mp_buf buf;
  mp_buf_init(&buf, 1000, NULL);
  char *p = mp_buf_room(&buf, 500);
  REQUIRE(p);
  memset(p, 'r', 500);
  mp_buf_grow(&buf, 3);
  CHECK_STR(mp_buf_view(&buf), "rrr");
  mp_buf_dispose(&buf);
}

TEST(buf_detaches_a_heap_block)
{
  mp_pool pool;
  mp_pool_init(&pool, 64, 2);
  mp_buf buf;
  mp_buf_init(&buf, 1000, &pool);
  mp_buf_str(&buf, LIT("xhello"));
  mp_buf_consume(&buf, 1);
  size_t len;
  char *block = mp_buf_detach(&buf, &len);
  REQUIRE(block);
  CHECK_EQ_INT(len, 5);
  CHECK_CSTR(block, "hello");
  CHECK(buf.ptr == NULL && buf.len == 0);
  mp_mem_free(block);
  mp_pool_dispose(&pool);
}

/* A model beside it: adds and consumes at random, with and without a pool, around the size of its blocks. */
TEST(buf_holds_what_a_plain_array_holds)
{
  static char model[5000];
  uint64_t rnd = 88172645463325252u;
  for (int pooled = 0; pooled <= 1; pooled++) {
    mp_pool pool;
    mp_pool_init(&pool, 256, 2);
    mp_buf buf;
    mp_buf_init(&buf, sizeof model, pooled ? &pool : NULL);
    size_t len = 0;
    for (int step = 0; step < 20000; step++) {
      rnd ^= rnd << 13;
      rnd ^= rnd >> 7;
      rnd ^= rnd << 17;
      size_t n = (rnd >> 8) % (step % 3 ? 100 : 700);
      if (rnd & 1) {
        char chunk[700];
        memset(chunk, (int)('a' + step % 26), n);
        int rc = mp_buf_add(&buf, chunk, n);
        CHECK_EQ_INT(rc, len + n > sizeof model ? MP_E_FULL : 0);
        if (rc == 0) {
          memcpy(model + len, chunk, n);
          len += n;
        }
      } else {
        n = n < len ? n : len;
        mp_buf_consume(&buf, n);
        memmove(model, model + n, len - n);
        len -= n;
      }
      if (!CHECK_EQ_STR(mp_buf_view(&buf), mp_str_of(model, len)))
        break;
    }
    mp_buf_dispose(&buf);
    mp_pool_dispose(&pool);
  }
}

TEST(buf_without_memory_adds_nothing)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_buf buf;
    mp_buf_init(&buf, 10000, NULL);
    size_t len = 0;
    for (int i = 0; i < 20; i++) {
      char chunk[300];
      memset(chunk, 'a' + i, sizeof chunk);
      int rc = mp_buf_add(&buf, chunk, sizeof chunk);
      CHECK(rc == 0 || (rc == MP_E_NOMEM && CHECK_ALLOC_FAILED()));
      len += rc == 0 ? sizeof chunk : 0;
      CHECK_EQ_INT(buf.len, len);
    }
    size_t detached;
    char *block = mp_buf_detach(&buf, &detached);
    CHECK(block ? detached == len : CHECK_ALLOC_FAILED() && buf.len == len);
    mp_mem_free(block);
    mp_buf_dispose(&buf);
  }
}

/* ---- arenas ------------------------------------------------------------------------------------------------------ */

TEST(arena_is_aligned_and_keeps_what_it_gave)
{
  for (int pooled = 0; pooled <= 1; pooled++) {
    mp_pool pool;
    mp_pool_init(&pool, 256, 2);
    mp_arena arena;
    mp_arena_init(&arena, 1 << 20, pooled ? &pool : NULL);
    unsigned char *given[300];
    for (size_t i = 0; i < 300; i++) {
      size_t size = i % 7 == 0 ? 2000 : i % 50;
      given[i] = mp_arena_alloc(&arena, size);
      REQUIRE(given[i]);
      CHECK_EQ_INT((uintptr_t)given[i] % _Alignof(max_align_t), 0);
      memset(given[i], (int)(i & 0xff), size);
    }
    for (size_t i = 0; i < 300; i++)
      for (size_t k = 0; k < (i % 7 == 0 ? 2000 : i % 50); k++)
        if (given[i][k] != (i & 0xff)) {
          FAIL("block %zu is damaged", i);
          break;
        }
    mp_arena_dispose(&arena);
    CHECK_EQ_INT(arena.total, 0);
    CHECK(mp_arena_alloc(&arena, 10) != NULL);
    mp_arena_dispose(&arena);
    mp_pool_dispose(&pool);
  }
}

TEST(arena_has_a_ceiling)
{
  mp_arena arena;
  mp_arena_init(&arena, 100, NULL);
  CHECK(mp_arena_alloc(&arena, 60) != NULL);
  CHECK(!mp_arena_alloc(&arena, 41));
  CHECK(mp_arena_alloc(&arena, 40) != NULL);
  CHECK(!mp_arena_alloc(&arena, 1));
  CHECK(!mp_arena_alloc(&arena, SIZE_MAX));
  mp_arena_dispose(&arena);
}

TEST(arena_copies_strings)
{
  mp_arena arena;
  mp_arena_init(&arena, 100, NULL);
  bool ok = true;
  mp_str s = mp_arena_str(&arena, LIT("a\0b"), &ok);
  CHECK(ok);
  CHECK_STR(s, "a\0b");
  CHECK_EQ_INT(s.ptr[3], 0);
  char longer[200] = "x";
  CHECK(mp_arena_str(&arena, mp_str_of(longer, 200), &ok).ptr == NULL);
  CHECK(!ok);
  CHECK_STR(mp_arena_str(&arena, MP_STR_NULL, &ok), "");
  CHECK(!ok);
  mp_arena_dispose(&arena);
}

TEST(arena_without_memory_gives_null)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_pool pool;
    mp_pool_init(&pool, 128, 1);
    mp_arena arena;
    mp_arena_init(&arena, 1 << 20, &pool);
    for (size_t i = 0; i < 20; i++) {
      size_t size = i % 5 == 0 ? 500 : 50;
      char *p = mp_arena_alloc(&arena, size);
      CHECK(p || CHECK_ALLOC_FAILED());
      if (p)
        memset(p, 'x', size);
    }
    mp_arena_dispose(&arena);
    mp_pool_dispose(&pool);
  }
}

TEST(a_secret_buffer_leaves_nothing_in_its_blocks)
{
  mp_pool pool;
  mp_pool_init(&pool, 64, 4);
  mp_buf buf;
  mp_buf_init(&buf, 1000, &pool);
  buf.secret = true;
  CHECK_EQ_INT(mp_buf_str(&buf, MP_STR("0123456789012345678901234567890123456789password")), 0);
  CHECK_EQ_INT(mp_buf_room(&buf, 100) != NULL, 1); /* it moves, and the first block goes back */
  char *block = mp_pool_take(&pool);
  REQUIRE(block); /* the same one, where pools are not taken apart to be watched */
  CHECK(memmem(block, 64, "password", 8) == NULL);
  mp_pool_give(&pool, block);
  mp_buf_dispose(&buf);
  mp_pool_dispose(&pool);
}

CHECK_MAIN
