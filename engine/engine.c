/* SPDX-License-Identifier: MIT */
/* engine.c - opening and closing an engine, and what it says of itself. See comma.h. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "engine/engine_impl.h"

/* Rows of one text batch: PERFORMANCE has 40 rows at 97 % of the full rate with packed weights, 800 with OpenBLAS. */
#define MAX_TEXT_ROWS 768
/* Rows of one image batch: small models gain from batches, ViT-B/16's 200 rows hardly. */
#define MAX_IMAGE_ROWS 512
#define MAX_PICTURES   8
#define MAX_PHRASES    128

struct comma_engine_options comma_engine_default_options(void)
{
    return (struct comma_engine_options){ .label_cache_bytes = (size_t)256 << 20,
                                          .max_queue = 1024,
                                          .image = comma_image_default_limits() };
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool open_model(struct comma_engine *e, const struct comma_engine_options *options, struct comma_error *err)
{
    const struct comma_clip_config *c;
    struct comma_bytes merges;

    if (!comma_gemm_open(options->backend, options->precision, &e->gemm, err) ||
        !comma_vision_load(&e->vision, e->gemm, e->clip, err) || !comma_text_load(&e->text, e->gemm, e->clip, err))
        return false;
    if (comma_gemm_packs(e->gemm) || comma_clip_dtype(e->clip) != COMMA_F32)
        comma_clip_trim(e->clip);
    c = comma_clip_config(e->clip);
    merges = comma_clip_merges(e->clip);
    if (merges.data && !comma_tokenizer_create(merges, c->vocab_size, &e->tokenizer, err))
        return comma_fail_within(err, "merges.txt");
    return comma_label_cache_create(c->embed_dim, options->label_cache_bytes, &e->cache, err) &&
           comma_phrase_cache_create(MAX_PHRASES, &e->phrases, err);
}

/* Bytes that a thread needs for a chunk of any region. */
static size_t helper_bytes(const struct comma_engine *e)
{
    const struct comma_linear *others[] = { e->vision.patch, e->vision.projection, e->text.projection };
    const size_t keys = 1 + e->vision.n_patches + COMMA_MAX_N_CTX;
    size_t most = larger(comma_block_helper_bytes(&e->vision.blocks[0], keys),
                         comma_block_helper_bytes(&e->text.blocks[0], e->text.context_length));

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        most = larger(most, comma_linear_workspace_bytes(others[i]) + COMMA_ALIGN);
    return most;
}

static bool start_threads(struct comma_engine *e, struct comma_error *err)
{
    const struct comma_pool_client client = { e, comma_jobs_take, comma_jobs_run };
    const size_t rows = 1 + e->vision.n_patches;
    size_t arena;

    e->max_text_rows = larger(MAX_TEXT_ROWS, e->text.context_length);
    e->max_pictures = MAX_IMAGE_ROWS / rows;
    e->max_pictures = e->max_pictures < 1 ? 1 : e->max_pictures > MAX_PICTURES ? MAX_PICTURES : e->max_pictures;
    arena = larger(comma_jobs_image_scratch_bytes(e), comma_jobs_text_scratch_bytes(e));
    e->busy_since = calloc(e->n_threads, sizeof(*e->busy_since));
    if (!e->busy_since)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %u threads", e->n_threads);
    return comma_pool_create(e->n_threads, arena, helper_bytes(e), &client, &e->pool, err);
}

struct raw_call {
    struct comma_engine *e;
    bool ok;
    struct comma_error err;
};

static void make_raw_phrase(void *arg, struct comma_worker *w)
{
    static const struct comma_prompts plain = { 0 };
    const struct comma_text empty = { "", 0 };
    struct raw_call *c = arg;

    c->ok = comma_phrase_make(&c->e->raw, &c->e->text, c->e->tokenizer, w, &plain, empty, empty, &c->err);
}

bool comma_engine_open(const struct comma_engine_options *options, struct comma_engine **out, struct comma_error *err)
{
    struct comma_clip *clip = NULL;

    return (options->model_dir ? comma_clip_open(options->model_dir, &clip, err)
                               : comma_clip_open_embedded(&clip, err)) &&
           comma_engine_open_clip(options, clip, out, err);
}

bool comma_engine_open_clip(const struct comma_engine_options *options, struct comma_clip *clip,
                            struct comma_engine **out, struct comma_error *err)
{
    struct comma_engine *e = calloc(1, sizeof(*e));
    struct raw_call raw = { .e = e, .ok = true };

    if (!e) {
        comma_clip_close(clip);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for an engine");
    }
    e->clip = clip;
    pthread_mutex_init(&e->adapters_lock, NULL);
    e->limits = options->image;
    e->decode = options->decode;
    e->decode_user = options->decode_user;
    e->fast_decode = options->fast_decode;
    e->max_queue = options->max_queue ? options->max_queue : 1;
    e->n_threads = options->n_threads ? options->n_threads : comma_cpu_count();
    e->next_id = 1; /* the backbone is 0 */
    if (!open_model(e, options, err) || !start_threads(e, err))
        goto fail;
    if (e->tokenizer) {
        raw.ok = comma_fail(&raw.err, COMMA_E_NOMEM, "out of memory"); /* where the call does not come to run */
        comma_engine_call(e, make_raw_phrase, &raw);
    }
    if (!raw.ok) {
        *err = raw.err;
        goto fail;
    }
    if (!comma_adapter_make(e, comma_clip_name(e->clip), NULL, &e->plain, err) ||
        (!(options->no_own_adapters && options->model_dir) && !comma_engine_add_own_adapters(e, err)))
        goto fail;
    *out = e;
    return true;
fail:
    comma_engine_close(e);
    return false;
}

void comma_engine_close(struct comma_engine *engine)
{
    if (!engine)
        return;
    comma_pool_destroy(engine->pool); /* runs what waits */
    while (engine->n_adapters)
        comma_engine_remove_adapter(engine, engine->adapters[0]->name);
    free(engine->adapters);
    comma_adapter_unref(engine->plain);
    comma_phrase_finish(&engine->raw);
    comma_phrase_cache_destroy(engine->phrases);
    comma_label_cache_destroy(engine->cache);
    comma_tokenizer_destroy(engine->tokenizer);
    comma_text_finish(&engine->text);
    comma_vision_finish(&engine->vision);
    comma_gemm_close(engine->gemm);
    comma_clip_close(engine->clip);
    free(engine->busy_since);
    pthread_mutex_destroy(&engine->adapters_lock);
    free(engine);
}

bool comma_engine_tokenize(struct comma_engine *engine, struct comma_text text, int32_t *ids, size_t max_ids,
                           size_t *n_ids, struct comma_error *err)
{
    if (!engine->tokenizer)
        return comma_fail(err, COMMA_E_UNSUPPORTED,
                          "model %s has no merges.txt or tokenizer.json, so it takes images only",
                          comma_clip_name(engine->clip));
    return comma_tokenizer_encode(engine->tokenizer, text, ids, max_ids, n_ids, err);
}

/* Multiply-adds of a token in the linear layers of a tower. */
static double token_macs(const struct comma_tower_config *t)
{
    return (double)t->layers *
           (4.0 * (double)t->width * (double)t->width + 2.0 * (double)t->width * (double)t->mlp_dim);
}

/* Nominal work, every token of every layer, so that savings show against it. */
static double image_gflop(const struct comma_clip_config *c, size_t n_ctx)
{
    const double patches = (double)(c->grid * c->grid), rows = 1 + patches + (double)n_ctx;
    const double width = (double)c->vision.width, kernel = 3.0 * (double)(c->patch_size * c->patch_size);
    const double attention = 2 * rows * rows * width * (double)c->vision.layers;

    return 2e-9 * (rows * token_macs(&c->vision) + attention + patches * kernel * width + width * (double)c->embed_dim);
}

static size_t most_n_ctx(struct comma_engine *e)
{
    size_t most = 0;

    pthread_mutex_lock(&e->adapters_lock);
    for (size_t i = 0; i < e->n_adapters; i++)
        most = larger(most, e->adapters[i]->vision.n);
    pthread_mutex_unlock(&e->adapters_lock);
    return most;
}

void comma_engine_get_info(struct comma_engine *engine, struct comma_engine_info *out)
{
    const struct comma_clip_config *c = comma_clip_config(engine->clip);

    *out = (struct comma_engine_info){
        .name = comma_clip_name(engine->clip),
        .image_size = c->image_size,
        .patch_size = c->patch_size,
        .vision_width = c->vision.width,
        .vision_layers = c->vision.layers,
        .vision_heads = c->vision.heads,
        .text_width = c->text.width,
        .text_layers = c->text.layers,
        .text_heads = c->text.heads,
        .context_length = c->context_length,
        .vocab_size = c->vocab_size,
        .embed_dim = c->embed_dim,
        .activation = c->vision.activation == COMMA_GELU ? "gelu" : "quick_gelu",
        .logit_scale = c->logit_scale,
        .n_parameters = comma_clip_n_parameters(engine->clip),
        .stored_bytes = comma_clip_stored_bytes(engine->clip),
        .dtype = comma_dtype_name(comma_clip_dtype(engine->clip)),
        .has_tokenizer = engine->tokenizer != NULL,
        .backend = comma_gemm_backend(engine->gemm),
        .precision = comma_gemm_precision(engine->gemm),
        .cpu_level = comma_cpu_level_name(comma_cpu_features()),
        .n_threads = engine->n_threads,
        .weights_bytes = comma_vision_bytes(&engine->vision) + comma_text_bytes(&engine->text),
        .image_gflop = image_gflop(c, most_n_ctx(engine)),
        .token_gflop = 2e-9 * token_macs(&c->text),
    };
}

void comma_engine_get_stats(struct comma_engine *engine, struct comma_engine_stats *out)
{
    struct comma_label_cache_stats cache;
    const int64_t now = comma_now_ns();
    int64_t oldest = 0;

    comma_pool_lock(engine->pool);
    *out = engine->stats;
    out->queue_depth = engine->waiting;
    out->jobs_running = engine->running;
    comma_pool_unlock(engine->pool);
    for (unsigned i = 0; i < engine->n_threads; i++) {
        const int64_t since = atomic_load_explicit(&engine->busy_since[i], memory_order_relaxed);

        if (since && now - since > oldest)
            oldest = now - since;
    }
    out->oldest_running_ns = oldest;
    comma_label_cache_get_stats(engine->cache, &cache);
    out->cache.hits = cache.hits;
    out->cache.misses = cache.misses;
    out->cache.shared = cache.shared;
    out->cache.evictions = cache.evictions;
    out->cache.list_hits = cache.list_hits;
    out->cache.bytes = cache.bytes;
    out->cache.max_bytes = cache.max_bytes;
    out->cache.n_rows = cache.n_rows;
}
