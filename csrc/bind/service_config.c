/* bind/service_config.c -- tables of numbers and names into the machine's and the service's options. The Lua side has checked what users
 * write; what is wrong here is a mistake of ours and raises. */
#include "bind/mpl.h"

enum limit_type { UINT, I64, U64, SIZE, FLAG };

typedef struct limit_row {
  const char *name;
  enum limit_type type;
  size_t offset;
} limit_row;

#define MACHINE(name, type)                     \
  {                                             \
#name, type, offsetof(mp_server_opts, name) \
  }

static const limit_row machine_limits[] = {
  MACHINE(size, U64),
  MACHINE(overrun, U64),
  MACHINE(recipients, UINT),
  MACHINE(messages, UINT),
  MACHINE(errors, UINT),
  MACHINE(refused_recipients, UINT),
  MACHINE(auth_failures, UINT),
  MACHINE(idle_commands, UINT),
  MACHINE(envelope_memory, UINT),
  MACHINE(hold_max, U64),
  MACHINE(by_min, I64),
  MACHINE(auth_delay_ms, UINT),
  MACHINE(greet_delay_ms, UINT),
  MACHINE(command_ms, I64),
  MACHINE(data_ms, I64),
  MACHINE(line_ms, I64),
  MACHINE(session_ms, I64),
  MACHINE(data_rate, UINT),
  MACHINE(line_limit, SIZE),
  MACHINE(sasl_iterations, UINT),
};

static const struct {
  const char *name;
  size_t offset;
} service_limits[] = {
  { "connections", offsetof(mp_service, connections_most) },
  { "connections_per_address", offsetof(mp_service, connections_each) },
  { "hops", offsetof(mp_service, hops) },
  { "fields", offsetof(mp_service, fields) },
};

static bool number_at(lua_State *L, int index, const char *name, lua_Integer *out)
{
  int type = lua_getfield(L, index, name);
  if (type == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  int exact = 0;
  lua_Number n = lua_tonumberx(L, -1, &exact);
  lua_pop(L, 1);
  if (!exact || n < 0 || n > 9e15)
    luaL_error(L, "limit '%s' is no number in range", name);
  *out = (lua_Integer)n;
  return true;
}

static void store(void *at, enum limit_type type, lua_Integer value)
{
  switch (type) {
  case UINT:
    *(unsigned *)at = value > 0x7fffffff ? 0x7fffffffu : (unsigned)value;
    break;
  case I64:
    *(int64_t *)at = value;
    break;
  case U64:
    *(uint64_t *)at = (uint64_t)value;
    break;
  case SIZE:
    *(size_t *)at = (size_t)value;
    break;
  case FLAG:
    *(bool *)at = value != 0;
    break;
  }
}

void mpl_read_limits(lua_State *L, int index, mp_service *service)
{
  lua_Integer value;
  luaL_checktype(L, index, LUA_TTABLE);
  for (size_t i = 0; i < sizeof service_limits / sizeof *service_limits; i++)
    if (number_at(L, index, service_limits[i].name, &value))
      store((char *)service + service_limits[i].offset, UINT, value);
  if (number_at(L, index, "handshake_ms", &value))
    service->handshake_ms = value;
  if (number_at(L, index, "write_most", &value))
    service->write_most = (size_t)value;
  if (number_at(L, index, "buffers_most", &value))
    service->buffers_most = (size_t)value;
  if (number_at(L, index, "body_threshold", &value))
    service->worker->bodies.threshold = (size_t)value;
  if (number_at(L, index, "bodies_most", &value))
    service->worker->bodies.memory_most = (size_t)value;
  if (number_at(L, index, "header_most", &value))
    service->worker->bodies.header_most = (size_t)value;
}

typedef struct name_row {
  const char *name;
  unsigned bit;
} name_row;

static const name_row extensions[] = {
#define EXTENSION(name, text) { text, MP_EXT_##name },
  MP_EXT_MAP(EXTENSION)
#undef EXTENSION
      { NULL, 0 },
};

static const name_row laxities[] = {
  { "space", MP_LAX_SPACE },   { "brackets", MP_LAX_BRACKETS },
  { "dots", MP_LAX_DOTS },     { "underscore", MP_LAX_UNDERSCORE },
  { "helo", MP_LAX_HELO },     { "no_helo", MP_LAX_NO_HELO },
  { "length", MP_LAX_LENGTH }, { NULL, 0 },
};

/* The set of bits that a list of names stands for; `rows` NULL = mechanisms. */
static unsigned read_set(lua_State *L, int index, const char *field, const name_row *rows, unsigned absent)
{
  if (lua_getfield(L, index, field) == LUA_TNIL) {
    lua_pop(L, 1);
    return absent;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  unsigned set = 0;
  lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, -1, i);
    mp_str name = mpl_check_str(L, -1);
    bool found = false;
    if (!rows) {
      int mech = mp_mech_find(name);
      found = mech >= 0;
      set |= found ? 1u << mech : 0;
    }
    for (const name_row *row = rows; row && row->name; row++)
      if (mp_str_ieq(name, mp_str_c(row->name))) {
        set |= row->bit;
        found = true;
      }
    if (!found)
      luaL_error(L, "%s: unknown name '%s'", field, name.ptr);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return set;
}

static int option_at(lua_State *L, int index, const char *field, const char *fallback, const char *const names[])
{
  lua_getfield(L, index, field);
  int which = luaL_checkoption(L, -1, fallback, names);
  lua_pop(L, 1);
  return which;
}

static bool flag_at(lua_State *L, int index, const char *field)
{
  lua_getfield(L, index, field);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

void mpl_read_port(lua_State *L, int index, mp_server_opts *machine, mp_tls_mode *tls, const char **name)
{
  static const char *const protocols[] = { "smtp", "submission", "lmtp", NULL };
  static const char *const modes[] = { "none", "starttls", "implicit", NULL };
  static const char *const early[] = { "refuse", "tolerate", NULL };
  static const char *const bare[] = { "trusted", "repair", "refuse", NULL };
  static const char *const lines[] = { "accept", "refuse", NULL };
  luaL_checktype(L, index, LUA_TTABLE);
  mp_server_opts_init(machine, (mp_protocol)option_at(L, index, "protocol", "smtp", protocols));
  *tls = (mp_tls_mode)option_at(L, index, "tls", "none", modes);
  machine->tls_required = flag_at(L, index, "tls_required");
  machine->auth_required = flag_at(L, index, "auth_required");
  machine->auth_in_clear = flag_at(L, index, "auth_in_clear");
  machine->mechanisms = read_set(L, index, "mechanisms", NULL, 0);
  machine->extensions = read_set(L, index, "extensions", extensions, MP_EXT_DEFAULT);
  machine->lax = read_set(L, index, "lax", laxities, 0);
  machine->tolerate_early = option_at(L, index, "early", "refuse", early) == 1;
  machine->tolerate_injection = flag_at(L, index, "tolerate_injection");
  int how = option_at(L, index, "bare", "trusted", bare);
  machine->repair_all = how == 1;
  machine->repair_none = how == 2;
  machine->long_lines_refused = option_at(L, index, "long_lines", "accept", lines) == 1;
  lua_Integer value;
  for (size_t i = 0; i < sizeof machine_limits / sizeof *machine_limits; i++)
    if (number_at(L, index, machine_limits[i].name, &value))
      store((char *)machine + machine_limits[i].offset, machine_limits[i].type, value);
  if (lua_getfield(L, index, "priority_profile") == LUA_TSTRING)
    machine->priority_profile = mpl_check_str(L, -1); /* the table keeps it, and the port copies it */
  lua_pop(L, 1);
  lua_getfield(L, index, "name");
  *name = luaL_optstring(L, -1, "smtp"); /* the table keeps it */
  lua_pop(L, 1);
}
