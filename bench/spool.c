/* bench/spool.c -- the spool by itself, without sockets and Lua. `bench_spool WHAT FOLDER ...` prints lines of a name and a number:
 *   put FOLDER CLIENTS MESSAGES      messages of 4 KB a second, of so many clients who wait for each answer
 *   bodies FOLDER THREADS MESSAGES   messages whose 100 KB are files, in MB a second
 *   bare FOLDER THREADS MESSAGES     the same octets without a spool, appended to a file of each thread and synced each time
 *   fill FOLDER MESSAGES DOMAINS     nothing is measured
 *   start FOLDER                     milliseconds to the first claim, and memory
 *   turn FOLDER CLIENTS ROUNDS       microseconds, of the clock and of the processor, for a claim and a reschedule
 * bench/spool.lua runs it and makes rows of that. */
#include "spool/spool.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { NOW = 1000000, BODY = 4096, FILE_BODY = 100 * 1024, CLIENTS_MOST = 1000 };

static mp_spool *spool;
static char body[FILE_BODY];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_long next_number, left;

static void die(const char *what)
{
  fprintf(stderr, "bench_spool: %s\n", what);
  exit(1);
}

static double now(clockid_t clock)
{
  struct timespec ts;
  clock_gettime(clock, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void finished(void)
{
  if (atomic_fetch_sub(&left, 1) != 1)
    return;
  pthread_mutex_lock(&lock);
  pthread_cond_signal(&wake);
  pthread_mutex_unlock(&lock);
}

static void wait_all(void)
{
  pthread_mutex_lock(&lock);
  while (atomic_load(&left) > 0)
    pthread_cond_wait(&wake, &lock);
  pthread_mutex_unlock(&lock);
}

/* One who waits for an answer before he asks the next. */
typedef struct client {
  mp_spool_put_request put; /* first */
  mp_spool_message message;
  mp_spool_recipient to;
  mp_spool_claim_request claim;
  mp_spool_update_request update;
  mp_spool_change change;
  char id[32], domain[32], address[64];
  long most, domains, rounds;
  unsigned seed;
} client;

static client clients[CLIENTS_MOST];

static void put_next(client *c);

static void put_done(mp_spool_request *request)
{
  if (request->result != 0)
    die(mp_error_text(request->result));
  put_next((client *)(void *)request);
}

static void put_next(client *c)
{
  long n = atomic_fetch_add(&next_number, 1);
  if (n >= c->most) {
    finished();
    return;
  }
  snprintf(c->id, sizeof c->id, "b%010ld", n);
  snprintf(c->domain, sizeof c->domain, "d%ld.example.net", n % c->domains);
  snprintf(c->address, sizeof c->address, "user%ld@%s", n % 100, c->domain);
  c->message = (mp_spool_message){ .id = mp_str_c(c->id),
                                   .sender = MP_STR("sender@example.org"),
                                   .received_ms = NOW,
                                   .head = MP_STR("From: <sender@example.org>\r\nSubject: bench\r\n\r\n"),
                                   .body = mp_str_of(body, BODY) };
  c->to = (mp_spool_recipient){
    .address = mp_str_c(c->address), .domain = mp_str_c(c->domain), .due_ms = NOW, .expiry_ms = NOW + 432000000
  };
  c->put =
      (mp_spool_put_request){ { .done = put_done }, .message = &c->message, .recipients = &c->to, .count = 1 };
  mp_spool_put(spool, &c->put);
}

static double put_all(long count, long messages, long domains)
{
  double begun = now(CLOCK_MONOTONIC);
  atomic_store(&next_number, 0);
  atomic_store(&left, count);
  for (long i = 0; i < count; i++) {
    clients[i].most = messages;
    clients[i].domains = domains;
    put_next(&clients[i]);
  }
  wait_all();
  return now(CLOCK_MONOTONIC) - begun;
}

/* ---- bodies in files ----------------------------------------------------------------------------------------------- */

static void told(mp_spool_request *request)
{
  (void)request;
  finished();
}

static void *write_bodies(void *arg)
{
  long most = *(long *)arg;
  for (long n; (n = atomic_fetch_add(&next_number, 1)) < most;) {
    char id[32];
    mp_spool_file *file;
    snprintf(id, sizeof id, "f%010ld", n);
    if (mp_spool_file_new(spool, &file) != 0 || mp_spool_file_write(file, mp_str_of(body, FILE_BODY)) != 0 ||
        mp_spool_file_name(file, mp_str_c(id)) != 0)
      die("a file cannot be written");
    mp_spool_file_free(file);
    /* The answer is not waited for: a server has other connections meanwhile. */
    client *c = calloc(1, sizeof *c);
    memcpy(c->id, id, sizeof id);
    c->message =
        (mp_spool_message){ .id = mp_str_c(c->id), .received_ms = NOW, .in_file = true, .body_length = FILE_BODY };
    c->to = (mp_spool_recipient){ .address = MP_STR("bob@example.net"),
                                  .domain = MP_STR("example.net"),
                                  .due_ms = NOW };
    c->put =
        (mp_spool_put_request){ { .done = told }, .message = &c->message, .recipients = &c->to, .count = 1 };
    mp_spool_put(spool, &c->put);
  }
  return NULL;
}

static double run_threads(long count, long messages, void *(*run)(void *))
{
  pthread_t threads[64];
  double begun = now(CLOCK_MONOTONIC);
  atomic_store(&next_number, 0);
  atomic_store(&left, messages);
  for (long i = 0; i < count && i < 64; i++)
    if (pthread_create(&threads[i], NULL, run, &messages) != 0)
      die("no thread");
  for (long i = 0; i < count && i < 64; i++)
    pthread_join(threads[i], NULL);
  if (run == write_bodies)
    wait_all();
  return now(CLOCK_MONOTONIC) - begun;
}

static const char *bare_folder;

static void *write_bare(void *arg)
{
  long most = *(long *)arg;
  char path[512];
  snprintf(path, sizeof path, "%s/bare-%p", bare_folder, (void *)&path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  while (atomic_fetch_add(&next_number, 1) < most)
    if (write(fd, body, FILE_BODY) != FILE_BODY || fsync(fd) != 0)
      die("a file cannot be written");
  close(fd);
  unlink(path);
  return NULL;
}

/* ---- claims and reschedules ---------------------------------------------------------------------------------------- */

static void turn_next(client *c);

static void changed(mp_spool_request *request)
{
  client *c = (client *)(void *)((char *)request - offsetof(client, update));
  if (request->result != 0 || c->change.result != 0)
    die("a reschedule failed");
  mp_spool_batch_free(c->claim.batch);
  turn_next(c);
}

static void claimed(mp_spool_request *request)
{
  client *c = (client *)(void *)((char *)request - offsetof(client, claim));
  if (request->result != 0)
    die(mp_error_text(request->result));
  if (c->claim.batch->recipients == 0) { /* another client's domain: look elsewhere */
    mp_spool_batch_free(c->claim.batch);
    turn_next(c);
    return;
  }
  const mp_spool_item *item = c->claim.batch->items;
  c->change = (mp_spool_change){ .verb = MP_SPOOL_RESCHEDULE,
                                 .id = item->message.id,
                                 .n = item->recipients[0].n,
                                 .lease = c->claim.lease,
                                 .when_ms = NOW + 1000 + rand_r(&c->seed) % 100000,
                                 .now_ms = NOW,
                                 .reply = MP_STR("451 4.3.0 Try again later") };
  c->update = (mp_spool_update_request){ { .done = changed }, .changes = &c->change, .count = 1 };
  mp_spool_update(spool, &c->update);
}

static void turn_next(client *c)
{
  if (c->rounds-- == 0) {
    finished();
    return;
  }
  snprintf(c->domain, sizeof c->domain, "d%ld.example.net", (long)rand_r(&c->seed) % c->domains);
  c->claim = (mp_spool_claim_request){ { .done = claimed }, .domain = mp_str_c(c->domain),
                                       .lane = -1,          .now_ms = NOW + 200000,
                                       .lease_ms = 600000,  .max = 1 };
  mp_spool_claim(spool, &c->claim);
}

static void turn_all(long count, long rounds)
{
  mp_spool_stats stats;
  mp_spool_stat(spool, &stats);
  double begun = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
  atomic_store(&left, count);
  for (long i = 0; i < count; i++) {
    clients[i].rounds = rounds / count;
    clients[i].domains = (long)stats.domains;
    clients[i].seed = (unsigned)i + 1;
    turn_next(&clients[i]);
  }
  wait_all();
  printf("wall %.2f\n", (now(CLOCK_MONOTONIC) - begun) / (double)rounds * 1e6);
  printf("cpu %.2f\n", (now(CLOCK_PROCESS_CPUTIME_ID) - used) / (double)rounds * 1e6);
}

static void start(double begun)
{
  mp_spool_domain domain;
  atomic_store(&left, 1);
  if (mp_spool_due(spool, 0, NOW, 1000, &domain, 1) != 1)
    die("nothing is due");
  mp_spool_claim_request claim = { { .done = told }, .domain = mp_str_c(domain.name),
                                   .lane = -1,       .now_ms = NOW,
                                   .lease_ms = 1000, .max = 10 };
  mp_spool_claim(spool, &claim);
  wait_all();
  printf("ms %.0f\n", (now(CLOCK_MONOTONIC) - begun) * 1e3);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("mb %.1f\n", (double)usage.ru_maxrss / 1024);
  mp_spool_batch_free(claim.batch);
}

int main(int argc, char **argv)
{
  const char *what = argc > 2 ? argv[1] : "";
  long a = argc > 3 ? atol(argv[3]) : 1, b = argc > 4 ? atol(argv[4]) : 1;
  char why[512];
  double begun = now(CLOCK_MONOTONIC);
  mp_spool_opts opts = { .reserve = 1 };
  if (argc < 3 || a < 1 || b < 1 || a > (strcmp(what, "fill") == 0 ? 100000000 : CLIENTS_MOST))
    die("put | bodies | fill | start | turn");
  memset(body, 'x', sizeof body);
  if (strcmp(what, "bare") == 0) {
    bare_folder = argv[2];
    printf("mb_s %.1f\n", (double)b * FILE_BODY / 1e6 / run_threads(a, b, write_bare));
    return 0;
  }
  if (mp_spool_open(argv[2], &opts, &spool, why, sizeof why) != 0)
    die(why);
  if (strcmp(what, "put") == 0)
    printf("rate %.0f\n", (double)b / put_all(a, b, 200));
  else if (strcmp(what, "bodies") == 0)
    printf("mb_s %.1f\n", (double)b * FILE_BODY / 1e6 / run_threads(a, b, write_bodies));
  else if (strcmp(what, "fill") == 0)
    put_all(CLIENTS_MOST, a, b);
  else if (strcmp(what, "start") == 0)
    start(begun);
  else if (strcmp(what, "turn") == 0)
    turn_all(a, b);
  else
    die("put | bodies | fill | start | turn");
  mp_spool_close(spool);
  return 0;
}
