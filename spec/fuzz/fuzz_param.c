/* Parameters of MAIL (an even first octet) and RCPT (an odd one); what follows stands behind the path. */
#include "base/error.h"
#include "smtp/param.h"
#include "smtp/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

/* What was taken decodes, comes back as it was, and holds no control character. */
static void check_xtext(mp_str coded, bool utf8)
{
  mp_buf plain, back;
  mp_buf_init(&plain, 4096, NULL);
  mp_buf_init(&back, 16384, NULL);
  if (mp_xtext_decode(&plain, coded) == 0) {
    demand(mp_text_printable(mp_buf_view(&plain), utf8));
    demand(mp_xtext_encode(&back, mp_buf_view(&plain)) == 0);
    mp_buf_cut(&plain, 0);
    demand(mp_xtext_decode(&plain, mp_buf_view(&back)) == 0);
  }
  mp_buf_dispose(&plain);
  mp_buf_dispose(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  bool utf8 = data[0] & 2;
  unsigned allowed = data[0] & 4 ? ~0u : data[0] * 0x9e3779b9u >> 7;
  mp_str in = mp_str_of((const char *)data + 1, size - 1);
  mp_reply refusal = { .code = 0 };
  if (data[0] & 1) {
    mp_rcpt_params params;
    if (mp_rcpt_params_parse(&params, in, allowed, utf8, &refusal)) {
      demand((params.given & ~allowed) == 0 && refusal.code == 0);
      demand(mp_text_printable(params.orcpt, utf8));
      demand(!(params.notify & MP_NOTIFY_NEVER) || params.notify == MP_NOTIFY_NEVER);
      if (params.orcpt.len && !mp_str_istarts(params.orcpt, MP_STR("utf-8;")))
        check_xtext(mp_str_sub(params.orcpt, (size_t)mp_str_find(params.orcpt, ';', 0) + 1, params.orcpt.len),
                    false);
      return 0;
    }
  } else {
    mp_mail_params params;
    if (mp_mail_params_parse(&params, in, allowed, 1000000, &refusal)) {
      demand((params.given & ~allowed) == 0 && refusal.code == 0 && params.size <= 1000000);
      demand(params.priority >= -9 && params.priority <= 9);
      demand(params.by_seconds >= -999999999 && params.by_seconds <= 999999999);
      check_xtext(params.envid, false);
      check_xtext(params.auth, params.given & MP_PARAM_SMTPUTF8);
      return 0;
    }
  }
  demand(refusal.code == 501 || refusal.code == 504 || refusal.code == 552 || refusal.code == 555);
  demand(mp_reply_check(&refusal) == NULL);
  return 0;
}
