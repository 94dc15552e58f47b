/* support/tls_talk.h -- a client of OpenSSL that talks to a pump over a memory stream. */
#ifndef MP_SPEC_TLS_TALK_H
#define MP_SPEC_TLS_TALK_H

#include "support/pump.h"
#include "support/tls_peer.h"

/* Octets from the client to the server and back, until nothing moves. */
static void carry(pump *p, peer *client, mp_stream *stream)
{
  for (;;) {
    peer_take(client);
    mp_buf *said = mp_stream_written(stream);
    if (client->len == 0 && said->len == 0)
      return;
    size_t len = client->len;
    if (len)
      mp_stream_inject(stream, client->held, (mp_ssize)len);
    peer_drop(client, len);
    pump_turn(p);
    if (said->len)
      BIO_write(client->in, mp_buf_view(said).ptr, (int)said->len);
    mp_buf_consume(said, said->len);
    if (!SSL_is_init_finished(client->ssl))
      SSL_do_handshake(client->ssl);
  }
}

static void say(pump *p, peer *client, mp_stream *stream, const char *octets)
{
  SSL_write(client->ssl, octets, (int)strlen(octets));
  carry(p, client, stream);
}

#define HEAR(client, text) CHECK_STR(heard(client), text)

static mp_str heard(peer *client)
{
  static char plain[4096];
  size_t len = 0;
  for (int n; (n = SSL_read(client->ssl, plain + len, (int)(sizeof plain - len))) > 0;)
    len += (size_t)n;
  return mp_str_of(plain, len);
}

#endif
