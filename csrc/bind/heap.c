/* bind/heap.c -- the memory of Lua states that are ours: small blocks from a slab, the others from the heap. A hook leaves a dozen small
 * blocks behind, and the collector frees thousands at a time: more than the heap's own short lists hold. Lua tells the size of what it frees,
 * which is what a slab needs. */
#include "bind/heap.h"

#include "base/mem.h"
#include "base/slab.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAP_ALONE 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define HEAP_ALONE 1
#endif

typedef struct heap {
  mp_slab slab;
  size_t live; /* octets; the heap goes with the last one */
} heap;

/* Under the address sanitizer every block is the heap's, so that a use after freeing is seen. */
static bool is_small(size_t size)
{
#ifdef HEAP_ALONE
  (void)size;
  return false;
#else
  return size <= MP_SLAB_MOST;
#endif
}

static void release(heap *h, size_t octets)
{
  h->live -= octets;
  if (h->live > 0)
    return;
  mp_slab_dispose(&h->slab);
  mp_mem_free(h);
}

static void give(heap *h, void *ptr, size_t size)
{
  if (is_small(size))
    mp_slab_give(&h->slab, ptr, size);
  else
    mp_mem_free(ptr);
}

/* A lua_Alloc. */
static void *heap_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
  heap *h = ud;
  if (!ptr) /* then osize tells what it is for */
    osize = 0;
  if (nsize == 0) {
    if (osize) {
      give(h, ptr, osize);
      release(h, osize);
    }
    return NULL;
  }
  void *block;
  if (osize && !is_small(osize) && !is_small(nsize)) {
    block = mp_mem_realloc(ptr, nsize);
    if (!block)
      return NULL;
  } else if (osize && is_small(osize) && is_small(nsize) && mp_slab_same(osize, nsize)) {
    block = ptr;
  } else {
    block = is_small(nsize) ? mp_slab_take(&h->slab, nsize) : mp_mem_alloc(nsize);
    if (!block)
      return NULL;
    if (osize) {
      memcpy(block, ptr, osize < nsize ? osize : nsize);
      give(h, ptr, osize);
    }
  }
  h->live += nsize - osize;
  return block;
}

/* An error outside of every protected call: there is none of ours. */
static int panic(lua_State *L)
{
  const char *why = lua_tostring(L, -1);
  fprintf(stderr, "moonpost: error outside of a protected call: %s\n", why ? why : luaL_typename(L, -1));
  return 0;
}

lua_State *mpl_heap_state(void)
{
  heap *h = mp_mem_alloc(sizeof *h);
  if (!h)
    return NULL;
  mp_slab_init(&h->slab);
  h->live = 1; /* ours, while the state is made */
  lua_State *L = lua_newstate(heap_alloc, h);
  if (L)
    lua_atpanic(L, panic);
  release(h, 1);
  return L;
}
