/* smtp/server_impl.h -- what the files of the server machine share, and nobody else sees. The machine's picture is in server.c. */
#ifndef MP_SMTP_SERVER_IMPL_H
#define MP_SMTP_SERVER_IMPL_H

#include "base/error.h"
#include "smtp/line.h"
#include "smtp/server.h"

#define MP_SRV_STATE_MAP(X)                                               \
  X(CONNECT) /* no banner yet: the CONNECT event waits, or is to come  */ \
  X(GREET)   /* CONNECT was accepted, the banner is held back          */ \
  X(START)   /* no HELO yet, or forgotten by STARTTLS                  */ \
  X(READY)   /* HELO was accepted, no transaction                      */ \
  X(MAIL)    /* a sender, no recipient                                 */ \
  X(RCPT)    /* a sender and at least one recipient                    */ \
  X(DATA)    /* octets up to CRLF.CRLF                                 */ \
  X(CHUNK)   /* octets of a BDAT, taken or thrown away                 */ \
  X(BDAT)    /* between two BDAT of one message                        */ \
  X(MESSAGE) /* the message is complete                                */ \
  X(AUTH)    /* in a SASL exchange                                     */ \
  X(HELD)    /* the reply to a failed AUTH is held back                */ \
  X(TLS)     /* 220 to STARTTLS was said                               */ \
  X(CLOSED)  /* nothing more is taken or said                          */

enum mp_srv_state {
#define MP_SRV_STATE(name) ST_##name,
  MP_SRV_STATE_MAP(MP_SRV_STATE)
#undef MP_SRV_STATE
};

enum {
  MP_SRV_HIGH_WATER = 64 * 1024, /* of output: above it nothing is taken */
  MP_SRV_AUTH_LINE = 12288 + 2,  /* RFC 4954 4, and CRLF */
  MP_SRV_HARD_LINE = 64 * 1024,  /* of a message */
  MP_SRV_QUEUE = 4               /* events that may stand behind each other */
};

/* A reply kept for later with its text, one heap block. */
typedef struct mp_srv_kept {
  mp_reply reply;
  char text[];
} mp_srv_kept;

/* Names that an event shows and nobody else keeps: of a HELO or XCLIENT that waits, of who failed to authenticate. One heap block. */
typedef struct mp_srv_note {
  mp_str name, authzid;
  mp_xclient xclient;
  char text[];
} mp_srv_note;

/* Channel bindings of the TLS session, only where a -PLUS mechanism may ask for them. One heap block. */
typedef struct mp_srv_binding {
  mp_str unique, exporter;
  char text[];
} mp_srv_binding;

struct mp_server {
  const mp_server_opts *opts;
  mp_line line;
  mp_buf out;
  mp_envelope *env;
  mp_sasl *sasl;
  mp_srv_note *note;
  mp_srv_binding *binding;
  mp_srv_kept *kept;    /* body: the reply of whoever could not keep it; AUTH: of the verdict */
  mp_reply *rcpt_reply; /* LMTP: one for each recipient, in the envelope's arena; code 0 = none */
  mp_str helo, user;    /* heap, or null */
  mp_str chunk;         /* of the CHUNK event */
  mp_data data;
  uint64_t left;       /* CHUNK: octets still to come; TLS: length of the 220 */
  uint64_t received;   /* octets of this body or chunk, as they came */
  const char *refusal; /* CHUNK: the octets are thrown away, then this is said; static */
  const char *why;     /* of CLOSE and ABORT; static */
  mp_tally tally;
  int64_t now_ms, start_ms;
  int64_t since_ms;                      /* last progress: a command answered, body octets, a banner */
  int64_t line_ms;                       /* when the partial line began */
  int64_t begun_ms;                      /* the transaction; GREET and HELD: when what is held back is due */
  int64_t body_ms;                       /* the body or chunk */
  unsigned trust, announced, mechanisms; /* mechanisms: as announced */
  unsigned errors, messages, refusals;   /* refusals: of recipients, for good */
  unsigned short idle, failures, command_limit, abort_code;
  signed char mech; /* of the authenticated user or the exchange; -1 */
  unsigned char state, waiting, resume;
  unsigned char queue[MP_SRV_QUEUE], queued;
  bool tls : 1, esmtp : 1, hello_esmtp : 1, early : 1, overlong : 1, foreign : 1;
  bool more : 1;       /* octets stand behind the command line in what was fed */
  bool solo : 1;       /* what is in output must be read by the peer before it may speak on */
  bool ends_group : 1; /* so must the reply to the command that runs */
  bool behind : 1;     /* octets came before that reply was said */
  bool line_early : 1; /* the line began while one of those held */
  bool body_open : 1;  /* the driver has taken DATA and not been told how it ends */
  bool dropping : 1;   /* ABORT was told: octets are read and thrown away */
  bool failed : 1;     /* mp_server_body_failed */
  bool chunk_last : 1, chunk_failed : 1;
  bool secret : 1;  /* octets of an AUTH exchange were fed */
  bool refused : 1; /* AUTH: the verdict was no, the exchange has a step to go */
};

#define IN(name) (1u << ST_##name)

/* ---- server.c: the one place that moves, speaks and closes ---- */
void mp_srv_enter(mp_server *srv, enum mp_srv_state state);
void mp_srv_push(mp_server *srv, mp_event_kind kind);
void mp_srv_banner(mp_server *srv, mp_str text);
/* What was fed before the banner: true when that ended the session. */
bool mp_srv_no_banner(mp_server *srv);
/* READY or, without a HELO, START. */
enum mp_srv_state mp_srv_base(const mp_server *srv);
/* Ends the session: ABORT when a body was under way, then CLOSE. `why` is static. */
void mp_srv_finish(mp_server *srv, const char *why);
void mp_srv_nomem(mp_server *srv); /* 421 if it can be written, and the end */
/* Forgets the transaction. Pushes nothing. */
void mp_srv_forget(mp_server *srv);
void mp_srv_forget_session(mp_server *srv);                /* HELO, AUTH, announced extensions too */
bool mp_srv_keep(mp_server *srv, const mp_reply *reply);   /* false: no memory */
mp_srv_note *mp_srv_note_new(mp_server *srv, size_t room); /* replaces srv->note; NULL: no memory */
/* Replaces a heap view; false: no memory, the old one stays. */
bool mp_srv_set(mp_str *view, mp_str value);

/* ---- server_say.c: replies ---- */
/* `line` is "250 2.1.0 text": the enhanced code is left out where it was not announced. Static or not, it is copied. */
void mp_srv_say(mp_server *srv, mp_str line);
#define SAY(srv, lit) mp_srv_say((srv), MP_STR(lit))
/* A reply of the driver's. `event` fills in an enhanced code that the driver did not give. */
void mp_srv_put(mp_server *srv, const mp_reply *reply, mp_event_kind event);
void mp_srv_said(mp_server *srv); /* something else has written a reply to srv->out */
/* The same for 4xx and 5xx; 421 and 521 end the session. */
void mp_srv_refuse(mp_server *srv, const mp_reply *reply, mp_event_kind event);
/* "421 4.x.x hostname text" and the end. */
void mp_srv_421(mp_server *srv, const char *enhanced, const char *text, const char *why);
/* The same as SAY for what counts as a bad command; at the limit 421 is said instead. `line` is static. */
void mp_srv_bad(mp_server *srv, mp_str line);
#define BAD(srv, lit) mp_srv_bad((srv), MP_STR(lit))
bool mp_srv_counted(mp_server *srv); /* counts a bad command; false: that was the last, the session is over */
/* Octets where none may be. True: tolerated. False: 554 was said and the session is over. */
bool mp_srv_early(mp_server *srv);

/* ---- server_cmd.c ---- */
void mp_srv_command(mp_server *srv, mp_str line);
void mp_srv_set_limit(mp_server *srv, mp_str in);     /* the ceiling of the line that `in` goes on */
bool mp_srv_foreign(const mp_server *srv, mp_str in); /* the line can only be TLS or HTTP */
size_t mp_srv_command_limit(const mp_server_opts *opts);

/* ---- one file per part; each answers its own events ---- */
typedef void mp_srv_run(mp_server *srv, mp_str args);
mp_srv_run mp_srv_helo, mp_srv_ehlo, mp_srv_lhlo, mp_srv_mail, mp_srv_rcpt, mp_srv_data, mp_srv_bdat,
    mp_srv_auth, mp_srv_starttls, mp_srv_xclient;

unsigned mp_srv_available(const mp_server *srv);  /* extensions that an EHLO would announce now */
unsigned mp_srv_mechanisms(const mp_server *srv); /* set of 1 << mp_mech that can be used now */

/* `reply` was checked: NULL, or a class that fits. */
void mp_srv_answer_helo(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_mail(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_rcpt(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_data(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_message(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_auth(mp_server *srv, const mp_reply *reply);
void mp_srv_answer_xclient(mp_server *srv, const mp_reply *reply);

size_t mp_srv_feed_data(mp_server *srv, mp_str in);
size_t mp_srv_feed_chunk(mp_server *srv, mp_str in);
void mp_srv_chunk_end(mp_server *srv);

void mp_srv_auth_line(mp_server *srv, mp_str line);
void mp_srv_auth_broken(mp_server *srv, mp_str line); /* a response that is no line: said, and the exchange is over */
void mp_srv_auth_release(mp_server *srv);             /* HELD is over */
void mp_srv_auth_credentials(mp_server *srv, const mp_credentials *credentials, const mp_reply *refusal);
int mp_srv_auth_worked(mp_server *srv, mp_job *job);

#endif
