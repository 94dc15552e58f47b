/* smtp/sasl_client.h -- the client side of one SASL exchange (RFC 4422, RFC 4954). CRAM-MD5 and SCRAM are libgsasl's; PLAIN, LOGIN, XOAUTH2 and
 * OAUTHBEARER are ours. Nothing waits: the derivation that SCRAM needs is a job. */
#ifndef MP_SMTP_SASL_CLIENT_H
#define MP_SMTP_SASL_CLIENT_H

#include "smtp/client.h"

typedef struct mp_sasl_client mp_sasl_client;

typedef enum mp_sasl_move {
  MP_SASL_MOVE_WAIT,    /* start only: the server speaks first */
  MP_SASL_MOVE_SAY,     /* mp_sasl_client_response is to be said; it may be empty */
  MP_SASL_MOVE_JOB,     /* take the job, run it anywhere, give it back to mp_sasl_client_worked */
  MP_SASL_MOVE_GIVE_UP, /* the challenge makes no sense: cancel the exchange */
  MP_SASL_MOVE_FRAUD    /* the server could not prove that it knows the password */
} mp_sasl_move;

/* NULL, or a static sentence on what makes no sense. */
const char *mp_sasl_login_check(const mp_client_login *login);

/* The set of 1 << mp_mech that `login` can serve, whatever the peer and the channel are. */
unsigned mp_sasl_login_serves(const mp_client_login *login);

/* 0, MP_E_NOMEM, MP_E_SYSTEM (libgsasl was built without it) or MP_E_INVALID (nothing to bind to, no ctx). `login` and the bindings are borrowed for
 * the life of the exchange, `ctx` too. */
int mp_sasl_client_new(mp_sasl_client **out, mp_sasl_ctx *ctx, mp_mech mech, const mp_client_login *login,
                       mp_str unique, mp_str exporter);
void mp_sasl_client_free(mp_sasl_client *client); /* wipes; NULL does nothing */

/* Each returns an mp_sasl_move, or MP_E_NOMEM. `challenge` is as it stands behind 334: base64. */
int mp_sasl_client_start(mp_sasl_client *client);
int mp_sasl_client_step(mp_sasl_client *client, mp_str challenge);
mp_job *mp_sasl_client_job(mp_sasl_client *client);
int mp_sasl_client_worked(mp_sasl_client *client, mp_job *job); /* takes the job; MP_E_MISUSE: it is not ours */

mp_str mp_sasl_client_response(const mp_sasl_client *client); /* not yet base64; borrowed until the next call */

/* True when the server has proved itself, or the mechanism asks for no proof. */
bool mp_sasl_client_proved(const mp_sasl_client *client);

#endif
