/* spool/spool.h -- messages that wait, kept where a crash does not reach them.
 *   put -> (commit) -> done: the message is somebody's -> due -> claim -> change (delivered, rescheduled, ...) -> gone
 *
 * The contract, which holds for every spool, one that many machines share among them:
 *
 * Names. A message is named by a text that its owner makes, unique for ever and sortable by time; a recipient by that text and a number, from 1 in
 *   the order of the put. Nothing else names a row. A recipient's state is independent of that of the others.
 * Durable. What `done` reports with 0 outlives a crash and a power failure, provided that the disk keeps what it said it had synced. What it reports
 *   with an error was not done. What was asked and not reported when the process died was done once, or not.
 * Idempotent. A put of a name that is in the spool says `existed` and changes nothing, whatever else it holds, so that a put whose answer was lost
 *   is asked again. A name is forgotten with its last recipient: a put after that is a new message. Ending a recipient that is gone says
 *   MP_E_NOTFOUND and harms nothing.
 * Leases. What was claimed is not given to anybody else before its lease ends: by a change with an end, a reschedule, a return, by time, by the end
 *   of the process that holds the spool. Leases bind claims only: ends are taken from anybody at any time, for what was delivered is delivered. A
 *   reschedule that names a lease which is over says MP_E_CANCELLED and changes nothing. So each recipient is delivered at least once; twice only
 *   when a lease or the process ended between the delivery and its change.
 * Ordering. Promised: requests of one thread are carried out in the order of its calls among writes (put, update) and, apart from them, among claims;
 *   a claim sees every write that was reported before it was asked; within one domain higher priority comes first, lanes take turns, and within a lane
 *   what was due first comes first.
 *   Not promised: any order between threads, lanes, domains, or of `done` calls of reads against those of writes; that recipients of one message come
 *   together; that what is due is claimed in the order of arrival.
 * Time. Due times, expiries and `now` are unix time in milliseconds, given by the caller; a clock that jumps makes things due early or late and loses
 *   none. Leases and quiet times run on a clock that does not jump.
 *
 * This spool is a folder of one machine: an SQLite database that people can open with `sqlite3`, and a file for each large body. One thread writes;
 * what is asked while it syncs goes into its next transaction. A second thread reads. SQLite takes its memory from its own allocator: the process may
 * hold other users of it, and its hooks are the process's. Everything else comes from base/mem.h.
 *
 * Threads: every function may be called from any thread unless it says otherwise. `done` is called on a thread of the spool, at most once, and owns the
 * request again; it must not wait. What a request points to stays its owner's, and untouched, until then. */
#ifndef MP_SPOOL_SPOOL_H
#define MP_SPOOL_SPOOL_H

#include "base/error.h"
#include "base/str.h"

typedef struct mp_spool mp_spool;
struct mp_spool_disk;

enum {
  MP_SPOOL_ID_MAX =
      64, /* octets in the name of a message: letters, digits, `-`, `_`, `.`; the first a letter or digit */
  MP_SPOOL_TEXT_MAX = 65536, /* octets in any other text of a request */
  MP_SPOOL_OWNERS = 64,
  MP_SPOOL_LANES = 64,          /* the lane of a message is a hash of its tenant, else of its sender */
  MP_SPOOL_CLAIM_MAX = 1000,    /* recipients in one claim */
  MP_SPOOL_LIST_MAX = 1000,     /* rows in one page of a list */
  MP_SPOOL_READ_MAX = 1 << 20,  /* octets in one read */
  MP_SPOOL_FILE_DEFAULT = 65536 /* octets of a body from which it had better be a file */
};

typedef struct mp_spool_opts {
  uint64_t reserve; /* octets of free space that puts leave alone, so that ends always fit; 0: 16 MB or 1 % of the disk, whichever is less */
  unsigned owners;  /* among whom domains are divided, up to MP_SPOOL_OWNERS; 0: one */
  bool pulled;      /* no threads: requests are carried out by mp_spool_turn, on the thread that calls it */
  /* Each may be NULL. They are called on any thread, without locks held, and must not wait. */
  void (*log)(void *ctx, const char *line); /* what an operator should know: rows set aside, a disk that fails, that it works again */
  void (*wake)(void *ctx);     /* mp_spool_next may answer something earlier than it last did */
  int64_t (*clock)(void *ctx); /* milliseconds, does not jump; NULL: CLOCK_MONOTONIC */
  void *ctx;
  const struct mp_spool_disk *disk; /* of tests: files (spool/disk.h); NULL: the system's */
  const char *vfs;                  /* of tests: the SQLite VFS on the same files; NULL: SQLite's own */
} mp_spool_opts;

/* Opens the spool in `folder`, which is made (0700) if missing, or in the format of an earlier version brought up to date. `why` gets a line for people
 * when it fails. Blocks: takes the folder's lock, recovers what a crash left, reads the index of what is due, removes files that no message names.
 *   MP_E_INUSE    another process has it; `why` names its number, host and start
 *   MP_E_INVALID  made by a later version of this library
 *   MP_E_DAMAGED  no database, or one that cannot be read at all
 *   MP_E_DENIED, MP_E_NOSPACE, MP_E_IO, MP_E_NOMEM */
int mp_spool_open(const char *folder, const mp_spool_opts *opts, mp_spool **out, char *why, size_t why_size);

/* Carries out what was asked, joins the threads, gives the lock back. Nobody may be in a call or make another. Leases end. NULL does nothing. */
void mp_spool_close(mp_spool *spool);

/* Only where `pulled`: carries out what was asked before the call, or puts things in order when that is nothing. Returns how many requests it was. */
size_t mp_spool_turn(mp_spool *spool);

/* ---- what is kept ---------------------------------------------------------------------------------------------- */

/* Texts are opaque to the spool and may be empty, unless it says otherwise. */
typedef struct mp_spool_message {
  mp_str id;
  mp_str sender; /* reverse-path without brackets; empty: the null sender */
  mp_str tenant; /* for fairness: a lane is a tenant's, else a sender's */
  mp_str user;   /* who submitted it */
  mp_str params; /* opaque: those of MAIL */
  mp_str meta;   /* opaque: whatever the caller wants back */
  bool report;   /* it is one of ours about another message */
  int priority;  /* -9 to 9 (RFC 6710) */
  int64_t received_ms;
  mp_str head;  /* of a put: the header block with its edits, up to and with the empty line */
  mp_str body;  /* of a put, when the body is not in a file */
  bool in_file; /* the body is the file that mp_spool_file_name made for this id */
  uint64_t head_length, body_length; /* of a put: body_length only, and only with a file */
} mp_spool_message;

enum mp_spool_state { MP_SPOOL_WAITING, MP_SPOOL_HELD };

typedef struct mp_spool_recipient {
  uint32_t n;     /* not of a put: its number in the message */
  mp_str address; /* where it goes now */
  mp_str domain;  /* of the address, lower case, A-labels; not empty, at most 255 octets: what claims go by */
  mp_str original; /* the address as the sender wrote it, when another */
  mp_str params;   /* opaque: those of RCPT */
  mp_str site;     /* where the last attempt went, for people and filters */
  mp_str host;
  mp_str reply; /* to the last attempt */
  int64_t due_ms;
  int64_t expiry_ms; /* 0: never. A recipient is never due later than this */
  int64_t alarm_ms; /* when somebody has to look at it, whatever it waits for: its sender is warned, or it is given up; 0: never */
  int64_t attempt_ms; /* the last attempt; 0: none */
  uint32_t attempts;
  uint32_t warned; /* how many warnings of the delay were sent */
  enum mp_spool_state state;
  bool claimed; /* of lists: somebody has it at the moment */
} mp_spool_recipient;

/* ---- requests -------------------------------------------------------------------------------------------------- */

typedef struct mp_spool_request mp_spool_request;

/* The first member of each request. Results besides those named below:
 *   MP_E_INVALID  something in it breaks a rule above
 *   MP_E_NOSPACE  the disk is full, or for a put: down to the reserve (452)
 *   MP_E_IO       the disk fails or is read-only (451)
 *   MP_E_NOMEM */
struct mp_spool_request {
  void (*done)(mp_spool_request *request); /* set by the caller; not NULL */
  int result;                              /* 0 or a negative error; when `done` is called */
  int kind;                                /* the spool's */
  mp_spool_request *next;                  /* the spool's */
};

enum mp_spool_verb {
  /* ends: the recipient goes, with the last one the message and its file */
  MP_SPOOL_DELIVERED,
  MP_SPOOL_BOUNCED,
  MP_SPOOL_EXPIRED,
  MP_SPOOL_REMOVED,
  /* the rest */
  MP_SPOOL_RESCHEDULE, /* ends the lease; due at when_ms, or at its expiry if that is earlier; takes reply, site, host, alarm_ms, warned */
  MP_SPOOL_HOLD,       /* not due before a release; it still expires */
  MP_SPOOL_RELEASE,    /* of a hold; due when it was */
  MP_SPOOL_RETRY,      /* due at when_ms (now, say); a held one stays held */
  MP_SPOOL_REDIRECT    /* takes address and domain; the address that it had first is kept as `original` */
};

typedef struct mp_spool_change {
  enum mp_spool_verb verb;
  mp_str id;
  uint32_t n;               /* the recipient; 0: every one of the message */
  uint64_t lease;           /* RESCHEDULE: the lease it was claimed by; 0: whichever */
  int64_t when_ms;          /* as the verb says */
  int64_t now_ms;           /* RESCHEDULE: when the attempt was; 0: there was none, and it is not counted */
  int64_t alarm_ms;         /* RESCHEDULE: 0 leaves what is there */
  uint32_t warned;          /* RESCHEDULE: 0 leaves what is there */
  mp_str reply, site, host; /* RESCHEDULE: a NULL pointer leaves what is there */
  mp_str address, domain;   /* REDIRECT */
  int result; /* 0, MP_E_NOTFOUND, MP_E_CANCELLED (that lease is over), MP_E_DAMAGED (was set aside) */
} mp_spool_change;

/* Changes recipients. All of a request are one commit; results of each are in the changes, and `result` tells of the commit. */
typedef struct mp_spool_update_request {
  mp_spool_request request;
  mp_spool_change *changes;
  size_t count; /* at most MP_SPOOL_CLAIM_MAX */
} mp_spool_update_request;

void mp_spool_update(mp_spool *spool, mp_spool_update_request *request);

/* Keeps a message with its recipients (at least one). `changes` belong to the same commit: a bounce and the end that it tells of. When the message
 * existed they are carried out all the same. */
typedef struct mp_spool_put_request {
  mp_spool_request request;
  const mp_spool_message *message;
  const mp_spool_recipient *recipients;
  size_t count;
  mp_spool_change *changes;
  size_t change_count;
  int64_t lease_ms; /* not 0: the caller claims, by this put, what is due at its received time */
  uint16_t holder;  /* for whom: mp_spool_leave */
  bool existed;     /* out: nothing was put; nothing is claimed */
  uint64_t lease;   /* out */
} mp_spool_put_request;

void mp_spool_put(mp_spool *spool, mp_spool_put_request *request);

/* A message with those of its recipients that were asked for. */
typedef struct mp_spool_item {
  mp_spool_message message; /* without head and body */
  mp_spool_recipient *recipients;
  size_t count;
} mp_spool_item;

/* What a claim or a list gave: one block of memory. */
typedef struct mp_spool_batch mp_spool_batch;
struct mp_spool_batch {
  mp_spool_item *items;
  size_t count;      /* of items */
  size_t recipients; /* in all of them */
};

void mp_spool_batch_free(mp_spool_batch *batch); /* NULL does nothing */

/* Claims recipients that nobody has: of a domain those that are due. Look at each expiry first: it may have passed. */
typedef struct mp_spool_claim_request {
  mp_spool_request request;
  mp_str domain;
  bool alarms; /* instead: of any domain and state, what is past its alarm; `domain` and `lane` do not count */
  mp_str id;   /* instead: of this message, in whichever state and whenever due */
  int lane;    /* -1: the next in turn, and others while there is room */
  int64_t now_ms;
  int64_t lease_ms;
  uint16_t holder;       /* for whom: mp_spool_leave */
  size_t max;            /* recipients; up to MP_SPOOL_CLAIM_MAX */
  uint64_t lease;        /* out: names this claim in its changes */
  mp_spool_batch *batch; /* out, the caller's to free; NULL with an error, empty when nothing is due */
} mp_spool_claim_request;

void mp_spool_claim(mp_spool *spool, mp_spool_claim_request *request);

/* Lengthens the lease of a claim, all of it or one recipient, or gives it back untouched, at once or for a later time. MP_E_CANCELLED when it is over. */
typedef struct mp_spool_lease_request {
  mp_spool_request request;
  uint64_t lease;
  mp_str id;        /* empty: everything that the lease still holds */
  uint32_t n;       /* 0: every recipient of `id` */
  int64_t lease_ms; /* from now */
  bool back;        /* it is nobody's any more, and may be claimed in lease_ms */
} mp_spool_lease_request;

void mp_spool_lease(mp_spool *spool, mp_spool_lease_request *request);

/* Somebody is gone who claimed: what he still holds is nobody's. */
void mp_spool_leave(mp_spool *spool, uint16_t holder);

/* ---- what is due ----------------------------------------------------------------------------------------------- */

typedef struct mp_spool_domain {
  char name[256]; /* with a NUL */
  size_t length;
  int64_t due_ms;   /* of the first that is not leased; may be too early, never too late */
  uint32_t waiting; /* recipients, with those that are leased */
  uint32_t leased;
  uint64_t lanes; /* bit i: lane i may have recipients waiting */
  bool roused;    /* mp_spool_rouse was called since it was named last */
} mp_spool_domain;

/* Writes up to `max` domains of this owner (from 0) with something due, longest due first, and does not name one of them again for `again_ms`, unless it is
 * claimed from in the meantime or mp_spool_quiet says otherwise. Returns how many. Memory only: waits for no disk. Who owns a domain is a matter of who is
 * told of it: claims of others are not refused. */
size_t mp_spool_due(mp_spool *spool, unsigned owner, int64_t now_ms, int64_t again_ms, mp_spool_domain *out,
                    size_t max);

/* The domain is somebody else's from now on, and named to him at once; forgotten at restart, and when nothing waits for it: then, as at first, it is whose
 * its name makes it. MP_E_NOTFOUND when nothing waits. */
int mp_spool_give(mp_spool *spool, mp_str domain, unsigned owner);

/* Writes up to `max` domains for which most recipients wait, most first; returns how many. Looks at every domain. */
size_t mp_spool_busiest(mp_spool *spool, mp_spool_domain *out, size_t max);

/* Does not name the domain as due for `ms`, whatever is due there (a site that is dead rewrites no rows); 0 ends that. Forgotten at restart, and when
 * nothing waits for the domain. MP_E_NOTFOUND when nothing does. */
int mp_spool_quiet(mp_spool *spool, mp_str domain, int64_t ms);

/* Somebody wants what waits for a domain to be tried now: its quiet time ends, and that of whatever was given back for later; its owner is told when it is
 * named next. What is not due stays so. MP_E_NOTFOUND when nothing waits. */
int mp_spool_rouse(mp_spool *spool, mp_str domain);

/* Milliseconds until mp_spool_due may name something to this owner, a lease ends, or, for the first owner, an alarm is over; 0: now; INT64_MAX: nothing waits. */
int64_t mp_spool_next(mp_spool *spool, unsigned owner, int64_t now_ms);

/* An alarm is over, or may be: a claim of alarms would tell. */
bool mp_spool_alarming(mp_spool *spool, int64_t now_ms);

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Texts match without regard to the case of ASCII letters; `*` stands for any octets; empty matches all. */
typedef struct mp_spool_filter {
  mp_str id;     /* exactly */
  mp_str sender; /* "<>" is the null sender */
  mp_str recipient, domain, site, tenant;
  mp_str reply;                /* is somewhere in the last reply */
  bool waiting, held;          /* only those; neither or both: all */
  int64_t before_ms, after_ms; /* received earlier, later than this; 0: whenever */
} mp_spool_filter;

/* Lists in the order of names. What changes meanwhile is seen or not. */
typedef struct mp_spool_list_request {
  mp_spool_request request;
  mp_spool_filter filter;
  mp_str after;           /* goes on after this message... */
  uint32_t after_n;       /* ...and this recipient of it; 0 with a name: after all of its recipients */
  size_t max;             /* recipients; up to MP_SPOOL_LIST_MAX; 0: only counts */
  size_t total, messages; /* out, when only counting: recipients, and messages that have one */
  mp_spool_batch *batch; /* out, the caller's to free; NULL with an error. It is full (`recipients` == max), or this was the last page */
} mp_spool_list_request;

void mp_spool_list(mp_spool *spool, mp_spool_list_request *request);

/* Reads octets of head and body as one, the head first; each read in a moment of its own, so that nothing waits for a slow reader.
 * MP_E_NOTFOUND: no such message. MP_E_DAMAGED: its octets are gone or fewer than they were; it was set aside. */
typedef struct mp_spool_read_request {
  mp_spool_request request;
  mp_str id;
  uint64_t offset;
  char *into;
  size_t size;                 /* up to MP_SPOOL_READ_MAX */
  size_t length;               /* out: octets read; less than `size` only at the end */
  uint64_t head_length, total; /* out */
} mp_spool_read_request;

void mp_spool_read(mp_spool *spool, mp_spool_read_request *request);

/* Looks at everything: pages, indexes, that each row has what it needs and each file that is named is there. Takes as long as reading the whole spool;
 * others go on meanwhile. Rows that fail are set aside and logged; MP_E_DAMAGED when pages or indexes are broken (`text` says what). */
typedef struct mp_spool_check_request {
  mp_spool_request request;
  size_t aside;    /* out: messages set aside */
  char text[1024]; /* out */
} mp_spool_check_request;

void mp_spool_check(mp_spool *spool, mp_spool_check_request *request);

typedef struct mp_spool_stats {
  size_t domains;
  uint64_t waiting, leased;                                                  /* recipients */
  uint64_t puts, claimed, delivered, bounced, expired, removed, rescheduled; /* since the spool was opened */
  uint64_t commits, committed; /* transactions, and the requests in them */
  uint64_t log_octets;         /* of the write-ahead log */
  bool failing;                /* the last write failed for the disk's sake: the next one tries it again */
} mp_spool_stats;

void mp_spool_stat(mp_spool *spool, mp_spool_stats *out);

/* ---- bodies in files ------------------------------------------------------------------------------------------- */

/* A body that comes as it comes: without a name until it is whole, so that a crash leaves nothing. These block, for pool threads; one thread at a time for
 * each file. The order is: write, name (which syncs file and folder), put. */
typedef struct mp_spool_file mp_spool_file;

int mp_spool_file_new(mp_spool *spool, mp_spool_file **out);
int mp_spool_file_write(mp_spool_file *file,
                        mp_str octets); /* MP_E_NOSPACE also at the reserve; octets may be written in part then */
uint64_t mp_spool_file_length(const mp_spool_file *file);
/* Syncs the file, names it for `id`, syncs the folder. MP_E_EXISTS: there is one for that id. */
int mp_spool_file_name(mp_spool_file *file, mp_str id);
/* Closes; what has no name is gone. A named one whose put failed is taken back with mp_spool_file_drop. NULL does nothing. */
void mp_spool_file_free(mp_spool_file *file);

/* Removes the file named for `id`. Not once a put with it was reported with 0. */
int mp_spool_file_drop(mp_spool *spool, mp_str id);

/* Opens the body file of a message for reading; the body is its first `body_length` octets. A descriptor, which outlives the message, or
 * MP_E_NOTFOUND, ... */
int mp_spool_file_open(mp_spool *spool, mp_str id);

#endif
