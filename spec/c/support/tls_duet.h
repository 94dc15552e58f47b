/* support/tls_duet.h -- a client session and a server session of ours, with nothing between them but two buffers. */
#ifndef MP_SPEC_TLS_DUET_H
#define MP_SPEC_TLS_DUET_H

#include "support/tls_peer.h"

#include "tls/client.h"

typedef struct duet_end {
  mp_tls *tls;
  char *held; /* ciphertext on its way to this end; of the C library, so that it never fails */
  size_t len, cap;
  int rc; /* of its last handshake step */
} duet_end;

typedef struct duet {
  duet_end client, server;
  mp_tls_proof facts; /* the client's, after duet_shake; so is the rest */
  mp_tls_info info;
} duet;

PEER_FN void duet_carry(duet_end *from, duet_end *to)
{
  mp_str out = mp_tls_output(from->tls);
  if (to->len + out.len > to->cap) {
    to->cap = to->len + out.len;
    to->held = realloc(to->held, to->cap);
    if (!to->held)
      abort();
  }
  if (out.len)
    memcpy(to->held + to->len, out.ptr, out.len);
  to->len += out.len;
  mp_tls_sent(from->tls, out.len);
}

PEER_FN void duet_drop(duet_end *end, size_t len)
{
  if (len)
    memmove(end->held, end->held + len, end->len - len);
  end->len -= len;
}

/* Gives an end what is held for it, at most `slice` octets. */
PEER_FN bool duet_step(duet_end *end, size_t slice)
{
  size_t n = end->len < slice ? end->len : slice;
  mp_tls_feed(end->tls, end->held, n);
  end->rc = mp_tls_handshake(end->tls);
  size_t took = end->rc < 0 ? n : n - mp_tls_unread(end->tls);
  mp_tls_feed(end->tls, NULL, 0);
  duet_drop(end, took);
  return took > 0;
}

/* Both go on until nothing moves. */
PEER_FN void duet_shake(duet *d, size_t slice)
{
  for (bool moved = true; moved;) {
    moved = duet_step(&d->client, slice);
    moved |= mp_tls_output(d->client.tls).len > 0;
    duet_carry(&d->client, &d->server);
    moved |= duet_step(&d->server, slice);
    moved |= mp_tls_output(d->server.tls).len > 0;
    duet_carry(&d->server, &d->client);
    if (d->client.rc == 1 && d->server.rc == 1)
      break;
  }
  mp_tls_proof_get(d->client.tls, &d->facts);
  mp_tls_info_get(d->client.tls, &d->info);
}

/* What `from` writes comes out at `to`: all of it. */
PEER_FN void duet_say(duet_end *from, duet_end *to, const char *line)
{
  char heard[4096];
  size_t len = strlen(line);
  CHECK_EQ_INT(mp_tls_write(from->tls, line, len), 0);
  duet_carry(from, to);
  mp_tls_feed(to->tls, to->held, to->len);
  mp_ssize n = mp_tls_read(to->tls, heard, sizeof heard);
  duet_drop(to, to->len - mp_tls_unread(to->tls));
  mp_tls_feed(to->tls, NULL, 0);
  if (CHECK_EQ_INT(n, len))
    CHECK_EQ_STR(mp_str_of(heard, len), mp_str_c(line));
}

PEER_FN void duet_part(duet *d)
{
  mp_tls_free(d->client.tls);
  mp_tls_free(d->server.tls);
  free(d->client.held);
  free(d->server.held);
}

/* The two meet. Returns what mp_tls_connect did; duet_part is due in any case. */
PEER_FN int duet_meet(duet *d, mp_tls_config *server, mp_tls_client_config *client, const mp_tls_target *target)
{
  *d = (duet){ .client = { .rc = MP_E_MISUSE } };
  int rc = mp_tls_connect(&d->client.tls, client, NULL, target);
  if (rc == 0)
    rc = mp_tls_accept(&d->server.tls, server, NULL);
  if (rc == 0)
    duet_shake(d, 65536);
  return rc;
}

#endif
