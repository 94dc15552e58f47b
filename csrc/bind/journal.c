/* bind/journal.c -- files of lines for programs: records of what was done. */
#include "bind/mpl.h"

#include "conn/journal.h"

#define MPL_JOURNAL "moonpost.core.journal"

typedef struct journal_box { /* box; uservalue 1: the worker */
  mp_journal *journal;
  mpl_state *state;
  int trouble; /* registry reference of a function */
} journal_box;

typedef struct loss {
  uint64_t lost;
  const char *why;
} loss;

static int call_trouble(lua_State *L)
{
  const loss *of = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_pushinteger(L, (lua_Integer)of->lost);
  lua_pushstring(L, of->why);
  lua_call(L, 2, 0);
  return 0;
}

static void on_trouble(void *ctx, uint64_t lost, const char *why)
{
  journal_box *box = ctx;
  lua_State *L = box->state->L;
  loss of = { lost, why };
  luaL_checkstack(L, 4, "journal");
  lua_pushcfunction(L, call_trouble);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->trouble);
  lua_pushlightuserdata(L, &of);
  mpl_call(box->state, 2, 0);
}

static journal_box *check(lua_State *L)
{
  journal_box *box = luaL_checkudata(L, 1, MPL_JOURNAL);
  luaL_argcheck(L, box->journal, 1, "journal is closed");
  return box;
}

/* core.journal(worker, path, limit, keep, trouble) -> journal, or nil, why, name of the error. */
static int core_journal(lua_State *L)
{
  enum { WHY = 512 };
  char why[WHY];
  mpl_worker *worker = mpl_check_worker(L, 1);
  lua_Integer limit = luaL_checkinteger(L, 3), keep = luaL_checkinteger(L, 4);
  luaL_argcheck(L, limit >= 0, 3, "octets expected");
  luaL_argcheck(L, keep >= 0 && keep <= 1000, 4, "0 to 1000 expected");
  luaL_checktype(L, 5, LUA_TFUNCTION);
  journal_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (journal_box){ .state = mpl_state_of(L), .trouble = LUA_NOREF };
  luaL_setmetatable(L, MPL_JOURNAL);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_journal_opts opts = { .path = luaL_checkstring(L, 2),
                           .limit = (uint64_t)limit,
                           .keep = (unsigned)keep,
                           .trouble = on_trouble,
                           .ctx = box };
  int rc = mp_journal_open(&box->journal, &worker->worker->loop, &opts, why, sizeof why);
  if (rc < 0)
    return mpl_fail(L, rc, why);
  lua_pushvalue(L, 5);
  box->trouble = luaL_ref(L, LUA_REGISTRYINDEX);
  return 1;
}

static int journal_add(lua_State *L)
{
  mp_journal_add(check(L)->journal, mpl_check_str(L, 2));
  return 0;
}

static int journal_close(lua_State *L)
{
  journal_box *box = luaL_checkudata(L, 1, MPL_JOURNAL);
  mp_journal_close(box->journal);
  box->journal = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, box->trouble);
  box->trouble = LUA_NOREF;
  return 0;
}

int mpl_open_journal(lua_State *L)
{
  static const luaL_Reg methods[] = { { "add", journal_add }, { "close", journal_close }, { NULL, NULL } };
  mpl_class(L, MPL_JOURNAL, methods, journal_close);
  lua_pushcfunction(L, core_journal);
  lua_setfield(L, -2, "journal");
  return 0;
}
