/* spool, killed fifty times in the middle of its work: what it confirmed is there, and what it ended is not. The disk itself lives on here; for one
 * that forgets see test_spool_disk.c. */
#include "support/spool_rig.h"

#include <sys/wait.h>

enum { NOW = 1000000, ROUNDS = 50, AT_A_TIME = 5 };

/* What the child says once it is confirmed: a message's number, and whether it was put or ended. */
typedef struct word {
  int number, ended;
} word;

static void say(int fd, int number, int ended)
{
  word w = { number, ended };
  if (write(fd, &w, sizeof w) != sizeof w)
    _exit(3);
}

/* Puts, some with files, and ends every third, until it is killed. */
static void work(spool_rig *rig, int first, int fd)
{
  if (rig_open(rig) != 0)
    _exit(2);
  for (int at = first;; at += AT_A_TIME) {
    rig_mail mails[AT_A_TIME];
    char ids[AT_A_TIME][16];
    for (int i = 0; i < AT_A_TIME; i++) {
      snprintf(ids[i], sizeof ids[i], "m%08d", at + i);
      mails[i] = rig_mail_to(ids[i], "bob@example.net");
      mails[i].put = (mp_spool_put_request){
        { .done = rig_done }, .message = &mails[i].message, .recipients = mails[i].to, .count = 1
      };
      mp_spool_file *file = NULL;
      if (i == 0 && mp_spool_file_new(rig->spool, &file) == 0 &&
          mp_spool_file_write(file, MP_STR(RIG_BODY)) == 0 && mp_spool_file_name(file, mp_str_c(ids[i])) == 0) {
        mails[i].message.body = MP_STR_NULL;
        mails[i].message.in_file = true;
        mails[i].message.body_length = sizeof RIG_BODY - 1;
      }
      mp_spool_file_free(file);
      mp_spool_put(rig->spool, &mails[i].put);
    }
    mp_spool_turn(rig->spool);
    for (int i = 0; i < AT_A_TIME; i++)
      if (mails[i].put.request.result == 0)
        say(fd, at + i, 0);
    for (int i = 0; i < AT_A_TIME; i += 3)
      if (rig_end(rig, ids[i], 1) == 0)
        say(fd, at + i, 1);
  }
}

TEST(fifty_kills_lose_nothing)
{
  enum { MOST = 1 << 20 };
  spool_rig rig;
  unsigned seed = 7;
  int first = 0, confirmed = 0;
  char id[16], octets[64];
  unsigned char *fate = mp_mem_zalloc(MOST); /* 1: put, 2: ended */
  REQUIRE(fate && rig_init(&rig));
  for (int round = 0; round < ROUNDS; round++) {
    int fd[2];
    REQUIRE(CHECK_EQ_INT(pipe(fd), 0));
    pid_t child = fork();
    if (child == 0)
      work(&rig, first, fd[1]);
    close(fd[1]);
    word w;
    int words = 1 + rand_r(&seed) % 40, last = first;
    while (words-- > 0 && read(fd[0], &w, sizeof w) == sizeof w) {
      fate[w.number] |= w.ended ? 2 : 1;
      last = w.number;
    }
    /* not at the very moment of its word, but anywhere before the next ones */
    usleep((useconds_t)(rand_r(&seed) % 1500));
    kill(child, SIGKILL);
    REQUIRE(CHECK_EQ_INT(waitpid(child, NULL, 0), child));
    while (read(fd[0], &w, sizeof w) == sizeof w) {
      fate[w.number] |= w.ended ? 2 : 1;
      last = w.number > last ? w.number : last;
    }
    close(fd[0]);
    if (!CHECK_EQ_INT(rig_open(&rig), 0)) {
      printf("%s\n", rig.why);
      break;
    }
    for (int i = first; i <= last; i++) {
      snprintf(id, sizeof id, "m%08d", i);
      int got = rig_read(&rig, id, 0, octets, sizeof octets);
      if (fate[i] & 2)
        CHECK_EQ_INT(got, MP_E_NOTFOUND);
      else if (fate[i] & 1) /* its end may have been on the way */
        CHECK(got == sizeof RIG_HEAD RIG_BODY - 1 || ((i - first) % AT_A_TIME % 3 == 0 && got == MP_E_NOTFOUND));
      confirmed += fate[i] & 1;
    }
    first = last + 2 * AT_A_TIME; /* names that nobody has had */
    rig_close(&rig);
  }
  CHECK(confirmed > ROUNDS * 10);
  CHECK_EQ_INT(rig_open(&rig), 0);
  mp_spool_check_request check = { .request = { .done = rig_done } };
  mp_spool_check(rig.spool, &check);
  CHECK_EQ_INT(rig_wait(&rig, &check.request), 0);
  CHECK_EQ_INT(check.aside, 0);
  mp_mem_free(fate);
  rig_dispose(&rig);
}

CHECK_MAIN
