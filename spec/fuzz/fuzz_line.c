/* Command lines. The first two octets of an input are the limit and the size of slices; fed whole and fed in slices, the rest
 * has to give the same lines and errors. */
#include "base/error.h"
#include "smtp/line.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

/* What came, written down: kind, length and octets of each. */
static void read_all(mp_str in, size_t limit, size_t slice, mp_buf *log)
{
  mp_line line;
  mp_line_init(&line, limit, NULL);
  for (size_t from = 0; from < in.len; from += slice) {
    mp_str rest = mp_str_sub(in, from, slice);
    while (rest.len) {
      size_t taken = 0;
      mp_str text;
      int rc = mp_line_next(&line, rest, &taken, &text);
      demand(taken <= rest.len && (rc != 0 || taken == rest.len));
      demand(rc >= 0 || (rc == MP_E_TOOLONG || rc == MP_E_BARELF));
      demand(rc > 0 || text.len == 0);
      demand(text.len + 2 <= limit || rc <= 0);
      for (size_t i = 0; i < text.len; i++)
        demand(text.ptr[i] != '\r' && text.ptr[i] != '\n' && text.ptr[i] != '\0');
      if (rc != 0)
        demand(mp_buf_fmt(log, "\n%d %zu ", rc, text.len) == 0 && mp_buf_str(log, text) == 0);
      rest = mp_str_sub(rest, taken, rest.len);
    }
    demand(line.held.len <= limit);
  }
  mp_line_dispose(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  size_t limit = data[0] < 128 ? data[0] : (size_t)data[0] * 100, slice = data[1] ? data[1] : 1;
  mp_str in = mp_str_of((const char *)data + 2, size - 2);
  mp_buf whole, sliced;
  mp_buf_init(&whole, 1 << 24, NULL);
  mp_buf_init(&sliced, 1 << 24, NULL);
  read_all(in, limit, SIZE_MAX / 2, &whole);
  read_all(in, limit, slice, &sliced);
  demand(mp_str_eq(mp_buf_view(&whole), mp_buf_view(&sliced)));
  mp_buf_dispose(&whole);
  mp_buf_dispose(&sliced);
  return 0;
}
