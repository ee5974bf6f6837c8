/* SPDX-License-Identifier: MIT */
/* arena.c - see arena.h. */
#include "engine/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/base/checked.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COMMA_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define COMMA_ASAN 1
#endif

#ifdef COMMA_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

static size_t round_up(size_t n)
{
    size_t sum;

    return comma_add(n, COMMA_ALIGN - 1, &sum) ? sum / COMMA_ALIGN * COMMA_ALIGN : SIZE_MAX;
}

bool comma_arena_init(struct comma_arena *arena, size_t size, struct comma_error *err)
{
    const size_t rounded = round_up(size ? size : 1);

    *arena = (struct comma_arena){ 0 };
    if (rounded == SIZE_MAX || !(arena->base = aligned_alloc(COMMA_ALIGN, rounded)))
        return comma_fail(err, COMMA_E_NOMEM, "out of memory: %zu bytes of working memory", size);
    arena->size = rounded;
    ASAN_POISON_MEMORY_REGION(arena->base, arena->size);
    return true;
}

void comma_arena_finish(struct comma_arena *arena)
{
    if (arena->base)
        ASAN_UNPOISON_MEMORY_REGION(arena->base, arena->size);
    free(arena->base);
    *arena = (struct comma_arena){ 0 };
}

void *comma_arena_take(struct comma_arena *arena, size_t size)
{
    const size_t rounded = round_up(size ? size : 1);
    unsigned char *p = arena->base + arena->used;

    assert(rounded <= arena->size - arena->used);
    arena->used += rounded;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

float *comma_arena_floats(struct comma_arena *arena, size_t a, size_t b, size_t c)
{
    size_t n = 0;
    const bool fits = comma_mul(a, b, &n) && comma_mul(n, c, &n) && comma_mul(n, sizeof(float), &n);

    assert(fits);
    (void)fits;
    return comma_arena_take(arena, n);
}

struct comma_mark comma_arena_mark(const struct comma_arena *arena)
{
    return (struct comma_mark){ arena->used };
}

void comma_arena_release(struct comma_arena *arena, struct comma_mark mark)
{
    assert(mark.used <= arena->used);
    ASAN_POISON_MEMORY_REGION(arena->base + mark.used, arena->used - mark.used);
    arena->used = mark.used;
}

size_t comma_arena_float_bytes(size_t n_floats)
{
    size_t n;

    return comma_mul(n_floats, sizeof(float), &n) ? round_up(n ? n : 1) : SIZE_MAX;
}

float *comma_alloc_floats(size_t n_floats)
{
    const size_t bytes = comma_arena_float_bytes(n_floats);

    return bytes == SIZE_MAX ? NULL : aligned_alloc(COMMA_ALIGN, bytes);
}
