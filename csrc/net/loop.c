/* `wake` keeps libuv's loop going, so that one on which only a post can happen waits for that post, and
 * uv_backend_timeout speaks the truth to foreign loops. Whether anything is alive is asked with `wake` set aside; a paused
 * stream, whose handle is idle for libuv, is counted by us. */
#include "net/loop.h"

#include "base/error.h"
#include "net/stream.h"

#include <signal.h>
#include <sys/resource.h>

enum { DESCRIPTORS_MOST = 1 << 20 };

static void run_posts(mp_loop *loop)
{
  mp_list batch;
  mp_list_init(&batch);
  /* What is posted meanwhile waits for the next turn, so that two posts which call each other starve nobody. */
  uv_mutex_lock(&loop->lock);
  if (!mp_list_empty(&loop->posted)) {
    batch = loop->posted;
    batch.next->prev = batch.prev->next = &batch;
    mp_list_init(&loop->posted);
  }
  uv_mutex_unlock(&loop->lock);
  while (!mp_list_empty(&batch)) {
    mp_post *post = MP_CONTAINER(batch.next, mp_post, node);
    mp_list_remove(&post->node);
    post->run(post);
  }
}

static bool has_posts(mp_loop *loop)
{
  uv_mutex_lock(&loop->lock);
  bool any = !mp_list_empty(&loop->posted);
  uv_mutex_unlock(&loop->lock);
  return any;
}

static bool is_stopping(mp_loop *loop)
{
  uv_mutex_lock(&loop->lock);
  bool stopping = loop->stopping;
  uv_mutex_unlock(&loop->lock);
  return stopping;
}

static bool take_stop(mp_loop *loop)
{
  uv_mutex_lock(&loop->lock);
  bool stopping = loop->stopping;
  loop->stopping = false;
  uv_mutex_unlock(&loop->lock);
  return stopping;
}

static void on_wake(uv_async_t *wake)
{
  mp_loop *loop = MP_CONTAINER(wake, mp_loop, wake);
  run_posts(loop);
  if (is_stopping(loop))
    uv_stop(&loop->uv);
}

static void on_tick(uv_timer_t *tick)
{
  mp_loop *loop = MP_CONTAINER(tick, mp_loop, tick);
  loop->tick_due = INT64_MAX;
  mp_timers_run(&loop->timers, (int64_t)uv_now(&loop->uv));
}

/* Before the loop asks the kernel. A timer that was moved later leaves `tick` alone: it fires early, finds nothing due and
 * is armed anew here. So moving a deadline with every line read costs no work in libuv. */
static void on_prepare(uv_prepare_t *prepare)
{
  mp_loop *loop = MP_CONTAINER(prepare, mp_loop, prepare);
  int64_t due = mp_timers_next(&loop->timers);
  if (due >= loop->tick_due)
    return;
  int64_t now = (int64_t)uv_now(&loop->uv);
  loop->tick_due = due;
  uv_timer_start(&loop->tick, on_tick, due > now ? (uint64_t)(due - now) : 0, 0);
}

static int init_common(mp_loop *loop)
{
  *loop = (mp_loop){ .tick_due = INT64_MAX };
  mp_timers_init(&loop->timers);
  mp_list_init(&loop->posted);
  mp_list_init(&loop->left);
  return uv_mutex_init(&loop->lock) == 0 ? 0 : MP_E_SYSTEM;
}

static void ignore_signal(int number)
{
  struct sigaction now;
  if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigemptyset(&ignore.sa_mask);
    sigaction(number, &ignore, NULL);
  }
}

int mp_loop_init(mp_loop *loop)
{
  /* libuv, and the libraries that write for us, leave MSG_NOSIGNAL out: a peer that hangs up must not end a script that sends mail. */
  ignore_signal(SIGPIPE);
  int rc = init_common(loop);
  if (rc < 0)
    return rc;
  loop->read_buf = mp_mem_alloc(MP_LOOP_READ);
  if (!loop->read_buf) {
    uv_mutex_destroy(&loop->lock);
    return MP_E_NOMEM;
  }
  int err = uv_loop_init(&loop->uv);
  if (err == 0) {
    err = uv_async_init(&loop->uv, &loop->wake, on_wake);
    if (err != 0)
      uv_loop_close(&loop->uv);
  }
  if (err != 0) {
    mp_mem_free(loop->read_buf);
    uv_mutex_destroy(&loop->lock);
    return mp_error_errno(-err);
  }
  uv_timer_init(&loop->uv, &loop->tick);
  uv_prepare_init(&loop->uv, &loop->prepare);
  uv_prepare_start(&loop->prepare, on_prepare);
  uv_unref((uv_handle_t *)&loop->tick);
  uv_unref((uv_handle_t *)&loop->prepare);
  return 0;
}

int mp_loop_init_virtual(mp_loop *loop, int64_t now_ms)
{
  int rc = init_common(loop);
  loop->is_virtual = true;
  loop->virtual_now = now_ms;
  return rc;
}

static bool is_own(const mp_loop *loop, const uv_handle_t *handle)
{
  return handle == (const uv_handle_t *)&loop->wake || handle == (const uv_handle_t *)&loop->tick ||
         handle == (const uv_handle_t *)&loop->prepare;
}

static void close_left(uv_handle_t *handle, void *arg)
{
  mp_loop *loop = arg;
  if (uv_is_closing(handle) || is_own(loop, handle))
    return;
  uv_handle_type type = uv_handle_get_type(handle);
  if (type == UV_TCP || type == UV_NAMED_PIPE)
    mp_stream_close(handle->data); /* listeners hold a uv_poll: every such handle is a stream's */
  else
    uv_close(handle, NULL);
}

static bool is_alive_uv(mp_loop *loop)
{
  if (loop->is_virtual)
    return false;
  uv_unref((uv_handle_t *)&loop->wake);
  bool alive = uv_loop_alive(&loop->uv);
  uv_ref((uv_handle_t *)&loop->wake);
  return alive;
}

void mp_loop_dispose(mp_loop *loop)
{
  loop->turning = true;
  bool more;
  do { /* what is told that it is closed may still post, or hand out work */
    while (!mp_list_empty(&loop->left)) {
      mp_leftover *left = MP_CONTAINER(loop->left.next, mp_leftover, node);
      mp_list_remove(&left->node);
      left->close(left);
    }
    if (!loop->is_virtual)
      uv_walk(&loop->uv, close_left, loop);
    run_posts(loop);
    more = has_posts(loop) || !mp_list_empty(&loop->left);
    if (is_alive_uv(loop)) {
      uv_run(&loop->uv, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
      more = true;
    }
  } while (more);
  if (!loop->is_virtual) {
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->tick, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
  }
  mp_timers_dispose(&loop->timers);
  mp_mem_free(loop->read_buf);
  uv_mutex_destroy(&loop->lock);
  *loop = (mp_loop){ 0 };
}

int64_t mp_loop_now(const mp_loop *loop)
{
  if (loop->is_virtual)
    return loop->virtual_now;
  /* A script may have been busy since the last turn: a deadline counted from then would be over before it began. */
  if (!loop->turning)
    uv_update_time(loop->tick.loop);
  return (int64_t)uv_now(&loop->uv);
}

static bool is_alive(mp_loop *loop)
{
  return loop->alive > 0 || mp_timers_next(&loop->timers) != INT64_MAX || has_posts(loop) || is_alive_uv(loop);
}

static void turn_virtual(mp_loop *loop)
{
  loop->turning = true;
  run_posts(loop);
  mp_timers_run(&loop->timers, loop->virtual_now);
  loop->turning = false;
}

void mp_loop_advance(mp_loop *loop, int64_t ms)
{
  int64_t until = loop->virtual_now + ms;
  for (;;) {
    turn_virtual(loop);
    if (has_posts(loop)) /* work was done, at this time: whoever hears of it may set a timer on the way */
      continue;
    int64_t due = mp_timers_next(&loop->timers);
    if (due > until)
      break;
    if (due > loop->virtual_now)
      loop->virtual_now = due;
  }
  loop->virtual_now = until;
}

static void run_uv(mp_loop *loop, uv_run_mode mode)
{
  loop->turning = true;
  uv_run(&loop->uv, mode);
  loop->turning = false;
}

void mp_loop_run(mp_loop *loop)
{
  if (loop->turning)
    return;
  while (!take_stop(loop)) {
    if (!loop->is_virtual)
      run_uv(loop, UV_RUN_DEFAULT);
    else if (mp_loop_timeout(loop) == 0)
      turn_virtual(loop);
    else
      break;
  }
}

bool mp_loop_turn(mp_loop *loop, bool wait)
{
  if (!loop->turning) {
    if (loop->is_virtual)
      turn_virtual(loop);
    else
      run_uv(loop, wait && is_alive(loop) ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  }
  return is_alive(loop);
}

void mp_loop_stop(mp_loop *loop)
{
  uv_mutex_lock(&loop->lock);
  loop->stopping = true;
  /* Under the lock: a run that has seen the flag may be followed by mp_loop_dispose. */
  if (!loop->is_virtual)
    uv_async_send(&loop->wake);
  uv_mutex_unlock(&loop->lock);
}

int mp_loop_fd(const mp_loop *loop)
{
  return loop->is_virtual ? -1 : uv_backend_fd(&loop->uv);
}

int mp_loop_timeout(const mp_loop *loop)
{
  if (loop->is_virtual && !mp_list_empty(&loop->posted))
    return 0;
  /* libuv says 0 too while it has to tell the kernel of a new interest, which takes a turn. */
  int wait = loop->is_virtual ? -1 : uv_backend_timeout(&loop->uv);
  int64_t due = mp_timers_next(&loop->timers);
  if (due == INT64_MAX)
    return wait;
  int64_t left = due - mp_loop_now(loop);
  left = left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : left;
  return wait < 0 || left < wait ? (int)left : wait;
}

void mp_loop_post(mp_loop *loop, mp_post *post)
{
  uv_mutex_lock(&loop->lock);
  bool first = mp_list_empty(&loop->posted);
  mp_list_push(&loop->posted, &post->node);
  if (first && !loop->is_virtual)
    uv_async_send(&loop->wake);
  uv_mutex_unlock(&loop->lock);
}

static void work_run(uv_work_t *req)
{
  mp_work *work = MP_CONTAINER(req, mp_work, req);
  work->work(work);
}

static void work_done(uv_work_t *req, int status)
{
  mp_work *work = MP_CONTAINER(req, mp_work, req);
  (void)status; /* nobody cancels one */
  work->loop->alive--;
  work->done(work);
}

static void work_posted(mp_post *post)
{
  mp_work *work = MP_CONTAINER(post, mp_work, post);
  work->loop->alive--;
  work->done(work);
}

int mp_loop_work(mp_loop *loop, mp_work *work)
{
  work->loop = loop;
  if (loop->is_virtual) {
    work->work(work);
    work->post.run = work_posted;
    mp_loop_post(loop, &work->post);
  } else if (uv_queue_work(&loop->uv, &work->req, work_run, work_done) != 0) {
    return MP_E_SYSTEM;
  }
  loop->alive++;
  return 0;
}

void mp_net_prepare_process(void)
{
  ignore_signal(SIGPIPE);
  ignore_signal(SIGXFSZ); /* a file at its limit is EFBIG for one message, not the end of the server */
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return;
  rlim_t want = limit.rlim_max < DESCRIPTORS_MOST ? limit.rlim_max : DESCRIPTORS_MOST;
  if (limit.rlim_cur < want) {
    limit.rlim_cur = want;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}
