/* bind/transaction.c -- a transaction out of Lua tables: addresses, and the parameters of MAIL and RCPT by the names that a server's session has for them. */
#include "bind/client.h"

#include "smtp/text.h"

enum { STRINGS_MOST = 64 << 20, REPLIES_MOST = 4 << 20, RCPTS_MOST = 100000 };

void mpl_mail_init(mpl_mail *mail)
{
  *mail = (mpl_mail){ 0 };
  mp_transaction_init(&mail->tx, NULL);
  mp_arena_init(&mail->strings, STRINGS_MOST, NULL);
}

void mpl_mail_dispose(mpl_mail *mail)
{
  mp_mem_free(mail->tx.rcpts);
  mail->tx.rcpts = NULL;
  mail->room = 0;
  mp_transaction_dispose(&mail->tx);
  mp_arena_dispose(&mail->strings);
}

/* Pushes field `name` of the table at `index`. No function is called for it: that could begin an operation on the very connection that this one
 * is read for. */
static int raw_field(lua_State *L, int index, const char *name)
{
  index = lua_absindex(L, index);
  lua_pushstring(L, name);
  return lua_rawget(L, index);
}

/* A copy of the string on top, which is popped. False: not a string. Raises when there is no memory. */
static bool take_str(lua_State *L, mpl_mail *mail, mp_str *out)
{
  bool is = lua_type(L, -1) == LUA_TSTRING, ok = true;
  if (is) {
    size_t len;
    const char *ptr = lua_tolstring(L, -1, &len);
    *out = len ? mp_arena_str(&mail->strings, mp_str_of(ptr, len), &ok) : MP_STR("");
  }
  if (!ok)
    luaL_error(L, "out of memory");
  lua_pop(L, 1);
  return is;
}

/* Field `name` of the table at `index`, when it is there: 1 read, 0 absent, -1 something else. */
static int str_field(lua_State *L, int index, const char *name, mpl_mail *mail, mp_str *out)
{
  if (raw_field(L, index, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  return take_str(L, mail, out) ? 1 : -1;
}

static int int_field(lua_State *L, int index, const char *name, lua_Integer *out)
{
  int kind = raw_field(L, index, name), is = 0;
  if (kind != LUA_TNIL)
    *out = lua_tointegerx(L, -1, &is);
  lua_pop(L, 1);
  return kind == LUA_TNIL ? 0 : is ? 1 : -1;
}

static bool flag_field(lua_State *L, int index, const char *name)
{
  raw_field(L, index, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

/* `plain` as xtext, in the transaction's own memory, behind `prefix`. */
static bool xtext(mpl_mail *mail, mp_str prefix, mp_str plain, mp_str *out)
{
  mp_buf buf;
  mp_buf_init(&buf, 65536, NULL);
  bool ok = mp_buf_str(&buf, prefix) == 0 && mp_xtext_encode(&buf, plain) == 0;
  if (ok)
    *out = mp_arena_str(&mail->strings, mp_buf_view(&buf), &ok);
  mp_buf_dispose(&buf);
  return ok;
}

static const char *mail_params(lua_State *L, int at, mpl_mail *mail)
{
  mp_mail_params *p = &mail->tx.params;
  mp_str s;
  lua_Integer n = 0;
  int got;
  if ((got = int_field(L, at, "size", &n)) != 0) {
    if (got < 0 || n < 0)
      return "size: a whole number of octets expected";
    p->size = (uint64_t)n;
    p->given |= MP_PARAM_SIZE;
  }
  if ((got = str_field(L, at, "body", mail, &s)) != 0) {
    static const char *const bodies[] = { "7BIT", "8BITMIME", "BINARYMIME" };
    int kind = -1;
    for (int i = 0; got > 0 && i < 3; i++)
      kind = mp_str_ieq(s, mp_str_c(bodies[i])) ? i : kind;
    if (kind < 0)
      return "body: \"7BIT\", \"8BITMIME\" or \"BINARYMIME\" expected";
    p->body = (mp_body)kind;
    p->given |= MP_PARAM_BODY;
  }
  if (flag_field(L, at, "smtputf8"))
    p->given |= MP_PARAM_SMTPUTF8;
  if (flag_field(L, at, "requiretls"))
    p->given |= MP_PARAM_REQUIRETLS;
  if ((got = str_field(L, at, "ret", mail, &s)) != 0) {
    if (got < 0 || !(mp_str_ieq(s, MP_STR("FULL")) || mp_str_ieq(s, MP_STR("HDRS"))))
      return "ret: \"FULL\" or \"HDRS\" expected";
    p->ret = mp_str_ieq(s, MP_STR("FULL")) ? MP_RET_FULL : MP_RET_HDRS;
    p->given |= MP_PARAM_RET;
  }
  if ((got = str_field(L, at, "envid", mail, &s)) != 0) {
    if (got < 0 || s.len > 100 || !xtext(mail, MP_STR_NULL, s, &p->envid))
      return "envid: a string of at most 100 characters expected";
    p->given |= MP_PARAM_ENVID;
  }
  if ((got = int_field(L, at, "by", &n)) != 0) {
    mp_str mode = MP_STR("N");
    if (got < 0 || n < -999999999 || n > 999999999)
      return "by: seconds expected";
    if (str_field(L, at, "by_mode", mail, &mode) < 0 ||
        !(mp_str_ieq(mode, MP_STR("R")) || mp_str_ieq(mode, MP_STR("N"))))
      return "by_mode: \"R\" or \"N\" expected";
    p->by_seconds = n;
    p->by_mode = (char)mp_ascii_upper((unsigned char)mode.ptr[0]);
    p->by_trace = flag_field(L, at, "by_trace");
    p->given |= MP_PARAM_BY;
  }
  if ((got = int_field(L, at, "holdfor", &n)) != 0) {
    if (got < 0 || n < 0)
      return "holdfor: seconds expected";
    p->hold_for = (uint64_t)n;
    p->given |= MP_PARAM_HOLDFOR;
  }
  if ((got = str_field(L, at, "holduntil", mail, &s)) != 0) {
    if (got < 0 || int_field(L, at, "holduntil_time", &n) <= 0)
      return "holduntil: a date-time expected, and holduntil_time in seconds since 1970";
    p->hold_until = s;
    p->hold_until_s = n;
    p->given |= MP_PARAM_HOLDUNTIL;
  }
  if ((got = int_field(L, at, "priority", &n)) != 0) {
    if (got < 0 || n < -9 || n > 9)
      return "priority: -9 to 9 expected";
    p->priority = (int)n;
    p->given |= MP_PARAM_PRIORITY;
  }
  if ((got = str_field(L, at, "auth", mail, &s)) != 0) {
    if (got < 0 || !xtext(mail, MP_STR_NULL, s, &p->auth))
      return "auth: an address expected";
    p->given |= MP_PARAM_AUTH;
  }
  return NULL;
}

static const char *notify(lua_State *L, int at, mp_rcpt_params *p)
{
  static const struct {
    const char *name;
    unsigned bit;
  } kinds[] = { { "NEVER", MP_NOTIFY_NEVER },
                { "SUCCESS", MP_NOTIFY_SUCCESS },
                { "FAILURE", MP_NOTIFY_FAILURE },
                { "DELAY", MP_NOTIFY_DELAY } };
  int kind = raw_field(L, at, "notify");
  if (kind != LUA_TNIL && kind != LUA_TTABLE) {
    lua_pop(L, 1);
    return "notify: a table such as { FAILURE = true, DELAY = true } expected";
  }
  unsigned set = 0;
  for (size_t i = 0; kind == LUA_TTABLE && i < sizeof kinds / sizeof *kinds; i++)
    if (flag_field(L, lua_gettop(L), kinds[i].name))
      set |= kinds[i].bit;
  lua_pop(L, 1);
  if (set & MP_NOTIFY_NEVER && set != MP_NOTIFY_NEVER)
    return "notify: NEVER stands alone";
  p->notify = set;
  p->given |= set ? MP_PARAM_NOTIFY : 0;
  return NULL;
}

static const char *rcpt_params(lua_State *L, int at, mpl_mail *mail, mp_rcpt_params *p)
{
  mp_str orcpt, type = MP_STR("rfc822");
  const char *why = notify(L, at, p);
  if (why)
    return why;
  int got = str_field(L, at, "orcpt", mail, &orcpt);
  if (got == 0)
    return NULL;
  if (got < 0 || str_field(L, at, "orcpt_type", mail, &type) < 0 || type.len > 64)
    return "orcpt: an address expected";
  char prefix[72];
  memcpy(prefix, type.ptr, type.len);
  prefix[type.len] = ';';
  if (!xtext(mail, mp_str_of(prefix, type.len + 1), orcpt, &p->orcpt))
    return "orcpt: too long";
  p->given |= MP_PARAM_ORCPT;
  return NULL;
}

/* The recipient on top of the stack; popped. */
static const char *recipient(lua_State *L, mpl_mail *mail, mp_send_rcpt *to)
{
  *to = (mp_send_rcpt){ 0 };
  if (lua_type(L, -1) == LUA_TSTRING) {
    take_str(L, mail, &to->address);
    return NULL;
  }
  if (lua_type(L, -1) != LUA_TTABLE) {
    lua_pop(L, 1);
    return "to: addresses expected";
  }
  int at = lua_gettop(L);
  const char *why = NULL;
  if (str_field(L, at, "address", mail, &to->address) <= 0 || str_field(L, at, "ascii", mail, &to->ascii) < 0)
    why = "to: an address expected";
  else if (raw_field(L, at, "params") == LUA_TTABLE)
    why = rcpt_params(L, at + 1, mail, &to->params);
  lua_settop(L, at - 1);
  return why;
}

static const char *recipients(lua_State *L, int index, mpl_mail *mail)
{
  int kind = raw_field(L, index, "to"), at = lua_gettop(L);
  size_t count = kind == LUA_TSTRING ? 1 : kind == LUA_TTABLE ? (size_t)lua_rawlen(L, at) : 0;
  if (count == 0 || count > RCPTS_MOST) {
    lua_pop(L, 1);
    return count ? "to: at most 100,000 recipients" : "to: an address, or a list of them expected";
  }
  if (count > mail->room) {
    mp_send_rcpt *more = mp_mem_realloc(mail->tx.rcpts, count * sizeof *more);
    if (!more)
      luaL_error(L, "out of memory");
    mail->tx.rcpts = more;
    mail->room = count;
  }
  mail->tx.count = count;
  const char *why = NULL;
  for (size_t i = 0; i < count && !why; i++) {
    if (kind == LUA_TSTRING)
      lua_pushvalue(L, at);
    else
      lua_rawgeti(L, at, (lua_Integer)i + 1);
    why = recipient(L, mail, &mail->tx.rcpts[i]);
  }
  lua_pop(L, 1);
  return why;
}

const char *mpl_mail_read(lua_State *L, int index, mpl_mail *mail)
{
  mp_send_rcpt *rcpts = mail->tx.rcpts;
  mp_arena_dispose(&mail->strings);
  mp_transaction_dispose(&mail->tx);
  mp_transaction_init(&mail->tx, NULL);
  mail->tx.rcpts = rcpts;
  if (str_field(L, index, "from", mail, &mail->tx.sender) <= 0)
    return "from: an address expected, \"\" for the null sender";
  if (str_field(L, index, "from_ascii", mail, &mail->tx.sender_ascii) < 0)
    return "from_ascii: a string expected";
  const char *why = recipients(L, index, mail);
  if (!why && raw_field(L, index, "params") == LUA_TTABLE) {
    why = mail_params(L, lua_gettop(L), mail);
    lua_pop(L, 1);
  } else if (!why) {
    lua_pop(L, 1);
  }
  return why;
}

/* ---- what a string says about itself --------------------------------------------------------------------------------- */

void mpl_mail_look(mpl_mail *mail, mp_str octets)
{
  mp_mail_params *p = &mail->tx.params;
  bool eight, eight_in_head;
  bool canonical = mp_text_canonical(octets, &eight);
  if (!(p->given & MP_PARAM_BODY) && eight) {
    p->given |= MP_PARAM_BODY;
    p->body = MP_BODY_8BIT;
    const char *end = memmem(octets.ptr, octets.len, "\r\n\r\n", 4);
    if (!end)
      end = memmem(octets.ptr, octets.len, "\n\n", 2);
    mp_text_canonical(mp_str_sub(octets, 0, end ? (size_t)(end - octets.ptr) : octets.len), &eight_in_head);
    if (eight_in_head)
      p->given |= MP_PARAM_SMTPUTF8;
  }
  mail->tx.canonical = (p->given & MP_PARAM_BODY && p->body == MP_BODY_BINARY) || canonical;
  if (!(p->given & MP_PARAM_SIZE)) {
    p->given |= MP_PARAM_SIZE;
    p->size = octets.len;
  }
}
