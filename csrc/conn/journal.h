/* conn/journal.h -- lines appended to a file that may be turned over when it is long. Writing is the thread pool's, in batches of what has come meanwhile; a
 * disk that is full or slow loses lines and counts them, and holds nobody up. Several journals, of several processes too, may append to one file,
 * and it may be moved away at any time: the next batch makes it anew. */
#ifndef MP_CONN_JOURNAL_H
#define MP_CONN_JOURNAL_H

#include "net/loop.h"

typedef struct mp_journal mp_journal;

typedef struct mp_journal_opts {
  const char *path;
  uint64_t limit; /* octets from which the file becomes path.1, path.1 becomes path.2...; 0: never */
  unsigned keep;  /* files behind a number; up to 1000 */
  /* Lines were lost: how many since the last call, and why. On the loop's thread. */
  void (*trouble)(void *ctx, uint64_t lost, const char *why);
  void *ctx;
} mp_journal_opts;

/* 0, or an error with a line in `why`. The file is made (0640) when it is missing. */
int mp_journal_open(mp_journal **journal, mp_loop *loop, const mp_journal_opts *opts, char *why, size_t why_size);

/* Takes a line without its end; it is written soon. */
void mp_journal_add(mp_journal *journal, mp_str line);

/* What has been taken is still written. No trouble is told any more. NULL does nothing. */
void mp_journal_close(mp_journal *journal);

#endif
