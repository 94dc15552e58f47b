/* Sinks: in memory and in a file, on a real loop and on a virtual one, with memory, disk and reader in trouble. */
#include "support/message.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { BIG = 3 << 20 };

static const char head[] = "Subject: x\r\nTo: y\r\n\r\n";

static char *big; /* BIG octets that begin with `head` */

static mp_str all(size_t len)
{
  if (!big)
    big = octets_make(head, BIG);
  return mp_str_of(big, len);
}

/* What mp_sink_read gives, from `off`, in scratch buffers of `room` octets, is what went in. */
static void check_read(mp_sink *sink, mp_str want, uint64_t off, size_t room)
{
  char scratch[70000];
  int rc = 0;
  uint64_t at = off;
  for (;;) {
    mp_str part = mp_sink_read(sink, at, scratch, room, &rc);
    if (part.len == 0)
      break;
    REQUIRE(at + part.len <= want.len && memcmp(part.ptr, want.ptr + at, part.len) == 0);
    at += part.len;
  }
  CHECK_EQ_INT(rc, 0);
  CHECK_EQ_INT(at, want.len > off ? want.len : off);
}

static void check_copy(mp_sink *sink, mp_str want, uint64_t off)
{
  int fd = open(temp_path("copy"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK_EQ_INT(write(fd, "front", 5), 5);
  CHECK_EQ_INT(mp_sink_copy(sink, off, fd), 0);
  close(fd);
  size_t len;
  char *octets = file_read(temp_path("copy"), &len);
  REQUIRE(octets);
  CHECK_EQ_INT(len, 5 + want.len - off);
  CHECK(len < 5 || memcmp(octets + 5, want.ptr + off, len - 5) == 0);
  free(octets);
}

TEST(what_goes_in_comes_out_in_memory_and_from_a_file)
{
  static const size_t sizes[] = { 0,     1,      30,     16383,          16384,   16385,
                                  65536, 262144, 262145, 262144 + 16384, 1 << 20, BIG };
  for (int virtual = 0; virtual < 2; virtual ++) {
    post_office office;
    office_open(&office, virtual);
    office.store.folder = temp_folder;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
      static const size_t slices[] = { 65536, 1000, 16384 };
      for (size_t j = 0; j < 3; j++) {
        mp_str octets = all(sizes[i]);
        mp_sink *sink;
        REQUIRE(mp_sink_new(&sink, &office.store) == 0);
        CHECK_EQ_INT(sink_fill(&office, sink, octets, slices[j]), 0);
        CHECK_EQ_INT(mp_sink_size(sink), octets.len);
        CHECK_EQ_INT(mp_sink_in_file(sink), octets.len > 262144);
        check_read(sink, octets, 0, 65536);
        check_read(sink, octets, octets.len / 3, 777);
        check_read(sink, octets, octets.len, 777);
        check_read(sink, octets, octets.len + 5, 777);
        check_copy(sink, octets, 0);
        check_copy(sink, octets, octets.len / 2);
        int rc;
        mp_str header = mp_sink_header(sink, &rc);
        CHECK_EQ_INT(rc, 0);
        CHECK_EQ_INT(header.len, octets.len < 18 ? (octets.len < 8 ? 0 : octets.len) : sizeof head - 1);
        CHECK(header.len == 0 || memcmp(header.ptr, head, header.len) == 0);
        CHECK_EQ_INT(temp_count(temp_folder, NULL), 1); /* the copy: the temporary file has no name */
        mp_sink_unref(sink);
      }
    }
    office_close(&office);
  }
}

TEST(a_file_that_is_used_again_gives_nothing_of_the_message_before)
{
  post_office office;
  office_open(&office, false);
  for (int i = 0; i < 3; i++) {
    mp_sink *sinks[3];
    for (int j = 0; j < 3; j++) {
      mp_str octets = i ? mp_str_sub(all(BIG), 5, 300001 + (size_t)(i * 3 + j) * 1000) : all(BIG);
      REQUIRE(mp_sink_new(&sinks[j], &office.store) == 0);
      CHECK_EQ_INT(sink_fill(&office, sinks[j], octets, 65536), 0);
      check_read(sinks[j], octets, 0, 65536);
      check_read(sinks[j], octets, octets.len - 5, 65536);
      check_copy(sinks[j], octets, 100);
    }
    for (int j = 0; j < 3; j++)
      mp_sink_unref(sinks[j]);
    CHECK_EQ_INT(office.store.idle_count, MP_BODY_FILES_IDLE);
  }
  office_close(&office);
}

TEST(octets_reach_a_socket_and_a_pipe_too)
{
  post_office office;
  office_open(&office, false);
  for (int i = 0; i < 4; i++) {
    mp_str octets = all(i & 1 ? 300000 : 100000);
    mp_sink *sink;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, octets, 65536), 0);
    int ends[2];
    REQUIRE(i & 2 ? pipe(ends) == 0 : socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t child = fork();
    if (child == 0) { /* the reader compares */
      close(ends[1]);
      size_t at = 0;
      char buf[5000];
      for (ssize_t n; (n = read(ends[0], buf, sizeof buf)) > 0; at += (size_t)n) {
        if (at + (size_t)n > octets.len || memcmp(buf, octets.ptr + at, (size_t)n) != 0)
          _exit(1);
      }
      _exit(at == octets.len ? 0 : 2);
    }
    close(ends[0]);
    CHECK_EQ_INT(mp_sink_copy(sink, 0, ends[1]), 0);
    close(ends[1]);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ_INT(status, 0);
    mp_sink_unref(sink);
  }
  office_close(&office);
}

TEST(a_header_block_over_several_blocks_is_contiguous_and_stays_in_memory)
{
  enum { LINES = 3000 };
  static char octets[LINES * 20 + 400000];
  size_t len = 0;
  for (int i = 0; i < LINES; i++)
    len += (size_t)sprintf(octets + len, "X-Field-%d: value\r\n", i);
  size_t fields = len;
  memcpy(octets + len, "\r\n", 2);
  memset(octets + len + 2, 'b', 300000);
  post_office office;
  office_open(&office, false);
  for (int i = 0; i < 6; i++) {
    /* In memory; in the file, with the end of the block before, at and behind the threshold. */
    static const size_t thresholds[] = { 256 << 10, 256 << 10, 100, 20000, 50000, 0 };
    office.store.threshold = thresholds[i];
    mp_str whole = mp_str_of(octets, i == 0 ? fields + 2 : fields + 2 + 300000);
    mp_sink *sink;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, whole, i & 1 ? 1000 : 65536), 0);
    CHECK_EQ_INT(mp_sink_in_file(sink), i > 0);
    int rc;
    mp_str header = mp_sink_header(sink, &rc);
    CHECK_EQ_INT(rc, 0);
    CHECK_EQ_STR(header, mp_str_of(octets, fields + 2));
    CHECK(mp_sink_header(sink, &rc).ptr == header.ptr);
    mp_sink_unref(sink);
  }
  office_close(&office);
}

TEST(a_header_block_over_its_ceiling_is_told)
{
  static char octets[300000];
  memset(octets, 'v', sizeof octets);
  memcpy(octets, "A: ", 3);
  post_office office;
  office_open(&office, false);
  office.store.header_most = 100000;
  for (int i = 0; i < 4; i++) {
    office.store.threshold = i & 1 ? 1000 : 1 << 20;
    size_t len = i < 2 ? 100001 : 100000;
    memcpy(octets + len - 4, "\r\n\r\n", 4);
    mp_sink *sink;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, mp_str_of(octets, sizeof octets), 65536), 0);
    int rc;
    mp_str header = mp_sink_header(sink, &rc);
    CHECK_EQ_INT(rc, i < 2 ? MP_E_TOOLONG : 0);
    CHECK_EQ_INT(header.len, i < 2 ? 0 : len);
    check_read(sink, mp_str_of(octets, sizeof octets), 0, 65536); /* nothing was lost */
    memset(octets + len - 4, 'v', 4);
    mp_sink_unref(sink);
  }
  office_close(&office);
}

TEST(who_feeds_too_fast_is_held_until_the_disk_caught_up)
{
  post_office office;
  office_open(&office, false);
  mp_sink *sink;
  REQUIRE(mp_sink_new(&sink, &office.store) == 0);
  int noted = NOT_READY, held = 0;
  mp_sink_on_ready(sink, note_ready, &noted);
  size_t at = 0;
  for (; at < BIG; at += 65536) {
    int rc = mp_sink_add(sink, mp_str_sub(all(BIG), at, 65536));
    CHECK(rc == 0 || rc == 1);
    if (rc == 1) {
      CHECK_EQ_INT(noted, NOT_READY); /* never from inside */
      CHECK_EQ_INT(wait_ready(&office, &noted), 0);
      noted = NOT_READY;
      held++;
    }
  }
  /* No turn was made in between: it was after 1 MB, and then again when 512 KB more had been taken. */
  CHECK(held >= 3 && held <= 5);
  CHECK_EQ_INT(mp_sink_finish(sink), 1);
  CHECK_EQ_INT(mp_sink_finish(sink), MP_E_MISUSE);
  CHECK_EQ_INT(mp_sink_add(sink, MP_STR("x")), MP_E_MISUSE);
  CHECK_EQ_INT(wait_ready(&office, &noted), 0);
  check_read(sink, all(BIG), 0, 65536);
  mp_sink_unref(sink);
  office_close(&office);
}

TEST(a_sink_may_be_dropped_while_its_octets_are_on_the_way)
{
  post_office office;
  office_open(&office, false);
  for (int i = 0; i < 20; i++) {
    mp_sink *sink;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    int noted = NOT_READY;
    mp_sink_on_ready(sink, note_ready, &noted);
    CHECK(mp_sink_add(mp_sink_ref(sink), all((size_t)i * 100000)) >= 0);
    if (i & 1)
      mp_loop_turn(&office.loop, false);
    mp_sink_unref(sink);
    if (i & 2)
      CHECK(mp_sink_finish(sink) >= 0);
    noted = NOT_READY;
    mp_sink_unref(sink);
    while (mp_loop_turn(&office.loop, true))
      continue;
    CHECK_EQ_INT(noted, NOT_READY);
  }
  mp_sink *sink;
  REQUIRE(mp_sink_new(&sink, &office.store) == 0);
  CHECK(mp_sink_add(sink, all(BIG)) >= 0);
  mp_sink_unref(sink);
  office_close(&office); /* and the loop may end with it */
}

static void drop_on_ready(void *ctx, int rc)
{
  mp_sink **sink = ctx;
  (void)rc;
  mp_sink_unref(*sink);
  *sink = NULL;
}

TEST(a_sink_may_be_dropped_by_who_is_told_that_it_is_ready)
{
  post_office office;
  office_open(&office, false);
  mp_sink *sink;
  REQUIRE(mp_sink_new(&sink, &office.store) == 0);
  mp_sink_on_ready(sink, drop_on_ready, &sink);
  CHECK_EQ_INT(mp_sink_add(sink, all(BIG)), 1);
  while (sink)
    mp_loop_turn(&office.loop, true);
  office_close(&office);
}

TEST(a_folder_that_is_not_there_breaks_the_sink)
{
  for (int virtual = 0; virtual < 2; virtual ++) {
    post_office office;
    office_open(&office, virtual);
    office.store.folder = temp_path("none");
    mp_sink *sink;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, all(BIG), 65536), MP_E_NOTFOUND);
    CHECK_EQ_INT(mp_sink_add(sink, MP_STR("x")), MP_E_NOTFOUND);
    mp_sink_unref(sink);
    /* A small message needs no file. */
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, all(1000), 65536), 0);
    mp_sink_unref(sink);
    office_close(&office);
  }
}

TEST(a_full_disk_breaks_the_sink_and_not_the_next_one)
{
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = { 1 << 20, RLIM_INFINITY };
    setrlimit(RLIMIT_FSIZE, &limit);
    post_office office;
    office_open(&office, false);
    mp_sink *sink;
    int rc = mp_sink_new(&sink, &office.store);
    if (rc == 0)
      rc = sink_fill(&office, sink, all(BIG), 65536);
    mp_sink_unref(sink);
    bool told = rc == MP_E_NOSPACE;
    rc = mp_sink_new(&sink, &office.store);
    if (rc == 0)
      rc = sink_fill(&office, sink, all(1 << 20), 65536);
    mp_sink_unref(sink);
    office_close(&office);
    _exit(told && rc == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ_INT(status, 0);
}

/* Each body had a ceiling and all of them together had none: ten thousand peers that stop in the middle of 256 KB hold 2.5 GB. */
TEST(all_bodies_together_have_a_ceiling)
{
  enum { SINKS = 200, EACH = 60000, STEP = 10000, MOST = 1 << 20 };
  for (int endless = 0; endless < 2; endless++) { /* a header block that never ends is kept beside the file */
    post_office office;
    office_open(&office, true);
    office.store.folder = temp_folder;
    office.store.memory_most = MOST;
    mp_sink *sinks[SINKS];
    bool refused[SINKS] = { false };
    mp_str octets = all(EACH);
    char *field = octets_make("X: ", EACH);
    for (size_t i = 0; i < EACH; i++)
      field[i] = i < 3 ? field[i] : 'x';
    if (endless)
      octets = mp_str_of(field, EACH);
    for (size_t i = 0; i < SINKS; i++)
      REQUIRE(mp_sink_new(&sinks[i], &office.store) == 0);
    for (size_t at = 0; at < EACH; at += STEP) {
      for (size_t i = 0; i < SINKS; i++) {
        if (refused[i])
          continue;
        int rc = mp_sink_add(sinks[i], mp_str_sub(octets, at, STEP));
        refused[i] = rc == MP_E_NOSPACE;
        if (refused[i])
          mp_sink_unref(sinks[i]);
        CHECK(rc >= 0 || refused[i]);
        CHECK(office.store.held <= MOST);
        mp_loop_turn(&office.loop, false);
      }
    }
    size_t whole = 0;
    for (size_t i = 0; i < SINKS; i++) {
      if (refused[i])
        continue;
      CHECK(mp_sink_finish(sinks[i]) >= 0);
      mp_loop_turn(&office.loop, false);
      check_read(sinks[i], octets, 0, 65536);
      mp_sink_unref(sinks[i]);
      whole++;
    }
    CHECK(whole >= 8 && whole < SINKS);
    mp_loop_turn(&office.loop, false);
    CHECK_EQ_INT(office.store.held, 0);
    free(field);
    office_close(&office);
  }
}

/* Where memory is short a body does not wait for a batch, and its feeder is held early. */
TEST(a_body_goes_through_a_full_house)
{
  post_office office;
  office_open(&office, false);
  office.store.folder = temp_folder;
  office.store.memory_most = 1 << 20;
  mp_sink *guest, *sink;
  REQUIRE(mp_sink_new(&guest, &office.store) == 0);
  REQUIRE(mp_sink_new(&sink, &office.store) == 0);
  office.store.threshold = 1 << 20;
  CHECK_EQ_INT(mp_sink_add(guest, all(500000)), 0);
  office.store.threshold = 100000;
  CHECK_EQ_INT(sink_fill(&office, sink, all(BIG), 30000), 0);
  check_read(sink, all(BIG), 0, 65536);
  mp_sink_unref(guest);
  mp_sink_unref(sink);
  office_close(&office);
}

static void check_digest(mp_sink *sink, mp_dkim_canon canon, uint64_t limit, mp_str body)
{
  unsigned char want[MP_DKIM_DIGEST], got[MP_DKIM_DIGEST];
  uint64_t want_length, got_length;
  mp_dkim_body *direct;
  REQUIRE(mp_dkim_body_new(&direct, canon, limit) == 0);
  REQUIRE(mp_dkim_body_add(direct, body) == 0);
  REQUIRE(mp_dkim_body_finish(direct, want, &want_length) == 0);
  mp_dkim_body_free(direct);
  REQUIRE(mp_sink_digest(sink, canon, limit, got, &got_length));
  CHECK(memcmp(want, got, sizeof want) == 0);
  CHECK_EQ_INT(got_length, want_length);
}

static const char signed_head[] =
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple; d=x.example; s=s; h=from; l=100000; b=YQ==;\r\n"
    " bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\nARC-Message-Signature: i=1; c=simple/relaxed; b=YQ==; h=from;\r\n"
    " bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\nFrom: x\r\n\r\n";

TEST(large_bodies_are_hashed_while_they_come_in_the_forms_that_are_wanted)
{
  char *octets = octets_make(signed_head, 1 << 20);
  mp_str whole = mp_str_of(octets, 1 << 20), body = mp_str_sub(whole, sizeof signed_head - 1, whole.len);
  unsigned char digest[MP_DKIM_DIGEST];
  uint64_t length;
  for (int virtual = 0; virtual < 2; virtual ++) {
    static const size_t slices[] = { 777, 16384, 65536, 1 << 20 };
    post_office office;
    office_open(&office, virtual);
    office.store.folder = temp_folder;
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++) {
      mp_sink *sink;
      office.store.wants = (mp_body_wants){ .verify = true, .signing = 1u << MP_DKIM_SIMPLE };
      REQUIRE(mp_sink_new(&sink, &office.store) == 0);
      CHECK_EQ_INT(sink_fill(&office, sink, whole, slices[i]), 0);
      check_digest(sink, MP_DKIM_SIMPLE, 100000, body);
      check_digest(sink, MP_DKIM_RELAXED, UINT64_MAX, body);
      check_digest(sink, MP_DKIM_SIMPLE, UINT64_MAX, body);
      check_digest(sink, MP_DKIM_SIMPLE, UINT64_MAX, body); /* as often as it is asked for */
      CHECK(!mp_sink_digest(sink, MP_DKIM_RELAXED, 100000, digest, &length));
      mp_sink_unref(sink);
      /* nothing is wanted, and what stays in memory is hashed when it is asked for */
      for (int wanted = 0; wanted < 2; wanted++) {
        office.store.wants = (mp_body_wants){ .verify = wanted };
        REQUIRE(mp_sink_new(&sink, &office.store) == 0);
        CHECK_EQ_INT(sink_fill(&office, sink, wanted ? mp_str_sub(whole, 0, 100000) : whole, slices[i]), 0);
        CHECK(!mp_sink_digest(sink, MP_DKIM_SIMPLE, 100000, digest, &length));
        mp_sink_unref(sink);
      }
    }
    office_close(&office);
  }
  free(octets);
}

/* A CR at the very end makes all line ends in front of it count, at the last moment: who asks in the loop's thread is not to wait for that. */
TEST(a_hash_that_is_long_to_finish_is_not_made)
{
  size_t len = sizeof signed_head - 1 + (3 << 20) + 1;
  char *octets = octets_make(signed_head, len);
  for (size_t i = sizeof signed_head - 1; i < len; i++)
    octets[i] = (i - (sizeof signed_head - 1)) % 2 ? '\n' : '\r';
  for (int cr = 0; cr < 2; cr++) {
    post_office office;
    office_open(&office, true);
    office.store.folder = temp_folder;
    office.store.wants = (mp_body_wants){ .verify = true };
    mp_sink *sink;
    unsigned char digest[MP_DKIM_DIGEST];
    uint64_t length;
    REQUIRE(mp_sink_new(&sink, &office.store) == 0);
    CHECK_EQ_INT(sink_fill(&office, sink, mp_str_of(octets, len - !cr), 65536), 0);
    CHECK_EQ_INT(mp_sink_digest(sink, MP_DKIM_RELAXED, UINT64_MAX, digest, &length), !cr);
    mp_sink_unref(sink);
    office_close(&office);
  }
  free(octets);
}

TEST(a_hash_that_has_no_memory_leaves_the_body_whole)
{
  char *octets = octets_make(signed_head, 600000);
  unsigned made = 0;
  FOR_EACH_ALLOC_FAILURE {
    post_office office = { 0 };
    if (mp_loop_init_virtual(&office.loop, 0) < 0)
      continue;
    mp_body_store_init(&office.store, &office.loop);
    office.store.wants = (mp_body_wants){ .verify = true, .signing = 3 };
    mp_sink *sink = NULL;
    int rc = mp_sink_new(&sink, &office.store);
    if (rc == 0)
      rc = sink_fill(&office, sink, mp_str_of(octets, 600000), 65536);
    unsigned char digest[MP_DKIM_DIGEST];
    uint64_t length;
    if (rc == 0) {
      made += mp_sink_digest(sink, MP_DKIM_RELAXED, UINT64_MAX, digest, &length);
      CHECK_EQ_INT(mp_sink_size(sink), 600000);
    } else {
      CHECK_EQ_INT(rc, MP_E_NOMEM);
    }
    mp_sink_unref(sink);
    office_close(&office);
  }
  CHECK(made > 0);
  free(octets);
}

TEST(memory_may_run_out_anywhere)
{
  FOR_EACH_ALLOC_FAILURE {
    post_office office = { 0 };
    if (mp_loop_init_virtual(&office.loop, 0) < 0)
      continue;
    mp_body_store_init(&office.store, &office.loop);
    mp_sink *sink = NULL;
    int rc = mp_sink_new(&sink, &office.store);
    if (rc == 0) {
      rc = sink_fill(&office, sink, all(600000), 65536);
      CHECK(rc == 0 || mp_sink_add(sink, MP_STR("x")) == rc);
    }
    if (rc == 0)
      CHECK_EQ_INT(mp_sink_header(sink, &rc).len, sizeof head - 1);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_sink_unref(sink);
    office_close(&office);
  }
}

TEST(a_header_block_over_several_blocks_needs_memory_that_may_be_missing)
{
  char *octets = octets_make("A: b\r\n", 40000);
  for (size_t i = 0; i < 40000; i++)
    octets[i] = octets[i] == ' ' ? '-' : octets[i];
  memcpy(octets + 39990, "\r\n\r\n", 4);
  for (char *p = octets; (p = memchr(p, '\n', (size_t)(octets + 39985 - p))); p++)
    p[1] = ' ';
  FOR_EACH_ALLOC_FAILURE {
    post_office office = { 0 };
    office_open(&office, true);
    mp_sink *sink = NULL;
    int rc = mp_sink_new(&sink, &office.store);
    if (rc == 0)
      rc = sink_fill(&office, sink, mp_str_of(octets, 40000), 65536);
    if (rc == 0 && mp_sink_header(sink, &rc).len == 0)
      CHECK_EQ_INT(mp_sink_header(sink, &rc).len, 0);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_sink_unref(sink);
    office_close(&office);
  }
  free(octets);
}

int main(int argc, char **argv)
{
  temp_make();
  int rc = check_run(argc, argv);
  temp_remove(temp_folder);
  free(big);
  return rc;
}
