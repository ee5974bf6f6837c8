/* SPDX-License-Identifier: MIT */
/* arena.h - scratch memory that is taken in order and given back to a mark.
 *
 * One arena belongs to one thread at a time. Its size is fixed when it is made, from what the work will need at
 * most, so that nothing is allocated below an encode call; asking for more is a mistake of ours and asserts.
 * Memory behind the mark is poisoned under AddressSanitizer. */
#ifndef COMMA_BASE_ARENA_H
#define COMMA_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/error.h"

#define COMMA_ALIGN 64 /* a cache line, and the widest vector */

struct comma_arena {
    unsigned char *base; /* COMMA_ALIGN-aligned */
    size_t size, used;
};

struct comma_mark {
    size_t used;
};

/* Memory of size bytes. Fails with COMMA_E_NOMEM, *arena then empty. */
COMMA_MUST_CHECK
bool comma_arena_init(struct comma_arena *arena, size_t size, struct comma_error *err);
void comma_arena_finish(struct comma_arena *arena); /* an empty one is fine */

/* size bytes, COMMA_ALIGN-aligned, uninitialised, until the mark before it is released. */
void *comma_arena_take(struct comma_arena *arena, size_t size);

/* Room for a * b * c floats; the product is checked. */
float *comma_arena_floats(struct comma_arena *arena, size_t a, size_t b, size_t c);

struct comma_mark comma_arena_mark(const struct comma_arena *arena);
void comma_arena_release(struct comma_arena *arena, struct comma_mark mark);

/* Bytes that n_floats take in an arena, rounding included: for adding up what a work needs. */
size_t comma_arena_float_bytes(size_t n_floats);

/* Heap memory of n_floats floats, COMMA_ALIGN-aligned, for weights and features that outlive a work; free().
 * NULL when memory ran out or n_floats is too large. At least one cache line even for 0. */
float *comma_alloc_floats(size_t n_floats);

#endif
