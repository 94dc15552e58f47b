/* A watched folder. */
#include "support/check.h"

#include "base/error.h"
#include "net/folder.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct seen {
  mp_folder *folder;
  int times;
  bool close;
} seen;

static void on_change(void *ctx)
{
  seen *s = ctx;
  s->times++;
  if (s->close)
    mp_folder_close(s->folder);
}

static void touch(const char *folder, const char *name)
{
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && write(fd, "x", 1) == 1);
  close(fd);
}

static void remove_file(const char *folder, const char *name)
{
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  CHECK_EQ_INT(unlink(path), 0);
}

TEST(what_is_made_and_removed_in_a_folder_and_its_own_end_are_told)
{
  char path[] = "/tmp/moonpost-folder-XXXXXX";
  mp_loop loop;
  REQUIRE(mkdtemp(path) && mp_loop_init(&loop) == 0);
  seen s = { 0 };
  CHECK_EQ_INT(mp_folder_open(&s.folder, &loop, path, on_change, &s), 0);
  CHECK(!mp_loop_turn(&loop, false)); /* it is no reason to wait */
  CHECK_EQ_INT(s.times, 0);
  touch(path, "a");
  mp_loop_turn(&loop, false);
  CHECK(s.times > 0);
  s.times = 0;
  remove_file(path, "a");
  mp_loop_turn(&loop, false);
  CHECK(s.times > 0);
  s.times = 0;
  CHECK_EQ_INT(rmdir(path), 0);
  mp_loop_turn(&loop, false);
  CHECK(s.times > 0);
  mp_loop_dispose(&loop); /* closes it */
}

TEST(closing_from_inside_ends_the_calls)
{
  char path[] = "/tmp/moonpost-folder-XXXXXX";
  mp_loop loop;
  REQUIRE(mkdtemp(path) && mp_loop_init(&loop) == 0);
  seen s = { .close = true };
  CHECK_EQ_INT(mp_folder_open(&s.folder, &loop, path, on_change, &s), 0);
  touch(path, "a");
  touch(path, "b");
  mp_loop_turn(&loop, false);
  mp_loop_turn(&loop, false);
  CHECK_EQ_INT(s.times, 1);
  mp_folder_close(NULL);
  mp_loop_dispose(&loop);
  remove_file(path, "a");
  remove_file(path, "b");
  rmdir(path);
}

TEST(what_cannot_be_watched_is_an_error)
{
  mp_loop loop;
  seen s = { 0 };
  REQUIRE(mp_loop_init(&loop) == 0);
  CHECK_EQ_INT(mp_folder_open(&s.folder, &loop, "/nonexistent/folder", on_change, &s), MP_E_NOTFOUND);
  mp_mem_fail_after(0);
  CHECK_EQ_INT(mp_folder_open(&s.folder, &loop, "/tmp", on_change, &s), MP_E_NOMEM);
  mp_mem_fail_after(-1);
  mp_loop_dispose(&loop);
  REQUIRE(mp_loop_init_virtual(&loop, 0) == 0);
  CHECK_EQ_INT(mp_folder_open(&s.folder, &loop, "/tmp", on_change, &s), MP_E_MISUSE);
  mp_loop_dispose(&loop);
}

CHECK_MAIN
