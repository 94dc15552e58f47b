/* The end of DATA. The first three octets of an input are raw and repair, the limit of lines, and the size of slices. Whole and
 * in slices, with vectors and without, the rest has to decode to the same message. */
#include "base/buf.h"
#include "smtp/data.h"

#include <stdlib.h>

/* The decoder as it is built where there are no vectors, under other names. */
void portable_init(mp_data *decoder, bool raw, bool repair, size_t line_limit);
int portable_next(mp_data *decoder, mp_str in, size_t *taken, mp_str *out);
int portable_finish(mp_data *decoder, mp_str *out);
#define mp_data_init   portable_init
#define mp_data_next   portable_next
#define mp_data_finish portable_finish
#define mp_data_plain  portable_plain
#define MP_DATA_PORTABLE
#include "smtp/data.c"
#undef mp_data_init
#undef mp_data_next
#undef mp_data_finish
#undef mp_data_plain

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

typedef struct answer {
  mp_buf out;
  size_t taken;
  unsigned faults;
  bool ended;
} answer;

static void decode(answer *ans, bool portable, mp_str in, size_t slice, bool raw, bool repair, size_t limit)
{
  mp_data decoder;
  mp_str run;
  (portable ? portable_init : mp_data_init)(&decoder, raw, repair, limit);
  *ans = (answer){ .taken = 0 };
  mp_buf_init(&ans->out, 1 << 24, NULL);
  for (size_t from = 0; from < in.len && !ans->ended; from += slice) {
    mp_str rest = mp_str_sub(in, from, slice);
    int rc;
    do {
      size_t taken;
      rc = (portable ? portable_next : mp_data_next)(&decoder, rest, &taken, &run);
      demand(taken <= rest.len && (rc == 1 ? run.len > 0 : run.len == 0) && (rc != 0 || taken == rest.len));
      demand(mp_buf_str(&ans->out, run) == 0);
      rest = mp_str_sub(rest, taken, rest.len);
      ans->taken += taken;
    } while (rc == 1);
    ans->ended = rc == 2;
  }
  if (raw && (portable ? portable_finish : mp_data_finish)(&decoder, &run))
    demand(mp_buf_str(&ans->out, run) == 0);
  demand(decoder.size == ans->out.len);
  ans->faults = decoder.faults;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
  if (size < 3)
    return 0;
  bool raw = bytes[0] & 1, repair = bytes[0] & 2;
  size_t limit = bytes[1], slice = bytes[2] ? bytes[2] : 1;
  mp_str in = mp_str_of((const char *)bytes + 3, size - 3);
  answer first, other;
  decode(&first, false, in, SIZE_MAX / 2, raw, repair, limit);
  for (int k = 1; k < 4; k++) {
    decode(&other, k & 1, in, k & 2 ? slice : SIZE_MAX / 2, raw, repair, limit);
    demand(first.ended == other.ended && first.taken == other.taken && first.faults == other.faults);
    demand(mp_str_eq(mp_buf_view(&first.out), mp_buf_view(&other.out)));
    mp_buf_dispose(&other.out);
  }
  mp_str out = mp_buf_view(&first.out);
  if (first.ended) {
    demand(!raw && first.taken >= 3 && memcmp(in.ptr + first.taken - 3, ".\r\n", 3) == 0);
    demand(first.taken == 3 || memcmp(in.ptr + first.taken - 5, "\r\n", 2) == 0);
  }
  if (repair && (first.ended || raw))
    for (size_t i = 0; i < out.len; i++) {
      demand(out.ptr[i] != '\r' || (i + 1 < out.len && out.ptr[i + 1] == '\n'));
      demand(out.ptr[i] != '\n' || (i > 0 && out.ptr[i - 1] == '\r'));
    }
  mp_buf_dispose(&first.out);
  return 0;
}
