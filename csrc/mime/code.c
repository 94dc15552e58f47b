#include "mime/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char REPLACEMENT[] = "\xef\xbf\xbd";

/* ---- charsets ----------------------------------------------------------------------------------------------------- */

/* A name that may be shown to iconv: neither a path nor a suffix such as //TRANSLIT. */
static bool fit(const char *charset)
{
  size_t n = strlen(charset);
  return n > 0 && n < 64 &&
         strspn(charset, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:+") == n;
}

static iconv_t open_charset(const char *charset)
{
  if (!fit(charset))
    return (iconv_t)-1;
  if (g_ascii_strcasecmp(charset, "us-ascii") == 0 || g_ascii_strcasecmp(charset, "ascii") == 0)
    charset = "UTF-8"; /* what claims to be ASCII and is not is UTF-8 more often than anything else */
  else if (g_ascii_strcasecmp(charset, "unicode-1-1-utf-7") == 0)
    charset = "UTF-7";
  const char *name = g_mime_charset_iconv_name(charset);
  iconv_t cd = iconv_open("UTF-8", name ? name : charset);
  return cd == (iconv_t)-1 ? iconv_open("UTF-8", charset) : cd;
}

bool mp_mime_charset_known(const char *charset)
{
  iconv_t cd = open_charset(charset);
  if (cd == (iconv_t)-1)
    return false;
  iconv_close(cd);
  return true;
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

bool mp_mime_decoder_init(mp_mime_coder *coder, const char *encoding, const char *charset)
{
  *coder = (mp_mime_coder){ 0 };
  GMimeContentEncoding kind =
      encoding ? g_mime_content_encoding_from_string(encoding) : GMIME_CONTENT_ENCODING_DEFAULT;
  coder->coded = kind == GMIME_CONTENT_ENCODING_BASE64 || kind == GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE ||
                 kind == GMIME_CONTENT_ENCODING_UUENCODE;
  g_mime_encoding_init_decode(&coder->encoding, kind);
  if (!charset)
    return true;
  coder->cd = open_charset(charset);
  if (coder->cd == (iconv_t)-1)
    coder->cd = iconv_open("UTF-8", "UTF-8");
  coder->charset = coder->cd != (iconv_t)-1;
  return coder->charset;
}

void mp_mime_encoder_init(mp_mime_coder *coder, GMimeContentEncoding encoding)
{
  *coder = (mp_mime_coder){ .coded = true };
  g_mime_encoding_init_encode(&coder->encoding, encoding);
}

void mp_mime_coder_dispose(mp_mime_coder *coder)
{
  if (coder->charset)
    iconv_close(coder->cd);
  free(coder->octets);
  free(coder->middle);
  *coder = (mp_mime_coder){ 0 };
}

/* ---- what GMime leaves to its caller -------------------------------------------------------------------------------- */

enum { BEGUN = 7, OTHER_LINE = -1 };

/* What stands in front of uuencoded lines, the line that begins them included, is not decoded. Returns where they begin. */
static size_t skip_to_begin(mp_mime_coder *coder, const char *octets, size_t len)
{
  static const char begin[] = "begin ";
  for (size_t i = 0; i < len; i++) {
    if (octets[i] == '\n' && coder->begin == 6) {
      coder->begin = BEGUN;
      coder->encoding.state |= GMIME_UUDECODE_STATE_BEGIN;
      return i + 1;
    }
    if (octets[i] == '\n')
      coder->begin = 0;
    else if (coder->begin >= 0 && coder->begin < 6)
      coder->begin = octets[i] == begin[coder->begin] ? coder->begin + 1 : OTHER_LINE;
  }
  return len;
}

/* Base64 whose padding is missing: as much of it as completes the last four. */
static size_t pad(mp_mime_coder *coder, char *out)
{
  int n = coder->encoding.state & 0xff;
  return n == 2 || n == 3 ? g_mime_encoding_step(&coder->encoding, "==", n == 2 ? 2 : 1, out) : 0;
}

/* ---- a step ------------------------------------------------------------------------------------------------------- */

static bool reserve(char **block, size_t *room, size_t need)
{
  if (need <= *room)
    return true;
  size_t bigger = need + need / 2;
  char *moved = realloc(*block, bigger);
  if (!moved)
    return false;
  *block = moved;
  *room = bigger;
  return true;
}

static bool put(mp_mime_coder *coder, const char *octets, size_t len)
{
  if (!reserve(&coder->octets, &coder->room, coder->len + len + 1))
    return false;
  memcpy(coder->octets + coder->len, octets, len);
  coder->len += len;
  return true;
}

/* The C library's UTF-8 goes on where Unicode ends (RFC 3629 3): what lies behind U+10FFFF becomes U+FFFD. Whole characters; returns their length. */
static size_t tame(char *octets, size_t len)
{
  size_t kept = 0;
  for (size_t i = 0; i < len;) {
    unsigned char c = (unsigned char)octets[i];
    size_t width = c < 0xf4 ? 1 : c < 0xf8 ? 4 : c < 0xfc ? 5 : 6;
    if (c < 0xf4 || width > len - i || (c == 0xf4 && (unsigned char)octets[i + 1] < 0x90)) {
      octets[kept++] = octets[i++];
      continue;
    }
    memcpy(octets + kept, REPLACEMENT, 3);
    kept += 3;
    i += width;
  }
  return kept;
}

/* Converts, and replaces what cannot be; *left tells how much stands at the end that may yet become a character. */
static bool convert(mp_mime_coder *coder, char *in, size_t len, bool last, size_t *left)
{
  while (len) {
    if (!reserve(&coder->octets, &coder->room, coder->len + 2 * len + 64))
      return false;
    char *out = coder->octets + coder->len;
    size_t room = coder->room - coder->len;
    size_t rc = iconv(coder->cd, &in, &len, &out, &room);
    size_t made = (size_t)(out - coder->octets) - coder->len;
    coder->len += tame(coder->octets + coder->len, made);
    if (rc != (size_t)-1 || errno == E2BIG)
      continue;
    if (errno == EINVAL && !last && len < sizeof coder->held)
      break;
    if (!put(coder, REPLACEMENT, 3))
      return false;
    in++;
    len--;
  }
  *left = len;
  if (len)
    memmove(coder->held, in, len);
  return true;
}

static bool to_utf8(mp_mime_coder *coder, char *octets, size_t len, bool last)
{
  size_t taken = 0;
  while (coder->left && (taken < len || last)) {
    /* What was held is completed octet by octet; no character has as many as `held`. */
    char some[sizeof coder->held];
    size_t n = coder->left;
    memcpy(some, coder->held, n);
    if (taken < len)
      some[n++] = octets[taken++];
    if (!convert(coder, some, n, last && taken == len, &coder->left))
      return false;
  }
  if (taken < len && !convert(coder, octets + taken, len - taken, last, &coder->left))
    return false;
  if (last) { /* back to the first state of a charset that has several */
    if (!reserve(&coder->octets, &coder->room, coder->len + 64))
      return false;
    char *out = coder->octets + coder->len;
    size_t room = coder->room - coder->len;
    iconv(coder->cd, NULL, NULL, &out, &room);
    coder->len = (size_t)(out - coder->octets);
  }
  return true;
}

bool mp_mime_coder_step(mp_mime_coder *coder, const char *octets, size_t len, bool last)
{
  coder->len = 0;
  size_t most = coder->coded ? g_mime_encoding_outlen(&coder->encoding, len) + 16 : len;
  char **block = coder->charset ? &coder->middle : &coder->octets;
  size_t *room = coder->charset ? &coder->middle_room : &coder->room;
  if (!reserve(block, room, most + 1))
    return false;
  size_t n = len;
  if (!coder->coded) {
    if (len)
      memcpy(*block, octets, len);
  } else {
    bool uu = !coder->encoding.encode && coder->encoding.encoding == GMIME_CONTENT_ENCODING_UUENCODE;
    size_t skipped = uu && coder->begin != BEGUN ? skip_to_begin(coder, octets, len) : 0;
    octets += skipped;
    len -= skipped;
    n = last && coder->encoding.encode ? g_mime_encoding_flush(&coder->encoding, octets, len, *block)
                                       : g_mime_encoding_step(&coder->encoding, octets, len, *block);
    if (last && !coder->encoding.encode && coder->encoding.encoding == GMIME_CONTENT_ENCODING_BASE64)
      n += pad(coder, *block + n);
  }
  if (coder->charset)
    return to_utf8(coder, *block, n, last);
  coder->len = n;
  return true;
}
