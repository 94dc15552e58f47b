#include "support/check.h"

#include "smtp/text.h"

#include <stdlib.h>

/* The same by looking at one octet after the other. */
static bool slowly(mp_str s, bool *eight)
{
  bool canonical = s.len >= 2 && s.ptr[s.len - 1] == '\n';
  *eight = false;
  for (size_t i = 0; i < s.len; i++) {
    *eight |= (unsigned char)s.ptr[i] > 127;
    if (s.ptr[i] == '\n' && (i == 0 || s.ptr[i - 1] != '\r'))
      canonical = false;
    if (s.ptr[i] == '\r' && (i + 1 == s.len || s.ptr[i + 1] != '\n'))
      canonical = false;
  }
  return canonical;
}

TEST(canonical_is_what_it_says)
{
  static const char octets[] = "\r\n\r\n\r\nab\x80";
  char room[80];
  srand(7);
  for (int round = 0; round < 200000; round++) {
    size_t len = (size_t)rand() % sizeof room;
    for (size_t i = 0; i < len; i++)
      room[i] = octets[(size_t)rand() % (round % 2 ? sizeof octets - 1 : 8)];
    /* Mostly whole lines: else hardly any is canonical. */
    for (size_t i = 0; round % 4 && i + 1 < len; i++)
      if (room[i] == '\r' || room[i + 1] == '\n') {
        room[i] = '\r';
        room[++i] = '\n';
      }
    bool eight, expected_eight;
    mp_str s = mp_str_of(room, len);
    bool expected = slowly(s, &expected_eight);
    CHECK(mp_text_canonical(s, &eight) == expected);
    CHECK(eight == expected_eight);
  }
}

TEST(canonical_at_the_edges)
{
  bool eight;
  CHECK(!mp_text_canonical(MP_STR(""), &eight) && !eight);
  CHECK(!mp_text_canonical(MP_STR("\n"), &eight));
  CHECK(!mp_text_canonical(MP_STR("\r"), &eight));
  CHECK(mp_text_canonical(MP_STR("\r\n"), &eight));
  CHECK(mp_text_canonical(MP_STR("Subject: x\r\n\r\nline of some length\r\n"), &eight) && !eight);
  CHECK(!mp_text_canonical(MP_STR("Subject: x\r\n\r\nline of some length\r\nno end"), &eight));
  CHECK(!mp_text_canonical(MP_STR("Subject: x\n\r\nline of some length\r\n"), &eight));
  CHECK(mp_text_canonical(MP_STR("\xff\r\n"), &eight) && eight);
}

CHECK_MAIN
