/* Small blocks whose size the taker remembers. */
#include "support/check.h"

#include "base/slab.h"

TEST(slab_blocks_are_apart_and_aligned)
{
  enum { COUNT = 2000 };
  static unsigned char *blocks[COUNT];
  mp_slab slab;
  mp_slab_init(&slab);
  for (size_t i = 0; i < COUNT; i++) {
    size_t size = i % MP_SLAB_MOST + 1;
    blocks[i] = mp_slab_take(&slab, size);
    REQUIRE(blocks[i]);
    CHECK_EQ_INT((uintptr_t)blocks[i] % MP_SLAB_STEP, 0);
    memset(blocks[i], (int)(i % 251), size);
  }
  size_t wrong = 0;
  for (size_t i = 0; i < COUNT; i++)
    for (size_t k = 0; k < i % MP_SLAB_MOST + 1; k++)
      wrong += blocks[i][k] != i % 251;
  CHECK_EQ_INT(wrong, 0);
  mp_slab_dispose(&slab);
}

TEST(slab_gives_again_what_was_given_back)
{
  mp_slab slab;
  mp_slab_init(&slab);
  void *one = mp_slab_take(&slab, 50), *two = mp_slab_take(&slab, 50), *other = mp_slab_take(&slab, 60);
  REQUIRE(one && two && other);
  mp_slab_give(&slab, one, 50);
  mp_slab_give(&slab, other, 60);
  mp_slab_give(&slab, two, 50);
  CHECK(mp_slab_take(&slab, 56) == two); /* the same eight */
  CHECK(mp_slab_take(&slab, 49) == one);
  CHECK(mp_slab_take(&slab, 57) == other);
  CHECK(mp_slab_take(&slab, 64) != other);
  mp_slab_dispose(&slab);
}

TEST(slab_sizes_are_the_same_by_eights)
{
  CHECK(mp_slab_same(1, 8));
  CHECK(!mp_slab_same(8, 9));
  CHECK(mp_slab_same(MP_SLAB_MOST - 7, MP_SLAB_MOST));
}

TEST(slab_wastes_no_rest_of_a_chunk)
{
  mp_slab slab;
  mp_slab_init(&slab);
  /* The end of the first chunk is too short for the last of these, and serves smaller ones. */
  char *last = NULL;
  void *first = slab.chunks;
  while (slab.chunks == first || !last) {
    last = mp_slab_take(&slab, 504);
    REQUIRE(last);
    first = first ? first : slab.chunks;
  }
  size_t idle = 0;
  for (size_t i = 0; i < sizeof slab.idle / sizeof *slab.idle; i++)
    idle += slab.idle[i] != NULL;
  CHECK_EQ_INT(idle, 1);
  mp_slab_dispose(&slab);
  CHECK(!slab.chunks);
}

TEST(slab_survives_want_of_memory)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_slab slab;
    mp_slab_init(&slab);
    for (int i = 0; i < 200; i++) {
      char *block = mp_slab_take(&slab, 500);
      if (block)
        memset(block, 'x', 500);
    }
    mp_slab_dispose(&slab);
    CHECK(!mp_slab_take(&slab, 8) || slab.chunks);
    mp_slab_dispose(&slab);
  }
}

CHECK_MAIN
