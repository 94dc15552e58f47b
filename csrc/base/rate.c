#include "base/rate.h"

bool mp_rate_take(mp_rate *rate, int64_t n, int64_t per_hour, int64_t burst, int64_t now_ms)
{
  int64_t passed = now_ms > rate->last_ms ? now_ms - rate->last_ms : 0;
  /* A full bucket gains nothing; capping the time first keeps the product in range. */
  int64_t fill_ms = per_hour > 0 ? burst * 3600000 / per_hour + 1 : 0;
  if (passed > fill_ms)
    passed = fill_ms;
  int64_t gained = passed * per_hour / 3600;
  if (gained > 0) {
    rate->milli = rate->milli + gained > burst * 1000 ? burst * 1000 : rate->milli + gained;
    rate->last_ms = now_ms;
  }
  if (rate->milli < n * 1000)
    return false;
  rate->milli -= n * 1000;
  return true;
}
