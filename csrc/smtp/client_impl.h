/* smtp/client_impl.h -- what the files of the client machine share, and nobody else sees. The machine's picture is in client.c. */
#ifndef MP_SMTP_CLIENT_IMPL_H
#define MP_SMTP_CLIENT_IMPL_H

#include "base/error.h"
#include "smtp/client.h"
#include "smtp/encode.h"
#include "smtp/reply_read.h"
#include "smtp/sasl_client.h"

#define MP_CL_STATE_MAP(X)                                                   \
  X(BANNER)    /* nothing was heard yet                                   */ \
  X(IDLE)      /* no operation is under way                               */ \
  X(EHLO)      /* EHLO or LHLO was said                                   */ \
  X(HELO)      /* EHLO was refused                                        */ \
  X(STARTTLS)  /* STARTTLS was said                                       */ \
  X(HANDSHAKE) /* and 220 heard: the driver's turn                        */ \
  X(AUTH)      /* in a SASL exchange                                      */ \
  X(JOB)       /* and it waits for a derivation                           */ \
  X(LINE)      /* one command, one reply                                  */ \
  X(QUIT)      /* QUIT was said                                           */ \
  X(ENVELOPE)  /* commands of a transaction, answered or not              */ \
  X(BODY)      /* octets of a message are wanted                          */ \
  X(FINAL)     /* all of them are in output, or sent                      */ \
  X(CLOSED)    /* nothing more is taken or said                           */

enum mp_cl_state {
#define MP_CL_STATE(name) CL_##name,
  MP_CL_STATE_MAP(MP_CL_STATE)
#undef MP_CL_STATE
};

/* What a transaction consists of, in order. */
enum mp_cl_step { STEP_RSET, STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_END };

#define MP_CL_BYE     "peer said 421"
#define MP_CL_UNASKED "peer sent a reply that nothing had asked for"

enum {
  MP_CL_HIGH_WATER = 64 * 1024,        /* of output: above it nothing is added of one's own accord */
  MP_CL_OUTPUT = 4 * MP_CL_HIGH_WATER, /* its ceiling */
  MP_CL_LINE = 12288,                  /* a command of a script, without CRLF */
  MP_CL_TEXT = 1024,                   /* of a reply that a transaction keeps */
  MP_CL_DOMAINS = 1024 /* told apart for RCPTDOMAINMAX; a larger limit is taken for this one */
};

enum mp_cl_pending {
  PENDING_STARTTLS = 1,
  PENDING_JOB = 2,
  PENDING_BODY = 4,
  PENDING_DONE = 8,
  PENDING_CLOSE = 16
};

struct mp_client {
  const mp_client_opts *opts;
  mp_reader reader;
  mp_buf out;
  mp_client_caps caps;
  char *caps_text;         /* heap, of the views in caps */
  mp_str unique, exporter; /* channel bindings, one heap block */
  mp_transaction *tx;      /* of the operation under way */
  const mp_client_login *login;
  mp_sasl_client *sasl;
  mp_encode enc;
  mp_client_result done;
  const char *why;              /* static */
  int rc;                       /* of CLOSE */
  int64_t now_ms, since_ms;     /* last progress */
  int64_t start_ms;             /* of the operation */
  uint64_t left;                /* to be taken of a chunk that holds the whole body */
  size_t flight;                /* commands of the envelope, or chunks, that were written and not answered */
  size_t send_rcpt, reply_rcpt; /* the two cursors, within STEP_RCPT */
  size_t accepted, offered;     /* recipients of the peer's transaction */
  size_t *domain;               /* heap: first recipients of different domains, by index */
  size_t secret;                /* octets in front of the CRLF at the end of output */
  unsigned domains, domain_room;
  unsigned mails, tried; /* tried: set of 1 << mp_mech */
  signed char mech;      /* of the exchange, then of the user; -1 */
  char last_octet;       /* of the whole body, while `kept` */
  unsigned char state, op, pending;
  unsigned char send, reply; /* mp_cl_step of the two cursors */
  bool tls : 1, esmtp : 1;
  bool early : 1; /* a reply had begun to come before the operation did */
  bool dirty : 1; /* the peer holds a transaction that is not wanted any more */
  bool begun : 1; /* its MAIL was accepted */
  bool bdat : 1;
  bool whole : 1;      /* the body is one chunk of known length */
  bool kept : 1;       /* its last octet was taken, and is not in output */
  bool ahead : 1;      /* that chunk goes along with the envelope */
  bool said : 1;       /* and is in output, or sent */
  bool lone : 1;       /* 354 though nobody was accepted */
  bool broken : 1;     /* a chunk was refused */
  bool held : 1;       /* the initial response was too long for the command */
  bool challenged : 1; /* by 334, in an AUTH that a script does by itself */
  bool stopped : 1;    /* AUTH was cancelled with "*" */
};

/* ---- client.c: the one place that moves, ends operations and closes ---- */
void mp_cl_enter(mp_client *cl, enum mp_cl_state state);
/* 0 when `op` may begin (and has), or MISUSE or CLOSED. */
int mp_cl_begin(mp_client *cl, mp_client_op op, int64_t now_ms);
void mp_cl_cancel(mp_client *cl);                  /* it has not begun after all */
int mp_cl_invalid(mp_client *cl, const char *why); /* MP_E_INVALID, with the reason */
void mp_cl_push(mp_client *cl, enum mp_cl_pending event);
/* Ends the operation. `reply` is borrowed, or in the arena. */
void mp_cl_done(mp_client *cl, bool ok, const mp_reply *reply);
void mp_cl_done_local(mp_client *cl, const mp_reply *reply);
/* Ends it and the conversation. */
void mp_cl_fail(mp_client *cl, int rc, const char *why);
void mp_cl_close(mp_client *cl, int rc, const char *why); /* the operation has ended before */
/* Adds to output; false: no memory, and the conversation has ended. */
bool mp_cl_say(mp_client *cl, mp_str octets);

/* ---- client_caps.c ---- */
int mp_cl_caps(mp_client *cl, const mp_reply *reply); /* 0 or MP_E_NOMEM */
void mp_cl_forget_caps(mp_client *cl);
static inline bool mp_cl_has(const mp_client *cl, unsigned extension)
{
  return (cl->caps.extensions & extension) != 0;
}

/* ---- client_check.c: what may be asked of this peer, and how it is written ---- */
/* 0; MP_E_INVALID (nothing was changed); MP_E_NOMEM; or 1: refused as a whole with *refusal. Recipients that cannot be offered are refused one by
 * one; *left is how many remain. `first` and `count` are the recipients that it is about. */
int mp_cl_check(mp_client *cl, mp_transaction *tx, size_t first, size_t count, size_t *left, mp_reply *refusal);
bool mp_cl_say_mail(mp_client *cl);
bool mp_cl_say_rcpt(mp_client *cl, const mp_send_rcpt *rcpt);

/* ---- client_send.c ---- */
void mp_cl_write(mp_client *cl); /* commands of the envelope, as many as may be */
void mp_cl_envelope_reply(mp_client *cl, const mp_reply *reply);
/* Whoever has no result yet gets `state`. `reply` may be NULL. */
void mp_cl_settle(mp_client *cl, mp_rcpt_state state, mp_stage stage, const mp_reply *reply);
void mp_cl_settle_lost(mp_client *cl); /* the same, for a connection that is gone */
void mp_cl_settle_reply(mp_client *cl, mp_stage stage, const mp_reply *reply); /* the same, for a refusal */
void mp_cl_finish(mp_client *cl, const mp_reply *reply);                       /* the transaction, and DONE */
mp_stage mp_cl_stage(const mp_client *cl);

/* ---- client_body.c ---- */
void mp_cl_body_ahead(mp_client *cl); /* behind RCPT, before anybody has answered */
void mp_cl_ahead_reply(mp_client *cl, const mp_reply *reply);
void mp_cl_body_begin(mp_client *cl);
void mp_cl_body_reply(mp_client *cl, const mp_reply *reply);

/* ---- client_auth.c ---- */
void mp_cl_auth_reply(mp_client *cl, const mp_reply *reply);
void mp_cl_auth_end(mp_client *cl); /* lets go of the exchange */

/* ---- transaction.c ---- */
/* The reply with its text copied to the arena, or shared with `like` (may be NULL) when that says the same. */
mp_reply mp_tx_keep(mp_transaction *tx, const mp_reply *reply, const mp_reply *like);

#endif
