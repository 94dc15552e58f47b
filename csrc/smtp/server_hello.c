/* HELO, EHLO and LHLO: the name, and what is announced (RFC 5321 4.1.1.1, RFC 2033 4.1). */
#include "smtp/server_impl.h"

#include <stdio.h>
#include <time.h>

#define MECH(name) (1u << MP_MECH_##name)

unsigned mp_srv_mechanisms(const mp_server *srv)
{
  const mp_server_opts *opts = srv->opts;
  if (!(opts->extensions & MP_EXT_AUTH) || !opts->sasl)
    return 0;
  if (!srv->tls && (!opts->auth_in_clear || opts->tls_required))
    return 0;
  /* RFC 5802 6: -PLUS is offered where there is a channel to bind to. */
  unsigned plus = MECH(SCRAM_SHA_1_PLUS) | MECH(SCRAM_SHA_256_PLUS);
  return srv->binding ? opts->mechanisms : opts->mechanisms & ~plus;
}

unsigned mp_srv_available(const mp_server *srv)
{
  const mp_server_opts *opts = srv->opts;
  unsigned set = opts->extensions;
  if (!(set & MP_EXT_8BITMIME))
    set &= ~(unsigned)MP_EXT_SMTPUTF8; /* RFC 6531 3.1 */
  if (!(set & MP_EXT_CHUNKING))
    set &= ~(unsigned)MP_EXT_BINARYMIME; /* RFC 3030 3 */
  if (!srv->tls)
    set &= ~(unsigned)MP_EXT_REQUIRETLS; /* RFC 8689 2 */
  if (srv->tls || !opts->tls_offered)
    set &= ~(unsigned)MP_EXT_STARTTLS;
  if (!(srv->trust & MP_TRUST_XCLIENT))
    set &= ~(unsigned)MP_EXT_XCLIENT;
  if (!mp_srv_mechanisms(srv))
    set &= ~(unsigned)MP_EXT_AUTH;
  return set;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

static int write_auth(mp_buf *out, unsigned mechanisms)
{
  int rc = mp_buf_str(out, MP_STR("AUTH"));
  for (int mech = 0; mech < MP_MECH_COUNT; mech++)
    if (rc == 0 && (mechanisms & (1u << mech)))
      rc = mp_buf_fmt(out, " %s", mp_mech_name((mp_mech)mech));
  return rc;
}

/* RFC 4865 3: the longest interval and the latest time, which moves. */
static int write_future(const mp_server *srv, mp_buf *out)
{
  uint64_t most = srv->opts->hold_max;
  time_t latest = (time_t)((srv->now_ms + srv->opts->wall_ms) / 1000 + (int64_t)most);
  struct tm tm;
  char text[32] = "";
  if (gmtime_r(&latest, &tm))
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
  return mp_buf_fmt(out, "FUTURERELEASE %llu %s", (unsigned long long)most, text);
}

static int write_limits(const mp_server_opts *opts, mp_buf *out)
{
  int rc = mp_buf_str(out, MP_STR("LIMITS")); /* RFC 9422 4 */
  if (rc == 0 && opts->messages)
    rc = mp_buf_fmt(out, " MAILMAX=%u", opts->messages);
  return rc == 0 ? mp_buf_fmt(out, " RCPTMAX=%u", opts->recipients) : rc;
}

static int write_extension(const mp_server *srv, mp_buf *out, int index)
{
  static const char *const names[] = {
#define EXT_NAME(name, text) text,
    MP_EXT_MAP(EXT_NAME)
#undef EXT_NAME
  };
  const mp_server_opts *opts = srv->opts;
  switch (index) {
  case MP_EXTI_SIZE:
    return opts->size ? mp_buf_fmt(out, "SIZE %llu", (unsigned long long)opts->size)
                      : mp_buf_str(out, MP_STR("SIZE"));
  case MP_EXTI_DELIVERBY:
    return opts->by_min ? mp_buf_fmt(out, "DELIVERBY %lld", (long long)opts->by_min)
                        : mp_buf_str(out, MP_STR("DELIVERBY"));
  case MP_EXTI_FUTURERELEASE:
    return write_future(srv, out);
  case MP_EXTI_MT_PRIORITY:
    return opts->priority_profile.len
               ? mp_buf_fmt(out, "MT-PRIORITY %.*s", (int)opts->priority_profile.len, opts->priority_profile.ptr)
               : mp_buf_str(out, MP_STR("MT-PRIORITY"));
  case MP_EXTI_LIMITS:
    return write_limits(opts, out);
  case MP_EXTI_AUTH:
    return write_auth(out, srv->mechanisms);
  case MP_EXTI_XCLIENT:
    return mp_buf_str(out, MP_STR("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"));
  default:
    return mp_buf_str(out, mp_str_c(names[index]));
  }
}

/* The reply to EHLO, which carries no enhanced codes (RFC 2034 4). */
static int write_list(const mp_server *srv, mp_buf *out, mp_str text)
{
  mp_str host = srv->opts->hostname;
  size_t last = out->len; /* where the last line begins */
  int rc = mp_buf_fmt(out, "250-%.*s%s%.*s\r\n", (int)host.len, host.ptr, text.len ? " " : "", (int)text.len,
                      text.ptr);
  for (int i = 0; i < MP_EXT_COUNT && rc == 0; i++) {
    if (!(srv->announced & (1u << i)))
      continue;
    last = out->len;
    rc = mp_buf_str(out, MP_STR("250-"));
    if (rc == 0)
      rc = write_extension(srv, out, i);
    if (rc == 0)
      rc = mp_buf_str(out, MP_STR("\r\n"));
  }
  if (rc == 0)
    out->ptr[out->off + last + 3] = ' ';
  return rc;
}

/* ---- the three verbs --------------------------------------------------------------------------------------------- */

static void hello(mp_server *srv, mp_str name, bool esmtp)
{
  if (!mp_helo_check(name, srv->opts->lax & MP_LAX_HELO)) {
    BAD(srv, "501 5.5.4 Send a domain or an address literal");
    return;
  }
  mp_srv_note *note = mp_srv_note_new(srv, name.len);
  if (!note) {
    mp_srv_nomem(srv);
    return;
  }
  memcpy(note->text, name.ptr, name.len);
  note->name = mp_str_of(note->text, name.len);
  srv->hello_esmtp = esmtp;
  mp_srv_push(srv, MP_EV_HELO);
}

void mp_srv_helo(mp_server *srv, mp_str args)
{
  hello(srv, args, false);
}

void mp_srv_ehlo(mp_server *srv, mp_str args)
{
  hello(srv, args, true);
}

void mp_srv_lhlo(mp_server *srv, mp_str args)
{
  hello(srv, args, true);
}

/* Only a HELO that is accepted forgets what was before it (RFC 5321 4.1.4). */
void mp_srv_answer_helo(mp_server *srv, const mp_reply *reply)
{
  if (reply && reply->code >= 300) {
    mp_srv_refuse(srv, reply, MP_EV_HELO);
    return;
  }
  mp_str text = reply ? reply->text : MP_STR_NULL;
  mp_ssize lf = mp_str_find(text, '\n', 0); /* the lines behind the first are the extensions' */
  text = mp_str_sub(text, 0, lf < 0 ? text.len : (size_t)lf);
  if (!mp_srv_set(&srv->helo, srv->note->name)) {
    mp_srv_nomem(srv);
    return;
  }
  if (srv->env) {
    mp_srv_forget(srv);
    mp_srv_push(srv, MP_EV_RESET);
  }
  srv->esmtp = srv->hello_esmtp;
  srv->mechanisms = srv->esmtp ? mp_srv_mechanisms(srv) : 0;
  srv->announced = srv->esmtp ? mp_srv_available(srv) : 0;
  mp_srv_enter(srv, ST_READY);
  size_t before = srv->out.len;
  if (write_list(srv, &srv->out, text) < 0) {
    mp_buf_cut(&srv->out, before);
    mp_srv_finish(srv, "out of memory for a reply");
    return;
  }
  mp_srv_said(srv);
}
