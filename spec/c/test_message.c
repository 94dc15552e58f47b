/* Messages: what is counted in their header, what is put on top, and how long they live. */
#include "support/message.h"

#include "smtp/data.h"

static mp_message *make(post_office *office, const char *octets, unsigned rcpts)
{
  int rc;
  mp_message *msg = message_make(office, mp_str_c(octets), rcpts, &rc);
  CHECK_EQ_INT(rc, 0);
  return msg;
}

static void check_head(mp_message *msg, const char *extra, bool received, const char *want)
{
  mp_buf out;
  mp_buf_init(&out, 1 << 20, NULL);
  CHECK_EQ_INT(mp_message_head(msg, mp_str_c(extra), received, &out), 0);
  CHECK_EQ_STR(mp_buf_view(&out), mp_str_c(want));
  mp_buf_dispose(&out);
}

TEST(hops_are_the_received_fields_of_the_header_block)
{
  static const struct row {
    const char *octets;
    int hops;
  } rows[] = {
    { "", 0 },
    { "Received: a\r\n\r\n", 1 },
    { "received: a\r\nRECEIVED : b\r\n\tReceived: c\r\nX-Received: d\r\nReceive: e\r\n\r\nReceived: f\r\n", 2 },
    { "Received", 0 },
    { "Received: a\r\nno field\r\nReceived: b\r\n", 1 },
    { "X: a\nReceived: b\r\n\r\n", 0 },
  };
  post_office office;
  office_open(&office, true);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_message *msg = make(&office, rows[i].octets, 1);
    REQUIRE(msg);
    CHECK_EQ_INT(mp_message_hops(msg, NULL), rows[i].hops);
    CHECK(msg->header == NULL);
    mp_message_unref(msg);
  }
  office_close(&office);
}

TEST(a_message_that_came_back_is_known_by_delivered_to)
{
  post_office office;
  office_open(&office, true);
  mp_message *msg =
      make(&office,
           "Delivered-To: ann@example.org\r\ndelivered-to:\r\n Bob@Example.org \r\nTo: carol@example.org\r\n\r\n"
           "Delivered-To: dan@example.org\r\n",
           1);
  REQUIRE(msg);
  CHECK(mp_message_delivered_to(msg, MP_STR("ann@example.org")));
  CHECK(mp_message_delivered_to(msg, MP_STR("bob@example.org")));
  CHECK(!mp_message_delivered_to(msg, MP_STR("carol@example.org")));
  CHECK(!mp_message_delivered_to(msg, MP_STR("dan@example.org")));
  CHECK(!mp_message_delivered_to(msg, MP_STR("nn@example.org")));
  mp_message_unref(msg);
  office_close(&office);
}

TEST(the_head_is_fields_on_top_then_ours_then_theirs_as_they_came)
{
  post_office office;
  office_open(&office, true);
  mp_message *msg = make(&office, "A:  1 \r\n\t2\r\nB :3\r\n\r\nbody\r\n", 1);
  REQUIRE(msg);
  CHECK_EQ_INT(mp_message_body_at(msg), 20);
  check_head(msg, "", false, "A:  1 \r\n\t2\r\nB :3\r\n\r\n");
  check_head(msg, "Return-Path: <>\r\n", true,
             "Return-Path: <>\r\n" TRACE_TO(" for <bob0@example.org>") "A:  1 \r\n\t2\r\nB :3\r\n\r\n");
  int rc;
  mp_header *header = mp_message_header(msg, &rc);
  REQUIRE(header);
  CHECK(mp_message_header(msg, &rc) == header);
  check_head(msg, "", false, "A:  1 \r\n\t2\r\nB :3\r\n\r\n");
  CHECK_EQ_INT(mp_header_insert(header, 1, MP_STR("X"), MP_STR("new")), 0);
  mp_header_remove(header, 2);
  check_head(msg, "", false, "A:  1 \r\n\t2\r\nX: new\r\n\r\n");
  mp_buf out;
  mp_buf_init(&out, 20, NULL);
  CHECK_EQ_INT(mp_buf_add(&out, "x", 1), 0);
  CHECK_EQ_INT(mp_message_head(msg, MP_STR("E: f\r\n"), true, &out), MP_E_FULL);
  CHECK_EQ_INT(out.len, 1);
  mp_buf_dispose(&out);
  mp_message_unref(msg);
  msg = make(&office, "A: 1\r\n\r\n", 2);
  REQUIRE(msg);
  check_head(msg, "", true, TRACE_TO("") "A: 1\r\n\r\n"); /* no recipient is told of the other */
  mp_message_unref(msg);
  office_close(&office);
}

TEST(a_message_without_an_empty_line_gets_one_and_loses_nothing)
{
  static const struct row {
    const char *octets, *fields;
    uint64_t body;
  } rows[] = {
    { "", "\r\n", 0 },
    { "\r\n", "\r\n", 2 },
    { "\r\nbody", "\r\n", 2 },
    { "no field\r\nbody\r\n", "\r\n", 0 },
    { "A: 1\r\nno field\r\n", "A: 1\r\n\r\n", 6 },
    { "A: 1\r\n", "A: 1\r\n\r\n", 6 },
    { "A: 1", "A: 1\r\n\r\n", 4 },
    { "A: 1\r\ncut", "A: 1\r\n\r\n", 6 },
    { "A:\r\n\r\n", "A:\r\n\r\n", 6 },
  };
  post_office office;
  office_open(&office, true);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_message *msg = make(&office, rows[i].octets, 1);
    REQUIRE(msg);
    check_head(msg, "", false, rows[i].fields);
    CHECK_EQ_INT(mp_message_body_at(msg), rows[i].body);
    int rc;
    REQUIRE(mp_message_header(msg, &rc));
    check_head(msg, "", false, rows[i].fields);
    mp_message_unref(msg);
  }
  office_close(&office);
}

TEST(a_header_block_over_the_ceiling_is_told_by_all_that_look_at_it)
{
  post_office office;
  office_open(&office, true);
  office.store.header_most = 10;
  mp_message *msg = make(&office, "Received: more than ten\r\n\r\nbody", 1);
  REQUIRE(msg);
  int rc = 0;
  CHECK_EQ_INT(mp_message_hops(msg, NULL), MP_E_TOOLONG);
  CHECK(mp_message_header(msg, &rc) == NULL);
  CHECK_EQ_INT(rc, MP_E_TOOLONG);
  CHECK(!mp_message_delivered_to(msg, MP_STR("a@b")));
  mp_buf out;
  mp_buf_init(&out, 1000, NULL);
  CHECK_EQ_INT(mp_message_head(msg, MP_STR_NULL, false, &out), MP_E_TOOLONG);
  mp_buf_dispose(&out);
  mp_message_unref(msg);
  office_close(&office);
}

TEST(a_message_keeps_what_it_was_made_of)
{
  post_office office;
  office_open(&office, true);
  mp_envelope *env = envelope_make(1);
  mp_sink *sink;
  REQUIRE(env && mp_sink_new(&sink, &office.store) == 0);
  CHECK_EQ_INT(sink_fill(&office, sink, MP_STR("A: b\r\n\r\nc"), 3), 0);
  char helo[] = "mail.example.net", id[] = "ID0000000001";
  mp_ip ip = peer_ip;
  mp_trace trace = trace_make();
  trace.helo = mp_str_c(helo);
  trace.id = mp_str_c(id);
  trace.peer = &ip;
  mp_message *msg;
  REQUIRE(mp_message_new(&msg, env, sink, &trace, MP_DATA_8BIT) == 0);
  mp_sink_unref(sink);
  mp_envelope_unref(env);
  memset(helo, 'x', sizeof helo);
  memset(id, 'x', sizeof id);
  memset(&ip, 0, sizeof ip);
  CHECK(mp_message_ref(msg) == msg);
  mp_message_unref(msg);
  CHECK_EQ_INT(msg->size, 9);
  CHECK_EQ_INT(msg->facts, MP_DATA_8BIT);
  CHECK_CSTR(msg->id, "ID0000000001");
  check_head(msg, "", true, TRACE_TO(" for <bob0@example.org>") "A: b\r\n\r\n");
  mp_message_unref(msg);
  mp_message_unref(NULL);
  office_close(&office);
}

static int by_text(const void *a, const void *b)
{
  return strcmp(a, b);
}

TEST(message_ids_are_unique_and_sort_by_time)
{
  enum { IDS = 4000 };
  static char ids[IDS][24];
  uint64_t counters[4] = { 0 };
  size_t n = 0;
  for (int64_t ms = 1795387310123; n < IDS; ms++) {
    for (unsigned i = 0; i < 100 && n < IDS; i++, n++) {
      mp_message_id(ids[n], ms, 1234, i % 4, &counters[i % 4]);
      CHECK_EQ_INT(strlen(ids[n]), 16);
      CHECK_EQ_INT(strspn(ids[n], "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), 16);
      CHECK(n < 100 || strcmp(ids[n], ids[n - 100]) > 0);
    }
  }
  qsort(ids, IDS, sizeof *ids, by_text);
  for (size_t i = 1; i < IDS; i++)
    CHECK(strcmp(ids[i - 1], ids[i]) != 0);
}

TEST(memory_may_run_out_anywhere)
{
  FOR_EACH_ALLOC_FAILURE {
    post_office office;
    office_open(&office, true);
    mp_buf out;
    mp_buf_init(&out, 1 << 16, NULL);
    int rc;
    mp_message *msg = message_make(&office, MP_STR("A: b\r\n\r\nc"), 1, &rc);
    mp_header *header = msg ? mp_message_header(msg, &rc) : NULL;
    if (header)
      rc = mp_header_insert(header, 0, MP_STR("X"), MP_STR("y"));
    if (rc == 0)
      rc = mp_message_head(msg, MP_STR("E: f\r\n"), true, &out);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_buf_dispose(&out);
    mp_message_unref(msg);
    office_close(&office);
  }
}

CHECK_MAIN
