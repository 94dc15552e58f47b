/* bind/fresh.c -- a Lua state of its own, in a thread of its own: what runs in it (a policy that is looked at) may take its time, and the
 * loop of the state that asked goes on. The job is counted: its thread has one reference, the handle the other. Who is in a hurry cancels, and
 * what cannot be interrupted is left behind: it finds nobody to tell then. */
#include "bind/thread.h"

#include <lualib.h>
#include <pthread.h>
#include <signal.h>

LUAMOD_API int luaopen_moonpost_core(lua_State *L);

typedef struct job {
  mp_post post;
  atomic_uint refs;
  atomic_bool cancelled;
  pthread_mutex_t lock; /* of `loop` */
  mp_loop *loop;        /* NULL: nobody waits */
  mpl_state *state;     /* of who waits; touched on its thread alone */
  int done, self;       /* registry references there */
  char *path, *cpath, *module, *function, *text;
  size_t text_len;
  bool ok;
  char *result; /* NULL for want of memory */
  size_t result_len;
} job;

static void job_unref(job *j)
{
  if (!j || atomic_fetch_sub(&j->refs, 1) != 1)
    return;
  pthread_mutex_destroy(&j->lock);
  mp_mem_free(j->path);
  mp_mem_free(j->cpath);
  mp_mem_free(j->module);
  mp_mem_free(j->function);
  mp_mem_free(j->text);
  mp_mem_free(j->result);
  mp_mem_free(j);
}

/* ---- in the thread --------------------------------------------------------------------------------------------------- */

static int run(lua_State *L)
{
  job *j = lua_touserdata(L, 1);
  luaL_openlibs(L);
  lua_getglobal(L, "package");
  lua_pushstring(L, j->path);
  lua_setfield(L, -2, "path");
  lua_pushstring(L, j->cpath);
  lua_setfield(L, -2, "cpath");
  luaL_requiref(L, "moonpost.core", luaopen_moonpost_core, 0);
  mpl_state_of(L)->stopping = &j->cancelled;
  lua_getglobal(L, "require");
  lua_pushstring(L, j->module);
  lua_call(L, 1, 1);
  lua_getfield(L, -1, j->function);
  lua_pushlstring(L, j->text, j->text_len);
  lua_call(L, 1, 1);
  luaL_checkstring(L, -1);
  return 1;
}

static void arrived(mp_post *post);

static void *thread_main(void *arg)
{
  job *j = arg;
  lua_State *L = luaL_newstate();
  if (L) {
    size_t len = 0;
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, j);
    j->ok = lua_pcall(L, 1, 1, 0) == LUA_OK;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    j->result = text ? mp_mem_dup(text, len) : mp_mem_dup("an error without a text", len = 23);
    j->result_len = len;
    lua_close(L);
  }
  j->ok = j->ok && j->result;
  pthread_mutex_lock(&j->lock);
  if (j->loop) {
    atomic_fetch_add(&j->refs, 1);
    j->post.run = arrived;
    mp_loop_post(j->loop, &j->post);
  }
  pthread_mutex_unlock(&j->lock);
  job_unref(j);
  return NULL;
}

/* ---- in the state that waits ----------------------------------------------------------------------------------------- */

static void forget(job *j)
{
  pthread_mutex_lock(&j->lock);
  mp_loop *loop = j->loop;
  j->loop = NULL;
  pthread_mutex_unlock(&j->lock);
  if (loop)
    loop->alive--;
}

static void arrived(mp_post *post)
{
  job *j = MP_CONTAINER(post, job, post);
  bool waited = j->loop != NULL; /* else the handle went away meanwhile, and its state perhaps too */
  forget(j);
  if (waited) {
    lua_State *L = j->state->L;
    int self = j->self;
    lua_rawgeti(L, LUA_REGISTRYINDEX, j->done);
    luaL_unref(L, LUA_REGISTRYINDEX, j->done);
    if (!j->ok)
      lua_pushnil(L);
    if (j->result)
      lua_pushlstring(L, j->result, j->result_len);
    else
      lua_pushstring(L, mp_error_text(MP_E_NOMEM));
    mpl_call(j->state, j->ok ? 1 : 2, 0);
    luaL_unref(L, LUA_REGISTRYINDEX, self);
  }
  job_unref(j);
}

static int fresh_cancel(lua_State *L)
{
  job **box = luaL_checkudata(L, 1, MPL_FRESH);
  if (*box)
    atomic_store(&(*box)->cancelled, true);
  return 0;
}

static int fresh_gc(lua_State *L)
{
  job **box = luaL_checkudata(L, 1, MPL_FRESH);
  job *j = *box;
  *box = NULL;
  if (j) {
    atomic_store(&j->cancelled, true);
    forget(j);
    job_unref(j);
  }
  return 0;
}

static char *copy(mp_str text, bool *ok)
{
  char *octets = mp_mem_dup(text.ptr, text.len);
  *ok = *ok && octets;
  return octets;
}

/* Signals that mean the process are for other threads. */
static int start(job *j)
{
  pthread_t id;
  pthread_attr_t attr;
  sigset_t process, before;
  sigemptyset(&process);
  sigaddset(&process, SIGTERM);
  sigaddset(&process, SIGINT);
  sigaddset(&process, SIGHUP);
  sigaddset(&process, SIGUSR1);
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_sigmask(SIG_BLOCK, &process, &before);
  int rc = pthread_create(&id, &attr, thread_main, j);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attr);
  return rc;
}

static mp_str package_field(lua_State *L, const char *name)
{
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "package");
  lua_getfield(L, -1, name);
  return mpl_check_str(L, -1); /* stays on the stack */
}

/* fresh(module, function, text, done) */
static int core_fresh(lua_State *L)
{
  mp_str module = mpl_check_str(L, 1), function = mpl_check_str(L, 2), text = mpl_check_str(L, 3);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  mpl_state *state = mpl_state_of(L);
  luaL_argcheck(L, state->worker && !state->worker->loop.is_virtual, 1,
                "the state has no worker: call core.worker() first");
  mp_str path = package_field(L, "path"), cpath = package_field(L, "cpath");
  job **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, MPL_FRESH);
  lua_pushvalue(L, 4);
  int done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  int self = luaL_ref(L, LUA_REGISTRYINDEX);
  job *j = mp_mem_zalloc(sizeof *j);
  bool ok = j != NULL;
  if (j) {
    atomic_init(&j->refs, 2);
    atomic_init(&j->cancelled, false);
    pthread_mutex_init(&j->lock, NULL);
    j->loop = &state->worker->loop;
    j->state = state;
    j->done = done;
    j->self = self;
    j->path = copy(path, &ok);
    j->cpath = copy(cpath, &ok);
    j->module = copy(module, &ok);
    j->function = copy(function, &ok);
    j->text = copy(text, &ok);
    j->text_len = text.len;
  }
  if (!ok || start(j) != 0) {
    luaL_unref(L, LUA_REGISTRYINDEX, done);
    luaL_unref(L, LUA_REGISTRYINDEX, self);
    if (j)
      atomic_store(&j->refs, 1);
    job_unref(j);
    return luaL_error(L, ok ? "a thread cannot be started" : "out of memory");
  }
  *box = j;
  j->loop->alive++; /* the thread never touches it: no note of it has been run yet */
  return 1;
}

int mpl_open_fresh(lua_State *L)
{
  static const luaL_Reg methods[] = { { "cancel", fresh_cancel }, { NULL, NULL } };
  mpl_class(L, MPL_FRESH, methods, fresh_gc);
  lua_pushcfunction(L, core_fresh);
  lua_setfield(L, -2, "fresh");
  return 0;
}
