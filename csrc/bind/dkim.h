/* bind/dkim.h -- what the files of DKIM's binding share. */
#ifndef MP_BIND_DKIM_H
#define MP_BIND_DKIM_H

#include "bind/mpl.h"
#include "mail/dkim.h"

#define MPL_DKIM_KEY    "moonpost.core.dkim_key"
#define MPL_DKIM_VERIFY "moonpost.core.dkim_verifier"
#define MPL_DKIM_HASH   "moonpost.core.dkim_hash"

/* Something that takes a body: a verifier, or the hashes of a signer. Lives on the heap, so that the thread pool may fill it while its box is
 * collected. */
typedef struct mpl_taker {
  int (*take)(struct mpl_taker *taker, mp_str octets);
  int (*finish)(struct mpl_taker *taker);
  bool (*given)(struct mpl_taker *taker,
                mp_sink *sink); /* all that it wants was made while the octets came: no body is needed */
  void (*wants)(struct mpl_taker *taker, mp_body_wants *wants); /* and what is to be made of those to come */
  bool came; /* it is about the body as it was received, and not as it is */
  void (*free)(struct mpl_taker *taker);
} mpl_taker;

/* The beginning of every box that has one. NULL: closed, or the pool has it. */
typedef struct mpl_taking {
  mpl_taker *taker;
  bool complete, closed;
} mpl_taking;

/* box:feed(message or string, worker, done): the body's octets into the box at index 1. Returns true; or false, and done(ok, why, error) is called
 * later; or nil, why, error. */
int mpl_taking_feed(lua_State *L, mpl_taking *box);

/* The header block of the message or string at `index`: of a message as it was received, or (`edited`) as it stands, in `room`. Borrowed. */
mp_str mpl_header_of(lua_State *L, int index, bool edited, mp_buf *room, int *rc);

mp_dkim_key *mpl_check_dkim_key(lua_State *L, int index); /* raises */
int mpl_open_dkim_key(lua_State *L);
int mpl_open_arc(lua_State *L);

#endif
