/* Authentication-Results (RFC 8601), piece by piece. */
#include "support/check.h"

#include "base/error.h"
#include "mail/authres.h"

static char shown[4096];

/* "id/version|method/version=result(comment)|reason=..|type.name=value|..", each value as mp_authres_text has it. */
static const char *show(const char *text)
{
  mp_buf out;
  mp_buf_init(&out, sizeof shown - 1, NULL);
  mp_authres reader;
  if (mp_authres_begin(&reader, mp_str_c(text)) < 0)
    return "nothing";
  CHECK_EQ_INT(mp_authres_text(&out, reader.id), 0);
  if (reader.version.len)
    mp_buf_fmt(&out, "/%.*s", (int)reader.version.len, reader.version.ptr);
  for (mp_authres_item item; mp_authres_next(&reader, &item);) {
    mp_buf_char(&out, '|');
    if (item.type.len)
      mp_buf_fmt(&out, "%.*s.", (int)item.type.len, item.type.ptr);
    mp_buf_str(&out, item.kind == MP_AUTHRES_REASON ? MP_STR("reason") : item.name);
    if (item.version.len)
      mp_buf_fmt(&out, "/%.*s", (int)item.version.len, item.version.ptr);
    mp_buf_char(&out, '=');
    CHECK_EQ_INT(mp_authres_text(&out, item.value), 0);
    if (item.comment.ptr)
      mp_buf_fmt(&out, "(%.*s)", (int)item.comment.len, item.comment.ptr);
  }
  if (reader.damaged)
    mp_buf_str(&out, MP_STR("!"));
  mp_str view = mp_buf_view(&out);
  memcpy(shown, view.ptr ? view.ptr : "", view.len);
  shown[view.len] = '\0';
  mp_buf_dispose(&out);
  return shown;
}

/* The examples of RFC 8601, appendix B. */
TEST(the_examples_of_the_rfc)
{
  CHECK_CSTR(show("example.org 1; none"), "example.org/1");
  CHECK_CSTR(show("example.com;\r\n   spf=pass smtp.mailfrom=example.net"),
             "example.com|spf=pass|smtp.mailfrom=example.net");
  CHECK_CSTR(
      show("example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass smtp.mailfrom=example.net"),
      "example.com|auth=pass(cram-md5)|smtp.auth=sender@example.net|spf=pass|smtp.mailfrom=example.net");
  CHECK_CSTR(show("example.com;\r\n dkim=pass (good signature) header.d=example.com"),
             "example.com|dkim=pass(good signature)|header.d=example.com");
  CHECK_CSTR(show("example.com;\r\n  dkim=pass reason=\"good signature\"\r\n   header.i=@mail-router.example.net;\r\n  dkim=fail "
                  "reason=\"bad signature\"\r\n   header.i=@newyork.example.com"),
             "example.com|dkim=pass|reason=good signature|header.i=@mail-router.example.net|dkim=fail|reason=bad "
             "signature|header.i=@newyork.example.com");
  CHECK_CSTR(
      show("foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n   policy "
           "(A dot can go here) . (like that) expired\r\n   (this surprised me) = (as I wasn't expecting it) 1362471462"),
      "foo.example.net/1|dkim/1=fail|policy.expired=1362471462");
}

TEST(what_is_written_in_the_wild)
{
  CHECK_CSTR(
      show("spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=a.example; dmarc=bestguesspass action=none header.from=a.example;"),
      "|spf=pass(sender IP is 192.0.2.1)|smtp.mailfrom=a.example|dmarc=bestguesspass|action=none|header.from=a.example");
  CHECK_CSTR(show("mx.example; dkim=pass header.i=@a.example header.s=x header.b=\"ab+/c\";\r\n arc=pass (i=1 spf=pass (deep)); "
                  "dkim=pass header.b=ab/+cd=="),
             "mx.example|dkim=pass|header.i=@a.example|header.s=x|header.b=ab+/c|arc=pass(i=1 spf=pass "
             "(deep))|dkim=pass|header.b=ab/+cd==");
  CHECK_CSTR(show("mx.example; spf=pass smtp.mailfrom=\"a b\"@a.example; x=y"),
             "mx.example|spf=pass|smtp.mailfrom=\"a b\"@a.example|x=y");
  CHECK_CSTR(show("\"mx\\.example\" ; none"), "mx.example");
  CHECK_CSTR(show("mx.example; spf=pass reason=\"a\r\n b\\\r\\\nc\""), "mx.example|spf=pass|reason=a bc");
  CHECK_CSTR(show("b\xc3\xbc"
                  "cher.example; spf=none smtp.mailfrom=b\xc3\xbc@x.example"),
             "b\xc3\xbc"
             "cher.example|spf=none|smtp.mailfrom=b\xc3\xbc@x.example");
}

TEST(what_makes_no_sense_is_passed_over)
{
  CHECK_CSTR(show(""), "nothing");
  CHECK_CSTR(show(" (only a comment) "), "nothing");
  CHECK_CSTR(show("mx.example"), "mx.example");
  CHECK_CSTR(show("mx.example;;; spf=pass;"), "mx.example|spf=pass");
  CHECK_CSTR(show("mx.example; spf; dkim=pass"), "mx.example|dkim=pass");
  CHECK_CSTR(show("mx.example; =pass x; \"; a=b\" c=d; dkim=pass ) header.d=x; spf=fail"),
             "mx.example|dkim=pass|spf=fail!");
  CHECK_CSTR(show("mx.example; spf=pass (open; dkim=pass"), "mx.example|spf=pass(open; dkim=pass)!");
  CHECK_CSTR(show("mx.example; spf=pass reason=\"open; dkim=pass"),
             "mx.example|spf=pass|reason=\"open; dkim=pass!");
  CHECK_CSTR(show("mx.example; none spf=pass"), "mx.example!");
  CHECK_CSTR(show("; spf=pass"), "|spf=pass");
}

/* Somebody may read it as a field of ours: it must not look as if it were of somebody else. */
TEST(a_field_that_does_not_say_whose_it_is_has_no_id)
{
  CHECK_CSTR(show("mx.example spf=pass; dkim=pass"), "|dkim=pass!");
  CHECK_CSTR(show("mx.example 1 spf=pass"), "/1!");
  CHECK_CSTR(show("spf = pass"), "|spf=pass");
}

TEST(without_memory_a_value_is_none)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_buf out;
    mp_buf_init(&out, 64, NULL);
    int rc = mp_authres_text(&out, MP_STR("\"abc\""));
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_buf_dispose(&out);
  }
  mp_buf small;
  mp_buf_init(&small, 2, NULL);
  CHECK_EQ_INT(mp_authres_text(&small, MP_STR("abc")), MP_E_FULL);
  mp_buf_dispose(&small);
}

CHECK_MAIN
