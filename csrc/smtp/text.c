#include "smtp/text.h"

bool mp_text_printable(mp_str s, bool utf8)
{
  bool ascii = true;
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (c < 0x20 || c == 0x7f)
      return false;
    ascii = ascii && c < 0x80;
  }
  if (ascii)
    return true;
  if (!utf8 || !mp_str_utf8(s))
    return false;
  for (size_t i = 0; i + 1 < s.len; i++)
    if ((unsigned char)s.ptr[i] == 0xc2 && (unsigned char)s.ptr[i + 1] < 0xa0)
      return false;
  return true;
}
