/* SPDX-License-Identifier: MIT */
/* workers.h - the engine's threads: each runs a task of its own, and those without one help others with theirs.
 *
 * A task may open a parallel region, work cut into chunks; idle threads join it and leave it as soon as a task waits.
 * So a lone image is split over all cores and a queue of images gives each core its own, with nothing decided ahead:
 * a static split would let one busy neighbour on a core slow everyone down.
 *
 * Tasks come from the client's queue, which the pool's lock protects: take() is called with it held. */
#ifndef COMMA_ENGINE_WORKERS_H
#define COMMA_ENGINE_WORKERS_H

#include "engine/base/arena.h"

struct comma_pool;

/* One thread, as a task sees it. */
struct comma_worker {
    struct comma_pool *pool;
    unsigned index;
    struct comma_arena arena;  /* of the task that this thread runs */
    struct comma_arena helper; /* of a chunk that this thread runs, its own task's or another's */
};

struct comma_pool_client {
    void *user;
    void *(*take)(void *user, unsigned idle);                         /* next task or NULL; lock held */
    void (*run)(void *user, void *task, struct comma_worker *worker); /* lock not held */
};

/* Starts n_threads threads with arenas of these sizes. Fails with COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_pool_create(unsigned n_threads, size_t arena_bytes, size_t helper_bytes,
                       const struct comma_pool_client *client, struct comma_pool **out, struct comma_error *err);

/* Runs what take() still gives, ends the threads. NULL is fine. */
void comma_pool_destroy(struct comma_pool *pool);

unsigned comma_pool_size(const struct comma_pool *pool);

void comma_pool_lock(struct comma_pool *pool);
void comma_pool_unlock(struct comma_pool *pool);
void comma_pool_wake(struct comma_pool *pool); /* a task was added; lock held */

/* Chunks that `units` of work are best cut into now, 1 if no thread is idle; at least min_units each. */
size_t comma_split(const struct comma_worker *worker, size_t units, size_t min_units);

/* Where chunk i of n begins among units; chunk i ends where i + 1 begins. */
static inline size_t comma_chunk_begin(size_t units, size_t i, size_t n)
{
    return units * i / n;
}

/* Runs fn for each chunk, on this thread and idle ones, and returns when all are done. self is the thread that runs the
 * chunk, for its helper arena. */
typedef void (*comma_chunk_fn)(void *arg, struct comma_worker *self, size_t chunk, size_t n_chunks);
void comma_parallel(struct comma_worker *worker, size_t n_chunks, comma_chunk_fn fn, void *arg);

#endif
