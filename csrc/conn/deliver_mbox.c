/* Delivery into an mbox, quoted as mboxrd: "From " at the start of a line, behind any number of '>', gets one '>' more, so that it can be
 * taken off again. Lines end in LF there. The file is locked in both ways that mail programs use, and is as long as before when it fails. */
#include "base/error.h"
#include "conn/deliver_impl.h"
#include "conn/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WRITER_ROOM = 65536, SENDER_MOST = 320, OPEN_TRIES = 10 };

/* Until somebody lets go of a lock. A delivery tries in a thread of the pool and waits in none. */
enum { LOCK_MS = 30000, PAUSE_FIRST_MS = 5, PAUSE_MOST_MS = 320 };

static const char from[] = "From ";

typedef struct writer {
  int fd;
  int sys;        /* errno of the first write that failed */
  bool start;     /* at the start of a line, behind nothing but '>' */
  bool marked;    /* behind at least one '>' there */
  bool cr;        /* a CR is held back */
  unsigned match; /* octets of "From " that are held back */
  size_t len;
  char out[WRITER_ROOM];
  char in[WRITER_ROOM];
} writer;

typedef struct mbox {
  delivery d;       /* first */
  mp_timer timer;   /* set while it waits for a lock */
  mp_leftover left; /* in the loop's, for its end */
  mp_loop *loop;
  int64_t due;       /* of the wait */
  unsigned pause_ms; /* before the next try */
  bool held;         /* by somebody else, found the last try */
  bool cancelled;
  char *path;
  char *folder;
  bool create;
  bool fresh; /* the file was made by one of the tries */
  unsigned mode;
  char sender[SENDER_MOST + 1];
  writer w;
} mbox;

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static void flush(writer *w)
{
  if (!w->sys && mp_disk_write(w->fd, mp_str_of(w->out, w->len)) < 0)
    w->sys = errno;
  w->len = 0;
}

static void emit(writer *w, const char *s, size_t len)
{
  while (len) {
    if (w->len == WRITER_ROOM)
      flush(w);
    size_t n = len < WRITER_ROOM - w->len ? len : WRITER_ROOM - w->len;
    memcpy(w->out + w->len, s, n);
    w->len += n;
    s += n;
    len -= n;
  }
}

/* At the start of a line: takes octets until it is known whether this is a "From " to be quoted. */
static size_t line_start(writer *w, mp_str s)
{
  size_t i = 0;
  while (w->start && i < s.len) {
    char c = s.ptr[i];
    if (w->match == 0 && c == '>') {
      emit(w, ">", 1); /* one among several is as good as one in front */
      w->marked = true;
      i++;
    } else if (c == from[w->match]) {
      i++;
      if (++w->match == sizeof from - 1) {
        emit(w, ">From ", sizeof from);
        w->match = 0;
        w->start = false;
      }
    } else {
      emit(w, from, w->match);
      w->match = 0;
      w->start = false;
    }
  }
  return i;
}

static void quote(writer *w, mp_str s)
{
  while (s.len) {
    s = mp_str_sub(s, line_start(w, s), s.len);
    if (s.len == 0)
      return;
    if (w->cr && s.ptr[0] != '\n')
      emit(w, "\r", 1);
    w->cr = false;
    mp_ssize lf = mp_str_find(s, '\n', 0);
    size_t run = lf < 0 ? s.len : (size_t)lf;
    w->cr = run > 0 && s.ptr[run - 1] == '\r';
    emit(w, s.ptr, run - w->cr);
    if (lf >= 0) {
      emit(w, "\n", 1);
      w->cr = w->marked = false;
      w->start = true;
      run++;
    }
    s = mp_str_sub(s, run, s.len);
  }
}

/* What was held back, the end of an unfinished line, and the empty line that mboxes have between messages. */
static void finish(writer *w)
{
  emit(w, from, w->match);
  if (w->cr)
    emit(w, "\r", 1);
  if (!w->start || w->match || w->marked)
    emit(w, "\n", 1);
  emit(w, "\n", 1);
  flush(w);
}

static void write_message(mbox *m, off_t size)
{
  writer *w = &m->w;
  /* A file that somebody left without its last line's end gets one, and an empty line. */
  char tail[2] = { '\n', '\n' };
  if (size > 0 && pread(w->fd, size > 1 ? tail : tail + 1, size > 1 ? 2 : 1, size > 1 ? size - 2 : 0) < 0) {
    delivery_fail(&m->d, "read", m->path);
    return;
  }
  if (tail[1] != '\n')
    emit(w, "\n\n", 2);
  else if (tail[0] != '\n')
    emit(w, "\n", 1);
  time_t when = (time_t)m->d.msg->trace.unix_s;
  struct tm tm;
  char date[64] = "Thu Jan  1 00:00:00 1970\n";
  if (gmtime_r(&when, &tm) && tm.tm_year >= -900 && tm.tm_year < 8100)
    asctime_r(&tm, date);
  emit(w, from, sizeof from - 1);
  emit(w, m->sender, strlen(m->sender));
  emit(w, " ", 1);
  emit(w, date, strlen(date));
  w->start = true;
  quote(w, mp_buf_view(&m->d.head));
  int rc = 0;
  for (uint64_t off = mp_message_body_at(m->d.msg); rc == 0 && !w->sys && off < m->d.msg->size;) {
    mp_str part = mp_sink_read(m->d.msg->sink, off, w->in, sizeof w->in, &rc);
    quote(w, part);
    off += part.len;
  }
  finish(w);
  errno = w->sys;
  if (w->sys)
    delivery_fail(&m->d, "write", m->path);
  else if (rc < 0)
    delivery_error(&m->d, rc, "cannot write %.300s: the message's temporary file cannot be read", m->path);
  else if (fsync(w->fd) < 0)
    delivery_fail(&m->d, "sync", m->path);
}

/* ---- opening and locking ----------------------------------------------------------------------------------------- */

/* A lock of the open file, not of the process (which libuv's threads share), that others' fcntl locks respect; and flock's. 0, or -1. */
static int try_lock(int fd)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
    return -1;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  int sys = errno;
  lock.l_type = F_UNLCK;
  fcntl(fd, F_OFD_SETLK, &lock);
  errno = sys;
  return -1;
}

/* Takes both locks or none: programs take them in either order. */
static bool lock(mbox *m, int fd)
{
  if (try_lock(fd) == 0)
    return true;
  if (errno == EAGAIN || errno == EACCES || errno == EINTR)
    m->held = true;
  else
    delivery_fail(&m->d, "lock", m->path);
  return false;
}

/* True when `path` still names the open file: a mail reader may have put a new one in its place while we waited. */
static bool is_same(int fd, const char *path)
{
  struct stat here, there;
  return fstat(fd, &here) == 0 && lstat(path, &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

/* The locked file, or -1: it is held, or the failure was noted. */
static int open_locked(mbox *m)
{
  for (int i = 0; i < OPEN_TRIES; i++) {
    int fd = open(m->path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
      fd = open(m->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, m->mode);
      m->fresh = m->fresh || fd >= 0;
      if (fd < 0 && errno == EEXIST)
        continue;
    }
    if (fd < 0) {
      delivery_fail(&m->d, "open", m->path);
      return -1;
    }
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
      delivery_error(&m->d, MP_E_DENIED, "cannot write %.300s: not a file", m->path);
    else if (lock(m, fd) && is_same(fd, m->path))
      return fd;
    close(fd);
    if (m->held || m->d.out.rc < 0)
      return -1;
  }
  delivery_error(&m->d, MP_E_TIMEOUT, "cannot open %.300s: it is replaced again and again", m->path);
  return -1;
}

static void deliver(mbox *m)
{
  int folder = mp_disk_open_folder(m->folder, m->create ? mp_disk_folder_mode(m->mode) : 0);
  if (folder < 0) {
    delivery_fail(&m->d, "open", m->folder);
    return;
  }
  struct stat st;
  int fd = open_locked(m);
  if (fd >= 0 && (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_END) < 0)) {
    delivery_fail(&m->d, "open", m->path);
  } else if (fd >= 0) {
    m->w.fd = fd;
    write_message(m, st.st_size);
    if (m->d.out.rc == 0 && m->fresh && fsync(folder) < 0)
      delivery_fail(&m->d, "sync", m->folder);
    if (m->d.out.rc < 0 && (ftruncate(fd, st.st_size) < 0 || fsync(fd) < 0))
      delivery_note(&m->d, "; half a message may stand at its end");
  }
  if (fd >= 0)
    close(fd); /* and with it both locks */
  m->d.out.path = m->path;
  close(folder);
}

static void run(mp_work *work)
{
  mbox *m = (mbox *)work;
  m->held = false;
  deliver(m);
}

static void release(mbox *m)
{
  delivery_dispose(&m->d);
  mp_mem_free(m->path);
  mp_mem_free(m->folder);
  mp_mem_free(m);
}

static void finish_delivery(mbox *m)
{
  mp_timers_clear(&m->loop->timers, &m->timer);
  mp_list_remove(&m->left.node);
  delivery_report(&m->d);
  release(m);
}

static void try_again(mp_timer *timer, int64_t now_ms)
{
  mbox *m = MP_CONTAINER(timer, mbox, timer);
  (void)now_ms;
  int rc = m->cancelled ? MP_E_CANCELLED : mp_loop_work(m->loop, &m->d.work);
  if (rc < 0) {
    delivery_error(&m->d, rc, "gave up waiting for the lock of %.300s: %s", m->path,
                   m->cancelled ? "the server stops" : mp_error_text(rc));
    finish_delivery(m);
  }
}

/* On the loop's thread, after a try. */
static void done(mp_work *work)
{
  mbox *m = (mbox *)work;
  if (!m->held || m->d.out.rc < 0) {
    finish_delivery(m);
    return;
  }
  int64_t now = mp_loop_now(m->loop);
  if (m->cancelled) {
    try_again(&m->timer, now);
    return;
  }
  if (now >= m->due) {
    delivery_error(&m->d, MP_E_TIMEOUT, "cannot lock %.300s: somebody holds it", m->path);
    finish_delivery(m);
    return;
  }
  int rc = mp_timers_set(&m->loop->timers, &m->timer, now + m->pause_ms);
  m->pause_ms = m->pause_ms < PAUSE_MOST_MS ? m->pause_ms * 2 : PAUSE_MOST_MS;
  if (rc < 0) {
    delivery_error(&m->d, rc, "cannot wait for the lock of %.300s: %s", m->path, mp_error_text(rc));
    finish_delivery(m);
  }
}

static void cancel(delivery *d)
{
  mbox *m = MP_CONTAINER(d, mbox, d);
  m->cancelled = true;
  if (m->timer.slot) /* to move one that is set never fails */
    mp_timers_set(&m->loop->timers, &m->timer, 0);
}

/* The loop ends: timers do not fire any more. */
static void loop_ends(mp_leftover *left)
{
  mbox *m = MP_CONTAINER(left, mbox, left);
  m->cancelled = true;
  if (m->timer.slot) {
    mp_timers_clear(&m->loop->timers, &m->timer);
    try_again(&m->timer, 0);
  }
}

/* The envelope's sender on a "From " line: one word. */
static void safe_sender(char out[SENDER_MOST + 1], mp_str sender)
{
  if (sender.len == 0)
    sender = MP_STR("MAILER-DAEMON");
  sender = mp_str_sub(sender, 0, SENDER_MOST);
  for (size_t i = 0; i < sender.len; i++) {
    unsigned char c = (unsigned char)sender.ptr[i];
    out[i] = c > ' ' && c != 0x7f ? (char)c : '_';
  }
  out[sender.len] = '\0';
}

int mp_deliver_mbox(mp_loop *loop, mp_message *msg, const mp_file_opts *opts, mp_delivered delivered, void *ctx)
{
  mbox *m = mp_mem_zalloc(sizeof *m);
  if (!m)
    return MP_E_NOMEM;
  int rc = delivery_init(&m->d, msg, opts->extra, true, delivered, ctx);
  if (rc < 0) {
    mp_mem_free(m);
    return rc;
  }
  m->create = opts->create;
  m->mode = opts->mode ? opts->mode : DELIVERY_MODE;
  safe_sender(m->sender, opts->sender);
  delivery_split(opts->path, &m->path, &m->folder);
  m->d.work.work = run;
  m->d.work.done = done;
  m->loop = loop;
  m->due = mp_loop_now(loop) + LOCK_MS;
  m->pause_ms = PAUSE_FIRST_MS;
  m->left.close = loop_ends;
  mp_timer_init(&m->timer, try_again);
  mp_list_init(&m->left.node);
  rc = m->path && m->folder ? mp_loop_work(loop, &m->d.work) : MP_E_NOMEM;
  if (rc < 0) {
    release(m);
    return rc;
  }
  mp_list_push(&loop->left, &m->left.node);
  delivery_cancellable(&m->d, cancel);
  return 0;
}
