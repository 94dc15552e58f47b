/* conn/conn_impl.h -- the pump's own struct, for the files that make it up: conn.c (life), conn_io.c (octets), conn_event.c (events). */
#ifndef MP_CONN_CONN_IMPL_H
#define MP_CONN_CONN_IMPL_H

#include "conn/conn.h"
#include "conn/errand.h"

/* States. conn_enter (conn.c) is the only writer.
 *   PROXY ---> HANDSHAKE ---> TALK ---> ENDING ---> GONE
 *     \______________________/^  \__________________/^
 * PROXY      a PROXY header is expected; no machine yet
 * HANDSHAKE  implicit TLS; no machine yet
 * TALK       the machine talks, over TLS or not
 * ENDING     what is queued is going out; nothing is read any more
 * GONE       the stream is closed; the struct waits for closed() or for the answer to MESSAGE */
#define CONN_STATE_MAP(X) X(PROXY) X(HANDSHAKE) X(TALK) X(ENDING) X(GONE)

typedef enum conn_state {
#define CONN_STATE_ENUM(name) CONN_##name,
  CONN_STATE_MAP(CONN_STATE_ENUM)
#undef CONN_STATE_ENUM
} conn_state;

typedef struct conn_pretended conn_pretended;

struct mp_conn {
  mp_list node; /* in service->conns */
  mp_service *service;
  mp_port *port;
  mp_stream *stream; /* NULL once closed() came */
  mp_server *srv;
  mp_tls *tls;
  conn_pretended *pretended; /* in place of `tls`, on a service that pretends */
  mp_sink *sink;
  mp_message *msg; /* while MESSAGE is pending */
  mp_errand *job;
  void *user;
  char *senders;
  const char *why; /* of the end; static */
  mp_timer timer;
  int64_t phase_due;  /* PROXY, HANDSHAKE, STARTTLS */
  mp_buf rest;        /* octets read and not yet taken by the machine */
  mp_buf cipher_rest; /* the same, still encrypted */
  size_t charged;     /* octets of worker->buffers that are this connection's */
  mp_ip peer, local;
  mp_ip counted; /* what the gate knows */
  mp_ip origin;  /* whose word XCLIENT is: of the socket, or of the PROXY header */
  uint16_t peer_port, local_port;
  unsigned char state;   /* conn_state */
  unsigned char pending; /* mp_event_kind asked of the handler */
  bool is_unix, proxied, no_relay, relay_network;
  bool unnamed; /* a proxy said that it does not know the peer */
  bool eof, lost, stopped_reading, sink_behind, sink_finishing, in_pump, in_decrypt, again, allow_relay,
      tls_started, gate_held, told_lost;
  unsigned message_facts;
  unsigned told_bad; /* bad commands that MP_HOOK_REFUSED has heard of */
  int64_t opened_ms;
  unsigned uid;
  int pid;
};

enum { CONN_REST_MOST = 65536, CONN_LINGER_MS = 2000, CONN_FAIR = 16384 };

void conn_enter(mp_conn *conn, conn_state state);
void conn_begin(mp_conn *conn);                /* to HANDSHAKE or TALK, when the peer's address is known */
void conn_talk(mp_conn *conn);                 /* makes the machine */
void conn_end(mp_conn *conn, const char *why); /* flush what can be, then close */
void conn_cut(mp_conn *conn, const char *why); /* close at once */
void conn_rearm(mp_conn *conn);
void conn_check_gone(mp_conn *conn);
bool conn_tls_info(const mp_conn *conn, mp_tls_info *info); /* false, and all empty, before a handshake is done */
const mp_tls_info *conn_pretended_info(const conn_pretended *pretended);
void conn_pretended_free(conn_pretended *pretended); /* NULL does nothing */

void conn_read(void *ctx, const char *in, mp_ssize len);
void conn_pump(mp_conn *conn, const char *in, size_t len); /* plaintext into the machine; keeps what is not taken */
void conn_tls_ready(mp_conn *conn);                        /* the handshake is done: on to the machine */
void conn_resume(mp_conn *conn); /* after an answer, a finished write, a handshake: go on with what was kept */
void conn_go_on(mp_conn *conn); /* the same from anywhere: when another's octets stand in the worker's buffer, on a later turn */
void conn_charge(mp_conn *conn); /* counts what the connection holds now among its worker's buffers */
bool conn_flush(mp_conn *conn);  /* machine output to the stream; false when the connection is gone */

void conn_event(mp_conn *conn, mp_event *ev);
void conn_tell_bad(mp_conn *conn); /* MP_HOOK_REFUSED: what the machine has refused by itself since the last time */
void conn_apply(mp_conn *conn, mp_event_kind kind, const mp_answer *answer);
void conn_trust(mp_conn *conn); /* from address and rules to the machine */
void conn_sink_ready(void *ctx, int rc);
void conn_job_forget(mp_conn *conn);

#endif
