/* TLS client sessions fed with garbage, and with a real server's octets that the input changes.
 *
 * The first octet chooses: bits 0 and 1 what is trusted; bit 2 garbage from the start, or a real server; bit 3 TLS 1.2 instead of 1.3;
 * the upper four the size of slices. The rest is the garbage, or steps of three octets: where in what the server sends next, and what is
 * added to the octet there. The server is one that nobody trusts: whatever is done to its octets, a session that asks for more than
 * nothing never gets through. */
#include "base/error.h"
#include "tls/client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MOST = 1 << 20, STEPS_MOST = 64 };

static mp_tls_client_config *config;
static SSL_CTX *server_ctxs[2]; /* TLS 1.3, TLS 1.2 */

static void insist(bool ok, const char *what)
{
  if (!ok) {
    fprintf(stderr, "%s\n", what);
    abort();
  }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  char dir[] = "/tmp/fuzz_connect.XXXXXX", cert[64], key[64], other[64], other_key[64], why[200];
  insist(mkdtemp(dir) != NULL, "no folder");
  snprintf(cert, sizeof cert, "%s/c.pem", dir);
  snprintf(key, sizeof key, "%s/c.key", dir);
  snprintf(other, sizeof other, "%s/o.pem", dir);
  snprintf(other_key, sizeof other_key, "%s/o.key", dir);
  insist(mp_tls_selfsigned(cert, key, "mx.example.net", why, sizeof why) == 1, why);
  insist(mp_tls_selfsigned(other, other_key, "mx.example.net", why, sizeof why) == 1, why);
  mp_tls_client_opts opts = { .ca = other, .sessions = 2 };
  insist(mp_tls_client_config_new(&config, &opts, why, sizeof why) == 0, why);
  for (int i = 0; i < 2; i++) {
    server_ctxs[i] = SSL_CTX_new(TLS_server_method());
    insist(SSL_CTX_use_certificate_file(server_ctxs[i], cert, SSL_FILETYPE_PEM) == 1 &&
               SSL_CTX_use_PrivateKey_file(server_ctxs[i], key, SSL_FILETYPE_PEM) == 1 &&
               SSL_CTX_set_max_proto_version(server_ctxs[i], i ? TLS1_2_VERSION : TLS1_3_VERSION) == 1,
           "no server");
  }
  const char *files[] = { cert, key, other, other_key };
  for (int i = 0; i < 4; i++)
    unlink(files[i]);
  rmdir(dir);
  return 0;
}

static mp_tls *connect_as(mp_tls_trust trust)
{
  static const mp_str name = { "mx.example.net", 14 };
  static const mp_tls_pin pin = { { 1 } };
  const mp_tls_tlsa tlsa[] = { { 3, 1, 1, { (const char *)pin.octets, sizeof pin } },
                               { 2, 0, 1, { (const char *)pin.octets, sizeof pin } } };
  mp_tls_target target = { .sni = name,
                           .trust = trust,
                           .names = &name,
                           .name_count = 1,
                           .pins = &pin,
                           .pin_count = 1,
                           .tlsa = tlsa,
                           .tlsa_count = 2,
                           .session_key = name };
  mp_tls *tls;
  insist(mp_tls_connect(&tls, config, NULL, &target) == 0, "no session");
  insist(mp_tls_handshake(tls) == 0 && mp_tls_output(tls).len > 0, "nothing to say");
  return tls;
}

/* Reads what there is, and holds the session to its word. */
static void drain(mp_tls *tls, mp_tls_trust trust)
{
  char plain[4096];
  mp_tls_info info;
  mp_tls_proof facts;
  mp_ssize rc = mp_tls_ready(tls) ? 0 : mp_tls_handshake(tls);
  if (rc < 0)
    insist(mp_tls_why(tls)[0] != '\0' && mp_tls_handshake(tls) == rc,
           "a failure without a reason, or not for good");
  mp_tls_proof_get(tls, &facts);
  mp_tls_info_get(tls, &info);
  insist(!facts.verified && !info.peer_verified, "a stranger was verified");
  insist(rc != MP_E_CRYPTO || facts.why_not.len > 0, "refused without a reason");
  if (mp_tls_ready(tls)) {
    insist(trust == MP_TLS_TRUST_NONE && facts.why_not.len > 0, "a stranger was let in");
    while ((rc = mp_tls_read(tls, plain, sizeof plain)) > 0)
      insist((size_t)rc <= sizeof plain, "more than there is room for");
    if (rc < 0) {
      insist(mp_tls_read(tls, plain, sizeof plain) == rc, "an end that was not one");
      insist(mp_tls_unread(tls) == 0, "octets kept behind the end");
    }
    (void)mp_tls_write(tls, "NOOP\r\n", 6);
  } else {
    insist(mp_tls_read(tls, plain, sizeof plain) < 0, "plain text before the handshake");
  }
  insist(mp_tls_output(tls).len <= OUTPUT_MOST, "output over its ceiling");
}

/* Feeds slices in blocks of their own, so that a read behind one is seen. */
static void feed(mp_tls *tls, mp_tls_trust trust, const unsigned char *in, size_t len, size_t slice)
{
  while (len) {
    size_t n = len < slice ? len : slice;
    void *copy = malloc(n);
    insist(copy != NULL, "out of memory");
    memcpy(copy, in, n);
    mp_tls_feed(tls, copy, n);
    drain(tls, trust);
    insist(mp_tls_unread(tls) == 0, "octets that nobody takes");
    mp_tls_feed(tls, NULL, 0);
    free(copy);
    in += n;
    len -= n;
  }
}

static void converse(mp_tls *tls, mp_tls_trust trust, SSL *server, const uint8_t *data, size_t size, size_t slice)
{
  BIO *to_server = SSL_get_rbio(server), *from_server = SSL_get_wbio(server);
  char plain[4096], *wrote;
  for (int step = 0; step < STEPS_MOST; step++) {
    mp_str out = mp_tls_output(tls);
    size_t said = out.len;
    if (said)
      BIO_write(to_server, out.ptr, (int)said);
    mp_tls_sent(tls, said);
    if (SSL_do_handshake(server) == 1) {
      SSL_write(server, "220 ok\r\n", 8);
      while (SSL_read(server, plain, sizeof plain) > 0)
        continue;
      if (size == 0)
        SSL_shutdown(server);
    }
    ERR_clear_error();
    long len = BIO_get_mem_data(from_server, &wrote);
    if (len <= 0 && said == 0)
      break;
    if (len <= 0)
      continue;
    unsigned char *flight = malloc((size_t)len);
    insist(flight != NULL, "out of memory");
    memcpy(flight, wrote, (size_t)len);
    (void)BIO_reset(from_server);
    if (size >= 3) {
      size_t at = ((size_t)data[0] << 8 | data[1]) % (size_t)len;
      flight[at] = (unsigned char)(flight[at] + data[2]);
      data += 3;
      size -= 3;
    } else {
      size = 0;
    }
    feed(tls, trust, flight, (size_t)len, slice);
    free(flight);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  uint8_t how = *data++;
  size--;
  size_t slice = how >> 4 ? (size_t)(how >> 4) * (size_t)(how >> 4) : 1 << 16;
  mp_tls_trust trust = (mp_tls_trust)(how & 3);
  mp_tls *tls = connect_as(trust);
  if (how & 4) {
    feed(tls, trust, data, size, slice);
  } else {
    SSL *server = SSL_new(server_ctxs[how >> 3 & 1]);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    insist(server && in && out, "no server");
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(server, in, out);
    SSL_set_accept_state(server);
    converse(tls, trust, server, data, size, slice);
    SSL_free(server);
  }
  (void)mp_tls_shutdown(tls);
  mp_tls_free(tls);
  insist(ERR_peek_error() == 0, "errors left in the queue");
  return 0;
}
