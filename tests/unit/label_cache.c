/* SPDX-License-Identifier: MIT */
/* label_cache.c - how the label cache is used, and what it promises: one request, whole lists, several requests.
 * The tests are in the order of a manual. */
#include "tests/unit/label_cache.h"

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/label_store.h"

/* ---- one request ---- */

static void a_new_label_is_encoded_and_the_next_request_finds_it(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[3];
    struct comma_rows rows = fetch(cache, 1, "cat,dog,cow", todo);

    (void)state;
    assert_int_equal(rows.n_todo, 3);
    assert_int_equal(rows.n_cached, 0);
    assert_null(rows.matrix);
    assert_true(todo[0] == 0 && todo[1] == 1 && todo[2] == 2);
    store(cache, &rows, "cat,dog,cow", todo);
    wait_for(cache, &rows, "cat,dog,cow");
    comma_rows_release(cache, &rows);

    rows = fetch(cache, 1, "dog,horse", todo);
    assert_int_equal(rows.n_todo, 1);
    assert_int_equal(todo[0], 1); /* an index into labels */
    assert_int_equal(rows.n_cached, 1);
    store(cache, &rows, "dog,horse", todo);
    wait_for(cache, &rows, "dog,horse");
    comma_rows_release(cache, &rows);
    comma_label_cache_destroy(cache);
}

static void a_label_that_a_list_repeats_is_encoded_once(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[5];
    struct comma_rows rows = fetch(cache, 1, "cat,dog,cat,cat,dog", todo);

    (void)state;
    assert_int_equal(rows.n_todo, 2);
    assert_true(todo[0] == 0 && todo[1] == 1);
    assert_int_equal(rows.n_cached, 0);
    store(cache, &rows, "cat,dog,cat,cat,dog", todo);
    wait_for(cache, &rows, "cat,dog,cat,cat,dog");
    comma_rows_release(cache, &rows);
    assert_int_equal(stats_of(cache).n_rows, 2);
    assert_int_equal(stats_of(cache).misses, 5);
    comma_label_cache_destroy(cache);
}

static void owner_templates_and_label_make_the_key(void **state)
{
    static const struct {
        const char *what;
        uint64_t owner;
        const char *templates, *label;
        size_t label_size;
    } cases[] = {
        { "a label", 1, NULL, "cat", 3 },
        { "another owner", 2, NULL, "cat", 3 },
        { "a template", 1, "a {}.", "cat", 3 },
        { "two templates", 1, "a {}.,the {}.", "cat", 3 },
        { "the same in another order", 1, "the {}.,a {}.", "cat", 3 },
        { "one template that is both", 1, "a {}.the {}.", "cat", 3 },
        { "an empty template", 1, "", "cat", 3 },
        { "two empty templates", 1, ",", "cat", 3 },
        { "another case", 1, NULL, "Cat", 3 },
        { "a shorter label", 1, NULL, "ca", 2 },
        { "a zero byte behind", 1, NULL, "cat", 4 },
        { "no letter at all", 1, NULL, "", 0 },
    };
    struct comma_label_cache *cache = cache_of(PLENTY);

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < N(cases); i++) {
            const struct comma_text label = { cases[i].label_size ? cases[i].label : NULL, cases[i].label_size };
            struct comma_text templates[4];
            const size_t n_templates = cases[i].templates ? split(cases[i].templates, templates) : 0;
            float row[DIM] = { (float)i };
            struct comma_rows rows;
            struct comma_error err;
            size_t todo[1];

            assert_true(
                comma_label_cache_fetch(cache, cases[i].owner, templates, n_templates, &label, 1, &rows, todo, &err));
            if (rows.n_todo != (round == 0 ? 1u : 0u))
                fail_msg("%s: %zu to encode in round %d", cases[i].what, rows.n_todo, round);
            if (rows.n_todo > 0)
                comma_label_cache_store(cache, &rows, row);
            assert_true(comma_label_cache_wait(cache, &rows, 0, &err));
            assert_true(rows.matrix[0] == (float)i);
            comma_rows_release(cache, &rows);
        }
    }
    comma_label_cache_destroy(cache);
}

static void labels_of_one_hash_are_told_apart(void **state)
{
    const struct comma_text cat = comma_text_of("cat"), dog = comma_text_of("dog");
    const struct comma_text pair[] = { cat, dog };
    struct comma_store s;
    struct comma_error err;
    struct comma_scope *scope;
    struct comma_entry *entry[3];

    (void)state;
    assert_true(comma_store_init(&s, DIM, PLENTY, &err));
    scope = comma_scope_get(&s, 1, NULL, 0);
    entry[0] = comma_entry_create(DIM, false, 7, &cat, 1);
    entry[1] = comma_entry_create(DIM, false, 7, &dog, 1);
    entry[2] = comma_entry_create(DIM, true, 7, &cat, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_non_null(entry[i]);
        assert_true(comma_store_reserve(&s, 1));
        comma_store_insert(&s, scope, entry[i]);
    }
    assert_ptr_equal(comma_store_find(&s, scope, false, 7, &cat, 1), entry[0]);
    assert_ptr_equal(comma_store_find(&s, scope, false, 7, &dog, 1), entry[1]);
    assert_ptr_equal(comma_store_find(&s, scope, true, 7, &cat, 1), entry[2]);
    assert_null(comma_store_find(&s, scope, true, 7, pair, 2));
    assert_null(comma_store_find(&s, scope, false, 8, &cat, 1));
    for (size_t i = 0; i < 3; i++)
        comma_store_unpin(&s, entry[i]);
    comma_scope_unref(&s, scope);
    comma_store_finish(&s);
}

/* ---- whole lists ---- */

static void a_list_seen_before_is_one_look_up(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    const char *list = "cat,dog,cat,cow";
    size_t todo[4];
    struct comma_rows first, second;

    (void)state;
    first = fetch(cache, 1, list, todo);
    store(cache, &first, list, todo);
    wait_for(cache, &first, list);
    second = fetch(cache, 1, list, todo);
    assert_ptr_equal(second.matrix, first.matrix); /* ready at once, and no copy */
    assert_int_equal(second.n_todo, 0);
    assert_int_equal(second.n_cached, 4);
    wait_for(cache, &second, list);
    assert_true((uintptr_t)first.matrix % COMMA_ALIGN == 0);
    comma_rows_release(cache, &first);
    wait_for(cache, &second, list); /* still pinned by the other */
    comma_rows_release(cache, &second);
    assert_int_equal(stats_of(cache).list_hits, 1);
    assert_int_equal(stats_of(cache).n_lists, 1);
    comma_label_cache_destroy(cache);
}

static void another_order_is_another_list_of_the_same_rows(void **state)
{
    static const char *const others[] = { "dog,cat", "cat", "cat,dog,dog", "catd,og", "cat,do,g" };
    static const size_t to_encode[] = { 0, 0, 0, 2, 2 };
    struct comma_label_cache *cache = cache_of(PLENTY);

    (void)state;
    request(cache, 1, "cat,dog");
    for (size_t i = 0; i < N(others); i++)
        assert_int_equal(request(cache, 1, others[i]), to_encode[i]);
    assert_int_equal(request(cache, 2, "cat,dog"), 2);
    assert_int_equal(stats_of(cache).list_hits, 0);
    assert_int_equal(request(cache, 1, "cat,dog"), 0);
    assert_int_equal(stats_of(cache).list_hits, 1);
    comma_label_cache_destroy(cache);
}

static void a_hundred_thousand_labels_are_one_list_like_any_other(void **state)
{
    enum { MANY = 100000 };
    struct comma_label_cache *cache = cache_of((size_t)128 << 20);
    char *names = malloc(MANY * 16);
    struct comma_text *labels = malloc(MANY * sizeof(*labels));
    size_t *todo = malloc(MANY * sizeof(*todo));
    float *features = malloc(MANY * DIM * sizeof(*features));
    struct comma_error err;
    struct comma_rows rows;

    (void)state;
    assert_true(names && labels && todo && features);
    for (size_t i = 0; i < MANY; i++)
        labels[i] = (struct comma_text){ names + 16 * i, (size_t)sprintf(names + 16 * i, "label %zu", i) };
    for (int round = 0; round < 2; round++) {
        assert_true(comma_label_cache_fetch(cache, 1, NULL, 0, labels, MANY, &rows, todo, &err));
        assert_int_equal(rows.n_todo, round == 0 ? MANY : 0);
        encode(labels, todo, rows.n_todo, features);
        if (rows.n_todo > 0)
            comma_label_cache_store(cache, &rows, features);
        assert_true(comma_label_cache_wait(cache, &rows, 0, &err));
        assert_true(rows_are_right(&rows, labels));
        comma_rows_release(cache, &rows);
    }
    assert_int_equal(stats_of(cache).list_hits, 1);
    assert_int_equal(stats_of(cache).n_rows, MANY);
    comma_label_cache_destroy(cache);
    free(names);
    free(labels);
    free(todo);
    free(features);
}

/* ---- several requests ---- */

static void a_promised_label_is_left_to_its_promiser(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[2], none[1];
    struct comma_rows first = fetch(cache, 1, "cat,dog", todo), second = fetch(cache, 1, "dog", none);

    (void)state;
    assert_int_equal(first.n_todo, 2);
    assert_int_equal(second.n_todo, 0);
    assert_int_equal(second.n_cached, 0); /* it has to wait */
    store(cache, &first, "cat,dog", todo);
    wait_for(cache, &second, "dog");
    wait_for(cache, &first, "cat,dog");
    comma_rows_release(cache, &first);
    wait_for(cache, &second, "dog");
    comma_rows_release(cache, &second);
    assert_int_equal(stats_of(cache).shared, 1);
    comma_label_cache_destroy(cache);
}

static void hits_misses_and_shared_add_up_to_the_labels_asked_for(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[4], none[4];
    struct comma_rows first, second;
    struct comma_label_cache_stats stats;

    (void)state;
    request(cache, 1, "a,b");                /* 2 missed */
    request(cache, 1, "a,b");                /* 2 hit, as a list */
    first = fetch(cache, 1, "a,c,d", todo);  /* 1 hit, 2 missed */
    second = fetch(cache, 1, "b,c,d", none); /* 1 hit, 2 shared */
    store(cache, &first, "a,c,d", todo);
    comma_rows_release(cache, &first);
    comma_rows_release(cache, &second);
    stats = stats_of(cache);
    assert_int_equal(stats.misses, 4);
    assert_int_equal(stats.hits, 4);
    assert_int_equal(stats.shared, 2);
    assert_int_equal(stats.list_hits, 1);
    assert_int_equal(stats.evictions, 0);
    assert_int_equal(stats.n_rows, 4);
    assert_int_equal(stats.n_lists, 1);
    assert_int_equal(stats.max_bytes, PLENTY);
    comma_label_cache_destroy(cache);
}

static void who_shares_an_abandoned_label_gets_the_reason_and_the_next_one_promises_it(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[2], none[2];
    struct comma_rows first = fetch(cache, 1, "cat,dog", todo), second = fetch(cache, 1, "dog", none), third;
    struct comma_error why, err = { 0 };

    (void)state;
    comma_fail(&why, COMMA_E_INPUT, "label 1 has 80 tokens; 77 fit");
    comma_label_cache_abandon(cache, &first, &why);
    assert_false(comma_label_cache_wait(cache, &second, 0, &err));
    assert_int_equal(err.code, COMMA_E_INPUT);
    assert_string_equal(err.message, "label 1 has 80 tokens; 77 fit");
    third = fetch(cache, 1, "dog", todo);
    assert_int_equal(third.n_todo, 1);
    store(cache, &third, "dog", todo);
    assert_false(comma_label_cache_wait(cache, &second, 0, &err)); /* what failed stays failed */
    assert_false(comma_label_cache_wait(cache, &first, 0, &err));
    wait_for(cache, &third, "dog");
    comma_rows_release(cache, &first);
    comma_rows_release(cache, &second);
    comma_rows_release(cache, &third);
    assert_int_equal(stats_of(cache).n_rows, 1);
    comma_label_cache_destroy(cache);
}

static void a_release_gives_up_what_was_still_promised(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[2], none[2];
    struct comma_rows first = fetch(cache, 1, "cat,dog", todo), second = fetch(cache, 1, "dog", none);
    struct comma_error err = { 0 };

    (void)state;
    comma_rows_release(cache, &first);
    assert_null(first.list);
    comma_rows_release(cache, &first); /* a zeroed struct is fine */
    assert_false(comma_label_cache_wait(cache, &second, 0, &err));
    assert_int_equal(err.code, COMMA_E_CANCELLED);
    assert_non_null(strstr(err.message, "given up"));
    comma_rows_release(cache, &second);
    assert_int_equal(request(cache, 1, "cat,dog"), 2);
    comma_label_cache_destroy(cache);
}

static void a_wait_ends_at_its_deadline(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t todo[1], none[1];
    struct comma_rows first = fetch(cache, 1, "cat", todo), second = fetch(cache, 1, "cat", none);
    struct comma_error err = { 0 };

    (void)state;
    assert_false(comma_label_cache_wait(cache, &second, comma_now_ns() + 20 * MS, &err));
    assert_int_equal(err.code, COMMA_E_CANCELLED);
    assert_non_null(strstr(err.message, "deadline"));
    assert_false(comma_label_cache_wait(cache, &second, 1, &err)); /* long past */
    store(cache, &first, "cat", todo);
    assert_true(comma_label_cache_wait(cache, &second, 1, &err)); /* what is there needs no waiting */
    comma_rows_release(cache, &first);
    comma_rows_release(cache, &second);
    comma_label_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_label_is_encoded_and_the_next_request_finds_it),
        cmocka_unit_test(a_label_that_a_list_repeats_is_encoded_once),
        cmocka_unit_test(owner_templates_and_label_make_the_key),
        cmocka_unit_test(labels_of_one_hash_are_told_apart),
        cmocka_unit_test(a_list_seen_before_is_one_look_up),
        cmocka_unit_test(another_order_is_another_list_of_the_same_rows),
        cmocka_unit_test(a_hundred_thousand_labels_are_one_list_like_any_other),
        cmocka_unit_test(a_promised_label_is_left_to_its_promiser),
        cmocka_unit_test(hits_misses_and_shared_add_up_to_the_labels_asked_for),
        cmocka_unit_test(who_shares_an_abandoned_label_gets_the_reason_and_the_next_one_promises_it),
        cmocka_unit_test(a_release_gives_up_what_was_still_promised),
        cmocka_unit_test(a_wait_ends_at_its_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
