/* spool, looked into: lists by what people look for, octets from anywhere, tables that a person understands. */
#include "support/spool_rig.h"

enum { NOW = 1000000 };

/* Opens a spool, or leaves the test. */
#define OPEN(rig)            \
  spool_rig rig;             \
  REQUIRE(rig_init(&(rig))); \
  REQUIRE(CHECK_EQ_INT(rig_open(&(rig)), 0))

static size_t list_page(spool_rig *rig, mp_spool_filter filter, const char *after, uint32_t after_n,
                        size_t max, char *out, size_t size)
{
  mp_spool_list_request list = {
    .request = { .done = rig_done }, .filter = filter, .after = mp_str_c(after), .after_n = after_n, .max = max
  };
  mp_spool_list(rig->spool, &list);
  CHECK_EQ_INT(rig_wait(rig, &list.request), 0);
  size_t used = 0;
  out[0] = '\0';
  for (size_t i = 0; list.batch && i < list.batch->count; i++) {
    const mp_spool_item *item = &list.batch->items[i];
    for (size_t r = 0; r < item->count; r++)
      used += (size_t)snprintf(out + used, size - used, "%.*s/%u ", (int)item->message.id.len,
                               item->message.id.ptr, item->recipients[r].n);
  }
  size_t n = list.batch ? list.batch->recipients : 0;
  mp_spool_batch_free(list.batch);
  return n;
}

/* Each message that shows nobody took the room of one that does, and the last ones were written behind it. */
TEST(a_page_is_not_overrun_by_messages_that_make_no_sense)
{
  OPEN(rig);
  enum { BAD = 40 };
  char id[16], out[256];
  for (int i = 0; i <= BAD; i++) {
    snprintf(id, sizeof id, "m%03d", i);
    CHECK_EQ_INT(rig_put_one(&rig, id, "bob@example.net"), 0);
  }
  rig_sql(&rig, "UPDATE recipient SET domain = 'NO DOMAIN' WHERE message <= 40");
  CHECK_EQ_INT(list_page(&rig, (mp_spool_filter){ 0 }, "", 0, 1, out, sizeof out), 1);
  CHECK_STR(mp_str_c(out), "m040/1 ");
  rig_dispose(&rig);
}

TEST(lists_go_by_what_people_look_for)
{
  OPEN(rig);
  static const struct {
    const char *id, *sender, *to, *tenant;
  } rows[] = { { "a", "ann@example.org", "bob@example.net", "" },
               { "b", "", "Bob@example.com", "acme" },
               { "c", "carl_x@example.org", "100%@example.net", "acme" },
               { "d", "carlyx@example.org", "dora@sub.example.net", "" } };
  char out[256];
  for (size_t i = 0; i < 4; i++) {
    rig_mail mail = rig_mail_to(rows[i].id, rows[i].to);
    mail.message.sender = mp_str_c(rows[i].sender);
    mail.message.tenant = mp_str_c(rows[i].tenant);
    mail.message.received_ms += (int64_t)i;
    mail.to[1] = mail.to[0];
    mail.count = 2;
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_RESCHEDULE,
                                                   .id = MP_STR("c"),
                                                   .n = 2,
                                                   .when_ms = NOW,
                                                   .now_ms = NOW,
                                                   .reply = MP_STR("452 Mailbox FULL"),
                                                   .site = MP_STR("mx.example.net") }),
               0);
#define LISTS(want, ...)                                                               \
  do {                                                                                 \
    list_page(&rig, (mp_spool_filter){ __VA_ARGS__ }, "", 0, 100, out, sizeof out);    \
    CHECK_CSTR(out, want);                                                             \
    CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ __VA_ARGS__ }), sizeof(want) / 4); \
  } while (0)
  LISTS("a/1 a/2 b/1 b/2 c/1 c/2 d/1 d/2 ", .reply = MP_STR_NULL);
  LISTS("c/1 c/2 ", .id = MP_STR("c"));
  LISTS("b/1 b/2 ", .sender = MP_STR("<>"));
  LISTS("c/1 c/2 ", .sender = MP_STR("CARL_x@*"));
  LISTS("a/1 a/2 b/1 b/2 ", .recipient = MP_STR("bob@*"));
  LISTS("c/1 c/2 ", .recipient = MP_STR("100%*"));
  LISTS("a/1 a/2 c/1 c/2 ", .domain = MP_STR("example.net"));
  LISTS("d/1 d/2 ", .domain = MP_STR("*.example.net"));
  LISTS("b/1 b/2 c/1 c/2 ", .tenant = MP_STR("acme"));
  LISTS("c/2 ", .reply = MP_STR("mailbox full"));
  LISTS("c/2 ", .site = MP_STR("mx.*"));
  LISTS("c/1 c/2 d/1 d/2 ", .after_ms = NOW + 1);
  LISTS("a/1 a/2 ", .before_ms = NOW + 1);
  CHECK_EQ_INT(list_page(&rig, (mp_spool_filter){ 0 }, "", 0, 3, out, sizeof out), 3);
  CHECK_CSTR(out, "a/1 a/2 b/1 ");
  CHECK_EQ_INT(list_page(&rig, (mp_spool_filter){ 0 }, "b", 1, 3, out, sizeof out), 3);
  CHECK_CSTR(out, "b/2 c/1 c/2 ");
  CHECK_EQ_INT(list_page(&rig, (mp_spool_filter){ 0 }, "c", 2, 3, out, sizeof out), 2);
  CHECK_EQ_INT(list_page(&rig, (mp_spool_filter){ 0 }, "c", 0, 3, out, sizeof out), 2);
  CHECK_CSTR(out, "d/1 d/2 ");
  rig_dispose(&rig);
}

TEST(octets_are_read_from_anywhere)
{
  OPEN(rig);
  enum { LONG = 300000 };
  char *body = mp_mem_alloc(LONG), *got = mp_mem_alloc(LONG);
  for (size_t i = 0; i < LONG; i++)
    body[i] = (char)(i * 7 + i / 251);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.message.body = mp_str_of(body, LONG);
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  mail = rig_mail_to("m2", "bob@example.net");
  mail.message.head = mail.message.body = MP_STR_NULL;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  size_t head = sizeof RIG_HEAD - 1;
  CHECK_EQ_INT(rig_read(&rig, "m1", 0, got, 3), 3);
  CHECK(memcmp(got, "Sub", 3) == 0);
  CHECK_EQ_INT(rig_read(&rig, "m1", head - 2, got, 5), 5);
  CHECK(memcmp(got, "\r\n", 2) == 0 && memcmp(got + 2, body, 3) == 0);
  CHECK_EQ_INT(rig_read(&rig, "m1", head + 100000, got, 1000), 1000);
  CHECK(memcmp(got, body + 100000, 1000) == 0);
  CHECK_EQ_INT(rig_read(&rig, "m1", head + LONG - 5, got, 100), 5);
  CHECK_EQ_INT(rig_read(&rig, "m1", head + LONG, got, 100), 0);
  CHECK_EQ_INT(rig_read(&rig, "m1", UINT64_MAX, got, 100), 0);
  CHECK_EQ_INT(rig_read(&rig, "m2", 0, got, 100), 0);
  mp_mem_free(body);
  mp_mem_free(got);
  rig_dispose(&rig);
}

TEST(people_read_it_with_sqlite3)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM queue WHERE id = 'm1' AND address = 'bob@example.net' AND sender = 'ann@example.org' "
                             "AND state = 'waiting' AND attempts = 0 AND due LIKE '____-__-__ __:__:__'"),
               1);
  rig_dispose(&rig);
}

CHECK_MAIN
