/* The SASL server and a hostile client. An input is
 *   a mechanism, what the script keeps, then the client's messages, each ended by an octet 0xfe.
 * In a message 0xfd stands for the nonce of our last challenge, so that a client-final can come past the first look; a message of
 * nothing but 0xfc is the absence of an initial response. A mechanism past the last is a stored SCRAM string to read. */
#include "base/mem.h"
#include "smtp/sasl.h"
#include "smtp/scram.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { END = 0xfe, NONCE = 0xfd, ABSENT = 0xfc };

static const mp_credentials kept[] = {
  { .ask = false },
  { .password = { "pw", 2 } },
  { .scram_sha1 = { "SCRAM-SHA-1$1:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=",
                    89 } },
  { .ask = true },
  { .hash = { "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", 34 } },
};
enum { KEPT = sizeof kept / sizeof *kept };

static void demand(bool held)
{
  if (!held)
    abort();
}

/* Writes a message with its nonces filled in. */
static size_t fill(char *out, size_t room, mp_str message, mp_str challenge)
{
  mp_ssize comma = mp_str_find(challenge, ',', 0);
  mp_str nonce = challenge.len > 2 && comma > 2 ? mp_str_sub(challenge, 2, (size_t)comma - 2) : MP_STR_NULL;
  size_t n = 0;
  for (size_t i = 0; i < message.len; i++) {
    if ((uint8_t)message.ptr[i] == NONCE && nonce.len <= room - n) {
      if (nonce.len)
        memcpy(out + n, nonce.ptr, nonce.len);
      n += nonce.len;
    } else if (n < room) {
      out[n++] = message.ptr[i];
    }
  }
  return n;
}

static int advance(mp_sasl *sasl, int state, const mp_credentials *credentials)
{
  for (;;) {
    mp_str user = mp_sasl_user(sasl);
    demand(user.len <= 255 && mp_str_utf8(user) && mp_str_find(user, '\0', 0) < 0 &&
           mp_str_find(user, '\n', 0) < 0);
    switch (state) {
    case MP_SASL_CREDENTIALS:
      demand(user.len > 0);
      state = mp_sasl_credentials(sasl, credentials);
      break;
    case MP_SASL_JOB: {
      mp_job *job = mp_sasl_job(sasl);
      demand(job != NULL);
      job->run(job);
      state = mp_sasl_worked(sasl, job);
      break;
    }
    case MP_SASL_ASK:
    case MP_SASL_TOKEN: {
      mp_str password = mp_sasl_password(sasl);
      demand(password.len > 0 && mp_str_find(password, '\0', 0) < 0);
      state = mp_sasl_verdict(sasl, password.ptr[0] == 'p');
      break;
    }
    default:
      return state;
    }
  }
}

static void converse(mp_mech mech, const mp_credentials *credentials, mp_str rest)
{
  mp_sasl_opts opts = { .hostname = MP_STR("mx.example.org"),
                        .secret = MP_STR("0123456789abcdef"),
                        .cb_unique = MP_STR("unique"),
                        .cb_exporter = MP_STR("exporter"),
                        .iterations = 1 };
  mp_sasl_ctx *ctx;
  mp_sasl *sasl;
  demand(mp_sasl_ctx_new(&ctx) == 0 && mp_sasl_new(&sasl, ctx, mech, &opts) == 0);
  int state = MP_SASL_MORE;
  while (state == MP_SASL_MORE && rest.len) {
    char message[16384];
    mp_ssize end = mp_str_find(rest, (char)END, 0);
    mp_str raw = mp_str_sub(rest, 0, end < 0 ? rest.len : (size_t)end);
    rest = mp_str_sub(rest, raw.len + (end >= 0), rest.len);
    bool absent = raw.len == 1 && (uint8_t)raw.ptr[0] == ABSENT;
    mp_str input = absent ? MP_STR_NULL
                          : mp_str_of(message, fill(message, sizeof message, raw, mp_sasl_challenge(sasl)));
    state = advance(sasl, mp_sasl_step(sasl, input), credentials);
    demand(state >= 0);
  }
  if (state == MP_SASL_DONE) {
    bool bearer = mech == MP_MECH_XOAUTH2 || mech == MP_MECH_OAUTHBEARER;
    demand(bearer || credentials != &kept[0]); /* nobody is never let in */
    demand(mp_sasl_authzid(sasl).len == 0);
  }
  if (state != MP_SASL_MORE)
    demand(mp_sasl_step(sasl, MP_STR("again")) < 0);
  mp_sasl_free(sasl);
  mp_sasl_ctx_free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  if (size < 2)
    return 0;
  mp_str rest = mp_str_of((const char *)data + 2, size - 2);
  if (data[0] % (MP_MECH_COUNT + 1) < MP_MECH_COUNT) {
    converse((mp_mech)(data[0] % (MP_MECH_COUNT + 1)), &kept[data[1] % KEPT], rest);
  } else {
    mp_scram_keys keys;
    if (mp_scram_parse(&keys, rest) == 0)
      demand(keys.salt_len > 0 && keys.salt_len <= MP_SCRAM_SALT_MAX &&
             keys.iterations <= MP_SCRAM_ITERATIONS_MAX);
  }
  return 0;
}
