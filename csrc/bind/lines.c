/* bind/lines.c -- a conversation in lines over a stream, for commands to a running process: each line comes as a call, what is said is queued under a
 * ceiling. Not for mail: nothing here waits for anybody, and a line has a limit. Or in octets as they come, for protocols that Lua speaks itself. */
#include "bind/binding.h"
#include "bind/client.h"

#include <string.h>

#define MPL_LINES        "moonpost.core.lines"
#define MPL_LINES_LISTEN "moonpost.core.lines_listener"

enum {
  LINE_MOST = 65536,     /* octets of a line that is heard */
  UNREAD_MOST = 1 << 20, /* of what has come while nobody listens */
  UNSAID_MOST = 4 << 20, /* of what waits to be sent */
  LINGER_MS = 2000
};

typedef struct lines { /* box; in the registry while it is open */
  mpl_leaving leaving;
  mp_stream *stream; /* NULL: over */
  mpl_state *state;
  mp_buf in;
  bool octets; /* and no lines */
  bool stopped, telling;
  int self, on; /* registry references */
} lines;

/* Lets go of everything but the stream. */
static void forget(lines *box)
{
  lua_State *L = box->state->L;
  mp_list_remove(&box->leaving.node);
  mp_buf_dispose(&box->in);
  luaL_unref(L, LUA_REGISTRYINDEX, box->on);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->on = box->self = LUA_NOREF;
  box->stream = NULL;
}

typedef struct told {
  const char *what;
  mp_str text;
} told;

static int call_on(lua_State *L)
{
  const told *say = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_pushstring(L, say->what);
  mpl_push_str(L, say->text);
  lua_call(L, 2, 0);
  return 0;
}

static void tell(lines *box, const char *what, mp_str text)
{
  lua_State *L = box->state->L;
  told say = { what, text };
  luaL_checkstack(L, 4, "lines");
  lua_pushcfunction(L, call_on);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->on);
  lua_pushlightuserdata(L, &say);
  mpl_call(box->state, 2, 0);
}

static void nobody_reads(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len;
}

static void nobody_closed(void *ctx)
{
  (void)ctx;
}

static const mp_stream_calls nobody = { .read = nobody_reads, .closed = nobody_closed };

static void leave(lines *box, int64_t linger_ms)
{
  mp_stream *stream = box->stream;
  if (!stream)
    return;
  forget(box);
  mp_stream_attach(stream, &nobody, NULL);
  mp_stream_finish(stream, linger_ms);
}

static void drop(mpl_leaving *leaving)
{
  leave(MP_CONTAINER(leaving, lines, leaving), 0);
}

/* The other end is gone, or says what is no line. */
static void end(lines *box, const char *why)
{
  tell(box, "end", mp_str_c(why));
  leave(box, 0);
}

/* The lines that have come whole, as long as somebody listens. */
static void hear(lines *box)
{
  if (box->telling)
    return;
  box->telling = true;
  while (box->stream && !box->stopped) {
    mp_str all = mp_buf_view(&box->in);
    if (box->octets) {
      if (all.len == 0)
        break;
      tell(box, "octets", all);
      if (box->stream) /* else the buffer is gone with it */
        mp_buf_consume(&box->in, all.len);
      continue;
    }
    mp_ssize at = mp_str_find(all, '\n', 0);
    if (at > LINE_MOST || (at < 0 && all.len > LINE_MOST)) {
      end(box, "a line is too long");
      break;
    }
    if (at < 0)
      break;
    char line[LINE_MOST + 1];
    memcpy(line, all.ptr, (size_t)at);
    mp_buf_consume(&box->in, (size_t)at + 1);
    tell(box, "line", mp_str_of(line, (size_t)at));
  }
  box->telling = false;
}

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  lines *box = ctx;
  if (len <= 0) {
    end(box, len == 0 ? "end of file" : mp_error_text((int)len));
  } else if (mp_buf_add(&box->in, in, (size_t)len) < 0) {
    end(box, "more has come than is kept");
  } else {
    hear(box);
  }
}

static void on_drained(void *ctx)
{
  tell(ctx, "drained", MP_STR(""));
}

static const mp_stream_calls calls = { .read = on_read, .drained = on_drained, .closed = nobody_closed };

/* Pushes a box on `stream`, which is taken; the function stands at `on`. Raises, and then the stream is still the caller's. */
static lines *push(lua_State *L, mpl_worker *worker, int on, bool octets)
{
  lines *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (lines){ .state = mpl_state_of(L), .octets = octets, .self = LUA_NOREF, .on = LUA_NOREF };
  mp_buf_init(&box->in, UNREAD_MOST, NULL);
  mpl_leaving_init(&box->leaving, worker, drop);
  luaL_setmetatable(L, MPL_LINES);
  lua_pushvalue(L, on);
  box->on = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  return box;
}

static void take(lines *box, mp_stream *stream)
{
  box->stream = stream;
  mp_stream_attach(stream, &calls, box);
  if (mp_stream_start(stream) < 0)
    end(box, "cannot be read");
}

/* worker:lines(stream, on, octets): on("line", text) or on("octets", text), on("drained"), on("end", why) */
static int worker_lines(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lines *box = push(L, worker, 3, lua_toboolean(L, 4));
  mp_stream *stream = mpl_stream_of(L, 2, worker);
  if (!stream) {
    forget(box);
    return luaL_argerror(L, 2, "stream is closed");
  }
  take(box, stream);
  return 1;
}

static lines *check(lua_State *L)
{
  return luaL_checkudata(L, 1, MPL_LINES);
}

/* lines:say(text) -> true when it has gone or waits; false when too much waits already ("drained" comes later); nil when nobody is there any more. */
static int lines_say(lua_State *L)
{
  lines *box = check(L);
  mp_str text = mpl_check_str(L, 2);
  if (!box->stream)
    return 0;
  int rc = mp_stream_write(box->stream, text.ptr, text.len, UNSAID_MOST);
  if (rc == 0 || rc == MP_E_FULL)
    lua_pushboolean(L, rc == 0);
  else
    lua_pushnil(L);
  return 1;
}

/* lines:stop(): no line is told until start(). */
static int lines_stop(lua_State *L)
{
  lines *box = check(L);
  box->stopped = true;
  if (box->stream)
    mp_stream_stop(box->stream);
  return 0;
}

static int lines_start(lua_State *L)
{
  lines *box = check(L);
  box->stopped = false;
  hear(box);
  if (box->stream && !box->stopped && mp_stream_start(box->stream) < 0)
    end(box, "cannot be read");
  return 0;
}

/* lines:close(): what was said still goes. */
static int lines_close(lua_State *L)
{
  leave(check(L), LINGER_MS);
  return 0;
}

static int lines_gc(lua_State *L)
{
  lines *box = check(L);
  drop(&box->leaving);
  mp_list_remove(&box->leaving.node);
  return 0;
}

/* ---- listening ----------------------------------------------------------------------------------------------------- */

typedef struct lines_listener { /* box; in the registry while it listens */
  mpl_leaving leaving;
  mp_listener *listener; /* NULL: over */
  mpl_state *state;
  mpl_worker *worker;
  bool octets;
  int self, accepted; /* registry references */
} lines_listener;

static void stop_listening(mpl_leaving *leaving)
{
  lines_listener *box = MP_CONTAINER(leaving, lines_listener, leaving);
  if (!box->listener)
    return;
  lua_State *L = box->state->L;
  mp_listener_close(box->listener);
  box->listener = NULL;
  mp_list_remove(&box->leaving.node);
  luaL_unref(L, LUA_REGISTRYINDEX, box->accepted);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
}

typedef struct arrival {
  lines_listener *box;
  mp_stream *stream; /* NULL: taken */
  lines *made;
} arrival;

/* The function that hears of connections is asked with one that is mute as yet, and answers with the function that hears of its lines. */
static int call_accepted(lua_State *L)
{
  arrival *got = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_pushboolean(L, 1); /* stands where the function will */
  lines *box = push(L, got->box->worker, 2, got->box->octets);
  got->made = box;
  lua_replace(L, 2);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_call(L, 1, 1);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_rawseti(L, LUA_REGISTRYINDEX, box->on);
  mp_stream *stream = got->stream;
  got->stream = NULL;
  take(box, stream);
  return 0;
}

static void on_accepted(void *ctx, mp_stream *stream)
{
  lines_listener *box = ctx;
  if (!stream)
    return;
  arrival got = { box, stream, NULL };
  lua_State *L = box->state->L;
  mp_stream_attach(stream, &nobody, NULL);
  luaL_checkstack(L, 4, "lines");
  lua_pushcfunction(L, call_accepted);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->accepted);
  lua_pushlightuserdata(L, &got);
  mpl_call(box->state, 2, 0);
  if (got.stream) {
    if (got.made)
      forget(got.made);
    mp_stream_attach(got.stream, &nobody, NULL);
    mp_stream_close(got.stream);
  }
}

/* worker:listen_lines(binding, accepted, octets): accepted(lines) -> the function that hears of its lines. */
static int worker_listen(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  mp_binding *binding = mpl_check_binding(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  bool octets = lua_toboolean(L, 4);
  lines_listener *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (lines_listener){ .state = mpl_state_of(L), .worker = worker, .octets = octets };
  box->self = box->accepted = LUA_NOREF;
  mpl_leaving_init(&box->leaving, worker, stop_listening);
  luaL_setmetatable(L, MPL_LINES_LISTEN);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  int rc = mp_listener_open(&box->listener, &worker->worker->loop, binding, 0, on_accepted, box);
  if (rc < 0) {
    box->listener = NULL;
    mp_list_remove(&box->leaving.node);
    return mpl_fail(L, rc, NULL);
  }
  lua_pushvalue(L, 3);
  box->accepted = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  return 1;
}

static int listener_close(lua_State *L)
{
  lines_listener *box = luaL_checkudata(L, 1, MPL_LINES_LISTEN);
  stop_listening(&box->leaving);
  return 0;
}

int mpl_open_lines(lua_State *L)
{
  static const luaL_Reg worker[] = { { "lines", worker_lines }, { "listen_lines", worker_listen }, { NULL, NULL } };
  static const luaL_Reg methods[] = {
    { "say", lines_say }, { "stop", lines_stop }, { "start", lines_start }, { "close", lines_close }, { NULL, NULL }
  };
  static const luaL_Reg listener[] = { { "close", listener_close }, { NULL, NULL } };
  luaL_getmetatable(L, MPL_WORKER);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, worker, 0);
  lua_pop(L, 2);
  mpl_class(L, MPL_LINES, methods, lines_gc);
  mpl_class(L, MPL_LINES_LISTEN, listener, listener_close);
  return 0;
}
