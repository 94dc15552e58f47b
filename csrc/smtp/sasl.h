/* smtp/sasl.h -- the server side of one SASL exchange (RFC 4422, RFC 4954). The proofs of CRAM-MD5, SCRAM-SHA-1, SCRAM-SHA-256
 * and their -PLUS forms are libgsasl's; PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER (RFC 7628), which have none, are ours. Nothing here
 * waits: what a step needs from the outside (credentials, a verdict, CPU time) it asks for by its return value.
 *
 * Who guesses names learns nothing: a user who does not exist, or whose credentials cannot serve the mechanism, is led through the
 * same steps to the same FAIL. SCRAM shows such a user a salt that is theirs for good and the iterations of the options (which
 * should be those of the stored scram_* strings), and every refused password or proof costs a job: crypt(3) as in the hash that
 * this context checked last, or a derivation of keys where it has seen none. */
#ifndef MP_SMTP_SASL_H
#define MP_SMTP_SASL_H

#include "base/buf.h"
#include "base/job.h"

#define MP_MECH_MAP(X)                        \
  X(PLAIN, "PLAIN")                           \
  X(LOGIN, "LOGIN")                           \
  X(CRAM_MD5, "CRAM-MD5")                     \
  X(SCRAM_SHA_1, "SCRAM-SHA-1")               \
  X(SCRAM_SHA_1_PLUS, "SCRAM-SHA-1-PLUS")     \
  X(SCRAM_SHA_256, "SCRAM-SHA-256")           \
  X(SCRAM_SHA_256_PLUS, "SCRAM-SHA-256-PLUS") \
  X(XOAUTH2, "XOAUTH2")                       \
  X(OAUTHBEARER, "OAUTHBEARER")

typedef enum mp_mech {
#define MP_MECH_ENUM(name, text) MP_MECH_##name,
  MP_MECH_MAP(MP_MECH_ENUM)
#undef MP_MECH_ENUM
      MP_MECH_COUNT
} mp_mech;

/* Finds a mechanism by name, any case. -1 when there is none. */
int mp_mech_find(mp_str name);
const char *mp_mech_name(mp_mech mech);

/* What the script knows of a user. Any of the fields may be set; all null = no such user. Copied by the callee, wiped after use. */
typedef struct mp_credentials {
  bool ask; /* plaintext mechanisms: let the AUTH event decide (the script checks the password itself) */
  mp_str password; /* in clear: serves every password mechanism */
  mp_str hash;     /* crypt(3): serves PLAIN and LOGIN */
  mp_str scram_sha1,
      scram_sha256; /* RFC 5803 "SCRAM-SHA-256$4096:salt$stored:server": serve SCRAM, and PLAIN and LOGIN by deriving */
} mp_credentials;

typedef struct mp_sasl_opts {
  mp_str hostname; /* CRAM-MD5's challenge; at most 255 octets */
  mp_str secret; /* 16 to 128 octets, the same for the life of the service: salts of unknown users and derived keys */
  mp_str cb_unique;    /* tls-unique, empty if there is none */
  mp_str cb_exporter;  /* tls-exporter (RFC 9266) */
  unsigned iterations; /* of SCRAM when a clear password is given; at most 1,000,000; default 4096 when 0 */
  bool plus_offered;   /* a -PLUS form was announced (so a client's "y" flag is a downgrade, RFC 5802 6) */
} mp_sasl_opts;

typedef struct mp_sasl mp_sasl;
typedef struct mp_sasl_ctx mp_sasl_ctx; /* libgsasl's context; used by one thread */

int mp_sasl_ctx_new(mp_sasl_ctx **ctx); /* 0 or MP_E_NOMEM */
void mp_sasl_ctx_free(mp_sasl_ctx *ctx);

typedef enum mp_sasl_state {
  MP_SASL_MORE, /* send mp_sasl_challenge() and feed the answer to mp_sasl_step */
  MP_SASL_DONE, /* authenticated as mp_sasl_user() */
  MP_SASL_FAIL, /* wrong proof, unknown user or unusable credentials: they look alike from outside */
  MP_SASL_SYNTAX, /* the client broke the mechanism's grammar (501 5.5.2), control characters in a name among it */
  MP_SASL_CREDENTIALS, /* answer with mp_sasl_credentials for mp_sasl_user() */
  MP_SASL_JOB,         /* take the job with mp_sasl_job, run it anywhere, give it back with mp_sasl_worked */
  MP_SASL_ASK, /* plaintext and `ask`: answer with mp_sasl_verdict for mp_sasl_user() and mp_sasl_password() */
  MP_SASL_TOKEN /* bearer: answer with mp_sasl_verdict for mp_sasl_user() (may be empty) and mp_sasl_password() = the token */
} mp_sasl_state;

/* Starts an exchange. 0, MP_E_NOMEM, or MP_E_INVALID (-PLUS without a channel binding, SCRAM without a secret, an option out of
 * range). `opts` is copied, strings included. `ctx` is borrowed for the life of the exchange. */
int mp_sasl_new(mp_sasl **sasl, mp_sasl_ctx *ctx, mp_mech mech, const mp_sasl_opts *opts);
void mp_sasl_free(mp_sasl *sasl); /* wipes */

/* Each moves the exchange and returns an mp_sasl_state or a negative error: MISUSE, which changes nothing, NOMEM or SYSTEM, which
 * end it. `input` is the decoded response; a null pointer means that the client sent no initial response (a zero length one is an
 * empty response, "="). */
int mp_sasl_step(mp_sasl *sasl, mp_str input);
int mp_sasl_credentials(mp_sasl *sasl, const mp_credentials *credentials);
int mp_sasl_verdict(mp_sasl *sasl, bool accepted);
mp_job *mp_sasl_job(mp_sasl *sasl); /* after MP_SASL_JOB: detached; the caller owns it until it gives it back */
int mp_sasl_worked(mp_sasl *sasl,
                   mp_job *job); /* takes the job, save on MISUSE; one that was not run fails the exchange */

mp_str mp_sasl_challenge(const mp_sasl *sasl); /* not yet base64; borrowed until the next call */
mp_str mp_sasl_user(const mp_sasl *sasl); /* authentication identity; checked: UTF-8 without controls, at most 255 octets */
mp_str mp_sasl_authzid(const mp_sasl *sasl); /* authorisation identity when it was given and differs, else empty; the server
                                                * refuses it unless it equals the user (FAIL), so it is for the log alone */
mp_str mp_sasl_password(const mp_sasl *sasl); /* clear password or token, during ASK and TOKEN only */

#endif
