/* SPDX-License-Identifier: MIT */
/* job_text.c - the text stage: which features are there already, and the others as ragged batches.
 *
 * The labels of all jobs that wait are one stream of sentences, cut into batches where working memory is full. A
 * feature that is a mean over templates is summed as its sentences come by (CLIP's prompt ensembling: mean of the
 * normalised features, normalised again). */
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/engine_impl.h"

/* ---- batches ---- */

struct batch {
    struct comma_engine *e;
    struct comma_worker *w;
    size_t rows, n;
    struct comma_sentence *sentences; /* [max_text_rows] */
    int32_t *ids;                     /* [max_text_rows + 2 context_length] */
    float *features;                  /* [max_text_rows, embed_dim] */
    struct target {
        struct comma_job *job;
        size_t text;  /* index in the job, for errors */
        float *sum;   /* [embed_dim] += feature * weight, or = feature */
        float weight; /* 0: as it is, not normalised */
    } * targets;
};

static void batch_init(struct batch *b, struct comma_engine *e, struct comma_worker *w)
{
    const size_t n = e->max_text_rows;

    *b = (struct batch){ .e = e, .w = w };
    b->sentences = comma_arena_take(&w->arena, n * sizeof(*b->sentences));
    b->ids = comma_arena_take(&w->arena, (n + 2 * e->text.context_length) * sizeof(*b->ids));
    b->features = comma_arena_floats(&w->arena, n, e->text.embed_dim, 1);
    b->targets = comma_arena_take(&w->arena, n * sizeof(*b->targets));
}

size_t comma_jobs_text_scratch_bytes(const struct comma_engine *e)
{
    const size_t n = e->max_text_rows;

    return comma_arena_float_bytes((COMMA_MAX_N_CTX + 1) * e->text.width + e->text.embed_dim) +
           n * (sizeof(struct comma_sentence) + sizeof(int32_t) + sizeof(struct target)) +
           2 * e->text.context_length * sizeof(int32_t) + 4 * COMMA_ALIGN +
           comma_arena_float_bytes(n * e->text.embed_dim) + comma_text_scratch_bytes(&e->text, n);
}

static void add_feature(struct target *t, float *feature, size_t dim)
{
    struct comma_error err;

    if (t->weight == 0.0f) {
        memcpy(t->sum, feature, dim * sizeof(float));
        return;
    }
    if (!comma_normalise(feature, dim)) {
        comma_fail(&err, COMMA_E_INTERNAL, "a label's feature is not finite; are the model's weights?");
        comma_job_fail(t->job, t->text, &err);
        return;
    }
    for (size_t i = 0; i < dim; i++)
        t->sum[i] += feature[i] * t->weight;
}

static void batch_flush(struct batch *b)
{
    struct comma_engine *e = b->e;

    if (!b->n)
        return;
    comma_text_encode(&e->text, b->w, b->sentences, b->n, NULL, NULL);
    for (size_t i = 0; i < b->n; i++)
        add_feature(&b->targets[i], b->sentences[i].feature, e->text.embed_dim);
    comma_pool_lock(e->pool);
    e->stats.texts_encoded += b->n;
    e->stats.text_tokens_encoded += b->rows;
    e->stats.text_batches++;
    comma_pool_unlock(e->pool);
    b->n = b->rows = 0;
}

static bool batch_add(struct batch *b, const struct comma_phrase *phrase, struct comma_text text, bool spaces,
                      const struct target *target, struct comma_error *err)
{
    const struct comma_engine *e = b->e;
    struct comma_sentence s;
    int32_t *room = b->ids + b->rows;

    if (!comma_phrase_ids(phrase, &e->text, e->tokenizer, &e->raw.prefix, text, spaces, room, &s.ids, &s.n, &s.prefix,
                          err))
        return false;
    if (b->rows + s.n > e->max_text_rows || (b->n && b->sentences[0].prefix->last_layer != s.prefix->last_layer)) {
        const int32_t *ids = s.ids;

        batch_flush(b);
        memmove(b->ids, ids, s.n * sizeof(*ids));
        s.ids = b->ids;
    } else {
        memmove(room, s.ids, s.n * sizeof(*room));
        s.ids = room;
    }
    s.feature = b->features + b->n * e->text.embed_dim;
    b->targets[b->n] = *target;
    b->sentences[b->n++] = s;
    b->rows += s.n;
    return true;
}

/* ---- one job ---- */

const struct comma_text comma_default_template = { "a photo of a {}.", 16 };
static const struct comma_text as_it_stands = { "", 0 }; /* no template is empty, so it names raw texts in the cache */

/* The phrases round each text: the adapter's, the templates', or none. */
static bool find_phrases(struct comma_engine *e, struct comma_worker *w, struct comma_job *job, struct comma_error *err)
{
    struct comma_job_state *s = job->state;
    const bool raw = job->kind == COMMA_JOB_EMBED_TEXTS && !job->adapter->has_prompt;
    const bool templates = !raw && !job->adapter->has_prompt;

    s->n_phrases = templates && job->n_templates ? job->n_templates : 1;
    s->phrases = calloc(s->n_phrases, sizeof(*s->phrases));
    if (!s->phrases)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu templates", s->n_phrases);
    if (!templates) {
        s->phrases[0] = raw ? &e->raw : &job->adapter->phrase;
        return true;
    }
    s->cached_phrases = true;
    for (size_t i = 0; i < s->n_phrases; i++)
        if (!comma_phrase_cache_get(e->phrases, &e->text, e->tokenizer, w,
                                    job->n_templates ? job->templates[i] : comma_default_template, &s->phrases[i], err))
            return false;
    return true;
}

static bool fetch(struct comma_engine *e, struct comma_job *job, struct comma_error *err)
{
    struct comma_job_state *s = job->state;
    const bool raw = s->phrases[0] == &e->raw;
    const struct comma_text *key = raw ? &as_it_stands : job->n_templates ? job->templates : &comma_default_template;
    const size_t n_key = job->adapter->has_prompt ? 0 : raw || !job->n_templates ? 1 : job->n_templates;

    s->has_rows = comma_label_cache_fetch(e->cache, job->adapter->id, key, n_key, job->texts, job->n_texts, &s->rows,
                                          s->todo, err);
    return s->has_rows;
}

/* Room for features of what is to be encoded; zeroed, since means are summed into it. */
static bool take_features(struct comma_job_state *s, size_t n, size_t dim, struct comma_error *err)
{
    free(s->features);
    s->features = comma_alloc_floats(n * dim);
    if (!s->features)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the features of %zu labels", n);
    memset(s->features, 0, n * dim * sizeof(float));
    return true;
}

/* Puts text number `text` into the batch, once a phrase. */
static bool add_text(struct batch *b, struct comma_job *job, size_t text, float *sum)
{
    const struct comma_job_state *s = job->state;
    const bool raw = s->phrases[0] == &b->e->raw;
    const struct target target = { job, text, sum, job->not_normalized ? 0.0f : 1.0f / (float)s->n_phrases };
    struct comma_error err;

    for (size_t i = 0; i < s->n_phrases; i++) {
        if (!batch_add(b, s->phrases[i], job->texts[text], !raw, &target, &err)) {
            comma_job_fail(job, text, &err);
            return false;
        }
    }
    return true;
}

/* Queues all that a job has to encode. False: it has failed. */
static bool add_job(struct batch *b, struct comma_job *job)
{
    struct comma_job_state *s = job->state;
    const size_t dim = b->e->text.embed_dim;

    if (job->not_normalized) {
        for (size_t i = 0; i < job->n_texts; i++)
            if ((i % 64 == 0 && comma_job_dead(job)) || !add_text(b, job, i, job->text_features + i * dim))
                return false;
        return true;
    }
    for (size_t i = 0; i < s->rows.n_todo; i++)
        if ((i % 64 == 0 && comma_job_dead(job)) || !add_text(b, job, s->todo[i], s->features + i * dim))
            return false;
    return true;
}

static bool start_job(struct comma_engine *e, struct comma_worker *w, struct comma_job *job)
{
    struct comma_job_state *s = job->state;
    struct comma_error err;

    if (comma_job_dead(job))
        return false;
    if (job->adapter->prompts.meta_dim) {
        if (job->kind == COMMA_JOB_CLASSIFY)
            return true; /* its texts wait for the image: comma_job_encode_conditioned() */
        comma_fail(&err, COMMA_E_UNSUPPORTED,
                   "adapter '%s' makes its text features from each image (CoCoOp), so texts alone have none",
                   job->adapter->name);
        goto fail;
    }
    if (!find_phrases(e, w, job, &err))
        goto fail;
    if (job->not_normalized)
        return true;
    s->todo = malloc(job->n_texts * sizeof(*s->todo));
    if (!s->todo) {
        comma_fail(&err, COMMA_E_NOMEM, "out of memory for %zu labels", job->n_texts);
        goto fail;
    }
    if (!fetch(e, job, &err) || (s->rows.n_todo && !take_features(s, s->rows.n_todo, e->text.embed_dim, &err)))
        goto fail;
    job->n_cached = s->rows.n_cached;
    return true;
fail:
    comma_job_fail(job, SIZE_MAX, &err);
    return false;
}

/* Sums to features, features to the cache; or gives the labels up. */
static void store_job(struct comma_engine *e, struct comma_job *job)
{
    struct comma_job_state *s = job->state;
    const size_t dim = e->text.embed_dim;
    struct comma_error err;

    if (!s->has_rows || !s->rows.n_todo)
        return;
    for (size_t i = 0; !s->failed && s->n_phrases > 1 && i < s->rows.n_todo; i++) {
        if (!comma_normalise(s->features + i * dim, dim)) {
            comma_fail(&err, COMMA_E_INPUT, "the templates' features cancel each other out");
            comma_job_fail(job, s->todo[i], &err);
        }
    }
    if (s->failed)
        comma_label_cache_abandon(e->cache, &s->rows, &job->error);
    else
        comma_label_cache_store(e->cache, &s->rows, s->features);
    free(s->features);
    s->features = NULL;
}

static void encode_jobs(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs, bool only_first)
{
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    struct batch b;

    batch_init(&b, e, w);
    for (struct comma_job *j = jobs; j; j = only_first ? NULL : j->next)
        if (!j->state->failed)
            add_job(&b, j);
    batch_flush(&b);
    comma_arena_release(&w->arena, mark);
    for (struct comma_job *j = jobs; j; j = only_first ? NULL : j->next)
        store_job(e, j);
}

void comma_jobs_encode_texts(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs)
{
    const int64_t t0 = comma_now_ns();

    for (struct comma_job *j = jobs; j; j = j->next)
        start_job(e, w, j);
    encode_jobs(e, w, jobs, false);
    for (struct comma_job *j = jobs; j; j = j->next)
        j->timing.text = comma_ms(comma_now_ns() - t0);
}

bool comma_job_collect_texts(struct comma_engine *e, struct comma_worker *w, struct comma_job *job)
{
    struct comma_job_state *s = job->state;
    struct comma_error err;

    /* Each round in which another job gave up a label that this one waited for makes that label this job's own. */
    for (int round = 0; round < 8; round++) {
        if (s->failed)
            return false;
        if (comma_label_cache_wait(e->cache, &s->rows, job->deadline_ns, &err))
            return true;
        if (err.code == COMMA_E_NOMEM || comma_job_dead(job))
            break;
        comma_rows_release(e->cache, &s->rows);
        s->has_rows = false;
        if (!fetch(e, job, &err) || (s->rows.n_todo && !take_features(s, s->rows.n_todo, e->text.embed_dim, &err)))
            break;
        encode_jobs(e, w, job, true);
    }
    comma_job_fail(job, SIZE_MAX, &err);
    return false;
}

/* ---- CoCoOp ---- */

/* The adapter's phrase with the context of one image; shares all but the prefix. */
static bool condition_phrase(struct comma_engine *e, struct comma_worker *w, const struct comma_job *job,
                             struct comma_phrase *out, struct comma_error *err)
{
    const struct comma_adapter *a = job->adapter;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const size_t scratch = comma_prompts_condition_scratch(&a->prompts, comma_clip_config(e->clip));
    float *room = comma_arena_floats(&w->arena, a->prompts.n_text * e->text.width + scratch, 1, 1);
    struct comma_prompts shifted = a->prompts;
    bool ok;

    comma_prompts_condition(&a->prompts, comma_clip_config(e->clip), job->state->image_feature, room,
                            room + a->prompts.n_text * e->text.width);
    shifted.text_input = room;
    *out = a->phrase;
    ok = comma_prefix_make(&e->text, w, &shifted, a->phrase.prefix.ids, a->phrase.n_before, &out->prefix, err);
    out->prefix.learned = a->phrase.prefix.learned; /* no row behind the prefix is learned */
    comma_arena_release(&w->arena, mark);
    return ok;
}

bool comma_job_encode_conditioned(struct comma_engine *e, struct comma_worker *w, struct comma_job *job)
{
    const size_t dim = e->text.embed_dim;
    struct comma_job_state *s = job->state;
    const struct comma_mark mark = comma_arena_mark(&w->arena);
    const struct comma_phrase *phrase;
    struct comma_phrase conditioned;
    struct comma_error err;
    struct batch b;

    if (!take_features(s, job->n_texts, dim, &err) || !condition_phrase(e, w, job, &conditioned, &err)) {
        comma_job_fail(job, SIZE_MAX, &err);
        return false;
    }
    phrase = &conditioned;
    batch_init(&b, e, w);
    for (size_t i = 0; i < job->n_texts && !(i % 64 == 0 && comma_job_dead(job)); i++) {
        const struct target target = { job, i, s->features + i * dim, 1.0f };

        if (!batch_add(&b, phrase, job->texts[i], true, &target, &err)) {
            comma_job_fail(job, i, &err);
            break;
        }
    }
    batch_flush(&b);
    comma_arena_release(&w->arena, mark);
    comma_prefix_finish(&conditioned.prefix);
    return !s->failed;
}
