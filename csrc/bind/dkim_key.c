/* bind/dkim_key.c -- keys of DKIM as userdata: parsed once, kept by whoever uses them again. */
#include "bind/dkim.h"

typedef struct key_box {
  mp_dkim_key *key; /* NULL: closed */
} key_box;

enum { TEXT_MOST = 65536 };

mp_dkim_key *mpl_check_dkim_key(lua_State *L, int index)
{
  key_box *box = luaL_checkudata(L, index, MPL_DKIM_KEY);
  luaL_argcheck(L, box->key, index, "key is closed");
  return box->key;
}

static key_box *push_box(lua_State *L)
{
  key_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->key = NULL;
  luaL_setmetatable(L, MPL_DKIM_KEY);
  return box;
}

static int failed(lua_State *L, int rc, const char *why)
{
  return rc == MP_E_NOMEM ? luaL_error(L, "out of memory") : mpl_fail(L, rc, why);
}

static int core_dkim_record(lua_State *L)
{
  mp_str text = mpl_check_str(L, 1);
  key_box *box = push_box(L);
  const char *why = NULL;
  int rc = mp_dkim_key_record(&box->key, text, &why);
  return rc < 0 ? failed(L, rc, why) : 1;
}

static int core_dkim_key(lua_State *L)
{
  mp_str text = mpl_check_str(L, 1);
  key_box *box = push_box(L);
  const char *why = NULL;
  int rc = mp_dkim_key_private(&box->key, text, &why);
  return rc < 0 ? failed(L, rc, why) : 1;
}

static int core_dkim_make_key(lua_State *L)
{
  static const char *const kinds[] = { "rsa", "ed25519", NULL };
  int kind = luaL_checkoption(L, 1, NULL, kinds);
  lua_Integer bits = luaL_optinteger(L, 2, 2048);
  luaL_argcheck(L, bits >= MP_DKIM_RSA_LEAST && bits <= MP_DKIM_RSA_MOST, 2, "1024 to 8192 bits");
  key_box *box = push_box(L);
  int rc = mp_dkim_key_make(&box->key, kind == 0 ? MP_DKIM_RSA : MP_DKIM_ED25519, (unsigned)bits);
  return rc < 0 ? failed(L, rc, NULL) : 1;
}

static int key_facts(lua_State *L)
{
  const mp_dkim_key_facts *facts = mp_dkim_key_look(mpl_check_dkim_key(L, 1));
  lua_pushstring(L, facts->kind == MP_DKIM_RSA ? "rsa" : "ed25519");
  lua_pushinteger(L, facts->bits);
  lua_pushboolean(L, facts->testing);
  lua_pushboolean(L, facts->sha256);
  return 4;
}

static int push_text(lua_State *L, int (*write)(const mp_dkim_key *, mp_buf *))
{
  mp_dkim_key *key = mpl_check_dkim_key(L, 1);
  mp_buf *out = mpl_push_buf(L, TEXT_MOST);
  out->secret = true;
  int rc = write(key, out);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(out);
  return rc < 0 ? failed(L, rc, rc == MP_E_INVALID ? "it is a public key" : NULL) : 1;
}

static int key_pem(lua_State *L)
{
  return push_text(L, mp_dkim_key_pem);
}

static int key_record(lua_State *L)
{
  return push_text(L, mp_dkim_key_text);
}

static const unsigned char *check_digest(lua_State *L, int index)
{
  size_t len;
  const char *digest = luaL_checklstring(L, index, &len);
  luaL_argcheck(L, len == MP_DKIM_DIGEST, index, "the digest of SHA-256 expected");
  return (const unsigned char *)digest;
}

/* key:sign(digest) -> signature; or nil, why, error */
static int key_sign(lua_State *L)
{
  mp_dkim_key *key = mpl_check_dkim_key(L, 1);
  unsigned char out[MP_DKIM_SIGNATURE];
  size_t len = sizeof out;
  int rc = mp_dkim_key_sign(key, check_digest(L, 2), out, &len);
  if (rc < 0)
    return failed(L, rc, rc == MP_E_INVALID ? "it is a public key" : NULL);
  lua_pushlstring(L, (const char *)out, len);
  return 1;
}

/* key:check(digest, signature) -> true; or nil, why, error */
static int key_check(lua_State *L)
{
  mp_dkim_key *key = mpl_check_dkim_key(L, 1);
  int rc = mp_dkim_key_verify(key, check_digest(L, 2), mpl_check_str(L, 3));
  if (rc < 0)
    return failed(L, rc, rc == MP_E_CRYPTO ? "the signature does not hold" : NULL);
  lua_pushboolean(L, 1);
  return 1;
}

static int key_gc(lua_State *L)
{
  key_box *box = luaL_checkudata(L, 1, MPL_DKIM_KEY);
  mp_dkim_key_free(box->key);
  box->key = NULL;
  return 0;
}

int mpl_open_dkim_key(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "facts", key_facts }, { "pem", key_pem },     { "record", key_record },
    { "sign", key_sign },   { "check", key_check }, { NULL, NULL },
  };
  static const luaL_Reg functions[] = {
    { "dkim_record", core_dkim_record },
    { "dkim_key", core_dkim_key },
    { "dkim_make_key", core_dkim_make_key },
    { NULL, NULL },
  };
  mpl_class(L, MPL_DKIM_KEY, methods, key_gc);
  luaL_setfuncs(L, functions, 0);
  return 0;
}
