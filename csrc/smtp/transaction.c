/* What a client's transaction holds, and names for what can become of it. */
#include "smtp/client_impl.h"

enum { REPLIES_MOST = 1u << 20 };

const char *mp_rcpt_state_name(mp_rcpt_state state)
{
  static const char *const names[] = {
#define NAME(name, text) [MP_RCPT_##name] = (text),
    MP_RCPT_STATE_MAP(NAME)
#undef NAME
  };
  return names[state];
}

const char *mp_stage_name(mp_stage stage)
{
  static const char *const names[] = {
#define NAME(name, text) [MP_STAGE_##name] = (text),
    MP_STAGE_MAP(NAME)
#undef NAME
  };
  return names[stage];
}

void mp_transaction_init(mp_transaction *tx, mp_pool *blocks)
{
  *tx = (mp_transaction){ .count = 0 };
  mp_arena_init(&tx->replies, REPLIES_MOST, blocks);
}

void mp_transaction_dispose(mp_transaction *tx)
{
  mp_arena_dispose(&tx->replies);
}

size_t mp_transaction_count(const mp_transaction *tx, mp_rcpt_state state)
{
  size_t n = 0;
  for (size_t i = 0; i < tx->count; i++)
    n += tx->rcpts[i].result.state == (unsigned char)state;
  return n;
}

mp_reply mp_tx_keep(mp_transaction *tx, const mp_reply *reply, const mp_reply *like)
{
  mp_reply kept = *reply;
  if (kept.text.len > MP_CL_TEXT) {
    kept.text.len = MP_CL_TEXT;
    while (kept.text.len && ((unsigned char)kept.text.ptr[kept.text.len] & 0xc0) == 0x80)
      kept.text.len--;
  }
  if (like && like->code && mp_str_eq(like->text, kept.text)) {
    kept.text = like->text;
    return kept;
  }
  bool ok = true;
  kept.text = kept.text.len ? mp_arena_str(&tx->replies, kept.text, &ok) : MP_STR_NULL;
  return kept;
}
