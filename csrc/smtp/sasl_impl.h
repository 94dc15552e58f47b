/* smtp/sasl_impl.h -- what the files of the SASL server share. Only they include it, and only they see libgsasl.
 *
 * A mechanism is a row of functions; each answers an mp_sasl_state or a negative error, and sasl.c alone decides from the
 * answer which call is legal next. libgsasl is given properties before it runs and no callback: what it does not find it
 * must not have. */
#ifndef MP_SMTP_SASL_IMPL_H
#define MP_SMTP_SASL_IMPL_H

#include "base/error.h"
#include "base/mem.h"
#include "smtp/sasl.h"
#include "smtp/scram.h"

#include <gsasl.h>

enum {
  MP_SASL_NAME_MAX = 255,
  MP_SASL_HOSTNAME_MAX = 255,
  MP_SASL_PASSWORD_MAX = 1024,
  MP_SASL_SECRET_MIN = 16,
  MP_SASL_SECRET_MAX = 128,
  MP_SASL_BINDING_MAX = 256,
  MP_SASL_MESSAGE_MAX = 9216, /* a line of RFC 4954 4, decoded */
  MP_SASL_SCRAM_MAX = 2048,   /* a SCRAM message: the nonce comes back in ours, so it bounds that too */
  MP_SASL_CHALLENGE_MAX = 4096,
  MP_SASL_SETTING_MAX = 192
};

/* A copy that is wiped when it goes. */
typedef struct mp_secret {
  char *ptr; /* with a NUL behind it, or NULL */
  size_t len;
} mp_secret;

int mp_secret_set(mp_secret *secret, mp_str value); /* 0 or MP_E_NOMEM (then it is empty) */
void mp_secret_wipe(mp_secret *secret);

static inline mp_str mp_secret_view(const mp_secret *secret)
{
  return mp_str_of(secret->ptr, secret->len);
}

/* One piece of work: crypt(3) of a password, or the keys of SCRAM. It owns all that it touches. */
typedef struct mp_sasl_work {
  mp_job job;
  bool ran;
  bool crypt;         /* else: derive */
  bool match;         /* crypt: the password has this hash */
  int rc;             /* derive: as mp_scram_derive, into `keys` */
  mp_scram_keys keys; /* salt, hash and iterations are set before */
  mp_secret password, hash;
  void *scratch; /* struct crypt_data */
} mp_sasl_work;

struct mp_sasl_ctx {
  Gsasl *gsasl;
  /* How the hash that was checked last is made (no digest in it), so that a user who does not exist costs as much as one who
   * does. Empty while no hash was seen. */
  char setting[MP_SASL_SETTING_MAX];
};

typedef struct mp_sasl_ops {
  int (*step)(mp_sasl *sasl, mp_str input);
  int (*credentials)(mp_sasl *sasl, const mp_credentials *credentials);
  int (*worked)(mp_sasl *sasl, const mp_sasl_work *work);
  int (*verdict)(mp_sasl *sasl, bool accepted);
} mp_sasl_ops;

extern const mp_sasl_ops mp_sasl_plain, mp_sasl_login, mp_sasl_cram, mp_sasl_scram, mp_sasl_bearer;

struct mp_sasl {
  mp_sasl_ctx *ctx;
  const mp_sasl_ops *ops;
  mp_mech mech;
  int state;          /* what was answered last: it says which call is legal */
  unsigned phase;     /* the mechanism's own count of its messages */
  bool doomed;        /* cannot succeed any more, whatever the proof says */
  mp_job *lent;       /* the job that is out: an identity, never followed */
  mp_sasl_work *work; /* the job that waits to be fetched */
  Gsasl_session *session;
  mp_buf challenge;
  mp_secret message;  /* the client's, kept until it can be answered (SCRAM), or our challenge (CRAM-MD5) */
  mp_secret password; /* clear password, token, or the digest of CRAM-MD5 */
  mp_secret unique, exporter, secret;
  unsigned iterations;
  bool plus_offered;
  bool keyed; /* `keys` came from the credentials */
  mp_scram_keys keys;
  size_t user_len, authzid_len;
  char hostname[MP_SASL_HOSTNAME_MAX + 1];
  char user[MP_SASL_NAME_MAX], authzid[MP_SASL_NAME_MAX];
};

/* Each returns 0, or MP_SASL_SYNTAX for a name that is empty, too long, not UTF-8 or has control characters. */
int mp_sasl_name(char out[MP_SASL_NAME_MAX], size_t *len, mp_str name);

/* An authorisation identity that is absent, or equal to the user: 0. Else MP_SASL_FAIL, or MP_SASL_SYNTAX as above. */
int mp_sasl_identity(mp_sasl *sasl, mp_str authzid);

/* MP_SASL_MORE with `text` as the challenge, or a negative error. */
int mp_sasl_challenged(mp_sasl *sasl, mp_str text);

/* MP_SASL_JOB with the work, or MP_E_NOMEM. Strings are copied. A hash that is none, or a password that cannot have one,
 * dooms the exchange and burns; else the context remembers what such a hash costs. */
int mp_sasl_crypt(mp_sasl *sasl, mp_str password, mp_str hash);
int mp_sasl_derive(mp_sasl *sasl, mp_scram_hash hash, mp_str password, mp_str salt, unsigned iterations);

/* Work whose outcome is FAIL: every refusal costs what a check would have cost, so that time does not tell why. */
int mp_sasl_burn(mp_sasl *sasl); /* as the last crypt(3) hash, or a derivation where none was seen */
int mp_sasl_burn_keys(mp_sasl *sasl, mp_scram_hash hash); /* a derivation */

/* The salt of a user whose credentials bring none: the same at every attempt, whether there is such a user or not. */
int mp_sasl_salt(const mp_sasl *sasl, mp_scram_hash hash, char salt[MP_SCRAM_SALT]);

/* libgsasl. Each returns 0 or MP_E_NOMEM (start also MP_E_SYSTEM: it was built without the mechanism).
 * A property is set as it is or in base64. A step's answer is GSASL_OK, GSASL_NEEDS_MORE or an error of theirs; its output is
 * there with the first two. */
int mp_sasl_gs_start(mp_sasl_ctx *ctx, const char *mechanism, bool client, Gsasl_session **session);
int mp_sasl_gs_set(Gsasl_session *session, Gsasl_property property, mp_str value);
int mp_sasl_gs_set64(Gsasl_session *session, Gsasl_property property, mp_str octets);
int mp_sasl_gs_step(Gsasl_session *session, mp_str input, mp_secret *output, int *answer);
void mp_sasl_gs_finish(Gsasl_session *session); /* NULL does nothing */

/* The head of a GS2 message (RFC 5801 4): "n" | "y" | "p=" binding, "," ["a=" authzid] ",". */
typedef struct mp_gs2 {
  char flag;
  mp_str binding; /* borrowed from the message */
  size_t authzid_len;
  char authzid[MP_SASL_NAME_MAX];
} mp_gs2;

/* Takes the head off the front. 0 or MP_SASL_SYNTAX. */
int mp_gs2_parse(mp_gs2 *head, mp_str *rest);

/* Decodes a saslname, "=2C" for a comma and "=3D" for "=", and checks it as mp_sasl_name. */
int mp_gs2_name(char *out, size_t *len, mp_str text);

/* What SASLprep (RFC 4013) makes of a password or name, as a C string for gsasl_free after wiping; unassigned code points
 * pass, as in a query. 0, MP_E_NOMEM or MP_E_INVALID: it cannot be prepared, or nothing is left. */
int mp_sasl_prep(char **out, mp_str text);

#endif
