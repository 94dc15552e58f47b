/* bind/spool_put.c -- messages on their way into a spool: as a table with octets, or as they were received. */
#include "bind/spool.h"

#include "conn/names.h"

#include <string.h>

static void ask_put(mpl_asked *asked)
{
  mp_spool_put(asked->spool, &asked->of.put);
}

/* The lease of what was claimed (0: nothing was), or false: there is a message of this name. */
static int push_put(lua_State *L, mpl_asked *asked)
{
  if (asked->of.put.existed)
    lua_pushboolean(L, 0);
  else
    lua_pushinteger(L, (lua_Integer)asked->of.put.lease);
  return 1;
}

/* In the pool: a large body becomes a file, synced and named, before the message that names it is put. */
static int write_source(mpl_asked *asked, mp_spool_file *file)
{
  enum { SCRATCH = 65536 };
  char *scratch = mp_mem_alloc(SCRATCH);
  uint64_t at = mp_message_body_at(asked->source), end = mp_sink_size(asked->source->sink);
  int rc = scratch ? 0 : MP_E_NOMEM;
  while (rc == 0 && at < end) {
    mp_str some = mp_sink_read(asked->source->sink, at, scratch, SCRATCH, &rc);
    if (rc == 0 && some.len == 0)
      rc = MP_E_IO;
    if (rc == 0)
      rc = mp_spool_file_write(file, some);
    at += some.len;
  }
  mp_mem_free(scratch);
  return rc;
}

static int make_file(mpl_asked *asked)
{
  mp_spool_file *file;
  int rc = mp_spool_file_new(asked->spool, &file);
  if (rc < 0)
    return rc;
  rc = asked->source ? write_source(asked, file) : mp_spool_file_write(file, asked->octets);
  asked->message.body_length = mp_spool_file_length(file);
  if (rc == 0)
    rc = mp_spool_file_name(file, asked->message.id);
  mp_spool_file_free(file);
  return rc;
}

static void work_file(mp_work *work)
{
  mpl_asked *asked = MP_CONTAINER(work, mpl_asked, work);
  mpl_spool_box *box = asked->box;
  asked->of.request.result = make_file(asked);
  pthread_mutex_lock(&box->lock);
  if (--box->open == 0)
    pthread_cond_signal(&box->none);
  pthread_mutex_unlock(&box->lock);
}

/* The file of a message that was not put; what a crash leaves goes at the next start. */
static void put_answered(mp_spool_request *request)
{
  mpl_asked *asked = MP_CONTAINER(request, mpl_asked, of.request);
  if (request->result < 0 || asked->of.put.existed)
    mp_spool_file_drop(asked->spool, asked->message.id);
  mpl_asked_hand_back(asked);
}

static void done_file(mp_work *work)
{
  mpl_asked *asked = MP_CONTAINER(work, mpl_asked, work);
  int rc = asked->of.request.result;
  mp_message_unref(asked->source);
  asked->source = NULL;
  if (!asked->box || rc < 0) { /* nobody is there any more, and the file is the next start's */
    if (rc == MP_E_EXISTS) {
      asked->of.request.result = 0;
      asked->of.put.existed = true;
    }
    asked->post.run(&asked->post);
    return;
  }
  asked->message.in_file = true;
  asked->of.request.done = put_answered;
  mpl_asked_open(asked->box);
  ask_put(asked);
}

static void ask_file(mpl_asked *asked)
{
  asked->work = (mp_work){ .loop = asked->loop, .work = work_file, .done = done_file };
  if (mp_loop_work(asked->loop, &asked->work) == 0)
    return;
  asked->of.request.result = MP_E_SYSTEM;
  mpl_asked_hand_back(asked);
}

/* Head and body of octets: the head goes up to and with the empty line. */
static void split(mpl_asked *asked, mp_str octets)
{
  bool open;
  size_t head = mp_header_end(octets, &open);
  asked->message.head = mp_str_sub(octets, 0, head);
  asked->octets = mp_str_sub(octets, head, octets.len);
}

/* A received message: its head is made here, its body stays where it is. */
static void take_message(lua_State *L, mpl_asked *asked, int index)
{
  enum { HEAD_MOST = 4 << 20 };
  mp_message *msg = mpl_check_message(L, index);
  mp_buf *head = mpl_push_buf(L, HEAD_MOST);
  int rc = mp_message_head(msg, MP_STR_NULL, true, head);
  bool ok = true;
  if (rc == 0)
    asked->message.head = mp_arena_str(&asked->arena, mp_buf_view(head), &ok);
  if (rc < 0 || !ok)
    luaL_error(L, "%s", mp_error_text(rc < 0 ? rc : MP_E_NOMEM));
  lua_pop(L, 1);
  uint64_t at = mp_message_body_at(msg), length = mp_sink_size(msg->sink) - at;
  if (length > MP_SPOOL_FILE_DEFAULT) {
    asked->source = mp_message_ref(msg);
    return;
  }
  char *body = mp_arena_alloc(&asked->arena, (size_t)length + 1);
  for (size_t got = 0; rc == 0 && body && got < length;) {
    mp_str some = mp_sink_read(msg->sink, at + got, body + got, (size_t)length - got, &rc);
    size_t count = some.len < length - got ? some.len : (size_t)length - got;
    if (rc == 0 && count == 0)
      rc = MP_E_IO;
    if (count > 0 && some.ptr != body + got)
      memcpy(body + got, some.ptr, count);
    got += count;
  }
  if (rc < 0 || !body)
    luaL_error(L, "%s", mp_error_text(rc < 0 ? rc : MP_E_NOMEM));
  asked->octets = mp_str_of(body, (size_t)length);
}

/* Hands a message over. */
static int put(lua_State *L, mpl_asked **draft, size_t count, int done, int held)
{
  mpl_asked *asked = *draft;
  mp_spool_put_request *request = &asked->of.put;
  request->count = count;
  request->holder = mpl_check_spool(L)->holder;
  request->message = &asked->message;
  request->recipients = asked->recipients;
  request->changes = asked->changes;
  asked->push = push_put;
  bool large = asked->source || asked->octets.len > MP_SPOOL_FILE_DEFAULT;
  if (!large)
    asked->message.body = asked->octets;
  asked->ask = large ? ask_file : ask_put;
  return mpl_ask(L, draft, done, held);
}

/* spool:put(entry, octets or message, recipients, lease, changes or nil, done): `lease` in seconds for what is due at once, 0 for none. A received
 * message is kept by its octets with our Received field. */
int mpl_spool_put(lua_State *L)
{
  mpl_check_spool(L);
  lua_settop(L, 7);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  mpl_spool_read_message(L, asked, 2);
  if (lua_type(L, 3) == LUA_TUSERDATA)
    take_message(L, asked, 3);
  else
    split(asked, mpl_check_str(L, 3));
  size_t count = mpl_spool_read_recipients(L, asked, 4);
  luaL_argcheck(L, count > 0, 4, "at least one expected");
  asked->of.put.lease_ms = mpl_check_ms(L, 5);
  asked->of.put.change_count = lua_isnil(L, 6) ? 0 : mpl_spool_read_changes(L, asked, 6);
  return put(L, draft, count, 7, 3);
}

static mp_str keep_text(lua_State *L, mpl_asked *asked, mp_str text)
{
  bool ok = true;
  mp_str kept = mp_arena_str(&asked->arena, text, &ok);
  if (!ok)
    luaL_error(L, "out of memory");
  return kept;
}

/* A domain as claims go by it: A-labels, lower case; a literal as it is. */
static mp_str keep_domain(lua_State *L, mpl_asked *asked, mp_str domain)
{
  char name[MP_DNS_NAME_ASKED];
  mp_ssize len = mp_dns_name_ascii(name, domain);
  if (len >= 0)
    return keep_text(L, asked, mp_str_of(name, (size_t)len));
  mp_str kept = keep_text(L, asked, domain);
  char *at = (char *)(uintptr_t)kept.ptr; /* the arena's, and nobody else's yet */
  for (size_t i = 0; i < kept.len; i++)
    at[i] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] | 0x20 : at[i]);
  return kept;
}

/* spool:accept(message, octets or nil, received, due, expires, alarm, lease, priority, tenant, params, meta, done): keeps a received message for
 * everybody its envelope names, whose parameters do not count (message:bare()). `octets` are those of message:octets(true), where the caller has made
 * them already. */
int mpl_spool_accept(lua_State *L)
{
  mpl_check_spool(L);
  lua_settop(L, 13);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  const mp_message *msg = mpl_check_message(L, 2);
  const mp_envelope *env = msg->env;
  mp_spool_message *m = &asked->message;
  bool given = !lua_isnil(L, 3);
  luaL_argcheck(L, env->count > 0, 2, "it has no recipients");
  m->id = keep_text(L, asked, mp_str_c(msg->id));
  m->sender = keep_text(L, asked, env->sender.address);
  m->user = keep_text(L, asked, msg->trace.user);
  m->received_ms = mpl_spool_ms(L, 4);
  m->priority = (int)luaL_checkinteger(L, 9);
  m->tenant = lua_isnil(L, 10) ? MP_STR("") : mpl_spool_text(L, asked, 10);
  m->params = lua_isnil(L, 11) ? MP_STR("") : mpl_spool_text(L, asked, 11);
  m->meta = lua_isnil(L, 12) ? MP_STR("") : mpl_spool_text(L, asked, 12);
  asked->of.put.lease_ms = mpl_check_ms(L, 8);
  mp_spool_recipient one = { .due_ms = mpl_spool_ms(L, 5),
                             .expiry_ms = mpl_spool_end_ms(L, 6),
                             .alarm_ms = mpl_spool_end_ms(L, 7),
                             .params = MP_STR(""),
                             .state = MP_SPOOL_WAITING };
  asked->recipients = mp_mem_alloc(env->count * sizeof *asked->recipients);
  if (!asked->recipients)
    return luaL_error(L, "out of memory");
  for (size_t i = 0; i < env->count; i++) {
    one.address = keep_text(L, asked, env->rcpts[i]->path.address);
    one.domain = keep_domain(L, asked, env->rcpts[i]->path.domain);
    asked->recipients[i] = one;
  }
  if (given)
    split(asked, mpl_check_str(L, 3));
  else
    take_message(L, asked, 2);
  return put(L, draft, env->count, 13, given ? 3 : 0);
}
