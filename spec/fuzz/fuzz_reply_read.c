/* Replies of servers: whole and octet by octet they come to the same, within their bounds, and what comes out may be passed on. */
#include "smtp/reply_read.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

/* Reads all replies into `log`, and the error that ends it. */
static void read_all(mp_str in, size_t slice, mp_buf *log)
{
  mp_reader reader;
  mp_reader_init(&reader, NULL);
  while (in.len) {
    size_t len = slice < in.len ? slice : in.len, taken;
    mp_reply reply;
    int rc = mp_reader_next(&reader, mp_str_sub(in, 0, len), &taken, &reply);
    if (rc < 0) {
      demand(mp_buf_fmt(log, "[%d]", rc) == 0);
      break;
    }
    demand(taken > 0 && taken <= len && (rc == 1 || taken == len));
    if (rc == 1) {
      demand(!mp_reply_check(&reply));
      demand(!mp_reader_begun(&reader));
      demand(mp_buf_fmt(log, "%d %u.%u.%u ", reply.code, reply.enhanced[0], reply.enhanced[1],
                        reply.enhanced[2]) == 0);
      demand(mp_buf_str(log, reply.text) == 0 && mp_buf_char(log, '\0') == 0);
    }
    demand(reader.held.len <= MP_READER_LINE && reader.text.len <= MP_READER_TEXT);
    in = mp_str_sub(in, taken, in.len);
  }
  mp_reader_dispose(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  mp_buf whole, single;
  mp_buf_init(&whole, 1 << 26, NULL);
  mp_buf_init(&single, 1 << 26, NULL);
  read_all(in, SIZE_MAX, &whole);
  read_all(in, 1, &single);
  demand(mp_str_eq(mp_buf_view(&whole), mp_buf_view(&single)));
  mp_buf_dispose(&whole);
  mp_buf_dispose(&single);
  return 0;
}
