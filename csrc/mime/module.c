/* mime/module.c -- the module moonpost.mime_core: scanner, coders, values of header fields. The face is lua/moonpost/mime.lua. Whatever GMime gives is held by a
 * userdata while Lua values are made of it, for making them may raise. */
#include "mime/code.h"
#include "mime/scan.h"
#include "mime/value.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_MT  "moonpost.mime_core.scan"
#define CODER_MT "moonpost.mime_core.coder"
#define HOLD_MT  "moonpost.mime_core.hold"

LUAMOD_API int luaopen_moonpost_mime_core(lua_State *L);

/* ---- what must be let go of --------------------------------------------------------------------------------------- */

typedef struct hold {
  void *what;
  void (*let_go)(void *what);
} hold;

static int hold_gc(lua_State *L)
{
  hold *h = luaL_checkudata(L, 1, HOLD_MT);
  void *what = h->what;
  h->what = NULL;
  if (what)
    h->let_go(what);
  return 0;
}

static hold *push_hold(lua_State *L, void (*let_go)(void *what))
{
  hold *h = lua_newuserdatauv(L, sizeof *h, 0);
  *h = (hold){ NULL, let_go };
  luaL_setmetatable(L, HOLD_MT);
  return h;
}

static void release(hold *h)
{
  void *what = h->what;
  h->what = NULL;
  if (what)
    h->let_go(what);
}

/* The string at `index` as C text that is held by what is pushed; NULL when it is too long. */
static hold *push_text(lua_State *L, int index, bool comments)
{
  size_t len;
  const char *value = luaL_checklstring(L, index, &len);
  hold *h = push_hold(L, free);
  h->what = mp_mime_text(value, len, comments);
  if (!h->what && len <= MP_MIME_VALUE_MOST)
    luaL_error(L, "out of memory");
  return h->what ? h : NULL;
}

enum { ADDRESSES_MOST = 5000 }; /* of one field */

static int too_long(lua_State *L)
{
  lua_pushnil(L);
  lua_pushfstring(L, "a value over %d octets", (int)MP_MIME_VALUE_MOST);
  return 2;
}

static void push_gtext(lua_State *L, const char *text)
{
  if (text && g_utf8_validate(text, -1, NULL)) {
    lua_pushstring(L, text);
  } else if (text) {
    hold *h = push_hold(L, g_free);
    char *valid = g_utf8_make_valid(text, -1);
    h->what = valid;
    lua_pushstring(L, valid);
    release(h);
    lua_remove(L, -2);
  } else {
    lua_pushnil(L);
  }
}

/* ---- scanner ------------------------------------------------------------------------------------------------------ */

typedef struct scan_box {
  mp_mime_scan *scan; /* NULL: closed */
  bool over;
} scan_box;

static size_t limit(lua_State *L, int index)
{
  lua_Integer n = luaL_checkinteger(L, index);
  luaL_argcheck(L, n >= 1 && n <= INT32_MAX, index, "a limit is at least 1");
  return (size_t)n;
}

/* core.scan(depth, parts, header) -> scan */
static int scan_new(lua_State *L)
{
  mp_mime_limits limits = { limit(L, 1), limit(L, 2), limit(L, 3) };
  scan_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (scan_box){ NULL, false };
  luaL_setmetatable(L, SCAN_MT);
  box->scan = mp_mime_scan_new(&limits);
  return box->scan ? 1 : luaL_error(L, "out of memory");
}

static scan_box *check_scan(lua_State *L)
{
  scan_box *box = luaL_checkudata(L, 1, SCAN_MT);
  luaL_argcheck(L, box->scan, 1, "scan is closed");
  return box;
}

static int scan_gc(lua_State *L)
{
  scan_box *box = luaL_checkudata(L, 1, SCAN_MT);
  mp_mime_scan_free(box->scan);
  box->scan = NULL;
  return 0;
}

static int said(lua_State *L, mp_mime_fault fault)
{
  static const char *const names[] = { NULL, "depth", "parts", "header" };
  if (fault == MP_MIME_NOMEM)
    return luaL_error(L, "out of memory");
  lua_pushboolean(L, fault == MP_MIME_OK);
  lua_pushstring(L, names[fault]);
  return 2;
}

/* scan:feed(octets) -> true; or false, the limit that is passed */
static int scan_feed(lua_State *L)
{
  scan_box *box = check_scan(L);
  size_t len;
  const char *octets = luaL_checklstring(L, 2, &len);
  luaL_argcheck(L, !box->over, 1, "scan is finished");
  return said(L, mp_mime_scan_feed(box->scan, octets, len));
}

static int scan_finish(lua_State *L)
{
  scan_box *box = check_scan(L);
  luaL_argcheck(L, !box->over, 1, "scan is finished");
  box->over = true;
  return said(L, mp_mime_scan_finish(box->scan));
}

static int scan_count(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)mp_mime_scan_count(check_scan(L)->scan));
  return 1;
}

static const mp_mime_part *check_part(lua_State *L, scan_box *box)
{
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= mp_mime_scan_count(box->scan), 2, "no such part");
  luaL_argcheck(L, box->over, 1, "scan is not finished");
  return mp_mime_scan_part(box->scan, (size_t)i - 1);
}

static void push_index(lua_State *L, int32_t index)
{
  if (index < 0)
    lua_pushnil(L);
  else
    lua_pushinteger(L, (lua_Integer)index + 1);
}

/* scan:part(i) -> kind, parent, child, next, depth, begin, header_at, body_at, finish_of_body, finish, digest */
static int scan_part(lua_State *L)
{
  static const char *const kinds[] = { "leaf", "multipart", "message" };
  const mp_mime_part *part = check_part(L, check_scan(L));
  lua_pushstring(L, kinds[part->kind]);
  push_index(L, part->parent);
  push_index(L, part->child);
  push_index(L, part->next);
  lua_pushinteger(L, part->depth);
  lua_pushinteger(L, (lua_Integer)part->begin);
  lua_pushinteger(L, (lua_Integer)part->header_at);
  lua_pushinteger(L, (lua_Integer)part->body_at);
  lua_pushinteger(L, (lua_Integer)part->end);
  lua_pushinteger(L, (lua_Integer)part->finish);
  lua_pushboolean(L, part->digest);
  return 11;
}

static int scan_header(lua_State *L)
{
  scan_box *box = check_scan(L);
  const mp_mime_part *part = check_part(L, box);
  lua_pushlstring(L, mp_mime_scan_header(box->scan, part), part->header_len);
  return 1;
}

/* ---- coders ------------------------------------------------------------------------------------------------------- */

typedef struct coder_box {
  mp_mime_coder coder;
  bool open;
} coder_box;

static coder_box *push_coder(lua_State *L)
{
  coder_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (coder_box){ .open = false };
  luaL_setmetatable(L, CODER_MT);
  return box;
}

/* core.decoder(encoding or nil, charset or nil) -> coder: charset nil leaves octets, else UTF-8 comes out */
static int decoder_new(lua_State *L)
{
  const char *encoding = luaL_optstring(L, 1, NULL), *charset = luaL_optstring(L, 2, NULL);
  coder_box *box = push_coder(L);
  box->open = true;
  return mp_mime_decoder_init(&box->coder, encoding, charset) ? 1 : luaL_error(L, "out of memory");
}

/* core.encoder("base64" | "quoted-printable") -> coder */
static int encoder_new(lua_State *L)
{
  static const char *const names[] = { "base64", "quoted-printable", NULL };
  static const GMimeContentEncoding kinds[] = { GMIME_CONTENT_ENCODING_BASE64,
                                                GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE };
  int which = luaL_checkoption(L, 1, NULL, names);
  coder_box *box = push_coder(L);
  box->open = true;
  mp_mime_encoder_init(&box->coder, kinds[which]);
  return 1;
}

static int coder_gc(lua_State *L)
{
  coder_box *box = luaL_checkudata(L, 1, CODER_MT);
  if (box->open)
    mp_mime_coder_dispose(&box->coder);
  box->open = false;
  return 0;
}

static int step(lua_State *L, bool last)
{
  coder_box *box = luaL_checkudata(L, 1, CODER_MT);
  size_t len;
  const char *octets = luaL_optlstring(L, 2, "", &len);
  luaL_argcheck(L, box->open, 1, "coder is finished");
  if (!mp_mime_coder_step(&box->coder, octets, len, last))
    return luaL_error(L, "out of memory");
  lua_pushlstring(L, box->coder.octets ? box->coder.octets : "", box->coder.len);
  if (last)
    coder_gc(L);
  return 1;
}

/* coder:step(octets) -> octets */
static int coder_step(lua_State *L)
{
  return step(L, false);
}

/* coder:finish([octets]) -> octets; the coder is closed */
static int coder_finish(lua_State *L)
{
  return step(L, true);
}

static int charset_known(lua_State *L)
{
  lua_pushboolean(L, mp_mime_charset_known(luaL_checkstring(L, 1)));
  return 1;
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

/* core.decode(value) -> UTF-8: unfolded, encoded words decoded */
static int decode(lua_State *L)
{
  hold *text = push_text(L, 1, true);
  if (!text)
    return too_long(L);
  hold *out = push_hold(L, g_free);
  out->what = g_mime_utils_header_decode_text(NULL, text->what);
  push_gtext(L, out->what);
  release(out);
  release(text);
  return 1;
}

/* A table of the parameters at `text`; the first of a name counts, as everywhere. */
static void push_params(lua_State *L, const char *text)
{
  hold *h = push_hold(L, g_object_unref);
  GMimeParamList *list = g_mime_param_list_parse(NULL, text);
  h->what = list;
  lua_newtable(L);
  int count = list ? g_mime_param_list_length(list) : 0;
  for (int i = 0; i < count; i++) {
    GMimeParam *param = g_mime_param_list_get_parameter_at(list, i);
    hold *name = push_hold(L, g_free);
    char *lower = g_ascii_strdown(g_mime_param_get_name(param), -1);
    name->what = lower;
    push_gtext(L, lower);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -4) == LUA_TNIL) {
      lua_pop(L, 1);
      push_gtext(L, g_mime_param_get_value(param));
      lua_rawset(L, -4);
    } else {
      lua_pop(L, 2);
    }
    release(name);
    lua_pop(L, 1);
  }
  release(h);
  lua_remove(L, -2);
}

/* core.parameters(value) -> type, subtype (empty where there is none), { name = value } */
static int parameters(lua_State *L)
{
  size_t len;
  const char *value = luaL_checklstring(L, 1, &len);
  char type[128], subtype[128];
  size_t at = mp_mime_type_of(value, len, type, subtype);
  if (len > MP_MIME_VALUE_MOST)
    return too_long(L);
  lua_pushstring(L, type);
  lua_pushstring(L, subtype);
  lua_pushlstring(L, value + at, len - at);
  hold *text = push_text(L, lua_gettop(L), false);
  push_params(L, text->what);
  release(text);
  lua_replace(L, -3);
  lua_pop(L, 1);
  return 3;
}

static void push_addresses(lua_State *L, InternetAddressList *list, int depth)
{
  int count = list ? internet_address_list_length(list) : 0;
  luaL_checkstack(L, 8, "addresses");
  lua_createtable(L, count, 0);
  for (int i = 0, n = 0; i < count; i++) {
    InternetAddress *one = internet_address_list_get_address(list, i);
    bool group = INTERNET_ADDRESS_IS_GROUP(one);
    const char *name = internet_address_get_name(one);
    const char *address = group ? NULL : internet_address_mailbox_get_addr(INTERNET_ADDRESS_MAILBOX(one));
    name = name && *name ? name : group ? "" : NULL;
    if (!name && !address)
      continue;
    lua_createtable(L, 0, 2);
    push_gtext(L, name);
    if (group) {
      lua_setfield(L, -2, "group");
      if (depth > 0)
        push_addresses(L, internet_address_group_get_members(INTERNET_ADDRESS_GROUP(one)), depth - 1);
      else
        lua_newtable(L);
      lua_setfield(L, -2, "members");
    } else {
      lua_setfield(L, -2, "name");
      push_gtext(L, address);
      lua_setfield(L, -2, "address");
    }
    lua_rawseti(L, -2, ++n);
  }
}

/* core.addresses(value) -> { { name?, address } or { group, members } } */
static int addresses(lua_State *L)
{
  hold *text = push_text(L, 1, true);
  if (!text)
    return too_long(L);
  /* Each address that GMime puts into a list looks at those before it. */
  size_t commas = 0;
  for (const char *at = text->what; *at; at++)
    commas += *at == ',' || *at == ';';
  if (commas >= ADDRESSES_MOST) {
    release(text);
    lua_pushnil(L);
    lua_pushfstring(L, "more than %d addresses", (int)ADDRESSES_MOST);
    return 2;
  }
  hold *list = push_hold(L, g_object_unref);
  list->what = internet_address_list_parse(NULL, text->what);
  push_addresses(L, list->what, 4);
  release(list);
  release(text);
  return 1;
}

static void free_date(void *date)
{
  g_date_time_unref(date);
}

/* core.date(value) -> seconds since 1970, minutes east of Greenwich; nothing when it is none */
static int date(lua_State *L)
{
  hold *text = push_text(L, 1, false);
  if (!text)
    return too_long(L);
  hold *h = push_hold(L, free_date);
  GDateTime *when = g_mime_utils_header_decode_date(text->what);
  h->what = when;
  if (!when)
    return 0;
  lua_pushinteger(L, g_date_time_to_unix(when));
  lua_pushinteger(L, g_date_time_get_utc_offset(when) / 60000000);
  release(h);
  release(text);
  return 2;
}

static int open_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  return 0;
}

LUAMOD_API int luaopen_moonpost_mime_core(lua_State *L)
{
  static const luaL_Reg scan_methods[] = {
    { "feed", scan_feed },     { "finish", scan_finish }, { "count", scan_count }, { "part", scan_part },
    { "header", scan_header }, { "close", scan_gc },      { NULL, NULL }
  };
  static const luaL_Reg coder_methods[] = {
    { "step", coder_step }, { "finish", coder_finish }, { "close", coder_gc }, { NULL, NULL }
  };
  static const luaL_Reg none[] = { { NULL, NULL } };
  static const luaL_Reg functions[] = { { "scan", scan_new },
                                        { "decoder", decoder_new },
                                        { "encoder", encoder_new },
                                        { "charset_known", charset_known },
                                        { "decode", decode },
                                        { "parameters", parameters },
                                        { "addresses", addresses },
                                        { "date", date },
                                        { NULL, NULL } };
  mp_mime_begin();
  open_class(L, SCAN_MT, scan_methods, scan_gc);
  open_class(L, CODER_MT, coder_methods, coder_gc);
  open_class(L, HOLD_MT, none, hold_gc);
  luaL_newlib(L, functions);
  return 1;
}
