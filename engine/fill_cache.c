/* SPDX-License-Identifier: MIT */
/* fill_cache.c - a label cache full of made-up features, for comma bench: what a request with 100,000 known labels
 * costs can be measured without encoding them, which would take minutes. */
#include <math.h>
#include <stdlib.h>

#include "engine/engine_impl.h"
#define PER_CALL 4096 /* labels: bounds the memory for features that are not in the cache yet */

/* Unit vectors that differ from label to label, so that scores are not all equal. */
static void make_feature(size_t label, float *out, size_t dim)
{
    uint64_t state = label + 1;
    float sum = 0;

    for (size_t i = 0; i < dim; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
        out[i] = (float)(int64_t)state * 0x1p-63f + 0x1p-20f;        /* never all zero */
        sum += out[i] * out[i];
    }
    for (size_t i = 0; i < dim; i++)
        out[i] /= sqrtf(sum);
}

bool comma_engine_fill_cache(struct comma_engine *engine, struct comma_adapter *adapter,
                             const struct comma_text *labels, size_t n_labels, struct comma_error *err)
{
    const struct comma_adapter *a = adapter ? adapter : engine->plain;
    const size_t dim = engine->text.embed_dim;
    float *features = comma_alloc_floats(PER_CALL * dim);
    size_t *todo = calloc(PER_CALL, sizeof(*todo));
    bool ok = false;

    if (!features || !todo) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for made-up features");
        goto out;
    }
    for (size_t first = 0; first < n_labels; first += PER_CALL) {
        const size_t n = n_labels - first < PER_CALL ? n_labels - first : PER_CALL;
        struct comma_rows rows;

        if (!comma_label_cache_fetch(engine->cache, a->id, &comma_default_template, a->has_prompt ? 0 : 1,
                                     labels + first, n, &rows, todo, err))
            goto out;
        for (size_t i = 0; i < rows.n_todo; i++)
            make_feature(first + todo[i], features + i * dim, dim);
        comma_label_cache_store(engine->cache, &rows, features);
        comma_rows_release(engine->cache, &rows);
    }
    ok = true;
out:
    free(features);
    free(todo);
    return ok;
}
