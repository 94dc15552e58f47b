/* base/arena.h -- memory that lives and dies together, in blocks from a pool: what one transaction keeps. */
#ifndef MP_BASE_ARENA_H
#define MP_BASE_ARENA_H

#include "base/mem.h"
#include "base/str.h"

typedef struct mp_arena {
  mp_pool *pool;     /* of the blocks; may be NULL: then 1 KB heap blocks */
  void *blocks;      /* newest first */
  void *large;       /* heap blocks for what does not fit one */
  size_t used, size; /* within the newest block */
  size_t total, max; /* octets given out; the ceiling */
} mp_arena;

void mp_arena_init(mp_arena *arena, size_t max, mp_pool *pool);
void mp_arena_dispose(mp_arena *arena); /* gives every block back; ready for use again */

/* Aligned for any type; NULL when out of memory or past the ceiling. */
void *mp_arena_alloc(mp_arena *arena, size_t size);

/* A copy with a NUL behind it. On failure *ok is set to false and a null view returned; *ok is never set to true. */
mp_str mp_arena_str(mp_arena *arena, mp_str s, bool *ok);

#endif
