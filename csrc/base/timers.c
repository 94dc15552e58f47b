#include "base/timers.h"

#include "base/error.h"
#include "base/mem.h"

void mp_timers_init(mp_timers *timers)
{
  *timers = (mp_timers){ 0 };
}

void mp_timers_dispose(mp_timers *timers)
{
  for (size_t i = 0; i < timers->count; i++)
    timers->heap[i]->slot = 0;
  mp_mem_free(timers->heap);
  mp_timers_init(timers);
}

static void put(mp_timers *timers, size_t i, mp_timer *timer)
{
  timers->heap[i] = timer;
  timer->slot = i + 1;
}

static void up(mp_timers *timers, size_t i)
{
  mp_timer *timer = timers->heap[i];
  while (i > 0 && timers->heap[(i - 1) / 2]->due_ms > timer->due_ms) {
    put(timers, i, timers->heap[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  put(timers, i, timer);
}

static void down(mp_timers *timers, size_t i)
{
  mp_timer *timer = timers->heap[i];
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= timers->count)
      break;
    if (child + 1 < timers->count && timers->heap[child + 1]->due_ms < timers->heap[child]->due_ms)
      child++;
    if (timers->heap[child]->due_ms >= timer->due_ms)
      break;
    put(timers, i, timers->heap[child]);
    i = child;
  }
  put(timers, i, timer);
}

int mp_timers_set(mp_timers *timers, mp_timer *timer, int64_t due_ms)
{
  if (!timer->slot) {
    if (timers->count == timers->cap) {
      size_t cap = timers->cap ? timers->cap * 2 : 16;
      mp_timer **heap = mp_mem_realloc(timers->heap, cap * sizeof *heap);
      if (!heap)
        return MP_E_NOMEM;
      timers->heap = heap;
      timers->cap = cap;
    }
    put(timers, timers->count++, timer);
  }
  timer->due_ms = due_ms;
  up(timers, timer->slot - 1);
  down(timers, timer->slot - 1);
  return 0;
}

void mp_timers_clear(mp_timers *timers, mp_timer *timer)
{
  if (!timer->slot)
    return;
  size_t i = timer->slot - 1;
  timer->slot = 0;
  mp_timer *last = timers->heap[--timers->count];
  if (last == timer)
    return;
  put(timers, i, last);
  up(timers, i);
  down(timers, last->slot - 1);
}

int64_t mp_timers_next(const mp_timers *timers)
{
  return timers->count ? timers->heap[0]->due_ms : INT64_MAX;
}

void mp_timers_run(mp_timers *timers, int64_t now_ms)
{
  /* A timer that sets itself to a time already past must not keep the loop here for ever. */
  for (size_t left = timers->count; left > 0 && timers->count && timers->heap[0]->due_ms <= now_ms; left--) {
    mp_timer *timer = timers->heap[0];
    mp_timers_clear(timers, timer);
    timer->fire(timer, now_ms);
  }
}
