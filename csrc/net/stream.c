/* A stream on a socket. Writes go to the socket themselves (send with MSG_NOSIGNAL: no signal, no request, no copy); only
 * what it does not take is copied, and libuv sends that: one request over `flying`, while what comes later gathers in
 * `waiting`. The queue exists from the first octet that has to wait until the last has gone. */
#include "net/handle.h"

#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static mp_stream *stream_of(const uv_stream_t *handle)
{
  return handle->data;
}

static int fd_of(const mp_stream *stream)
{
  uv_os_fd_t fd = -1;
  uv_fileno(&stream->handle.any, &fd);
  return fd;
}

static void on_linger(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  mp_stream_close(MP_CONTAINER(timer, mp_stream, linger));
}

int mp_stream_open(mp_stream **out, mp_loop *loop, int fd, bool is_unix)
{
  mp_stream *stream = mp_mem_zalloc(sizeof *stream);
  if (!stream)
    return MP_E_NOMEM;
  stream->loop = loop;
  mp_timer_init(&stream->linger, on_linger);
  int err;
  if (is_unix) {
    uv_pipe_init(&loop->uv, &stream->handle.pipe, 0);
    err = uv_pipe_open(&stream->handle.pipe, fd);
  } else {
    uv_tcp_init(&loop->uv, &stream->handle.tcp);
    err = uv_tcp_open(&stream->handle.tcp, fd);
  }
  stream->handle.any.data = stream;
  loop->alive++;
  if (err != 0) {
    mp_stream_close(stream); /* libuv knows the handle by now: it goes through the loop like any other */
    return MP_E_SYSTEM;
  }
  *out = stream;
  return 0;
}

void mp_stream_attach(mp_stream *stream, const mp_stream_calls *calls, void *ctx)
{
  stream->calls = calls;
  stream->ctx = ctx;
}

mp_loop *mp_stream_loop(const mp_stream *stream)
{
  return stream->loop;
}

static void take_address(const struct sockaddr_storage *from, mp_ip *ip, uint16_t *port)
{
  if (from->ss_family == AF_INET) {
    struct sockaddr_in in;
    memcpy(&in, from, sizeof in);
    memset(ip->octets, 0, 10);
    ip->octets[10] = ip->octets[11] = 0xff;
    memcpy(ip->octets + 12, &in.sin_addr, 4);
    *port = ntohs(in.sin_port);
  } else if (from->ss_family == AF_INET6) {
    struct sockaddr_in6 in6;
    memcpy(&in6, from, sizeof in6);
    memcpy(ip->octets, &in6.sin6_addr, 16);
    *port = ntohs(in6.sin6_port);
  }
}

void mp_stream_peer_get(const mp_stream *stream, mp_stream_peer *peer)
{
  *peer = (mp_stream_peer){ .uid = UINT_MAX };
  if (stream->is_memory) {
    mp_stream_memory_peer(stream, peer);
    return;
  }
  int fd = fd_of(stream);
  if (uv_handle_get_type(&stream->handle.any) == UV_NAMED_PIPE) {
    struct ucred cred;
    socklen_t len = sizeof cred;
    peer->is_unix = true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
      peer->uid = cred.uid;
      peer->pid = cred.pid;
    }
    return;
  }
  struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
  socklen_t len = sizeof address;
  if (getpeername(fd, (struct sockaddr *)&address, &len) == 0)
    take_address(&address, &peer->ip, &peer->port);
  len = sizeof address;
  address.ss_family = AF_UNSPEC;
  if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
    take_address(&address, &peer->local_ip, &peer->local_port);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
  mp_stream *stream = handle->data;
  (void)hint;
  /* libuv reads at once and calls back before it asks again, so one buffer serves the whole loop. */
  *buf = uv_buf_init(stream->loop->read_buf, stream->loop->read_busy ? 0 : MP_LOOP_READ);
  stream->loop->read_busy = true;
}

/* Tells the end of what is read, or that the connection is lost; the latter may follow the former. The stream may be closed
 * behind the call. */
static void end(mp_stream *stream, mp_ssize how)
{
  if (stream->lost || (stream->ended && how == 0))
    return;
  stream->ended = true;
  stream->lost = how < 0;
  uv_read_stop(&stream->handle.stream);
  if (!stream->finishing) {
    if (stream->calls && !stream->closing)
      stream->calls->read(stream->ctx, NULL, how);
  } else if (how < 0 || !stream->queue) {
    mp_stream_close(stream); /* else it may have closed one way only, and still reads */
  }
}

/* libuv says end of file for every hang-up that it sees right behind octets (uv__stream_eof), a reset among them; the socket knows. */
static mp_ssize at_end(const uv_stream_t *handle)
{
  uv_os_fd_t fd;
  int err = 0;
  socklen_t len = sizeof err;
  if (uv_fileno((const uv_handle_t *)handle, &fd) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err == 0)
    return 0;
  return mp_error_errno(err);
}

static void on_read(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
  mp_stream *stream = stream_of(handle);
  mp_loop *loop = stream->loop;
  if (n > 0) {
    if (!stream->finishing && !stream->closing && stream->calls)
      stream->calls->read(stream->ctx, buf->base, n);
  } else if (n == UV_EOF) {
    end(stream, at_end(handle));
  } else if (n < 0) {
    end(stream, mp_error_errno((int)-n));
  }
  loop->read_busy = false;
}

int mp_stream_start(mp_stream *stream)
{
  if (stream->closing || stream->finishing || stream->ended)
    return 0;
  stream->reading = true;
  if (stream->is_memory) {
    mp_stream_memory_start(stream);
    return 0;
  }
  int err = uv_read_start(&stream->handle.stream, on_alloc, on_read);
  return err == 0 || err == UV_EALREADY ? 0 : MP_E_SYSTEM;
}

void mp_stream_stop(mp_stream *stream)
{
  if (!stream->reading || stream->finishing)
    return;
  stream->reading = false;
  if (!stream->is_memory && !stream->closing)
    uv_read_stop(&stream->handle.stream);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static void queue_free(mp_stream *stream)
{
  mp_buf_dispose(&stream->queue->flying);
  mp_buf_dispose(&stream->queue->waiting);
  mp_mem_free(stream->queue);
  stream->queue = NULL;
}

/* Everything of ours has gone: the peer is told. Of a stream that finishes, what remains is to hear the peer out. */
static void half_close(mp_stream *stream)
{
  stream->half = true;
  bool gone = shutdown(fd_of(stream), SHUT_WR) != 0 || stream->ended;
  if (!stream->finishing)
    return;
  int err = gone ? 0 : uv_read_start(&stream->handle.stream, on_alloc, on_read);
  if (gone || (err != 0 && err != UV_EALREADY))
    mp_stream_close(stream);
}

static void on_written(uv_write_t *req, int status);

/* Sends off what waits. False when libuv refuses: then the connection is lost. */
static bool fly(mp_stream *stream)
{
  mp_stream_queue *queue = stream->queue;
  mp_buf_dispose(&queue->flying);
  queue->flying = queue->waiting;
  mp_buf_init(&queue->waiting, SIZE_MAX, NULL);
  mp_str all = mp_buf_view(&queue->flying);
  uv_buf_t buf = { .base = queue->flying.ptr + queue->flying.off, .len = all.len };
  queue->req.data = stream;
  return uv_write(&queue->req, &stream->handle.stream, &buf, 1, on_written) == 0;
}

static void on_written(uv_write_t *req, int status)
{
  mp_stream *stream = req->data;
  if (stream->closing) {
    queue_free(stream);
    return;
  }
  if (status == 0 && stream->queue->waiting.len > 0) {
    if (fly(stream))
      return;
    status = UV_EPIPE;
  }
  queue_free(stream);
  if (status != 0) {
    stream->broken = true;
    end(stream, mp_error_errno(-status));
  } else if (stream->shut) {
    half_close(stream);
  } else if (stream->calls && stream->calls->drained) {
    stream->calls->drained(stream->ctx);
  }
}

static int enqueue(mp_stream *stream, const char *in, size_t len)
{
  bool first = !stream->queue;
  if (first) {
    stream->queue = mp_mem_alloc(sizeof *stream->queue);
    if (!stream->queue)
      return MP_E_NOMEM;
    mp_buf_init(&stream->queue->flying, SIZE_MAX, NULL);
    mp_buf_init(&stream->queue->waiting, SIZE_MAX, NULL); /* the ceiling came with the write, and was looked at there */
  }
  int rc = mp_buf_add(&stream->queue->waiting, in, len);
  if (!first)
    return rc;
  if (rc == 0 && !fly(stream))
    rc = MP_E_SYSTEM;
  if (rc < 0)
    queue_free(stream);
  return rc;
}

size_t mp_stream_queued(const mp_stream *stream)
{
  if (!stream->queue)
    return 0;
  return uv_stream_get_write_queue_size(&stream->handle.stream) + stream->queue->waiting.len;
}

int mp_stream_write(mp_stream *stream, const void *in, size_t len, size_t ceiling)
{
  if (stream->closing || stream->shut)
    return MP_E_MISUSE;
  if (stream->broken)
    return MP_E_EOF;
  size_t queued = mp_stream_queued(stream);
  if (len > ceiling || queued > ceiling - len)
    return MP_E_FULL;
  if (stream->is_memory)
    return mp_stream_memory_write(stream, in, len);
  size_t done = 0;
  while (!stream->queue && done < len) {
    ssize_t n = send(fd_of(stream), (const char *)in + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0)
      done += (size_t)n;
    else if (errno == EPIPE || errno == ECONNRESET)
      return MP_E_EOF;
    else if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)
      break;
    else if (errno != EINTR)
      return mp_error_errno(errno);
  }
  if (done == len)
    return 0;
  int rc = enqueue(stream, (const char *)in + done, len - done);
  if (rc < 0)
    stream->broken = true;
  return rc;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

void mp_stream_shutdown(mp_stream *stream)
{
  if (stream->closing || stream->shut)
    return;
  stream->shut = true;
  if (!stream->is_memory && !stream->queue)
    half_close(stream);
}

static void on_closed(uv_handle_t *handle)
{
  mp_stream *stream = handle->data;
  stream->loop->alive--;
  if (stream->queue)
    queue_free(stream);
  if (stream->calls)
    stream->calls->closed(stream->ctx);
  mp_mem_free(stream);
}

void mp_stream_close(mp_stream *stream)
{
  if (stream->closing)
    return;
  stream->closing = true;
  stream->reading = false;
  mp_timers_clear(&stream->loop->timers, &stream->linger);
  if (stream->is_memory) {
    mp_stream_memory_close(stream);
    return;
  }
  uv_close(&stream->handle.any, on_closed);
}

void mp_stream_finish(mp_stream *stream, int64_t linger_ms)
{
  if (stream->closing || stream->finishing)
    return;
  stream->finishing = true;
  stream->shut = true;
  mp_timers *timers = &stream->loop->timers;
  if (stream->is_memory || stream->broken || linger_ms <= 0 ||
      mp_timers_set(timers, &stream->linger, mp_loop_now(stream->loop) + linger_ms) < 0)
    mp_stream_close(stream);
  else if (!stream->queue)
    half_close(stream);
}
