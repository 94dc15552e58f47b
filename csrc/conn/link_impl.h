/* conn/link_impl.h -- the link's own struct, for the files that make it up: link.c (life and operations), link_io.c (octets and events),
 * link_body.c (where a body comes from). */
#ifndef MP_CONN_LINK_IMPL_H
#define MP_CONN_LINK_IMPL_H

#include "conn/errand.h"
#include "conn/link.h"

/* States. mp_link_enter is the only writer.
 *   SECURING ---> TALK <---> SECURING ... ---> GONE
 * SECURING   a handshake is under way: implicit TLS (no machine yet) or behind STARTTLS
 * TALK       the machine talks, over TLS or not
 * GONE       closed by us or by the machine; the struct waits for closed() of the stream */
typedef enum link_state { LINK_SECURING, LINK_TALK, LINK_GONE } link_state;

enum {
  LINK_HANDSHAKE_MS = 30000,
  LINK_WRITE_MOST = 1 << 20,
  LINK_WRITE_LEAST = 1 << 18,
  LINK_LINGER_MS = 2000
};

typedef struct link_source {
  bool active, pushed, asked, last;
  mp_str rest;     /* of the piece that is being taken */
  mp_message *msg; /* behind the head */
  uint64_t at;     /* in its sink */
  mp_buf head;     /* of the message; or a piece that was pushed and did not fit */
  char *scratch;
} link_source;

struct mp_link {
  mp_worker *worker;
  mp_stream *stream; /* NULL once closed() came */
  mp_client *cl;
  mp_tls *tls;
  mp_tls *next_tls; /* to be begun when the machine says so */
  mp_errand *job;
  const mp_link_calls *calls; /* NULL: nobody is called any more */
  void *ctx;
  mp_link_opts opts;
  char *hostname;
  link_source body;
  mp_timer timer;
  int64_t phase_due;
  int64_t begun_ms;   /* the operation under way */
  int64_t stalled_ms; /* since when `queued` octets have waited, and no fewer */
  size_t queued;
  unsigned char state; /* link_state */
  bool busy; /* an operation was asked for, or GREET is under way, and `done` has not told what came of it */
  bool running, again, tracing, secure_now, closing;
  int rc; /* what ended the connection before the link was given to who asked for it; 0: nothing did */
  const char *why;
};

static inline int64_t link_now(const mp_link *link)
{
  return mp_loop_now(&link->worker->loop);
}

extern const mp_tls_facts mp_link_believed; /* of TLS that nobody speaks */

void mp_link_enter(mp_link *link, link_state state);
void mp_link_end(mp_link *link, int rc, const char *why, bool at_once); /* closes, and tells who asked for the link */
void mp_link_lost(mp_link *link, int rc, const char *why); /* nothing can be read or written any more */
void mp_link_rearm(mp_link *link);

extern const mp_stream_calls mp_link_stream_calls;
void mp_link_closed(void *ctx);    /* the stream is gone: link.c */
bool mp_link_flush(mp_link *link); /* false when nothing more can be written now, or ever */
void mp_link_run(mp_link *link);   /* moves what can be moved; the one place where the machine moves */
bool mp_link_send_cipher(mp_link *link);
int mp_link_first_flight(mp_link *link); /* of an implicit handshake; calls nobody. 0 or an error */

int mp_link_source_begin(mp_link *link, const mp_link_source *from);
void mp_link_source_end(link_source *body);
bool mp_link_feed_body(mp_link *link); /* gives the machine of the body what it has room for; true when something moved */

#endif
