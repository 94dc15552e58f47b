/* bench/mime.c -- GMime by itself, for comparison: `bench_mime FILE...` reads the messages of these files from memory into trees, looks at every part's type and
 * disposition, and prints "us N", microseconds for one round over all of them. */
#include <gmime/gmime.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const double SECONDS = 1;

static double now(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static size_t seen;

static void look(GMimeObject *parent, GMimeObject *part, gpointer data)
{
  (void)parent;
  (void)data;
  GMimeContentType *type = g_mime_object_get_content_type(part);
  seen += type && g_mime_content_type_get_media_type(type) ? 1 : 0;
  seen += g_mime_object_get_disposition(part) ? 1 : 0;
}

static void parse(const char *octets, size_t len)
{
  GMimeStream *stream = g_mime_stream_mem_new_with_buffer(octets, len);
  GMimeParser *parser = g_mime_parser_new_with_stream(stream);
  GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
  if (message) {
    g_mime_message_foreach(message, look, NULL);
    g_object_unref(message);
  }
  g_object_unref(parser);
  g_object_unref(stream);
}

int main(int argc, char **argv)
{
  g_mime_init();
  char **octets = calloc((size_t)argc, sizeof *octets);
  gsize *len = calloc((size_t)argc, sizeof *len);
  if (!octets || !len)
    return 1;
  for (int i = 1; i < argc; i++)
    if (!g_file_get_contents(argv[i], &octets[i], &len[i], NULL))
      return 1;
  double start = now(), took;
  unsigned rounds = 0;
  do {
    for (int i = 1; i < argc; i++)
      parse(octets[i], len[i]);
    rounds++;
  } while ((took = now() - start) < SECONDS);
  printf("us %.1f\n", took / rounds * 1e6);
  return seen > 0 ? 0 : 1;
}
