/* bind/dkim_fields.c -- pieces of DKIM for chains of others' making (ARC, RFC 8617): the fields of a header by name, tag lists, canonical forms
 * and their digests. What is read from them is Lua's. */
#include "bind/dkim.h"

#include "base/error.h"
#include "mail/tags.h"

enum { HEADER_MOST = 32 << 20, FIELD_MOST = 1 << 20, NAMES_MOST = 65536 };

typedef struct fields_box { /* uservalue 1: what the header is borrowed from; 2: the room of an edited one */
  mp_dkim_fields *fields;   /* NULL: closed */
  mp_sink *sink;            /* a reference; NULL: a string's header */
} fields_box;

static mp_dkim_fields *check(lua_State *L)
{
  fields_box *box = luaL_checkudata(L, 1, MPL_DKIM_FIELDS);
  luaL_argcheck(L, box->fields, 1, "fields are closed");
  return box->fields;
}

static mp_dkim_canon check_form(lua_State *L, int index)
{
  static const char *const canons[] = { "simple", "relaxed", NULL };
  return luaL_checkoption(L, index, NULL, canons) == 1 ? MP_DKIM_RELAXED : MP_DKIM_SIMPLE;
}

/* core.dkim_fields(message or string, edited) */
static int core_dkim_fields(lua_State *L)
{
  bool edited = lua_toboolean(L, 2);
  fields_box *box = lua_newuserdatauv(L, sizeof *box, 2);
  *box = (fields_box){ 0 };
  luaL_setmetatable(L, MPL_DKIM_FIELDS);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_buf *room = mpl_push_buf(L, HEADER_MOST);
  lua_setiuservalue(L, -2, 2);
  int rc;
  mp_str block = mpl_header_of(L, 1, edited, room, &rc);
  if (rc == 0 && lua_type(L, 1) == LUA_TUSERDATA)
    box->sink = mp_sink_ref(mpl_check_message(L, 1)->sink);
  if (rc == 0)
    rc = mp_dkim_fields_new(&box->fields, block);
  return rc < 0
             ? mpl_fail(L, rc, rc == MP_E_TOOLONG || rc == MP_E_FULL ? "the message's header is too long" : NULL)
             : 1;
}

static bool is_listed(mp_str names, mp_str name)
{
  size_t pos = 0;
  mp_str one;
  while (mp_tag_next(names, ':', &pos, &one))
    if (mp_str_ieq(one, name))
      return true;
  return false;
}

/* fields:list(names) -> { raw, ... } in the order of the header */
static int fields_list(lua_State *L)
{
  mp_dkim_fields *fields = check(L);
  mp_str names = mpl_check_str(L, 2);
  lua_newtable(L);
  lua_Integer count = 0;
  for (size_t i = 0; i < mp_dkim_fields_count(fields); i++) {
    const mp_field *field = mp_dkim_fields_at(fields, i);
    if (is_listed(names, field->name)) {
      mpl_push_str(L, field->raw);
      lua_rawseti(L, -2, ++count);
    }
  }
  return 1;
}

/* fields:digest(headers, form, own): of the fields that `headers` takes, and then `own`, whose b= is empty. */
static int fields_digest(lua_State *L)
{
  mp_dkim_fields *fields = check(L);
  unsigned char digest[MP_DKIM_DIGEST];
  int rc = mp_dkim_hash_header(fields, mpl_check_str(L, 2), check_form(L, 3), mpl_check_str(L, 4),
                               MP_STR_NULL, digest);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_pushlstring(L, (const char *)digest, sizeof digest);
  return 1;
}

/* fields:choose(names or nil, over) -> the names of h= */
static int fields_choose(lua_State *L)
{
  mp_dkim_fields *fields = check(L);
  mp_str names = lua_isnoneornil(L, 2) ? mp_dkim_default_headers() : mpl_check_str(L, 2);
  mp_str over = lua_toboolean(L, 3) ? mp_dkim_default_over() : MP_STR_NULL;
  mp_buf *out = mpl_push_buf(L, NAMES_MOST);
  int rc = mp_dkim_choose(out, fields, names, over, false);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(out);
  return rc < 0 ? mpl_fail(L, rc, "the message's header is too long") : 1;
}

static int fields_gc(lua_State *L)
{
  fields_box *box = luaL_checkudata(L, 1, MPL_DKIM_FIELDS);
  mp_dkim_fields_free(box->fields);
  mp_sink_unref(box->sink);
  *box = (fields_box){ 0 };
  return 0;
}

/* core.dkim_tags(text) -> { name = value }, and where b= has its value: first, last; or nil, why, error */
static int core_dkim_tags(lua_State *L)
{
  mp_str text = mpl_check_str(L, 1);
  mp_tags tags;
  int rc = mp_tags_parse(&tags, text);
  if (rc < 0)
    return mpl_fail(L, rc, "it is no list of tags");
  lua_createtable(L, 0, (int)tags.count);
  for (size_t i = 0; i < tags.count; i++) {
    mpl_push_str(L, tags.list[i].name);
    mpl_push_str(L, tags.list[i].value);
    lua_rawset(L, -3);
  }
  const mp_tag *b = mp_tags_find(&tags, MP_STR("b"));
  if (!b)
    return 1;
  size_t first = (size_t)(b->room.ptr - text.ptr);
  lua_pushinteger(L, (lua_Integer)first + 1);
  lua_pushinteger(L, (lua_Integer)(first + b->room.len));
  return 3;
}

/* core.dkim_canon(field, form, crlf) */
static int core_dkim_canon(lua_State *L)
{
  mp_str raw = mpl_check_str(L, 1);
  mp_dkim_canon form = check_form(L, 2);
  mp_buf *out = mpl_push_buf(L, FIELD_MOST);
  int rc = mp_dkim_canon_field(out, form, raw, lua_toboolean(L, 3));
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(out);
  return rc < 0 ? mpl_fail(L, rc, "the field is too long") : 1;
}

/* core.dkim_digest(octets) */
static int core_dkim_digest(lua_State *L)
{
  mp_str octets = mpl_check_str(L, 1);
  unsigned char digest[MP_DKIM_DIGEST];
  if (mp_dkim_digest(octets, digest) < 0)
    return luaL_error(L, "out of memory");
  lua_pushlstring(L, (const char *)digest, sizeof digest);
  return 1;
}

int mpl_open_dkim_fields(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "list", fields_list }, { "digest", fields_digest }, { "choose", fields_choose }, { "close", fields_gc },
    { NULL, NULL },
  };
  static const luaL_Reg functions[] = {
    { "dkim_fields", core_dkim_fields },
    { "dkim_tags", core_dkim_tags },
    { "dkim_canon", core_dkim_canon },
    { "dkim_digest", core_dkim_digest },
    { NULL, NULL },
  };
  mpl_class(L, MPL_DKIM_FIELDS, methods, fields_gc);
  luaL_setfuncs(L, functions, 0);
  return 0;
}
