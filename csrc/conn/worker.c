#include "conn/worker.h"

#include "base/error.h"
#include "conn/conn_impl.h"
#include "conn/names.h"
#include "smtp/envelope.h"

#include <time.h>
#include <unistd.h>

static int64_t wall_real(const mp_worker *worker)
{
  (void)worker;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Tests live on a day of their own, so that dates in what they compare do not change. */
static const int64_t first_day_ms = 1767225600000;

static int64_t wall_virtual(const mp_worker *worker)
{
  return worker->wall_start_ms + mp_loop_now(&worker->loop);
}

int mp_worker_new(mp_worker **out, unsigned number, mp_gate *gate, bool is_virtual)
{
  mp_worker *worker = mp_mem_zalloc(sizeof *worker);
  if (!worker)
    return MP_E_NOMEM;
  int rc = is_virtual ? mp_loop_init_virtual(&worker->loop, 0) : mp_loop_init(&worker->loop);
  if (rc < 0) {
    mp_mem_free(worker);
    return rc;
  }
  mp_list_init(&worker->names);
  worker->number = number;
  worker->process = (unsigned)getpid();
  worker->wall_start_ms = first_day_ms;
  worker->wall_ms = is_virtual ? wall_virtual : wall_real;
  mp_pool_init(&worker->conns, sizeof(mp_conn), 256);
  mp_pool_init(&worker->out_blocks, 2048, 256);
  mp_pool_init(&worker->flight_blocks, 16384, 32);
  mp_pool_init(&worker->cipher_blocks, 4096, 64);
  mp_pool_init(&worker->envelopes, sizeof(mp_envelope), 256);
  mp_pool_init(&worker->envelope_blocks, 1024, 512);
  mp_body_store_init(&worker->bodies, &worker->loop);
  worker->plain = mp_mem_alloc(MP_WORKER_PLAIN);
  rc = worker->plain ? mp_sasl_ctx_new(&worker->sasl) : MP_E_NOMEM;
  if (rc == 0 && gate)
    worker->gate = mp_gate_ref(gate);
  else if (rc == 0)
    rc = mp_gate_new(&worker->gate);
  if (rc < 0) {
    mp_worker_free(worker);
    return rc;
  }
  *out = worker;
  return 0;
}

void mp_worker_free(mp_worker *worker)
{
  if (!worker)
    return;
  mp_names_orphan(worker);
  mp_loop_dispose(&worker->loop);
  mp_body_store_dispose(&worker->bodies);
  mp_pool_dispose(&worker->conns);
  mp_pool_dispose(&worker->out_blocks);
  mp_pool_dispose(&worker->flight_blocks);
  mp_pool_dispose(&worker->cipher_blocks);
  mp_pool_dispose(&worker->envelopes);
  mp_pool_dispose(&worker->envelope_blocks);
  mp_sasl_ctx_free(worker->sasl);
  mp_gate_unref(worker->gate);
  mp_mem_free(worker->plain);
  mp_mem_free(worker);
}
