/* Delivery as a file of its own, which appears under its name whole or not at all. */
#include "base/error.h"
#include "conn/deliver_impl.h"
#include "conn/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

typedef struct file {
  delivery d; /* first */
  char *path;
  char *folder;     /* what of `path` is in front of its last '/' */
  const char *name; /* the rest, into `path` */
  bool create;
  unsigned mode;
} file;

/* linkat never replaces; where there are no hard links, a rename that is told not to. */
static int put_in_place(int folder, const char *temporary, const char *name)
{
  if (linkat(folder, temporary, folder, name, 0) == 0) {
    unlinkat(folder, temporary, 0);
    return 0;
  }
  if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
    return -1;
  return renameat2(folder, temporary, folder, name, RENAME_NOREPLACE);
}

static void deliver(file *f)
{
  int folder = mp_disk_open_folder(f->folder, f->create ? mp_disk_folder_mode(f->mode) : 0);
  if (folder < 0) {
    delivery_fail(&f->d, "open", f->folder);
    return;
  }
  char temporary[64];
  snprintf(temporary, sizeof temporary, ".%s-%ld-%u.tmp", f->d.msg->id, (long)getpid(), f->d.number);
  int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->mode);
  if (fd < 0) {
    delivery_fail(&f->d, "make a file for", f->path);
    close(folder);
    return;
  }
  bool good = delivery_store(&f->d, fd, f->path);
  if (close(fd) < 0 && good) {
    delivery_fail(&f->d, "close", f->path);
    good = false;
  }
  if (good && put_in_place(folder, temporary, f->name) < 0) {
    delivery_fail(&f->d, "make", f->path);
    good = false;
  }
  if (!good)
    unlinkat(folder, temporary, 0);
  if (good && fsync(folder) < 0) {
    delivery_fail(&f->d, "sync", f->folder);
    unlinkat(folder, f->name, 0);
  }
  f->d.out.path = f->path;
  close(folder);
}

static void run(mp_work *work)
{
  deliver((file *)work);
}

static void release(file *f)
{
  delivery_dispose(&f->d);
  mp_mem_free(f->path);
  mp_mem_free(f->folder);
  mp_mem_free(f);
}

static void done(mp_work *work)
{
  file *f = (file *)work;
  delivery_report(&f->d);
  release(f);
}

int mp_deliver_file(mp_loop *loop, mp_message *msg, const mp_file_opts *opts, mp_delivered delivered, void *ctx)
{
  if (opts->mbox)
    return mp_deliver_mbox(loop, msg, opts, delivered, ctx);
  file *f = mp_mem_zalloc(sizeof *f);
  if (!f)
    return MP_E_NOMEM;
  int rc = delivery_init(&f->d, msg, opts->extra, opts->crlf, delivered, ctx);
  if (rc < 0) {
    mp_mem_free(f);
    return rc;
  }
  f->create = opts->create;
  f->mode = opts->mode ? opts->mode : DELIVERY_MODE;
  f->name = delivery_split(opts->path, &f->path, &f->folder);
  f->d.work.work = run;
  f->d.work.done = done;
  rc = f->path && f->folder ? mp_loop_work(loop, &f->d.work) : MP_E_NOMEM;
  if (rc < 0)
    release(f);
  return rc;
}
