/* tls/verify.c -- is this the server that was meant? One callback looks at its chain, and puts what came of it in words. */
#include "tls/client_impl.h"

#include "base/error.h"
#include "base/ip.h"
#include "tls/session_impl.h"
#include "tls/sni.h"
#include "tls/why.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

/* RFC 6125 section 6.4.3: a wildcard is a whole label. OpenSSL takes it for the first label alone, and for one label. */
#define HOST_FLAGS X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS

enum {
  SUBJECT_ROOM = 160, /* of somebody's name in a line */
  LIST_ROOM = 200,
  LIST_MOST = 3 /* names in a line before "and 7 more" */
};

/* ---- words ------------------------------------------------------------------------------------------------------- */

/* Always returns X509_V_ERR_..., so that a caller can say and return in one. */
static int refuse(mp_tls_client *client, int code, const char *line)
{
  mp_mem_free(client->verdict.why_not);
  client->verdict.why_not = mp_mem_dup(line, strlen(line));
  client->starved = client->starved || !client->verdict.why_not;
  return code;
}

static const char *name_text(const X509_NAME *name, char out[SUBJECT_ROOM])
{
  snprintf(out, SUBJECT_ROOM, "an issuer without a name");
  BIO *bio = BIO_new(BIO_s_mem());
  char *text;
  if (bio && X509_NAME_entry_count(name) > 0 && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
    long len = BIO_get_mem_data(bio, &text);
    bool whole = len < SUBJECT_ROOM - 4;
    snprintf(out, SUBJECT_ROOM, "%.*s%s", (int)(whole ? len : SUBJECT_ROOM - 4), text, whole ? "" : "...");
  }
  BIO_free(bio);
  return out;
}

static int refuse_date(mp_tls_client *client, int code, const X509 *cert, int depth)
{
  bool expired = code == X509_V_ERR_CERT_HAS_EXPIRED;
  struct tm tm = { .tm_year = 0 };
  char whose[SUBJECT_ROOM], line[MP_TLS_WHY_MAX];
  (void)ASN1_TIME_to_tm(expired ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), &tm);
  if (depth > 0)
    name_text(X509_get_subject_name(cert), whose);
  mp_tls_say(line, sizeof line, "certificate%s%s %s %04d-%02d-%02d", depth > 0 ? " of " : "",
             depth > 0 ? whose : "", expired ? "expired" : "is not valid before", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday);
  return refuse(client, code, line);
}

static int refuse_issuer(mp_tls_client *client, int code, const X509 *cert)
{
  char issuer[SUBJECT_ROOM], line[MP_TLS_WHY_MAX];
  mp_tls_say(line, sizeof line, "%s is not a trusted authority", name_text(X509_get_issuer_name(cert), issuer));
  return refuse(client, code, line);
}

/* Adds ", NAME", or " or NAME" for the last of them. */
static void list_add(char out[LIST_ROOM], const char *link, const char *name, size_t len)
{
  size_t at = strlen(out);
  snprintf(out + at, LIST_ROOM - at, "%s%.*s", at ? link : "", (int)len, name);
}

static void list_end(char out[LIST_ROOM], int total)
{
  char more[32];
  int n = snprintf(more, sizeof more, " and %d more", total - LIST_MOST);
  if (total > LIST_MOST)
    list_add(out, "", more, (size_t)n);
}

/* What one alternative name says; false where it is neither a host nor an address. */
static bool present(const GENERAL_NAME *name, char out[LIST_ROOM], bool wanted)
{
  if (name->type != GEN_DNS && name->type != GEN_IPADD)
    return false;
  const ASN1_STRING *value = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
  const char *octets = (const char *)ASN1_STRING_get0_data(value);
  size_t len = (size_t)ASN1_STRING_length(value);
  char text[MP_IP_TEXT];
  mp_ip ip = { .octets = { [10] = 0xff, [11] = 0xff } };
  if (name->type == GEN_IPADD) {
    if (len != 4 && len != 16)
      return false;
    memcpy(ip.octets + sizeof ip.octets - len, octets, len);
    len = mp_ip_format(&ip, text);
    octets = text;
  } else if (!mp_tls_name_fits(mp_str_of(octets, len))) {
    octets = "a malformed name"; /* of which a part could be read as another */
    len = strlen(octets);
  }
  if (wanted)
    list_add(out, ", ", octets, len > 64 ? 64 : len);
  return true;
}

static void presented(const X509 *cert, char out[LIST_ROOM])
{
  int total = 0;
  GENERAL_NAMES *alt = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; i < sk_GENERAL_NAME_num(alt); i++)
    total += present(sk_GENERAL_NAME_value(alt, i), out, total < LIST_MOST);
  GENERAL_NAMES_free(alt);
  list_end(out, total);
}

static const char *next_name(const char *name)
{
  return name + strlen(name) + 1;
}

static int refuse_names(mp_tls_client *client, const X509 *cert)
{
  char theirs[LIST_ROOM] = "", ours[LIST_ROOM] = "", line[MP_TLS_WHY_MAX];
  const char *name = client->names;
  for (size_t i = 0; i < client->name_count; i++, name = next_name(name)) {
    if (i < LIST_MOST)
      list_add(ours, i + 1 == client->name_count ? " or " : ", ", name, strlen(name));
  }
  list_end(ours, (int)client->name_count);
  presented(cert, theirs);
  if (theirs[0])
    mp_tls_say(line, sizeof line, "certificate is for %s, not %s", theirs, ours);
  else
    mp_tls_say(line, sizeof line, "certificate is for no host, not %s", ours);
  return refuse(client, X509_V_ERR_HOSTNAME_MISMATCH, line);
}

/* OpenSSL's verdict on the chain, in our words. */
static int refuse_chain(mp_tls_client *client, X509_STORE_CTX *store)
{
  int code = X509_STORE_CTX_get_error(store), depth = X509_STORE_CTX_get_error_depth(store);
  const X509 *leaf = X509_STORE_CTX_get0_cert(store), *cert = X509_STORE_CTX_get_current_cert(store);
  char line[MP_TLS_WHY_MAX];
  if (!cert)
    cert = leaf;
  switch (code) {
  case X509_V_OK: /* a failure without a reason */
  case X509_V_ERR_OUT_OF_MEM:
    client->starved = true;
    return X509_V_ERR_OUT_OF_MEM;
  case X509_V_ERR_CERT_HAS_EXPIRED:
  case X509_V_ERR_CERT_NOT_YET_VALID:
    return refuse_date(client, code, cert, depth);
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    return refuse(client, code, "self-signed certificate");
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    return refuse_issuer(client, code, cert);
  case X509_V_ERR_HOSTNAME_MISMATCH:
    return refuse_names(client, leaf);
  case X509_V_ERR_DANE_NO_MATCH:
    return refuse(client, code, "no TLSA record matches");
  default:
    mp_tls_say(line, sizeof line, "certificate is refused: %s", X509_verify_cert_error_string(code));
    return refuse(client, code, line);
  }
}

/* ---- ways to be sure --------------------------------------------------------------------------------------------- */

static int accept_as(mp_tls_client *client, mp_tls_how how)
{
  client->verdict.verified = true;
  client->verdict.how = how;
  return X509_V_OK;
}

static bool has_name(X509 *cert, const char *name)
{
  mp_ip ip;
  if (!mp_ip_parse(&ip, mp_str_c(name)))
    return X509_check_host(cert, name, 0, HOST_FLAGS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
  size_t skip = mp_ip_is4(&ip) ? 12 : 0;
  return X509_check_ip(cert, ip.octets + skip, sizeof ip.octets - skip, 0) == 1;
}

static int by_names(mp_tls_client *client, X509_STORE_CTX *store)
{
  if (X509_verify_cert(store) != 1)
    return refuse_chain(client, store);
  X509 *leaf = X509_STORE_CTX_get0_cert(store);
  const char *name = client->names;
  for (size_t i = 0; i < client->name_count; i++, name = next_name(name)) {
    if (has_name(leaf, name))
      return accept_as(client, MP_TLS_HOW_NAMES);
  }
  if (client->name_count == 0)
    return refuse(client, X509_V_ERR_HOSTNAME_MISMATCH, "there is no name to hold the certificate against");
  return refuse_names(client, leaf);
}

static bool pin_of(const X509 *cert, mp_tls_pin *whole, mp_tls_pin *key)
{
  unsigned char *der = NULL;
  int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
  bool ok = len > 0 && EVP_Digest(der, (size_t)len, key->octets, NULL, EVP_sha256(), NULL) == 1 &&
            X509_digest(cert, EVP_sha256(), whole->octets, NULL) == 1;
  OPENSSL_free(der);
  return ok;
}

static int by_pins(mp_tls_client *client, const X509 *leaf)
{
  mp_tls_pin whole, key;
  if (!pin_of(leaf, &whole, &key)) {
    client->starved = true;
    return X509_V_ERR_OUT_OF_MEM;
  }
  for (size_t i = 0; i < client->pin_count; i++) {
    if (memcmp(&client->pins[i], &whole, sizeof whole) == 0 || memcmp(&client->pins[i], &key, sizeof key) == 0)
      return accept_as(client, MP_TLS_HOW_PIN);
  }
  char hex[2 * MP_TLS_PIN_LEN + 1], line[MP_TLS_WHY_MAX];
  for (size_t i = 0; i < sizeof whole; i++)
    snprintf(hex + 2 * i, 3, "%02x", whole.octets[i]);
  mp_tls_say(line, sizeof line, "fingerprint %s of the certificate is not one of those expected", hex);
  return refuse(client, X509_V_ERR_CERT_REJECTED, line);
}

/* Records, names for DANE-TA and the rule that DANE-EE looks at neither names nor dates stand in the SSL object (client.c). */
static int by_dane(mp_tls_client *client, X509_STORE_CTX *store, SSL *ssl)
{
  uint8_t usage = 0;
  SSL_set_verify_result(ssl, X509_V_OK); /* the record is told only beside it */
  if (X509_verify_cert(store) != 1)
    return refuse_chain(client, store);
  if (SSL_get0_dane_tlsa(ssl, &usage, NULL, NULL, NULL, NULL) >= 0 && (usage == 2 || usage == 3))
    return accept_as(client, usage == 2 ? MP_TLS_HOW_DANE_TA : MP_TLS_HOW_DANE_EE);
  return refuse(client, X509_V_ERR_DANE_NO_MATCH, "no TLSA record matches");
}

static int judge(mp_tls_client *client, X509_STORE_CTX *store, SSL *ssl)
{
  /* A session that takes any certificate has no level; what its certificate is worth is told as it is told elsewhere. */
  X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store), client->config->level);
  switch (client->trust) {
  case MP_TLS_TRUST_PINS:
    return by_pins(client, X509_STORE_CTX_get0_cert(store));
  case MP_TLS_TRUST_DANE:
    return by_dane(client, store, ssl);
  default:
    return by_names(client, store);
  }
}

int mp_tls_client_verify(X509_STORE_CTX *store, void *unused)
{
  (void)unused;
  SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
  mp_tls *tls = SSL_get_app_data(ssl);
  mp_tls_client *client = tls->client;
  int code = judge(client, store, ssl);
  client->verdict.at_s = mp_tls_resume_now();
  client->judged = !client->starved;
  client->refused = client->starved || (code != X509_V_OK && client->trust != MP_TLS_TRUST_NONE);
  /* The alert is made of the code. */
  X509_STORE_CTX_set_error(store, client->starved   ? X509_V_ERR_OUT_OF_MEM
                                  : client->refused ? code
                                                    : X509_V_OK);
  return client->refused ? 0 : 1;
}
