/* SPDX-License-Identifier: MIT */
/* pipeline.h - many inputs through the engine at once, results in the order of the inputs.
 *
 * A window of jobs is kept under way; as the oldest ends its result is handed back and the next input is begun. All
 * callbacks run on the calling thread. */
#ifndef COMMA_SERVER_PIPELINE_H
#define COMMA_SERVER_PIPELINE_H

#include "engine/comma.h"

struct comma_pipeline {
    struct comma_engine *engine;
    size_t n_inputs;
    size_t window;    /* jobs under way at most, at least 1; also bounds the inputs in memory */
    const char *what; /* of the progress bar: "images" */
    void *user;

    /* Fills in a zeroed job for input i. On failure the input is done: end() gets a job that is not ok. */
    bool (*begin)(void *user, size_t i, struct comma_job *job, struct comma_error *err);

    /* Takes the result of input i, which is freed after it, and frees what begin() made. False stops: what is under
     * way is cancelled, and ended too with ok false. */
    bool (*end)(void *user, size_t i, struct comma_job *job);
};

/* Runs all inputs. False, with *err set, only if the window cannot be allocated. */
COMMA_MUST_CHECK
bool comma_pipeline_run(const struct comma_pipeline *pipeline, struct comma_error *err);

#endif
