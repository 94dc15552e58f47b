#include "conn/names.h"

#include "base/error.h"
#include "net/poll.h"

struct mp_names {
  mp_list node;      /* of the worker's */
  mp_worker *worker; /* NULL: gone */
  mp_dns *dns;
  mp_poll *poll;
  unsigned refs;
  size_t key_len;
  char key[];
};

/* While nothing is asked the loop has no reason to go on for our sake. */
static void note_waiting(mp_names *names)
{
  if (names->poll)
    mp_poll_set(names->poll, MP_POLL_READ, mp_dns_waiting(names->dns) > 0);
}

static void end(mp_names *names)
{
  mp_list_remove(&names->node);
  mp_poll_close(names->poll);
  mp_dns_free(names->dns);
  names->poll = NULL;
  names->dns = NULL;
  names->worker = NULL;
}

static void unref(mp_names *names)
{
  if (--names->refs > 0)
    return;
  if (names->dns)
    end(names);
  mp_mem_free(names);
}

static void on_ready(void *ctx, int events)
{
  (void)events;
  mp_names *names = ctx;
  names->refs++; /* a callback may close the last handle */
  mp_dns_process(names->dns);
  if (names->dns)
    note_waiting(names);
  unref(names);
}

static mp_names *find(mp_worker *worker, mp_str key)
{
  for (mp_list *node = worker->names.next; node != &worker->names; node = node->next) {
    mp_names *names = MP_CONTAINER(node, mp_names, node);
    if (mp_str_eq(mp_str_of(names->key, names->key_len), key))
      return names;
  }
  return NULL;
}

int mp_names_open(mp_names **out, mp_worker *worker, mp_str key, const mp_dns_opts *opts, char why[MP_DNS_WHY])
{
  why[0] = '\0';
  if (worker->loop.is_virtual)
    return MP_E_MISUSE;
  mp_names *names = find(worker, key);
  if (names) {
    names->refs++;
    *out = names;
    return 0;
  }
  names = mp_mem_zalloc(sizeof *names + key.len + 1);
  if (!names)
    return MP_E_NOMEM;
  names->refs = 1;
  names->worker = worker;
  names->key_len = key.len;
  if (key.len)
    memcpy(names->key, key.ptr, key.len);
  mp_list_init(&names->node);
  int rc = mp_dns_new(&names->dns, opts, why);
  if (rc == 0)
    rc = mp_poll_open(&names->poll, &worker->loop, mp_dns_fd(names->dns), on_ready, names);
  if (rc < 0) {
    mp_dns_free(names->dns);
    mp_mem_free(names);
    return rc;
  }
  mp_list_push(&worker->names, &names->node);
  note_waiting(names);
  *out = names;
  return 0;
}

void mp_names_close(mp_names *names)
{
  if (names)
    unref(names);
}

static void on_answer(mp_dns_asker *inner, const mp_dns_answer *answer)
{
  mp_names_asker *asker = MP_CONTAINER(inner, mp_names_asker, asker);
  mp_timers_clear(&asker->names->worker->loop.timers, &asker->timer);
  asker->done(asker, 0, answer);
}

static void on_overdue(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  mp_names_asker *asker = MP_CONTAINER(timer, mp_names_asker, timer);
  if (!asker->names->worker) /* a last turn of a loop that goes: nobody is told any more */
    return;
  mp_dns_give_up(&asker->asker);
  note_waiting(asker->names);
  asker->done(asker, MP_E_TIMEOUT, NULL);
}

int mp_names_ask(mp_names *names, mp_names_asker *asker, mp_dns_type type, const char *name, int64_t timeout_ms)
{
  if (!names->worker)
    return MP_E_CANCELLED;
  mp_loop *loop = &names->worker->loop;
  asker->names = names;
  asker->asker.done = on_answer;
  mp_timer_init(&asker->timer, on_overdue);
  int rc = mp_dns_ask(names->dns, &asker->asker, type, name);
  if (rc < 0)
    return rc;
  rc = mp_timers_set(&loop->timers, &asker->timer, mp_loop_now(loop) + timeout_ms);
  if (rc < 0)
    mp_dns_give_up(&asker->asker);
  note_waiting(names);
  return rc;
}

void mp_names_give_up(mp_names_asker *asker)
{
  mp_names *names = asker->names;
  if (!names || !names->worker) /* never asked, or forgotten with its worker */
    return;
  if (asker->timer.slot)
    mp_timers_clear(&names->worker->loop.timers, &asker->timer);
  mp_dns_give_up(&asker->asker);
  note_waiting(names);
}

size_t mp_names_waiting(const mp_names *names)
{
  return names->dns ? mp_dns_waiting(names->dns) : 0;
}

void mp_names_orphan(mp_worker *worker)
{
  while (!mp_list_empty(&worker->names))
    end(MP_CONTAINER(worker->names.next, mp_names, node));
}
