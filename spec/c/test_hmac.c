/* HMAC-SHA256 against the vectors of RFC 4231. */
#include "support/check.h"

#include "mail/hmac.h"

static const char *hex(mp_str key, mp_str text)
{
  static char out[2 * MP_HMAC_SHA256 + 1];
  unsigned char code[MP_HMAC_SHA256];
  CHECK_EQ_INT(mp_hmac_sha256(code, key, text), 0);
  for (size_t i = 0; i < sizeof code; i++)
    snprintf(out + 2 * i, 3, "%02x", code[i]);
  return out;
}

static mp_str filled(char *octets, char with, size_t len)
{
  memset(octets, with, len);
  return mp_str_of(octets, len);
}

TEST(the_vectors_of_rfc_4231)
{
  char key[131], text[50];
  CHECK(!strcmp(hex(filled(key, 0x0b, 20), MP_STR("Hi There")),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
  CHECK(!strcmp(hex(MP_STR("Jefe"), MP_STR("what do ya want for nothing?")),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"));
  CHECK(!strcmp(hex(filled(key, (char)0xaa, 20), filled(text, (char)0xdd, 50)),
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"));
  CHECK(!strcmp(hex(filled(key, (char)0xaa, 131), MP_STR("Test Using Larger Than Block-Size Key - Hash Key First")),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"));
}

TEST(nothing_under_no_key_is_an_answer_too)
{
  CHECK(!strcmp(hex(MP_STR_NULL, MP_STR_NULL),
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"));
}

CHECK_MAIN
