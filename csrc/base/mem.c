#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_IS_HEAP 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define POOL_IS_HEAP 1
#endif

#ifdef MP_MEM_FAULTS
static _Thread_local long countdown = -1;
static _Thread_local long failures;

void mp_mem_fail_after(long n)
{
  countdown = n;
  failures = 0;
}

long mp_mem_failed(void)
{
  return failures;
}

static int faulty(void)
{
  if (countdown < 0)
    return 0;
  if (countdown > 0) {
    countdown--;
    return 0;
  }
  failures++;
  return 1;
}
#else
#define faulty() 0
#endif

void *mp_mem_alloc(size_t size)
{
  return faulty() ? NULL : malloc(size ? size : 1);
}

void *mp_mem_zalloc(size_t size)
{
  return faulty() ? NULL : calloc(1, size ? size : 1);
}

void *mp_mem_realloc(void *ptr, size_t size)
{
  return faulty() ? NULL : realloc(ptr, size ? size : 1);
}

void mp_mem_free(void *ptr)
{
  free(ptr);
}

void *mp_mem_dup(const void *ptr, size_t len)
{
  char *copy = len < (size_t)-1 ? mp_mem_alloc(len + 1) : NULL;
  if (!copy)
    return NULL;
  if (len)
    memcpy(copy, ptr, len);
  copy[len] = '\0';
  return copy;
}

void mp_mem_wipe(void *ptr, size_t len)
{
  if (ptr && len)
    explicit_bzero(ptr, len);
}

void mp_pool_init(mp_pool *pool, size_t block, size_t most)
{
  *pool = (mp_pool){ .block = block < sizeof(void *) ? sizeof(void *) : block, .most = most };
}

void mp_pool_dispose(mp_pool *pool)
{
  while (pool->free) {
    void *block = pool->free;
    memcpy(&pool->free, block, sizeof(void *));
    mp_mem_free(block);
  }
  pool->idle = 0;
}

void *mp_pool_take(mp_pool *pool)
{
  if (!pool->free)
    return mp_mem_alloc(pool->block);
  void *block = pool->free;
  memcpy(&pool->free, block, sizeof(void *));
  pool->idle--;
  return block;
}

void mp_pool_give(mp_pool *pool, void *block)
{
  if (!block)
    return;
#ifdef POOL_IS_HEAP
  (void)pool;
  /* Under the address sanitizer every block goes back to the heap, so that a use after giving is seen. */
  mp_mem_free(block);
#else
  if (pool->idle >= pool->most) {
    mp_mem_free(block);
    return;
  }
  memcpy(block, &pool->free, sizeof(void *));
  pool->free = block;
  pool->idle++;
#endif
}
