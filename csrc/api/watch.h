/* api/watch.h -- the loop, for modules of their own beside moonpost.core: descriptors to watch, a timer, calls into Lua. One table of functions, so that
 * such a module links none of the floors and there is one loop, one heap and one watchdog.
 *
 *   lua_getfield(L, core, "watch_api");
 *   const mp_watch_api *api = lua_touserdata(L, -1);
 *   if (!api || api->version != MP_WATCH_API_VERSION) ...
 *
 * Everything of a loop is used by its thread alone. Callbacks come on a later turn, never from inside one of these functions, and may call any of
 * them. What was opened is closed before the Lua state that opened it is gone; the table and its functions stay as long as the process. */
#ifndef MP_API_WATCH_H
#define MP_API_WATCH_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A table of another version is laid out in another way. */
enum { MP_WATCH_API_VERSION = 1 };

enum { MP_WATCH_READ = 1, MP_WATCH_WRITE = 2 };

typedef struct mp_watch_loop mp_watch_loop;
typedef struct mp_watch_fd mp_watch_fd;
typedef struct mp_watch_timer mp_watch_timer;

typedef struct mp_watch_api {
  unsigned version;

  /* The loop of the worker at `index`; lives as long as that worker. NULL: a virtual worker, which has no descriptors. Raises when it is no worker. */
  mp_watch_loop *(*loop)(lua_State *L, int index);

  /* Watches a descriptor, for nothing at first; it stays its owner's, and open until fd_close. 0, or negative when memory or the kernel says no. */
  int (*fd_open)(mp_watch_fd **watch, mp_watch_loop *loop, int fd, void (*ready)(void *ctx, int events),
                 void *ctx);
  /* MP_WATCH_* bits. An error of the descriptor is told as everything that was asked for. While something is watched, the loop waits for it. */
  void (*fd_set)(mp_watch_fd *watch, int events);
  void (*fd_close)(mp_watch_fd *watch); /* NULL does nothing */

  int (*timer_open)(mp_watch_timer **timer, mp_watch_loop *loop, void (*fired)(void *ctx),
                    void *ctx);                        /* 0 or negative */
  int (*timer_set)(mp_watch_timer *timer, int64_t ms); /* from now, once; below 0: not any more. 0 or negative */
  void (*timer_close)(mp_watch_timer *timer);          /* NULL does nothing */

  /* From a callback: calls the function and its `nargs` arguments that stand on the stack of the state's main thread. True with `nresults`
   * values; an error is written to the log and leaves nothing. */
  bool (*call)(lua_State *main, int nargs, int nresults);

  void *(*resize)(void *ptr, size_t size); /* the heap's door: NULL for a new block; on NULL the old one is intact */
  void (*free)(void *ptr);
} mp_watch_api;

#endif
