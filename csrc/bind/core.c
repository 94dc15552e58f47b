/* bind/core.c -- the module moonpost.core: the state's record, workers, and small pure functions. */
#include "bind/mpl.h"

#include "bind/process.h"
#include "mail/hmac.h"
#include "smtp/scram.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#ifndef MOONPOST_VERSION
#define MOONPOST_VERSION "scm"
#endif

LUAMOD_API int luaopen_moonpost_core(lua_State *L);

/* Only addresses matter: of the registry's key, and of the value behind core.PENDING. */
static const char state_key = 's', pending_mark = 'p';

void *mpl_pending(void)
{
  return (void *)(uintptr_t)&pending_mark;
}

mpl_state *mpl_state_of(lua_State *L)
{
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  mpl_state *state = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return state;
}

static mpl_worker *push_worker(lua_State *L, mp_worker *worker, bool owned)
{
  mpl_worker *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (mpl_worker){ .worker = worker, .owned = owned };
  mp_list_init(&box->services);
  mp_list_init(&box->leaving);
  luaL_setmetatable(L, MPL_WORKER);
  return box;
}

static int core_worker(lua_State *L)
{
  mpl_state *state = mpl_state_of(L);
  if (lua_getfield(L, LUA_REGISTRYINDEX, "moonpost.worker") == LUA_TUSERDATA)
    return 1;
  mpl_worker *box = push_worker(L, NULL, true);
  if (state->worker) {
    box->owned = false;
    box->worker = state->worker;
  } else {
    mp_net_prepare_process();
    int rc = mp_worker_new(&box->worker, 0, NULL, false);
    if (rc < 0)
      return luaL_error(L, "no event loop: %s", mp_error_text(rc));
    state->worker = box->worker;
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "moonpost.worker");
  return 1;
}

static int core_virtual_worker(lua_State *L)
{
  mpl_worker *box = push_worker(L, NULL, true);
  int rc = mp_worker_new(&box->worker, 0, NULL, true);
  return rc < 0 ? luaL_error(L, "no worker: %s", mp_error_text(rc)) : 1;
}

/* Whether a log line shows a text without quotes: at least one octet, all printable, and no space, quote, "=" or backslash. */
static int core_is_plain(lua_State *L)
{
  size_t len, i = 0;
  const char *text = luaL_checklstring(L, 1, &len);
  while (i < len && text[i] > ' ' && text[i] < 0x7f && text[i] != '"' && text[i] != '=' && text[i] != '\\')
    i++;
  lua_pushboolean(L, len > 0 && i == len);
  return 1;
}

static int core_time(lua_State *L)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
  return 1;
}

static int core_in_network(lua_State *L)
{
  mp_ip ip;
  mp_network net;
  if (!mp_ip_parse(&ip, mpl_check_str(L, 1)) || !mp_network_parse(&net, mpl_check_str(L, 2)))
    lua_pushnil(L);
  else
    lua_pushboolean(L, mp_network_has(&net, &ip));
  return 1;
}

static int core_mailbox(lua_State *L)
{
  mp_path path;
  if (mp_mailbox_parse(&path, mpl_check_str(L, 1), lua_toboolean(L, 2) ? MP_PATH_UTF8 : 0) < 0) {
    lua_pushnil(L);
    return 1;
  }
  mpl_push_local(L, &path);
  mpl_push_str(L, path.domain);
  return 2;
}

/* The same question without the parts, which are strings to make. */
static int core_is_mailbox(lua_State *L)
{
  mp_path path;
  lua_pushboolean(L, mp_mailbox_parse(&path, mpl_check_str(L, 1), 0) == 0);
  return 1;
}

static int core_check_reply(lua_State *L)
{
  mp_reply reply;
  lua_settop(L, 3);
  const char *why = mpl_read_reply(L, 1, &reply);
  if (why)
    lua_pushstring(L, why);
  else
    lua_pushnil(L);
  return 1;
}

static int core_selfsigned(lua_State *L)
{
  char why[512] = "";
  int rc = mp_tls_selfsigned(luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_checkstring(L, 3), why,
                             sizeof why);
  if (rc < 0)
    return mpl_fail(L, rc, why);
  lua_pushboolean(L, rc == 1);
  return 1;
}

static int core_password(lua_State *L)
{
  static const char *const kinds[] = { "SCRAM-SHA-1", "SCRAM-SHA-256", NULL };
  static const mp_scram_hash hashes[] = { MP_SCRAM_SHA_1, MP_SCRAM_SHA_256 };
  mp_scram_hash hash = hashes[luaL_checkoption(L, 1, NULL, kinds)];
  mp_buf *out = mpl_push_buf(L, 1024);
  int rc = mp_scram_make(out, hash, mpl_check_str(L, 2), MP_STR_NULL, 0);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(out);
  return rc < 0 ? mpl_fail(L, rc,
                           rc == MP_E_INVALID
                               ? "this password cannot be used (empty, too long, or with odd characters)"
                               : NULL)
                : 1;
}

static int core_hmac(lua_State *L)
{
  unsigned char code[MP_HMAC_SHA256];
  int rc = mp_hmac_sha256(code, mpl_check_str(L, 1), mpl_check_str(L, 2));
  if (rc < 0)
    return luaL_error(L, "%s", mp_error_text(rc));
  lua_pushlstring(L, (const char *)code, sizeof code);
  return 1;
}

static int core_random(lua_State *L)
{
  char octets[256]; /* what getrandom(2) gives in one piece */
  lua_Integer count = luaL_checkinteger(L, 1);
  luaL_argcheck(L, count >= 1 && count <= (lua_Integer)sizeof octets, 1, "1 to 256 octets");
  if (getrandom(octets, (size_t)count, 0) != (ssize_t)count)
    return luaL_error(L, "no random octets: %s", strerror(errno));
  lua_pushlstring(L, octets, (size_t)count);
  return 1;
}

/* The allocator of a state whose memory has a ceiling: past it Lua sees "not enough memory" after a full collection. Only inside of calls,
 * where that is an error like others; what C pushes between them is small and has nobody to catch it. */
static void *limited_alloc(void *ud, void *ptr, size_t osize, size_t nsize)
{
  mpl_state *state = ud;
  size_t old = ptr ? osize : 0;
  /* Once a call has been refused some, what is left of it (unwinding, the log, a reply) lives on a reserve. */
  size_t most = state->memory_most + (state->starved ? state->memory_most / 8 : 0);
  if (nsize > old && state->depth > 0 && most && state->memory + (nsize - old) > most) {
    state->starved |= state->refused;
    state->refused = true;
    return NULL;
  }
  if (nsize > old)
    state->refused = false;
  void *block = state->inner_alloc(state->inner_ud, ptr, osize, nsize);
  if (block || nsize == 0)
    state->memory += nsize - old;
  return block;
}

static int core_memory(lua_State *L)
{
  mpl_state *state = mpl_state_of(L);
  lua_Integer most = luaL_checkinteger(L, 1);
  luaL_argcheck(L, most >= 0, 1, "octets");
  if (!state->inner_alloc) {
    state->memory = (size_t)lua_gc(L, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(L, LUA_GCCOUNTB);
    state->inner_alloc = lua_getallocf(L, &state->inner_ud);
    lua_setallocf(L, limited_alloc, state);
  }
  state->memory_most = (size_t)most;
  return 0;
}

/* The last finaliser of the state to run: everything else that needs the record was made after it. */
static int state_gc(lua_State *L)
{
  mpl_state *state = lua_touserdata(L, 1);
  mpl_watch_free(state);
  mpl_forget_deliveries(state, NULL);
  mpl_process_unref(state->process);
  /* What is left is freed by the allocator itself: our record goes with the state. */
  if (state->inner_alloc)
    lua_setallocf(L, state->inner_alloc, state->inner_ud);
  return 0;
}

static void make_state(lua_State *L)
{
  mpl_state *state = lua_newuserdatauv(L, sizeof *state, 0);
  *state = (mpl_state){ 0 };
  mp_list_init(&state->deliveries);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  state->L = lua_tothread(L, -1);
  lua_pop(L, 1);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, state_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
  for (int kind = 1; kind < MP_EV_COUNT; kind++) {
    lua_pushstring(L, mp_event_name((mp_event_kind)kind));
    state->kinds[kind] = luaL_ref(L, LUA_REGISTRYINDEX);
  }
}

LUAMOD_API int luaopen_moonpost_core(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "worker", core_worker },
    { "virtual_worker", core_virtual_worker },
    { "time", core_time },
    { "is_plain", core_is_plain },
    { "in_network", core_in_network },
    { "mailbox", core_mailbox },
    { "is_mailbox", core_is_mailbox },
    { "check_reply", core_check_reply },
    { "selfsigned", core_selfsigned },
    { "password", core_password },
    { "hmac", core_hmac },
    { "random", core_random },
    { "memory", core_memory },
    { "dns_name", mpl_core_dns_name },
    { "dns_unicode", mpl_core_dns_unicode },
    { "dns_reverse", mpl_core_dns_reverse },
    { NULL, NULL },
  };
  if (!mpl_state_of(L))
    make_state(L);
  luaL_newlib(L, functions);
  lua_pushliteral(L, MOONPOST_VERSION);
  lua_setfield(L, -2, "VERSION");
  lua_pushlightuserdata(L, mpl_pending());
  lua_setfield(L, -2, "PENDING");
  lua_pushlightuserdata(L, mpl_watch_api());
  lua_setfield(L, -2, "watch_api");
  mpl_open_worker(L);
  mpl_open_service(L);
  mpl_open_conn(L);
  mpl_open_message(L);
  mpl_open_wire(L);
  mpl_open_dial(L);
  mpl_open_client(L);
  mpl_open_binding(L);
  mpl_open_watch(L);
  mpl_open_process(L);
  mpl_open_fresh(L);
  mpl_open_folder(L);
  mpl_open_supervise(L);
  mpl_open_shared(L);
  mpl_open_thread(L);
  mpl_open_dns(L);
  mpl_open_psl(L);
  mpl_open_authres(L);
  mpl_open_dkim(L);
  mpl_open_spool(L);
  mpl_open_lines(L);
  mpl_open_rewrite(L);
  mpl_open_journal(L);
  mpl_open_made(L);
  return 1;
}
