/* What an EHLO reply announces (RFC 5321 4.1.1.1), line by line. What is not understood is passed over: it is the peer's word, and no error. */
#include "smtp/client_impl.h"
#include "smtp/stamp.h"

/* Takes the next word off the front. */
static mp_str word(mp_str *rest)
{
  *rest = mp_str_trim(*rest);
  mp_ssize space = mp_str_find(*rest, ' ', 0);
  mp_str first = mp_str_sub(*rest, 0, space < 0 ? rest->len : (size_t)space);
  *rest = mp_str_sub(*rest, first.len, rest->len);
  return first;
}

static void read_auth(mp_client_caps *caps, mp_str args)
{
  for (mp_str name = word(&args); name.len; name = word(&args)) {
    int mech = mp_mech_find(name);
    if (mech >= 0)
      caps->mechanisms |= 1u << mech;
  }
}

/* "RCPTMAX=20" (RFC 9422 4): at least 1, or it means nothing. */
static void read_limits(mp_client_caps *caps, mp_str args)
{
  const struct {
    mp_str name;
    unsigned *value;
  } known[] = { { MP_STR("MAILMAX="), &caps->mail_max },
                { MP_STR("RCPTMAX="), &caps->rcpt_max },
                { MP_STR("RCPTDOMAINMAX="), &caps->rcpt_domain_max } };
  for (mp_str arg = word(&args); arg.len; arg = word(&args))
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
      uint64_t value;
      if (mp_str_istarts(arg, known[i].name) &&
          mp_str_u64(mp_str_sub(arg, known[i].name.len, arg.len), 999999, &value) && value > 0)
        *known[i].value = (unsigned)value;
    }
}

static void read_args(mp_client_caps *caps, unsigned extension, mp_str args)
{
  uint64_t value;
  switch (extension) {
  case MP_EXT_AUTH:
    read_auth(caps, args);
    break;
  case MP_EXT_SIZE:
    if (mp_str_u64(word(&args), INT64_MAX, &value)) /* as much as scripts can count; more is no limit */
      caps->size = value;
    break;
  case MP_EXT_DELIVERBY: /* RFC 2852 3: min-by-time, and what later versions put behind a comma */
    args = word(&args);
    if (mp_str_u64(
            mp_str_sub(args, 0, mp_str_find(args, ',', 0) < 0 ? args.len : (size_t)mp_str_find(args, ',', 0)),
            999999999, &value))
      caps->by_min = (int64_t)value;
    break;
  case MP_EXT_FUTURERELEASE: /* RFC 4865 3: max-interval, max-datetime */
    if (mp_str_u64(word(&args), 999999999, &value))
      caps->hold_max = value;
    args = word(&args);
    if (args.len && !mp_stamp_parse(args, &caps->hold_until))
      caps->hold_until = 0;
    break;
  case MP_EXT_LIMITS:
    read_limits(caps, args);
    break;
  default:
    break;
  }
}

static void read_line(mp_client_caps *caps, mp_str line)
{
  static const mp_str names[] = {
#define NAME(name, text) [MP_EXTI_##name] = { (text), sizeof(text) - 1 },
    MP_EXT_MAP(NAME)
#undef NAME
  };
  if (mp_str_istarts(line, MP_STR("AUTH="))) { /* as servers said before RFC 2554 */
    caps->extensions |= MP_EXT_AUTH;
    read_auth(caps, mp_str_sub(line, 5, line.len));
    return;
  }
  mp_str keyword = word(&line);
  for (size_t i = 0; i < MP_EXT_COUNT; i++)
    if (mp_str_ieq(keyword, names[i])) {
      caps->extensions |= 1u << i;
      read_args(caps, 1u << i, line);
    }
}

void mp_cl_forget_caps(mp_client *cl)
{
  mp_mem_free(cl->caps_text);
  cl->caps_text = NULL;
  cl->caps = (mp_client_caps){ .extensions = 0 };
}

int mp_cl_caps(mp_client *cl, const mp_reply *reply)
{
  cl->caps_text = mp_mem_dup(reply->text.ptr, reply->text.len);
  if (!cl->caps_text)
    return MP_E_NOMEM;
  mp_str text = mp_str_of(cl->caps_text, reply->text.len);
  if (text.len == MP_READER_TEXT) /* what was left out may be the end of a number */
    while (text.len && text.ptr[text.len - 1] != '\n')
      text.len--;
  mp_ssize lf = mp_str_find(text, '\n', 0);
  mp_str first = mp_str_sub(text, 0, lf < 0 ? text.len : (size_t)lf);
  mp_client_caps caps = { .name = word(&first),
                          .lines = mp_str_sub(text, lf < 0 ? text.len : (size_t)lf + 1, text.len) };
  mp_str rest = caps.lines;
  while (rest.len) {
    lf = mp_str_find(rest, '\n', 0);
    read_line(&caps, mp_str_sub(rest, 0, lf < 0 ? rest.len : (size_t)lf));
    rest = mp_str_sub(rest, lf < 0 ? rest.len : (size_t)lf + 1, rest.len);
  }
  caps.extensions &= ~cl->opts->ignore;
  cl->caps = caps;
  return 0;
}
