/* bind/wire.c -- the peer's end of a connection without a socket, for tests of policies and for programs that bring their own transport. */
#include "bind/client.h"

typedef struct wire_box { /* uservalue 1: the service's box */
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

static lua_Integer id_at(lua_State *L, int index, const char *field, lua_Integer fallback)
{
  lua_getfield(L, index, field);
  lua_Integer id = luaL_optinteger(L, -1, fallback);
  lua_pop(L, 1);
  return id;
}

static mp_stream_peer peer_at(lua_State *L, int index)
{
  lua_getfield(L, index, "unix");
  mp_stream_peer peer = { .is_unix = lua_toboolean(L, -1),
                          .uid = (unsigned)id_at(L, index, "uid", UINT_MAX),
                          .pid = (int)id_at(L, index, "pid", 0),
                          .ip = ip_at(L, index, "ip", "192.0.2.1"),
                          .local_ip = ip_at(L, index, "local_ip", "192.0.2.25"),
                          .port = port_at(L, index, "port", 40000),
                          .local_port = port_at(L, index, "local_port", 25) };
  lua_pop(L, 1);
  return peer;
}

void mpl_push_wire(lua_State *L, mpl_worker *worker, int index, mp_stream **stream)
{
  mp_stream_peer peer = peer_at(L, index);
  wire_box *wire = lua_newuserdatauv(L, sizeof *wire, 1);
  wire->stream = NULL;
  luaL_setmetatable(L, MPL_WIRE);
  if (mp_stream_memory(&wire->stream, &worker->worker->loop, &peer) < 0)
    luaL_error(L, "out of memory");
  *stream = wire->stream;
}

int mpl_service_wire(lua_State *L)
{
  mpl_service *box = mpl_check_service(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TTABLE);
  mp_port *port = mpl_make_port(L, box, 2);
  mp_stream *stream = NULL;
  mpl_push_wire(L, box->worker, 3, &stream);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_conn_open(port, stream);
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

/* The connection is lost, as by a reset: the peer is gone, which an end of file alone does not say. */
static int wire_lose(lua_State *L)
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

static mp_str fact_at(lua_State *L, const char *field, const char *fallback)
{
  lua_getfield(L, 2, field); /* stays on the stack: the view lasts */
  size_t len;
  const char *ptr = luaL_optlstring(L, -1, fallback, &len);
  return mp_str_of(ptr, len);
}

static bool flag_at(lua_State *L, const char *field)
{
  lua_getfield(L, 2, field);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

enum { NAMES_MOST = 64 };

static size_t names_at(lua_State *L, mp_str names[NAMES_MOST])
{
  if (lua_getfield(L, 2, "names") == LUA_TNIL)
    return 0;
  luaL_checktype(L, -1, LUA_TTABLE);
  int list = lua_gettop(L);
  size_t count = (size_t)lua_rawlen(L, list);
  luaL_argcheck(L, count <= NAMES_MOST, 2, "too many names");
  luaL_checkstack(L, NAMES_MOST, "names");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, list, (lua_Integer)i + 1);
    names[i] = mpl_check_str(L, -1);
  }
  return count;
}

static int wire_tls(lua_State *L)
{
  wire_box *wire = check(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  luaL_checkstack(L, 16, "tls");
  mp_str names[NAMES_MOST];
  mp_tls_info facts = { .version = fact_at(L, "version", "TLSv1.3"),
                        .cipher = fact_at(L, "cipher", "TLS_AES_256_GCM_SHA384"),
                        .sni = fact_at(L, "sni", ""),
                        .resumed = flag_at(L, "resumed"),
                        .peer_subject = fact_at(L, "subject", ""),
                        .peer_verified = flag_at(L, "verified"),
                        .peer_fingerprint = fact_at(L, "fingerprint", ""),
                        .cb_unique = fact_at(L, "unique", ""),
                        .cb_exporter = fact_at(L, "exporter", "") };
  facts.peer_names = names;
  facts.peer_name_count = names_at(L, names);
  lua_getiuservalue(L, 1, 1);
  mpl_service *box = mpl_check_service(L, -1);
  int rc = wire->stream ? mp_conn_pretend_tls(box->service, wire->stream, &facts) : MP_E_EOF;
  if (rc < 0)
    return mpl_fail(L, rc, rc == MP_E_MISUSE ? "no TLS handshake is due" : NULL);
  lua_pushboolean(L, 1);
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
    { "send", wire_send },     { "eof", wire_eof }, { "lose", wire_lose }, { "receive", wire_receive },
    { "closed", wire_closed }, { "tls", wire_tls }, { NULL, NULL },
  };
  mpl_class(L, MPL_WIRE, methods, wire_gc);
  return 0;
}
