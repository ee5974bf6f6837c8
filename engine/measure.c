/* SPDX-License-Identifier: MIT */
/* measure.c - the encoders run on made-up input, for comma bench. Nothing here touches the label cache. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/engine_impl.h"

/* A number that looks random; the same ones each time. */
static uint64_t scramble(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* ---- images ---- */

struct image_call {
    struct comma_engine *e;
    struct comma_adapter *adapter;
    const float *pixels;
    size_t n, per_batch;
    atomic_size_t next; /* first image of the next batch; relaxed: batches are independent */
};

static void encode_images(void *arg, struct comma_worker *w)
{
    struct image_call *c = arg;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t first = atomic_fetch_add_explicit(&c->next, c->per_batch, memory_order_relaxed);
    const size_t n = first >= c->n ? 0 : c->n - first < c->per_batch ? c->n - first : c->per_batch;
    struct comma_picture *pictures = comma_arena_take(&w->arena, (n + 1) * sizeof(*pictures));
    float *features = comma_arena_floats(&w->arena, n + 1, c->e->vision.embed_dim, 1);

    for (size_t i = 0; i < n; i++)
        pictures[i] = (struct comma_picture){ c->pixels, &c->adapter->vision, features + i * c->e->vision.embed_dim };
    if (n)
        comma_vision_encode(&c->e->vision, w, pictures, n, NULL, NULL);
    comma_arena_release(&w->arena, mark);
}

bool comma_engine_time_images(struct comma_engine *engine, struct comma_adapter *adapter, size_t n, bool lone,
                              double *seconds, struct comma_error *err)
{
    const size_t size = 3 * engine->vision.image_size * engine->vision.image_size;
    float *pixels = comma_alloc_floats(size);
    struct image_call call = { .e = engine,
                               .adapter = adapter ? adapter : engine->plain,
                               .pixels = pixels,
                               .n = n,
                               .per_batch = lone ? 1 : engine->max_pictures };
    bool ok = true;
    int64_t t0;

    if (!pixels)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a picture");
    for (size_t i = 0; i < size; i++)
        pixels[i] = (float)(int64_t)(scramble(i) >> 32) * 0x1p-31f - 1.0f;
    atomic_init(&call.next, 0);
    t0 = comma_now_ns();
    if (lone) {
        for (size_t i = 0; i < n; i++)
            comma_engine_call(engine, encode_images, &call);
    } else { /* as a deep queue is served: batches, as many for each thread */
        const size_t round = call.per_batch * engine->n_threads;
        const size_t n_batches = (n + round - 1) / round * engine->n_threads;

        call.per_batch = (n + n_batches - 1) / n_batches;
        ok = comma_engine_call_many(engine, n_batches, encode_images, &call, err);
    }
    *seconds = comma_ms(comma_now_ns() - t0) * 1e-3;
    free(pixels);
    return ok;
}

/* ---- labels ---- */

struct label_call {
    struct comma_engine *e;
    const struct comma_prefix *prefix;
    size_t n, n_rows; /* labels in all; rows of each behind the prefix */
    size_t per_batch;
    atomic_size_t next; /* first label of the next batch; relaxed: batches are independent */
};

static void encode_labels(void *arg, struct comma_worker *w)
{
    struct label_call *c = arg;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t first = atomic_fetch_add_explicit(&c->next, c->per_batch, memory_order_relaxed);
    const size_t n = first >= c->n ? 0 : c->n - first < c->per_batch ? c->n - first : c->per_batch;
    const size_t vocab = comma_clip_config(c->e->clip)->vocab_size;
    struct comma_sentence *s = comma_arena_take(&w->arena, (n + 1) * sizeof(*s));
    int32_t *ids = comma_arena_take(&w->arena, (n + 1) * c->n_rows * sizeof(*ids));
    float *features = comma_arena_floats(&w->arena, n + 1, c->e->text.embed_dim, 1);

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < c->n_rows; j++)
            ids[i * c->n_rows + j] = (int32_t)(scramble((first + i) * 131 + j) % (vocab - 2));
        ids[i * c->n_rows + c->n_rows - 1] = (int32_t)vocab - 1;
        s[i] =
            (struct comma_sentence){ c->prefix, ids + i * c->n_rows, c->n_rows, features + i * c->e->text.embed_dim };
    }
    if (n)
        comma_text_encode(&c->e->text, w, s, n, NULL, NULL);
    comma_arena_release(&w->arena, mark);
}

bool comma_engine_time_labels(struct comma_engine *engine, struct comma_adapter *adapter, size_t n, size_t tokens,
                              bool full_context, double *seconds, struct comma_error *err)
{
    const struct comma_prefix *prefix = adapter && adapter->has_prompt ? &adapter->phrase.prefix : &engine->raw.prefix;
    struct label_call call = { .e = engine, .prefix = full_context ? &engine->raw.prefix : prefix, .n = n };
    bool ok;
    int64_t t0;

    if (!engine->tokenizer)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "model %s has no tokenizer, so it has no labels",
                          comma_clip_name(engine->clip));
    call.n_rows = full_context ? engine->text.context_length - call.prefix->n : tokens;
    if (call.n_rows == 0 || call.n_rows + call.prefix->n > engine->text.context_length)
        return comma_fail(err, COMMA_E_INPUT, "labels of %zu tokens do not fit the context of %zu", tokens,
                          engine->text.context_length);
    call.per_batch = engine->max_text_rows / call.n_rows;
    atomic_init(&call.next, 0);
    t0 = comma_now_ns();
    ok = comma_engine_call_many(engine, (n + call.per_batch - 1) / call.per_batch, encode_labels, &call, err);
    *seconds = comma_ms(comma_now_ns() - t0) * 1e-3;
    return ok;
}
