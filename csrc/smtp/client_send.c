/* The envelope of a transaction: MAIL, RCPT and DATA as two cursors over the same list, one for what was written and one for what was answered
 * (RFC 2920), and what became of each recipient. */
#include "smtp/client_impl.h"

/* ---- results ------------------------------------------------------------------------------------------------------ */

static mp_rcpt_state state_of(const mp_reply *reply)
{
  return reply->code >= 500 ? MP_RCPT_REFUSED : MP_RCPT_DEFERRED;
}

/* Recipients that this operation answers for, and that have no result yet. */
static bool is_open(const mp_client *cl, size_t i)
{
  const mp_rcpt_result *result = &cl->tx->rcpts[i].result;
  if (result->state == MP_RCPT_ACCEPTED)
    return true;
  return result->state == MP_RCPT_NONE && (cl->op != MP_OP_RCPT || i == cl->send_rcpt) && cl->op != MP_OP_DATA;
}

void mp_cl_settle(mp_client *cl, mp_rcpt_state state, mp_stage stage, const mp_reply *reply)
{
  mp_transaction *tx = cl->tx;
  mp_reply kept = reply ? mp_tx_keep(tx, reply, &tx->final) : (mp_reply){ .code = 0 };
  if (reply)
    tx->final = kept;
  bool dsn_lost = state == MP_RCPT_DELIVERED && !mp_cl_has(cl, MP_EXT_DSN);
  for (size_t i = 0; i < tx->count; i++)
    if (is_open(cl, i)) {
      mp_rcpt_result *result = &tx->rcpts[i].result;
      result->state = (unsigned char)state;
      result->stage = (unsigned char)stage;
      result->reply = kept;
      result->dsn_lost = dsn_lost;
    }
}

void mp_cl_settle_lost(mp_client *cl)
{
  bool whole = (cl->state == CL_FINAL && !cl->lone) || cl->said;
  mp_cl_settle(cl, whole ? MP_RCPT_UNKNOWN : MP_RCPT_DEFERRED, MP_STAGE_CONNECTION, NULL);
}

void mp_cl_settle_reply(mp_client *cl, mp_stage stage, const mp_reply *reply)
{
  mp_cl_settle(cl, state_of(reply), stage, reply);
}

mp_stage mp_cl_stage(const mp_client *cl)
{
  if (cl->state != CL_ENVELOPE)
    return MP_STAGE_BODY;
  static const mp_stage stages[] = {
    [STEP_RSET] = MP_STAGE_CONNECTION, [STEP_MAIL] = MP_STAGE_MAIL, [STEP_RCPT] = MP_STAGE_RCPT, [STEP_DATA] = MP_STAGE_DATA, [STEP_END] = MP_STAGE_DATA
  };
  return stages[cl->reply];
}

void mp_cl_finish(mp_client *cl, const mp_reply *reply)
{
  mp_transaction *tx = cl->tx;
  size_t again = 0, delivered = 0, open = 0;
  for (size_t i = 0; i < tx->count; i++) {
    const mp_rcpt_result *result = &tx->rcpts[i].result;
    again += result->state == MP_RCPT_AGAIN;
    delivered += result->offered && result->state == MP_RCPT_DELIVERED;
    open += (result->offered || result->local) && result->state != MP_RCPT_DELIVERED &&
            result->state != MP_RCPT_AGAIN;
  }
  bool ok = delivered > 0 && open == 0;
  if (cl->op == MP_OP_MAIL)
    ok = cl->begun;
  else if (cl->op == MP_OP_RCPT)
    ok = tx->rcpts[cl->send_rcpt].result.state == MP_RCPT_ACCEPTED;
  cl->done.again = again;
  cl->dirty = cl->dirty || (cl->begun && cl->op != MP_OP_MAIL && cl->op != MP_OP_RCPT);
  mp_cl_done(cl, ok, reply);
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

static mp_str domain_of(const mp_send_rcpt *rcpt)
{
  mp_str address = rcpt->address;
  size_t at = address.len;
  while (at > 0 && address.ptr[at - 1] != '@')
    at--;
  return mp_str_sub(address, at, address.len);
}

/* Notes recipient `i` as the first of its domain; false when there is no memory. */
static bool note_domain(mp_client *cl, size_t i)
{
  if (cl->domains == cl->domain_room) {
    unsigned room = cl->domain_room ? 2 * cl->domain_room : 8;
    size_t *more = mp_mem_realloc(cl->domain, room * sizeof *more);
    if (!more)
      return false;
    cl->domain = more;
    cl->domain_room = room;
  }
  cl->domain[cl->domains++] = i;
  return true;
}

/* RFC 9422 4: true when the transaction has no room for recipient `i`; or when there is no memory, which has ended the conversation. */
static bool is_full(mp_client *cl, size_t i)
{
  const mp_client_caps *caps = &cl->caps;
  if (caps->rcpt_max && cl->offered >= caps->rcpt_max)
    return true;
  if (!caps->rcpt_domain_max)
    return false;
  mp_str domain = domain_of(&cl->tx->rcpts[i]);
  for (size_t k = 0; k < cl->domains; k++)
    if (mp_str_ieq(domain, domain_of(&cl->tx->rcpts[cl->domain[k]])))
      return false;
  if (cl->domains >= caps->rcpt_domain_max || cl->domains == MP_CL_DOMAINS)
    return true;
  if (note_domain(cl, i))
    return false;
  mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
  return true;
}

/* The next recipient to offer; false when there is none. */
static bool next_rcpt(mp_client *cl)
{
  mp_transaction *tx = cl->tx;
  for (; cl->state == CL_ENVELOPE && cl->send_rcpt < tx->count; cl->send_rcpt++) {
    mp_rcpt_result *result = &tx->rcpts[cl->send_rcpt].result;
    if (result->state != MP_RCPT_NONE)
      continue;
    if (!is_full(cl, cl->send_rcpt))
      return true;
    if (result->state == MP_RCPT_NONE)
      result->state = MP_RCPT_AGAIN;
  }
  return false;
}

/* Writes what `send` stands at and moves it on. False: nothing can be written now. */
static bool write_step(mp_client *cl)
{
  mp_transaction *tx = cl->tx;
  switch ((enum mp_cl_step)cl->send) {
  case STEP_RSET:
    cl->send = STEP_MAIL;
    if (!cl->dirty) {
      cl->reply = STEP_MAIL;
      return true;
    }
    if (!mp_cl_say(cl, MP_STR("RSET\r\n")))
      return false;
    break;
  case STEP_MAIL:
    cl->send = cl->op == MP_OP_MAIL ? STEP_END : STEP_RCPT;
    cl->mails++;
    if (!mp_cl_say_mail(cl))
      return false;
    break;
  case STEP_RCPT:
    if (!next_rcpt(cl)) {
      cl->send = STEP_DATA;
      return true;
    }
    tx->rcpts[cl->send_rcpt].result.offered = true;
    cl->offered++;
    if (!mp_cl_say_rcpt(cl, &tx->rcpts[cl->send_rcpt]))
      return false;
    if (cl->op == MP_OP_RCPT)
      cl->send = STEP_END;
    else
      cl->send_rcpt++;
    break;
  case STEP_DATA:
    /* A large chunk is not offered on a guess, and DATA only before anybody knows better. */
    if (cl->flight > 0 && cl->bdat && !cl->ahead)
      return false;
    if (cl->flight == 0 && cl->accepted == 0 && cl->op == MP_OP_SEND) {
      cl->send = STEP_END;
      return true;
    }
    if (cl->ahead) {
      cl->send = STEP_END;
      cl->flight++;
      mp_cl_body_ahead(cl);
      return false;
    }
    if (cl->bdat) {
      cl->reply = STEP_END;
      mp_cl_body_begin(cl);
      return false;
    }
    cl->send = STEP_END;
    if (!mp_cl_say(cl, MP_STR("DATA\r\n")))
      return false;
    break;
  case STEP_END:
    return false;
  }
  cl->flight++;
  return true;
}

void mp_cl_write(mp_client *cl)
{
  while (cl->state == CL_ENVELOPE && cl->out.len < MP_CL_HIGH_WATER &&
         (cl->flight == 0 || mp_cl_has(cl, MP_EXT_PIPELINING)))
    if (!write_step(cl))
      return;
}

/* ---- beginning ---------------------------------------------------------------------------------------------------- */

/* Begins an operation that writes from `step` on, about `count` recipients from `first`. */
static int begin(mp_client *cl, mp_client_op op, mp_transaction *tx, enum mp_cl_step step, size_t first,
                 size_t count, int64_t now_ms)
{
  int rc = mp_cl_begin(cl, op, now_ms);
  if (rc < 0)
    return rc;
  mp_reply refusal = { .code = 0 };
  size_t left = 0;
  rc = mp_cl_check(cl, tx, first, count, &left, &refusal);
  if (rc < 0) {
    mp_cl_cancel(cl);
    return rc;
  }
  cl->said = false;
  cl->send = cl->reply = (unsigned char)step;
  cl->send_rcpt = cl->reply_rcpt = first;
  cl->flight = 0;
  mp_cl_enter(cl, CL_ENVELOPE);
  if (rc == 0 && left == 0 && count > 0) { /* nobody is left to whom it could be said */
    for (size_t i = first; i < first + count && refusal.code == 0; i++)
      if (tx->rcpts[i].result.local)
        refusal = tx->rcpts[i].result.reply;
    rc = 1;
  }
  if (rc == 1) {
    for (size_t i = first; i < first + count; i++)
      if (tx->rcpts[i].result.state == MP_RCPT_NONE)
        tx->rcpts[i].result =
            (mp_rcpt_result){ .state = MP_RCPT_REFUSED, .stage = MP_STAGE_MAIL, .local = true, .reply = refusal };
    mp_cl_done_local(cl, &refusal);
    return 0;
  }
  if (step <= STEP_MAIL && mp_client_spent(cl)) {
    static const mp_reply spent = { .code = 452,
                                    .enhanced = { 4, 5, 3 },
                                    .text = { "No further message on this connection", 37 } };
    mp_cl_settle(cl, MP_RCPT_AGAIN, MP_STAGE_MAIL, NULL);
    cl->done.again = left;
    mp_cl_done_local(cl, &spent);
    return 0;
  }
  if (step <= STEP_MAIL) {
    cl->dirty = cl->dirty || cl->begun;
    cl->begun = false;
    cl->accepted = cl->offered = 0;
    cl->domains = 0;
  }
  mp_cl_write(cl);
  return 0;
}

/* DATA or BDAT: binary has no choice, and a large body saves the peer the search for its end. */
static bool wants_bdat(const mp_client *cl, const mp_transaction *tx)
{
  const mp_mail_params *p = &tx->params;
  if ((p->given & MP_PARAM_BODY) && p->body == MP_BODY_BINARY)
    return true;
  return mp_cl_has(cl, MP_EXT_CHUNKING) && (p->given & MP_PARAM_SIZE) && p->size > cl->opts->chunk_from;
}

/* A small body may come to nothing: its octets are sent before anybody knows whether somebody is there to take them. */
static bool wants_ahead(const mp_client *cl, const mp_transaction *tx)
{
  const mp_mail_params *p = &tx->params;
  bool binary = (p->given & MP_PARAM_BODY) && p->body == MP_BODY_BINARY;
  return mp_cl_has(cl, MP_EXT_CHUNKING) && mp_cl_has(cl, MP_EXT_PIPELINING) && !cl->opts->lmtp &&
         (p->given & MP_PARAM_SIZE) && (binary || tx->canonical) && p->size > 0 &&
         p->size <= cl->opts->flight_most;
}

static bool may_begin(const mp_client *cl)
{
  return cl->state != CL_CLOSED && cl->op == MP_OP_NONE && !cl->pending;
}

/* Forgets what a transaction before this one left in `tx`. */
static void renew(mp_transaction *tx)
{
  for (size_t i = 0; i < tx->count; i++) {
    tx->rcpts[i].result.offered = false;
    if (tx->rcpts[i].result.state == MP_RCPT_ACCEPTED)
      tx->rcpts[i].result = (mp_rcpt_result){ .state = MP_RCPT_NONE };
  }
  tx->mail = tx->final = (mp_reply){ .code = 0 };
  tx->dropped = tx->body_facts = 0;
  tx->octets = 0;
  tx->chunked = false;
}

int mp_client_send(mp_client *cl, mp_transaction *tx, int64_t now_ms)
{
  if (tx->count == 0)
    return mp_cl_invalid(cl, "a transaction without recipients");
  if (may_begin(cl)) {
    renew(tx);
    cl->ahead = wants_ahead(cl, tx);
    cl->bdat = cl->ahead || wants_bdat(cl, tx);
  }
  return begin(cl, MP_OP_SEND, tx, STEP_RSET, 0, tx->count, now_ms);
}

int mp_client_mail(mp_client *cl, mp_transaction *tx, int64_t now_ms)
{
  if (may_begin(cl)) {
    renew(tx);
    cl->ahead = false;
  }
  return begin(cl, MP_OP_MAIL, tx, STEP_RSET, 0, 0, now_ms);
}

int mp_client_rcpt(mp_client *cl, mp_transaction *tx, size_t index, int64_t now_ms)
{
  if (!may_begin(cl) || !cl->begun || index >= tx->count || tx->rcpts[index].result.offered)
    return cl->state == CL_CLOSED ? MP_E_CLOSED : MP_E_MISUSE;
  return begin(cl, MP_OP_RCPT, tx, STEP_RCPT, index, 1, now_ms);
}

int mp_client_data(mp_client *cl, mp_transaction *tx, int64_t now_ms)
{
  if (!may_begin(cl) || !cl->begun)
    return cl->state == CL_CLOSED ? MP_E_CLOSED : MP_E_MISUSE;
  cl->bdat = wants_bdat(cl, tx) && cl->accepted > 0;
  return begin(cl, MP_OP_DATA, tx, STEP_DATA, 0, 0, now_ms);
}

/* ---- replies ------------------------------------------------------------------------------------------------------ */

/* Nothing more is written: what is in flight is heard, and then it is over. */
static void stop(mp_client *cl)
{
  cl->send = STEP_END;
}

static void mail_reply(mp_client *cl, const mp_reply *reply)
{
  mp_transaction *tx = cl->tx;
  cl->reply = STEP_RCPT;
  if (reply->code < 300) {
    tx->mail = (mp_reply){ .code = reply->code };
    cl->begun = true;
    return;
  }
  tx->mail = mp_tx_keep(tx, reply, NULL);
  if (cl->op == MP_OP_SEND)
    mp_cl_settle_reply(cl, MP_STAGE_MAIL, reply);
  stop(cl);
}

/* "Too many recipients" (RFC 5321 4.5.3.1.10): not what a full mailbox says with the same codes. */
static bool is_too_many(const mp_client *cl, const mp_reply *reply)
{
  return (reply->code == 452 || reply->code == 552) && cl->accepted > 0 && reply->enhanced[1] != 2;
}

static void rcpt_reply(mp_client *cl, mp_send_rcpt *rcpt, const mp_reply *reply)
{
  mp_rcpt_result *result = &rcpt->result;
  if (result->state != MP_RCPT_NONE)
    return; /* MAIL was refused, and this is its echo */
  result->stage = MP_STAGE_RCPT;
  if (reply->code < 300) {
    result->state = MP_RCPT_ACCEPTED;
    result->dsn_lost = !mp_cl_has(cl, MP_EXT_DSN);
    cl->accepted++;
    return;
  }
  result->state = (unsigned char)(is_too_many(cl, reply) ? MP_RCPT_AGAIN : state_of(reply));
  result->reply = mp_tx_keep(cl->tx, reply, &cl->tx->final);
  cl->tx->final = result->reply; /* so that the same text is kept once */
}

static void data_reply(mp_client *cl, const mp_reply *reply)
{
  cl->reply = STEP_END;
  if (cl->ahead) {
    mp_cl_ahead_reply(cl, reply);
    return;
  }
  if (reply->code != 354) {
    if (reply->code < 400) {
      mp_cl_fail(cl, MP_E_SYNTAX, "peer answered DATA with what is neither 354 nor a refusal");
      return;
    }
    if (cl->accepted > 0) /* else it only says that there is nobody (RFC 2920 3.1) */
      mp_cl_settle_reply(cl, MP_STAGE_DATA, reply);
    return;
  }
  mp_cl_body_begin(cl);
}

/* Moves the cursor of replies to the next recipient that was offered; false when the last one was answered. */
static bool find_offered(mp_client *cl)
{
  size_t end = cl->op == MP_OP_RCPT ? cl->send_rcpt + 1 : cl->send_rcpt;
  while (cl->reply_rcpt < end && !cl->tx->rcpts[cl->reply_rcpt].result.offered)
    cl->reply_rcpt++;
  return cl->reply_rcpt < end;
}

/* What the operation shows: what stopped it, and not the echo of that. */
static const mp_reply *verdict(const mp_client *cl, const mp_reply *last)
{
  if (cl->op != MP_OP_SEND || cl->accepted > 0)
    return last;
  if (cl->tx->mail.code >= 300)
    return &cl->tx->mail;
  return cl->tx->final.code ? &cl->tx->final : last;
}

void mp_cl_envelope_reply(mp_client *cl, const mp_reply *reply)
{
  mp_transaction *tx = cl->tx;
  if (cl->flight == 0) {
    mp_cl_fail(cl, MP_E_SYNTAX, MP_CL_UNASKED);
    return;
  }
  cl->flight--;
  switch ((enum mp_cl_step)cl->reply) {
  case STEP_RSET:
    cl->reply = STEP_MAIL;
    if (reply->code < 300) {
      cl->dirty = false;
    } else { /* it says nothing about this message */
      mp_cl_settle(cl, MP_RCPT_DEFERRED, MP_STAGE_CONNECTION, reply);
      stop(cl);
    }
    break;
  case STEP_MAIL:
    mail_reply(cl, reply);
    break;
  case STEP_RCPT:
    if (!find_offered(cl)) {
      data_reply(cl, reply);
      break;
    }
    rcpt_reply(cl, &tx->rcpts[cl->reply_rcpt++], reply);
    if (cl->flight == 1 && !find_offered(cl))
      cl->reply = STEP_DATA;
    break;
  case STEP_DATA:
    data_reply(cl, reply);
    break;
  case STEP_END:
    break;
  }
  mp_cl_write(cl);
  if (cl->state == CL_ENVELOPE && cl->send == STEP_END && cl->flight == 0)
    mp_cl_finish(cl, verdict(cl, reply));
}
