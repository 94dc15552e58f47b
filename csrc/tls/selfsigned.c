/* tls/selfsigned.c -- a certificate for a first run. Each file appears whole or not at all, and nothing that is there is replaced: a
 * file is written under another name, synced, and linked to its own. */
#include "tls/tls.h"

#include "base/error.h"
#include "base/ip.h"
#include "tls/cert.h"
#include "tls/why.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  DAYS = 825,       /* what browsers and Apple's mail bear at most */
  COMMON_NAME = 64, /* ub-common-name, RFC 5280 appendix A */
  DAY_S = 24 * 3600
};

static int broken(const char *what, char *why, size_t room)
{
  mp_tls_say(why, room, "%s: %s", what, mp_tls_reason(mp_error_text(MP_E_NOMEM)));
  return MP_E_TLS;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool there(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0;
}

/* Makes the folders above `path`. */
static int make_folders(const char *path, char *why, size_t room)
{
  char *copy = mp_mem_dup(path, strlen(path));
  if (!copy)
    return MP_E_NOMEM;
  int rc = 0;
  for (char *slash = strchr(copy + 1, '/'); rc == 0 && slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    struct stat st;
    bool is_there = stat(copy, &st) == 0;
    if (is_there && !S_ISDIR(st.st_mode))
      rc = mp_tls_say_errno(ENOTDIR, copy, why, room);
    else if (!is_there && mkdir(copy, 0755) < 0 && errno != EEXIST)
      rc = mp_tls_say_errno(errno, copy, why, room);
    *slash = '/';
  }
  mp_mem_free(copy);
  return rc;
}

/* The name in the folder is on disk only when the folder is. */
static void sync_folder(const char *path)
{
  char *copy = mp_mem_dup(path, strlen(path));
  if (!copy)
    return;
  int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    (void)fsync(fd);
    close(fd);
  }
  mp_mem_free(copy);
}

static bool write_all(int fd, mp_str s)
{
  while (s.len) {
    ssize_t n = write(fd, s.ptr, s.len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    s.ptr += n;
    s.len -= (size_t)n;
  }
  return true;
}

/* Moves `from` to `to` unless `to` is there: 1 moved, 0 it was there, -1 with errno. Some file systems know no hard links; on those
 * the look before the move leaves a gap that only two first runs at once could fall into. */
static int settle(const char *from, const char *to)
{
  if (link(from, to) == 0) {
    unlink(from);
    return 1;
  }
  if (errno == EEXIST) {
    unlink(from);
    return 0;
  }
  if (there(to)) {
    unlink(from);
    return 0;
  }
  return rename(from, to) == 0 ? 1 : -1;
}

/* Returns 1 written, 0 the file was there already, or an error. */
static int write_file(const char *path, mp_str text, mode_t mode, char *why, size_t room)
{
  mp_buf name;
  mp_buf_init(&name, PATH_MAX, NULL);
  int rc = mp_buf_fmt(&name, "%s.XXXXXX", path);
  if (rc == 0)
    rc = mp_buf_char(&name, '\0');
  if (rc < 0) {
    mp_buf_dispose(&name);
    return rc;
  }
  char *temporary = name.ptr + name.off;
  int fd = mkostemp(temporary, O_CLOEXEC);
  if (fd < 0) {
    rc = mp_tls_say_errno(errno, path, why, room);
    mp_buf_dispose(&name);
    return rc;
  }
  bool ok = fchmod(fd, mode) == 0 && write_all(fd, text) && fsync(fd) == 0;
  int sys = errno;
  if (close(fd) < 0 && ok) {
    sys = errno;
    ok = false;
  }
  rc = ok ? settle(temporary, path) : -1;
  if (rc < 0) {
    if (ok)
      sys = errno;
    unlink(temporary);
    rc = mp_tls_say_errno(sys, path, why, room);
  } else {
    sync_folder(path);
  }
  mp_buf_dispose(&name);
  return rc;
}

/* ---- key and certificate ----------------------------------------------------------------------------------------- */

/* Leaves a key in *key and its file in place. A key that is there is used, never replaced: a run that ended between the two files,
 * or another that is on its way, left it. */
static int provide_key(EVP_PKEY **key, const char *path, char *why, size_t room)
{
  if (there(path))
    return mp_tls_key_load(key, path, why, room);
  *key = EVP_EC_gen("P-256");
  BIO *bio = BIO_new(BIO_s_secmem());
  if (!*key || !bio || PEM_write_bio_PKCS8PrivateKey(bio, *key, NULL, NULL, 0, NULL, NULL) != 1) {
    BIO_free(bio);
    return broken("a key could not be made", why, room);
  }
  char *text;
  long len = BIO_get_mem_data(bio, &text);
  int rc = write_file(path, mp_str_of(text, (size_t)len), 0600, why, room);
  BIO_free(bio);
  if (rc == 0) { /* somebody was faster */
    EVP_PKEY_free(*key);
    *key = NULL;
    return mp_tls_key_load(key, path, why, room);
  }
  return rc < 0 ? rc : 0;
}

static bool add_dns(GENERAL_NAMES *names, const char *host)
{
  GENERAL_NAME *name = GENERAL_NAME_new();
  ASN1_IA5STRING *text = ASN1_IA5STRING_new();
  if (!name || !text || ASN1_STRING_set(text, host, -1) != 1 || !sk_GENERAL_NAME_push(names, name)) {
    ASN1_IA5STRING_free(text);
    GENERAL_NAME_free(name);
    return false;
  }
  GENERAL_NAME_set0_value(name, GEN_DNS, text);
  return true;
}

static bool add_ip(GENERAL_NAMES *names, const mp_ip *ip)
{
  GENERAL_NAME *name = GENERAL_NAME_new();
  ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
  int skip = mp_ip_is4(ip) ? 12 : 0;
  if (!name || !octets || ASN1_OCTET_STRING_set(octets, ip->octets + skip, 16 - skip) != 1 ||
      !sk_GENERAL_NAME_push(names, name)) {
    ASN1_OCTET_STRING_free(octets);
    GENERAL_NAME_free(name);
    return false;
  }
  GENERAL_NAME_set0_value(name, GEN_IPADD, octets);
  return true;
}

static bool add_names(X509 *cert, const char *hostname)
{
  GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
  mp_ip ip, four, six;
  bool ok = names && mp_ip_parse(&four, MP_STR("127.0.0.1")) && mp_ip_parse(&six, MP_STR("::1"));
  if (ok && hostname && strcmp(hostname, "localhost") != 0)
    ok = mp_ip_parse(&ip, mp_str_c(hostname)) ? add_ip(names, &ip) : add_dns(names, hostname);
  ok = ok && add_dns(names, "localhost") && add_ip(names, &four) && add_ip(names, &six) &&
       X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1;
  GENERAL_NAMES_free(names);
  return ok;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
  X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
  bool ok = ext && X509_add_ext(cert, ext, -1) == 1;
  X509_EXTENSION_free(ext);
  return ok;
}

/* 16 random octets, the topmost bit clear so that the number is positive (RFC 5280 section 4.1.2.2). */
static bool set_serial(X509 *cert)
{
  unsigned char octets[16];
  if (RAND_bytes(octets, sizeof octets) != 1)
    return false;
  octets[0] = (unsigned char)((octets[0] & 0x7f) | 0x40);
  BIGNUM *number = BN_bin2bn(octets, sizeof octets, NULL);
  bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
  BN_free(number);
  return ok;
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *hostname)
{
  const char *common = hostname && strlen(hostname) <= COMMON_NAME ? hostname : "localhost";
  X509_NAME *name = X509_get_subject_name(cert);
  /* A day back, for a peer whose clock is behind. */
  return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
         X509_gmtime_adj(X509_getm_notBefore(cert), -(long)DAY_S) &&
         X509_gmtime_adj(X509_getm_notAfter(cert), (long)(DAYS - 1) * DAY_S) && X509_set_pubkey(cert, key) == 1 &&
         X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)common, -1,
                                    -1, 0) == 1 &&
         X509_set_issuer_name(cert, name) == 1 && add_names(cert, hostname) &&
         add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
         add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
         add_extension(cert, NID_ext_key_usage, "serverAuth") &&
         add_extension(cert, NID_subject_key_identifier, "hash") && X509_sign(cert, key, EVP_sha256()) > 0;
}

static int make_cert(EVP_PKEY *key, const char *path, const char *hostname, char *why, size_t room)
{
  X509 *cert = X509_new();
  BIO *bio = BIO_new(BIO_s_mem());
  int rc;
  if (cert && bio && fill(cert, key, hostname) && PEM_write_bio_X509(bio, cert) == 1) {
    char *text;
    long len = BIO_get_mem_data(bio, &text);
    rc = write_file(path, mp_str_of(text, (size_t)len), 0644, why, room);
  } else {
    rc = broken("a certificate could not be made", why, room);
  }
  BIO_free(bio);
  X509_free(cert);
  return rc;
}

int mp_tls_selfsigned(const char *cert_path, const char *key_path, const char *hostname, char *why, size_t room)
{
  mp_ip ip;
  if (room)
    why[0] = '\0';
  if (strcmp(cert_path, key_path) == 0) {
    mp_tls_say(why, room, "%s: certificate and key need a file each", cert_path);
    return MP_E_INVALID;
  }
  if (hostname && !mp_tls_hostname(mp_str_c(hostname)) && !mp_ip_parse(&ip, mp_str_c(hostname))) {
    mp_tls_say(why, room, "\"%s\" is not a host name", hostname);
    return MP_E_INVALID;
  }
  if (there(cert_path)) {
    if (there(key_path))
      return 0;
    /* The key goes first, so a certificate alone is not ours to replace. */
    mp_tls_say(why, room, "%s is there, but its key %s is not", cert_path, key_path);
    return MP_E_EXISTS;
  }
  ERR_clear_error();
  EVP_PKEY *key = NULL;
  int rc = make_folders(cert_path, why, room);
  if (rc == 0)
    rc = make_folders(key_path, why, room);
  if (rc == 0)
    rc = provide_key(&key, key_path, why, room);
  if (rc == 0)
    rc = make_cert(key, cert_path, hostname, why, room);
  EVP_PKEY_free(key);
  ERR_clear_error();
  if (rc == MP_E_NOMEM)
    mp_tls_say(why, room, "%s", mp_error_text(rc));
  return rc;
}
