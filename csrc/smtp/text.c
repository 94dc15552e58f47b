#include "smtp/text.h"

bool mp_text_printable(mp_str s, bool utf8)
{
  bool ascii = true;
  size_t i = 0;
  /* Eight octets at a time while none is above 127: then a top bit comes out of the difference where one is below a space,
   * and out of the sum where one is DEL. */
  const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
  for (; s.len - i >= 8; i += 8) {
    uint64_t word;
    memcpy(&word, s.ptr + i, sizeof word);
    if ((word | (word - ones * 0x20) | (word + ones)) & tops)
      break;
  }
  for (; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (c < 0x20 || c == 0x7f)
      return false;
    ascii = ascii && c < 0x80;
  }
  if (ascii)
    return true;
  if (!utf8 || !mp_str_utf8(s))
    return false;
  for (i = 0; i + 1 < s.len; i++)
    if ((unsigned char)s.ptr[i] == 0xc2 && (unsigned char)s.ptr[i + 1] < 0xa0)
      return false;
  return true;
}
