/* Replies as values, and what is written of them. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/reply.h"

static mp_reply reply_of(int code, const char *enhanced, mp_str text)
{
  mp_reply reply = { .code = code, .text = text };
  if (*enhanced)
    CHECK(mp_reply_enhanced_parse(mp_str_c(enhanced), reply.enhanced));
  return reply;
}

static void check_written(int code, const char *enhanced, mp_str text, bool with, bool utf8, const char *want)
{
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  mp_reply reply = reply_of(code, enhanced, text);
  CHECK(mp_reply_check(&reply) == NULL);
  CHECK_EQ_INT(mp_reply_write(&out, &reply, with, utf8), 0);
  CHECK_EQ_STR(mp_buf_view(&out), mp_str_c(want));
  mp_buf_dispose(&out);
}

TEST(one_line)
{
  check_written(250, "2.1.0", MP_STR("Ok"), true, false, "250 2.1.0 Ok\r\n");
  check_written(250, "2.1.0", MP_STR("Ok"), false, false, "250 Ok\r\n");
  check_written(354, "", MP_STR("Go ahead"), true, false, "354 Go ahead\r\n");
  check_written(550, "5.123.45", MP_STR("No"), true, false, "550 5.123.45 No\r\n");
}

TEST(no_text)
{
  check_written(250, "", MP_STR(""), true, false, "250 \r\n");
  check_written(250, "2.0.0", MP_STR(""), true, false, "250 2.0.0\r\n");
}

TEST(the_enhanced_code_stands_on_every_line)
{
  check_written(550, "5.7.1", MP_STR("One\nTwo\nThree"), true, false,
                "550-5.7.1 One\r\n550-5.7.1 Two\r\n550 5.7.1 Three\r\n");
  check_written(250, "", MP_STR("mx\nPIPELINING\n"), true, false, "250-mx\r\n250-PIPELINING\r\n250 \r\n");
}

TEST(octets_outside_ascii_need_smtputf8)
{
  check_written(550, "", MP_STR("caf\303\251"), true, true, "550 caf\303\251\r\n");
  check_written(550, "", MP_STR("caf\303\251"), true, false, "550 caf??\r\n");
}

/* Every line at most 512 octets with CRLF, code as told, and the words in order. */
TEST(long_text_goes_on_in_the_next_line)
{
  static char text[8192];
  size_t n = 0;
  for (int word = 0; n + 12 < sizeof text; word++)
    n += (size_t)snprintf(text + n, sizeof text - n, "%sw%d", word ? " " : "", word);
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  mp_reply reply = reply_of(550, "5.7.1", mp_str_of(text, n));
  CHECK_EQ_INT(mp_reply_write(&out, &reply, true, false), 0);
  mp_str rest = mp_buf_view(&out);
  size_t seen = 0;
  while (rest.len) {
    mp_ssize lf = mp_str_find(rest, '\n', 0);
    REQUIRE(lf > 10 && lf < 512);
    bool last = (size_t)lf + 1 == rest.len;
    mp_str head = mp_str_sub(rest, 0, 10), line = mp_str_sub(rest, 10, (size_t)lf - 11);
    CHECK_EQ_STR(head, last ? MP_STR("550 5.7.1 ") : MP_STR("550-5.7.1 "));
    CHECK_EQ_STR(line, mp_str_sub(mp_str_of(text, n), seen, line.len));
    seen += line.len + !last;
    rest = mp_str_sub(rest, (size_t)lf + 1, rest.len);
  }
  CHECK_EQ_INT(seen, n);
  mp_buf_dispose(&out);
}

TEST(a_word_without_end_is_cut_between_characters)
{
  static char text[2000];
  for (size_t i = 0; i + 3 <= sizeof text; i += 3)
    memcpy(text + i, "\342\202\254", 3);
  for (size_t shift = 0; shift < 3; shift++) {
    memset(text, 'x', shift);
    for (size_t i = shift; i + 3 <= sizeof text; i += 3)
      memcpy(text + i, "\342\202\254", 3);
    mp_buf out;
    mp_buf_init(&out, 65536, NULL);
    mp_reply reply = { .code = 550, .text = mp_str_of(text, shift + (sizeof text - shift) / 3 * 3) };
    CHECK_EQ_INT(mp_reply_write(&out, &reply, false, true), 0);
    mp_str rest = mp_buf_view(&out);
    while (rest.len) {
      mp_ssize lf = mp_str_find(rest, '\n', 0);
      REQUIRE(lf >= 0 && lf < 512);
      CHECK(mp_str_utf8(mp_str_sub(rest, 0, (size_t)lf)));
      rest = mp_str_sub(rest, (size_t)lf + 1, rest.len);
    }
    mp_buf_dispose(&out);
  }
}

TEST(a_line_that_just_fits_is_not_broken)
{
  char text[510];
  memset(text, 'a', sizeof text);
  mp_buf out;
  mp_buf_init(&out, 4096, NULL);
  mp_reply reply = { .code = 250, .text = mp_str_of(text, 506) };
  CHECK_EQ_INT(mp_reply_write(&out, &reply, true, true), 0);
  CHECK_EQ_INT(out.len, 512);
  mp_buf_cut(&out, 0);
  reply.text.len = 507;
  CHECK_EQ_INT(mp_reply_write(&out, &reply, true, true), 0);
  CHECK_EQ_INT(out.len, 512 + 4 + 1 + 2);
  mp_buf_dispose(&out);
}

TEST(a_space_at_the_break_and_lf_behind_it_make_one_line_end)
{
  char text[600];
  memset(text, 'a', sizeof text);
  text[506] = ' ';
  text[507] = '\n';
  text[508] = 'b';
  mp_buf out;
  mp_buf_init(&out, 4096, NULL);
  mp_reply reply = { .code = 250, .text = mp_str_of(text, 509) };
  CHECK_EQ_INT(mp_reply_write(&out, &reply, true, true), 0);
  CHECK_EQ_INT(out.len, 512 + 7);
  CHECK_EQ_STR(mp_str_sub(mp_buf_view(&out), 512, 7), MP_STR("250 b\r\n"));
  mp_buf_dispose(&out);
}

TEST(a_reply_that_does_not_fit_leaves_nothing)
{
  mp_buf out;
  mp_buf_init(&out, 30, NULL);
  mp_buf_str(&out, MP_STR("before"));
  mp_reply reply = MP_REPLY(250, 2, 0, 0, "One\nTwo\nThree");
  CHECK_EQ_INT(mp_reply_write(&out, &reply, true, true), MP_E_FULL);
  CHECK_STR(mp_buf_view(&out), "before");
  mp_buf_dispose(&out);
}

TEST(without_memory_nothing_is_written)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_buf out;
    mp_buf_init(&out, 65536, NULL);
    mp_reply reply = MP_REPLY(
        250, 2, 0, 0, "One\nTwo\nThree\nFour, which needs a second block because it is long enough for that");
    int rc = mp_reply_write(&out, &reply, true, true);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    if (rc < 0)
      CHECK_EQ_INT(out.len, 0);
    mp_buf_dispose(&out);
  }
}

static void check_refused(int code, unsigned short a, unsigned short b, unsigned short c, mp_str text)
{
  mp_reply reply = { .code = code, .enhanced = { a, b, c }, .text = text };
  if (!mp_reply_check(&reply))
    FAIL("%d %d.%d.%d is let pass", code, a, b, c);
}

TEST(check_refuses_codes_out_of_range)
{
  check_refused(199, 0, 0, 0, MP_STR("x"));
  check_refused(600, 0, 0, 0, MP_STR("x"));
  check_refused(0, 0, 0, 0, MP_STR("x"));
  check_refused(-250, 0, 0, 0, MP_STR("x"));
}

TEST(check_refuses_an_enhanced_code_of_another_class)
{
  check_refused(250, 5, 0, 0, MP_STR("x"));
  check_refused(550, 4, 1, 1, MP_STR("x"));
  check_refused(354, 3, 0, 0, MP_STR("x"));
  check_refused(354, 2, 0, 0, MP_STR("x"));
  check_refused(550, 0, 1, 1, MP_STR("x"));
  check_refused(550, 5, 1000, 1, MP_STR("x"));
  check_refused(550, 5, 1, 1000, MP_STR("x"));
}

TEST(check_refuses_control_characters_and_what_is_not_utf8)
{
  check_refused(550, 0, 0, 0, MP_STR("a\rb"));
  check_refused(550, 0, 0, 0, MP_STR("a\r\n250 Ok"));
  check_refused(550, 0, 0, 0, MP_STR("a\0b"));
  check_refused(550, 0, 0, 0, MP_STR("a\tb"));
  check_refused(550, 0, 0, 0, MP_STR("a\033[2Jb"));
  check_refused(550, 0, 0, 0, MP_STR("a\177b"));
  check_refused(550, 0, 0, 0, MP_STR("a\302\205b"));
  check_refused(550, 0, 0, 0, MP_STR("a\377b"));
  check_refused(550, 0, 0, 0, MP_STR("first\nsecond\302"));
}

TEST(check_refuses_text_over_8_kb)
{
  static char text[8193];
  memset(text, 'a', sizeof text);
  check_refused(250, 0, 0, 0, mp_str_of(text, 8193));
  mp_reply reply = { .code = 250, .text = mp_str_of(text, 8192) };
  CHECK(!mp_reply_check(&reply));
}

TEST(enhanced_codes_are_read)
{
  unsigned short e[3];
  CHECK(mp_reply_enhanced_parse(MP_STR("5.7.1"), e) && e[0] == 5 && e[1] == 7 && e[2] == 1);
  CHECK(mp_reply_enhanced_parse(MP_STR("2.0.0"), e) && e[0] == 2 && e[1] == 0 && e[2] == 0);
  CHECK(mp_reply_enhanced_parse(MP_STR("4.999.999"), e) && e[1] == 999 && e[2] == 999);
  static const char *const bad[] = { "",       "5",        "5.7",      "5.7.",    ".7.1",
                                     "5..1",   "1.0.0",    "3.0.0",    "6.0.0",   "0.0.0",
                                     "52.0.0", "5.1000.0", "5.0.1000", "5.7.1.2", "5.7.1 ",
                                     " 5.7.1", "5.-7.1",   "5.07.1",   "5,7,1",   "a.b.c" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_reply_enhanced_parse(mp_str_c(bad[i]), e))
      FAIL("\"%s\" is read", bad[i]);
  CHECK(e[0] == 4 && e[1] == 999); /* what cannot be read changes nothing */
}

CHECK_MAIN
