/* SPDX-License-Identifier: MIT */
/* pipeline.c - see pipeline.h. The engine's threads only mark a slot as done; `lock` protects the marks. */
#include "server/pipeline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/terminal.h"

struct slot {
    struct comma_job job;
    struct run *run;
    bool done; /* run->lock */
};

struct run {
    const struct comma_pipeline *pipeline;
    struct slot *slots; /* [window]: input i is in slot i % window */
    atomic_bool stopped;
    pthread_mutex_t lock;
    pthread_cond_t a_slot_is_done;
};

static void mark_done(struct comma_job *job)
{
    struct slot *slot = job->user;
    struct run *run = slot->run;

    pthread_mutex_lock(&run->lock);
    slot->done = true;
    pthread_cond_signal(&run->a_slot_is_done);
    pthread_mutex_unlock(&run->lock);
}

/* Relaxed: it carries nothing but itself, and being seen late only costs time. */
static bool is_stopped(const struct comma_job *job)
{
    const struct slot *slot = job->user;

    return atomic_load_explicit(&slot->run->stopped, memory_order_relaxed);
}

static void begin(struct run *run, size_t i)
{
    struct slot *slot = &run->slots[i % run->pipeline->window];
    struct comma_error err = { 0 };

    *slot = (struct slot){ .run = run };
    if (run->pipeline->begin(run->pipeline->user, i, &slot->job, &err)) {
        slot->job.user = slot;
        slot->job.done = mark_done;
        slot->job.cancelled = is_stopped;
        if (comma_engine_submit(run->pipeline->engine, &slot->job, &err))
            return;
    }
    slot->job.ok = false;
    slot->job.error = err;
    slot->job.error_text = SIZE_MAX;
    slot->done = true; /* the engine's threads know nothing of this slot */
}

/* Waits for input i and hands its result back. */
static void end(struct run *run, size_t i)
{
    struct slot *slot = &run->slots[i % run->pipeline->window];

    pthread_mutex_lock(&run->lock);
    while (!slot->done)
        pthread_cond_wait(&run->a_slot_is_done, &run->lock);
    pthread_mutex_unlock(&run->lock);
    if (!run->pipeline->end(run->pipeline->user, i, &slot->job))
        atomic_store_explicit(&run->stopped, true, memory_order_relaxed);
    comma_job_finish(&slot->job);
}

bool comma_pipeline_run(const struct comma_pipeline *pipeline, struct comma_error *err)
{
    struct run run = { .pipeline = pipeline,
                       .slots = calloc(pipeline->window, sizeof(struct slot)),
                       .lock = PTHREAD_MUTEX_INITIALIZER,
                       .a_slot_is_done = PTHREAD_COND_INITIALIZER };
    size_t n_begun = 0;

    if (!run.slots)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu jobs", pipeline->window);
    for (size_t i = 0; i < n_begun || (i < pipeline->n_inputs && !run.stopped); i++) {
        while (!run.stopped && n_begun < pipeline->n_inputs && n_begun - i < pipeline->window)
            begin(&run, n_begun++);
        end(&run, i);
        if (pipeline->n_inputs > 1)
            comma_progress_show(pipeline->what, i + 1, pipeline->n_inputs);
    }
    comma_progress_clear();
    free(run.slots);
    return true;
}
