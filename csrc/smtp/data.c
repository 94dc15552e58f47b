/* The end of DATA as an automaton. Octets are message octets unless an edge says otherwise.
 *
 *            '.' (dropped)        CR (held)         LF
 *   START ----------------> DOT -----------> DOTCR ----> END
 *     ^  \                   |                 |
 *     |   \ other            | other           | other: the held CR is a message octet, and a bare one
 *  LF |    v                 v                 v
 *     |   TEXT <-------------+                 CR
 *     |    | ^
 *     |    | | other: the CR was bare
 *     |    v |
 *     +--- CR
 *
 *   START  at the first octet, or behind a true CRLF: here alone a dot is stuffing. A bare LF leads to TEXT.
 *   TEXT   inside a line, or behind a bare CR or LF: no dot is special.
 *   CR     the last octet was CR and has been given out (with repair its LF is owed if no LF follows).
 *   DOT    the line is a dot so far, which is dropped whatever comes.
 *   DOTCR  the line is a dot and a CR; the CR has not been given out.
 *   END    CRLF.CRLF was taken.
 *
 * A bare LF or CR ends a line where octets of a line are counted, and nowhere else. */
#include "smtp/data_impl.h"

#if defined(__SSE2__) && !defined(MP_DATA_PORTABLE)
#define VECTORS
#if defined(__x86_64__) && !defined(MP_DATA_NARROW)
#define WIDE_VECTORS
#include <immintrin.h>
#else
#include <emmintrin.h>
#endif
#endif

enum {
  START = MP_DATA_START,
  TEXT = MP_DATA_TEXT,
  CR = MP_DATA_CR,
  DOT = MP_DATA_DOT,
  DOTCR = MP_DATA_DOTCR,
  END = MP_DATA_END
};

void mp_data_init(mp_data *data, bool raw, bool repair, size_t line_limit)
{
  *data = (mp_data){ .state = raw ? TEXT : START, .repair = repair, .raw = raw, .line_limit = line_limit };
}

/* ---- the octets that are nothing special --------------------------------------------------------------------------
 * smooth() begins in START or TEXT. It takes octets as long as they are whole lines and parts of lines without a bare CR, a
 * bare LF or a dot where dots are special, and keeps the account of them (state, line length, faults) that the automaton
 * would have kept. What it stops at is the automaton's. It may stop early. */

/* Adds `n` octets to a line. */
static void lengthen(mp_data *data, size_t n)
{
  data->line_len += n;
  if (data->line_limit && data->line_len > data->line_limit)
    data->faults |= MP_DATA_LONG_LINE;
}

static uint64_t load64(const char *p)
{
  uint64_t word;
  memcpy(&word, p, sizeof word);
  return word;
}

/* Without vectors: eight octets at a time inside a line, none of them CR, LF, NUL or above 127. */
static size_t smooth_words(mp_data *data, const char *p, size_t len)
{
  const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
  size_t i = 0;
  if (data->state != TEXT)
    return 0;
  for (; len - i >= 8; i += 8) {
    uint64_t word = load64(p + i), cr = word ^ ones * '\r', lf = word ^ ones * '\n';
    /* A top bit comes out of each difference where the octet was 0 or above 128; an octet above 127 stops us anyway. */
    if (((word - ones) | (cr - ones) | (lf - ones) | word) & tops)
      break;
  }
  lengthen(data, i);
  return i;
}

#ifdef VECTORS
enum { BLOCK = 64 };

/* What a block holds: bit i stands for octet i. */
typedef struct marks {
  uint64_t cr, lf, dot, nul, high;
} marks;

typedef void look(const char *p, marks *m);

static inline __m128i load16(const char *p)
{
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* Bit i of the result is the top bit of octet i. */
static inline uint64_t top_bits(__m128i v0, __m128i v1, __m128i v2, __m128i v3)
{
  unsigned low = (unsigned)_mm_movemask_epi8(v0) | (unsigned)_mm_movemask_epi8(v1) << 16;
  unsigned high = (unsigned)_mm_movemask_epi8(v2) | (unsigned)_mm_movemask_epi8(v3) << 16;
  return (uint64_t)high << 32 | low;
}

static inline __attribute__((always_inline)) void look16(const char *p, marks *m)
{
  __m128i v0 = load16(p), v1 = load16(p + 16), v2 = load16(p + 32), v3 = load16(p + 48);
#define EQUAL(c)                                                                       \
  top_bits(_mm_cmpeq_epi8(v0, _mm_set1_epi8(c)), _mm_cmpeq_epi8(v1, _mm_set1_epi8(c)), \
           _mm_cmpeq_epi8(v2, _mm_set1_epi8(c)), _mm_cmpeq_epi8(v3, _mm_set1_epi8(c)))
  *m = (marks){ EQUAL('\r'), EQUAL('\n'), EQUAL('.'), EQUAL('\0'), top_bits(v0, v1, v2, v3) };
#undef EQUAL
}

/* Where the octets stand that are being scanned. A line begins at `line`, which is negative for one that began before them. */
typedef struct place {
  uint64_t was_cr, was_lf; /* bit 0: the octet before was CR; was LF of a CRLF (or there was none) */
  int64_t line, limit;
  bool overlong;
} place;

/* Goes over the lines that end in the block at `at`. Those that begin in it too are shorter than any limit that comes here. */
static inline void end_lines(place *pl, int64_t at, uint64_t lf)
{
  if (lf == 0)
    return;
  pl->overlong |= at + __builtin_ctzll(lf) - 1 - pl->line > pl->limit;
  pl->line = at + BLOCK - __builtin_clzll(lf);
}

/* `look_at` is a constant wherever this is called, and inlined. */
static inline __attribute__((always_inline)) size_t smooth_blocks(mp_data *data, const char *p, size_t len,
                                                                  look *look_at)
{
  if (data->line_limit && data->line_limit < BLOCK)
    return smooth_words(data, p, len);
  place pl = { .was_lf = data->state == START,
               .line = -(int64_t)data->line_len,
               .limit = data->line_limit && data->line_limit < INT64_MAX ? (int64_t)data->line_limit : INT64_MAX };
  uint64_t special_dots = data->raw ? 0 : UINT64_MAX, stop, high = 0, nul = 0;
  size_t i = 0;
  char tail[BLOCK];
  marks m;
  for (;; i += BLOCK) {
    size_t n = len - i;
    uint64_t valid = UINT64_MAX;
    if (n >= BLOCK) {
      look_at(p + i, &m);
    } else {
      valid = (UINT64_C(1) << n) - 1;
      memset(tail, 'x', sizeof tail);
      memcpy(tail, p + i, n);
      look_at(tail, &m);
    }
    /* CR and LF that are not a pair, and dots where a line begins. */
    stop = (m.cr << 1 | pl.was_cr) ^ m.lf;
    stop |= m.dot & (m.lf << 1 | pl.was_lf) & special_dots;
    stop |= ~valid;
    if (stop)
      break;
    high |= m.high;
    nul |= m.nul;
    end_lines(&pl, (int64_t)i, m.lf);
    pl.was_cr = m.cr >> (BLOCK - 1);
    pl.was_lf = m.lf >> (BLOCK - 1);
  }
  /* The last block counts up to its first stop. */
  int last = __builtin_ctzll(stop);
  uint64_t taken = (UINT64_C(1) << last) - 1;
  end_lines(&pl, (int64_t)i, m.lf & taken);
  if (last > 0) {
    pl.was_cr = m.cr >> (last - 1) & 1;
    pl.was_lf = m.lf >> (last - 1) & 1;
  }
  i += (size_t)last;
  if (i == 0)
    return 0;
  if (high | (m.high & taken))
    data->faults |= MP_DATA_8BIT;
  if (nul | (m.nul & taken))
    data->faults |= MP_DATA_NUL;
  data->state = pl.was_cr ? CR : pl.was_lf && !data->raw ? START : TEXT;
  data->line_len = 0;
  lengthen(data, (size_t)((int64_t)i - pl.line) - (size_t)pl.was_cr);
  if (pl.overlong)
    data->faults |= MP_DATA_LONG_LINE;
  return i;
}

#ifdef WIDE_VECTORS
/* The same with vectors twice as wide, which take half as long. Not every processor has them. */
__attribute__((target("avx2"))) static inline void look32(const char *p, marks *m)
{
  __m256i v0 = _mm256_loadu_si256((const __m256i *)(const void *)p);
  __m256i v1 = _mm256_loadu_si256((const __m256i *)(const void *)(p + 32));
#define TOP_BITS(v0, v1) \
  ((uint64_t)(unsigned)_mm256_movemask_epi8(v1) << 32 | (unsigned)_mm256_movemask_epi8(v0))
#define EQUAL(c) \
  TOP_BITS(_mm256_cmpeq_epi8(v0, _mm256_set1_epi8(c)), _mm256_cmpeq_epi8(v1, _mm256_set1_epi8(c)))
  *m = (marks){ EQUAL('\r'), EQUAL('\n'), EQUAL('.'), EQUAL('\0'), TOP_BITS(v0, v1) };
#undef EQUAL
#undef TOP_BITS
}

__attribute__((target("avx2"))) static size_t smooth_wide(mp_data *data, const char *p, size_t len)
{
  return smooth_blocks(data, p, len, look32);
}
#endif

static size_t smooth(mp_data *data, const char *p, size_t len)
{
#ifdef WIDE_VECTORS
  if (__builtin_cpu_supports("avx2"))
    return smooth_wide(data, p, len);
#endif
  return smooth_blocks(data, p, len, look16);
}
#else
#define smooth smooth_words
#endif

size_t mp_data_plain(mp_data *data, const char *p, size_t len)
{
  return smooth(data, p, len);
}

/* ---- the automaton ---------------------------------------------------------------------------------------------- */

static int give(mp_data *data, const char *ptr, size_t len, mp_str *out)
{
  *out = mp_str_of(ptr, len);
  data->size += len;
  return 1;
}

int mp_data_next(mp_data *data, mp_str in, size_t *taken, mp_str *out)
{
  size_t run = 0; /* where the octets begin that are not given out yet */
  *out = MP_STR_NULL;
  for (size_t i = 0; i < in.len;) {
    unsigned char c = (unsigned char)in.ptr[i];
    /* Where the automaton will be needed at once, a look at the whole block would be for nothing. */
    if (data->state <= TEXT && c != '\r' && c != '\n' && (c != '.' || data->state != START)) {
      i += smooth(data, in.ptr + i, in.len - i);
      if (i == in.len)
        break;
      c = (unsigned char)in.ptr[i];
    }
    switch (data->state) {
    case START:
      if (c == '.') {
        if (i > run) {
          *taken = i;
          return give(data, in.ptr + run, i - run, out);
        }
        data->state = DOT;
        run = ++i;
        continue;
      }
      data->state = TEXT;
      continue;
    case DOT:
      data->state = c == '\r' ? DOTCR : TEXT;
      if (c == '\r')
        i++;
      continue;
    case DOTCR:
      if (c == '\n') {
        data->state = END;
        *taken = i + 1;
        return 2;
      }
      data->state = CR;
      if (i > run) /* the CR is in this input */
        continue;
      *taken = i;
      return give(data, "\r", 1, out);
    case CR:
      data->line_len = 0;
      if (c == '\n') {
        data->state = data->raw ? TEXT : START;
        i++;
        continue;
      }
      if (data->repair && i > run) {
        *taken = i;
        return give(data, in.ptr + run, i - run, out);
      }
      data->faults |= MP_DATA_BARE_CR;
      data->state = TEXT;
      if (!data->repair)
        continue;
      *taken = i;
      return give(data, "\n", 1, out);
    case TEXT:
      if (c == '\r') {
        data->state = CR;
        i++;
        continue;
      }
      if (c == '\n') {
        if (data->repair && i > run) {
          *taken = i;
          return give(data, in.ptr + run, i - run, out);
        }
        data->faults |= MP_DATA_BARE_LF;
        data->line_len = 0;
        i++;
        if (!data->repair)
          continue;
        *taken = i;
        return give(data, "\r\n", 2, out);
      }
      if (c == 0)
        data->faults |= MP_DATA_NUL;
      if (c >= 0x80)
        data->faults |= MP_DATA_8BIT;
      lengthen(data, 1);
      i++;
      continue;
    default:
      *taken = 0;
      return 2;
    }
  }
  *taken = in.len;
  if (data->state == END) /* and nothing was fed */
    return 2;
  /* A CR behind a dot that starts a line may belong to the end: it stays here. */
  if (data->state == DOTCR || in.len == run)
    return 0;
  return give(data, in.ptr + run, in.len - run, out);
}

int mp_data_finish(mp_data *data, mp_str *out)
{
  *out = MP_STR_NULL;
  if (data->state != CR)
    return 0;
  data->state = TEXT;
  data->line_len = 0;
  data->faults |= MP_DATA_BARE_CR;
  return data->repair ? give(data, "\n", 1, out) : 0;
}
