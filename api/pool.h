/* SPDX-License-Identifier: MIT */
/* pool.h - the memory of one request: taken piece by piece, given back whole, bounded from birth.
 *
 * Chunks grow by doubling, so that a small request costs one small malloc and a large label list few. Pieces are never
 * freed one by one and never move. One thread at a time. (engine/base/arena.h is the other kind: sized beforehand, for
 * work whose need is known.) */
#ifndef COMMA_API_POOL_H
#define COMMA_API_POOL_H

#include "engine/comma.h"

struct comma_pool_chunk;

struct comma_pool {
    struct comma_pool_chunk *chunks; /* newest first */
    size_t used, max;                /* bytes taken from malloc, and the most that may be */
};

/* An empty pool that will hold at most max bytes; allocates nothing yet. */
void comma_pool_init(struct comma_pool *pool, size_t max);
void comma_pool_finish(struct comma_pool *pool); /* a zeroed one is fine */

/* size bytes, aligned for any type, uninitialised. NULL when memory ran out or max would be passed. */
COMMA_MUST_CHECK
void *comma_pool_take(struct comma_pool *pool, size_t size);

/* Room for n items of size bytes each; the product is checked. */
COMMA_MUST_CHECK
void *comma_pool_array(struct comma_pool *pool, size_t n, size_t size);

/* size bytes copied, with a NUL behind them. NULL as above. */
COMMA_MUST_CHECK
char *comma_pool_copy(struct comma_pool *pool, const char *data, size_t size);

#endif
