/* Dates and trace fields, octet for octet. */
#include "support/check.h"

#include "base/error.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/received.h"

#include <time.h>

static mp_str date(int64_t unix_s, int offset_min)
{
  static char text[MP_DATE_TEXT];
  size_t len = mp_date_format(unix_s, offset_min, text);
  CHECK_EQ_INT(strlen(text), len);
  return mp_str_of(text, len);
}

TEST(dates_are_those_of_rfc_5322)
{
  CHECK_STR(date(0, 0), "Thu, 1 Jan 1970 00:00:00 +0000");
  CHECK_STR(date(1795387310, 0), "Sun, 22 Nov 2026 22:41:50 +0000");
  CHECK_STR(date(1795387310, 120), "Mon, 23 Nov 2026 00:41:50 +0200");
  CHECK_STR(date(1795387310, -570), "Sun, 22 Nov 2026 13:11:50 -0930");
  CHECK_STR(date(951782400, 0), "Tue, 29 Feb 2000 00:00:00 +0000");
  CHECK_STR(date(-1, 0), "Wed, 31 Dec 1969 23:59:59 +0000");
  CHECK_STR(date(4107542399, 0), "Sun, 28 Feb 2100 23:59:59 +0000");
  CHECK_STR(date(4107542400, 0), "Mon, 1 Mar 2100 00:00:00 +0000");
  CHECK_STR(date(INT64_MAX, 60), "Fri, 31 Dec 9999 23:59:59 +0100");
  CHECK_STR(date(INT64_MIN, 0), "Sat, 1 Jan 0000 00:00:00 +0000");
  CHECK_STR(date(0, 100000), "Thu, 1 Jan 1970 00:00:00 +0000");
}

TEST(dates_agree_with_the_c_library)
{
  uint64_t seed = 20261122;
  for (int i = 0; i < 20000; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    int64_t s = (int64_t)((seed >> 20) % 253402300799u);
    time_t when = (time_t)s;
    struct tm tm;
    char want[64];
    gmtime_r(&when, &tm);
    size_t len = strftime(want, sizeof want, "%a, X %b %Y %H:%M:%S +0000", &tm);
    char *x = strchr(want, 'X');
    char whole[80];
    len = (size_t)snprintf(whole, sizeof whole, "%.*s%d%s", (int)(x - want), want, tm.tm_mday, x + 1);
    /* %Y is not padded */
    if (tm.tm_year + 1900 >= 1000 && !CHECK_EQ_STR(date(s, 0), mp_str_of(whole, len)))
      return;
  }
}

TEST(the_zone_is_the_systems)
{
  setenv("TZ", "XXX-5:30", 1);
  tzset();
  CHECK_EQ_INT(mp_date_offset(1795387310), 330);
  setenv("TZ", "YYY8", 1);
  tzset();
  CHECK_EQ_INT(mp_date_offset(1795387310), -480);
  unsetenv("TZ");
}

static const mp_ip v4 = { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9 } };
static const mp_ip v6 = { { 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 } };

static mp_trace usual(void)
{
  return (mp_trace){
    .helo = MP_STR("mail.example.net"),
    .peer_name = MP_STR("mail.example.net"),
    .peer = &v4,
    .by = MP_STR("mx.example.org"),
    .with = MP_STR("ESMTPS"),
    .tls_version = MP_STR("TLSv1.3"),
    .tls_cipher = MP_STR("TLS_AES_256_GCM_SHA384"),
    .user = MP_STR("ann"),
    .id = MP_STR("ABC"),
    .recipient = MP_STR("you@example.org"),
    .unix_s = 1795387310,
  };
}

static mp_str written(const mp_trace *trace)
{
  static char text[8192];
  mp_buf out;
  mp_buf_init(&out, sizeof text, NULL);
  CHECK_EQ_INT(mp_received_write(&out, trace), 0);
  size_t len = out.len;
  memcpy(text, mp_buf_view(&out).ptr, len);
  mp_buf_dispose(&out);
  /* Whatever was in it, it is one field. */
  bool open;
  mp_str all = mp_str_of(text, len);
  size_t pos = 0;
  mp_field field;
  CHECK_EQ_INT(mp_header_end(all, &open), len);
  CHECK(mp_header_next(all, &pos, &field) && pos == len);
  return all;
}

TEST(a_trace_field_over_tls)
{
  mp_trace trace = usual();
  CHECK_STR(written(&trace), "Received: from mail.example.net (mail.example.net [203.0.113.9])\r\n"
                             "\tby mx.example.org with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
                             "\tid ABC for <you@example.org>;\r\n"
                             "\tSun, 22 Nov 2026 22:41:50 +0000\r\n");
}

TEST(a_trace_field_of_a_nameless_ipv6_peer_for_many)
{
  mp_trace trace = usual();
  trace.peer = &v6;
  trace.peer_name = trace.tls_version = trace.tls_cipher = trace.recipient = MP_STR_NULL;
  trace.helo = MP_STR("[IPv6:2001:db8::1]");
  trace.with = MP_STR("ESMTP");
  CHECK_STR(written(&trace), "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n"
                             "\tby mx.example.org with ESMTP\r\n"
                             "\tid ABC;\r\n"
                             "\tSun, 22 Nov 2026 22:41:50 +0000\r\n");
}

TEST(a_local_peer_has_no_address)
{
  mp_trace trace = usual();
  trace.peer = NULL;
  trace.helo = MP_STR_NULL;
  trace.with = MP_STR("LMTP");
  trace.tls_version = trace.tls_cipher = MP_STR_NULL;
  CHECK_STR(written(&trace), "Received: from unknown (local)\r\n"
                             "\tby mx.example.org with LMTP\r\n"
                             "\tid ABC for <you@example.org>;\r\n"
                             "\tSun, 22 Nov 2026 22:41:50 +0000\r\n");
}

TEST(the_user_is_named_only_when_asked_for)
{
  mp_trace trace = usual();
  trace.show_user = true;
  trace.user = MP_STR("an)n\r\nX: (\\\xc3\xa9");
  CHECK_STR(written(&trace), "Received: from mail.example.net (mail.example.net [203.0.113.9])\r\n"
                             "\t(authenticated as an?n??X: ?\?\?\?)\r\n"
                             "\tby mx.example.org with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
                             "\tid ABC for <you@example.org>;\r\n"
                             "\tSun, 22 Nov 2026 22:41:50 +0000\r\n");
}

TEST(what_a_peer_said_cannot_leave_its_place)
{
  static const struct row {
    const char *helo, *want;
  } rows[] = {
    { "a\r\nB: c", "from a??B??c " },     { "a(b)c", "from a?b?c " },     { "a;b\"<>,", "from a?b???? " },
    { "[1.2.3.4]", "from [1.2.3.4] " },   { "[1.2]3]", "from [1.2?3] " }, { "]a[", "from ?a? " },
    { "localhost_", "from localhost_ " }, { "b\xc3\xbc", "from b?? " },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_trace trace = usual();
    trace.helo = mp_str_c(rows[i].helo);
    mp_str text = written(&trace);
    if (!memmem(text.ptr, text.len, rows[i].want, strlen(rows[i].want)))
      FAIL("row %zu: %.60s", i, text.ptr);
  }
}

TEST(a_recipient_is_named_only_when_it_can_stand_there)
{
  static const struct row {
    const char *address;
    bool named;
  } rows[] = {
    { "a@b", true },
    { "\"a b>\"@c", true },
    { "\"a\\\"b\"@c", true },
    { "gr\xc3\xbc\xc3\x9f@b", true },
    { "a>b@c", false },
    { "\"a@b", false },
    { "a b@c", false },
    { "a\r\n@b", false },
    { "\"a\r\n\"@b", false },
    { "\"a\\\n\"@b", false },
    { "\"a\\", false },
    { "\xff@b", false },
    { "a@[IPv6:::1]", true },
    { "a;b@c", false },
    { "", false },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_trace trace = usual();
    trace.recipient = mp_str_c(rows[i].address);
    mp_str text = written(&trace);
    if ((memmem(text.ptr, text.len, "for <", 5) != NULL) != rows[i].named)
      FAIL("row %zu: %s", i, rows[i].address);
  }
}

TEST(long_names_are_cut_and_lines_kept_short_where_they_can_be)
{
  static char name[5000];
  memset(name, 'n', sizeof name);
  mp_trace trace = usual();
  trace.helo = trace.peer_name = trace.by = trace.with = trace.id = trace.user = mp_str_of(name, sizeof name);
  trace.tls_version = trace.tls_cipher = mp_str_of(name, sizeof name);
  trace.recipient = mp_str_of(name, 300);
  trace.show_user = true;
  mp_str text = written(&trace);
  CHECK(text.len < 4096);
  for (size_t i = 1; i < text.len; i++)
    CHECK(!(text.ptr[i] == '\r' && mp_str_trim(mp_str_sub(text, i > 3 ? i - 3 : 0, 3)).len == 0));
  trace = usual();
  trace.helo = mp_str_of(name, 60);
  CHECK(memmem(written(&trace).ptr, 100, "\r\n\t(mail", 8) != NULL);
}

TEST(a_full_buffer_stays_as_it_was)
{
  mp_trace trace = usual();
  mp_buf out;
  mp_buf_init(&out, 100, NULL);
  CHECK_EQ_INT(mp_buf_add(&out, "x", 1), 0);
  CHECK_EQ_INT(mp_received_write(&out, &trace), MP_E_FULL);
  CHECK_EQ_INT(out.len, 1);
  mp_buf_dispose(&out);
}

CHECK_MAIN
