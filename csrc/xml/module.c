/* xml/module.c -- the module moonpost.xml_core: documents of strangers as tables, by libexpat. No entities are declared by them: a document with a
 * declaration of its own is refused, so nothing in it grows. */
#include <expat.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>

#define PARSER_MT "moonpost.xml_core.parser"

enum { PIECE = 1 << 20 };

LUAMOD_API int luaopen_moonpost_xml_core(lua_State *L);

/* A box, so that what raises between leaks no parser. While a document is read, the elements that are open stand on the Lua stack, each followed by a
 * list of the pieces of its text. */
typedef struct reading {
  XML_Parser parser;
  lua_State *L;
  lua_Integer depth, depth_most, nodes, nodes_most;
  const char *why; /* it was stopped; static */
} reading;

static int reading_gc(lua_State *L)
{
  reading *r = luaL_checkudata(L, 1, PARSER_MT);
  if (r->parser)
    XML_ParserFree(r->parser);
  r->parser = NULL;
  return 0;
}

static void stop(reading *r, const char *why)
{
  if (!r->why)
    r->why = why;
  XML_StopParser(r->parser, XML_FALSE);
}

/* The name without its namespace's prefix. */
static const char *local_name(const char *name)
{
  const char *colon = strrchr(name, ':');
  return colon && colon[1] ? colon + 1 : name;
}

static void on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
  reading *r = ctx;
  if (r->why)
    return;
  if (r->depth >= r->depth_most || r->nodes >= r->nodes_most) {
    stop(r, r->depth >= r->depth_most ? "too deep" : "too many elements");
    return;
  }
  lua_State *L = r->L;
  luaL_checkstack(L, 8, "elements");
  r->depth++;
  r->nodes++;
  lua_createtable(L, 0, 3);
  lua_pushstring(L, local_name(name));
  lua_setfield(L, -2, "name");
  if (attributes[0]) {
    lua_newtable(L);
    for (; attributes[0]; attributes += 2) {
      lua_pushstring(L, attributes[1]);
      lua_setfield(L, -2, local_name(attributes[0]));
    }
    lua_setfield(L, -2, "attributes");
  }
  lua_newtable(L);
}

static void on_text(void *ctx, const XML_Char *text, int len)
{
  reading *r = ctx;
  if (r->why || r->depth == 0)
    return;
  lua_pushlstring(r->L, text, (size_t)len);
  lua_rawseti(r->L, -2, (lua_Integer)lua_rawlen(r->L, -2) + 1);
}

/* The pieces become the text; the element goes into the one around it, or stays as the document. */
static void on_end(void *ctx, const XML_Char *name)
{
  (void)name;
  reading *r = ctx;
  if (r->why)
    return;
  lua_State *L = r->L;
  luaL_Buffer text;
  size_t pieces = lua_rawlen(L, -1);
  int list = lua_gettop(L);
  luaL_buffinit(L, &text);
  for (size_t i = 1; i <= pieces; i++) {
    lua_rawgeti(L, list, (lua_Integer)i);
    luaL_addvalue(&text);
  }
  luaL_pushresult(&text);
  lua_setfield(L, list - 1, "text");
  lua_settop(L, list - 1);
  if (--r->depth > 0) {
    int outer = lua_gettop(L) - 2;
    lua_rawseti(L, outer, (lua_Integer)lua_rawlen(L, outer) + 1);
  }
}

static void on_declaration(void *ctx, const XML_Char *name, const XML_Char *system, const XML_Char *public_id,
                           int internal)
{
  (void)name;
  (void)system;
  (void)public_id;
  if (internal)
    stop(ctx, "it declares entities");
}

/* parse(octets, depth, elements) -> { name, text, attributes, [1] = child, ... }; or nil and why */
static int xml_parse(lua_State *L)
{
  size_t len;
  const char *octets = luaL_checklstring(L, 1, &len);
  lua_Integer depth = luaL_checkinteger(L, 2), nodes = luaL_checkinteger(L, 3);
  lua_settop(L, 1);
  reading *r = lua_newuserdatauv(L, sizeof *r, 0);
  *r = (reading){ .L = L, .depth_most = depth, .nodes_most = nodes };
  luaL_setmetatable(L, PARSER_MT);
  r->parser = XML_ParserCreate(NULL);
  if (!r->parser)
    return luaL_error(L, "out of memory");
  XML_SetUserData(r->parser, r);
  XML_SetElementHandler(r->parser, on_start, on_end);
  XML_SetCharacterDataHandler(r->parser, on_text);
  XML_SetStartDoctypeDeclHandler(r->parser, on_declaration);
  enum XML_Status status = XML_STATUS_OK;
  for (size_t at = 0; status == XML_STATUS_OK && at <= len; at += PIECE) {
    size_t some = len - at < PIECE ? len - at : PIECE;
    status = XML_Parse(r->parser, octets + at, (int)some, at + some == len);
    if (at + some == len)
      break;
  }
  if (status == XML_STATUS_OK && !r->why)
    return 1; /* the document stands on top */
  lua_settop(L, 2);
  lua_pushnil(L);
  if (r->why)
    lua_pushstring(L, r->why);
  else
    lua_pushfstring(L, "line %I: %s", (lua_Integer)XML_GetCurrentLineNumber(r->parser),
                    XML_ErrorString(XML_GetErrorCode(r->parser)));
  return 2;
}

LUAMOD_API int luaopen_moonpost_xml_core(lua_State *L)
{
  static const luaL_Reg functions[] = { { "parse", xml_parse }, { NULL, NULL } };
  luaL_newmetatable(L, PARSER_MT);
  lua_pushcfunction(L, reading_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
