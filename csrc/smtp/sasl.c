/* One exchange: which call is legal when, and what all mechanisms share.
 *
 *            .--------------------- step --------------------.
 *            v                                               |
 *   MORE --step--> CREDENTIALS --credentials--> MORE, JOB, ASK, DONE, FAIL
 *     |            JOB --job, worked----------> MORE, DONE, FAIL
 *     |            ASK, TOKEN --verdict-------> MORE, DONE, FAIL
 *     '---------> DONE, FAIL, SYNTAX: over; secrets are gone, the user's name stays
 *
 * An exchange starts in MORE: the first step brings the initial response or its absence. An error ends it too. */
#include "smtp/sasl_impl.h"

#include "base/list.h"

static const char *const names[MP_MECH_COUNT] = {
#define ROW(id, text) [MP_MECH_##id] = (text),
  MP_MECH_MAP(ROW)
#undef ROW
};

static const mp_sasl_ops *const mechanisms[MP_MECH_COUNT] = {
  [MP_MECH_PLAIN] = &mp_sasl_plain,
  [MP_MECH_LOGIN] = &mp_sasl_login,
  [MP_MECH_CRAM_MD5] = &mp_sasl_cram,
  [MP_MECH_SCRAM_SHA_1] = &mp_sasl_scram,
  [MP_MECH_SCRAM_SHA_1_PLUS] = &mp_sasl_scram,
  [MP_MECH_SCRAM_SHA_256] = &mp_sasl_scram,
  [MP_MECH_SCRAM_SHA_256_PLUS] = &mp_sasl_scram,
  [MP_MECH_XOAUTH2] = &mp_sasl_bearer,
  [MP_MECH_OAUTHBEARER] = &mp_sasl_bearer,
};

int mp_mech_find(mp_str name)
{
  for (int i = 0; i < MP_MECH_COUNT; i++)
    if (mp_str_ieq(name, mp_str_c(names[i])))
      return i;
  return -1;
}

const char *mp_mech_name(mp_mech mech)
{
  return names[mech];
}

/* ---- what is kept, and how it goes ------------------------------------------------------------------------------ */

int mp_secret_set(mp_secret *secret, mp_str value)
{
  mp_secret_wipe(secret);
  secret->ptr = mp_mem_dup(value.ptr, value.len);
  if (!secret->ptr)
    return MP_E_NOMEM;
  secret->len = value.len;
  return 0;
}

void mp_secret_wipe(mp_secret *secret)
{
  mp_mem_wipe(secret->ptr, secret->len);
  mp_mem_free(secret->ptr);
  *secret = (mp_secret){ 0 };
}

int mp_sasl_ctx_new(mp_sasl_ctx **out)
{
  mp_sasl_ctx *ctx = mp_mem_zalloc(sizeof *ctx);
  if (!ctx)
    return MP_E_NOMEM;
  if (gsasl_init(&ctx->gsasl) != GSASL_OK) {
    mp_mem_free(ctx);
    return MP_E_NOMEM;
  }
  *out = ctx;
  return 0;
}

void mp_sasl_ctx_free(mp_sasl_ctx *ctx)
{
  if (!ctx)
    return;
  gsasl_done(ctx->gsasl);
  mp_mem_free(ctx);
}

static void forget(mp_sasl *sasl)
{
  mp_sasl_gs_finish(sasl->session);
  sasl->session = NULL;
  mp_secret_wipe(&sasl->message);
  mp_secret_wipe(&sasl->password);
  mp_secret_wipe(&sasl->unique);
  mp_secret_wipe(&sasl->exporter);
  mp_secret_wipe(&sasl->secret);
  mp_mem_wipe(&sasl->keys, sizeof sasl->keys);
  if (sasl->work)
    sasl->work->job.free(&sasl->work->job);
  sasl->work = NULL;
  sasl->lent = NULL;
  mp_buf_dispose(&sasl->challenge);
}

int mp_sasl_new(mp_sasl **out, mp_sasl_ctx *ctx, mp_mech mech, const mp_sasl_opts *opts)
{
  bool plus = mech == MP_MECH_SCRAM_SHA_1_PLUS || mech == MP_MECH_SCRAM_SHA_256_PLUS;
  if ((plus && opts->cb_unique.len == 0 && opts->cb_exporter.len == 0) ||
      opts->cb_unique.len > MP_SASL_BINDING_MAX || opts->cb_exporter.len > MP_SASL_BINDING_MAX ||
      opts->secret.len > MP_SASL_SECRET_MAX ||
      (mechanisms[mech] == &mp_sasl_scram && opts->secret.len < MP_SASL_SECRET_MIN) ||
      opts->hostname.len > MP_SASL_HOSTNAME_MAX || opts->iterations > MP_SCRAM_ITERATIONS_MAX)
    return MP_E_INVALID;
  mp_sasl *sasl = mp_mem_zalloc(sizeof *sasl);
  if (!sasl)
    return MP_E_NOMEM;
  sasl->ctx = ctx;
  sasl->ops = mechanisms[mech];
  sasl->mech = mech;
  sasl->state = MP_SASL_MORE;
  sasl->iterations = opts->iterations ? opts->iterations : MP_SCRAM_ITERATIONS;
  sasl->plus_offered = opts->plus_offered;
  mp_str hostname = opts->hostname.len ? opts->hostname : MP_STR("localhost");
  memcpy(sasl->hostname, hostname.ptr, hostname.len);
  mp_buf_init(&sasl->challenge, MP_SASL_CHALLENGE_MAX, NULL);
  if (mp_secret_set(&sasl->unique, opts->cb_unique) < 0 ||
      mp_secret_set(&sasl->exporter, opts->cb_exporter) < 0 || mp_secret_set(&sasl->secret, opts->secret) < 0) {
    mp_sasl_free(sasl);
    return MP_E_NOMEM;
  }
  *out = sasl;
  return 0;
}

void mp_sasl_free(mp_sasl *sasl)
{
  if (!sasl)
    return;
  forget(sasl);
  mp_mem_wipe(sasl, sizeof *sasl);
  mp_mem_free(sasl);
}

/* ---- the calls -------------------------------------------------------------------------------------------------- */

/* The only place that writes the state. */
static int settle(mp_sasl *sasl, int answer)
{
  sasl->state = answer;
  if (answer < 0 || answer == MP_SASL_DONE || answer == MP_SASL_FAIL || answer == MP_SASL_SYNTAX)
    forget(sasl);
  return answer;
}

int mp_sasl_step(mp_sasl *sasl, mp_str input)
{
  if (sasl->state != MP_SASL_MORE)
    return MP_E_MISUSE;
  if (input.len > MP_SASL_MESSAGE_MAX)
    return settle(sasl, MP_SASL_SYNTAX);
  mp_buf_dispose(&sasl->challenge);
  return settle(sasl, sasl->ops->step(sasl, input));
}

int mp_sasl_credentials(mp_sasl *sasl, const mp_credentials *credentials)
{
  if (sasl->state != MP_SASL_CREDENTIALS)
    return MP_E_MISUSE;
  return settle(sasl, sasl->ops->credentials(sasl, credentials));
}

int mp_sasl_verdict(mp_sasl *sasl, bool accepted)
{
  if (sasl->state != MP_SASL_ASK && sasl->state != MP_SASL_TOKEN)
    return MP_E_MISUSE;
  return settle(sasl, sasl->ops->verdict(sasl, accepted));
}

mp_job *mp_sasl_job(mp_sasl *sasl)
{
  if (sasl->state != MP_SASL_JOB || !sasl->work)
    return NULL;
  sasl->lent = &sasl->work->job;
  sasl->work = NULL;
  return sasl->lent;
}

int mp_sasl_worked(mp_sasl *sasl, mp_job *job)
{
  if (sasl->state != MP_SASL_JOB || !job || job != sasl->lent)
    return MP_E_MISUSE;
  const mp_sasl_work *work = MP_CONTAINER(job, mp_sasl_work, job);
  sasl->lent = NULL;
  /* A job that nobody ran proves nothing. */
  int answer = work->ran && !sasl->doomed ? sasl->ops->worked(sasl, work) : MP_SASL_FAIL;
  job->free(job);
  return settle(sasl, answer);
}

mp_str mp_sasl_challenge(const mp_sasl *sasl)
{
  return mp_buf_view(&sasl->challenge);
}

mp_str mp_sasl_user(const mp_sasl *sasl)
{
  return mp_str_of(sasl->user, sasl->user_len);
}

mp_str mp_sasl_authzid(const mp_sasl *sasl)
{
  return mp_str_of(sasl->authzid, sasl->authzid_len);
}

mp_str mp_sasl_password(const mp_sasl *sasl)
{
  bool asking = sasl->state == MP_SASL_ASK || sasl->state == MP_SASL_TOKEN;
  return asking ? mp_secret_view(&sasl->password) : MP_STR_NULL;
}

/* ---- for the mechanisms ----------------------------------------------------------------------------------------- */

/* C0, DEL and C1: what moves a terminal's cursor or ends a line of a log has no place in a name. */
static bool has_control(mp_str s)
{
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < s.len && (unsigned char)s.ptr[i + 1] < 0xa0))
      return true;
  }
  return false;
}

int mp_sasl_name(char out[MP_SASL_NAME_MAX], size_t *len, mp_str name)
{
  if (name.len == 0 || name.len > MP_SASL_NAME_MAX || !mp_str_utf8(name) || has_control(name))
    return MP_SASL_SYNTAX;
  memcpy(out, name.ptr, name.len);
  *len = name.len;
  return 0;
}

int mp_sasl_identity(mp_sasl *sasl, mp_str authzid)
{
  if (authzid.len == 0 || mp_str_eq(authzid, mp_sasl_user(sasl)))
    return 0;
  int rc = mp_sasl_name(sasl->authzid, &sasl->authzid_len, authzid);
  return rc ? rc : MP_SASL_FAIL;
}

int mp_sasl_challenged(mp_sasl *sasl, mp_str text)
{
  int rc = mp_buf_str(&sasl->challenge, text);
  return rc < 0 ? rc : MP_SASL_MORE;
}
