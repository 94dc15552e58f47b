/* libgsasl's sessions, in our terms. */
#include "base/base64.h"
#include "smtp/sasl_impl.h"

int mp_sasl_gs_start(mp_sasl *sasl, const char *mechanism, bool client)
{
  Gsasl *gsasl = sasl->ctx->gsasl;
  int rc = client ? gsasl_client_start(gsasl, mechanism, &sasl->session)
                  : gsasl_server_start(gsasl, mechanism, &sasl->session);
  if (rc == GSASL_OK)
    return 0;
  sasl->session = NULL;
  return rc == GSASL_MALLOC_ERROR ? MP_E_NOMEM : MP_E_SYSTEM;
}

int mp_sasl_gs_set(mp_sasl *sasl, Gsasl_property property, mp_str value)
{
  return gsasl_property_set_raw(sasl->session, property, value.ptr, value.len) == GSASL_OK ? 0 : MP_E_NOMEM;
}

int mp_sasl_gs_set64(mp_sasl *sasl, Gsasl_property property, mp_str octets)
{
  char text[(MP_SASL_BINDING_MAX + 2) / 3 * 4]; /* the longest of what comes here */
  mp_buf buf;
  mp_buf_init(&buf, sizeof text, NULL);
  int rc = mp_base64_encode(&buf, octets);
  if (rc == 0)
    rc = mp_sasl_gs_set(sasl, property, mp_buf_view(&buf));
  if (buf.ptr)
    mp_mem_wipe(buf.ptr, buf.cap);
  mp_buf_dispose(&buf);
  return rc;
}

int mp_sasl_gs_step(mp_sasl *sasl, mp_str input, mp_secret *output, int *answer)
{
  char *out = NULL;
  size_t len = 0;
  *answer = gsasl_step(sasl->session, input.ptr, input.len, &out, &len);
  int rc = *answer == GSASL_MALLOC_ERROR ? MP_E_NOMEM : 0;
  if (rc == 0 && (*answer == GSASL_OK || *answer == GSASL_NEEDS_MORE))
    rc = mp_secret_set(output, mp_str_of(out, out ? len : 0));
  if (out) {
    mp_mem_wipe(out, len);
    gsasl_free(out);
  }
  return rc;
}
