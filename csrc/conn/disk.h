/* conn/disk.h -- what every delivery to a disk needs: folders that last, whole writes. All of it blocks: for pool threads. Each returns 0, or
 * -1 with errno set. */
#ifndef MP_CONN_DISK_H
#define MP_CONN_DISK_H

#include "base/str.h"

/* Makes `path` and what is missing above it; each new folder is in its parent, synced, before the next is made. One that is there is fine. */
int mp_disk_folder(const char *path, unsigned mode);

/* Opens a folder to work in it and to sync it; `mode` not 0: one that is missing is made first. The descriptor or -1. */
int mp_disk_open_folder(const char *path, unsigned mode);

int mp_disk_write(int fd, mp_str octets);

/* Mode of the folders that hold files of `mode`: whoever may read may enter. */
unsigned mp_disk_folder_mode(unsigned mode);

#endif
