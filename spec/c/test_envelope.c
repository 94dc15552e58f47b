/* Envelopes: what MAIL and RCPT said, kept beyond the octets that said it. */
#include "support/check.h"

#include "base/error.h"
#include "smtp/envelope.h"

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)

enum { ALL = (1 << 14) - 1, MAX = 1 << 20 };

/* Reads MAIL's argument from a block that is gone when this returns. */
static int add_sender(mp_envelope *env, const char *line)
{
  size_t len = strlen(line);
  char *copy = malloc(len);
  memcpy(copy, line, len);
  mp_path path;
  mp_mail_params params;
  mp_reply refusal;
  mp_ssize n = mp_path_parse(&path, mp_str_of(copy, len), MP_PATH_REVERSE | MP_PATH_UTF8);
  int rc = MP_E_SYNTAX;
  if (CHECK(n > 0) &&
      CHECK(mp_mail_params_parse(&params, mp_str_of(copy + n, len - (size_t)n), ALL, 0, &refusal)))
    rc = mp_envelope_mail(env, &path, &params);
  free(copy);
  return rc;
}

static mp_recipient *add_rcpt(mp_envelope *env, const char *line)
{
  size_t len = strlen(line);
  char *copy = malloc(len);
  memcpy(copy, line, len);
  mp_path path;
  mp_rcpt_params params;
  mp_reply refusal;
  mp_recipient *rcpt = NULL;
  mp_ssize n = mp_path_parse(&path, mp_str_of(copy, len), MP_PATH_POSTMASTER);
  if (CHECK(n > 0) &&
      CHECK(mp_rcpt_params_parse(&params, mp_str_of(copy + n, len - (size_t)n), ALL, false, &refusal)))
    rcpt = mp_envelope_rcpt(env, &path, &params);
  free(copy);
  return rcpt;
}

TEST(an_envelope_outlives_the_lines_it_was_read_from)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  CHECK_EQ_INT(add_sender(env, "<@r:jo@[192.0.2.1]> ENVID=e1 AUTH=a@b HOLDUNTIL=2026-07-01T12:00:00Z SIZE=5"), 0);
  CHECK_STR(env->sender.address, "jo@[192.0.2.1]");
  CHECK_STR(env->sender.local, "jo");
  CHECK_STR(env->sender.domain, "[192.0.2.1]");
  CHECK_STR(env->sender.route, "@r");
  CHECK_EQ_INT(env->sender.kind, MP_DOMAIN_IPV4);
  CHECK_STR(env->params.envid, "e1");
  CHECK_STR(env->params.auth, "a@b");
  CHECK_STR(env->params.hold_until, "2026-07-01T12:00:00Z");
  CHECK_EQ_INT(env->params.size, 5);
  mp_recipient *rcpt = add_rcpt(env, "<\"x y\"@example.org> ORCPT=rfc822;z NOTIFY=DELAY");
  REQUIRE(rcpt);
  CHECK(env->rcpts[0] == rcpt);
  CHECK_EQ_INT(rcpt->index, 0);
  CHECK_STR(rcpt->path.local, "\"x y\"");
  CHECK_STR(rcpt->path.domain, "example.org");
  CHECK(rcpt->path.quoted);
  CHECK_STR(rcpt->params.orcpt, "rfc822;z");
  CHECK_EQ_INT(rcpt->params.notify, MP_NOTIFY_DELAY);
  mp_envelope_unref(env);
}

TEST(empty_parts_stay_empty)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  CHECK_EQ_INT(add_sender(env, "<>"), 0);
  CHECK_EQ_INT(env->sender.address.len + env->sender.local.len + env->sender.domain.len + env->sender.route.len,
               0);
  CHECK_EQ_INT(env->params.envid.len, 0);
  mp_recipient *rcpt = add_rcpt(env, "<Postmaster>");
  REQUIRE(rcpt);
  CHECK_STR(rcpt->path.address, "Postmaster");
  CHECK_STR(rcpt->path.local, "Postmaster");
  CHECK_EQ_INT(rcpt->path.domain.len, 0);
  mp_envelope_unref(env);
}

TEST(parts_from_elsewhere_are_copied_too)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  char local[] = "jo", domain[] = "b";
  mp_path path = {
    .address = LIT("jo@b"), .local = mp_str_of(local, 2), .domain = mp_str_of(domain, 1), .kind = MP_DOMAIN_NAME
  };
  mp_mail_params params = { .given = 0 };
  CHECK_EQ_INT(mp_envelope_mail(env, &path, &params), 0);
  local[0] = domain[0] = 'X';
  CHECK_STR(env->sender.local, "jo");
  CHECK_STR(env->sender.domain, "b");
  mp_envelope_unref(env);
}

TEST(many_recipients_keep_their_order)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  char line[64];
  for (int i = 0; i < 1000; i++) {
    snprintf(line, sizeof line, "<r%d@example.org>", i);
    mp_recipient *rcpt = add_rcpt(env, line);
    REQUIRE(rcpt);
    CHECK_EQ_INT(rcpt->index, i);
  }
  CHECK_EQ_INT(env->count, 1000);
  for (int i = 0; i < 1000; i++) {
    snprintf(line, sizeof line, "r%d", i);
    CHECK_EQ_STR(env->rcpts[i]->path.local, mp_str_c(line));
  }
  mp_envelope_unref(env);
}

TEST(a_dropped_recipient_leaves_its_place_to_the_next)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  REQUIRE(add_rcpt(env, "<a@x>") && add_rcpt(env, "<b@x>"));
  mp_envelope_drop(env);
  CHECK_EQ_INT(env->count, 1);
  mp_recipient *rcpt = add_rcpt(env, "<c@x>");
  REQUIRE(rcpt);
  CHECK_EQ_INT(rcpt->index, 1);
  CHECK_EQ_INT(env->count, 2);
  CHECK_STR(env->rcpts[0]->path.local, "a");
  CHECK_STR(env->rcpts[1]->path.local, "c");
  mp_envelope_drop(env);
  mp_envelope_drop(env);
  mp_envelope_drop(env);
  CHECK_EQ_INT(env->count, 0);
  mp_envelope_unref(env);
}

TEST(refused_recipients_take_little)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  for (int i = 0; i < 1000; i++) {
    REQUIRE(add_rcpt(env, "<a@x>"));
    mp_envelope_drop(env);
  }
  CHECK(env->arena.total < 1000 * 16);
  mp_envelope_unref(env);
}

TEST(the_ceiling_holds)
{
  mp_envelope *env = mp_envelope_new(4096, NULL, NULL);
  REQUIRE(env);
  size_t n = 0;
  while (n < 1000 && add_rcpt(env, "<somebody@example.org>"))
    n++;
  CHECK(n > 4 && n < 40);
  CHECK_EQ_INT(env->count, n);
  CHECK_STR(env->rcpts[n - 1]->path.address, "somebody@example.org");
  CHECK_EQ_INT(
      add_sender(env, "<0123456789012345678901234567890123456789@example.org> "
                      "ENVID=01234567890123456789012345678901234567890123456789012345678901234567890123456789"),
      MP_E_NOMEM);
  CHECK_EQ_INT(env->sender.address.len, 0);
  mp_envelope_unref(env);
}

TEST(the_last_reference_frees)
{
  mp_envelope *env = mp_envelope_new(MAX, NULL, NULL);
  REQUIRE(env);
  CHECK(mp_envelope_ref(env) == env);
  mp_envelope_unref(env);
  REQUIRE(add_rcpt(env, "<a@x>"));
  CHECK_STR(env->rcpts[0]->path.local, "a");
  mp_envelope_unref(env);
  mp_envelope_unref(NULL);
}

TEST(structs_and_blocks_go_back_to_their_pools)
{
  mp_pool structs, blocks;
  mp_pool_init(&structs, sizeof(mp_envelope), 4);
  mp_pool_init(&blocks, 1024, 4);
  for (int round = 0; round < 3; round++) {
    mp_envelope *env = mp_envelope_new(MAX, &structs, &blocks);
    REQUIRE(env);
    CHECK_EQ_INT(add_sender(env, "<a@b>"), 0);
    CHECK(add_rcpt(env, "<c@d>"));
    mp_envelope_unref(env);
  }
  mp_pool_dispose(&structs);
  mp_pool_dispose(&blocks);
}

TEST(without_memory_the_envelope_is_as_it_was)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_pool structs, blocks;
    mp_pool_init(&structs, sizeof(mp_envelope), 4);
    mp_pool_init(&blocks, 256, 4);
    mp_envelope *env = mp_envelope_new(MAX, &structs, &blocks);
    if (env) {
      int rc = add_sender(env, "<a@b> ENVID=0123456789 AUTH=<>");
      CHECK(rc == 0 || (rc == MP_E_NOMEM && CHECK_ALLOC_FAILED()));
      CHECK_EQ_INT(env->sender.address.len, rc == 0 ? 3 : 0);
      size_t added = 0;
      for (int i = 0; i < 12; i++) {
        mp_recipient *rcpt = add_rcpt(env, "<@route:somebody@example.org> ORCPT=rfc822;somebody");
        CHECK(rcpt || CHECK_ALLOC_FAILED());
        added += rcpt != NULL;
      }
      CHECK_EQ_INT(env->count, added);
      for (size_t i = 0; i < added; i++) {
        CHECK_EQ_INT(env->rcpts[i]->index, i);
        CHECK_STR(env->rcpts[i]->path.address, "somebody@example.org");
        CHECK_STR(env->rcpts[i]->params.orcpt, "rfc822;somebody");
      }
      if (!CHECK_ALLOC_FAILED())
        CHECK_EQ_INT(added, 12);
    } else {
      CHECK(CHECK_ALLOC_FAILED());
    }
    mp_envelope_unref(env);
    mp_pool_dispose(&structs);
    mp_pool_dispose(&blocks);
  }
}

CHECK_MAIN
