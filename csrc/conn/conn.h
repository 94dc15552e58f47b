/* conn/conn.h -- the pump: one connection's stream, TLS and machine joined. Octets go up, replies go down, events go to the service's handler. */
#ifndef MP_CONN_CONN_H
#define MP_CONN_CONN_H

#include "conn/service.h"

/* Takes the stream (closed when this fails or refuses). Connection limits are looked at here, before any memory of ours is taken. */
void mp_conn_open(mp_port *port, mp_stream *stream);

/* Answers the pending event. False when there is none (the peer is gone, the session was closed): nothing happened. */
bool mp_conn_answer(mp_conn *conn, const mp_answer *answer);
/* LMTP, before MESSAGE is answered. 0 or as mp_server_reply_rcpt. */
int mp_conn_answer_rcpt(mp_conn *conn, size_t index, const mp_reply *reply);

/* Inside or after the RCPT event, before its answer: the relay rule is waived for this recipient. */
void mp_conn_allow_relay(mp_conn *conn);

/* Says `reply` and closes; at once when the machine has not begun. */
void mp_conn_close(mp_conn *conn, const mp_reply *reply, const char *why);

/* For tests of policies: as if the TLS handshake that the connection over the memory stream `stream` waits for were done, with `facts`
 * (copied). Only on a service that pretends (conn/service.h), which no socket can meet. 0, MP_E_NOMEM, MP_E_EOF when the connection
 * is gone, or MP_E_MISUSE when no handshake is due. */
int mp_conn_pretend_tls(mp_service *service, const mp_stream *stream, const mp_tls_info *facts);

/* Authenticates by decree (plug-ins that trust a network). `senders` as in mp_answer. 0 or MP_E_NOMEM. */
int mp_conn_senders(mp_conn *conn, mp_str senders);

/* The user slot: the floor above keeps its box there. */
void mp_conn_set_user(mp_conn *conn, void *user);
void *mp_conn_user(const mp_conn *conn);

typedef struct mp_conn_facts { /* views last until the conn's next event */
  const mp_port *port;
  bool is_unix, alive, proxied, may_relay;
  mp_ip peer, local;
  uint16_t peer_port, local_port;
  unsigned uid;
  int pid;
  bool tls;
  mp_tls_info tls_info;
  mp_str helo, user;
  bool esmtp, early;
  const char *mech, *with;
  unsigned errors;
  const mp_tally *tally; /* NULL before there is a machine */
  int64_t open_ms;       /* since it was accepted */
  const char *senders;   /* or NULL */
  mp_event_kind pending; /* MP_EV_NONE when nothing waits */
} mp_conn_facts;

void mp_conn_facts_get(const mp_conn *conn, mp_conn_facts *facts);
bool mp_conn_alive(const mp_conn *conn);
mp_server *mp_conn_machine(const mp_conn *conn);  /* NULL before the banner */
mp_message *mp_conn_message(const mp_conn *conn); /* while MESSAGE is pending, else NULL */
mp_service *mp_conn_service(const mp_conn *conn);

#endif
