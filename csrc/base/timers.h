/* base/timers.h -- deadlines in a binary heap, on whatever clock the owner reads. A timer's storage is its owner's.
 * Nothing here waits: the owner asks for the next due time and runs what is due. */
#ifndef MP_BASE_TIMERS_H
#define MP_BASE_TIMERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct mp_timer mp_timer;
typedef struct mp_timers mp_timers;

struct mp_timer {
  void (*fire)(mp_timer *timer, int64_t now_ms); /* the timer is idle again when this runs; it may set itself anew */
  int64_t due_ms;
  size_t slot; /* place in the heap, counted from 1; 0 = idle */
};

struct mp_timers {
  mp_timer **heap;
  size_t count, cap;
};

void mp_timers_init(mp_timers *timers);
void mp_timers_dispose(mp_timers *timers); /* forgets timers still set; they are idle afterwards */

static inline void mp_timer_init(mp_timer *timer, void (*fire)(mp_timer *, int64_t))
{
  *timer = (mp_timer){ .fire = fire };
}

/* Sets or moves a timer. Returns 0 or MP_E_NOMEM (then the timer is as it was). Moving one that is set never fails. */
int mp_timers_set(mp_timers *timers, mp_timer *timer, int64_t due_ms);
void mp_timers_clear(mp_timers *timers, mp_timer *timer); /* an idle one: does nothing */

/* Due time of the earliest timer, or INT64_MAX. */
int64_t mp_timers_next(const mp_timers *timers);

/* Runs the timers that are due at `now_ms`, earliest first, at most those that were set when it was called. */
void mp_timers_run(mp_timers *timers, int64_t now_ms);

#endif
