/* bind/folder.c -- files that are watched: what happens in a folder, and what is to be known of a file without reading it. */
#include "bind/mpl.h"

#include "net/folder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER "moonpost.core.folder"

/* Uservalue 1: its worker, which keeps the box in turn until it is closed: the loop must not go first. */
typedef struct folder_box {
  mp_folder *folder; /* NULL when closed */
  mpl_state *state;
  int fn;
} folder_box;

static void on_change(void *ctx)
{
  folder_box *box = ctx;
  lua_rawgeti(box->state->L, LUA_REGISTRYINDEX, box->fn);
  mpl_call(box->state, 0, 0);
}

/* Pushes the table of what closes with the worker at `index`. */
static void push_kept(lua_State *L, int index)
{
  index = lua_absindex(L, index);
  if (lua_getiuservalue(L, index, 1) == LUA_TTABLE)
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, index, 1);
}

static int folder_close(lua_State *L)
{
  folder_box *box = luaL_checkudata(L, 1, FOLDER);
  if (!box->folder)
    return 0;
  mp_folder_close(box->folder);
  box->folder = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, box->fn);
  lua_getiuservalue(L, 1, 1);
  push_kept(L, -1);
  lua_pushnil(L);
  lua_rawsetp(L, -2, box);
  return 0;
}

/* worker:folder(path, changed) */
int mpl_worker_folder(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  const char *path = luaL_checkstring(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_settop(L, 3);
  push_kept(L, 1);
  folder_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (folder_box){ .state = mpl_state_of(L), .fn = LUA_NOREF };
  luaL_setmetatable(L, FOLDER);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 3);
  box->fn = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, 4, box);
  int rc = mp_folder_open(&box->folder, &worker->worker->loop, path, on_change, box);
  if (rc == 0)
    return 1;
  luaL_unref(L, LUA_REGISTRYINDEX, box->fn);
  lua_pushnil(L);
  lua_rawsetp(L, 4, box);
  return mpl_fail(L, rc, rc == MP_E_NOSPACE ? "the system watches no more (fs.inotify.max_user_watches)" : NULL);
}

/* file_mark(path) -> a text that is another when the file is another or was written, and whether it is a folder; nil when there is nothing */
static int core_file_mark(lua_State *L)
{
  struct stat st;
  char text[160];
  if (stat(luaL_checkstring(L, 1), &st) != 0)
    return mpl_fail(L, mp_error_errno(errno), NULL);
  bool folder = S_ISDIR(st.st_mode);
  if (folder) /* what happens in it is no change of it */
    snprintf(text, sizeof text, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
  else
    snprintf(text, sizeof text, "%ju:%ju:%jd:%jd.%09ld:%jd.%09ld", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino,
             (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
             (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
  lua_pushstring(L, text);
  lua_pushboolean(L, folder);
  return 2;
}

/* link_target(path) -> where a symbolic link points, as it says; nil for everything else */
static int core_link_target(lua_State *L)
{
  char target[PATH_MAX];
  ssize_t len = readlink(luaL_checkstring(L, 1), target, sizeof target);
  if (len < 0)
    lua_pushnil(L);
  else
    lua_pushlstring(L, target, (size_t)len);
  return 1;
}

int mpl_open_folder(lua_State *L)
{
  static const luaL_Reg methods[] = { { "close", folder_close }, { NULL, NULL } };
  static const luaL_Reg functions[] = {
    { "file_mark", core_file_mark },
    { "link_target", core_link_target },
    { NULL, NULL },
  };
  mpl_class(L, FOLDER, methods, folder_close);
  luaL_setfuncs(L, functions, 0);
  return 0;
}
