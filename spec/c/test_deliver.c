/* Deliveries to a disk: whole or not at all, whatever happens to the disk. */
#include "support/outcome.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static const char small[] = "Subject: hello\r\nTo: bob\r\n\r\nFrom here\r\n.\r\nthe end\r\n";
static const char extra[] = "Return-Path: <ann@example.net>\r\nDelivered-To: bob0@example.org\r\n";

static mp_message *make(post_office *office, mp_str octets)
{
  int rc;
  mp_message *msg = message_make(office, octets, 1, &rc);
  CHECK_EQ_INT(rc, 0);
  return msg;
}

static int to_maildir(post_office *office, mp_message *msg, const char *folder, bool create, outcome *o)
{
  mp_maildir_opts opts = { .folder = folder, .create = create, .extra = mp_str_c(extra), .host = "mx.example.org" };
  free(o->output);
  *o = (outcome){ 0 };
  int rc = mp_deliver_maildir(&office->loop, msg, &opts, note_outcome, o);
  return rc < 0 ? rc : wait_outcome(office, o);
}

static int to_file(post_office *office, mp_message *msg, mp_file_opts opts, outcome *o)
{
  opts.extra = mp_str_c(extra);
  free(o->output);
  *o = (outcome){ 0 };
  int rc = mp_deliver_file(&office->loop, msg, &opts, note_outcome, o);
  return rc < 0 ? rc : wait_outcome(office, o);
}

/* ---- maildir ----------------------------------------------------------------------------------------------------- */

TEST(a_maildir_gets_the_message_whole_in_new)
{
  char *big = octets_make("Subject: big\r\n\r\n", 2000000);
  for (int i = 0; i < 4; i++) {
    post_office office;
    outcome o = { 0 };
    office_open(&office, i & 1);
    mp_str octets = i & 2 ? mp_str_of(big, 2000000) : mp_str_c(small);
    mp_message *msg = make(&office, octets);
    REQUIRE(msg);
    CHECK_EQ_INT(to_maildir(&office, msg, temp_path("box%d/of/bob/", i), true, &o), 0);
    char name[256];
    CHECK_EQ_INT(temp_count(temp_path("box%d/of/bob/new", i), name), 1);
    CHECK_EQ_INT(temp_count(temp_path("box%d/of/bob/tmp", i), NULL), 0);
    CHECK_EQ_INT(temp_count(temp_path("box%d/of/bob/cur", i), NULL), 0);
    CHECK_EQ_STR(mp_str_c(o.path), mp_str_c(temp_path("box%d/of/bob//new/%s", i, name)));
    check_file(o.path, extra, octets);
    struct stat st;
    CHECK(stat(o.path, &st) == 0 && (st.st_mode & 07777) == 0600 && st.st_nlink == 1);
    CHECK(stat(temp_path("box%d/of", i), &st) == 0 && (st.st_mode & 07777) == 0700);
    /* time.Mmicroseconds Pprocess Qcounter _ID.host */
    long long seconds;
    int micros = -1, process, end = 0;
    unsigned counter;
    CHECK_EQ_INT(sscanf(name, "%lld.M%6dP%dQ%u_ID0000000001.mx.example.org%n", &seconds, &micros, &process,
                        &counter, &end),
                 4);
    CHECK_EQ_INT(end, strlen(name));
    CHECK(process == getpid() && seconds > 1700000000);
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
  }
  free(big);
}

TEST(one_message_goes_into_one_maildir_more_than_once)
{
  enum { TIMES = 50 };
  post_office office;
  outcome o[TIMES] = { { 0 } };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  REQUIRE(msg);
  mp_maildir_opts opts = { .folder = temp_path("often"), .create = true, .host = "a/b:c d" };
  for (int i = 0; i < TIMES; i++)
    CHECK_EQ_INT(mp_deliver_maildir(&office.loop, msg, &opts, note_outcome, &o[i]), 0);
  mp_message_unref(msg); /* each delivery has its own reference */
  for (int i = 0; i < TIMES; i++) {
    if (!o[i].told)
      wait_outcome(&office, &o[i]);
    CHECK_EQ_INT(o[i].rc, 0);
    CHECK(strstr(o[i].path, ".a\\057b\\072c_d") != NULL);
    check_file(o[i].path, "", mp_str_c(small));
    free(o[i].output);
  }
  CHECK_EQ_INT(temp_count(temp_path("often/new"), NULL), TIMES);
  CHECK_EQ_INT(temp_count(temp_path("often/tmp"), NULL), 0);
  office_close(&office);
}

TEST(the_mode_of_a_file_gives_its_folders_the_right_to_enter)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, true);
  mode_t before = umask(0);
  mp_message *msg = make(&office, mp_str_c(small));
  mp_maildir_opts opts = { .folder = temp_path("shared/box"), .create = true, .mode = 0640 };
  CHECK_EQ_INT(mp_deliver_maildir(&office.loop, msg, &opts, note_outcome, &o), 0);
  CHECK_EQ_INT(wait_outcome(&office, &o), 0);
  struct stat st;
  CHECK(stat(o.path, &st) == 0 && (st.st_mode & 07777) == 0640);
  CHECK(stat(temp_path("shared/box/new"), &st) == 0 && (st.st_mode & 07777) == 0750);
  umask(before);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

TEST(a_maildir_that_is_not_one_is_left_alone)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  REQUIRE(msg);
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("missing"), false, &o), MP_E_NOTFOUND);
  says(&o, "/missing: No such file");
  CHECK_EQ_INT(temp_count(temp_path("missing"), NULL), -1);
  file_write(temp_path("plain"), "x");
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("plain"), true, &o), MP_E_NOTFOUND);
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("plain/below"), true, &o), MP_E_NOTFOUND);
  /* The folder is there, but nothing may be made in it. */
  CHECK_EQ_INT(mkdir(temp_path("half"), 0700), 0);
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("half"), false, &o), MP_E_NOTFOUND);
  says(&o, "/half/tmp");
  CHECK_EQ_INT(temp_count(temp_path("half"), NULL), 0);
  CHECK_EQ_INT(mkdir(temp_path("half/tmp"), 0700), 0);
  file_write(temp_path("half/new"), "x");
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("half"), true, &o), MP_E_NOTFOUND);
  says(&o, "/half/new");
  CHECK_EQ_INT(temp_count(temp_path("half/tmp"), NULL), 0);
  CHECK_CSTR(o.path, "");
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

TEST(a_file_is_made_once)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  REQUIRE(msg);
  const char *path = temp_path("letters/in/one.eml");
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = path }, &o), MP_E_NOTFOUND);
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = path, .create = true }, &o), 0);
  CHECK_EQ_STR(mp_str_c(o.path), mp_str_c(path));
  check_file(path, extra, mp_str_c(small));
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = path, .create = true }, &o), MP_E_EXISTS);
  says(&o, "one.eml: File exists");
  check_file(path, extra, mp_str_c(small));
  CHECK_EQ_INT(temp_count(temp_path("letters/in"), NULL), 1); /* no temporary file stays */
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = temp_path("letters/in/") }, &o), MP_E_NOTFOUND);
  CHECK_EQ_INT(temp_count(temp_path("letters/in"), NULL), 1);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

TEST(a_file_may_be_named_without_a_folder)
{
  post_office office;
  outcome o = { 0 };
  char before[4096];
  office_open(&office, true);
  mp_message *msg = make(&office, mp_str_c(small));
  REQUIRE(getcwd(before, sizeof before) && chdir(temp_folder) == 0);
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = "here.eml" }, &o), 0);
  check_file("here.eml", extra, mp_str_c(small));
  REQUIRE(chdir(before) == 0);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

/* ---- line ends --------------------------------------------------------------------------------------------------- */

/* A message with its lines' ends wherever a block or a read of a file may end, and CRs that end no line. */
static char *lines_make(size_t len, size_t shift)
{
  char *octets = octets_make("A: b\r\n\r\n", len);
  for (size_t at = 16384; at + 2 < len; at += 16384) {
    size_t place = at - 2 + shift;
    memcpy(octets + place, shift == 3 ? "\r\r" : "\r\n", 2);
    if (octets[place + 2] == '\n')
      octets[place + 2] = 'x';
  }
  memcpy(octets + len - 2, shift == 3 ? "x\r" : "\r\n", 2);
  return octets;
}

TEST(lines_end_in_lf_unless_the_octets_of_the_wire_are_asked_for)
{
  static const size_t sizes[] = { 40, 100000, 700000 };
  for (size_t i = 0; i < 3; i++)
    for (size_t shift = 0; shift < 4; shift++)
      for (int crlf = 0; crlf < 2; crlf++) {
        post_office office;
        outcome o = { 0 };
        office_open(&office, false);
        char *octets = lines_make(sizes[i], shift);
        mp_str all = mp_str_of(octets, sizes[i]);
        mp_message *msg = make(&office, all);
        REQUIRE(msg);
        CHECK_EQ_INT(mp_sink_in_file(msg->sink), sizes[i] > office.store.threshold);
        mp_maildir_opts box = {
          .folder = temp_path("lines"), .create = true, .extra = mp_str_c(extra), .crlf = crlf
        };
        CHECK_EQ_INT(mp_deliver_maildir(&office.loop, msg, &box, note_outcome, &o), 0);
        CHECK_EQ_INT(wait_outcome(&office, &o), 0);
        check_lines(o.path, extra, all, crlf);
        const char *path = temp_path("lines/%zu-%zu-%d", i, shift, crlf);
        CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = path, .crlf = crlf }, &o), 0);
        check_lines(path, extra, all, crlf);
        mp_message_unref(msg);
        office_close(&office);
        free(o.output);
        free(octets);
      }
}

TEST(what_was_sent_as_binary_keeps_its_octets)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, true);
  mp_message *msg = make(&office, mp_str_c(small));
  REQUIRE(msg);
  msg->env->params.given |= MP_PARAM_BODY;
  msg->env->params.body = MP_BODY_BINARY;
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("binary"), true, &o), 0);
  check_lines(o.path, extra, mp_str_c(small), true);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

/* ---- mbox -------------------------------------------------------------------------------------------------------- */

/* The entry that a delivery appends, made by the simplest means. To be freed. */
static char *mbox_entry(mp_str octets, size_t *len)
{
  size_t all_len;
  char *all = delivered_octets(extra, octets, &all_len), *out = malloc(all_len * 2 + 100);
  size_t n = (size_t)sprintf(out, "From ann@example.net Sun Nov 22 22:41:50 2026\n");
  for (size_t i = 0; i < all_len;) {
    char *end = memchr(all + i, '\n', all_len - i);
    size_t line = end ? (size_t)(end - all) - i + 1 : all_len - i;
    size_t quotes = 0;
    while (quotes < line && all[i + quotes] == '>')
      quotes++;
    if (line - quotes >= 5 && memcmp(all + i + quotes, "From ", 5) == 0)
      out[n++] = '>';
    memcpy(out + n, all + i, line);
    n += line;
    if (!end)
      out[n++] = '\n';
    else if (line > 1 && end[-1] == '\r') {
      n -= 2;
      out[n++] = '\n';
    }
    i += line;
  }
  out[n++] = '\n';
  *len = n;
  free(all);
  return out;
}

static void check_mbox(const char *path, const char *before, mp_str octets)
{
  size_t len, want_len, front = strlen(before);
  char *got = file_read(path, &len), *want = mbox_entry(octets, &want_len);
  if (CHECK(got != NULL) && CHECK(len >= front)) {
    CHECK_EQ_STR(mp_str_of(got, front), mp_str_c(before));
    CHECK_EQ_STR(mp_str_of(got + front, len - front), mp_str_of(want, want_len));
  }
  free(got);
  free(want);
}

static mp_file_opts mbox_opts(const char *path)
{
  return (mp_file_opts){ .path = path, .mbox = true, .create = true, .sender = MP_STR("ann@example.net") };
}

TEST(an_mbox_is_appended_to_and_quoted)
{
  static const struct row {
    const char *before, *front; /* what was there, and what stands in front of the new entry */
    const char *octets;
  } rows[] = {
    { NULL, "", small },
    { "", "", small },
    { "From x\n\nbody\n\n", "From x\n\nbody\n\n", small },
    { "From x\n\nbody\n", "From x\n\nbody\n\n", small },
    { "From x\n\nbody", "From x\n\nbody\n\n", small },
    { "x", "x\n\n", small },
    { "\n", "\n", small },
    { NULL, "",
      "A: b\r\n\r\nFrom a\r\n>From b\r\n>>>From c\r\n> From d\r\n From e\r\nFrom\r\nFro\r\nFromage\r\nfrom f\r\nFFrom \r\n>" },
    { NULL, "", "A: b\r\n\r\nlone\rcr\r\r\nlone\nFrom lf\r" },
    { NULL, "", "A: b\r\n\r\nFrom" },
    { NULL, "", "A: b\r\n\r\nFrom " },
    { NULL, "", "A: b\r\n\r\n" },
  };
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_message *msg = make(&office, mp_str_c(rows[i].octets));
    const char *path = temp_path("mbox%zu", i);
    if (rows[i].before)
      file_write(path, rows[i].before);
    if (to_file(&office, msg, mbox_opts(path), &o) != 0)
      FAIL("row %zu: %s", i, o.why);
    check_mbox(path, rows[i].front, mp_str_c(rows[i].octets));
    mp_message_unref(msg);
  }
  office_close(&office);
  free(o.output);
}

TEST(an_mbox_is_quoted_wherever_the_octets_are_cut)
{
  enum { LEN = 300000, HEAD = 8 };
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  for (int shift = 0; shift < 12; shift++) {
    for (int in_file = 0; in_file < 2; in_file++) {
      char *octets = octets_make("A: b\r\n\r\n", LEN);
      office.store.threshold = in_file ? 1000 : 1 << 20;
      /* Around the end of each block (in memory) and of each read (from the file, counted from the body). */
      for (size_t at = 16384; at + 100 < LEN; at += 16384) {
        memcpy(octets + at - 10 + (size_t)shift, "\r\n>>From me\r\n", 13);
        memcpy(octets + at + HEAD + 30 + (size_t)shift, "x\r\n", 3);
      }
      for (size_t at = HEAD + 65536; at + 100 < LEN; at += 65536)
        memcpy(octets + at - 10 + (size_t)shift, "\r\n>>From me\r\n", 13);
      mp_message *msg = make(&office, mp_str_of(octets, LEN));
      const char *path = temp_path("cut%d-%d", shift, in_file);
      CHECK_EQ_INT(to_file(&office, msg, mbox_opts(path), &o), 0);
      check_mbox(path, "", mp_str_of(octets, LEN));
      mp_message_unref(msg);
      free(octets);
    }
  }
  office_close(&office);
  free(o.output);
}

TEST(the_from_line_of_an_mbox_is_one_line)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, true);
  mp_message *msg = make(&office, mp_str_c(small));
  static const struct row {
    mp_str sender;
    const char *want;
  } rows[] = { { { "", 0 }, "From MAILER-DAEMON Sun" }, { { "\"a b\"@c\n", 8 }, "From \"a_b\"@c_ Sun" } };
  for (size_t i = 0; i < 2; i++) {
    mp_file_opts opts = mbox_opts(temp_path("from%zu", i));
    opts.sender = rows[i].sender;
    CHECK_EQ_INT(to_file(&office, msg, opts, &o), 0);
    size_t len;
    char *got = file_read(o.path, &len);
    CHECK(got && strncmp(got, rows[i].want, strlen(rows[i].want)) == 0);
    free(got);
  }
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

typedef struct holder {
  mp_timer timer; /* first */
  int fd;
  bool fcntl, let_go;
} holder;

static void let_go(mp_timer *timer, int64_t now_ms)
{
  holder *h = (holder *)timer;
  (void)now_ms;
  h->let_go = true;
  struct flock unlock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
  CHECK_EQ_INT(h->fcntl ? fcntl(h->fd, F_OFD_SETLK, &unlock) : flock(h->fd, LOCK_UN), 0);
}

TEST(an_mbox_that_somebody_holds_is_waited_for)
{
  for (int i = 0; i < 2; i++) {
    post_office office;
    outcome o = { 0 };
    office_open(&office, false);
    mp_message *msg = make(&office, mp_str_c(small));
    const char *path = temp_path("held%d", i);
    file_write(path, "");
    holder h = { .fd = open(path, O_RDWR | O_CLOEXEC), .fcntl = i == 0 };
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    CHECK_EQ_INT(h.fcntl ? fcntl(h.fd, F_OFD_SETLK, &lock) : flock(h.fd, LOCK_EX), 0);
    mp_timer_init(&h.timer, let_go);
    mp_timers_set(&office.loop.timers, &h.timer, mp_loop_now(&office.loop) + 150);
    CHECK_EQ_INT(to_file(&office, msg, mbox_opts(path), &o), 0);
    CHECK(h.let_go);
    close(h.fd);
    check_mbox(path, "", mp_str_c(small));
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
  }
}

/* An mbox that is held until its descriptor is closed. */
static int hold(const char *path)
{
  file_write(path, "");
  int fd = open(path, O_RDWR | O_CLOEXEC);
  CHECK_EQ_INT(flock(fd, LOCK_EX), 0);
  return fd;
}

/* A wait for a lock took its thread of the pool along: four of them, and no body was written any more. */
TEST(who_waits_for_a_lock_holds_no_thread)
{
  enum { TIMES = 12 };
  post_office office;
  outcome o[TIMES] = { { 0 } }, other = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small)), *next = make(&office, mp_str_c(small));
  const char *path = temp_path("held-long");
  int fd = hold(path);
  mp_file_opts opts = mbox_opts(path);
  for (int i = 0; i < TIMES; i++)
    CHECK_EQ_INT(mp_deliver_file(&office.loop, msg, &opts, note_outcome, &o[i]), 0);
  for (int i = 0; i < 20; i++)
    CHECK_EQ_INT(to_maildir(&office, next, temp_path("beside"), true, &other), 0);
  for (int i = 0; i < TIMES; i++)
    CHECK_EQ_INT(o[i].told, 0);
  mp_deliver_cancel(next);
  mp_deliver_cancel(msg);
  mp_deliver_cancel(msg);
  for (int i = 0; i < TIMES; i++) {
    if (!o[i].told)
      wait_outcome(&office, &o[i]);
    CHECK_EQ_INT(o[i].rc, MP_E_CANCELLED);
    says(&o[i], "gave up waiting for the lock of ");
    free(o[i].output);
  }
  close(fd);
  mp_message_unref(msg);
  mp_message_unref(next);
  office_close(&office);
  free(other.output);
}

TEST(nobody_waits_for_a_lock_for_ever)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, true);
  mp_message *msg = make(&office, mp_str_c(small));
  const char *path = temp_path("held-for-ever");
  int fd = hold(path);
  mp_file_opts opts = mbox_opts(path);
  CHECK_EQ_INT(mp_deliver_file(&office.loop, msg, &opts, note_outcome, &o), 0);
  mp_loop_advance(&office.loop, 29000);
  CHECK_EQ_INT(o.told, 0);
  mp_loop_advance(&office.loop, 2000);
  CHECK_EQ_INT(o.told, 1);
  CHECK_EQ_INT(o.rc, MP_E_TIMEOUT);
  says(&o, "cannot lock ");
  mp_message_unref(msg);
  office_close(&office);
  close(fd);
  free(o.output);
}

TEST(a_loop_that_ends_ends_the_wait_for_a_lock)
{
  for (int i = 0; i < 3; i++) {
    post_office office;
    outcome o = { 0 };
    office_open(&office, i == 0);
    mp_message *msg = make(&office, mp_str_c(small));
    const char *path = temp_path("held-to-the-end");
    int fd = hold(path);
    mp_file_opts opts = mbox_opts(path);
    CHECK_EQ_INT(mp_deliver_file(&office.loop, msg, &opts, note_outcome, &o), 0);
    mp_message_unref(msg);
    for (int turns = 0; i == 2 && turns < 5; turns++) /* between two tries; else in the first */
      mp_loop_turn(&office.loop, true);
    office_close(&office);
    CHECK_EQ_INT(o.told, 1);
    CHECK_EQ_INT(o.rc, MP_E_CANCELLED);
    close(fd);
    free(o.output);
  }
}

TEST(deliveries_to_one_mbox_do_not_mix)
{
  enum { TIMES = 20 };
  post_office office;
  outcome o[TIMES] = { { 0 } };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  mp_file_opts opts = mbox_opts(temp_path("busy"));
  opts.extra = mp_str_c(extra);
  for (int i = 0; i < TIMES; i++)
    CHECK_EQ_INT(mp_deliver_file(&office.loop, msg, &opts, note_outcome, &o[i]), 0);
  for (int i = 0; i < TIMES; i++) {
    if (!o[i].told)
      wait_outcome(&office, &o[i]);
    CHECK_EQ_INT(o[i].rc, 0);
    free(o[i].output);
  }
  size_t len, each;
  char *got = file_read(temp_path("busy"), &len), *want = mbox_entry(mp_str_c(small), &each);
  REQUIRE(got && len == each * TIMES);
  for (size_t i = 0; i < TIMES; i++)
    CHECK(memcmp(got + i * each, want, each) == 0);
  free(got);
  free(want);
  mp_message_unref(msg);
  office_close(&office);
}

TEST(what_is_no_file_is_no_mbox)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_c(small));
  CHECK_EQ_INT(mkfifo(temp_path("fifo"), 0600), 0);
  CHECK_EQ_INT(to_file(&office, msg, mbox_opts(temp_path("fifo")), &o), MP_E_DENIED);
  file_write(temp_path("target"), "");
  CHECK_EQ_INT(symlink("target", temp_path("link")), 0);
  CHECK_EQ_INT(to_file(&office, msg, mbox_opts(temp_path("link")), &o), MP_E_SYSTEM);
  says(&o, "/link: ");
  CHECK_EQ_INT(mkdir(temp_path("folder"), 0700), 0);
  CHECK_EQ_INT(to_file(&office, msg, mbox_opts(temp_path("folder")), &o), MP_E_SYSTEM);
  mp_message_unref(msg);
  office_close(&office);
  free(o.output);
}

/* ---- trouble ----------------------------------------------------------------------------------------------------- */

/* A big message fails for want of space with nothing left behind, and a small one goes in afterwards. `before` is what the mbox held. */
static void full(const char *folder)
{
  char *big = octets_make("Subject: big\r\n\r\n", 200000);
  char path[600];
  post_office office;
  outcome o = { 0 };
  office_open(&office, false);
  mp_message *msg = make(&office, mp_str_of(big, 200000)), *next = make(&office, mp_str_c(small));
  CHECK_EQ_INT(to_maildir(&office, msg, folder, true, &o), MP_E_NOSPACE);
  says(&o, folder);
  snprintf(path, sizeof path, "%s/new", folder);
  CHECK_EQ_INT(temp_count(path, NULL), 0);
  snprintf(path, sizeof path, "%s/tmp", folder);
  CHECK_EQ_INT(temp_count(path, NULL), 0);
  CHECK_EQ_INT(to_maildir(&office, next, folder, true, &o), 0);
  check_file(o.path, extra, mp_str_c(small));
  snprintf(path, sizeof path, "%s/new/file", folder);
  CHECK_EQ_INT(to_file(&office, msg, (mp_file_opts){ .path = path }, &o), MP_E_NOSPACE);
  snprintf(path, sizeof path, "%s/new", folder);
  CHECK_EQ_INT(temp_count(path, NULL), 1);
  snprintf(path, sizeof path, "%s/mbox", folder);
  CHECK_EQ_INT(to_file(&office, next, mbox_opts(path), &o), 0);
  CHECK_EQ_INT(to_file(&office, msg, mbox_opts(path), &o), MP_E_NOSPACE);
  check_mbox(path, "", mp_str_c(small));
  mp_message_unref(msg);
  mp_message_unref(next);
  office_close(&office);
  free(o.output);
  free(big);
}

static void in_a_child(void (*run)(void))
{
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int before = atomic_load(&check_failures);
    run();
    fflush(stdout);
    _exit(atomic_load(&check_failures) > before);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ_INT(status, 0);
}

static void limited(void)
{
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit limit = { 100000, RLIM_INFINITY };
  setrlimit(RLIMIT_FSIZE, &limit);
  full(temp_path("limited"));
}

TEST(a_file_that_may_not_grow_leaves_nothing_behind)
{
  in_a_child(limited);
}

static void mounted(void)
{
  const char *folder = temp_path("mounted");
  CHECK_EQ_INT(mkdir(folder, 0700), 0);
  if ((unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) ||
      mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount("tmpfs", folder, "tmpfs", 0, "size=128k") < 0) {
    printf("  (no file system may be mounted here: the limit on a file's size stands in for a full disk)\n");
    return;
  }
  full(temp_path("mounted/box"));
}

TEST(a_full_disk_leaves_nothing_behind)
{
  in_a_child(mounted);
}

TEST(a_header_over_its_ceiling_is_told_at_the_call)
{
  post_office office;
  outcome o = { 0 };
  office_open(&office, true);
  office.store.header_most = 10;
  mp_message *msg = make(&office, mp_str_c(small));
  CHECK_EQ_INT(to_maildir(&office, msg, temp_path("long"), true, &o), MP_E_TOOLONG);
  CHECK_EQ_INT(to_file(&office, msg, mbox_opts(temp_path("long")), &o), MP_E_TOOLONG);
  CHECK_EQ_INT(o.told, 0);
  mp_message_unref(msg);
  office_close(&office);
}

TEST(memory_may_run_out_anywhere)
{
  int round = 0;
  FOR_EACH_ALLOC_FAILURE {
    post_office office;
    outcome o = { 0 };
    office_open(&office, true);
    int rc;
    mp_message *msg = message_make(&office, mp_str_c(small), 1, &rc);
    round++;
    if (msg) {
      rc = to_maildir(&office, msg, temp_path("memory%d", round), true, &o);
      CHECK_EQ_INT(temp_count(temp_path("memory%d/new", round), NULL), rc == 0 ? 1 : -1);
    }
    if (rc == 0)
      rc = to_file(&office, msg, (mp_file_opts){ .path = temp_path("memory%d/file", round) }, &o);
    if (rc == 0)
      rc = to_file(&office, msg, mbox_opts(temp_path("memory%d/mbox", round)), &o);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_message_unref(msg);
    office_close(&office);
    free(o.output);
  }
}

int main(int argc, char **argv)
{
  temp_make();
  umask(077);
  int rc = check_run(argc, argv);
  temp_remove(temp_folder);
  return rc;
}
