#include "mime/value.h"

#include <gmime/gmime.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void begin(void)
{
  g_mime_init();
}

void mp_mime_begin(void)
{
  static pthread_once_t begun = PTHREAD_ONCE_INIT;
  pthread_once(&begun, begin);
}

/* ---- fields ------------------------------------------------------------------------------------------------------- */

const char *mp_mime_field(const char *header, size_t len, const char *name, size_t *value_len)
{
  size_t name_len = strlen(name);
  const char *end = header + len, *found = NULL;
  while (header < end) {
    const char *lf = memchr(header, '\n', (size_t)(end - header));
    const char *next = lf ? lf + 1 : end;
    bool folded = *header == ' ' || *header == '\t';
    if (found && !folded)
      break;
    if (!found && (size_t)(next - header) > name_len && strncasecmp(header, name, name_len) == 0) {
      const char *colon = header + name_len;
      while (colon < next && (*colon == ' ' || *colon == '\t'))
        colon++;
      if (colon < next && *colon == ':')
        found = colon + 1;
    }
    header = next;
  }
  if (found)
    *value_len = (size_t)(header - found);
  return found;
}

/* Behind the line breaks and white space at `i` when a line is folded there; else `i`, and *plain is where this white space ends. */
static size_t behind_fold(const char *value, size_t len, size_t i, size_t *plain)
{
  size_t at = i;
  bool broken = false;
  while (at < len && (value[at] == ' ' || value[at] == '\t' || value[at] == '\r' || value[at] == '\n')) {
    broken = broken || value[at] == '\n' || value[at] == '\r';
    at++;
  }
  *plain = at;
  return broken ? at : i;
}

static size_t skip(const char *value, size_t len, size_t i);

char *mp_mime_text(const char *value, size_t len, bool comments)
{
  char *text = len <= MP_MIME_VALUE_MOST ? malloc(len + 1) : NULL;
  if (!text)
    return NULL;
  size_t n = 0, plain = 0;
  bool quoted = false;
  for (size_t i = 0; i < len; i++) {
    size_t next = i < plain ? i : behind_fold(value, len, i, &plain);
    if (next == i && !comments && !quoted && value[i] == '(')
      next = skip(value, len, i);
    unsigned char c = next > i ? ' ' : (unsigned char)value[i];
    if (next > i)
      i = next - 1;
    if (c == '"')
      quoted = !quoted;
    if (c == '\\' && quoted && i + 1 < len && value[i + 1] == '"')
      text[n++] = (char)c, c = (unsigned char)value[++i];
    bool control = (c < 32 && c != '\033' && c != '\t') || c == 127; /* ESC: ISO-2022-JP as it is */
    if (n > 0 || (c != ' ' && c != '\t'))
      text[n++] = control ? ' ' : (char)c;
  }
  while (n && text[n - 1] == ' ')
    n--;
  text[n] = '\0';
  return text;
}

/* ---- types -------------------------------------------------------------------------------------------------------- */

/* Behind white space and comments (RFC 5322 3.2.2), which may nest. */
static size_t skip(const char *value, size_t len, size_t i)
{
  unsigned depth = 0;
  for (; i < len; i++) {
    char c = value[i];
    if (c == '(')
      depth++;
    else if (depth && c == ')')
      depth--;
    else if (depth && c == '\\')
      i++;
    else if (!depth && (unsigned char)c > 32)
      break;
  }
  return i < len ? i : len;
}

static size_t token(const char *value, size_t len, size_t i, char out[128])
{
  size_t n = 0;
  for (; i < len && (unsigned char)value[i] > 32 && !strchr("/;(),\"=", value[i]); i++) {
    char c = value[i];
    if (n < 127)
      out[n++] = (unsigned char)c > 126 ? '?'
                 : c >= 'A' && c <= 'Z' ? (char)(c + 32)
                                        : c; /* no token has others */
  }
  out[n] = '\0';
  return i;
}

/* Behind the next ";" that stands in no quotes and no comment. */
static size_t behind_semicolon(const char *value, size_t len, size_t i)
{
  bool quoted = false;
  for (; i < len; i++) {
    if (value[i] == '"')
      quoted = !quoted;
    else if (quoted && value[i] == '\\')
      i++;
    else if (!quoted && value[i] == '(')
      i = skip(value, len, i) - 1;
    else if (!quoted && value[i] == ';')
      return i + 1;
  }
  return len;
}

size_t mp_mime_type_of(const char *value, size_t len, char type[128], char subtype[128])
{
  size_t i = token(value, len, skip(value, len, 0), type);
  subtype[0] = '\0';
  i = skip(value, len, i);
  if (i < len && value[i] == '/')
    i = token(value, len, skip(value, len, i + 1), subtype);
  size_t next = skip(value, len, i);
  bool forgotten =
      next > i && next < len && value[next] != ';'; /* a name behind white space: the ";" was left out */
  return forgotten ? next : behind_semicolon(value, len, next);
}

static bool one_of(const char *name, const char *const *names)
{
  while (*names && strcmp(name, *names) != 0)
    names++;
  return *names != NULL;
}

void mp_mime_type_read(mp_mime_type *type, const char *header, size_t len)
{
  static const char *const messages[] = { "rfc822", "global", "news", NULL };
  static const char *const coded[] = { "base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", NULL };
  char major[128], minor[128];
  *type = (mp_mime_type){ .identity = true };
  size_t n;
  const char *value = mp_mime_field(header, len, "Content-Type", &n);
  if (value) {
    type->given = true;
    mp_mime_type_of(value, n, major, minor);
    type->multipart = strcmp(major, "multipart") == 0;
    type->digest = type->multipart && strcmp(minor, "digest") == 0;
    type->message = strcmp(major, "message") == 0 && one_of(minor, messages);
  }
  value = mp_mime_field(header, len, "Content-Transfer-Encoding", &n);
  if (value) {
    token(value, n, skip(value, n, 0), major);
    type->identity = !one_of(major, coded);
  }
}

/* ---- boundary ----------------------------------------------------------------------------------------------------- */

/* The value that begins at `i`: quoted, or up to white space or ";". NUL cannot stand in one. */
static char *boundary_value(const char *value, size_t len, size_t i)
{
  char *out = malloc(len - i + 1);
  if (!out)
    return NULL;
  size_t n = 0;
  bool quoted = value[i] == '"';
  for (i += quoted; i < len; i++) {
    char c = value[i];
    if (quoted ? c == '"' : (unsigned char)c <= 32 || c == ';')
      break;
    if (quoted && c == '\\' && i + 1 < len)
      c = value[++i];
    if (c != '\r' && c != '\n')
      out[n++] = c;
  }
  while (n && (out[n - 1] == ' ' || out[n - 1] == '\t')) /* RFC 2046 5.1.1: it does not end in white space */
    n--;
  out[n] = '\0';
  if (n && !memchr(out, '\0', n))
    return out;
  free(out);
  return NULL;
}

/* In the pieces of RFC 2231 3. */
static char *boundary_pieces(const char *value, size_t len)
{
  char *text = mp_mime_text(value, len, false);
  if (!text)
    return NULL;
  GMimeParamList *list = g_mime_param_list_parse(NULL, text);
  GMimeParam *param = list ? g_mime_param_list_get_parameter(list, "boundary") : NULL;
  const char *found = param ? g_mime_param_get_value(param) : NULL;
  char *out = found && *found ? strdup(found) : NULL;
  if (list)
    g_object_unref(list);
  free(text);
  return out;
}

char *mp_mime_boundary(const char *header, size_t len)
{
  size_t n;
  char name[128], rest[128];
  const char *value = mp_mime_field(header, len, "Content-Type", &n);
  if (!value)
    return NULL;
  size_t params = mp_mime_type_of(value, n, name, rest);
  for (size_t at = params; at < n; at = behind_semicolon(value, n, at)) {
    size_t i = token(value, n, skip(value, n, at), name);
    if (strcmp(name, "boundary*0") == 0 || strcmp(name, "boundary*0*") == 0 || strcmp(name, "boundary*") == 0)
      return boundary_pieces(value + params, n - params);
    i = skip(value, n, i);
    if (strcmp(name, "boundary") != 0 || i >= n || value[i] != '=')
      continue;
    for (i++; i < n && ((unsigned char)value[i] <= 32); i++) {
    }
    return i < n ? boundary_value(value, n, i) : NULL;
  }
  return NULL;
}
