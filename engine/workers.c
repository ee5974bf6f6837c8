/* SPDX-License-Identifier: MIT */
/* workers.c - see workers.h.
 *
 * pool->lock protects the client's queue, the list of open regions and sleepers. Threads without work watch `events`
 * for a few tens of microseconds before they sleep: the regions of one encode call follow each other within a few, and
 * a futex wake-up costs more than many of them last. */
#include "engine/workers.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/clock.h"

#define SPIN_NS 60000

struct region {
    comma_chunk_fn fn;
    void *arg;
    size_t n_chunks;
    atomic_size_t next;    /* chunk to run next; relaxed: chunks are independent, joining happens under the lock */
    atomic_size_t helpers; /* threads inside beside the owner; released when one leaves, so the owner sees its writes */
    struct region *link;
};

struct comma_pool {
    struct comma_pool_client client;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct region *regions; /* open ones, newest first */
    unsigned sleepers;
    bool stop;
    atomic_uint events; /* counts tasks and regions added; relaxed: a hint, the truth is read under the lock */
    atomic_uint idle;   /* threads with no task; relaxed: a hint for splitting */
    unsigned n_threads, n_started;
    struct thread {
        struct comma_worker worker;
        pthread_t id;
    } * threads;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_chunks(struct region *r, struct comma_worker *self)
{
    for (;;) {
        const size_t i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);

        if (i >= r->n_chunks)
            return;
        const struct comma_mark mark = comma_arena_mark(&self->helper);

        r->fn(r->arg, self, i, r->n_chunks);
        comma_arena_release(&self->helper, mark);
    }
}

static struct region *open_region(struct comma_pool *pool)
{
    for (struct region *r = pool->regions; r; r = r->link)
        if (atomic_load_explicit(&r->next, memory_order_relaxed) < r->n_chunks)
            return r;
    return NULL;
}

/* Until something may have been added, or for SPIN_NS. */
static bool spin(struct comma_pool *pool, unsigned seen)
{
    const int64_t until = comma_now_ns() + SPIN_NS;

    do {
        for (int i = 0; i < 64; i++) {
            if (atomic_load_explicit(&pool->events, memory_order_relaxed) != seen)
                return true;
            cpu_relax();
        }
    } while (comma_now_ns() < until);
    return false;
}

/* One step of an idle thread: helps a region, or waits for news. Lock held on entry and on return. */
static void idle_step(struct comma_pool *pool, struct comma_worker *self)
{
    struct region *r = open_region(pool);
    const unsigned seen = atomic_load_explicit(&pool->events, memory_order_relaxed);

    if (r) {
        atomic_fetch_add_explicit(&r->helpers, 1, memory_order_relaxed);
        pthread_mutex_unlock(&pool->lock);
        run_chunks(r, self);
        atomic_fetch_sub_explicit(&r->helpers, 1, memory_order_release);
        pthread_mutex_lock(&pool->lock);
        return;
    }
    pthread_mutex_unlock(&pool->lock);
    const bool news = spin(pool, seen);

    pthread_mutex_lock(&pool->lock);
    if (news || pool->stop || atomic_load_explicit(&pool->events, memory_order_relaxed) != seen)
        return;
    pool->sleepers++;
    pthread_cond_wait(&pool->wake, &pool->lock);
    pool->sleepers--;
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    struct comma_pool *pool = t->worker.pool;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        void *task = pool->client.take(pool->client.user, atomic_load_explicit(&pool->idle, memory_order_relaxed));

        if (task) {
            atomic_fetch_sub_explicit(&pool->idle, 1, memory_order_relaxed);
            pthread_mutex_unlock(&pool->lock);
            pool->client.run(pool->client.user, task, &t->worker);
            pthread_mutex_lock(&pool->lock);
            atomic_fetch_add_explicit(&pool->idle, 1, memory_order_relaxed);
        } else if (pool->stop) {
            break;
        } else {
            idle_step(pool, &t->worker);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

bool comma_pool_create(unsigned n_threads, size_t arena_bytes, size_t helper_bytes,
                       const struct comma_pool_client *client, struct comma_pool **out, struct comma_error *err)
{
    struct comma_pool *pool = calloc(1, sizeof(*pool));

    if (!pool || !(pool->threads = calloc(n_threads, sizeof(*pool->threads)))) {
        free(pool);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %u threads", n_threads);
    }
    pool->client = *client;
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->idle, n_threads);
    for (unsigned i = 0; i < n_threads; i++) {
        struct thread *t = &pool->threads[i];

        t->worker.pool = pool;
        t->worker.index = i;
        if (!comma_arena_init(&t->worker.arena, arena_bytes, err) ||
            !comma_arena_init(&t->worker.helper, helper_bytes, err))
            goto fail;
    }
    for (; pool->n_started < n_threads; pool->n_started++) {
        if (pthread_create(&pool->threads[pool->n_started].id, NULL, thread_main, &pool->threads[pool->n_started])) {
            comma_fail(err, COMMA_E_NOMEM,
                       "thread %u of %u cannot be started; raise the process limit or lower --threads",
                       pool->n_started + 1, n_threads);
            goto fail;
        }
    }
    *out = pool;
    return true;
fail:
    comma_pool_destroy(pool);
    return false;
}

void comma_pool_destroy(struct comma_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    comma_pool_wake(pool);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->n_started; i++)
        pthread_join(pool->threads[i].id, NULL);
    for (unsigned i = 0; i < pool->n_threads; i++) {
        comma_arena_finish(&pool->threads[i].worker.arena);
        comma_arena_finish(&pool->threads[i].worker.helper);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

unsigned comma_pool_size(const struct comma_pool *pool)
{
    return pool->n_threads;
}

void comma_pool_lock(struct comma_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
}

void comma_pool_unlock(struct comma_pool *pool)
{
    pthread_mutex_unlock(&pool->lock);
}

void comma_pool_wake(struct comma_pool *pool)
{
    atomic_fetch_add_explicit(&pool->events, 1, memory_order_relaxed);
    if (pool->sleepers)
        pthread_cond_broadcast(&pool->wake);
}

size_t comma_split(const struct comma_worker *worker, size_t units, size_t min_units)
{
    const size_t idle = atomic_load_explicit(&worker->pool->idle, memory_order_relaxed);
    const size_t most = units / (min_units ? min_units : 1);

    if (idle == 0 || most < 2)
        return 1;
    /* two chunks a thread: whoever was held up leaves its second one to the others */
    return most < 2 * (idle + 1) ? most : 2 * (idle + 1);
}

void comma_parallel(struct comma_worker *worker, size_t n_chunks, comma_chunk_fn fn, void *arg)
{
    struct comma_pool *pool = worker->pool;
    struct region r = { .fn = fn, .arg = arg, .n_chunks = n_chunks };

    if (n_chunks > 1) {
        pthread_mutex_lock(&pool->lock);
        r.link = pool->regions;
        pool->regions = &r;
        comma_pool_wake(pool);
        pthread_mutex_unlock(&pool->lock);
    }
    run_chunks(&r, worker);
    if (n_chunks < 2)
        return;
    pthread_mutex_lock(&pool->lock);
    for (struct region **p = &pool->regions; *p; p = &(*p)->link) {
        if (*p == &r) {
            *p = r.link;
            break;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; atomic_load_explicit(&r.helpers, memory_order_acquire) > 0; i++) {
        if (i % 1024 == 1023)
            sched_yield(); /* the helper's core may be somebody else's now */
        else
            cpu_relax();
    }
}
