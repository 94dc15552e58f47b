/* bench/headers.c -- the index of a header block by itself: `bench_headers` prints lines of a name and a number.
 *   size         octets of the block: what a message has that went through a list and two large providers
 *   index_gb_s   GB a second into an index that is thrown away
 *   end_gb_s     the same of finding where the block ends
 *   find_ns      a field by its name, in a made index
 * bench/headers.lua runs it and makes rows of that. */
#include "mail/header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCK = 8192, REPEATS = 2000 };

static const double SECONDS = 0.5;

static double now(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void put(char *block, size_t *len, const char *text)
{
  size_t n = strlen(text);
  if (*len + n <= BLOCK - 200) {
    memcpy(block + *len, text, n);
    *len += n;
  }
}

static mp_str make(void)
{
  static char block[BLOCK];
  static const char received[] =
      "Received: from mail-relay-17.example.net (mail-relay-17.example.net [203.0.113.17])\r\n"
      "\tby mx.example.org (Example) with ESMTPS id 4XyZ0a1b2c3d4e5f for <ann@example.org>;\r\n"
      "\tMon, 23 Nov 2026 10:15:00 +0000 (UTC)\r\n";
  static const char signature[] =
      "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=2026;\r\n"
      "\th=from:to:subject:date:message-id:mime-version:content-type:list-unsubscribe;\r\n"
      "\tbh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n"
      "\tb=dOdFEyhrk/tw5wl3vMIogoxhaVsKJkrkEhnAcq2XqOLSQhPpGzhGBJzR7k1sWGokon3TmQ7TX9zQ\r\n"
      "\tLO6ikRpwd/pUswiRW5DBupy58fefuclXJAhErsrebfvfiueGyhHXV7C1LyJTztywznQGG4SCciU/FT\r\n"
      "\tlsJ0QANrnLRoadfpsdOdFEyhrk/tw5wl3vMIogoxhaVsKJkrkEhnAcq2XqOLSQhPpGzhGBJzR7k1s=\r\n";
  static const char results[] = "ARC-Authentication-Results: i=1; mx.example.org; dkim=pass header.d=example.net\r\n"
                                "\theader.s=2026; spf=pass smtp.mailfrom=example.net; dmarc=pass header.from=example.net\r\n";
  static const char plain[] = "From: Ann Example <ann@example.net>\r\nTo: list@example.org\r\nSubject: Re: the plan for Monday\r\n"
                              "Date: Mon, 23 Nov 2026 10:14:58 +0000\r\nMessage-ID: <CAF1x2y3z@mail.example.net>\r\n"
                              "MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"000000000000a1b2c3\"\r\n"
                              "List-Id: <list.example.org>\r\nPrecedence: list\r\nX-Spam-Score: -2.1\r\n";
  size_t len = 0;
  put(block, &len, plain);
  for (int i = 0; i < 3; i++) {
    put(block, &len, signature);
    put(block, &len, results);
  }
  while (len + sizeof received <= BLOCK - 200)
    put(block, &len, received);
  memcpy(block + len, "\r\n", 2);
  return mp_str_of(block, len + 2);
}

static void fail(void)
{
  fprintf(stderr, "bench_headers: out of memory\n");
  exit(1);
}

static double time_index(mp_str block)
{
  double start = now(), took;
  size_t times = 0;
  do {
    for (int i = 0; i < REPEATS; i++) {
      mp_header *header;
      if (mp_header_new(&header, block) < 0)
        fail();
      mp_header_free(header);
    }
    times += REPEATS;
  } while ((took = now() - start) < SECONDS);
  return (double)times * (double)block.len / took / 1e9;
}

static double time_end(mp_str block)
{
  double start = now(), took;
  size_t times = 0, sum = 0;
  do {
    for (int i = 0; i < REPEATS; i++) {
      bool open;
      sum += mp_header_end(block, &open);
    }
    times += REPEATS;
  } while ((took = now() - start) < SECONDS);
  return (double)sum / took / 1e9 * (times ? 1 : 0);
}

static double time_find(mp_str block)
{
  mp_header *header;
  if (mp_header_new(&header, block) < 0)
    fail();
  double start = now(), took;
  size_t times = 0;
  mp_ssize sum = 0;
  do {
    for (int i = 0; i < REPEATS; i++)
      sum += mp_header_find(header, MP_STR("subject"), 0);
    times += REPEATS;
  } while ((took = now() - start) < SECONDS);
  mp_header_free(header);
  return sum ? took / (double)times * 1e9 : 0;
}

int main(void)
{
  mp_str block = make();
  printf("size %zu\nindex_gb_s %.3f\nend_gb_s %.3f\nfind_ns %.1f\n", block.len, time_index(block), time_end(block),
         time_find(block));
  return 0;
}
