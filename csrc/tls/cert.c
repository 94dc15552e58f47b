#include "tls/cert.h"

#include "base/error.h"
#include "tls/why.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MOST = 4 << 20, PATH_ROOM = 4096 };

/* ---- files ------------------------------------------------------------------------------------------------------ */

static int read_all(mp_buf *out, int fd, const char *path, char *why, size_t room)
{
  for (;;) {
    char *space = mp_buf_room(out, 4096);
    if (!space) {
      bool full = out->len + 4096 > out->max;
      mp_tls_say(why, room, "%s: %s", path, full ? "too large for a PEM file" : mp_error_text(MP_E_NOMEM));
      return full ? MP_E_FULL : MP_E_NOMEM;
    }
    ssize_t n = read(fd, space, 4096);
    if (n == 0)
      return 0;
    if (n > 0)
      mp_buf_grow(out, (size_t)n);
    else if (errno != EINTR)
      return mp_tls_say_errno(errno, path, why, room);
  }
}

int mp_tls_file(mp_buf *out, const char *path, char *why, size_t room)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return mp_tls_say_errno(errno, path, why, room);
  struct stat st;
  int rc;
  if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
    rc = mp_tls_say_errno(EISDIR, path, why, room);
  } else {
    /* One block from the start, so that no copy of a key stays behind where a buffer grew. */
    size_t expect = st.st_size > 0 && st.st_size < (off_t)(out->max - 4096) ? (size_t)st.st_size : 0;
    (void)mp_buf_room(out, expect + 4096);
    rc = read_all(out, fd, path, why, room);
  }
  close(fd);
  return rc;
}

void mp_tls_file_drop(mp_buf *buf)
{
  mp_mem_wipe(buf->ptr, buf->cap);
  mp_buf_dispose(buf);
}

static bool holds(mp_str text, mp_str word)
{
  return memmem(text.ptr, text.len, word.ptr, word.len) != NULL;
}

/* A file that has no PEM block at all was most likely named by mistake (DER, a folder's index, an empty file). */
static int lacks(mp_str text, const char *path, const char *what, char *why, size_t room)
{
  if (text.len == 0)
    mp_tls_say(why, room, "%s is empty", path);
  else if (!holds(text, MP_STR("-----BEGIN ")))
    mp_tls_say(why, room, "%s is not PEM", path);
  else
    mp_tls_say(why, room, "no %s in %s", what, path);
  return MP_E_TLS;
}

/* ---- certificates ------------------------------------------------------------------------------------------------ */

/* Appends all certificates of `text`; other blocks are passed over. */
static int read_certs(STACK_OF(X509) * list, mp_str text, const char *path, char *why, size_t room)
{
  ERR_clear_error();
  BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
  if (!bio)
    return MP_E_NOMEM;
  int rc = 0, number = 0;
  for (;;) {
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    if (!cert)
      break;
    number++;
    if (!sk_X509_push(list, cert)) {
      X509_free(cert);
      rc = MP_E_NOMEM;
      break;
    }
  }
  BIO_free(bio);
  unsigned long last = ERR_peek_last_error();
  bool end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  if (rc == 0 && !end) {
    mp_tls_say(why, room, "%s: certificate %d is damaged (%s)", path, number + 1, mp_tls_reason("unreadable"));
    rc = MP_E_TLS;
  }
  ERR_clear_error();
  return rc;
}

static int load_certs(STACK_OF(X509) * list, mp_str text, const char *path, char *why, size_t room)
{
  int before = sk_X509_num(list);
  int rc = text.len ? read_certs(list, text, path, why, room) : 0;
  if (rc == 0 && sk_X509_num(list) == before)
    rc = lacks(text, path, "certificate", why, room);
  return rc;
}

int mp_tls_ca_load(STACK_OF(X509) * list, const char *path, char *why, size_t room)
{
  DIR *folder = opendir(path);
  mp_buf text;
  if (!folder) {
    mp_buf_init(&text, FILE_MOST, NULL);
    int rc = mp_tls_file(&text, path, why, room);
    if (rc == 0)
      rc = load_certs(list, mp_buf_view(&text), path, why, room);
    mp_buf_dispose(&text);
    return rc;
  }
  int rc = 0;
  for (struct dirent *entry; rc == 0 && (entry = readdir(folder));) {
    char name[PATH_ROOM];
    struct stat st;
    int n = snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
    /* Links made by c_rehash lead to files of the same folder; twice the same certificate does no harm. */
    if (entry->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof name || stat(name, &st) < 0 ||
        !S_ISREG(st.st_mode))
      continue;
    mp_buf_init(&text, FILE_MOST, NULL);
    rc = mp_tls_file(&text, name, why, room);
    if (rc == 0 && text.len)
      rc = read_certs(list, mp_buf_view(&text), name, why, room);
    mp_buf_dispose(&text);
  }
  closedir(folder);
  if (rc == 0 && sk_X509_num(list) == 0) {
    mp_tls_say(why, room, "no certificate in the folder %s", path);
    rc = MP_E_TLS;
  }
  return rc;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* Nobody sits at a server to type: being asked is all that is wanted to know. */
static int asked_for_passphrase(char *buf, int size, int writing, void *asked)
{
  (void)buf, (void)size, (void)writing;
  *(bool *)asked = true;
  return -1;
}

static int read_key(EVP_PKEY **key, mp_str text, const char *path, char *why, size_t room)
{
  if (text.len == 0)
    return lacks(text, path, "private key", why, room);
  ERR_clear_error();
  BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
  if (!bio)
    return MP_E_NOMEM;
  bool encrypted = false;
  *key = PEM_read_bio_PrivateKey(bio, NULL, asked_for_passphrase, &encrypted);
  BIO_free(bio);
  int rc = 0;
  if (!*key && encrypted) {
    mp_tls_say(why, room, "the key in %s is encrypted; a key without a passphrase is needed", path);
    rc = MP_E_TLS;
  } else if (!*key && !holds(text, MP_STR("PRIVATE KEY-----"))) {
    rc = lacks(text, path, "private key", why, room);
  } else if (!*key) {
    mp_tls_say(why, room, "%s: the key is damaged (%s)", path, mp_tls_reason("unreadable"));
    rc = MP_E_TLS;
  }
  ERR_clear_error();
  return rc;
}

int mp_tls_key_load(EVP_PKEY **key, const char *path, char *why, size_t room)
{
  mp_buf text;
  mp_buf_init(&text, FILE_MOST, NULL);
  int rc = mp_tls_file(&text, path, why, room);
  if (rc == 0)
    rc = read_key(key, mp_buf_view(&text), path, why, room);
  mp_tls_file_drop(&text);
  return rc;
}

/* ---- pairs ------------------------------------------------------------------------------------------------------- */

static void warn_of_dates(const X509 *leaf, const char *path, char *why, size_t room)
{
  const ASN1_TIME *from = X509_get0_notBefore(leaf), *until = X509_get0_notAfter(leaf);
  struct tm tm;
  if (X509_cmp_current_time(until) < 0 && ASN1_TIME_to_tm(until, &tm))
    mp_tls_say(why, room, "%s expired %04d-%02d-%02d", path, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
  else if (X509_cmp_current_time(from) > 0 && ASN1_TIME_to_tm(from, &tm))
    mp_tls_say(why, room, "%s is not valid before %04d-%02d-%02d", path, tm.tm_year + 1900, tm.tm_mon + 1,
               tm.tm_mday);
}

static int load_pair(mp_tls_pair *pair, mp_str text, const char *cert_path, const char *key_path, char *why,
                     size_t room)
{
  pair->chain = sk_X509_new_null();
  if (!pair->chain)
    return MP_E_NOMEM;
  int rc = load_certs(pair->chain, text, cert_path, why, room);
  if (rc < 0)
    return rc;
  pair->leaf = sk_X509_shift(pair->chain);
  rc = key_path ? mp_tls_key_load(&pair->key, key_path, why, room)
                : read_key(&pair->key, text, cert_path, why, room);
  if (rc < 0)
    return rc;
  if (X509_check_private_key(pair->leaf, pair->key) != 1) {
    ERR_clear_error();
    if (key_path)
      mp_tls_say(why, room, "%s does not belong to %s", key_path, cert_path);
    else
      mp_tls_say(why, room, "the key in %s does not belong to its first certificate", cert_path);
    return MP_E_TLS;
  }
  warn_of_dates(pair->leaf, cert_path, why, room);
  return 0;
}

int mp_tls_pair_load(mp_tls_pair *pair, const char *cert_path, const char *key_path, char *why, size_t room)
{
  *pair = (mp_tls_pair){ 0 };
  mp_buf text;
  mp_buf_init(&text, FILE_MOST, NULL);
  int rc = mp_tls_file(&text, cert_path, why, room);
  if (rc == 0)
    rc = load_pair(pair, mp_buf_view(&text), cert_path, key_path, why, room);
  mp_tls_file_drop(&text);
  if (rc < 0)
    mp_tls_pair_dispose(pair);
  return rc;
}

void mp_tls_pair_dispose(mp_tls_pair *pair)
{
  X509_free(pair->leaf);
  sk_X509_pop_free(pair->chain, X509_free);
  EVP_PKEY_free(pair->key);
  *pair = (mp_tls_pair){ 0 };
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static mp_str asn1_view(const ASN1_STRING *s)
{
  return mp_str_of((const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

int mp_tls_pair_names(mp_tls_names *names, const X509 *leaf, size_t target)
{
  bool any = false;
  int rc = 0;
  GENERAL_NAMES *alt = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
  for (int i = 0; rc == 0 && i < sk_GENERAL_NAME_num(alt); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(alt, i);
    if (name->type != GEN_DNS)
      continue;
    any = true;
    rc = mp_tls_names_add(names, asn1_view(name->d.dNSName), target);
  }
  GENERAL_NAMES_free(alt);
  if (rc < 0 || any)
    return rc;
  const X509_NAME *subject = X509_get_subject_name(leaf);
  int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at >= 0)
    rc = mp_tls_names_add(names, asn1_view(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))), target);
  return rc;
}
