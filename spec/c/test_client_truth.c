/* What the client says of a recipient, held against what the server knows: a server that keeps the rules of its state and answers at random, message
 * after message on one connection. Nobody is delivered who was not accepted, and nobody who was accepted is called refused or deferred. */
#include "support/client_wire.h"

enum { RCPTS = 5, BODY_MOST = 400, ROUNDS = 30000 };

static uint64_t seed;

static unsigned chance(unsigned of)
{
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(seed >> 33) % of;
}

typedef struct server {
  bool lmtp, pipelining;
  bool begun, refused_chunk, closed;
  bool in_data;
  uint64_t chunk; /* octets of a chunk that are yet to come */
  bool chunk_last, chunk_bad;
  size_t at; /* in what the client has said */
  unsigned accepted[RCPTS], accepted_count;
  unsigned has[RCPTS]; /* how many copies of the message somebody was given */
  char body[BODY_MOST * 4];
  size_t body_len;
  char wanted[BODY_MOST * 2];
  size_t wanted_len;
  char replies[4096];
  size_t replies_len;
} server;

static void say(server *s, const char *line)
{
  size_t len = strlen(line);
  if (s->closed || s->replies_len + len > sizeof s->replies)
    return;
  memcpy(s->replies + s->replies_len, line, len);
  s->replies_len += len;
}

static const char *refusal(void)
{
  static const char *const list[] = { "450 4.2.1 later\r\n",  "550 5.1.1 no\r\n",   "452 4.5.3 many\r\n",
                                      "552 5.5.3 many\r\n",   "452 4.2.2 full\r\n", "354 odd\r\n",
                                      "550-no\r\n550 no\r\n", "503 5.5.1 what\r\n" };
  return list[chance(8)];
}

static void forget(server *s)
{
  s->begun = s->refused_chunk = false;
  s->accepted_count = 0;
  s->body_len = 0;
}

static void give(server *s, unsigned rcpt)
{
  s->has[rcpt]++;
  if (s->body_len != s->wanted_len || memcmp(s->body, s->wanted, s->body_len) != 0)
    (void)check_eq_str(__FILE__, __LINE__, "the message", mp_str_of(s->body, s->body_len),
                       mp_str_of(s->wanted, s->wanted_len));
}

static void no_354(server *s)
{
  const char *line = refusal();
  say(s, line[0] == '3' ? "451 4.3.0 later\r\n" : line);
}

/* The end of a message for those who were accepted. */
static void end(server *s)
{
  bool all = chance(3) > 0;
  if (!s->lmtp && all)
    for (unsigned i = 0; i < s->accepted_count; i++)
      give(s, s->accepted[i]);
  if (!s->lmtp && all)
    say(s, chance(2) ? "250 2.0.0 taken\r\n" : "250-taken\r\n250 it is\r\n");
  else if (!s->lmtp)
    no_354(s);
  for (unsigned i = 0; s->lmtp && i < s->accepted_count; i++) {
    bool yes = chance(3) > 0;
    if (yes)
      give(s, s->accepted[i]);
    if (yes)
      say(s, "250 2.1.5 taken\r\n");
    else
      no_354(s);
  }
  if (chance(40) == 0)
    say(s, "250 2.0.0 and more\r\n"); /* which nobody has asked for, and which answers nothing */
  bool failed = !all || s->lmtp;
  forget(s);
  s->refused_chunk = failed && s->refused_chunk;
}

static void chunk_over(server *s)
{
  bool bad = s->chunk_bad || s->refused_chunk || !s->accepted_count;
  if (bad || (!s->chunk_last && chance(8) == 0)) {
    s->refused_chunk = true;
    s->body_len = 0;
    say(s, bad ? "503 5.5.1 nobody\r\n" : "452 4.3.1 full\r\n");
    if (s->chunk_last && !s->lmtp)
      forget(s);
    return;
  }
  if (s->chunk_last)
    end(s);
  else
    say(s, "250 2.0.0 chunk\r\n");
}

static void command(server *s, mp_str line)
{
  if (chance(400) == 0) {
    say(s, chance(2) ? "421 4.3.2 bye\r\n" : "");
    s->closed = true;
    return;
  }
  if (mp_str_istarts(line, MP_STR("RSET"))) {
    forget(s);
    say(s, "250 2.0.0 ok\r\n");
  } else if (mp_str_istarts(line, MP_STR("MAIL"))) {
    if (s->begun || s->refused_chunk) {
      say(s, "503 5.5.1 nested\r\n");
      CHECK(!s->begun);
    } else if (chance(8) == 0) {
      say(s, refusal());
    } else {
      s->begun = true;
      say(s, "250 2.1.0 ok\r\n");
    }
  } else if (mp_str_istarts(line, MP_STR("RCPT TO:<r"))) {
    unsigned rcpt = (unsigned)(line.ptr[10] - '0');
    if (!s->begun) {
      say(s, "503 5.5.1 no MAIL\r\n");
    } else if (chance(3) == 0) {
      say(s, refusal());
    } else {
      s->accepted[s->accepted_count++] = rcpt;
      say(s, chance(2) ? "250 2.1.5 ok\r\n" : "251 2.1.5 elsewhere\r\n");
    }
  } else if (mp_str_istarts(line, MP_STR("DATA"))) {
    if ((!s->accepted_count && chance(2)) || chance(8) == 0) {
      no_354(s);
      if (chance(2))
        forget(s);
    } else {
      s->in_data = true;
      s->body_len = 0;
      say(s, "354 go on\r\n");
    }
  } else if (mp_str_istarts(line, MP_STR("BDAT "))) {
    s->chunk = 0;
    size_t i = 5;
    while (i < line.len && line.ptr[i] >= '0' && line.ptr[i] <= '9')
      s->chunk = s->chunk * 10 + (uint64_t)(line.ptr[i++] - '0');
    s->chunk_last = line.ptr[i] == ' ';
    s->chunk_bad = !s->begun;
    if (s->chunk == 0)
      chunk_over(s);
  } else {
    (void)check_fail(__FILE__, __LINE__, "a command that nobody knows: %.*s", (int)line.len, line.ptr);
  }
}

static void keep(server *s, const char *ptr, size_t len)
{
  if (s->body_len + len <= sizeof s->body) {
    memcpy(s->body + s->body_len, ptr, len);
    s->body_len += len;
  }
}

/* Hears what the client has said, as far as it is whole. */
static void hear(server *s, const cwire_text *said)
{
  while (!s->closed && s->at < said->len) {
    mp_str rest = mp_str_of(said->ptr + s->at, said->len - s->at);
    if (s->chunk) {
      size_t n = rest.len < s->chunk ? rest.len : (size_t)s->chunk;
      keep(s, rest.ptr, n);
      s->at += n;
      s->chunk -= n;
      if (s->chunk == 0)
        chunk_over(s);
      continue;
    }
    mp_ssize lf = mp_str_find(rest, '\n', 0);
    if (lf < 0)
      return;
    s->at += (size_t)lf + 1;
    mp_str line = mp_str_sub(rest, 0, (size_t)lf + 1);
    if (!s->in_data) {
      command(s, line);
    } else if (line.len == 3 && line.ptr[0] == '.') {
      s->in_data = false;
      if (s->accepted_count) {
        end(s);
      } else {
        forget(s);
        if (!s->lmtp)
          say(s, "554 5.5.1 nobody\r\n");
      }
    } else {
      size_t skip = line.ptr[0] == '.' ? 1 : 0;
      keep(s, line.ptr + skip, line.len - skip);
    }
  }
}

static size_t make_body(char *to, bool canonical, server *s)
{
  static const char *const pieces[] = { "a",         ".",      "\r\n", "..", "hello",
                                        "\r\n.\r\n", "\r\n..", "\n",   "\r", "\n.\n" };
  size_t len = 0, count = 1 + chance(20);
  for (size_t i = 0; i < count; i++) {
    const char *piece = pieces[chance(canonical ? 7 : 10)];
    memcpy(to + len, piece, strlen(piece));
    len += strlen(piece);
  }
  if (canonical) {
    memcpy(to + len, "\r\n", 2);
    len += 2;
  }
  s->wanted_len = 0;
  for (size_t i = 0; i < len; i++) {
    bool cr = to[i] == '\r', lf = to[i] == '\n';
    if (cr && i + 1 < len && to[i + 1] == '\n')
      i++;
    if (cr || lf)
      s->wanted[s->wanted_len++] = '\r';
    s->wanted[s->wanted_len++] = cr || lf ? '\n' : to[i];
  }
  if (s->wanted_len && s->wanted[s->wanted_len - 1] != '\n') {
    s->wanted[s->wanted_len++] = '\r';
    s->wanted[s->wanted_len++] = '\n';
  }
  return len;
}

static void judge(const server *s, const mp_send_rcpt *rcpts, size_t count, uint64_t began)
{
  for (size_t i = 0; i < count; i++) {
    mp_rcpt_state state = (mp_rcpt_state)rcpts[i].result.state;
    bool ok = s->has[i] <= 1;
    switch (state) {
    case MP_RCPT_DELIVERED:
      ok = s->has[i] == 1;
      break;
    case MP_RCPT_UNKNOWN:
      break;
    case MP_RCPT_ACCEPTED:
      ok = false;
      break;
    default:
      ok = s->has[i] == 0;
    }
    if (!CHECK(ok))
      printf("seed %llu: recipient %zu is %s, and has %u\n", (unsigned long long)began, i,
             mp_rcpt_state_name(state), s->has[i]);
  }
}

/* Feeds what the server says until neither has more to say; then the operation is over, or the connection. */
static void converse(cwire *c, server *s)
{
  for (;;) {
    cwire_pump(c);
    hear(s, &c->said);
    if (!s->replies_len)
      break;
    char copy[sizeof s->replies];
    size_t len = s->pipelining && chance(3) ? 1 + chance((unsigned)s->replies_len) : s->replies_len;
    memcpy(copy, s->replies, len);
    memmove(s->replies, s->replies + len, s->replies_len - len);
    s->replies_len -= len;
    cwire_feed(c, copy, len);
  }
  if (s->closed && !c->closed) {
    mp_client_lost(c->cl, MP_E_EOF, "gone");
    cwire_pump(c);
  }
}

static void one_message(cwire *c, server *s, uint64_t began)
{
  char names[RCPTS][64], octets[BODY_MOST];
  mp_send_rcpt rcpts[RCPTS];
  mp_transaction tx;
  size_t count = 1 + chance(RCPTS);
  memset(rcpts, 0, sizeof rcpts);
  memset(s->has, 0, sizeof s->has);
  for (size_t i = 0; i < count; i++) {
    snprintf(names[i], sizeof names[i], "r%zu@d%zu.example", i, i % 2);
    rcpts[i].address = mp_str_c(names[i]);
  }
  bool canonical = chance(2);
  size_t len = make_body(octets, canonical, s);
  mp_transaction_init(&tx, NULL);
  tx.sender = MP_STR("me@example.net");
  tx.rcpts = rcpts;
  tx.count = count;
  tx.canonical = canonical;
  if (chance(3)) {
    tx.params.given = MP_PARAM_SIZE;
    tx.params.size = len;
  }
  for (int go = 0; go < 10 && !c->closed; go++) {
    c->body = mp_str_of(octets, len);
    c->body_over = false;
    c->done = (mp_client_result){ .rc = 0 };
    if (!CHECK_EQ_INT(mp_client_send(c->cl, &tx, c->now), 0))
      break;
    converse(c, s);
    if (!CHECK(c->closed || mp_client_busy(c->cl) == MP_OP_NONE))
      printf("seed %llu: it waits in %s\n", (unsigned long long)began, mp_client_state(c->cl));
    if (mp_client_busy(c->cl) != MP_OP_NONE)
      mp_client_lost(c->cl, MP_E_EOF, "stuck");
    cwire_pump(c);
    if (!c->done.again || mp_client_spent(c->cl))
      break;
  }
  judge(s, rcpts, count, began);
  mp_transaction_dispose(&tx);
}

TEST(what_is_said_of_recipients_is_what_became_of_them)
{
  static const char *const announced[] = { "250 mx\r\n",
                                           "250-mx\r\n250 PIPELINING\r\n",
                                           "250-mx\r\n250 CHUNKING\r\n",
                                           "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
                                           "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 LIMITS RCPTMAX=2\r\n",
                                           "250-mx\r\n250-PIPELINING\r\n250 LIMITS RCPTDOMAINMAX=1 MAILMAX=2\r\n" };
  for (uint64_t round = 1; round <= ROUNDS; round++) {
    seed = round * 7919;
    unsigned kind = chance(6);
    server s = { .lmtp = chance(3) == 0, .pipelining = strstr(announced[kind], "PIPELINING") != NULL };
    cwire c;
    cwire_init(&c, chance(2) ? 0 : 1 + chance(9));
    c.opts.lmtp = s.lmtp;
    c.opts.chunk_from = chance(2) ? 0 : 40;
    c.opts.flight_most = chance(2) ? 0 : 1000;
    c.piece = chance(2) ? 0 : 1 + chance(7);
    REQUIRE(mp_client_new(&c.cl, &c.opts, NULL, c.now) == 0);
    cwire_feed(&c, "220 mx\r\n", 8);
    CHECK_EQ_INT(mp_client_hello(c.cl, c.now), 0);
    cwire_pump(&c);
    cwire_feed(&c, announced[kind], strlen(announced[kind]));
    cwire_clear(&c.said);
    for (int i = 0; i < 4 && !c.closed; i++)
      one_message(&c, &s, round);
    cwire_clear(&c.said);
    cwire_clear(&c.events);
    mp_client_free(c.cl);
    if (check_failures > 20)
      return;
  }
}

CHECK_MAIN
