/* bind/heap.h -- Lua states whose memory is ours. */
#ifndef MP_BIND_HEAP_H
#define MP_BIND_HEAP_H

#include <lua.h>

/* As luaL_newstate, with an allocator for many small blocks. lua_close frees all of it. NULL when out of memory. */
lua_State *mpl_heap_state(void);

#endif
