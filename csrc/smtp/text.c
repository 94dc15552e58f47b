#include "smtp/text.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* An octet is LF exactly where the one before it is CR. */
bool mp_text_canonical(mp_str s, bool *eight)
{
  const unsigned char *at = (const unsigned char *)s.ptr;
  unsigned all = s.len ? at[0] : 0, wrong = s.len && at[0] == '\n';
  size_t i = 1;
#ifdef __SSE2__
  const __m128i lf = _mm_set1_epi8('\n'), cr = _mm_set1_epi8('\r');
  __m128i any = _mm_setzero_si128(), odd = _mm_setzero_si128();
  for (; i + 16 <= s.len; i += 16) {
    __m128i here = _mm_loadu_si128((const __m128i *)(const void *)(at + i));
    __m128i before = _mm_loadu_si128((const __m128i *)(const void *)(at + i - 1));
    odd = _mm_or_si128(odd, _mm_xor_si128(_mm_cmpeq_epi8(here, lf), _mm_cmpeq_epi8(before, cr)));
    any = _mm_or_si128(any, here);
  }
  all |= _mm_movemask_epi8(any) ? 0x80 : 0;
  wrong |= (unsigned)_mm_movemask_epi8(odd);
#endif
  for (; i < s.len; i++) {
    all |= at[i];
    wrong |= (at[i] == '\n') != (at[i - 1] == '\r');
  }
  *eight = all & 0x80;
  return !wrong && s.len >= 2 && at[s.len - 1] == '\n';
}
