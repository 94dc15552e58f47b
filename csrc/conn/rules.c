#include "conn/rules.h"

#include "base/error.h"

enum { RULES_MOST = 64 << 20, NAME_MOST = 256 };

const char *mp_class_name(mp_class rclass)
{
  return rclass == MP_CLASS_LOCAL ? "local" : rclass == MP_CLASS_RELAY ? "relay" : "none";
}

void mp_rules_init(mp_rules *rules)
{
  *rules = (mp_rules){ 0 };
  mp_arena_init(&rules->arena, RULES_MOST, NULL);
}

void mp_rules_dispose(mp_rules *rules)
{
  mp_mem_free(rules->domains.slots);
  mp_mem_free(rules->relay.items);
  mp_mem_free(rules->xclient.items);
  mp_mem_free(rules->proxy.items);
  mp_arena_dispose(&rules->arena);
  mp_rules_init(rules);
}

static size_t hash(mp_str name)
{
  /* FNV-1a; the names in the table are the owner's, so a peer cannot choose collisions among them. */
  uint64_t h = 1469598103934665603u;
  for (size_t i = 0; i < name.len; i++)
    h = (h ^ (unsigned char)name.ptr[i]) * 1099511628211u;
  return (size_t)(h ^ h >> 29);
}

int mp_rules_domains(mp_rules *rules, size_t count)
{
  size_t size = 8;
  while (size < count * 2)
    size *= 2;
  rules->domains.slots = mp_mem_zalloc(size * sizeof(mp_str));
  if (!rules->domains.slots)
    return MP_E_NOMEM;
  rules->domains.size = size;
  return 0;
}

static mp_str *slot_of(const mp_domains *domains, mp_str name)
{
  size_t i = hash(name) & (domains->size - 1);
  while (domains->slots[i].ptr && !mp_str_eq(domains->slots[i], name))
    i = (i + 1) & (domains->size - 1);
  return &domains->slots[i];
}

static mp_str lower(mp_str name, char out[NAME_MOST])
{
  if (name.len > NAME_MOST)
    return MP_STR_NULL;
  for (size_t i = 0; i < name.len; i++)
    out[i] = (char)mp_ascii_lower((unsigned char)name.ptr[i]);
  return mp_str_of(out, name.len);
}

int mp_rules_domain(mp_rules *rules, mp_str name)
{
  char small[NAME_MOST];
  mp_domains *domains = &rules->domains;
  if (mp_str_eq(name, MP_STR("*"))) {
    domains->any = true;
    return 0;
  }
  if (domains->count * 2 >= domains->size)
    return MP_E_FULL;
  mp_str key = lower(name, small);
  if (!key.len)
    return MP_E_INVALID;
  mp_str *slot = slot_of(domains, key);
  if (slot->ptr)
    return 0;
  bool ok = true;
  *slot = mp_arena_str(&rules->arena, key, &ok);
  if (!ok)
    return MP_E_NOMEM;
  domains->count++;
  if (key.ptr[0] == '.')
    domains->suffixes = true;
  return 0;
}

int mp_rules_network(mp_rules *rules, mp_networks *list, mp_str text)
{
  (void)rules;
  mp_network net;
  if (!mp_network_parse(&net, text))
    return MP_E_INVALID;
  mp_network *items = mp_mem_realloc(list->items, (list->count + 1) * sizeof *items);
  if (!items)
    return MP_E_NOMEM;
  list->items = items;
  items[list->count++] = net;
  return 0;
}

bool mp_networks_have(const mp_networks *list, const mp_ip *ip)
{
  for (size_t i = 0; i < list->count; i++)
    if (mp_network_has(&list->items[i], ip))
      return true;
  return false;
}

bool mp_rules_local(const mp_rules *rules, const mp_path *path, const mp_ip *local_ip)
{
  const mp_domains *domains = &rules->domains;
  if (path->kind == MP_DOMAIN_NONE)
    return true;
  if (path->kind == MP_DOMAIN_IPV4 || path->kind == MP_DOMAIN_IPV6)
    return domains->any || (local_ip && memcmp(&path->ip, local_ip, sizeof *local_ip) == 0);
  if (domains->any)
    return true;
  char small[NAME_MOST];
  mp_str name = lower(path->domain, small);
  if (!name.len || !domains->size)
    return false;
  /* A trailing dot is no part of an SMTP domain; the grammar has refused it before. */
  if (slot_of(domains, name)->ptr)
    return true;
  for (size_t i = 1; domains->suffixes && i < name.len; i++)
    if (name.ptr[i] == '.' && slot_of(domains, mp_str_sub(name, i, name.len))->ptr)
      return true;
  return false;
}

bool mp_senders_have(const char *senders, const mp_path *path)
{
  if (path->kind == MP_DOMAIN_NONE)
    return true;
  for (const char *p = senders; *p; p += strlen(p) + 1) {
    mp_str item = mp_str_c(p);
    if (mp_str_eq(item, MP_STR("*")))
      return true;
    mp_ssize at = -1;
    for (size_t i = 0; i < item.len; i++)
      if (item.ptr[i] == '@')
        at = (mp_ssize)i;
    if (at < 0 || !mp_str_ieq(mp_str_sub(item, (size_t)at + 1, item.len), path->domain))
      continue;
    if (at == 0 || mp_str_eq(mp_str_sub(item, 0, (size_t)at), path->local))
      return true;
  }
  return false;
}
