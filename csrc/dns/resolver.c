#include "dns/resolver.h"

#include "base/error.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <unbound.h>

enum { BUCKETS = 512, CLASS_IN = 1 };

struct mp_dns_question {
  mp_list node; /* of a bucket */
  mp_list askers;
  mp_dns *dns;
  int id; /* libunbound's */
  mp_dns_type type;
  char name[]; /* NUL-terminated */
};

struct mp_dns {
  struct ub_ctx *ub;
  size_t waiting;
  bool processing, dying; /* inside process(); freed there: process() finishes the work */
  mp_list buckets[BUCKETS];
};

/* libunbound's first context of a process sets up its log, without a lock. */
static pthread_mutex_t creating = PTHREAD_MUTEX_INITIALIZER;

static struct ub_ctx *create(void)
{
  pthread_mutex_lock(&creating);
  struct ub_ctx *ub = ub_ctx_create();
  if (ub)
    ub_ctx_debugout(ub, NULL); /* else it writes to standard error */
  pthread_mutex_unlock(&creating);
  return ub;
}

static int fail(char why[MP_DNS_WHY], const char *what, const char *about, int err)
{
  snprintf(why, MP_DNS_WHY, "%s%s%s: %s", what, *about ? " " : "", about, ub_strerror(err));
  return err == UB_NOMEM ? MP_E_NOMEM : MP_E_INVALID;
}

/* The library is made for programs that ask one question; a mail server asks hundreds at a time. */
static const struct {
  const char *name, *value;
} settings[] = {
  { "outgoing-range:", "512" },    { "num-queries-per-thread:", "4096" }, { "outgoing-num-tcp:", "64" },
  { "incoming-num-tcp:", "0" },    { "msg-cache-size:", "16m" },          { "rrset-cache-size:", "32m" },
  { "edns-buffer-size:", "1232" }, { "infra-host-ttl:", "60" }, /* a server that was silent is tried again after a minute, not after fifteen */
  { "use-syslog:", "no" },         { "do-not-query-localhost:", "no" }, /* a server on our own machine is asked like another */
  { "unblock-lan-zones:", "yes" }, /* names of private addresses: whoever is asked may know them */
};

/* Zones that libunbound answers by itself, and that somebody's own servers may hold. */
static const char *const opened[] = { "test.", "home.arpa." };

static int set_servers(struct ub_ctx *ub, const mp_dns_opts *opts, char why[MP_DNS_WHY])
{
  for (size_t i = 0; i < opts->forwarder_count; i++) {
    int err = ub_ctx_set_fwd(ub, opts->forwarders[i]);
    if (err)
      return fail(why, "forwarder", opts->forwarders[i], err);
  }
  for (size_t i = 0; i < opts->stub_count; i++) {
    int err = ub_ctx_set_stub(ub, opts->stubs[i].zone, opts->stubs[i].server, 0);
    if (err)
      return fail(why, "server of", opts->stubs[i].zone, err);
  }
  if (opts->forwarder_count || opts->recursion)
    return 0;
  int err = ub_ctx_resolvconf(ub, NULL);
  if (err == UB_READFILE) /* resolv.conf(5): without the file, the machine's own */
    err = ub_ctx_set_fwd(ub, "127.0.0.1");
  return err ? fail(why, "/etc/resolv.conf", "", err) : 0;
}

static int set_anchors(struct ub_ctx *ub, const mp_dns_opts *opts, char why[MP_DNS_WHY])
{
  for (size_t i = 0; i < opts->anchor_count; i++) {
    int err = ub_ctx_add_ta(ub, opts->anchors[i]);
    if (err)
      return fail(why, "trust anchor", opts->anchors[i], err);
  }
  int err = opts->root_key ? ub_ctx_add_ta_file(ub, opts->root_key) : 0;
  return err ? fail(why, "trust anchors in", opts->root_key, err) : 0;
}

static int set_up(struct ub_ctx *ub, const mp_dns_opts *opts, char why[MP_DNS_WHY])
{
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    int err = ub_ctx_set_option(ub, settings[i].name, settings[i].value);
    if (err)
      return fail(why, settings[i].name, settings[i].value, err);
  }
  int rc = set_servers(ub, opts, why);
  if (rc == 0)
    rc = set_anchors(ub, opts, why);
  if (rc < 0)
    return rc;
  int err = ub_ctx_async(ub, 1);
  if (err)
    return fail(why, "threads", "", err);
  /* The first of these sets all up: what is wrong with anchors and servers shows here, not with the first question. */
  for (size_t i = 0; i < sizeof opened / sizeof *opened; i++) {
    err = ub_ctx_zone_remove(ub, opened[i]);
    if (err)
      return fail(why, "trust anchors or servers", "", err);
  }
  return 0;
}

int mp_dns_new(mp_dns **out, const mp_dns_opts *opts, char why[MP_DNS_WHY])
{
  why[0] = '\0';
  mp_dns *dns = mp_mem_zalloc(sizeof *dns);
  if (!dns)
    return MP_E_NOMEM;
  for (size_t i = 0; i < BUCKETS; i++)
    mp_list_init(&dns->buckets[i]);
  dns->ub = create();
  int rc = dns->ub ? set_up(dns->ub, opts, why) : MP_E_NOMEM;
  if (rc < 0) {
    mp_dns_free(dns);
    return rc;
  }
  *out = dns;
  return 0;
}

/* FNV-1a: whoever chooses names to make chains long is stopped by MP_DNS_QUESTIONS. */
static mp_list *bucket_of(mp_dns *dns, mp_dns_type type, const char *name)
{
  uint32_t hash = 2166136261u ^ (uint32_t)type;
  for (; *name; name++)
    hash = (hash ^ (unsigned char)*name) * 16777619u;
  return &dns->buckets[(hash ^ hash >> 16) % BUCKETS];
}

static mp_dns_question *find(mp_list *bucket, mp_dns_type type, const char *name)
{
  for (mp_list *node = bucket->next; node != bucket; node = node->next) {
    mp_dns_question *question = MP_CONTAINER(node, mp_dns_question, node);
    if (question->type == type && strcmp(question->name, name) == 0)
      return question;
  }
  return NULL;
}

static void forget(mp_dns_question *question)
{
  mp_list_remove(&question->node);
  question->dns->waiting--;
  mp_mem_free(question);
}

static const char *rcode_text(int rcode)
{
  switch (rcode) {
  case 1:
    return "the servers say FORMERR";
  case 2:
    return "no server could answer (SERVFAIL)";
  case 4:
    return "the servers say NOTIMP";
  case 5:
    return "the servers refuse to answer (REFUSED)";
  default:
    return "the servers gave an error";
  }
}

static mp_dns_answer read_result(mp_dns_type type, int err, const struct ub_result *result)
{
  mp_dns_answer answer = { .outcome = MP_DNS_SERVFAIL, .type = type, .rcode = 2, .name = "", .why = "" };
  if (err || !result) {
    answer.why = ub_strerror(err);
    return answer;
  }
  answer.rcode = result->rcode;
  answer.ttl = result->ttl < 0 ? 0 : result->ttl;
  if (result->bogus) {
    answer.outcome = MP_DNS_BOGUS;
    answer.why = result->why_bogus ? result->why_bogus : "its signatures do not hold";
    return answer;
  }
  if (result->rcode != 0 && result->rcode != 3) {
    answer.why = rcode_text(result->rcode);
    return answer;
  }
  answer.outcome = MP_DNS_ANSWER;
  answer.secure = result->secure != 0;
  answer.nxdomain = result->nxdomain != 0;
  answer.name = result->canonname ? result->canonname : result->qname;
  if (result->havedata)
    while (result->data[answer.count])
      answer.count++;
  answer.data = result->data;
  answer.lens = result->len;
  return answer;
}

static void on_result(void *ctx, int err, struct ub_result *result)
{
  mp_dns_question *question = ctx;
  mp_dns *dns = question->dns;
  mp_dns_answer answer = read_result(question->type, err, result);
  mp_list askers;
  mp_list_init(&askers);
  /* Out of the table first: who asks the same again from its callback begins a new question. Askers stay in a list of ours, so that
   * one of them may make another give up. */
  while (!mp_list_empty(&question->askers)) {
    mp_dns_asker *asker = MP_CONTAINER(question->askers.next, mp_dns_asker, node);
    mp_list_remove(&asker->node);
    asker->question = NULL;
    mp_list_push(&askers, &asker->node);
  }
  forget(question);
  while (!mp_list_empty(&askers)) {
    mp_dns_asker *asker = MP_CONTAINER(askers.next, mp_dns_asker, node);
    mp_list_remove(&asker->node);
    if (!dns->dying)
      asker->done(asker, &answer);
  }
  ub_resolve_free(result);
}

int mp_dns_ask(mp_dns *dns, mp_dns_asker *asker, mp_dns_type type, const char *name)
{
  mp_list_init(&asker->node);
  asker->question = NULL;
  if (dns->dying)
    return MP_E_MISUSE;
  mp_list *bucket = bucket_of(dns, type, name);
  mp_dns_question *question = find(bucket, type, name);
  if (!question) {
    if (dns->waiting >= MP_DNS_QUESTIONS)
      return MP_E_FULL;
    size_t len = strlen(name);
    question = mp_mem_alloc(sizeof *question + len + 1);
    if (!question)
      return MP_E_NOMEM;
    *question = (mp_dns_question){ .dns = dns, .type = type };
    memcpy(question->name, name, len + 1);
    mp_list_init(&question->askers);
    mp_list_push(bucket, &question->node);
    dns->waiting++;
    int err = ub_resolve_async(dns->ub, question->name, (int)type, CLASS_IN, question, on_result, &question->id);
    if (err) {
      forget(question);
      return err == UB_NOMEM ? MP_E_NOMEM : err == UB_SYNTAX ? MP_E_INVALID : MP_E_SYSTEM;
    }
  }
  asker->question = question;
  mp_list_push(&question->askers, &asker->node);
  return 0;
}

void mp_dns_give_up(mp_dns_asker *asker)
{
  mp_dns_question *question = asker->question;
  if (!asker->node.next) /* never asked */
    return;
  mp_list_remove(&asker->node);
  asker->question = NULL;
  if (!question || !mp_list_empty(&question->askers))
    return;
  ub_cancel(question->dns->ub, question->id);
  forget(question);
}

int mp_dns_fd(mp_dns *dns)
{
  return ub_fd(dns->ub);
}

void mp_dns_process(mp_dns *dns)
{
  if (dns->processing)
    return;
  dns->processing = true;
  ub_process(dns->ub);
  dns->processing = false;
  if (dns->dying)
    mp_dns_free(dns);
}

size_t mp_dns_waiting(const mp_dns *dns)
{
  return dns->waiting;
}

void mp_dns_free(mp_dns *dns)
{
  if (!dns)
    return;
  for (size_t i = 0; i < BUCKETS; i++)
    while (!mp_list_empty(&dns->buckets[i])) {
      mp_dns_question *question = MP_CONTAINER(dns->buckets[i].next, mp_dns_question, node);
      while (!mp_list_empty(&question->askers)) {
        mp_dns_asker *asker = MP_CONTAINER(question->askers.next, mp_dns_asker, node);
        mp_list_remove(&asker->node);
        asker->question = NULL;
      }
      ub_cancel(dns->ub, question->id);
      forget(question);
    }
  dns->dying = true;
  if (dns->processing)
    return;
  if (dns->ub)
    ub_ctx_delete(dns->ub);
  mp_mem_free(dns);
}
