#include "smtp/envelope.h"

#include "base/error.h"

mp_envelope *mp_envelope_new(size_t max, mp_pool *structs, mp_pool *blocks)
{
  mp_envelope *env = structs ? mp_pool_take(structs) : mp_mem_alloc(sizeof *env);
  if (!env)
    return NULL;
  *env = (mp_envelope){ .refs = 1, .home = structs };
  mp_arena_init(&env->arena, max, blocks);
  return env;
}

mp_envelope *mp_envelope_ref(mp_envelope *env)
{
  env->refs++;
  return env;
}

void mp_envelope_unref(mp_envelope *env)
{
  if (!env || --env->refs > 0)
    return;
  mp_arena_dispose(&env->arena);
  if (env->home)
    mp_pool_give(env->home, env);
  else
    mp_mem_free(env);
}

/* `part` of `whole` as a view into `copy`; a view of its own memory is copied. */
static mp_str moved(mp_arena *arena, mp_str part, mp_str whole, mp_str copy, bool *ok)
{
  uintptr_t start = (uintptr_t)whole.ptr, here = (uintptr_t)part.ptr;
  if (part.len == 0)
    return mp_str_sub(copy, copy.len, 0);
  if (here >= start && here - start <= whole.len && part.len <= whole.len - (here - start))
    return mp_str_sub(copy, here - start, part.len);
  return mp_arena_str(arena, part, ok);
}

/* An empty view takes no memory. */
static mp_str kept(mp_arena *arena, mp_str s, bool *ok)
{
  return s.len ? mp_arena_str(arena, s, ok) : MP_STR_NULL;
}

static bool copy_path(mp_arena *arena, mp_path *out, const mp_path *path)
{
  bool ok = true;
  *out = *path;
  out->address = mp_arena_str(arena, path->address, &ok);
  if (!ok)
    return false;
  out->local = moved(arena, path->local, path->address, out->address, &ok);
  out->domain = moved(arena, path->domain, path->address, out->address, &ok);
  out->route = kept(arena, path->route, &ok);
  return ok;
}

int mp_envelope_mail(mp_envelope *env, const mp_path *path, const mp_mail_params *params)
{
  mp_path sender;
  mp_mail_params copy = *params;
  bool ok = copy_path(&env->arena, &sender, path);
  copy.envid = kept(&env->arena, params->envid, &ok);
  copy.hold_until = kept(&env->arena, params->hold_until, &ok);
  copy.auth = kept(&env->arena, params->auth, &ok);
  if (!ok)
    return MP_E_NOMEM;
  env->sender = sender;
  env->params = copy;
  return 0;
}

/* Room for one more recipient. The old array stays in the arena: doubling keeps that below the size of the new one. */
static bool grow(mp_envelope *env)
{
  if (env->count < env->room)
    return true;
  size_t room = env->room ? env->room * 2 : 4;
  mp_recipient **rcpts = mp_arena_alloc(&env->arena, room * sizeof *rcpts);
  if (!rcpts)
    return false;
  for (size_t i = 0; i < room; i++)
    rcpts[i] = i < env->count ? env->rcpts[i] : NULL;
  env->rcpts = rcpts;
  env->room = room;
  return true;
}

mp_recipient *mp_envelope_rcpt(mp_envelope *env, const mp_path *path, const mp_rcpt_params *params)
{
  if (!grow(env))
    return NULL;
  /* A slot behind the last recipient may hold one that was dropped. */
  mp_recipient *rcpt = env->rcpts[env->count];
  if (!rcpt)
    rcpt = mp_arena_alloc(&env->arena, sizeof *rcpt);
  if (!rcpt)
    return NULL;
  env->rcpts[env->count] = rcpt;
  bool ok = true;
  *rcpt = (mp_recipient){ .params = *params, .index = (unsigned)env->count };
  rcpt->params.orcpt = kept(&env->arena, params->orcpt, &ok);
  if (!ok || !copy_path(&env->arena, &rcpt->path, path))
    return NULL;
  env->count++;
  return rcpt;
}

void mp_envelope_drop(mp_envelope *env)
{
  if (env->count > 0)
    env->count--;
}
