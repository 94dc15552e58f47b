#include "base/slab.h"

#include "base/mem.h"

#include <string.h>

/* Large enough that the heap is seldom asked, small enough that a state which does little stays small. */
enum { CHUNK = 32768, HEAD = 16 };

void mp_slab_init(mp_slab *slab)
{
  *slab = (mp_slab){ .chunks = NULL };
}

static void *next_of(const void *block)
{
  void *next;
  memcpy(&next, block, sizeof next);
  return next;
}

void mp_slab_dispose(mp_slab *slab)
{
  while (slab->chunks) {
    void *chunk = slab->chunks;
    slab->chunks = next_of(chunk);
    mp_mem_free(chunk);
  }
  mp_slab_init(slab);
}

void mp_slab_give(mp_slab *slab, void *block, size_t size)
{
  void **list = &slab->idle[(size - 1) / MP_SLAB_STEP];
  memcpy(block, list, sizeof *list);
  *list = block;
}

/* The rest of the old chunk becomes a block of its own size: it is smaller than what was asked for. */
static char *new_chunk(mp_slab *slab)
{
  char *chunk = mp_mem_alloc(CHUNK);
  if (!chunk)
    return NULL;
  if (slab->at < slab->end)
    mp_slab_give(slab, slab->at, (size_t)(slab->end - slab->at));
  memcpy(chunk, &slab->chunks, sizeof(void *));
  slab->chunks = chunk;
  slab->at = chunk + HEAD;
  slab->end = chunk + CHUNK;
  return chunk;
}

void *mp_slab_take(mp_slab *slab, size_t size)
{
  size_t index = (size - 1) / MP_SLAB_STEP;
  void *block = slab->idle[index];
  if (block) {
    slab->idle[index] = next_of(block);
    return block;
  }
  size_t whole = (index + 1) * MP_SLAB_STEP;
  if ((size_t)(slab->end - slab->at) < whole && !new_chunk(slab))
    return NULL;
  block = slab->at;
  slab->at += whole;
  return block;
}
