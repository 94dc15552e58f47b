/* bind/arc.c -- what chains of ARC (RFC 8617) are judged and made of: their fields, and the digests that are signed. */
#include "bind/dkim.h"

#include "base/base64.h"
#include "mail/tags.h"

enum { HEADER_MOST = 32 << 20, FIELDS_MOST = 256, NAMES_MOST = 65536, OCTETS_MOST = 65536 };

static mp_str trimmed(mp_str raw)
{
  if (raw.len >= 2 && memcmp(raw.ptr + raw.len - 2, "\r\n", 2) == 0)
    raw.len -= 2;
  return raw;
}

static void push_lower(lua_State *L, mp_str name)
{
  luaL_Buffer buf;
  char *out = luaL_buffinitsize(L, &buf, name.len);
  for (size_t i = 0; i < name.len; i++)
    out[i] = (char)mp_ascii_lower((unsigned char)name.ptr[i]);
  luaL_pushresultsize(&buf, name.len);
}

static bool is_wanted(mp_str name)
{
  return (name.len > 4 && mp_str_ieq(mp_str_sub(name, 0, 4), MP_STR("ARC-"))) ||
         mp_str_ieq(name, MP_STR("Authentication-Results"));
}

static int push_fields(lua_State *L, mp_str block)
{
  lua_newtable(L);
  size_t pos = 0;
  lua_Integer n = 0;
  for (mp_field field; n < FIELDS_MOST && mp_header_next(block, &pos, &field);) {
    if (!is_wanted(field.name))
      continue;
    lua_createtable(L, 0, 3);
    push_lower(L, field.name);
    lua_setfield(L, -2, "name");
    mpl_push_str(L, field.value);
    lua_setfield(L, -2, "value");
    mpl_push_str(L, trimmed(field.raw));
    lua_setfield(L, -2, "raw");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* core.arc_fields(message or string, edited) -> the fields ARC-* and Authentication-Results from the top, at most 256: { name, value, raw } */
static int core_arc_fields(lua_State *L)
{
  bool edited = lua_toboolean(L, 2);
  mp_buf *room = mpl_push_buf(L, HEADER_MOST);
  int rc;
  mp_str block = mpl_header_of(L, 1, edited, room, &rc);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  push_fields(L, block);
  mp_buf_dispose(room);
  return 1;
}

/* core.dkim_tags(text) -> { name = value }, or nil, why, error (RFC 6376 3.2) */
static int core_dkim_tags(lua_State *L)
{
  mp_tags tags;
  int rc = mp_tags_parse(&tags, mpl_check_str(L, 1));
  if (rc < 0)
    return mpl_fail(L, rc, "it is no list of tags");
  lua_createtable(L, 0, (int)tags.count);
  for (size_t i = 0; i < tags.count; i++) {
    mpl_push_str(L, tags.list[i].name);
    mpl_push_str(L, tags.list[i].value);
    lua_rawset(L, -3);
  }
  return 1;
}

/* core.dkim_octets(base64) -> octets, or nil: white space does not count */
static int core_dkim_octets(lua_State *L)
{
  mp_str text = mpl_check_str(L, 1);
  mp_buf *squeezed = mpl_push_buf(L, OCTETS_MOST), *out = mpl_push_buf(L, OCTETS_MOST);
  int rc = mp_tag_squeeze(text, squeezed);
  if (rc == 0)
    rc = mp_base64_decode(out, mp_buf_view(squeezed));
  if (rc == MP_E_NOMEM)
    return luaL_error(L, "out of memory");
  if (rc < 0)
    lua_pushnil(L);
  else
    mpl_push_str(L, mp_buf_view(out));
  return 1;
}

static int push_digest(lua_State *L, int rc, const unsigned char *digest)
{
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_pushlstring(L, (const char *)digest, MP_DKIM_DIGEST);
  return 1;
}

/* core.dkim_digest(message or string, edited, names, form, field) -> what is signed by a field that stands for itself, b= left out */
static int core_dkim_digest(lua_State *L)
{
  static const char *const canons[] = { "simple", "relaxed", NULL };
  bool edited = lua_toboolean(L, 2);
  mp_str names = mpl_check_str(L, 3), own = trimmed(mpl_check_str(L, 5));
  mp_dkim_canon form = luaL_checkoption(L, 4, NULL, canons) == 1 ? MP_DKIM_RELAXED : MP_DKIM_SIMPLE;
  mp_buf *room = mpl_push_buf(L, HEADER_MOST);
  unsigned char digest[MP_DKIM_DIGEST];
  int rc;
  mp_str block = mpl_header_of(L, 1, edited, room, &rc);
  mp_dkim_fields *fields;
  if (rc == 0)
    rc = mp_dkim_fields_new(&fields, block);
  if (rc == 0) {
    rc = mp_dkim_hash_header(fields, names, form, own, mp_dkim_room(own), digest);
    mp_dkim_fields_free(fields);
  }
  mp_buf_dispose(room);
  return push_digest(L, rc, digest);
}

/* core.arc_digest({ field, ... }) -> what is signed by the last of these, b= left out */
static int core_arc_digest(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Unsigned count = lua_rawlen(L, 1);
  luaL_argcheck(L, count >= 1 && count <= FIELDS_MOST, 1, "one to 256 fields");
  luaL_checkstack(L, (int)count + 4, NULL);
  mp_str list[FIELDS_MOST];
  for (lua_Unsigned i = 0; i < count; i++) {
    lua_rawgeti(L, 1, (lua_Integer)i + 1); /* stays: the view lasts */
    list[i] = trimmed(mpl_check_str(L, -1));
  }
  unsigned char digest[MP_DKIM_DIGEST];
  int rc = mp_dkim_hash_list(list, (size_t)count, mp_dkim_room(list[count - 1]), digest);
  return push_digest(L, rc, digest);
}

/* core.dkim_choose(message or string, names or nil) -> h= for the message as it stands: each name as often as it is there */
static int core_dkim_choose(lua_State *L)
{
  size_t len;
  const char *given = luaL_optlstring(L, 2, NULL, &len);
  mp_str names = given ? mp_str_of(given, len) : mp_dkim_default_headers();
  mp_buf *room = mpl_push_buf(L, HEADER_MOST), *out = mpl_push_buf(L, NAMES_MOST);
  int rc;
  mp_str block = mpl_header_of(L, 1, true, room, &rc);
  mp_dkim_fields *fields;
  if (rc == 0)
    rc = mp_dkim_fields_new(&fields, block);
  if (rc == 0) {
    rc = mp_dkim_choose(out, fields, names, MP_STR_NULL, false);
    mp_dkim_fields_free(fields);
  }
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  mpl_push_str(L, mp_buf_view(out));
  return 1;
}

int mpl_open_arc(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "arc_fields", core_arc_fields },
    { "arc_digest", core_arc_digest },
    { "dkim_tags", core_dkim_tags },
    { "dkim_octets", core_dkim_octets },
    { "dkim_digest", core_dkim_digest },
    { "dkim_choose", core_dkim_choose },
    { NULL, NULL },
  };
  luaL_setfuncs(L, functions, 0);
  return 0;
}
