/* net/folder.h -- what happens in a folder, as calls on a loop's thread. */
#ifndef MP_NET_FOLDER_H
#define MP_NET_FOLDER_H

#include "net/loop.h"

typedef struct mp_folder mp_folder;

/* Calls `changed` after something in the folder, or the folder itself, was made, written, renamed or removed; many changes may be told at once, and
 * what changed is for the caller to find out: names of events lie where files are links. Files are not watched themselves, for who writes a file often
 * puts another in its place. A folder that is gone tells so once, and nothing more when another of that name comes. Does not keep the loop alive. 0,
 * MP_E_NOMEM, MP_E_NOTFOUND, MP_E_DENIED (the folder must be readable), MP_E_SYSTEM (the system's limit of watches), MP_E_MISUSE on a virtual loop. */
int mp_folder_open(mp_folder **folder, mp_loop *loop, const char *path, void (*changed)(void *ctx), void *ctx);

/* No `changed` any more. NULL does nothing. One that is open when the loop is disposed of is closed then, and its memory is gone. */
void mp_folder_close(mp_folder *folder);

#endif
