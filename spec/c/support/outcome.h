/* support/outcome.h -- what a delivery reported, kept for the test to look at. */
#ifndef MP_SPEC_OUTCOME_H
#define MP_SPEC_OUTCOME_H

#include "support/message.h"

#include "conn/deliver.h"

typedef struct outcome {
  int told; /* how often */
  int rc, status, signal;
  char why[600], path[600];
  char *output; /* to be freed */
  size_t output_len;
} outcome;

__attribute__((unused)) static void note_outcome(void *ctx, const mp_outcome *out)
{
  outcome *o = ctx;
  o->told++;
  o->rc = out->rc;
  o->status = out->status;
  o->signal = out->signal;
  snprintf(o->why, sizeof o->why, "%s", out->why ? out->why : "");
  snprintf(o->path, sizeof o->path, "%s", out->path ? out->path : "");
  free(o->output);
  o->output = malloc(out->output.len + 1);
  o->output_len = out->output.len;
  memcpy(o->output, out->output.len ? out->output.ptr : "", out->output.len);
  o->output[out->output.len] = '\0';
  CHECK((out->rc == 0) == (out->why == NULL));
}

/* Turns the loop until it was told; its rc. */
__attribute__((unused)) static int wait_outcome(post_office *office, outcome *o)
{
  CHECK_EQ_INT(o->told, 0); /* never from inside the call */
  while (!o->told)
    mp_loop_turn(&office->loop, true);
  CHECK_EQ_INT(o->told, 1);
  return o->rc;
}

__attribute__((unused)) static bool says(const outcome *o, const char *part)
{
  return strstr(o->why, part) || check_fail(__FILE__, __LINE__, "\"%s\" does not say \"%s\"", o->why, part);
}

/* What a delivery of `octets` to bob0@example.org alone puts into a file, with the line ends of the wire; to be freed. */
__attribute__((unused)) static char *delivered_octets(const char *extra, mp_str octets, size_t *len)
{
  static const char trace[] = TRACE_TO(" for <bob0@example.org>");
  size_t top = strlen(extra);
  char *all = malloc(top + sizeof trace + octets.len);
  *len = top + sizeof trace - 1 + octets.len;
  memcpy(all, extra, top);
  memcpy(all + top, trace, sizeof trace - 1);
  memcpy(all + top + sizeof trace - 1, octets.ptr, octets.len);
  return all;
}

/* CRLF to LF by the simplest means; the new length. */
__attribute__((unused)) static size_t lf_only(char *octets, size_t len)
{
  size_t n = 0;
  for (size_t i = 0; i < len; i++)
    if (octets[i] != '\r' || i + 1 == len || octets[i + 1] != '\n')
      octets[n++] = octets[i];
  return n;
}

__attribute__((unused)) static void check_lines(const char *path, const char *extra, mp_str octets, bool crlf)
{
  size_t len, want_len;
  char *got = file_read(path, &len), *want = delivered_octets(extra, octets, &want_len);
  if (!crlf)
    want_len = lf_only(want, want_len);
  if (CHECK(got != NULL))
    CHECK_EQ_STR(mp_str_of(got, len), mp_str_of(want, want_len));
  free(got);
  free(want);
}

__attribute__((unused)) static void check_file(const char *path, const char *extra, mp_str octets)
{
  check_lines(path, extra, octets, false);
}

#endif
