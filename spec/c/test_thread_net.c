/* What may be done to a loop from other threads, for the thread sanitizer to look at: posts, stops, works, shared bindings. */
#include "support/check.h"

#include "base/error.h"
#include "net/listen.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { POSTERS = 4, POSTS = 2000, WORKS = 32, ROUNDS = 200, PEERS = 40, BACKLOG = 128 };

typedef struct counter {
  mp_loop loop;
  int count, want; /* of the loop's thread, without a lock */
} counter;

typedef struct note {
  mp_post post;
  counter *to;
} note;

static void on_note(mp_post *post)
{
  note *n = MP_CONTAINER(post, note, post);
  counter *to = n->to;
  free(n);
  if (++to->count == to->want)
    mp_loop_stop(&to->loop);
}

static void *poster(void *arg)
{
  counter *to = arg;
  for (int i = 0; i < POSTS; i++) {
    note *n = malloc(sizeof *n);
    *n = (note){ .post.run = on_note, .to = to };
    mp_loop_post(&to->loop, &n->post);
  }
  return NULL;
}

static void *runner(void *arg)
{
  mp_loop_run(&((counter *)arg)->loop);
  return NULL;
}

TEST(posts_from_many_threads_all_arrive)
{
  counter to = { .want = POSTERS * POSTS };
  pthread_t run, posters[POSTERS];
  REQUIRE(mp_loop_init(&to.loop) == 0);
  pthread_create(&run, NULL, runner, &to);
  for (int i = 0; i < POSTERS; i++)
    pthread_create(&posters[i], NULL, poster, &to);
  for (int i = 0; i < POSTERS; i++)
    pthread_join(posters[i], NULL);
  pthread_join(run, NULL);
  CHECK_EQ_INT(to.count, POSTERS * POSTS);
  mp_loop_dispose(&to.loop);
}

typedef struct echo {
  mp_post post;
  counter *here, *there;
  int left;
} echo;

static void on_echo(mp_post *post)
{
  echo *e = MP_CONTAINER(post, echo, post);
  counter *next = e->there;
  e->there = e->here;
  e->here = next;
  if (e->left-- > 0) {
    mp_loop_post(&next->loop, post);
    return;
  }
  mp_loop_stop(&e->here->loop);
  mp_loop_stop(&e->there->loop);
}

TEST(two_loops_throw_one_note_to_and_fro)
{
  counter a = { .want = 0 }, b = { .want = 0 };
  pthread_t ta, tb;
  REQUIRE(mp_loop_init(&a.loop) == 0 && mp_loop_init(&b.loop) == 0);
  echo e = { .post.run = on_echo, .here = &a, .there = &b, .left = ROUNDS * 10 };
  mp_loop_post(&a.loop, &e.post);
  pthread_create(&ta, NULL, runner, &a);
  pthread_create(&tb, NULL, runner, &b);
  pthread_join(ta, NULL);
  pthread_join(tb, NULL);
  CHECK_EQ_INT(e.left, -1);
  mp_loop_dispose(&a.loop);
  mp_loop_dispose(&b.loop);
}

/* The owner of a worker stops it and disposes of its loop as soon as the thread is joined: at no point of the run may the
 * stop be lost, and none may touch the loop later. */
TEST(a_stop_from_another_thread_is_never_lost)
{
  for (int i = 0; i < ROUNDS; i++) {
    counter c = { .want = -1 };
    pthread_t run;
    REQUIRE(mp_loop_init(&c.loop) == 0);
    pthread_create(&run, NULL, runner, &c);
    mp_loop_stop(&c.loop);
    pthread_join(run, NULL);
    mp_loop_dispose(&c.loop);
  }
}

typedef struct job {
  mp_work work;
  counter *to;
  int in, out;
} job;

static void job_work(mp_work *work)
{
  job *j = MP_CONTAINER(work, job, work);
  j->out = j->in * 2;
}

static void job_done(mp_work *work)
{
  job *j = MP_CONTAINER(work, job, work);
  CHECK_EQ_INT(j->out, j->in * 2);
  j->to->count++;
}

TEST(works_hand_their_memory_to_the_pool_and_back)
{
  counter to = { .want = WORKS };
  job jobs[WORKS];
  REQUIRE(mp_loop_init(&to.loop) == 0);
  for (int i = 0; i < WORKS; i++) {
    jobs[i] = (job){ .work.work = job_work, .work.done = job_done, .to = &to, .in = i };
    REQUIRE(mp_loop_work(&to.loop, &jobs[i].work) == 0);
  }
  while (mp_loop_turn(&to.loop, true)) {
  }
  CHECK_EQ_INT(to.count, WORKS);
  mp_loop_dispose(&to.loop);
}

typedef struct worker {
  mp_loop loop;
  mp_listener *listener;
  atomic_int *taken;
  struct worker *all;
  int workers, closed;
} worker;

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len;
}

static void on_closed(void *ctx)
{
  ((worker *)ctx)->closed++;
}

static const mp_stream_calls calls = { .read = on_read, .closed = on_closed };

static void on_accepted(void *ctx, mp_stream *stream)
{
  worker *w = ctx;
  if (!CHECK(stream != NULL))
    return;
  mp_stream_attach(stream, &calls, w);
  mp_stream_close(stream);
  if (atomic_fetch_add(w->taken, 1) + 1 == PEERS)
    for (int i = 0; i < w->workers; i++)
      mp_loop_stop(&w->all[i].loop);
}

static void *work_thread(void *arg)
{
  worker *w = arg;
  mp_loop_run(&w->loop);
  mp_loop_dispose(&w->loop);
  return NULL;
}

static int dial(const mp_binding *b)
{
  struct sockaddr_storage at;
  socklen_t len = sizeof at;
  getsockname(b->fds[0], (struct sockaddr *)&at, &len);
  int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK_EQ_INT(connect(fd, (struct sockaddr *)&at, len), 0);
  return fd;
}

TEST(workers_accept_from_one_binding)
{
  char folder[64], why[200];
  const char *tmp = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%.40s/mp-net-XXXXXX", tmp ? tmp : "/tmp");
  REQUIRE(mkdtemp(folder) != NULL);
  for (int is_unix = 0; is_unix < 2; is_unix++) {
    worker w[2];
    atomic_int taken = 0;
    mp_binding b;
    pthread_t threads[2];
    int fds[PEERS];
    mp_endpoint at = { .is_unix = is_unix };
    CHECK(mp_ip_parse(&at.ip, MP_STR("127.0.0.1")));
    snprintf(at.path, sizeof at.path, "%s/sock", folder);
    REQUIRE(mp_binding_open(&b, &at, 2, BACKLOG, why, sizeof why) == 0);
    for (unsigned i = 0; i < 2; i++) {
      w[i] = (worker){ .taken = &taken, .all = w, .workers = 2 };
      REQUIRE(mp_loop_init(&w[i].loop) == 0);
      REQUIRE(mp_listener_open(&w[i].listener, &w[i].loop, &b, i, on_accepted, &w[i]) == 0);
    }
    for (int i = 0; i < 2; i++)
      pthread_create(&threads[i], NULL, work_thread, &w[i]);
    for (int i = 0; i < PEERS; i++)
      fds[i] = dial(&b);
    for (int i = 0; i < 2; i++)
      pthread_join(threads[i], NULL);
    CHECK_EQ_INT(w[0].closed + w[1].closed, PEERS);
    for (int i = 0; i < PEERS; i++)
      close(fds[i]);
    mp_binding_close(&b);
  }
  rmdir(folder);
}

CHECK_MAIN
