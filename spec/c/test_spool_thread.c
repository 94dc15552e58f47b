/* spool from many threads: putters, deliverers, lookers and administrators at once; everything that was confirmed is delivered once. */
#include "support/spool_rig.h"

#include <pthread.h>

enum { NOW = 1000000, PUTTERS = 3, DELIVERERS = 3, EACH = 150, DOMAINS = 7 };

/* A request that a thread waits for. What is in it is the spool's until it is back. */
typedef struct asked {
  union {
    mp_spool_request request;
    mp_spool_put_request put;
    mp_spool_update_request update;
    mp_spool_claim_request claim;
    mp_spool_list_request list;
    mp_spool_read_request read;
    mp_spool_check_request check;
  } as; /* first */
  bool back;
} asked;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;

static void told(mp_spool_request *request)
{
  pthread_mutex_lock(&lock);
  ((asked *)(void *)request)->back = true;
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&lock);
}

static int wait_for(asked *a)
{
  pthread_mutex_lock(&lock);
  while (!a->back)
    pthread_cond_wait(&wake, &lock);
  pthread_mutex_unlock(&lock);
  return a->as.request.result;
}

static mp_spool *spool;
static atomic_int delivered[PUTTERS * EACH], total;
static atomic_bool over;

#define ASK(call, a, which) ((a)->as.request.done = told, call(spool, &(a)->as.which), wait_for(a))

static void *put_all(void *arg)
{
  int first = (int)(intptr_t)arg * EACH;
  for (int i = first; i < first + EACH; i++) {
    char id[16], address[64], sender[64];
    snprintf(id, sizeof id, "m%06d", i);
    snprintf(address, sizeof address, "bob@d%d.example.net", i % DOMAINS);
    snprintf(sender, sizeof sender, "s%d@example.org", i % 5);
    rig_mail mail = rig_mail_to(id, address);
    mail.message.sender = mp_str_c(sender);
    asked a = { .as.put = { .message = &mail.message, .recipients = mail.to, .count = 1 } };
    if (i % 10 == 0) {
      mp_spool_file *file;
      CHECK_EQ_INT(mp_spool_file_new(spool, &file), 0);
      CHECK_EQ_INT(mp_spool_file_write(file, MP_STR("12345")), 0);
      CHECK_EQ_INT(mp_spool_file_name(file, mp_str_c(id)), 0);
      mp_spool_file_free(file);
      mail.message.body = MP_STR_NULL;
      mail.message.in_file = true;
      mail.message.body_length = 5;
    }
    CHECK_EQ_INT(ASK(mp_spool_put, &a, put), 0);
  }
  return NULL;
}

static void deliver(const mp_spool_item *item, const mp_spool_recipient *to, uint64_t lease)
{
  int number = atoi(item->message.id.ptr + 1);
  mp_spool_change change = {
    .id = item->message.id, .n = to->n, .lease = lease, .when_ms = NOW, .now_ms = NOW, .reply = MP_STR("451 x")
  };
  bool later = to->attempts == 0 && number % 4 == 0;
  change.verb = later ? MP_SPOOL_RESCHEDULE : MP_SPOOL_DELIVERED;
  asked a = { .as.update = { .changes = &change, .count = 1 } };
  CHECK_EQ_INT(ASK(mp_spool_update, &a, update), 0);
  CHECK_EQ_INT(change.result, 0);
  if (!later) {
    atomic_fetch_add(&delivered[number], 1);
    if (atomic_fetch_add(&total, 1) + 1 == PUTTERS * EACH)
      atomic_store(&over, true);
  }
}

static void *deliver_all(void *arg)
{
  (void)arg;
  while (!atomic_load(&over)) {
    mp_spool_domain domains[4];
    size_t count = mp_spool_due(spool, 0, NOW, 20, domains, 4);
    if (count == 0)
      sched_yield();
    for (size_t d = 0; d < count; d++) {
      asked a = { .as.claim = { .domain = mp_str_of(domains[d].name, domains[d].length),
                                .lane = -1,
                                .now_ms = NOW,
                                .lease_ms = 600000,
                                .max = 7 } };
      if (!CHECK_EQ_INT(ASK(mp_spool_claim, &a, claim), 0))
        continue;
      mp_spool_batch *batch = a.as.claim.batch;
      for (size_t i = 0; i < batch->count; i++)
        for (size_t r = 0; r < batch->items[i].count; r++)
          deliver(&batch->items[i], &batch->items[i].recipients[r], a.as.claim.lease);
      mp_spool_batch_free(batch);
    }
  }
  return NULL;
}

static void *look_at_all(void *arg)
{
  char octets[64];
  (void)arg;
  while (!atomic_load(&over)) {
    asked list = { .as.list = { .max = 20 } };
    mp_spool_batch *batch = CHECK_EQ_INT(ASK(mp_spool_list, &list, list), 0) ? list.as.list.batch : NULL;
    if (batch && batch->count > 0) {
      mp_str id = batch->items[0].message.id;
      asked read = { .as.read = { .id = id, .into = octets, .size = sizeof octets } };
      int err = ASK(mp_spool_read, &read, read);
      CHECK(err == 0 || err == MP_E_NOTFOUND);
      mp_spool_change change = { .verb = MP_SPOOL_RETRY, .id = id, .when_ms = NOW };
      asked update = { .as.update = { .changes = &change, .count = 1 } };
      CHECK_EQ_INT(ASK(mp_spool_update, &update, update), 0);
    }
    mp_spool_batch_free(batch);
    mp_spool_stats stats;
    mp_spool_stat(spool, &stats);
    mp_spool_next(spool, 0, NOW);
  }
  asked check = { .back = false };
  CHECK_EQ_INT(ASK(mp_spool_check, &check, check), 0);
  CHECK_EQ_INT(check.as.check.aside, 0);
  return NULL;
}

TEST(everything_is_delivered_once)
{
  spool_rig rig;
  pthread_t threads[PUTTERS + DELIVERERS + 1];
  size_t count = 0;
  REQUIRE(rig_init(&rig));
  rig.opts = (mp_spool_opts){ .reserve = 1 };
  REQUIRE(CHECK_EQ_INT(rig_open(&rig), 0));
  spool = rig.spool;
  for (int i = 0; i < PUTTERS; i++)
    pthread_create(&threads[count++], NULL, put_all, (void *)(intptr_t)i);
  for (int i = 0; i < DELIVERERS; i++)
    pthread_create(&threads[count++], NULL, deliver_all, NULL);
  pthread_create(&threads[count++], NULL, look_at_all, NULL);
  for (size_t i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  for (int i = 0; i < PUTTERS * EACH; i++)
    CHECK_EQ_INT(atomic_load(&delivered[i]), 1);
  mp_spool_stats stats;
  mp_spool_stat(spool, &stats);
  CHECK_EQ_INT(stats.waiting, 0);
  CHECK_EQ_INT(stats.leased, 0);
  CHECK_EQ_INT(stats.domains, 0);
  CHECK_EQ_INT(stats.puts, PUTTERS * EACH);
  CHECK_EQ_INT(stats.delivered, PUTTERS * EACH);
  rig_dispose(&rig);
}

static void freed(mp_spool_request *request)
{
  atomic_fetch_add(&total, request->result == 0);
  mp_mem_free(request);
}

TEST(closing_carries_out_what_was_asked)
{
  enum { COUNT = 200 };
  spool_rig rig;
  rig_mail mails[COUNT];
  char ids[COUNT][16];
  REQUIRE(rig_init(&rig));
  rig.opts = (mp_spool_opts){ .reserve = 1 };
  REQUIRE(CHECK_EQ_INT(rig_open(&rig), 0));
  atomic_store(&total, 0);
  for (int i = 0; i < COUNT; i++) {
    mp_spool_put_request *put = mp_mem_zalloc(sizeof *put);
    snprintf(ids[i], sizeof ids[i], "m%d", i);
    mails[i] = rig_mail_to(ids[i], "bob@example.net");
    *put = (mp_spool_put_request){
      { .done = freed }, .message = &mails[i].message, .recipients = mails[i].to, .count = 1
    };
    mp_spool_put(rig.spool, put);
  }
  rig_close(&rig);
  CHECK_EQ_INT(atomic_load(&total), COUNT);
  CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM message"), COUNT);
  rig_dispose(&rig);
}

CHECK_MAIN
