/* bind/client.c -- the client userdata: one operation at a time on an outgoing connection, its outcome told to one Lua function. */
#include "bind/client.h"

/* Uservalues. What an operation borrows from Lua stands in HELD, and a body in BODY, until the next one begins: nothing is put there while one is
 * under way. */
enum { WHY_ROOM = 400, UV_ON = 1, UV_HELD = 2, UV_BODY = 3, UV_COUNT = 3 };

static mpl_client *check(lua_State *L)
{
  return luaL_checkudata(L, 1, MPL_CLIENT);
}

static mpl_client *check_open(lua_State *L)
{
  mpl_client *box = check(L);
  luaL_argcheck(L, box->link, 1, "connection is closed");
  return box;
}

/* ---- into Lua ------------------------------------------------------------------------------------------------------ */

typedef struct told {
  const char *kind;
  int (*push)(lua_State *L,
              const struct told *what); /* what stands behind `kind`: how many values. NULL: nothing does */
  const mp_client_result *result;
  int rc;
  const char *why;
  bool sent;
  mp_str octets;
  size_t body;
} told;

/* Arguments: the client, what is told. */
static int tell(lua_State *L)
{
  const told *what = lua_touserdata(L, 2);
  lua_getiuservalue(L, 1, UV_ON);
  lua_pushstring(L, what->kind);
  lua_call(L, 1 + (what->push ? what->push(L, what) : 0), 0);
  return 0;
}

/* Nothing is pushed that may raise before errors are caught: one for want of memory would leave the link in the middle of a step, and cut off the
 * coroutine that called in. */
static void prepare(mpl_client *box, const told *what)
{
  lua_State *L = box->state->L;
  lua_pushcfunction(L, tell);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self);
  lua_pushlightuserdata(L, (void *)(uintptr_t)what);
}

static void push_error(lua_State *L, int rc)
{
  if (rc)
    lua_pushstring(L, mp_error_name(rc));
  else
    lua_pushnil(L);
}

static int push_done(lua_State *L, const told *what)
{
  lua_pushboolean(L, what->result->ok);
  push_error(L, what->result->rc);
  mpl_push_reply(L, &what->result->reply);
  lua_pushboolean(L, what->result->local);
  lua_pushinteger(L, (lua_Integer)what->result->again);
  return 7;
}

static int push_closed(lua_State *L, const told *what)
{
  push_error(L, what->rc);
  lua_pushstring(L, what->why);
  return 2;
}

static int push_trace(lua_State *L, const told *what)
{
  lua_pushboolean(L, what->sent);
  mpl_push_str(L, what->octets);
  lua_pushinteger(L, (lua_Integer)what->body);
  return 3;
}

static bool has_room(const mpl_client *box)
{
  return lua_checkstack(box->state->L, 3);
}

static void call(mpl_client *box, const told *what)
{
  if (!has_room(box))
    return;
  prepare(box, what);
  mpl_call(box->state, 2, 0);
}

static void on_done(void *ctx, const mp_client_result *result)
{
  call(ctx, &(told){ .kind = "done", .push = push_done, .result = result });
}

static void on_want(void *ctx)
{
  call(ctx, &(told){ .kind = "want" });
}

static void release(mpl_client *box)
{
  box->link = NULL;
  mp_list_remove(&box->leaving.node);
  luaL_unref(box->state->L, LUA_REGISTRYINDEX, box->self);
  box->self = LUA_NOREF;
}

static void on_closed(void *ctx, int rc, const char *why)
{
  mpl_client *box = ctx;
  const told what = { .kind = "closed", .push = push_closed, .rc = rc, .why = why };
  bool room = has_room(box);
  if (room)
    prepare(box, &what); /* the stack keeps the box from here on */
  release(box);
  if (room)
    mpl_call(box->state, 2, 0);
}

static void on_trace(void *ctx, bool sent, mp_str octets, size_t body)
{
  call(ctx, &(told){ .kind = "trace", .push = push_trace, .sent = sent, .octets = octets, .body = body });
}

static const mp_link_calls calls = { .done = on_done, .want = on_want, .closed = on_closed, .trace = on_trace };

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static void drop(mpl_leaving *leaving)
{
  mpl_client *box = MP_CONTAINER(leaving, mpl_client, leaving);
  if (!box->link)
    return;
  mp_link *link = box->link;
  release(box);
  mp_link_close(link);
}

static int64_t ms_at(lua_State *L, const char *field, int64_t otherwise)
{
  int64_t ms = lua_getfield(L, 3, field) == LUA_TNIL ? otherwise : mpl_check_ms(L, -1);
  lua_pop(L, 1);
  return ms;
}

static bool flag_at(lua_State *L, const char *field)
{
  lua_getfield(L, 3, field);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

static unsigned ignored(lua_State *L)
{
  static const char *const names[] = {
#define EXT_NAME(name, text) text,
    MP_EXT_MAP(EXT_NAME)
#undef EXT_NAME
  };
  unsigned set = 0;
  if (lua_getfield(L, 3, "ignore") == LUA_TTABLE)
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
      lua_getfield(L, -1, names[i]);
      set |= lua_toboolean(L, -1) ? 1u << i : 0;
      lua_pop(L, 1);
    }
  lua_pop(L, 1);
  return set;
}

static void read_machine(lua_State *L, mp_client_opts *opts)
{
  mp_client_opts_init(opts);
  lua_getfield(L, 3, "hostname"); /* stays on the stack: the view lasts */
  opts->hostname = mpl_check_str(L, -1);
  opts->lmtp = flag_at(L, "lmtp");
  opts->no_helo = flag_at(L, "no_helo");
  opts->refuse_bare = flag_at(L, "refuse_bare");
  opts->ignore = ignored(L);
  if (lua_getfield(L, 3, "flight") != LUA_TNIL)
    opts->flight_most = (uint64_t)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  opts->banner_ms = ms_at(L, "banner", opts->banner_ms);
  opts->hello_ms = ms_at(L, "hello", opts->hello_ms);
  opts->auth_ms = ms_at(L, "auth", opts->auth_ms);
  opts->mail_ms = ms_at(L, "mail", opts->mail_ms);
  opts->rcpt_ms = ms_at(L, "rcpt", opts->rcpt_ms);
  opts->data_ms = ms_at(L, "data", opts->data_ms);
  opts->block_ms = ms_at(L, "block", opts->block_ms);
  opts->final_ms = ms_at(L, "final", opts->final_ms);
  opts->quit_ms = ms_at(L, "quit", opts->quit_ms);
  opts->operation_ms = ms_at(L, "operation", opts->operation_ms);
  const char *why = mp_client_opts_check(opts);
  if (why)
    luaL_argerror(L, 3, why);
}

/* worker:client(stream, opts, on) */
int mpl_worker_client(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_settop(L, 4);
  mpl_stream *from = luaL_checkudata(L, 2, MPL_STREAM);
  mp_link_opts opts = { .trace = flag_at(L, "trace"),
                        .pretend_tls = flag_at(L, "pretend_tls"),
                        .handshake_ms = ms_at(L, "handshake", 0) };
  read_machine(L, &opts.machine);
  mpl_client *box = lua_newuserdatauv(L, sizeof *box, UV_COUNT);
  *box = (mpl_client){ .state = mpl_state_of(L), .self = LUA_NOREF };
  mpl_mail_init(&box->mail);
  mpl_leaving_init(&box->leaving, worker, drop);
  luaL_setmetatable(L, MPL_CLIENT);
  lua_pushvalue(L, 4);
  lua_setiuservalue(L, -2, UV_ON);
  char why[WHY_ROOM] = "";
  int rc = mpl_tls_for(L, 3, "tls", worker->worker, &box->tls, why, sizeof why);
  if (rc < 0) {
    mp_list_remove(&box->leaving.node);
    return mpl_fail(L, MP_E_TLS, why);
  }
  /* Not before everything was read: a table that makes up its fields may have given the stream away. */
  luaL_argcheck(L, from->stream, 2, "stream is closed, or has been taken");
  luaL_argcheck(L, from->leaving.worker == worker, 2, "stream is another worker's");
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  opts.tls = box->tls; /* from here on nothing raises */
  box->tls = NULL;
  rc = mp_link_open(&box->link, worker->worker, mpl_stream_of(L, 2, worker), &opts, &calls, box);
  if (rc < 0) {
    release(box);
    return mpl_fail(L, rc, NULL);
  }
  return 1;
}

/* ---- operations: true, or nil, why, name of the error --------------------------------------------------------------- */

static int begun(lua_State *L, mpl_client *box, int rc)
{
  if (rc == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  const char *why = rc == MP_E_INVALID && box->link ? mp_link_why(box->link) : NULL;
  return mpl_fail(L, rc, why);
}

/* Keeps what stands at `index` as long as the operation borrows from it. */
static void hold(lua_State *L, int index, int where)
{
  lua_pushvalue(L, index);
  lua_setiuservalue(L, 1, where);
}

/* Fit for an operation. What it borrows is not touched before that is known. */
static bool is_idle(const mpl_client *box)
{
  return box->link && mp_link_idle(box->link);
}

static int busy(lua_State *L, const mpl_client *box)
{
  const mp_client *machine = box->link ? mp_link_machine(box->link) : NULL;
  if (machine && mp_client_closed(machine)) /* which is told next */
    return mpl_fail(L, MP_E_CLOSED, mp_client_why(machine));
  return mpl_fail(L, MP_E_MISUSE, "another operation is under way");
}

static int client_hello(lua_State *L)
{
  mpl_client *box = check_open(L);
  return begun(L, box, mp_link_hello(box->link));
}

static int client_starttls(lua_State *L)
{
  mpl_client *box = check_open(L);
  lua_settop(L, 2);
  if (lua_isboolean(L, 2))
    return begun(L, box, mp_link_starttls(box->link, NULL));
  luaL_checktype(L, 2, LUA_TTABLE);
  char why[WHY_ROOM] = "";
  mp_tls *tls;
  if (mpl_tls_for(L, 2, NULL, box->leaving.worker->worker, &tls, why, sizeof why) < 0)
    return mpl_fail(L, MP_E_TLS, why);
  if (!box->link) { /* a metamethod has closed it */
    mp_tls_free(tls);
    return mpl_fail(L, MP_E_CLOSED, NULL);
  }
  return begun(L, box, mp_link_starttls(box->link, tls));
}

/* A field of the table at 2; the one at 3 keeps it, for the other is the script's to change. */
static mp_str optional(lua_State *L, const char *field)
{
  mp_str s = MP_STR_NULL;
  lua_pushstring(L, field);
  if (lua_rawget(L, 2) != LUA_TNIL)
    s = mpl_check_str(L, -1);
  lua_setfield(L, 3, field);
  return s;
}

static unsigned mechanisms(lua_State *L, const char *field)
{
  unsigned set = 0;
  if (lua_getfield(L, 2, field) == LUA_TTABLE)
    for (lua_Integer i = 1, count = (lua_Integer)lua_rawlen(L, -1); i <= count; i++) {
      lua_rawgeti(L, -1, i);
      int mech = mp_mech_find(mpl_check_str(L, -1));
      luaL_argcheck(L, mech >= 0, 2, "unknown mechanism");
      set |= 1u << mech;
      lua_pop(L, 1);
    }
  lua_pop(L, 1);
  return set;
}

static int client_auth(lua_State *L)
{
  mpl_client *box = check_open(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  if (!is_idle(box))
    return busy(L, box);
  lua_newtable(L);
  mp_client_login login = { .mechanisms = mechanisms(L, "mechanisms"),
                            .in_clear = mechanisms(L, "in_clear"),
                            .user = optional(L, "user"),
                            .authzid = optional(L, "authzid"),
                            .password = optional(L, "password"),
                            .token = optional(L, "token"),
                            .host = optional(L, "host") };
  lua_getfield(L, 2, "port");
  login.port = (unsigned)luaL_optinteger(L, -1, 0);
  box->login = login;
  hold(L, 3, UV_HELD);
  return begun(L, box, mp_link_auth(box->link, &box->login));
}

static int client_command(lua_State *L)
{
  mpl_client *box = check_open(L);
  mp_str line = mpl_check_str(L, 2);
  if (!is_idle(box))
    return busy(L, box);
  hold(L, 2, UV_HELD);
  return begun(L, box, mp_link_command(box->link, line));
}

static int client_rset(lua_State *L)
{
  mpl_client *box = check_open(L);
  return begun(L, box, mp_link_rset(box->link));
}

static int client_noop(lua_State *L)
{
  mpl_client *box = check_open(L);
  return begun(L, box, mp_link_noop(box->link));
}

static int client_vrfy(lua_State *L)
{
  mpl_client *box = check_open(L);
  mp_str what = mpl_check_str(L, 2);
  if (!is_idle(box))
    return busy(L, box);
  hold(L, 2, UV_HELD);
  return begun(L, box, mp_link_vrfy(box->link, what));
}

static int client_quit(lua_State *L)
{
  mpl_client *box = check_open(L);
  return begun(L, box, mp_link_quit(box->link));
}

/* ---- transactions --------------------------------------------------------------------------------------------------- */

static void read_mail(lua_State *L, mpl_client *box)
{
  luaL_checktype(L, 2, LUA_TTABLE);
  box->has_mail = false;
  const char *why = mpl_mail_read(L, 2, &box->mail);
  if (why)
    luaL_argerror(L, 2, why);
  box->has_mail = true;
}

/* Where the body at `index` comes from: a string, a received message with what stands in front of it, or nil: pieces will be given. */
static mp_link_source source_at(lua_State *L, mpl_client *box, int index)
{
  mp_link_source source = { 0 };
  box->mail.tx.canonical = false; /* of the body before */
  if (lua_type(L, index) == LUA_TSTRING) {
    source.octets = mpl_check_str(L, index);
    source.has_octets = true;
    mpl_mail_look(&box->mail, source.octets);
  } else if (!lua_isnoneornil(L, index)) {
    source.message = mpl_check_message(L, index);
    source.received = lua_toboolean(L, index + 1);
    if (lua_type(L, index + 2) == LUA_TSTRING)
      source.extra = mpl_check_str(L, index + 2);
  }
  return source;
}

/* client:send(mail, body) -- a whole transaction */
static int client_send(lua_State *L)
{
  mpl_client *box = check_open(L);
  if (!is_idle(box))
    return busy(L, box);
  read_mail(L, box);
  lua_settop(L, 5);
  mp_link_source source = source_at(L, box, 3);
  hold(L, 3, UV_BODY);
  return begun(L, box, mp_link_send(box->link, &box->mail.tx, &source, true));
}

/* The transaction that was read before, with the body at 2. */
static int go_on(lua_State *L, bool whole)
{
  mpl_client *box = check_open(L);
  if (!is_idle(box))
    return busy(L, box);
  luaL_argcheck(L, box->has_mail, 1, "there is no transaction");
  lua_settop(L, 4);
  mp_link_source source = source_at(L, box, 2);
  hold(L, 2, UV_BODY);
  return begun(L, box, mp_link_send(box->link, &box->mail.tx, &source, whole));
}

/* client:again(body) -- the same transaction for recipients that are "again" */
static int client_again(lua_State *L)
{
  return go_on(L, true);
}

/* client:mail(mail): MAIL alone. Its recipients are those that client:rcpt(index) may offer. */
static int client_mail(lua_State *L)
{
  mpl_client *box = check_open(L);
  if (!is_idle(box))
    return busy(L, box);
  read_mail(L, box);
  return begun(L, box, mp_link_mail(box->link, &box->mail.tx));
}

static int client_rcpt(lua_State *L)
{
  mpl_client *box = check_open(L);
  lua_Integer index = luaL_checkinteger(L, 2);
  luaL_argcheck(L, box->has_mail && index >= 1 && (size_t)index <= box->mail.tx.count, 2, "no such recipient");
  return begun(L, box, mp_link_rcpt(box->link, &box->mail.tx, (size_t)index - 1));
}

/* client:data(body) -- behind mail and rcpt */
static int client_data(lua_State *L)
{
  return go_on(L, false);
}

static int client_body(lua_State *L)
{
  mpl_client *box = check(L);
  if (!box->link)
    return mpl_fail(L, MP_E_CLOSED, NULL);
  return begun(L, box, mp_link_body(box->link, mpl_check_str(L, 2), lua_toboolean(L, 3)));
}

static int client_body_failed(lua_State *L)
{
  mpl_client *box = check(L);
  if (box->link)
    mp_link_body_failed(box->link, "the message cannot be read");
  return 0;
}

static int client_open(lua_State *L)
{
  lua_pushboolean(L, check(L)->link != NULL);
  return 1;
}

/* Drops the connection; nobody is told. */
static int client_close(lua_State *L)
{
  mpl_client *box = check(L);
  drop(&box->leaving);
  return 0;
}

/* QUIT, when nothing is under way, and no waiting for what becomes of it. */
static int client_leave(lua_State *L)
{
  mpl_client *box = check(L);
  mp_link *link = box->link;
  if (link) {
    release(box);
    mp_link_leave(link);
  }
  return 0;
}

/* The registry keeps an open one, so it is closed, or the whole state is: then its worker has seen to the connection, or does when it goes. */
static int client_gc(lua_State *L)
{
  mpl_client *box = check(L);
  if (box->link)
    mp_link_close(box->link);
  box->link = NULL;
  mp_tls_free(box->tls);
  box->tls = NULL;
  mp_list_remove(&box->leaving.node);
  mpl_mail_dispose(&box->mail);
  box->has_mail = false;
  return 0;
}

int mpl_open_client(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "hello", client_hello },       { "starttls", client_starttls }, { "auth", client_auth },
    { "command", client_command },   { "rset", client_rset },         { "noop", client_noop },
    { "vrfy", client_vrfy },         { "quit", client_quit },         { "send", client_send },
    { "again", client_again },       { "mail", client_mail },         { "rcpt", client_rcpt },
    { "data", client_data },         { "body", client_body },         { "body_failed", client_body_failed },
    { "result", mpl_client_result }, { "caps", mpl_client_caps },     { "facts", mpl_client_facts },
    { "tls", mpl_client_tls },       { "peer", mpl_client_peer },     { "is_open", client_open },
    { "close", client_close },       { "leave", client_leave },       { NULL, NULL },
  };
  mpl_class(L, MPL_CLIENT, methods, client_gc);
  mpl_open_client_tls(L);
  return 0;
}
