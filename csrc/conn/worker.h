/* conn/worker.h -- what one thread owns: its loop, its pools, its libgsasl context. Services and connections hang off it; Lua states come and go. */
#ifndef MP_CONN_WORKER_H
#define MP_CONN_WORKER_H

#include "conn/body.h"
#include "conn/gate.h"
#include "smtp/sasl.h"

enum { MP_WORKER_PLAIN = 65536 };

typedef struct mp_worker {
  mp_loop loop;
  unsigned number;       /* from 0; which of a binding's sockets is ours */
  unsigned process;      /* its id, asked for once */
  mp_gate *gate;         /* a reference; the process's */
  mp_pool conns;         /* mp_conn structs */
  mp_pool out_blocks;    /* output, partial lines */
  mp_pool flight_blocks; /* what a client says: mostly an envelope and its message */
  mp_pool cipher_blocks; /* TLS output */
  mp_pool envelopes, envelope_blocks;
  mp_body_store bodies;
  mp_list names; /* resolvers (conn/names.h), shared by the Lua states that describe them alike */
  mp_sasl_ctx *sasl;
  uint64_t messages;     /* counter behind message ids */
  size_t buffers;        /* octets that connections hold (conn_charge); bodies are counted by their store */
  bool plain_busy;       /* somebody is dealing with it: others take their turn later */
  char *plain;           /* MP_WORKER_PLAIN octets: decrypted input, dealt with before the next read */
  int64_t wall_start_ms; /* of a virtual clock: the time of day at its 0 */
  int64_t (*wall_ms)(const struct mp_worker *worker); /* time since 1970 in ms; tests turn it with the clock */
} mp_worker;

/* `gate` may be NULL: one is made. 0, MP_E_NOMEM or MP_E_SYSTEM. */
int mp_worker_new(mp_worker **worker, unsigned number, mp_gate *gate, bool is_virtual);
void mp_worker_free(mp_worker *worker); /* after every service is gone */

#endif
