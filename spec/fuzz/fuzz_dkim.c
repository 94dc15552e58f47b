/* Any octets as a message with its signatures, and as key record and tag list: nothing is read past its end, a body is hashed alike however it is
 * cut, and a signature of ours over any message holds when it is read again. */
#include "base/error.h"
#include "mail/dkim.h"
#include "mail/tags.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool holds)
{
  if (!holds)
    abort();
}

static void check_tags(mp_str in)
{
  mp_tags tags;
  mp_dkim_key *key = NULL;
  const char *why = NULL;
  if (mp_tags_parse(&tags, in) == 0)
    for (size_t i = 0; i < tags.count; i++) {
      demand(tags.list[i].room.ptr >= in.ptr && tags.list[i].room.len <= in.len);
      demand(mp_tags_find(&tags, tags.list[i].name) == &tags.list[i]);
    }
  if (mp_dkim_key_record(&key, in, &why) < 0)
    demand(why && !key);
  mp_dkim_key_free(key);
}

static void digest_of(mp_str body, mp_dkim_canon canon, size_t slice, unsigned char *digest, uint64_t *length)
{
  mp_dkim_body *hash;
  demand(mp_dkim_body_new(&hash, canon, UINT64_MAX) == 0);
  for (size_t at = 0; at < body.len; at += slice)
    demand(mp_dkim_body_add(hash, mp_str_sub(body, at, slice)) == 0);
  demand(mp_dkim_body_finish(hash, digest, length) == 0);
  mp_dkim_body_free(hash);
}

static void check_body(mp_str body, mp_dkim_canon canon, unsigned char digest[MP_DKIM_DIGEST])
{
  uint64_t whole, cut;
  unsigned char again[MP_DKIM_DIGEST];
  digest_of(body, canon, body.len + 1, digest, &whole);
  digest_of(body, canon, body.len % 37 + 1, again, &cut);
  demand(whole == cut && memcmp(digest, again, sizeof again) == 0);
}

/* Judges whatever signatures are there by a key that is there; the result of the first, OPEN without any. */
static mp_dkim_result judge(mp_str block, mp_str body, mp_dkim_key *key)
{
  mp_dkim_verifier *v;
  mp_dkim_verify_opts opts = { .now = 1700000000 };
  if (mp_dkim_verifier_new(&v, block, &opts) < 0)
    return MP_DKIM_OPEN;
  mp_buf name;
  int rc;
  mp_buf_init(&name, 1024, NULL);
  demand(mp_dkim_verifier_body(v, body) == 0 && mp_dkim_verifier_finish(v) == 0);
  for (size_t i = 0; i < mp_dkim_verifier_count(v); i++) {
    bool asked = mp_dkim_verifier_question(v, i, &name, &rc);
    demand(asked == (mp_dkim_verifier_at(v, i)->result == MP_DKIM_OPEN) && rc == 0);
    mp_buf_cut(&name, 0);
    demand(mp_dkim_verifier_judge(v, i, key) == 0);
    demand(mp_dkim_verifier_at(v, i)->result != MP_DKIM_OPEN);
  }
  mp_dkim_result result = mp_dkim_verifier_count(v) ? mp_dkim_verifier_at(v, 0)->result : MP_DKIM_OPEN;
  mp_buf_dispose(&name);
  mp_dkim_verifier_free(v);
  return result;
}

static void check_signing(mp_str block, mp_str body, unsigned form, mp_dkim_key *secret, mp_dkim_key *key)
{
  mp_dkim_fields *fields;
  mp_dkim_sign_opts opts = { .domain = MP_STR("example.com"),
                             .selector = MP_STR("s"),
                             .time = 1700000000,
                             .end = -1,
                             .limit = UINT64_MAX,
                             .header_canon = (mp_dkim_canon)(form & 1),
                             .body_canon = (mp_dkim_canon)(form >> 1 & 1) };
  if (mp_dkim_fields_new(&fields, block) < 0)
    return;
  check_body(body, opts.body_canon, opts.body_hash);
  mp_buf headers, out;
  mp_buf_init(&headers, 1 << 20, NULL);
  mp_buf_init(&out, 1 << 22, NULL);
  demand(mp_dkim_choose(&headers, fields, mp_dkim_default_headers(), mp_dkim_default_over(), false) == 0);
  opts.headers = mp_buf_view(&headers);
  demand(mp_buf_str(&out, MP_STR("DKIM-Signature: ")) == 0);
  int rc = mp_dkim_sign(&out, fields, &opts, secret);
  demand(rc == 0 || rc == MP_E_FULL || (rc == MP_E_INVALID && !mp_dkim_fields_named(fields, MP_STR("From"))));
  if (rc == 0) {
    demand(mp_buf_str(&out, MP_STR("\r\n")) == 0 && mp_buf_str(&out, block) == 0);
    demand(judge(mp_buf_view(&out), body, key) == MP_DKIM_PASS);
  }
  mp_buf_dispose(&headers);
  mp_buf_dispose(&out);
  mp_dkim_fields_free(fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static mp_dkim_key *secret, *key; /* made once: the process is the fuzzer's own */
  const char *why;
  if (!secret)
    demand(mp_dkim_key_private(&secret, MP_STR("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="), &why) == 0 &&
           mp_dkim_key_record(&key, MP_STR("k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
                              &why) == 0);
  mp_str in = mp_str_of((const char *)data, size);
  bool open;
  check_tags(in);
  size_t end = mp_header_end(in, &open);
  mp_str block = mp_str_sub(in, 0, end), body = mp_str_sub(in, end, in.len);
  judge(block, body, key);
  check_signing(block, body, size ? data[size - 1] : 0, secret, key);
  return 0;
}
