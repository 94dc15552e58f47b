/* Parameters of MAIL and RCPT. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/param.h"
#include "smtp/stamp.h"

enum { ALL = (1 << 14) - 1 };

static int mail_within(mp_mail_params *params, const char *in, unsigned allowed, uint64_t max_size)
{
  mp_reply refusal = { .code = 0 };
  size_t len = strlen(in);
  static char *kept; /* views point into it until the next call */
  free(kept);
  kept = malloc(len ? len : 1);
  memcpy(kept, in, len);
  if (mp_mail_params_parse(params, mp_str_of(kept, len), allowed, max_size, &refusal)) {
    CHECK_EQ_INT(refusal.code, 0);
    return 250;
  }
  CHECK(mp_reply_check(&refusal) == NULL);
  CHECK_EQ_INT(refusal.enhanced[0], 5);
  CHECK_EQ_INT(refusal.enhanced[2], 4);
  return refusal.code;
}

static int mail(mp_mail_params *params, const char *in)
{
  return mail_within(params, in, ALL, 1000000);
}

static int rcpt(mp_rcpt_params *params, const char *in, bool utf8)
{
  mp_reply refusal = { .code = 0 };
  if (mp_rcpt_params_parse(params, mp_str_c(in), ALL, utf8, &refusal))
    return 250;
  CHECK(mp_reply_check(&refusal) == NULL);
  return refusal.code;
}

static void check_mail(const char *in, int code)
{
  mp_mail_params params;
  int got = mail(&params, in);
  if (got != code)
    FAIL("MAIL with \"%s\": %d, not %d", in, got, code);
}

static void check_rcpt(const char *in, bool utf8, int code)
{
  mp_rcpt_params params;
  int got = rcpt(&params, in, utf8);
  if (got != code)
    FAIL("RCPT with \"%s\": %d, not %d", in, got, code);
}

TEST(no_parameters)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, ""), 250);
  CHECK_EQ_INT(params.given, 0);
  CHECK_EQ_INT(mail(&params, "   \t "), 250);
  CHECK_EQ_INT(params.given, 0);
}

TEST(many_at_once_in_any_case_and_order)
{
  mp_mail_params params;
  CHECK_EQ_INT(
      mail(&params,
           " size=12 Body=8bitmime SMTPUTF8 RET=hdrs ENVID=a+2Bb BY=60;R HOLDFOR=9 mt-priority=-3 REQUIRETLS AUTH=<> "),
      250);
  CHECK_EQ_INT(params.given, ALL & ~(MP_PARAM_HOLDUNTIL | MP_PARAM_NOTIFY | MP_PARAM_ORCPT | MP_PARAM_BINARY));
  CHECK_EQ_INT(params.size, 12);
  CHECK_EQ_INT(params.body, MP_BODY_8BIT);
  CHECK_EQ_INT(params.ret, MP_RET_HDRS);
  CHECK_STR(params.envid, "a+2Bb");
  CHECK_EQ_INT(params.by_seconds, 60);
  CHECK_EQ_INT(params.hold_for, 9);
  CHECK_EQ_INT(params.priority, -3);
  CHECK_STR(params.auth, "<>");
}

TEST(what_is_no_list_of_parameters)
{
  static const char *const bad[] = { "SIZE=1",
                                     "  SIZE=1",
                                     " SIZE=1  BODY=7BIT",
                                     " =1",
                                     " -X=1",
                                     " SIZE =1",
                                     " SIZE= 1",
                                     " SIZE=1=2",
                                     " SIZE=",
                                     " SIZE==1",
                                     " SIZE=1\t BODY=7BIT",
                                     " SIZE=1;",
                                     " S_IZE=1",
                                     " SIZE=1\177",
                                     " X=\001",
                                     " (c) SIZE=1",
                                     " ENVID=\377",
                                     " ENVID=\302\205" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    check_mail(bad[i], 501);
  mp_mail_params params;
  mp_reply refusal;
  CHECK(!mp_mail_params_parse(&params, mp_str_of(" ENVID=a\0b", 10), ALL, 0, &refusal) && refusal.code == 501);
  CHECK(!mp_mail_params_parse(&params, mp_str_of(" ENVID=a\rb", 10), ALL, 0, &refusal) && refusal.code == 501);
  CHECK(!mp_mail_params_parse(&params, mp_str_of(" ENVID=a\nb", 10), ALL, 0, &refusal) && refusal.code == 501);
}

TEST(a_parameter_that_is_unknown_or_not_allowed)
{
  check_mail(" FOO=bar", 555);
  check_mail(" FOO", 555);
  check_mail(" NOTIFY=NEVER", 555);
  check_rcpt(" SIZE=1", false, 555);
  mp_mail_params params;
  for (unsigned bit = 1; bit <= MP_PARAM_AUTH; bit <<= 1) {
    CHECK_EQ_INT(mail_within(&params, " SIZE=1", (unsigned)ALL & ~bit, 0), bit == MP_PARAM_SIZE ? 555 : 250);
    CHECK_EQ_INT(mail_within(&params, " BODY=7BIT", (unsigned)ALL & ~bit, 0), bit == MP_PARAM_BODY ? 555 : 250);
    CHECK_EQ_INT(mail_within(&params, " AUTH=<>", (unsigned)ALL & ~bit, 0), bit == MP_PARAM_AUTH ? 555 : 250);
  }
  CHECK_EQ_INT(mail_within(&params, " SMTPUTF8", 0, 0), 555);
}

TEST(a_parameter_given_twice)
{
  check_mail(" SIZE=1 SIZE=1", 501);
  check_mail(" SMTPUTF8 SMTPUTF8", 501);
  check_mail(" BODY=7BIT SIZE=1 body=8BITMIME", 501);
  check_rcpt(" NOTIFY=NEVER NOTIFY=NEVER", false, 501);
  check_rcpt(" ORCPT=rfc822;a@b ORCPT=rfc822;a@b", false, 501);
}

TEST(size)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, " SIZE=0"), 250);
  CHECK_EQ_INT(mail(&params, " SIZE=1000000"), 250);
  CHECK_EQ_INT(params.size, 1000000);
  check_mail(" SIZE=1000001", 552);
  check_mail(" SIZE=99999999999999999999", 552);
  check_mail(" SIZE=18446744073709551616", 552);
  check_mail(" SIZE=999999999999999999999999999999999999999999", 552);
  check_mail(" SIZE=-1", 501);
  check_mail(" SIZE=+1", 501);
  check_mail(" SIZE=0x9", 501);
  check_mail(" SIZE=1k", 501);
  check_mail(" SIZE=", 501);
  check_mail(" SIZE", 501);
  CHECK_EQ_INT(mail_within(&params, " SIZE=18446744073709551615", ALL, 0), 250);
  CHECK(params.size == UINT64_MAX);
  CHECK_EQ_INT(mail_within(&params, " SIZE=18446744073709551616", ALL, 0), 552);
}

TEST(body)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, " BODY=BINARYMIME"), 250);
  CHECK_EQ_INT(params.body, MP_BODY_BINARY);
  CHECK_EQ_INT(mail_within(&params, " BODY=BINARYMIME", (unsigned)ALL & ~(unsigned)MP_PARAM_BINARY, 0), 504);
  check_mail(" BODY=9BIT", 504);
  check_mail(" BODY", 501);
}

TEST(flags_take_no_value)
{
  check_mail(" SMTPUTF8", 250);
  check_mail(" SMTPUTF8=1", 501);
  check_mail(" REQUIRETLS", 250);
  check_mail(" REQUIRETLS=1", 501);
}

TEST(ret_and_envid)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, " RET=FULL"), 250);
  CHECK_EQ_INT(params.ret, MP_RET_FULL);
  check_mail(" RET=BODY", 501);
  check_mail(" ENVID", 501);
  check_mail(" ENVID=a+20b", 250);
  check_mail(" ENVID=a+0Ab", 501);
  check_mail(" ENVID=a+0D+0Ab", 501);
  check_mail(" ENVID=a+00", 501);
  check_mail(" ENVID=a+80", 501);
  check_mail(" ENVID=a+7F", 501);
  check_mail(" ENVID=a+2", 501);
  check_mail(" ENVID=a+", 501);
  check_mail(" ENVID=a+2b", 501); /* RFC 3461 4: upper case */
  check_mail(" ENVID=a+GG", 501);
  char in[400] = " ENVID=";
  memset(in + 7, 'e', 100);
  check_mail(in, 250);
  in[107] = 'e';
  check_mail(in, 501);
  for (int i = 0; i < 100; i++)
    memcpy(in + 7 + 3 * i, "+2B", 4);
  check_mail(in, 250);
}

TEST(deliver_by)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, " BY=120;R"), 250);
  CHECK(params.by_seconds == 120 && params.by_mode == 'R' && !params.by_trace);
  CHECK_EQ_INT(mail(&params, " BY=-999999999;nt"), 250);
  CHECK(params.by_seconds == -999999999 && params.by_mode == 'N' && params.by_trace);
  CHECK_EQ_INT(mail(&params, " BY=+999999999;N"), 250);
  CHECK_EQ_INT(params.by_seconds, 999999999);
  static const char *const bad[] = { " BY",       " BY=",     " BY=1",     " BY=;R",           " BY=1;",
                                     " BY=1;X",   " BY=1;RX", " BY=1;RTT", " BY=1234567890;R", " BY=-;N",
                                     " BY=--1;N", " BY=0;R",  " BY=-1;R",  " BY=1R",           " BY=1;;R" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    check_mail(bad[i], 501);
}

TEST(future_release)
{
  mp_mail_params params;
  CHECK_EQ_INT(mail(&params, " HOLDFOR=999999999"), 250);
  CHECK_EQ_INT(params.hold_for, 999999999);
  check_mail(" HOLDFOR=1000000000", 501);
  check_mail(" HOLDFOR=0", 501);
  check_mail(" HOLDFOR=01", 501);
  check_mail(" HOLDFOR=-1", 501);
  CHECK_EQ_INT(mail(&params, " HOLDUNTIL=2026-07-01T12:00:00Z"), 250);
  CHECK_EQ_INT(params.hold_until_s, 1782907200);
  CHECK_STR(params.hold_until, "2026-07-01T12:00:00Z");
  check_mail(" HOLDUNTIL=2026-07-01", 501);
  check_mail(" HOLDFOR=1 HOLDUNTIL=2026-07-01T12:00:00Z", 501);
}

TEST(priority)
{
  mp_mail_params params;
  for (int n = -9; n <= 9; n++) {
    char in[32];
    snprintf(in, sizeof in, " MT-PRIORITY=%d", n);
    CHECK_EQ_INT(mail(&params, in), 250);
    CHECK_EQ_INT(params.priority, n);
  }
  static const char *const bad[] = { "10", "-10", "-0", "+1", "01", "-", "a", "1.0" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char in[32];
    snprintf(in, sizeof in, " MT-PRIORITY=%s", bad[i]);
    check_mail(in, 501);
  }
}

TEST(auth)
{
  check_mail(" AUTH=<>", 250);
  check_mail(" AUTH=e+3Dmc2@example.com", 250);
  check_mail(" AUTH=\"a+20b\"@c", 250);
  check_mail(" AUTH=a", 501);
  check_mail(" AUTH=a@", 501);
  check_mail(" AUTH=<a@b>", 501);
  check_mail(" AUTH=a+0A@b", 501);
  check_mail(" AUTH=a+0D+0ARSET@b", 501);
  check_mail(" AUTH=a+00@b", 501);
  check_mail(" AUTH=a@b+20c", 501);
  check_mail(" AUTH", 501);
  check_mail(" AUTH=j+C3+B8@b", 501);
  check_mail(" AUTH=j+C3+B8@b SMTPUTF8", 250);
  check_mail(" SMTPUTF8 AUTH=j+C3@b", 501);
  char in[800] = " AUTH=";
  memset(in + 6, 'a', 600);
  memcpy(in + 606, "@b", 3);
  check_mail(in, 501);
}

TEST(notify)
{
  mp_rcpt_params params;
  CHECK_EQ_INT(rcpt(&params, " NOTIFY=SUCCESS,failure,Delay", false), 250);
  CHECK_EQ_INT(params.notify, MP_NOTIFY_SUCCESS | MP_NOTIFY_FAILURE | MP_NOTIFY_DELAY);
  CHECK_EQ_INT(rcpt(&params, " NOTIFY=NEVER", false), 250);
  CHECK_EQ_INT(params.notify, MP_NOTIFY_NEVER);
  CHECK_EQ_INT(params.given, MP_PARAM_NOTIFY);
  static const char *const bad[] = { " NOTIFY",
                                     " NOTIFY=",
                                     " NOTIFY=NEVER,SUCCESS",
                                     " NOTIFY=DELAY,NEVER",
                                     " NOTIFY=SUCCESS,",
                                     " NOTIFY=,SUCCESS",
                                     " NOTIFY=SUCCESS,,DELAY",
                                     " NOTIFY=ALWAYS",
                                     " NOTIFY=SUCCESS, DELAY" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    check_rcpt(bad[i], false, 501);
}

TEST(orcpt)
{
  mp_rcpt_params params;
  CHECK_EQ_INT(rcpt(&params, " ORCPT=rfc822;a+2Bb@c NOTIFY=DELAY", false), 250);
  CHECK_STR(params.orcpt, "rfc822;a+2Bb@c");
  check_rcpt(" ORCPT=x400;/C=..", false, 501); /* '=' is no octet of a value */
  check_rcpt(" ORCPT=x400;/C+3DDE", false, 250);
  static const char *const bad[] = { " ORCPT",
                                     " ORCPT=rfc822",
                                     " ORCPT=rfc822;",
                                     " ORCPT=;a@b",
                                     " ORCPT=rfc(c)822;a@b",
                                     " ORCPT=rfc822;a+0Ab@c",
                                     " ORCPT=rfc822;a+0Db@c",
                                     " ORCPT=rfc822;a+00b@c",
                                     " ORCPT=rfc822;a+1Bb@c",
                                     " ORCPT=rfc822;a+7F",
                                     " ORCPT=rfc822;a+C3+B8",
                                     " ORCPT=rfc822;a+2",
                                     " ORCPT=rfc822;\303\270@c" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_rcpt(bad[i], false, 501);
    check_rcpt(bad[i], true, 501);
  }
  char in[600] = " ORCPT=rfc822;";
  memset(in + 14, 'o', 493);
  check_rcpt(in, false, 250);
  in[14 + 493] = 'o';
  check_rcpt(in, false, 501);
}

TEST(orcpt_of_rfc_6533)
{
  check_rcpt(" ORCPT=utf-8;a@b", false, 250);
  check_rcpt(" ORCPT=utf-8;j\\x{F8}rgen@b", false, 250);
  check_rcpt(" ORCPT=UTF-8;\\x{1F600}@b", true, 250);
  check_rcpt(" ORCPT=utf-8;\\x{20}\\x{2B}\\x{3D}\\x{5C}@b", true, 250);
  check_rcpt(" ORCPT=utf-8;j\303\270rgen@b", true, 250);
  check_rcpt(" ORCPT=utf-8;j\303\270rgen@b", false, 501);
  static const char *const bad[] = { "\\",        "\\x",         "\\x{",         "\\x{}",   "\\x{F}",
                                     "\\x{0F8}",  "\\x{0A}",     "\\x{A}",       "\\x{D}",  "\\x{1B}",
                                     "\\x{7F}",   "\\x{85}",     "\\x{41}",      "\\x{f8}", "\\x{D800}",
                                     "\\x{DFFF}", "\\x{110000}", "\\x{1000000}", "\\y{F8}", "\\x{F8",
                                     "a+2B",      "\377",        "\302\205",     "\\x{XY}" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char in[64];
    snprintf(in, sizeof in, " ORCPT=utf-8;%s", bad[i]);
    check_rcpt(in, true, 501);
  }
}

TEST(xtext)
{
  mp_buf out;
  mp_buf_init(&out, 64, NULL);
  mp_buf_str(&out, MP_STR("<"));
  CHECK_EQ_INT(mp_xtext_decode(&out, MP_STR("a+2Bb+00")), 0);
  CHECK_STR(mp_buf_view(&out), "<a+b\0");
  static const char *const bad[] = { "a=b", "a b", "+", "+2", "+2b", "+G0", "\177", "\200" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK_EQ_INT(mp_xtext_decode(&out, mp_str_c(bad[i])), MP_E_SYNTAX);
  CHECK_EQ_INT(out.len, 5);
  mp_buf_cut(&out, 1);
  CHECK_EQ_INT(mp_xtext_encode(&out, mp_str_of("a+b=c d\r\n\0\303\270~", 13)), 0);
  CHECK_STR(mp_buf_view(&out), "<a+2Bb+3Dc+20d+0D+0A+00+C3+B8~");
  CHECK_EQ_INT(mp_xtext_encode(&out, MP_STR("a=a=a=a=a=a=a=a=a=a=a=a=a=a=a=a=a=a=a=")), MP_E_FULL);
  CHECK_EQ_INT(out.len, 30);
  mp_buf_dispose(&out);
}

TEST(xtext_comes_back_as_it_went)
{
  char all[256];
  for (int i = 0; i < 256; i++)
    all[i] = (char)i;
  mp_buf coded, back;
  mp_buf_init(&coded, 1024, NULL);
  mp_buf_init(&back, 1024, NULL);
  CHECK_EQ_INT(mp_xtext_encode(&coded, mp_str_of(all, 256)), 0);
  CHECK_EQ_INT(mp_xtext_decode(&back, mp_buf_view(&coded)), 0);
  CHECK_EQ_STR(mp_buf_view(&back), mp_str_of(all, 256));
  mp_buf_dispose(&coded);
  mp_buf_dispose(&back);
}

TEST(xtext_without_memory_adds_nothing)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_buf coded, back;
    mp_buf_init(&coded, 1024, NULL);
    mp_buf_init(&back, 1024, NULL);
    mp_str in = MP_STR("a string long enough to need more than one block, because blocks begin small");
    int rc = mp_xtext_encode(&coded, in);
    if (rc < 0)
      CHECK(rc == MP_E_NOMEM && coded.len == 0);
    else if (mp_xtext_decode(&back, mp_buf_view(&coded)) < 0)
      CHECK(CHECK_ALLOC_FAILED() && back.len == 0);
    else
      CHECK_EQ_STR(mp_buf_view(&back), in);
    mp_buf_dispose(&coded);
    mp_buf_dispose(&back);
  }
}

TEST(stamps)
{
  static const struct {
    const char *text;
    int64_t seconds;
  } good[] = {
    { "1970-01-01T00:00:00Z", 0 },
    { "1969-12-31T23:59:59Z", -1 },
    { "2000-02-29T00:00:00Z", 951782400 },
    { "2024-02-29T23:59:60Z", 1709251200 },
    { "2026-07-01T12:00:00.123456789Z", 1782907200 },
    { "2026-07-01T14:00:00+02:00", 1782907200 },
    { "2026-07-01T06:30:00-05:30", 1782907200 },
    { "9999-12-31T23:59:59Z", INT64_C(253402300799) },
    { "0000-01-01T00:00:00Z", INT64_C(-62167219200) },
  };
  int64_t seconds;
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    CHECK(mp_stamp_parse(mp_str_c(good[i].text), &seconds));
    CHECK_EQ_INT(seconds, good[i].seconds);
  }
  static const char *const bad[] = { "",
                                     "2026-07-01",
                                     "2026-07-01T12:00:00",
                                     "2026-07-01t12:00:00Z",
                                     "2026-07-01T12:00:00z",
                                     "2026-07-01 12:00:00Z",
                                     "2026-13-01T12:00:00Z",
                                     "2026-00-01T12:00:00Z",
                                     "2026-02-29T12:00:00Z",
                                     "1900-02-29T12:00:00Z",
                                     "2026-04-31T12:00:00Z",
                                     "2026-07-00T12:00:00Z",
                                     "2026-07-01T24:00:00Z",
                                     "2026-07-01T12:60:00Z",
                                     "2026-07-01T12:00:61Z",
                                     "2026-07-01T12:00:00.Z",
                                     "2026-07-01T12:00:00+2:00",
                                     "2026-07-01T12:00:00+24:00",
                                     "2026-07-01T12:00:00+02:60",
                                     "2026-07-01T12:00:00+0200",
                                     "2026-07-01T12:00:00ZZ",
                                     "2026-7-01T12:00:00Z",
                                     "-026-07-01T12:00:00Z",
                                     "2026-07-01T12:00:00+02:00Z" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_stamp_parse(mp_str_c(bad[i]), &seconds))
      FAIL("\"%s\" is taken", bad[i]);
}

CHECK_MAIN
