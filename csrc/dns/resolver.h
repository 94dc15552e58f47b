/* dns/resolver.h -- questions to the DNS, answered later: libunbound, which caches and checks signatures (RFC 4035) by itself, in a thread
 * of its own. Whoever polls the descriptor calls process(); answers come out of it, on the caller's thread. No clock: who
 * waits no longer gives up. */
#ifndef MP_DNS_RESOLVER_H
#define MP_DNS_RESOLVER_H

#include "base/list.h"
#include "dns/rdata.h"

enum { MP_DNS_WHY = 256, MP_DNS_QUESTIONS = 8192 /* in flight at a time */ };

typedef struct mp_dns mp_dns;
typedef struct mp_dns_question mp_dns_question;

typedef struct mp_dns_stub {
  const char *zone, *server; /* "ip" or "ip@port" of a server that answers for the zone */
} mp_dns_stub;

/* Borrowed for the call. Without servers and without `recursion`: those of /etc/resolv.conf. */
typedef struct mp_dns_opts {
  const char *const *forwarders; /* "ip" or "ip@port" */
  size_t forwarder_count;
  const mp_dns_stub *stubs;
  size_t stub_count;
  const char *const *anchors; /* trust anchors, as zone file lines: DS or DNSKEY */
  size_t anchor_count;
  const char *root_key; /* a file of trust anchors; may be NULL: nothing is secure but what `anchors` are for */
  bool recursion;       /* from the root servers */
} mp_dns_opts;

typedef enum mp_dns_outcome {
  MP_DNS_ANSWER,   /* records, or that there are none */
  MP_DNS_SERVFAIL, /* no usable answer; `why` says more */
  MP_DNS_BOGUS     /* signatures that do not hold */
} mp_dns_outcome;

/* Borrowed for the callback. */
typedef struct mp_dns_answer {
  mp_dns_outcome outcome;
  mp_dns_type type;
  bool secure;   /* signatures hold, back to a trust anchor; of denials too */
  bool nxdomain; /* there is no such name; with no records and not this, there are none of the type */
  int rcode;
  int64_t ttl;      /* seconds */
  const char *name; /* where aliases led, as it is written on the wire of libunbound: may end in a dot */
  const char *why;  /* one line; "" */
  char *const *data;
  const int *lens; /* of data[i] */
  size_t count;
} mp_dns_answer;

/* Who waits for an answer; the caller's storage, until `done` is called or mp_dns_give_up. */
typedef struct mp_dns_asker mp_dns_asker;
struct mp_dns_asker {
  mp_list node;
  mp_dns_question *question; /* NULL when nothing is waited for */
  void (*done)(mp_dns_asker *asker, const mp_dns_answer *answer);
};

/* 0, MP_E_NOMEM, or MP_E_INVALID with one line in `why`. */
int mp_dns_new(mp_dns **dns, const mp_dns_opts *opts, char why[MP_DNS_WHY]);

/* Nobody who still waits is told. From inside a callback too. */
void mp_dns_free(mp_dns *dns);

/* Asks for records of `name`, which has been through mp_dns_name_ascii. Equal questions in flight are asked once. `done` is called by
 * process(), never from here. 0, MP_E_NOMEM, MP_E_FULL (too many at a time) or MP_E_INVALID. */
int mp_dns_ask(mp_dns *dns, mp_dns_asker *asker, mp_dns_type type, const char *name);

/* `done` will not be called. Harmless when nothing is waited for. */
void mp_dns_give_up(mp_dns_asker *asker);

int mp_dns_fd(mp_dns *dns);               /* readable when process() has work */
void mp_dns_process(mp_dns *dns);         /* calls `done` of whoever has an answer */
size_t mp_dns_waiting(const mp_dns *dns); /* questions in flight */

#endif
