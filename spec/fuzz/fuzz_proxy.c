/* PROXY headers, and with a first octet of 'X' the attributes of XCLIENT behind it. */
#include "base/error.h"
#include "smtp/proxy.h"
#include "smtp/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

static void attributes(mp_str in)
{
  char *scratch = malloc(in.len ? in.len : 1);
  mp_xclient got;
  int rc = mp_xclient_parse(&got, in, scratch);
  demand(rc == 0 || rc == MP_E_SYNTAX);
  if (rc == 0) {
    demand(got.given != 0 && (got.unavailable & ~got.given) == 0);
    demand(mp_text_printable(got.name, false) && mp_text_printable(got.helo, false) &&
           mp_text_printable(got.login, true));
  }
  free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  if (size > 0 && data[0] == 'X') {
    attributes(mp_str_sub(in, 1, in.len));
    return 0;
  }
  mp_proxy proxy;
  mp_ssize taken = mp_proxy_parse(&proxy, in);
  demand(taken >= 0 || taken == MP_E_SYNTAX);
  demand(taken <= MP_PROXY_MOST && (taken < 0 || (size_t)taken <= size));
  demand(taken != 0 || size < MP_PROXY_MOST);
  demand(!proxy.local || !proxy.known);
  if (taken > 0) /* every part of a header wants more */
    for (mp_ssize n = 0; n < taken; n++)
      demand(mp_proxy_parse(&proxy, mp_str_sub(in, 0, (size_t)n)) == 0);
  if (taken == 0) /* and so does every part of that part */
    for (size_t n = 0; n < size; n++)
      demand(mp_proxy_parse(&proxy, mp_str_sub(in, 0, n)) == 0);
  return 0;
}
