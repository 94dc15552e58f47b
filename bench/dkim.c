/* bench/dkim.c -- DKIM by itself, without sockets and Lua. `bench_dkim WHAT [ARGUMENT]` prints lines of a name and a number:
 *   body FORM TEXT    MB a second of a body's hash, in pieces of 16 KB: simple or relaxed; text that goes as it is ("plain") or prose with white
 *                     space to fold ("prose")
 *   key KIND          signatures made and checked a second, of a digest; rsa or ed25519
 *   message KIND      messages of 4 KB signed, and judged, a second, from header and body to field and verdict
 * bench/dkim.lua runs it and makes rows of that. */
#include "mail/dkim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE = 16384, TEXT = 64 * PIECE };

static const double SECONDS = 0.5;

static void die(const char *what)
{
  fprintf(stderr, "bench_dkim: %s\n", what);
  exit(1);
}

static double now(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static mp_str text_of(const char *kind)
{
  static const char plain[] = "VGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIHRoZSBsYXp5IGRvZyBhbmQgcnVucyBh\r\n";
  static const char prose[] = "> The lazy dog, which had seen it coming,  did not move.  It knew better \r\n"
                              "\tthan that:\tthe fox would be back before long.\r\n\r\n";
  const char *line = strcmp(kind, "prose") == 0 ? prose : plain;
  size_t len = strlen(line), at = 0;
  char *text = malloc(TEXT);
  if (!text)
    die("out of memory");
  while (at < TEXT) {
    size_t n = len < TEXT - at ? len : TEXT - at;
    memcpy(text + at, line, n);
    at += n;
  }
  return mp_str_of(text, TEXT);
}

static void hash(mp_str text, mp_dkim_canon canon, unsigned char *digest)
{
  mp_dkim_body *body;
  uint64_t length;
  if (mp_dkim_body_new(&body, canon, UINT64_MAX) < 0)
    die("body");
  for (size_t at = 0; at < text.len; at += PIECE)
    mp_dkim_body_add(body, mp_str_sub(text, at, PIECE));
  mp_dkim_body_finish(body, digest, &length);
  mp_dkim_body_free(body);
}

static void bench_body(const char *form, const char *kind)
{
  mp_str text = text_of(kind);
  unsigned char digest[MP_DKIM_DIGEST];
  long rounds = 0;
  double begun = now();
  do {
    hash(text, strcmp(form, "relaxed") == 0 ? MP_DKIM_RELAXED : MP_DKIM_SIMPLE, digest);
    rounds++;
  } while (now() - begun < SECONDS);
  printf("mb_s %.1f\n", (double)rounds * TEXT / 1e6 / (now() - begun));
}

/* A key pair, both halves parsed. */
static void keys(const char *kind, mp_dkim_key **secret, mp_dkim_key **public)
{
  mp_buf record;
  const char *why = "key";
  mp_buf_init(&record, 65536, NULL);
  mp_dkim_kind which = strcmp(kind, "rsa") == 0 ? MP_DKIM_RSA : MP_DKIM_ED25519;
  if (mp_dkim_key_make(secret, which, 2048) < 0 || mp_dkim_key_text(*secret, &record) < 0 ||
      mp_dkim_key_record(public, mp_buf_view(&record), &why) < 0)
    die(why);
}

static void bench_key(const char *kind)
{
  mp_dkim_key *secret, *public;
  unsigned char digest[MP_DKIM_DIGEST] = { 1 }, signature[MP_DKIM_SIGNATURE];
  size_t len = 0;
  keys(kind, &secret, &public);
  long rounds = 0;
  double begun = now();
  do {
    len = sizeof signature;
    if (mp_dkim_key_sign(secret, digest, signature, &len) < 0)
      die("sign");
    rounds++;
  } while (now() - begun < SECONDS);
  printf("sign %.1f\n", (double)rounds / (now() - begun));
  rounds = 0;
  begun = now();
  do {
    if (mp_dkim_key_verify(public, digest, mp_str_of((const char *)signature, len)) < 0)
      die("verify");
    rounds++;
  } while (now() - begun < SECONDS);
  printf("verify %.1f\n", (double)rounds / (now() - begun));
}

static const char header[] =
    "Received: from mail.example.net (mail.example.net [192.0.2.1])\r\n\tby mx.example.org with ESMTPS id 4bQx;\r\n"
    "\tMon, 23 Nov 2026 15:00:00 +0000\r\nFrom: Ann Lee <ann@example.com>\r\nTo: Bob <bob@example.org>\r\n"
    "Subject: What became of the fox, and of the dog\r\nDate: Mon, 23 Nov 2026 15:00:00 +0000\r\n"
    "Message-ID: <20261123150000.1234@example.com>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\nX-Mailer: none\r\n";

static void sign(mp_buf *out, mp_str body, mp_dkim_key *key)
{
  mp_dkim_fields *fields;
  mp_dkim_sign_opts opts = { .domain = MP_STR("example.com"),
                             .selector = MP_STR("one"),
                             .header_canon = MP_DKIM_RELAXED,
                             .body_canon = MP_DKIM_RELAXED,
                             .time = 1700000000,
                             .end = -1,
                             .limit = UINT64_MAX };
  mp_buf headers;
  mp_buf_init(&headers, 65536, NULL);
  mp_buf_cut(out, 0);
  mp_str block = mp_str_of(header, sizeof header - 1);
  hash(body, MP_DKIM_RELAXED, opts.body_hash);
  if (mp_dkim_fields_new(&fields, block) < 0 ||
      mp_dkim_choose(&headers, fields, mp_dkim_default_headers(), mp_dkim_default_over(), false) < 0)
    die("fields");
  opts.headers = mp_buf_view(&headers);
  mp_buf_str(out, MP_STR("DKIM-Signature: "));
  if (mp_dkim_sign(out, fields, &opts, key) < 0)
    die("sign");
  mp_buf_str(out, MP_STR("\r\n"));
  mp_buf_str(out, block);
  mp_dkim_fields_free(fields);
  mp_buf_dispose(&headers);
}

static void judge(mp_str block, mp_str body, mp_dkim_key *key)
{
  mp_dkim_verifier *v;
  mp_dkim_verify_opts opts = { .now = 1700000000 };
  if (mp_dkim_verifier_new(&v, block, &opts) < 0 || mp_dkim_verifier_body(v, body) < 0 ||
      mp_dkim_verifier_finish(v) < 0 || mp_dkim_verifier_judge(v, 0, key) < 0 ||
      mp_dkim_verifier_at(v, 0)->result != MP_DKIM_PASS)
    die("judge");
  mp_dkim_verifier_free(v);
}

static void bench_message(const char *kind)
{
  mp_dkim_key *secret, *public;
  mp_buf out;
  mp_str body = mp_str_sub(text_of("plain"), 0, 3072);
  mp_buf_init(&out, 1 << 20, NULL);
  keys(kind, &secret, &public);
  long rounds = 0;
  double begun = now();
  do {
    sign(&out, body, secret);
    rounds++;
  } while (now() - begun < SECONDS);
  printf("sign %.1f\n", (double)rounds / (now() - begun));
  rounds = 0;
  begun = now();
  do {
    judge(mp_buf_view(&out), body, public);
    rounds++;
  } while (now() - begun < SECONDS);
  printf("verify %.1f\n", (double)rounds / (now() - begun));
}

int main(int argc, char **argv)
{
  if (argc == 4 && strcmp(argv[1], "body") == 0)
    bench_body(argv[2], argv[3]);
  else if (argc == 3 && strcmp(argv[1], "key") == 0)
    bench_key(argv[2]);
  else if (argc == 3 && strcmp(argv[1], "message") == 0)
    bench_message(argv[2]);
  else
    die("body simple|relaxed plain|prose, key rsa|ed25519, or message rsa|ed25519");
  return 0;
}
