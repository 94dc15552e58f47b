/* PROXY headers, versions 1 and 2, and the attributes of XCLIENT. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/proxy.h"

#define LIT(s)    mp_str_of("" s, sizeof(s) - 1)
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static mp_ssize parse(mp_proxy *proxy, mp_str in)
{
  char *copy = malloc(in.len ? in.len : 1);
  memcpy(copy, in.ptr, in.len);
  mp_ssize rc = mp_proxy_parse(proxy, mp_str_of(copy, in.len));
  free(copy);
  return rc;
}

static void check_address(const mp_ip *ip, const char *want)
{
  char text[MP_IP_TEXT];
  mp_ip_format(ip, text);
  CHECK_EQ_STR(mp_str_c(text), mp_str_c(want));
}

/* Every part of a header wants more; with commands behind it the header alone is taken. */
static bool check_header(mp_proxy *proxy, mp_str header)
{
  char in[700];
  for (size_t n = 0; n < header.len; n++)
    if (!CHECK_EQ_INT(parse(proxy, mp_str_sub(header, 0, n)), 0))
      return false;
  memcpy(in, header.ptr, header.len);
  memcpy(in + header.len, "EHLO a\r\n", 8);
  return CHECK_EQ_INT(parse(proxy, mp_str_of(in, header.len + 8)), header.len) &&
         CHECK_EQ_INT(parse(proxy, header), header.len);
}

static void check_bad(mp_str in)
{
  mp_proxy proxy;
  char shown[300];
  if (parse(&proxy, in) != MP_E_SYNTAX)
    FAIL("\"%s\" is no syntax error", check_quote(in, shown, sizeof shown));
}

TEST(version_1_over_ipv4)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n")));
  CHECK(proxy.known && !proxy.local);
  check_address(&proxy.source, "192.0.2.1");
  check_address(&proxy.destination, "198.51.100.2");
  CHECK_EQ_INT(proxy.source_port, 56324);
  CHECK_EQ_INT(proxy.destination_port, 25);
}

TEST(version_1_over_ipv6)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n")));
  CHECK(proxy.known);
  check_address(&proxy.source, "2001:db8::1");
  check_address(&proxy.destination, "2001:db8::2");
  CHECK_EQ_INT(proxy.destination_port, 65535);
}

TEST(version_1_unknown_names_nobody)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT("PROXY UNKNOWN\r\n")));
  CHECK(!proxy.known && !proxy.local);
  REQUIRE(check_header(&proxy, LIT("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n")));
  CHECK(!proxy.known);
}

TEST(version_1_bad)
{
  check_bad(LIT("proxy TCP4 192.0.2.1 198.51.100.2 56324 25\r\n"));
  check_bad(LIT("PROXY  TCP4 192.0.2.1 198.51.100.2 56324 25\r\n"));
  check_bad(LIT("PROXY TCP5 192.0.2.1 198.51.100.2 56324 25\r\n"));
  check_bad(LIT("PROXY UNKNOWNS\r\n"));
  check_bad(LIT("PROXY \r\n"));
  check_bad(LIT("PROXY\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 \r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 56324 25 1\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 000001 25\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.256 198.51.100.2 1 25\r\n"));
  check_bad(LIT("PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n"));
  check_bad(LIT("PROXY TCP6 192.0.2.1 198.51.100.2 1 25\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1 198.51.100.2 1 25\r\r\n"));
  check_bad(LIT("PROXY TCP4 192.0.2.1\0 198.51.100.2 1 25\r\n"));
  check_bad(LIT("PROXY UNKNOWN a\rb\r\n"));
}

TEST(what_can_be_no_header_is_refused_at_its_first_octet)
{
  static const char *const bad[] = { "E",         "EHLO a\r\n",         "PE",          "PROXX", "\n", "\r\r",
                                     "\r\n\r\nQ", "GET / HTTP/1.1\r\n", "\026\003\001" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    check_bad(mp_str_c(bad[i]));
  check_bad(LIT("\0"));
}

TEST(version_1_is_at_most_107_octets)
{
  mp_proxy proxy;
  char in[120] = "PROXY UNKNOWN ";
  memset(in + 14, 'x', sizeof in - 14);
  CHECK_EQ_INT(parse(&proxy, mp_str_of(in, 106)), 0);
  check_bad(mp_str_of(in, 107));
  memcpy(in + 105, "\r\n", 2);
  CHECK_EQ_INT(parse(&proxy, mp_str_of(in, 107)), 107);
  in[105] = 'x';
  memcpy(in + 106, "\r\n", 2);
  check_bad(mp_str_of(in, 108));
}

TEST(version_2_over_ipv4)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19")));
  CHECK(proxy.known && !proxy.local);
  check_address(&proxy.source, "192.0.2.1");
  check_address(&proxy.destination, "198.51.100.2");
  CHECK_EQ_INT(proxy.source_port, 56324);
  CHECK_EQ_INT(proxy.destination_port, 25);
}

#define SIX_1 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define SIX_2 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"

TEST(version_2_over_ipv6)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x21\x21\x00\x24" SIX_1 SIX_2 "\xdc\x04\x00\x19")));
  CHECK(proxy.known);
  check_address(&proxy.source, "2001:db8::1");
  check_address(&proxy.destination, "2001:db8::2");
  CHECK_EQ_INT(proxy.source_port, 56324);
}

TEST(version_2_tlvs_are_skipped)
{
  mp_proxy proxy;
  REQUIRE(check_header(
      &proxy,
      LIT(SIGNATURE "\x21\x11\x00\x14\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x02\x00\x02mx\xee\0\0")));
  CHECK(proxy.known);
}

TEST(version_2_local_and_unspecified_name_nobody)
{
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x20\x00\x00\x00")));
  CHECK(!proxy.known && proxy.local);
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x20\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19")));
  CHECK(!proxy.known && proxy.local);
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x20\x00\x00\x05xxxxx")));
  CHECK(proxy.local);
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x21\x00\x00\x03xxx")));
  CHECK(!proxy.known && !proxy.local);
}

TEST(version_2_unix_and_datagrams_name_nobody)
{
  mp_proxy proxy;
  char in[16 + 216] = SIGNATURE "\x21\x31\x00\xd8";
  memset(in + 16, 'x', 216);
  REQUIRE(check_header(&proxy, mp_str_of(in, sizeof in)));
  CHECK(!proxy.known);
  REQUIRE(check_header(&proxy, LIT(SIGNATURE "\x21\x12\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19")));
  CHECK(!proxy.known);
}

TEST(version_2_bad)
{
  check_bad(LIT(SIGNATURE "\x11"));
  check_bad(LIT(SIGNATURE "\x22"));
  check_bad(LIT(SIGNATURE "\x31"));
  check_bad(LIT("\r\n\r\n\0\r\nQUIT\r"));
  check_bad(LIT(SIGNATURE "\x21\x41\x00\x00"));
  check_bad(LIT(SIGNATURE "\x21\x13\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19"));
  check_bad(LIT(SIGNATURE "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00")); /* too short for its family */
  check_bad(LIT(SIGNATURE "\x21\x11\x00\x0e\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x02\x00")); /* half a TLV */
  check_bad(LIT(SIGNATURE "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x02\x00\x02m")); /* TLV past the end */
  check_bad(LIT(SIGNATURE "\x21\x11\xff\xff"));
}

TEST(version_2_is_at_most_536_octets)
{
  mp_proxy proxy;
  check_bad(LIT(SIGNATURE "\x21\x11\x02\x09"));
  CHECK_EQ_INT(parse(&proxy, LIT(SIGNATURE "\x21\x11\x02\x08")), 0);
  char in[536] = SIGNATURE "\x21\x11\x02\x08\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x04\x01\xf9";
  REQUIRE(check_header(&proxy, mp_str_of(in, sizeof in)));
}

/* ---- CRC32C -------------------------------------------------------------------------------------------------------- */

static uint32_t crc32c(const unsigned char *p, size_t len)
{
  uint32_t crc = UINT32_MAX;
  for (size_t i = 0; i < len; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++)
      crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

static size_t with_checksum(unsigned char *out)
{
  static const char head[] = SIGNATURE
      "\x21\x11\x00\x18\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x03\x00\x04\0\0\0\0\x02\x00\x02";
  size_t len = sizeof head - 1;
  memcpy(out, head, len);
  memcpy(out + len, "mx", 2);
  len += 2;
  out[15] = (unsigned char)(len - 16);
  uint32_t crc = crc32c(out, len);
  for (int i = 0; i < 4; i++)
    out[31 + i] = (unsigned char)(crc >> (24 - 8 * i));
  return len;
}

TEST(the_checksum_is_the_castagnoli_one)
{
  /* RFC 3720 B.4 */
  static const unsigned char zeros[32];
  CHECK(crc32c(zeros, 32) == 0x8a9136aau);
  CHECK(crc32c((const unsigned char *)"123456789", 9) == 0xe3069283u);
}

TEST(version_2_with_a_checksum_is_verified)
{
  unsigned char in[64];
  size_t len = with_checksum(in);
  mp_proxy proxy;
  REQUIRE(check_header(&proxy, mp_str_of((char *)in, len)));
  CHECK(proxy.known);
  /* Each octet behind the fixed head, changed by one bit. Only the checksum's own type is not covered by it: changed, there is
   * none to verify. */
  for (size_t i = 16; i < len; i++) {
    if (i == 28)
      continue;
    in[i] ^= 1;
    CHECK_EQ_INT(parse(&proxy, mp_str_of((char *)in, len)), MP_E_SYNTAX);
    in[i] ^= 1;
  }
}

TEST(version_2_with_two_checksums_or_one_of_another_size_is_refused)
{
  check_bad(LIT(SIGNATURE "\x21\x11\x00\x12\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x00\x19\x03\x00\x03\0\0\0"));
  unsigned char in[64];
  size_t len = with_checksum(in);
  memcpy(in + len, in + 28, 7);
  in[15] = (unsigned char)(in[15] + 7);
  mp_proxy proxy;
  CHECK_EQ_INT(parse(&proxy, mp_str_of((char *)in, len + 7)), MP_E_SYNTAX);
}

/* ---- XCLIENT ------------------------------------------------------------------------------------------------------- */

static int xclient(mp_xclient *out, mp_str in)
{
  static char *kept, *scratch; /* views point into them until the next call; both are exactly as large as promised */
  free(kept);
  free(scratch);
  kept = malloc(in.len ? in.len : 1);
  scratch = malloc(in.len ? in.len : 1);
  memcpy(kept, in.ptr, in.len);
  return mp_xclient_parse(out, mp_str_of(kept, in.len), scratch);
}

TEST(xclient_with_every_attribute)
{
  mp_xclient got;
  REQUIRE(
      xclient(&got,
              LIT("NAME=spike.porcupine.org ADDR=168.100.189.2 PORT=56324 proto=esmtp HELO=spike+20x LOGIN=us+2Ber+40a DESTADDR=IPV6:2001:db8::1 DESTPORT=25")) ==
      0);
  CHECK_EQ_INT(got.given, 255);
  CHECK_EQ_INT(got.unavailable, 0);
  CHECK_STR(got.name, "spike.porcupine.org");
  CHECK_STR(got.helo, "spike x");
  CHECK_STR(got.login, "us+er@a");
  check_address(&got.addr, "168.100.189.2");
  check_address(&got.destaddr, "2001:db8::1");
  CHECK_EQ_INT(got.port, 56324);
  CHECK_EQ_INT(got.destport, 25);
  CHECK(got.esmtp);
}

TEST(xclient_with_what_is_unavailable)
{
  mp_xclient got;
  REQUIRE(xclient(&got, LIT("NAME=[UNAVAILABLE] ADDR=[tempunavail] LOGIN=[UNAVAILABLE]")) == 0);
  CHECK_EQ_INT(got.given, MP_XCLIENT_NAME | MP_XCLIENT_ADDR | MP_XCLIENT_LOGIN);
  CHECK_EQ_INT(got.unavailable, got.given);
  CHECK_EQ_INT(got.name.len, 0);
}

TEST(xclient_takes_several_spaces)
{
  mp_xclient got;
  REQUIRE(xclient(&got, LIT("  PROTO=SMTP   PORT=0  ")) == 0);
  CHECK_EQ_INT(got.given, MP_XCLIENT_PROTO | MP_XCLIENT_PORT);
  CHECK(!got.esmtp);
}

TEST(xclient_bad)
{
  static const char *const bad[] = { "",
                                     " ",
                                     "NAME",
                                     "NAME=",
                                     "=a",
                                     "FOO=bar",
                                     "NAME=a NAME=a",
                                     "ADDR=2001:db8::1",
                                     "ADDR=IPV6:192.0.2.1",
                                     "ADDR=IPV6:",
                                     "ADDR=host",
                                     "ADDR=192.0.2.1 x",
                                     "PORT=65536",
                                     "PORT=a",
                                     "PORT=-1",
                                     "PORT=000025",
                                     "PROTO=LMTP",
                                     "HELO=a+0Ab",
                                     "HELO=a+0Db",
                                     "HELO=a+00",
                                     "HELO=a+7F",
                                     "HELO=a+",
                                     "HELO=a+2",
                                     "HELO=a+G0",
                                     "HELO=a+2G",
                                     "HELO=+C3+B8",
                                     "LOGIN=a+0D+0Ab",
                                     "LOGIN=+FF",
                                     "LOGIN=+C2+85",
                                     "NAME=a+20b",
                                     "NAME=a..b",
                                     "NAME=-a",
                                     "NAME=a\tPORT=1",
                                     "LOGIN=a\001b" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    mp_xclient got;
    if (xclient(&got, mp_str_c(bad[i])) != MP_E_SYNTAX)
      FAIL("\"%s\" is taken", bad[i]);
  }
  mp_xclient got;
  CHECK_EQ_INT(xclient(&got, LIT("HELO=a\0b")), MP_E_SYNTAX);
  CHECK_EQ_INT(xclient(&got, LIT("HELO=a\rb")), MP_E_SYNTAX);
  CHECK_EQ_INT(xclient(&got, LIT("HELO=a\nb")), MP_E_SYNTAX);
}

CHECK_MAIN
