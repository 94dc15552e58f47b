/* mail/psl.h -- public suffixes (publicsuffix.org): where a name stops being a registry's and starts being somebody's. */
#ifndef MP_MAIL_PSL_H
#define MP_MAIL_PSL_H

#include "base/str.h"

enum { MP_PSL_NAME = 1024 }; /* room for any name as UTF-8 with its NUL */

typedef struct mp_psl mp_psl;

/* A list: of the file `path` (the .dat of publicsuffix.org, or what psl-make-dafsa makes of it), or, when it is NULL, the newer one of what
 * the system keeps and what came with the library. It is not changed by questions: threads may share it. Its memory is the library's own.
 * Returns 0, MP_E_NOMEM, or an error of opening (MP_E_NOTFOUND, MP_E_DENIED, ..., MP_E_SYNTAX when that is no list). */
int mp_psl_new(mp_psl **list, const char *path);
void mp_psl_free(mp_psl *list);

/* The registrable domain of `name`, which RFC 7489 3.2 calls organizational: its public suffix and one label more. A-labels and U-labels
 * are taken as they come and come back so, in lower case; a dot at the end is dropped. Writes a NUL and returns the length; 0 when there is
 * none (a public suffix, an address, an empty label, what is no name); or MP_E_NOMEM. */
mp_ssize mp_psl_registrable(const mp_psl *list, mp_str name, char out[MP_PSL_NAME]);

#endif
