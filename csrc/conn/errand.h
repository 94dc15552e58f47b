/* conn/errand.h -- a machine's job on its way through the thread pool. It outlives who sent it when it must. One loop's thread. */
#ifndef MP_CONN_ERRAND_H
#define MP_CONN_ERRAND_H

#include "base/job.h"
#include "net/loop.h"

typedef struct mp_errand mp_errand;

/* Runs `job` in the pool; then `back(ctx, job)` gets it again, on a later turn of the loop. NULL when there is no memory: the job is freed then. */
mp_errand *mp_errand_send(mp_loop *loop, mp_job *job, void (*back)(void *ctx, mp_job *job), void *ctx);

/* Nobody wants it back: it is freed when it has run. NULL does nothing. Not once `back` was called. */
void mp_errand_forget(mp_errand *errand);

#endif
