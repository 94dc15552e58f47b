/* The options' defaults, and what makes no sense. */
#include "smtp/server_impl.h"

void mp_server_opts_init(mp_server_opts *opts, mp_protocol protocol)
{
  bool submission = protocol == MP_PROTOCOL_SUBMISSION;
  *opts = (mp_server_opts){
    .protocol = protocol,
    .hostname = MP_STR("localhost"),
    .extensions = MP_EXT_DEFAULT,
    .auth_required = submission,
    .tls_required = submission,
    .line_limit = 998,
    .size = 50u * 1000 * 1000,
    .recipients = 100,
    .messages = 1000,
    .errors = 20,
    .refused_recipients = 20,
    .auth_failures = 3,
    .idle_commands = 100,
    .envelope_memory = 1u << 20,
    .hold_max = 30u * 24 * 3600,
    .auth_delay_ms = 1000,
    .command_ms = 300 * 1000,
    .data_ms = 180 * 1000,
    .line_ms = 60 * 1000,
    .session_ms = 3600 * 1000,
    .data_rate = 100,
  };
}

const char *mp_server_opts_check(const mp_server_opts *opts)
{
  if (!mp_helo_check(opts->hostname, false))
    return "hostname is neither a domain nor an address literal";
  mp_reply banner = { .code = 220, .text = opts->banner };
  if (opts->banner.len > 400 || mp_reply_check(&banner))
    return "banner holds a control character or is over 400 octets";
  if ((opts->extensions & MP_EXT_SMTPUTF8) && !(opts->extensions & MP_EXT_8BITMIME))
    return "SMTPUTF8 needs 8BITMIME";
  if ((opts->extensions & MP_EXT_BINARYMIME) && !(opts->extensions & MP_EXT_CHUNKING))
    return "BINARYMIME needs CHUNKING";
  if (opts->mechanisms && !opts->sasl)
    return "mechanisms are given without a SASL context";
  if (opts->mechanisms >> MP_MECH_COUNT)
    return "mechanisms holds an unknown one";
  unsigned scram = 1u << MP_MECH_SCRAM_SHA_1 | 1u << MP_MECH_SCRAM_SHA_1_PLUS | 1u << MP_MECH_SCRAM_SHA_256 |
                   1u << MP_MECH_SCRAM_SHA_256_PLUS;
  if ((opts->mechanisms & scram) && (opts->sasl_secret.len < 16 || opts->sasl_secret.len > 128))
    return "SCRAM needs a secret of 16 to 128 octets";
  if (opts->auth_required && opts->mechanisms == 0)
    return "auth_required without a mechanism: nobody could send";
  if (opts->repair_all && opts->repair_none)
    return "repair_all and repair_none exclude each other";
  if (opts->line_limit < 78 || opts->line_limit > MP_SRV_HARD_LINE)
    return "line_limit is not between 78 and 65536";
  if (opts->recipients < 1 || opts->recipients > 100000)
    return "recipients is not between 1 and 100000";
  if (opts->envelope_memory < 16384)
    return "envelope_memory is under 16 KB";
  if (opts->command_ms <= 0 || opts->data_ms <= 0 || opts->line_ms <= 0 || opts->session_ms < 0)
    return "a timeout is not positive";
  if ((opts->extensions & MP_EXT_DELIVERBY) && (opts->by_min < 0 || opts->by_min > 999999999))
    return "by_min is not between 0 and 999999999";
  if ((opts->extensions & MP_EXT_FUTURERELEASE) && (opts->hold_max < 1 || opts->hold_max > 999999999))
    return "hold_max is not between 1 and 999999999 seconds";
  for (size_t i = 0; i < opts->priority_profile.len; i++) {
    unsigned char c = (unsigned char)opts->priority_profile.ptr[i];
    if (opts->priority_profile.len > 64 || c <= ' ' || c >= 0x7f)
      return "priority_profile is no word of printable ASCII";
  }
  return NULL;
}
