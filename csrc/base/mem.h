/* base/mem.h -- the one door to the heap, and a free list of equal blocks.
 * Built with MP_MEM_FAULTS (tests only), the nth allocation of the calling thread can be made to fail. */
#ifndef MP_BASE_MEM_H
#define MP_BASE_MEM_H

#include <stddef.h>

void *mp_mem_alloc(size_t size);               /* NULL when out of memory; size 0 is treated as 1 */
void *mp_mem_zalloc(size_t size);              /* the same, zeroed */
void *mp_mem_realloc(void *ptr, size_t size);  /* on NULL the old block is intact */
void mp_mem_free(void *ptr);                   /* NULL does nothing */
void *mp_mem_dup(const void *ptr, size_t len); /* a copy with a NUL behind it, or NULL */
__attribute__((noinline)) /* or the compiler takes a job for all there is of what holds it */
void mp_mem_wipe(void *ptr, size_t len); /* overwritten even when the compiler sees no reader: for secrets */

#ifdef MP_MEM_FAULTS
void mp_mem_fail_after(long n); /* the allocation after the next `n` fails, and all later ones; -1 never */
long mp_mem_failed(void);       /* how many allocations were made to fail since mp_mem_fail_after */
#endif

/* A free list of blocks of one size: steady state takes and gives without touching the heap. One thread only. */
typedef struct mp_pool {
  void *free;        /* first idle block; each holds the pointer to the next */
  size_t block;      /* octets in a block */
  size_t idle, most; /* idle blocks now; more than `most` go back to the heap */
} mp_pool;

void mp_pool_init(mp_pool *pool, size_t block, size_t most);
void mp_pool_dispose(mp_pool *pool); /* frees idle blocks; those taken stay the taker's to mp_mem_free */
void *mp_pool_take(mp_pool *pool);   /* NULL when out of memory; contents are undefined */
void mp_pool_give(mp_pool *pool, void *block); /* NULL does nothing */

#endif
