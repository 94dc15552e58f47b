/* support/message.h -- a loop, a store and messages made from text, for tests of the octets of messages and of deliveries. */
#ifndef MP_SPEC_MESSAGE_H
#define MP_SPEC_MESSAGE_H

#include "support/check.h"

#include "base/error.h"
#include "conn/message.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a folder of the test's own ---------------------------------------------------------------------------------- */

static char temp_folder[64];

__attribute__((unused)) static const char *temp_make(void)
{
  const char *base = getenv("TMPDIR");
  snprintf(temp_folder, sizeof temp_folder, "%s/mp-spec-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
  if (!mkdtemp(temp_folder)) {
    perror("mkdtemp");
    exit(2);
  }
  return temp_folder;
}

/* A path below it; of the last four calls. */
__attribute__((format(printf, 1, 2), unused)) static const char *temp_path(const char *fmt, ...)
{
  static _Thread_local char paths[4][512];
  static _Thread_local unsigned next;
  char *path = paths[next++ % 4];
  int n = snprintf(path, sizeof paths[0], "%s/", temp_folder);
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(path + n, sizeof paths[0] - (size_t)n, fmt, ap);
  va_end(ap);
  return path;
}

__attribute__((unused)) static void temp_remove(const char *path)
{
  DIR *dir = opendir(path);
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    char below[1024];
    snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
    if (unlink(below) < 0)
      temp_remove(below);
  }
  if (dir)
    closedir(dir);
  rmdir(path);
}

/* How many names a folder holds, and the last of them; -1 when it is not there. */
__attribute__((unused)) static int temp_count(const char *path, char name[256])
{
  DIR *dir = opendir(path);
  int n = dir ? 0 : -1;
  for (struct dirent *entry; dir && (entry = readdir(dir));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
      continue;
    n++;
    if (name)
      snprintf(name, 256, "%s", entry->d_name);
  }
  if (dir)
    closedir(dir);
  return n;
}

/* A file's octets, to be freed; NULL when there is none. */
__attribute__((unused)) static char *file_read(const char *path, size_t *len)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  if (fd < 0 || fstat(fd, &st) < 0)
    return NULL;
  char *octets = malloc((size_t)st.st_size + 1);
  ssize_t n = octets ? read(fd, octets, (size_t)st.st_size) : -1;
  close(fd);
  *len = n < 0 ? 0 : (size_t)n;
  return octets;
}

__attribute__((unused)) static void file_write(const char *path, const char *text)
{
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

typedef struct post_office {
  mp_loop loop;
  mp_body_store store;
} post_office;

__attribute__((unused)) static void office_open(post_office *office, bool is_virtual)
{
  int rc = is_virtual ? mp_loop_init_virtual(&office->loop, 0) : mp_loop_init(&office->loop);
  if (rc < 0) {
    fprintf(stderr, "no loop: %s\n", mp_error_text(rc));
    exit(2);
  }
  mp_body_store_init(&office->store, &office->loop);
}

__attribute__((unused)) static void office_close(post_office *office)
{
  mp_loop_dispose(&office->loop);
  mp_body_store_dispose(&office->store);
}

__attribute__((unused)) static void note_ready(void *ctx, int rc)
{
  *(int *)ctx = rc;
}

enum { NOT_READY = 1 };

/* Turns the loop until *rc was noted. */
__attribute__((unused)) static int wait_ready(post_office *office, int *rc)
{
  while (*rc == NOT_READY)
    mp_loop_turn(&office->loop, true);
  return *rc;
}

/* Feeds all octets, `slice` at a time, waiting as it is told to, and finishes. */
__attribute__((unused)) static int sink_fill(post_office *office, mp_sink *sink, mp_str octets, size_t slice)
{
  int rc = 0;
  for (size_t at = 0; rc == 0 && at < octets.len; at += slice) {
    int noted = NOT_READY;
    mp_sink_on_ready(sink, note_ready, &noted);
    rc = mp_sink_add(sink, mp_str_sub(octets, at, slice));
    if (rc == 1)
      rc = wait_ready(office, &noted);
  }
  int noted = NOT_READY;
  mp_sink_on_ready(sink, note_ready, &noted);
  if (rc == 0)
    rc = mp_sink_finish(sink);
  if (rc == 1)
    rc = wait_ready(office, &noted);
  mp_sink_on_ready(sink, NULL, NULL);
  return rc;
}

/* An envelope from ann@example.net to `count` of bob0@example.org, bob1@... */
__attribute__((unused)) static mp_envelope *envelope_make(unsigned count)
{
  mp_envelope *env = mp_envelope_new(65536, NULL, NULL);
  mp_path path;
  mp_mail_params mail = { 0 };
  mp_rcpt_params rcpt = { 0 };
  bool good = env && mp_mailbox_parse(&path, MP_STR("ann@example.net"), 0) == 0 &&
              mp_envelope_mail(env, &path, &mail) == 0;
  for (unsigned i = 0; good && i < count; i++) {
    char address[64];
    snprintf(address, sizeof address, "bob%u@example.org", i);
    good = mp_mailbox_parse(&path, mp_str_c(address), 0) == 0 && mp_envelope_rcpt(env, &path, &rcpt);
  }
  if (!good)
    mp_envelope_unref(env);
  return good ? env : NULL;
}

__attribute__((unused)) static const mp_ip peer_ip = { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0,
                                                         113, 9 } };

__attribute__((unused)) static mp_trace trace_make(void)
{
  return (mp_trace){
    .helo = MP_STR("mail.example.net"),
    .peer = &peer_ip,
    .by = MP_STR("mx.example.org"),
    .with = MP_STR("ESMTP"),
    .id = MP_STR("ID0000000001"),
    .unix_s = 1795387310,
  };
}

#define TRACE_TO(FOR)                                   \
  "Received: from mail.example.net ([203.0.113.9])\r\n" \
  "\tby mx.example.org with ESMTP\r\n"                  \
  "\tid ID0000000001" FOR ";\r\n"                       \
  "\tSun, 22 Nov 2026 22:41:50 +0000\r\n"

/* A message, or NULL with *rc. */
__attribute__((unused)) static mp_message *message_make(post_office *office, mp_str octets, unsigned rcpts,
                                                        int *rc)
{
  mp_sink *sink = NULL;
  mp_message *msg = NULL;
  mp_trace trace = trace_make();
  mp_envelope *env = envelope_make(rcpts);
  *rc = env ? mp_sink_new(&sink, &office->store) : MP_E_NOMEM;
  if (*rc == 0)
    *rc = sink_fill(office, sink, octets, 65536);
  if (*rc == 0)
    *rc = mp_message_new(&msg, env, sink, &trace, 0);
  mp_sink_unref(sink);
  mp_envelope_unref(env);
  return msg;
}

/* `len` octets of lines, different at each place; to be freed. */
__attribute__((unused)) static char *octets_make(const char *start, size_t len)
{
  char *octets = malloc(len + 64);
  size_t at = octets ? strlen(start) : len;
  if (octets)
    memcpy(octets, start, at);
  for (size_t i = 0; at < len; i++)
    at += (size_t)sprintf(octets + at, "line %zu of many\r\n", i * 2654435761u % 1000003);
  return octets;
}

#endif
