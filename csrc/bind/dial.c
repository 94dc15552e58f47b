/* bind/dial.c -- outgoing connections before they speak: the dialler, and the stream it gives. */
#include "bind/client.h"

#include "net/dial.h"

typedef struct dial_box { /* kept in the registry while it dials */
  mpl_leaving leaving;
  mp_dial *dial;
  mpl_state *state;
  int self, done; /* registry references */
} dial_box;

/* ---- a stream that nobody has taken yet ---------------------------------------------------------------------------- */

static void stream_read(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len; /* it is not started; an error is found by who takes it */
}

static void stream_closed(void *ctx)
{
  mpl_stream *box = ctx;
  if (box)
    box->stream = NULL;
}

static const mp_stream_calls stream_calls = { .read = stream_read, .closed = stream_closed };

static void stream_drop(mpl_leaving *leaving)
{
  mpl_stream *box = MP_CONTAINER(leaving, mpl_stream, leaving);
  mp_stream *stream = box->stream;
  box->stream = NULL;
  if (!stream)
    return;
  mp_stream_attach(stream, &stream_calls, NULL);
  mp_stream_close(stream);
}

static mpl_stream *push_stream(lua_State *L, mpl_worker *worker)
{
  mpl_stream *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (mpl_stream){ 0 };
  mpl_leaving_init(&box->leaving, worker, stream_drop);
  luaL_setmetatable(L, MPL_STREAM);
  return box;
}

static int stream_gc(lua_State *L)
{
  mpl_stream *box = luaL_checkudata(L, 1, MPL_STREAM);
  mp_list_remove(&box->leaving.node);
  stream_drop(&box->leaving);
  return 0;
}

mp_stream *mpl_stream_of(lua_State *L, int index, const mpl_worker *worker)
{
  mpl_stream *box = luaL_checkudata(L, index, MPL_STREAM);
  luaL_argcheck(L, !box->stream || box->leaving.worker == worker, index, "stream is another worker's");
  mp_stream *stream = box->stream;
  box->stream = NULL;
  mp_list_remove(&box->leaving.node);
  return stream;
}

/* ---- the dialler --------------------------------------------------------------------------------------------------- */

static void forget(dial_box *box)
{
  lua_State *L = box->state->L;
  mp_list_remove(&box->leaving.node);
  luaL_unref(L, LUA_REGISTRYINDEX, box->done);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->done = box->self = LUA_NOREF;
  box->dial = NULL;
}

static void dial_drop(mpl_leaving *leaving)
{
  dial_box *box = MP_CONTAINER(leaving, dial_box, leaving);
  if (!box->dial)
    return;
  mp_dial_cancel(box->dial);
  forget(box);
}

typedef struct dialled {
  mp_stream *stream;
  mpl_worker *worker;
  size_t which;
  int rc;
  const char *why;
} dialled;

/* Function and what it is called with; protected, since a box has to be made. */
static int call_done(lua_State *L)
{
  dialled *got = lua_touserdata(L, 2);
  lua_settop(L, 1);
  if (got->stream) {
    mpl_stream *box = push_stream(L, got->worker);
    mp_stream_attach(got->stream, &stream_calls, box);
    box->stream = got->stream;
    got->stream = NULL;
    lua_pushinteger(L, (lua_Integer)got->which + 1);
  } else {
    mpl_fail(L, got->rc, got->why);
  }
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

static void on_dialled(void *ctx, mp_stream *stream, size_t which, int rc, const char *why)
{
  dial_box *box = ctx;
  mpl_state *state = box->state;
  lua_State *L = state->L;
  dialled got = { .stream = stream, .worker = box->leaving.worker, .which = which, .rc = rc, .why = why };
  luaL_checkstack(L, 4, "dial");
  lua_pushcfunction(L, call_done);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->done);
  lua_pushlightuserdata(L, &got);
  forget(box);
  mpl_call(state, 2, 0);
  if (got.stream) { /* there was no memory for its box */
    mp_stream_attach(got.stream, &stream_calls, NULL);
    mp_stream_close(got.stream);
  }
}

static mp_endpoint endpoint_at(lua_State *L, int index)
{
  mp_endpoint at = { 0 };
  luaL_checktype(L, index, LUA_TTABLE);
  if (lua_getfield(L, index, "path") == LUA_TSTRING) {
    size_t len;
    const char *path = lua_tolstring(L, -1, &len);
    luaL_argcheck(L, len > 0 && len < sizeof at.path, 2, "a socket path has 1 to 107 octets");
    at.is_unix = true;
    memcpy(at.path, path, len);
  } else {
    lua_getfield(L, index, "ip");
    luaL_argcheck(L, mp_ip_parse(&at.ip, mpl_check_str(L, -1)), 2, "not an IP address");
    lua_getfield(L, index, "port");
    lua_Integer port = luaL_checkinteger(L, -1);
    luaL_argcheck(L, port > 0 && port < 65536, 2, "ports are 1 to 65535");
    at.port = (uint16_t)port;
    lua_pop(L, 2);
  }
  lua_pop(L, 1);
  return at;
}

static bool source_at(lua_State *L, const char *field, bool is4, mp_ip *ip)
{
  bool given = lua_getfield(L, 2, field) == LUA_TSTRING;
  if (given)
    luaL_argcheck(L, mp_ip_parse(ip, mpl_check_str(L, -1)) && mp_ip_is4(ip) == is4, 2,
                  "a source address of the other family, or none");
  lua_pop(L, 1);
  return given;
}

static int64_t ms_at(lua_State *L, const char *field)
{
  int64_t ms = lua_getfield(L, 2, field) == LUA_TNIL ? 0 : mpl_check_ms(L, -1);
  lua_pop(L, 1);
  return ms;
}

/* worker:dial(opts, done) */
int mpl_worker_dial(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_settop(L, 3);
  mp_endpoint to[MP_DIAL_MOST];
  luaL_argcheck(L, lua_getfield(L, 2, "to") == LUA_TTABLE, 2, "to: a list of addresses expected");
  size_t count = (size_t)lua_rawlen(L, 4);
  luaL_argcheck(L, count > 0 && count <= MP_DIAL_MOST, 2, "to: 1 to 32 addresses expected");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 4, (lua_Integer)i + 1);
    to[i] = endpoint_at(L, 5);
    lua_settop(L, 4);
  }
  mp_dial_opts opts = { .to = to, .count = count };
  opts.bind4 = source_at(L, "source4", true, &opts.source4);
  opts.bind6 = source_at(L, "source6", false, &opts.source6);
  opts.stagger_ms = ms_at(L, "stagger");
  opts.each_ms = ms_at(L, "each");
  dial_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (dial_box){ .state = mpl_state_of(L), .self = LUA_NOREF, .done = LUA_NOREF };
  mpl_leaving_init(&box->leaving, worker, dial_drop);
  luaL_setmetatable(L, MPL_DIAL);
  lua_pushvalue(L, 3);
  box->done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  int rc = mp_dial_start(&box->dial, &worker->worker->loop, &opts, on_dialled, box);
  if (rc < 0) {
    box->dial = NULL;
    forget(box);
    return mpl_fail(L, rc, NULL);
  }
  return 1;
}

static int dial_cancel(lua_State *L)
{
  dial_box *box = luaL_checkudata(L, 1, MPL_DIAL);
  dial_drop(&box->leaving);
  return 0;
}

/* A collected one is not dialling, unless the whole state closes: its worker does what is to be done. */
static int dial_gc(lua_State *L)
{
  dial_box *box = luaL_checkudata(L, 1, MPL_DIAL);
  if (box->dial)
    mp_dial_cancel(box->dial);
  box->dial = NULL;
  mp_list_remove(&box->leaving.node);
  return 0;
}

/* worker:memory_stream(peer): our end as a stream, and the other as a wire. */
int mpl_worker_memory_stream(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  mpl_stream *box = push_stream(L, worker);
  mpl_push_wire(L, worker, 2, &box->stream);
  mp_stream_attach(box->stream, &stream_calls, box);
  return 2;
}

void mpl_leaving_init(mpl_leaving *leaving, mpl_worker *worker, void (*drop)(mpl_leaving *))
{
  leaving->drop = drop;
  leaving->worker = worker;
  mp_list_init(&leaving->node);
  mp_list_push(&worker->leaving, &leaving->node);
}

void mpl_leave_all(mp_list *all)
{
  while (!mp_list_empty(all)) {
    mpl_leaving *leaving = MP_CONTAINER(all->next, mpl_leaving, node);
    mp_list_remove(&leaving->node);
    leaving->drop(leaving);
  }
}

int mpl_open_dial(lua_State *L)
{
  static const luaL_Reg stream_methods[] = { { "close", stream_gc }, { NULL, NULL } };
  static const luaL_Reg dial_methods[] = { { "cancel", dial_cancel }, { NULL, NULL } };
  mpl_class(L, MPL_STREAM, stream_methods, stream_gc);
  mpl_class(L, MPL_DIAL, dial_methods, dial_gc);
  return 0;
}
