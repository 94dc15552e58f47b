/* conn/link.h -- the pump of an outgoing connection: stream <-> TLS <-> client machine. One operation at a time, as smtp/client.h has
 * them; the body of a message comes from a string, a received message, or piece by piece from whoever asked. One loop's thread. */
#ifndef MP_CONN_LINK_H
#define MP_CONN_LINK_H

#include "conn/message.h"
#include "conn/worker.h"
#include "net/stream.h"
#include "smtp/client.h"
#include "tls/tls.h"

typedef struct mp_link mp_link;

typedef struct mp_link_calls { /* static; views last as long as the call, which may ask for the next operation or close the link */
  void (*done)(void *ctx, const mp_client_result *result); /* the operation under way is over */
  void (*want)(void *ctx); /* there is room for more of a body that mp_link_body gives */
  /* The connection is over: by QUIT (0) or why. The link must not be touched behind this call. Never comes after mp_link_close. */
  void (*closed)(void *ctx, int rc, const char *why);
  /* What goes over the wire, with `trace` set: octets of commands and replies in clear, secrets starred; of a body only how many. May close the link,
   * but no operation begins in here (MP_E_MISUSE). */
  void (*trace)(void *ctx, bool sent, mp_str octets, size_t body);
} mp_link_calls;

typedef struct mp_link_opts {
  mp_client_opts machine; /* strings are copied */
  mp_tls *tls;            /* a session that begins at once (implicit TLS), taken; or NULL */
  int64_t handshake_ms;   /* default 30 s when 0 */
  size_t write_most; /* octets that may wait for a slow peer, as ciphertext a little more; default 1 MB when 0, at least 256 KB */
  bool trace;
  bool pretend_tls; /* TLS from the start that is believed instead of spoken: for tests without a network */
} mp_link_opts;

/* Takes `stream`, and opts->tls, whatever it returns. The first `done` is GREET's. 0, MP_E_NOMEM or MP_E_SYSTEM. `calls` and `worker` are borrowed for the
 * link's life. */
int mp_link_open(mp_link **link, mp_worker *worker, mp_stream *stream, const mp_link_opts *opts,
                 const mp_link_calls *calls, void *ctx);

/* Drops the connection; nobody is called any more. The struct goes when the stream has. NULL does nothing. */
void mp_link_close(mp_link *link);
/* Says QUIT when nothing is under way, and closes without calling anybody. */
void mp_link_leave(mp_link *link);

/* Operations: return what their mp_client_ namesake does (for MP_E_INVALID mp_link_why tells), and begin at once; `done` comes on this or a later
 * turn, but never inside the call. MP_E_MISUSE as long as `done` of the one before has not come. Strings of what they are given must stay to `done`. */
int mp_link_hello(mp_link *link);
/* The session is taken, whatever comes of it. NULL: behind 220 TLS is believed, without a handshake. */
int mp_link_starttls(mp_link *link, mp_tls *tls);
int mp_link_auth(mp_link *link, const mp_client_login *login);
int mp_link_mail(mp_link *link, mp_transaction *tx);
int mp_link_rcpt(mp_link *link, mp_transaction *tx, size_t index);
int mp_link_command(mp_link *link, mp_str line);
int mp_link_rset(mp_link *link);
int mp_link_noop(mp_link *link);
int mp_link_vrfy(mp_link *link, mp_str what);
int mp_link_quit(mp_link *link);

typedef struct mp_link_source { /* where the body comes from: the first that is set, else mp_link_body */
  mp_message *message;          /* as it stands, edits in place; a reference is taken. Left alone to `done` */
  mp_str extra;                 /* in front of it: whole lines; copied */
  bool received;                /* with our Received field */
  mp_str octets;                /* borrowed to `done`; `has_octets` for an empty one */
  bool has_octets;
} mp_link_source;

/* `whole`: MAIL, RCPT and DATA (mp_client_send); else DATA alone. */
int mp_link_send(mp_link *link, mp_transaction *tx, const mp_link_source *source, bool whole);

/* A piece of a body that is given so: after `want`, once; at most 16 MB, copied. 0, MP_E_MISUSE, or MP_E_NOMEM: it was not taken, and may be tried again.
 * What comes of it may be told inside the call. */
int mp_link_body(mp_link *link, mp_str octets, bool last);
void mp_link_body_failed(mp_link *link, const char *why); /* static; ends operation and connection */

bool mp_link_idle(const mp_link *link);          /* fit for an operation */
mp_client *mp_link_machine(const mp_link *link); /* for its facts; NULL before an implicit handshake is done */
mp_tls *mp_link_tls(const mp_link *link);        /* NULL in clear */
void mp_link_peer(const mp_link *link, mp_stream_peer *peer);
const char *mp_link_why(const mp_link *link);

#endif
