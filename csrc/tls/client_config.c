#include "tls/client.h"

#include "base/error.h"
#include "tls/cert.h"
#include "tls/client_impl.h"
#include "tls/config_impl.h"
#include "tls/why.h"

#include <openssl/err.h>

/* The order is the server's (tls/config.c) with all behind it that still encrypts: where a server of long ago finds nothing here, mail
 * goes in clear (RFC 7435), which no weakness of key exchange makes better. */
#define DEFAULT_CIPHERS                                                                                       \
  "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:RSA+AESGCM:RSA+AES:!AESCCM:!aNULL:!" \
  "PSK:!SRP"

/* Certificates between a server's and its authority. Real chains have one to three. */
enum { DEPTH_MOST = 16 };

static int use_pair(SSL_CTX *ctx, const mp_tls_client_opts *opts, char *why, size_t room)
{
  if (!opts->certificate) {
    if (!opts->key)
      return 0;
    mp_tls_say(why, room, "there is a key, %s, but no certificate", opts->key);
    return MP_E_INVALID;
  }
  mp_tls_pair pair;
  int rc = mp_tls_pair_load(&pair, opts->certificate, opts->key, why, room);
  if (rc < 0)
    return rc;
  ERR_clear_error();
  if (SSL_CTX_use_cert_and_key(ctx, pair.leaf, pair.key, pair.chain, 1) != 1) {
    mp_tls_say(why, room, "%s cannot be used: %s", opts->certificate, mp_tls_reason("refused by OpenSSL"));
    rc = MP_E_TLS;
  }
  mp_tls_pair_dispose(&pair);
  return rc;
}

static int use_authorities(SSL_CTX *ctx, const char *path, char *why, size_t room)
{
  if (!path) /* a system without any is no error: whatever wants to be verified then says what is missing */
    return SSL_CTX_set_default_verify_paths(ctx) == 1 ? 0 : MP_E_NOMEM;
  STACK_OF(X509) *cas = sk_X509_new_null();
  int rc = cas ? mp_tls_store_load(SSL_CTX_get_cert_store(ctx), cas, path, why, room) : MP_E_NOMEM;
  sk_X509_pop_free(cas, X509_free);
  /* What is listed by hand is trusted whether or not what is above it is listed too; so is a server's own certificate. */
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
  return rc;
}

static bool set_up(mp_tls_client_config *config, const mp_tls_client_opts *opts)
{
  SSL_CTX *ctx = config->ctx;
  int least = opts->min_version ? opts->min_version : TLS1_2_VERSION;
  config->level = SSL_CTX_get_security_level(ctx);
  if (least < TLS1_2_VERSION) /* as tls/config.c says; certificates are still held to the level that was */
    SSL_CTX_set_security_level(ctx, 0);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_verify_depth(ctx, DEPTH_MOST);
  SSL_CTX_set_cert_verify_callback(ctx, mp_tls_client_verify, NULL);
  if (config->sessions) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, mp_tls_client_keep);
  } else {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
  }
  return SSL_CTX_set_min_proto_version(ctx, least) == 1 && SSL_CTX_dane_enable(ctx) == 1;
}

static int build(mp_tls_client_config *config, const mp_tls_client_opts *opts, char *why, size_t room)
{
  config->bio = mp_tls_bio_method();
  config->ctx = SSL_CTX_new(TLS_client_method());
  config->sessions = opts->sessions ? mp_tls_resume_new(opts->sessions) : NULL;
  if (!config->bio || !config->ctx || (opts->sessions && !config->sessions) || !set_up(config, opts))
    return MP_E_NOMEM;
  int rc = mp_tls_ciphers_set(config->ctx, opts->ciphers ? opts->ciphers : DEFAULT_CIPHERS,
                              opts->ciphersuites, why, room);
  if (rc == 0)
    rc = use_authorities(config->ctx, opts->ca, why, room);
  if (rc == 0)
    rc = use_pair(config->ctx, opts, why, room);
  return rc;
}

int mp_tls_client_config_new(mp_tls_client_config **made, const mp_tls_client_opts *opts, char *why, size_t room)
{
  *made = NULL;
  if (room)
    why[0] = '\0';
  int rc = mp_tls_version_check(opts->min_version, why, room);
  if (rc < 0)
    return rc;
  if (opts->sessions > MP_TLS_SESSIONS_MOST) {
    mp_tls_say(why, room, "%zu sessions are more than can be kept, which is %d", opts->sessions,
               MP_TLS_SESSIONS_MOST);
    return MP_E_INVALID;
  }
  ERR_clear_error();
  mp_tls_client_config *config = mp_mem_zalloc(sizeof *config);
  rc = MP_E_NOMEM;
  if (config) {
    atomic_init(&config->refs, 1);
    rc = build(config, opts, why, room);
  }
  ERR_clear_error();
  if (rc < 0) {
    if (rc == MP_E_NOMEM)
      mp_tls_say(why, room, "%s", mp_error_text(rc));
    mp_tls_client_config_unref(config);
    return rc;
  }
  *made = config;
  return 0;
}

mp_tls_client_config *mp_tls_client_config_ref(mp_tls_client_config *config)
{
  atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
  return config;
}

void mp_tls_client_config_unref(mp_tls_client_config *config)
{
  if (!config || atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) != 1)
    return;
  SSL_CTX_free(config->ctx);
  BIO_meth_free(config->bio);
  mp_tls_resume_free(config->sessions);
  mp_mem_free(config);
}
