/* Replies as they come from a server: fed whole and in slices, with the octets of the next one behind them. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/reply_read.h"

static const size_t slices[] = { 1, 2, 3, 64, 1 << 20 };
#define FOR_EACH_SLICE(S) \
  for (size_t i_ = 0, S = slices[0]; i_ < sizeof slices / sizeof *slices; i_++, S = i_ < 5 ? slices[i_] : 0)

typedef struct heard {
  int rc;
  mp_reply reply;
  char text[2 * MP_READER_TEXT];
  size_t taken;
} heard;

/* Feeds until there is a reply or an error. */
static void hear(heard *h, mp_reader *reader, mp_str in, size_t slice)
{
  *h = (heard){ .rc = 0 };
  while (h->rc == 0 && h->taken < in.len) {
    size_t len = slice < in.len - h->taken ? slice : in.len - h->taken, taken;
    char *copy = malloc(len);
    memcpy(copy, in.ptr + h->taken, len);
    h->rc = mp_reader_next(reader, mp_str_of(copy, len), &taken, &h->reply);
    if (h->rc == 1 && h->reply.text.len)
      memcpy(h->text, h->reply.text.ptr, h->reply.text.len);
    CHECK(h->rc < 0 || taken <= len);
    CHECK(h->rc != 0 || taken == len);
    free(copy);
    h->taken += taken;
  }
  h->reply.text.ptr = h->text;
}

#define HEAR(IN)                 \
  heard h;                       \
  mp_reader reader;              \
  mp_reader_init(&reader, NULL); \
  hear(&h, &reader, MP_STR("" IN "250 "), slice)

TEST(a_line)
{
  FOR_EACH_SLICE(slice)
  {
    HEAR("250 2.1.5 Recipient ok\r\n");
    CHECK_EQ_INT(h.rc, 1);
    CHECK_EQ_INT(h.reply.code, 250);
    CHECK_EQ_INT(h.reply.enhanced[0] * 100 + h.reply.enhanced[1] * 10 + h.reply.enhanced[2], 215);
    CHECK_STR(h.reply.text, "Recipient ok");
    CHECK_EQ_INT(h.taken, 24);
    CHECK(!mp_reader_begun(&reader));
    mp_reader_dispose(&reader);
  }
}

TEST(lines_and_what_stands_in_them)
{
  const struct {
    mp_str in;
    int code, enhanced; /* 10 * class + subject, 0 = none */
    mp_str text;
  } rows[] = {
    { MP_STR("250-one\r\n250-2.0.0 two\r\n250 three\r\n"), 250, 0, MP_STR("one\n2.0.0 two\nthree") },
    { MP_STR("550-5.1.1 one\r\n550 5.1.1 two\r\n"), 550, 51, MP_STR("one\ntwo") },
    { MP_STR("550-5.1.1 one\r\n550 5.1.2 two\r\n"), 550, 51, MP_STR("one\n5.1.2 two") },
    { MP_STR("250\r\n"), 250, 0, MP_STR("") },
    { MP_STR("250 \r\n"), 250, 0, MP_STR("") },
    { MP_STR("354-\r\n354 \r\n"), 354, 0, MP_STR("\n") },
    { MP_STR("250 2.0.0\r\n"), 250, 20, MP_STR("") },
    { MP_STR("550 2.1.5 of another class\r\n"), 550, 0, MP_STR("2.1.5 of another class") },
    { MP_STR("250 bare LF\n"), 250, 0, MP_STR("bare LF") },
    { MP_STR("250 a\tb\033[2Jc\0d\x7f\r\n"), 250, 0, MP_STR("a b?[2Jc?d?") },
    { MP_STR("250 gr\xc3\xbcn \xc2\x9b\r\n"), 250, 0, MP_STR("gr\xc3\xbcn ??") },
    { MP_STR("250 gr\xfcn\r\n"), 250, 0, MP_STR("gr?n") },
    { MP_STR("250 lone\rCR\r\n"), 250, 0, MP_STR("lone?CR") },
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_reader reader;
    heard h;
    mp_reader_init(&reader, NULL);
    hear(&h, &reader, rows[i].in, slice);
    CHECK_EQ_INT(h.rc, 1);
    CHECK_EQ_INT(h.reply.code, rows[i].code);
    CHECK_EQ_INT(h.reply.enhanced[0] * 10 + h.reply.enhanced[1], rows[i].enhanced);
    CHECK_EQ_STR(h.reply.text, rows[i].text);
    CHECK(!mp_reply_check(&h.reply));
    mp_reader_dispose(&reader);
  }
}

TEST(what_is_no_reply)
{
  static const char *const rows[] = {
    "\r\n",     "2\r\n",       "hello\r\n",   "25 ok\r\n",          "150 no\r\n",    "650 no\r\n",
    "250x\r\n", "250\tok\r\n", " 250 ok\r\n", "250-a\r\n251 b\r\n", "250-a\r\n\r\n", "250-a\r\nb\r\n"
  };
  FOR_EACH_SLICE(slice)
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_reader reader;
    heard h;
    mp_reader_init(&reader, NULL);
    hear(&h, &reader, mp_str_c(rows[i]), slice);
    CHECK_EQ_INT(h.rc, MP_E_SYNTAX);
    mp_reader_dispose(&reader);
  }
}

TEST(bounds_of_a_reply)
{
  static char long_line[MP_READER_LINE + 10], many[MP_READER_LINES * 8 + 100], big[MP_READER_OCTETS + 2000];
  memset(long_line, 'a', sizeof long_line);
  memcpy(long_line, "250 ", 4);
  for (size_t i = 0; i < sizeof many; i++)
    many[i] = "250-ab\r\n"[i % 8];
  for (size_t i = 0; i < sizeof big; i++)
    big[i] = i % 1000 < 4 ? "250-"[i % 1000] : i % 1000 == 999 ? '\n' : 'a';
  FOR_EACH_SLICE(slice)
  {
    const mp_str rows[] = { { long_line, sizeof long_line }, { many, sizeof many }, { big, sizeof big } };
    for (size_t i = 0; i < 3; i++) {
      mp_reader reader;
      heard h;
      mp_reader_init(&reader, NULL);
      hear(&h, &reader, rows[i], slice);
      CHECK_EQ_INT(h.rc, MP_E_TOOLONG);
      CHECK(reader.held.cap <= 2 * MP_READER_LINE && reader.text.len <= MP_READER_TEXT);
      mp_reader_dispose(&reader);
    }
    mp_reader reader;
    heard h;
    mp_reader_init(&reader, NULL);
    memcpy(big + 20000, "250 end\r\n", 9);
    hear(&h, &reader, mp_str_of(big, 20009), slice);
    CHECK_EQ_INT(h.rc, 1);
    CHECK_EQ_INT(h.reply.text.len, MP_READER_TEXT);
    CHECK(!mp_reply_check(&h.reply));
    mp_reader_dispose(&reader);
    memcpy(big + 20000, "250-aaaaa", 9);
  }
}

TEST(a_reader_goes_on_behind_a_reply)
{
  FOR_EACH_SLICE(slice)
  {
    mp_reader reader;
    mp_reader_init(&reader, NULL);
    mp_str in = MP_STR("250-a\r\n250 b\r\n354 go\r\n");
    heard h;
    hear(&h, &reader, in, slice);
    CHECK_STR(h.reply.text, "a\nb");
    hear(&h, &reader, mp_str_sub(in, h.taken, in.len), slice);
    CHECK_EQ_INT(h.reply.code, 354);
    mp_reader_dispose(&reader);
  }
}

TEST(memory_that_runs_out)
{
  FOR_EACH_ALLOC_FAILURE {
    heard h;
    mp_reader reader;
    mp_reader_init(&reader, NULL);
    hear(&h, &reader, MP_STR("250-one\r\n250-\x01two\r\n250 three\r\n"), 3);
    CHECK_EQ_INT(h.rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 1);
    mp_reader_dispose(&reader);
  }
}

CHECK_MAIN
