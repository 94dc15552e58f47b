#include "mail/date.h"

#include <string.h>
#include <time.h>

static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

enum { DAY = 86400, ZONE_MOST = 99 * 60 + 59 };

/* First and last second of the years that four digits can name. */
static const int64_t earliest = -62167219200, latest = 253402300799;

static char *word(char *at, const char word[4])
{
  memcpy(at, word, 3);
  return at + 3;
}

static char *two(char *at, int n)
{
  at[0] = (char)('0' + n / 10);
  at[1] = (char)('0' + n % 10);
  return at + 2;
}

/* Every message has one: by hand, for printf takes ten times as long. */
size_t mp_date_format(int64_t unix_s, int offset_min, char text[MP_DATE_TEXT])
{
  if (offset_min > ZONE_MOST || offset_min < -ZONE_MOST)
    offset_min = 0;
  int64_t s = unix_s < earliest ? earliest : unix_s > latest ? latest : unix_s;
  s += (int64_t)offset_min * 60;
  s = s < earliest ? earliest : s > latest ? latest : s;
  int64_t day = s / DAY, second = s % DAY;
  if (second < 0) {
    day--;
    second += DAY;
  }
  /* Civil date of a day number, with years that begin in March so that the leap day comes last. */
  int64_t shifted = day + 719468; /* days since 0000-03-01 */
  int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
  int64_t of_era = shifted - era * 146097;
  int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t march = (5 * of_year + 2) / 153; /* month, 0 = March */
  int mday = (int)(of_year - (153 * march + 2) / 5 + 1);
  int month = (int)(march < 10 ? march + 2 : march - 10); /* 0 = January */
  int year = (int)(year_of_era + era * 400 + (month <= 1));
  int weekday = (int)(((day + 4) % 7 + 7) % 7);
  int zone = offset_min < 0 ? -offset_min : offset_min;
  char *at = word(text, days[weekday]);
  *at++ = ',';
  *at++ = ' ';
  if (mday >= 10)
    *at++ = (char)('0' + mday / 10);
  *at++ = (char)('0' + mday % 10);
  *at++ = ' ';
  at = word(at, months[month]);
  *at++ = ' ';
  at = two(two(at, year / 100), year % 100);
  *at++ = ' ';
  at = two(at, (int)(second / 3600));
  *at++ = ':';
  at = two(at, (int)(second / 60 % 60));
  *at++ = ':';
  at = two(at, (int)(second % 60));
  *at++ = ' ';
  *at++ = offset_min < 0 ? '-' : '+';
  at = two(two(at, zone / 60), zone % 60);
  *at = '\0';
  return (size_t)(at - text);
}

int mp_date_offset(int64_t unix_s)
{
  time_t when = (time_t)unix_s;
  struct tm tm;
  return localtime_r(&when, &tm) ? (int)(tm.tm_gmtoff / 60) : 0;
}
