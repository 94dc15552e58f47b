/* conn/shared: values, time, ceilings, counters, buckets; and all of it from many threads at once. */
#include "support/check.h"

#include "base/error.h"
#include "conn/shared.h"

#include <pthread.h>

static mp_shared_set *set;

static mp_shared *fresh(size_t memory, size_t entries)
{
  mp_shared *table = NULL;
  mp_shared_set_unref(set);
  set = NULL;
  if (mp_shared_set_new(&set) == 0)
    mp_shared_open(set, MP_STR("table"), memory, entries, &table);
  return table;
}

static mp_shared_value whole(int64_t i)
{
  return (mp_shared_value){ .kind = MP_SHARED_INT, .i = i };
}

static mp_shared_value text(mp_str s)
{
  return (mp_shared_value){ .kind = MP_SHARED_STR, .s = s };
}

static int put_int(mp_shared *table, const char *key, int64_t i, int64_t ttl_ms, int64_t now_ms)
{
  mp_shared_value value = whole(i);
  return mp_shared_put(table, mp_str_c(key), &value, ttl_ms, now_ms);
}

/* -1 when there is none. */
static int64_t get_int(mp_shared *table, const char *key, int64_t now_ms)
{
  mp_shared_value value;
  mp_shared_get(table, mp_str_c(key), now_ms, &value, NULL, 0);
  return value.kind == MP_SHARED_INT ? value.i : -1;
}

TEST(a_name_is_one_table_for_all_who_ask)
{
  mp_shared *table = fresh(0, 0), *same, *other;
  REQUIRE(table);
  CHECK_EQ_INT(mp_shared_open(set, MP_STR("table"), 1, 1, &same), 0);
  CHECK_EQ_INT(mp_shared_open(set, MP_STR("ta\0ble"), 0, 0, &other), 0);
  CHECK(same == table);
  CHECK(other != table);
  CHECK_EQ_INT(mp_shared_open(set, MP_STR("ta\0ble"), 0, 0, &same), 0);
  CHECK(same == other);
  CHECK_EQ_INT(mp_shared_open(set, MP_STR(""), 0, 0, &same), MP_E_INVALID);
}

TEST(values_of_every_kind_come_back)
{
  mp_shared *table = fresh(0, 0);
  REQUIRE(table);
  mp_shared_value value = { .kind = MP_SHARED_BOOL, .b = true }, got;
  char room[8];
  CHECK_EQ_INT(mp_shared_put(table, MP_STR("flag"), &value, 0, 0), 0);
  value = (mp_shared_value){ .kind = MP_SHARED_NUM, .n = 0.5 };
  CHECK_EQ_INT(mp_shared_put(table, MP_STR("num"), &value, 0, 0), 0);
  value = text(MP_STR("a\0b"));
  CHECK_EQ_INT(mp_shared_put(table, MP_STR("k\0ey"), &value, 0, 0), 0);
  mp_shared_get(table, MP_STR("flag"), 0, &got, NULL, 0);
  CHECK(got.kind == MP_SHARED_BOOL && got.b);
  mp_shared_get(table, MP_STR("num"), 0, &got, NULL, 0);
  CHECK(got.kind == MP_SHARED_NUM && got.n == 0.5);
  CHECK_EQ_INT(mp_shared_get(table, MP_STR("k\0ey"), 0, &got, room, sizeof room), 3);
  CHECK_STR(got.s, "a\0b");
  CHECK_EQ_INT(mp_shared_get(table, MP_STR("k\0ey"), 0, &got, room, 2), 3);
  CHECK_STR(got.s, "a\0");
  mp_shared_get(table, MP_STR("k"), 0, &got, room, sizeof room);
  CHECK_EQ_INT(got.kind, MP_SHARED_NONE);
  CHECK(mp_shared_delete(table, MP_STR("flag"), 0));
  CHECK(!mp_shared_delete(table, MP_STR("flag"), 0));
  CHECK_EQ_INT(mp_shared_count(table, 0), 2);
  mp_shared_clear(table);
  CHECK_EQ_INT(mp_shared_count(table, 0), 0);
}

TEST(a_time_to_live_ends)
{
  mp_shared *table = fresh(0, 0);
  REQUIRE(table);
  put_int(table, "k", 1, 100, 1000);
  put_int(table, "for ever", 2, 0, 1000);
  CHECK_EQ_INT(get_int(table, "k", 1099), 1);
  CHECK_EQ_INT(get_int(table, "k", 1100), -1);
  CHECK_EQ_INT(mp_shared_count(table, 1100), 1);
  mp_shared_value value = whole(3);
  CHECK_EQ_INT(mp_shared_add(table, MP_STR("k"), &value, 0, 1100), 1);
  CHECK_EQ_INT(mp_shared_add(table, MP_STR("k"), &value, 0, 1100), 0);
}

TEST(a_counter_starts_at_nothing_and_keeps_its_first_end)
{
  mp_shared *table = fresh(0, 0);
  REQUIRE(table);
  mp_shared_value by = whole(2), sum, half = { .kind = MP_SHARED_NUM, .n = 0.5 };
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("n"), &by, 100, 0, &sum), 0);
  CHECK_EQ_INT(sum.i, 2);
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("n"), &by, 100, 50, &sum), 0);
  CHECK_EQ_INT(sum.i, 4);
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("n"), &by, 100, 100, &sum), 0);
  CHECK_EQ_INT(sum.i, 2);
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("n"), &half, 0, 100, &sum), 0);
  CHECK(sum.kind == MP_SHARED_NUM && sum.n == 2.5);
  put_int(table, "big", INT64_MAX, 0, 0);
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("big"), &by, 0, 0, &sum), MP_E_INVALID);
  CHECK_EQ_INT(get_int(table, "big", 0), INT64_MAX);
  mp_shared_value word = text(MP_STR("word"));
  mp_shared_put(table, MP_STR("word"), &word, 0, 0);
  CHECK_EQ_INT(mp_shared_incr(table, MP_STR("word"), &by, 0, 0, &sum), MP_E_INVALID);
}

TEST(a_bucket_gives_its_count_and_refills_evenly)
{
  mp_shared *table = fresh(0, 0);
  REQUIRE(table);
  int64_t wait, hour = 3600000;
  for (int i = 0; i < 10; i++)
    CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 1, 5000, &wait), 1);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 1, 5000, &wait), 0);
  CHECK_EQ_INT(wait, 360000);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 1, 5000 + 359999, &wait), 0);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 1, 5000 + 360000, &wait), 1);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 1, 5000 + 360000, &wait), 0);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 10, 5000 + 10 * hour, &wait), 1);
  CHECK_EQ_INT(mp_shared_rate(table, MP_STR("k"), 10, hour, 11, 0, &wait), MP_E_INVALID);
  CHECK_EQ_INT(get_int(table, "k", 5000 + 10 * hour), -1);
  CHECK_EQ_INT(mp_shared_count(table, 5000 + 11 * hour + 1), 0);
  /* asked far more often than it fills, it still fills as it should */
  int taken = 0;
  for (int64_t now = 0; now < hour; now += 100)
    taken += mp_shared_rate(table, MP_STR("often"), 10, hour, 1, now, &wait);
  CHECK_EQ_INT(taken, 19);
}

TEST(the_oldest_is_forgotten_at_the_ceiling_of_entries)
{
  mp_shared *table = fresh(0, 3);
  REQUIRE(table);
  put_int(table, "a", 1, 0, 0);
  put_int(table, "b", 2, 0, 0);
  put_int(table, "c", 3, 0, 0);
  put_int(table, "a", 4, 0, 0); /* written again: b is the oldest now */
  put_int(table, "d", 5, 0, 0);
  CHECK_EQ_INT(get_int(table, "b", 0), -1);
  CHECK_EQ_INT(get_int(table, "a", 0), 4);
  CHECK_EQ_INT(get_int(table, "d", 0), 5);
  CHECK_EQ_INT(mp_shared_count(table, 0), 3);
}

TEST(the_ceiling_of_octets_holds_and_one_value_cannot_empty_a_table)
{
  static char octets[20000];
  mp_shared *table = fresh(65536, 1000);
  REQUIRE(table);
  mp_shared_value value = text(mp_str_of(octets, 7000));
  char key[16];
  for (int i = 0; i < 100; i++) {
    snprintf(key, sizeof key, "key %d", i);
    CHECK_EQ_INT(mp_shared_put(table, mp_str_c(key), &value, 0, 0), 0);
  }
  CHECK_EQ_INT(mp_shared_count(table, 0), 9);
  value.s.len = sizeof octets;
  CHECK_EQ_INT(mp_shared_put(table, mp_str_c(key), &value, 0, 0), MP_E_FULL);
  CHECK_EQ_INT(mp_shared_get(table, mp_str_c(key), 0, &value, NULL, 0), 7000);
  value = text(MP_STR("x"));
  CHECK_EQ_INT(mp_shared_put(table, mp_str_of(octets, MP_SHARED_KEY_MOST + 1), &value, 0, 0), MP_E_INVALID);
}

TEST(many_entries_are_found_again)
{
  mp_shared *table = fresh(0, 0);
  REQUIRE(table);
  char key[16];
  for (int i = 0; i < 50000; i++) {
    snprintf(key, sizeof key, "%d", i);
    put_int(table, key, i, 0, 0);
  }
  int found = 0;
  for (int i = 0; i < 50000; i++) {
    snprintf(key, sizeof key, "%d", i);
    found += get_int(table, key, 0) == i;
  }
  CHECK_EQ_INT(found, 50000);
  CHECK_EQ_INT(mp_shared_count(table, 0), 50000);
}

TEST(a_failed_allocation_leaves_the_old_value)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_shared *table = fresh(0, 0);
    if (!table) {
      CHECK(CHECK_ALLOC_FAILED());
      continue;
    }
    char key[16];
    bool ok = true;
    for (int i = 0; i < 40; i++) {
      snprintf(key, sizeof key, "%d", i);
      ok = put_int(table, key, i, 0, 0) == 0 && ok;
    }
    bool had = get_int(table, "7", 0) == 7;
    mp_shared_value value = text(MP_STR("new"));
    int rc = mp_shared_put(table, MP_STR("7"), &value, 0, 0);
    CHECK(rc == 0 || (CHECK_ALLOC_FAILED() && (get_int(table, "7", 0) == 7) == had));
    CHECK(ok || CHECK_ALLOC_FAILED());
  }
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *work(void *arg)
{
  mp_shared *table = arg, *mine = NULL;
  mp_shared_value one = whole(1), sum, got;
  char key[24], room[32];
  int64_t wait;
  intptr_t taken = 0;
  for (int i = 0; i < ROUNDS; i++) {
    mp_shared_incr(table, MP_STR("sum"), &one, 0, 0, &sum);
    taken += mp_shared_rate(table, MP_STR("rate"), 1000, 1000, 1, 0, &wait);
    snprintf(key, sizeof key, "key %d", i % 5000);
    mp_shared_value value = text(mp_str_c(key));
    mp_shared_put(table, mp_str_c(key), &value, 0, 0);
    size_t len = mp_shared_get(table, mp_str_c(key), 0, &got, room, sizeof room);
    if (got.kind == MP_SHARED_STR)
      CHECK_EQ_STR(mp_str_of(room, len), mp_str_c(key));
    if (i % 1000 == 0) {
      mp_shared_count(table, 0);
      snprintf(key, sizeof key, "table %d", i);
      CHECK_EQ_INT(mp_shared_open(set, mp_str_c(key), 0, 0, &mine), 0);
    }
    if (i % 7 == 0)
      mp_shared_delete(table, mp_str_c(key), 0);
  }
  mp_shared_set_unref(set);
  return (void *)taken;
}

TEST(threads_lose_no_count)
{
  mp_shared *table = fresh(1 << 20, 100000);
  REQUIRE(table);
  pthread_t threads[THREADS];
  intptr_t taken = 0;
  for (int i = 0; i < THREADS; i++) {
    mp_shared_set_ref(set);
    REQUIRE(pthread_create(&threads[i], NULL, work, table) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    void *result;
    pthread_join(threads[i], &result);
    taken += (intptr_t)result;
  }
  CHECK_EQ_INT(get_int(table, "sum", 0), THREADS * ROUNDS);
  CHECK_EQ_INT(taken, 1000);
  mp_shared_set_unref(set);
  set = NULL;
}

CHECK_MAIN
