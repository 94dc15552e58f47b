#include "net/folder.h"

#include "base/error.h"

struct mp_folder {
  uv_fs_event_t handle;
  void (*changed)(void *ctx);
  void *ctx;
  mp_leftover left;
};

/* A status that is bad speaks of events that were lost, which are changes too. */
static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
  (void)name;
  (void)events;
  (void)status;
  mp_folder *folder = MP_CONTAINER(handle, mp_folder, handle);
  folder->changed(folder->ctx);
}

static void on_closed(uv_handle_t *handle)
{
  mp_mem_free(MP_CONTAINER(handle, mp_folder, handle));
}

static void loop_ends(mp_leftover *left)
{
  mp_folder_close(MP_CONTAINER(left, mp_folder, left));
}

int mp_folder_open(mp_folder **out, mp_loop *loop, const char *path, void (*changed)(void *ctx), void *ctx)
{
  if (loop->is_virtual)
    return MP_E_MISUSE;
  mp_folder *folder = mp_mem_zalloc(sizeof *folder);
  if (!folder)
    return MP_E_NOMEM;
  folder->changed = changed;
  folder->ctx = ctx;
  int rc = uv_fs_event_init(&loop->uv, &folder->handle);
  if (rc < 0) {
    mp_mem_free(folder);
    return mp_error_errno(-rc);
  }
  uv_unref((uv_handle_t *)&folder->handle);
  rc = uv_fs_event_start(&folder->handle, on_event, path, 0);
  if (rc < 0) {
    uv_close((uv_handle_t *)&folder->handle, on_closed);
    return mp_error_errno(-rc);
  }
  folder->left.close = loop_ends;
  mp_list_push(&loop->left, &folder->left.node);
  *out = folder;
  return 0;
}

void mp_folder_close(mp_folder *folder)
{
  if (!folder)
    return;
  mp_list_remove(&folder->left.node);
  uv_close((uv_handle_t *)&folder->handle, on_closed);
}
