/* SPDX-License-Identifier: MIT */
/* jobs.c - the queue of jobs and the way of one through its stages.
 *
 *     submit -> texts -> (all that wait, one ragged batch) -> images -> (a few, one batch) -> score -> done
 *
 * A thread that is free takes a call first, then a few images, then the texts of jobs that wait, about a batch of them:
 * what was begun is finished before more is begun, or many jobs with long lists would all hold their features and all
 * be late. Nothing waits for a timer: what is there when a thread becomes free is its batch. The pool's lock protects
 * the lists and the counts. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/engine_impl.h"

/* ---- lists ---- */

static void push(struct job_list *list, struct comma_job *job)
{
    job->next = NULL;
    if (list->tail)
        list->tail->next = job;
    else
        list->head = job;
    list->tail = job;
    list->n++;
}

/* The first n jobs as a chain of their own. */
static struct comma_job *pop(struct job_list *list, size_t n)
{
    struct comma_job *first = list->head, *last = first;

    if (!first || n == 0)
        return NULL;
    for (list->n--; n > 1 && last->next; n--, list->n--)
        last = last->next;
    list->head = last->next;
    if (!list->head)
        list->tail = NULL;
    last->next = NULL;
    return first;
}

/* How many of the first jobs bring texts for one batch. A job with more of them is taken alone. */
static size_t batch_of_texts(const struct job_list *list, size_t max_texts)
{
    size_t n = 0, texts = 0;

    for (const struct comma_job *j = list->head; j && (n == 0 || j->n_texts <= max_texts - texts); j = j->next) {
        texts += j->n_texts < max_texts - texts ? j->n_texts : max_texts - texts;
        n++;
    }
    return n;
}

void *comma_jobs_take(void *engine, unsigned idle)
{
    struct comma_engine *e = engine;
    struct comma_job *chain;
    size_t share;

    if (e->calls.n)
        chain = pop(&e->calls, 1);
    else if (e->images.n) {
        /* leave each idle thread its share: cores come before batches */
        share = (e->images.n + idle - 1) / (idle ? idle : 1);
        chain = pop(&e->images, share < e->max_pictures ? share : e->max_pictures);
    } else if (e->texts.n) {
        chain = pop(&e->texts, batch_of_texts(&e->texts, e->max_text_rows));
    } else {
        return NULL;
    }
    for (struct comma_job *j = chain; j; j = j->next) {
        if (!j->started_ns) {
            j->started_ns = comma_now_ns();
            e->waiting--;
            e->running++;
        }
    }
    return chain;
}

/* ---- one job's end ---- */

void comma_job_fail(struct comma_job *job, size_t text, const struct comma_error *why)
{
    if (job->state->failed)
        return;
    job->state->failed = true;
    job->error = *why;
    job->error_text = text;
}

bool comma_job_dead(struct comma_job *job)
{
    struct comma_error err;

    if (job->state->failed)
        return true;
    if (job->deadline_ns && comma_now_ns() > job->deadline_ns)
        comma_fail(&err, COMMA_E_CANCELLED, "the request's deadline has passed; allow more time or send fewer labels");
    else if (job->cancelled && job->cancelled(job))
        comma_fail(&err, COMMA_E_CANCELLED, "the client has gone");
    else
        return false;
    comma_job_fail(job, SIZE_MAX, &err);
    return true;
}

static void free_state(struct comma_engine *e, struct comma_job_state *s)
{
    if (s->has_rows)
        comma_rows_release(e->cache, &s->rows);
    if (s->cached_phrases)
        for (size_t i = 0; i < s->n_phrases; i++)
            if (s->phrases[i])
                comma_phrase_cache_put(e->phrases, s->phrases[i]);
    free(s->phrases);
    free(s->todo);
    free(s->features);
    free(s->image_feature);
    free(s);
}

void comma_job_end(struct comma_engine *e, struct comma_job *job)
{
    const bool failed = job->state->failed, is_call = job->state->phase == JOB_CALL;

    job->ok = !failed;
    job->timing.queue = comma_ms(job->started_ns - job->submitted_ns);
    job->timing.total = comma_ms(comma_now_ns() - job->submitted_ns);
    if (failed) {
        const struct comma_error error = job->error;
        const size_t text = job->error_text;

        comma_job_finish(job);
        job->error = error;
        job->error_text = text;
    }
    free_state(e, job->state);
    job->state = NULL;
    comma_pool_lock(e->pool);
    e->running--;
    if (!is_call) {
        e->stats.jobs_done += !failed;
        e->stats.jobs_failed += failed;
    }
    comma_pool_unlock(e->pool);
    job->done(job);
}

/* ---- stages ---- */

/* After the text stage: features of texts are an answer, class names wait for their image. */
static void after_texts(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs)
{
    struct job_list images = { 0 };

    for (struct comma_job *j = jobs, *next; j; j = next) {
        next = j->next;
        if (j->state->failed || j->kind != COMMA_JOB_CLASSIFY) {
            if (!j->state->failed && !j->not_normalized && comma_job_collect_texts(e, w, j))
                memcpy(j->text_features, j->state->rows.matrix, j->n_texts * e->text.embed_dim * sizeof(float));
            comma_job_end(e, j);
        } else {
            j->state->phase = JOB_IMAGE;
            push(&images, j);
        }
    }
    if (!images.n)
        return;
    comma_pool_lock(e->pool);
    while (images.n)
        push(&e->images, pop(&images, 1));
    comma_pool_wake(e->pool);
    comma_pool_unlock(e->pool);
}

static void score(struct comma_engine *e, struct comma_worker *w, struct comma_job *j)
{
    const int64_t t0 = comma_now_ns();
    const float *labels = NULL;
    struct comma_error err;

    if (j->adapter->prompts.meta_dim && comma_job_encode_conditioned(e, w, j))
        labels = j->state->features;
    else if (!j->adapter->prompts.meta_dim && comma_job_collect_texts(e, w, j))
        labels = j->state->rows.matrix;
    if (labels && !comma_classify_features(w, j->state->image_feature, labels, j->n_texts, e->text.embed_dim,
                                           comma_clip_config(e->clip)->logit_scale, j->similarities, j->scores, &err))
        comma_job_fail(j, SIZE_MAX, &err);
    j->timing.text += comma_ms(comma_now_ns() - t0);
}

static void image_stage(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs)
{
    size_t n = 0;

    for (struct comma_job *j = jobs; j; j = j->next)
        n++;
    comma_jobs_encode_images(e, w, jobs, n);
    for (struct comma_job *j = jobs, *next; j; j = next) {
        next = j->next;
        if (!j->state->failed && j->kind == COMMA_JOB_CLASSIFY)
            score(e, w, j);
        else if (!j->state->failed)
            memcpy(j->image_feature, j->state->image_feature, e->vision.embed_dim * sizeof(float));
        comma_job_end(e, j);
    }
}

void comma_jobs_run(void *engine, void *task, struct comma_worker *w)
{
    struct comma_engine *e = engine;
    struct comma_job *jobs = task;

    atomic_store_explicit(&e->busy_since[w->index], comma_now_ns(), memory_order_relaxed);
    if (jobs->state->phase == JOB_CALL) {
        jobs->state->call(jobs->state->call_arg, w);
        comma_job_end(e, jobs);
    } else if (jobs->state->phase == JOB_TEXT) {
        comma_jobs_encode_texts(e, w, jobs);
        after_texts(e, w, jobs);
    } else {
        image_stage(e, w, jobs);
    }
    atomic_store_explicit(&e->busy_since[w->index], 0, memory_order_relaxed);
}

/* ---- submitting ---- */

static bool check(const struct comma_engine *e, const struct comma_job *job, struct comma_error *err)
{
    const bool texts = job->kind != COMMA_JOB_EMBED_IMAGE, image = job->kind != COMMA_JOB_EMBED_TEXTS;

    if (texts && !e->tokenizer)
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "model %s has no merges.txt or tokenizer.json, so it takes images only",
                          comma_clip_name(e->clip));
    if (texts && job->n_texts == 0)
        return comma_fail(err, COMMA_E_INPUT, "there are no labels; give at least one class name");
    if (image && job->image.size == 0)
        return comma_fail(err, COMMA_E_FORMAT, "the image is empty; send a PNG or JPEG file");
    if (job->n_templates && job->adapter && job->adapter->has_prompt)
        return comma_fail(err, COMMA_E_INPUT, "adapter '%s' has a prompt of its own; leave the template out",
                          job->adapter->name);
    return true;
}

/* The results' memory and the engine's own part. */
static bool prepare(struct comma_engine *e, struct comma_job *job, struct comma_error *err)
{
    const size_t dim = e->text.embed_dim;
    struct comma_job_state *s = calloc(1, sizeof(*s));
    bool ok = s != NULL;

    job->state = s;
    job->image_feature = job->text_features = job->similarities = job->scores = NULL;
    job->n_cached = 0;
    job->ok = false;
    job->error_text = SIZE_MAX;
    job->timing = (struct comma_timing){ 0 };
    job->started_ns = 0;
    if (ok && job->kind != COMMA_JOB_EMBED_TEXTS)
        ok = (s->image_feature = comma_alloc_floats(dim)) != NULL;
    if (ok && job->kind == COMMA_JOB_EMBED_IMAGE)
        ok = (job->image_feature = comma_alloc_floats(dim)) != NULL;
    if (ok && job->kind == COMMA_JOB_EMBED_TEXTS)
        ok = job->n_texts <= SIZE_MAX / dim && (job->text_features = comma_alloc_floats(job->n_texts * dim)) != NULL;
    if (ok && job->kind == COMMA_JOB_CLASSIFY)
        ok = (job->similarities = comma_alloc_floats(job->n_texts)) != NULL &&
             (job->scores = comma_alloc_floats(job->n_texts)) != NULL;
    if (ok) {
        s->phase = job->kind == COMMA_JOB_EMBED_IMAGE ? JOB_IMAGE : JOB_TEXT;
        return true;
    }
    if (s)
        free_state(e, s);
    job->state = NULL;
    comma_job_finish(job);
    return comma_fail(err, COMMA_E_NOMEM, "out of memory for a request of %zu texts", job->n_texts);
}

/* limit: where the queue counts as full. */
static bool enqueue(struct comma_engine *e, struct comma_job *job, struct comma_job *const *many, size_t n,
                    size_t limit, struct comma_error *err)
{
    bool ok;

    comma_pool_lock(e->pool);
    ok = e->waiting + n <= limit;
    for (size_t i = 0; ok && i < n; i++) {
        struct comma_job *j = many ? many[i] : job;

        j->submitted_ns = comma_now_ns();
        push(j->state->phase == JOB_CALL ? &e->calls : j->state->phase == JOB_TEXT ? &e->texts : &e->images, j);
        e->waiting++;
    }
    if (ok)
        comma_pool_wake(e->pool);
    comma_pool_unlock(e->pool);
    return ok ? true : comma_fail(err, COMMA_E_BUSY, "%zu requests are waiting already; try again in a moment", limit);
}

bool comma_engine_submit(struct comma_engine *engine, struct comma_job *job, struct comma_error *err)
{
    if (!job->adapter)
        job->adapter = engine->plain;
    if (!check(engine, job, err) || !prepare(engine, job, err))
        return false;
    if (enqueue(engine, job, NULL, 1, engine->max_queue, err))
        return true;
    free_state(engine, job->state);
    job->state = NULL;
    comma_job_finish(job);
    return false;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t done;
    size_t left;
};

static void job_came_back(struct comma_job *job)
{
    struct waiter *waiter = job->user;

    pthread_mutex_lock(&waiter->lock);
    if (--waiter->left == 0)
        pthread_cond_signal(&waiter->done);
    pthread_mutex_unlock(&waiter->lock);
}

static void wait_all(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    while (waiter->left)
        pthread_cond_wait(&waiter->done, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    pthread_cond_destroy(&waiter->done);
    pthread_mutex_destroy(&waiter->lock);
}

bool comma_engine_run(struct comma_engine *engine, struct comma_job *job)
{
    struct waiter waiter = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 1 };
    void (*done)(struct comma_job *) = job->done;
    void *user = job->user;

    job->done = job_came_back;
    job->user = &waiter;
    if (comma_engine_submit(engine, job, &job->error)) {
        wait_all(&waiter);
    } else {
        job->ok = false;
        job->error_text = SIZE_MAX;
    }
    job->done = done;
    job->user = user;
    return job->ok;
}

bool comma_engine_call_many(struct comma_engine *e, size_t n, void (*fn)(void *arg, struct comma_worker *w), void *arg,
                            struct comma_error *err)
{
    struct waiter waiter = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, n };
    struct comma_job *jobs = calloc(n, sizeof(*jobs)), **list = calloc(n, sizeof(*list));
    size_t made = 0;
    bool ok = jobs && list;

    for (; ok && made < n; made += ok) {
        struct comma_job_state *s = calloc(1, sizeof(*s));

        ok = s != NULL;
        if (ok) {
            *s = (struct comma_job_state){ .phase = JOB_CALL, .call = fn, .call_arg = arg };
            jobs[made] = (struct comma_job){ .state = s, .done = job_came_back, .user = &waiter };
            list[made] = &jobs[made];
        }
    }
    if (!ok) {
        for (size_t i = 0; i < made; i++)
            free(jobs[i].state);
        comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu calls", n);
    } else if (n) {
        ok = enqueue(e, NULL, list, n, SIZE_MAX, err);
        wait_all(&waiter);
    }
    free(list);
    free(jobs);
    return ok;
}

void comma_engine_call(struct comma_engine *e, void (*fn)(void *arg, struct comma_worker *w), void *arg)
{
    struct waiter waiter = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 1 };
    struct comma_job_state *s = calloc(1, sizeof(*s));
    struct comma_job job = { .state = s, .done = job_came_back, .user = &waiter };
    struct comma_error err;

    if (!s)
        return; /* the call's own result says that it did not run */
    *s = (struct comma_job_state){ .phase = JOB_CALL, .call = fn, .call_arg = arg };
    if (enqueue(e, &job, NULL, 1, SIZE_MAX, &err))
        wait_all(&waiter);
}

void comma_job_finish(struct comma_job *job)
{
    free(job->image_feature);
    free(job->text_features);
    free(job->similarities);
    free(job->scores);
    job->image_feature = job->text_features = job->similarities = job->scores = NULL;
}
