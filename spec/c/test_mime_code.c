/* Encodings and charsets, in pieces of any size: what comes out does not depend on them, and what is broken stays readable. */
#include "support/check.h"

#include "mime/code.h"
#include "mime/value.h"

/* What a piece came to, behind what was there: often nothing, which lies nowhere. */
static size_t take(char *got, size_t n, const mp_mime_coder *coder)
{
  if (coder->len)
    memcpy(got + n, coder->octets, coder->len);
  return n + coder->len;
}

static void check_decoded(const char *encoding, const char *charset, const char *in, size_t len, const char *want)
{
  static const size_t slices[] = { 1, 2, 3, 5, 4096 };
  for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
    char got[4096];
    size_t n = 0;
    mp_mime_coder coder;
    mp_mime_begin();
    REQUIRE(mp_mime_decoder_init(&coder, encoding, charset));
    for (size_t at = 0; at <= len; at += slices[i]) {
      size_t some = len - at < slices[i] ? len - at : slices[i];
      REQUIRE(mp_mime_coder_step(&coder, in + at, some, false));
      n = take(got, n, &coder);
    }
    REQUIRE(mp_mime_coder_step(&coder, "", 0, true));
    n = take(got, n, &coder);
    mp_mime_coder_dispose(&coder);
    CHECK_EQ_STR(mp_str_of(got, n), mp_str_c(want));
  }
}

TEST(transfer_encodings_are_taken_off)
{
  check_decoded("base64", NULL, "aGVs\r\nbG8=\r\n", 12, "hello");
  check_decoded("BASE64", NULL, "a!G V*s\nbG8", 11, "hello");
  check_decoded("quoted-printable", NULL, "a=3D=\r\nb=e4=\n", 13, "a=b\xe4");
  check_decoded("x-uuencode", NULL, "Hi\nbegin 644 x\n%:&5L;&\\`\n`\nend\n", 31, "hello");
  check_decoded("7bit", NULL, "a=3D", 4, "a=3D");
  check_decoded("x-unheard-of", NULL, "a=3D", 4, "a=3D");
  check_decoded(NULL, NULL, "a=3D", 4, "a=3D");
}

TEST(text_becomes_utf_8)
{
  check_decoded(NULL, "iso-8859-1", "a\xe4", 2, "a\xc3\xa4");
  check_decoded(NULL, "utf-8", "\xe2\x82\xac", 3, "\xe2\x82\xac");
  check_decoded("base64", "utf-16le", "5AA92N7e", 8, "\xc3\xa4\xf0\x9f\x9b\x9e");
  check_decoded(NULL, "iso-2022-jp", "\x1b$B4A\x1b(B.", 9, "\xe6\xbc\xa2.");
  check_decoded(NULL, "us-ascii", "\xc3\xa4", 2, "\xc3\xa4");
}

TEST(what_a_charset_does_not_have_is_replaced)
{
  check_decoded(NULL, "utf-8",
                "a\xff"
                "b\xe2\x82",
                5,
                "a\xef\xbf\xbd"
                "b\xef\xbf\xbd\xef\xbf\xbd");
  check_decoded(NULL, "x-unheard-of", "a\xc3\xa4", 3, "a\xc3\xa4");
  check_decoded(NULL, "UTF-8//TRANSLIT", "a", 1, "a");
  check_decoded(NULL, "../../x", "a", 1, "a");
  check_decoded(NULL, "", "a", 1, "a");
  CHECK(mp_mime_charset_known("koi8-r"));
  CHECK(!mp_mime_charset_known("../../x"));
}

TEST(encoders_end_their_lines)
{
  mp_mime_begin();
  mp_mime_coder coder;
  mp_mime_encoder_init(&coder, GMIME_CONTENT_ENCODING_BASE64);
  char in[114];
  memset(in, 'x', sizeof in);
  REQUIRE(mp_mime_coder_step(&coder, in, sizeof in, true));
  CHECK(coder.len >= 2 * 77 - 1 && coder.octets[76] == '\n');
  mp_mime_coder_dispose(&coder);
}

CHECK_MAIN
