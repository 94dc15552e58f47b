/* Operations of one line, and the words that make them. */
#include "smtp/client_impl.h"

/* Begins `op` with the line that the parts make. */
static int begin_line(mp_client *cl, mp_client_op op, enum mp_cl_state state, mp_str verb, mp_str argument,
                      int64_t now_ms)
{
  int rc = mp_cl_begin(cl, op, now_ms);
  if (rc < 0)
    return rc;
  size_t before = cl->out.len;
  if ((rc = mp_buf_str(&cl->out, verb)) < 0 ||
      (argument.len &&
       ((verb.len && (rc = mp_buf_char(&cl->out, ' ')) < 0) || (rc = mp_buf_str(&cl->out, argument)) < 0)) ||
      (rc = mp_buf_str(&cl->out, MP_STR("\r\n"))) < 0) {
    mp_buf_cut(&cl->out, before);
    mp_cl_cancel(cl);
    return MP_E_NOMEM;
  }
  mp_cl_enter(cl, state);
  return 0;
}

int mp_client_hello(mp_client *cl, int64_t now_ms)
{
  return begin_line(cl, MP_OP_HELLO, CL_EHLO, cl->opts->lmtp ? MP_STR("LHLO") : MP_STR("EHLO"),
                    cl->opts->hostname, now_ms);
}

int mp_client_starttls(mp_client *cl, int64_t now_ms)
{
  if (mp_cl_has(cl, MP_EXT_STARTTLS) && !cl->tls)
    return begin_line(cl, MP_OP_STARTTLS, CL_STARTTLS, MP_STR("STARTTLS"), MP_STR_NULL, now_ms);
  int rc = mp_cl_begin(cl, MP_OP_STARTTLS, now_ms);
  if (rc < 0)
    return rc;
  static const mp_reply missing = { .code = 502,
                                    .enhanced = { 5, 5, 1 },
                                    .text = { "STARTTLS is not announced", 25 } };
  mp_cl_done_local(cl, &missing);
  return 0;
}

static bool writable(mp_str s)
{
  return mp_str_find(s, '\r', 0) < 0 && mp_str_find(s, '\n', 0) < 0 && mp_str_find(s, '\0', 0) < 0;
}

static bool verb_is(mp_str line, mp_str verb)
{
  return mp_str_istarts(line, verb) &&
         (line.len == verb.len || line.ptr[verb.len] == ' ' || line.ptr[verb.len] == '\t');
}

/* How much of the end of a script's own line a trace must not show: what follows the mechanism of AUTH, or a challenge. */
static size_t secret_in(const mp_client *cl, mp_str line)
{
  if (cl->challenged)
    return line.len;
  if (!mp_str_istarts(line, MP_STR("AUTH ")))
    return 0;
  mp_str rest = mp_str_trim(mp_str_sub(line, 5, line.len));
  mp_ssize space = mp_str_find(rest, ' ', 0);
  return space < 0 ? 0 : (size_t)(line.ptr + line.len - rest.ptr) - (size_t)space - 1;
}

int mp_client_command(mp_client *cl, mp_str line, int64_t now_ms)
{
  if (!writable(line))
    return mp_cl_invalid(cl, "the command holds CR, LF or NUL");
  if (line.len > MP_CL_LINE)
    return mp_cl_invalid(cl, "the command is over 12,288 octets");
  mp_str word = mp_str_trim(line);
  if (verb_is(word, MP_STR("STARTTLS")) || verb_is(word, MP_STR("BDAT")))
    return mp_cl_invalid(cl, "STARTTLS and BDAT are no commands of one line");
  int rc = begin_line(cl, MP_OP_COMMAND, CL_LINE, line, MP_STR_NULL, now_ms);
  if (rc == 0 && (cl->secret = secret_in(cl, word)))
    cl->secret += (size_t)(line.ptr + line.len - word.ptr) - word.len; /* white space behind it */
  if (rc == 0)
    cl->dirty = true; /* whatever it was: the next transaction had better begin with RSET */
  return rc;
}

int mp_client_rset(mp_client *cl, int64_t now_ms)
{
  return begin_line(cl, MP_OP_RSET, CL_LINE, MP_STR("RSET"), MP_STR_NULL, now_ms);
}

int mp_client_noop(mp_client *cl, int64_t now_ms)
{
  return begin_line(cl, MP_OP_NOOP, CL_LINE, MP_STR("NOOP"), MP_STR_NULL, now_ms);
}

int mp_client_vrfy(mp_client *cl, mp_str what, int64_t now_ms)
{
  if (!writable(what) || what.len == 0 || what.len > MP_CL_TEXT)
    return mp_cl_invalid(cl, "VRFY wants 1 to 1,024 octets without CR, LF and NUL");
  return begin_line(cl, MP_OP_VRFY, CL_LINE, MP_STR("VRFY"), what, now_ms);
}

int mp_client_quit(mp_client *cl, int64_t now_ms)
{
  return begin_line(cl, MP_OP_QUIT, CL_QUIT, MP_STR("QUIT"), MP_STR_NULL, now_ms);
}
