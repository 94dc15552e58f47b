/* libgsasl's sessions, in our terms. */
#include "base/base64.h"
#include "smtp/sasl_impl.h"

int mp_sasl_gs_start(mp_sasl_ctx *ctx, const char *mechanism, bool client, Gsasl_session **session)
{
  int rc = client ? gsasl_client_start(ctx->gsasl, mechanism, session)
                  : gsasl_server_start(ctx->gsasl, mechanism, session);
  if (rc == GSASL_OK)
    return 0;
  *session = NULL;
  return rc == GSASL_MALLOC_ERROR ? MP_E_NOMEM : MP_E_SYSTEM;
}

/* libgsasl frees its copies as they are: those that can be reached are overwritten first. */
void mp_sasl_gs_finish(Gsasl_session *session)
{
  static const Gsasl_property secrets[] = { GSASL_PASSWORD, GSASL_SCRAM_STOREDKEY, GSASL_SCRAM_SERVERKEY,
                                            GSASL_SCRAM_SALTED_PASSWORD };
  if (!session)
    return;
  for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
    const char *value = gsasl_property_fast(session, secrets[i]);
    if (value)
      mp_mem_wipe((void *)(uintptr_t)value, strlen(value));
  }
  gsasl_finish(session);
}

int mp_sasl_gs_set(Gsasl_session *session, Gsasl_property property, mp_str value)
{
  return gsasl_property_set_raw(session, property, value.ptr, value.len) == GSASL_OK ? 0 : MP_E_NOMEM;
}

int mp_sasl_gs_set64(Gsasl_session *session, Gsasl_property property, mp_str octets)
{
  char text[(MP_SASL_BINDING_MAX + 2) / 3 * 4]; /* the longest of what comes here */
  mp_buf buf;
  mp_buf_init(&buf, sizeof text, NULL);
  int rc = mp_base64_encode(&buf, octets);
  if (rc == 0)
    rc = mp_sasl_gs_set(session, property, mp_buf_view(&buf));
  if (buf.ptr)
    mp_mem_wipe(buf.ptr, buf.cap);
  mp_buf_dispose(&buf);
  return rc;
}

int mp_sasl_gs_step(Gsasl_session *session, mp_str input, mp_secret *output, int *answer)
{
  char *out = NULL;
  size_t len = 0;
  *answer = gsasl_step(session, input.ptr, input.len, &out, &len);
  int rc = *answer == GSASL_MALLOC_ERROR ? MP_E_NOMEM : 0;
  if (rc == 0 && (*answer == GSASL_OK || *answer == GSASL_NEEDS_MORE))
    rc = mp_secret_set(output, mp_str_of(out, out ? len : 0));
  if (out) {
    mp_mem_wipe(out, len);
    gsasl_free(out);
  }
  return rc;
}
