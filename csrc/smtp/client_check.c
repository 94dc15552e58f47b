/* What may be asked of this peer, and how it is written. A wish that the peer cannot serve is refused here, with the codes that a server would
 * have used; one that can be left out without harm is left out, and noted. */
#include "smtp/client_impl.h"

enum { ADDRESS = MP_PATH_UTF8 | MP_PATH_LAX_DOTS | MP_PATH_LAX_UNDERSCORE | MP_PATH_LAX_LENGTH };

static bool ascii(mp_str s)
{
  for (size_t i = 0; i < s.len; i++)
    if ((unsigned char)s.ptr[i] >= 0x80)
      return false;
  return true;
}

static bool writable(mp_str s)
{
  return mp_str_find(s, '\r', 0) < 0 && mp_str_find(s, '\n', 0) < 0 && mp_str_find(s, '\0', 0) < 0;
}

/* An address for the wire, or one without a domain ("postmaster", a user of an LMTP server). Peers are laxer than RFC 5321, and what they
 * take is theirs to say; what cannot be told from the end of the path is nobody's. */
static bool is_address(mp_str s)
{
  mp_path path;
  if (mp_mailbox_parse(&path, s, ADDRESS) == 0)
    return true;
  if (s.len == 0 || s.len > 64 || !mp_str_utf8(s))
    return false;
  for (size_t i = 0; i < s.len; i++)
    if ((unsigned char)s.ptr[i] <= ' ' || s.ptr[i] == 0x7f || strchr("<>()[]\\,;:@\"", s.ptr[i]))
      return false;
  return true;
}

/* The form of an address that is written: UTF-8 only where the message is SMTPUTF8 anyway, or there is no other. */
static mp_str form(const mp_client *cl, mp_str address, mp_str in_ascii)
{
  bool utf8 = cl->tx->params.given & MP_PARAM_SMTPUTF8;
  return in_ascii.len && !(utf8 && mp_cl_has(cl, MP_EXT_SMTPUTF8)) ? in_ascii : address;
}

/* True when MAIL has to say SMTPUTF8 (RFC 6531 3.4). */
static bool wants_utf8(const mp_client *cl)
{
  const mp_transaction *tx = cl->tx;
  if ((tx->params.given & MP_PARAM_SMTPUTF8) || !ascii(form(cl, tx->sender, tx->sender_ascii)))
    return true;
  for (size_t i = 0; i < tx->count; i++)
    if (tx->rcpts[i].result.state == MP_RCPT_NONE && !ascii(form(cl, tx->rcpts[i].address, tx->rcpts[i].ascii)))
      return true;
  return false;
}

/* ---- what cannot be carried --------------------------------------------------------------------------------------- */

#define REFUSE(...) return *refusal = MP_REPLY(__VA_ARGS__), 1

static int check_time(const mp_client *cl, const mp_mail_params *p, mp_reply *refusal)
{
  if ((p->given & MP_PARAM_BY) &&
      p->by_mode == 'R') { /* RFC 2852 4.1.4: "notify" may be lost on the way, "return" may not */
    if (p->by_seconds <= 0)
      REFUSE(550, 5, 4, 7, "Delivery time expired");
    if (!mp_cl_has(cl, MP_EXT_DELIVERBY))
      REFUSE(550, 5, 3, 3, "DELIVERBY is required, and not announced");
    if (p->by_seconds < cl->caps.by_min)
      REFUSE(550, 5, 4, 7, "Delivery time is shorter than the peer can keep");
  }
  if (p->given & (MP_PARAM_HOLDFOR | MP_PARAM_HOLDUNTIL)) {
    if (!mp_cl_has(cl, MP_EXT_FUTURERELEASE))
      REFUSE(555, 5, 5, 4, "FUTURERELEASE is required, and not announced");
    if (((p->given & MP_PARAM_HOLDFOR) && cl->caps.hold_max && p->hold_for > cl->caps.hold_max) ||
        ((p->given & MP_PARAM_HOLDUNTIL) && cl->caps.hold_until && p->hold_until_s > cl->caps.hold_until))
      REFUSE(501, 5, 5, 4, "Release time is later than the peer allows");
  }
  return 0;
}

static int check_message(const mp_client *cl, mp_reply *refusal)
{
  const mp_mail_params *p = &cl->tx->params;
  if ((p->given & MP_PARAM_SIZE) && cl->caps.size && p->size > cl->caps.size)
    REFUSE(552, 5, 3, 4, "Message is larger than the peer takes");
  if ((p->given & MP_PARAM_BODY) && p->body == MP_BODY_BINARY &&
      !(mp_cl_has(cl, MP_EXT_BINARYMIME) && mp_cl_has(cl, MP_EXT_CHUNKING)))
    REFUSE(554, 5, 6, 3, "Message is binary, and BINARYMIME is not announced");
  if ((p->given & MP_PARAM_BODY) && p->body == MP_BODY_8BIT && !mp_cl_has(cl, MP_EXT_8BITMIME))
    REFUSE(554, 5, 6, 3, "Message is 8-bit, and 8BITMIME is not announced");
  if ((p->given & MP_PARAM_SMTPUTF8) && !mp_cl_has(cl, MP_EXT_SMTPUTF8))
    REFUSE(550, 5, 6, 7, "SMTPUTF8 is required, and not announced");
  if (!ascii(form(cl, cl->tx->sender, cl->tx->sender_ascii)) && !mp_cl_has(cl, MP_EXT_SMTPUTF8))
    REFUSE(553, 5, 6, 7, "Sender is not ASCII, and SMTPUTF8 is not announced");
  if ((p->given & MP_PARAM_REQUIRETLS) && !(mp_cl_has(cl, MP_EXT_REQUIRETLS) && cl->tls))
    REFUSE(550, 5, 7, 30, "REQUIRETLS is required, and not announced");
  return check_time(cl, p, refusal);
}

/* ---- lines -------------------------------------------------------------------------------------------------------- */

static bool put(mp_buf *out, bool ok, const char *key, mp_str value)
{
  return ok && mp_buf_str(out, mp_str_c(key)) == 0 && mp_buf_str(out, value) == 0;
}

/* The parameters of MAIL that are in `which`. */
static bool put_mail_params(mp_buf *out, const mp_mail_params *p, unsigned which)
{
  bool ok = true;
  if (which & MP_PARAM_SIZE)
    ok = mp_buf_fmt(out, " SIZE=%llu", (unsigned long long)p->size) == 0;
  if (which & MP_PARAM_BODY)
    ok = put(out, ok, " BODY=",
             p->body == MP_BODY_BINARY ? MP_STR("BINARYMIME")
             : p->body == MP_BODY_8BIT ? MP_STR("8BITMIME")
                                       : MP_STR("7BIT"));
  if (which & MP_PARAM_SMTPUTF8)
    ok = put(out, ok, " SMTPUTF8", MP_STR_NULL);
  if (which & MP_PARAM_RET)
    ok = put(out, ok, " RET=", p->ret == MP_RET_FULL ? MP_STR("FULL") : MP_STR("HDRS"));
  if (which & MP_PARAM_ENVID)
    ok = put(out, ok, " ENVID=", p->envid);
  if (which & MP_PARAM_BY)
    ok = ok &&
         mp_buf_fmt(out, " BY=%lld;%c%s", (long long)p->by_seconds, p->by_mode, p->by_trace ? "T" : "") == 0;
  if (which & MP_PARAM_HOLDFOR)
    ok = ok && mp_buf_fmt(out, " HOLDFOR=%llu", (unsigned long long)p->hold_for) == 0;
  if (which & MP_PARAM_HOLDUNTIL)
    ok = put(out, ok, " HOLDUNTIL=", p->hold_until);
  if (which & MP_PARAM_PRIORITY)
    ok = ok && mp_buf_fmt(out, " MT-PRIORITY=%d", p->priority) == 0;
  if (which & MP_PARAM_REQUIRETLS)
    ok = put(out, ok, " REQUIRETLS", MP_STR_NULL);
  if (which & MP_PARAM_AUTH)
    ok = put(out, ok, " AUTH=", p->auth);
  return ok;
}

static bool put_rcpt_params(mp_buf *out, const mp_rcpt_params *p)
{
  bool ok = true;
  if (p->given & MP_PARAM_NOTIFY) {
    static const struct {
      unsigned bit;
      const char *text;
    } when[] = { { MP_NOTIFY_SUCCESS, "SUCCESS" }, { MP_NOTIFY_FAILURE, "FAILURE" }, { MP_NOTIFY_DELAY, "DELAY" } };
    ok = put(out, ok, " NOTIFY=", p->notify & MP_NOTIFY_NEVER ? MP_STR("NEVER") : MP_STR_NULL);
    const char *comma = "";
    for (size_t i = 0; i < 3 && !(p->notify & MP_NOTIFY_NEVER); i++)
      if (p->notify & when[i].bit) {
        ok = put(out, ok, comma, mp_str_c(when[i].text));
        comma = ",";
      }
  }
  if (p->given & MP_PARAM_ORCPT)
    ok = put(out, ok, " ORCPT=", p->orcpt);
  return ok;
}

/* What goes to MAIL now, and what is dropped. */
static unsigned choose(const mp_client *cl, bool utf8, unsigned *dropped)
{
  static const struct {
    unsigned params, extension;
  } needs[] = { { MP_PARAM_SIZE, MP_EXT_SIZE },
                { MP_PARAM_RET | MP_PARAM_ENVID, MP_EXT_DSN },
                { MP_PARAM_BY, MP_EXT_DELIVERBY },
                { MP_PARAM_PRIORITY, MP_EXT_MT_PRIORITY },
                { MP_PARAM_AUTH, MP_EXT_AUTH } };
  const mp_mail_params *p = &cl->tx->params;
  unsigned which =
      p->given & ~(unsigned)(MP_PARAM_SMTPUTF8 | MP_PARAM_NOTIFY | MP_PARAM_ORCPT | MP_PARAM_BINARY);
  *dropped = 0;
  for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
    if (!mp_cl_has(cl, needs[i].extension)) {
      *dropped |= which & needs[i].params;
      which &= ~needs[i].params;
    }
  /* BODY=7BIT is what a message is when nothing is said, and 8BITMIME in an SMTPUTF8 message need not be asked for twice. */
  if (p->body == MP_BODY_7BIT)
    which &= ~(unsigned)MP_PARAM_BODY;
  return which | (utf8 ? (unsigned)MP_PARAM_SMTPUTF8 : 0u);
}

bool mp_cl_say_mail(mp_client *cl)
{
  const mp_transaction *tx = cl->tx;
  unsigned which = choose(cl, mp_cl_has(cl, MP_EXT_SMTPUTF8) && wants_utf8(cl), &cl->tx->dropped);
  mp_buf *out = &cl->out;
  if (put(out, true, "MAIL FROM:<", form(cl, tx->sender, tx->sender_ascii)) &&
      put(out, true, ">", MP_STR_NULL) && put_mail_params(out, &tx->params, which))
    return mp_cl_say(cl, MP_STR("\r\n"));
  mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
  return false;
}

bool mp_cl_say_rcpt(mp_client *cl, const mp_send_rcpt *rcpt)
{
  mp_buf *out = &cl->out;
  if (put(out, true, "RCPT TO:<", form(cl, rcpt->address, rcpt->ascii)) && put(out, true, ">", MP_STR_NULL) &&
      (!mp_cl_has(cl, MP_EXT_DSN) || put_rcpt_params(out, &rcpt->params)))
    return mp_cl_say(cl, MP_STR("\r\n"));
  mp_cl_fail(cl, MP_E_NOMEM, "out of memory");
  return false;
}

/* ---- what may never be written ------------------------------------------------------------------------------------ */

/* Whatever we would say must be what our own server would understand: parameters are written, and read back. */
static int check_mail_params(mp_client *cl, const mp_mail_params *p)
{
  const unsigned texts = MP_PARAM_ENVID | MP_PARAM_AUTH | MP_PARAM_HOLDUNTIL | MP_PARAM_PRIORITY | MP_PARAM_RET;
  if ((p->given & MP_PARAM_BY) &&
      ((p->by_mode != 'R' && p->by_mode != 'N') || p->by_seconds > 999999999 || p->by_seconds < -999999999))
    return mp_cl_invalid(cl, "BY is not as RFC 2852 wants it");
  if (!(p->given & texts))
    return 0;
  mp_buf line;
  mp_mail_params parsed;
  mp_reply refusal;
  mp_buf_init(&line, 8192, NULL);
  int rc = !put_mail_params(&line, p, p->given & texts) ? MP_E_NOMEM
           : !writable(mp_buf_view(&line)) ||
                   !mp_mail_params_parse(&parsed, mp_buf_view(&line), texts, 0, &refusal) ||
                   parsed.given != (p->given & texts)
               ? mp_cl_invalid(cl, "a parameter of MAIL is not as RFC 3461, 4865, 6710 or 4954 want it")
               : 0;
  mp_buf_dispose(&line);
  return rc;
}

static int check_rcpt_params(mp_client *cl, const mp_rcpt_params *p)
{
  if (!p->given)
    return 0;
  mp_buf line;
  mp_rcpt_params parsed;
  mp_reply refusal;
  mp_buf_init(&line, 8192, NULL);
  int rc = !put_rcpt_params(&line, p) ? MP_E_NOMEM
           : !writable(mp_buf_view(&line)) ||
                   !mp_rcpt_params_parse(&parsed, mp_buf_view(&line), MP_PARAM_NOTIFY | MP_PARAM_ORCPT, true,
                                         &refusal) ||
                   parsed.given != p->given
               ? mp_cl_invalid(cl, "a parameter of RCPT is not as RFC 3461 wants it")
               : 0;
  mp_buf_dispose(&line);
  return rc;
}

static int check_written(mp_client *cl, const mp_transaction *tx, size_t first, size_t count)
{
  if (!writable(tx->sender) || !writable(tx->sender_ascii))
    return mp_cl_invalid(cl, "the sender holds CR, LF or NUL");
  int rc = check_mail_params(cl, &tx->params);
  for (size_t i = first; i < first + count && rc == 0; i++) {
    const mp_send_rcpt *rcpt = &tx->rcpts[i];
    if (!writable(rcpt->address) || !writable(rcpt->ascii))
      return mp_cl_invalid(cl, "a recipient holds CR, LF or NUL");
    rc = check_rcpt_params(cl, &rcpt->params);
  }
  return rc;
}

static void refuse_rcpt(mp_client *cl, mp_rcpt_result *result, mp_reply reply)
{
  (void)cl;
  *result = (mp_rcpt_result){ .state = MP_RCPT_REFUSED, .stage = MP_STAGE_RCPT, .local = true, .reply = reply };
}

int mp_cl_check(mp_client *cl, mp_transaction *tx, size_t first, size_t count, size_t *left, mp_reply *refusal)
{
  int rc = check_written(cl, tx, first, count);
  if (rc < 0)
    return rc;
  cl->tx = tx;
  *left = 0;
  for (size_t i = first; i < first + count; i++) {
    mp_send_rcpt *rcpt = &tx->rcpts[i];
    if (rcpt->result.state != MP_RCPT_NONE && rcpt->result.state != MP_RCPT_AGAIN)
      continue;
    mp_str address = form(cl, rcpt->address, rcpt->ascii);
    rcpt->result = (mp_rcpt_result){ .state = MP_RCPT_NONE };
    if (!is_address(address))
      refuse_rcpt(cl, &rcpt->result, MP_REPLY(501, 5, 1, 3, "Recipient is no mailbox address"));
    else if (!mp_cl_has(cl, MP_EXT_SMTPUTF8) && !ascii(address))
      refuse_rcpt(cl, &rcpt->result,
                  MP_REPLY(553, 5, 6, 7, "Recipient is not ASCII, and SMTPUTF8 is not announced"));
    else
      ++*left;
  }
  if (tx->sender.len && !is_address(form(cl, tx->sender, tx->sender_ascii)))
    REFUSE(501, 5, 1, 7, "Sender is no mailbox address");
  return check_message(cl, refusal);
}
