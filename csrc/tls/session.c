/* tls/session.c -- one session over a BIO of our own: OpenSSL reads straight from the slice that was fed, and writes into a buffer
 * that comes from the pool and goes back when it is drained. So an idle session holds the SSL object and nothing of ours. */
#include "tls/tls.h"

#include "base/error.h"
#include "tls/client_impl.h"
#include "tls/session_impl.h"
#include "tls/why.h"

#include <limits.h>
#include <openssl/err.h>

enum {
  OUT_MOST = 1 << 20,  /* ciphertext that may wait */
  RECORD_MOST = 16384, /* plaintext of a record (RFC 8446 section 5.1) */
  RECORD_OVERHEAD = 128, /* header, explicit IV, tag or MAC and padding of one record, with something to spare */
  BESIDES = 512          /* an alert or a key update in front */
};

/* ---- the BIO ----------------------------------------------------------------------------------------------------- */

static int bio_read(BIO *bio, char *to, int room)
{
  mp_tls *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (room <= 0)
    return 0;
  if (tls->unread == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  size_t n = tls->unread < (size_t)room ? tls->unread : (size_t)room;
  memcpy(to, tls->in, n);
  tls->in += n;
  tls->unread -= n;
  return (int)n;
}

static int bio_write(BIO *bio, const char *from, int len)
{
  mp_tls *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0)
    return 0;
  int rc = mp_buf_add(&tls->out, from, (size_t)len);
  if (rc < 0) {
    tls->starved = rc;
    return -1;
  }
  return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *ptr)
{
  (void)bio, (void)number, (void)ptr;
  /* The handshake flushes its flights; what we are given is written already. */
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
  BIO_set_init(bio, 1);
  return 1;
}

BIO_METHOD *mp_tls_bio_method(void)
{
  /* No number of its own: OpenSSL has only 127 of them for a process, and a reload makes a method. */
  BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "session");
  if (!method || BIO_meth_set_read(method, bio_read) != 1 || BIO_meth_set_write(method, bio_write) != 1 ||
      BIO_meth_set_ctrl(method, bio_ctrl) != 1 || BIO_meth_set_create(method, bio_create) != 1) {
    BIO_meth_free(method);
    return NULL;
  }
  return method;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

int mp_tls_session_new(mp_tls **made, SSL_CTX *ctx, const BIO_METHOD *method, mp_pool *pool)
{
  *made = NULL;
  mp_tls *tls = mp_mem_zalloc(sizeof *tls);
  if (!tls)
    return MP_E_NOMEM;
  ERR_clear_error();
  mp_buf_init(&tls->out, OUT_MOST, pool);
  tls->ssl = SSL_new(ctx);
  BIO *bio = BIO_new(method);
  if (!tls->ssl || !bio) {
    BIO_free(bio);
    mp_tls_free(tls);
    ERR_clear_error();
    return MP_E_NOMEM;
  }
  BIO_set_data(bio, tls);
  SSL_set_bio(tls->ssl, bio, bio);
  *made = tls;
  return 0;
}

int mp_tls_accept(mp_tls **made, mp_tls_config *config, mp_pool *pool)
{
  int rc = mp_tls_session_new(made, config->ctxs[0], config->bio, pool);
  if (rc < 0)
    return rc;
  (*made)->config = mp_tls_config_ref(config);
  SSL_set_accept_state((*made)->ssl);
  return 0;
}

void mp_tls_free(mp_tls *tls)
{
  if (!tls)
    return;
  SSL_free(tls->ssl);
  mp_tls_config_unref(tls->config);
  mp_tls_client_free(tls->client);
  mp_tls_known_free(tls->facts);
  mp_buf_dispose(&tls->out);
  mp_mem_free(tls->why);
  mp_mem_free(tls);
}

/* ---- failure ----------------------------------------------------------------------------------------------------- */

static void drop_input(mp_tls *tls)
{
  tls->in = NULL;
  tls->unread = 0;
}

static int end(mp_tls *tls, int error, const char *reason)
{
  char line[MP_TLS_WHY_MAX];
  long verdict = SSL_get_verify_result(tls->ssl);
  if (error == MP_E_TLS && verdict != X509_V_OK && strcmp(reason, "certificate verify failed") == 0)
    mp_tls_say(line, sizeof line, "%s: %s", reason, X509_verify_cert_error_string(verdict));
  else
    mp_tls_say(line, sizeof line, "%s", reason);
  tls->why = mp_mem_dup(line, strlen(line));
  tls->failed = error;
  drop_input(tls);
  return error;
}

/* What an OpenSSL call that returned `rc` <= 0 meant: 0 more ciphertext is needed, MP_E_EOF, or the end of the session. */
static int judge(mp_tls *tls, int rc)
{
  int error = SSL_get_error(tls->ssl, rc);
  if (tls->starved) {
    ERR_clear_error();
    return end(tls, tls->starved, mp_error_text(tls->starved));
  }
  switch (error) {
  case SSL_ERROR_WANT_READ:
    return 0;
  case SSL_ERROR_ZERO_RETURN:
    if (!tls->ready)
      return end(tls, MP_E_TLS, "the peer closed before the handshake was done");
    /* Octets behind close_notify are not the peer's word (RFC 8446 section 6.1): they are dropped here, and with `eof` set no later
     * call reads any. A server that fell back to reading them as plain text was Exim's CVE-2026-45185. */
    tls->eof = true;
    drop_input(tls);
    return MP_E_EOF;
  default:
    rc = tls->client ? mp_tls_client_failed(tls->client) : 0;
    if (rc == 0)
      return end(tls, MP_E_TLS, mp_tls_reason("unexpected failure"));
    ERR_clear_error();
    return end(tls, rc, mp_tls_client_why(tls->client));
  }
}

const char *mp_tls_why(const mp_tls *tls)
{
  if (tls->why)
    return tls->why;
  return tls->failed ? mp_error_text(tls->failed) : "";
}

/* ---- ciphertext -------------------------------------------------------------------------------------------------- */

void mp_tls_feed(mp_tls *tls, const void *in, size_t len)
{
  if (tls->eof || tls->failed)
    return;
  tls->in = in;
  tls->unread = len;
}

size_t mp_tls_unread(const mp_tls *tls)
{
  return tls->unread;
}

mp_str mp_tls_output(const mp_tls *tls)
{
  return mp_buf_view(&tls->out);
}

void mp_tls_sent(mp_tls *tls, size_t len)
{
  mp_buf_consume(&tls->out, len);
}

/* ---- plaintext --------------------------------------------------------------------------------------------------- */

int mp_tls_handshake(mp_tls *tls)
{
  if (tls->failed)
    return tls->failed;
  if (tls->ready || tls->eof)
    return 1;
  ERR_clear_error();
  int rc = SSL_do_handshake(tls->ssl);
  if (rc != 1)
    return judge(tls, rc);
  if (tls->client && (rc = mp_tls_client_done(tls)) < 0)
    return end(tls, rc, mp_tls_client_why(tls->client));
  tls->ready = true;
  return 1;
}

bool mp_tls_ready(const mp_tls *tls)
{
  return tls->ready;
}

mp_ssize mp_tls_read(mp_tls *tls, void *out, size_t room)
{
  if (tls->failed)
    return tls->failed;
  if (tls->eof)
    return MP_E_EOF;
  if (!tls->ready)
    return MP_E_MISUSE;
  if (room == 0)
    return 0;
  ERR_clear_error();
  int rc = SSL_read(tls->ssl, out, room > INT_MAX ? INT_MAX : (int)room);
  return rc > 0 ? rc : judge(tls, rc);
}

int mp_tls_write(mp_tls *tls, const void *in, size_t len)
{
  if (tls->failed)
    return tls->failed;
  if (!tls->ready || tls->closed)
    return MP_E_MISUSE;
  if (len == 0)
    return 0;
  /* Room for the worst case is made first: a record that was sealed but found no place would leave the stream with a hole. */
  if (len > OUT_MOST)
    return MP_E_FULL;
  size_t most = len + (len / RECORD_MOST + 1) * RECORD_OVERHEAD + BESIDES;
  if (most > OUT_MOST || tls->out.len > OUT_MOST - most)
    return MP_E_FULL;
  if (!mp_buf_room(&tls->out, most))
    return MP_E_NOMEM;
  ERR_clear_error();
  int rc = SSL_write(tls->ssl, in, (int)len);
  if (rc > 0)
    return 0;
  rc = judge(tls, rc);
  /* The BIO never says "later", so there is nothing to wait for. */
  return rc == 0 ? end(tls, MP_E_TLS, "unexpected failure") : rc;
}

int mp_tls_shutdown(mp_tls *tls)
{
  if (tls->failed)
    return tls->failed;
  if (!tls->ready || tls->closed)
    return 0;
  tls->closed = true;
  ERR_clear_error();
  int rc = SSL_shutdown(tls->ssl);
  if (rc >= 0)
    return 0;
  rc = judge(tls, rc);
  return rc == MP_E_EOF ? 0 : rc;
}
