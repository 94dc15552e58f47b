/* tls/info.c -- what is known of a session after its handshake: names, channel bindings, the peer's certificate. Made once, in a
 * block of the exact size, because it lives as long as the session. */
#include "tls/tls.h"

#include "base/error.h"
#include "tls/client_impl.h"
#include "tls/session_impl.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum {
  NAMES_MOST = 64,      /* alternative names handed on; more are left out */
  TEXT_MOST = 16 << 10, /* octets of all facts */
  BINDING_ROOM = 64     /* a Finished message is 12 to 48 octets (TLS 1.2: 12) */
};

struct mp_tls_known {
  char *text; /* what the views point into */
  mp_str sni, subject, fingerprint, unique, exporter;
  bool verified;
  size_t count;
  mp_str names[];
};

void mp_tls_known_free(struct mp_tls_known *facts)
{
  if (!facts)
    return;
  mp_mem_free(facts->text);
  mp_mem_free(facts);
}

/* While the text grows a fact is a place in it. */
typedef struct span {
  size_t at, len;
} span;

typedef struct draft {
  mp_buf text;
  int failed; /* the first error */
  span sni, subject, fingerprint, unique, exporter;
  bool verified;
  size_t count;
  span names[NAMES_MOST];
} draft;

static span put(draft *d, mp_str s)
{
  span where = { .at = d->text.len, .len = s.len };
  int rc = mp_buf_str(&d->text, s);
  if (rc == 0)
    return where;
  if (!d->failed)
    d->failed = rc;
  return (span){ 0 };
}

/* ---- channel bindings -------------------------------------------------------------------------------------------- */

/* RFC 9266: 32 octets of keying material under this label with an empty context. Before TLS 1.3 they bind the connection only with an
 * extended master secret (RFC 9266 section 4.2, RFC 7627). */
static void bind_exporter(draft *d, SSL *ssl)
{
  static const char label[] = "EXPORTER-Channel-Binding";
  unsigned char key[32];
  if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
    return;
  if (SSL_export_keying_material(ssl, key, sizeof key, label, sizeof label - 1, NULL, 0, 1) == 1)
    d->exporter = put(d, mp_str_of((const char *)key, sizeof key));
  mp_mem_wipe(key, sizeof key);
}

/* RFC 5929 section 3: the first Finished of the handshake, which is the client's, or the server's when it resumes. In a resumed session
 * without an extended master secret a man in the middle can make both of his sides' equal (RFC 7627 section 1): then there is none. */
static void bind_unique(draft *d, SSL *ssl)
{
  bool resumed = SSL_session_reused(ssl) == 1;
  if (SSL_version(ssl) >= TLS1_3_VERSION || (resumed && SSL_get_extms_support(ssl) != 1))
    return;
  char finished[BINDING_ROOM];
  bool ours = resumed == (SSL_is_server(ssl) == 1);
  size_t len = ours ? SSL_get_finished(ssl, finished, sizeof finished)
                    : SSL_get_peer_finished(ssl, finished, sizeof finished);
  if (len > 0 && len <= sizeof finished)
    d->unique = put(d, mp_str_of(finished, len));
}

/* ---- the peer's certificate -------------------------------------------------------------------------------------- */

/* XN_FLAG_RFC2253 escapes control characters and what is not ASCII. */
static void put_subject(draft *d, const X509 *cert)
{
  BIO *bio = BIO_new(BIO_s_mem());
  char *text = NULL;
  if (!bio || X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) < 0) {
    d->failed = d->failed ? d->failed : MP_E_NOMEM;
  } else {
    long len = BIO_get_mem_data(bio, &text);
    /* A subject that does not fit is left out whole: a part of a name is another name. */
    if (len > 0 && (size_t)len <= TEXT_MOST / 4)
      d->subject = put(d, mp_str_of(text, (size_t)len));
  }
  BIO_free(bio);
}

static void put_fingerprint(draft *d, const X509 *cert)
{
  static const char digits[] = "0123456789abcdef";
  unsigned char digest[EVP_MAX_MD_SIZE];
  char hex[2 * EVP_MAX_MD_SIZE];
  unsigned len = 0;
  if (X509_digest(cert, EVP_sha256(), digest, &len) != 1) {
    d->failed = d->failed ? d->failed : MP_E_NOMEM;
    return;
  }
  for (unsigned i = 0; i < len; i++) {
    hex[2 * i] = digits[digest[i] >> 4];
    hex[2 * i + 1] = digits[digest[i] & 15];
  }
  d->fingerprint = put(d, mp_str_of(hex, 2 * (size_t)len));
}

/* A name with a NUL, a control character or a space in it is somebody's trick, whoever signed it. */
static bool printable(mp_str s)
{
  for (size_t i = 0; i < s.len; i++) {
    if (s.ptr[i] < 0x21 || s.ptr[i] > 0x7e)
      return false;
  }
  return s.len > 0;
}

static void put_names(draft *d, const X509 *cert)
{
  GENERAL_NAMES *alt = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(alt) && d->count < NAMES_MOST; i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(alt, i);
    if (name->type != GEN_DNS && name->type != GEN_EMAIL)
      continue;
    const ASN1_IA5STRING *text = name->d.ia5;
    mp_str view = mp_str_of((const char *)ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
    if (printable(view) && view.len <= 320 && d->text.len + view.len <= TEXT_MOST)
      d->names[d->count++] = put(d, view);
  }
  GENERAL_NAMES_free(alt);
}

static void put_peer(draft *d, const mp_tls *tls)
{
  const X509 *cert = SSL_get0_peer_certificate(tls->ssl);
  if (!cert)
    return;
  put_subject(d, cert);
  put_fingerprint(d, cert);
  d->verified = tls->client ? tls->client->verdict.verified : SSL_get_verify_result(tls->ssl) == X509_V_OK;
  if (d->verified || tls->client)
    put_names(d, cert);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static mp_str settle(const struct mp_tls_known *facts, span s)
{
  return s.len ? mp_str_of(facts->text + s.at, s.len) : MP_STR_NULL;
}

static struct mp_tls_known *finish(draft *d)
{
  struct mp_tls_known *facts = mp_mem_zalloc(sizeof *facts + d->count * sizeof facts->names[0]);
  size_t len;
  if (!facts)
    return NULL;
  facts->text = mp_buf_detach(&d->text, &len);
  if (!facts->text) {
    mp_mem_free(facts);
    return NULL;
  }
  facts->sni = settle(facts, d->sni);
  facts->subject = settle(facts, d->subject);
  facts->fingerprint = settle(facts, d->fingerprint);
  facts->unique = settle(facts, d->unique);
  facts->exporter = settle(facts, d->exporter);
  facts->verified = d->verified;
  facts->count = d->count;
  for (size_t i = 0; i < d->count; i++)
    facts->names[i] = settle(facts, d->names[i]);
  return facts;
}

static struct mp_tls_known *gather(const mp_tls *tls)
{
  SSL *ssl = tls->ssl;
  draft d = { .failed = 0 };
  mp_buf_init(&d.text, TEXT_MOST, NULL);
  ERR_clear_error();
  const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (host && mp_tls_hostname(mp_str_c(host)))
    d.sni = put(&d, mp_str_c(host));
  bind_exporter(&d, ssl);
  bind_unique(&d, ssl);
  put_peer(&d, tls);
  struct mp_tls_known *facts = d.failed ? NULL : finish(&d);
  mp_buf_dispose(&d.text);
  ERR_clear_error();
  return facts;
}

void mp_tls_info_get(mp_tls *tls, mp_tls_info *info)
{
  *info = (mp_tls_info){ 0 };
  if (!tls->ready)
    return;
  info->version = mp_str_c(SSL_get_version(tls->ssl));
  info->cipher = mp_str_c(SSL_get_cipher_name(tls->ssl));
  info->resumed = SSL_session_reused(tls->ssl) == 1;
  if (!tls->facts)
    tls->facts = gather(tls);
  const struct mp_tls_known *facts = tls->facts;
  if (!facts)
    return; /* out of memory: the peer is nobody, and nothing can be bound */
  info->sni = facts->sni;
  info->peer_subject = facts->subject;
  info->peer_verified = facts->verified;
  info->peer_names = facts->names;
  info->peer_name_count = facts->count;
  info->peer_fingerprint = facts->fingerprint;
  info->cb_unique = facts->unique;
  info->cb_exporter = facts->exporter;
}
