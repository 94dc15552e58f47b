/* mail/received.h -- the trace field (RFC 5321 4.4, RFC 3848, RFC 8314 4.3), Return-Path, and loops. */
#ifndef MP_MAIL_RECEIVED_H
#define MP_MAIL_RECEIVED_H

#include "base/buf.h"
#include "base/ip.h"

typedef struct mp_trace {
  mp_str helo;                    /* as said by the peer, already checked; made safe again here */
  mp_str peer_name;               /* verified host name, or empty */
  const mp_ip *peer;              /* NULL: unix socket or unknown: "from helo (local)" */
  mp_str by;                      /* our host name */
  mp_str with;                    /* "ESMTPS" */
  mp_str tls_version, tls_cipher; /* empty without TLS */
  mp_str user;                    /* authenticated user; not written unless show_user */
  bool show_user;
  mp_str id;
  mp_str recipient; /* written as "for <...>" when there is exactly one, else empty */
  int64_t unix_s;
  int offset_min; /* minutes east of UTC, or MP_DATE_LOCAL */
} mp_trace;

/* Appends "Received: from ...\r\n" folded under 78 columns where possible. Everything that came from a peer is limited to what
 * a comment or atom may hold. Returns as mp_buf_add. */
int mp_received_write(mp_buf *out, const mp_trace *trace);

#endif
