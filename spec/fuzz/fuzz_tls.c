/* TLS server sessions fed with garbage, and with a real client's octets that the input changes.
 *
 * The first octet chooses: bit 0 garbage from the start, or a real client; bit 1 TLS 1.2 instead of 1.3; bit 2 client certificates are
 * asked for; bit 3 the handshake is left intact and what follows is changed; the upper four the size of slices. The rest is the
 * garbage, or steps of three octets: where in what the client sends next, and what is added to the octet there. */
#include "base/error.h"
#include "tls/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MOST = 1 << 20, STEPS_MOST = 64 };

static mp_tls_config *configs[2]; /* without and with client certificates */
static SSL_CTX *client_ctx;

static void insist(bool ok, const char *what)
{
  if (!ok) {
    fprintf(stderr, "%s\n", what);
    abort();
  }
}

static void files_of(char *dir, char *cert, char *key)
{
  char why[200];
  insist(mkdtemp(dir) != NULL, "no folder");
  snprintf(cert, 64, "%s/c.pem", dir);
  snprintf(key, 64, "%s/c.key", dir);
  insist(mp_tls_selfsigned(cert, key, "mx.example.org", why, sizeof why) == 1, why);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
  (void)argc, (void)argv;
  char dir[] = "/tmp/fuzz_tls.XXXXXX", cert[64], key[64], why[200];
  files_of(dir, cert, key);
  mp_tls_cert pair = { .certificate = cert, .key = key };
  mp_tls_opts opts = { .certs = &pair, .cert_count = 1, .client_ca = cert };
  for (int i = 0; i < 2; i++) {
    opts.client = i ? MP_TLS_VERIFY_ASK : MP_TLS_VERIFY_OFF;
    insist(mp_tls_config_new(&configs[i], &opts, why, sizeof why) == 0, why);
  }
  client_ctx = SSL_CTX_new(TLS_client_method());
  insist(SSL_CTX_use_certificate_file(client_ctx, cert, SSL_FILETYPE_PEM) == 1 &&
             SSL_CTX_use_PrivateKey_file(client_ctx, key, SSL_FILETYPE_PEM) == 1,
         "no client");
  unlink(cert);
  unlink(key);
  rmdir(dir);
  return 0;
}

/* Reads what there is, and holds the session to its word. */
static void drain(mp_tls *tls)
{
  char plain[4096];
  mp_tls_info info;
  mp_ssize rc = mp_tls_ready(tls) ? 0 : mp_tls_handshake(tls);
  if (rc < 0)
    insist(mp_tls_why(tls)[0] != '\0' && mp_tls_handshake(tls) == rc,
           "a failure without a reason, or not for good");
  if (mp_tls_ready(tls)) {
    while ((rc = mp_tls_read(tls, plain, sizeof plain)) > 0)
      insist((size_t)rc <= sizeof plain, "more than there is room for");
    if (rc < 0) {
      insist(mp_tls_read(tls, plain, sizeof plain) == rc, "an end that was not one");
      insist(mp_tls_unread(tls) == 0, "octets kept behind the end");
    }
    mp_tls_info_get(tls, &info);
    insist(info.peer_verified || info.peer_name_count == 0, "names of a peer that was not verified");
    (void)mp_tls_write(tls, "250 ok\r\n", 8);
  } else {
    insist(mp_tls_read(tls, plain, sizeof plain) < 0, "plain text before the handshake");
  }
  insist(mp_tls_output(tls).len <= OUTPUT_MOST, "output over its ceiling");
}

/* Feeds slices in blocks of their own, so that a read behind one is seen. */
static void feed(mp_tls *tls, const unsigned char *in, size_t len, size_t slice)
{
  while (len) {
    size_t n = len < slice ? len : slice;
    void *copy = malloc(n);
    insist(copy != NULL, "out of memory");
    memcpy(copy, in, n);
    mp_tls_feed(tls, copy, n);
    drain(tls);
    insist(mp_tls_unread(tls) == 0, "octets that nobody takes");
    mp_tls_feed(tls, NULL, 0);
    free(copy);
    in += n;
    len -= n;
  }
}

static void converse(mp_tls *tls, SSL *client, const uint8_t *data, size_t size, size_t slice, bool spare_handshake)
{
  BIO *to_client = SSL_get_rbio(client), *from_client = SSL_get_wbio(client);
  char plain[4096];
  for (int step = 0; step < STEPS_MOST; step++) {
    if (SSL_do_handshake(client) == 1) {
      SSL_write(client, "NOOP\r\n", 6);
      while (SSL_read(client, plain, sizeof plain) > 0)
        continue;
      if (size == 0)
        SSL_shutdown(client);
    }
    ERR_clear_error();
    char *wrote;
    long len = BIO_get_mem_data(from_client, &wrote);
    if (len > 0) {
      unsigned char *flight = malloc((size_t)len);
      insist(flight != NULL, "out of memory");
      memcpy(flight, wrote, (size_t)len);
      (void)BIO_reset(from_client);
      if (size >= 3 && !(spare_handshake && !mp_tls_ready(tls))) {
        size_t at = ((size_t)data[0] << 8 | data[1]) % (size_t)len;
        flight[at] = (unsigned char)(flight[at] + data[2]);
        data += 3;
        size -= 3;
      } else if (!spare_handshake || mp_tls_ready(tls)) {
        size = 0;
      }
      feed(tls, flight, (size_t)len, slice);
      free(flight);
    }
    mp_str out = mp_tls_output(tls);
    if (len <= 0 && out.len == 0)
      break;
    if (out.len)
      BIO_write(to_client, out.ptr, (int)out.len);
    mp_tls_sent(tls, out.len);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  uint8_t how = *data++;
  size--;
  size_t slice = how >> 4 ? (size_t)(how >> 4) * (size_t)(how >> 4) : 1 << 16;
  mp_tls *tls;
  insist(mp_tls_accept(&tls, configs[how >> 2 & 1], NULL) == 0, "no session");
  if (how & 1) {
    feed(tls, data, size, slice);
  } else {
    SSL *client = SSL_new(client_ctx);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    insist(client && in && out, "no client");
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(client, in, out);
    SSL_set_connect_state(client);
    SSL_set_max_proto_version(client, how & 2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    converse(tls, client, data, size, slice, how & 8);
    SSL_free(client);
  }
  (void)mp_tls_shutdown(tls);
  mp_tls_free(tls);
  insist(ERR_peek_error() == 0, "errors left in the queue");
  return 0;
}
