/* What the files of this floor share. */
#ifndef MP_SPOOL_IMPL_H
#define MP_SPOOL_IMPL_H

#include "spool/index.h"
#include "spool/spool.h"

#include <pthread.h>
#include <sqlite3.h>

typedef enum statement {
  S_BEGIN,
  S_COMMIT,
  S_ROLLBACK,
  S_MESSAGE_PUT,
  S_BODY_PUT,
  S_DELIVERY_PUT,
  S_DELIVERY_GET,
  S_DELIVERY_DELETE,
  S_DELIVERY_LEFT,
  S_DELIVERY_UPDATE,
  S_MESSAGE_DELETE,
  S_BODY_DELETE,
  S_CLAIM,
  S_NEXT_DUE,
  S_ALARMS,
  S_NEXT_ALARM,
  S_LIST,
  S_SHOW,
  S_READ,
  S_DOMAINS,
  S_UNUSED,
  S_COUNT
} statement;

enum { SPOOL_PAGE = 8192 };

typedef struct spool_db { /* a connection, of one thread */
  sqlite3 *db;
  sqlite3_stmt *statements[S_COUNT];
} spool_db;

/* What a request changes in memory, once it is on disk. */
typedef struct spool_effect spool_effect;
struct spool_effect {
  spool_effect *next;
  int64_t handle;
  mp_str domain;
  uint16_t lane;
  int by;     /* deliveries more or fewer in the lane */
  double due; /* INFINITY: nothing becomes due */
  double alarm;
  bool claim, over; /* the handle is claimed, its claim is over */
  bool ready;       /* what needs memory has been done */
};

typedef struct spool_thread {
  pthread_t id;
  pthread_cond_t wake;
  mp_list asked;
  spool_db db;
  bool running;
} spool_thread;

struct mp_spool {
  char *folder, *path;
  int lock_fd;
  void (*changed)(void *ctx);
  void *ctx;
  pthread_mutex_t lock; /* of everything below, but for the threads' own databases */
  pthread_mutex_t moving; /* a claim looks and marks, a commit is made known: one at a time, or what is over would be claimed */
  bool closing;
  spool_index index;
  double next_alarm;
  spool_thread writer, reader;
};

/* store.c: one connection and its statements. 0 or an error, with `why`. */
int spool_db_open(spool_db *db, const char *path, bool create, char why[MP_SPOOL_WHY]);
void spool_db_close(spool_db *db);
sqlite3_stmt *spool_statement(spool_db *db, statement which); /* reset, without bindings; NULL: it cannot be prepared */
int spool_run(spool_db *db, statement which);                 /* one without rows: 0 or an error */
int spool_fault(spool_db *db, int code, char why[MP_SPOOL_WHY]);

/* write.c, read.c: the verbs. The first three leave their effects in *effects. */
int spool_put(spool_db *db, mp_spool_request *req, spool_effect **effects);
int spool_finish(spool_db *db, mp_spool_request *req, spool_effect **effects);
int spool_reschedule(spool_db *db, mp_spool_request *req, spool_effect **effects);
void spool_claim(mp_spool *spool, mp_spool_request *req);
void spool_alarms(mp_spool *spool, mp_spool_request *req);
void spool_take(mp_spool *spool, mp_spool_request *req);
void spool_list(mp_spool *spool, mp_spool_request *req);
void spool_read(mp_spool *spool, mp_spool_request *req);
int spool_load(mp_spool *spool, char why[MP_SPOOL_WHY]); /* the index, at the start */

#endif
