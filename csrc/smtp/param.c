#include "smtp/param.h"

#include "base/error.h"
#include "smtp/stamp.h"
#include "smtp/text.h"

/* Most octets of a decoded ENVID (RFC 3461 4.4), of ORCPT as it arrives (RFC 3461 4.2), of a mailbox. */
enum { ENVID_MOST = 100, ORCPT_MOST = 500, MAILBOX_MOST = 254 };

typedef struct param {
  mp_str key, value;
  bool has_value;
} param;

static bool refuse(mp_reply *refusal, mp_reply reply)
{
  *refusal = reply;
  return false;
}

#define BAD(text)     refuse(refusal, MP_REPLY(501, 5, 5, 4, text))
#define UNKNOWN       refuse(refusal, MP_REPLY(555, 5, 5, 4, "Parameter not recognized or not implemented"))
#define UNIMPLEMENTED refuse(refusal, MP_REPLY(504, 5, 5, 4, "BODY value not implemented"))
#define TOO_BIG       refuse(refusal, MP_REPLY(552, 5, 3, 4, "Message size exceeds fixed limit"))

/* ---- xtext ------------------------------------------------------------------------------------------------------ */

static int hex_upper(unsigned char c)
{
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The octet of xtext at *i, which is moved behind it; -1 for what is no xtext. RFC 3461 4 wants upper case hexadecimal. */
static int xtext_octet(mp_str in, size_t *i)
{
  unsigned char c = (unsigned char)in.ptr[(*i)++];
  if (c < 33 || c > 126 || c == '=')
    return -1;
  if (c != '+')
    return c;
  if (in.len - *i < 2)
    return -1;
  int high = hex_upper((unsigned char)in.ptr[*i]), low = hex_upper((unsigned char)in.ptr[*i + 1]);
  *i += 2;
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

int mp_xtext_decode(mp_buf *out, mp_str in)
{
  size_t before = out->len;
  for (size_t i = 0; i < in.len;) {
    int octet = xtext_octet(in, &i);
    int rc = octet < 0 ? MP_E_SYNTAX : mp_buf_char(out, (char)octet);
    if (rc < 0) {
      mp_buf_cut(out, before);
      return rc;
    }
  }
  return 0;
}

int mp_xtext_encode(mp_buf *out, mp_str in)
{
  static const char digits[] = "0123456789ABCDEF";
  size_t before = out->len;
  for (size_t i = 0; i < in.len; i++) {
    unsigned char c = (unsigned char)in.ptr[i];
    char coded[3] = { '+', digits[c >> 4], digits[c & 15] };
    bool plain = c > 32 && c < 127 && c != '+' && c != '=';
    int rc = plain ? mp_buf_char(out, (char)c) : mp_buf_add(out, coded, sizeof coded);
    if (rc < 0) {
      mp_buf_cut(out, before);
      return rc;
    }
  }
  return 0;
}

/* Decodes into `out`; false for what is no xtext or does not fit. */
static bool xtext_into(mp_str in, char *out, size_t room, mp_str *decoded)
{
  size_t n = 0;
  for (size_t i = 0; i < in.len;) {
    int octet = xtext_octet(in, &i);
    if (octet < 0 || n == room)
      return false;
    out[n++] = (char)octet;
  }
  *decoded = mp_str_of(out, n);
  return true;
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

static bool is_alnum(unsigned char c)
{
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Next parameter (RFC 5321 4.1.2: one space before each) from *rest. 1, 0 at the end, or MP_E_SYNTAX. */
static int next_param(mp_str *rest, param *p)
{
  while (rest->len && (rest->ptr[rest->len - 1] == ' ' || rest->ptr[rest->len - 1] == '\t'))
    rest->len--; /* trailing white space is let pass (RFC 5321 4.1.1) */
  if (rest->len == 0)
    return 0;
  if (rest->ptr[0] != ' ')
    return MP_E_SYNTAX;
  mp_str in = mp_str_sub(*rest, 1, rest->len);
  size_t i = 0;
  while (i < in.len && (is_alnum((unsigned char)in.ptr[i]) || (i > 0 && in.ptr[i] == '-')))
    i++;
  *p = (param){ .key = mp_str_sub(in, 0, i) };
  if (i == 0)
    return MP_E_SYNTAX;
  if (i < in.len && in.ptr[i] == '=') {
    size_t from = ++i;
    while (i < in.len && (unsigned char)in.ptr[i] > ' ' && in.ptr[i] != '=' && in.ptr[i] != 0x7f)
      i++;
    p->has_value = true;
    p->value = mp_str_sub(in, from, i - from);
    if (p->value.len == 0 || !mp_text_printable(p->value, true))
      return MP_E_SYNTAX;
  }
  if (i < in.len && in.ptr[i] != ' ')
    return MP_E_SYNTAX;
  *rest = mp_str_sub(in, i, in.len);
  return 1;
}

static unsigned find(const char *const *names, const unsigned *bits, size_t count, mp_str key)
{
  for (size_t i = 0; i < count; i++)
    if (mp_str_ieq(key, mp_str_c(names[i])))
      return bits[i];
  return 0;
}

/* ---- MAIL ------------------------------------------------------------------------------------------------------- */

static bool all_digits(mp_str s)
{
  for (size_t i = 0; i < s.len; i++)
    if (s.ptr[i] < '0' || s.ptr[i] > '9')
      return false;
  return s.len > 0;
}

/* by-time ";" by-mode ["T"] (RFC 2852 4). */
static bool parse_by(mp_mail_params *params, mp_str value)
{
  mp_ssize semicolon = mp_str_find(value, ';', 0);
  if (semicolon < 0)
    return false;
  mp_str time = mp_str_sub(value, 0, (size_t)semicolon),
         mode = mp_str_sub(value, (size_t)semicolon + 1, value.len);
  bool minus = time.len && time.ptr[0] == '-';
  if (time.len && (minus || time.ptr[0] == '+'))
    time = mp_str_sub(time, 1, time.len);
  uint64_t seconds;
  if (time.len > 9 || !mp_str_u64(time, 999999999, &seconds) || mode.len < 1 || mode.len > 2)
    return false;
  params->by_seconds = minus ? -(int64_t)seconds : (int64_t)seconds;
  params->by_mode = (char)mp_ascii_upper((unsigned char)mode.ptr[0]);
  params->by_trace = mode.len == 2;
  if (mode.len == 2 && mp_ascii_upper((unsigned char)mode.ptr[1]) != 'T')
    return false;
  /* A deadline that has passed cannot be kept by returning: mode R wants a positive time. */
  return params->by_mode == 'N' || (params->by_mode == 'R' && params->by_seconds > 0);
}

/* (["-"] NZDIGIT) / "0" (RFC 6710 3). */
static bool parse_priority(mp_mail_params *params, mp_str value)
{
  bool minus = value.len && value.ptr[0] == '-';
  mp_str digit = mp_str_sub(value, minus, value.len);
  if (digit.len != 1 || digit.ptr[0] < (minus ? '1' : '0') || digit.ptr[0] > '9')
    return false;
  params->priority = minus ? '0' - digit.ptr[0] : digit.ptr[0] - '0';
  return true;
}

/* "<>" or a mailbox, as xtext (RFC 4954 5). */
static bool check_auth(mp_str value, bool utf8)
{
  char room[MAILBOX_MOST];
  mp_str mailbox;
  if (mp_str_eq(value, MP_STR("<>")))
    return true;
  mp_path path;
  return xtext_into(value, room, sizeof room, &mailbox) &&
         mp_mailbox_parse(&path, mailbox, utf8 ? MP_PATH_UTF8 : 0) == 0;
}

static bool take_mail(mp_mail_params *params, unsigned bit, const param *p, unsigned allowed,
                      uint64_t max_size, mp_reply *refusal)
{
  bool flag = bit == MP_PARAM_SMTPUTF8 || bit == MP_PARAM_REQUIRETLS;
  mp_str value = p->value, decoded;
  char room[ENVID_MOST];
  if (flag == p->has_value)
    return flag ? BAD("Parameter takes no value") : BAD("Parameter needs a value");
  switch (bit) {
  case MP_PARAM_SIZE:
    if (!all_digits(value))
      return BAD("SIZE is no number");
    if (!mp_str_u64(value, max_size ? max_size : UINT64_MAX, &params->size))
      return TOO_BIG;
    return true;
  case MP_PARAM_BODY:
    if (mp_str_ieq(value, MP_STR("7BIT")))
      params->body = MP_BODY_7BIT;
    else if (mp_str_ieq(value, MP_STR("8BITMIME")))
      params->body = MP_BODY_8BIT;
    else if ((allowed & MP_PARAM_BINARY) && mp_str_ieq(value, MP_STR("BINARYMIME")))
      params->body = MP_BODY_BINARY;
    else
      return UNIMPLEMENTED;
    return true;
  case MP_PARAM_RET:
    params->ret = mp_str_ieq(value, MP_STR("FULL")) ? MP_RET_FULL : MP_RET_HDRS;
    return params->ret == MP_RET_FULL || mp_str_ieq(value, MP_STR("HDRS")) || BAD("RET is FULL or HDRS");
  case MP_PARAM_ENVID:
    params->envid = value;
    return (xtext_into(value, room, sizeof room, &decoded) && mp_text_printable(decoded, false)) ||
           BAD("Bad ENVID");
  case MP_PARAM_BY:
    return parse_by(params, value) || BAD("Bad BY");
  case MP_PARAM_HOLDFOR: /* RFC 4865 3: one to nine digits, the first not zero */
    return (value.len <= 9 && value.ptr[0] != '0' && mp_str_u64(value, 999999999, &params->hold_for)) ||
           BAD("Bad HOLDFOR");
  case MP_PARAM_HOLDUNTIL:
    params->hold_until = value;
    return mp_stamp_parse(value, &params->hold_until_s) || BAD("HOLDUNTIL is no date and time of RFC 3339");
  case MP_PARAM_PRIORITY:
    return parse_priority(params, value) || BAD("MT-PRIORITY is not between -9 and 9");
  case MP_PARAM_AUTH:
    params->auth = value;
    return true;
  default: /* SMTPUTF8, REQUIRETLS: being given is all */
    return true;
  }
}

bool mp_mail_params_parse(mp_mail_params *params, mp_str in, unsigned allowed, uint64_t max_size, mp_reply *refusal)
{
  static const char *const names[] = { "SIZE",    "BODY",      "SMTPUTF8",    "RET",        "ENVID", "BY",
                                       "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY", "REQUIRETLS", "AUTH" };
  static const unsigned bits[] = { MP_PARAM_SIZE,       MP_PARAM_BODY,      MP_PARAM_SMTPUTF8,
                                   MP_PARAM_RET,        MP_PARAM_ENVID,     MP_PARAM_BY,
                                   MP_PARAM_HOLDFOR,    MP_PARAM_HOLDUNTIL, MP_PARAM_PRIORITY,
                                   MP_PARAM_REQUIRETLS, MP_PARAM_AUTH };
  *params = (mp_mail_params){ .given = 0 };
  param p;
  int rc;
  while ((rc = next_param(&in, &p)) > 0) {
    unsigned bit = find(names, bits, sizeof bits / sizeof *bits, p.key) & allowed;
    if (!bit)
      return UNKNOWN;
    if (params->given & bit)
      return BAD("Parameter given twice");
    params->given |= bit;
    if (!take_mail(params, bit, &p, allowed, max_size, refusal))
      return false;
  }
  if (rc < 0)
    return BAD("Syntax error in parameters");
  unsigned both = MP_PARAM_HOLDFOR | MP_PARAM_HOLDUNTIL; /* RFC 4865 3: one of them */
  if ((params->given & both) == both)
    return BAD("HOLDFOR and HOLDUNTIL together");
  if ((params->given & MP_PARAM_AUTH) && !check_auth(params->auth, params->given & MP_PARAM_SMTPUTF8))
    return BAD("AUTH is no mailbox");
  return true;
}

/* ---- RCPT ------------------------------------------------------------------------------------------------------- */

static bool parse_notify(mp_rcpt_params *params, mp_str value)
{
  static const char *const names[] = { "NEVER", "SUCCESS", "FAILURE", "DELAY" };
  static const unsigned bits[] = { MP_NOTIFY_NEVER, MP_NOTIFY_SUCCESS, MP_NOTIFY_FAILURE, MP_NOTIFY_DELAY };
  for (size_t from = 0; from <= value.len;) {
    mp_ssize comma = mp_str_find(value, ',', from);
    size_t end = comma < 0 ? value.len : (size_t)comma;
    unsigned bit = find(names, bits, 4, mp_str_sub(value, from, end - from));
    if (!bit)
      return false;
    params->notify |= bit;
    from = end + 1;
  }
  return !(params->notify & MP_NOTIFY_NEVER) || params->notify == MP_NOTIFY_NEVER;
}

/* The address of ORCPT=utf-8 (RFC 6533 3): UTF-8 as it is where SMTPUTF8 holds, or \x{HEX} for a character. Control
 * characters, which the grammar there would let pass, are refused. */
static bool check_utf8_address(mp_str s, bool utf8)
{
  if (!mp_text_printable(s, utf8))
    return false;
  for (size_t i = 0; i < s.len; i++) {
    if (s.ptr[i] == '+' || s.ptr[i] == '=' || s.ptr[i] == ' ')
      return false;
    if (s.ptr[i] != '\\')
      continue;
    mp_ssize close = mp_str_find(s, '}', i);
    mp_str head = mp_str_sub(s, i, 3);
    if (close < 0 || !mp_str_eq(head, MP_STR("\\x{")))
      return false;
    mp_str hex = mp_str_sub(s, i + 3, (size_t)close - i - 3);
    unsigned long code = 0;
    if (hex.len < 2 || hex.len > 6 || hex.ptr[0] == '0')
      return false;
    for (size_t k = 0; k < hex.len; k++) {
      int digit = hex_upper((unsigned char)hex.ptr[k]);
      if (digit < 0)
        return false;
      code = code << 4 | (unsigned long)digit;
    }
    bool special = code == ' ' || code == '+' || code == '=' || code == '\\';
    if ((code < 0xa0 && !special) || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
      return false;
    i = (size_t)close;
  }
  return true;
}

static bool check_orcpt(mp_str value, bool utf8)
{
  mp_ssize semicolon = mp_str_find(value, ';', 0);
  if (semicolon <= 0 || value.len > ORCPT_MOST)
    return false;
  mp_str type = mp_str_sub(value, 0, (size_t)semicolon),
         address = mp_str_sub(value, (size_t)semicolon + 1, value.len);
  for (size_t i = 0; i < type.len; i++)
    if (!is_alnum((unsigned char)type.ptr[i]) && type.ptr[i] != '-')
      return false;
  if (address.len == 0)
    return false;
  if (mp_str_ieq(type, MP_STR("utf-8")))
    return check_utf8_address(address, utf8);
  char room[ORCPT_MOST];
  mp_str decoded;
  return xtext_into(address, room, sizeof room, &decoded) && mp_text_printable(decoded, false);
}

bool mp_rcpt_params_parse(mp_rcpt_params *params, mp_str in, unsigned allowed, bool utf8, mp_reply *refusal)
{
  static const char *const names[] = { "NOTIFY", "ORCPT" };
  static const unsigned bits[] = { MP_PARAM_NOTIFY, MP_PARAM_ORCPT };
  *params = (mp_rcpt_params){ .given = 0 };
  param p;
  int rc;
  while ((rc = next_param(&in, &p)) > 0) {
    unsigned bit = find(names, bits, 2, p.key) & allowed;
    if (!bit)
      return UNKNOWN;
    if (params->given & bit)
      return BAD("Parameter given twice");
    params->given |= bit;
    if (!p.has_value)
      return BAD("Parameter needs a value");
    if (bit == MP_PARAM_NOTIFY && !parse_notify(params, p.value))
      return BAD("Bad NOTIFY");
    if (bit == MP_PARAM_ORCPT && !check_orcpt(p.value, utf8))
      return BAD("Bad ORCPT");
    if (bit == MP_PARAM_ORCPT)
      params->orcpt = p.value;
  }
  return rc == 0 || BAD("Syntax error in parameters");
}
