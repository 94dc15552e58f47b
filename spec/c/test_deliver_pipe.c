/* Deliveries to programs: fed, listened to, ended in time and never left behind. */
#include "support/outcome.h"

#include "conn/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static const char small[] = "Subject: hello\r\n\r\nbody\r\n";
static const char extra[] = "Delivered-To: bob0@example.org\r\n";

static mp_message *make(post_office *office, mp_str octets)
{
  int rc;
  mp_message *msg = message_make(office, octets, 1, &rc);
  CHECK_EQ_INT(rc, 0);
  return msg;
}

static int begin(post_office *office, mp_message *msg, const char *const *args, mp_pipe_opts opts, outcome *o)
{
  free(o->output);
  *o = (outcome){ 0 };
  opts.args = args;
  opts.extra = mp_str_c(extra);
  return mp_deliver_pipe(&office->loop, msg, &opts, note_outcome, o);
}

/* Runs `script` by sh. */
static int sh(post_office *office, mp_message *msg, const char *script, mp_pipe_opts opts, outcome *o)
{
  const char *const args[] = { "sh", "-c", script, NULL };
  int rc = begin(office, msg, args, opts, o);
  return rc < 0 ? rc : wait_outcome(office, o);
}

static void check_no_child(void)
{
  CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static const mp_pipe_opts none = { 0 };

TEST(a_program_reads_the_whole_message)
{
  char *big = octets_make("Subject: big\r\n\r\n", 3000000);
  for (int i = 0; i < 4; i++) {
    post_office office;
    outcome o = { 0 };
    office_open(&office, i & 1);
    mp_str octets = i & 2 ? mp_str_of(big, 3000000) : mp_str_c(small);
    mp_message *msg = make(&office, octets);
    char script[200];
    snprintf(script, sizeof script, "cat >%s; echo done; echo told >&2", temp_path("copy"));
    CHECK_EQ_INT(sh(&office, msg, script, none, &o), 0);
    CHECK_EQ_STR(mp_str_of(o.output, o.output_len), MP_STR("done\ntold\n"));
    CHECK(o.status == 0 && o.signal == 0 && o.path[0] == '\0');
    check_file(temp_path("copy"), extra, octets);
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
    check_no_child();
  }
  free(big);
}

TEST(a_program_reads_the_octets_of_the_wire_when_it_wants_to)
{
  char *big = octets_make("Subject: big\r\n\r\n", 3000000);
  for (int i = 0; i < 2; i++) {
    post_office office;
    outcome o = { 0 };
    office_open(&office, false);
    mp_str octets = i ? mp_str_of(big, 3000000) : mp_str_c(small);
    mp_message *msg = make(&office, octets);
    char script[200];
    snprintf(script, sizeof script, "cat >%s", temp_path("copy"));
    CHECK_EQ_INT(sh(&office, msg, script, (mp_pipe_opts){ .crlf = true }, &o), 0);
    check_lines(temp_path("copy"), extra, octets, true);
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
  }
  free(big);
}

TEST(how_it_ended_is_told)
{
  static const struct row {
    const char *script;
    int rc, status, signal;
    const char *why;
  } rows[] = {
    { "exit 0", 0, 0, 0, "" },
    { "exec cat >/dev/null", 0, 0, 0, "" },
    { "exit 75", MP_E_SYSTEM, 75, 0, "sh exited with status 75" },
    { "kill -KILL $$", MP_E_SYSTEM, 0, SIGKILL, "sh was ended by signal 9" },
    /* These are ignored here, but not there. */
    { "kill -PIPE $$; exit 3", MP_E_SYSTEM, 0, SIGPIPE, "by signal 13" },
    { "kill -USR1 $$; exit 3", MP_E_SYSTEM, 0, SIGUSR1, "by signal" },
  };
  signal(SIGPIPE, SIG_IGN);
  signal(SIGUSR1, SIG_IGN);
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, &before);
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    CHECK_EQ_INT(sh(&office, msg, rows[i].script, none, &o), rows[i].rc);
    CHECK_EQ_INT(o.status, rows[i].status);
    CHECK_EQ_INT(o.signal, rows[i].signal);
    says(&o, rows[i].why);
  }
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGUSR1, SIG_DFL);
}

TEST(what_cannot_be_run_is_told)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  const char *const missing[] = { "mp-no-such-program", NULL };
  CHECK_EQ_INT(begin(&office, msg, missing, none, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), MP_E_NOTFOUND);
  says(&o, "cannot run mp-no-such-program: No such file");
  file_write(temp_path("text"), "no program");
  const char *const text[] = { temp_path("text"), NULL };
  CHECK_EQ_INT(begin(&office, msg, text, none, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), MP_E_DENIED);
  CHECK_EQ_INT(sh(&office, msg, "exit 0", (mp_pipe_opts){ .cwd = temp_path("nowhere") }, &o), MP_E_NOTFOUND);
  const char *const nobody[] = { NULL };
  CHECK_EQ_INT(begin(&office, msg, nobody, none, &o), MP_E_INVALID);
  CHECK_EQ_INT(begin(&office, msg, NULL, none, &o), MP_E_INVALID);
  CHECK_EQ_INT(office.store.running, 0);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
  check_no_child();
}

TEST(a_program_need_not_read_and_may_die_while_it_is_fed)
{
  char *big = octets_make("Subject: big\r\n\r\n", 3000000);
  post_office office;
  outcome o = { 0 };
  for (int i = 0; i < 2; i++) { /* in a thread, and in place, where SIGPIPE would end this process */
    office_open(&office, i);
    mp_message *msg = make(&office, mp_str_of(big, 3000000));
    CHECK_EQ_INT(sh(&office, msg, "exit 0", none, &o), 0);
    CHECK_EQ_INT(sh(&office, msg, "exec <&-; echo closed", none, &o), 0);
    CHECK_EQ_INT(sh(&office, msg, "head -c 100000 >/dev/null; exit 65", none, &o), MP_E_SYSTEM);
    CHECK_EQ_INT(o.status, 65);
    mp_message_unref(msg);
    office_close(&office);
  }
  free(o.output);
  free(big);
}

TEST(output_is_cut_at_its_ceiling_and_the_rest_is_read)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  CHECK_EQ_INT(sh(&office, msg, "head -c 1000000 /dev/zero | tr '\\0' z; cat >/dev/null; exit 0", none, &o), 0);
  CHECK_EQ_INT(o.output_len, MP_PROGRAM_OUTPUT);
  CHECK_EQ_INT(strspn(o.output, "z"), MP_PROGRAM_OUTPUT);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

TEST(the_environment_is_what_was_given_and_the_envelope)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  setenv("MP_SPEC_SECRET", "x", 1);
  setenv("PATH", "/usr/bin:/bin", 1);
  setenv("LANG", "C.UTF-8", 1);
  const char *const args[] = { "env", NULL };
  CHECK_EQ_INT(begin(&office, msg, args, none, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), 0);
  CHECK_STR(mp_str_of(o.output, o.output_len), "PATH=/usr/bin:/bin\nLANG=C.UTF-8\nSENDER=ann@example.net\n"
                                               "MESSAGE_ID=ID0000000001\nRECIPIENT=bob0@example.org\n");
  const char *const env[] = { "SENDER=x", "MORE=a b", "LANG=C", NULL };
  CHECK_EQ_INT(begin(&office, msg, args, (mp_pipe_opts){ .env = env }, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), 0);
  CHECK_STR(mp_str_of(o.output, o.output_len),
            "SENDER=x\nMORE=a b\nLANG=C\nPATH=/usr/bin:/bin\nMESSAGE_ID=ID0000000001\n"
            "RECIPIENT=bob0@example.org\n");
  mp_message_unref(msg);
  int rc;
  msg = message_make(&office, mp_str_c(small), 2, &rc);
  CHECK_EQ_INT(sh(&office, msg, "echo \"${RECIPIENT-nobody}\"", none, &o), 0);
  CHECK_STR(mp_str_of(o.output, o.output_len), "nobody\n");
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
  unsetenv("MP_SPEC_SECRET");
}

TEST(a_program_gets_no_descriptor_of_ours_and_its_own_folder_and_group)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  int careless = dup(1);
  CHECK_EQ_INT(sh(&office, msg, "pwd; cd /proc/self/fd && echo *", none, &o), 0);
  /* The shell may open its own way to the folder while it expands. */
  CHECK(strcmp(o.output, "/\n0 1 2\n") == 0 || strcmp(o.output, "/\n0 1 2 3\n") == 0);
  close(careless);
  CHECK_EQ_INT(sh(&office, msg, "pwd", (mp_pipe_opts){ .cwd = temp_folder }, &o), 0);
  CHECK(strncmp(o.output, temp_folder, strlen(temp_folder)) == 0);
  CHECK_EQ_INT(sh(&office, msg, "read a b c d pgrp rest </proc/$$/stat; test $pgrp = $$", none, &o), 0);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

/* True when nobody holds the other end of the fifo any more; waits for it. */
static bool is_left_alone(int fifo)
{
  char octets[16];
  /* One that was ended before it had opened it left no trace to wait for: this is one. */
  close(open(temp_path("alive"), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  for (;;) {
    struct pollfd fds = { .fd = fifo, .events = POLLIN };
    if (poll(&fds, 1, 10000) <= 0)
      return false;
    ssize_t n = read(fifo, octets, sizeof octets);
    if (n <= 0)
      return n == 0;
  }
}

TEST(a_program_that_takes_too_long_is_ended_with_its_group)
{
  static const char *const scripts[] = {
    "exec sleep 100",
    "sleep 100 & sleep 100 & wait",
    "trap '' TERM; while :; do sleep 100; done",   /* minds the second signal only */
    "trap '' TERM; sleep 100 & trap - TERM; wait", /* its child does */
    "trap 'exit 0' TERM; sleep 100 & wait",        /* too late is too late */
  };
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  CHECK_EQ_INT(mkfifo(temp_path("alive"), 0600), 0);
  for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
    int fifo = open(temp_path("alive"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char script[300];
    snprintf(script, sizeof script, "exec 9>%s; echo on >&9; %s", temp_path("alive"), scripts[i]);
    CHECK_EQ_INT(sh(&office, msg, script, (mp_pipe_opts){ .timeout_ms = 200 }, &o), MP_E_TIMEOUT);
    says(&o, "sh was not done after 200 ms");
    CHECK(is_left_alone(fifo));
    close(fifo);
    check_no_child();
  }
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

TEST(one_that_never_stops_talking_is_ended_too)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  const char *const args[] = { "yes", NULL };
  CHECK_EQ_INT(begin(&office, msg, args, (mp_pipe_opts){ .timeout_ms = 100 }, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), MP_E_TIMEOUT);
  CHECK_EQ_INT(o.signal, SIGTERM);
  CHECK_EQ_INT(o.output_len, MP_PROGRAM_OUTPUT);
  /* And a child that goes on talking after its parent has ended holds nobody up. */
  CHECK_EQ_INT(sh(&office, msg, "yes & echo $!", none, &o), 0);
  int pid = atoi(o.output);
  for (const char *line = o.output; pid == 0 && (line = strchr(line, '\n')); line++)
    pid = atoi(line + 1);
  if (pid > 1)
    kill(pid, SIGKILL);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

TEST(only_so_many_run_at_once_and_all_have_their_turn)
{
  enum { TIMES = 12 };
  post_office office;
  outcome o[TIMES] = { { 0 } };
  office_open(&office, false);
  office.store.running_most = 3;
  mp_message *msg = make(&office, mp_str_c(small));
  /* Each leaves a mark while it runs, and fails when it finds more than three. */
  CHECK_EQ_INT(mkdir(temp_path("marks"), 0700), 0);
  char script[300];
  snprintf(script, sizeof script, "cd %s && : >$$ && set -- * && test $# -le 3 && cat >/dev/null && rm $$",
           temp_path("marks"));
  const char *const args[] = { "sh", "-c", script, NULL };
  for (int i = 0; i < TIMES; i++)
    CHECK_EQ_INT(begin(&office, msg, args, none, &o[i]), 0);
  CHECK_EQ_INT(office.store.running, 3);
  mp_message_unref(msg);
  for (int i = 0; i < TIMES; i++) {
    if (!o[i].told)
      wait_outcome(&office, &o[i]);
    CHECK_EQ_INT(o[i].rc, 0);
    free(o[i].output);
  }
  CHECK_EQ_INT(office.store.running, 0);
  CHECK(!mp_loop_turn(&office.loop, false));
  office_close(&office);
  check_no_child();
}

TEST(a_loop_that_ends_ends_its_programs)
{
  post_office office;
  outcome o[4] = { { 0 } };
  office_open(&office, false);
  office.store.running_most = 2;
  mp_message *msg = make(&office, mp_str_c(small));
  const char *const args[] = { "sleep", "100", NULL };
  for (int i = 0; i < 4; i++)
    CHECK_EQ_INT(begin(&office, msg, args, none, &o[i]), 0);
  mp_message_unref(msg);
  office_close(&office);
  for (int i = 0; i < 4; i++) {
    CHECK_EQ_INT(o[i].told, 1);
    CHECK_EQ_INT(o[i].rc, MP_E_CANCELLED);
    free(o[i].output);
  }
  check_no_child();
}

TEST(a_program_is_ended_for_its_message_alone)
{
  post_office office;
  outcome o[3] = { { 0 } }, other = { 0 };
  office_open(&office, false);
  office.store.running_most = 2;
  mp_message *msg = make(&office, mp_str_c(small)), *next = make(&office, mp_str_c(small));
  const char *const args[] = { "sh", "-c", "sleep 100 & echo $!; sleep 100", NULL };
  const char *const short_args[] = { "sh", "-c", "sleep 0.3; echo whole", NULL };
  CHECK_EQ_INT(begin(&office, next, short_args, none, &other), 0);
  for (int i = 0; i < 3; i++) /* one runs, two wait for their turn */
    CHECK_EQ_INT(begin(&office, msg, args, none, &o[i]), 0);
  mp_deliver_cancel(msg);
  mp_deliver_cancel(msg);
  for (int i = 0; i < 3; i++) {
    if (!o[i].told)
      wait_outcome(&office, &o[i]);
    CHECK_EQ_INT(o[i].rc, MP_E_CANCELLED);
    says(&o[i], "sh was ended, for the server stops");
    free(o[i].output);
  }
  if (!other.told)
    wait_outcome(&office, &other);
  CHECK_EQ_INT(other.rc, 0);
  CHECK_EQ_STR(mp_str_of(other.output, other.output_len), MP_STR("whole\n"));
  free(other.output);
  mp_message_unref(msg);
  mp_message_unref(next);
  office_close(&office);
  check_no_child();
}

static void begin_another(void *ctx, const mp_outcome *out)
{
  post_office *office = ctx;
  static const char *const args[] = { "true", NULL };
  int rc;
  CHECK_EQ_INT(out->rc, 0);
  mp_message *msg = message_make(office, mp_str_c(small), 1, &rc);
  static outcome last;
  last = (outcome){ 0 };
  CHECK_EQ_INT(begin(office, msg, args, none, &last), 0);
  mp_message_unref(msg);
}

TEST(who_is_told_may_begin_another)
{
  post_office office;
  office_open(&office, false);
  office.store.running_most = 1;
  int rc;
  mp_message *msg = message_make(&office, mp_str_c(small), 1, &rc);
  mp_pipe_opts opts = { .args = (const char *const[]){ "true", NULL } };
  CHECK_EQ_INT(mp_deliver_pipe(&office.loop, msg, &opts, begin_another, &office), 0);
  mp_message_unref(msg);
  while (mp_loop_turn(&office.loop, true))
    continue;
  CHECK_EQ_INT(office.store.running, 0);
  office_close(&office);
  check_no_child();
}

TEST(memory_may_run_out_anywhere)
{
  FOR_EACH_ALLOC_FAILURE {
    post_office office;
    outcome o = { 0 };
    office_open(&office, true);
    int rc;
    mp_message *msg = message_make(&office, mp_str_c(small), 1, &rc);
    if (msg)
      rc = sh(&office, msg, "cat", none, &o);
    /* Output that could not be kept is no failure of the delivery. */
    CHECK(rc == 0 || (rc == MP_E_NOMEM && CHECK_ALLOC_FAILED()));
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
  }
  check_no_child();
}

int main(int argc, char **argv)
{
  temp_make();
  int rc = check_run(argc, argv);
  temp_remove(temp_folder);
  return rc;
}
