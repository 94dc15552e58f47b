/* smtp/client.h -- client side of one SMTP, submission or LMTP conversation (RFC 5321, 6409, 2033), without I/O.
 *
 *   an operation is asked for -> output() octets -> feed() octets from the peer -> next() event: DONE -> the next operation
 *
 * Reaches no socket, clock, thread or Lua state; memory comes from base/mem.h and the pool given in the options. One operation at a
 * time; each ends in exactly one DONE, whatever happens, and CLOSE is the last event of all. The driver's loop:
 *
 *   do {
 *     while (mp_client_next(cl, &ev)) act on ev; DONE is where the next operation is asked for
 *     while (mp_client_wants_body(cl)) mp_client_body(cl, a piece of the body)
 *     send mp_client_output(), tell mp_client_sent()              (behind sent() output may hold more)
 *     taken = mp_client_feed(cl, in, len, now_ms); in += taken; len -= taken;
 *   } while (something moved);
 *
 * Every operation, feed, body, sent and tick may bring events: take them before waiting. Octets that were not taken stay the driver's, to be
 * fed again after the events; only behind STARTTLS are they an attack, and must be fed before the handshake begins, so that the machine
 * sees them. The banner is an operation that nobody asks for: the first DONE is GREET's.
 *
 * Who is to blame. An operation that the peer answered has rc 0, and `ok` says whether it was the answer that was wanted: a 550 is a
 * value. What the peer could not carry is not asked of it: rc 0, not ok, `local`, and a reply with the codes a server would have used. When no
 * answer came, rc is the error, and CLOSE follows. 421, to anything, is an answer that CLOSE follows.
 *
 * SEND and what became of each recipient. The machine fills a result for every recipient of the transaction. Only a 5xx to MAIL, RCPT, DATA or the
 * body, or a local refusal, is REFUSED. A connection that ends before the body's end leaves DEFERRED, one that ends between the body's end and
 * its reply UNKNOWN: the message may have been taken, and has to be sent again all the same. AGAIN are those for whom this
 * transaction had no room (452 and 552 behind accepted ones, RFC 5321 4.5.3.1.10; LIMITS of RFC 9422): send the same transaction
 * again at once, on this connection or, where mp_client_spent(), on another. A SEND offers recipients that are NONE or AGAIN, and passes over
 * all others.
 * Where PIPELINING is announced, RSET (only when the peer still holds an old transaction), MAIL, all RCPT and DATA go in one flight (RFC 2920), else in lock-step.
 * MAIL, RCPT and DATA can be asked for one by one on the same transaction instead.
 *
 * The body is pulled: the event BODY says that the peer waits for it, and from then on mp_client_wants_body() says when there is room.
 * It goes by DATA, with CRLF line ends, dots stuffed, and a CRLF at its end; or by BDAT (RFC 3030) when it is binary, or CHUNKING is announced and its size
 * is known to be over `chunk_from` or not over `flight_most`, which stuffs nothing. Lone CR and LF are repaired, or by `refuse_bare` end the operation (and, for
 * there is no other way to stop a body, the connection).
 */
#ifndef MP_SMTP_CLIENT_H
#define MP_SMTP_CLIENT_H

#include "base/arena.h"
#include "smtp/param.h"
#include "smtp/sasl.h"
#include "smtp/server.h" /* mp_ext, mp_tls_facts */

/* ---- options ------------------------------------------------------------------------------------------------------ */

typedef struct mp_client_opts { /* shared by many machines, unchanged while one lives; strings are borrowed */
  bool lmtp;                    /* LHLO, a reply for each recipient behind the body (RFC 2033); else SMTP */
  mp_str hostname;              /* what we call ourselves: a domain or an address literal */
  unsigned ignore;              /* set of mp_ext: treated as if the peer did not announce them */
  bool no_helo;                 /* no HELO when EHLO is refused */
  bool refuse_bare;     /* a lone CR or LF in a body that is not binary: 550 5.6.0, local; else repaired */
  uint64_t chunk_from;  /* bodies known to be larger go by BDAT where CHUNKING is announced; default 64 KB */
  uint64_t flight_most; /* bodies known to be canonical, or binary, and no larger go by BDAT in one flight with their envelope, where PIPELINING and
                         * CHUNKING are announced (not over LMTP): a round trip less. At most 64 KB; default 0: none */
  int64_t banner_ms;    /* RFC 5321 4.5.3.2, each: default 5 min */
  int64_t hello_ms;     /* EHLO, HELO, LHLO, STARTTLS; default 5 min */
  int64_t auth_ms;      /* each step; default 5 min */
  int64_t mail_ms;      /* also RSET, NOOP, VRFY, COMMAND; default 5 min */
  int64_t rcpt_ms;      /* default 5 min */
  int64_t data_ms;      /* until 354; default 2 min */
  int64_t block_ms;     /* a body of which nothing can be sent; default 3 min */
  int64_t final_ms;     /* until the reply to the body; default 10 min */
  int64_t quit_ms;      /* default 10 s: nobody's message hangs on it */
  int64_t operation_ms; /* any operation as a whole; default 1 h; 0 = no limit */
  mp_sasl_ctx *sasl;    /* needed for CRAM-MD5 and SCRAM; may be NULL: those are then unknown */
  mp_pool *out_blocks;  /* of output buffers; may be NULL */
  mp_pool *line_blocks; /* of partial replies; may be NULL */
} mp_client_opts;

void mp_client_opts_init(mp_client_opts *opts); /* every default of the list above */

/* NULL, or a static sentence on the first option that makes no sense. */
const char *mp_client_opts_check(const mp_client_opts *opts);

/* ---- a transaction ------------------------------------------------------------------------------------------------- */

#define MP_RCPT_STATE_MAP(X)                                                                                 \
  X(NONE, "none")         /* not offered yet                                                            */   \
  X(ACCEPTED, "accepted") /* its RCPT was; only between MAIL, RCPT and DATA that are asked for one by one */ \
  X(DELIVERED, "delivered") /* the peer has taken responsibility                                          */ \
  X(REFUSED, "refused")     /* for good                                                                   */ \
  X(DEFERRED, "deferred")   /* for now: 4xx, or the connection ended before the body did                  */ \
  X(UNKNOWN, "unknown")     /* the connection ended before the reply to the body: to be retried           */ \
  X(AGAIN, "again")         /* no room in this transaction: the next one at once                          */

typedef enum mp_rcpt_state {
#define MP_RCPT_STATE_ENUM(name, text) MP_RCPT_##name,
  MP_RCPT_STATE_MAP(MP_RCPT_STATE_ENUM)
#undef MP_RCPT_STATE_ENUM
} mp_rcpt_state;

const char *mp_rcpt_state_name(mp_rcpt_state state);

#define MP_STAGE_MAP(X) \
  X(NONE, "none")       \
  X(MAIL, "mail")       \
  X(RCPT, "rcpt")       \
  X(DATA, "data")       \
  X(BODY, "body")       \
  X(CONNECTION, "connection")

typedef enum mp_stage {
#define MP_STAGE_ENUM(name, text) MP_STAGE_##name,
  MP_STAGE_MAP(MP_STAGE_ENUM)
#undef MP_STAGE_ENUM
} mp_stage;

const char *mp_stage_name(mp_stage stage);

typedef struct mp_rcpt_result {
  unsigned char state; /* mp_rcpt_state */
  unsigned char stage; /* mp_stage: what was answered so, or where the connection ended */
  bool local;          /* the reply is ours: the peer was not asked */
  bool dsn_lost; /* delivered or accepted by a peer without DSN: its NOTIFY and ORCPT went no further ("relayed", RFC 3461 5.2.2) */
  bool offered;  /* the machine's: RCPT was written in this transaction */
  mp_reply reply; /* the text is in the transaction's arena: cleaned as mp_reply_check wants it, at most 1 KB; code 0: there was none */
} mp_rcpt_result;

typedef struct mp_send_rcpt {
  mp_str address;        /* "local@domain", no brackets */
  mp_str ascii;          /* the same with its domain in A-labels, where that makes it ASCII; else empty */
  mp_rcpt_params params; /* as they stand on the wire (xtext); `given` says which there are */
  mp_rcpt_result result;
} mp_send_rcpt;

/* The driver's; strings are borrowed from the operation that is given it to its DONE, then they may change (and recipients be added). */
typedef struct mp_transaction {
  mp_str sender, sender_ascii; /* as the addresses of recipients; an empty sender is "<>" */
  /* As they stand on the wire (xtext); `given` says which there are. SIZE: octets of the body, when known: announced, compared with the peer's
   * limit, and with `canonical` or BINARYMIME the length of the one BDAT chunk. BODY without SMTPUTF8 or 8BITMIME means what it says: octets over 127
   * under 7BIT are the caller's mistake. SMTPUTF8: the header holds UTF-8; addresses are seen by the machine. */
  mp_mail_params params;
  bool canonical; /* the driver vouches that every line end is CRLF, and the last octets are one; then octets that SIZE does not count are an error */
  mp_send_rcpt *rcpts;
  size_t count;
  mp_arena replies; /* of results; grows no further than its ceiling, past which texts are left out */
  /* The machine's notes, for whoever asks. */
  unsigned dropped; /* set of mp_param_bit: given, but not said, since the peer does not know them and nothing is lost by it */
  unsigned body_facts; /* set of mp_data_fault: what was repaired, and 8BIT */
  uint64_t octets;     /* of the body, as taken */
  bool chunked;        /* it went by BDAT */
  mp_reply mail;       /* to MAIL; with its text, in `replies`, when it was a refusal */
  mp_reply final;      /* to the body (LMTP: the last one) */
} mp_transaction;

void mp_transaction_init(mp_transaction *tx, mp_pool *blocks); /* all empty; `blocks` of the arena, may be NULL */
void mp_transaction_dispose(mp_transaction *tx); /* the arena; strings and rcpts are the driver's */

/* How many recipients are in `state`. */
size_t mp_transaction_count(const mp_transaction *tx, mp_rcpt_state state);

/* ---- what the peer announced --------------------------------------------------------------------------------------- */

typedef struct mp_client_caps { /* nothing but zeros before HELLO, after tls_done, and after HELO */
  mp_str name;                  /* first word of the reply: what the peer calls itself */
  mp_str lines;                 /* all lines behind the first, LF between them, cleaned, as they came */
  unsigned extensions;          /* set of mp_ext, opts.ignore taken out */
  unsigned mechanisms;          /* set of 1 << mp_mech: those that we know */
  uint64_t size;                /* 0: no limit announced */
  int64_t by_min;               /* DELIVERBY: seconds; 0: not said */
  uint64_t hold_max;            /* FUTURERELEASE: seconds; 0: not said */
  int64_t hold_until;           /* FUTURERELEASE: seconds since 1970; 0: not said */
  unsigned mail_max, rcpt_max, rcpt_domain_max; /* LIMITS (RFC 9422); 0: none */
} mp_client_caps;

/* ---- events -------------------------------------------------------------------------------------------------------- */

#define MP_CLIENT_OP_MAP(X) \
  X(NONE, "none")           \
  X(GREET, "greet")         \
  X(HELLO, "hello")         \
  X(STARTTLS, "starttls")   \
  X(AUTH, "auth")           \
  X(SEND, "send")           \
  X(MAIL, "mail")           \
  X(RCPT, "rcpt")           \
  X(DATA, "data")           \
  X(COMMAND, "command")     \
  X(RSET, "rset")           \
  X(NOOP, "noop")           \
  X(VRFY, "vrfy")           \
  X(QUIT, "quit")

typedef enum mp_client_op {
#define MP_CLIENT_OP_ENUM(name, text) MP_OP_##name,
  MP_CLIENT_OP_MAP(MP_CLIENT_OP_ENUM)
#undef MP_CLIENT_OP_ENUM
} mp_client_op;

const char *mp_client_op_name(mp_client_op op);

typedef enum mp_client_event_kind {
  MP_CE_NONE,
  MP_CE_STARTTLS, /* wants mp_client_tls_done; all that was fed has been seen to be nothing */
  MP_CE_JOB,      /* wants mp_client_worked */
  MP_CE_BODY,     /* wants mp_client_body while mp_client_wants_body */
  MP_CE_DONE,     /* the operation is over */
  MP_CE_CLOSE     /* last: send output() and close */
} mp_client_event_kind;

typedef struct mp_client_result {
  mp_client_op op;
  int rc; /* 0: answered. Else MP_E_EOF, MP_E_TIMEOUT, MP_E_SYNTAX, MP_E_TOOLONG (the peer's replies), MP_E_CRYPTO (SCRAM: the server could
                  * not prove itself), MP_E_TLS, MP_E_BARELF (refuse_bare), MP_E_INVALID (a body that is not as long as SIZE said), MP_E_NOMEM,
                  * or what mp_client_lost was told */
  bool ok; /* the peer did it. SEND, DATA: one recipient at least is DELIVERED, and all that were taken up are that or AGAIN */
  bool local; /* the reply is ours */
  mp_reply reply; /* the last one; code 0: none. SEND and DATA: to what stopped the transaction, else to its body */
  size_t again; /* SEND, DATA: recipients that are AGAIN */
} mp_client_result;

typedef struct mp_client_event { /* views last until the next call but output(), sent() and the facts */
  mp_client_event_kind kind;
  union {
    mp_client_result done;
    struct {
      mp_job *job; /* the driver's until mp_client_worked or job->free */
    } job;
    struct {
      int rc;          /* as mp_client_result; 0: QUIT, or 421 */
      const char *why; /* static */
    } close;
  };
} mp_client_event;

/* ---- the machine --------------------------------------------------------------------------------------------------- */

typedef struct mp_client mp_client;

/* 0 or MP_E_NOMEM (*cl is NULL). `opts` is borrowed for the machine's life. GREET is under way. `tls`: facts of a handshake that came before the
 * banner, copied; or NULL. */
int mp_client_new(mp_client **cl, const mp_client_opts *opts, const mp_tls_facts *tls, int64_t now_ms);
void mp_client_free(mp_client *cl); /* NULL does nothing */

/* Takes octets until an event is there or all are taken. Returns how many, or MP_E_CLOSED. Takes none while an event is to be fetched. `in` must stay
 * until the events of this call were taken, and no longer. */
mp_ssize mp_client_feed(mp_client *cl, const void *in, size_t len, int64_t now_ms);

int mp_client_next(mp_client *cl, mp_client_event *ev); /* 1 with an event, 0 when there is none; after CLOSE always 0 */

/* The connection is gone (MP_E_EOF when the peer closed it) or is to be given up: DONE for the operation under way, then CLOSE. `why` is static. */
void mp_client_lost(mp_client *cl, int rc, const char *why);

mp_str mp_client_output(const mp_client *cl); /* borrowed until the next call that is not output(), secret() or a fact */
void mp_client_sent(mp_client *cl, size_t len, int64_t now_ms);
/* The part of output() that a trace must not show; empty when it may show all. */
mp_str mp_client_secret(const mp_client *cl);

/* Absolute, on the clock of `now_ms`; INT64_MAX when nothing is due: no operation, or it is the driver's turn (a handshake, a job, a body). */
int64_t mp_client_deadline(const mp_client *cl);
void mp_client_tick(mp_client *cl,
                    int64_t now_ms); /* a deadline that has passed: MP_E_TIMEOUT and CLOSE. Else nothing */

/* ---- operations. Each returns 0, MP_E_MISUSE (another is under way), MP_E_CLOSED, MP_E_NOMEM, or MP_E_INVALID: an argument that may never be written,
 * mp_client_why() says which and nothing was; CR, LF and NUL anywhere are among it. On an error no DONE comes. --------------- */

const char *mp_client_why(const mp_client *cl); /* static; of the last MP_E_INVALID, or of the end */

/* EHLO, then HELO when that is refused as unknown (5xx other than 521 and 554); LHLO. ok: 250. */
int mp_client_hello(mp_client *cl, int64_t now_ms);

/* 220 brings the event STARTTLS; tls_done brings DONE. Octets fed between 220 and tls_done: MP_E_SYNTAX, nothing of them is heard. Not announced: local, 502
 * 5.5.1. What was announced before is forgotten: HELLO must follow. */
int mp_client_starttls(mp_client *cl, int64_t now_ms);
int mp_client_tls_done(mp_client *cl, const mp_tls_facts *facts,
                       int64_t now_ms); /* facts are copied. 0, MISUSE, or NOMEM: give the connection up */

typedef struct mp_client_login { /* strings are borrowed to DONE */
  unsigned mechanisms;           /* set of 1 << mp_mech that may be used; 0: any */
  unsigned in_clear; /* of those that show the secret (PLAIN, LOGIN, XOAUTH2, OAUTHBEARER), which may be used without TLS */
  mp_str user;     /* UTF-8 without controls, at most 255 octets; may be empty for OAUTHBEARER alone */
  mp_str authzid;  /* to act as; usually empty */
  mp_str password; /* serves all but the bearers; at most 1,024 octets */
  mp_str token;    /* serves XOAUTH2 and OAUTHBEARER; at most 8,192 octets */
  mp_str host;     /* where OAUTHBEARER says that it went (RFC 7628 3.1); may be empty */
  unsigned port;   /* the same; 0: not said */
  unsigned iterations_max; /* of SCRAM; 0: MP_SCRAM_ITERATIONS_MAX */
} mp_client_login;

/* The strongest mechanism that the peer announces and the login allows; the next one when the peer says that it does not do it (504, 534). None:
 * local, 538 5.7.11 when TLS is what is missing, else 504 5.5.4. ok: 235. A SCRAM server whose signature is wrong or missing: MP_E_CRYPTO. */
int mp_client_auth(mp_client *cl, const mp_client_login *login, int64_t now_ms);
int mp_client_worked(mp_client *cl, mp_job *job,
                     int64_t now_ms); /* answers JOB, takes the job. 0, or MP_E_MISUSE: it is still the caller's */

/* One whole transaction. `tx` is the driver's, and must stay to DONE. */
int mp_client_send(mp_client *cl, mp_transaction *tx, int64_t now_ms);

/* The same in steps: MAIL clears old results that are ACCEPTED; RCPT offers recipient `index`, its result is in the transaction; DATA (or BDAT) says
 * the body. ok: of MAIL and RCPT 2xx. */
int mp_client_mail(mp_client *cl, mp_transaction *tx, int64_t now_ms);
int mp_client_rcpt(mp_client *cl, mp_transaction *tx, size_t index, int64_t now_ms);
int mp_client_data(mp_client *cl, mp_transaction *tx, int64_t now_ms);

/* Any one line; its reply is the result (ok: 2xx or 3xx). STARTTLS and BDAT are refused as invalid: octets follow them that are no lines. */
int mp_client_command(mp_client *cl, mp_str line, int64_t now_ms);
int mp_client_rset(mp_client *cl, int64_t now_ms);
int mp_client_noop(mp_client *cl, int64_t now_ms);
int mp_client_vrfy(mp_client *cl, mp_str what, int64_t now_ms);
int mp_client_quit(mp_client *cl, int64_t now_ms); /* CLOSE follows, whatever the peer says */

/* ---- the body ------------------------------------------------------------------------------------------------------ */

bool mp_client_wants_body(const mp_client *cl);

/* Takes a piece of the body as long as there is room: *taken octets of `len`. With `last`, and once all was taken, the body is ended. To be called with
 * the rest (which may be empty) otherwise, when mp_client_wants_body again. Returns 0; MP_E_MISUSE; or what the operation ends with: MP_E_BARELF,
 * MP_E_INVALID (over the SIZE that BDAT was told, or short of it), MP_E_NOMEM. */
int mp_client_body(mp_client *cl, const void *in, size_t len, bool last, size_t *taken, int64_t now_ms);

/* The body cannot be had: ends operation and connection, recipients are DEFERRED. `why` is static. */
void mp_client_body_failed(mp_client *cl, const char *why);

/* ---- facts --------------------------------------------------------------------------------------------------------- */

mp_client_op mp_client_busy(const mp_client *cl); /* the operation under way; MP_OP_NONE: fit for the next */
bool mp_client_closed(const mp_client *cl);       /* CLOSE was told, or is to be fetched */
bool mp_client_spent(const mp_client *cl); /* no further transaction here: MAILMAX was reached, or it is closed */
bool mp_client_in_body(const mp_client *cl); /* output() holds octets of a body, perhaps behind a BDAT line */
bool mp_client_tls(const mp_client *cl);
bool mp_client_esmtp(const mp_client *cl);
int mp_client_mech(const mp_client *cl); /* that authenticated, or -1 */
const mp_client_caps *mp_client_caps_of(const mp_client *cl);
const char *mp_client_state(const mp_client *cl); /* for traces; static */

#endif
