/* conn/program.h -- a child process fed from a message and listened to, watched over by one thread that may block. */
#ifndef MP_CONN_PROGRAM_H
#define MP_CONN_PROGRAM_H

#include "conn/lines.h"

enum { MP_PROGRAM_OUTPUT = 65536, MP_PROGRAM_GRACE_MS = 2000 };

typedef struct mp_program {
  char *const *args; /* NULL-terminated */
  char *const *env;  /* NULL-terminated */
  const char *cwd;
  int64_t timeout_ms;
  mp_str head;    /* goes to its standard input first */
  mp_lines *body; /* then this */
  int cancel;     /* a descriptor that becomes readable when it is to be killed; -1 */
  /* the outcome */
  mp_buf output; /* the caller's, with its ceiling; what goes past it is read and dropped */
  int rc; /* 0 when it was started and ended by itself; else NOTFOUND, DENIED, TIMEOUT, CANCELLED, SYSTEM, ... */
  int sys; /* the errno behind an rc that has one, else 0 */
  int status, signal;
} mp_program;

/* Blocks until the program has ended and is reaped. Its group is its own; past the deadline it gets SIGTERM, then SIGKILL, and so does
 * whatever of the group is still there. */
void mp_program_run(mp_program *program);

#endif
