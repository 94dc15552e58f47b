/* support/tls_peer.h -- the other end of a TLS session: a plain OpenSSL client over memory BIOs, and certificates made on the spot in a
 * folder that is gone when the test ends. */
#ifndef MP_SPEC_TLS_PEER_H
#define MP_SPEC_TLS_PEER_H

#include "support/check.h"

#include "base/error.h"
#include "tls/tls.h"

#include <ftw.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEER_FN __attribute__((unused)) static

/* ---- a folder of its own ----------------------------------------------------------------------------------------- */

static char peer_dir[64];

PEER_FN int peer_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  (void)st, (void)type, (void)ftw;
  return remove(path);
}

PEER_FN void peer_cleanup(void)
{
  nftw(peer_dir, peer_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* A path in the folder; the string lives to the end of the process. */
PEER_FN const char *peer_path(const char *name)
{
  static char paths[64][128];
  static int next;
  if (!peer_dir[0]) {
    snprintf(peer_dir, sizeof peer_dir, "/tmp/test_tls.XXXXXX");
    if (!mkdtemp(peer_dir))
      abort();
    atexit(peer_cleanup);
  }
  for (int i = 0; i < next; i++) {
    if (strcmp(paths[i] + strlen(peer_dir) + 1, name) == 0)
      return paths[i];
  }
  if (next == 64)
    abort();
  snprintf(paths[next], sizeof paths[next], "%s/%s", peer_dir, name);
  return paths[next++];
}

PEER_FN const char *peer_file(const char *name, const void *text, size_t len)
{
  const char *path = peer_path(name);
  FILE *file = fopen(path, "w");
  if (!file || fwrite(text, 1, len, file) != len || fclose(file) != 0)
    abort();
  return path;
}

/* ---- certificates ------------------------------------------------------------------------------------------------ */

typedef struct peer_id {
  X509 *cert;
  EVP_PKEY *key;
} peer_id;

typedef struct peer_cert {
  const char *cn, *san;  /* san as in openssl.cnf: "DNS:a,email:b" */
  const peer_id *issuer; /* NULL: self-signed */
  int from_days, days;   /* valid from today plus this, for so long; 0 days: 30 */
  bool ca, rsa;
} peer_cert;

PEER_FN void peer_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
  X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  if (!ext || X509_add_ext(cert, ext, -1) != 1)
    abort();
  X509_EXTENSION_free(ext);
}

PEER_FN peer_id peer_make(const peer_cert *want)
{
  peer_id id = { X509_new(), want->rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256") };
  const peer_id *issuer = want->issuer ? want->issuer : &id;
  static atomic_long serial = 1000;
  X509_set_version(id.cert, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(id.cert), atomic_fetch_add(&serial, 1));
  X509_gmtime_adj(X509_getm_notBefore(id.cert), want->from_days * 86400L - 3600);
  X509_gmtime_adj(X509_getm_notAfter(id.cert),
                  (want->from_days + (want->days ? want->days : 30)) * 86400L - 3600);
  X509_set_pubkey(id.cert, id.key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(id.cert), "CN", MBSTRING_UTF8,
                             (const unsigned char *)want->cn, -1, -1, 0);
  X509_set_issuer_name(id.cert, X509_get_subject_name(issuer->cert));
  peer_extension(id.cert, issuer->cert, NID_basic_constraints, want->ca ? "critical,CA:TRUE" : "CA:FALSE");
  if (want->san)
    peer_extension(id.cert, issuer->cert, NID_subject_alt_name, want->san);
  if (X509_sign(id.cert, issuer->key, EVP_sha256()) <= 0)
    abort();
  return id;
}

PEER_FN void peer_id_free(peer_id *id)
{
  X509_free(id->cert);
  EVP_PKEY_free(id->key);
}

/* Writes what is not NULL as PEM, the certificate first. */
PEER_FN const char *peer_pem(const char *name, X509 *cert, EVP_PKEY *key)
{
  const char *path = peer_path(name);
  FILE *file = fopen(path, "w");
  if (!file || (cert && !PEM_write_X509(file, cert)) ||
      (key && !PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL)) || fclose(file) != 0)
    abort();
  return path;
}

/* The names of a certificate file and a key file, NAME.pem and NAME.key, for a certificate made to order. */
PEER_FN mp_tls_cert peer_pair(const char *name, const peer_cert *want)
{
  char file[64];
  mp_tls_cert cert = { 0 };
  peer_id id = peer_make(want);
  snprintf(file, sizeof file, "%s.pem", name);
  cert.certificate = peer_pem(file, id.cert, NULL);
  snprintf(file, sizeof file, "%s.key", name);
  cert.key = peer_pem(file, NULL, id.key);
  peer_id_free(&id);
  return cert;
}

/* A configuration for mx.example.org with whatever `opts` says besides; NULL with the reason printed. */
PEER_FN mp_tls_config *peer_config(mp_tls_opts opts)
{
  char why[256];
  mp_tls_config *config = NULL;
  mp_tls_cert cert = peer_pair("mx", &(peer_cert){ .cn = "mx.example.org", .san = "DNS:mx.example.org" });
  if (!opts.certs) {
    opts.certs = &cert;
    opts.cert_count = 1;
  }
  if (mp_tls_config_new(&config, &opts, why, sizeof why) < 0)
    check_fail(__FILE__, __LINE__, "no configuration: %s", why);
  return config;
}

/* ---- the client -------------------------------------------------------------------------------------------------- */

typedef struct peer_opts {
  int min, max; /* protocol versions */
  const char *ciphers, *sni;
  const peer_id *id;
  SSL_SESSION *session; /* to resume */
  uint64_t options;
} peer_opts;

typedef struct peer {
  SSL_CTX *ctx;
  SSL *ssl;
  BIO *in, *out;
  SSL_SESSION *ticket; /* the newest one received; counted */
  char *held;          /* ciphertext on its way to the server: lent to it until it has taken all */
  size_t len, cap;
} peer;

PEER_FN int peer_ticket(SSL *ssl, SSL_SESSION *session)
{
  peer *p = SSL_get_app_data(ssl);
  SSL_SESSION_free(p->ticket);
  p->ticket = session;
  return 1;
}

PEER_FN void peer_init(peer *p, peer_opts opts)
{
  *p = (peer){ .ctx = SSL_CTX_new(TLS_client_method()), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()) };
  if (opts.min || opts.max) {
    SSL_CTX_set_min_proto_version(p->ctx, opts.min ? opts.min : opts.max);
    SSL_CTX_set_max_proto_version(p->ctx, opts.max);
    if (opts.max && opts.max < TLS1_2_VERSION)
      SSL_CTX_set_security_level(p->ctx, 0);
  }
  SSL_CTX_set_options(p->ctx, opts.options);
  SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(p->ctx, peer_ticket);
  if (opts.ciphers)
    SSL_CTX_set_cipher_list(p->ctx, opts.ciphers);
  p->ssl = SSL_new(p->ctx);
  SSL_set_app_data(p->ssl, p);
  BIO_set_mem_eof_return(p->in, -1);
  SSL_set_bio(p->ssl, p->in, p->out);
  SSL_set_connect_state(p->ssl);
  if (opts.sni)
    SSL_ctrl(p->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)opts.sni);
  if (opts.id) {
    SSL_use_certificate(p->ssl, opts.id->cert);
    SSL_use_PrivateKey(p->ssl, opts.id->key);
  }
  if (opts.session)
    SSL_set_session(p->ssl, opts.session);
}

PEER_FN void peer_dispose(peer *p)
{
  SSL_SESSION_free(p->ticket);
  if (p->ssl) /* else OpenSSL holds the session for broken and will not resume it */
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(p->ssl);
  SSL_CTX_free(p->ctx);
  free(p->held);
  *p = (peer){ 0 };
}

/* Takes what the client wrote behind what is held. */
PEER_FN void peer_take(peer *p)
{
  size_t more = BIO_pending(p->out) > 0 ? (size_t)BIO_pending(p->out) : 0;
  if (p->len + more > p->cap) {
    p->cap = p->len + more;
    p->held = realloc(p->held, p->cap);
    if (!p->held)
      abort();
  }
  if (more && BIO_read(p->out, p->held + p->len, (int)more) != (int)more)
    abort();
  p->len += more;
}

PEER_FN void peer_drop(peer *p, size_t len)
{
  memmove(p->held, p->held + len, p->len - len);
  p->len -= len;
}

/* What the server has to say goes to the client. */
PEER_FN void peer_receive(peer *p, mp_tls *tls)
{
  mp_str out = mp_tls_output(tls);
  if (out.len && BIO_write(p->in, out.ptr, (int)out.len) != (int)out.len)
    abort();
  mp_tls_sent(tls, out.len);
}

/* Both ends go on, the client's octets in slices of at most `slice`, until the server is done or nothing moves. Returns what the
 * server's last step did; the client has then seen all its output (and taken tickets). */
PEER_FN int peer_handshake(peer *p, mp_tls *tls, size_t slice)
{
  int rc = 0;
  for (;;) {
    int done = SSL_do_handshake(p->ssl);
    peer_take(p);
    size_t before = p->len;
    while (rc == 0 && p->len) {
      size_t n = p->len < slice ? p->len : slice;
      mp_tls_feed(tls, p->held, n);
      rc = mp_tls_handshake(tls);
      size_t took = n - mp_tls_unread(tls);
      peer_drop(p, rc < 0 ? n : took);
      if (took == 0 && rc == 0)
        return check_fail(__FILE__, __LINE__, "the server takes nothing") - 1;
    }
    bool moved = mp_tls_output(tls).len > 0 || p->len < before;
    peer_receive(p, tls);
    if (rc != 0 || !moved) {
      char octet;
      if (rc == 1 && done != 1)
        done = SSL_do_handshake(p->ssl);
      if (done == 1)
        (void)SSL_peek(p->ssl, &octet, 1); /* takes the ticket that follows */
      ERR_clear_error();
      return rc;
    }
  }
}

/* Gives the server all that the client has written, and reads once. */
PEER_FN mp_ssize peer_read(peer *p, mp_tls *tls, void *out, size_t room)
{
  peer_take(p);
  mp_tls_feed(tls, p->held, p->len);
  mp_ssize n = mp_tls_read(tls, out, room);
  peer_drop(p, p->len - mp_tls_unread(tls));
  mp_tls_feed(tls, NULL, 0);
  return n;
}

#endif
