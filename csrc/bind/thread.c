#include "bind/thread.h"

#include <signal.h>
#include <stdio.h>

/* The module as its states see it: worker:thread numbers, the handle on all of them, and the main state's side of every note. */

enum { THREADS_MOST = 256, TEXT_MOST = 1 << 20, BINDINGS_MOST = 1024 };

struct mpl_op {
  unsigned left;
  int done; /* registry reference */
  bool ok;
  char *why; /* the first that failed */
};

typedef struct threads_box {
  mpl_threads *all; /* NULL when closed */
} threads_box;

static void threads_unref(mpl_threads *all)
{
  if (atomic_fetch_sub(&all->refs, 1) != 1)
    return;
  mpl_process_unref(all->process);
  mp_mem_free(all->path);
  mp_mem_free(all->cpath);
  mp_mem_free(all);
}

void mpl_job_unref(mpl_job *job)
{
  if (!job || atomic_fetch_sub(&job->refs, 1) != 1)
    return;
  for (unsigned i = 0; i < job->binding_count; i++)
    mpl_binding_unref(job->bindings[i]);
  mp_mem_free(job->text);
  mp_mem_free(job);
}

static void op_free(mpl_op *op)
{
  if (op)
    mp_mem_free(op->why);
  mp_mem_free(op);
}

/* ---- on the thread --------------------------------------------------------------------------------------------------- */

static void note_arrived(mp_post *post);
static void note_answered(mp_post *post);

static void send_back(mpl_note *note)
{
  note->post.run = note_answered;
  mp_loop_post(note->thread->all->loop, &note->post);
}

void mpl_note_answer(mpl_note *note, bool ok, const char *why)
{
  note->ok = ok;
  note->why = ok || !why ? NULL : mp_mem_dup(why, strlen(why));
  send_back(note);
}

static void tell_of(mpl_thread *thread, mpl_note what)
{
  mpl_note *note = mp_mem_zalloc(sizeof *note);
  if (!note)
    return;
  atomic_fetch_add(&thread->all->refs, 1);
  *note = what;
  note->thread = thread;
  send_back(note);
}

void mpl_thread_tell(mpl_thread *thread, mpl_verb verb, unsigned id)
{
  tell_of(thread, (mpl_note){ .verb = verb, .id = id });
}

void mpl_thread_stalled(mpl_thread *thread, unsigned id, int64_t ms, const char *hook)
{
  tell_of(thread, (mpl_note){ .verb = MPL_STALLED,
                              .id = id,
                              .grace_ms = ms,
                              .why = hook ? mp_mem_dup(hook, strlen(hook)) : NULL });
}

void mpl_thread_says(mpl_thread *thread, unsigned id, mp_str what)
{
  tell_of(thread, (mpl_note){ .verb = MPL_TELLS, .id = id, .why = mp_mem_dup(what.ptr, what.len) });
}

static void note_arrived(mp_post *post)
{
  mpl_note *note = MP_CONTAINER(post, mpl_note, post);
  mpl_thread *thread = note->thread;
  switch (note->verb) {
  case MPL_LOAD:
    mpl_generation_load(note);
    return;
  case MPL_SERVE:
    mpl_generation_serve(note);
    return;
  case MPL_RETIRE:
    mpl_generation_retire(thread, note->id, note->grace_ms);
    break;
  case MPL_STOP:
    thread->ending = true;
    mpl_generations_retire(thread, note->grace_ms);
    mp_loop_stop(&thread->worker->loop);
    break;
  case MPL_PING:
    break;
  default:
    thread->ending = true;
    mpl_generations_abandon(thread);
    mp_loop_stop(&thread->worker->loop);
    return; /* not a note from the heap */
  }
  mpl_note_answer(note, true, NULL);
}

static void *thread_main(void *arg)
{
  mpl_thread *thread = arg;
  do {
    mp_loop_run(&thread->worker->loop);
    mpl_generations_reap(thread);
  } while (!thread->ending || !mp_list_empty(&thread->generations));
  send_back(&thread->end);
  return NULL;
}

/* ---- on the main state's loop ---------------------------------------------------------------------------------------- */

/* Calls the function behind `ref` with the `nargs` values on top of the stack. */
static void call_ref(mpl_threads *all, int ref, int nargs)
{
  lua_State *L = all->state->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  lua_insert(L, -nargs - 1);
  mpl_call(all->state, nargs, 0);
}

static void op_answered(mpl_threads *all, mpl_op *op, mpl_note *note)
{
  if (!note->ok && op->ok) {
    op->ok = false;
    op->why = note->why;
    note->why = NULL;
  }
  if (--op->left > 0)
    return;
  if (all->state) {
    lua_State *L = all->state->L;
    if (op->ok)
      lua_pushnil(L);
    else
      lua_pushstring(L, op->why ? op->why : mp_error_text(MP_E_NOMEM));
    call_ref(all, op->done, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, op->done);
  }
  op_free(op);
}

static const char *event_name(mpl_verb verb)
{
  switch (verb) {
  case MPL_STARVED:
    return "starved";
  case MPL_STALLED:
    return "stalled";
  case MPL_TELLS:
    return "tells";
  case MPL_PING:
    return "alive";
  default:
    return "retired";
  }
}

static void tell(mpl_threads *all, const mpl_note *note)
{
  if (!all->state || all->event == LUA_NOREF)
    return;
  lua_State *L = all->state->L;
  lua_pushstring(L, event_name(note->verb));
  lua_pushinteger(L, (lua_Integer)note->thread->number + 1);
  lua_pushinteger(L, (lua_Integer)note->id);
  lua_pushnumber(L, (lua_Number)note->grace_ms / 1000);
  lua_pushstring(L, note->why);
  call_ref(all, all->event, 5);
}

static void join(mpl_thread *thread)
{
  if (!thread->running)
    return;
  pthread_join(thread->id, NULL);
  thread->running = false;
  thread->all->running--;
  thread->all->loop->alive--;
  /* Notes that came too late are answered on the way: the thread is ending. */
  mp_worker_free(thread->worker);
  thread->worker = NULL;
}

static void all_ended(mpl_threads *all)
{
  if (!all->state || all->running > 0)
    return;
  lua_State *L = all->state->L;
  int done = all->done, self = all->self;
  all->done = all->self = LUA_NOREF;
  if (done != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, done);
    luaL_unref(L, LUA_REGISTRYINDEX, done);
    mpl_call(all->state, 0, 0);
  }
  luaL_unref(L, LUA_REGISTRYINDEX, self);
}

static void note_answered(mp_post *post)
{
  mpl_note *note = MP_CONTAINER(post, mpl_note, post);
  mpl_threads *all = note->thread->all;
  switch (note->verb) {
  case MPL_ENDED:
    join(note->thread);
    all_ended(all);
    break; /* the note is a part of the thread */
  case MPL_RETIRED:
  case MPL_STARVED:
  case MPL_STALLED:
  case MPL_TELLS:
  case MPL_PING:
    tell(all, note);
    mp_mem_free(note->why);
    mp_mem_free(note);
    break;
  default:
    if (note->op)
      op_answered(all, note->op, note);
    mpl_job_unref(note->job);
    mp_mem_free(note->why);
    mp_mem_free(note);
  }
  threads_unref(all);
}

static void post_note(mpl_note *note)
{
  atomic_fetch_add(&note->thread->all->refs, 1);
  note->post.run = note_arrived;
  mp_loop_post(&note->thread->worker->loop, &note->post);
}

/* A note like `what` to each thread that runs; none when there is no memory for all. */
static bool send_all(mpl_threads *all, const mpl_note *what)
{
  mpl_note *notes[THREADS_MOST];
  unsigned count = 0;
  for (unsigned i = 0; i < all->count; i++) {
    if (!all->thread[i].running)
      continue;
    mpl_note *note = mp_mem_alloc(sizeof *note);
    if (!note) {
      while (count > 0)
        mp_mem_free(notes[--count]);
      return false;
    }
    *note = *what;
    note->thread = &all->thread[i];
    notes[count++] = note;
  }
  if (what->op)
    what->op->left = count;
  for (unsigned i = 0; i < count; i++) {
    if (notes[i]->job)
      atomic_fetch_add(&notes[i]->job->refs, 1);
    post_note(notes[i]);
  }
  return true;
}

/* ---- Lua ------------------------------------------------------------------------------------------------------------- */

static mpl_threads *check_threads(lua_State *L)
{
  threads_box *box = luaL_checkudata(L, 1, MPL_THREAD);
  luaL_argcheck(L, box->all && box->all->running == box->all->count, 1, "threads have ended");
  return box->all;
}

/* A call that waits for every thread; takes the function at `index`. */
static void wait_for_all(lua_State *L, mpl_threads *all, int index, mpl_note note)
{
  luaL_checktype(L, index, LUA_TFUNCTION);
  lua_pushvalue(L, index);
  int done = luaL_ref(L, LUA_REGISTRYINDEX);
  mpl_op *op = mp_mem_zalloc(sizeof *op);
  if (op)
    *op = (mpl_op){ .done = done, .ok = true };
  note.op = op;
  bool sent = op && send_all(all, &note);
  mpl_job_unref(note.job);
  if (sent)
    return;
  op_free(op);
  luaL_unref(L, LUA_REGISTRYINDEX, done);
  luaL_error(L, "out of memory");
}

static mpl_job *new_job(mp_str text, unsigned bindings)
{
  mpl_job *job = mp_mem_zalloc(sizeof *job + bindings * sizeof job->bindings[0]);
  if (!job)
    return NULL;
  atomic_init(&job->refs, 1);
  job->text = mp_mem_dup(text.ptr, text.len);
  job->text_len = text.len;
  if (job->text)
    return job;
  mp_mem_free(job);
  return NULL;
}

/* load(text, bindings, done) */
static int threads_load(lua_State *L)
{
  mpl_threads *all = check_threads(L);
  mp_str text = mpl_check_str(L, 2);
  luaL_argcheck(L, text.len <= TEXT_MOST, 2, "too long");
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  size_t count = lua_rawlen(L, 3);
  luaL_argcheck(L, count <= BINDINGS_MOST, 3, "too many");
  for (size_t i = 1; i <= count; i++) {
    lua_rawgeti(L, 3, (lua_Integer)i);
    mpl_check_binding(L, -1);
    lua_pop(L, 1);
  }
  mpl_job *job = new_job(text, (unsigned)count);
  if (!job)
    return luaL_error(L, "out of memory");
  for (; job->binding_count < count; job->binding_count++) {
    lua_rawgeti(L, 3, (lua_Integer)job->binding_count + 1);
    job->bindings[job->binding_count] = mpl_binding_ref(*(mpl_shared_binding **)lua_touserdata(L, -1));
    lua_pop(L, 1);
  }
  unsigned id = ++all->last_id;
  wait_for_all(L, all, 4, (mpl_note){ .verb = MPL_LOAD, .id = id, .job = job });
  lua_pushinteger(L, (lua_Integer)id);
  return 1;
}

static unsigned check_id(lua_State *L, int index)
{
  lua_Integer id = luaL_checkinteger(L, index);
  luaL_argcheck(L, id > 0 && id <= (lua_Integer)UINT32_MAX, index, "a number that load() returned");
  return (unsigned)id;
}

/* serve(id, done) */
static int threads_serve(lua_State *L)
{
  mpl_threads *all = check_threads(L);
  wait_for_all(L, all, 3, (mpl_note){ .verb = MPL_SERVE, .id = check_id(L, 2) });
  return 0;
}

/* retire(id, grace, done) */
static int threads_retire(lua_State *L)
{
  mpl_threads *all = check_threads(L);
  mpl_note note = { .verb = MPL_RETIRE, .id = check_id(L, 2), .grace_ms = mpl_check_ms(L, 3) };
  if (!lua_isnoneornil(L, 4))
    wait_for_all(L, all, 4, note);
  else if (!send_all(all, &note))
    luaL_error(L, "out of memory");
  return 0;
}

/* stop(grace, done) */
static int threads_stop(lua_State *L)
{
  threads_box *box = luaL_checkudata(L, 1, MPL_THREAD);
  luaL_argcheck(L, box->all && box->all->running > 0, 1, "threads have ended");
  mpl_threads *all = box->all;
  mpl_note note = { .verb = MPL_STOP, .grace_ms = mpl_check_ms(L, 2) };
  atomic_store(&all->stopping, true);
  if (!lua_isnoneornil(L, 3)) {
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_unref(L, LUA_REGISTRYINDEX, all->done);
    lua_pushvalue(L, 3);
    all->done = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  if (!send_all(all, &note))
    luaL_error(L, "out of memory");
  return 0;
}

/* ping(): each thread whose loop turns is told of, as "alive" */
static int threads_ping(lua_State *L)
{
  if (!send_all(check_threads(L), &(mpl_note){ .verb = MPL_PING }))
    luaL_error(L, "out of memory");
  return 0;
}

/* events(fn) */
static int threads_events(lua_State *L)
{
  mpl_threads *all = check_threads(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_unref(L, LUA_REGISTRYINDEX, all->event);
  lua_pushvalue(L, 2);
  all->event = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/* The state goes away with threads running: they are ended without asking the Lua in them. */
static int threads_gc(lua_State *L)
{
  threads_box *box = luaL_checkudata(L, 1, MPL_THREAD);
  mpl_threads *all = box->all;
  if (!all)
    return 0;
  box->all = NULL;
  atomic_store(&all->stopping, true);
  for (unsigned i = 0; i < all->count; i++)
    if (all->thread[i].running)
      post_note(&all->thread[i].abandon);
  all->state = NULL;
  for (unsigned i = 0; i < all->count; i++)
    join(&all->thread[i]);
  threads_unref(all);
  return 0;
}

static int start_thread(mpl_threads *all, unsigned number)
{
  mpl_thread *thread = &all->thread[number];
  *thread = (mpl_thread){ .all = all, .number = number };
  mp_list_init(&thread->generations);
  thread->end = (mpl_note){ .thread = thread, .verb = MPL_ENDED };
  thread->abandon = (mpl_note){ .thread = thread, .verb = MPL_ABANDON };
  int rc = mp_worker_new(&thread->worker, number, all->process->gate, false);
  if (rc < 0)
    return rc;
  /* Signals that mean the process are for the thread that made us. */
  sigset_t process, before;
  sigemptyset(&process);
  sigaddset(&process, SIGTERM);
  sigaddset(&process, SIGINT);
  sigaddset(&process, SIGHUP);
  sigaddset(&process, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &process, &before);
  rc = pthread_create(&thread->id, NULL, thread_main, thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc != 0) {
    mp_worker_free(thread->worker);
    return MP_E_SYSTEM;
  }
  char name[16];
  snprintf(name, sizeof name, "moonpost %u", number + 1);
  pthread_setname_np(thread->id, name);
  atomic_fetch_add(&all->refs, 1); /* of thread->end */
  thread->running = true;
  all->running++;
  all->loop->alive++;
  return 0;
}

static char *package_field(lua_State *L, const char *name)
{
  luaL_checkstack(L, 4, NULL);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "package");
  lua_getfield(L, -1, name);
  const char *text = lua_tostring(L, -1);
  char *copy = mp_mem_dup(text ? text : "", text ? strlen(text) : 0);
  lua_pop(L, 3);
  return copy;
}

static int core_threads(lua_State *L)
{
  lua_Integer count = luaL_checkinteger(L, 1);
  luaL_argcheck(L, count >= 1 && count <= THREADS_MOST, 1, "1 to 256 threads");
  mpl_process *process = mpl_process_of(L);
  mpl_state *state = mpl_state_of(L);
  luaL_argcheck(L, state->worker && !state->worker->loop.is_virtual, 1,
                "the state has no worker: call core.worker() first");
  threads_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->all = NULL;
  luaL_setmetatable(L, MPL_THREAD);
  mpl_threads *all = mp_mem_zalloc(sizeof *all + (size_t)count * sizeof all->thread[0]);
  if (!all)
    return luaL_error(L, "out of memory");
  atomic_init(&all->refs, 1);
  atomic_init(&all->stopping, false);
  all->loop = &state->worker->loop;
  all->state = state;
  all->process = mpl_process_ref(process);
  all->self = all->done = all->event = LUA_NOREF;
  box->all = all;
  all->path = package_field(L, "path");
  all->cpath = package_field(L, "cpath");
  int rc = all->path && all->cpath ? 0 : MP_E_NOMEM;
  for (; rc == 0 && all->count < (unsigned)count; all->count += rc == 0)
    rc = start_thread(all, all->count);
  if (rc < 0)
    return luaL_error(L, "threads cannot be started: %s", mp_error_text(rc)); /* those that run end with the box */
  lua_pushvalue(L, -1);
  all->self = luaL_ref(L, LUA_REGISTRYINDEX);
  return 1;
}

unsigned mpl_place(lua_State *L, unsigned *count)
{
  const mpl_state *state = mpl_state_of(L);
  const mpl_thread *thread = state->generation ? mpl_generation_thread(state->generation) : NULL;
  *count = thread ? thread->all->count : 1;
  return thread ? thread->number : 0;
}

/* place() -> which of the process's serving threads this is, and how many there are */
static int core_place(lua_State *L)
{
  unsigned count, number = mpl_place(L, &count);
  lua_pushinteger(L, (lua_Integer)number + 1);
  lua_pushinteger(L, (lua_Integer)count);
  return 2;
}

/* tell(text): an event of who made the threads; elsewhere nobody is told */
static int core_tell(lua_State *L)
{
  const mpl_state *state = mpl_state_of(L);
  mp_str text = mpl_check_str(L, 1);
  luaL_argcheck(L, text.len <= TEXT_MOST, 1, "too long");
  if (state->generation)
    mpl_generation_says(state->generation, text);
  return 0;
}

int mpl_open_thread(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "threads", core_threads }, { "place", core_place }, { "tell", core_tell }, { NULL, NULL }
  };
  static const luaL_Reg methods[] = {
    { "load", threads_load }, { "serve", threads_serve },   { "retire", threads_retire },
    { "stop", threads_stop }, { "events", threads_events }, { "ping", threads_ping },
    { NULL, NULL },
  };
  mpl_class(L, MPL_THREAD, methods, threads_gc);
  luaL_setfuncs(L, functions, 0);
  return 0;
}
