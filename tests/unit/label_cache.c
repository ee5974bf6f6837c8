/* SPDX-License-Identifier: MIT */
/* label_cache.c - how the label cache is used, and what it promises. The tests are in the order of a manual: one
 * request, lists, several requests, memory, threads. Features here are made from the label's bytes, so that a row that
 * belongs to another label is seen. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/label_cache.h"
#include "engine/label_store.h"
#include "tests/unit/alloc_fail.h"

enum { DIM = 4, MAX_LABELS = 64, PLENTY = 1 << 20, MS = 1000000 };

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* What the encoder would give for a label. */
static void features_of(struct comma_text label, float *out)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < label.size; i++)
        h = (h ^ (unsigned char)label.data[i]) * 16777619u;
    for (size_t i = 0; i < DIM; i++)
        out[i] = (float)(h >> (8 * i) & 0xFF) + (float)i * 0.25f;
}

static void encode(const struct comma_text *labels, const size_t *todo, size_t n_todo, float *out)
{
    for (size_t i = 0; i < n_todo; i++)
        features_of(labels[todo[i]], out + i * DIM);
}

static bool rows_are_right(const struct comma_rows *rows, const struct comma_text *labels)
{
    float expected[DIM];

    if (!rows->matrix)
        return false;
    for (size_t i = 0; i < rows->n_labels; i++) {
        features_of(labels[i], expected);
        if (memcmp(rows->matrix + i * DIM, expected, sizeof(expected)) != 0)
            return false;
    }
    return true;
}

static struct comma_label_cache *cache_of(size_t max_bytes)
{
    struct comma_label_cache *cache = NULL;
    struct comma_error err;

    assert_true(comma_label_cache_create(DIM, max_bytes, &cache, &err));
    return cache;
}

static struct comma_label_cache_stats stats_of(struct comma_label_cache *cache)
{
    struct comma_label_cache_stats stats;

    comma_label_cache_get_stats(cache, &stats);
    return stats;
}

/* "cat,dog" into texts that point into it. Returns how many. */
static size_t split(const char *list, struct comma_text *out)
{
    size_t n = 0;

    for (;;) {
        const size_t size = strcspn(list, ",");

        out[n++] = (struct comma_text){ list, size };
        if (list[size] == '\0')
            return n;
        list += size + 1;
    }
}

/* Fetches without templates; fails the test where the cache fails. */
static struct comma_rows fetch(struct comma_label_cache *cache, uint64_t owner, const char *list, size_t *todo)
{
    struct comma_text labels[MAX_LABELS];
    struct comma_rows rows;
    struct comma_error err;
    const size_t n = split(list, labels);

    assert_true(comma_label_cache_fetch(cache, owner, NULL, 0, labels, n, &rows, todo, &err));
    assert_int_equal(rows.n_labels, n);
    return rows;
}

static void store(struct comma_label_cache *cache, struct comma_rows *rows, const char *list, const size_t *todo)
{
    struct comma_text labels[MAX_LABELS];
    float features[MAX_LABELS * DIM];

    split(list, labels);
    encode(labels, todo, rows->n_todo, features);
    comma_label_cache_store(cache, rows, features);
}

static void wait_for(struct comma_label_cache *cache, struct comma_rows *rows, const char *list)
{
    struct comma_text labels[MAX_LABELS];
    struct comma_error err;

    split(list, labels);
    assert_true(comma_label_cache_wait(cache, rows, 0, &err));
    assert_true(rows_are_right(rows, labels));
}

/* A whole request, as the engine makes it. Returns how many labels it had to encode. */
static size_t request(struct comma_label_cache *cache, uint64_t owner, const char *list)
{
    size_t todo[MAX_LABELS], n_todo;
    struct comma_rows rows = fetch(cache, owner, list, todo);

    n_todo = rows.n_todo;
    if (n_todo > 0)
        store(cache, &rows, list, todo);
    wait_for(cache, &rows, list);
    comma_rows_release(cache, &rows);
    return n_todo;
}

/* "0,1,2,..." of MAX_LABELS labels. */
static const char *long_list(char *out)
{
    strcpy(out, "0");
    for (int i = 1; i < MAX_LABELS; i++)
        sprintf(out + strlen(out), ",%d", i);
    return out;
}

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

/* ---- memory ---- */

/* Bytes that a cache holds after a request for the list and nothing else. */
static size_t bytes_of(const char *list)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t bytes;

    request(cache, 1, list);
    bytes = stats_of(cache).bytes;
    comma_label_cache_destroy(cache);
    return bytes;
}

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

/* ---- threads ---- */

struct worker {
    struct comma_label_cache *cache;
    pthread_barrier_t *together;
    unsigned seed;
    size_t n_encoded;
    bool right;
};

/* A request on a thread of its own, where cmocka's asserts may not be used. */
static bool request_on_thread(struct worker *w, const char *list, bool give_up)
{
    struct comma_text labels[MAX_LABELS];
    float features[MAX_LABELS * DIM];
    size_t todo[MAX_LABELS];
    struct comma_rows rows;
    struct comma_error err;
    const size_t n = split(list, labels);
    bool ok;

    if (!comma_label_cache_fetch(w->cache, w->seed % 2, NULL, 0, labels, n, &rows, todo, &err))
        return false;
    w->n_encoded += rows.n_todo;
    if (w->together)
        pthread_barrier_wait(w->together); /* all have promised before anybody stores */
    encode(labels, todo, rows.n_todo, features);
    if (give_up)
        comma_rows_release(w->cache, &rows);
    else
        comma_label_cache_store(w->cache, &rows, features);
    if (give_up)
        return true;
    ok = comma_label_cache_wait(w->cache, &rows, comma_now_ns() + 60000 * (int64_t)MS, &err)
             ? rows_are_right(&rows, labels)
             : strstr(err.message, "given up") != NULL;
    comma_rows_release(w->cache, &rows);
    return ok;
}

static void *ask_forwards(void *arg)
{
    struct worker *w = arg;

    w->right = request_on_thread(w, "a,b,c,d,shared,e,f", false);
    return NULL;
}

static void *ask_backwards(void *arg)
{
    struct worker *w = arg;

    w->right = request_on_thread(w, "z,f,e,shared,d,y,a", false);
    return NULL;
}

static void two_threads_that_need_each_others_labels_both_get_them(void **state)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    pthread_barrier_t together;
    struct worker w[2] = { { .cache = cache, .together = &together }, { .cache = cache, .together = &together } };
    pthread_t thread[2];

    (void)state;
    pthread_barrier_init(&together, NULL, 2);
    assert_int_equal(pthread_create(&thread[0], NULL, ask_forwards, &w[0]), 0);
    assert_int_equal(pthread_create(&thread[1], NULL, ask_backwards, &w[1]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_true(w[0].right && w[1].right);
    assert_int_equal(w[0].n_encoded + w[1].n_encoded, 9); /* each distinct label once */
    pthread_barrier_destroy(&together);
    comma_label_cache_destroy(cache);
}

static void *ask_the_same(void *arg)
{
    struct worker *w = arg;

    w->right = request_on_thread(w, "a,b,c,d,e,f,g,h", false);
    return NULL;
}

static void many_threads_that_miss_one_list_encode_it_once_and_share_its_matrix(void **state)
{
    enum { THREADS = 8 };
    struct comma_label_cache *cache = cache_of(PLENTY);
    pthread_barrier_t together;
    struct worker w[THREADS];
    pthread_t thread[THREADS];
    size_t n_encoded = 0;

    (void)state;
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){ .cache = cache, .together = &together };
        assert_int_equal(pthread_create(&thread[i], NULL, ask_the_same, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(w[i].right);
        n_encoded += w[i].n_encoded;
    }
    assert_int_equal(n_encoded, 8);
    assert_int_equal(stats_of(cache).n_lists, 1);
    assert_int_equal(stats_of(cache).n_rows, 8);
    pthread_barrier_destroy(&together);
    comma_label_cache_destroy(cache);
}

/* Random lists of few labels, in a cache too small for all, some given up, owners forgotten now and then. */
static void *ask_anything(void *arg)
{
    struct worker *w = arg;

    w->right = true;
    for (int round = 0; round < 400 && w->right; round++) {
        char list[MAX_LABELS * 4] = "l0";
        const int n = 1 + rand_r(&w->seed) % 12;

        for (int i = 1; i < n; i++)
            sprintf(list + strlen(list), ",l%d", rand_r(&w->seed) % 30);
        w->right = request_on_thread(w, list, rand_r(&w->seed) % 16 == 0);
        if (rand_r(&w->seed) % 64 == 0)
            comma_label_cache_forget(w->cache, w->seed % 2);
    }
    return NULL;
}

static void threads_that_hit_miss_share_give_up_and_forget_never_see_a_wrong_row(void **state)
{
    enum { THREADS = 4 };
    struct comma_label_cache *cache = cache_of(12000);
    struct worker w[THREADS];
    pthread_t thread[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){ .cache = cache, .seed = 1 + i };
        assert_int_equal(pthread_create(&thread[i], NULL, ask_anything, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(w[i].right);
    }
    assert_true(stats_of(cache).bytes <= 12000);
    comma_label_cache_destroy(cache); /* asserts that nothing is pinned */
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
        cmocka_unit_test(the_least_recently_used_goes_first),
        cmocka_unit_test(keys_and_overhead_count_too),
        cmocka_unit_test(bytes_stay_within_the_bound_however_many_labels_come),
        cmocka_unit_test(pinned_rows_stand_above_the_bound_until_they_are_released),
        cmocka_unit_test(a_matrix_larger_than_the_cache_does_not_push_out_its_rows),
        cmocka_unit_test(a_cache_of_no_bytes_keeps_nothing_but_still_shares),
        cmocka_unit_test(a_forgotten_owner_leaves_nothing_and_the_others_stay),
        cmocka_unit_test(when_memory_runs_out_nothing_leaks_and_nothing_stays_promised),
        cmocka_unit_test(sizes_that_overflow_are_out_of_memory),
        cmocka_unit_test(two_threads_that_need_each_others_labels_both_get_them),
        cmocka_unit_test(many_threads_that_miss_one_list_encode_it_once_and_share_its_matrix),
        cmocka_unit_test(threads_that_hit_miss_share_give_up_and_forget_never_see_a_wrong_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
