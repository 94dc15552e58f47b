/* bind/process.h -- what exists once in a process and is handed to each of its Lua states: the gate, the shared tables, what has been done
 * once. No global variable: the first state that needs it makes it, serving threads are given it. */
#ifndef MP_BIND_PROCESS_H
#define MP_BIND_PROCESS_H

#include "bind/mpl.h"
#include "conn/shared.h"

#include <pthread.h>

struct mpl_once;
struct mpl_spool;

struct mpl_process {
  atomic_uint refs;
  mp_gate *gate;
  mp_shared_set *tables;
  pthread_mutex_t lock; /* of `done` and `spools` */
  struct mpl_once *done;
  struct mpl_spool *spools; /* bind/spool.c: those that somebody uses */
};

int mpl_process_new(mpl_process **process); /* one reference. 0, MP_E_NOMEM */
mpl_process *mpl_process_ref(mpl_process *process);
void mpl_process_unref(mpl_process *process); /* NULL does nothing */

/* The record of this state's process; made at the first call. Raises when there is no memory. */
mpl_process *mpl_process_of(lua_State *L);

#endif
