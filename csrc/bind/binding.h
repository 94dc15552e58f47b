/* bind/binding.h -- a counted binding, so that serving threads can share it. */
#ifndef MP_BIND_BINDING_H
#define MP_BIND_BINDING_H

#include "bind/mpl.h"

typedef struct mpl_shared_binding {
  atomic_uint refs;
  mp_binding binding;
} mpl_shared_binding;

mpl_shared_binding *mpl_binding_ref(mpl_shared_binding *shared);
void mpl_binding_unref(mpl_shared_binding *shared);              /* NULL does nothing; the last one closes */
void mpl_push_binding(lua_State *L, mpl_shared_binding *shared); /* takes a reference */

#endif
