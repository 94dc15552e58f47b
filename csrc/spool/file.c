#include "spool/impl.h"

struct mp_spool_file {
  mp_spool *spool;
  uint64_t length;
  int fd;
};

int mp_spool_file_new(mp_spool *spool, mp_spool_file **out)
{
  *out = NULL;
  if (!mp_spool_room(spool))
    return MP_E_NOSPACE;
  int fd = spool->disk->unnamed(spool->disk->ctx, spool->bodies);
  if (fd < 0)
    return fd;
  *out = mp_mem_zalloc(sizeof **out);
  if (!*out) {
    spool->disk->close(spool->disk->ctx, fd);
    return MP_E_NOMEM;
  }
  **out = (mp_spool_file){ .spool = spool, .fd = fd };
  return 0;
}

int mp_spool_file_write(mp_spool_file *file, mp_str octets)
{
  if (!mp_spool_room(file->spool))
    return MP_E_NOSPACE;
  int err = file->spool->disk->write(file->spool->disk->ctx, file->fd, octets);
  if (err == 0)
    file->length += octets.len;
  return err;
}

uint64_t mp_spool_file_length(const mp_spool_file *file)
{
  return file->length;
}

int mp_spool_file_name(mp_spool_file *file, mp_str id)
{
  const mp_spool_disk *disk = file->spool->disk;
  char path[MP_SPOOL_PATH_MAX];
  if (!mp_spool_id_fits(id))
    return MP_E_INVALID;
  /* The octets first: a name that outlives a crash must not be that of an empty file. */
  int err = disk->sync(disk->ctx, file->fd);
  mp_spool_body_path(file->spool, id, path);
  if (err == 0)
    err = disk->name(disk->ctx, file->fd, path);
  if (err != 0)
    return err;
  mp_spool_body_folder(file->spool, id, path);
  err = disk->sync_folder(disk->ctx, path);
  if (err != 0)
    mp_spool_file_drop(file->spool, id);
  return err;
}

void mp_spool_file_free(mp_spool_file *file)
{
  if (!file)
    return;
  file->spool->disk->close(file->spool->disk->ctx, file->fd);
  mp_mem_free(file);
}

int mp_spool_file_drop(mp_spool *spool, mp_str id)
{
  char path[MP_SPOOL_PATH_MAX];
  if (!mp_spool_id_fits(id))
    return MP_E_INVALID;
  mp_spool_body_path(spool, id, path);
  return spool->disk->remove(spool->disk->ctx, path);
}

int mp_spool_file_open(mp_spool *spool, mp_str id)
{
  char path[MP_SPOOL_PATH_MAX];
  if (!mp_spool_id_fits(id))
    return MP_E_INVALID;
  mp_spool_body_path(spool, id, path);
  return spool->disk->open(spool->disk->ctx, path);
}
