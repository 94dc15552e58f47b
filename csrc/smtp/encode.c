/* The states are the decoder's START, TEXT and CR. Here too a CR is given out at once, and the LF is owed when none follows; and START is
 * where a line begins behind a line end of any kind, since all of them are CRLF when they leave. */
#include "smtp/encode.h"

#include "base/error.h"
#include "smtp/data_impl.h"

void mp_encode_init(mp_encode *enc, mp_encode_mode mode, bool stuff)
{
  *enc = (mp_encode){ .mode = (unsigned char)mode, .stuff = stuff };
  mp_data_init(&enc->scan, false, false, 0);
}

/* A lone CR or LF: true when it may not be. */
static bool bare(mp_encode *enc, unsigned fault)
{
  enc->scan.faults |= fault;
  return enc->mode == MP_ENCODE_REFUSE;
}

int mp_encode_next(mp_encode *enc, mp_str in, size_t *taken, mp_str *out)
{
  mp_data *scan = &enc->scan;
  *taken = in.len;
  *out = in;
  if (enc->mode == MP_ENCODE_RAW)
    return in.len > 0;
  for (size_t i = 0; i < in.len;) {
    unsigned char c = (unsigned char)in.ptr[i];
    bool before = i > 0; /* octets stand in front that have to be given out first */
    if (scan->state == MP_DATA_CR) {
      if (c == '\n') {
        scan->state = MP_DATA_START;
        i++;
        continue;
      }
      if (bare(enc, MP_DATA_BARE_CR))
        return MP_E_BARELF;
      *taken = i;
      if (!before)
        scan->state = MP_DATA_START;
      *out = before ? mp_str_sub(in, 0, i) : MP_STR("\n");
      return 1;
    }
    if (c == '\n') {
      if (bare(enc, MP_DATA_BARE_LF))
        return MP_E_BARELF;
      *taken = before ? i : 1;
      if (!before)
        scan->state = MP_DATA_START;
      *out = before ? mp_str_sub(in, 0, i) : MP_STR("\r\n");
      return 1;
    }
    if (c == '.' && scan->state == MP_DATA_START) {
      scan->state = MP_DATA_TEXT;
      if (enc->stuff) { /* it is given out, and not taken: so it is given out twice */
        *taken = i;
        *out = mp_str_sub(in, 0, i + 1);
        return 1;
      }
      i++;
      continue;
    }
    if (c == '\r') {
      scan->state = MP_DATA_CR;
      i++;
      continue;
    }
    size_t plain = mp_data_plain(scan, in.ptr + i, in.len - i);
    if (plain == 0) {
      scan->state = MP_DATA_TEXT;
      scan->faults |= (c >= 0x80 ? MP_DATA_8BIT : 0u) | (c == 0 ? MP_DATA_NUL : 0u);
      plain = 1;
    }
    i += plain;
  }
  return in.len > 0;
}

int mp_encode_finish(mp_encode *enc, mp_str *out)
{
  *out = MP_STR_NULL;
  if (enc->mode == MP_ENCODE_RAW || enc->scan.state == MP_DATA_START)
    return 0;
  if (enc->scan.state == MP_DATA_CR && bare(enc, MP_DATA_BARE_CR))
    return MP_E_BARELF;
  *out = enc->scan.state == MP_DATA_CR ? MP_STR("\n") : MP_STR("\r\n");
  enc->scan.state = MP_DATA_START;
  return 0;
}
