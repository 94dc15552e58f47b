/* Names and records, as hostile octets. */
#include "support/check.h"

#include "base/error.h"
#include "dns/rdata.h"

#define WIRE(lit) mp_str_of("" lit, sizeof(lit) - 1)

TEST(names_of_the_wire_become_text)
{
  char text[MP_DNS_NAME_TEXT];
  CHECK_EQ_INT(mp_dns_name_read(text, WIRE("\2mx\7EXAMPLE\3net\0rest")), 16);
  CHECK_STR(mp_str_c(text), "mx.example.net");
  CHECK_EQ_INT(mp_dns_name_read(text, WIRE("\0")), 1);
  CHECK_STR(mp_str_c(text), "");
}

TEST(odd_octets_of_a_name_are_escaped)
{
  char text[MP_DNS_NAME_TEXT];
  CHECK_EQ_INT(mp_dns_name_read(text, WIRE("\7a.b\\\0\r\xff\0")), 9);
  CHECK_STR(mp_str_c(text), "a\\.b\\\\\\000\\013\\255");
}

TEST(names_cut_short_or_compressed_are_refused)
{
  char text[MP_DNS_NAME_TEXT];
  static const char whole[] = "\2mx\7example\3net";
  for (size_t len = 0; len < sizeof whole - 1; len++)
    CHECK_EQ_INT(mp_dns_name_read(text, mp_str_of(whole, len)), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_name_read(text, WIRE("\2mx\xc0\0")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_name_read(text, WIRE("\x40")), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_name_read(text, MP_STR_NULL), MP_E_SYNTAX);
}

TEST(a_name_has_255_octets_at_most)
{
  char text[MP_DNS_NAME_TEXT], wire[300];
  memset(wire, '\1', sizeof wire); /* labels of one octet, each to be escaped */
  wire[254] = '\0';
  CHECK_EQ_INT(mp_dns_name_read(text, mp_str_of(wire, 255)), 255);
  CHECK_EQ_INT((int)strlen(text), 127 * 4 + 126);
  wire[254] = '\1';
  wire[256] = '\0';
  CHECK_EQ_INT(mp_dns_name_read(text, mp_str_of(wire, 257)), MP_E_SYNTAX);
  /* the longest text there is */
  memset(wire, 0, sizeof wire);
  wire[0] = wire[64] = wire[128] = 63;
  wire[192] = 61;
  CHECK_EQ_INT(mp_dns_name_read(text, mp_str_of(wire, 255)), 255);
  CHECK_EQ_INT((int)strlen(text), 250 * 4 + 3);
}

TEST(names_to_ask_for_have_rules)
{
  char name[MP_DNS_NAME_ASKED];
  CHECK_EQ_INT(mp_dns_name_ascii(name, MP_STR("MX.Example.Net.")), 14);
  CHECK_STR(mp_str_c(name), "mx.example.net");
  CHECK_EQ_INT(mp_dns_name_ascii(name, MP_STR("b\xc3\xbc"
                                              "cher.example")),
               21);
  CHECK_STR(mp_str_c(name), "xn--bcher-kva.example");
  static const char *const bad[] = { "",     ".",    "..",   ".a",   "a..b",        "a b",
                                     "a\tb", "a\\b", "\x7f", "\xff", "\xc3\xbc\xc3" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK_EQ_INT(mp_dns_name_ascii(name, mp_str_c(bad[i])), MP_E_INVALID);
  CHECK_EQ_INT(mp_dns_name_ascii(name, WIRE("\xc3\xbc\0x")), MP_E_INVALID);
}

TEST(names_to_ask_for_have_a_length)
{
  char name[MP_DNS_NAME_ASKED], given[300];
  memset(given, 'a', sizeof given);
  CHECK_EQ_INT(mp_dns_name_ascii(name, mp_str_of(given, 63)), 63);
  CHECK_EQ_INT(mp_dns_name_ascii(name, mp_str_of(given, 64)), MP_E_INVALID);
  for (size_t i = 63; i < sizeof given; i += 64)
    given[i] = '.';
  CHECK_EQ_INT(mp_dns_name_ascii(name, mp_str_of(given, 253)), 253);
  CHECK_EQ_INT(mp_dns_name_ascii(name, mp_str_of(given, 254)), MP_E_INVALID);
}

TEST(want_of_memory_is_told_from_a_bad_name)
{
  char name[MP_DNS_NAME_ASKED];
  FOR_EACH_ALLOC_FAILURE {
    mp_ssize len = mp_dns_name_ascii(name, MP_STR("b\xc3\xbc"
                                                  "cher.example"));
    CHECK(len == 21 || len == MP_E_NOMEM);
  }
}

TEST(addresses_are_looked_up_backwards)
{
  char name[MP_DNS_NAME_ASKED];
  mp_ip ip;
  REQUIRE(mp_ip_parse(&ip, MP_STR("192.0.2.55")));
  CHECK_EQ_INT((int)mp_dns_name_reverse(name, &ip), 23);
  CHECK_STR(mp_str_c(name), "55.2.0.192.in-addr.arpa");
  REQUIRE(mp_ip_parse(&ip, MP_STR("2001:db8::ab")));
  CHECK_EQ_INT((int)mp_dns_name_reverse(name, &ip), 72);
  CHECK_STR(mp_str_c(name), "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

TEST(mail_exchangers)
{
  mp_dns_mx mx;
  CHECK_EQ_INT(mp_dns_read_mx(WIRE("\1\2\1a\1b\0"), &mx), 0);
  CHECK_EQ_INT((int)mx.preference, 258);
  CHECK_STR(mp_str_c(mx.host), "a.b");
  CHECK_EQ_INT(mp_dns_read_mx(WIRE("\0\0\0"), &mx), 0);
  CHECK_STR(mp_str_c(mx.host), "");
  CHECK_EQ_INT(mp_dns_read_mx(WIRE("\0\0"), &mx), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_read_mx(WIRE("\0\0\1a\0more"), &mx), MP_E_SYNTAX);
}

TEST(addresses)
{
  mp_ip ip;
  char text[MP_IP_TEXT];
  CHECK_EQ_INT(mp_dns_read_ip(WIRE("\xc0\0\2\1"), &ip), 0);
  mp_ip_format(&ip, text);
  CHECK_STR(mp_str_c(text), "192.0.2.1");
  CHECK_EQ_INT(mp_dns_read_ip(WIRE("\x20\1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\1"), &ip), 0);
  mp_ip_format(&ip, text);
  CHECK_STR(mp_str_c(text), "2001:db8::1");
  CHECK_EQ_INT(mp_dns_read_ip(WIRE("\xc0\0\2"), &ip), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_read_ip(MP_STR_NULL, &ip), MP_E_SYNTAX);
}

TEST(texts_are_joined)
{
  char text[32];
  CHECK_EQ_INT(mp_dns_read_text(WIRE("\3abc\0\2de"), text), 5);
  CHECK_STR(mp_str_of(text, 5), "abcde");
  CHECK_EQ_INT(mp_dns_read_text(WIRE("\0"), text), 0);
  CHECK_EQ_INT(mp_dns_read_text(WIRE("\3ab"), text), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_read_text(WIRE("\1a\xff"), text), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dns_read_text(MP_STR_NULL, text), MP_E_SYNTAX);
}

TEST(promised_certificates)
{
  mp_dns_tlsa tlsa;
  CHECK_EQ_INT(mp_dns_read_tlsa(WIRE("\3\1\2\xaa\xbb"), &tlsa), 0);
  CHECK(tlsa.usage == 3 && tlsa.selector == 1 && tlsa.mtype == 2);
  CHECK_STR(tlsa.data, "\xaa\xbb");
  CHECK_EQ_INT(mp_dns_read_tlsa(WIRE("\3\1\1"), &tlsa), MP_E_SYNTAX);
}

TEST(types_have_names)
{
  mp_dns_type type = MP_DNS_A;
  CHECK(mp_dns_type_of(&type, MP_STR("TLSA")) && type == MP_DNS_TLSA);
  CHECK(!mp_dns_type_of(&type, MP_STR("mx")) && !mp_dns_type_of(&type, MP_STR("AXFR")));
  CHECK_STR(mp_str_c(mp_dns_type_name(MP_DNS_AAAA)), "AAAA");
  CHECK_STR(mp_str_c(mp_dns_type_name((mp_dns_type)99)), "?");
}

TEST(a_name_as_people_read_it)
{
  char text[MP_DNS_NAME_TEXT];
  CHECK_EQ_INT(mp_dns_name_unicode(text, MP_STR("XN--bcher-KVA.example.")), 15);
  CHECK_CSTR(text, "b\xc3\xbc"
                   "cher.example");
  CHECK_EQ_INT(mp_dns_name_unicode(text, MP_STR("B\xc3\x9c"
                                                "cher.example")),
               15);
  CHECK_CSTR(text, "b\xc3\xbc"
                   "cher.example");
  CHECK_EQ_INT(mp_dns_name_unicode(text, MP_STR("plain.example")), 13);
  static const char *const none[] = {
    "", "xn--.example", "xn--a.example", "xn--99999999.example", "xn--ascii-.example", "a..b"
  };
  for (size_t i = 0; i < sizeof none / sizeof *none; i++)
    if (!CHECK(mp_dns_name_unicode(text, mp_str_c(none[i])) == MP_E_INVALID))
      printf("  %s\n", none[i]);
}

TEST(a_name_without_memory)
{
  FOR_EACH_ALLOC_FAILURE {
    char text[MP_DNS_NAME_TEXT];
    mp_ssize len = mp_dns_name_unicode(text, MP_STR("xn--bcher-kva.example"));
    CHECK_EQ_INT(len, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 15);
  }
}

CHECK_MAIN
