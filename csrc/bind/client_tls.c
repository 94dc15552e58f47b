/* bind/client_tls.c -- TLS of the sending half: sessions as moonpost.client_tls describes them, and what came of one. */
#include "bind/client.h"

#include "tls/client.h"

#include <sys/stat.h>

#define MPL_TLS_CONFIG "moonpost.core.tls_config"

enum {
  SESSIONS = 256,
  CONFIGS_MOST = 64,
  FILES = 3,
  FIELDS_MOST = MP_TLS_REFERENCES_MOST + MP_TLS_TLSA_MOST + 32
};

static char configs_key; /* registry: description -> box; [0]: how many there are */

typedef struct config_box {
  mp_tls_client_config *config;
  struct stat files[FILES]; /* as they were when it was made; all zeros where there was none */
} config_box;

static int config_gc(lua_State *L)
{
  config_box *box = luaL_checkudata(L, 1, MPL_TLS_CONFIG);
  mp_tls_client_config_unref(box->config);
  box->config = NULL;
  return 0;
}

/* ---- reading the table ----------------------------------------------------------------------------------------------- */

/* The value on top, which is `field`'s. No number in place of a string: what Lua makes of it belongs to nobody. */
static const char *string_at(lua_State *L, const char *field, size_t *len)
{
  if (lua_isnil(L, -1)) {
    *len = 0;
    return NULL;
  }
  if (lua_type(L, -1) != LUA_TSTRING)
    luaL_error(L, "tls.%s: a string expected, got a %s", field, luaL_typename(L, -1));
  return lua_tolstring(L, -1, len);
}

/* What is read stays on the stack until the session is made: a table may make up its fields, and then nobody else keeps them. */
static mp_str view(lua_State *L, int at, const char *field)
{
  size_t len;
  lua_getfield(L, at, field);
  const char *s = string_at(L, field, &len);
  return mp_str_of(s, len);
}

/* The list is left on top. */
static size_t list(lua_State *L, int at, const char *field, size_t most)
{
  size_t count = lua_getfield(L, at, field) == LUA_TTABLE ? (size_t)lua_rawlen(L, -1) : 0;
  if (count > most)
    luaL_error(L, "tls.%s: at most %d", field, (int)most);
  return count;
}

static bool hex_pin(mp_str hex, mp_tls_pin *to)
{
  if (hex.len != 2 * MP_TLS_PIN_LEN)
    return false;
  for (size_t i = 0; i < hex.len; i++) {
    unsigned char c = mp_ascii_lower((unsigned char)hex.ptr[i]);
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0)
      return false;
    to->octets[i / 2] = (unsigned char)(i % 2 ? to->octets[i / 2] | digit : digit << 4);
  }
  return true;
}

typedef struct wish {
  mp_tls_target target;
  mp_str names[MP_TLS_REFERENCES_MOST];
  mp_tls_pin pins[MP_TLS_PINS_MOST];
  mp_tls_tlsa tlsa[MP_TLS_TLSA_MOST];
} wish;

static void read_names(lua_State *L, int at, wish *w)
{
  size_t count = list(L, at, "names", MP_TLS_REFERENCES_MOST);
  int names = lua_gettop(L);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, names, (lua_Integer)i + 1);
    size_t len;
    const char *name = string_at(L, "names", &len);
    w->names[i] = mp_str_of(name, len);
  }
  if (!count) {
    w->names[0] = view(L, at, "host");
    count = w->names[0].ptr ? 1 : 0;
  }
  w->target.names = w->names;
  w->target.name_count = count;
}

static void read_pins(lua_State *L, int at, wish *w)
{
  size_t count = list(L, at, "pins", MP_TLS_PINS_MOST);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    if (!hex_pin(mpl_check_str(L, -1), &w->pins[i]))
      luaL_error(L, "tls.pins: not a SHA-256 fingerprint in hex");
    lua_pop(L, 1);
  }
  w->target.pins = w->pins;
  w->target.pin_count = count;
}

static void read_tlsa(lua_State *L, int at, wish *w)
{
  static const char *const fields[] = { "usage", "selector", "mtype" };
  size_t count = list(L, at, "tlsa", MP_TLS_TLSA_MOST);
  int records = lua_gettop(L);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, records, (lua_Integer)i + 1);
    int record = lua_gettop(L);
    uint8_t numbers[3];
    for (int k = 0; k < 3; k++) {
      lua_getfield(L, record, fields[k]);
      lua_Integer number = luaL_checkinteger(L, -1);
      if (number < 0 || number > 255)
        luaL_error(L, "tls.tlsa: %s: 0 to 255 expected", fields[k]);
      numbers[k] = (uint8_t)number;
      lua_pop(L, 1);
    }
    w->tlsa[i] = (mp_tls_tlsa){
      .usage = numbers[0], .selector = numbers[1], .mtype = numbers[2], .data = view(L, record, "data")
    };
    lua_remove(L, record);
  }
  w->target.tlsa = w->tlsa;
  w->target.tlsa_count = count;
}

static mp_tls_trust trust(lua_State *L, int at, const wish *w)
{
  mp_str level = view(L, at, "level");
  if (mp_str_eq(level, MP_STR("dane")))
    return MP_TLS_TRUST_DANE;
  if (mp_str_eq(level, MP_STR("verified")))
    return w->target.pin_count ? MP_TLS_TRUST_PINS : MP_TLS_TRUST_NAMES;
  return MP_TLS_TRUST_NONE;
}

/* ---- configurations, kept by what they were made of ------------------------------------------------------------------ */

static int version_of(const char *name)
{
  static const struct {
    const char *name;
    int number;
  } versions[] = { { "1.0", 0x0301 }, { "1.1", 0x0302 }, { "1.2", 0x0303 }, { "1.3", 0x0304 } };
  for (size_t i = 0; name && i < sizeof versions / sizeof *versions; i++)
    if (strcmp(name, versions[i].name) == 0)
      return versions[i].number;
  return 0;
}

/* What changes when a certificate is renewed, by a new file in its place or in the old one. Of a folder: when something in it comes or goes. */
static bool is_same_file(const struct stat *a, const struct stat *b)
{
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
         a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void look_at(struct stat *file, const char *path)
{
  if (!path || stat(path, file) != 0)
    memset(file, 0, sizeof *file);
}

/* Pushes the table of configurations. One that is full begins anew: sessions hold what they were made by. */
static int push_configs(lua_State *L)
{
  bool full = false;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &configs_key) == LUA_TTABLE) {
    lua_rawgeti(L, -1, 0);
    full = lua_tointeger(L, -1) >= CONFIGS_MOST;
    lua_pop(L, 1);
    if (!full)
      return lua_gettop(L);
  }
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushinteger(L, 0);
  lua_rawseti(L, -2, 0);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &configs_key);
  return lua_gettop(L);
}

/* The configuration for the table at `at`; it stays in the registry. NULL with *rc and `why`. */
static mp_tls_client_config *config_for(lua_State *L, int at, int *rc, char *why, size_t room)
{
  static const char *const parts[] = { "ca", "certificate", "key", "min_version", "ciphers", "ciphersuites" };
  mp_str values[6];
  struct stat files[FILES]; /* taken before they are read: what changes in between is seen the next time */
  int cache = push_configs(L);
  for (int i = 0; i < 6; i++) {
    values[i] = view(L, at, parts[i]);
    if (i < FILES)
      look_at(&files[i], values[i].ptr);
  }
  luaL_Buffer name;
  luaL_buffinit(L, &name);
  for (int i = 0; i < 6; i++) {
    luaL_addlstring(&name, values[i].ptr ? values[i].ptr : "", values[i].len);
    luaL_addchar(&name, '\n');
  }
  luaL_pushresult(&name);
  int description = lua_gettop(L);
  lua_pushvalue(L, description);
  bool is_new = lua_rawget(L, cache) == LUA_TNIL;
  if (!is_new) {
    const config_box *known = luaL_checkudata(L, -1, MPL_TLS_CONFIG);
    bool same = true;
    for (int i = 0; i < FILES; i++)
      same = same && is_same_file(&known->files[i], &files[i]);
    if (same)
      return known->config;
  }
  config_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->config = NULL;
  memcpy(box->files, files, sizeof files);
  luaL_setmetatable(L, MPL_TLS_CONFIG);
  mp_tls_client_opts opts = { .ca = values[0].ptr,
                              .certificate = values[1].ptr,
                              .key = values[2].ptr,
                              .min_version = version_of(values[3].ptr),
                              .ciphers = values[4].ptr,
                              .ciphersuites = values[5].ptr,
                              .sessions = SESSIONS };
  *rc = mp_tls_client_config_new(&box->config, &opts, why, room);
  if (*rc < 0)
    return NULL;
  lua_pushvalue(L, description);
  lua_insert(L, -2);
  lua_rawset(L, cache);
  if (is_new) {
    lua_rawgeti(L, cache, 0);
    lua_pushinteger(L, lua_tointeger(L, -1) + 1);
    lua_rawseti(L, cache, 0);
  }
  return box->config;
}

int mpl_tls_for(lua_State *L, int index, const char *field, mp_worker *worker, mp_tls **tls, char *why, size_t room)
{
  int top = lua_gettop(L), rc = 0;
  *tls = NULL;
  luaL_checkstack(L, FIELDS_MOST, "tls");
  if (field && lua_getfield(L, index, field) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  int at = field ? lua_gettop(L) : index;
  wish w = { .target = { .sni = view(L, at, "sni"), .session_key = view(L, at, "cache") } };
  read_names(L, at, &w);
  read_pins(L, at, &w);
  read_tlsa(L, at, &w);
  w.target.trust = trust(L, at, &w);
  mp_tls_client_config *config = config_for(L, at, &rc, why, room);
  if (config) {
    rc = mp_tls_connect(tls, config, &worker->cipher_blocks, &w.target);
    if (rc < 0 && room)
      why[0] = '\0';
  }
  lua_settop(L, top);
  return rc;
}

/* ---- facts ----------------------------------------------------------------------------------------------------------- */

static void put(lua_State *L, const char *name, mp_str s)
{
  if (!s.len)
    return;
  mpl_push_str(L, s);
  lua_setfield(L, -2, name);
}

int mpl_push_tls_facts(lua_State *L, mp_tls *tls)
{
  mp_tls_info info;
  mp_tls_proof proof;
  mp_tls_info_get(tls, &info);
  mp_tls_proof_get(tls, &proof);
  lua_createtable(L, 0, 12);
  put(L, "version", info.version);
  put(L, "cipher", info.cipher);
  put(L, "subject", info.peer_subject);
  put(L, "fingerprint", info.peer_fingerprint);
  put(L, "how", proof.how);
  put(L, "why", proof.why_not);
  lua_pushboolean(L, proof.verified);
  lua_setfield(L, -2, "verified");
  lua_pushboolean(L, info.resumed);
  lua_setfield(L, -2, "resumed");
  lua_createtable(L, (int)info.peer_name_count, 0);
  for (size_t i = 0; i < info.peer_name_count; i++) {
    mpl_push_str(L, info.peer_names[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "names");
  return 1;
}

int mpl_open_client_tls(lua_State *L)
{
  static const luaL_Reg methods[] = { { NULL, NULL } };
  mpl_class(L, MPL_TLS_CONFIG, methods, config_gc);
  return 0;
}
