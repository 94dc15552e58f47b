/* smtp/envelope.h -- what MAIL and RCPT said, kept together and shared by counting, so that a message outlives its session. One thread. */
#ifndef MP_SMTP_ENVELOPE_H
#define MP_SMTP_ENVELOPE_H

#include "base/arena.h"
#include "smtp/param.h"

typedef struct mp_recipient {
  mp_path path; /* views into the envelope's arena */
  mp_rcpt_params params;
  unsigned index;       /* place in the envelope, from 0 */
  unsigned char rclass; /* the driver's note: which rule let it in */
} mp_recipient;

typedef struct mp_envelope {
  unsigned refs;
  mp_arena arena;
  mp_pool *home; /* where the struct goes back to; may be NULL */
  mp_path sender;
  mp_mail_params params;
  mp_recipient **rcpts; /* accepted ones, in order */
  size_t count, room;
} mp_envelope;

/* A new envelope with one reference and nothing in it, or NULL. `structs` and `blocks` may be NULL. */
mp_envelope *mp_envelope_new(size_t max, mp_pool *structs, mp_pool *blocks);
mp_envelope *mp_envelope_ref(mp_envelope *env);
void mp_envelope_unref(mp_envelope *env); /* NULL does nothing */

/* Copies path and parameters into the arena. 0 or MP_E_NOMEM (nothing changed but arena use). */
int mp_envelope_mail(mp_envelope *env, const mp_path *path, const mp_mail_params *params);
mp_recipient *mp_envelope_rcpt(mp_envelope *env, const mp_path *path,
                               const mp_rcpt_params *params); /* NULL: no memory */
void mp_envelope_drop(mp_envelope *env); /* takes back the last recipient (its RCPT was refused) */

#endif
