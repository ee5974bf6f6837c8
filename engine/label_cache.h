/* SPDX-License-Identifier: MIT */
/* label_cache.h - text features of labels already seen, bounded in bytes.
 *
 * A row is found by (owner, template list, label); threads share one cache and may call all of it at any time.
 * Requests that miss one label share its computation: the first finds it in todo, the others collect it with
 * comma_label_cache_wait() after they stored or abandoned their own todo, so that no two requests wait for each other.
 * The cache owns the rows; a struct comma_rows pins them until comma_rows_release(). A whole list seen before is one
 * look-up that yields its matrix. */
#ifndef COMMA_ENGINE_LABEL_CACHE_H
#define COMMA_ENGINE_LABEL_CACHE_H

#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

struct comma_label_cache;
struct comma_label_list; /* private: one request's pinned rows */

/* Rows of one request: valid from _fetch to _release. */
struct comma_rows {
    size_t n_labels, n_todo;
    size_t n_cached;     /* labels whose row needed no computing and no waiting */
    const float *matrix; /* [n_labels, dim] once the list is complete, else NULL */
    struct comma_label_list *list;
};

struct comma_label_cache_stats {
    uint64_t hits, misses, shared, evictions; /* labels; shared: computed by another request meanwhile */
    uint64_t list_hits;                       /* whole lists */
    size_t bytes, max_bytes, n_rows, n_lists;
};

/* dim: floats of a row. max_bytes bounds rows, lists and their keys; what requests pin may stand above it until they
 * release it. */
COMMA_MUST_CHECK
bool comma_label_cache_create(size_t dim, size_t max_bytes, struct comma_label_cache **out, struct comma_error *err);
void comma_label_cache_destroy(struct comma_label_cache *cache); /* NULL is fine; no rows may be pinned */

/* Finds the features of labels, or promises them. Never blocks on another request.
 *
 *   owner      what the features depend on beside the label: an id that is never used again for another adapter
 *   templates  [n_templates], part of the key; may be none
 *   labels     [n_labels] UTF-8, may repeat; n_labels >= 1
 *   rows       out
 *   todo       out: [rows->n_todo] indices into labels to encode, each distinct label once, then _store or _abandon;
 *              room for n_labels
 *
 * Fails with COMMA_E_NOMEM, *rows untouched. */
COMMA_MUST_CHECK
bool comma_label_cache_fetch(struct comma_label_cache *cache, uint64_t owner, const struct comma_text *templates,
                             size_t n_templates, const struct comma_text *labels, size_t n_labels,
                             struct comma_rows *rows, size_t *todo, struct comma_error *err);

/* Stores features for all of rows' todo, in its order, and wakes those who wait for them.
 *   features  [rows->n_todo, dim] f32 of L2 norm 1 */
void comma_label_cache_store(struct comma_label_cache *cache, struct comma_rows *rows, const float *features);

/* Gives up todo: whoever waits for these labels fails with *why, and the next request promises them anew. */
void comma_label_cache_abandon(struct comma_label_cache *cache, struct comma_rows *rows, const struct comma_error *why);

/* Waits until every row is there and makes rows->matrix. Call after the own todo is stored or abandoned. Fails with
 * the reason of the request that abandoned a label, COMMA_E_CANCELLED past deadline_ns (monotonic; 0: none) or
 * COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_label_cache_wait(struct comma_label_cache *cache, struct comma_rows *rows, int64_t deadline_ns,
                            struct comma_error *err);

/* Unpins; a todo that was neither stored nor abandoned is abandoned. A zeroed struct is fine. */
void comma_rows_release(struct comma_label_cache *cache, struct comma_rows *rows);

/* Forgets all rows of an owner: an adapter was unloaded. Pinned ones live until released. */
void comma_label_cache_forget(struct comma_label_cache *cache, uint64_t owner);

void comma_label_cache_get_stats(struct comma_label_cache *cache, struct comma_label_cache_stats *out);

#endif
