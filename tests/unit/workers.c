/* SPDX-License-Identifier: MIT */
/* workers.c - threads that run tasks of their own and help with others' regions. Runs under ThreadSanitizer too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/workers.h"

#define N_TASKS 400

struct client {
    struct comma_pool *pool;
    size_t queued, given;
    atomic_size_t ran;
    int tasks[N_TASKS]; /* written by the thread that runs the task */
    size_t region;      /* chunks of each task's region */
    atomic_size_t chunks;
};

static void *take(void *user, unsigned idle)
{
    struct client *c = user;

    (void)idle;
    return c->given < c->queued ? &c->tasks[c->given++] : NULL;
}

struct sum {
    struct client *client;
    unsigned char seen[64];
};

static void add_chunk(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks)
{
    struct sum *s = arg;
    unsigned char *scratch = comma_arena_take(&self->helper, 64);

    scratch[0] = 1;
    s->seen[chunk] = (unsigned char)(s->seen[chunk] + scratch[0]);
    atomic_fetch_add(&s->client->chunks, n_chunks > 0);
}

static void run(void *user, void *task, struct comma_worker *w)
{
    struct client *c = user;
    struct sum s = { .client = c };
    bool each_once = true;

    if (c->region)
        comma_parallel(w, c->region, add_chunk, &s);
    for (size_t i = 0; i < c->region; i++)
        each_once = each_once && s.seen[i] == 1;
    *(int *)task = each_once ? 1 : -1;
    atomic_fetch_add(&c->ran, 1);
}

static void run_tasks(unsigned n_threads, size_t region)
{
    struct client *c = calloc(1, sizeof(*c));
    const struct comma_pool_client client = { c, take, run };
    struct comma_error err;

    c->region = region;
    assert_true(comma_pool_create(n_threads, 1024, 1024, &client, &c->pool, &err));
    assert_int_equal(comma_pool_size(c->pool), n_threads);
    for (size_t i = 0; i < N_TASKS; i++) {
        comma_pool_lock(c->pool);
        c->queued++;
        comma_pool_wake(c->pool);
        comma_pool_unlock(c->pool);
    }
    comma_pool_destroy(c->pool); /* runs what was queued */
    assert_int_equal(atomic_load(&c->ran), N_TASKS);
    assert_int_equal(atomic_load(&c->chunks), N_TASKS * region);
    for (size_t i = 0; i < N_TASKS; i++)
        assert_int_equal(c->tasks[i], 1);
    free(c);
}

static void every_task_runs_once_on_any_number_of_threads(void **state)
{
    (void)state;
    run_tasks(1, 0);
    run_tasks(2, 0);
    run_tasks(5, 0);
}

static void every_chunk_of_a_region_runs_once(void **state)
{
    (void)state;
    run_tasks(1, 7);
    run_tasks(2, 2);
    run_tasks(4, 64);
    run_tasks(3, 1);
}

static void chunks_cover_all_units_without_overlap(void **state)
{
    (void)state;
    for (size_t units = 0; units < 50; units++)
        for (size_t n = 1; n < 12; n++) {
            assert_int_equal(comma_chunk_begin(units, 0, n), 0);
            assert_int_equal(comma_chunk_begin(units, n, n), units);
            for (size_t i = 0; i < n; i++)
                assert_true(comma_chunk_begin(units, i, n) <= comma_chunk_begin(units, i + 1, n));
        }
}

static void a_pool_without_tasks_comes_and_goes(void **state)
{
    struct client *c = calloc(1, sizeof(*c));
    const struct comma_pool_client client = { c, take, run };
    struct comma_error err;

    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_true(comma_pool_create(3, 64, 64, &client, &c->pool, &err));
        comma_pool_destroy(c->pool);
    }
    comma_pool_destroy(NULL);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_on_any_number_of_threads),
        cmocka_unit_test(every_chunk_of_a_region_runs_once),
        cmocka_unit_test(chunks_cover_all_units_without_overlap),
        cmocka_unit_test(a_pool_without_tasks_comes_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
