/* base/job.h -- a piece of pure work (a password hash, a key derivation) that may run on any thread. A machine hands it out, the
 * driver runs it where it likes, and hands it back. `run` touches only the job's own memory. */
#ifndef MP_BASE_JOB_H
#define MP_BASE_JOB_H

typedef struct mp_job mp_job;

struct mp_job {
  void (*run)(mp_job *job);
  void (*free)(mp_job *job); /* wipes secrets and frees; called instead of handing back when the machine is gone */
};

#endif
