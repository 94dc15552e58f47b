/* Delivery into a Maildir: a file is written and synced in tmp, and shows up in new whole or not at all. */
#include "base/error.h"
#include "conn/deliver_impl.h"
#include "conn/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_ROOM = 256, HOST_MOST = 100, TRIES = 3 };

typedef struct maildir {
  delivery d; /* first */
  char *folder;
  bool create;
  unsigned mode;
  int box, tmp, new; /* descriptors of the folders; -1 */
  char host[HOST_MOST + 1];
  char name[NAME_ROOM];
  char *path; /* room for FOLDER/new/NAME */
  size_t path_room;
} maildir;

/* What may stand in a file's name: '/' and ':' mean something to a Maildir, and have the spellings that its inventor gave them. */
static void safe_host(char out[HOST_MOST + 1], const char *host)
{
  size_t n = 0;
  for (host = host && *host ? host : "localhost"; *host && n + 4 <= HOST_MOST; host++) {
    unsigned char c = (unsigned char)*host;
    if (c == '/' || c == ':')
      n += (size_t)snprintf(out + n, 5, "%s", c == '/' ? "\\057" : "\\072");
    else
      out[n++] = c > ' ' && c != 0x7f && c != ',' ? (char)c : '_';
  }
  out[n] = '\0';
}

static void make_name(maildir *m)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(m->name, sizeof m->name, "%lld.M%06ldP%ldQ%u_%s.%s", (long long)now.tv_sec, now.tv_nsec / 1000,
           (long)getpid(), m->d.number, m->d.msg->id, m->host);
}

/* A path in the Maildir, for the log and for the outcome. */
static const char *path_of(maildir *m, const char *sub, const char *name)
{
  snprintf(m->path, m->path_room, "%s/%s%s%s", m->folder, sub, *name ? "/" : "", name);
  return m->path;
}

static int open_sub(maildir *m, const char *sub)
{
  int fd = openat(m->box, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    delivery_fail(&m->d, "open", path_of(m, sub, ""));
  return fd;
}

static bool make_subs(maildir *m)
{
  static const char *const subs[] = { "tmp", "new", "cur" };
  bool made = false;
  for (size_t i = 0; i < sizeof subs / sizeof *subs; i++) {
    if (mkdirat(m->box, subs[i], mp_disk_folder_mode(m->mode)) == 0)
      made = true;
    else if (errno != EEXIST) {
      delivery_fail(&m->d, "make", path_of(m, subs[i], ""));
      return false;
    }
  }
  if (made && fsync(m->box) < 0) {
    delivery_fail(&m->d, "sync", m->folder);
    return false;
  }
  return true;
}

static bool open_folders(maildir *m)
{
  m->box = mp_disk_open_folder(m->folder, m->create ? mp_disk_folder_mode(m->mode) : 0);
  if (m->box < 0) {
    delivery_fail(&m->d, "open", m->folder);
    return false;
  }
  if (m->create && (faccessat(m->box, "tmp", F_OK, 0) < 0 || faccessat(m->box, "new", F_OK, 0) < 0) &&
      !make_subs(m))
    return false;
  m->tmp = open_sub(m, "tmp");
  m->new = m->tmp < 0 ? -1 : open_sub(m, "new");
  return m->new >= 0;
}

/* Moves the synced file into new, never over another one. */
static int move_in(maildir *m)
{
  if (linkat(m->tmp, m->name, m->new, m->name, 0) == 0)
    return 0; /* the name in tmp goes with those of failures */
  if (errno == EEXIST)
    return -1;
  /* No hard links here. The name is ours alone, so rename finds nothing to replace. */
  return renameat(m->tmp, m->name, m->new, m->name);
}

static void deliver(maildir *m)
{
  if (!open_folders(m))
    return;
  int fd = -1;
  for (int i = 0; i < TRIES && fd < 0; i++) {
    make_name(m);
    fd = openat(m->tmp, m->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, m->mode);
    if (fd < 0 && errno != EEXIST)
      break;
  }
  if (fd < 0) {
    delivery_fail(&m->d, "make", path_of(m, "tmp", m->name));
    return;
  }
  bool stored = delivery_store(&m->d, fd, path_of(m, "tmp", m->name));
  if (close(fd) < 0 && stored) {
    delivery_fail(&m->d, "close", m->path);
    stored = false;
  }
  bool moved = stored && move_in(m) == 0;
  if (stored && !moved)
    delivery_fail(&m->d, "make", path_of(m, "new", m->name));
  unlinkat(m->tmp, m->name, 0);
  if (moved && fsync(m->new) < 0) {
    delivery_fail(&m->d, "sync", path_of(m, "new", ""));
    unlinkat(m->new, m->name, 0);
  }
  m->d.out.path = path_of(m, "new", m->name);
}

static void run(mp_work *work)
{
  maildir *m = (maildir *)work;
  deliver(m);
  const int fds[] = { m->new, m->tmp, m->box };
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
    if (fds[i] >= 0)
      close(fds[i]);
  }
}

static void release(maildir *m)
{
  delivery_dispose(&m->d);
  mp_mem_free(m->folder);
  mp_mem_free(m->path);
  mp_mem_free(m);
}

static void done(mp_work *work)
{
  maildir *m = (maildir *)work;
  delivery_report(&m->d);
  release(m);
}

int mp_deliver_maildir(mp_loop *loop, mp_message *msg, const mp_maildir_opts *opts, mp_delivered delivered,
                       void *ctx)
{
  maildir *m = mp_mem_zalloc(sizeof *m);
  if (!m)
    return MP_E_NOMEM;
  int rc = delivery_init(&m->d, msg, opts->extra, opts->crlf, delivered, ctx);
  if (rc < 0) {
    mp_mem_free(m);
    return rc;
  }
  m->create = opts->create;
  m->mode = opts->mode ? opts->mode : DELIVERY_MODE;
  m->box = m->tmp = m->new = -1;
  safe_host(m->host, opts->host);
  m->folder = mp_mem_dup(opts->folder, strlen(opts->folder));
  m->path_room = strlen(opts->folder) + sizeof "/tmp/" + NAME_ROOM;
  m->path = mp_mem_alloc(m->path_room);
  m->d.work.work = run;
  m->d.work.done = done;
  rc = m->folder && m->path ? mp_loop_work(loop, &m->d.work) : MP_E_NOMEM;
  if (rc < 0)
    release(m);
  return rc;
}
