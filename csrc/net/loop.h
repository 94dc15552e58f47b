/* net/loop.h -- one libuv loop with one timer heap, one read buffer and a wake-up for other threads. Everything of a loop is used by
 * one thread, but mp_loop_post and mp_loop_stop. */
#ifndef MP_NET_LOOP_H
#define MP_NET_LOOP_H

#include "base/ip.h"
#include "base/job.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/timers.h"

#include <uv.h>

enum { MP_LOOP_READ = 65536 };

typedef struct mp_loop {
  uv_loop_t uv;
  mp_timers timers; /* on mp_loop_now's clock */
  uv_timer_t tick;  /* armed for the earliest of `timers` */
  int64_t tick_due;
  uv_async_t wake;
  uv_mutex_t lock; /* of `posted` */
  mp_list posted;
  uv_prepare_t prepare; /* re-arms `tick` once a turn, whatever was set during it */
  /* MP_LOOP_READ octets, shared by every stream of the loop: a read is dealt with before the next */
  char *read_buf;
  bool read_busy;
  bool turning;    /* inside a turn */
  bool stopping;   /* under `lock` */
  mp_list left;    /* mp_leftover: what mp_loop_dispose closes, beside streams on handles */
  bool is_virtual; /* no libuv inside: a clock the test turns, work done in place */
  int64_t virtual_now;
  unsigned alive; /* streams, listeners, works not yet closed */
} mp_loop;

/* 0, MP_E_NOMEM or MP_E_SYSTEM. SIGPIPE is ignored from then on, where it would have killed. */
int mp_loop_init(mp_loop *loop);
/* For tests; mp_loop_turn runs posts and due timers, never blocks. */
int mp_loop_init_virtual(mp_loop *loop, int64_t now_ms);
/* Virtual only: timers on the way run, each at its own time, and posts. */
void mp_loop_advance(mp_loop *loop, int64_t ms);

/* Closes what is left and runs until it is gone: `closed` of streams, `done` of works and `run` of posts are called, timers that are
 * set are forgotten. Nobody may post any more, and not from inside a turn. */
void mp_loop_dispose(mp_loop *loop);

/* Milliseconds, monotonic, of this turn; outside of turns, of this moment. */
int64_t mp_loop_now(const mp_loop *loop);

/* Runs until mp_loop_stop, or one turn: `wait` says whether to block until something happens. A virtual loop runs while something
 * is to be done at its present time. */
void mp_loop_run(mp_loop *loop);
/* False when nothing is alive but the loop's own handles; a set timer is alive. */
bool mp_loop_turn(mp_loop *loop, bool wait);
/* From any thread or inside the loop; one that comes early ends the next run at once. */
void mp_loop_stop(mp_loop *loop);
/* For loops of other programs: readable when a turn has work. */
int mp_loop_fd(const mp_loop *loop);
int mp_loop_timeout(const mp_loop *loop); /* milliseconds until a turn has work anyway; -1 never */

/* A note to the loop's thread; run there on a later turn. The storage is the caller's until `run` is called. Any thread. */
typedef struct mp_post mp_post;
struct mp_post {
  mp_list node;
  void (*run)(mp_post *post);
};
void mp_loop_post(mp_loop *loop, mp_post *post);

/* Work for libuv's thread pool: `work` there, then `done` on the loop's thread. The storage is the caller's until `done`. */
typedef struct mp_work mp_work;
struct mp_work {
  union {
    uv_work_t req;
    mp_post post; /* of a virtual loop */
  };
  mp_loop *loop;
  void (*work)(mp_work *work);
  void (*done)(mp_work *work);
};
/* 0 or MP_E_SYSTEM. On a virtual loop `work` runs at once and `done` on the next turn */
int mp_loop_work(mp_loop *loop, mp_work *work);

/* For what lives on the loop without a stream's handle: mp_loop_dispose calls `close`, which takes the node out. */
typedef struct mp_leftover mp_leftover;
struct mp_leftover {
  mp_list node;
  void (*close)(mp_leftover *left);
};

/* Once, early in a process that uses sockets, by the program rather than a library inside it: SIGPIPE and SIGXFSZ are ignored where they would have
 * killed (a peer that hangs up, or a file at its limit, is an error of the write; children inherit this, so what is executed wants it back), and as many
 * descriptors are allowed as the hard limit grants, at most a million (some programs close every possible one). */
void mp_net_prepare_process(void);

#endif
