/* Any octets as a header block: its end does not move once found, index and scan agree, what was not edited is written back octet for octet,
 * and an edit that was taken is one field that reads as it was given. */
#include "base/error.h"
#include "mail/header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
  if (!holds)
    abort();
}

static void check_end(mp_str in, size_t end, bool open)
{
  bool part_open;
  size_t half = mp_header_end(mp_str_sub(in, 0, in.len / 2), &part_open);
  demand(part_open ? half <= in.len / 2 : !open && half == end);
  demand(end <= in.len);
}

static void check_edit(mp_header *header, mp_str value)
{
  size_t count = mp_header_count(header);
  size_t at = count ? value.len % (count + 1) : 0;
  if (mp_header_insert(header, at, MP_STR("X-Edit"), value) < 0)
    return;
  mp_field field;
  mp_header_at(header, at, &field);
  bool open;
  size_t pos = 0;
  mp_field again;
  demand(mp_header_end(field.raw, &open) == field.raw.len && open);
  demand(mp_header_next(field.raw, &pos, &again) && pos == field.raw.len);
  demand(mp_str_eq(again.name, MP_STR("X-Edit")));
  mp_buf out;
  mp_buf_init(&out, 1 << 24, NULL);
  demand(mp_header_write(header, &out) == 0);
  mp_header *written;
  demand(mp_header_new(&written, mp_buf_view(&out)) == 0);
  demand(mp_header_count(written) == count + 1);
  mp_header_free(written);
  mp_buf_dispose(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  bool open;
  size_t end = mp_header_end(in, &open);
  check_end(in, end, open);
  mp_str block = mp_str_sub(in, 0, end);
  mp_header *header;
  demand(mp_header_new(&header, block) == 0);
  mp_buf out;
  mp_buf_init(&out, 1 << 24, NULL);
  mp_field field, same;
  size_t pos = 0, n = 0;
  for (; mp_header_next(block, &pos, &field); n++) {
    mp_header_at(header, n, &same);
    demand(mp_str_eq(field.raw, same.raw) && mp_str_eq(field.name, same.name) &&
           mp_str_eq(field.value, same.value));
    demand(mp_header_find(header, field.name, n) == (mp_ssize)n);
    demand(mp_field_unfold(&field, &out) == 0);
  }
  demand(n == mp_header_count(header));
  mp_buf_cut(&out, 0);
  demand(mp_header_write(header, &out) == 0);
  bool cut = pos > 0 && (pos < 2 || memcmp(block.ptr + pos - 2, "\r\n", 2) != 0);
  demand(out.len == pos + (cut ? 2 : 0) && (pos == 0 || memcmp(mp_buf_view(&out).ptr, block.ptr, pos) == 0));
  mp_buf_dispose(&out);
  check_edit(header, mp_str_sub(in, end, in.len));
  mp_header_free(header);
  return 0;
}
