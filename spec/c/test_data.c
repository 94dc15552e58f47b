/* The end of DATA. Every row is decoded whole, in slices of 1, 2, 3 and 64 octets, with commands behind the end in the same
 * segment, with and without repair, by the decoder with vectors and by the one without; and both are compared with a third
 * one, written for clearness only, on made-up bodies. */
#include "support/check.h"

#include "smtp/data.h"

/* The decoder as it is built where there are no vectors, under other names. */
void portable_init(mp_data *data, bool raw, bool repair, size_t line_limit);
int portable_next(mp_data *data, mp_str in, size_t *taken, mp_str *out);
int portable_finish(mp_data *data, mp_str *out);
size_t portable_plain(mp_data *data, const char *p, size_t len);
#define mp_data_init   portable_init
#define mp_data_next   portable_next
#define mp_data_finish portable_finish
#define mp_data_plain  portable_plain
#ifndef MP_DATA_NARROW /* test_data_narrow.c */
#define MP_DATA_PORTABLE
#endif
#include "smtp/data.c"
#undef mp_data_init
#undef mp_data_next
#undef mp_data_finish
#undef mp_data_plain

typedef struct decoder {
  const char *name;
  void (*init)(mp_data *data, bool raw, bool repair, size_t line_limit);
  int (*next)(mp_data *data, mp_str in, size_t *taken, mp_str *out);
  int (*finish)(mp_data *data, mp_str *out);
} decoder;

static const decoder decoders[] = {
  { "built", mp_data_init, mp_data_next, mp_data_finish },
  { "portable", portable_init, portable_next, portable_finish },
};

enum { OUT_MOST = 1 << 16 };

typedef struct result {
  char out[OUT_MOST];
  size_t len, taken; /* octets given out; octets consumed */
  unsigned faults, runs;
  uint64_t size;
  bool ended;
} result;

static void add(result *res, mp_str run)
{
  REQUIRE(run.len > 0 && res->len + run.len <= OUT_MOST);
  memcpy(res->out + res->len, run.ptr, run.len);
  res->len += run.len;
  res->runs++;
}

/* Decodes `in`, at most `slice` octets at a time, each slice in a heap block of its exact size so that a sanitizer sees a
 * step outside. Stops at the end of the data. */
static void decode(const decoder *dec, result *res, mp_str in, size_t slice, bool raw, bool repair, size_t limit)
{
  mp_data data;
  dec->init(&data, raw, repair, limit);
  res->len = res->taken = res->runs = 0;
  res->ended = false;
  mp_str run;
  for (size_t from = 0; from < in.len && !res->ended;) {
    size_t n = in.len - from < slice ? in.len - from : slice;
    char *copy = malloc(n);
    memcpy(copy, in.ptr + from, n);
    mp_str rest = mp_str_of(copy, n);
    int rc;
    do {
      size_t taken = (size_t)-1;
      rc = dec->next(&data, rest, &taken, &run);
      if (taken > rest.len) {
        FAIL("took %zu of %zu", taken, rest.len);
        break;
      }
      if (rc == 1)
        add(res, run);
      else
        CHECK_EQ_INT(run.len, 0);
      if (rc == 0)
        CHECK_EQ_INT(taken, rest.len);
      rest = mp_str_sub(rest, taken, rest.len);
      res->taken += taken;
    } while (rc == 1);
    res->ended = rc == 2;
    from += n;
    free(copy);
  }
  if (raw && dec->finish(&data, &run))
    add(res, run);
  res->faults = data.faults;
  res->size = data.size;
  CHECK_EQ_INT(res->size, res->len);
}

static mp_str output(const result *res)
{
  return mp_str_of(res->out, res->len);
}

/* ---- the decoder written for clearness --------------------------------------------------------------------------- */

static char at(mp_str s, size_t i)
{
  return i < s.len ? s.ptr[i] : 'x';
}

static void model(result *res, mp_str in, bool raw, bool repair, size_t limit)
{
  size_t end = in.len;
  res->len = res->runs = res->faults = 0;
  res->ended = false;
  res->taken = in.len;
  if (!raw && mp_str_istarts(in, MP_STR(".\r\n"))) {
    end = 0;
    res->taken = 3;
    res->ended = true;
  }
  for (size_t i = 0; !raw && !res->ended && i + 5 <= in.len; i++)
    if (memcmp(in.ptr + i, "\r\n.\r\n", 5) == 0) {
      end = i + 2;
      res->taken = i + 5;
      res->ended = true;
    }
  bool after_crlf = !raw;
  size_t line = 0;
  in.len = end;
  for (size_t i = 0; i < end; i++) {
    unsigned char c = (unsigned char)in.ptr[i];
    bool starts = after_crlf;
    after_crlf = false;
    if (starts && c == '.')
      continue;
    if (c == '\r' && at(in, i + 1) == '\n') {
      after_crlf = !raw;
      memcpy(res->out + res->len, "\r\n", 2);
      res->len += 2;
      line = 0;
      i++;
    } else if (c == '\r' || c == '\n') {
      res->faults |= c == '\r' ? MP_DATA_BARE_CR : MP_DATA_BARE_LF;
      if (repair)
        memcpy(res->out + res->len, "\r\n", 2);
      else
        res->out[res->len] = (char)c;
      res->len += repair ? 2 : 1;
      line = 0;
    } else {
      if (c == 0)
        res->faults |= MP_DATA_NUL;
      if (c > 127)
        res->faults |= MP_DATA_8BIT;
      if (limit && ++line > limit)
        res->faults |= MP_DATA_LONG_LINE;
      res->out[res->len++] = (char)c;
    }
  }
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static const size_t slices[] = { 1, 2, 3, 64, SIZE_MAX };
enum { SLICES = sizeof slices / sizeof *slices, DECODERS = 2 };

/* `in` behind its true end holds commands, of which none may be touched. */
static void check_row(mp_str in, mp_str commands, mp_str want, mp_str repaired, unsigned faults)
{
  static char joined[4096];
  static result res;
  memcpy(joined, in.ptr, in.len);
  memcpy(joined + in.len, commands.ptr, commands.len);
  mp_str all = mp_str_of(joined, in.len + commands.len);
  for (size_t d = 0; d < DECODERS; d++)
    for (size_t s = 0; s < SLICES; s++)
      for (int repair = 0; repair <= 1; repair++) {
        decode(&decoders[d], &res, all, slices[s], false, repair, 0);
        bool held = CHECK(res.ended);
        held &= CHECK_EQ_INT(res.taken, in.len);
        held &= CHECK_EQ_STR(output(&res), repair ? repaired : want);
        held &= CHECK_EQ_INT(res.faults, faults);
        if (!held)
          FAIL("in decoder %s, slices of %zu, repair %d", decoders[d].name, slices[s], repair);
      }
}

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)
#define NEXT   "MAIL FROM:<eve@example.org>\r\nQUIT\r\n"

/* A row of which the whole input is one message that ends with CRLF.CRLF. */
#define ROW(NAME, IN, OUT, REPAIRED, FAULTS)                                \
  TEST(NAME)                                                                \
  {                                                                         \
    check_row(LIT(IN), LIT(""), LIT(OUT), LIT(REPAIRED), FAULTS);           \
    check_row(LIT(IN), LIT(NEXT), LIT(OUT), LIT(REPAIRED), FAULTS);         \
    check_row(LIT(IN), LIT(".\r\n.\r\n"), LIT(OUT), LIT(REPAIRED), FAULTS); \
  }

/* A sequence that must not end the data: behind it stands what an attacker wants to be read as commands, then the true end. */
#define NOT_END(NAME, SEQUENCE, OUT, REPAIRED, FAULTS) \
  ROW(NAME, "one" SEQUENCE NEXT ".\r\n", "one" OUT NEXT, "one" REPAIRED NEXT, FAULTS)

ROW(crlf_dot_crlf_is_the_end, "one\r\n.\r\n", "one\r\n", "one\r\n", 0)
NOT_END(lf_dot_lf_is_not_the_end, "\n.\n", "\n.\n", "\r\n.\r\n", MP_DATA_BARE_LF)
NOT_END(cr_dot_cr_is_not_the_end, "\r.\r", "\r.\r", "\r\n.\r\n", MP_DATA_BARE_CR)
NOT_END(cr_dot_lf_is_not_the_end, "\r.\n", "\r.\n", "\r\n.\r\n", MP_DATA_BARE_CR | MP_DATA_BARE_LF)
NOT_END(lf_dot_cr_is_not_the_end, "\n.\r", "\n.\r", "\r\n.\r\n", MP_DATA_BARE_CR | MP_DATA_BARE_LF)
NOT_END(lf_dot_crlf_is_not_the_end, "\n.\r\n", "\n.\r\n", "\r\n.\r\n", MP_DATA_BARE_LF)
NOT_END(crlf_dot_lf_is_not_the_end, "\r\n.\n", "\r\n\n", "\r\n\r\n", MP_DATA_BARE_LF)
NOT_END(cr_dot_crlf_is_not_the_end, "\r.\r\n", "\r.\r\n", "\r\n.\r\n", MP_DATA_BARE_CR)
NOT_END(crlf_dot_cr_is_not_the_end, "\r\n.\r", "\r\n\r", "\r\n\r\n", MP_DATA_BARE_CR)
NOT_END(crlf_nul_dot_crlf_is_not_the_end, "\r\n\0.\r\n", "\r\n\0.\r\n", "\r\n\0.\r\n", MP_DATA_NUL)
NOT_END(crlf_dot_nul_crlf_is_not_the_end, "\r\n.\0\r\n", "\r\n\0\r\n", "\r\n\0\r\n", MP_DATA_NUL)
NOT_END(crlf_dot_cr_crlf_is_not_the_end, "\r\n.\r\r\n", "\r\n\r\r\n", "\r\n\r\n\r\n", MP_DATA_BARE_CR)
NOT_END(crlf_dot_space_crlf_is_not_the_end, "\r\n. \r\n", "\r\n \r\n", "\r\n \r\n", 0)

/* The same at the very start, where no octet stands before. */
ROW(a_first_dot_line_is_an_empty_message, ".\r\n", "", "", 0)
ROW(two_first_dots_are_a_dot, "..\r\n.\r\n", ".\r\n", ".\r\n", 0)
ROW(a_first_dot_before_a_letter_is_dropped, ".x\r\n.\r\n", "x\r\n", "x\r\n", 0)
ROW(a_first_dot_lf_is_not_the_end, ".\n" NEXT ".\r\n", "\n" NEXT, "\r\n" NEXT, MP_DATA_BARE_LF)
ROW(a_first_dot_cr_is_not_the_end, ".\r" NEXT ".\r\n", "\r" NEXT, "\r\n" NEXT, MP_DATA_BARE_CR)
ROW(a_first_lf_is_bare, "\n.\r\n" NEXT ".\r\n", "\n.\r\n" NEXT, "\r\n.\r\n" NEXT, MP_DATA_BARE_LF)
ROW(a_first_crlf_is_a_line, "\r\n.\r\n", "\r\n", "\r\n", 0)
ROW(a_first_cr_is_bare, "\r\r\n.\r\n", "\r\r\n", "\r\n\r\n", MP_DATA_BARE_CR)

ROW(stuffed_dots_are_removed_once, "a\r\n..b\r\n...\r\n....c\r\n.\r\n", "a\r\n.b\r\n..\r\n...c\r\n",
    "a\r\n.b\r\n..\r\n...c\r\n", 0)
ROW(dots_inside_lines_stay, "a.b\r\nc..\r\n .d\r\n.\r\n", "a.b\r\nc..\r\n .d\r\n", "a.b\r\nc..\r\n .d\r\n", 0)
ROW(a_dot_behind_bare_lf_is_not_unstuffed, "a\n..b\r\n.\r\n", "a\n..b\r\n", "a\r\n..b\r\n", MP_DATA_BARE_LF)
ROW(a_dot_behind_bare_cr_is_not_unstuffed, "a\r..b\r\n.\r\n", "a\r..b\r\n", "a\r\n..b\r\n", MP_DATA_BARE_CR)
ROW(runs_of_cr_are_bare_but_the_last, "a\r\r\r\nb\r\n.\r\n", "a\r\r\r\nb\r\n", "a\r\n\r\n\r\nb\r\n",
    MP_DATA_BARE_CR)
ROW(runs_of_lf_are_bare_but_the_first, "a\r\n\n\nb\r\n.\r\n", "a\r\n\n\nb\r\n", "a\r\n\r\n\r\nb\r\n",
    MP_DATA_BARE_LF)
ROW(a_dot_line_cr_then_end, "a\r\n.\r\r\n.\r\n", "a\r\n\r\r\n", "a\r\n\r\n\r\n", MP_DATA_BARE_CR)
ROW(a_stuffed_dot_line_is_not_the_end, "a\r\n..\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", "a\r\n.\r\nb\r\n", 0)
ROW(octets_above_127_are_a_fact, "caf\303\251\r\n.\r\n", "caf\303\251\r\n", "caf\303\251\r\n", MP_DATA_8BIT)
ROW(octet_128_is_seen, "a\200b\r\n.\r\n", "a\200b\r\n", "a\200b\r\n", MP_DATA_8BIT)
ROW(nul_is_seen, "a\0b\r\n.\r\n", "a\0b\r\n", "a\0b\r\n", MP_DATA_NUL)

TEST(what_stands_behind_the_end_leaves_no_fault)
{
  static result res;
  for (size_t d = 0; d < DECODERS; d++)
    for (size_t s = 0; s < SLICES; s++) {
      decode(&decoders[d], &res, LIT("a\r\n.\r\nb\n\0\200\r.\r\n"), slices[s], false, false, 0);
      CHECK(res.ended);
      CHECK_EQ_INT(res.faults, 0);
      CHECK_STR(output(&res), "a\r\n");
    }
}

TEST(nothing_is_taken_behind_the_end)
{
  for (size_t d = 0; d < DECODERS; d++) {
    mp_data data;
    size_t taken = 7;
    mp_str run;
    decoders[d].init(&data, false, false, 0);
    CHECK_EQ_INT(decoders[d].next(&data, LIT(".\r\nQUIT\r\n"), &taken, &run), 2);
    CHECK_EQ_INT(taken, 3);
    CHECK_EQ_INT(decoders[d].next(&data, LIT("QUIT\r\n"), &taken, &run), 2);
    CHECK_EQ_INT(taken, 0);
    CHECK_EQ_INT(decoders[d].next(&data, MP_STR_NULL, &taken, &run), 2);
    CHECK_EQ_INT(taken, 0);
  }
}

TEST(a_body_that_stops_anywhere_has_not_ended)
{
  static result res;
  mp_str whole = LIT("one\r\n..two\r\n.\r\n");
  for (size_t d = 0; d < DECODERS; d++)
    for (size_t n = 0; n < whole.len; n++)
      for (size_t s = 0; s < SLICES; s++) {
        decode(&decoders[d], &res, mp_str_sub(whole, 0, n), slices[s], false, true, 0);
        CHECK(!res.ended);
        CHECK_EQ_INT(res.taken, n);
      }
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

static size_t fill_lines(char *p, size_t lines)
{
  size_t n = 0;
  for (size_t i = 0; i < lines; i++) {
    memset(p + n, 'a' + (int)(i % 26), 76);
    memcpy(p + n + 76, "\r\n", 2);
    n += 78;
  }
  return n;
}

TEST(a_clean_segment_is_one_borrowed_run)
{
  static char in[200 * 78 + 64];
  size_t n = fill_lines(in, 200);
  memcpy(in + n, ".\r\n" NEXT, sizeof(".\r\n" NEXT) - 1);
  for (size_t d = 0; d < DECODERS; d++) {
    mp_data data;
    size_t taken;
    mp_str run, all = mp_str_of(in, n + 10);
    decoders[d].init(&data, false, false, 998);
    CHECK_EQ_INT(decoders[d].next(&data, all, &taken, &run), 1);
    CHECK(run.ptr == in);
    CHECK_EQ_INT(run.len, n);
    CHECK_EQ_INT(taken, n);
    CHECK_EQ_INT(decoders[d].next(&data, mp_str_sub(all, taken, all.len), &taken, &run), 2);
    CHECK_EQ_INT(taken, 3);
    CHECK_EQ_INT(data.faults, 0);
    CHECK_EQ_INT(data.size, n);
  }
}

TEST(a_cr_at_the_end_of_a_segment_is_given_out_with_it)
{
  for (size_t d = 0; d < DECODERS; d++) {
    mp_data data;
    size_t taken;
    mp_str run, first = LIT("abc\r"), second = LIT("\ndef\r\n");
    decoders[d].init(&data, false, true, 0);
    CHECK_EQ_INT(decoders[d].next(&data, first, &taken, &run), 1);
    CHECK(run.ptr == first.ptr && run.len == 4);
    CHECK_EQ_INT(decoders[d].next(&data, MP_STR_NULL, &taken, &run), 0);
    CHECK_EQ_INT(decoders[d].next(&data, second, &taken, &run), 1);
    CHECK(run.ptr == second.ptr && run.len == second.len);
    CHECK_EQ_INT(data.faults, 0);
  }
}

TEST(a_stuffed_dot_and_a_repair_stop_a_run_and_nothing_else_does)
{
  static result res;
  for (size_t d = 0; d < DECODERS; d++) {
    decode(&decoders[d], &res, LIT("a\r\n..b\r\nc\nd\r\n\200\0e"), SIZE_MAX, false, false, 0);
    CHECK_EQ_INT(res.runs, 2);
    decode(&decoders[d], &res, LIT("a\r\nc\nd\r\ne"), SIZE_MAX, false, true, 0);
    CHECK_EQ_INT(res.runs, 3);
    decode(&decoders[d], &res, LIT("a\rb"), SIZE_MAX, false, true, 0);
    CHECK_EQ_INT(res.runs, 3);
    CHECK_STR(output(&res), "a\r\nb");
  }
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

TEST(a_line_over_the_limit_is_noted_and_one_at_it_is_not)
{
  static const size_t limits[] = { 1, 5, 63, 64, 65, 127, 128, 200, 998, 2000 };
  static const char *const ends[] = { "\r\n", "\n", "\r" };
  static char in[8192];
  static result res;
  for (size_t l = 0; l < sizeof limits / sizeof *limits; l++)
    for (size_t over = 0; over <= 1; over++)
      for (size_t before = 0; before < 130; before += 13)
        for (size_t e = 0; e < 3; e++)
          for (int dot = 0; dot <= 1; dot++) {
            size_t n = 0, longest = limits[l] + over;
            for (size_t k = 0; k < before; k++, n += 3)
              memcpy(in + n, "x\r\n", 3);
            if (dot) /* a stuffed dot does not count */
              in[n++] = '.';
            memset(in + n, 'y', longest);
            n += longest;
            memcpy(in + n, ends[e], strlen(ends[e]));
            n += strlen(ends[e]);
            memcpy(in + n, "z\r\n.\r\n", 6);
            n += 6;
            for (size_t d = 0; d < DECODERS; d++)
              for (size_t s = 0; s < SLICES; s += 2) {
                decode(&decoders[d], &res, mp_str_of(in, n), slices[s], false, false, limits[l]);
                if ((res.faults & MP_DATA_LONG_LINE ? 1 : 0) != (int)over)
                  FAIL("decoder %s, limit %zu, line of %zu behind %zu lines, slices of %zu", decoders[d].name,
                       limits[l], longest, before, slices[s]);
              }
          }
}

TEST(a_line_without_an_end_is_noted_when_it_passes_the_limit)
{
  static char in[1000];
  memset(in, 'a', sizeof in);
  for (size_t d = 0; d < DECODERS; d++) {
    mp_data data;
    size_t taken;
    mp_str run;
    decoders[d].init(&data, false, false, 998);
    CHECK_EQ_INT(decoders[d].next(&data, mp_str_of(in, 998), &taken, &run), 1);
    CHECK_EQ_INT(data.faults, 0);
    CHECK_EQ_INT(decoders[d].next(&data, LIT("\r"), &taken, &run), 1);
    CHECK_EQ_INT(data.faults, 0);
    CHECK_EQ_INT(decoders[d].next(&data, LIT("\n"), &taken, &run), 1);
    CHECK_EQ_INT(decoders[d].next(&data, mp_str_of(in, 999), &taken, &run), 1);
    CHECK_EQ_INT(data.faults, MP_DATA_LONG_LINE);
  }
}

/* ---- raw: BDAT --------------------------------------------------------------------------------------------------- */

static void check_raw(mp_str in, mp_str want, mp_str repaired, unsigned faults)
{
  static result res;
  for (size_t d = 0; d < DECODERS; d++)
    for (size_t s = 0; s < SLICES; s++)
      for (int repair = 0; repair <= 1; repair++) {
        decode(&decoders[d], &res, in, slices[s], true, repair, 0);
        CHECK(!res.ended);
        CHECK_EQ_INT(res.taken, in.len);
        CHECK_EQ_STR(output(&res), repair ? repaired : want);
        CHECK_EQ_INT(res.faults, faults);
      }
}

TEST(raw_dots_are_octets_like_others)
{
  check_raw(LIT(".\r\n..\r\n.\r\nQUIT\r\n"), LIT(".\r\n..\r\n.\r\nQUIT\r\n"), LIT(".\r\n..\r\n.\r\nQUIT\r\n"), 0);
}

TEST(raw_bare_cr_and_lf_are_noted_and_repaired)
{
  check_raw(LIT("a\nb\rc\r\n"), LIT("a\nb\rc\r\n"), LIT("a\r\nb\r\nc\r\n"), MP_DATA_BARE_CR | MP_DATA_BARE_LF);
}

TEST(raw_cr_as_last_octet_is_bare)
{
  check_raw(LIT("a\r"), LIT("a\r"), LIT("a\r\n"), MP_DATA_BARE_CR);
}

TEST(raw_may_end_without_crlf)
{
  check_raw(LIT("a\r\nb"), LIT("a\r\nb"), LIT("a\r\nb"), 0);
  check_raw(LIT(""), LIT(""), LIT(""), 0);
}

/* ---- all against the model --------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* Made of pieces that matter, between plain octets in runs of up to `plain`. */
static size_t make_body(char *p, size_t most, unsigned plain, uint64_t *rnd)
{
  static const char *const pieces[] = { "\r\n", "\r\n",    "\r\n.",   "\r\n..",  ".",   "\r",
                                        "\n",   "\r\n.\r", "\r\n.\n", "\n.\r\n", "\200" };
  size_t n = 0;
  while (n + plain + 8 < most) {
    uint64_t pick = next_random(rnd) % 16;
    if (pick == 15 && next_random(rnd) % 4 == 0) {
      p[n++] = '\0';
    } else if (pick < sizeof pieces / sizeof *pieces && (plain < 20 || pick < 4 || next_random(rnd) % 8 == 0)) {
      memcpy(p + n, pieces[pick], strlen(pieces[pick]));
      n += strlen(pieces[pick]);
    } else {
      size_t run = next_random(rnd) % (plain + 1);
      memset(p + n, 'p', run);
      n += run;
    }
    if (next_random(rnd) % (most / 8) == 0)
      break;
  }
  return n;
}

TEST(made_up_bodies_are_decoded_as_the_model_does)
{
  static const size_t limits[] = { 0, 3, 20, 64, 70, 150, 998 };
  static char in[2100];
  static result want, got;
  uint64_t rnd = UINT64_C(0x9e3779b97f4a7c15);
  for (int round = 0; round < 6000; round++) {
    unsigned plain = round % 3 == 0 ? 3 : round % 3 == 1 ? 30 : 300;
    size_t n = make_body(in, plain == 3 ? 200 : 2000, plain, &rnd);
    size_t limit = limits[next_random(&rnd) % (sizeof limits / sizeof *limits)];
    bool raw = next_random(&rnd) % 4 == 0, repair = next_random(&rnd) % 2;
    if (!raw) {
      memcpy(in + n, "\r\n.\r\nQUIT\r\n", 11);
      n += 11;
    }
    mp_str body = mp_str_of(in, n);
    model(&want, body, raw, repair, limit);
    for (size_t d = 0; d < DECODERS; d++) {
      size_t slice = round % 5 == 0 ? SIZE_MAX : 1 + next_random(&rnd) % (round % 2 ? 7 : 200);
      decode(&decoders[d], &got, body, slice, raw, repair, limit);
      bool held = CHECK_EQ_INT(got.ended, want.ended);
      held &= CHECK_EQ_INT(got.taken, want.taken);
      held &= CHECK_EQ_INT(got.faults, want.faults);
      held &= CHECK_EQ_STR(output(&got), output(&want));
      if (!held) {
        static char quoted[20000];
        FAIL("round %d, decoder %s, slice %zu, raw %d, repair %d, limit %zu: \"%s\"", round, decoders[d].name,
             slice, raw, repair, limit, check_quote(body, quoted, sizeof quoted));
        return;
      }
    }
  }
}

CHECK_MAIN
