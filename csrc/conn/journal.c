#include "conn/journal.h"

#include "base/buf.h"
#include "base/error.h"
#include "conn/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PENDING_MOST = 4 << 20, KEEP_MOST = 1000, MODE = 0640, PATH_MOST = 4096 };

struct mp_journal {
  mp_loop *loop;
  mp_journal_opts opts;
  char *path;
  mp_buf pending;
  uint64_t pending_lines, lost; /* lost: since it was told last */
  bool closing;
  mp_work work;
  bool busy; /* the pool has what follows */
  mp_buf writing;
  uint64_t writing_lines;
  bool torn; /* the file may end in the middle of a line */
  int fd;
  int error; /* errno of the last batch; 0: it was written */
};

static int open_file(const char *path)
{
  int fd;
  do {
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, MODE);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

static void dispose(mp_journal *journal)
{
  if (journal->fd >= 0)
    close(journal->fd);
  mp_buf_dispose(&journal->pending);
  mp_buf_dispose(&journal->writing);
  mp_mem_free(journal->path);
  mp_mem_free(journal);
}

int mp_journal_open(mp_journal **out, mp_loop *loop, const mp_journal_opts *opts, char *why, size_t why_size)
{
  char text[128];
  mp_journal *journal = mp_mem_zalloc(sizeof *journal);
  snprintf(why, why_size, "%s", mp_error_text(MP_E_NOMEM));
  if (!journal)
    return MP_E_NOMEM;
  journal->loop = loop;
  journal->opts = *opts;
  journal->fd = -1;
  mp_buf_init(&journal->pending, PENDING_MOST, NULL);
  mp_buf_init(&journal->writing, PENDING_MOST, NULL);
  if (!(journal->path = mp_mem_dup(opts->path, strlen(opts->path)))) {
    dispose(journal);
    return MP_E_NOMEM;
  }
  if (journal->opts.keep > KEEP_MOST)
    journal->opts.keep = KEEP_MOST;
  journal->fd = open_file(journal->path);
  if (journal->fd < 0) {
    int rc = mp_error_errno(errno);
    snprintf(why, why_size, "%s: %s", opts->path, strerror_r(errno, text, sizeof text));
    dispose(journal);
    return rc;
  }
  *out = journal;
  return 0;
}

/* ---- in the pool --------------------------------------------------------------------------------------------------- */

static void use(mp_journal *journal, int fd)
{
  if (fd < 0)
    return;
  close(journal->fd);
  journal->fd = fd;
}

/* True while the path still names the file that we have open. */
static bool still_there(const mp_journal *journal, const struct stat *ours)
{
  struct stat there;
  return stat(journal->path, &there) == 0 && there.st_ino == ours->st_ino && there.st_dev == ours->st_dev;
}

/* Somebody may have moved the file, as logrotate does, or another worker has turned it over: what follows belongs into the one that is at the path
 * now. Where none can be made there the lines go on into the file that was moved, and are not lost. */
static void follow(mp_journal *journal)
{
  struct stat ours;
  if (fstat(journal->fd, &ours) != 0 || still_there(journal, &ours))
    return;
  int fd = open_file(journal->path);
  journal->torn = journal->torn && fd < 0;
  use(journal, fd);
}

/* With the lock. False: the file stays where it is, and grows on, which loses nothing. */
static bool move_up(mp_journal *journal)
{
  struct stat ours;
  char from[PATH_MOST], to[PATH_MOST];
  if (fstat(journal->fd, &ours) != 0 || (uint64_t)ours.st_size < journal->opts.limit)
    return false; /* somebody else has emptied it */
  bool still = still_there(journal, &ours);
  for (unsigned i = journal->opts.keep; still && i > 0; i--) {
    snprintf(from, sizeof from, i > 1 ? "%s.%u" : "%s", journal->path, i - 1);
    snprintf(to, sizeof to, "%s.%u", journal->path, i);
    if (rename(from, to) != 0 && errno != ENOENT)
      return false;
  }
  return !still || journal->opts.keep > 0 || ftruncate(journal->fd, 0) == 0;
}

/* Moves files up by one number. Whoever has the lock of the file that is still at the path does it; nobody waits for it, for the threads of the
 * pool are few, and the next batch looks again. */
static void turn_over(mp_journal *journal)
{
  struct stat ours;
  if (fstat(journal->fd, &ours) != 0 || (uint64_t)ours.st_size < journal->opts.limit)
    return;
  if (flock(journal->fd, LOCK_EX | LOCK_NB) != 0)
    return;
  bool moved = move_up(journal);
  flock(journal->fd, LOCK_UN);
  if (moved)
    use(journal, open_file(journal->path));
}

static void write_batch(mp_work *work)
{
  mp_journal *journal = MP_CONTAINER(work, mp_journal, work);
  follow(journal);
  bool whole = (!journal->torn || mp_disk_write(journal->fd, MP_STR("\n")) == 0) &&
               mp_disk_write(journal->fd, mp_buf_view(&journal->writing)) == 0;
  journal->error = whole ? 0 : errno;
  journal->torn = !whole; /* the next batch begins with a line of its own */
  if (journal->opts.limit)
    turn_over(journal);
}

/* ---- on the loop --------------------------------------------------------------------------------------------------- */

static void tell(mp_journal *journal, const char *why)
{
  uint64_t lost = journal->lost;
  journal->lost = 0;
  if (lost && journal->opts.trouble && !journal->closing)
    journal->opts.trouble(journal->opts.ctx, lost, why);
}

static void begin(mp_journal *journal);

static void written(mp_work *work)
{
  mp_journal *journal = MP_CONTAINER(work, mp_journal, work);
  char text[128];
  mp_buf_dispose(&journal->writing);
  if (journal->error)
    journal->lost += journal->writing_lines;
  /* Still busy: who is told may add lines, or close it. */
  tell(journal, journal->error ? strerror_r(journal->error, text, sizeof text) : "the disk is slow");
  journal->busy = false;
  if (journal->pending.len)
    begin(journal);
  else if (journal->closing)
    dispose(journal);
}

static void begin(mp_journal *journal)
{
  mp_buf batch = journal->pending;
  journal->pending = journal->writing;
  journal->writing = batch;
  journal->writing_lines = journal->pending_lines;
  journal->pending_lines = 0;
  journal->work = (mp_work){ .loop = journal->loop, .work = write_batch, .done = written };
  journal->busy = true;
  if (mp_loop_work(journal->loop, &journal->work) == 0)
    return;
  journal->error = EAGAIN;
  written(&journal->work);
}

void mp_journal_add(mp_journal *journal, mp_str line)
{
  size_t before = journal->pending.len;
  if (mp_buf_str(&journal->pending, line) < 0 || mp_buf_char(&journal->pending, '\n') < 0) {
    mp_buf_cut(&journal->pending, before);
    journal->lost++;
    return;
  }
  journal->pending_lines++;
  if (!journal->busy)
    begin(journal);
}

void mp_journal_close(mp_journal *journal)
{
  if (!journal)
    return;
  journal->closing = true;
  if (!journal->busy)
    dispose(journal);
}
