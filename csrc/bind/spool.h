/* bind/spool.h -- what the files of the spool's binding share: a spool of the process, a state's box of it, and a question on its way. */
#ifndef MP_BIND_SPOOL_H
#define MP_BIND_SPOOL_H

#include "bind/process.h"
#include "spool/spool.h"

#define MPL_SPOOL "moonpost.core.spool"

enum { MPL_SPOOL_LINES = 16 }; /* of the spool's log that wait for a loop; more are left out */

/* An open spool of the process. Who wants to hear of changes is told by a note on his loop. */
typedef struct mpl_spool {
  struct mpl_spool *next;
  mp_spool *spool;
  unsigned owners;  /* among whom domains are divided: the process's workers */
  unsigned users;   /* under the process's lock */
  uint16_t holders; /* the last number that a box was given; under the process's lock */
  pthread_mutex_t lock;
  mp_list listeners;
  char *lines[MPL_SPOOL_LINES]; /* under `lock` */
  unsigned line_count;
  char *folder;
} mpl_spool;

typedef struct mpl_spool_listener mpl_spool_listener;

typedef struct mpl_spool_box { /* box; uservalue 1: the worker. When it is collected nobody hears what was asked */
  mpl_spool *shared;           /* NULL: closed */
  mpl_process *process;
  mpl_state *state;
  mp_loop *loop;
  unsigned owner;  /* of domains: this worker */
  uint16_t holder; /* of leases: this box */
  mpl_spool_listener *heard;
  int changed, logged; /* registry references of functions */
  /* Asked and not yet answered by another thread: the loop must outlive these. */
  pthread_mutex_t lock;
  pthread_cond_t none;
  unsigned open;
  mp_list waiting; /* of mpl_asked: the loop's thread alone */
} mpl_spool_box;

/* One question: the request, what it points to, and who hears of the answer. */
typedef struct mpl_asked mpl_asked;
struct mpl_asked {
  union {
    mp_spool_request request;
    mp_spool_put_request put;
    mp_spool_update_request update;
    mp_spool_claim_request claim;
    mp_spool_lease_request lease;
    mp_spool_list_request list;
    mp_spool_read_request read;
    mp_spool_check_request check;
  } of;
  void (*ask)(mpl_asked *asked);               /* hands the request to the spool */
  int (*push)(lua_State *L, mpl_asked *asked); /* what is said of it when it went well; returns how many values */
  mp_spool_batch **batch;                      /* in the request: freed with it; or NULL */
  mp_arena arena;                              /* texts */
  mp_spool_message message;
  mp_spool_recipient *recipients;
  mp_spool_change *changes;
  char *into;
  /* A large body is written to a file by the pool first. */
  mp_work work;
  mp_message *source; /* a reference; NULL: the body is `octets` */
  mp_str octets;
  /* on its way */
  mp_post post;
  mp_list node;
  mpl_spool_box *box; /* NULL: the state is closing */
  mp_spool *spool;    /* open as long as a thread works on it */
  mp_loop *loop;      /* alive as long as it is asked */
  int done, held;     /* registry references; of `held` the request borrows */
};

mpl_spool_box *mpl_check_spool(lua_State *L); /* the first argument; raises when it is closed */

/* The state closes: nobody hears of the answer any more. */
void mpl_asked_forget(mpl_asked *asked);

/* bind/spool_row.c: what is read from Lua into a request, and what was found as a table. */
int64_t mpl_spool_ms(lua_State *L, int index);     /* unix seconds on the stack as milliseconds */
int64_t mpl_spool_end_ms(lua_State *L, int index); /* the same; 0: one that may never come */
int64_t mpl_spool_wait_ms(lua_State *L,
                          int index); /* seconds from now as milliseconds, rounded up; for ever is 30 years */
mp_str mpl_spool_text(lua_State *L, mpl_asked *asked, int index); /* copied */
void mpl_spool_read_message(lua_State *L, mpl_asked *asked, int index);
size_t mpl_spool_read_recipients(lua_State *L, mpl_asked *asked, int index);
size_t mpl_spool_read_changes(lua_State *L, mpl_asked *asked, int index);
void mpl_spool_read_filter(lua_State *L, mpl_asked *asked, int index, mp_spool_filter *filter);
void mpl_spool_push_batch(lua_State *L, const mp_spool_batch *batch, uint64_t lease);

/* bind/spool_ask.c: adds the methods that ask; and how a question is put together and asked. */
void mpl_spool_add_questions(lua_State *L);
mpl_asked **mpl_draft_new(lua_State *L); /* a draft at the top of the stack: what raises while it is put together leaks nothing */
/* Asks. `done`: the index of the function that hears of the answer, 0: nobody; `held`: of a value that the request borrows from, or 0. */
int mpl_ask(lua_State *L, mpl_asked **draft, int done, int held);
void mpl_asked_open(mpl_spool_box *box);    /* a thread takes its part */
void mpl_asked_hand_back(mpl_asked *asked); /* a thread has done its part: the loop goes on with it */

/* bind/spool_put.c: two of those methods. */
int mpl_spool_put(lua_State *L);
int mpl_spool_accept(lua_State *L);

#endif
