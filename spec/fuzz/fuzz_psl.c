/* Any octets as a name: its registrable domain, if it has one, is its end, and is its own registrable domain. */
#include "mail/psl.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
  if (!holds)
    abort();
}

static bool is_ascii(mp_str s)
{
  for (size_t i = 0; i < s.len; i++)
    if ((unsigned char)s.ptr[i] >= 0x80)
      return false;
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static mp_psl *list; /* for the life of the process */
  if (!list && mp_psl_new(&list, NULL) < 0)
    return 0;
  mp_str in = mp_str_of((const char *)data, size);
  char domain[MP_PSL_NAME], again[MP_PSL_NAME];
  mp_ssize len = mp_psl_registrable(list, in, domain);
  demand(len >= 0 && len < MP_PSL_NAME);
  if (len == 0)
    return 0;
  mp_str found = mp_str_of(domain, (size_t)len);
  demand(strlen(domain) == found.len && domain[0] != '.' && strchr(domain, '.'));
  demand(mp_psl_registrable(list, found, again) == len && strcmp(domain, again) == 0);
  if (is_ascii(in)) {
    size_t dot = in.ptr[in.len - 1] == '.';
    demand(mp_str_ieq(found, mp_str_sub(in, in.len - dot - found.len, found.len)));
  }
  return 0;
}
