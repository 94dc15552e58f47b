/* Any octets as the value of an Authentication-Results field: every view lies inside of it, reading goes on to the end, and nothing belongs to
 * no result. */
#include "base/error.h"
#include "mail/authres.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
  if (!holds)
    abort();
}

static void check_inside(mp_str in, mp_str view)
{
  demand(view.len == 0 || (view.ptr >= in.ptr && view.ptr + view.len <= in.ptr + in.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  mp_authres reader;
  if (mp_authres_begin(&reader, in) < 0)
    return 0;
  check_inside(in, reader.id);
  check_inside(in, reader.version);
  mp_buf out;
  mp_buf_init(&out, size + 1, NULL);
  size_t at = reader.at;
  bool result = false;
  for (mp_authres_item item; mp_authres_next(&reader, &item);) {
    demand(reader.at > at); /* it goes on */
    at = reader.at;
    check_inside(in, item.type);
    check_inside(in, item.name);
    check_inside(in, item.version);
    check_inside(in, item.value);
    check_inside(in, item.comment);
    result = result || item.kind == MP_AUTHRES_RESULT;
    demand(result); /* nothing belongs to no result */
    mp_buf_cut(&out, 0);
    demand(mp_authres_text(&out, item.value) == 0);
    demand(out.len <= item.value.len && (out.len == 0 || !memchr(mp_buf_view(&out).ptr, '\n', out.len)));
  }
  demand(reader.at == in.len);
  mp_buf_dispose(&out);
  return 0;
}
