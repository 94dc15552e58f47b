/* net/stream.h -- an established byte stream: TCP, unix socket, or memory (for tests: its other end is held by the caller). Reads come
 * into the loop's one buffer; writes are tried at once and queued, under a ceiling, only when the peer is slow. */
#ifndef MP_NET_STREAM_H
#define MP_NET_STREAM_H

#include "base/buf.h"
#include "net/loop.h"

typedef struct mp_stream mp_stream;

typedef struct mp_stream_peer {
  bool is_unix;
  mp_ip ip, local_ip;
  uint16_t port, local_port;
  unsigned uid; /* unix: SO_PEERCRED; UINT_MAX when not known, never root by accident */
  int pid;      /* 0 when not known */
} mp_stream_peer;

typedef struct mp_stream_calls {
  /* Octets, borrowed during the call; len 0 = end of file (once); negative = an error (once), the connection is lost.
   * Neither closes the stream, and no octets come after either. The error may come after the end of file, and while the
   * stream is stopped: when it is what was queued that got lost. */
  void (*read)(void *ctx, const char *in, mp_ssize len);
  /* What was queued has gone down to nothing. */
  void (*drained)(void *ctx);
  /* The stream is gone; its memory is freed behind this call. Comes after mp_stream_close, never inside it. */
  void (*closed)(void *ctx);
} mp_stream_calls;

/* `calls` is borrowed for ever (static) */
void mp_stream_attach(mp_stream *stream, const mp_stream_calls *calls, void *ctx);
void mp_stream_peer_get(const mp_stream *stream, mp_stream_peer *peer);
mp_loop *mp_stream_loop(const mp_stream *stream);

int mp_stream_start(mp_stream *stream); /* begin or go on reading; 0 or MP_E_SYSTEM */
void mp_stream_stop(mp_stream *stream); /* pause reading; the kernel's window closes */

/* Writes `in`: what the socket takes at once is gone, the rest is copied into the queue. Returns 0, MP_E_FULL when more than `ceiling`
 * octets might have to wait (nothing of `in` was written; a single write longer than the ceiling is never taken), MP_E_EOF or
 * MP_E_SYSTEM when the peer is gone, MP_E_NOMEM (part of `in` may have gone: only closing makes sense), MP_E_MISUSE after shutdown,
 * finish or close. */
int mp_stream_write(mp_stream *stream, const void *in, size_t len, size_t ceiling);
size_t mp_stream_queued(const mp_stream *stream);

void mp_stream_shutdown(mp_stream *stream); /* after what is queued has gone: end of file to the peer */
void mp_stream_close(mp_stream *stream);    /* at once; what is queued is dropped */
/* Closes when what is queued has gone and the peer has closed too, or after `linger_ms` (0: at once). What the peer still sends is
 * dropped meanwhile: closing over unread octets would reset the connection, and the peer could lose our last reply (RFC 9293 3.10.4,
 * RFC 1122 4.2.2.13). No read() and no drained() any more. A memory stream closes at once. */
void mp_stream_finish(mp_stream *stream, int64_t linger_ms);

/* Memory streams: no loop handle, works on a loop that is never run. */
/* 0 or MP_E_NOMEM */
int mp_stream_memory(mp_stream **stream, mp_loop *loop, const mp_stream_peer *peer);
/* As if the peer had sent it: octets, 0 = EOF, negative = an error. read() is called inside; when the stream is stopped (or inside a
 * read() of it) they are held, for a turn of the loop after mp_stream_start or the next inject. */
void mp_stream_inject(mp_stream *stream, const char *in, mp_ssize len);
/* What was written to the peer; the caller consumes. */
mp_buf *mp_stream_written(mp_stream *stream);
/* Our side has shut down or closed. */
bool mp_stream_finished(const mp_stream *stream);
/* The tester lets go of its end (after closed() nothing is freed before this). */
void mp_stream_release(mp_stream *stream);

#endif
