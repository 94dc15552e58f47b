/* Two loops in two threads deliver into the same Maildir, the same mbox, and to programs, all at once: for the thread sanitizer. */
#include "support/outcome.h"

#include <pthread.h>

enum { WORKERS = 2, MESSAGES = 12, KINDS = 4 };

typedef struct worker {
  pthread_t thread;
  unsigned number;
  outcome outcomes[MESSAGES][KINDS];
} worker;

static char *big;
enum { BIG = 400000 };

static void deliver_all(post_office *office, mp_message *msg, worker *w, int i)
{
  mp_maildir_opts box = { .folder = temp_path("box"), .create = true, .host = "mx.example.org" };
  CHECK_EQ_INT(mp_deliver_maildir(&office->loop, msg, &box, note_outcome, &w->outcomes[i][0]), 0);
  mp_file_opts mbox = { .path = temp_path("folder/mbox"), .mbox = true, .create = true };
  CHECK_EQ_INT(mp_deliver_file(&office->loop, msg, &mbox, note_outcome, &w->outcomes[i][1]), 0);
  /* Both workers want the same name: one of them finds it taken. */
  mp_file_opts file = { .path = temp_path("files/%d", i), .create = true };
  CHECK_EQ_INT(mp_deliver_file(&office->loop, msg, &file, note_outcome, &w->outcomes[i][2]), 0);
  mp_pipe_opts pipe = { .args = (const char *const[]){ "wc", "-c", NULL }, .crlf = true };
  CHECK_EQ_INT(mp_deliver_pipe(&office->loop, msg, &pipe, note_outcome, &w->outcomes[i][3]), 0);
}

static void *work(void *ctx)
{
  worker *w = ctx;
  post_office office;
  office_open(&office, false);
  office.store.running_most = 4;
  uint64_t counter = 0;
  for (int i = 0; i < MESSAGES; i++) {
    int rc;
    /* Every other one is in a file. */
    mp_message *msg = message_make(&office, mp_str_of(big, i & 1 ? BIG : 1000), 1, &rc);
    if (!CHECK(msg != NULL))
      break;
    mp_message_id(msg->id, 1795387310000 + i, 1, w->number, &counter);
    deliver_all(&office, msg, w, i);
    mp_message_unref(msg);
  }
  while (mp_loop_turn(&office.loop, true))
    continue;
  office_close(&office);
  return NULL;
}

TEST(deliveries_of_several_loops_at_once)
{
  static worker workers[WORKERS];
  big = octets_make("Subject: x\r\n\r\n", BIG);
  for (unsigned i = 0; i < WORKERS; i++) {
    workers[i].number = i;
    REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
  }
  for (unsigned i = 0; i < WORKERS; i++)
    pthread_join(workers[i].thread, NULL);
  for (int i = 0; i < MESSAGES; i++) {
    int taken = 0;
    for (unsigned j = 0; j < WORKERS; j++) {
      for (int k = 0; k < KINDS; k++) {
        outcome *o = &workers[j].outcomes[i][k];
        CHECK_EQ_INT(o->told, 1);
        if (k == 2 && o->rc == MP_E_EXISTS)
          taken++;
        else if (o->rc != 0)
          FAIL("%s", o->why);
        if (k == 3)
          CHECK(atoi(o->output) > (i & 1 ? BIG : 1000));
        free(o->output);
      }
    }
    CHECK_EQ_INT(taken, WORKERS - 1);
  }
  CHECK_EQ_INT(temp_count(temp_path("box/new"), NULL), WORKERS * MESSAGES);
  CHECK_EQ_INT(temp_count(temp_path("box/tmp"), NULL), 0);
  CHECK_EQ_INT(temp_count(temp_path("files"), NULL), MESSAGES);
  size_t len, entries = 0;
  char *mbox = file_read(temp_path("folder/mbox"), &len);
  REQUIRE(mbox);
  mbox[len] = '\0';
  for (char *at = mbox; (at = strstr(at, "From MAILER-DAEMON ")); at++) {
    CHECK(at == mbox || (at[-1] == '\n' && at[-2] == '\n'));
    entries++;
  }
  CHECK_EQ_INT(entries, WORKERS * MESSAGES);
  free(mbox);
  free(big);
}

int main(int argc, char **argv)
{
  temp_make();
  int rc = check_run(argc, argv);
  temp_remove(temp_folder);
  return rc;
}
