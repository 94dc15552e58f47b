/* conn/deliver.h -- final delivery on disk and to processes, in the pool's threads. Each reports once; the message is referenced until then. */
#ifndef MP_CONN_DELIVER_H
#define MP_CONN_DELIVER_H

#include "conn/message.h"

typedef struct mp_outcome {
  /* 0, or an mp_error: NOSPACE (452 4.3.1 / 4.2.2), DENIED, NOTFOUND, EXISTS, SYSTEM, TIMEOUT, NOMEM, CANCELLED (or the loop ended). */
  int rc;
  const char *why; /* one line for the log that names the path or program, NULL when rc is 0; lasts during the call */
  const char *path; /* the file made, maildir and file; else NULL */
  /* pipe: exit status (sysexits(3)), or the signal that ended it. When one is not 0, neither is rc (SYSTEM, or TIMEOUT). */
  int status, signal;
  mp_str output; /* pipe: what it wrote to stdout and stderr, at most 64 KB */
} mp_outcome;

/* Ends what deliveries of `msg` wait for, a program or the lock of an mbox: they report MP_E_CANCELLED on a later turn. What is being written to a disk is
 * finished, and what has ended has ended. */
void mp_deliver_cancel(mp_message *msg);

typedef void (*mp_delivered)(void *ctx, const mp_outcome *outcome); /* on the loop's thread, on a later turn */

/* Lines end in LF in what is delivered, head and body, unless `crlf` asks for the octets of the wire. What was sent with BODY=BINARYMIME
 * keeps them always, but in an mbox, where lines end in LF always. */
typedef struct mp_maildir_opts {
  const char *folder; /* of the Maildir; tmp, new, cur are made when missing unless !create */
  bool create;
  mp_str extra;     /* fields put on top: Return-Path, Delivered-To; whole lines */
  const char *host; /* in the file's name */
  unsigned mode;    /* of the file; default 0600; folders get the x bits too */
  bool crlf;
} mp_maildir_opts;

/* tmp/NAME (O_EXCL), write, fsync, link or rename into new/, fsync of new/. A failure leaves nothing in new and removes the file in tmp.
 * 0 (will report) or MP_E_NOMEM, MP_E_SYSTEM (nothing will be called). The octets are taken as they stand at the call (head is built here). */
int mp_deliver_maildir(mp_loop *loop, mp_message *msg, const mp_maildir_opts *opts, mp_delivered done, void *ctx);

typedef struct mp_file_opts {
  const char *path;
  /* Append to an mbox (mboxrd quoting, fcntl and flock locked, truncated back when writing fails) instead of making a new file. */
  bool mbox;
  bool create; /* make missing folders */
  mp_str extra;
  mp_str sender; /* mbox: for the "From " line */
  unsigned mode;
  bool crlf; /* not in an mbox */
} mp_file_opts;

/* 0 (will report), MP_E_NOMEM or MP_E_SYSTEM.
 * A new file: written under a temporary name beside it, fsync, linked into place (MP_E_EXISTS when the name is taken), fsync of the folder. */
int mp_deliver_file(mp_loop *loop, mp_message *msg, const mp_file_opts *opts, mp_delivered done, void *ctx);

typedef struct mp_pipe_opts {
  const char *const *args; /* NULL-terminated; no shell; args[0] is looked up in PATH */
  /* NULL-terminated "NAME=value", which go before PATH, LANG, SENDER, RECIPIENT (of a message that has one) and MESSAGE_ID; NULL: those
   * only. Nothing else of our own environment is passed on. */
  const char *const *env;
  const char *cwd;    /* NULL: / */
  int64_t timeout_ms; /* then SIGTERM, and SIGKILL 2 s later, to its process group; 0: 60 s */
  mp_str extra;
  bool crlf;
} mp_pipe_opts;

/* Runs a program with the message on its standard input. A program that does not read everything is fine. At most 32 run at once (see
 * mp_body_store), the others wait for their turn; the deadline counts from the start. 0 (will report), MP_E_NOMEM, MP_E_SYSTEM, or
 * MP_E_INVALID without a program's name. */
int mp_deliver_pipe(mp_loop *loop, mp_message *msg, const mp_pipe_opts *opts, mp_delivered done, void *ctx);

#endif
