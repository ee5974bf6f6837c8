/* SPDX-License-Identifier: MIT */
/* label_cache_memory.c - what the label cache keeps, what it lets go, and what it does when memory runs out. */
#include "tests/unit/label_cache.h"

#include "engine/label_store.h"
#include "tests/unit/alloc_fail.h"

static void the_least_recently_used_goes_first(void **state)
{
    /* Room for three rows and three lists of one label. */
    struct comma_label_cache *cache = cache_of(3 * bytes_of("a"));

    (void)state;
    request(cache, 1, "a");
    request(cache, 1, "b");
    request(cache, 1, "c");
    assert_int_equal(stats_of(cache).evictions, 0);
    assert_int_equal(request(cache, 1, "b,a"), 0); /* used again: now c is the oldest */
    assert_int_equal(request(cache, 1, "d"), 1);
    assert_int_equal(request(cache, 1, "a"), 0);
    assert_int_equal(request(cache, 1, "c"), 1);
    assert_true(stats_of(cache).evictions >= 1);
    assert_true(stats_of(cache).bytes <= stats_of(cache).max_bytes);
    comma_label_cache_destroy(cache);
}

static void keys_and_overhead_count_too(void **state)
{
    char longer[1001];

    (void)state;
    memset(longer, 'x', 1000);
    longer[1000] = '\0';
    /* A row and its list hold two keys and two features. */
    assert_true(bytes_of("a") >= 2 * (sizeof(struct comma_entry) + DIM * sizeof(float)));
    assert_in_range(bytes_of(longer) - bytes_of("a"), 2 * 999 - 128, 2 * 999 + 128);
}

static void bytes_stay_within_the_bound_however_many_labels_come(void **state)
{
    struct comma_label_cache *cache = cache_of(20000);
    char list[128];

    (void)state;
    for (int i = 0; i < 500; i++) {
        snprintf(list, sizeof(list), "x%d,y%d,z%d", i, i / 2, i % 7);
        request(cache, (uint64_t)i % 3, list);
        assert_true(stats_of(cache).bytes <= 20000);
    }
    assert_true(stats_of(cache).n_rows > 0);
    assert_true(stats_of(cache).evictions > 500);
    comma_label_cache_destroy(cache);
}

static void pinned_rows_stand_above_the_bound_until_they_are_released(void **state)
{
    struct comma_label_cache *cache = cache_of(bytes_of("a"));
    const size_t max = stats_of(cache).max_bytes;
    char room[MAX_LABELS * 4];
    const char *list = long_list(room);
    size_t todo[MAX_LABELS];
    struct comma_rows rows = fetch(cache, 1, list, todo);

    (void)state;
    store(cache, &rows, list, todo);
    assert_true(stats_of(cache).bytes > max);
    request(cache, 1, "other");
    wait_for(cache, &rows, list); /* all rows were still there */
    comma_rows_release(cache, &rows);
    assert_true(stats_of(cache).bytes <= max);
    comma_label_cache_destroy(cache);
}

static void a_matrix_larger_than_the_cache_does_not_push_out_its_rows(void **state)
{
    struct comma_label_cache *cache = cache_of(bytes_of("a"));
    char room[MAX_LABELS * 4];

    (void)state;
    assert_int_equal(request(cache, 1, long_list(room)), MAX_LABELS);
    assert_int_equal(stats_of(cache).n_lists, 0);
    assert_true(stats_of(cache).n_rows >= 1); /* as many of its rows as there is room for */
    assert_in_range(request(cache, 1, room), 1, MAX_LABELS - 1);
    assert_int_equal(stats_of(cache).list_hits, 0);
    assert_true(stats_of(cache).bytes <= stats_of(cache).max_bytes);
    comma_label_cache_destroy(cache);
}

static void a_cache_of_no_bytes_keeps_nothing_but_still_shares(void **state)
{
    struct comma_label_cache *cache = cache_of(0);
    size_t todo[2], none[2];
    struct comma_rows first = fetch(cache, 1, "cat,dog", todo), second = fetch(cache, 1, "dog", none);

    (void)state;
    assert_int_equal(second.n_todo, 0);
    store(cache, &first, "cat,dog", todo);
    wait_for(cache, &first, "cat,dog");
    comma_rows_release(cache, &first);
    wait_for(cache, &second, "dog");
    comma_rows_release(cache, &second);
    assert_int_equal(stats_of(cache).bytes, 0);
    assert_int_equal(stats_of(cache).n_rows, 0);
    assert_int_equal(stats_of(cache).n_lists, 0);
    assert_int_equal(request(cache, 1, "cat,dog"), 2);
    comma_label_cache_destroy(cache);
}

static void a_forgotten_owner_leaves_nothing_and_the_others_stay(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[2], others_bytes;
    struct comma_rows pinned, promised;

    (void)state;
    request(cache, 2, "cat,dog");
    others_bytes = stats_of(cache).bytes;
    request(cache, 1, "cat,dog");
    pinned = fetch(cache, 1, "cat,dog", todo);
    promised = fetch(cache, 1, "dog,cow", todo);
    comma_label_cache_forget(cache, 1);
    wait_for(cache, &pinned, "cat,dog"); /* lives until released */
    store(cache, &promised, "dog,cow", todo);
    wait_for(cache, &promised, "dog,cow");
    comma_rows_release(cache, &pinned);
    comma_rows_release(cache, &promised);
    assert_int_equal(stats_of(cache).bytes, others_bytes);
    assert_int_equal(stats_of(cache).n_rows, 2);
    assert_int_equal(request(cache, 2, "cat,dog"), 0);
    assert_int_equal(request(cache, 1, "cat,dog"), 2);
    comma_label_cache_destroy(cache);
}

/* One request in which the n-th allocation fails. False once none is left to fail. */
static bool fails_cleanly(struct comma_label_cache *cache, uint64_t owner, const char *list, long n)
{
    const struct comma_text template = comma_text_of("a photo of a {}.");
    struct comma_text labels[MAX_LABELS];
    struct comma_rows rows = { .n_labels = 12345 };
    struct comma_error err = { 0 };
    const size_t n_labels = split(list, labels);
    float features[MAX_LABELS * DIM];
    size_t todo[MAX_LABELS];
    bool failed, fetched, waited = false;

    alloc_fail_at(n);
    fetched = comma_label_cache_fetch(cache, owner, &template, 1, labels, n_labels, &rows, todo, &err);
    if (fetched) {
        encode(labels, todo, rows.n_todo, features);
        comma_label_cache_store(cache, &rows, features);
        waited = comma_label_cache_wait(cache, &rows, 0, &err);
        failed = alloc_fail_happened();
        comma_rows_release(cache, &rows);
    } else {
        failed = alloc_fail_happened();
        assert_int_equal(rows.n_labels, 12345); /* untouched */
    }
    assert_true(failed != waited);
    if (failed) {
        assert_int_equal(err.code, COMMA_E_NOMEM);
        assert_non_null(strstr(err.message, "out of memory"));
    }
    return failed;
}

static void when_memory_runs_out_nothing_leaks_and_nothing_stays_promised(void **state)
{
    char list[MAX_LABELS * 4];
    struct comma_label_cache *cache = NULL;
    struct comma_error err = { 0 };
    long n;

    (void)state;
    long_list(list);
    for (n = 0;; n++) {
        bool ok;

        alloc_fail_at(n);
        ok = comma_label_cache_create(DIM, 0, &cache, &err);
        if (!alloc_fail_happened())
            break;
        assert_false(ok);
        assert_int_equal(err.code, COMMA_E_NOMEM);
    }
    assert_int_equal(n, 3); /* the cache and two tables */
    for (n = 0; fails_cleanly(cache, 9, list, n); n++)
        assert_int_equal(stats_of(cache).bytes, 0);
    assert_true(n > MAX_LABELS);
    assert_int_equal(request(cache, 9, list), MAX_LABELS); /* all free to be promised */
    assert_int_equal(stats_of(cache).bytes, 0);
    comma_label_cache_destroy(cache);

    /* The same where rows are kept, each time for an owner that has none yet. */
    cache = cache_of(64 * PLENTY);
    for (n = 0; fails_cleanly(cache, (uint64_t)n, list, n); n++)
        assert_in_range(request(cache, (uint64_t)n, list), 0, MAX_LABELS);
    assert_true(n > MAX_LABELS);
    comma_label_cache_destroy(cache); /* asserts that nothing is pinned */
}

static void sizes_that_overflow_are_out_of_memory(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    const struct comma_text label = comma_text_of("cat"), huge[] = { { "x", SIZE_MAX / 2 }, { "y", SIZE_MAX / 2 + 9 } };
    struct comma_rows rows = { 0 };
    struct comma_error err;
    size_t todo[1];

    (void)state;
    assert_false(comma_label_cache_fetch(cache, 1, NULL, 0, &label, SIZE_MAX / 4, &rows, todo, &err));
    assert_int_equal(err.code, COMMA_E_NOMEM);
    assert_null(comma_entry_create(DIM, true, 0, huge, 2));
    assert_null(comma_entry_create(SIZE_MAX / 8, true, 0, &label, 1));
    comma_label_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(keys_and_overhead_count_too),
        cmocka_unit_test(bytes_stay_within_the_bound_however_many_labels_come),
        cmocka_unit_test(pinned_rows_stand_above_the_bound_until_they_are_released),
        cmocka_unit_test(a_matrix_larger_than_the_cache_does_not_push_out_its_rows),
        cmocka_unit_test(a_cache_of_no_bytes_keeps_nothing_but_still_shares),
        cmocka_unit_test(a_forgotten_owner_leaves_nothing_and_the_others_stay),
        cmocka_unit_test(when_memory_runs_out_nothing_leaks_and_nothing_stays_promised),
        cmocka_unit_test(sizes_that_overflow_are_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
