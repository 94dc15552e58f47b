/* spool/spool.h -- messages that are kept, and their deliveries: one recipient of one message each. One folder, one database, two threads: one
 * writes, one reads. Whoever asks is answered on one of them.
 *
 * The contract, for this spool and for one that many machines share:
 * - A put that was answered with 0 is on disk and synced, whole: the message, its octets, every delivery. One that was answered otherwise is
 *   not there, or, when the answer was lost with the process, is there once. A put of an id that is there already changes nothing (MP_E_EXISTS).
 * - A claim gives a delivery to one at a time. It ends by finish, reschedule or release. On one machine claims live in memory, and end with the
 *   process; elsewhere they are leases that end by themselves. So what was delivered when a process died may be delivered again.
 * - finish, reschedule: answered with 0 they are on disk. Of a delivery that is not there any more they change nothing, and are 0.
 * - Deliveries are independent of each other. With its last one a message goes, octets and all.
 * - Order: within a lane of a domain what was due first is claimed first. Lanes are of a priority and of a tenant, else of a sender; those of a
 *   higher priority come first, equal ones take turns. Between domains nothing is promised, nor between what two threads ask at the same time.
 * - Times are seconds since 1970 by the clock on the wall, of whoever asks. Until when a domain sleeps, or a released delivery waits, is kept in memory.
 * - What is asked while a commit is syncing goes into the next one.
 * Texts are octets to the spool: it looks into none of them. */
#ifndef MP_SPOOL_SPOOL_H
#define MP_SPOOL_SPOOL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum { MP_SPOOL_WHY = 256, MP_SPOOL_ID_MOST = 64 };

typedef struct mp_spool mp_spool;

typedef struct mp_spool_entry { /* one message */
  mp_str id;                    /* 1 to MP_SPOOL_ID_MOST octets; of two the later one should sort behind */
  mp_str sender, tenant, user;  /* tenant, user: may be empty */
  mp_str params, meta;          /* of whoever puts it in */
  double received;
  uint64_t size; /* of the octets */
  int priority;  /* -9 to 9 */
  bool report;   /* it is one of ours about another message */
} mp_spool_entry;

typedef struct mp_spool_delivery {
  int64_t handle; /* names it in finish, reschedule and release; given by put and claim */
  uint32_t number;
  mp_str address, domain; /* domain: what deliveries are claimed by */
  mp_str params, last;
  double due, expires, alarm;
  uint32_t attempts, warned;
  bool held;
} mp_spool_delivery;

typedef struct mp_spool_found { /* what was claimed or listed */
  mp_spool_entry entry;
  mp_spool_delivery delivery;
} mp_spool_found;

typedef enum mp_spool_verb {
  MP_SPOOL_PUT,    /* entry, deliveries (handles are set), octets, claimed */
  MP_SPOOL_FINISH, /* deliveries: handle alone */
  MP_SPOOL_RESCHEDULE, /* deliveries: handle, address, domain, due, expires, alarm, attempts, warned, held, last; the claims end */
  MP_SPOOL_CLAIM,  /* domain, now, most -> found */
  MP_SPOOL_ALARMS, /* now, most -> found: claims those whose alarm is over, whatever they wait for */
  MP_SPOOL_TAKE, /* id -> found: claims the deliveries of one message that nobody has, whatever they wait for */
  MP_SPOOL_LIST, /* after, most -> found, by message id, the first behind `after` (empty: the first of all); nothing is claimed */
  MP_SPOOL_SHOW, /* id -> found: the deliveries of one message */
  MP_SPOOL_READ  /* id -> octets of a message, in `out` */
} mp_spool_verb;

/* What is asked. It is the caller's again when `done` has been called, on a thread of the spool's. */
typedef struct mp_spool_request mp_spool_request;
struct mp_spool_request {
  mp_list node;
  mp_spool_verb verb;
  void (*done)(mp_spool_request *req);
  mp_spool_entry entry;
  mp_spool_delivery *deliveries;
  size_t count;
  mp_str octets;
  bool claimed; /* those that are due by entry.received are claimed for who puts them in */
  mp_str id, domain;
  double now;
  size_t most;
  /* the answer */
  int rc; /* 0, MP_E_EXISTS, MP_E_NOTFOUND, MP_E_NOSPACE, MP_E_NOMEM, MP_E_SYSTEM; MP_E_CLOSED: the spool closes */
  char why[MP_SPOOL_WHY]; /* for people, when rc is none of 0, EXISTS and NOTFOUND */
  mp_spool_found *found;
  size_t found_count;
  mp_arena arena; /* of `found` and its texts */
  mp_buf out;
};

/* For a request that is all zero but for what is asked. */
void mp_spool_request_init(mp_spool_request *req, mp_spool_verb verb);
void mp_spool_request_dispose(mp_spool_request *req);

/* Opens the spool in `folder`, which is made when it is missing. MP_E_INUSE: another process has it, which `why` names. `changed(ctx)` is called
 * on a thread of the spool's, or of who releases, when something may be due earlier than it was; it may not call in. */
int mp_spool_open(mp_spool **spool, const char *folder, void (*changed)(void *ctx), void *ctx,
                  char why[MP_SPOOL_WHY]);

/* Answers what has been asked, and ends. Nobody may ask any more. NULL does nothing. */
void mp_spool_close(mp_spool *spool);

/* Asks. Any thread. */
void mp_spool_ask(mp_spool *spool, mp_spool_request *req);

/* Up to `most` domains for which something is due; their names are copied into `arena`. Each is given once, until it has been claimed from or
 * put to sleep. Any thread; does not wait for the disk. */
size_t mp_spool_due(mp_spool *spool, double now, size_t most, mp_arena *arena, mp_str *names);

/* When something is due next, or has an alarm; INFINITY when nothing waits. */
double mp_spool_next(mp_spool *spool);

/* Nothing of a domain is due before `until`; 0 wakes it. */
void mp_spool_sleep(mp_spool *spool, mp_str domain, double until);

/* Ends claims; until `until` these are not due. 0: they are as before. */
void mp_spool_release(mp_spool *spool, const mp_spool_delivery *deliveries, size_t count, double until);

typedef struct mp_spool_counts {
  uint64_t deliveries, claimed, domains;
} mp_spool_counts;
void mp_spool_count(mp_spool *spool, mp_spool_counts *counts);

#endif
