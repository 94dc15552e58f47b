/* tls/why.h -- failures put into one line for people. What comes from a peer or from a file name is escaped. */
#ifndef MP_TLS_WHY_H
#define MP_TLS_WHY_H

#include "base/str.h"

enum { MP_TLS_WHY_MAX = 400 }; /* octets in a line, its NUL included */

/* Writes the line; octets that are not printable ASCII (or UTF-8 beyond it) become \xHH. `room` may be 0. */
void mp_tls_say(char *why, size_t room, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* "PATH: no such file or directory". Returns the mp_error of `sys`. */
int mp_tls_say_errno(int sys, const char *path, char *why, size_t room);

/* OpenSSL's words for the oldest entry in this thread's error queue (the cause; later ones are consequences), those of TLS itself before
 * those of the arithmetic below it; `otherwise` when there is none. Static; the queue is left empty. */
const char *mp_tls_reason(const char *otherwise);

#endif
