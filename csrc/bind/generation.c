/* bind/generation.c -- a Lua state in a serving thread, from its making to its end. lua/moonpost/generation.lua runs in it:
 *   load(spec)     spec = { text, bindings, thread, threads, loaded, retired }; calls spec.loaded(why) once, on this or a later turn
 *   serve()        listens; nil, or a reason
 *   retire(grace)  calls spec.retired() when nothing is left; called again, it hurries
 * Everything below is called on the thread's loop, inside a turn, but mpl_generations_reap. */
#include "bind/heap.h"
#include "bind/thread.h"

#include <lualib.h>

LUAMOD_API int luaopen_moonpost_core(lua_State *L);

static const char STOPPING[] = "the server is stopping";

struct mpl_generation {
  mp_list node;
  mpl_thread *thread;
  unsigned id;
  lua_State *L;
  mpl_state *state;  /* NULL before the module is open in it */
  mpl_note *loading; /* unanswered */
  bool dead, starved;
  mpl_job *job;
};

static mpl_generation *find(mpl_thread *thread, unsigned id)
{
  for (mp_list *node = thread->generations.next; node != &thread->generations; node = node->next) {
    mpl_generation *gen = MP_CONTAINER(node, mpl_generation, node);
    if (gen->id == id && !gen->dead)
      return gen;
  }
  return NULL;
}

static void bury(mpl_generation *gen)
{
  gen->dead = true;
  mp_loop_stop(&gen->thread->worker->loop);
}

static void loaded(mpl_generation *gen, bool ok, const char *why)
{
  mpl_note *note = gen->loading;
  gen->loading = NULL;
  if (note)
    mpl_note_answer(note, ok, why);
}

/* ---- in the state, protected ---------------------------------------------------------------------------------------- */

/* What was raised or returned at `index`; borrowed from the stack. */
static const char *text_at(lua_State *L, int index)
{
  return lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : "an error without a text";
}

static int spec_loaded(lua_State *L)
{
  mpl_generation *gen = lua_touserdata(L, lua_upvalueindex(1));
  if (!gen->loading)
    return 0;
  bool ok = lua_isnoneornil(L, 1);
  loaded(gen, ok, ok ? NULL : text_at(L, 1));
  if (!ok)
    bury(gen);
  return 0;
}

static int spec_retired(lua_State *L)
{
  bury(lua_touserdata(L, lua_upvalueindex(1)));
  return 0;
}

static void set_paths(lua_State *L, const mpl_threads *all)
{
  lua_getglobal(L, "package");
  lua_pushstring(L, all->path);
  lua_setfield(L, -2, "path");
  lua_pushstring(L, all->cpath);
  lua_setfield(L, -2, "cpath");
  lua_pop(L, 1);
}

static int open_state(lua_State *L)
{
  mpl_generation *gen = lua_touserdata(L, 1);
  mpl_threads *all = gen->thread->all;
  luaL_openlibs(L);
  set_paths(L, all);
  luaL_requiref(L, "moonpost.core", luaopen_moonpost_core, 0);
  gen->state = mpl_state_of(L);
  gen->state->worker = gen->thread->worker;
  gen->state->borrowed = true;
  gen->state->process = mpl_process_ref(all->process);
  gen->state->generation = gen;
  gen->state->stopping = &all->stopping;
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonpost.generation");
  lua_call(L, 1, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, gen);
  return 0;
}

static void push_method(lua_State *L, mpl_generation *gen, const char *name)
{
  lua_rawgetp(L, LUA_REGISTRYINDEX, gen);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

static void set_callback(lua_State *L, mpl_generation *gen, const char *name, lua_CFunction fn)
{
  lua_pushlightuserdata(L, gen);
  lua_pushcclosure(L, fn, 1);
  lua_setfield(L, -2, name);
}

static int run_load(lua_State *L)
{
  mpl_generation *gen = lua_touserdata(L, 1);
  push_method(L, gen, "load");
  lua_createtable(L, 0, 6);
  lua_pushlstring(L, gen->job->text, gen->job->text_len);
  lua_setfield(L, -2, "text");
  lua_pushinteger(L, (lua_Integer)gen->thread->number + 1);
  lua_setfield(L, -2, "thread");
  lua_pushinteger(L, (lua_Integer)gen->thread->all->count);
  lua_setfield(L, -2, "threads");
  lua_createtable(L, (int)gen->job->binding_count, 0);
  for (unsigned i = 0; i < gen->job->binding_count; i++) {
    mpl_push_binding(L, gen->job->bindings[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "bindings");
  set_callback(L, gen, "loaded", spec_loaded);
  set_callback(L, gen, "retired", spec_retired);
  lua_call(L, 1, 0);
  return 0;
}

static int run_serve(lua_State *L)
{
  push_method(L, lua_touserdata(L, 1), "serve");
  lua_call(L, 0, 1);
  return 1;
}

typedef struct retirement {
  mpl_generation *gen;
  int64_t grace_ms;
  bool gently; /* another generation serves on: sessions may finish on this one */
} retirement;

static int run_retire(lua_State *L)
{
  const retirement *end = lua_touserdata(L, 1);
  push_method(L, end->gen, "retire");
  lua_pushnumber(L, (lua_Number)end->grace_ms / 1000);
  lua_pushboolean(L, end->gently);
  lua_call(L, 2, 0);
  return 0;
}

/* ---- from the thread ------------------------------------------------------------------------------------------------ */

/* Calls fn(arg) in the state; pushing these needs no memory, so that nothing can be raised outside. True when it raised nothing and returned
 * no text; else *why is what it said, borrowed from the top of the state's stack. */
static bool protected(mpl_generation *gen, lua_CFunction fn, void *arg, const char **why)
{
  lua_State *L = gen->L;
  mpl_state *state = gen->state; /* the first call makes it */
  lua_settop(L, 0);
  lua_pushcfunction(L, fn);
  lua_pushlightuserdata(L, arg);
  if (state)
    mpl_enter(state);
  int rc = lua_pcall(L, 1, 1, 0);
  if (state)
    mpl_leave(state);
  bool ok = rc == LUA_OK && lua_type(L, -1) != LUA_TSTRING;
  *why = ok ? NULL : text_at(L, -1);
  return ok;
}

void mpl_generation_load(mpl_note *note)
{
  mpl_thread *thread = note->thread;
  mpl_generation *gen = mp_mem_zalloc(sizeof *gen);
  if (thread->ending || !gen || !(gen->L = mpl_heap_state())) {
    mp_mem_free(gen);
    mpl_note_answer(note, false, thread->ending ? STOPPING : mp_error_text(MP_E_NOMEM));
    return;
  }
  gen->thread = thread;
  gen->id = note->id;
  gen->loading = note;
  gen->job = note->job;
  note->job = NULL;
  mp_list_push(&thread->generations, &gen->node);
  const char *why;
  if (!protected(gen, open_state, gen, &why) || !protected(gen, run_load, gen, &why)) {
    loaded(gen, false, why);
    bury(gen);
  }
}

void mpl_generation_serve(mpl_note *note)
{
  mpl_generation *gen = find(note->thread, note->id);
  const char *why = STOPPING;
  bool ok = gen && protected(gen, run_serve, gen, &why);
  mpl_note_answer(note, ok, why);
}

static void retire(mpl_generation *gen, int64_t grace_ms, bool gently)
{
  if (gen->dead)
    return;
  if (gen->loading) { /* it has met nobody yet */
    loaded(gen, false, STOPPING);
    bury(gen);
    return;
  }
  /* Ending takes memory too: what was kept in reserve. */
  gen->state->memory_most += gen->state->memory_most / 8;
  retirement end = { gen, grace_ms, gently };
  const char *why;
  if (!protected(gen, run_retire, &end, &why))
    bury(gen);
  /* With the last reference an endpoint is closed, and who connects is refused instead of left to wait. */
  mpl_job_unref(gen->job);
  gen->job = NULL;
}

void mpl_generation_retire(mpl_thread *thread, unsigned id, int64_t grace_ms)
{
  mpl_generation *gen = find(thread, id);
  if (gen)
    retire(gen, grace_ms, true);
}

void mpl_generations_retire(mpl_thread *thread, int64_t grace_ms)
{
  for (mp_list *node = thread->generations.next; node != &thread->generations; node = node->next)
    retire(MP_CONTAINER(node, mpl_generation, node), grace_ms, false);
}

void mpl_generations_abandon(mpl_thread *thread)
{
  for (mp_list *node = thread->generations.next; node != &thread->generations; node = node->next)
    bury(MP_CONTAINER(node, mpl_generation, node));
}

static void finish(mpl_generation *gen)
{
  mpl_thread *thread = gen->thread;
  mp_list_remove(&gen->node);
  lua_close(gen->L);
  loaded(gen, false, STOPPING); /* when the whole thread is abandoned */
  mpl_thread_tell(thread, MPL_RETIRED, gen->id);
  mpl_job_unref(gen->job);
  mp_mem_free(gen);
}

static mpl_generation *next_dead(mpl_thread *thread)
{
  for (mp_list *node = thread->generations.next; node != &thread->generations; node = node->next) {
    mpl_generation *gen = MP_CONTAINER(node, mpl_generation, node);
    if (gen->dead)
      return gen;
  }
  return NULL;
}

void mpl_generations_reap(mpl_thread *thread)
{
  for (mpl_generation *gen; (gen = next_dead(thread));)
    finish(gen);
}

void mpl_generation_stalled(const mpl_generation *gen, int64_t ms, const char *hook)
{
  mpl_thread_stalled(gen->thread, gen->id, ms, hook);
}

void mpl_generation_says(const mpl_generation *gen, mp_str what)
{
  mpl_thread_says(gen->thread, gen->id, what);
}

mpl_thread *mpl_generation_thread(const mpl_generation *gen)
{
  return gen->thread;
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

typedef struct look {
  mp_post post;
  mpl_thread *thread;
  unsigned id;
} look;

/* What one greedy hook has left behind is garbage, and the state is well again. One whose globals grow is not: then somebody has to make a new
 * generation. */
static void look_at(mp_post *post)
{
  look *at = MP_CONTAINER(post, look, post);
  mpl_generation *gen = find(at->thread, at->id);
  if (gen) {
    mpl_enter(gen->state);
    lua_gc(gen->L, LUA_GCCOLLECT);
    mpl_leave(gen->state);
    gen->starved = gen->state->memory > gen->state->memory_most - gen->state->memory_most / 8;
    if (gen->starved)
      mpl_thread_tell(at->thread, MPL_STARVED, gen->id);
  }
  mp_mem_free(at);
}

void mpl_generation_starved(mpl_generation *gen)
{
  look *at = gen->starved || gen->dead ? NULL : mp_mem_alloc(sizeof *at);
  if (!at)
    return;
  gen->starved = true; /* until it was looked at */
  *at = (look){ .post = { .run = look_at }, .thread = gen->thread, .id = gen->id };
  mp_loop_post(&gen->thread->worker->loop, &at->post);
}
