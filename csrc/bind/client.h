/* bind/client.h -- what the files of the sending half share: streams that were dialled, connections that speak, transactions. */
#ifndef MP_BIND_CLIENT_H
#define MP_BIND_CLIENT_H

#include "bind/mpl.h"
#include "conn/link.h"

#define MPL_STREAM "moonpost.core.stream"
#define MPL_DIAL   "moonpost.core.dial"
#define MPL_CLIENT "moonpost.core.client"

/* What has to be let go of before its worker's loop is. */
struct mpl_leaving {
  mp_list node; /* in worker->leaving */
  mpl_worker *worker;
  void (*drop)(mpl_leaving *leaving);
};

void mpl_leaving_init(mpl_leaving *leaving, mpl_worker *worker, void (*drop)(mpl_leaving *));

typedef struct mpl_stream { /* box */
  mpl_leaving leaving;
  mp_stream *stream; /* NULL: closed, or taken */
} mpl_stream;

/* Takes it out of its box; NULL when there is none. Raises for what is no such box, or one of another worker: nothing of it was taken then. */
mp_stream *mpl_stream_of(lua_State *L, int index, const mpl_worker *worker);

/* Pushes a wire on a new memory stream, whose own end is put into *stream. `index`: a table as service:wire has it. Raises. */
void mpl_push_wire(lua_State *L, mpl_worker *worker, int index, mp_stream **stream);

/* A client session for the table at `index`, or for its field `field` (*tls is NULL when that is nil). 0, or an error with `why`, perhaps
 * empty: a file that cannot be used, or terms that nobody can keep. Raises for what is no such table. */
int mpl_tls_for(lua_State *L, int index, const char *field, mp_worker *worker, mp_tls **tls, char *why,
                size_t room);
int mpl_open_client_tls(lua_State *L);
int mpl_push_tls_facts(lua_State *L, mp_tls *tls); /* a table; returns 1 */

/* A transaction as Lua gives it; its strings are copied: a script may do with its own what it likes, while the peer takes its time. */
typedef struct mpl_mail {
  mp_transaction tx;
  mp_arena strings;
  size_t room; /* of tx.rcpts */
} mpl_mail;

void mpl_mail_init(mpl_mail *mail);
void mpl_mail_dispose(mpl_mail *mail);

/* Reads the table at `index`: { from =, to = { address | { address =, ascii =, params = } }, from_ascii =, params = }; fields of `params` are
 * named as those a server's session shows. NULL, or a sentence on what is wrong. The table and what is in it must stay as they are until the operation is
 * over. Raises nothing but for want of memory. */
const char *mpl_mail_read(lua_State *L, int index, mpl_mail *mail);

/* What a string says about itself: BODY, SMTPUTF8 (octets over 127 in its header) and SIZE where `params` did not, and `canonical`. */
void mpl_mail_look(mpl_mail *mail, mp_str octets);

typedef struct mpl_client { /* kept in the registry while the connection lives */
  mpl_leaving leaving;
  mp_link *link; /* NULL: over */
  mpl_state *state;
  int self;      /* registry reference */
  mpl_mail mail; /* of the transaction under way, or the last one */
  bool has_mail;
  mp_client_login login; /* of the AUTH under way; its strings are in HELD */
  mp_tls *tls;           /* while the link is being made */
} mpl_client;

void mpl_push_reply(lua_State *L, const mp_reply *reply); /* code, enhanced, text; three nils when there was no reply */
int mpl_client_result(lua_State *L);                      /* client:result */
int mpl_client_caps(lua_State *L);                        /* client:caps */
int mpl_client_facts(lua_State *L);                       /* client:facts */
int mpl_client_tls(lua_State *L);                         /* client:tls */
int mpl_client_peer(lua_State *L);                        /* client:peer */

#endif
