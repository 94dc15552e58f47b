/* bind/mpl.h -- what the files of the binding share. A box whose pointer is NULL is closed, and valid before anything is acquired. C enters
 * Lua through mpl_enter/mpl_leave around a protected call on the state's main thread, and never yields. */
#ifndef MP_BIND_MPL_H
#define MP_BIND_MPL_H

#include "base/error.h"
#include "base/str.h"
#include "conn/conn.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>

#define MPL_WORKER   "moonpost.core.worker"
#define MPL_TIMER    "moonpost.core.timer"
#define MPL_BINDING  "moonpost.core.binding"
#define MPL_SERVICE  "moonpost.core.service"
#define MPL_LISTENER "moonpost.core.listener"
#define MPL_CONN     "moonpost.core.conn"
#define MPL_MESSAGE  "moonpost.core.message"
#define MPL_WIRE     "moonpost.core.wire"
#define MPL_THREAD   "moonpost.core.threads"
#define MPL_SHARED   "moonpost.core.shared"
#define MPL_DNS      "moonpost.core.dns"
#define MPL_QUERY    "moonpost.core.query"
#define MPL_BUF      "moonpost.core.buf"
#define MPL_FRESH    "moonpost.core.fresh"

typedef struct mpl_watch mpl_watch;
typedef struct mpl_delivery mpl_delivery;
typedef struct mpl_process mpl_process;
typedef struct mpl_generation mpl_generation;
typedef struct mpl_service mpl_service;
typedef struct mpl_leaving mpl_leaving; /* bind/client.h */

/* One Lua state's side of the binding; in the registry under its own address key. */
typedef struct mpl_state {
  lua_State *L;               /* the main thread */
  mp_worker *worker;          /* the state's own or its thread's; NULL until asked for */
  bool borrowed;              /* the worker is a serving thread's */
  mpl_process *process;       /* a reference; NULL until asked for */
  mpl_generation *generation; /* NULL unless a serving thread made this state */
  mpl_watch *watch;
  const atomic_bool *stopping; /* set: what this state loads has no future. NULL: nobody says so */
  unsigned depth;              /* of calls from C */
  int kinds[MP_EV_COUNT];      /* registry references of the event names */
  mp_list deliveries;          /* on their way: told that the state is gone when it closes */
  size_t memory, memory_most;
  bool refused, starved; /* an allocation was refused just now; a second time, after a full collection */
  lua_Alloc inner_alloc;
  void *inner_ud;
} mpl_state;

typedef struct mpl_worker { /* box */
  mp_worker *worker;
  bool owned;
  mp_list services; /* of mpl_service */
  mp_list leaving;  /* of mpl_leaving: connections of the sending half */
} mpl_worker;

mpl_state *mpl_state_of(lua_State *L);

/* Around every call from C into Lua: tells the watchdog that Lua runs. Nested calls count once. */
void mpl_enter(mpl_state *state);
void mpl_leave(mpl_state *state);
/* The hook that the call to come is about, for the watchdog; static. Forgotten when it has returned. */
void mpl_watch_hook(mpl_state *state, const char *name);

/* Calls what stands on the stack (function and `nargs` arguments) protected; an error is written to the log function (or stderr) and
 * leaves nothing. True with `nresults` values, false with none. */
bool mpl_call(mpl_state *state, int nargs, int nresults);

/* A table of methods as `name`'s metatable: __index, __gc and __close (may be NULL), __name. */
void mpl_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

/* nil, text, name-of-error; returns 3. `why` NULL: the error's own text. */
int mpl_fail(lua_State *L, int rc, const char *why);

mpl_worker *mpl_check_worker(lua_State *L, int index);
unsigned mpl_place(lua_State *L,
                   unsigned *count); /* which of the process's serving threads this is, from 0, and how many there are */
int64_t mpl_check_ms(lua_State *L,
                     int index); /* seconds on the stack, as milliseconds; raises below 0 and past 10 years */
void mpl_push_str(lua_State *L, mp_str s);
mp_str mpl_check_str(lua_State *L, int index);

/* Pushes a userdata with an empty buffer: what is in it does not leak when a push behind it raises. */
mp_buf *mpl_push_buf(lua_State *L, size_t max);

/* Reads a reply at `index` (code, enhanced or nil, text or nil) into *reply; views are borrowed from the Lua stack. NULL or a sentence. */
const char *mpl_read_reply(lua_State *L, int index, mp_reply *reply);

/* A table of MAIL's or RCPT's parameters, or nil when none were given. Returns 1. */
int mpl_push_mail_params(lua_State *L, const mp_mail_params *params);
int mpl_push_rcpt_params(lua_State *L, const mp_rcpt_params *params);
void mpl_push_local(lua_State *L, const mp_path *path); /* the local part, unquoted */

mp_message *mpl_check_message(lua_State *L, int index);                           /* raises */
void mpl_push_message(lua_State *L, mp_message *msg, const mpl_service *service); /* takes a reference */
void mpl_push_made(lua_State *L, mp_message *msg);       /* of no service; takes a reference */
void mpl_message_answered(mp_message *msg);              /* closes its box, unless kept; NULL does nothing */
bool mpl_answer(mp_conn *conn, const mp_answer *answer); /* mp_conn_answer, and the message's box with it */
void *mpl_pending(void);                                 /* the light userdata behind core.PENDING */
void *mpl_watch_api(void);                               /* and behind core.watch_api: api/watch.h */
void mpl_read_answer(lua_State *L, int base, mp_event_kind kind, mp_answer *answer);
extern const mp_handler mpl_handler; /* bind/dispatch.c: events into Lua */

int mpl_open_worker(lua_State *L);
int mpl_open_service(lua_State *L);
int mpl_open_conn(lua_State *L);
int mpl_open_message(lua_State *L);
int mpl_open_binding(lua_State *L);
int mpl_open_wire(lua_State *L);
int mpl_open_watch(lua_State *L);
int mpl_open_process(lua_State *L);
int mpl_open_fresh(lua_State *L);
int mpl_open_folder(lua_State *L);
int mpl_open_supervise(lua_State *L);
int mpl_open_shared(lua_State *L);
int mpl_open_thread(lua_State *L);
int mpl_open_dial(lua_State *L);
int mpl_open_client(lua_State *L);
int mpl_open_dns(lua_State *L);
int mpl_open_psl(lua_State *L);
int mpl_open_authres(lua_State *L);
int mpl_open_dkim(lua_State *L);
int mpl_open_spool(lua_State *L);
int mpl_open_journal(lua_State *L);
int mpl_open_made(lua_State *L);    /* after the worker */
int mpl_open_lines(lua_State *L);   /* after the worker */
int mpl_open_rewrite(lua_State *L); /* after the message */
void mpl_watch_free(mpl_state *state);

void mpl_forget_deliveries(mpl_state *state, const mp_loop *loop); /* NULL: of every loop */

/* A delivery on its way. When the state closes first, nobody is told. */
struct mpl_delivery {
  mp_list node;
  mpl_state *state; /* NULL: the state is gone */
  const mp_loop *loop;
  int done; /* registry reference of the callback */
};
struct mpl_service { /* box; uservalue 1: its worker. Kept in the registry while the service lives */
  mp_service *service;
  mpl_state *state;
  mpl_worker *worker;
  mp_list node;
  int self, dispatch, session, done; /* registry references */
};

typedef struct mpl_conn { /* box; uservalue 1: the session object. Kept in the registry while the connection lives */
  mp_conn *conn;
  int self;
} mpl_conn;

void mpl_kill_services(mp_list *services); /* takes each out of the list when it is gone, on a turn of its loop */
mp_binding *mpl_check_binding(lua_State *L, int index);
mpl_service *mpl_check_service(lua_State *L, int index);
int mpl_service_wire(lua_State *L);         /* service:wire */
int mpl_worker_service(lua_State *L);       /* worker:service */
int mpl_worker_dial(lua_State *L);          /* worker:dial */
int mpl_worker_memory_stream(lua_State *L); /* worker:memory_stream */
int mpl_worker_client(lua_State *L);        /* worker:client */
int mpl_worker_folder(lua_State *L);        /* worker:folder */
void mpl_leave_all(mp_list *leaving);
int mpl_worker_dns(lua_State *L);                                  /* worker:dns */
int mpl_core_dns_name(lua_State *L);                               /* core.dns_name */
int mpl_core_dns_unicode(lua_State *L);                            /* core.dns_unicode */
int mpl_core_dns_reverse(lua_State *L);                            /* core.dns_reverse */
mp_port *mpl_make_port(lua_State *L, mpl_service *box, int index); /* raises */
extern const mp_handler mpl_silent;                                /* for services whose state is closing */
void mpl_read_port(lua_State *L, int index, mp_server_opts *machine, mp_tls_mode *tls, const char **name);
void mpl_read_limits(lua_State *L, int index, mp_service *service);

#endif
