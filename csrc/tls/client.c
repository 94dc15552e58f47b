#include "tls/client.h"

#include "base/error.h"
#include "base/ip.h"
#include "tls/client_impl.h"
#include "tls/session_impl.h"
#include "tls/sni.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

enum { USAGE_TA = 2, USAGE_EE = 3, SELECTOR_CERT = 0, SELECTOR_SPKI = 1, TLSA_DATA_MOST = 65535 };

/* ---- what is asked for ------------------------------------------------------------------------------------------- */

static bool is_ip(mp_str name)
{
  mp_ip ip;
  return mp_ip_parse(&ip, name);
}

static bool is_whole(const mp_tls_tlsa *record)
{
  const unsigned char *begin = (const unsigned char *)record->data.ptr, *at = begin;
  bool whole;
  if (record->selector == SELECTOR_CERT) {
    X509 *cert = d2i_X509(NULL, &at, (long)record->data.len);
    whole = cert && X509_get0_pubkey(cert);
    X509_free(cert);
  } else {
    EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)record->data.len);
    whole = key != NULL;
    EVP_PKEY_free(key);
  }
  ERR_clear_error();
  return whole && at == begin + record->data.len;
}

static bool is_usable(const mp_tls_tlsa *record)
{
  if ((record->usage != USAGE_TA && record->usage != USAGE_EE) || record->selector > SELECTOR_SPKI ||
      record->data.len > TLSA_DATA_MOST)
    return false;
  switch (record->mtype) {
  case 0:
    return record->data.len > 0 && is_whole(record);
  case 1:
    return record->data.len == 32;
  case 2:
    return record->data.len == 64;
  default:
    return false;
  }
}

size_t mp_tls_dane_usable(const mp_tls_tlsa *records, size_t count)
{
  size_t usable = 0;
  for (size_t i = 0; i < count; i++)
    usable += is_usable(&records[i]);
  return usable;
}

static bool names_fit(const mp_tls_target *target)
{
  for (size_t i = 0; i < target->name_count; i++) {
    bool ip = is_ip(target->names[i]);
    if (ip ? target->trust == MP_TLS_TRUST_DANE : !mp_tls_hostname(target->names[i]))
      return false;
  }
  return true;
}

static int check_target(const mp_tls_target *target)
{
  bool ok = target->name_count <= MP_TLS_REFERENCES_MOST && target->pin_count <= MP_TLS_PINS_MOST &&
            target->tlsa_count <= MP_TLS_TLSA_MOST && names_fit(target) &&
            (target->sni.len == 0 || is_ip(target->sni) || mp_tls_hostname(target->sni));
  switch (target->trust) {
  case MP_TLS_TRUST_NONE:
    break;
  case MP_TLS_TRUST_NAMES:
    ok = ok && target->name_count > 0;
    break;
  case MP_TLS_TRUST_PINS:
    ok = ok && target->pin_count > 0;
    break;
  case MP_TLS_TRUST_DANE:
    ok = ok && target->name_count > 0 && mp_tls_dane_usable(target->tlsa, target->tlsa_count) > 0;
    break;
  default:
    ok = false;
  }
  return ok ? 0 : MP_E_INVALID;
}

/* ---- a copy of it ------------------------------------------------------------------------------------------------ */

static mp_str without_dot(mp_str name)
{
  return name.len && name.ptr[name.len - 1] == '.' ? mp_str_sub(name, 0, name.len - 1) : name;
}

static int copy_target(mp_tls_client *client, const mp_tls_target *target)
{
  mp_buf names;
  mp_buf_init(&names, MP_TLS_REFERENCES_MOST * 256, NULL);
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < target->name_count; i++) {
    rc = mp_buf_str(&names, without_dot(target->names[i]));
    if (rc == 0)
      rc = mp_buf_char(&names, '\0');
  }
  size_t len;
  client->trust = target->trust;
  client->name_count = target->name_count;
  client->names = rc == 0 ? mp_buf_detach(&names, &len) : NULL;
  mp_buf_dispose(&names);
  if (target->trust == MP_TLS_TRUST_PINS) {
    client->pin_count = target->pin_count;
    client->pins = mp_mem_dup(target->pins, target->pin_count * sizeof target->pins[0]);
    if (!client->pins)
      return MP_E_NOMEM;
  }
  return client->names ? rc : MP_E_NOMEM;
}

static void drop_target(mp_tls_client *client)
{
  mp_mem_free(client->names);
  mp_mem_free(client->pins);
  client->names = NULL;
  client->pins = NULL;
}

static bool add_octets(EVP_MD_CTX *md, mp_str s)
{
  uint64_t len = s.len;
  return EVP_DigestUpdate(md, &len, sizeof len) == 1 && (len == 0 || EVP_DigestUpdate(md, s.ptr, s.len) == 1);
}

static bool add_tlsa(EVP_MD_CTX *md, const mp_tls_tlsa *record)
{
  const unsigned char head[] = { record->usage, record->selector, record->mtype };
  return EVP_DigestUpdate(md, head, sizeof head) == 1 && add_octets(md, record->data);
}

/* Everything that decides what a certificate is worth goes into the key (RFC 7672 section 2.2: a session is no way round it). The number
 * of each list comes first, so that no list can pass for another. */
static int name_session(mp_tls_client *client, const mp_tls_target *target)
{
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  const uint64_t counts[] = { target->trust, target->name_count, target->pin_count, target->tlsa_count };
  bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
            EVP_DigestUpdate(md, counts, sizeof counts) == 1 && add_octets(md, target->session_key) &&
            add_octets(md, target->sni);
  for (size_t i = 0; ok && i < target->name_count; i++)
    ok = add_octets(md, target->names[i]);
  for (size_t i = 0; ok && i < target->pin_count; i++)
    ok = EVP_DigestUpdate(md, &target->pins[i], sizeof target->pins[i]) == 1;
  for (size_t i = 0; ok && i < target->tlsa_count; i++)
    ok = add_tlsa(md, &target->tlsa[i]);
  ok = ok && EVP_DigestFinal_ex(md, client->key.octets, NULL) == 1;
  EVP_MD_CTX_free(md);
  client->keyed = ok;
  return ok ? 0 : MP_E_NOMEM;
}

/* ---- the session ------------------------------------------------------------------------------------------------- */

static int set_sni(SSL *ssl, mp_str name)
{
  char host[256];
  name = without_dot(name);
  if (name.len == 0 || is_ip(name)) /* RFC 6066 section 3: literal addresses are not permitted */
    return 0;
  memcpy(host, name.ptr, name.len);
  host[name.len] = '\0';
  return SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host) == 1 ? 0 : MP_E_NOMEM;
}

/* The names are looked at under DANE-TA alone: DANE-EE binds the key to the name by itself (RFC 7672 section 3.1.1). */
static int set_dane(SSL *ssl, const mp_tls_client *client, const mp_tls_target *target)
{
  const char *name = client->names;
  if (SSL_dane_enable(ssl, name) != 1)
    return MP_E_NOMEM;
  for (size_t i = 1; i < client->name_count; i++) {
    name += strlen(name) + 1;
    if (SSL_add1_host(ssl, name) != 1)
      return MP_E_NOMEM;
  }
  SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  size_t added = 0;
  for (size_t i = 0; i < target->tlsa_count; i++) {
    const mp_tls_tlsa *record = &target->tlsa[i];
    if (!is_usable(record))
      continue;
    int rc = SSL_dane_tlsa_add(ssl, record->usage, record->selector, record->mtype,
                               (const unsigned char *)record->data.ptr, record->data.len);
    if (rc < 0)
      return MP_E_NOMEM;
    added += rc > 0;
  }
  /* With no record OpenSSL would fall back to authorities. */
  return added ? 0 : MP_E_INVALID;
}

/* Mail that may go in clear may go to a server of any strength; no level and no lack of RFC 5746 is worse than that. */
static void set_lenient(SSL *ssl)
{
  SSL_set_security_level(ssl, 0);
  SSL_set_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT);
}

static int offer_session(mp_tls *tls, const mp_tls_target *target)
{
  mp_tls_client *client = tls->client;
  mp_tls_resume *store = client->config->sessions;
  if (!store || target->session_key.len == 0)
    return 0;
  int rc = name_session(client, target);
  if (rc < 0)
    return rc;
  SSL_SESSION *session = mp_tls_resume_take(store, &client->key, &client->earlier, mp_tls_resume_now());
  if (session)
    client->offered = SSL_set_session(tls->ssl, session) == 1;
  SSL_SESSION_free(session);
  return 0;
}

static int set_up(mp_tls *tls, const mp_tls_target *target)
{
  mp_tls_client *client = tls->client;
  if (SSL_set_app_data(tls->ssl, tls) != 1)
    return MP_E_NOMEM;
  SSL_set_connect_state(tls->ssl);
  int rc = copy_target(client, target);
  if (rc == 0)
    rc = set_sni(tls->ssl, target->sni);
  if (rc == 0 && client->trust == MP_TLS_TRUST_DANE)
    rc = set_dane(tls->ssl, client, target);
  if (rc == 0 && client->trust == MP_TLS_TRUST_NONE)
    set_lenient(tls->ssl);
  return rc == 0 ? offer_session(tls, target) : rc;
}

int mp_tls_connect(mp_tls **made, mp_tls_client_config *config, mp_pool *pool, const mp_tls_target *target)
{
  *made = NULL;
  int rc = check_target(target);
  if (rc < 0)
    return rc;
  mp_tls *tls;
  rc = mp_tls_session_new(&tls, config->ctx, config->bio, pool);
  if (rc < 0)
    return rc;
  tls->client = mp_mem_zalloc(sizeof *tls->client);
  rc = MP_E_NOMEM;
  if (tls->client) {
    tls->client->config = mp_tls_client_config_ref(config);
    rc = set_up(tls, target);
  }
  ERR_clear_error();
  if (rc < 0)
    mp_tls_free(tls);
  else
    *made = tls;
  return rc;
}

void mp_tls_client_free(mp_tls_client *client)
{
  if (!client)
    return;
  drop_target(client);
  mp_tls_verdict_dispose(&client->verdict);
  mp_tls_verdict_dispose(&client->earlier);
  mp_tls_client_config_unref(client->config);
  mp_mem_free(client);
}

/* ---- what came of it --------------------------------------------------------------------------------------------- */

int mp_tls_client_keep(SSL *ssl, SSL_SESSION *session)
{
  const mp_tls *tls = SSL_get_app_data(ssl);
  const mp_tls_client *client = tls->client;
  if (client->keyed && client->judged && !client->refused)
    mp_tls_resume_put(client->config->sessions, &client->key, session, &client->verdict, mp_tls_resume_now());
  return 0; /* the object stays OpenSSL's */
}

int mp_tls_client_failed(const mp_tls_client *client)
{
  if (client->offered)
    mp_tls_resume_drop(client->config->sessions, &client->key);
  if (client->starved)
    return MP_E_NOMEM;
  return client->refused ? MP_E_CRYPTO : 0;
}

const char *mp_tls_client_why(const mp_tls_client *client)
{
  return client->starved || !client->verdict.why_not ? mp_error_text(MP_E_NOMEM) : client->verdict.why_not;
}

int mp_tls_client_done(mp_tls *tls)
{
  mp_tls_client *client = tls->client;
  drop_target(client);
  if (SSL_session_reused(tls->ssl) == 1 && client->offered) {
    mp_tls_verdict_dispose(&client->verdict);
    client->verdict = client->earlier;
    client->earlier = (mp_tls_verdict){ 0 };
    client->judged = true;
    return 0;
  }
  mp_tls_verdict_dispose(&client->earlier);
  if (client->judged)
    return 0;
  /* Ciphers without a certificate are there only where somebody has chosen them. */
  static const char anonymous[] = "the server has shown no certificate";
  client->verdict.why_not = mp_mem_dup(anonymous, sizeof anonymous - 1);
  client->starved = !client->verdict.why_not;
  client->refused = client->starved || client->trust != MP_TLS_TRUST_NONE;
  client->judged = !client->starved;
  return mp_tls_client_failed(client);
}

void mp_tls_proof_get(const mp_tls *tls, mp_tls_proof *facts)
{
  static const char *const hows[] = {
    [MP_TLS_HOW_NONE] = "none",       [MP_TLS_HOW_NAMES] = "names",     [MP_TLS_HOW_PIN] = "pin",
    [MP_TLS_HOW_DANE_TA] = "dane-ta", [MP_TLS_HOW_DANE_EE] = "dane-ee",
  };
  *facts = (mp_tls_proof){ .verified = false };
  if (!tls->client || !tls->client->judged)
    return;
  const mp_tls_verdict *verdict = &tls->client->verdict;
  facts->verified = verdict->verified;
  facts->how = mp_str_c(hows[verdict->how]);
  facts->why_not = mp_str_c(verdict->why_not);
}
