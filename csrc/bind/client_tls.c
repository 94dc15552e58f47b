/* bind/client_tls.c -- TLS of the sending half: sessions as moonpost.client_tls describes them, and what came of one. */
#include "bind/client.h"

#include "tls/client.h"

#define MPL_TLS_CONFIG "moonpost.core.tls_config"

enum { SESSIONS = 256 };

static char configs_key; /* registry: description -> box */

typedef struct config_box {
  mp_tls_client_config *config;
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

/* Borrowed from the table, which keeps it. */
static const char *text(lua_State *L, int at, const char *field)
{
  size_t len;
  lua_getfield(L, at, field);
  const char *s = string_at(L, field, &len);
  lua_pop(L, 1);
  return s;
}

static mp_str view(lua_State *L, int at, const char *field)
{
  size_t len;
  lua_getfield(L, at, field);
  const char *s = string_at(L, field, &len);
  lua_pop(L, 1);
  return mp_str_of(s, len);
}

static size_t list(lua_State *L, int at, const char *field, size_t most)
{
  bool is = lua_getfield(L, at, field) == LUA_TTABLE;
  size_t count = is ? (size_t)lua_rawlen(L, -1) : 0;
  if (!is)
    lua_pop(L, 1);
  if (count > most)
    luaL_error(L, "tls.%s: at most %d", field, (int)most);
  return is ? count : 0;
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
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    size_t len;
    const char *name = string_at(L, "names", &len);
    w->names[i] = mp_str_of(name, len);
    lua_pop(L, 1);
  }
  if (count) {
    lua_pop(L, 1);
  } else if (text(L, at, "host")) {
    w->names[0] = view(L, at, "host");
    count = 1;
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
  if (count)
    lua_pop(L, 1);
  w->target.pins = w->pins;
  w->target.pin_count = count;
}

static void read_tlsa(lua_State *L, int at, wish *w)
{
  static const char *const fields[] = { "usage", "selector", "mtype" };
  size_t count = list(L, at, "tlsa", MP_TLS_TLSA_MOST);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
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
    lua_pop(L, 1);
  }
  if (count)
    lua_pop(L, 1);
  w->target.tlsa = w->tlsa;
  w->target.tlsa_count = count;
}

static mp_tls_trust trust(lua_State *L, int at, const wish *w)
{
  const char *level = text(L, at, "level");
  if (level && strcmp(level, "dane") == 0)
    return MP_TLS_TRUST_DANE;
  if (level && strcmp(level, "verified") == 0)
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

/* The configuration for the table at `at`; it stays in the registry. NULL with *rc and `why`. */
static mp_tls_client_config *config_for(lua_State *L, int at, int *rc, char *why, size_t room)
{
  static const char *const parts[] = { "ca", "certificate", "key", "min_version", "ciphers", "ciphersuites" };
  const char *values[6];
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &configs_key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &configs_key);
  }
  int cache = lua_gettop(L);
  luaL_Buffer name;
  luaL_buffinit(L, &name);
  for (int i = 0; i < 6; i++) {
    size_t len;
    lua_getfield(L, at, parts[i]);
    values[i] = string_at(L, parts[i], &len);
    if (values[i])
      luaL_addvalue(&name);
    else
      lua_pop(L, 1);
    luaL_addchar(&name, '\n');
  }
  luaL_pushresult(&name);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, cache) != LUA_TNIL) {
    mp_tls_client_config *known = ((config_box *)luaL_checkudata(L, -1, MPL_TLS_CONFIG))->config;
    lua_settop(L, cache - 1);
    return known;
  }
  lua_pop(L, 1);
  config_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->config = NULL;
  luaL_setmetatable(L, MPL_TLS_CONFIG);
  mp_tls_client_opts opts = { .ca = values[0],
                              .certificate = values[1],
                              .key = values[2],
                              .min_version = version_of(values[3]),
                              .ciphers = values[4],
                              .ciphersuites = values[5],
                              .sessions = SESSIONS };
  *rc = mp_tls_client_config_new(&box->config, &opts, why, room);
  mp_tls_client_config *config = box->config;
  if (*rc == 0)
    lua_rawset(L, cache); /* by the description below it */
  lua_settop(L, cache - 1);
  return *rc == 0 ? config : NULL;
}

int mpl_tls_for(lua_State *L, int index, const char *field, mp_worker *worker, mp_tls **tls, char *why, size_t room)
{
  int top = lua_gettop(L), rc = 0;
  *tls = NULL;
  luaL_checkstack(L, 16, "tls");
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
