/* SPDX-License-Identifier: MIT */
/* label_cache.c - promises between requests over the store of label features.
 *
 * A row that nobody has yet enters the table as a promise of the request that asked first. Its promiser copies the
 * features in, marks the row ready and wakes all who wait; or takes the row out of the table and leaves the reason in
 * place of the features. Nobody waits before its own promises are settled, so that requests which promised each
 * other's labels cannot block each other.
 *
 * One lock, cache->lock, guards the store and the counters; there is none below it. Long lists take it for some hundred
 * labels at a time, copy features without it, and free memory without it, so that a list of 100,000 labels does not
 * hold up the short ones. Any thread calls. Source: DESIGN "exact savings". */
#include "engine/label_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/checked.h"
#include "engine/label_store.h"

enum { LABELS_PER_LOCK = 256 };

struct comma_label_cache {
    pthread_mutex_t lock;
    pthread_cond_t settled; /* on the monotonic clock: some promises were kept or given up */
    struct comma_store store;
    uint64_t hits, misses, shared, list_hits;
};

struct comma_label_list {
    struct comma_scope *scope;
    struct comma_entry *todo, **todo_end; /* own promises, in the order of rows->todo */
    struct comma_entry *whole;            /* pinned: the list's matrix */
    uint64_t hash;
    size_t n_labels, n_pinned;
    struct comma_entry *row[]; /* [n_labels], of which n_pinned are pinned */
};

static void lock(struct comma_label_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
}

/* Unlocks, then frees what fell out of the store meanwhile. */
static void unlock(struct comma_label_cache *cache)
{
    struct comma_entry *dead = comma_store_bury(&cache->store);

    pthread_mutex_unlock(&cache->lock);
    comma_entries_free(dead);
}

static size_t chunk_end(size_t at, size_t n)
{
    return n - at > LABELS_PER_LOCK ? at + LABELS_PER_LOCK : n;
}

static int state_of(const struct comma_entry *entry)
{
    /* Acquire: the features were written before COMMA_READY was, the reason before COMMA_ABANDONED. */
    return atomic_load_explicit(&entry->state, memory_order_acquire);
}

bool comma_label_cache_create(size_t dim, size_t max_bytes, struct comma_label_cache **out, struct comma_error *err)
{
    struct comma_label_cache *cache = calloc(1, sizeof(*cache));
    pthread_condattr_t monotonic;
    bool ok = false;

    if (!cache) {
        comma_fail(err, COMMA_E_NOMEM, "label cache: out of memory");
        goto out;
    }
    if (!comma_store_init(&cache->store, dim, max_bytes, err))
        goto out;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&cache->lock, NULL);
    pthread_cond_init(&cache->settled, &monotonic);
    pthread_condattr_destroy(&monotonic);
    ok = true;
out:
    if (ok)
        *out = cache;
    else
        free(cache);
    return ok;
}

void comma_label_cache_destroy(struct comma_label_cache *cache)
{
    if (!cache)
        return;
    comma_store_finish(&cache->store);
    pthread_cond_destroy(&cache->settled);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

/* ---- fetch ---- */

/* Finds the scope, and the whole list if it was seen before. False when memory ran out. */
static bool look_up_list(struct comma_label_cache *cache, struct comma_label_list *list, uint64_t owner,
                         const struct comma_text *templates, size_t n_templates, const struct comma_text *labels)
{
    lock(cache);
    list->scope = comma_scope_get(&cache->store, owner, templates, n_templates);
    unlock(cache);
    if (!list->scope)
        return false;
    list->hash = comma_store_hash_list(&cache->store, list->scope, labels, list->n_labels);
    lock(cache);
    list->whole = comma_store_find(&cache->store, list->scope, true, list->hash, labels, list->n_labels);
    if (list->whole) {
        comma_store_pin(&cache->store, list->whole);
        cache->list_hits++;
        cache->hits += list->n_labels;
    }
    unlock(cache);
    return true;
}

/* Pins the row of labels[i], or promises it. The lock is held and the table has room. False when memory ran out. */
static bool look_up_row(struct comma_label_cache *cache, struct comma_label_list *list, const struct comma_text *labels,
                        size_t i, uint64_t hash, struct comma_rows *rows, size_t *todo)
{
    struct comma_entry *row = comma_store_find(&cache->store, list->scope, false, hash, &labels[i], 1);

    if (row) {
        comma_store_pin(&cache->store, row);
        if (state_of(row) == COMMA_READY) {
            cache->hits++;
            rows->n_cached++;
        } else if (row->promiser == list) {
            cache->misses++; /* a repeat of a label of this very list */
        } else {
            cache->shared++;
        }
    } else {
        row = comma_entry_create(cache->store.dim, false, hash, &labels[i], 1);
        if (!row)
            return false;
        row->promiser = list;
        comma_store_insert(&cache->store, list->scope, row);
        *list->todo_end = row;
        list->todo_end = &row->next_todo;
        todo[rows->n_todo++] = i;
        cache->misses++;
    }
    list->row[i] = row;
    list->n_pinned = i + 1;
    return true;
}

static bool look_up_rows(struct comma_label_cache *cache, struct comma_label_list *list,
                         const struct comma_text *labels, struct comma_rows *rows, size_t *todo)
{
    uint64_t hash[LABELS_PER_LOCK];
    bool ok = true;

    for (size_t at = 0, end; ok && at < list->n_labels; at = end) {
        end = chunk_end(at, list->n_labels);
        for (size_t i = at; i < end; i++)
            hash[i - at] = comma_store_hash_row(&cache->store, list->scope, labels[i]);
        lock(cache);
        ok = comma_store_reserve(&cache->store, end - at);
        for (size_t i = at; ok && i < end; i++)
            ok = look_up_row(cache, list, labels, i, hash[i - at], rows, todo);
        unlock(cache);
    }
    /* Only now, or a list as large as the cache would push out the rows that it is about to ask for. */
    lock(cache);
    comma_store_evict(&cache->store);
    unlock(cache);
    return ok;
}

bool comma_label_cache_fetch(struct comma_label_cache *cache, uint64_t owner, const struct comma_text *templates,
                             size_t n_templates, const struct comma_text *labels, size_t n_labels,
                             struct comma_rows *rows, size_t *todo, struct comma_error *err)
{
    struct comma_rows found = { .n_labels = n_labels };
    struct comma_label_list *list = NULL;
    struct comma_error why;
    size_t size;

    assert(n_labels >= 1);
    if (comma_mul(n_labels, sizeof(list->row[0]), &size) && comma_add(size, sizeof(*list), &size))
        list = calloc(1, size);
    if (!list)
        goto fail;
    found.list = list;
    list->n_labels = n_labels;
    list->todo_end = &list->todo;
    if (!look_up_list(cache, list, owner, templates, n_templates, labels))
        goto fail;
    if (list->whole) {
        found.n_cached = n_labels;
        found.matrix = list->whole->features;
    } else if (!look_up_rows(cache, list, labels, &found, todo)) {
        goto fail;
    }
    *rows = found;
    return true;
fail:
    comma_fail(&why, COMMA_E_NOMEM, "label cache: out of memory for a list of %zu labels", n_labels);
    if (list && list->todo)
        comma_label_cache_abandon(cache, &found, &why);
    comma_rows_release(cache, &found);
    if (err)
        *err = why;
    return false;
}

/* ---- settling promises ---- */

void comma_label_cache_store(struct comma_label_cache *cache, struct comma_rows *rows, const float *features)
{
    const size_t dim = cache->store.dim;
    struct comma_entry *row = rows->list->todo, *next;

    for (; row; row = next, features += dim) {
        next = row->next_todo;
        memcpy(row->features, features, dim * sizeof(*features));
        /* Release: see state_of(). The row stays pinned by this request, so it does not vanish meanwhile. */
        atomic_store_explicit(&row->state, COMMA_READY, memory_order_release);
    }
    rows->list->todo = NULL;
    lock(cache); /* so that nobody is between having looked and starting to wait */
    pthread_cond_broadcast(&cache->settled);
    unlock(cache);
}

void comma_label_cache_abandon(struct comma_label_cache *cache, struct comma_rows *rows, const struct comma_error *why)
{
    lock(cache);
    for (struct comma_entry *row = rows->list->todo; row; row = row->next_todo) {
        comma_store_remove(&cache->store, row);
        memcpy(row->features, why, sizeof(*why));
        atomic_store_explicit(&row->state, COMMA_ABANDONED, memory_order_release); /* see state_of() */
    }
    rows->list->todo = NULL;
    pthread_cond_broadcast(&cache->settled);
    unlock(cache);
}

/* ---- wait ---- */

/* Waits until the row is settled. False past the deadline. */
static bool wait_for_row(struct comma_label_cache *cache, const struct comma_entry *row, int64_t deadline_ns)
{
    const struct timespec until = { deadline_ns / 1000000000, deadline_ns % 1000000000 };
    int result = 0;

    if (state_of(row) != COMMA_PROMISED)
        return true;
    lock(cache);
    while (state_of(row) == COMMA_PROMISED && result == 0) {
        if (deadline_ns)
            result = pthread_cond_timedwait(&cache->settled, &cache->lock, &until);
        else
            pthread_cond_wait(&cache->settled, &cache->lock);
    }
    unlock(cache);
    return state_of(row) != COMMA_PROMISED;
}

static bool wait_for_rows(struct comma_label_cache *cache, const struct comma_label_list *list, int64_t deadline_ns,
                          struct comma_error *err)
{
    for (size_t i = 0; i < list->n_labels; i++) {
        if (!wait_for_row(cache, list->row[i], deadline_ns))
            return comma_fail(err, COMMA_E_CANCELLED,
                              "the deadline passed while another request was encoding labels that this one shares");
        if (state_of(list->row[i]) == COMMA_ABANDONED) {
            if (err)
                memcpy(err, list->row[i]->features, sizeof(*err));
            return false;
        }
    }
    return true;
}

/* The list as an entry of its own, rows copied together; NULL when memory ran out.
 *   labels  out: [n_labels] */
static struct comma_entry *gather(const struct comma_label_cache *cache, const struct comma_label_list *list,
                                  struct comma_text *labels)
{
    const size_t dim = cache->store.dim;
    struct comma_entry *whole;

    for (size_t i = 0; i < list->n_labels; i++)
        labels[i] = (struct comma_text){ list->row[i]->labels.bytes, list->row[i]->labels.sizes[0] };
    whole = comma_entry_create(dim, true, list->hash, labels, list->n_labels);
    if (!whole)
        return NULL;
    for (size_t i = 0; i < list->n_labels; i++)
        memcpy(whole->features + i * dim, list->row[i]->features, dim * sizeof(float));
    atomic_store_explicit(&whole->state, COMMA_READY, memory_order_relaxed); /* not in the table yet */
    return whole;
}

/* Pins the list's entry: ours, or the one that another request put there first. What is larger than the whole cache
 * stays outside: counted, it would push out the very rows that it was made from. Returns the entry that is not needed.
 * Out of memory if list->whole is NULL afterwards. */
static struct comma_entry *keep_whole(struct comma_label_cache *cache, struct comma_label_list *list,
                                      struct comma_entry *whole, const struct comma_text *labels)
{
    if (whole->bytes > cache->store.max_bytes) {
        list->whole = whole;
        return NULL;
    }
    lock(cache);
    list->whole = comma_store_find(&cache->store, list->scope, true, list->hash, labels, list->n_labels);
    if (list->whole) {
        comma_store_pin(&cache->store, list->whole);
    } else if (comma_store_reserve(&cache->store, 1)) {
        comma_store_insert(&cache->store, list->scope, whole);
        list->whole = whole;
        whole = NULL;
    }
    unlock(cache);
    return whole;
}

/* Unpins rows [0, n_pinned). */
static void unpin_rows(struct comma_label_cache *cache, struct comma_label_list *list)
{
    for (size_t at = 0, end; at < list->n_pinned; at = end) {
        end = chunk_end(at, list->n_pinned);
        lock(cache);
        for (size_t i = at; i < end; i++)
            comma_store_unpin(&cache->store, list->row[i]);
        comma_store_evict(&cache->store);
        unlock(cache);
    }
    list->n_pinned = 0;
}

bool comma_label_cache_wait(struct comma_label_cache *cache, struct comma_rows *rows, int64_t deadline_ns,
                            struct comma_error *err)
{
    struct comma_label_list *list = rows->list;
    struct comma_text *labels = NULL;
    struct comma_entry *whole = NULL;

    if (rows->matrix)
        return true;
    assert(!list->todo); /* who waits with promises open could wait for itself */
    if (!wait_for_rows(cache, list, deadline_ns, err))
        return false;
    labels = calloc(list->n_labels, sizeof(*labels));
    if (labels)
        whole = gather(cache, list, labels);
    if (whole)
        whole = keep_whole(cache, list, whole, labels);
    free(labels);
    comma_entry_destroy(whole);
    if (!list->whole)
        return comma_fail(err, COMMA_E_NOMEM, "label cache: out of memory for the matrix of %zu labels",
                          list->n_labels);
    rows->matrix = list->whole->features;
    unpin_rows(cache, list); /* the matrix has them all */
    return true;
}

/* ---- release ---- */

void comma_rows_release(struct comma_label_cache *cache, struct comma_rows *rows)
{
    struct comma_label_list *list = rows->list;

    if (list) {
        if (list->todo) {
            struct comma_error why;

            comma_fail(&why, COMMA_E_CANCELLED, "the request that was to encode this label was given up; try again");
            comma_label_cache_abandon(cache, rows, &why);
        }
        unpin_rows(cache, list);
        lock(cache);
        if (list->whole && list->whole->in_table)
            comma_store_unpin(&cache->store, list->whole);
        else
            comma_entry_destroy(list->whole);
        if (list->scope)
            comma_scope_unref(&cache->store, list->scope);
        comma_store_evict(&cache->store);
        unlock(cache);
        free(list);
    }
    *rows = (struct comma_rows){ 0 };
}

void comma_label_cache_forget(struct comma_label_cache *cache, uint64_t owner)
{
    lock(cache);
    comma_store_forget(&cache->store, owner);
    unlock(cache);
}

void comma_label_cache_get_stats(struct comma_label_cache *cache, struct comma_label_cache_stats *out)
{
    lock(cache);
    *out = (struct comma_label_cache_stats){
        .hits = cache->hits,
        .misses = cache->misses,
        .shared = cache->shared,
        .evictions = cache->store.evictions,
        .list_hits = cache->list_hits,
        .bytes = cache->store.bytes,
        .max_bytes = cache->store.max_bytes,
        .n_rows = cache->store.n_rows,
        .n_lists = cache->store.n_lists,
    };
    unlock(cache);
}
