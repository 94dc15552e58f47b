#include "conn/lines.h"

void mp_lines_init(mp_lines *lines, mp_message *msg, bool crlf)
{
  bool binary = (msg->env->params.given & MP_PARAM_BODY) && msg->env->params.body == MP_BODY_BINARY;
  *lines = (mp_lines){ .sink = msg->sink, .off = mp_message_body_at(msg), .lf = !crlf && !binary };
}

/* Copies `in` to `out`, which may begin in front of it in the same memory, and returns the length: one more than in.len at most, for a CR held
 * back from before. */
static size_t shorten(char *out, mp_str in, bool *cr)
{
  size_t n = 0;
  if (*cr && in.len && in.ptr[0] != '\n')
    out[n++] = '\r';
  *cr = *cr && in.len == 0;
  while (in.len) {
    mp_ssize at = mp_str_find(in, '\r', 0);
    size_t run = at < 0 ? in.len : (size_t)at;
    memmove(out + n, in.ptr, run);
    n += run;
    if (at < 0)
      break;
    in = mp_str_sub(in, run + 1, in.len);
    if (in.len == 0)
      *cr = true;
    else if (in.ptr[0] != '\n')
      out[n++] = '\r';
  }
  return n;
}

mp_str mp_lines_read(mp_lines *lines, char *scratch, size_t room, int *rc)
{
  for (;;) {
    /* One octet is left in front: the shortened text is written over what was read, a CR from before it first. */
    size_t front = lines->lf;
    mp_str part = mp_sink_read(lines->sink, lines->off, scratch + front, room - front, rc);
    lines->off += part.len;
    if (!lines->lf || *rc < 0)
      return part;
    if (part.len == 0) {
      bool last = lines->cr;
      lines->cr = false;
      return last ? MP_STR("\r") : MP_STR_NULL;
    }
    size_t len = shorten(scratch, part, &lines->cr);
    if (len)
      return mp_str_of(scratch, len);
  }
}

size_t mp_lines_shorten(char *octets, size_t len)
{
  bool cr = false;
  size_t n = shorten(octets, mp_str_of(octets, len), &cr);
  if (cr)
    octets[n++] = '\r';
  return n;
}
