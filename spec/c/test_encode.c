/* Bodies on their way out. Each is encoded whole and in slices; what comes out is compared with a plain encoder, and read by the decoder of
 * DATA, which has to end where it ends and give the message back. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/encode.h"

enum { MOST = 1 << 14 };

static const size_t slices[] = { 1, 2, 3, 64, MOST };

/* Encodes `in`; the length, or an error. */
static mp_ssize encode(char out[4 * MOST], mp_str in, size_t slice, mp_encode_mode mode, bool stuff,
                       unsigned *faults)
{
  mp_encode enc;
  mp_encode_init(&enc, mode, stuff);
  size_t n = 0, taken;
  mp_str run;
  int rc;
  while (in.len) {
    size_t len = slice < in.len ? slice : in.len;
    char *copy = malloc(len);
    memcpy(copy, in.ptr, len);
    mp_str rest = mp_str_of(copy, len);
    for (;;) {
      rc = mp_encode_next(&enc, rest, &taken, &run);
      if (rc <= 0)
        break;
      memcpy(out + n, run.ptr, run.len);
      n += run.len;
      rest = mp_str_sub(rest, taken, rest.len);
    }
    free(copy);
    if (rc < 0)
      return rc;
    in = mp_str_sub(in, len, in.len);
  }
  if ((rc = mp_encode_finish(&enc, &run)) < 0)
    return rc;
  if (run.len)
    memcpy(out + n, run.ptr, run.len);
  *faults = enc.scan.faults;
  return (mp_ssize)(n + run.len);
}

/* The same, written for clearness only. */
static size_t plainly(char out[4 * MOST], mp_str in, bool stuff)
{
  size_t n = 0;
  bool start = true;
  for (size_t i = 0; i < in.len; i++) {
    char c = in.ptr[i];
    if (c == '\r' || c == '\n') {
      out[n++] = '\r';
      out[n++] = '\n';
      i += c == '\r' && i + 1 < in.len && in.ptr[i + 1] == '\n';
      start = true;
      continue;
    }
    if (start && c == '.' && stuff)
      out[n++] = '.';
    out[n++] = c;
    start = false;
  }
  if (!start) {
    out[n++] = '\r';
    out[n++] = '\n';
  }
  return n;
}

static void check(mp_str in)
{
  static char got[4 * MOST], want[4 * MOST];
  for (size_t s = 0; s < sizeof slices / sizeof *slices; s++)
    for (int stuff = 0; stuff < 2; stuff++) {
      unsigned faults;
      mp_ssize len = encode(got, in, slices[s], MP_ENCODE_REPAIR, stuff, &faults);
      if (!CHECK(len >= 0))
        return;
      CHECK_EQ_STR(mp_str_of(got, (size_t)len), mp_str_of(want, plainly(want, in, stuff)));
      if (!stuff)
        continue;
      memcpy(got + len, ".\r\nX", 4);
      mp_data data;
      mp_data_init(&data, false, false, 0);
      mp_str rest = mp_str_of(got, (size_t)len + 4), run;
      size_t taken, n = 0;
      int rc;
      while ((rc = mp_data_next(&data, rest, &taken, &run)) == 1) {
        memcpy(want + n, run.ptr, run.len);
        n += run.len;
        rest = mp_str_sub(rest, taken, rest.len);
      }
      CHECK_EQ_INT(rc, 2);
      CHECK_EQ_INT(rest.len - taken, 1);
      CHECK_EQ_INT(data.faults & (MP_DATA_BARE_CR | MP_DATA_BARE_LF), 0);
      CHECK_EQ_INT(n, plainly(got, in, false));
      CHECK_EQ_STR(mp_str_of(want, n), mp_str_of(got, n));
    }
}

TEST(bodies_of_every_kind_of_line_end)
{
  static const mp_str bodies[] = {
    { "", 0 },           { ".", 1 },         { "..", 2 },        { "a", 1 },           { "\r", 1 },
    { "\n", 1 },         { "\r\n", 2 },      { "\n\r", 2 },      { "\r\r", 2 },        { "\n.\n", 3 },
    { "\r.\r", 3 },      { "\r\n.\r\n", 5 }, { "\n.\r\n", 4 },   { "a\n.\r\nb", 6 },   { ".\r\n.\n.\r.", 8 },
    { "x\r\n.y\n.", 7 }, { "\r\r\n", 3 },    { "\r\n\r\n.", 5 }, { "a\0.\r\n.\0", 7 },
  };
  for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
    check(bodies[i]);
}

TEST(bodies_that_are_made_up)
{
  static char body[MOST];
  uint32_t seed = 2463534242u;
  for (int round = 0; round < 300; round++) {
    size_t len = 0, most = (size_t)round * 7;
    while (len < most) {
      seed ^= seed << 13;
      seed ^= seed >> 17;
      seed ^= seed << 5;
      unsigned what = seed % 64;
      body[len++] = what == 0   ? '\r'
                    : what == 1 ? '\n'
                    : what < 6  ? '.'
                    : what == 6 ? '\0'
                    : what == 7 ? '\xff'
                                : 'a';
      if (what >= 60 && len < most) {
        body[len - 1] = '\r';
        body[len++] = '\n';
      }
    }
    check(mp_str_of(body, len));
  }
}

TEST(lone_line_ends_can_be_refused)
{
  static char out[4 * MOST];
  static const mp_str bad[] = { { "a\n", 2 }, { "a\r", 2 },     { "a\rb\r\n", 5 },
                                { "\n", 1 },  { "a\r\n\n", 4 }, { "\r\r\n", 3 } };
  unsigned faults;
  for (size_t s = 0; s < sizeof slices / sizeof *slices; s++) {
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
      CHECK_EQ_INT(encode(out, bad[i], slices[s], MP_ENCODE_REFUSE, true, &faults), MP_E_BARELF);
    CHECK_EQ_INT(encode(out, MP_STR("a\r\n.b\r\n"), slices[s], MP_ENCODE_REFUSE, true, &faults), 8);
    CHECK_EQ_INT(encode(out, MP_STR("a\r\nb"), slices[s], MP_ENCODE_REFUSE, true, &faults), 6);
  }
}

TEST(binary_stays_as_it_is)
{
  static char out[4 * MOST];
  unsigned faults;
  mp_str body = MP_STR("\n.\r\0\xff.");
  for (size_t s = 0; s < sizeof slices / sizeof *slices; s++) {
    mp_ssize len = encode(out, body, slices[s], MP_ENCODE_RAW, false, &faults);
    CHECK_EQ_STR(mp_str_of(out, (size_t)len), body);
  }
}

TEST(what_was_found_on_the_way)
{
  static char out[4 * MOST];
  unsigned faults;
  for (size_t s = 0; s < sizeof slices / sizeof *slices; s++) {
    encode(out, MP_STR("plain\r\n"), slices[s], MP_ENCODE_REPAIR, true, &faults);
    CHECK_EQ_INT(faults, 0);
    encode(out, MP_STR("gr\xc3\xbcn\r\n"), slices[s], MP_ENCODE_REPAIR, true, &faults);
    CHECK_EQ_INT(faults, MP_DATA_8BIT);
    encode(out, MP_STR("a\nb\rc"), slices[s], MP_ENCODE_REPAIR, true, &faults);
    CHECK_EQ_INT(faults, MP_DATA_BARE_LF | MP_DATA_BARE_CR);
  }
}

CHECK_MAIN
