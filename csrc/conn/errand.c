#include "conn/errand.h"

struct mp_errand {
  mp_work work;
  mp_job *job;
  void (*back)(void *ctx, mp_job *job); /* NULL: forgotten */
  void *ctx;
};

static void run(mp_work *work)
{
  mp_job *job = MP_CONTAINER(work, mp_errand, work)->job;
  job->run(job);
}

static void done(mp_work *work)
{
  mp_errand *errand = MP_CONTAINER(work, mp_errand, work);
  mp_errand was = *errand;
  mp_mem_free(errand);
  if (was.back)
    was.back(was.ctx, was.job);
  else
    was.job->free(was.job);
}

mp_errand *mp_errand_send(mp_loop *loop, mp_job *job, void (*back)(void *ctx, mp_job *job), void *ctx)
{
  mp_errand *errand = mp_mem_alloc(sizeof *errand);
  if (errand)
    *errand = (mp_errand){ .work = { .work = run, .done = done }, .job = job, .back = back, .ctx = ctx };
  if (errand && mp_loop_work(loop, &errand->work) == 0)
    return errand;
  mp_mem_free(errand);
  job->free(job);
  return NULL;
}

void mp_errand_forget(mp_errand *errand)
{
  if (errand)
    errand->back = NULL;
}
