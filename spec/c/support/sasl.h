/* support/sasl.h -- both ends of a SASL exchange: our server, libgsasl's client, and a script that keeps credentials. */
#ifndef MP_SPEC_SASL_H
#define MP_SPEC_SASL_H

#include "smtp/sasl_impl.h"
#include "support/check.h"

#include <pthread.h>

static const mp_sasl_opts defaults = {
  .hostname = { "mx.example.org", 14 },
  .secret = { "0123456789abcdef", 16 },
  .cb_unique = { "unique-data\0x", 13 },
  .cb_exporter = { "exporter-data\0x", 15 },
  .iterations = 64, /* the tests are not about patience */
};

static const mp_credentials nobody;

__attribute__((unused)) static void *work_on(void *job)
{
  ((mp_job *)job)->run(job);
  return NULL;
}

/* Leads an exchange over credentials and jobs until it wants something of the client, or is over. Jobs run on a thread of their
 * own, which is where they run in earnest. `*jobs` counts them. */
__attribute__((unused)) static int advance(mp_sasl *sasl, int state, const mp_credentials *credentials, int *jobs)
{
  for (;;) {
    if (state == MP_SASL_CREDENTIALS) {
      state = mp_sasl_credentials(sasl, credentials);
    } else if (state == MP_SASL_JOB) {
      mp_job *job = mp_sasl_job(sasl);
      pthread_t thread;
      if (!CHECK(job) || !CHECK(!mp_sasl_job(sasl)) || !CHECK(pthread_create(&thread, NULL, work_on, job) == 0))
        return MP_E_MISUSE;
      pthread_join(thread, NULL);
      ++*jobs;
      state = mp_sasl_worked(sasl, job);
    } else {
      return state;
    }
  }
}

typedef struct party {
  mp_mech mech;
  const char *user, *password, *authzid;
  mp_str unique, exporter; /* what the client thinks of the channel */
  const mp_credentials *credentials;
  const mp_sasl_opts *opts; /* NULL: defaults */
  bool prompt;              /* the client waits for an empty challenge with its initial response */
  int jobs;                 /* out */
  int client;               /* out: what libgsasl says */
} party;

__attribute__((unused)) static void set64(Gsasl_session *client, Gsasl_property property, mp_str octets)
{
  char *text;
  if (octets.len && gsasl_base64_to(octets.ptr, octets.len, &text, NULL) == GSASL_OK) {
    gsasl_property_set(client, property, text);
    gsasl_free(text);
  }
}

/* Holds a whole conversation and returns the server's last state. */
__attribute__((unused)) static int converse(party *p)
{
  mp_sasl_ctx *ctx = NULL;
  mp_sasl *sasl = NULL;
  Gsasl *gsasl = NULL;
  Gsasl_session *client = NULL;
  int state = mp_sasl_ctx_new(&ctx);
  if (state == 0)
    state = mp_sasl_new(&sasl, ctx, p->mech, p->opts ? p->opts : &defaults);
  if (state == 0 && CHECK(gsasl_init(&gsasl) == GSASL_OK) &&
      CHECK(gsasl_client_start(gsasl, mp_mech_name(p->mech), &client) == GSASL_OK)) {
    gsasl_property_set(client, GSASL_AUTHID, p->user);
    gsasl_property_set(client, GSASL_PASSWORD, p->password);
    if (p->authzid)
      gsasl_property_set(client, GSASL_AUTHZID, p->authzid);
    set64(client, GSASL_CB_TLS_UNIQUE, p->unique);
    set64(client, GSASL_CB_TLS_EXPORTER, p->exporter);
    bool first = p->mech != MP_MECH_LOGIN && p->mech != MP_MECH_CRAM_MD5 && !p->prompt;
    mp_str challenge = MP_STR_NULL;
    p->client = GSASL_NEEDS_MORE;
    p->jobs = 0;
    state = MP_SASL_MORE;
    if (!first) {
      state = advance(sasl, mp_sasl_step(sasl, MP_STR_NULL), p->credentials, &p->jobs);
      challenge = mp_sasl_challenge(sasl);
    }
    for (int round = 0; state == MP_SASL_MORE && round < 8; round++) {
      char *out = NULL;
      size_t len = 0;
      if (p->client == GSASL_NEEDS_MORE) {
        p->client = gsasl_step(client, challenge.ptr, challenge.len, &out, &len);
        if (p->client != GSASL_OK && p->client != GSASL_NEEDS_MORE)
          break;
      }
      state = advance(sasl, mp_sasl_step(sasl, mp_str_of(out ? out : "", len)), p->credentials, &p->jobs);
      challenge = mp_sasl_challenge(sasl);
      gsasl_free(out);
    }
  }
  if (state == MP_SASL_DONE)
    CHECK_EQ_STR(mp_sasl_user(sasl), mp_str_c(p->user));
  if (client)
    gsasl_finish(client);
  if (gsasl)
    gsasl_done(gsasl);
  mp_sasl_free(sasl);
  mp_sasl_ctx_free(ctx);
  return state;
}

__attribute__((unused)) static bool is_plus(mp_mech mech)
{
  return mech == MP_MECH_SCRAM_SHA_1_PLUS || mech == MP_MECH_SCRAM_SHA_256_PLUS;
}

__attribute__((unused)) static party party_of(mp_mech mech, const char *password, const mp_credentials *credentials)
{
  party p = { .mech = mech, .user = "tim", .password = password, .credentials = credentials };
  if (is_plus(mech))
    p.exporter = defaults.cb_exporter;
  return p;
}

static const mp_mech passwords[] = { MP_MECH_PLAIN,
                                     MP_MECH_LOGIN,
                                     MP_MECH_CRAM_MD5,
                                     MP_MECH_SCRAM_SHA_1,
                                     MP_MECH_SCRAM_SHA_1_PLUS,
                                     MP_MECH_SCRAM_SHA_256,
                                     MP_MECH_SCRAM_SHA_256_PLUS };
enum { PASSWORDS = sizeof passwords / sizeof *passwords };

/* Made with crypt(3) of "correct horse": SHA-512, yescrypt, bcrypt. */
static const char *const hashes[] = {
  "$6$rounds=1000$c3ponfqkJq0Ogx8k$1wnXuXGRVTNTD6luFcFR3wD2HpOoZ3wSU/cqIApW77orblX/KtRVwZsKy850Hb7e5YYfONdrGQU8UTRMvOXqq.",
  "$y$j75$1234567890abcdefghij./$5VemdESdCqEpfgG47BAEcFCLo9DqJjWSti0s8xl3iB2",
  "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
};

typedef struct server {
  mp_sasl_ctx *ctx;
  mp_sasl *sasl;
} server;

__attribute__((unused)) static server open_server(mp_mech mech, const mp_sasl_opts *opts)
{
  server s = { 0 };
  if (CHECK_EQ_INT(mp_sasl_ctx_new(&s.ctx), 0))
    CHECK_EQ_INT(mp_sasl_new(&s.sasl, s.ctx, mech, opts ? opts : &defaults), 0);
  return s;
}

__attribute__((unused)) static void close_server(server *s)
{
  mp_sasl_free(s->sasl);
  mp_sasl_ctx_free(s->ctx);
}

/* The state after one message of the client. */
__attribute__((unused)) static int first_step(mp_mech mech, mp_str input, const mp_sasl_opts *opts)
{
  server s = open_server(mech, opts);
  int state = mp_sasl_step(s.sasl, input);
  close_server(&s);
  return state;
}

#endif
