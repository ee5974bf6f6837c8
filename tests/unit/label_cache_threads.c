/* SPDX-License-Identifier: MIT */
/* label_cache_threads.c - requests of many threads on one label cache; ThreadSanitizer runs it too. */
#include <pthread.h>

#include "tests/unit/label_cache.h"

#include "engine/base/clock.h"

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
        cmocka_unit_test(two_threads_that_need_each_others_labels_both_get_them),
        cmocka_unit_test(many_threads_that_miss_one_list_encode_it_once_and_share_its_matrix),
        cmocka_unit_test(threads_that_hit_miss_share_give_up_and_forget_never_see_a_wrong_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
