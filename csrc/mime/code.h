/* mime/code.h -- the octets of a part: out of a transfer encoding (RFC 2045 6) and a charset, in pieces of any size, and into an encoding. What is broken is
 * not refused: octets that no encoding has are left out as RFC 2045 6.8 asks, what no charset has becomes U+FFFD. */
#ifndef MP_MIME_CODE_H
#define MP_MIME_CODE_H

#include <gmime/gmime.h>
#include <iconv.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct mp_mime_coder {
  GMimeEncoding encoding;
  bool coded;   /* false: octets pass as they are */
  int begin;    /* uuencode: how much of "begin " has come at a line's start, see code.c */
  bool charset; /* iconv is open */
  iconv_t cd;
  size_t left; /* of a character that has not come whole */
  char held[32];
  char *octets; /* of the last step */
  size_t len, room;
  char *middle; /* between encoding and charset */
  size_t middle_room;
} mp_mime_coder;

/* Decodes `encoding` (NULL or unknown: none), and from `charset` to UTF-8 (NULL: octets are wanted). An unknown charset is read as UTF-8. False: no memory. */
bool mp_mime_decoder_init(mp_mime_coder *coder, const char *encoding, const char *charset);
/* Encodes as base64 or quoted-printable with lines of 76 octets, LF between them. */
void mp_mime_encoder_init(mp_mime_coder *coder, GMimeContentEncoding encoding);
void mp_mime_coder_dispose(mp_mime_coder *coder);

/* What `octets` become: coder->octets, coder->len, until the next step. `last`: nothing follows. False: no memory. */
bool mp_mime_coder_step(mp_mime_coder *coder, const char *octets, size_t len, bool last);

/* Whether there is such a charset. */
bool mp_mime_charset_known(const char *charset);

#endif
