#include "tls/tls.h"

#include "base/error.h"
#include "tls/cert.h"
#include "tls/config_impl.h"
#include "tls/why.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <time.h>

/* Forward-secret AEAD first; behind it forward-secret CBC, because a mailer of 2012 that finds nothing here will fall back to no
 * encryption at all (RFC 7435). No finite-field DH: its cost to a server is a weapon, and whoever has it has ECDHE too. */
#define DEFAULT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!AESCCM:!aNULL"

/* Names of more CAs than this are not told to clients: the list is a hint, and a folder of all public CAs is 15 KB of it. */
enum { CA_NAMES_MOST = 32 };

static int64_t now_s(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts); /* goes on while the machine sleeps: keys age then too */
  return (int64_t)ts.tv_sec;
}

/* ---- callbacks of OpenSSL ---------------------------------------------------------------------------------------- */

static const mp_tls_config *config_of(SSL *ssl)
{
  return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* An unknown name gets the default certificate rather than an alert: a sender that does not check names delivers either way, and one
 * that does gives its own, better reason. */
static int on_server_name(SSL *ssl, int *alert, void *arg)
{
  (void)alert, (void)arg;
  const mp_tls_config *config = config_of(ssl);
  const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  mp_ssize at = host ? mp_tls_names_find(&config->names, mp_str_c(host)) : -1;
  if (at > 0 && !SSL_set_SSL_CTX(ssl, config->ctxs[at]))
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  return SSL_TLSEXT_ERR_OK;
}

static bool set_hmac(EVP_MAC_CTX *mac, mp_tls_ticket_key *key)
{
  char digest[] = "SHA256";
  OSSL_PARAM params[] = {
    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->hmac, sizeof key->hmac),
    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
    OSSL_PARAM_construct_end(),
  };
  return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* Returns as SSL_CTX_set_tlsext_ticket_key_evp_cb has it: -1 error, 0 no such key (full handshake), 1 fine, 2 fine, and the client is
 * due a fresh ticket. */
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int sealing)
{
  const mp_tls_config *config = config_of(ssl);
  mp_tls_ticket_key key;
  int rc = -1;
  if (!config->tickets)
    return 0;
  if (sealing) {
    if (mp_tls_tickets_seal(config->tickets, now_s(), &key) && RAND_bytes(iv, 16) == 1 &&
        EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) == 1 && set_hmac(mac, &key)) {
      memcpy(name, key.name, sizeof key.name);
      rc = 1;
    }
  } else {
    rc = mp_tls_tickets_open(config->tickets, now_s(), name, &key);
    if (rc > 0 && (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) != 1 || !set_hmac(mac, &key)))
      rc = -1;
    if (rc == 1 && SSL_version(ssl) >= TLS1_3_VERSION)
      rc = 2; /* a client that uses a ticket once (RFC 8446 appendix C.4) would come in full every second time */
  }
  mp_mem_wipe(&key, sizeof key);
  return rc;
}

/* With ASK a chain that leads nowhere does not end the handshake; OpenSSL keeps the error as the verify result. */
static int accept_any(int ok, X509_STORE_CTX *store)
{
  (void)ok, (void)store;
  return 1;
}

/* ---- one context ------------------------------------------------------------------------------------------------- */

/* What all contexts of a configuration have in common, besides the options themselves. */
typedef struct shared {
  const mp_tls_opts *opts;
  STACK_OF(X509) * cas;
  X509_STORE *store;
  unsigned char session_id[32]; /* context of sessions: those verified against other CAs do not resume here */
} shared;

int mp_tls_ciphers_set(SSL_CTX *ctx, const char *list, const char *suites, char *why, size_t room)
{
  if (SSL_CTX_set_cipher_list(ctx, list) != 1) {
    mp_tls_say(why, room, "ciphers \"%s\": %s", list, mp_tls_reason("no cipher matches"));
    return MP_E_TLS;
  }
  if (suites && SSL_CTX_set_ciphersuites(ctx, suites) != 1) {
    mp_tls_say(why, room, "ciphersuites \"%s\": %s", suites, mp_tls_reason("unknown cipher suite"));
    return MP_E_TLS;
  }
  return 0;
}

static bool set_client_verify(SSL_CTX *ctx, const shared *all)
{
  if (all->opts->client == MP_TLS_VERIFY_OFF)
    return true;
  bool require = all->opts->client == MP_TLS_VERIFY_REQUIRE;
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     require ? NULL : accept_any);
  SSL_CTX_set1_cert_store(ctx, all->store);
  /* A CA of the list is trusted whether or not the one above it is in the list. */
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
  int count = sk_X509_num(all->cas);
  for (int i = 0; count <= CA_NAMES_MOST && i < count; i++) {
    if (SSL_CTX_add_client_CA(ctx, sk_X509_value(all->cas, i)) != 1)
      return false;
  }
  return true;
}

static bool set_sessions(SSL_CTX *ctx, const shared *all)
{
  /* Nothing is kept here: a session that resumes brings its state along, sealed. */
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(ctx, MP_TLS_TICKET_ROTATE_S);
  if (all->opts->no_tickets) {
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, 0);
  } else {
    SSL_CTX_set_num_tickets(ctx, 1);
    if (SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket_key) != 1)
      return false;
  }
  return SSL_CTX_set_session_id_context(ctx, all->session_id, sizeof all->session_id) == 1;
}

static int new_ctx(SSL_CTX **made, mp_tls_config *config, const shared *all, char *why, size_t room)
{
  const mp_tls_opts *opts = all->opts;
  int least = opts->min_version ? opts->min_version : TLS1_2_VERSION;
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (!ctx)
    return MP_E_NOMEM;
  /* TLS before 1.2 signs with SHA-1, which OpenSSL allows at level 0 alone. */
  if (least < TLS1_2_VERSION)
    SSL_CTX_set_security_level(ctx, 0);
  SSL_CTX_set_app_data(ctx, config);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
  int rc = MP_E_NOMEM;
  if (SSL_CTX_set_min_proto_version(ctx, least) == 1 && SSL_CTX_set_dh_auto(ctx, 1) == 1 &&
      set_client_verify(ctx, all) && set_sessions(ctx, all))
    rc = mp_tls_ciphers_set(ctx, opts->ciphers ? opts->ciphers : DEFAULT_CIPHERS, opts->ciphersuites, why, room);
  if (rc < 0) {
    SSL_CTX_free(ctx);
    return rc;
  }
  *made = ctx;
  return 0;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

int mp_tls_store_load(X509_STORE *store, STACK_OF(X509) * cas, const char *path, char *why, size_t room)
{
  int rc = mp_tls_ca_load(cas, path, why, room);
  for (int i = 0; rc == 0 && i < sk_X509_num(cas); i++) {
    if (X509_STORE_add_cert(store, sk_X509_value(cas, i)) != 1)
      rc = MP_E_NOMEM;
  }
  return rc;
}

static int load_cas(shared *all, char *why, size_t room)
{
  const mp_tls_opts *opts = all->opts;
  if (opts->client == MP_TLS_VERIFY_OFF)
    return 0;
  if (!opts->client_ca) {
    mp_tls_say(why, room, "client certificates are asked for, but there is no client_ca to check them with");
    return MP_E_INVALID;
  }
  all->cas = sk_X509_new_null();
  all->store = X509_STORE_new();
  if (!all->cas || !all->store)
    return MP_E_NOMEM;
  return mp_tls_store_load(all->store, all->cas, opts->client_ca, why, room);
}

/* A digest over how clients are verified. It stays the same across a reload that changes nothing of it. */
static int name_sessions(shared *all)
{
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  unsigned char mode = (unsigned char)all->opts->client, digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(md, &mode, 1) == 1;
  for (int i = 0; ok && i < sk_X509_num(all->cas); i++)
    ok = X509_digest(sk_X509_value(all->cas, i), EVP_sha256(), digest, &len) == 1 &&
         EVP_DigestUpdate(md, digest, len) == 1;
  ok = ok && EVP_DigestFinal_ex(md, all->session_id, NULL) == 1;
  EVP_MD_CTX_free(md);
  return ok ? 0 : MP_E_NOMEM;
}

static int cannot_use(const mp_tls_cert *cert, char *why, size_t room)
{
  mp_tls_say(why, room, "%s cannot be used: %s", cert->certificate, mp_tls_reason("refused by OpenSSL"));
  return MP_E_TLS;
}

/* A pair for the names of an earlier one, but with a key of another type (RSA beside ECDSA), goes to its context: each client then
 * gets the one it can use. True when there was such a context. */
static bool join_twin(mp_tls_config *config, const mp_tls_names *own, const mp_tls_pair *pair)
{
  for (size_t i = 0; own->count && i < config->ctx_count; i++) {
    /* OpenSSL refuses (last argument) to replace a pair of the same type. */
    if (mp_tls_names_same(own, &config->names, i) &&
        SSL_CTX_use_cert_and_key(config->ctxs[i], pair->leaf, pair->key, pair->chain, 0) == 1)
      return true;
    ERR_clear_error();
  }
  return false;
}

static int add_pair(mp_tls_config *config, const shared *all, const mp_tls_cert *cert,
                    const mp_tls_pair *pair, const mp_tls_names *own, char *why, size_t room)
{
  if (join_twin(config, own, pair))
    return 0;
  SSL_CTX **slot = &config->ctxs[config->ctx_count];
  int rc = new_ctx(slot, config, all, why, room);
  if (rc < 0)
    return rc;
  size_t target = config->ctx_count++;
  ERR_clear_error();
  if (SSL_CTX_use_cert_and_key(*slot, pair->leaf, pair->key, pair->chain, 1) != 1)
    return cannot_use(cert, why, room);
  return mp_tls_names_join(&config->names, own, target);
}

static int add_cert(mp_tls_config *config, const shared *all, const mp_tls_cert *cert, char *why, size_t room)
{
  if (cert->name && !mp_tls_name_fits(mp_str_c(cert->name))) {
    mp_tls_say(why, room, "\"%s\" is not a host name", cert->name);
    return MP_E_INVALID;
  }
  mp_tls_pair pair;
  mp_tls_names own = { 0 };
  char note[MP_TLS_WHY_MAX] = "";
  int rc = mp_tls_pair_load(&pair, cert->certificate, cert->key, note, sizeof note);
  if (note[0] && (rc < 0 || room == 0 || !why[0])) /* the first warning stays, an error replaces it */
    mp_tls_say(why, room, "%s", note);
  if (rc < 0)
    return rc;
  rc = cert->name ? mp_tls_names_add(&own, mp_str_c(cert->name), 0) : mp_tls_pair_names(&own, pair.leaf, 0);
  mp_tls_names_done(&own);
  if (rc == 0)
    rc = add_pair(config, all, cert, &pair, &own, why, room);
  mp_tls_names_dispose(&own);
  mp_tls_pair_dispose(&pair);
  return rc;
}

static int build(mp_tls_config *config, shared *all, char *why, size_t room)
{
  const mp_tls_opts *opts = all->opts;
  config->bio = mp_tls_bio_method();
  config->ctxs = mp_mem_zalloc(opts->cert_count * sizeof *config->ctxs);
  config->tickets = opts->no_tickets ? NULL : mp_tls_tickets_new();
  if (!config->bio || !config->ctxs || (!config->tickets && !opts->no_tickets))
    return MP_E_NOMEM;
  int rc = load_cas(all, why, room);
  if (rc == 0)
    rc = name_sessions(all);
  for (size_t i = 0; rc == 0 && i < opts->cert_count; i++)
    rc = add_cert(config, all, &opts->certs[i], why, room);
  mp_tls_names_done(&config->names);
  return rc;
}

int mp_tls_version_check(int least, char *why, size_t room)
{
  if (least == 0 || (least >= TLS1_VERSION && least <= TLS1_3_VERSION))
    return 0;
  mp_tls_say(why, room, "0x%04x is not a TLS version", (unsigned)least);
  return MP_E_INVALID;
}

static int check_opts(const mp_tls_opts *opts, char *why, size_t room)
{
  if (opts->cert_count == 0 || !opts->certs) {
    mp_tls_say(why, room, "no certificate is given");
    return MP_E_INVALID;
  }
  return mp_tls_version_check(opts->min_version, why, room);
}

int mp_tls_config_new(mp_tls_config **made, const mp_tls_opts *opts, char *why, size_t room)
{
  *made = NULL;
  if (room)
    why[0] = '\0';
  int rc = check_opts(opts, why, room);
  if (rc < 0)
    return rc;
  ERR_clear_error();
  mp_tls_config *config = mp_mem_zalloc(sizeof *config);
  shared all = { .opts = opts };
  rc = MP_E_NOMEM;
  if (config) {
    atomic_init(&config->refs, 1);
    rc = build(config, &all, why, room);
  }
  X509_STORE_free(all.store);
  sk_X509_pop_free(all.cas, X509_free);
  ERR_clear_error();
  if (rc < 0) {
    if (rc == MP_E_NOMEM)
      mp_tls_say(why, room, "%s", mp_error_text(rc));
    mp_tls_config_unref(config);
    return rc;
  }
  *made = config;
  return 0;
}

mp_tls_config *mp_tls_config_ref(mp_tls_config *config)
{
  atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
  return config;
}

void mp_tls_config_unref(mp_tls_config *config)
{
  if (!config || atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) != 1)
    return;
  for (size_t i = 0; i < config->ctx_count; i++)
    SSL_CTX_free(config->ctxs[i]);
  mp_mem_free(config->ctxs);
  mp_tls_names_dispose(&config->names);
  mp_tls_tickets_unref(config->tickets);
  BIO_meth_free(config->bio);
  mp_mem_free(config);
}

void mp_tls_config_inherit(mp_tls_config *to, mp_tls_config *from)
{
  if (to == from || !to->tickets || !from->tickets)
    return;
  mp_tls_tickets *old = to->tickets;
  to->tickets = mp_tls_tickets_ref(from->tickets);
  mp_tls_tickets_unref(old);
}
