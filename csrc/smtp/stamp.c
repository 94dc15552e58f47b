#include "smtp/stamp.h"

/* `n` digits at `from`, or -1. */
static int number(mp_str s, size_t from, size_t n)
{
  uint64_t value;
  mp_str digits = mp_str_sub(s, from, n);
  return digits.len == n && mp_str_u64(digits, 9999, &value) ? (int)value : -1;
}

static bool is(mp_str s, size_t i, char c)
{
  return i < s.len && s.ptr[i] == c;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar, counted in years that begin with March. */
static int64_t days(int year, int month, int day)
{
  int64_t y = month > 2 ? year : year - 1;
  int64_t m = month > 2 ? month - 3 : month + 9;
  int64_t era = (y >= 0 ? y : y - 399) / 400;
  int64_t of_era = y - era * 400;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int month_length(int year, int month)
{
  static const unsigned char lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return lengths[month - 1] + (month == 2 && leap);
}

bool mp_stamp_parse(mp_str text, int64_t *seconds)
{
  int year = number(text, 0, 4), month = number(text, 5, 2), day = number(text, 8, 2);
  int hour = number(text, 11, 2), minute = number(text, 14, 2), second = number(text, 17, 2);
  if (!is(text, 4, '-') || !is(text, 7, '-') || !is(text, 10, 'T') || !is(text, 13, ':') || !is(text, 16, ':'))
    return false;
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > month_length(year, month))
    return false;
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
    return false;
  size_t i = 19;
  if (is(text, i, '.')) {
    size_t from = ++i;
    while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9')
      i++;
    if (i == from)
      return false;
  }
  int offset = 0;
  if (is(text, i, '+') || is(text, i, '-')) {
    int hours = number(text, i + 1, 2), minutes = number(text, i + 4, 2);
    if (!is(text, i + 3, ':') || hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
      return false;
    offset = (hours * 60 + minutes) * (text.ptr[i] == '-' ? -60 : 60);
    i += 6;
  } else if (is(text, i, 'Z')) {
    i++;
  } else {
    return false;
  }
  if (i != text.len)
    return false;
  *seconds = days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
  return true;
}
