#include "mail/hmac.h"

#include "base/error.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

int mp_hmac_sha256(unsigned char code[MP_HMAC_SHA256], mp_str key, mp_str text)
{
  if (key.len > INT_MAX)
    return MP_E_NOMEM;
  const void *bytes = key.len > 0 ? key.ptr : ""; /* NULL would stand for the key of an earlier call */
  const void *said = text.len > 0 ? text.ptr : "";
  return HMAC(EVP_sha256(), bytes, (int)key.len, said, text.len, code, NULL) ? 0 : MP_E_NOMEM;
}
