#include "smtp/line.h"

#include "base/error.h"
#include "base/mem.h"

enum { HELD_MOST = 12290 };

void mp_line_init(mp_line *line, size_t limit, mp_pool *pool)
{
  *line = (mp_line){ .limit = limit };
  mp_buf_init(&line->held, HELD_MOST, pool);
}

/* A line may be a response of AUTH: it is never left behind in memory that goes back. */
static void forget(mp_buf *held)
{
  mp_mem_wipe(held->ptr, held->ptr ? held->off + held->len : 0);
  mp_buf_dispose(held);
}

void mp_line_dispose(mp_line *line)
{
  forget(&line->held);
  line->skipping = line->after_cr = false;
}

/* Adds to what is held. Growing moves it, so this is done here and not by the buffer. */
static int hold(mp_buf *held, mp_str part)
{
  size_t need = held->len + part.len;
  if (!held->ptr || held->off + need <= held->cap)
    return mp_buf_str(held, part);
  if (need > held->max)
    return MP_E_FULL;
  mp_buf larger;
  mp_buf_init(&larger, held->max, held->pool);
  if (!mp_buf_room(&larger, need))
    return MP_E_NOMEM;
  mp_buf_str(&larger, mp_buf_view(held));
  mp_buf_str(&larger, part);
  forget(held);
  *held = larger;
  return 0;
}

/* Drops octets up to and with the CRLF that ends a line which was cut. A bare LF does not end it: what a peer hides behind one
 * in an overlong line must not become a command. Returns how many octets were dropped. */
static size_t skip(mp_line *line, mp_str in)
{
  for (size_t from = 0;;) {
    mp_ssize lf = mp_str_find(in, '\n', from);
    if (lf < 0) {
      if (in.len)
        line->after_cr = in.ptr[in.len - 1] == '\r';
      return in.len;
    }
    bool cr = lf > 0 ? in.ptr[lf - 1] == '\r' : line->after_cr;
    from = (size_t)lf + 1;
    if (cr) {
      line->skipping = line->after_cr = false;
      return from;
    }
  }
}

/* Starts dropping a line of which the octets in `held` and perhaps some of `in` were seen. */
static size_t cut(mp_line *line, mp_str in)
{
  mp_str held = mp_buf_view(&line->held);
  line->after_cr = held.len && held.ptr[held.len - 1] == '\r';
  line->skipping = true;
  forget(&line->held);
  return skip(line, in);
}

/* `whole` ends with LF. */
static int finish(mp_str whole, mp_str *out)
{
  if (whole.len < 2 || whole.ptr[whole.len - 2] != '\r')
    return MP_E_BARELF;
  mp_str text = mp_str_sub(whole, 0, whole.len - 2);
  if (mp_str_find(text, '\r', 0) >= 0 || mp_str_find(text, '\0', 0) >= 0)
    return MP_E_BARELF;
  *out = text;
  return 1;
}

int mp_line_next(mp_line *line, mp_str in, size_t *taken, mp_str *out)
{
  *taken = 0;
  *out = MP_STR_NULL;
  /* A part never holds an LF: with one, it is the line that was given out by the call before. */
  mp_str held = mp_buf_view(&line->held);
  if (held.len && held.ptr[held.len - 1] == '\n') {
    forget(&line->held);
    held = MP_STR_NULL;
  }
  if (line->skipping) {
    *taken = skip(line, in);
    in = mp_str_sub(in, *taken, in.len);
  }
  if (in.len == 0)
    return 0;

  size_t room = line->limit > held.len ? line->limit - held.len : 0;
  mp_ssize lf = mp_str_find(mp_str_sub(in, 0, room), '\n', 0);
  if (lf < 0 && in.len >= room) {
    *taken += cut(line, in);
    return MP_E_TOOLONG;
  }
  mp_str part = mp_str_sub(in, 0, lf < 0 ? in.len : (size_t)lf + 1);
  if (lf >= 0 && held.len == 0) {
    *taken += part.len;
    return finish(part, out);
  }
  int rc = hold(&line->held, part);
  if (rc == MP_E_FULL) { /* only a limit beyond the ceiling comes here */
    *taken += cut(line, in);
    return MP_E_TOOLONG;
  }
  if (rc < 0)
    return rc;
  *taken += part.len;
  return lf < 0 ? 0 : finish(mp_buf_view(&line->held), out);
}
