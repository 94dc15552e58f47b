/* Registrable domains, by the list that comes with the library and by files. */
#include "support/check.h"

#include "base/error.h"
#include "mail/psl.h"

#include <unistd.h>

static char out[MP_PSL_NAME];

static mp_str of(const mp_psl *list, const char *name)
{
  mp_ssize len = mp_psl_registrable(list, mp_str_c(name), out);
  CHECK(len >= 0);
  return mp_str_of(out, len > 0 ? (size_t)len : 0);
}

/* A list of a file with this text; its name is in `path`. */
static int from_text(mp_psl **list, const char *text, char path[32])
{
  strcpy(path, "/tmp/test_psl.XXXXXX");
  int fd = mkstemp(path);
  size_t len = strlen(text);
  bool written = fd >= 0 && write(fd, text, len) == (ssize_t)len;
  close(fd);
  int rc = written ? mp_psl_new(list, path) : MP_E_SYSTEM;
  unlink(path);
  return rc;
}

TEST(the_list_of_the_system)
{
  mp_psl *list;
  REQUIRE(mp_psl_new(&list, NULL) == 0);
  CHECK_STR(of(list, "mail.example.com"), "example.com");
  CHECK_STR(of(list, "a.b.example.co.uk"), "example.co.uk");
  CHECK_STR(of(list, "EXAMPLE.Com."), "example.com");
  CHECK_STR(of(list, "com"), "");
  CHECK_STR(of(list, "co.uk"), "");
  CHECK_STR(of(list, "a.xn--85x722f.com.cn"), "xn--85x722f.com.cn");
  mp_psl_free(list);
}

TEST(what_is_no_name_has_none)
{
  mp_psl *list;
  REQUIRE(mp_psl_new(&list, NULL) == 0);
  static const char *const odd[] = {
    "",     ".",        "..",        ".com",      ".example.com", "a..example.com", "a b.example.com",
    "\x7f", "a.\n.com", "192.0.2.1", "example.1", "\xff.com"
  };
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
    CHECK_STR(of(list, odd[i]), "");
  char longest[2000];
  memset(longest, 'a', sizeof longest);
  memcpy(longest + sizeof longest - 12, ".example.com", 12);
  CHECK_EQ_INT(mp_psl_registrable(list, mp_str_of(longest, sizeof longest), out), 0);
  memset(longest, '.', sizeof longest);
  CHECK_EQ_INT(mp_psl_registrable(list, mp_str_of(longest, 1000), out), 0);
  CHECK_EQ_INT(mp_psl_registrable(list, mp_str_of("a\0.example.com", 14), out), 0);
  mp_psl_free(list);
}

TEST(a_file_takes_the_place_of_the_list)
{
  mp_psl *list;
  char path[32];
  REQUIRE(from_text(&list,
                    "// a comment\nexample\n*.wild.example\n!not.wild.example\n\xe5\x85\xac\xe5\x8f\xb8.cn\n",
                    path) == 0);
  CHECK_STR(of(list, "a.b.example"), "b.example");
  CHECK_STR(of(list, "a.b.c.wild.example"), "b.c.wild.example");
  CHECK_STR(of(list, "a.not.wild.example"), "not.wild.example");
  CHECK_STR(of(list, "a.\xe5\x85\xac\xe5\x8f\xb8.cn"), "a.\xe5\x85\xac\xe5\x8f\xb8.cn");
  CHECK_STR(of(list, "a.xn--55qx5d.cn"), "a.xn--55qx5d.cn");
  CHECK_STR(of(list, "a.b.unlisted"), "b.unlisted");
  mp_psl_free(list);
}

TEST(files_that_are_none)
{
  mp_psl *list;
  char path[32];
  CHECK_EQ_INT(from_text(&list, "", path), MP_E_SYNTAX);
  CHECK(!list);
  CHECK_EQ_INT(from_text(&list, "// nothing\n\n", path), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_psl_new(&list, "/nowhere/at/all"), MP_E_NOTFOUND);
  mp_psl_free(NULL);
}

TEST(without_memory_there_is_no_list)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_psl *list;
    int rc = mp_psl_new(&list, NULL);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_psl_free(list);
  }
}

CHECK_MAIN
