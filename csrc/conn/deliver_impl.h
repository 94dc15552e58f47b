/* conn/deliver_impl.h -- what the deliveries have in common: the message, its head as it stood at the call, and the outcome. */
#ifndef MP_CONN_DELIVER_IMPL_H
#define MP_CONN_DELIVER_IMPL_H

#include "conn/deliver.h"
#include "conn/lines.h"

enum { DELIVERY_MODE = 0600, DELIVERY_WHY = 512 };

typedef struct delivery delivery;
struct delivery {
  mp_work work; /* first: this is how a job finds its delivery */
  mp_list node; /* in the store's `waits`, or nowhere */
  void (*cancel)(delivery *d);
  mp_message *msg;
  mp_delivered done;
  void *ctx;
  mp_buf head;
  mp_lines body;   /* behind it */
  unsigned number; /* of this delivery among the message's */
  mp_outcome out;
  char why[DELIVERY_WHY];
};

/* Takes a reference of `msg` and builds the head, with the line ends that the body will have too. 0 or an error (nothing is held then). */
int delivery_init(delivery *d, mp_message *msg, mp_str extra, bool crlf, mp_delivered done, void *ctx);
void delivery_dispose(delivery *d);

/* Has mp_deliver_cancel call `cancel`, on the loop's thread, perhaps more than once, as long as `d` is there. */
void delivery_cancellable(delivery *d, void (*cancel)(delivery *d));
void delivery_report(delivery *d);

/* Notes a failure: "cannot VERB PATH: text of errno". The first one stays. */
void delivery_fail(delivery *d, const char *verb, const char *path);
/* The same for an error that is no errno's; `why` may be of any kind. */
void delivery_error(delivery *d, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

void delivery_note(delivery *d, const char *more); /* appended to what was noted */

/* Copies `path`, and what of it is in front of its last '/'; NULL in both, or one, is out of memory. The name in the folder, into *path. */
const char *delivery_split(const char *path, char **copy, char **folder);

/* Writes head and body to `fd` and syncs it. False when it failed, which is noted with `path`. */
bool delivery_store(delivery *d, int fd, const char *path);

/* deliver_mbox.c */
int mp_deliver_mbox(mp_loop *loop, mp_message *msg, const mp_file_opts *opts, mp_delivered done, void *ctx);

#endif
