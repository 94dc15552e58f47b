#include "base/arena.h"

#include <stddef.h>

enum { HEAD = sizeof(max_align_t) > sizeof(void *) ? sizeof(max_align_t) : sizeof(void *), BLOCK = 1024 };

void mp_arena_init(mp_arena *arena, size_t max, mp_pool *pool)
{
  *arena = (mp_arena){ .pool = pool, .max = max };
}

static void *next_of(void *block)
{
  void *next;
  memcpy(&next, block, sizeof next);
  return next;
}

void mp_arena_dispose(mp_arena *arena)
{
  while (arena->blocks) {
    void *block = arena->blocks;
    arena->blocks = next_of(block);
    if (arena->pool)
      mp_pool_give(arena->pool, block);
    else
      mp_mem_free(block);
  }
  while (arena->large) {
    void *block = arena->large;
    arena->large = next_of(block);
    mp_mem_free(block);
  }
  mp_arena_init(arena, arena->max, arena->pool);
}

void *mp_arena_alloc(mp_arena *arena, size_t size)
{
  if (size > arena->max || arena->total > arena->max - size)
    return NULL;
  size_t need = (size + (size_t)HEAD - 1) / (size_t)HEAD * (size_t)HEAD;
  size_t whole = arena->pool ? arena->pool->block : (size_t)BLOCK;
  if (need > whole - (size_t)HEAD) {
    char *block = mp_mem_alloc((size_t)HEAD + need);
    if (!block)
      return NULL;
    memcpy(block, &arena->large, sizeof(void *));
    arena->large = block;
    arena->total += size;
    return block + HEAD;
  }
  if (!arena->blocks || arena->size - arena->used < need) {
    char *block = arena->pool ? mp_pool_take(arena->pool) : mp_mem_alloc((size_t)BLOCK);
    if (!block)
      return NULL;
    memcpy(block, &arena->blocks, sizeof(void *));
    arena->blocks = block;
    arena->used = (size_t)HEAD;
    arena->size = whole;
  }
  void *p = (char *)arena->blocks + arena->used;
  arena->used += need;
  arena->total += size;
  return p;
}

mp_str mp_arena_str(mp_arena *arena, mp_str s, bool *ok)
{
  char *copy = mp_arena_alloc(arena, s.len + 1);
  if (!copy) {
    *ok = false;
    return MP_STR_NULL;
  }
  if (s.len)
    memcpy(copy, s.ptr, s.len);
  copy[s.len] = '\0';
  return mp_str_of(copy, s.len);
}
