/* DKIM signatures: the message of RFC 8463 A, what we sign ourselves, and everything that is to be refused, with its reason. */
#include "support/check.h"

#include "base/error.h"
#include "mail/dkim.h"
#include "mail/tags.h"

static const char rfc8463[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
                              " d=football.example.com; i=@football.example.com;\r\n"
                              " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
                              " subject : date : message-id : from : subject : date;\r\n"
                              " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
                              " b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n"
                              " Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n"
                              "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
                              " d=football.example.com; i=@football.example.com;\r\n"
                              " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
                              " date : message-id : from : subject : date;\r\n"
                              " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
                              " b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n"
                              " DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n"
                              " dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
                              "From: Joe SixPack <joe@football.example.com>\r\n"
                              "To: Suzie Q <suzie@shopping.example.net>\r\n"
                              "Subject: Is dinner ready?\r\n"
                              "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
                              "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
                              "\r\n";
static const char body[] = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";

#define ED25519 "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define RSA                                                                                        \
  "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6w" \
  "y5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvH"   \
  "O9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
#define SEED "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=" /* RFC 8463 A.2 */

static const mp_dkim_verify_opts now = { .now = 1528637909 };

static mp_dkim_key *key_of(const char *record)
{
  mp_dkim_key *key = NULL;
  const char *why;
  if (mp_dkim_key_record(&key, mp_str_c(record), &why) < 0)
    FAIL("%s: %s", record, why);
  return key;
}

/* The verdict over the first signature of a message. */
static mp_dkim_sig verdict_of(mp_str block, mp_str text, const char *record, const mp_dkim_verify_opts *opts)
{
  mp_dkim_verifier *v;
  mp_dkim_sig sig = { .result = MP_DKIM_OPEN };
  mp_dkim_key *key = key_of(record);
  if (!key || !CHECK_EQ_INT(mp_dkim_verifier_new(&v, block, opts), 0))
    return sig;
  CHECK_EQ_INT(mp_dkim_verifier_body(v, text), 0);
  CHECK_EQ_INT(mp_dkim_verifier_finish(v), 0);
  if (CHECK(mp_dkim_verifier_count(v) > 0)) {
    CHECK_EQ_INT(mp_dkim_verifier_judge(v, 0, key), 0);
    sig = *mp_dkim_verifier_at(v, 0);
  }
  mp_dkim_verifier_free(v);
  mp_dkim_key_free(key);
  return sig;
}

#define IS(SIG, RESULT, REASON)                  \
  do {                                           \
    mp_dkim_sig sig_ = (SIG);                    \
    CHECK_EQ_INT(sig_.result, MP_DKIM_##RESULT); \
    CHECK_CSTR(sig_.reason, REASON);             \
  } while (0)

TEST(both_signatures_of_rfc_8463_hold)
{
  mp_dkim_verifier *v;
  mp_dkim_key *keys[2] = { key_of(ED25519), key_of(RSA) };
  static const char *const names[] = { "brisbane._domainkey.football.example.com",
                                       "test._domainkey.football.example.com" };
  REQUIRE(mp_dkim_verifier_new(&v, mp_str_c(rfc8463), &now) == 0);
  REQUIRE(mp_dkim_verifier_count(v) == 2);
  for (size_t i = 0; i < sizeof body - 1; i++)
    CHECK_EQ_INT(mp_dkim_verifier_body(v, mp_str_of(body + i, 1)), 0);
  CHECK_EQ_INT(mp_dkim_verifier_finish(v), 0);
  for (size_t i = 0; i < 2; i++) {
    mp_buf name;
    int rc;
    mp_buf_init(&name, 512, NULL);
    CHECK(mp_dkim_verifier_question(v, i, &name, &rc));
    CHECK_EQ_STR(mp_buf_view(&name), mp_str_c(names[i]));
    CHECK_EQ_INT(mp_dkim_verifier_judge(v, i, keys[i]), 0);
    CHECK_EQ_INT(mp_dkim_verifier_at(v, i)->result, MP_DKIM_PASS);
    CHECK_STR(mp_dkim_verifier_at(v, i)->identity, "@football.example.com");
    CHECK(!mp_dkim_verifier_question(v, i, &name, &rc));
    mp_buf_dispose(&name);
    mp_dkim_key_free(keys[i]);
  }
  mp_dkim_verifier_free(v);
}

TEST(what_was_changed_fails)
{
  IS(verdict_of(mp_str_c(rfc8463), MP_STR("Hi!\r\n"), ED25519, &now), FAIL, "the body has been changed");
  char other[sizeof rfc8463];
  memcpy(other, rfc8463, sizeof other);
  memcpy(strstr(other, "dinner"), "supper", 6);
  IS(verdict_of(mp_str_c(other), mp_str_c(body), ED25519, &now), FAIL, "the signature does not hold");
}

/* ---- signing ----------------------------------------------------------------------------------------------------- */

typedef struct wish {
  const char *header, *text, *names, *over, *identity;
  mp_dkim_canon header_canon, body_canon;
  int64_t end;
  uint64_t limit;
  bool absent;
} wish;

/* A message with our signature on top, in `out`. */
static int sign(mp_buf *out, const wish *w, mp_dkim_key *key)
{
  mp_dkim_body *hash = NULL;
  mp_dkim_fields *fields = NULL;
  mp_dkim_sign_opts opts = { .domain = MP_STR("example.com"),
                             .selector = MP_STR("one"),
                             .identity = mp_str_c(w->identity),
                             .header_canon = w->header_canon,
                             .body_canon = w->body_canon,
                             .time = now.now,
                             .end = w->end ? w->end : -1,
                             .limit = w->limit ? w->limit : UINT64_MAX };
  uint64_t length;
  mp_buf headers;
  mp_buf_init(&headers, 65536, NULL);
  mp_str block = mp_str_c(w->header);
  int rc = mp_dkim_fields_new(&fields, block);
  if (rc == 0)
    rc = mp_dkim_choose(&headers, fields, w->names ? mp_str_c(w->names) : mp_dkim_default_headers(),
                        w->over ? mp_str_c(w->over) : mp_dkim_default_over(), w->absent);
  opts.headers = mp_buf_view(&headers);
  if (rc == 0)
    rc = mp_dkim_body_new(&hash, opts.body_canon, opts.limit);
  if (rc == 0)
    rc = mp_dkim_body_add(hash, mp_str_c(w->text));
  if (rc == 0)
    rc = mp_dkim_body_finish(hash, opts.body_hash, &length);
  if (rc == 0)
    rc = mp_buf_str(out, MP_STR("DKIM-Signature: "));
  if (rc == 0)
    rc = mp_dkim_sign(out, fields, &opts, key);
  if (rc == 0)
    rc = mp_buf_str(out, MP_STR("\r\n"));
  if (rc == 0)
    rc = mp_buf_str(out, block);
  mp_dkim_body_free(hash);
  mp_dkim_fields_free(fields);
  mp_buf_dispose(&headers);
  return rc;
}

static mp_dkim_key *private_key(void)
{
  mp_dkim_key *key = NULL;
  const char *why;
  CHECK_EQ_INT(mp_dkim_key_private(&key, MP_STR(SEED), &why), 0);
  return key;
}

#define HEADER "From: a@example.com\r\nTo:  b@example.org,\r\n  c@example.org\r\nSubject: \r\nX-One: 1\r\n"

static const wish plain = { .header = HEADER, .text = "Hello  you \r\n\r\n" };

TEST(what_we_sign_holds_in_every_form)
{
  mp_dkim_key *key = private_key();
  for (int form = 0; form < 4; form++) {
    wish w = plain;
    w.header_canon = (mp_dkim_canon)(form & 1);
    w.body_canon = (mp_dkim_canon)(form >> 1);
    w.identity = "a; =b@sub.example.com";
    w.end = now.now + 3600;
    mp_buf out;
    mp_buf_init(&out, 65536, NULL);
    CHECK_EQ_INT(sign(&out, &w, key), 0);
    mp_dkim_sig sig = verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &now);
    CHECK_EQ_INT(sig.result, MP_DKIM_PASS);
    CHECK_EQ_INT(sig.end, now.now + 3600);
    CHECK_EQ_INT(sig.time, now.now);
    size_t from = 0;
    mp_str all = mp_buf_view(&out), line;
    while (mp_tag_next(all, '\n', &from, &line))
      CHECK(line.len <= 78);
    mp_buf_dispose(&out);
  }
  mp_dkim_key_free(key);
}

TEST(a_second_field_of_a_name_that_was_signed_once_more_is_noticed)
{
  mp_dkim_key *key = private_key();
  mp_buf out, more;
  mp_buf_init(&out, 65536, NULL);
  mp_buf_init(&more, 65536, NULL);
  CHECK_EQ_INT(sign(&out, &plain, key), 0);
  static const char *const added[] = { "X-Other: 1\r\n", "From: eve@example.net\r\n", "Subject: 2\r\n" };
  for (int place = 0; place < 2; place++)
    for (size_t i = 0; i < 3; i++) {
      mp_buf_cut(&more, 0);
      mp_buf_fmt(&more, "%s%.*s%s", place ? "" : added[i], (int)out.len, mp_buf_view(&out).ptr,
                 place ? added[i] : "");
      mp_dkim_sig sig = verdict_of(mp_buf_view(&more), mp_str_c(plain.text), ED25519, &now);
      CHECK_EQ_INT(sig.result, i == 0 ? MP_DKIM_PASS : MP_DKIM_FAIL);
    }
  mp_buf_dispose(&out);
  mp_buf_dispose(&more);
  mp_dkim_key_free(key);
}

TEST(fields_are_chosen)
{
  mp_dkim_fields *fields;
  mp_buf out;
  mp_buf_init(&out, 1024, NULL);
  REQUIRE(mp_dkim_fields_new(&fields, MP_STR("To: 1\r\nFROM: 2\r\nto: 3\r\n")) == 0);
  CHECK_EQ_INT(mp_dkim_choose(&out, fields, MP_STR("From:To:Cc"), MP_STR("From:Cc"), false), 0);
  CHECK_STR(mp_buf_view(&out), "From:To:To:From");
  mp_buf_cut(&out, 0);
  CHECK_EQ_INT(mp_dkim_choose(&out, fields, MP_STR("From"), MP_STR("Cc"), true), 0);
  CHECK_STR(mp_buf_view(&out), "From:Cc");
  CHECK_STR(mp_dkim_fields_take(fields, MP_STR("To"))->value, "3");
  CHECK_STR(mp_dkim_fields_take(fields, MP_STR("TO"))->value, "1");
  CHECK(!mp_dkim_fields_take(fields, MP_STR("To")));
  CHECK(!mp_dkim_fields_take(fields, MP_STR("T")));
  mp_dkim_fields_reset(fields);
  CHECK_STR(mp_dkim_fields_take(fields, MP_STR("To"))->value, "3");
  mp_dkim_fields_free(fields);
  mp_buf_dispose(&out);
}

TEST(nothing_is_signed_that_would_not_hold)
{
  mp_dkim_key *key = private_key();
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  wish w = plain;
  w.header = "To: b@example.org\r\n";
  CHECK_EQ_INT(sign(&out, &w, key), MP_E_INVALID);
  w = plain;
  w.names = "To";
  w.over = "To";
  CHECK_EQ_INT(sign(&out, &w, key), MP_E_INVALID);
  w = plain;
  w.identity = "a@example.org";
  CHECK_EQ_INT(sign(&out, &w, key), MP_E_INVALID);
  w = plain;
  w.end = now.now - 1;
  CHECK_EQ_INT(sign(&out, &w, key), MP_E_INVALID);
  mp_dkim_key *public = key_of(ED25519);
  CHECK_EQ_INT(sign(&out, &plain, public), MP_E_INVALID);
  mp_dkim_key_free(public);
  mp_dkim_key_free(key);
  mp_buf_dispose(&out);
}

TEST(a_limit_that_leaves_octets_unsigned_counts_only_where_it_may)
{
  mp_dkim_key *key = private_key();
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  wish w = plain;
  w.limit = 5;
  CHECK_EQ_INT(sign(&out, &w, key), 0);
  IS(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &now), POLICY,
     "8 octets of the body are not signed");
  mp_dkim_verify_opts partial = { .now = now.now, .partial = true };
  CHECK_EQ_INT(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &partial).result, MP_DKIM_PASS);
  IS(verdict_of(mp_buf_view(&out), MP_STR(""), ED25519, &now), PERMERROR, "l= is more than the body has");
  mp_buf_dispose(&out);
  mp_dkim_key_free(key);
}

TEST(times_count)
{
  mp_dkim_key *key = private_key();
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  wish w = plain;
  w.end = now.now + 60;
  CHECK_EQ_INT(sign(&out, &w, key), 0);
  mp_dkim_verify_opts at = { .now = w.end + MP_DKIM_DRIFT };
  CHECK_EQ_INT(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &at).result, MP_DKIM_PASS);
  at.now++;
  IS(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &at), POLICY, "it has expired");
  at.now = now.now - 86400;
  CHECK_EQ_INT(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519, &at).result, MP_DKIM_PASS);
  mp_buf_dispose(&out);
  mp_dkim_key_free(key);
}

/* ---- what is wrong with a signature, with a key ------------------------------------------------------------------- */

#define BH "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="

static mp_dkim_sig read_sig(const char *value)
{
  static char text[8192];
  int len = snprintf(text, sizeof text, "DKIM-Signature: %s\r\nFrom: a@b\r\n\r\n", value);
  mp_dkim_sig sig = { .result = MP_DKIM_OPEN };
  mp_dkim_verifier *v;
  if (!CHECK_EQ_INT(mp_dkim_verifier_new(&v, mp_str_of(text, (size_t)len), &now), 0))
    return sig;
  sig = *mp_dkim_verifier_at(v, 0);
  CHECK_EQ_INT(mp_dkim_verifier_wants_body(v), sig.result == MP_DKIM_OPEN);
  mp_dkim_verifier_free(v);
  return sig;
}

TEST(signatures_that_never_hold)
{
  static const struct {
    const char *value;
    mp_dkim_result result;
    const char *reason;
  } rows[] = {
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_OPEN, "" },
    { "v=1; a=rsa-sha256; c=RELAXED; d=a.b; s=c; h=to:FROM; " BH "; b=AAAA; i=x@d.A.b; q=a/b:dns/txt; zz=1",
      MP_DKIM_OPEN, "" },
    { "nothing", MP_DKIM_NEUTRAL, "it is no list of tags" },
    { "", MP_DKIM_PERMERROR, "v= is missing" },
    { "v=2; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "it is of an unknown version" },
    { "v=1; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_PERMERROR, "a= is missing" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH, MP_DKIM_PERMERROR, "b= is missing" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; b=AAAA", MP_DKIM_PERMERROR, "bh= is missing" },
    { "v=1; a=rsa-sha1; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_POLICY, "rsa-sha1 proves nothing any more" },
    { "v=1; a=dsa; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "the algorithm is unknown" },
    { "v=1; a=rsa-sha256; c=no; d=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL,
      "the canonicalization is unknown" },
    { "v=1; a=rsa-sha256; d=a b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "d= or s= is no domain name" },
    { "v=1; a=rsa-sha256; d=a..b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "d= or s= is no domain name" },
    { "v=1; a=rsa-sha256; d=a.b; s=; h=from; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "d= or s= is no domain name" },
    { "v=1; a=rsa-sha256; d=a.b; i=x@ca.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_PERMERROR,
      "the domain of i= is not that of d=, nor below it" },
    { "v=1; a=rsa-sha256; d=a.b; i=a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_PERMERROR,
      "the domain of i= is not that of d=, nor below it" },
    { "v=1; a=rsa-sha256; d=a.b; i==4=3D@a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_OPEN, "" },
    { "v=1; a=rsa-sha256; d=a.b; i=x=40a.b; s=c; h=from; " BH "; b=AAAA", MP_DKIM_OPEN, "" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=to; " BH "; b=AAAA", MP_DKIM_PERMERROR, "the From field is not signed" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from::to; " BH "; b=AAAA", MP_DKIM_NEUTRAL, "h= is malformed" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; bh=AAAA; b=AAAA", MP_DKIM_NEUTRAL,
      "bh= has not the length of a hash" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=", MP_DKIM_NEUTRAL,
      "b= has not the length of a signature" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=A*AA", MP_DKIM_NEUTRAL, "b= is no base64" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA; q=mail", MP_DKIM_NEUTRAL,
      "the key is not in the DNS" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA; t=2; x=1", MP_DKIM_NEUTRAL,
      "it expires before it was made" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA; x=never", MP_DKIM_NEUTRAL, "x= is malformed" },
    { "v=1; a=rsa-sha256; d=a.b; s=c; h=from; " BH "; b=AAAA; l=-1", MP_DKIM_NEUTRAL, "l= is malformed" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_dkim_sig sig = read_sig(rows[i].value);
    if (sig.result != rows[i].result || strcmp(sig.reason, rows[i].reason) != 0)
      FAIL("%s: %s, %s", rows[i].value, mp_dkim_result_name(sig.result), sig.reason);
  }
}

TEST(key_records)
{
  static const struct {
    const char *record;
    int rc;
    const char *why;
  } rows[] = {
    { "p=AAAA", MP_E_SYNTAX, "the key is no RSA key" },
    { "v=DKIM1; k=ed25519; p=AAAA", MP_E_SYNTAX, "the key has not the length of an Ed25519 key" },
    { "v=DKIM1; p=", MP_E_DENIED, "the key has been revoked" },
    { "v=DKIM1", MP_E_SYNTAX, "the key record is malformed" },
    { "v=spf1 -all", MP_E_SYNTAX, "the key record is malformed" },
    { "p=; v=DKIM1", MP_E_SYNTAX, "the key record is not of version DKIM1" },
    { "v=DKIM2; p=AAAA", MP_E_SYNTAX, "the key record is not of version DKIM1" },
    { "k=dsa; p=AAAA", MP_E_SYNTAX, "the key is of an unknown kind" },
    { "s=tlsrpt; p=AAAA", MP_E_DENIED, "the key is not for mail" },
    { "p=!", MP_E_SYNTAX, "the key is no base64" },
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_dkim_key *key = NULL;
    const char *why = NULL;
    CHECK_EQ_INT(mp_dkim_key_record(&key, mp_str_c(rows[i].record), &why), rows[i].rc);
    CHECK_EQ_STR(mp_str_c(why), mp_str_c(rows[i].why));
  }
  mp_dkim_key *key =
      key_of("k=rsa; t=y:s; h=sha1:sha256; s=tlsrpt:email;; n=note;"
             "p="
             "MIGJAoGBALVI635dLK4cJJAH3Lx6upo3X/Lm1tQz3mezcWTA3BUBnyIsdnRf57aD5BtNmhPrYYDlWlzw3Ugn"
             "KisIxktkk5+iMQMlFtAS10JB8L3YadXNJY+JBcbeSi5TgJe4WFzNgW95FWDAuSTRXSWZfA/8xjflbTLDx0eu"
             "FZOM7C4T0GwLAgMBAAE="); /* RSAPublicKey, as RFC 6376 asks */
  REQUIRE(key);
  const mp_dkim_key_facts *facts = mp_dkim_key_look(key);
  CHECK(facts->testing && facts->strict && facts->sha256);
  CHECK_EQ_INT(facts->bits, 1024);
  mp_dkim_key_free(key);
}

TEST(keys_that_do_not_fit)
{
  mp_str block = mp_str_c(rfc8463), text = mp_str_c(body);
  IS(verdict_of(block, text, RSA, &now), PERMERROR, "the key is of another kind than the signature");
  IS(verdict_of(block, text, ED25519 "; h=sha1", &now), PERMERROR, "the key is not for sha256");
  CHECK_EQ_INT(verdict_of(block, text, ED25519 "; t=s", &now).result, MP_DKIM_PASS);
  mp_dkim_key *key = private_key();
  wish w = plain;
  w.identity = "a@sub.example.com";
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  CHECK_EQ_INT(sign(&out, &w, key), 0);
  IS(verdict_of(mp_buf_view(&out), mp_str_c(w.text), ED25519 "; t=s", &now), PERMERROR,
     "the key is not for domains below its own");
  mp_buf_dispose(&out);
  mp_dkim_key_free(key);
}

TEST(keys_are_made_and_read_again)
{
  for (int kind = MP_DKIM_RSA; kind <= MP_DKIM_ED25519; kind++) {
    mp_dkim_key *made = NULL, *read = NULL, *public = NULL;
    const char *why = "";
    mp_buf pem, record;
    mp_buf_init(&pem, 65536, NULL);
    mp_buf_init(&record, 65536, NULL);
    REQUIRE(mp_dkim_key_make(&made, (mp_dkim_kind)kind, 1024) == 0);
    CHECK_EQ_INT(mp_dkim_key_pem(made, &pem), 0);
    CHECK_EQ_INT(mp_dkim_key_text(made, &record), 0);
    REQUIRE(mp_dkim_key_private(&read, mp_buf_view(&pem), &why) == 0);
    REQUIRE(mp_dkim_key_record(&public, mp_buf_view(&record), &why) == 0);
    unsigned char digest[32] = { 7 };
    unsigned char signature[MP_DKIM_SIGNATURE];
    size_t len = sizeof signature;
    CHECK_EQ_INT(mp_dkim_key_sign(read, digest, signature, &len), 0);
    CHECK_EQ_INT(mp_dkim_key_verify(public, digest, mp_str_of((char *)signature, len)), 0);
    digest[0] ^= 1;
    CHECK_EQ_INT(mp_dkim_key_verify(public, digest, mp_str_of((char *)signature, len)), MP_E_CRYPTO);
    CHECK_EQ_INT(mp_dkim_key_verify(public, digest, mp_str_of((char *)signature, 1)), MP_E_CRYPTO);
    CHECK_EQ_INT(mp_dkim_key_pem(public, &pem), MP_E_INVALID);
    mp_dkim_key_free(made);
    mp_dkim_key_free(read);
    mp_dkim_key_free(public);
    mp_buf_dispose(&pem);
    mp_buf_dispose(&record);
  }
  mp_dkim_key *key;
  const char *why;
  CHECK_EQ_INT(mp_dkim_key_make(&key, MP_DKIM_RSA, 512), MP_E_INVALID);
  CHECK_EQ_INT(mp_dkim_key_private(&key, MP_STR("nonsense"), &why), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_dkim_key_private(&key, MP_STR("-----BEGIN RSA PRIVATE KEY-----\n"), &why), MP_E_SYNTAX);
}

TEST(more_signatures_than_are_judged)
{
  mp_buf out;
  mp_buf_init(&out, 65536, NULL);
  for (int i = 0; i < MP_DKIM_SIGNATURES_MOST + 3; i++)
    mp_buf_fmt(&out, "DKIM-Signature: v=1; a=rsa-sha256; d=a.b; s=s%d; h=from; " BH "; b=AAAA\r\n", i);
  mp_dkim_verifier *v;
  REQUIRE(mp_dkim_verifier_new(&v, mp_buf_view(&out), &now) == 0);
  CHECK_EQ_INT(mp_dkim_verifier_count(v), MP_DKIM_SIGNATURES_MOST);
  CHECK_EQ_INT(mp_dkim_verifier_more(v), 3);
  mp_dkim_verifier_refuse(v, 0, MP_DKIM_TEMPERROR, "no answer");
  CHECK_CSTR(mp_dkim_verifier_at(v, 0)->reason, "no answer");
  mp_dkim_verifier_free(v);
  mp_buf_dispose(&out);
}

TEST(memory_that_fails_is_told)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_dkim_key *key = NULL, *secret = NULL;
    mp_dkim_verifier *v = NULL;
    const char *why;
    mp_buf out;
    mp_buf_init(&out, 65536, NULL);
    int rc = mp_dkim_key_record(&key, MP_STR(ED25519), &why);
    if (rc == 0)
      rc = mp_dkim_key_private(&secret, MP_STR(SEED), &why);
    if (rc == 0)
      rc = sign(&out, &plain, secret);
    if (rc == 0)
      rc = mp_dkim_verifier_new(&v, mp_buf_view(&out), &now);
    if (rc == 0)
      rc = mp_dkim_verifier_body(v, mp_str_c(plain.text));
    if (rc == 0)
      rc = mp_dkim_verifier_finish(v);
    if (rc == 0)
      rc = mp_dkim_verifier_judge(v, 0, key);
    if (CHECK_ALLOC_FAILED())
      CHECK_EQ_INT(rc, MP_E_NOMEM);
    else if (CHECK_EQ_INT(rc, 0))
      CHECK_EQ_INT(mp_dkim_verifier_at(v, 0)->result, MP_DKIM_PASS);
    mp_dkim_verifier_free(v);
    mp_dkim_key_free(key);
    mp_dkim_key_free(secret);
    mp_buf_dispose(&out);
  }
}

CHECK_MAIN
