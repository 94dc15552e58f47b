/* Delivery to a program. Each has a thread of its own, so that slow ones do not hold the few of the pool, where files are written; how many
 * run at once is bounded, and who comes later waits in the order of coming. On a virtual loop the program runs in place. */
#include "base/error.h"
#include "conn/deliver_impl.h"
#include "conn/program.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { STACK = 256 << 10, STRINGS_MOST = 1 << 20, TIMEOUT_MS = 60000 };

typedef struct piping {
  delivery d;
  mp_program program;
  mp_arena strings; /* arguments and environment */
  mp_post post;
  mp_list node;     /* in the store's waiting list */
  mp_leftover left; /* in the loop's, for its end */
  mp_loop *loop;
  mp_body_store *store;
  pthread_t thread;
  bool threaded, running;
} piping;

/* ---- arguments and environment ----------------------------------------------------------------------------------- */

static size_t count_of(const char *const *list)
{
  size_t n = 0;
  while (list && list[n])
    n++;
  return n;
}

static char *copy(mp_arena *arena, const char *s)
{
  bool ok = true;
  mp_str text = mp_arena_str(arena, mp_str_c(s), &ok);
  return ok ? (char *)(uintptr_t)text.ptr : NULL;
}

static bool copy_list(mp_arena *arena, const char *const *list, char **out)
{
  for (size_t i = 0; list && list[i]; i++) {
    out[i] = copy(arena, list[i]);
    if (!out[i])
      return false;
  }
  return true;
}

/* "NAME=value", unless the name is taken. */
static bool add_variable(piping *p, char **env, size_t *count, const char *name, mp_str value)
{
  size_t len = strlen(name);
  for (size_t i = 0; i < *count; i++) {
    if (strncmp(env[i], name, len) == 0 && env[i][len] == '=')
      return true;
  }
  char *text = mp_arena_alloc(&p->strings, len + 1 + value.len + 1);
  if (!text)
    return false;
  memcpy(text, name, len);
  text[len] = '=';
  if (value.len)
    memcpy(text + len + 1, value.ptr, value.len);
  text[len + 1 + value.len] = '\0';
  env[(*count)++] = text;
  return true;
}

static mp_str ours(const char *name, const char *otherwise)
{
  const char *value = getenv(name);
  return mp_str_c(value && *value ? value : otherwise);
}

static bool copy_strings(piping *p, const mp_pipe_opts *opts)
{
  enum { VARIABLES = 5 };
  const mp_envelope *envelope = p->d.msg->env;
  size_t args = count_of(opts->args), count = count_of(opts->env);
  char **argv = mp_arena_alloc(&p->strings, (args + 1) * sizeof *argv);
  char **env = mp_arena_alloc(&p->strings, (count + VARIABLES + 1) * sizeof *env);
  if (!argv || !env || !copy_list(&p->strings, opts->args, argv) || !copy_list(&p->strings, opts->env, env))
    return false;
  argv[args] = NULL;
  if (!add_variable(p, env, &count, "PATH", ours("PATH", "/usr/local/bin:/usr/bin:/bin")) ||
      !add_variable(p, env, &count, "LANG", ours("LANG", "C")) ||
      !add_variable(p, env, &count, "SENDER", envelope->sender.address) ||
      !add_variable(p, env, &count, "MESSAGE_ID", mp_str_c(p->d.msg->id)))
    return false;
  if (envelope->count == 1 && !add_variable(p, env, &count, "RECIPIENT", envelope->rcpts[0]->path.address))
    return false;
  env[count] = NULL;
  p->program.args = argv;
  p->program.env = env;
  p->program.cwd = copy(&p->strings, opts->cwd ? opts->cwd : "/");
  return p->program.cwd != NULL;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void *thread_main(void *ctx)
{
  piping *p = ctx;
  mp_program_run(&p->program);
  mp_loop_post(p->loop, &p->post);
  return NULL;
}

/* 0, or MP_E_SYSTEM. */
static int start(piping *p)
{
  if (p->loop->is_virtual) {
    p->running = true;
    p->store->running++;
    thread_main(p);
    return 0;
  }
  p->program.cancel = eventfd(0, EFD_CLOEXEC);
  if (p->program.cancel < 0)
    return MP_E_SYSTEM;
  pthread_attr_t attr;
  if (pthread_attr_init(&attr) != 0)
    return MP_E_SYSTEM;
  pthread_attr_setstacksize(&attr, STACK);
  /* Signals are for the threads that run loops. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int err = pthread_create(&p->thread, &attr, thread_main, p);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  if (err != 0)
    return MP_E_SYSTEM;
  p->threaded = p->running = true;
  p->store->running++;
  return 0;
}

static void release(piping *p)
{
  if (p->program.cancel >= 0)
    close(p->program.cancel);
  mp_buf_dispose(&p->program.output);
  mp_arena_dispose(&p->strings);
  delivery_dispose(&p->d);
  mp_mem_free(p);
}

/* Has whoever waits next begin. One that cannot is told so, and the next is tried. */
static void start_waiting(mp_body_store *store)
{
  while (!mp_list_empty(&store->programs) && store->running < store->running_most) {
    piping *p = MP_CONTAINER(store->programs.next, piping, node);
    mp_list_remove(&p->node);
    int rc = start(p);
    if (rc < 0) {
      p->program.rc = rc;
      mp_loop_post(p->loop, &p->post);
    }
  }
}

static void describe(piping *p)
{
  mp_program *program = &p->program;
  delivery *d = &p->d;
  const char *name = program->args[0];
  char text[128];
  d->out.status = program->status;
  d->out.signal = program->signal;
  d->out.output = mp_buf_view(&program->output);
  if (program->sys)
    delivery_error(d, program->rc, "cannot run %.300s: %s", name, strerror_r(program->sys, text, sizeof text));
  else if (program->rc == MP_E_CANCELLED)
    delivery_error(d, program->rc, "%.300s was ended, for the server stops", name);
  else if (program->rc == MP_E_TIMEOUT)
    delivery_error(d, program->rc, "%.300s was not done after %lld ms", name, (long long)program->timeout_ms);
  else if (program->rc == MP_E_SYSTEM && program->signal)
    delivery_error(d, program->rc, "%.300s was ended by signal %d", name, program->signal);
  else if (program->rc == MP_E_SYSTEM && program->status)
    delivery_error(d, program->rc, "%.300s exited with status %d", name, program->status);
  else if (program->rc < 0)
    delivery_error(d, program->rc, "%.300s: %s", name, mp_error_text(program->rc));
}

/* On the loop's thread, when the program has ended or was not begun. */
static void ended(mp_post *post)
{
  piping *p = MP_CONTAINER(post, piping, post);
  if (p->threaded)
    pthread_join(p->thread, NULL);
  mp_list_remove(&p->left.node);
  p->loop->alive--;
  if (p->running)
    p->store->running--;
  start_waiting(p->store);
  describe(p);
  delivery_report(&p->d);
  release(p);
}

/* Kills the program, or takes it out of the queue. Nothing when it has ended. */
static void cancel(delivery *d)
{
  piping *p = MP_CONTAINER(d, piping, d);
  if (p->threaded) {
    eventfd_write(p->program.cancel, 1);
  } else if (!mp_list_empty(&p->node)) {
    mp_list_remove(&p->node);
    p->program.rc = MP_E_CANCELLED;
    mp_loop_post(p->loop, &p->post);
  }
}

/* The loop ends before the program does. */
static void loop_ends(mp_leftover *left)
{
  piping *p = MP_CONTAINER(left, piping, left);
  mp_list_remove(&p->left.node);
  cancel(&p->d);
  if (p->threaded)
    pthread_join(p->thread, NULL);
  p->threaded = false;
}

int mp_deliver_pipe(mp_loop *loop, mp_message *msg, const mp_pipe_opts *opts, mp_delivered done, void *ctx)
{
  if (!opts->args || !opts->args[0])
    return MP_E_INVALID;
  piping *p = mp_mem_zalloc(sizeof *p);
  if (!p)
    return MP_E_NOMEM;
  int rc = delivery_init(&p->d, msg, opts->extra, opts->crlf, done, ctx);
  if (rc < 0) {
    mp_mem_free(p);
    return rc;
  }
  p->loop = loop;
  p->store = mp_sink_store(msg->sink);
  p->post.run = ended;
  p->left.close = loop_ends;
  mp_list_init(&p->node);
  mp_list_init(&p->left.node);
  mp_arena_init(&p->strings, STRINGS_MOST, NULL);
  p->program.cancel = -1;
  p->program.timeout_ms = opts->timeout_ms > 0 ? opts->timeout_ms : TIMEOUT_MS;
  p->program.head = mp_buf_view(&p->d.head);
  p->program.body = &p->d.body;
  mp_buf_init(&p->program.output, MP_PROGRAM_OUTPUT, NULL);
  rc = copy_strings(p, opts) ? 0 : MP_E_NOMEM;
  if (rc == 0 && p->store->running < p->store->running_most)
    rc = start(p);
  else if (rc == 0)
    mp_list_push(&p->store->programs, &p->node);
  if (rc < 0) {
    release(p);
    return rc;
  }
  mp_list_push(&loop->left, &p->left.node);
  delivery_cancellable(&p->d, cancel);
  loop->alive++;
  return 0;
}
