/* gzip/module.c -- the module moonpost.gzip_core: files of reports as they are mailed (RFC 1952). zlib takes its memory itself. */
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#define STREAM_MT "moonpost.gzip_core.stream"

enum { GZIP = 16, CHUNK = 16384 }; /* what zlib adds to the size of its window for this format */

LUAMOD_API int luaopen_moonpost_gzip_core(lua_State *L);

/* A box, so that what raises between leaks no stream. */
typedef struct stream {
  z_stream z;
  int (*end)(z_stream *z); /* NULL when closed */
} stream;

static int stream_gc(lua_State *L)
{
  stream *s = luaL_checkudata(L, 1, STREAM_MT);
  if (s->end)
    s->end(&s->z);
  s->end = NULL;
  return 0;
}

/* Leaves a closed box on the stack whose input is the string at 1. */
static stream *push_stream(lua_State *L)
{
  size_t len;
  const char *octets = luaL_checklstring(L, 1, &len);
  luaL_argcheck(L, len <= 1u << 30, 1, "over a gigabyte");
  stream *s = lua_newuserdatauv(L, sizeof *s, 1);
  memset(s, 0, sizeof *s);
  luaL_setmetatable(L, STREAM_MT);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  s->z.next_in = (z_const Bytef *)(uintptr_t)octets;
  s->z.avail_in = (uInt)len;
  return s;
}

static void finish(stream *s)
{
  s->end(&s->z);
  s->end = NULL;
}

/* pack(octets) -> octets of a gzip file */
static int gzip_pack(lua_State *L)
{
  stream *s = push_stream(L);
  if (deflateInit2(&s->z, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return luaL_error(L, "out of memory");
  s->end = deflateEnd;
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  int rc;
  do {
    s->z.next_out = (Bytef *)luaL_prepbuffsize(&out, CHUNK);
    s->z.avail_out = CHUNK;
    rc = deflate(&s->z, Z_FINISH);
    luaL_addsize(&out, CHUNK - s->z.avail_out);
  } while (rc == Z_OK || rc == Z_BUF_ERROR);
  luaL_pushresult(&out);
  finish(s);
  return rc == Z_STREAM_END ? 1 : luaL_error(L, "zlib: %d", rc);
}

static int unpack(lua_State *L, bool files)
{
  lua_Integer most = luaL_checkinteger(L, 2);
  luaL_argcheck(L, most > 0, 2, "octets");
  stream *s = push_stream(L);
  if (inflateInit2(&s->z, files ? MAX_WBITS + GZIP : -MAX_WBITS) != Z_OK)
    return luaL_error(L, "out of memory");
  s->end = inflateEnd;
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  const char *why = NULL;
  lua_Integer total = 0;
  for (int rc = Z_OK; !why && !(rc == Z_STREAM_END && (!files || s->z.avail_in == 0));) {
    if (rc == Z_STREAM_END && inflateReset(&s->z) != Z_OK)
      why = "damaged";
    s->z.next_out = (Bytef *)luaL_prepbuffsize(&out, CHUNK);
    s->z.avail_out = CHUNK;
    rc = inflate(&s->z, Z_NO_FLUSH);
    luaL_addsize(&out, CHUNK - s->z.avail_out);
    total += CHUNK - (lua_Integer)s->z.avail_out;
    if (rc != Z_OK && rc != Z_STREAM_END)
      why = "damaged"; /* no progress is Z_BUF_ERROR: it was cut off */
    else if (total > most)
      why = "too large";
  }
  luaL_pushresult(&out);
  finish(s);
  if (!why)
    return 1;
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

/* unpack(octets, most) -> octets; or nil and "damaged" or "too large". Several files behind one another are one (RFC 1952 2.2). */
static int gzip_unpack(lua_State *L)
{
  return unpack(L, true);
}

/* inflate(octets, most): the same of bare deflated octets (RFC 1951), as a zip file holds them; what stands behind them is not looked at */
static int gzip_inflate(lua_State *L)
{
  return unpack(L, false);
}

LUAMOD_API int luaopen_moonpost_gzip_core(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "pack", gzip_pack }, { "unpack", gzip_unpack }, { "inflate", gzip_inflate }, { NULL, NULL }
  };
  luaL_newmetatable(L, STREAM_MT);
  lua_pushcfunction(L, stream_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
