/* Paths, mailboxes, host names (RFC 5321 4.1.2, 4.1.3). */
#include "support/check.h"

#include "base/error.h"
#include "smtp/path.h"

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)

/* A copy in a heap block of its exact size: a sanitizer sees a step outside. */
static mp_ssize parse(mp_path *path, mp_str in, unsigned flags, char **copy)
{
  *copy = malloc(in.len ? in.len : 1);
  memcpy(*copy, in.ptr, in.len);
  return mp_path_parse(path, mp_str_of(*copy, in.len), flags);
}

static void check_path(mp_str in, unsigned flags, mp_ssize taken, mp_str local, mp_str domain, mp_str route)
{
  mp_path path;
  char *copy;
  if (CHECK_EQ_INT(parse(&path, in, flags, &copy), taken)) {
    CHECK_EQ_STR(path.local, local);
    CHECK_EQ_STR(path.domain, domain);
    CHECK_EQ_STR(path.route, route);
    CHECK_EQ_INT(path.quoted, local.len && local.ptr[0] == '"');
    size_t whole = local.len + (domain.len ? domain.len + 1 : 0);
    CHECK_EQ_INT(path.address.len, whole);
  } else {
    char shown[300];
    FAIL("  in \"%s\"", check_quote(in, shown, sizeof shown));
  }
  free(copy);
}

static void check_bad(mp_str in, unsigned flags, int error)
{
  mp_path path;
  char *copy, shown[300];
  if (!CHECK_EQ_INT(parse(&path, in, flags, &copy), error))
    FAIL("  in \"%s\"", check_quote(in, shown, sizeof shown));
  free(copy);
}

#define GOOD(in, flags, local, domain) \
  check_path(LIT(in), flags, sizeof(in) - 1, LIT(local), LIT(domain), LIT(""))
#define BAD(in, flags)  check_bad(LIT(in), flags, MP_E_SYNTAX)
#define LONG(in, flags) check_bad(in, flags, MP_E_TOOLONG)

TEST(a_plain_mailbox)
{
  GOOD("<a@b>", 0, "a", "b");
  GOOD("<john.doe+tag=x@mail.example.org>", 0, "john.doe+tag=x", "mail.example.org");
  GOOD("<!#$%&'*+-/=?^_`{|}~@b>", 0, "!#$%&'*+-/=?^_`{|}~", "b");
  GOOD("<a@1.2-3.xn--bcher-kva>", 0, "a", "1.2-3.xn--bcher-kva");
}

TEST(octets_behind_a_space_are_left)
{
  check_path(LIT("<a@b> SIZE=3"), 0, 5, LIT("a"), LIT("b"), LIT(""));
  check_path(LIT("<a@b> "), 0, 5, LIT("a"), LIT("b"), LIT(""));
  BAD("<a@b>SIZE=3", 0);
  BAD("<a@b>>", 0);
  BAD("<a@b>\t", 0);
  BAD("<a@b>\0", 0);
}

TEST(the_null_path_is_for_senders)
{
  check_path(LIT("<>"), MP_PATH_REVERSE, 2, LIT(""), LIT(""), LIT(""));
  check_path(LIT("<> BODY=7BIT"), MP_PATH_REVERSE, 2, LIT(""), LIT(""), LIT(""));
  BAD("<>", 0);
  BAD("< >", MP_PATH_REVERSE);
  BAD("<@a:>", MP_PATH_REVERSE);
}

TEST(postmaster_without_a_domain_is_for_recipients)
{
  GOOD("<postmaster>", MP_PATH_POSTMASTER, "postmaster", "");
  GOOD("<PostMaster>", MP_PATH_POSTMASTER, "PostMaster", "");
  GOOD("<postmaster@b>", MP_PATH_POSTMASTER, "postmaster", "b");
  BAD("<postmaster>", 0);
  BAD("<\"postmaster\">", MP_PATH_POSTMASTER);
  BAD("<postmasters>", MP_PATH_POSTMASTER);
  BAD("<root>", MP_PATH_POSTMASTER);
  BAD("<@a:postmaster>", MP_PATH_POSTMASTER);
}

TEST(a_source_route_is_taken_and_set_aside)
{
  check_path(LIT("<@a,@b:c@d>"), 0, 11, LIT("c"), LIT("d"), LIT("@a,@b"));
  check_path(LIT("<@a.example:\"x y\"@d>"), 0, 20, LIT("\"x y\""), LIT("d"), LIT("@a.example"));
  BAD("<@a@b:c@d>", 0);
  BAD("<@a,b:c@d>", 0);
  BAD("<@a, @b:c@d>", 0);
  BAD("<@a,:c@d>", 0);
  BAD("<@:c@d>", 0);
  BAD("<@a,@b>", 0);
  BAD("<@a:@b:c@d>", 0);
  BAD("<@[192.0.2.1]:c@d>", 0);
  BAD("<@-a:c@d>", 0);
}

TEST(quoted_local_parts_are_kept_whole)
{
  GOOD("<\"john doe\"@b>", 0, "\"john doe\"", "b");
  GOOD("<\"a@evil b\"@good>", 0, "\"a@evil b\"", "good");
  GOOD("<\"a>b\"@c>", 0, "\"a>b\"", "c");
  GOOD("<\"\\\"\\\\\"@b>", 0, "\"\\\"\\\\\"", "b");
  GOOD("<\"\"@b>", 0, "\"\"", "b");
  GOOD("<\" \"@b>", 0, "\" \"", "b");
  BAD("<\"a@b>", 0);
  BAD("<\"a\\\"@b>", 0);
  BAD("<\"a\"b@c>", 0);
  BAD("<\"a\".b@c>", 0);
  BAD("<a\"b\"@c>", 0);
  BAD("<\"a\" @b>", 0);
  BAD("<\"a\nb\"@c>", 0);
  BAD("<\"a\\\nb\"@c>", 0);
  BAD("<\"a\rb\"@c>", 0);
  BAD("<\"a\0b\"@c>", 0);
  BAD("<\"a\\\0b\"@c>", 0);
  BAD("<\"a\177b\"@c>", 0);
  BAD("<\"a\tb\"@c>", 0);
}

TEST(control_characters_are_refused_wherever_they_stand)
{
  static const char *const templates[] = { "?<a@b>",           "<?a@b>",           "<a?a@b>",
                                           "<a?@b>",           "<a@?b>",           "<a@b?>",
                                           "<a@b?b>",          "<a@b.?>",          "<@x?:a@b>",
                                           "<a@[?192.0.2.1]>", "<a@[192.0.2.1?]>", "<a@[x:y?z]>",
                                           "<\"?\"@b>",        "<\"\\?\"@b>",      "<a@b>?" };
  for (size_t t = 0; t < sizeof templates / sizeof *templates; t++)
    for (int c = 0; c < 0x20 + 1; c++) {
      char in[32];
      size_t n = strlen(templates[t]);
      memcpy(in, templates[t], n);
      *(char *)memchr(in, '?', n) = c == 0x20 ? 0x7f : (char)c;
      check_bad(mp_str_of(in, n), MP_PATH_REVERSE | MP_PATH_UTF8 | MP_PATH_LAX_BRACKETS | MP_PATH_LAX_DOTS,
                MP_E_SYNTAX);
    }
}

TEST(what_is_no_path)
{
  static const char *const bad[] = { "",        "<",       ">",        "<a",       "<a@",      "<a@b",
                                     "<@b>",    "<@>",     "a@b",      "<a>",      "<a@>",     "<a@@b>",
                                     "<a@b@c>", "<a b@c>", "<a@b c>",  "<a@.b>",   "<a@b.>",   "<a@b..c>",
                                     "<a@-b>",  "<a@b->",  "<a@b-.c>", "<.a@b>",   "<a.@b>",   "<a..b@c>",
                                     "<a,b@c>", "<a;b@c>", "<(c)a@b>", "<a(c)@b>", "<a@b(c)>", "<a@(c)b>",
                                     "< a@b>",  "<a@b >",  "<a @b>",   "<a@ b>",   "<<a@b>>",  "<a@b_c>",
                                     "<a@b/c>", "<a:b@c>", "<a[b]@c>", "<a@b,c@d>" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    check_bad(mp_str_c(bad[i]), 0, MP_E_SYNTAX);
}

TEST(laxities_have_names)
{
  GOOD("<.a..b.@c>", MP_PATH_LAX_DOTS, ".a..b.", "c");
  GOOD("<a@b_c>", MP_PATH_LAX_UNDERSCORE, "a", "b_c");
  GOOD("<a@_dmarc.c>", MP_PATH_LAX_UNDERSCORE, "a", "_dmarc.c");
  GOOD("a@b", MP_PATH_LAX_BRACKETS, "a", "b");
  GOOD("<a@b>", MP_PATH_LAX_BRACKETS, "a", "b");
  check_path(LIT("a@b SIZE=3"), MP_PATH_LAX_BRACKETS, 3, LIT("a"), LIT("b"), LIT(""));
  GOOD("postmaster", MP_PATH_LAX_BRACKETS | MP_PATH_POSTMASTER, "postmaster", "");
  GOOD("\"a b\"@c", MP_PATH_LAX_BRACKETS, "\"a b\"", "c");
  BAD("a@b>", MP_PATH_LAX_BRACKETS);
  BAD("<a@b", MP_PATH_LAX_BRACKETS);
  BAD("", MP_PATH_LAX_BRACKETS | MP_PATH_REVERSE);
  BAD("<@b>", MP_PATH_LAX_DOTS);
}

static void check_literal(mp_str in, mp_domain_kind kind, const char *ip)
{
  mp_path path;
  char text[MP_IP_TEXT] = "";
  if (!CHECK_EQ_INT(mp_path_parse(&path, in, 0), in.len))
    return;
  CHECK_EQ_INT(path.kind, kind);
  if (kind != MP_DOMAIN_TAG) {
    mp_ip_format(&path.ip, text);
    CHECK_EQ_STR(mp_str_c(text), mp_str_c(ip));
  }
}

TEST(address_literals)
{
  check_literal(LIT("<a@[192.0.2.1]>"), MP_DOMAIN_IPV4, "192.0.2.1");
  check_literal(LIT("<a@[IPv6:2001:db8::1]>"), MP_DOMAIN_IPV6, "2001:db8::1");
  check_literal(LIT("<a@[ipv6:::1]>"), MP_DOMAIN_IPV6, "::1");
  check_literal(LIT("<a@[IPv6:2001:db8::192.0.2.1]>"), MP_DOMAIN_IPV6, "2001:db8::c000:201");
  check_literal(LIT("<a@[x25:123]>"), MP_DOMAIN_TAG, "");
  check_literal(LIT("<a@[a-b:!~]>"), MP_DOMAIN_TAG, "");
  static const char *const bad[] = { "[]",
                                     "[192.0.2]",
                                     "[192.0.2.256]",
                                     "[192.0.2.1",
                                     "[192.0.2.1]x",
                                     "[192.0.2.1].x",
                                     "[ 192.0.2.1]",
                                     "[192.0.2.01]",
                                     "[2001:db8::1]",
                                     "[IPv6:]",
                                     "[IPv6:192.0.2.1]",
                                     "[IPv6:2001:db8::1::2]",
                                     "[IPv6:12345::]",
                                     "[IPv6:1:2:3:4:5:6::8]",
                                     "[IPv6:::3:4:5:6:7:192.0.2.1]",
                                     "[fe80::1%eth0]",
                                     "[::1]",
                                     "[IPv6:::1%eth0]",
                                     "[tag:]",
                                     "[:x]",
                                     "[a-:x]",
                                     "[t g:x]",
                                     "[tag:a[b]",
                                     "[tag:a\\b]",
                                     "[tag:a b]",
                                     "[[192.0.2.1]]",
                                     "x[192.0.2.1]",
                                     "[host]" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char in[64];
    snprintf(in, sizeof in, "<a@%s>", bad[i]);
    check_bad(mp_str_c(in), MP_PATH_LAX_UNDERSCORE, MP_E_SYNTAX);
  }
}

TEST(octets_outside_ascii_need_smtputf8)
{
  GOOD("<j\303\270rgen@b\303\274cher.example>", MP_PATH_UTF8, "j\303\270rgen", "b\303\274cher.example");
  GOOD("<\"\303\270\"@b>", MP_PATH_UTF8, "\"\303\270\"", "b");
  BAD("<j\303\270rgen@b>", 0);
  BAD("<j@b\303\274cher>", 0);
  BAD("<\"\303\270\"@b>", 0);
  mp_path path;
  CHECK(mp_path_parse(&path, LIT("<j\303\270@b>"), MP_PATH_UTF8) > 0 && path.utf8);
  CHECK(mp_path_parse(&path, LIT("<j@b>"), MP_PATH_UTF8) > 0 && !path.utf8);
}

TEST(utf8_must_be_well_formed_and_no_control)
{
  BAD("<\377@b>", MP_PATH_UTF8);
  BAD("<\303@b>", MP_PATH_UTF8);
  BAD("<\300\257@b>", MP_PATH_UTF8);
  BAD("<\355\240\200@b>", MP_PATH_UTF8);
  BAD("<a@\303\274\303>", MP_PATH_UTF8);
  BAD("<a\302\205@b>", MP_PATH_UTF8);
  BAD("<a@b\302\200>", MP_PATH_UTF8);
  BAD("<\"\\\303\270\"@b>", MP_PATH_UTF8);
  BAD("<a@[tag:\303\270]>", MP_PATH_UTF8);
}

TEST(a_zero_width_space_is_kept_or_refused_never_dropped)
{
  GOOD("<a\342\200\213b@c>", MP_PATH_UTF8, "a\342\200\213b", "c");
  BAD("<a\342\200\213b@c>", 0);
}

TEST(lengths)
{
  char in[700], a[600];
  memset(a, 'a', sizeof a);
  for (size_t i = 63; i < sizeof a; i += 64)
    a[i] = '.';
  snprintf(in, sizeof in, "<%.*s@b>", 64, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
  mp_path path;
  CHECK_EQ_INT(mp_path_parse(&path, mp_str_c(in), 0), strlen(in));
  snprintf(in, sizeof in, "<%.*s@b>", 65, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
  LONG(mp_str_c(in), 0);
  CHECK_EQ_INT(mp_path_parse(&path, mp_str_c(in), MP_PATH_LAX_LENGTH), strlen(in));
  snprintf(in, sizeof in, "<x@%.*s>", 63, a);
  CHECK_EQ_INT(mp_path_parse(&path, mp_str_c(in), 0), strlen(in));
  snprintf(in, sizeof in, "<x@a%.*s>", 63, a);
  check_bad(mp_str_c(in), 0, MP_E_SYNTAX);
  /* 256 with the brackets: 1 + 1 + 252 between them. */
  snprintf(in, sizeof in, "<x@%.*s>", 252, a);
  CHECK_EQ_INT(mp_path_parse(&path, mp_str_c(in), 0), 256);
  snprintf(in, sizeof in, "<x@%.*s>", 253, a);
  LONG(mp_str_c(in), 0);
  snprintf(in, sizeof in, "x@%.*s", 253, a);
  LONG(mp_str_c(in), MP_PATH_LAX_BRACKETS);
  CHECK_EQ_INT(mp_mailbox_parse(&path, mp_str_of(in, 254), 0), 0);
  CHECK_EQ_INT(mp_mailbox_parse(&path, mp_str_of(in, 255), 0), MP_E_TOOLONG);
  snprintf(in, sizeof in, "<x@%.*s>", 257, a);
  LONG(mp_str_c(in), 0);
  snprintf(in, sizeof in, "<@%.*s:x@%.*s>", 127, a, 127, a);
  LONG(mp_str_c(in), 0);
}

/* Each of these would take hours in a parser that looks at an octet more than a fixed number of times. */
TEST(long_input_takes_linear_time)
{
  static const char *const repeated[] = { "(",  "<", "\"",   "\\", "@",        "@a,",          ".",
                                          "a.", "[", "\\\"", "a",  "\"\\\"\"", "\342\200\213", " " };
  enum { SIZE = 1 << 20 };
  char *in = malloc(SIZE + 8);
  for (size_t r = 0; r < sizeof repeated / sizeof *repeated; r++)
    for (int wrap = 0; wrap < 4; wrap++) {
      size_t n = 0, unit = strlen(repeated[r]);
      n += (size_t)sprintf(in, "%s", wrap == 0 ? "<" : wrap == 1 ? "<\"" : wrap == 2 ? "<a@" : "<@");
      while (n + unit < SIZE) {
        memcpy(in + n, repeated[r], unit);
        n += unit;
      }
      mp_path path;
      CHECK(mp_path_parse(&path, mp_str_of(in, n), MP_PATH_UTF8 | MP_PATH_LAX_DOTS) < 0);
      CHECK(mp_mailbox_parse(&path, mp_str_of(in + 1, n - 1), MP_PATH_UTF8 | MP_PATH_LAX_DOTS) < 0);
    }
  free(in);
}

TEST(a_mailbox_stands_alone)
{
  mp_path path;
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT("a@b"), 0), 0);
  CHECK_STR(path.address, "a@b");
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT("a@b "), 0), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT("<a@b>"), 0), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT("@x:a@b"), 0), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT(""), MP_PATH_REVERSE), MP_E_SYNTAX);
  CHECK_EQ_INT(mp_mailbox_parse(&path, LIT("postmaster"), MP_PATH_POSTMASTER), MP_E_SYNTAX);
}

TEST(helo_is_a_domain_or_a_literal)
{
  CHECK(mp_helo_check(LIT("mail.example.org"), false));
  CHECK(mp_helo_check(LIT("localhost"), false));
  CHECK(mp_helo_check(LIT("[192.0.2.1]"), false));
  CHECK(mp_helo_check(LIT("[IPv6:::1]"), false));
  static const char *const lax[] = { "localhost_", "2001:db8::1", "a..b", "-a", "host.", "[192.0.2]", "a/b" };
  for (size_t i = 0; i < sizeof lax / sizeof *lax; i++) {
    CHECK(!mp_helo_check(mp_str_c(lax[i]), false));
    CHECK(mp_helo_check(mp_str_c(lax[i]), true));
  }
  CHECK(mp_helo_check(LIT("[tag:<x>]"), false) && mp_helo_check(LIT("[tag:<x>]"), true)); /* lax takes no less */
  static const char *const bad[] = { "",    " ",  "a b", "a\tb", "a\rb", "a\177", "b\303\274cher",
                                     "a[b", "[a", "a]",  "<a>",  "a(b)", "[[a]]" };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_helo_check(mp_str_c(bad[i]), true) || mp_helo_check(mp_str_c(bad[i]), false))
      FAIL("\"%s\" is let pass", bad[i]);
  CHECK(!mp_helo_check(LIT("a\0b"), true));
  char name[300];
  memset(name, 'a', sizeof name);
  CHECK(mp_helo_check(mp_str_of(name, 255), true));
  CHECK(!mp_helo_check(mp_str_of(name, 256), true));
}

TEST(domains)
{
  CHECK(mp_domain_check(LIT("a"), false, false));
  CHECK(mp_domain_check(LIT("b\303\274cher.example"), true, false));
  CHECK(!mp_domain_check(LIT("b\303\274cher.example"), false, false));
  CHECK(mp_domain_check(LIT("_x.y"), false, true));
  CHECK(!mp_domain_check(LIT("_x.y"), false, false));
  CHECK(!mp_domain_check(LIT(""), true, true));
  CHECK(!mp_domain_check(LIT("a."), true, true));
  CHECK(!mp_domain_check(LIT("a b"), true, true));
  CHECK(!mp_domain_check(LIT("a@b"), true, true));
}

/* ---- the public suite of addresses (is_email), where it lies ------------------------------------------------------- */

static char *read_file(const char *name, size_t *len)
{
  const char *folder = getenv("MOONPOST_DATA");
  char file[1024];
#ifdef MOONPOST_SOURCE_DIR
  snprintf(file, sizeof file, "%s/%s", folder ? folder : MOONPOST_SOURCE_DIR "/../shared/data", name);
#else
  snprintf(file, sizeof file, "%s/%s", folder ? folder : "../shared/data", name);
#endif
  FILE *in = fopen(file, "rb");
  if (!in) {
    printf("skipped: no %s\n", file);
    return NULL;
  }
  enum { MOST = 1 << 20 };
  char *text = malloc((size_t)MOST + 1);
  *len = fread(text, 1, MOST, in);
  text[*len] = '\0';
  fclose(in);
  return text;
}

/* XML text into octets: the symbols for control characters (U+2400 and up) are the characters they show. */
static size_t unescape(const char *p, const char *end, char *out)
{
  size_t n = 0;
  while (p < end) {
    unsigned long code;
    char *after;
    if (strncmp(p, "&#x", 3) == 0 && (code = strtoul(p + 3, &after, 16), *after == ';')) {
      p = after + 1;
      if (code >= 0x2400 && code < 0x2421)
        out[n++] = (char)(code == 0x2420 ? 0x7f : code - 0x2400);
      else if (code < 0x80)
        out[n++] = (char)code;
      else if (code < 0x800) {
        out[n++] = (char)(0xc0 | code >> 6);
        out[n++] = (char)(0x80 | (code & 0x3f));
      }
      continue;
    }
    static const struct {
      const char *name;
      char c;
    } named[] = { { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' } };
    size_t i = 0;
    while (i < 5 && strncmp(p, named[i].name, strlen(named[i].name)) != 0)
      i++;
    out[n++] = i < 5 ? named[i].c : *p;
    p += i < 5 ? strlen(named[i].name) : 1;
  }
  return n;
}

static const char *element(const char *from, const char *end, const char *open, const char *close,
                           const char **stop)
{
  const char *start = strstr(from, open);
  if (!start || start >= end)
    return NULL;
  start += strlen(open);
  *stop = strstr(start, close);
  return *stop && *stop <= end ? start : NULL;
}

TEST(the_public_suite_of_addresses)
{
  size_t len;
  char *xml = read_file("addr-isemail/tests.xml", &len);
  if (!xml)
    return;
  size_t cases = 0;
  for (const char *p = xml; (p = strstr(p, "<test id=")) != NULL;) {
    const char *end = strstr(p, "</test>"), *stop, *category_stop;
    REQUIRE(end);
    const char *address = element(p, end, "<address>", "</address>", &stop);
    const char *category = element(p, end, "<category>ISEMAIL_", "</category>", &category_stop);
    REQUIRE(category);
    char octets[1024];
    mp_str mailbox = mp_str_of(octets, address ? unescape(address, stop, octets) : 0);
    mp_str name = mp_str_of(category, (size_t)(category_stop - category));
    bool valid = mp_str_eq(name, LIT("VALID_CATEGORY")) || mp_str_eq(name, LIT("DNSWARN")) ||
                 mp_str_eq(name, LIT("RFC5321"));
    mp_path path;
    int rc = mp_mailbox_parse(&path, mailbox, 0);
    if ((rc == 0) != valid) {
      char shown[400];
      FAIL("test %d: \"%s\" is %s, the suite says %.*s", atoi(p + 10),
           check_quote(mailbox, shown, sizeof shown), rc == 0 ? "taken" : "refused", (int)name.len, name.ptr);
    }
    cases++;
    p = end;
  }
  printf("the public suite of addresses: %zu cases\n", cases);
  CHECK(cases > 100);
  free(xml);
}

CHECK_MAIN
