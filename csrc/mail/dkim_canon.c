#include "mail/dkim_canon.h"

#include "base/error.h"

#include <openssl/evp.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Runs from RUN_DIRECT octets on are hashed where they lie, shorter ones are gathered: a call of the hash costs as much as copying some hundred. */
enum { GATHER = 4096, RUN_DIRECT = 1024 };

/* What has been read but is not known to count: first `crlfs` line ends (empty lines at the end do not count), then white space (at the end of a
 * line it does not count when relaxed), then a CR whose LF may follow. */
struct mp_dkim_body {
  EVP_MD_CTX *md;
  mp_dkim_canon canon;
  uint64_t limit, length; /* canonical octets that count; that there were */
  uint64_t crlfs;
  bool white, cr;
  bool failed;
  size_t gathered;
  char gather[GATHER];
};

const char *mp_dkim_canon_name(mp_dkim_canon canon)
{
  return canon == MP_DKIM_RELAXED ? "relaxed" : "simple";
}

static bool is_wsp(char c)
{
  return c == ' ' || c == '\t';
}

/* ---- header fields ----------------------------------------------------------------------------------------------- */

static mp_str without_crlf(mp_str raw)
{
  if (raw.len >= 2 && raw.ptr[raw.len - 2] == '\r' && raw.ptr[raw.len - 1] == '\n')
    raw.len -= 2;
  return raw;
}

/* White space or the CRLF of a fold: the number of octets at `i` that are either. */
static size_t blank_at(mp_str s, size_t i)
{
  if (is_wsp(s.ptr[i]))
    return 1;
  return i + 1 < s.len && s.ptr[i] == '\r' && s.ptr[i + 1] == '\n' ? 2 : 0;
}

/* RFC 6376 3.4.2: the name in lower case, no white space around the colon, each run of white space one space, none at the end. What is written is
 * never longer than what was read. */
static size_t relax_field(char *out, mp_str raw)
{
  size_t n = 0, i = 0;
  while (i < raw.len && raw.ptr[i] != ':')
    out[n++] = (char)mp_ascii_lower((unsigned char)raw.ptr[i++]);
  while (n > 0 && is_wsp(out[n - 1]))
    n--;
  if (i < raw.len) {
    out[n++] = ':';
    i++;
  }
  bool white = false, begun = false;
  while (i < raw.len) {
    size_t blank = blank_at(raw, i);
    if (blank) {
      white |= blank == 1;
      i += blank;
      continue;
    }
    if (white && begun)
      out[n++] = ' ';
    white = false;
    begun = true;
    out[n++] = raw.ptr[i++];
  }
  return n;
}

int mp_dkim_canon_field(mp_buf *out, mp_dkim_canon canon, mp_str raw, bool crlf)
{
  raw = without_crlf(raw);
  char *room = mp_buf_room(out, raw.len + 2);
  if (!room)
    return out->len + raw.len + 2 > out->max ? MP_E_FULL : MP_E_NOMEM;
  size_t n = raw.len;
  if (canon == MP_DKIM_RELAXED)
    n = relax_field(room, raw);
  else if (n)
    memcpy(room, raw.ptr, n);
  if (crlf) {
    room[n++] = '\r';
    room[n++] = '\n';
  }
  mp_buf_grow(out, n);
  return 0;
}

/* ---- bodies ------------------------------------------------------------------------------------------------------ */

int mp_dkim_body_new(mp_dkim_body **out, mp_dkim_canon canon, uint64_t limit)
{
  mp_dkim_body *body = mp_mem_alloc(sizeof *body);
  if (!body)
    return MP_E_NOMEM;
  body->md = EVP_MD_CTX_new();
  body->canon = canon;
  body->limit = limit;
  body->length = body->crlfs = 0;
  body->white = body->cr = body->failed = false;
  body->gathered = 0;
  if (!body->md || !EVP_DigestInit_ex(body->md, EVP_sha256(), NULL)) {
    mp_dkim_body_free(body);
    return MP_E_NOMEM;
  }
  *out = body;
  return 0;
}

void mp_dkim_body_free(mp_dkim_body *body)
{
  if (!body)
    return;
  EVP_MD_CTX_free(body->md);
  mp_mem_free(body);
}

uint64_t mp_dkim_body_held(const mp_dkim_body *body)
{
  return body->cr ? body->crlfs * 2 : 0;
}

mp_dkim_canon mp_dkim_body_form(const mp_dkim_body *body, uint64_t *limit)
{
  *limit = body->limit;
  return body->canon;
}

static void digest(mp_dkim_body *body, const char *ptr, size_t len)
{
  if (len && !EVP_DigestUpdate(body->md, ptr, len))
    body->failed = true;
}

static void flush(mp_dkim_body *body)
{
  digest(body, body->gather, body->gathered);
  body->gathered = 0;
}

/* Canonical octets: hashed up to the limit, counted beyond. */
static void emit(mp_dkim_body *body, const char *ptr, size_t len)
{
  uint64_t left = body->length < body->limit ? body->limit - body->length : 0;
  body->length += len;
  if (len > left)
    len = (size_t)left;
  if (len == 0)
    return;
  if (len >= RUN_DIRECT) {
    flush(body);
    digest(body, ptr, len);
    return;
  }
  if (len > GATHER - body->gathered)
    flush(body);
  memcpy(body->gather + body->gathered, ptr, len);
  body->gathered += len;
}

/* What was held back counts after all. */
static void emit_held(mp_dkim_body *body)
{
  static const char lines[] = "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n";
  while (body->crlfs) {
    size_t n = body->crlfs < 16 ? (size_t)body->crlfs : 16;
    emit(body, lines, n * 2);
    body->crlfs -= n;
  }
  if (body->white)
    emit(body, " ", 1);
  if (body->cr)
    emit(body, "\r", 1);
  body->white = body->cr = false;
}

/* Where the first octet is that does not go as it is: a tab, or a space in front of white space, CR or the end. Between two of
 * these lie whole lines, most often whole pieces. */
static const char *plain_end(const char *p, const char *end)
{
#ifdef __SSE2__
  const __m128i tab = _mm_set1_epi8('\t'), space = _mm_set1_epi8(' '), cr = _mm_set1_epi8('\r');
  for (; end - p > 16; p += 16) {
    __m128i here = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(p + 1));
    __m128i tabs = _mm_cmpeq_epi8(here, tab);
    __m128i before = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(next, space), _mm_cmpeq_epi8(next, tab)),
                                  _mm_cmpeq_epi8(next, cr));
    __m128i spaces = _mm_and_si128(_mm_cmpeq_epi8(here, space), before);
    int found = _mm_movemask_epi8(_mm_or_si128(tabs, spaces));
    if (found)
      return p + __builtin_ctz((unsigned)found);
  }
#endif
  for (; p < end; p++)
    if (*p == '\t' || (*p == ' ' && (p + 1 == end || is_wsp(p[1]) || p[1] == '\r')))
      return p;
  return end;
}

/* One octet while something is held back, or white space. Line ends are CRLF alone: a bare CR or LF is an octet like others. */
static void step(mp_dkim_body *body, char c)
{
  if (c == '\n' && body->cr) {
    body->crlfs++;
    body->white = body->cr = false;
  } else if (c == '\r') {
    if (body->cr)
      emit_held(body);
    body->cr = true;
  } else if (body->canon == MP_DKIM_RELAXED && is_wsp(c)) {
    if (body->cr)
      emit_held(body);
    body->white = true;
  } else {
    emit_held(body);
    emit(body, &c, 1);
  }
}

/* Octets that go as they are; nothing is held back before. Their last line ends are held. */
static void plain(mp_dkim_body *body, const char *p, const char *stop, bool last)
{
  const char *end = stop;
  if (last && end > p && end[-1] == '\r') {
    body->cr = true;
    end--;
  }
  while (end - p >= 2 && end[-1] == '\n' && end[-2] == '\r') {
    body->crlfs++;
    end -= 2;
  }
  emit(body, p, (size_t)(end - p));
}

int mp_dkim_body_add(mp_dkim_body *body, mp_str octets)
{
  if (octets.len == 0)
    return 0;
  const char *p = octets.ptr, *end = octets.ptr + octets.len;
  while (p < end) {
    if (body->cr || body->white || *p == '\r') {
      step(body, *p++);
      continue;
    }
    const char *stop = body->canon == MP_DKIM_RELAXED ? plain_end(p, end) : end;
    if (stop == p) {
      step(body, *p++);
      continue;
    }
    emit_held(body);
    plain(body, p, stop, stop == end);
    p = stop;
  }
  return body->failed ? MP_E_NOMEM : 0;
}

int mp_dkim_body_finish(mp_dkim_body *body, unsigned char out[MP_DKIM_DIGEST], uint64_t *length)
{
  if (body->cr)
    emit_held(body);
  /* RFC 6376 3.4.3: an empty body is one CRLF when simple; 3.4.4: none when relaxed. Any other ends with just one. */
  body->crlfs = 0;
  body->white = false;
  if (body->length > 0 || body->canon == MP_DKIM_SIMPLE)
    emit(body, "\r\n", 2);
  flush(body);
  unsigned len;
  if (body->failed || !EVP_DigestFinal_ex(body->md, out, &len))
    return MP_E_NOMEM;
  *length = body->length;
  return 0;
}
