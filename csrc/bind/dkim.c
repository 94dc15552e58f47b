/* bind/dkim.c -- judging and making DKIM signatures: what is asked of the DNS and when is Lua's. */
#include "bind/dkim.h"

#define TIME_MOST 1e12 /* seconds: no more digits stand in t= and x= */

enum { HEADER_MOST = 32 << 20, VALUE_MOST = 65536, HASHES_MOST = 8 };

/* ---- judging ----------------------------------------------------------------------------------------------------- */

typedef struct verify_taker {
  mpl_taker base;
  mp_dkim_verifier *verifier;
} verify_taker;

typedef struct verify_box { /* uservalue 1: what the header is borrowed from */
  mpl_taking taking;
  mp_sink *sink; /* a reference; NULL: a string's header */
} verify_box;

static int verify_take(mpl_taker *base, mp_str octets)
{
  return mp_dkim_verifier_body(MP_CONTAINER(base, verify_taker, base)->verifier, octets);
}

static bool in_sink(void *ctx, mp_dkim_canon canon, uint64_t limit, unsigned char *digest, uint64_t *length)
{
  return mp_sink_digest(ctx, canon, limit, digest, length);
}

static bool verify_given(mpl_taker *base, mp_sink *sink)
{
  return mp_dkim_verifier_given(MP_CONTAINER(base, verify_taker, base)->verifier, in_sink, sink);
}

static void verify_wants(mpl_taker *base, mp_body_wants *wants)
{
  (void)base;
  wants->verify = true;
}

static int verify_finish(mpl_taker *base)
{
  return mp_dkim_verifier_finish(MP_CONTAINER(base, verify_taker, base)->verifier);
}

static void verify_free(mpl_taker *base)
{
  verify_taker *taker = MP_CONTAINER(base, verify_taker, base);
  mp_dkim_verifier_free(taker->verifier);
  mp_mem_free(taker);
}

static int make_verifier(verify_box *box, mp_str block, const mp_dkim_verify_opts *opts)
{
  verify_taker *taker = mp_mem_alloc(sizeof *taker);
  if (!taker)
    return MP_E_NOMEM;
  *taker = (verify_taker){ .base = { .take = verify_take,
                                     .finish = verify_finish,
                                     .given = verify_given,
                                     .wants = verify_wants,
                                     .came = true,
                                     .free = verify_free } };
  int rc = mp_dkim_verifier_new(&taker->verifier, block, opts);
  if (rc < 0) {
    mp_mem_free(taker);
    return rc;
  }
  box->taking.taker = &taker->base;
  return 0;
}

/* core.dkim_verifier(message or string, now, partial) */
static int core_dkim_verifier(lua_State *L)
{
  lua_Number now = luaL_checknumber(L, 2);
  luaL_argcheck(L, now >= 0 && now < TIME_MOST, 2, "seconds since 1970 expected");
  mp_dkim_verify_opts opts = { .now = (int64_t)now, .partial = lua_toboolean(L, 3) };
  verify_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (verify_box){ 0 };
  luaL_setmetatable(L, MPL_DKIM_VERIFY);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  int rc;
  mp_str block = mpl_header_of(L, 1, false, NULL, &rc);
  if (rc == 0 && lua_type(L, 1) == LUA_TUSERDATA)
    box->sink = mp_sink_ref(mp_message_came(mpl_check_message(L, 1)));
  if (rc == 0)
    rc = make_verifier(box, block, &opts);
  return rc < 0 ? mpl_fail(L, rc, rc == MP_E_TOOLONG ? "the message's header is too long" : NULL) : 1;
}

static mp_dkim_verifier *check(lua_State *L)
{
  verify_box *box = luaL_checkudata(L, 1, MPL_DKIM_VERIFY);
  luaL_argcheck(L, box->taking.taker, 1, "verifier is closed, or waits for the body");
  return MP_CONTAINER(box->taking.taker, verify_taker, base)->verifier;
}

static size_t check_index(lua_State *L, const mp_dkim_verifier *verifier)
{
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= mp_dkim_verifier_count(verifier), 2, "no such signature");
  return (size_t)i - 1;
}

static int verifier_count(lua_State *L)
{
  mp_dkim_verifier *verifier = check(L);
  lua_pushinteger(L, (lua_Integer)mp_dkim_verifier_count(verifier));
  lua_pushinteger(L, (lua_Integer)mp_dkim_verifier_more(verifier));
  lua_pushboolean(L, mp_dkim_verifier_wants_body(verifier));
  return 3;
}

static void set_str(lua_State *L, const char *name, mp_str value)
{
  if (value.len) {
    mpl_push_str(L, value);
    lua_setfield(L, -2, name);
  }
}

static void set_time(lua_State *L, const char *name, int64_t value)
{
  if (value >= 0) {
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
  }
}

/* verifier:signature(i) -> what is known of it */
static int verifier_signature(lua_State *L)
{
  mp_dkim_verifier *verifier = check(L);
  const mp_dkim_sig *sig = mp_dkim_verifier_at(verifier, check_index(L, verifier));
  lua_createtable(L, 0, 12);
  if (sig->result != MP_DKIM_OPEN)
    set_str(L, "result", mp_str_c(mp_dkim_result_name(sig->result)));
  set_str(L, "reason", mp_str_c(sig->reason));
  set_str(L, "domain", sig->domain);
  set_str(L, "selector", sig->selector);
  set_str(L, "identity", sig->domain.len ? sig->identity : MP_STR_NULL);
  set_str(L, "algorithm", sig->algorithm);
  set_str(L, "headers", sig->headers);
  set_str(L, "signature", sig->room);
  lua_pushfstring(L, "%s/%s", mp_dkim_canon_name(sig->header_canon), mp_dkim_canon_name(sig->body_canon));
  lua_setfield(L, -2, "canonicalization");
  set_time(L, "time", sig->time);
  set_time(L, "expires", sig->end);
  set_time(L, "length", sig->limit == UINT64_MAX ? -1 : (int64_t)sig->limit);
  return 1;
}

/* verifier:question(i) -> name; nil when it is judged */
static int verifier_question(lua_State *L)
{
  mp_dkim_verifier *verifier = check(L);
  size_t i = check_index(L, verifier);
  mp_buf *name = mpl_push_buf(L, 1024);
  int rc;
  if (mp_dkim_verifier_question(verifier, i, name, &rc))
    mpl_push_str(L, mp_buf_view(name));
  else
    lua_pushnil(L);
  mp_buf_dispose(name);
  return rc < 0 ? luaL_error(L, "%s", mp_error_text(rc)) : 1;
}

static int verifier_feed(lua_State *L)
{
  return mpl_taking_feed(L, luaL_checkudata(L, 1, MPL_DKIM_VERIFY));
}

static int verifier_judge(lua_State *L)
{
  mp_dkim_verifier *verifier = check(L);
  verify_box *box = lua_touserdata(L, 1);
  luaL_argcheck(L, box->taking.complete, 1, "the body comes first");
  int rc = mp_dkim_verifier_judge(verifier, check_index(L, verifier), mpl_check_dkim_key(L, 3));
  return rc < 0 ? luaL_error(L, "%s", mp_error_text(rc)) : 0;
}

/* verifier:refuse(i, temporary, why) */
static int verifier_refuse(lua_State *L)
{
  mp_dkim_verifier *verifier = check(L);
  mp_dkim_verifier_refuse(verifier, check_index(L, verifier),
                          lua_toboolean(L, 3) ? MP_DKIM_TEMPERROR : MP_DKIM_PERMERROR, luaL_checkstring(L, 4));
  return 0;
}

static int verifier_gc(lua_State *L)
{
  verify_box *box = luaL_checkudata(L, 1, MPL_DKIM_VERIFY);
  if (box->taking.taker)
    box->taking.taker->free(box->taking.taker);
  mp_sink_unref(box->sink);
  box->taking = (mpl_taking){ .closed = true };
  box->sink = NULL;
  return 0;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

typedef struct body_hash {
  mp_dkim_body *body;
  uint64_t length;
  unsigned char digest[MP_DKIM_DIGEST];
} body_hash;

typedef struct hash_taker {
  mpl_taker base;
  body_hash hashes[HASHES_MOST];
  size_t count;
} hash_taker;

typedef struct hash_box {
  mpl_taking taking;
} hash_box;

static int hash_take(mpl_taker *base, mp_str octets)
{
  hash_taker *taker = MP_CONTAINER(base, hash_taker, base);
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < taker->count; i++)
    rc = mp_dkim_body_add(taker->hashes[i].body, octets);
  return rc;
}

static bool hash_given(mpl_taker *base, mp_sink *sink)
{
  hash_taker *taker = MP_CONTAINER(base, hash_taker, base);
  for (size_t i = 0; i < taker->count; i++) {
    uint64_t limit;
    mp_dkim_canon canon = mp_dkim_body_form(taker->hashes[i].body, &limit);
    if (!mp_sink_digest(sink, canon, limit, taker->hashes[i].digest, &taker->hashes[i].length))
      return false;
  }
  return true;
}

static void hash_wants(mpl_taker *base, mp_body_wants *wants)
{
  hash_taker *taker = MP_CONTAINER(base, hash_taker, base);
  for (size_t i = 0; i < taker->count; i++) {
    uint64_t limit;
    mp_dkim_canon canon = mp_dkim_body_form(taker->hashes[i].body, &limit);
    wants->signing |= limit == UINT64_MAX ? 1u << canon : 0;
  }
}

static int hash_finish(mpl_taker *base)
{
  hash_taker *taker = MP_CONTAINER(base, hash_taker, base);
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < taker->count; i++)
    rc = mp_dkim_body_finish(taker->hashes[i].body, taker->hashes[i].digest, &taker->hashes[i].length);
  return rc;
}

static void hash_free(mpl_taker *base)
{
  hash_taker *taker = MP_CONTAINER(base, hash_taker, base);
  for (size_t i = 0; i < taker->count; i++)
    mp_dkim_body_free(taker->hashes[i].body);
  mp_mem_free(taker);
}

static const char *const canons[] = { "simple", "relaxed", NULL };

/* core.dkim_hash(form, limit or false, form, limit or false, ... [, came]): of the body as it is, or as it came */
static int core_dkim_hash(lua_State *L)
{
  int count = lua_gettop(L) / 2;
  bool came = lua_gettop(L) % 2 == 1 && lua_toboolean(L, -1);
  mp_dkim_canon forms[HASHES_MOST];
  uint64_t limits[HASHES_MOST];
  luaL_argcheck(L, count >= 1 && count <= HASHES_MOST, 1, "one to eight forms");
  for (int i = 0; i < count; i++) {
    forms[i] = luaL_checkoption(L, 2 * i + 1, NULL, canons) == 1 ? MP_DKIM_RELAXED : MP_DKIM_SIMPLE;
    limits[i] = lua_toboolean(L, 2 * i + 2) ? (uint64_t)luaL_checkinteger(L, 2 * i + 2) : UINT64_MAX;
  }
  hash_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (hash_box){ 0 };
  luaL_setmetatable(L, MPL_DKIM_HASH);
  hash_taker *taker = mp_mem_zalloc(sizeof *taker);
  if (!taker)
    return luaL_error(L, "out of memory");
  taker->base = (mpl_taker){
    .take = hash_take, .finish = hash_finish, .given = hash_given, .wants = hash_wants, .came = came, .free = hash_free
  };
  box->taking.taker = &taker->base;
  for (int i = 0; i < count; i++) {
    if (mp_dkim_body_new(&taker->hashes[i].body, forms[i], limits[i]) < 0)
      return luaL_error(L, "out of memory");
    taker->count++;
  }
  return 1;
}

static int hash_feed(lua_State *L)
{
  return mpl_taking_feed(L, luaL_checkudata(L, 1, MPL_DKIM_HASH));
}

static int hash_gc(lua_State *L)
{
  hash_box *box = luaL_checkudata(L, 1, MPL_DKIM_HASH);
  if (box->taking.taker)
    box->taking.taker->free(box->taking.taker);
  box->taking = (mpl_taking){ .closed = true };
  return 0;
}

static mp_str field_of(lua_State *L, int index, const char *name)
{
  lua_getfield(L, index, name); /* stays on the stack: the view lasts */
  size_t len = 0;
  const char *ptr = luaL_optlstring(L, -1, "", &len);
  return mp_str_of(ptr, len);
}

static int64_t time_of(lua_State *L, int index, const char *name)
{
  lua_getfield(L, index, name);
  lua_Number value = luaL_optnumber(L, -1, -1);
  lua_pop(L, 1);
  return value >= 0 && value < TIME_MOST ? (int64_t)value : -1;
}

typedef struct signing {
  mp_dkim_sign_opts opts;
  mp_str names, over;
  bool absent;
} signing;

static void read_signing(lua_State *L, int index, signing *s)
{
  mp_str names = field_of(L, index, "headers"), form = field_of(L, index, "header_form");
  s->names = names.len ? names : mp_dkim_default_headers();
  bool named = lua_getfield(L, index, "oversign") != LUA_TNIL;
  lua_pop(L, 1);
  s->over = named ? field_of(L, index, "oversign") : mp_dkim_default_over();
  lua_getfield(L, index, "absent");
  s->absent = lua_toboolean(L, -1);
  lua_pop(L, 1);
  s->opts =
      (mp_dkim_sign_opts){ .domain = field_of(L, index, "domain"),
                           .selector = field_of(L, index, "selector"),
                           .identity = field_of(L, index, "identity"),
                           .header_canon = mp_str_eq(form, MP_STR("simple")) ? MP_DKIM_SIMPLE : MP_DKIM_RELAXED,
                           .time = time_of(L, index, "time"),
                           .end = time_of(L, index, "expires"),
                           .limit = UINT64_MAX };
}

/* The choice of fields, and the signature over them. */
static int sign(mp_buf *out, mp_str block, signing *s, mp_dkim_key *key)
{
  mp_dkim_fields *fields;
  mp_buf headers;
  mp_buf_init(&headers, VALUE_MOST, NULL);
  int rc = mp_dkim_fields_new(&fields, block);
  if (rc < 0)
    return rc;
  rc = mp_dkim_choose(&headers, fields, s->names, s->over, s->absent);
  s->opts.headers = mp_buf_view(&headers);
  if (rc == 0)
    rc = mp_dkim_fields_named(fields, MP_STR("From")) ? mp_dkim_sign(out, fields, &s->opts, key) : MP_E_NOTFOUND;
  mp_dkim_fields_free(fields);
  mp_buf_dispose(&headers);
  return rc;
}

static const char *why_not(int rc)
{
  switch (rc) {
  case MP_E_NOTFOUND:
    return "the message has no From field";
  case MP_E_INVALID:
    return "the signature would not hold: From is not signed, or domain, selector, identity or expiry are none";
  case MP_E_FULL:
  case MP_E_TOOLONG:
    return "the message's header is too long";
  default:
    return NULL;
  }
}

/* hash:sign(i, message or string, options, key) -> the value of the field; or nil, why, error */
static int hash_sign(lua_State *L)
{
  hash_box *box = luaL_checkudata(L, 1, MPL_DKIM_HASH);
  luaL_argcheck(L, box->taking.taker && box->taking.complete, 1, "the body comes first");
  hash_taker *taker = MP_CONTAINER(box->taking.taker, hash_taker, base);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= taker->count, 2, "no such hash");
  luaL_checktype(L, 4, LUA_TTABLE);
  mp_dkim_key *key = mpl_check_dkim_key(L, 5);
  signing s;
  read_signing(L, 4, &s);
  s.opts.body_canon = mp_dkim_body_form(taker->hashes[i - 1].body, &s.opts.limit);
  if (s.opts.limit != UINT64_MAX && s.opts.limit > taker->hashes[i - 1].length)
    s.opts.limit = taker->hashes[i - 1].length;
  memcpy(s.opts.body_hash, taker->hashes[i - 1].digest, MP_DKIM_DIGEST);
  mp_buf *room = mpl_push_buf(L, HEADER_MOST), *out = mpl_push_buf(L, VALUE_MOST * 2);
  int rc;
  mp_str block = mpl_header_of(L, 3, true, room, &rc);
  if (rc == 0)
    rc = sign(out, block, &s, key);
  mpl_push_str(L, mp_buf_view(out));
  mp_buf_dispose(room);
  mp_buf_dispose(out);
  return rc < 0 ? mpl_fail(L, rc, why_not(rc)) : 1;
}

/* hash:digest(i) -> its octets */
static int hash_digest(lua_State *L)
{
  hash_box *box = luaL_checkudata(L, 1, MPL_DKIM_HASH);
  luaL_argcheck(L, box->taking.taker && box->taking.complete, 1, "the body comes first");
  hash_taker *taker = MP_CONTAINER(box->taking.taker, hash_taker, base);
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= taker->count, 2, "no such hash");
  lua_pushlstring(L, (const char *)taker->hashes[i - 1].digest, MP_DKIM_DIGEST);
  return 1;
}

int mpl_open_dkim(lua_State *L)
{
  static const luaL_Reg verifier[] = {
    { "count", verifier_count },       { "signature", verifier_signature },
    { "question", verifier_question }, { "feed", verifier_feed },
    { "judge", verifier_judge },       { "refuse", verifier_refuse },
    { "close", verifier_gc },          { NULL, NULL },
  };
  static const luaL_Reg hash[] = {
    { "feed", hash_feed }, { "sign", hash_sign }, { "digest", hash_digest }, { "close", hash_gc }, { NULL, NULL }
  };
  static const luaL_Reg functions[] = {
    { "dkim_verifier", core_dkim_verifier },
    { "dkim_hash", core_dkim_hash },
    { NULL, NULL },
  };
  mpl_class(L, MPL_DKIM_VERIFY, verifier, verifier_gc);
  mpl_class(L, MPL_DKIM_HASH, hash, hash_gc);
  luaL_setfuncs(L, functions, 0);
  mpl_open_arc(L);
  return mpl_open_dkim_key(L);
}
