/* conn/body_file.h -- the temporary file of a sink: unlinked at birth, written and read at offsets. Files of past messages are kept for the
 * next: to write over octets that lie in the page cache costs a third of what a fresh file costs. */
#ifndef MP_CONN_BODY_FILE_H
#define MP_CONN_BODY_FILE_H

#include "conn/body.h"

#include <sys/uio.h>

enum { MP_BODY_FILE_KEEP = 64 << 20 }; /* octets of a file that is worth keeping */

/* On the loop's thread: an idle file, or one that is not open yet. */
mp_body_file mp_body_file_take(mp_body_store *store);
/* True when the file was kept, or was never opened; else it is the caller's to close. */
bool mp_body_file_keep(mp_body_store *store, mp_body_file *file);
void mp_body_file_drop_idle(mp_body_store *store);

/* In any thread; each blocks. 0 or an error. */
void mp_body_file_close(mp_body_file *file);
/* Opens the file in `folder` first when it is not. `iov` is changed. */
int mp_body_file_write(mp_body_file *file, const char *folder, struct iovec *iov, size_t count, uint64_t at);
/* Some octets, read into `scratch`; empty with *rc on an error. */
mp_str mp_body_file_read(const mp_body_file *file, uint64_t at, char *scratch, size_t room, int *rc);
/* Octets [at, size) to `fd`. errno says more about an error. */
int mp_body_file_copy(const mp_body_file *file, uint64_t size, uint64_t at, int fd);

#endif
