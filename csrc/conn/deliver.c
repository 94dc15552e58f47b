#include "conn/deliver_impl.h"

#include "base/error.h"
#include "conn/disk.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum {
  HEAD_MORE = 2 << 20, /* edits, and fields put on top */
  SCRATCH = 65536
};

int delivery_init(delivery *d, mp_message *msg, mp_str extra, bool crlf, mp_delivered done, void *ctx)
{
  *d = (delivery){ .done = done, .ctx = ctx };
  mp_list_init(&d->node);
  mp_buf_init(&d->head, mp_sink_store(msg->sink)->header_most + HEAD_MORE, NULL);
  int rc = mp_message_head(msg, extra, true, &d->head);
  if (rc < 0) {
    mp_buf_dispose(&d->head);
    return rc;
  }
  mp_lines_init(&d->body, msg, crlf);
  if (d->body.lf)
    mp_buf_cut(&d->head, mp_lines_shorten(d->head.ptr + d->head.off, d->head.len));
  d->msg = mp_message_ref(msg);
  d->number = ++msg->deliveries;
  return 0;
}

void delivery_dispose(delivery *d)
{
  mp_list_remove(&d->node);
  mp_buf_dispose(&d->head);
  mp_message_unref(d->msg);
  d->msg = NULL;
}

void delivery_cancellable(delivery *d, void (*cancel)(delivery *d))
{
  d->cancel = cancel;
  mp_list_push(&mp_sink_store(d->msg->sink)->waits, &d->node);
}

void mp_deliver_cancel(mp_message *msg)
{
  mp_list *waits = &mp_sink_store(msg->sink)->waits;
  for (mp_list *node = waits->next, *next; node != waits; node = next) {
    next = node->next;
    delivery *d = MP_CONTAINER(node, delivery, node);
    if (d->msg == msg)
      d->cancel(d);
  }
}

void delivery_report(delivery *d)
{
  d->out.why = d->out.rc < 0 ? d->why : NULL;
  if (d->out.rc < 0)
    d->out.path = NULL;
  d->done(d->ctx, &d->out);
}

void delivery_error(delivery *d, int rc, const char *fmt, ...)
{
  if (d->out.rc < 0)
    return;
  d->out.rc = rc;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(d->why, sizeof d->why, fmt, ap);
  va_end(ap);
}

void delivery_fail(delivery *d, const char *verb, const char *path)
{
  int sys = errno;
  char text[128];
  delivery_error(d, mp_error_errno(sys), "cannot %s %.300s: %s", verb, path, strerror_r(sys, text, sizeof text));
  errno = sys;
}

void delivery_note(delivery *d, const char *more)
{
  size_t len = strlen(d->why);
  snprintf(d->why + len, sizeof d->why - len, "%s", more);
}

const char *delivery_split(const char *path, char **copy, char **folder)
{
  size_t len = strlen(path), cut = len;
  while (cut > 0 && path[cut - 1] != '/')
    cut--;
  *copy = mp_mem_dup(path, len);
  *folder = cut ? mp_mem_dup(path, cut) : mp_mem_dup(".", 1);
  return *copy ? *copy + cut : NULL;
}

/* Through one buffer, whatever the body's size. */
static bool store_lines(delivery *d, int fd, const char *path)
{
  char scratch[SCRATCH];
  for (;;) {
    int rc;
    mp_str part = mp_lines_read(&d->body, scratch, sizeof scratch, &rc);
    if (rc < 0) {
      delivery_error(d, rc, "cannot write %.300s: the message's temporary file cannot be read", path);
      return false;
    }
    if (part.len == 0)
      return true;
    if (mp_disk_write(fd, part) < 0) {
      delivery_fail(d, "write", path);
      return false;
    }
  }
}

/* Octet for octet, which the kernel can do by itself. */
static bool store_octets(delivery *d, int fd, const char *path)
{
  errno = 0;
  int rc = mp_sink_copy(d->msg->sink, d->body.off, fd);
  if (rc < 0 && errno)
    delivery_fail(d, "write", path);
  if (rc < 0)
    delivery_error(d, rc, "cannot write %.300s: the message is shorter on disk than it was", path);
  return rc == 0;
}

bool delivery_store(delivery *d, int fd, const char *path)
{
  if (mp_disk_write(fd, mp_buf_view(&d->head)) < 0) {
    delivery_fail(d, "write", path);
    return false;
  }
  if (d->body.lf ? !store_lines(d, fd, path) : !store_octets(d, fd, path))
    return false;
  if (fsync(fd) < 0) {
    delivery_fail(d, "sync", path);
    return false;
  }
  return true;
}
