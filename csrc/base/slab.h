/* base/slab.h -- small blocks, cut from large ones, whose size the taker remembers: no header, no search. What is given back
 * serves blocks of the same size; the large blocks stay until the end. One thread only. */
#ifndef MP_BASE_SLAB_H
#define MP_BASE_SLAB_H

#include <stddef.h>

enum { MP_SLAB_MOST = 512, MP_SLAB_STEP = 8 };

typedef struct mp_slab {
  void *idle[MP_SLAB_MOST / MP_SLAB_STEP]; /* by size: a list through the blocks' first octets */
  char *at, *end;                          /* what is left to be cut of the newest chunk */
  void *chunks;                            /* a list in the same manner */
} mp_slab;

void mp_slab_init(mp_slab *slab);    /* takes no memory */
void mp_slab_dispose(mp_slab *slab); /* frees all its blocks, those that are taken too */

/* 1 to MP_SLAB_MOST octets, aligned to MP_SLAB_STEP. NULL when out of memory. */
void *mp_slab_take(mp_slab *slab, size_t size);
/* `size` may differ from what it was taken with by what mp_slab_same allows. */
void mp_slab_give(mp_slab *slab, void *block, size_t size);

/* Whether a block of one size is one of the other, too. Both are from 1 to MP_SLAB_MOST. */
static inline int mp_slab_same(size_t one, size_t other)
{
  return (one - 1) / MP_SLAB_STEP == (other - 1) / MP_SLAB_STEP;
}

#endif
