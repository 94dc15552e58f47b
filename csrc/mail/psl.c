#include "mail/psl.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <libpsl.h>
#include <stdio.h>

struct mp_psl {
  psl_ctx_t *ctx;
};

static int load(mp_psl *list, const char *path)
{
  if (!path) {
    list->ctx = psl_latest(NULL);
    return list->ctx ? 0 : MP_E_NOTFOUND;
  }
  /* Opened here: the library does not say what was wrong. */
  FILE *file = fopen(path, "rbe");
  if (!file)
    return mp_error_errno(errno);
  list->ctx = psl_load_fp(file);
  fclose(file);
  return list->ctx && psl_suffix_count(list->ctx) != 0 ? 0 : MP_E_SYNTAX; /* -1: a compiled list does not tell */
}

int mp_psl_new(mp_psl **list, const char *path)
{
  *list = NULL;
  mp_psl *made = mp_mem_zalloc(sizeof *made);
  if (!made)
    return MP_E_NOMEM;
  int rc = load(made, path);
  if (rc < 0) {
    mp_psl_free(made);
    return rc;
  }
  *list = made;
  return 0;
}

void mp_psl_free(mp_psl *list)
{
  if (!list)
    return;
  psl_free(list->ctx);
  mp_mem_free(list);
}

/* Copies a name in lower case (letters of ASCII alone). Its length; 0 when it has an empty label, what no name has, or ends in digits as an
 * address does: "2.1" is nobody's domain. */
static size_t copy(char out[MP_PSL_NAME], mp_str name, bool *ascii)
{
  if (name.len > 0 && name.ptr[name.len - 1] == '.')
    name.len--;
  if (name.len == 0 || name.len >= MP_PSL_NAME || !mp_str_utf8(name))
    return 0;
  bool digits = true;
  char before = '.';
  *ascii = true;
  for (size_t i = 0; i < name.len; i++) {
    unsigned char c = (unsigned char)name.ptr[i];
    if (c <= ' ' || c == 0x7f || (c == '.' && before == '.'))
      return 0;
    *ascii = *ascii && c < 0x80;
    digits = c == '.' || (digits && c >= '0' && c <= '9');
    before = out[i] = (char)mp_ascii_lower(c);
  }
  out[name.len] = '\0';
  return digits || before == '.' ? 0 : name.len;
}

mp_ssize mp_psl_registrable(const mp_psl *list, mp_str name, char out[MP_PSL_NAME])
{
  bool ascii;
  if (copy(out, name, &ascii) == 0)
    return 0;
  /* Capitals beyond ASCII, and how a letter is composed; twice, for what is composed may be a capital. What comes out is looked at again: some
   * letters are composed with a space, and some are dots. */
  for (int round = 0; !ascii && round < 2; round++) {
    char *lower = NULL;
    psl_error_t rc = psl_str_to_utf8lower(out, "utf-8", NULL, &lower);
    size_t len = rc == PSL_SUCCESS ? copy(out, mp_str_c(lower), &ascii) : 0;
    psl_free_string(lower);
    if (len == 0)
      return rc == PSL_ERR_NO_MEM ? MP_E_NOMEM : 0;
  }
  const char *found = psl_registrable_domain(list->ctx, out);
  if (!found)
    return 0;
  size_t len = strlen(found);
  memmove(out, found, len + 1);
  return (mp_ssize)len;
}
