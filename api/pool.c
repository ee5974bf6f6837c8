/* SPDX-License-Identifier: MIT */
/* pool.c - see pool.h. */
#include "api/pool.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

enum { FIRST_CHUNK_BYTES = 4096, MAX_CHUNK_BYTES = 1 << 20 };

struct comma_pool_chunk {
    struct comma_pool_chunk *next;
    size_t size, taken; /* of data */
    max_align_t data[];
};

void comma_pool_init(struct comma_pool *pool, size_t max)
{
    *pool = (struct comma_pool){ .max = max };
}

void comma_pool_finish(struct comma_pool *pool)
{
    struct comma_pool_chunk *next;

    for (struct comma_pool_chunk *c = pool->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    pool->chunks = NULL;
    pool->used = 0;
}

/* A chunk with room for size bytes: twice the last one if the maximum allows, else just what is needed. */
static struct comma_pool_chunk *add_chunk(struct comma_pool *pool, size_t size)
{
    const size_t room = pool->max - pool->used, head = sizeof(struct comma_pool_chunk);
    size_t want = pool->chunks ? pool->chunks->size * 2 : FIRST_CHUNK_BYTES;
    struct comma_pool_chunk *c;

    if (room < head || size > room - head)
        return NULL;
    if (want > MAX_CHUNK_BYTES)
        want = MAX_CHUNK_BYTES;
    if (want < size || want > room - head)
        want = size;
    c = malloc(head + want);
    if (!c)
        return NULL;
    *c = (struct comma_pool_chunk){ .next = pool->chunks, .size = want };
    pool->chunks = c;
    pool->used += head + want;
    return c;
}

/* size bytes at a multiple of align, which divides sizeof(max_align_t). */
static void *take(struct comma_pool *pool, size_t size, size_t align)
{
    struct comma_pool_chunk *c = pool->chunks;
    size_t start = c ? (c->taken + align - 1) / align * align : 0;

    if (!c || start > c->size || size > c->size - start) {
        c = add_chunk(pool, size);
        start = 0;
    }
    if (!c)
        return NULL;
    c->taken = start + size;
    return (char *)c->data + start;
}

void *comma_pool_take(struct comma_pool *pool, size_t size)
{
    return take(pool, size, sizeof(max_align_t));
}

void *comma_pool_array(struct comma_pool *pool, size_t n, size_t size)
{
    size_t bytes;

    return comma_mul(n, size, &bytes) ? comma_pool_take(pool, bytes) : NULL;
}

char *comma_pool_copy(struct comma_pool *pool, const char *data, size_t size)
{
    char *copy = size < SIZE_MAX ? take(pool, size + 1, 1) : NULL;

    if (!copy)
        return NULL;
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}
