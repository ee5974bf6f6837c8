/* SPDX-License-Identifier: MIT */
/* job_image.c - the image stage: bytes to pixels to features, for a few jobs as one batch. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/engine_impl.h"
#include "engine/preprocess.h"

/* Decodes and resizes one job's image to pixels [3, image_size, image_size]. */
static bool load_pixels(struct comma_engine *e, struct comma_worker *w, struct comma_job *job, float *pixels,
                        struct comma_error *err)
{
    const struct comma_clip_config *c = comma_clip_config(e->clip);
    const size_t min_side = e->fast_decode ? 2 * c->image_size : 0; /* at least twice what the resize needs */
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    unsigned char *square = comma_arena_take(&w->arena, 3 * c->image_size * c->image_size);
    struct comma_image image = { 0 };
    bool ok;

    /* Whoever decodes elsewhere resizes there, too, rather than hand all pixels over. */
    ok = e->decode ? e->decode(e->decode_user, job->image, &e->limits, !job->raw_orientation, min_side, c->image_size,
                               &image, err)
                   : comma_image_decode(job->image, &e->limits, !job->raw_orientation, min_side, &image, err);
    ok = ok && comma_preprocess_square(&image, c->image_size, square, err);
    if (ok)
        comma_preprocess_normalise(square, c->image_size, c->image_mean, c->image_std, pixels);
    comma_image_finish(&image);
    comma_arena_release(&w->arena, mark);
    return ok;
}

static void take_feature(struct comma_job *job, const float *feature, size_t dim)
{
    struct comma_error err;

    memcpy(job->state->image_feature, feature, dim * sizeof(float));
    if (job->not_normalized && job->kind == COMMA_JOB_EMBED_IMAGE)
        return;
    if (!comma_normalise(job->state->image_feature, dim)) {
        comma_fail(&err, COMMA_E_INTERNAL, "the image's feature is not finite; are the model's weights?");
        comma_job_fail(job, SIZE_MAX, &err);
    }
}

void comma_jobs_encode_images(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs, size_t n)
{
    const struct comma_clip_config *c = comma_clip_config(e->clip);
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t size = 3 * c->image_size * c->image_size;
    struct comma_picture *pictures = comma_arena_take(&w->arena, n * sizeof(*pictures));
    struct comma_job **owners = comma_arena_take(&w->arena, n * sizeof(*owners));
    float *pixels = comma_arena_floats(&w->arena, n, size, 1);
    float *features = comma_arena_floats(&w->arena, n, c->embed_dim, 1);
    size_t good = 0;
    int64_t t0;

    for (struct comma_job *j = jobs; j; j = j->next) {
        struct comma_error err;

        if (comma_job_dead(j))
            continue;
        t0 = comma_now_ns();
        if (!load_pixels(e, w, j, pixels + good * size, &err)) {
            comma_job_fail(j, SIZE_MAX, &err);
            continue;
        }
        j->timing.decode = comma_ms(comma_now_ns() - t0);
        pictures[good] =
            (struct comma_picture){ pixels + good * size, &j->adapter->vision, features + good * c->embed_dim };
        owners[good++] = j;
    }
    t0 = comma_now_ns();
    if (good) {
        comma_vision_encode(&e->vision, w, pictures, good, NULL, NULL);
        comma_pool_lock(e->pool);
        e->stats.images_encoded += good;
        e->stats.image_batches++;
        comma_pool_unlock(e->pool);
    }
    for (size_t i = 0; i < good; i++) {
        owners[i]->timing.image = comma_ms(comma_now_ns() - t0);
        take_feature(owners[i], pictures[i].feature, c->embed_dim);
    }
    comma_arena_release(&w->arena, mark);
}

size_t comma_jobs_image_scratch_bytes(const struct comma_engine *e)
{
    const size_t n = e->max_pictures, side = e->vision.image_size;

    return n * (sizeof(struct comma_picture) + sizeof(struct comma_job *)) + 4 * COMMA_ALIGN +
           comma_arena_float_bytes(n * 3 * side * side) + comma_arena_float_bytes(n * e->vision.embed_dim) +
           3 * side * side + comma_vision_scratch_bytes(&e->vision, n, COMMA_MAX_N_CTX);
}
