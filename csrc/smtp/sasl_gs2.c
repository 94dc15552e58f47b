/* The head of a GS2 message (RFC 5801 4), which SCRAM and OAUTHBEARER share, and the names in it. */
#include "smtp/sasl_impl.h"

int mp_gs2_name(char *out, size_t *len, mp_str text)
{
  char name[MP_SASL_NAME_MAX + 1];
  size_t n = 0;
  for (size_t i = 0; i < text.len; i++) {
    char c = text.ptr[i];
    if (c == '=') {
      mp_str code = mp_str_sub(text, i, 3);
      if (mp_str_eq(code, MP_STR("=2C")))
        c = ',';
      else if (!mp_str_eq(code, MP_STR("=3D")))
        return MP_SASL_SYNTAX;
      i += 2;
    }
    if (n == sizeof name)
      return MP_SASL_SYNTAX;
    name[n++] = c;
  }
  return mp_sasl_name(out, len, mp_str_of(name, n));
}

int mp_gs2_parse(mp_gs2 *head, mp_str *rest)
{
  mp_ssize first = mp_str_find(*rest, ',', 0);
  mp_ssize second = first < 0 ? -1 : mp_str_find(*rest, ',', (size_t)first + 1);
  if (second < 0)
    return MP_SASL_SYNTAX;
  mp_str flag = mp_str_sub(*rest, 0, (size_t)first);
  mp_str authzid = mp_str_sub(*rest, (size_t)first + 1, (size_t)(second - first - 1));
  *head = (mp_gs2){ .flag = flag.len ? flag.ptr[0] : '\0' };
  switch (head->flag) {
  case 'n':
  case 'y':
    if (flag.len != 1)
      return MP_SASL_SYNTAX;
    break;
  case 'p':
    head->binding = mp_str_sub(flag, 2, flag.len);
    if (head->binding.len == 0 || flag.ptr[1] != '=')
      return MP_SASL_SYNTAX;
    break;
  default:
    return MP_SASL_SYNTAX;
  }
  if (authzid.len) {
    if (!mp_str_eq(mp_str_sub(authzid, 0, 2), MP_STR("a=")))
      return MP_SASL_SYNTAX;
    int rc = mp_gs2_name(head->authzid, &head->authzid_len, mp_str_sub(authzid, 2, authzid.len));
    if (rc)
      return rc;
  }
  *rest = mp_str_sub(*rest, (size_t)second + 1, rest->len);
  return 0;
}
