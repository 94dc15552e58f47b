#include "conn/program.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH = 65536, BLIND_MS = 20, LISTEN_ROUNDS = 32 };

typedef enum stage { RUNNING, TERMINATED, KILLED } stage;

typedef struct run {
  mp_program *program;
  pid_t pid;
  int in, out, pidfd; /* -1 when closed, or not to be had */
  int64_t due;
  stage stage;
  mp_str feed;   /* what is to be written next */
  char *scratch; /* of `feed` */
} run;

static int64_t now_ms(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void shut(int *fd)
{
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

static void fail(mp_program *program, int sys)
{
  if (program->rc < 0)
    return;
  program->rc = mp_error_errno(sys);
  program->sys = sys;
}

/* ---- the start --------------------------------------------------------------------------------------------------- */

/* A pipe whose ends are none of 0, 1, 2: those are what the child's are made of. */
static int make_pipe(int ends[2])
{
  if (pipe2(ends, O_CLOEXEC) < 0)
    return -1;
  for (int i = 0; i < 2; i++) {
    if (ends[i] > 2)
      continue;
    int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, 3), sys = errno;
    close(ends[i]);
    ends[i] = moved;
    if (moved < 0) {
      shut(&ends[0]);
      shut(&ends[1]);
      errno = sys;
      return -1;
    }
  }
  return 0;
}

static int add_actions(posix_spawn_file_actions_t *actions, const mp_program *program, int in, int out)
{
  int err = posix_spawn_file_actions_adddup2(actions, in, 0);
  if (err == 0)
    err = posix_spawn_file_actions_adddup2(actions, out, 1);
  if (err == 0)
    err = posix_spawn_file_actions_adddup2(actions, out, 2);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
  /* Ours are all closed by exec; this is for descriptors that other parts of the process left open. */
  if (err == 0)
    err = posix_spawn_file_actions_addclosefrom_np(actions, 3);
#endif
  if (err == 0)
    err = posix_spawn_file_actions_addchdir_np(actions, program->cwd);
  return err;
}

/* A group of its own, no signal blocked, none ignored. */
static int set_attributes(posix_spawnattr_t *attr)
{
  sigset_t set;
  sigemptyset(&set);
  int err = posix_spawnattr_setsigmask(attr, &set);
  sigfillset(&set);
  sigdelset(&set, SIGKILL);
  sigdelset(&set, SIGSTOP);
  if (err == 0)
    err = posix_spawnattr_setsigdefault(attr, &set);
  if (err == 0)
    err = posix_spawnattr_setpgroup(attr, 0);
  if (err == 0)
    err = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return err;
}

static int spawn(run *r, int in, int out)
{
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  int err = posix_spawn_file_actions_init(&actions);
  if (err != 0)
    return err;
  err = posix_spawnattr_init(&attr);
  if (err == 0) {
    err = add_actions(&actions, r->program, in, out);
    if (err == 0)
      err = set_attributes(&attr);
    if (err == 0)
      err = posix_spawnp(&r->pid, r->program->args[0], &actions, &attr, r->program->args, r->program->env);
    posix_spawnattr_destroy(&attr);
  }
  posix_spawn_file_actions_destroy(&actions);
  return err;
}

static bool start(run *r)
{
  int in[2] = { -1, -1 }, out[2] = { -1, -1 };
  int err = make_pipe(in) < 0 || make_pipe(out) < 0 ? errno : 0;
  if (err == 0 && (fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0))
    err = errno;
  if (err == 0)
    err = spawn(r, in[0], out[1]);
  shut(&in[0]);
  shut(&out[1]);
  if (err != 0) {
    shut(&in[1]);
    shut(&out[0]);
    fail(r->program, err);
    return false;
  }
  r->in = in[1];
  r->out = out[0];
  r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0); /* close-on-exec by its nature; -1 on kernels before 5.3 */
  return true;
}

/* ---- while it runs ----------------------------------------------------------------------------------------------- */

/* To the whole group. The program itself is not reaped yet, so the number is still its group's. */
static void send_signal(run *r, int number)
{
  if (kill(-r->pid, number) < 0)
    kill(r->pid, number);
}

static void kill_now(run *r)
{
  send_signal(r, SIGKILL);
  r->stage = KILLED;
}

/* Writes what the pipe takes. */
static void feed(run *r)
{
  mp_program *program = r->program;
  while (r->in >= 0) {
    if (r->feed.len == 0) {
      int rc;
      r->feed = mp_lines_read(program->body, r->scratch, SCRATCH, &rc);
      if (rc < 0) {
        /* Half a message must not pass for a whole one: the program does not live to see its end. */
        kill_now(r);
        program->rc = rc;
      }
      if (r->feed.len == 0) {
        shut(&r->in);
        return;
      }
    }
    ssize_t n = write(r->in, r->feed.ptr, r->feed.len);
    if (n >= 0)
      r->feed = mp_str_sub(r->feed, (size_t)n, r->feed.len);
    else if (errno == EAGAIN)
      return;
    else if (errno != EINTR)
      shut(&r->in); /* it reads no more, which is its right */
  }
}

/* Reads what is there, no more than a pipe holds: a program that never stops talking does not stop the clock. */
static void listen_to(run *r)
{
  char octets[4096];
  for (int i = 0; r->out >= 0 && i < LISTEN_ROUNDS; i++) {
    ssize_t n = read(r->out, octets, sizeof octets);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == EAGAIN)
      return;
    if (n <= 0) {
      shut(&r->out);
      return;
    }
    mp_buf *output = &r->program->output;
    size_t room = output->max - output->len;
    mp_buf_add(output, octets, (size_t)n < room ? (size_t)n : room); /* no memory: less of it is told */
  }
}

static bool has_ended(const run *r)
{
  siginfo_t info = { .si_pid = 0 };
  int rc = waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT);
  return rc == 0 ? info.si_pid == r->pid : errno == ECHILD; /* somebody ignores SIGCHLD and it is gone already */
}

static void check_time(run *r)
{
  int64_t now = now_ms();
  if (r->stage == KILLED || now < r->due)
    return;
  if (r->stage == TERMINATED) {
    kill_now(r);
    return;
  }
  r->program->rc = MP_E_TIMEOUT;
  send_signal(r, SIGTERM);
  r->stage = TERMINATED;
  r->due = now + MP_PROGRAM_GRACE_MS;
}

static int wait_ms(const run *r)
{
  int64_t left = r->due - now_ms();
  left = r->stage == KILLED ? -1 : left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : left;
  if (r->pidfd < 0 && (left < 0 || left > BLIND_MS))
    left = BLIND_MS;
  return (int)left;
}

static void watch(run *r)
{
  mp_program *program = r->program;
  int cancel = program->cancel;
  while (!has_ended(r)) {
    struct pollfd fds[] = {
      { .fd = r->pidfd, .events = POLLIN },
      { .fd = r->out, .events = POLLIN },
      { .fd = r->in, .events = POLLOUT },
      { .fd = cancel, .events = POLLIN },
    };
    if (poll(fds, sizeof fds / sizeof *fds, wait_ms(r)) < 0 && errno != EINTR) {
      fail(program, errno);
      kill_now(r);
    }
    if (fds[3].revents) {
      kill_now(r);
      program->rc = MP_E_CANCELLED;
      cancel = -1;
    }
    if (fds[1].revents)
      listen_to(r);
    if (fds[2].revents)
      feed(r);
    check_time(r);
  }
  /* What it said last. A child of its own may hold the pipe open for ever: nobody waits for that. */
  listen_to(r);
}

static void reap(run *r)
{
  mp_program *program = r->program;
  if (r->stage != RUNNING)
    send_signal(r, SIGKILL); /* whatever of its group did not mind the first signal */
  int status;
  pid_t pid;
  do
    pid = waitpid(r->pid, &status, 0);
  while (pid < 0 && errno == EINTR);
  if (pid < 0) {
    fail(program, errno);
    return;
  }
  if (WIFSIGNALED(status))
    program->signal = WTERMSIG(status);
  else
    program->status = WEXITSTATUS(status);
  if (program->rc == 0 && status != 0)
    program->rc = MP_E_SYSTEM;
}

void mp_program_run(mp_program *program)
{
  run r = { .program = program, .in = -1, .out = -1, .pidfd = -1, .feed = program->head };
  r.scratch = mp_mem_alloc(SCRATCH);
  if (!r.scratch) {
    program->rc = MP_E_NOMEM;
    return;
  }
  /* A write to a program that went away says EPIPE, and SIGPIPE to this thread alone; it stays here. */
  sigset_t pipe_set, before, waiting;
  sigemptyset(&pipe_set);
  sigaddset(&pipe_set, SIGPIPE);
  sigpending(&waiting);
  pthread_sigmask(SIG_BLOCK, &pipe_set, &before);
  r.due = now_ms() + program->timeout_ms;
  if (start(&r)) {
    watch(&r);
    reap(&r);
  }
  shut(&r.in);
  shut(&r.out);
  shut(&r.pidfd);
  if (!sigismember(&waiting, SIGPIPE)) {
    while (sigtimedwait(&pipe_set, NULL, &(struct timespec){ 0 }) < 0 && errno == EINTR)
      continue;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  mp_mem_free(r.scratch);
}
