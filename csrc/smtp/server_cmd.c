/* Command lines: which verb, whether it may stand here, and the verbs that are over in a few lines. */
#include "smtp/server_impl.h"

enum {
  C_LAST = 1, /* ends a pipelined group (RFC 2920 3.1): nothing may follow before its reply was read */
  C_BARE = 2, /* takes no argument */
  C_IDLE = 4, /* moves nothing: too many in a row are errors */
  C_SMTP = 8, /* not in LMTP (RFC 2033 4.1) */
  C_LMTP = 16 /* only there */
};

#define ANY     (IN(START) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(BDAT))
#define OUTSIDE (IN(START) | IN(READY))

struct command {
  uint64_t verb;   /* packed as by pack() */
  unsigned states; /* set of states the verb is legal in; else 503 */
  unsigned flags;
  mp_srv_run *run;
};

static mp_srv_run run_rset, run_noop, run_quit, run_vrfy, run_expn, run_help, run_known;

#define VERB(a, b, c, d) ((uint64_t)(a) << 24 | (uint64_t)(b) << 16 | (uint64_t)(c) << 8 | (uint64_t)(d))
#define LONG(hi, lo)     ((hi) << 32 | (lo))

/* The most frequent first: the list is walked. */
static const struct command commands[] = {
  { VERB('R', 'C', 'P', 'T'), IN(MAIL) | IN(RCPT), 0, mp_srv_rcpt },
  { VERB('M', 'A', 'I', 'L'), OUTSIDE, 0, mp_srv_mail },
  { VERB('D', 'A', 'T', 'A'), ANY, C_LAST | C_BARE, mp_srv_data },
  { VERB('B', 'D', 'A', 'T'), ANY, 0, mp_srv_bdat },
  { VERB('E', 'H', 'L', 'O'), ANY, C_LAST | C_SMTP, mp_srv_ehlo },
  { VERB('L', 'H', 'L', 'O'), ANY, C_LAST | C_LMTP, mp_srv_lhlo },
  { VERB('H', 'E', 'L', 'O'), ANY, C_LAST | C_SMTP, mp_srv_helo },
  { VERB('R', 'S', 'E', 'T'), ANY, C_BARE | C_IDLE, run_rset },
  { VERB('Q', 'U', 'I', 'T'), ANY, C_BARE, run_quit },
  { VERB('A', 'U', 'T', 'H'), IN(READY), C_LAST, mp_srv_auth },
  { LONG(VERB('S', 'T', 'A', 'R'), VERB('T', 'T', 'L', 'S')), IN(READY), C_LAST, mp_srv_starttls },
  { VERB('N', 'O', 'O', 'P'), ANY, C_IDLE, run_noop },
  { VERB('V', 'R', 'F', 'Y'), ANY, C_IDLE, run_vrfy },
  { VERB('E', 'X', 'P', 'N'), ANY, C_IDLE, run_expn },
  { VERB('H', 'E', 'L', 'P'), ANY, C_IDLE, run_help },
  { LONG(VERB(0, 'X', 'C', 'L'), VERB('I', 'E', 'N', 'T')), ANY, C_LAST, mp_srv_xclient },
  { VERB('E', 'T', 'R', 'N'), ANY, 0, run_known },
  { VERB('T', 'U', 'R', 'N'), ANY, 0, run_known },
  { VERB('S', 'E', 'N', 'D'), ANY, 0, run_known },
  { VERB('S', 'O', 'M', 'L'), ANY, 0, run_known },
  { VERB('S', 'A', 'M', 'L'), ANY, 0, run_known },
};

/* Letters in upper case, the last in the lowest octet; 0 for what is no verb. */
static uint64_t pack(mp_str verb)
{
  if (verb.len < 4 || verb.len > 8)
    return 0;
  uint64_t packed = 0;
  for (size_t i = 0; i < verb.len; i++) {
    unsigned char c = mp_ascii_upper((unsigned char)verb.ptr[i]);
    if (c < 'A' || c > 'Z')
      return 0;
    packed = packed << 8 | c;
  }
  return packed;
}

/* ---- the line's ceiling, and what is no SMTP at all --------------------------------------------------------------- */

/* RFC 5321 4.5.3.1.4 gives 512 octets; each extension that is switched on adds what its RFC says. */
size_t mp_srv_command_limit(const mp_server_opts *opts)
{
  static const struct {
    unsigned extension;
    unsigned short more;
  } allowances[] = {
    { MP_EXT_SIZE, 26 },          /* RFC 1870 3 */
    { MP_EXT_8BITMIME, 17 },      /* RFC 6152 2 */
    { MP_EXT_SMTPUTF8, 10 },      /* RFC 6531 3.1 */
    { MP_EXT_DSN, 528 },          /* RFC 3461 5: of RCPT, the longer */
    { MP_EXT_DELIVERBY, 17 },     /* RFC 2852 3 */
    { MP_EXT_FUTURERELEASE, 34 }, /* RFC 4865 3 */
    { MP_EXT_MT_PRIORITY, 15 },   /* RFC 6710 2 */
    { MP_EXT_REQUIRETLS, 11 },    /* " REQUIRETLS" */
    { MP_EXT_AUTH, 500 },         /* RFC 4954 3 */
  };
  size_t limit = 512;
  for (size_t i = 0; i < sizeof allowances / sizeof *allowances; i++)
    if (opts->extensions & allowances[i].extension)
      limit += allowances[i].more;
  return limit;
}

/* The first octets of the line that is partly held and goes on with `in`. */
static size_t prefix(const mp_server *srv, mp_str in, char out[8])
{
  mp_str held = mp_buf_view(&srv->line.held);
  if (srv->line.skipping)
    return 0;
  size_t n = held.len < 8 ? held.len : 8;
  size_t more = in.len < 8 - n ? in.len : 8 - n;
  if (n)
    memcpy(out, held.ptr, n);
  if (more)
    memcpy(out + n, in.ptr, more);
  return n + more;
}

void mp_srv_set_limit(mp_server *srv, mp_str in)
{
  char head[8];
  srv->line.limit = srv->command_limit;
  unsigned char first = (unsigned char)(srv->line.held.len ? srv->line.held.ptr[srv->line.held.off] : in.ptr[0]);
  if (mp_ascii_upper(first) == 'A' && prefix(srv, in, head) >= 5 &&
      mp_str_ieq(mp_str_of(head, 5), MP_STR("AUTH ")))
    srv->line.limit = MP_SRV_AUTH_LINE;
}

bool mp_srv_foreign(const mp_server *srv, mp_str in)
{
  static const char methods[][9] = { "GET ",     "POST ",  "PUT ",     "HEAD ",  "DELETE ",
                                     "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", "PRI " };
  unsigned char first = (unsigned char)(srv->line.held.len ? srv->line.held.ptr[srv->line.held.off] : in.ptr[0]);
  if (first != 0x16 && !memchr("GPHDOCT", first, 7))
    return false;
  char head[8];
  size_t n = prefix(srv, in, head);
  if (n >= 2 && head[0] == 0x16 && head[1] == 0x03) /* a handshake record of TLS, any version */
    return true;
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
    size_t len = strlen(methods[i]);
    if (n >= len && memcmp(head, methods[i], len) == 0)
      return true;
  }
  return false;
}

static bool is_http(mp_str line)
{
  return line.len > 9 && mp_str_istarts(mp_str_sub(line, line.len - 9, 9), MP_STR(" HTTP/"));
}

/* ---- dispatch ---------------------------------------------------------------------------------------------------- */

static const struct command *find(uint64_t verb)
{
  for (size_t i = 0; verb && i < sizeof commands / sizeof *commands; i++)
    if (commands[i].verb == verb)
      return &commands[i];
  return NULL;
}

/* Why a verb that is known may not stand here. */
static void out_of_order(mp_server *srv, const struct command *cmd)
{
  if (cmd->run == mp_srv_mail)
    BAD(srv, "503 5.5.1 Sender already given");
  else if (cmd->run == mp_srv_rcpt && srv->state == ST_BDAT)
    BAD(srv, "503 5.5.1 BDAT has begun");
  else if (cmd->run == mp_srv_rcpt)
    BAD(srv, "503 5.5.1 Send MAIL first");
  else if (srv->state != ST_START)
    BAD(srv, "503 5.5.1 Not permitted in a transaction");
  else if (srv->opts->protocol == MP_PROTOCOL_LMTP)
    BAD(srv, "503 5.5.1 Send LHLO first");
  else
    BAD(srv, "503 5.5.1 Send EHLO first");
}

static bool over_session(const mp_server *srv)
{
  return srv->opts->session_ms && (srv->state == ST_START || srv->state == ST_READY) &&
         srv->now_ms - srv->start_ms >= srv->opts->session_ms;
}

void mp_srv_command(mp_server *srv, mp_str line)
{
  while (line.len && (line.ptr[line.len - 1] == ' ' || line.ptr[line.len - 1] == '\t'))
    line.len--; /* RFC 5321 4.1.1 */
  mp_ssize space = mp_str_find(line, ' ', 0);
  mp_str verb = mp_str_sub(line, 0, space < 0 ? line.len : (size_t)space);
  mp_str args = mp_str_sub(line, verb.len + 1, line.len);
  const struct command *cmd = find(pack(verb));
  bool lmtp = srv->opts->protocol == MP_PROTOCOL_LMTP;
  if (cmd && (cmd->flags & (lmtp ? C_SMTP : C_LMTP)))
    cmd = NULL;

  bool quit = cmd && cmd->run == run_quit;
  if (srv->line_early && !quit && !mp_srv_early(srv))
    return;
  /* Without PIPELINING announced every command ends a group. */
  srv->ends_group = (cmd && (cmd->flags & C_LAST)) || !(srv->announced & MP_EXT_PIPELINING);
  srv->behind = srv->ends_group && srv->more && !quit;
  if (over_session(srv) && !quit) {
    mp_srv_421(srv, "4.4.2", "Session too long", "session too long");
    return;
  }
  if (!cmd) {
    if (is_http(line))
      mp_srv_finish(srv, "not SMTP");
    else
      BAD(srv, "500 5.5.1 Command not recognized");
    return;
  }
  if (!(cmd->flags & C_IDLE))
    srv->idle = 0;
  else if (srv->opts->idle_commands && ++srv->idle > srv->opts->idle_commands && !mp_srv_counted(srv))
    return;
  if (!(cmd->states & (1u << srv->state)))
    out_of_order(srv, cmd);
  else if (args.len && (cmd->flags & C_BARE))
    BAD(srv, "501 5.5.4 No argument allowed");
  else
    cmd->run(srv, args);
}

/* ---- the short verbs --------------------------------------------------------------------------------------------- */

static void run_rset(mp_server *srv, mp_str args)
{
  (void)args;
  if (srv->env) {
    mp_srv_forget(srv);
    mp_srv_push(srv, MP_EV_RESET);
    mp_srv_enter(srv, mp_srv_base(srv));
  }
  SAY(srv, "250 2.0.0 OK");
}

static void run_noop(mp_server *srv, mp_str args)
{
  (void)args;
  SAY(srv, "250 2.0.0 OK");
}

static void run_quit(mp_server *srv, mp_str args)
{
  (void)args;
  mp_str host = srv->opts->hostname;
  bool codes = srv->announced & MP_EXT_ENHANCEDSTATUSCODES;
  (void)mp_buf_fmt(&srv->out, "221 %s%.*s Bye\r\n", codes ? "2.0.0 " : "", (int)host.len, host.ptr);
  mp_srv_push(srv, MP_EV_QUIT);
  mp_srv_finish(srv, "quit");
}

/* RFC 5321 3.5.3 and 7.3: it says nothing about anybody. RFC 6531 3.7.4.2: octets outside ASCII need the parameter SMTPUTF8. */
static void run_vrfy(mp_server *srv, mp_str args)
{
  mp_str flag = MP_STR(" SMTPUTF8");
  bool utf8 = (srv->announced & MP_EXT_SMTPUTF8) && args.len > flag.len &&
              mp_str_ieq(mp_str_sub(args, args.len - flag.len, flag.len), flag);
  bool ascii = true, clean = args.len > 0;
  for (size_t i = 0; i < args.len; i++) {
    unsigned char c = (unsigned char)args.ptr[i];
    ascii = ascii && c < 0x80;
    clean = clean && c >= 0x20 && c != 0x7f;
  }
  if (!clean)
    BAD(srv, "501 5.5.4 Syntax: VRFY address");
  else if (!ascii && !(utf8 && mp_str_utf8(args)))
    BAD(srv, "553 5.6.7 Address outside ASCII without SMTPUTF8");
  else
    SAY(srv, "252 2.5.0 Cannot verify, but will accept mail for what RCPT accepts");
}

static void run_expn(mp_server *srv, mp_str args)
{
  (void)args;
  SAY(srv, "502 5.5.1 EXPN not implemented");
}

static void run_help(mp_server *srv, mp_str args)
{
  (void)args;
  if (srv->opts->protocol == MP_PROTOCOL_LMTP)
    SAY(srv, "214 2.0.0 LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH");
  else
    SAY(srv, "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH");
}

static void run_known(mp_server *srv, mp_str args)
{
  (void)args;
  BAD(srv, "502 5.5.1 Command not implemented");
}
