/* net/handle.h -- what a stream is made of; for the files of this floor alone. */
#ifndef MP_NET_HANDLE_H
#define MP_NET_HANDLE_H

#include "net/stream.h"

/* What waits to be written. There is one only while the peer is slow. */
typedef struct mp_stream_queue {
  uv_write_t req; /* of `flying`; its data is the stream */
  mp_buf flying;  /* with libuv, untouched until it says so */
  mp_buf waiting;
} mp_stream_queue;

/* An idle connection is one of these and no more: the size counts. */
struct mp_stream {
  union {
    uv_handle_t any;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  } handle; /* not of a memory stream; its data is the stream */
  mp_loop *loop;
  const mp_stream_calls *calls; /* NULL until attached */
  void *ctx;
  mp_stream_queue *queue;
  mp_timer linger;
  bool is_memory : 1;
  bool reading : 1; /* wanted by the owner */
  bool ended : 1;   /* end of file or an error was told: no octets any more */
  bool lost : 1;    /* it was an error */
  bool shut : 1;    /* nothing may be written any more: shutdown or finish */
  bool half : 1;    /* ... and the peer was told */
  /* Octets of the middle are lost for want of memory: nothing more may go behind them. */
  bool broken : 1;
  bool finishing : 1;
  bool closing : 1;
};

/* A stream on a connected socket: it owns `fd` on success. 0, MP_E_NOMEM or MP_E_SYSTEM. */
int mp_stream_open(mp_stream **stream, mp_loop *loop, int fd, bool is_unix);

/* The halves of a memory stream (net/memory.c). */
void mp_stream_memory_start(mp_stream *stream);
int mp_stream_memory_write(mp_stream *stream, const void *in, size_t len);
void mp_stream_memory_close(mp_stream *stream);
void mp_stream_memory_peer(const mp_stream *stream, mp_stream_peer *peer);

#endif
