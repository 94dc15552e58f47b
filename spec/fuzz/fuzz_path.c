/* Paths. The first octet of an input is the set of flags; the rest is the argument of MAIL or RCPT. */
#include "smtp/path.h"
#include "smtp/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  unsigned flags = data[0];
  mp_str in = mp_str_of((const char *)data + 1, size - 1);
  mp_path path, again;
  mp_ssize taken = mp_path_parse(&path, in, flags);
  if (taken > 0) {
    demand((size_t)taken <= in.len && taken <= 256);
    demand((size_t)taken == in.len || in.ptr[taken] == ' ');
    demand(mp_text_printable(mp_str_sub(in, 0, (size_t)taken), flags & MP_PATH_UTF8));
    if (path.kind == MP_DOMAIN_NONE) {
      demand(path.domain.len == 0 && !path.quoted);
      demand(path.address.len == 0 ? flags & MP_PATH_REVERSE : flags & MP_PATH_POSTMASTER);
    } else {
      /* The mailbox is its parts, and read alone it has the same parts. */
      demand(path.address.len == path.local.len + 1 + path.domain.len);
      demand(path.local.ptr == path.address.ptr && path.domain.ptr == path.address.ptr + path.local.len + 1);
      demand(path.address.ptr[path.local.len] == '@');
      demand(path.quoted == (path.local.ptr[0] == '"'));
      demand(mp_mailbox_parse(&again, path.address, flags) == 0);
      demand(mp_str_eq(path.local, again.local) && mp_str_eq(path.domain, again.domain) &&
             path.kind == again.kind);
      demand(path.kind != MP_DOMAIN_NAME || mp_domain_check(path.domain, true, true));
    }
  }
  if (mp_mailbox_parse(&path, in, flags) == 0)
    demand(mp_str_eq(path.address, in) && path.kind != MP_DOMAIN_NONE);
  if (mp_helo_check(in, false))
    demand(mp_helo_check(in, true) && mp_text_printable(in, false));
  if (mp_domain_check(in, false, false))
    demand(mp_helo_check(in, false) && mp_domain_check(in, true, true));
  return 0;
}
