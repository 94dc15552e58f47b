/* bind/message.c -- the received message: envelope, header fields and their edits, octets, deliveries. */
#include "bind/mpl.h"

#include "conn/deliver.h"
#include "smtp/data.h"

/* Lua's collector sees a few octets where a message may hold megabytes, so the octets do not wait for it: a message is closed when it has been
 * answered, unless the script said keep(). */
typedef struct message_box { /* uservalue 1: the service's box, or the worker; the octets are in blocks of the worker */
  mp_message *msg;
  bool kept;
} message_box;

enum { READ_MOST = 65536 };

void mpl_push_message(lua_State *L, mp_message *msg, const mpl_service *service)
{
  message_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (message_box){ NULL, false };
  luaL_setmetatable(L, MPL_MESSAGE);
  lua_rawgeti(L, LUA_REGISTRYINDEX, service->self);
  lua_setiuservalue(L, -2, 1);
  box->msg = mp_message_ref(msg);
  msg->user = box;
}

void mpl_push_made(lua_State *L, mp_message *msg)
{
  message_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (message_box){ NULL, true };
  luaL_setmetatable(L, MPL_MESSAGE);
  box->msg = mp_message_ref(msg);
  msg->user = box;
}

static void close_box(message_box *box)
{
  mp_message *msg = box->msg;
  box->msg = NULL;
  if (msg)
    msg->user = NULL;
  mp_message_unref(msg);
}

void mpl_message_answered(mp_message *msg)
{
  message_box *box = msg ? msg->user : NULL;
  if (box && !box->kept)
    close_box(box);
}

mp_message *mpl_check_message(lua_State *L, int index)
{
  message_box *box = luaL_checkudata(L, index, MPL_MESSAGE);
  luaL_argcheck(L, box->msg, index,
                "message is closed: it has been answered (message:keep() in the hook keeps it)");
  return box->msg;
}

static mp_message *check(lua_State *L)
{
  return mpl_check_message(L, 1);
}

static int message_gc(lua_State *L)
{
  close_box(luaL_checkudata(L, 1, MPL_MESSAGE));
  return 0;
}

static int message_keep(lua_State *L)
{
  message_box *box = luaL_checkudata(L, 1, MPL_MESSAGE);
  check(L);
  box->kept = true;
  return 0;
}

static int message_id(lua_State *L)
{
  lua_pushstring(L, check(L)->id);
  return 1;
}

static int message_size(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)check(L)->size);
  return 1;
}

static int message_facts(lua_State *L)
{
  unsigned facts = check(L)->facts;
  lua_pushboolean(L, (facts & MP_DATA_8BIT) != 0);
  lua_pushboolean(L, (facts & (MP_DATA_BARE_CR | MP_DATA_BARE_LF)) != 0);
  return 2;
}

static int message_sender(lua_State *L)
{
  const mp_envelope *env = check(L)->env;
  mpl_push_str(L, env->sender.address);
  mpl_push_local(L, &env->sender);
  mpl_push_str(L, env->sender.domain);
  return 3 + mpl_push_mail_params(L, &env->params);
}

static int message_recipient_count(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)check(L)->env->count);
  return 1;
}

static int message_recipient(lua_State *L)
{
  const mp_envelope *env = check(L)->env;
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= env->count, 2, "no such recipient");
  const mp_recipient *recipient = env->rcpts[i - 1];
  mpl_push_str(L, recipient->path.address);
  mpl_push_local(L, &recipient->path);
  mpl_push_str(L, recipient->path.domain);
  lua_pushstring(L, mp_class_name((mp_class)recipient->rclass));
  return 4 + mpl_push_rcpt_params(L, &recipient->params);
}

static bool is_twice(const mp_envelope *env, size_t i)
{
  for (size_t k = 0; k < i; k++) {
    if (mp_str_eq(env->rcpts[k]->path.address, env->rcpts[i]->path.address))
      return true;
  }
  return false;
}

/* message:bare() -> whether its envelope holds nothing but addresses of ASCII, each once and of a domain; parameters of MAIL or nil. That is nearly
 * all mail, and it can be kept without a look at each recipient. */
static int message_bare(lua_State *L)
{
  enum { BARE_MOST = 64 }; /* each is compared with each */
  const mp_envelope *env = check(L)->env;
  bool bare = env->count > 0 && env->count <= BARE_MOST && !env->sender.utf8;
  for (size_t i = 0; bare && i < env->count; i++) {
    const mp_recipient *one = env->rcpts[i];
    bare = !one->path.utf8 && !one->params.given && one->path.domain.len && !is_twice(env, i);
  }
  lua_pushboolean(L, bare);
  if (!bare)
    return 1;
  return 1 + mpl_push_mail_params(L, &env->params);
}

/* The header index, or NULL with nil and the reason pushed. */
static mp_header *header(lua_State *L, mp_message *msg)
{
  int rc = 0;
  mp_header *index = mp_message_header(msg, &rc);
  if (!index)
    mpl_fail(L, rc, rc == MP_E_TOOLONG ? "the message's header is too long" : NULL);
  return index;
}

static int message_field_count(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return 3;
  lua_pushinteger(L, (lua_Integer)mp_header_count(index));
  return 1;
}

static size_t check_field(lua_State *L, const mp_header *index, int arg, size_t most)
{
  lua_Integer i = luaL_checkinteger(L, arg);
  (void)index;
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= most, arg, "no such header field");
  return (size_t)i - 1;
}

static int message_field(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return 3;
  mp_field field;
  mp_header_at(index, check_field(L, index, 2, mp_header_count(index)), &field);
  mp_buf *plain = mpl_push_buf(L, SIZE_MAX / 2);
  mpl_push_str(L, field.name);
  int rc = mp_field_unfold(&field, plain);
  mpl_push_str(L, mp_buf_view(plain));
  mp_buf_dispose(plain);
  if (rc < 0)
    return luaL_error(L, "out of memory");
  mpl_push_str(L, field.raw);
  return 3;
}

static int message_find(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return 3;
  mp_str name = mpl_check_str(L, 2);
  lua_Integer from = luaL_optinteger(L, 3, 1);
  mp_ssize at = mp_header_find(index, name, from < 1 ? 0 : (size_t)from - 1);
  if (at < 0)
    lua_pushnil(L);
  else
    lua_pushinteger(L, at + 1);
  return 1;
}

static int edit_result(lua_State *L, int rc, mp_str name)
{
  if (rc == MP_E_INVALID)
    return luaL_error(L, "header field %s: the name or the value holds an octet that may not stand there",
                      name.ptr);
  if (rc == MP_E_TOOLONG)
    return luaL_error(L, "header field %s: a line of it is over 998 octets and cannot be folded", name.ptr);
  if (rc == MP_E_FULL)
    return luaL_error(L, "over 1 MB of header edits");
  if (rc < 0)
    return luaL_error(L, "%s", mp_error_text(rc));
  return 0;
}

static int message_insert(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return luaL_error(L, "%s", lua_tostring(L, -2));
  size_t at = check_field(L, index, 2, mp_header_count(index) + 1);
  mp_str name = mpl_check_str(L, 3);
  return edit_result(L, mp_header_insert(index, at, name, mpl_check_str(L, 4)), name);
}

static int message_replace(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return luaL_error(L, "%s", lua_tostring(L, -2));
  size_t at = check_field(L, index, 2, mp_header_count(index));
  return edit_result(L, mp_header_replace(index, at, mpl_check_str(L, 3)), MP_STR("value"));
}

static int message_remove(lua_State *L)
{
  mp_header *index = header(L, check(L));
  if (!index)
    return luaL_error(L, "%s", lua_tostring(L, -2));
  mp_header_remove(index, check_field(L, index, 2, mp_header_count(index)));
  return 0;
}

/* The octets in front of the received body: the header as it stands, when it has been edited. */
static int head(mp_message *msg, mp_buf *out, uint64_t *body_at)
{
  *body_at = 0;
  if (!msg->header || !mp_header_edited(msg->header))
    return 0;
  *body_at = mp_message_body_at(msg);
  return mp_message_head(msg, MP_STR_NULL, false, out);
}

static int message_read(lua_State *L)
{
  mp_message *msg = check(L);
  lua_Integer offset = luaL_checkinteger(L, 2);
  lua_Integer most = luaL_optinteger(L, 3, READ_MOST);
  luaL_argcheck(L, offset >= 0, 2, "offsets count from 0");
  luaL_argcheck(L, most >= 1, 3, "at least one octet");
  mp_buf *top = mpl_push_buf(L, SIZE_MAX / 2);
  uint64_t body_at;
  int rc = head(msg, top, &body_at);
  if (rc == 0 && (uint64_t)offset < top->len) {
    mpl_push_str(L, mp_str_sub(mp_buf_view(top), (size_t)offset, (size_t)most));
  } else if (rc == 0) {
    char scratch[16384];
    mp_str got = mp_sink_read(msg->sink, body_at + (uint64_t)offset - top->len, scratch, sizeof scratch, &rc);
    if (rc == 0)
      mpl_push_str(L, mp_str_sub(got, 0, (size_t)most));
  }
  mp_buf_dispose(top);
  return rc < 0 ? mpl_fail(L, rc, NULL) : 1;
}

/* message:octets(received): the message as it stands; with our Received field on top where that is asked for. */
static int message_octets(lua_State *L)
{
  mp_message *msg = check(L);
  bool received = lua_toboolean(L, 2);
  mp_buf *top = mpl_push_buf(L, SIZE_MAX / 2);
  uint64_t at = mp_message_body_at(msg);
  int rc = received ? mp_message_head(msg, MP_STR_NULL, true, top) : head(msg, top, &at);
  luaL_Buffer out;
  luaL_buffinitsize(L, &out, top->len + (size_t)(msg->size - at));
  luaL_addlstring(&out, top->len ? mp_buf_view(top).ptr : "", top->len);
  mp_buf_dispose(top);
  while (rc == 0) {
    char scratch[16384];
    mp_str got = mp_sink_read(msg->sink, at, scratch, sizeof scratch, &rc);
    if (rc < 0 || got.len == 0)
      break;
    luaL_addlstring(&out, got.ptr, got.len);
    at += got.len;
  }
  luaL_pushresult(&out);
  return rc < 0 ? mpl_fail(L, rc, NULL) : 1;
}

static int message_hops(lua_State *L)
{
  int hops = mp_message_hops(check(L), NULL);
  if (hops < 0)
    return mpl_fail(L, hops, NULL);
  lua_pushinteger(L, hops);
  return 1;
}

static int message_delivered_to(lua_State *L)
{
  lua_pushboolean(L, mp_message_delivered_to(check(L), mpl_check_str(L, 2)));
  return 1;
}

static int message_received(lua_State *L)
{
  const mp_message *msg = check(L);
  mp_buf *out = mpl_push_buf(L, 8192);
  int rc = mp_received_write(out, &msg->trace);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(out);
  return rc < 0 ? luaL_error(L, "%s", mp_error_text(rc)) : 1;
}

void mpl_forget_deliveries(mpl_state *state, const mp_loop *loop)
{
  for (mp_list *node = state->deliveries.next, *next; node != &state->deliveries; node = next) {
    next = node->next;
    mpl_delivery *delivery = MP_CONTAINER(node, mpl_delivery, node);
    if (loop && delivery->loop != loop)
      continue;
    mp_list_remove(&delivery->node);
    delivery->state = NULL;
  }
}

/* Function and outcome: calls it with a table. Protected: the table is made. */
static int tell(lua_State *L)
{
  const mp_outcome *outcome = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_createtable(L, 0, 6);
  lua_pushboolean(L, outcome->rc == 0);
  lua_setfield(L, -2, "ok");
  if (outcome->rc < 0) {
    lua_pushstring(L, mp_error_name(outcome->rc));
    lua_setfield(L, -2, "error");
  }
  lua_pushstring(L, outcome->why);
  lua_setfield(L, -2, "why");
  lua_pushstring(L, outcome->path);
  lua_setfield(L, -2, "path");
  lua_pushinteger(L, outcome->status);
  lua_setfield(L, -2, "status");
  if (outcome->signal) {
    lua_pushinteger(L, outcome->signal);
    lua_setfield(L, -2, "signal");
  }
  if (outcome->output.len) {
    mpl_push_str(L, outcome->output);
    lua_setfield(L, -2, "output");
  }
  lua_call(L, 1, 0);
  return 0;
}

static void delivered(void *ctx, const mp_outcome *outcome)
{
  mpl_delivery *delivery = ctx;
  mpl_state *state = delivery->state;
  int done = delivery->done;
  mp_list_remove(&delivery->node);
  mp_mem_free(delivery);
  if (!state)
    return;
  lua_State *L = state->L;
  luaL_checkstack(L, 8, "delivery");
  lua_pushcfunction(L, tell);
  lua_rawgeti(L, LUA_REGISTRYINDEX, done);
  luaL_unref(L, LUA_REGISTRYINDEX, done);
  lua_pushlightuserdata(L, (void *)(uintptr_t)outcome);
  mpl_call(state, 2, 0);
}

static const char *opt_string(lua_State *L, int index, const char *name, bool needed)
{
  int type = lua_getfield(L, index, name);
  if (type == LUA_TSTRING)
    return lua_tostring(L, -1); /* stays on the stack during the call */
  if (needed || type != LUA_TNIL)
    luaL_error(L, "option '%s': a string is needed", name);
  return NULL;
}

static bool opt_bool(lua_State *L, int index, const char *name)
{
  lua_getfield(L, index, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static unsigned opt_mode(lua_State *L, int index)
{
  lua_getfield(L, index, "mode");
  unsigned mode = (unsigned)luaL_optinteger(L, -1, 0600);
  lua_pop(L, 1);
  return mode;
}

static mp_str opt_extra(lua_State *L, int index)
{
  const char *extra = opt_string(L, index, "extra", false);
  return extra ? mp_str_of(extra, lua_rawlen(L, -1)) : MP_STR_NULL;
}

/* Checks (message, worker, options, done) and registers the callback. */
static mpl_delivery *delivery_new(lua_State *L, mp_loop **loop)
{
  *loop = &mpl_check_worker(L, 2)->worker->loop;
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_pushvalue(L, 4);
  int done = luaL_ref(L, LUA_REGISTRYINDEX); /* may raise: owns nothing yet */
  mpl_delivery *delivery = mp_mem_alloc(sizeof *delivery);
  if (!delivery) {
    luaL_unref(L, LUA_REGISTRYINDEX, done);
    luaL_error(L, "out of memory");
  }
  *delivery = (mpl_delivery){ .state = mpl_state_of(L), .loop = *loop, .done = done };
  mp_list_push(&delivery->state->deliveries, &delivery->node);
  return delivery;
}

static int started(lua_State *L, mpl_delivery *delivery, int rc)
{
  if (rc == 0)
    return 0;
  mp_outcome outcome = { .rc = rc, .why = mp_error_text(rc) };
  delivered(delivery, &outcome);
  (void)L;
  return 0;
}

static int message_maildir(lua_State *L)
{
  mp_message *msg = check(L);
  lua_settop(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  mp_maildir_opts opts = { .folder = opt_string(L, 3, "folder", true),
                           .create = opt_bool(L, 3, "create"),
                           .extra = opt_extra(L, 3),
                           .host = opt_string(L, 3, "host", true),
                           .mode = opt_mode(L, 3),
                           .crlf = opt_bool(L, 3, "crlf") };
  mp_loop *loop;
  mpl_delivery *delivery = delivery_new(L, &loop);
  return started(L, delivery, mp_deliver_maildir(loop, msg, &opts, delivered, delivery));
}

static int message_file(lua_State *L)
{
  mp_message *msg = check(L);
  lua_settop(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  const char *sender = opt_string(L, 3, "sender", false);
  mp_file_opts opts = { .path = opt_string(L, 3, "path", true),
                        .mbox = opt_bool(L, 3, "mbox"),
                        .create = opt_bool(L, 3, "create"),
                        .extra = opt_extra(L, 3),
                        .sender = mp_str_c(sender),
                        .mode = opt_mode(L, 3),
                        .crlf = opt_bool(L, 3, "crlf") };
  mp_loop *loop;
  mpl_delivery *delivery = delivery_new(L, &loop);
  return started(L, delivery, mp_deliver_file(loop, msg, &opts, delivered, delivery));
}

/* A NULL-terminated array of the strings of a list; a userdata on the stack holds it. NULL when the field is nil. */
static const char *const *opt_list(lua_State *L, int index, const char *name)
{
  if (lua_getfield(L, index, name) == LUA_TNIL)
    return NULL;
  luaL_checktype(L, -1, LUA_TTABLE);
  lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
  luaL_argcheck(L, count <= 1024, index, "more than 1024 strings");
  const char **list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *list, 0);
  for (lua_Integer i = 0; i < count; i++) {
    if (lua_rawgeti(L, -2, i + 1) != LUA_TSTRING)
      luaL_error(L, "option '%s': entry %d is no string", name, (int)i + 1);
    list[i] = lua_tostring(L, -1); /* the table keeps it */
    lua_pop(L, 1);
  }
  list[count] = NULL;
  return list;
}

static int message_pipe(lua_State *L)
{
  mp_message *msg = check(L);
  lua_settop(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_getfield(L, 3, "timeout");
  mp_pipe_opts opts = { .args = opt_list(L, 3, "args"),
                        .env = opt_list(L, 3, "env"),
                        .cwd = opt_string(L, 3, "cwd", false),
                        .timeout_ms = mpl_check_ms(L, 5),
                        .extra = opt_extra(L, 3),
                        .crlf = opt_bool(L, 3, "crlf") };
  luaL_argcheck(L, opts.args && opts.args[0], 3, "'args' names no program");
  mp_loop *loop;
  mpl_delivery *delivery = delivery_new(L, &loop);
  return started(L, delivery, mp_deliver_pipe(loop, msg, &opts, delivered, delivery));
}

/* Ends what deliveries of it wait for: a program, the lock of an mbox. */
static int message_cancel(lua_State *L)
{
  mp_deliver_cancel(check(L));
  return 0;
}

int mpl_open_message(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "id", message_id },
    { "keep", message_keep },
    { "close", message_gc },
    { "size", message_size },
    { "facts", message_facts },
    { "sender", message_sender },
    { "recipient_count", message_recipient_count },
    { "recipient", message_recipient },
    { "bare", message_bare },
    { "field_count", message_field_count },
    { "field", message_field },
    { "find", message_find },
    { "insert", message_insert },
    { "replace", message_replace },
    { "remove", message_remove },
    { "octets", message_octets },
    { "read", message_read },
    { "hops", message_hops },
    { "delivered_to", message_delivered_to },
    { "received", message_received },
    { "maildir", message_maildir },
    { "file", message_file },
    { "pipe", message_pipe },
    { "cancel", message_cancel },
    { NULL, NULL },
  };
  mpl_class(L, MPL_MESSAGE, methods, message_gc);
  return 0;
}
