/* The ground floor: views, timers, base64, addresses, token buckets, lists, errors. Memory is in test_base_memory.c. */
#include "support/check.h"

#include "base/base64.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/ip.h"
#include "base/list.h"
#include "base/rate.h"
#include "base/timers.h"

#include <errno.h>

#define LIT(s) mp_str_of("" s, sizeof(s) - 1)

/* ---- views ------------------------------------------------------------------------------------------------------- */

TEST(str_compares)
{
  CHECK(mp_str_eq(LIT("a\0b"), LIT("a\0b")));
  CHECK(!mp_str_eq(LIT("a\0b"), LIT("a\0c")));
  CHECK(!mp_str_eq(LIT("a"), LIT("ab")));
  CHECK(mp_str_eq(MP_STR_NULL, LIT("")));
  CHECK(mp_str_ieq(LIT("EhLo"), LIT("eHlO")));
  CHECK(!mp_str_ieq(LIT("EHLO"), LIT("EHL0")));
  CHECK(!mp_str_ieq(LIT("@["), LIT("`{"))); /* neighbours of letters, 0x20 apart, are no letters */
  CHECK(!mp_str_ieq(LIT("\303\211"), LIT("\303\251")));
  CHECK(mp_str_istarts(LIT("mail from:"), LIT("MAIL FROM:")));
  CHECK(!mp_str_istarts(LIT("MAI"), LIT("MAIL")));
  CHECK(mp_str_istarts(LIT("MAIL"), LIT("")));
}

TEST(str_finds_cuts_and_trims)
{
  CHECK_EQ_INT(mp_str_find(LIT("a,b,c"), ',', 0), 1);
  CHECK_EQ_INT(mp_str_find(LIT("a,b,c"), ',', 2), 3);
  CHECK_EQ_INT(mp_str_find(LIT("a,b,c"), ',', 4), -1);
  CHECK_EQ_INT(mp_str_find(LIT("a"), 'a', 9), -1);
  CHECK_EQ_INT(mp_str_find(MP_STR_NULL, 'a', 0), -1);
  CHECK_STR(mp_str_sub(LIT("abc"), 1, 1), "b");
  CHECK_STR(mp_str_sub(LIT("abc"), 1, 99), "bc");
  CHECK_STR(mp_str_sub(LIT("abc"), 99, 1), "");
  CHECK_STR(mp_str_sub(LIT("abc"), 2, SIZE_MAX), "c");
  CHECK_STR(mp_str_trim(LIT(" \t a b \t ")), "a b");
  CHECK_STR(mp_str_trim(LIT(" \t ")), "");
  CHECK_STR(mp_str_trim(LIT("")), "");
}

TEST(str_reads_numbers_that_fit)
{
  uint64_t n = 7;
  CHECK(mp_str_u64(LIT("0"), UINT64_MAX, &n) && n == 0);
  CHECK(mp_str_u64(LIT("18446744073709551615"), UINT64_MAX, &n) && n == UINT64_MAX);
  CHECK(mp_str_u64(LIT("00000000000000000042"), 42, &n) && n == 42);
  static const char *const bad[] = {
    "", "-1", "+1", " 1", "1 ", "0x1", "1a", "18446744073709551616", "99999999999999999999", "000000000000000000000"
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_str_u64(mp_str_c(bad[i]), UINT64_MAX, &n))
      FAIL("\"%s\" is read", bad[i]);
  CHECK(!mp_str_u64(LIT("43"), 42, &n));
  CHECK_EQ_INT(n, 42);
}

TEST(str_compares_secrets)
{
  CHECK(mp_str_eq_consttime(LIT("secret"), LIT("secret")));
  CHECK(!mp_str_eq_consttime(LIT("secret"), LIT("secreT")));
  CHECK(!mp_str_eq_consttime(LIT("Secret"), LIT("secret")));
  CHECK(!mp_str_eq_consttime(LIT("secret"), LIT("secretsecret")));
  CHECK(!mp_str_eq_consttime(LIT("secretsecret"), LIT("secret")));
  CHECK(!mp_str_eq_consttime(LIT("a"), LIT("")));
  CHECK(!mp_str_eq_consttime(LIT(""), LIT("a")));
  CHECK(mp_str_eq_consttime(LIT(""), LIT("")));
}

TEST(str_knows_utf8)
{
  static const char *const good[] = { "",
                                      "a",
                                      "\303\251",
                                      "\342\202\254",
                                      "\360\237\230\200",
                                      "\302\200",
                                      "\337\277",
                                      "\340\240\200",
                                      "\355\237\277",
                                      "\356\200\200",
                                      "\357\277\277",
                                      "\360\220\200\200",
                                      "\364\217\277\277",
                                      "a\303\251b" };
  static const char *const bad[] = { "\200",
                                     "\277",
                                     "\300\200",
                                     "\301\277",
                                     "\302",
                                     "\302a",
                                     "\340\237\277",
                                     "\340\240",
                                     "\355\240\200",
                                     "\355\277\277",
                                     "\360\217\277\277",
                                     "\360\220\200",
                                     "\364\220\200\200",
                                     "\365\200\200\200",
                                     "\370\210\200\200\200",
                                     "\376",
                                     "\377",
                                     "a\302",
                                     "\342\202a",
                                     "\342a\254" };
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    if (!mp_str_utf8(mp_str_c(good[i])))
      FAIL("good %zu is refused", i);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_str_utf8(mp_str_c(bad[i])))
      FAIL("bad %zu is taken", i);
  CHECK(mp_str_utf8(LIT("a\0b")));
}

/* ---- timers ------------------------------------------------------------------------------------------------------ */

typedef struct clocked {
  mp_timer timer;
  mp_timers *timers;
  int64_t fired_at, again_ms;
  int fired;
} clocked;

static int64_t last_due;

static void on_fire(mp_timer *timer, int64_t now_ms)
{
  clocked *c = MP_CONTAINER(timer, clocked, timer);
  CHECK_EQ_INT(timer->slot, 0);
  CHECK(timer->due_ms >= last_due);
  last_due = timer->due_ms;
  c->fired++;
  c->fired_at = now_ms;
  if (c->again_ms)
    CHECK_EQ_INT(mp_timers_set(c->timers, timer, now_ms + c->again_ms), 0);
}

TEST(timers_fire_in_order_when_due)
{
  enum { MANY = 500 };
  static clocked all[MANY];
  mp_timers timers;
  mp_timers_init(&timers);
  CHECK(mp_timers_next(&timers) == INT64_MAX);
  for (int i = 0; i < MANY; i++) {
    all[i] = (clocked){ .timers = &timers };
    mp_timer_init(&all[i].timer, on_fire);
    CHECK_EQ_INT(mp_timers_set(&timers, &all[i].timer, 1 + i * 7919 % 1000), 0);
  }
  for (int i = 0; i < MANY; i += 3) /* moved, to and fro */
    CHECK_EQ_INT(mp_timers_set(&timers, &all[i].timer, 1 + i * 104729 % 1000), 0);
  for (int i = 0; i < MANY; i += 5) {
    mp_timers_clear(&timers, &all[i].timer);
    mp_timers_clear(&timers, &all[i].timer);
  }
  last_due = INT64_MIN;
  for (int64_t now = 0; now <= 1001; now += 13) {
    mp_timers_run(&timers, now);
    CHECK(mp_timers_next(&timers) > now);
  }
  for (int i = 0; i < MANY; i++) {
    CHECK_EQ_INT(all[i].fired, i % 5 != 0);
    CHECK(i % 5 == 0 || (all[i].fired_at >= all[i].timer.due_ms && all[i].fired_at < all[i].timer.due_ms + 13));
  }
  CHECK_EQ_INT(timers.count, 0);
  mp_timers_dispose(&timers);
}

TEST(timers_that_set_themselves_run_once_a_call)
{
  mp_timers timers;
  mp_timers_init(&timers);
  clocked c = { .timers = &timers, .again_ms = -5 };
  mp_timer_init(&c.timer, on_fire);
  last_due = INT64_MIN;
  CHECK_EQ_INT(mp_timers_set(&timers, &c.timer, 10), 0);
  mp_timers_run(&timers, 9);
  CHECK_EQ_INT(c.fired, 0);
  mp_timers_run(&timers, 10);
  CHECK_EQ_INT(c.fired, 1);
  last_due = INT64_MIN;
  mp_timers_run(&timers, 10);
  CHECK_EQ_INT(c.fired, 2);
  mp_timers_dispose(&timers);
  CHECK_EQ_INT(c.timer.slot, 0);
}

TEST(timers_without_memory_stay_as_they_were)
{
  FOR_EACH_ALLOC_FAILURE {
    enum { MANY = 40 };
    mp_timer all[MANY];
    mp_timers timers;
    mp_timers_init(&timers);
    size_t set = 0;
    for (int i = 0; i < MANY; i++) {
      mp_timer_init(&all[i], NULL);
      int rc = mp_timers_set(&timers, &all[i], MANY - i);
      CHECK(rc == 0 || (rc == MP_E_NOMEM && CHECK_ALLOC_FAILED()));
      CHECK_EQ_INT(all[i].slot != 0, rc == 0);
      set += rc == 0;
    }
    CHECK_EQ_INT(timers.count, set);
    for (int i = 0; i < MANY; i++)
      if (all[i].slot)
        CHECK_EQ_INT(mp_timers_set(&timers, &all[i], i), 0);
    mp_timers_dispose(&timers);
  }
}

/* ---- base64 ------------------------------------------------------------------------------------------------------ */

TEST(base64_of_rfc_4648)
{
  static const struct {
    const char *plain, *coded;
  } rows[] = { { "", "" },
               { "f", "Zg==" },
               { "fo", "Zm8=" },
               { "foo", "Zm9v" },
               { "foob", "Zm9vYg==" },
               { "fooba", "Zm9vYmE=" },
               { "foobar", "Zm9vYmFy" },
               { "\373\377", "+/8=" } };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_buf out;
    mp_buf_init(&out, 100, NULL);
    CHECK_EQ_INT(mp_base64_encode(&out, mp_str_c(rows[i].plain)), 0);
    CHECK_EQ_STR(mp_buf_view(&out), mp_str_c(rows[i].coded));
    mp_buf_cut(&out, 0);
    CHECK_EQ_INT(mp_base64_decode(&out, mp_str_c(rows[i].coded)), 0);
    CHECK_EQ_STR(mp_buf_view(&out), mp_str_c(rows[i].plain));
    mp_buf_dispose(&out);
  }
}

TEST(base64_is_strict)
{
  static const char *const bad[] = { "Z",    "Zg",   "Zg=",  "Zg===",    "=",
                                     "==",   "====", "Z===", "Zg==Zg==", "Zm9v\n",
                                     "Zm 9", "Zh==", "Zm9=", "Zm9-",     "Zm9_",
                                     "Zg=g", "=g==", "*",    "Zm9v*===", "\200\200\200\200" };
  mp_buf out;
  mp_buf_init(&out, 100, NULL);
  mp_buf_char(&out, 'x');
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (mp_base64_decode(&out, mp_str_c(bad[i])) != MP_E_SYNTAX)
      FAIL("\"%s\" is taken", bad[i]);
    CHECK_STR(mp_buf_view(&out), "x");
  }
  mp_buf_dispose(&out);
}

TEST(base64_comes_back_as_it_went)
{
  char octets[256];
  for (int i = 0; i < 256; i++)
    octets[i] = (char)(i * 7);
  for (size_t n = 0; n <= 256; n++) {
    mp_buf coded, back;
    mp_buf_init(&coded, 400, NULL);
    mp_buf_init(&back, 400, NULL);
    CHECK_EQ_INT(mp_base64_encode(&coded, mp_str_of(octets, n)), 0);
    CHECK_EQ_INT(mp_base64_decode(&back, mp_buf_view(&coded)), 0);
    CHECK_EQ_STR(mp_buf_view(&back), mp_str_of(octets, n));
    mp_buf_dispose(&coded);
    mp_buf_dispose(&back);
  }
}

TEST(base64_that_does_not_fit)
{
  mp_buf out;
  mp_buf_init(&out, 5, NULL);
  CHECK_EQ_INT(mp_base64_encode(&out, LIT("abcd")), MP_E_FULL);
  CHECK_EQ_INT(mp_base64_decode(&out, LIT("Zm9vYmFy")), MP_E_FULL);
  CHECK_EQ_INT(out.len, 0);
  mp_buf_dispose(&out);
  FOR_EACH_ALLOC_FAILURE {
    mp_buf_init(&out, 100, NULL);
    int rc = mp_base64_encode(&out, LIT("abcd"));
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_buf_dispose(&out);
    rc = mp_base64_decode(&out, LIT("Zm9vYmFy"));
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    mp_buf_dispose(&out);
  }
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

TEST(ip_text)
{
  static const struct {
    const char *in, *out;
    bool four;
  } rows[] = { { "192.0.2.1", "192.0.2.1", true },
               { "0.0.0.0", "0.0.0.0", true },
               { "255.255.255.255", "255.255.255.255", true },
               { "2001:DB8:0:0:0:0:0:1", "2001:db8::1", false },
               { "::", "::", false },
               { "::1", "::1", false },
               { "::ffff:192.0.2.1", "192.0.2.1", true },
               { "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1", false },
               { "fe80::ffff:ffff:ffff:ffff", "fe80::ffff:ffff:ffff:ffff", false },
               { "1111:2222:3333:4444:5555:6666:7777:8888", "1111:2222:3333:4444:5555:6666:7777:8888", false } };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    mp_ip ip;
    char text[MP_IP_TEXT];
    REQUIRE(mp_ip_parse(&ip, mp_str_c(rows[i].in)));
    CHECK_EQ_INT(mp_ip_format(&ip, text), strlen(rows[i].out));
    CHECK_EQ_STR(mp_str_c(text), mp_str_c(rows[i].out));
    CHECK_EQ_INT(mp_ip_is4(&ip), rows[i].four);
  }
  static const char *const bad[] = { "",
                                     "1",
                                     "1.2.3",
                                     "1.2.3.4.5",
                                     "256.1.1.1",
                                     "01.2.3.4",
                                     "1.2.3.4 ",
                                     " 1.2.3.4",
                                     "1.2.3.4%1",
                                     "fe80::1%eth0",
                                     "[::1]",
                                     ":::",
                                     "1::2::3",
                                     "12345::",
                                     "g::",
                                     "::1.2.3",
                                     "host",
                                     "0x7f.1",
                                     "1111:2222:3333:4444:5555:6666:7777:8888:9999",
                                     "1111:2222:3333:4444:5555:6666:192.168.100.100x" };
  mp_ip ip;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_ip_parse(&ip, mp_str_c(bad[i])))
      FAIL("\"%s\" is taken", bad[i]);
  CHECK(!mp_ip_parse(&ip, LIT("1.2.3.4\0")));
}

static bool within(const char *network, const char *address)
{
  mp_network net;
  mp_ip ip;
  return CHECK(mp_network_parse(&net, mp_str_c(network))) && CHECK(mp_ip_parse(&ip, mp_str_c(address))) &&
         mp_network_has(&net, &ip);
}

TEST(networks)
{
  CHECK(within("10.0.0.0/8", "10.255.0.1"));
  CHECK(!within("10.0.0.0/8", "11.0.0.0"));
  CHECK(within("192.0.2.128/25", "192.0.2.129"));
  CHECK(!within("192.0.2.128/25", "192.0.2.127"));
  CHECK(within("192.0.2.1", "192.0.2.1"));
  CHECK(within("192.0.2.1", "::ffff:192.0.2.1"));
  CHECK(!within("192.0.2.1", "192.0.2.2"));
  CHECK(within("0.0.0.0/0", "255.1.2.3"));
  CHECK(!within("0.0.0.0/0", "2001:db8::1"));
  CHECK(within("::/0", "192.0.2.1"));
  CHECK(within("2001:db8::/33", "2001:db8:7fff::"));
  CHECK(!within("2001:db8::/33", "2001:db8:8000::"));
  CHECK(within("2001:db8::1/128", "2001:db8::1"));
  static const char *const bad[] = {
    "",           "/8",     "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",  "10.0.0.0/8 ",
    "10.0.0.1/8", "::/129", "::1/127",   "host/8",      "10.0.0.0/8/8", "10.0.0.0/256"
  };
  mp_network net;
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    if (mp_network_parse(&net, mp_str_c(bad[i])))
      FAIL("\"%s\" is taken", bad[i]);
}

/* ---- token buckets ----------------------------------------------------------------------------------------------- */

TEST(rate_takes_and_refills)
{
  mp_rate rate;
  mp_rate_init(&rate, 10, 1000);
  for (int i = 0; i < 10; i++)
    CHECK(mp_rate_take(&rate, 1, 3600, 10, 1000));
  CHECK(!mp_rate_take(&rate, 1, 3600, 10, 1000));
  CHECK(!mp_rate_take(&rate, 1, 3600, 10, 1999));
  CHECK(mp_rate_take(&rate, 1, 3600, 10, 2000));
  CHECK(!mp_rate_take(&rate, 1, 3600, 10, 2000));
  CHECK(mp_rate_take(&rate, 10, 3600, 10, 1000000000)); /* full, not more */
  CHECK(!mp_rate_take(&rate, 1, 3600, 10, 1000000000));
  CHECK(!mp_rate_take(&rate, 1, 3600, 10, 5)); /* a clock that went back gives nothing */
  CHECK(!mp_rate_take(&rate, 11, 3600, 10, 2000000000));
}

TEST(rate_counts_small_steps)
{
  mp_rate rate;
  mp_rate_init(&rate, 1, 0);
  CHECK(mp_rate_take(&rate, 1, 60, 1, 0));
  for (int64_t now = 1; now < 60000; now++)
    CHECK(!mp_rate_take(&rate, 1, 60, 1, now));
  CHECK(mp_rate_take(&rate, 1, 60, 1, 61000));
}

TEST(rate_of_nothing_never_refills)
{
  mp_rate rate;
  mp_rate_init(&rate, 1, 0);
  CHECK(mp_rate_take(&rate, 1, 0, 1, 0));
  CHECK(!mp_rate_take(&rate, 1, 0, 1, INT64_MAX));
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

TEST(list_pushes_and_removes)
{
  mp_list head, a, b;
  mp_list_init(&head);
  mp_list_init(&a);
  mp_list_init(&b);
  CHECK(mp_list_empty(&head));
  mp_list_push(&head, &a);
  mp_list_push(&head, &b);
  CHECK(head.next == &a && a.next == &b && b.next == &head);
  mp_list_remove(&a);
  mp_list_remove(&a);
  CHECK(head.next == &b && mp_list_empty(&a));
  mp_list_remove(&b);
  CHECK(mp_list_empty(&head));
}

TEST(errors_have_names_and_texts)
{
  CHECK_CSTR(mp_error_name(MP_E_BARELF), "BARELF");
  CHECK_CSTR(mp_error_text(MP_E_NOMEM), "out of memory");
  CHECK_CSTR(mp_error_name(0), "UNKNOWN");
  CHECK_CSTR(mp_error_text(-9999), "unknown error");
  CHECK_EQ_INT(mp_error_errno(ENOSPC), MP_E_NOSPACE);
  CHECK_EQ_INT(mp_error_errno(EDQUOT), MP_E_NOSPACE);
  CHECK_EQ_INT(mp_error_errno(ENOMEM), MP_E_NOMEM);
  CHECK_EQ_INT(mp_error_errno(ENOTTY), MP_E_SYSTEM);
}

CHECK_MAIN
