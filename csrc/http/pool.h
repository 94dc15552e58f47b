/* http/pool.h -- HTTP requests of one worker: libcurl's multi interface on the loop of moonpost.core (api/watch.h). One thread only. */
#ifndef MP_HTTP_POOL_H
#define MP_HTTP_POOL_H

#include "api/watch.h"

#include <curl/curl.h>

enum {
  MP_HTTP_HEAD = 65536, /* octets of a response's head, over all its lines */
};

typedef struct mp_http_pool mp_http_pool;
typedef struct mp_http_transfer mp_http_transfer;

typedef struct mp_http_octets {
  char *ptr;
  size_t len, cap;
} mp_http_octets;

/* What is wanted. Strings are copied; the lists pass over to the transfer, which frees them whatever happens. */
typedef struct mp_http_opts {
  const char *method, *url;
  const char *body; /* NULL: none */
  size_t body_len;
  struct curl_slist *headers;    /* "Name: value" */
  struct curl_slist *resolve;    /* "+host:port:address,address" */
  struct curl_slist *connect_to; /* "host:port:address:port" */
  const char *ca_file;           /* NULL: the system's */
  const char *agent;
  long timeout_ms, connect_ms;
  size_t max_size; /* octets of a response's body */
  long redirects;  /* to follow */
  bool insecure;   /* http:// is allowed; https:// is verified all the same */
} mp_http_opts;

typedef struct mp_http_result {
  const char *kind; /* NULL: there is a response; else what went wrong, for programs */
  const char *why;  /* one line about it */
  long status;
  const mp_http_octets *head, *body; /* the head with its line ends, of the last response */
} mp_http_result;

/* 0 or negative: memory, or libcurl cannot be used. */
int mp_http_pool_new(mp_http_pool **pool, const mp_watch_api *api, mp_watch_loop *loop);
void mp_http_pool_free(mp_http_pool *pool); /* transfers on their way are cancelled; NULL does nothing */

/* Starts one. `done` is called once on a later turn, unless it is cancelled; the result and all in it last until it returns, the transfer
 * is gone then. It may start and cancel others, but not free the pool. NULL with one line in *why. */
mp_http_transfer *mp_http_start(mp_http_pool *pool, mp_http_opts *opts,
                                void (*done)(void *ctx, const mp_http_result *result), void *ctx,
                                const char **why);
void mp_http_cancel(mp_http_transfer *transfer); /* `done` is not called any more */

#endif
