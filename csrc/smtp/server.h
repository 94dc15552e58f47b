/* smtp/server.h -- server side of one SMTP, submission or LMTP conversation (RFC 5321, 6409, 2033), without I/O.
 *
 *   feed() octets from the peer -> next() event -> an answer -> output() octets
 *
 * Reaches no socket, clock, thread or Lua state; memory comes from base/mem.h and the pools given in the options. While an event
 * waits for its answer the machine takes no more input: pipelining, back-pressure and STARTTLS injection are decided here, once.
 * The driver's loop:
 *
 *   do {
 *     while ((rc = mp_server_next(srv, &ev)) > 0) { act on ev; if it wants an answer that is not there yet, stop feeding }
 *     taken = mp_server_feed(srv, in, len, now_ms); in += taken; len -= taken;
 *   } while (taken > 0 or an event came);
 *   send mp_server_output(); keep what was not taken and feed it again after the answer (or the tick)
 *
 * Every answer and every tick may bring events: take them with mp_server_next before waiting for octets.
 *
 * Talking out of turn. A reply that a pipelined group must wait for (RFC 2920 3.1: to HELO, EHLO, LHLO, AUTH and each of its steps,
 * STARTTLS, DATA, XCLIENT, the banner; without PIPELINING to every command) has to leave output() before the peer may speak on. Octets
 * that stand behind such a command in the same feed, are fed while its event waits, or before the reply was sent, came out of turn: 554
 * and close, or by tolerate_early only noted. QUIT alone may follow anything.
 *
 * A body. CHUNK events come only between an accepted DATA event and MESSAGE or ABORT. ABORT says, as soon as it is known, that the message
 * cannot be: nothing more of it is told, the machine reads to its end and answers by itself, in this order: 552 5.3.4 over the size,
 * 550 5.6.0 NUL, 550 5.5.2 bare CR or LF, 550 5.6.0 overlong line, the reply of mp_server_body_failed. Over `size` + `overrun` octets it says
 * 421 and closes. A session that ends in a body tells ABORT, then CLOSE; RSET and HELO between two BDAT tell RESET alone.
 * A refused BDAT's octets are read and dropped before its reply; behind it every BDAT is answered 503 until RSET or one with LAST.
 */
#ifndef MP_SMTP_SERVER_H
#define MP_SMTP_SERVER_H

#include "smtp/data.h"
#include "smtp/envelope.h"
#include "smtp/proxy.h"
#include "smtp/reply.h"
#include "smtp/sasl.h"

typedef enum mp_protocol { MP_PROTOCOL_SMTP, MP_PROTOCOL_SUBMISSION, MP_PROTOCOL_LMTP } mp_protocol;

/* Extensions: announced when the bit is set (and their conditions hold), and only then is their syntax accepted.
 * Announced in this order; STARTTLS and AUTH come early, for there are clients (gsasl) that do not see them in the last line. */
#define MP_EXT_MAP(X)                           \
  X(PIPELINING, "PIPELINING")                   \
  X(SIZE, "SIZE")                               \
  X(STARTTLS, "STARTTLS")                       \
  X(AUTH, "AUTH")                               \
  X(8BITMIME, "8BITMIME")                       \
  X(SMTPUTF8, "SMTPUTF8")                       \
  X(CHUNKING, "CHUNKING")                       \
  X(BINARYMIME, "BINARYMIME")                   \
  X(ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES") \
  X(DSN, "DSN")                                 \
  X(DELIVERBY, "DELIVERBY")                     \
  X(FUTURERELEASE, "FUTURERELEASE")             \
  X(MT_PRIORITY, "MT-PRIORITY")                 \
  X(REQUIRETLS, "REQUIRETLS")                   \
  X(LIMITS, "LIMITS")                           \
  X(XCLIENT, "XCLIENT")

enum mp_ext_index {
#define MP_EXT_INDEX(name, text) MP_EXTI_##name,
  MP_EXT_MAP(MP_EXT_INDEX)
#undef MP_EXT_INDEX
      MP_EXT_COUNT
};
enum mp_ext {
#define MP_EXT_BIT(name, text) MP_EXT_##name = 1 << MP_EXTI_##name,
  MP_EXT_MAP(MP_EXT_BIT)
#undef MP_EXT_BIT
  /* On by default. What promises a queue (DSN, DELIVERBY, FUTURERELEASE, MT-PRIORITY, REQUIRETLS) and BINARYMIME are asked for by name. */
  MP_EXT_DEFAULT = MP_EXT_PIPELINING | MP_EXT_SIZE | MP_EXT_8BITMIME | MP_EXT_SMTPUTF8 | MP_EXT_CHUNKING |
                   MP_EXT_ENHANCEDSTATUSCODES | MP_EXT_LIMITS | MP_EXT_STARTTLS | MP_EXT_AUTH
};

/* Well-known laxities, each off unless named. */
enum mp_lax {
  MP_LAX_SPACE = 1, /* several spaces between verb, colon and path ("MAIL FROM:  <a@b>", "MAIL  FROM:<a@b>") */
  MP_LAX_BRACKETS = 2,   /* no <> around the path */
  MP_LAX_DOTS = 4,       /* dots out of place in a local part */
  MP_LAX_UNDERSCORE = 8, /* '_' in domains */
  MP_LAX_HELO = 16,      /* HELO with what is no domain */
  MP_LAX_NO_HELO = 32,   /* MAIL without HELO before */
  MP_LAX_LENGTH = 64     /* local part over 64 octets */
};

typedef struct mp_server_opts { /* shared by many machines, unchanged while one lives; strings are borrowed */
  mp_protocol protocol;
  mp_str hostname;     /* in banner, EHLO reply, 221 and 421 */
  mp_str banner;       /* text behind "220 hostname "; "ESMTP moonpost" or "LMTP moonpost" when empty */
  unsigned extensions; /* set of mp_ext */
  unsigned lax;        /* set of mp_lax */
  unsigned mechanisms; /* set of 1 << mp_mech; AUTH is announced only when one is usable now */
  bool auth_in_clear;  /* AUTH without TLS; else 538 5.7.11 and not announced */
  bool auth_required;  /* MAIL without AUTH: 530 5.7.0 */
  bool tls_offered;    /* STARTTLS can be done (a certificate is there) */
  bool tls_required;   /* MAIL (and AUTH) without TLS: 530 5.7.0 Must issue a STARTTLS command first */
  bool tolerate_early; /* octets where none may be are let pass (never behind STARTTLS) instead of 554 and close */
  bool tolerate_injection; /* plaintext behind STARTTLS is discarded and the handshake goes on, instead of closing */
  bool repair_all, repair_none; /* bare CR/LF: by default repaired for trusted peers, 550 5.5.2 for strangers */
  bool long_lines_refused;      /* a text line over line_limit: 550 5.6.0 after the end; else accepted */
  size_t line_limit; /* of message lines, without CRLF; default 998 (64 KiB hard: over it always 550 5.6.0) */
  uint64_t size;     /* octets of a message; 0 = no limit. Default 50 MB */
  uint64_t overrun;  /* octets read past `size` before 421; default = size again */
  unsigned recipients; /* default 100: 452 4.5.3 */
  unsigned messages;   /* transactions in one session: 421 4.7.0; default 1000; 0 = no limit */
  unsigned errors;     /* bad commands in one session: 421 4.7.0; default 20 */
  unsigned refused_recipients; /* RCPT answered with 5xx in one session, past it 421 4.7.0; ten times as many of who is trusted (relay
                                * networks, authenticated users); default 20; 0 = no limit */
  unsigned auth_failures; /* default 3: 421 4.7.0 */
  unsigned idle_commands; /* NOOP, RSET, HELP, VRFY, EXPN in a row without a MAIL: counted as errors past it; default 100 */
  unsigned envelope_memory; /* octets an envelope may take; default 1 MB: 452 4.5.3 */
  uint64_t hold_max;        /* FUTURERELEASE: seconds; default 30 days */
  int64_t wall_ms;          /* FUTURERELEASE: what must be added to now_ms to give ms since 1970; default 0 */
  int64_t by_min;           /* DELIVERBY: seconds; 0 = not said */
  mp_str priority_profile;  /* MT-PRIORITY: "MIXER", "NSEP", "STANAG4406"; may be empty */
  unsigned auth_delay_ms;   /* before a failed AUTH is answered; default 1000, tests use 0 */
  unsigned greet_delay_ms;  /* banner held back, to catch early talkers; default 0 */
  int64_t command_ms;       /* silence before a command, in AUTH too: default 300 s (RFC 5321 4.5.3.2.7) */
  int64_t data_ms;          /* silence inside DATA: default 180 s */
  int64_t line_ms;          /* from a command's first octet to its CRLF: default 60 s */
  int64_t session_ms;       /* whole session: default 1 h; 0 = no limit; looked at between transactions */
  unsigned data_rate; /* octets a second at least, averaged over DATA from its 30th second on: default 100; 0 = off */
  mp_sasl_ctx *sasl; /* needed when mechanisms is not 0 */
  mp_str sasl_secret;
  unsigned sasl_iterations;
  mp_pool *out_blocks; /* of output buffers, partial lines; may be NULL */
  mp_pool *envelopes, *envelope_blocks;
} mp_server_opts;

/* Fills every default of the list above for `protocol`. */
void mp_server_opts_init(mp_server_opts *opts, mp_protocol protocol);

/* NULL, or a static sentence on the first option that makes no sense. */
const char *mp_server_opts_check(const mp_server_opts *opts);

enum mp_trust { /* what the driver's rules say of this peer; may change after XCLIENT */
                MP_TRUST_REPAIR =
                    1, /* a relay network: bare CR/LF are repaired (authenticated users are trusted without this) */
                MP_TRUST_XCLIENT = 2 /* may use XCLIENT (announced to it alone) */
};

typedef struct mp_tls_facts { /* by value from the floor beside us; strings borrowed during the call */
  mp_str version, cipher;     /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
  mp_str cb_unique, cb_exporter;
} mp_tls_facts;

#define MP_EVENT_MAP(X)                                                                                \
  X(CONNECT, "connect")             /* wants a verdict: 220, or 4xx/5xx and close                */    \
  X(HELO, "helo")                   /* wants a verdict                                           */    \
  X(STARTTLS, "starttls")           /* wants mp_server_tls_done after output() has been sent     */    \
  X(CREDENTIALS, "credentials")     /* wants mp_server_credentials                               */    \
  X(AUTH, "auth")                   /* wants a verdict: user and password                        */    \
  X(TOKEN, "token")                 /* wants a verdict: user and token                           */    \
  X(JOB, "job")                     /* wants mp_server_worked                                    */    \
  X(AUTHENTICATED, "authenticated") /* told only: the outcome of an AUTH, good or bad        */        \
  X(XCLIENT, "xclient")             /* wants a verdict; then CONNECT follows anew                */    \
  X(MAIL, "mail")                   /* wants a verdict                                           */    \
  X(RCPT, "rcpt")                   /* wants a verdict                                           */    \
  X(DATA, "data")       /* wants a verdict: before 354, or before the first BDAT's octets are taken */ \
  X(CHUNK, "chunk")     /* told only: message octets, borrowed from what was fed     */                \
  X(MESSAGE, "message") /* wants a verdict: the message is complete                  */                \
  X(ABORT, "abort")     /* told only: drop the octets; the machine answers by itself */                \
  X(RESET, "reset")     /* told only: a transaction was forgotten (RSET, HELO, a refused BDAT LAST) */ \
  X(QUIT, "quit")       /* told only                                                 */                \
  X(CLOSE, "close")     /* told only, last: send output() and close                  */

typedef enum mp_event_kind {
  MP_EV_NONE,
#define MP_EVENT_ENUM(name, text) MP_EV_##name,
  MP_EVENT_MAP(MP_EVENT_ENUM)
#undef MP_EVENT_ENUM
      MP_EV_COUNT
} mp_event_kind;

const char *mp_event_name(mp_event_kind kind);

typedef struct mp_event { /* views last until the next feed(), next(), answer or free() */
  mp_event_kind kind;
  union {
    struct {
      mp_str name;
      bool esmtp;
    } helo;
    struct {
      mp_str user;
      mp_mech mech;
      mp_str password; /* AUTH: password; TOKEN: token */
    } auth;
    struct {
      mp_str user, authzid;
      mp_mech mech;
      bool ok;
    } authenticated;
    struct {
      mp_job *job;
    } job; /* the driver's until mp_server_worked or job->free */
    struct {
      const mp_xclient *attributes;
    } xclient;
    struct {
      const mp_path *path;
      const mp_mail_params *params;
    } mail;
    struct {
      mp_recipient *recipient;
    } rcpt; /* already in the envelope; taken out again when refused */
    struct {
      bool bdat;
    } data;
    struct {
      mp_str octets;
    } chunk;
    struct {
      uint64_t size;
      unsigned facts; /* set of mp_data_fault: repaired ones and 8BIT */
    } message;
    struct {
      int code;
      const char *why;
    } abort; /* static text for the log */
    struct {
      const char *why;
    } close; /* static text for the log */
  };
} mp_event;

typedef struct mp_server mp_server;

/* 0 or MP_E_NOMEM (*srv is NULL). `opts` is borrowed for the machine's life. The first event is CONNECT. */
int mp_server_new(mp_server **srv, const mp_server_opts *opts, unsigned trust, bool tls_from_start,
                  int64_t now_ms);
void mp_server_free(mp_server *srv);
void mp_server_trust(mp_server *srv, unsigned trust);

/* Takes octets until an event is there or all are taken. Returns how many, or MP_E_NOMEM (nothing taken, the session is closing with
 * 421) or MP_E_CLOSED. Takes none while an event waits or is to be fetched, while a reply is held back (greet_delay_ms, auth_delay_ms: until
 * the tick) and while output() holds more than 64 KB; feeding then is right, since what was fed may have come out of turn.
 * `in` must stay until the events of this call were taken, and no longer. */
mp_ssize mp_server_feed(mp_server *srv, const void *in, size_t len, int64_t now_ms);

/* 1 with an event, 0 when more octets (or an answer, or time) are needed. After CLOSE always 0. */
int mp_server_next(mp_server *srv, mp_event *ev);

/* Answers the event that waits. NULL = no objection (to AUTH and TOKEN too: the proof is good), default text. A 2xx (for DATA: 354) accepts
 * with that text, 4xx and 5xx refuse, 421 and 521 refuse and close; to CONNECT every refusal closes. The text of CONNECT stands behind
 * "220 hostname", of HELO behind "250 hostname" (its first line). An enhanced code that is missing is filled in. A 4xx to AUTH or TOKEN is
 * no failed attempt: it is neither delayed nor counted.
 * Returns 0, MP_E_MISUSE when nothing waits or the event wants another call, MP_E_INVALID when the reply fails mp_reply_check or its
 * class makes no sense here (nothing was answered then). */
int mp_server_reply(mp_server *srv, const mp_reply *reply, int64_t now_ms);

/* LMTP, before mp_server_reply answers MESSAGE: the reply of one recipient (RFC 2033 4.2), its text cut to 512 octets. Those without one get
 * mp_server_reply's. 0, MP_E_MISUSE, MP_E_INVALID (no such recipient, or as mp_server_reply), or MP_E_NOMEM (the recipient has none). */
int mp_server_reply_rcpt(mp_server *srv, size_t index, const mp_reply *reply);

/* Answer CREDENTIALS: with what is known of the user, or because the lookup refused or failed (454 4.7.0 when NULL). Return 0, MP_E_MISUSE, or
 * MP_E_INVALID. */
int mp_server_credentials(mp_server *srv, const mp_credentials *credentials, int64_t now_ms);
int mp_server_credentials_fail(mp_server *srv, const mp_reply *reply, int64_t now_ms);

/* Answers JOB. 0, or MP_E_MISUSE: then the job is still the caller's. */
int mp_server_worked(mp_server *srv, mp_job *job, int64_t now_ms);

/* Answers STARTTLS; forgets HELO, AUTH, envelope. With tls_from_start: to be called before CONNECT is answered, so that the channel bindings
 * are known. 0, MP_E_MISUSE, or MP_E_NOMEM (tls_from_start alone: there are no bindings then). */
int mp_server_tls_done(mp_server *srv, const mp_tls_facts *facts, int64_t now_ms);

/* The body cannot be kept (disk full, sink broken): ABORT follows, the rest is read and dropped, then `reply` (4xx or 5xx) is the answer, 452
 * 4.3.1 when NULL. While MESSAGE waits or is to be fetched it answers that, without an ABORT. 0, also when it was said before, MP_E_MISUSE
 * outside a body, MP_E_INVALID. */
int mp_server_body_failed(mp_server *srv, const mp_reply *reply);

/* Says `reply` and closes, whatever was going on (the waiting event is dropped). */
void mp_server_close(mp_server *srv, const mp_reply *reply, const char *why);

mp_str mp_server_output(const mp_server *srv); /* borrowed until the next call that is not output() */
void mp_server_sent(mp_server *srv, size_t len);

/* Absolute, on the clock of `now_ms`; INT64_MAX when nothing is due (an event waits: its time is the driver's affair). A driver that holds
 * octets back for reasons of its own does not tick meanwhile. */
int64_t mp_server_deadline(const mp_server *srv);
/* A deadline that has passed: 421 4.4.2 and close, or what was held back is said. Else nothing. */
void mp_server_tick(mp_server *srv, int64_t now_ms);

bool mp_server_idle(const mp_server *srv); /* between transactions, nothing waits, no partial line: fit to be told 421 */
bool mp_server_waiting(const mp_server *srv); /* an event waits for its answer */
bool mp_server_in_body(const mp_server *srv);

/* Facts of the session, borrowed until the next feed or answer. */
mp_envelope *mp_server_envelope(const mp_server *srv); /* NULL outside a transaction */
mp_str mp_server_helo(const mp_server *srv);           /* empty before HELO */
mp_str mp_server_user(const mp_server *srv);           /* empty unless authenticated */
int mp_server_mech(const mp_server *srv);              /* mp_mech or -1 */
bool mp_server_tls(const mp_server *srv);
bool mp_server_esmtp(const mp_server *srv);
const char *mp_server_with(const mp_server *srv); /* "ESMTPSA", "UTF8LMTP": RFC 3848 and RFC 6531 4.3, for Received */
const char *mp_server_state(const mp_server *srv); /* for traces: "START", "RCPT", ...; static */
unsigned mp_server_errors(const mp_server *srv);

typedef struct mp_tally {              /* of a whole session, for logs; nothing resets it */
  uint64_t octets;                     /* of messages, as they came */
  unsigned messages, messages_refused; /* behind their end; refused ones are not counted that were broken off */
  unsigned rcpts, rcpts_refused;       /* by a verdict: what could not be read is a bad command */
  unsigned bad;                        /* commands */
  unsigned short bad_code; /* what was said to the last of them; 0 = 421 alone, or that it was one too many of its kind */
  const char *bad_text; /* static */
} mp_tally;

const mp_tally *mp_server_tally(const mp_server *srv);
bool mp_server_early_talker(const mp_server *srv);
/* True, once, when what was fed held octets of an AUTH exchange, a password perhaps: for a driver that wipes its buffer. */
bool mp_server_secrets(mp_server *srv);
size_t mp_server_held(const mp_server *srv); /* octets of memory: output, a partial line, the envelope; for a driver that adds them up */

#endif
