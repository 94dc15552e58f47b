/* base/rate.h -- token bucket on the caller's clock. */
#ifndef MP_BASE_RATE_H
#define MP_BASE_RATE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mp_rate {
  int64_t milli;   /* tokens held, times 1000 */
  int64_t last_ms; /* when they were counted last */
} mp_rate;

/* A full bucket. */
static inline void mp_rate_init(mp_rate *rate, int64_t burst, int64_t now_ms)
{
  rate->milli = burst * 1000;
  rate->last_ms = now_ms;
}

/* Takes `n` tokens from a bucket that holds at most `burst` and gains `per_hour`. Returns false, taking none, when it holds
 * too few. */
bool mp_rate_take(mp_rate *rate, int64_t n, int64_t per_hour, int64_t burst, int64_t now_ms);

#endif
