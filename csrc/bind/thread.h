/* bind/thread.h -- serving threads and the generations in them. The state that made them (the command line's) is the only one that talks to
 * them, by notes of plain C data on loops; a note goes to a thread, and comes back as its own answer. */
#ifndef MP_BIND_THREAD_H
#define MP_BIND_THREAD_H

#include "bind/binding.h"
#include "bind/process.h"

typedef struct mpl_thread mpl_thread;
typedef struct mpl_threads mpl_threads;
typedef struct mpl_op mpl_op; /* a call of the main state that waits for every thread's answer */

/* What a generation is made from; read by every thread, written by none. */
typedef struct mpl_job {
  atomic_uint refs;
  char *text; /* for moonpost.generation */
  size_t text_len;
  unsigned binding_count;
  mpl_shared_binding *bindings[];
} mpl_job;

void mpl_job_unref(mpl_job *job); /* NULL does nothing */

typedef enum mpl_verb {
  MPL_LOAD,    /* answered when the generation is ready, or cannot be */
  MPL_SERVE,   /* answered at once */
  MPL_RETIRE,  /* told RETIRED later */
  MPL_STOP,    /* all generations, then the thread: told ENDED */
  MPL_ABANDON, /* the same without asking Lua: its state goes away */
  MPL_RETIRED,
  MPL_STARVED,
  MPL_STALLED, /* a call in Lua does not return; from the watchdog's thread */
  MPL_TELLS,   /* what a generation has to say to who made the threads */
  MPL_PING,    /* comes back when the loop turns */
  MPL_ENDED
} mpl_verb;

typedef struct mpl_note {
  mp_post post;
  mpl_thread *thread;
  mpl_verb verb;
  unsigned id;      /* of the generation */
  int64_t grace_ms; /* STALLED: how long the call has taken */
  mpl_job *job;     /* a reference */
  mpl_op *op;       /* NULL: nobody waits */
  bool ok;          /* the answer */
  char *why; /* when it is not: ours, NULL for want of memory. STALLED: the hook, or NULL. TELLS: what */
} mpl_note;

/* What a thread touches itself. */
struct mpl_thread {
  mpl_threads *all;
  mp_worker *worker;
  pthread_t id;
  unsigned number; /* from 0 */
  bool running;    /* the main state's view: not yet joined */
  mp_list generations;
  bool ending;
  mpl_note end, abandon; /* made in advance: an end must not need memory */
};

struct mpl_threads {
  atomic_uint refs;     /* the box, and every note on its way to it */
  atomic_bool stopping; /* what is being loaded has no future */
  mp_loop *loop;        /* of the state that made them */
  mpl_state *state;     /* NULL once it is gone */
  mpl_process *process;
  char *path, *cpath; /* package.path and package.cpath for the states */
  unsigned count, running, last_id;
  int self, done, event; /* registry references of the main state */
  mpl_thread thread[];
};

/* On the thread's loop. */
void mpl_generation_load(mpl_note *note); /* answers later */
void mpl_generation_serve(mpl_note *note);
void mpl_generation_retire(mpl_thread *thread, unsigned id, int64_t grace_ms);
void mpl_generations_retire(mpl_thread *thread, int64_t grace_ms);
void mpl_generations_abandon(mpl_thread *thread);
/* Closes states that are done. Outside of every turn of the loop: what a state leaves behind is ended by turning it. */
void mpl_generations_reap(mpl_thread *thread);
mpl_thread *mpl_generation_thread(const mpl_generation *gen);
void mpl_generation_starved(mpl_generation *gen); /* an allocation of this state's was refused */

/* From a thread to the main state; takes the note, copies `why`. */
void mpl_note_answer(mpl_note *note, bool ok, const char *why);
void mpl_thread_tell(mpl_thread *thread, mpl_verb verb, unsigned id);
void mpl_thread_stalled(mpl_thread *thread, unsigned id, int64_t ms, const char *hook); /* from any thread */
void mpl_thread_says(mpl_thread *thread, unsigned id, mp_str what);
void mpl_generation_says(const mpl_generation *gen, mp_str what); /* on its thread */
/* A call in this generation's state has not returned for `ms`; `hook` is static, or NULL. Any thread, while the state is open. */
void mpl_generation_stalled(const mpl_generation *gen, int64_t ms, const char *hook);

#endif
