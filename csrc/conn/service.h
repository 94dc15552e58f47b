/* conn/service.h -- one generation's server on one worker: rules, TLS, listeners and the connections that met it. Closing a Lua state closes
 * no listener by itself: a service is stopped, its connections finish, and then it is released. One thread. */
#ifndef MP_CONN_SERVICE_H
#define MP_CONN_SERVICE_H

#include "conn/message.h"
#include "conn/rules.h"
#include "conn/worker.h"
#include "net/listen.h"
#include "smtp/server.h"
#include "tls/tls.h"

typedef struct mp_conn mp_conn;
typedef struct mp_service mp_service;

typedef enum mp_tls_mode { MP_TLS_NONE, MP_TLS_STARTTLS, MP_TLS_IMPLICIT } mp_tls_mode;

typedef struct mp_port { /* one listener's ways; owned by the service, unchanged while it lives */
  mp_list node;
  mp_service *service;
  char *name;
  mp_server_opts machine;
  char *priority_profile;   /* behind machine.priority_profile; ours */
  const mp_networks *proxy; /* whose connections begin with a PROXY header: the rules', or own_proxy */
  mp_networks own_proxy;
  mp_tls_mode tls;
  mp_listener *listener; /* NULL when closed, or for wires */
} mp_port;

/* Hook bits: 1u << MP_EV_x for the machine's events, and these. */
enum { MP_HOOK_TLS = 1u << 28, MP_HOOK_DISCONNECT = 1u << 29, MP_HOOK_REFUSED = 1u << 30 };

typedef enum mp_answer_kind {
  MP_ANSWER_DEFAULT,    /* no objection, or no opinion */
  MP_ANSWER_REPLY,      /* `reply` */
  MP_ANSWER_PENDING,    /* mp_conn_answer follows later */
  MP_ANSWER_ACCEPT,     /* auth, token: the proof is good */
  MP_ANSWER_CREDENTIALS /* credentials: `credentials` */
} mp_answer_kind;

typedef struct mp_answer { /* views need to last for the call alone */
  mp_answer_kind kind;
  mp_reply reply;
  mp_credentials credentials;
  mp_str senders; /* with ACCEPT and CREDENTIALS: a list as mp_senders_have reads it, both NULs counted; empty = any address */
} mp_answer;

typedef enum mp_crowded {
  MP_CROWDED_MACHINE, /* no descriptor or memory; who is not accepted waits in the backlog */
  MP_CROWDED_TOTAL,   /* limits.connections */
  MP_CROWDED_ADDRESS, /* limits.connections_per_address */
  MP_CROWDED_BUFFERS, /* limits.buffers */
  MP_CROWDED_COUNT
} mp_crowded;

enum { MP_CROWDED_MS = 60000 };

typedef struct mp_handler { /* the floor above; every call comes on the worker's thread */
  /* An event with a hook: fills *answer. For told-only events *answer is ignored. */
  void (*event)(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer);
  /* The handshake is done (MP_HOOK_TLS). */
  void (*tls)(void *ctx, mp_conn *conn);
  /* Rules, limits or the machine refused by themselves (MP_HOOK_REFUSED): for the log. `about` is an address or a user, or empty. Bad
   * commands come as MP_EV_NONE, once for those that were fed together, with what was said to the last. */
  void (*refused)(void *ctx, mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about);
  /* The peer is gone while `pending` waits; after this mp_conn_answer finds nobody. For MESSAGE
   * it is called only when the last grace is over, and the answer is still owed then: what was taken is finished else. */
  void (*lost)(void *ctx, mp_conn *conn, mp_event_kind pending);
  /* The last call for this connection, made whenever conn->user is set or MP_HOOK_DISCONNECT is on; its memory is gone afterwards. */
  void (*closed)(void *ctx, mp_conn *conn, const char *why);
  /* Nothing is left of a service that was stopped. It is freed after this call. */
  void (*stopped)(void *ctx);
  /* Connections that get no session, for the log: the first in MP_CROWDED_MS for each reason. `peer` is NULL for nobody in
   * particular. The pointer may be NULL: nobody asks. */
  void (*crowded)(void *ctx, mp_crowded why, const char *port, const mp_ip *peer);
} mp_handler;

struct mp_service {
  mp_worker *worker;
  const mp_handler *handler;
  void *ctx;
  unsigned hooks;
  mp_rules rules;
  mp_tls_config *tls; /* a reference; may be NULL */
  bool pretend_tls; /* TLS is offered without a certificate and never spoken: mp_conn_pretend_tls. Virtual loops alone */
  char *hostname, *banner;
  char sasl_secret[32];
  unsigned connections_most, connections_each; /* 0 = no limit */
  unsigned hops;                               /* Received fields: 554 5.4.6 past it */
  unsigned fields;                             /* of a header: 552 5.3.4 past it; 0: no limit */
  int64_t handshake_ms;                        /* TLS handshake and PROXY header, each: default 30 s */
  size_t write_most;                           /* octets queued for a slow peer: closed past it */
  size_t buffers_most; /* octets of all connections' buffers on the worker, bodies apart: default 256 MB. Past seven eighths no new session, past all who grows is told 421 */
  mp_list ports, conns;
  unsigned conn_count;
  uint64_t accepted, messages, refused;
  int64_t quiet_until[MP_CROWDED_COUNT]; /* a flood of refusals is one line a minute */
  mp_timer grace;
  bool stopping, retiring;
  bool final; /* stopped from outside, not by another generation: nothing outlives its grace */
};

/* A service with defaults, no ports. `handler` is borrowed for its life. 0 or MP_E_NOMEM. */
int mp_service_new(mp_service **service, mp_worker *worker, const char *hostname, const mp_handler *handler,
                   void *ctx);

/* At once and without a word: for one that never had a connection. NULL does nothing. */
void mp_service_free(mp_service *service);

/* Adds a port; `machine` is copied and its strings too, hostname, pools and SASL context are filled in. 0, MP_E_NOMEM, MP_E_INVALID. */
int mp_service_port(mp_service *service, const char *name, const mp_server_opts *machine, mp_tls_mode tls,
                    mp_port **port);
int mp_port_proxy(mp_port *port,
                  mp_str network); /* a list of its own, for this port; "" = an empty one. As mp_rules_network */
int mp_port_listen(mp_port *port, const mp_binding *binding); /* 0 or an error of net/listen.h */
void mp_port_close(mp_port *port);

/* Tells handler->crowded, unless it was told so lately. `peer` may be NULL. */
void mp_port_crowded(mp_port *port, mp_crowded why, const mp_ip *peer);

/* Stops: no new connections; idle ones are told 421 now, busy ones when they become idle; after `grace_ms` the rest is cut, and programs that
 * their messages were given to are killed. Then `stopped`. */
void mp_service_stop(mp_service *service, int64_t grace_ms);

/* The same for a service that another one has replaced: open sessions go on with it, idle ones too, until `grace_ms` is over;
 * then it stops. Does nothing once it is stopping. */
void mp_service_retire(mp_service *service, int64_t grace_ms);

/* The floor above is going away: everything is cut, nothing waits for an answer any more, and only `silent` is called (its stopped() last). */
void mp_service_kill(mp_service *service, const mp_handler *silent);

#endif
