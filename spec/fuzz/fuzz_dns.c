/* Records and names: every reader sees every input. */
#include "dns/rdata.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool held)
{
  if (!held)
    abort();
}

/* What scripts are given: printable, and with nothing that would end a line or a C string early. */
static void demand_text(const char *text)
{
  size_t len = strlen(text);
  demand(len < MP_DNS_NAME_TEXT);
  for (size_t i = 0; i < len; i++)
    demand((unsigned char)text[i] > ' ' && (unsigned char)text[i] < 0x7f);
}

static void read_names(mp_str in)
{
  char text[MP_DNS_NAME_TEXT], asked[MP_DNS_NAME_ASKED], again[MP_DNS_NAME_ASKED];
  mp_ssize used = mp_dns_name_read(text, in);
  if (used >= 0) {
    demand(used > 0 && (size_t)used <= in.len && used <= 255);
    demand_text(text);
  }
  mp_ssize len = mp_dns_name_ascii(asked, in);
  if (len >= 0) {
    demand(len > 0 && len <= 253 && (size_t)len == strlen(asked));
    demand_text(asked);
    demand(asked[len - 1] != '.' && asked[0] != '.');
    demand(mp_dns_name_ascii(again, mp_str_of(asked, (size_t)len)) == len && strcmp(asked, again) == 0);
  }
  mp_ssize shown = mp_dns_name_unicode(text, in);
  if (shown >= 0) {
    demand(len > 0 && (size_t)shown == strlen(text) && mp_str_utf8(mp_str_c(text)));
    demand(mp_dns_name_ascii(again, mp_str_c(text)) == len && strcmp(asked, again) == 0);
    for (mp_ssize i = 0; i < shown; i++)
      demand((unsigned char)text[i] > ' ' && text[i] != 0x7f);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  mp_str in = mp_str_of((const char *)data, size);
  read_names(in);
  mp_dns_mx mx;
  if (mp_dns_read_mx(in, &mx) == 0) {
    demand(mx.preference <= 65535);
    demand_text(mx.host);
  }
  char host[MP_DNS_NAME_TEXT];
  if (mp_dns_read_host(in, host) == 0)
    demand_text(host);
  mp_ip ip;
  demand((mp_dns_read_ip(in, &ip) == 0) == (size == 4 || size == 16));
  mp_dns_tlsa tlsa;
  if (mp_dns_read_tlsa(in, &tlsa) == 0)
    demand(tlsa.data.len > 0 && tlsa.data.len == size - 3);
  char *text = malloc(size ? size : 1);
  demand(text);
  mp_ssize len = mp_dns_read_text(in, text);
  demand(len < 0 || (size_t)len < size);
  free(text);
  return 0;
}
