/* SPDX-License-Identifier: MIT */
/* label_cache.h - a request as the engine makes it, for the label cache's three test programs. Features are made from
 * the label's bytes, so that a row that belongs to another label is seen. */
#ifndef COMMA_TESTS_LABEL_CACHE_H
#define COMMA_TESTS_LABEL_CACHE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/label_cache.h"

enum { DIM = 4, MAX_LABELS = 64, PLENTY = 1 << 20, MS = 1000000 };

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* What the encoder would give for a label. */
static inline void features_of(struct comma_text label, float *out)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < label.size; i++)
        h = (h ^ (unsigned char)label.data[i]) * 16777619u;
    for (size_t i = 0; i < DIM; i++)
        out[i] = (float)(h >> (8 * i) & 0xFF) + (float)i * 0.25f;
}

static inline void encode(const struct comma_text *labels, const size_t *todo, size_t n_todo, float *out)
{
    for (size_t i = 0; i < n_todo; i++)
        features_of(labels[todo[i]], out + i * DIM);
}

static inline bool rows_are_right(const struct comma_rows *rows, const struct comma_text *labels)
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

static inline struct comma_label_cache *cache_of(size_t max_bytes)
{
    struct comma_label_cache *cache = NULL;
    struct comma_error err;

    assert_true(comma_label_cache_create(DIM, max_bytes, &cache, &err));
    return cache;
}

static inline struct comma_label_cache_stats stats_of(struct comma_label_cache *cache)
{
    struct comma_label_cache_stats stats;

    comma_label_cache_get_stats(cache, &stats);
    return stats;
}

/* "cat,dog" into texts that point into it. Returns how many. */
static inline size_t split(const char *list, struct comma_text *out)
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
static inline struct comma_rows fetch(struct comma_label_cache *cache, uint64_t owner, const char *list, size_t *todo)
{
    struct comma_text labels[MAX_LABELS];
    struct comma_rows rows;
    struct comma_error err;
    const size_t n = split(list, labels);

    assert_true(comma_label_cache_fetch(cache, owner, NULL, 0, labels, n, &rows, todo, &err));
    assert_int_equal(rows.n_labels, n);
    return rows;
}

static inline void store(struct comma_label_cache *cache, struct comma_rows *rows, const char *list, const size_t *todo)
{
    struct comma_text labels[MAX_LABELS];
    float features[MAX_LABELS * DIM];

    split(list, labels);
    encode(labels, todo, rows->n_todo, features);
    comma_label_cache_store(cache, rows, features);
}

static inline void wait_for(struct comma_label_cache *cache, struct comma_rows *rows, const char *list)
{
    struct comma_text labels[MAX_LABELS];
    struct comma_error err;

    split(list, labels);
    assert_true(comma_label_cache_wait(cache, rows, 0, &err));
    assert_true(rows_are_right(rows, labels));
}

/* A whole request, as the engine makes it. Returns how many labels it had to encode. */
static inline size_t request(struct comma_label_cache *cache, uint64_t owner, const char *list)
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
static inline const char *long_list(char *out)
{
    strcpy(out, "0");
    for (int i = 1; i < MAX_LABELS; i++)
        sprintf(out + strlen(out), ",%d", i);
    return out;
}

/* Bytes that a cache holds after a request for the list and nothing else. */
static inline size_t bytes_of(const char *list)
{
    struct comma_label_cache *cache = cache_of(PLENTY);
    size_t bytes;

    request(cache, 1, list);
    bytes = stats_of(cache).bytes;
    comma_label_cache_destroy(cache);
    return bytes;
}

#endif
