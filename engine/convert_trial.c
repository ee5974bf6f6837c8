/* SPDX-License-Identifier: MIT */
/* convert_trial.c - see convert_impl.h: one picture and one label through source and result.
 *
 * That every weight was stored right is known from reading back; this shows that the directory as a whole, with its
 * configuration and tokenizer, computes what the source does. One engine is open at a time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/convert_impl.h"

#define PICTURE_SIDE 64

/* What one adapter, or the backbone, makes of picture and label. */
struct trial {
    float *image, *text; /* [embed_dim], not normalised; text NULL without a tokenizer */
    float similarity;    /* CoCoOp, whose texts belong to an image */
    bool finite;
};

struct trials {
    struct trial *items; /* [n] the backbone's, then the adapters' */
    size_t n;
};

static void finish_trials(struct trials *t)
{
    for (size_t i = 0; t->items && i < t->n; i++) {
        free(t->items[i].image);
        free(t->items[i].text);
    }
    free(t->items);
    *t = (struct trials){ 0 };
}

/* Stands in for a decoder: a picture with edges and slopes, whatever the bytes are. */
static bool make_picture(void *user, struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                         size_t min_side_px, size_t square_px, struct comma_image *out, struct comma_error *err)
{
    unsigned char *pixels = malloc(PICTURE_SIDE * PICTURE_SIDE * 3);

    (void)user;
    (void)file;
    (void)limits;
    (void)auto_orient;
    (void)min_side_px;
    (void)square_px;
    if (!pixels)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a picture");
    for (size_t y = 0; y < PICTURE_SIDE; y++)
        for (size_t x = 0; x < PICTURE_SIDE; x++) {
            unsigned char *p = pixels + (y * PICTURE_SIDE + x) * 3;

            p[0] = (unsigned char)(4 * x);
            p[1] = (unsigned char)(4 * y);
            p[2] = (x / 8 + y / 8) % 2 ? 220 : 30;
        }
    *out = (struct comma_image){ .width = PICTURE_SIDE, .height = PICTURE_SIDE, .pixels = pixels };
    return true;
}

static struct comma_engine_options engine_options(const struct comma_convert_options *o)
{
    struct comma_engine_options options = comma_engine_default_options();

    options.n_threads = o->n_threads;
    options.label_cache_bytes = (size_t)1 << 20;
    options.decode = make_picture;
    return options;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; x && i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool run(struct comma_engine *engine, struct comma_job *job, struct trial *t, struct comma_error *err)
{
    bool ok = comma_engine_run(engine, job);

    if (!ok && job->error.code == COMMA_E_INTERNAL) { /* a number that is none: judged below */
        t->finite = false;
        ok = true;
    } else if (!ok) {
        *err = job->error;
    }
    if (job->similarities)
        t->similarity = job->similarities[0];
    if (job->image_feature) {
        t->image = job->image_feature;
        job->image_feature = NULL;
    }
    if (job->text_features) {
        t->text = job->text_features;
        job->text_features = NULL;
    }
    comma_job_finish(job);
    return ok;
}

/* item NULL: the backbone. */
static bool try_one(struct comma_engine *engine, struct comma_adapter *adapter, const struct comma_convert_item *item,
                    bool allow_nan, struct trial *t, struct comma_error *err)
{
    static const unsigned char bytes[] = { 0 };
    const struct comma_adapter_config *config = item ? &item->dir.config : NULL;
    const struct comma_text label = comma_text_of(config && config->n_classnames ? config->classnames[0] : "dog");
    const bool conditioned = config && strcmp(config->method, "cocoop") == 0;
    struct comma_job image = {
        .kind = COMMA_JOB_EMBED_IMAGE, .adapter = adapter, .image = { bytes, sizeof(bytes) }, .not_normalized = true
    };
    struct comma_job text = { .kind = conditioned ? COMMA_JOB_CLASSIFY : COMMA_JOB_EMBED_TEXTS,
                              .adapter = adapter,
                              .image = { bytes, conditioned ? sizeof(bytes) : 0 },
                              .texts = &label,
                              .n_texts = 1,
                              .not_normalized = !conditioned };
    const size_t dim = comma_clip_config(engine->clip)->embed_dim;

    t->finite = true;
    if (!run(engine, &image, t, err) || (engine->tokenizer && !run(engine, &text, t, err)))
        return false;
    t->finite = t->finite && all_finite(t->image, dim) && all_finite(t->text, dim) && isfinite(t->similarity);
    if (!t->finite && !allow_nan)
        return comma_fail(err, COMMA_E_MODEL,
                          "%s: a feature is not finite; are the weights those of a training that "
                          "diverged?",
                          item ? item->path : comma_clip_name(engine->clip));
    return true;
}

/* Over an engine: the backbone, and each adapter, made of the item or, staged, by the name it has there. */
static bool try_all(struct comma_conversion *c, struct comma_engine *engine, bool staged, struct trials *out,
                    struct comma_error *err)
{
    struct trials t = { .items = calloc(c->n_adapters + 1, sizeof(*t.items)) };
    bool ok = t.items || comma_fail(err, COMMA_E_NOMEM, "out of memory for a trial");

    t.n = t.items ? c->n_adapters + 1 : 0;
    ok = ok && try_one(engine, engine->plain, NULL, c->options->allow_nan, &t.items[0], err);
    for (size_t i = 0; ok && i < c->n_adapters; i++) {
        const struct comma_convert_item *item = &c->adapters[i];
        struct comma_adapter *adapter = NULL;

        if (staged)
            ok = (adapter = comma_engine_get_adapter(engine, item->name)) ||
                 comma_fail(err, COMMA_E_INTERNAL, "the adapter %s was written and is not there", item->name);
        else
            ok = comma_adapter_make(engine, item->name, &item->dir, &adapter, err) ||
                 comma_fail_within(err, "%s", item->path);
        ok = ok && try_one(engine, adapter, item, c->options->allow_nan, &t.items[i + 1], err) &&
             comma_convert_step(c, 0, err);
        comma_adapter_unref(adapter);
    }
    if (ok)
        *out = t;
    else
        finish_trials(&t);
    return ok;
}

/* ---- judging ---- */

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;

    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa == bb;
}

/* How near two trials must be: bits that a narrower dtype drops from the weights turn features a little. */
static double least_cosine(const char *dtype)
{
    if (dtype && strcmp(dtype, "bf16") == 0)
        return 0.98;
    return dtype && strcmp(dtype, "f16") == 0 ? 0.998 : 0.99999;
}

static bool judge(const struct comma_conversion *c, const struct trials *source, const struct trials *result,
                  size_t dim, double *agreement, struct comma_error *err)
{
    const double least = least_cosine(c->options->dtype);

    *agreement = 1;
    for (size_t i = 0; i < source->n; i++) {
        const struct trial *a = &source->items[i], *b = &result->items[i];
        const char *name = i ? c->adapters[i - 1].path : "the backbone";
        double least_found = 1;

        if (a->finite != b->finite || !a->image != !b->image || !a->text != !b->text)
            return comma_fail(err, COMMA_E_MODEL, "%s: what was written computes something else than its source", name);
        if (!a->finite)
            continue;
        if (a->image)
            least_found = fmin(least_found, cosine(a->image, b->image, dim));
        if (a->text)
            least_found = fmin(least_found, cosine(a->text, b->text, dim));
        least_found = fmin(least_found, 1 - fabs((double)a->similarity - (double)b->similarity));
        if (!(least_found >= least))
            return comma_fail(err, COMMA_E_MODEL,
                              "%s: features of what was written agree with the source's only to a "
                              "cosine of %.6f; %s needs %.5f",
                              name, least_found, c->options->dtype ? c->options->dtype : "the stored dtype", least);
        *agreement = fmin(*agreement, least_found);
    }
    return true;
}

bool comma_convert_try_model(struct comma_conversion *c, double *agreement, struct comma_error *err)
{
    struct comma_engine_options options = engine_options(c->options);
    const size_t dim = comma_clip_config(c->clip)->embed_dim;
    struct trials source = { 0 }, result = { 0 };
    struct comma_clip *clip = c->clip;
    struct comma_engine *engine = NULL;
    bool ok;

    c->clip = NULL;
    ok = comma_engine_open_clip(&options, clip, &engine, err) && try_all(c, engine, false, &source, err);
    comma_engine_close(engine);
    engine = NULL;
    options.model_dir = c->staging.dir;
    ok = ok && comma_engine_open(&options, &engine, err) && try_all(c, engine, true, &result, err);
    comma_engine_close(engine);
    ok = ok && judge(c, &source, &result, dim, agreement, err);
    finish_trials(&source);
    finish_trials(&result);
    return ok;
}

bool comma_convert_try_adapter(struct comma_conversion *c, double *agreement, struct comma_error *err)
{
    const struct comma_engine_options options = engine_options(c->options);
    const size_t dim = comma_clip_config(c->clip)->embed_dim;
    struct comma_convert_item *item = &c->adapters[0];
    struct trials source = { 0 }, result = { 0 };
    struct comma_clip *clip = c->clip;
    struct comma_engine *engine = NULL;
    bool ok;

    c->clip = NULL;
    strcpy(item->name, "the-converted.one"); /* in this engine only */
    ok = comma_engine_open_clip(&options, clip, &engine, err) && try_all(c, engine, false, &source, err) &&
         comma_engine_add_adapter(engine, item->name, c->staging.dir, err) && try_all(c, engine, true, &result, err) &&
         judge(c, &source, &result, dim, agreement, err);
    comma_engine_close(engine);
    finish_trials(&source);
    finish_trials(&result);
    return ok;
}
