/* SPDX-License-Identifier: MIT */
/* engine.c - the public engine on the embedded emoji model: jobs of each kind, what is refused, what is shared. Reads
 * as a manual of comma.h. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/map.h"
#include "engine/comma.h"

static struct comma_map pizza;

static struct comma_engine *open_engine(unsigned n_threads)
{
    struct comma_engine_options options = comma_engine_default_options();
    struct comma_engine *e = NULL;
    struct comma_error err;

    options.n_threads = n_threads;
    if (!comma_engine_open(&options, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

static struct comma_bytes picture(void)
{
    return (struct comma_bytes){ pizza.data, pizza.size };
}

static void a_picture_gets_scores_that_sum_to_one(void **state)
{
    const struct comma_text labels[] = { comma_text_of("dog face"), comma_text_of("pizza"), comma_text_of("rocket") };
    struct comma_job job = { .kind = COMMA_JOB_CLASSIFY, .image = picture(), .texts = labels, .n_texts = 3 };
    struct comma_engine *e = open_engine(2);
    size_t order[3];

    (void)state;
    assert_true(comma_engine_run(e, &job));
    assert_float_equal(job.scores[0] + job.scores[1] + job.scores[2], 1, 1e-6);
    comma_top_k(job.scores, 3, 3, order);
    assert_int_equal(order[0], 1);
    assert_int_equal(job.n_cached, 0);
    assert_true(job.timing.total >= job.timing.image);
    comma_job_finish(&job);

    assert_true(comma_engine_run(e, &job)); /* the same again: its labels are known */
    assert_int_equal(job.n_cached, 3);
    comma_job_finish(&job);
    comma_engine_close(e);
}

static void an_adapter_answers_with_its_own_prompt(void **state)
{
    const struct comma_text labels[] = { comma_text_of("food prepared"), comma_text_of("animal mammal") };
    const struct comma_text template = comma_text_of("a drawing of a {}.");
    struct comma_job job = { .kind = COMMA_JOB_CLASSIFY, .image = picture(), .texts = labels, .n_texts = 2 };
    struct comma_engine *e = open_engine(1);
    float plain;

    (void)state;
    assert_true(comma_engine_run(e, &job));
    plain = job.similarities[0];
    comma_job_finish(&job);
    job.adapter = comma_engine_get_adapter(e, "groups");
    assert_non_null(job.adapter);
    assert_true(comma_adapter_has_prompt(job.adapter));
    assert_true(comma_engine_run(e, &job));
    assert_int_equal(job.n_cached, 0); /* the cache keeps adapters apart */
    assert_true(fabsf(job.similarities[0] - plain) > 1e-4f);
    comma_job_finish(&job);
    job.templates = &template;
    job.n_templates = 1;
    assert_false(comma_engine_run(e, &job));
    assert_non_null(strstr(job.error.message, "leave the template out"));
    comma_adapter_unref(job.adapter);
    assert_null(comma_engine_get_adapter(e, "no such adapter"));
    comma_engine_close(e);
}

static void features_have_length_one_unless_raw_ones_are_asked_for(void **state)
{
    const struct comma_text texts[] = { comma_text_of("a photo of a pizza."), { "", 0 } };
    struct comma_job job = { .kind = COMMA_JOB_EMBED_TEXTS, .texts = texts, .n_texts = 2 };
    struct comma_engine *e = open_engine(2);
    struct comma_engine_info info;

    (void)state;
    comma_engine_get_info(e, &info);
    for (int kind = 0; kind < 4; kind++) {
        double sum = 0;
        const float *feature;

        job.kind = kind / 2 ? COMMA_JOB_EMBED_IMAGE : COMMA_JOB_EMBED_TEXTS;
        job.image = picture();
        job.not_normalized = kind % 2;
        assert_true(comma_engine_run(e, &job));
        feature = kind / 2 ? job.image_feature : job.text_features;
        for (size_t i = 0; i < info.embed_dim; i++)
            sum += (double)feature[i] * feature[i];
        if (kind % 2)
            assert_true(fabs(sum - 1) > 1e-3);
        else
            assert_float_equal(sum, 1, 1e-5);
        comma_job_finish(&job);
    }
    comma_engine_close(e);
}

/* Class names go into "a photo of a {}." with _ as a space; raw texts stand as they are. */
static void a_template_is_the_text_it_makes(void **state)
{
    const struct comma_text label = comma_text_of("hot_pepper"), raw = comma_text_of("art of hot pepper!");
    const struct comma_text templates[] = { comma_text_of("art of {}!"), comma_text_of("{}pre"), comma_text_of("x{}") };
    struct comma_job a = { .kind = COMMA_JOB_CLASSIFY,
                           .image = picture(),
                           .texts = &label,
                           .n_texts = 1,
                           .templates = templates,
                           .n_templates = 1 };
    struct comma_job b = { .kind = COMMA_JOB_EMBED_TEXTS, .texts = &raw, .n_texts = 1 };
    struct comma_job c = { .kind = COMMA_JOB_EMBED_IMAGE, .image = picture() };
    struct comma_engine *e = open_engine(1);
    double dot = 0;

    (void)state;
    assert_true(comma_engine_run(e, &a));
    assert_true(comma_engine_run(e, &b));
    assert_true(comma_engine_run(e, &c));
    for (size_t i = 0; i < 128; i++)
        dot += (double)b.text_features[i] * c.image_feature[i];
    assert_float_equal(dot, a.similarities[0], 1e-5);
    comma_job_finish(&a);
    comma_job_finish(&b);
    comma_job_finish(&c);
    a.n_templates = 3; /* words that run into the label: no prefix to share but SOS */
    assert_true(comma_engine_run(e, &a));
    comma_job_finish(&a);
    comma_engine_close(e);
}

static void what_cannot_be_done_is_said(void **state)
{
    char long_label[400];
    struct comma_engine *e = open_engine(1);
    const struct comma_text good = comma_text_of("pizza"), bad_utf8 = comma_text_of("\xff");
    const struct comma_text no_hole = comma_text_of("a photo"), two_holes = comma_text_of("{} {}");
    struct comma_text texts[2] = { good, { long_label, sizeof(long_label) } };
    const struct comma_job base = { .kind = COMMA_JOB_CLASSIFY, .image = picture(), .texts = texts, .n_texts = 1 };
    struct comma_job job = base;

    (void)state;
    for (size_t i = 0; i < sizeof(long_label); i++)
        long_label[i] = i % 2 ? ' ' : 'a';
    job.n_texts = 0;
    assert_false(comma_engine_run(e, &job));
    assert_non_null(strstr(job.error.message, "no labels"));
    job = base;
    job.image.size = 0;
    assert_false(comma_engine_run(e, &job));
    assert_int_equal(job.error.code, COMMA_E_FORMAT);
    job = base;
    job.n_texts = 2;
    assert_false(comma_engine_run(e, &job));
    assert_int_equal(job.error.code, COMMA_E_INPUT);
    assert_int_equal(job.error_text, 1);
    assert_non_null(strstr(job.error.message, "label \"a a a"));
    texts[1] = bad_utf8;
    assert_false(comma_engine_run(e, &job));
    assert_int_equal(job.error_text, 1);
    job = base;
    job.templates = &no_hole;
    job.n_templates = 1;
    assert_false(comma_engine_run(e, &job));
    assert_non_null(strstr(job.error.message, "one {}"));
    job.templates = &two_holes;
    assert_false(comma_engine_run(e, &job));
    job = base;
    job.deadline_ns = 1;
    assert_false(comma_engine_run(e, &job));
    assert_int_equal(job.error.code, COMMA_E_CANCELLED);
    job = base;
    job.image.size /= 2;
    assert_false(comma_engine_run(e, &job));
    assert_null(job.scores);
    job = base; /* and after all that it still serves */
    assert_true(comma_engine_run(e, &job));
    comma_job_finish(&job);
    comma_engine_close(e);
}

static void adapters_come_and_go_by_name(void **state)
{
    struct comma_engine *e = open_engine(1);
    struct comma_adapter_info *list;
    struct comma_adapter *held;
    struct comma_error err;
    size_t n;

    (void)state;
    assert_true(comma_engine_add_adapter(e, "again", COMMA_SOURCE_ROOT "/models/emoji/adapters/groups", &err));
    assert_true(comma_engine_list_adapters(e, &list, &n, &err));
    assert_int_equal(n, 2);
    assert_string_equal(list[0].name, "again");
    assert_string_equal(list[1].name, "groups");
    assert_string_equal(list[0].method, "comma");
    assert_int_equal(list[0].n_ctx, 2);
    free(list);
    held = comma_engine_get_adapter(e, "again");
    assert_true(comma_engine_remove_adapter(e, "again"));
    assert_false(comma_engine_remove_adapter(e, "again"));
    assert_string_equal(comma_adapter_name(held), "again"); /* who holds it keeps it */
    comma_adapter_unref(held);
    assert_false(comma_engine_add_adapter(e, "a/b", "/", &err));
    assert_non_null(strstr(err.message, "not allowed"));
    assert_false(comma_engine_add_adapter(e, "emoji", "/", &err));
    assert_non_null(strstr(err.message, "backbone"));
    assert_false(comma_engine_add_adapter(e, "groups", "/nowhere", &err));
    assert_true(comma_engine_list_adapters(e, &list, &n, &err)); /* what was there stays */
    assert_int_equal(n, 1);
    free(list);
    comma_engine_close(e);
}

struct crowd {
    struct comma_engine *e;
    float want[3];
    int wrong;
};

static void *ask(void *arg)
{
    struct crowd *c = arg;
    char names[6][32];
    struct comma_text labels[6];

    for (int round = 0; round < 20; round++) {
        struct comma_job job = { .kind = COMMA_JOB_CLASSIFY, .image = picture(), .texts = labels, .n_texts = 6 };

        for (size_t i = 0; i < 6; i++) {
            snprintf(names[i], sizeof(names[i]), i < 3 ? "label %zu" : "label %zu of round %d", i, round);
            labels[i] = comma_text_of(names[i]);
        }
        if (!comma_engine_run(c->e, &job))
            __atomic_fetch_add(&c->wrong, 1, __ATOMIC_RELAXED);
        for (size_t i = 0; job.ok && i < 3; i++)
            if (fabsf(job.similarities[i] - c->want[i]) > 2e-6f)
                __atomic_fetch_add(&c->wrong, 1, __ATOMIC_RELAXED);
        comma_job_finish(&job);
    }
    return NULL;
}

static void many_clients_get_what_one_gets(void **state)
{
    const struct comma_text labels[] = { comma_text_of("label 0"), comma_text_of("label 1"), comma_text_of("label 2") };
    struct comma_job job = { .kind = COMMA_JOB_CLASSIFY, .image = picture(), .texts = labels, .n_texts = 3 };
    struct crowd crowd = { .e = open_engine(3) };
    struct comma_engine_stats stats;
    pthread_t threads[8];

    (void)state;
    assert_true(comma_engine_run(crowd.e, &job));
    memcpy(crowd.want, job.similarities, sizeof(crowd.want));
    comma_job_finish(&job);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &crowd), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.wrong, 0);
    comma_engine_get_stats(crowd.e, &stats);
    assert_int_equal(stats.jobs_done, 161);
    assert_int_equal(stats.queue_depth, 0);
    assert_int_equal(stats.jobs_running, 0);
    assert_int_equal(stats.texts_encoded, 3 + 20 * 3); /* each label once, whoever asked */
    comma_engine_close(crowd.e);
}

static void count_down(struct comma_job *job)
{
    __atomic_fetch_sub((int *)job->user, 1, __ATOMIC_RELEASE);
}

static void a_full_queue_refuses_and_loses_nothing(void **state)
{
    struct comma_engine_options options = comma_engine_default_options();
    struct comma_job jobs[64];
    struct comma_engine *e;
    struct comma_error err;
    int left = 0, refused = 0;

    (void)state;
    options.n_threads = 1;
    options.max_queue = 2;
    assert_true(comma_engine_open(&options, &e, &err));
    for (size_t i = 0; i < 64; i++) {
        jobs[i] =
            (struct comma_job){ .kind = COMMA_JOB_EMBED_IMAGE, .image = picture(), .done = count_down, .user = &left };
        __atomic_fetch_add(&left, 1, __ATOMIC_RELAXED);
        if (!comma_engine_submit(e, &jobs[i], &err)) {
            assert_int_equal(err.code, COMMA_E_BUSY);
            __atomic_fetch_sub(&left, 1, __ATOMIC_RELAXED);
            refused++;
        }
    }
    comma_engine_close(e); /* finishes what it took */
    assert_int_equal(__atomic_load_n(&left, __ATOMIC_ACQUIRE), 0);
    assert_true(refused > 0);
    for (size_t i = 0; i < 64; i++)
        comma_job_finish(&jobs[i]);
}

static void the_best_k_come_first_and_ties_keep_their_order(void **state)
{
    const float scores[] = { 0.1f, 0.4f, 0.4f, 0.05f, 0.4f, 0.2f };
    const size_t want[] = { 1, 2, 4, 5, 0, 3 };
    float many[500];
    size_t order[500];

    (void)state;
    for (size_t k = 0; k <= 8; k++) {
        comma_top_k(scores, 6, k, order);
        for (size_t i = 0; i < k && i < 6; i++)
            assert_int_equal(order[i], want[i]);
    }
    for (size_t i = 0; i < 500; i++)
        many[i] = (float)(i * 7919 % 101);
    comma_top_k(many, 500, 500, order);
    for (size_t i = 1; i < 500; i++)
        assert_true(many[order[i - 1]] > many[order[i]] ||
                    (many[order[i - 1]] == many[order[i]] && order[i - 1] < order[i]));
}

static int find_pizza(void **state)
{
    struct comma_error err;

    (void)state;
    return comma_map_open(&pizza, COMMA_SOURCE_ROOT "/models/emoji/samples/pizza.png", &err) ? 0 : -1;
}

static int leave_pizza(void **state)
{
    (void)state;
    comma_map_close(&pizza);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_gets_scores_that_sum_to_one),
        cmocka_unit_test(an_adapter_answers_with_its_own_prompt),
        cmocka_unit_test(features_have_length_one_unless_raw_ones_are_asked_for),
        cmocka_unit_test(a_template_is_the_text_it_makes),
        cmocka_unit_test(what_cannot_be_done_is_said),
        cmocka_unit_test(adapters_come_and_go_by_name),
        cmocka_unit_test(many_clients_get_what_one_gets),
        cmocka_unit_test(a_full_queue_refuses_and_loses_nothing),
        cmocka_unit_test(the_best_k_come_first_and_ties_keep_their_order),
    };

    return cmocka_run_group_tests(tests, find_pizza, leave_pizza);
}
