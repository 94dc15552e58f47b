/* mail/hmac.h -- HMAC-SHA256 (RFC 2104, FIPS 180-4): what we sign to recognise it when it comes back. */
#ifndef MP_MAIL_HMAC_H
#define MP_MAIL_HMAC_H

#include "base/str.h"

enum { MP_HMAC_SHA256 = 32 };

/* The code of `text` under `key`, which may have any length. Returns 0 or MP_E_NOMEM. */
int mp_hmac_sha256(unsigned char code[MP_HMAC_SHA256], mp_str key, mp_str text);

#endif
