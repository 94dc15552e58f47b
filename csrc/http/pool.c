/* libcurl says which descriptors it wants watched and when it wants to be called; it is called when that happens, and asked afterwards which transfers
 * are over. It is never called from inside one of its own callbacks: Lua runs only when it has returned. */
#include "http/pool.h"

#include <pthread.h>
#include <string.h>

struct mp_http_pool {
  const mp_watch_api *api;
  mp_watch_loop *loop;
  mp_watch_timer *timer;
  CURLM *multi;
  mp_http_transfer *first;
  bool starved; /* there was no memory to set the timer: nothing would wake libcurl */
};

struct mp_http_transfer {
  mp_http_pool *pool;
  mp_http_transfer *prev, *next;
  CURL *easy;
  struct curl_slist *headers, *resolve, *connect_to;
  mp_http_octets head, body;
  size_t max_size;
  bool too_large, starved, doomed;
  void (*done)(void *ctx, const mp_http_result *result);
  void *ctx;
  char error[CURL_ERROR_SIZE];
};

/* ---- octets ------------------------------------------------------------------------------------------------------ */

static bool octets_add(const mp_watch_api *api, mp_http_octets *to, const char *from, size_t len)
{
  if (len > to->cap - to->len) {
    size_t cap = to->cap ? to->cap : 2048;
    while (cap - to->len < len)
      cap *= 2; /* what is there has a ceiling far below SIZE_MAX */
    char *ptr = api->resize(to->ptr, cap);
    if (!ptr)
      return false;
    to->ptr = ptr;
    to->cap = cap;
  }
  memcpy(to->ptr + to->len, from, len);
  to->len += len;
  return true;
}

/* A callback of libcurl: another number than `len` ends the transfer. */
static size_t take(mp_http_transfer *transfer, mp_http_octets *to, size_t max, const char *from, size_t len)
{
  if (len > max - to->len)
    transfer->too_large = true;
  else if (octets_add(transfer->pool->api, to, from, len))
    return len;
  else
    transfer->starved = true;
  return len ? 0 : 1;
}

static size_t on_body(char *from, size_t size, size_t count, void *ctx)
{
  mp_http_transfer *transfer = ctx;
  return take(transfer, &transfer->body, transfer->max_size, from, size * count);
}

/* Of a redirection, of a 1xx and of trailers too: what counts is the last head. */
static size_t on_head(char *from, size_t size, size_t count, void *ctx)
{
  mp_http_transfer *transfer = ctx;
  size_t len = size * count;
  if (len >= 5 && memcmp(from, "HTTP/", 5) == 0)
    transfer->head.len = transfer->body.len = 0;
  return take(transfer, &transfer->head, MP_HTTP_HEAD, from, len);
}

/* ---- libcurl and the loop ---------------------------------------------------------------------------------------- */

/* What a program may want to tell apart. */
static const char *kind_of(const mp_http_transfer *transfer, CURLcode code)
{
  if (transfer->too_large || code == CURLE_FILESIZE_EXCEEDED)
    return "too_large";
  if (transfer->starved)
    return "memory";
  switch (code) {
  case CURLE_OPERATION_TIMEDOUT:
    return "timeout";
  case CURLE_COULDNT_RESOLVE_HOST:
    return "resolve";
  case CURLE_COULDNT_CONNECT:
    return "connect";
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CONNECT_ERROR:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_ISSUER_ERROR:
    return "tls";
  case CURLE_URL_MALFORMAT:
  case CURLE_UNSUPPORTED_PROTOCOL:
    return "url";
  case CURLE_OUT_OF_MEMORY:
    return "memory";
  default:
    return "http";
  }
}

static void transfer_free(mp_http_transfer *transfer)
{
  mp_http_pool *pool = transfer->pool;
  *(transfer->prev ? &transfer->prev->next : &pool->first) = transfer->next;
  if (transfer->next)
    transfer->next->prev = transfer->prev;
  if (transfer->easy) {
    curl_multi_remove_handle(pool->multi, transfer->easy);
    curl_easy_cleanup(transfer->easy);
  }
  curl_slist_free_all(transfer->headers);
  curl_slist_free_all(transfer->resolve);
  curl_slist_free_all(transfer->connect_to);
  pool->api->free(transfer->head.ptr);
  pool->api->free(transfer->body.ptr);
  pool->api->free(transfer);
}

static void finish(mp_http_transfer *transfer, CURLcode code)
{
  mp_http_result result = { .head = &transfer->head, .body = &transfer->body };
  curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &result.status);
  if (code != CURLE_OK) {
    result.kind = kind_of(transfer, code);
    result.why = transfer->too_large ? "the response is larger than is allowed"
                 : transfer->starved ? "out of memory"
                 : *transfer->error  ? transfer->error
                                     : curl_easy_strerror(code);
  }
  /* libcurl lets go of it before anybody else runs: `done` may start the next one, or end the pool's last. */
  curl_multi_remove_handle(transfer->pool->multi, transfer->easy);
  transfer->done(transfer->ctx, &result);
  transfer_free(transfer);
}

static void reap(mp_http_pool *pool)
{
  CURLMsg *message;
  int left;
  while ((message = curl_multi_info_read(pool->multi, &left))) {
    mp_http_transfer *transfer = NULL;
    if (message->msg == CURLMSG_DONE) {
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
      finish(transfer, message->data.result);
    }
  }
}

typedef struct watched {
  mp_http_pool *pool;
  mp_watch_fd *watch;
  curl_socket_t fd;
} watched;

/* Without the timer deadlines are lost, so all that is on its way ends here; but not what those who are told start anew. */
static void give_up(mp_http_pool *pool)
{
  pool->starved = false;
  for (mp_http_transfer *transfer = pool->first; transfer; transfer = transfer->next)
    transfer->doomed = true;
  for (;;) {
    mp_http_transfer *transfer = pool->first;
    while (transfer && !transfer->doomed)
      transfer = transfer->next;
    if (!transfer)
      return;
    finish(transfer, CURLE_OUT_OF_MEMORY);
  }
}

static void act(mp_http_pool *pool, curl_socket_t fd, int mask)
{
  int running;
  curl_multi_socket_action(pool->multi, fd, mask, &running);
  reap(pool);
  if (pool->starved)
    give_up(pool);
}

static void on_ready(void *ctx, int events)
{
  watched *of = ctx; /* may be gone when libcurl returns */
  int mask = (events & MP_WATCH_READ ? CURL_CSELECT_IN : 0) | (events & MP_WATCH_WRITE ? CURL_CSELECT_OUT : 0);
  act(of->pool, of->fd, mask);
}

static void on_time(void *ctx)
{
  act(ctx, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl: watch this descriptor, or no more. Where that cannot be done the transfer stands still, and its deadline ends it. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
  (void)easy;
  mp_http_pool *pool = ctx;
  watched *of = known;
  if (what == CURL_POLL_REMOVE) {
    if (of) {
      pool->api->fd_close(of->watch);
      pool->api->free(of);
      curl_multi_assign(pool->multi, fd, NULL);
    }
    return 0;
  }
  if (!of) {
    of = pool->api->resize(NULL, sizeof *of);
    if (!of)
      return 0;
    *of = (watched){ .pool = pool, .fd = fd };
    if (pool->api->fd_open(&of->watch, pool->loop, fd, on_ready, of) < 0) {
      pool->api->free(of);
      return 0;
    }
    curl_multi_assign(pool->multi, fd, of);
  }
  pool->api->fd_set(of->watch,
                    (what & CURL_POLL_IN ? MP_WATCH_READ : 0) | (what & CURL_POLL_OUT ? MP_WATCH_WRITE : 0));
  return 0;
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
  (void)multi;
  mp_http_pool *pool = ctx;
  if (pool->api->timer_set(pool->timer, ms) < 0)
    pool->starved = true;
  return 0;
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

static void init_once(void)
{
  curl_global_init(CURL_GLOBAL_DEFAULT);
}

int mp_http_pool_new(mp_http_pool **out, const mp_watch_api *api, mp_watch_loop *loop)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT; /* of the process, as what it guards */
  pthread_once(&once, init_once);
  mp_http_pool *pool = api->resize(NULL, sizeof *pool);
  if (!pool)
    return -1;
  *pool = (mp_http_pool){ .api = api, .loop = loop, .multi = curl_multi_init() };
  if (!pool->multi || api->timer_open(&pool->timer, loop, on_time, pool) < 0) {
    curl_multi_cleanup(pool->multi);
    api->free(pool);
    return -1;
  }
  curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
  curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, on_timer);
  curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
  curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, 16L); /* idle ones that are kept */
  *out = pool;
  return 0;
}

void mp_http_pool_free(mp_http_pool *pool)
{
  if (!pool)
    return;
  while (pool->first)
    transfer_free(pool->first);
  curl_multi_cleanup(pool->multi); /* may still speak of descriptors and the timer */
  pool->api->timer_close(pool->timer);
  pool->api->free(pool);
}

static bool set_protocols(CURL *easy, bool insecure)
{
#if LIBCURL_VERSION_NUM >= 0x075500
  const char *allowed = insecure ? "https,http" : "https";
  return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, allowed) == CURLE_OK &&
         curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, allowed) == CURLE_OK;
#else
  long allowed = insecure ? CURLPROTO_HTTPS | CURLPROTO_HTTP : CURLPROTO_HTTPS;
  return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, allowed) == CURLE_OK &&
         curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, allowed) == CURLE_OK;
#endif
}

/* Nothing of the process's surroundings decides: no proxy of the environment, no netrc, no signals. */
static bool set_options(mp_http_transfer *transfer, const mp_http_opts *opts)
{
  CURL *easy = transfer->easy;
  bool ok = set_protocols(easy, opts->insecure);
#define SET(option, value) (ok = ok && curl_easy_setopt(easy, option, value) == CURLE_OK)
  SET(CURLOPT_URL, opts->url);
  SET(CURLOPT_PRIVATE, transfer);
  SET(CURLOPT_ERRORBUFFER, transfer->error);
  SET(CURLOPT_NOSIGNAL, 1L);
  SET(CURLOPT_NOPROGRESS, 1L);
  SET(CURLOPT_PROXY, "");
  SET(CURLOPT_USERAGENT, opts->agent);
  SET(CURLOPT_SSL_VERIFYPEER, 1L);
  SET(CURLOPT_SSL_VERIFYHOST, 2L);
  SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  if (opts->ca_file)
    SET(CURLOPT_CAINFO, opts->ca_file);
  SET(CURLOPT_TIMEOUT_MS, opts->timeout_ms);
  SET(CURLOPT_CONNECTTIMEOUT_MS, opts->connect_ms);
  SET(CURLOPT_FOLLOWLOCATION, opts->redirects > 0 ? 1L : 0L);
  SET(CURLOPT_MAXREDIRS, opts->redirects);
  SET(CURLOPT_WRITEFUNCTION, on_body);
  SET(CURLOPT_WRITEDATA, transfer);
  SET(CURLOPT_HEADERFUNCTION, on_head);
  SET(CURLOPT_HEADERDATA, transfer);
  /* A resolver's thread that cannot be stopped is not waited for; this module stays in memory. */
#if LIBCURL_VERSION_NUM >= 0x075700
  SET(CURLOPT_QUICK_EXIT, 1L);
#endif
  if (opts->body) {
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)opts->body_len);
    SET(CURLOPT_COPYPOSTFIELDS, opts->body);
  }
  /* Named only where libcurl would not come to it by itself: a name given so would outlast a redirection that changes it. */
  bool is_head = strcmp(opts->method, "HEAD") == 0;
  if (!is_head) /* the length that a head speaks of is not sent */
    SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)opts->max_size);
  if (is_head)
    SET(CURLOPT_NOBODY, 1L);
  else if (strcmp(opts->method, opts->body ? "POST" : "GET") != 0)
    SET(CURLOPT_CUSTOMREQUEST, opts->method);
  if (transfer->headers)
    SET(CURLOPT_HTTPHEADER, transfer->headers);
  if (transfer->resolve)
    SET(CURLOPT_RESOLVE, transfer->resolve);
  if (transfer->connect_to)
    SET(CURLOPT_CONNECT_TO, transfer->connect_to);
#undef SET
  return ok;
}

mp_http_transfer *mp_http_start(mp_http_pool *pool, mp_http_opts *opts,
                                void (*done)(void *, const mp_http_result *), void *ctx, const char **why)
{
  mp_http_transfer *transfer = pool->api->resize(NULL, sizeof *transfer);
  *why = "out of memory";
  if (!transfer) {
    curl_slist_free_all(opts->headers);
    curl_slist_free_all(opts->resolve);
    curl_slist_free_all(opts->connect_to);
    return NULL;
  }
  *transfer = (mp_http_transfer){
    .pool = pool,
    .next = pool->first,
    .easy = curl_easy_init(),
    .headers = opts->headers,
    .resolve = opts->resolve,
    .connect_to = opts->connect_to,
    .max_size = opts->max_size,
    .done = done,
    .ctx = ctx,
  };
  if (pool->first)
    pool->first->prev = transfer;
  pool->first = transfer;
  if (!transfer->easy || !set_options(transfer, opts)) {
    *why = transfer->easy ? "libcurl does not take these options" : *why;
    transfer_free(transfer);
    return NULL;
  }
  CURLMcode code = curl_multi_add_handle(pool->multi, transfer->easy);
  if (code != CURLM_OK || pool->starved) { /* others have the timer set: moving it cannot fail */
    *why = code != CURLM_OK ? curl_multi_strerror(code) : *why;
    pool->starved = false;
    transfer_free(transfer);
    return NULL;
  }
  return transfer;
}

void mp_http_cancel(mp_http_transfer *transfer)
{
  transfer_free(transfer);
}
