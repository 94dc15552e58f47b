/* conn/rules.h -- who may relay and which recipients are ours: the part of a policy that needs no Lua. Unchanged once built. */
#ifndef MP_CONN_RULES_H
#define MP_CONN_RULES_H

#include "base/arena.h"
#include "smtp/path.h"

typedef enum mp_class { MP_CLASS_NONE, MP_CLASS_LOCAL, MP_CLASS_RELAY } mp_class;

const char *mp_class_name(mp_class rclass); /* "none", "local", "relay" */

typedef struct mp_networks {
  mp_network *items;
  size_t count;
} mp_networks;

typedef struct mp_domains { /* open-addressing table of lower-case names */
  mp_str *slots;
  size_t size, count;
  bool any;      /* "*" was listed */
  bool suffixes; /* at least one ".example.org" was listed */
} mp_domains;

typedef struct mp_rules {
  mp_arena arena;
  mp_domains domains;
  mp_networks relay, xclient, proxy;
  bool relay_authenticated;
} mp_rules;

void mp_rules_init(mp_rules *rules);
void mp_rules_dispose(mp_rules *rules);

/* Reserves room for `count` domains; call once, before adding. 0 or MP_E_NOMEM. */
int mp_rules_domains(mp_rules *rules, size_t count);

/* One of "example.org", ".example.org" (every subdomain), "*". 0, MP_E_NOMEM, or MP_E_FULL past the reserved count. */
int mp_rules_domain(mp_rules *rules, mp_str name);

/* Adds to one of the lists. 0, MP_E_INVALID for what is no network, MP_E_NOMEM. */
int mp_rules_network(mp_rules *rules, mp_networks *list, mp_str text);
bool mp_networks_have(const mp_networks *list, const mp_ip *ip);

/* Is this recipient ours? <postmaster> without a domain is; an address literal is when it names `local_ip`. */
bool mp_rules_local(const mp_rules *rules, const mp_path *path, const mp_ip *local_ip);

/* True when `address` is covered by the NUL-separated, doubly NUL-terminated list `senders`: "a@b" (domain without case, local part
 * exactly), "@domain", "*". The null reverse-path is covered always. */
bool mp_senders_have(const char *senders, const mp_path *path);

#endif
