/* bind/wire.c -- the peer's end of a connection without a socket, for tests of policies and for programs that bring their own transport. */
#include "bind/mpl.h"

typedef struct wire_box {
  mp_stream *stream;
} wire_box;

static wire_box *check(lua_State *L)
{
  return luaL_checkudata(L, 1, MPL_WIRE);
}

static mp_ip ip_at(lua_State *L, int index, const char *field, const char *fallback)
{
  mp_ip ip;
  lua_getfield(L, index, field);
  const char *text = luaL_optstring(L, -1, fallback);
  if (!mp_ip_parse(&ip, mp_str_c(text)))
    luaL_error(L, "%s: '%s' is no IP address", field, text);
  lua_pop(L, 1);
  return ip;
}

static uint16_t port_at(lua_State *L, int index, const char *field, lua_Integer fallback)
{
  lua_getfield(L, index, field);
  lua_Integer port = luaL_optinteger(L, -1, fallback);
  lua_pop(L, 1);
  return (uint16_t)port;
}

int mpl_service_wire(lua_State *L)
{
  mpl_service *box = mpl_check_service(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TTABLE);
  mp_stream_peer peer = { .ip = ip_at(L, 3, "ip", "192.0.2.1"),
                          .local_ip = ip_at(L, 3, "local_ip", "192.0.2.25"),
                          .port = port_at(L, 3, "port", 40000),
                          .local_port = port_at(L, 3, "local_port", 25) };
  wire_box *wire = lua_newuserdatauv(L, sizeof *wire, 1);
  wire->stream = NULL;
  luaL_setmetatable(L, MPL_WIRE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_port *port = mpl_make_port(L, box, 2);
  if (mp_stream_memory(&wire->stream, &box->worker->worker->loop, &peer) < 0)
    return luaL_error(L, "out of memory");
  mp_conn_open(port, wire->stream);
  return 1;
}

static int wire_send(lua_State *L)
{
  wire_box *wire = check(L);
  mp_str octets = mpl_check_str(L, 2);
  if (wire->stream && octets.len)
    mp_stream_inject(wire->stream, octets.ptr, (mp_ssize)octets.len);
  return 0;
}

static int wire_eof(lua_State *L)
{
  wire_box *wire = check(L);
  if (wire->stream)
    mp_stream_inject(wire->stream, NULL, 0);
  return 0;
}

/* As if the connection had been reset: the peer is gone, which an end of file alone does not say. */
static int wire_reset(lua_State *L)
{
  wire_box *wire = check(L);
  if (wire->stream)
    mp_stream_inject(wire->stream, NULL, MP_E_SYSTEM);
  return 0;
}

static int wire_receive(lua_State *L)
{
  wire_box *wire = check(L);
  if (!wire->stream) {
    lua_pushliteral(L, "");
    return 1;
  }
  mp_buf *out = mp_stream_written(wire->stream);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_consume(out, out->len);
  return 1;
}

static int wire_closed(lua_State *L)
{
  wire_box *wire = check(L);
  lua_pushboolean(L, !wire->stream || mp_stream_finished(wire->stream));
  return 1;
}

static int wire_gc(lua_State *L)
{
  wire_box *wire = check(L);
  if (wire->stream)
    mp_stream_release(wire->stream);
  wire->stream = NULL;
  return 0;
}

int mpl_open_wire(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "send", wire_send }, { "eof", wire_eof }, { "reset", wire_reset }, { "receive", wire_receive }, { "closed", wire_closed }, { NULL, NULL },
  };
  mpl_class(L, MPL_WIRE, methods, wire_gc);
  return 0;
}
