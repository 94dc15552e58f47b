/* bind/service.c -- the service userdata: a generation's server on a worker. */
#include "bind/mpl.h"

#include <string.h>

static const struct {
  const char *name;
  unsigned bit;
} hook_names[] = {
  { "connect", 1u << MP_EV_CONNECT },   { "tls", MP_HOOK_TLS },
  { "helo", 1u << MP_EV_HELO },         { "credentials", 1u << MP_EV_CREDENTIALS },
  { "auth", 1u << MP_EV_AUTH },         { "token", 1u << MP_EV_TOKEN },
  { "mail", 1u << MP_EV_MAIL },         { "rcpt", 1u << MP_EV_RCPT },
  { "data", 1u << MP_EV_DATA },         { "message", 1u << MP_EV_MESSAGE },
  { "reset", 1u << MP_EV_RESET },       { "quit", 1u << MP_EV_QUIT },
  { "disconnect", MP_HOOK_DISCONNECT }, { "refused", MP_HOOK_REFUSED },
};

mpl_service *mpl_check_service(lua_State *L, int index)
{
  mpl_service *box = luaL_checkudata(L, index, MPL_SERVICE);
  luaL_argcheck(L, box->service, index, "service has stopped");
  return box;
}

static void each_string(lua_State *L, int index, const char *field, mp_service *service,
                        int (*add)(mp_service *service, mp_str text))
{
  if (lua_getfield(L, index, field) != LUA_TNIL) {
    luaL_checktype(L, -1, LUA_TTABLE);
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
      lua_rawgeti(L, -1, i);
      int rc = add(service, mpl_check_str(L, -1));
      if (rc < 0)
        luaL_error(L, "%s: '%s': %s", field, lua_tostring(L, -1), mp_error_text(rc));
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

static int add_domain(mp_service *service, mp_str text)
{
  return mp_rules_domain(&service->rules, text);
}

static int add_relay(mp_service *service, mp_str text)
{
  return mp_rules_network(&service->rules, &service->rules.relay, text);
}

static int add_xclient(mp_service *service, mp_str text)
{
  return mp_rules_network(&service->rules, &service->rules.xclient, text);
}

static const char *string_at(lua_State *L, int index, const char *field)
{
  lua_getfield(L, index, field);
  return luaL_optstring(L, -1, NULL); /* left on the stack */
}

/* Reads the `tls` table at `index` and makes a configuration. 0 or an error with `why`. */
static int read_tls(lua_State *L, int index, mp_tls_config **config, char *why, size_t room)
{
  static const char *const versions[] = { "1.2", "1.3", "1.1", "1.0", NULL };
  static const int numbers[] = { 0x0303, 0x0304, 0x0302, 0x0301 };
  static const char *const clients[] = { "off", "ask", "require", NULL };
  luaL_checkstack(L, 16, "tls");
  lua_getfield(L, index, "certs");
  luaL_checktype(L, -1, LUA_TTABLE);
  int list = lua_gettop(L);
  lua_Integer count = (lua_Integer)lua_rawlen(L, list);
  luaL_argcheck(L, count >= 1 && count <= 10000, index, "tls.certs must hold 1 to 10000 entries");
  mp_tls_cert *certs = lua_newuserdatauv(L, (size_t)count * sizeof *certs, 0);
  for (lua_Integer i = 0; i < count; i++) {
    int top = lua_gettop(L);
    lua_rawgeti(L, list, i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    int row = lua_gettop(L);
    /* The strings are kept by their tables while we need them. */
    certs[i].certificate = string_at(L, row, "certificate");
    certs[i].key = string_at(L, row, "key");
    certs[i].name = string_at(L, row, "name");
    luaL_argcheck(L, certs[i].certificate, index, "a tls.certs entry names no certificate");
    lua_settop(L, top);
  }
  mp_tls_opts opts = { .certs = certs, .cert_count = (size_t)count };
  lua_getfield(L, index, "min_version");
  opts.min_version = numbers[luaL_checkoption(L, -1, "1.2", versions)];
  lua_getfield(L, index, "client");
  opts.client = (mp_tls_verify)luaL_checkoption(L, -1, "off", clients);
  opts.ciphers = string_at(L, index, "ciphers");
  opts.ciphersuites = string_at(L, index, "ciphersuites");
  opts.client_ca = string_at(L, index, "client_ca");
  lua_getfield(L, index, "tickets");
  opts.no_tickets = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
  return mp_tls_config_new(config, &opts, why, room);
}

int mpl_worker_service(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  mpl_service *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (mpl_service){ .state = mpl_state_of(L),
                        .worker = worker,
                        .self = LUA_NOREF,
                        .dispatch = LUA_NOREF,
                        .session = LUA_NOREF,
                        .done = LUA_NOREF };
  mp_list_init(&box->node);
  luaL_setmetatable(L, MPL_SERVICE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 3, 1);
  lua_getfield(L, 2, "hostname");
  const char *hostname = luaL_checkstring(L, -1);
  int rc = mp_service_new(&box->service, worker->worker, hostname, &mpl_handler, box);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  /* From here on the service goes with its box, when something raises or fails before it has come to life. */
  mp_list_push(&worker->services, &box->node);
  mp_service *service = box->service;
  const char *banner = string_at(L, 2, "banner");
  if (banner && !(service->banner = mp_mem_dup(banner, strlen(banner))))
    return luaL_error(L, "out of memory");
  lua_getfield(L, 2, "domains");
  size_t domains = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
  if (mp_rules_domains(&service->rules, domains) < 0)
    return luaL_error(L, "out of memory");
  each_string(L, 2, "domains", service, add_domain);
  each_string(L, 2, "xclient", service, add_xclient);
  if (lua_getfield(L, 2, "relay") == LUA_TTABLE) {
    int relay = lua_gettop(L);
    each_string(L, relay, "networks", service, add_relay);
    lua_getfield(L, relay, "authenticated");
    service->rules.relay_authenticated = lua_toboolean(L, -1);
  }
  if (lua_getfield(L, 2, "limits") == LUA_TTABLE)
    mpl_read_limits(L, lua_gettop(L), service);
  if (lua_getfield(L, 2, "tls") == LUA_TTABLE) {
    char why[512] = "";
    rc = read_tls(L, lua_gettop(L), &service->tls, why, sizeof why);
    if (rc < 0)
      return mpl_fail(L, rc, why);
  } else if (lua_type(L, -1) == LUA_TSTRING) {
    luaL_argcheck(L, strcmp(lua_tostring(L, -1), "pretend") == 0 && worker->worker->loop.is_virtual, 2,
                  "tls: a table expected");
    service->pretend_tls = true;
  }
  lua_getfield(L, 2, "dispatch");
  luaL_checktype(L, -1, LUA_TFUNCTION);
  box->dispatch = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_getfield(L, 2, "session");
  luaL_checktype(L, -1, LUA_TFUNCTION);
  box->session = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 3);
  lua_pushvalue(L, 3);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  return 1;
}

static int service_hooks(lua_State *L)
{
  mpl_service *box = mpl_check_service(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  unsigned set = 0;
  lua_Integer count = (lua_Integer)lua_rawlen(L, 2);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, i);
    const char *name = luaL_checkstring(L, -1);
    unsigned bit = 0;
    for (size_t k = 0; k < sizeof hook_names / sizeof *hook_names; k++)
      if (strcmp(name, hook_names[k].name) == 0)
        bit = hook_names[k].bit;
    luaL_argcheck(L, bit, 2, "unknown hook name");
    set |= bit;
    lua_pop(L, 1);
  }
  box->service->hooks = set;
  return 0;
}

mp_port *mpl_make_port(lua_State *L, mpl_service *box, int index)
{
  mp_server_opts machine;
  mp_tls_mode tls;
  const char *name;
  mpl_read_port(L, index, &machine, &tls, &name);
  if (tls == MP_TLS_IMPLICIT && !box->service->tls && !box->service->pretend_tls)
    luaL_error(L, "listener %s: implicit TLS needs a certificate", name);
  mp_port *port;
  int rc = mp_service_port(box->service, name, &machine, tls, &port);
  if (rc == MP_E_INVALID) {
    const char *why = mp_server_opts_check(&machine);
    luaL_error(L, "listener %s: %s", name, why ? why : "options make no sense together");
  }
  if (rc < 0)
    luaL_error(L, "%s", mp_error_text(rc));
  if (lua_getfield(L, index, "proxy") == LUA_TTABLE) {
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    rc = mp_port_proxy(port, MP_STR_NULL);
    for (lua_Integer i = 1; i <= count && rc == 0; i++) {
      lua_rawgeti(L, -1, i);
      rc = mp_port_proxy(port, mpl_check_str(L, -1));
      lua_pop(L, 1);
    }
    if (rc < 0)
      luaL_error(L, "listener %s: proxy: %s", name, mp_error_text(rc));
  }
  lua_pop(L, 1);
  return port;
}

typedef struct listener_box {
  mp_port *port; /* NULL when closed */
  mpl_service *service;
} listener_box;

static int service_listen(lua_State *L)
{
  mpl_service *box = mpl_check_service(L, 1);
  mp_binding *binding = mpl_check_binding(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  listener_box *listener = lua_newuserdatauv(L, sizeof *listener, 1);
  *listener = (listener_box){ NULL, box };
  luaL_setmetatable(L, MPL_LISTENER);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_port *port = mpl_make_port(L, box, 3);
  int rc = mp_port_listen(port, binding);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  listener->port = port;
  return 1;
}

static int listener_close(lua_State *L)
{
  listener_box *listener = luaL_checkudata(L, 1, MPL_LISTENER);
  if (listener->port && listener->service->service)
    mp_port_close(listener->port);
  listener->port = NULL;
  return 0;
}

static int service_stop(lua_State *L)
{
  mpl_service *box = luaL_checkudata(L, 1, MPL_SERVICE);
  int64_t grace = mpl_check_ms(L, 2);
  if (!box->service) { /* it has stopped before */
    if (lua_isfunction(L, 3)) {
      lua_settop(L, 3);
      lua_call(L, 0, 0);
    }
    return 0;
  }
  if (!lua_isnoneornil(L, 3)) {
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_unref(L, LUA_REGISTRYINDEX, box->done);
    lua_pushvalue(L, 3);
    box->done = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  if (lua_toboolean(L, 4))
    mp_service_retire(box->service, grace);
  else
    mp_service_stop(box->service, grace);
  return 0;
}

static int service_counts(lua_State *L)
{
  const mp_service *service = mpl_check_service(L, 1)->service;
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, service->conn_count);
  lua_setfield(L, -2, "connections");
  lua_pushinteger(L, (lua_Integer)service->accepted);
  lua_setfield(L, -2, "accepted");
  lua_pushinteger(L, (lua_Integer)service->messages);
  lua_setfield(L, -2, "messages");
  lua_pushinteger(L, (lua_Integer)service->refused);
  lua_setfield(L, -2, "refused");
  return 1;
}

static int service_reload_tls(lua_State *L)
{
  mp_service *service = mpl_check_service(L, 1)->service;
  luaL_checktype(L, 2, LUA_TTABLE);
  char why[512] = "";
  mp_tls_config *config;
  int rc = read_tls(L, 2, &config, why, sizeof why);
  if (rc < 0)
    return mpl_fail(L, rc, why);
  if (service->tls)
    mp_tls_config_inherit(config, service->tls);
  mp_tls_config_unref(service->tls);
  service->tls = config;
  lua_pushboolean(L, 1);
  return 1;
}

/* After the state's end only this is called. */
static void silent_event(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  (void)ctx, (void)conn, (void)ev, (void)answer;
}

static void silent_tls(void *ctx, mp_conn *conn)
{
  (void)ctx, (void)conn;
}

static void silent_lost(void *ctx, mp_conn *conn, mp_event_kind pending)
{
  (void)ctx, (void)conn, (void)pending;
}

static void silent_refused(void *ctx, mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  (void)ctx, (void)conn, (void)kind, (void)reply, (void)about;
}

static void silent_closed(void *ctx, mp_conn *conn, const char *why)
{
  (void)ctx, (void)conn, (void)why;
}

static void silent_stopped(void *ctx)
{
  mpl_service *box = ctx;
  box->service = NULL;
  mp_list_remove(&box->node);
}

const mp_handler mpl_silent = { silent_event,   silent_tls, silent_refused, silent_lost, silent_closed,
                                silent_stopped, NULL };

void mpl_kill_services(mp_list *services)
{
  for (mp_list *node = services->next; node != services; node = node->next)
    mp_service_kill(MP_CONTAINER(node, mpl_service, node)->service, &mpl_silent);
}

/* A live service is kept in the registry: this is one that never came to life, or the end of the state, whose worker kills it. The loop may be
 * in the middle of a turn. */
static int service_gc(lua_State *L)
{
  mpl_service *box = luaL_checkudata(L, 1, MPL_SERVICE);
  if (box->service && box->self == LUA_NOREF) {
    mp_list_remove(&box->node);
    mp_service_free(box->service);
    box->service = NULL;
  }
  return 0;
}

int mpl_open_service(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "hooks", service_hooks },
    { "listen", service_listen },
    { "wire", mpl_service_wire },
    { "stop", service_stop },
    { "counts", service_counts },
    { "reload_tls", service_reload_tls },
    { NULL, NULL },
  };
  static const luaL_Reg listener_methods[] = { { "close", listener_close }, { NULL, NULL } };
  mpl_class(L, MPL_SERVICE, methods, NULL);
  luaL_getmetatable(L, MPL_SERVICE);
  lua_pushcfunction(L, service_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  /* Collecting the handle closes nothing: a listener lasts as long as its service. */
  mpl_class(L, MPL_LISTENER, listener_methods, NULL);
  return 0;
}
