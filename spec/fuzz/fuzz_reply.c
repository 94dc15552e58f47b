/* Replies. The first five octets of an input are the code, the enhanced code and how to write; the rest is the text. */
#include "smtp/reply.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

/* Lines of at most 512 octets, each with the code, only the last with a space behind it, and nothing else of CR and LF. */
static void check_lines(mp_str out, int code, bool utf8)
{
  char head[8];
  snprintf(head, sizeof head, "%d", code);
  while (out.len) {
    mp_ssize lf = mp_str_find(out, '\n', 0);
    demand(lf >= 5 && lf < 512);
    mp_str line = mp_str_sub(out, 0, (size_t)lf + 1);
    out = mp_str_sub(out, line.len, out.len);
    demand(memcmp(line.ptr, head, 3) == 0 && line.ptr[3] == (out.len ? '-' : ' '));
    demand(mp_str_find(line, '\r', 0) == (mp_ssize)line.len - 2);
    demand(mp_str_utf8(line));
    for (size_t i = 0; i < line.len; i++)
      demand(utf8 || (unsigned char)line.ptr[i] < 0x80);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  unsigned short enhanced[3];
  if (mp_reply_enhanced_parse(in, enhanced))
    demand(enhanced[0] >= 2 && enhanced[0] <= 5 && enhanced[1] <= 999 && enhanced[2] <= 999);
  if (size < 5)
    return 0;
  mp_reply reply = { .code = 190 + data[0] * 2,
                     .enhanced = { data[1] % 7, (unsigned short)(data[2] * 4), data[3] },
                     .text = mp_str_sub(in, 5, in.len) };
  if (mp_reply_check(&reply))
    return 0;
  bool with = data[4] & 1, utf8 = data[4] & 2;
  mp_buf out;
  mp_buf_init(&out, 1 << 20, NULL);
  demand(mp_reply_write(&out, &reply, with, utf8) == 0);
  demand(out.len > 0);
  check_lines(mp_buf_view(&out), reply.code, utf8);
  mp_buf_dispose(&out);
  return 0;
}
