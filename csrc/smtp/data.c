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
#include "smtp/data.h"

enum { START, TEXT, CR, DOT, DOTCR, END };

void mp_data_init(mp_data *data, bool raw, bool repair, size_t line_limit)
{
  *data = (mp_data){ .state = raw ? TEXT : START, .repair = repair, .raw = raw, .line_limit = line_limit };
}

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
      if (++data->line_len > data->line_limit && data->line_limit)
        data->faults |= MP_DATA_LONG_LINE;
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
