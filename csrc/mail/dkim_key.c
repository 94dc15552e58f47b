#include "mail/dkim_key.h"

#include "base/base64.h"
#include "base/error.h"
#include "mail/tags.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

enum { PUBLIC_MOST = 4096, ED25519 = 32, EXPONENT_MOST = 64 };

struct mp_dkim_key {
  EVP_PKEY *pkey;
  EVP_PKEY_CTX *rsa;   /* made ready at the first use */
  EVP_MD_CTX *ed25519; /* the same */
  bool secret;
  mp_dkim_key_facts facts;
};

static int key_new(mp_dkim_key **out, EVP_PKEY *pkey, mp_dkim_kind kind, bool secret)
{
  mp_dkim_key *key = mp_mem_zalloc(sizeof *key);
  if (!key) {
    EVP_PKEY_free(pkey);
    return MP_E_NOMEM;
  }
  key->pkey = pkey;
  key->secret = secret;
  key->facts.kind = kind;
  key->facts.bits = (unsigned)EVP_PKEY_get_bits(pkey);
  key->facts.sha256 = true;
  *out = key;
  return 0;
}

void mp_dkim_key_free(mp_dkim_key *key)
{
  if (!key)
    return;
  EVP_PKEY_CTX_free(key->rsa);
  EVP_MD_CTX_free(key->ed25519);
  EVP_PKEY_free(key->pkey);
  mp_mem_free(key);
}

const mp_dkim_key_facts *mp_dkim_key_look(const mp_dkim_key *key)
{
  return &key->facts;
}

/* ---- key records ------------------------------------------------------------------------------------------------- */

static bool lists(const mp_tags *tags, mp_str name, mp_str word)
{
  const mp_tag *tag = mp_tags_find(tags, name);
  size_t pos = 0;
  mp_str item;
  while (tag && mp_tag_next(tag->value, ':', &pos, &item))
    if (mp_str_eq(item, word))
      return true;
  return false;
}

/* RFC 6376 says RSAPublicKey and publishes SubjectPublicKeyInfo: both are about. */
static EVP_PKEY *read_rsa(mp_str der)
{
  const unsigned char *p = (const unsigned char *)der.ptr, *end = p + der.len;
  EVP_PKEY *pkey = d2i_PUBKEY(NULL, &p, (long)der.len);
  if (!pkey) {
    p = (const unsigned char *)der.ptr;
    pkey = d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, (long)der.len);
  }
  if (pkey && (p != end || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA)) {
    EVP_PKEY_free(pkey);
    pkey = NULL;
  }
  ERR_clear_error();
  return pkey;
}

/* A long exponent makes checking as dear as its owner likes. */
static bool is_cheap(const EVP_PKEY *pkey)
{
  BIGNUM *e = NULL;
  bool cheap = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e) && BN_num_bits(e) <= EXPONENT_MOST;
  BN_free(e);
  return cheap && EVP_PKEY_get_bits(pkey) <= MP_DKIM_RSA_MOST;
}

static int read_public(mp_dkim_key **key, mp_dkim_kind kind, mp_str octets, const char **why)
{
  EVP_PKEY *pkey;
  if (kind == MP_DKIM_ED25519) {
    *why = "the key has not the length of an Ed25519 key";
    if (octets.len != ED25519)
      return MP_E_SYNTAX;
    pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)octets.ptr, octets.len);
  } else {
    *why = "the key is no RSA key";
    pkey = read_rsa(octets);
  }
  if (!pkey)
    return MP_E_SYNTAX;
  if (kind == MP_DKIM_RSA && !is_cheap(pkey)) {
    EVP_PKEY_free(pkey);
    *why = "the RSA key is larger than anybody needs";
    return MP_E_SYNTAX;
  }
  return key_new(key, pkey, kind, false);
}

static int decode(mp_str value, mp_buf *out)
{
  mp_buf text;
  mp_buf_init(&text, PUBLIC_MOST * 4, NULL);
  int rc = mp_tag_squeeze(value, &text);
  if (rc == 0)
    rc = mp_base64_decode(out, mp_buf_view(&text));
  mp_buf_dispose(&text);
  return rc == MP_E_FULL ? MP_E_SYNTAX : rc;
}

/* What the tags say beside the key itself. */
static int check_tags(const mp_tags *tags, mp_dkim_kind *kind, const char **why)
{
  const mp_tag *v = mp_tags_find(tags, MP_STR("v")), *k = mp_tags_find(tags, MP_STR("k"));
  *why = "the key record is not of version DKIM1";
  if (v && (v != tags->list || !mp_str_eq(v->value, MP_STR("DKIM1"))))
    return MP_E_SYNTAX;
  *why = "the key is of an unknown kind";
  if (!k || mp_str_eq(k->value, MP_STR("rsa")))
    *kind = MP_DKIM_RSA;
  else if (mp_str_eq(k->value, MP_STR("ed25519")))
    *kind = MP_DKIM_ED25519;
  else
    return MP_E_SYNTAX;
  *why = "the key is not for mail";
  if (mp_tags_find(tags, MP_STR("s")) && !lists(tags, MP_STR("s"), MP_STR("*")) &&
      !lists(tags, MP_STR("s"), MP_STR("email")))
    return MP_E_DENIED;
  return 0;
}

int mp_dkim_key_record(mp_dkim_key **out, mp_str record, const char **why)
{
  mp_tags tags;
  mp_dkim_kind kind;
  *why = "the key record is malformed";
  if (mp_tags_parse(&tags, record) < 0)
    return MP_E_SYNTAX;
  const mp_tag *p = mp_tags_find(&tags, MP_STR("p"));
  if (!p)
    return MP_E_SYNTAX;
  int rc = check_tags(&tags, &kind, why);
  if (rc < 0)
    return rc;
  *why = "the key has been revoked";
  if (p->value.len == 0)
    return MP_E_DENIED;
  *why = "the key is no base64";
  mp_buf octets;
  mp_buf_init(&octets, PUBLIC_MOST, NULL);
  rc = decode(p->value, &octets);
  if (rc == 0)
    rc = read_public(out, kind, mp_buf_view(&octets), why);
  mp_buf_dispose(&octets);
  if (rc < 0)
    return rc;
  (*out)->facts.testing = lists(&tags, MP_STR("t"), MP_STR("y"));
  (*out)->facts.strict = lists(&tags, MP_STR("t"), MP_STR("s"));
  (*out)->facts.sha256 = !mp_tags_find(&tags, MP_STR("h")) || lists(&tags, MP_STR("h"), MP_STR("sha256"));
  return 0;
}

/* ---- private keys ------------------------------------------------------------------------------------------------ */

static int no_password(char *buf, int size, int writing, void *user)
{
  (void)buf, (void)size, (void)writing, (void)user; /* or the library would ask for one at the terminal */
  return -1;
}

static EVP_PKEY *read_pem(mp_str text)
{
  BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
  EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
  BIO_free(bio);
  ERR_clear_error();
  return pkey;
}

static int read_seed(mp_str text, EVP_PKEY **pkey)
{
  mp_buf seed;
  mp_buf_init(&seed, ED25519, NULL);
  seed.secret = true;
  int rc = decode(text, &seed);
  if (rc == 0 && seed.len == ED25519)
    *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
                                         (const unsigned char *)mp_buf_view(&seed).ptr, ED25519);
  mp_buf_dispose(&seed);
  return rc == MP_E_NOMEM ? rc : 0;
}

int mp_dkim_key_private(mp_dkim_key **key, mp_str text, const char **why)
{
  *why = "it is no private key in PEM";
  if (text.len == 0 || text.len > MP_DKIM_KEY_TEXT)
    return MP_E_SYNTAX;
  bool pem = memmem(text.ptr, text.len, "-----BEGIN", 10) != NULL;
  EVP_PKEY *pkey = pem ? read_pem(text) : NULL;
  if (!pem && read_seed(text, &pkey) < 0)
    return MP_E_NOMEM;
  if (!pkey)
    return MP_E_SYNTAX;
  int id = EVP_PKEY_get_base_id(pkey), bits = EVP_PKEY_get_bits(pkey);
  bool known = id == EVP_PKEY_ED25519 || id == EVP_PKEY_RSA;
  if (!known || (id == EVP_PKEY_RSA && (bits < MP_DKIM_RSA_LEAST || bits > MP_DKIM_RSA_MOST))) {
    EVP_PKEY_free(pkey);
    *why = known ? "an RSA key has to have 1024 to 8192 bits" : "it is neither an RSA nor an Ed25519 key";
    return MP_E_SYNTAX;
  }
  return key_new(key, pkey, id == EVP_PKEY_RSA ? MP_DKIM_RSA : MP_DKIM_ED25519, true);
}

int mp_dkim_key_make(mp_dkim_key **key, mp_dkim_kind kind, unsigned bits)
{
  if (kind == MP_DKIM_RSA && (bits < MP_DKIM_RSA_LEAST || bits > MP_DKIM_RSA_MOST))
    return MP_E_INVALID;
  EVP_PKEY *pkey = kind == MP_DKIM_RSA ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits)
                                       : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
  return pkey ? key_new(key, pkey, kind, true) : MP_E_NOMEM;
}

int mp_dkim_key_pem(const mp_dkim_key *key, mp_buf *out)
{
  if (!key->secret)
    return MP_E_INVALID;
  BIO *bio = BIO_new(BIO_s_secmem());
  char *text = NULL;
  int rc = MP_E_NOMEM;
  if (bio && PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL)) {
    long len = BIO_get_mem_data(bio, &text);
    rc = mp_buf_add(out, text, (size_t)len);
  }
  BIO_free(bio);
  return rc;
}

int mp_dkim_key_text(const mp_dkim_key *key, mp_buf *out)
{
  size_t before = out->len;
  unsigned char raw[ED25519], *der = NULL;
  size_t raw_len = sizeof raw;
  int rc = MP_E_NOMEM;
  if (key->facts.kind == MP_DKIM_ED25519) {
    if (EVP_PKEY_get_raw_public_key(key->pkey, raw, &raw_len))
      rc = mp_buf_str(out, MP_STR("v=DKIM1; k=ed25519; p="));
    if (rc == 0)
      rc = mp_base64_encode(out, mp_str_of((const char *)raw, raw_len));
  } else {
    int len = i2d_PUBKEY(key->pkey, &der);
    if (len > 0)
      rc = mp_buf_str(out, MP_STR("v=DKIM1; k=rsa; p="));
    if (rc == 0)
      rc = mp_base64_encode(out, mp_str_of((const char *)der, (size_t)len));
    OPENSSL_free(der);
  }
  if (rc < 0)
    mp_buf_cut(out, before);
  return rc;
}

/* ---- signatures -------------------------------------------------------------------------------------------------- */

/* Setting a context up costs a quarter of what checking a signature does, so a key keeps its own, one for signing or one for checking. */
static EVP_PKEY_CTX *rsa_ready(mp_dkim_key *key, int (*init)(EVP_PKEY_CTX *))
{
  if (key->rsa)
    return key->rsa;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);
  if (ctx && init(ctx) > 0 && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0 &&
      EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) > 0) {
    key->rsa = ctx;
    return ctx;
  }
  EVP_PKEY_CTX_free(ctx);
  return NULL;
}

static EVP_MD_CTX *ed25519_ready(mp_dkim_key *key, int (*init)(EVP_MD_CTX *, EVP_PKEY_CTX **, const EVP_MD *,
                                                               ENGINE *, EVP_PKEY *))
{
  /* Without a key it is made ready again for the one that it has. */
  if (key->ed25519 && init(key->ed25519, NULL, NULL, NULL, NULL) > 0)
    return key->ed25519;
  EVP_MD_CTX_free(key->ed25519);
  key->ed25519 = EVP_MD_CTX_new();
  if (key->ed25519 && init(key->ed25519, NULL, NULL, NULL, key->pkey) > 0)
    return key->ed25519;
  EVP_MD_CTX_free(key->ed25519);
  key->ed25519 = NULL;
  return NULL;
}

int mp_dkim_key_sign(mp_dkim_key *key, const unsigned char digest[32], unsigned char *out, size_t *len)
{
  if (!key->secret)
    return MP_E_INVALID;
  bool ok;
  if (key->facts.kind == MP_DKIM_RSA) {
    EVP_PKEY_CTX *ctx = rsa_ready(key, EVP_PKEY_sign_init);
    ok = ctx && EVP_PKEY_sign(ctx, out, len, digest, 32) > 0;
  } else {
    EVP_MD_CTX *ctx = ed25519_ready(key, EVP_DigestSignInit);
    ok = ctx && EVP_DigestSign(ctx, out, len, digest, 32) > 0;
  }
  if (!ok)
    ERR_clear_error();
  return ok ? 0 : MP_E_NOMEM;
}

int mp_dkim_key_verify(mp_dkim_key *key, const unsigned char digest[32], mp_str signature)
{
  const unsigned char *sig = (const unsigned char *)signature.ptr;
  int good = -1;
  if (key->secret)
    return MP_E_INVALID;
  if (key->facts.kind == MP_DKIM_RSA) {
    EVP_PKEY_CTX *ctx = rsa_ready(key, EVP_PKEY_verify_init);
    if (ctx)
      good = EVP_PKEY_verify(ctx, sig, signature.len, digest, 32) == 1;
  } else {
    EVP_MD_CTX *ctx = ed25519_ready(key, EVP_DigestVerifyInit);
    if (ctx)
      good = EVP_DigestVerify(ctx, sig, signature.len, digest, 32) == 1;
  }
  if (good != 1)
    ERR_clear_error();
  return good < 0 ? MP_E_NOMEM : good ? 0 : MP_E_CRYPTO;
}
