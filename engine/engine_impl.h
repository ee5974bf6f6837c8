/* SPDX-License-Identifier: MIT */
/* engine_impl.h - what comma.h keeps to itself: the engine's parts, shared by the files that implement it
 * (engine.c, adapter.c, jobs.c, job_text.c, job_image.c, measure.c). */
#ifndef COMMA_ENGINE_ENGINE_IMPL_H
#define COMMA_ENGINE_ENGINE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/comma.h"
#include "engine/label_cache.h"
#include "engine/phrase.h"
#include "engine/text.h"
#include "engine/tokenizer.h"
#include "engine/vision.h"
#include "engine/workers.h"
#include "models/clip.h"

/* Prompt rows that an adapter may have: working memory is sized for them before adapters are known. */
#define COMMA_MAX_N_CTX 64

struct comma_adapter {
    atomic_uint refs; /* acq_rel on the last one: the thread that frees sees all others' writes */
    struct comma_engine *engine;
    uint64_t id; /* owner of its rows in the label cache; never used again */
    char name[65];
    struct comma_adapter_config config; /* of the backbone: empty method */
    bool has_prompt;
    struct comma_prompts prompts;
    struct comma_vision_prompts vision;
    struct comma_phrase phrase; /* where has_prompt */
};

enum job_phase { JOB_TEXT, JOB_IMAGE, JOB_CALL };

/* Of one job, from submit to done. */
struct comma_job_state {
    enum job_phase phase;
    bool failed;
    struct comma_rows rows; /* pinned features of its texts */
    bool has_rows;
    size_t *todo;                        /* [rows.n_todo] */
    float *features;                     /* [rows.n_todo, embed_dim] or, not normalised, [n_texts, embed_dim] */
    const struct comma_phrase **phrases; /* [n_phrases] */
    size_t n_phrases;
    bool cached_phrases;                             /* to be put back */
    float *image_feature;                            /* [embed_dim], unit length unless the job says otherwise */
    void (*call)(void *arg, struct comma_worker *w); /* JOB_CALL */
    void *call_arg;
};

struct job_list {
    struct comma_job *head, *tail;
    size_t n;
};

struct comma_engine {
    struct comma_clip *clip;
    struct comma_gemm *gemm;
    struct comma_vision vision;
    struct comma_text_tower text;
    struct comma_tokenizer *tokenizer; /* NULL: images only */
    struct comma_phrase raw;           /* a text as it stands; its prefix is SOS alone */
    struct comma_label_cache *cache;
    struct comma_phrase_cache *phrases;
    struct comma_pool *pool;
    struct comma_image_limits limits;
    comma_decode_fn decode; /* NULL: comma_image_decode */
    void *decode_user;
    bool fast_decode;
    unsigned n_threads;
    size_t max_queue;
    size_t max_text_rows; /* of a batch */
    size_t max_pictures;  /* of a batch */

    pthread_mutex_t adapters_lock;   /* protects adapters, n_adapters, next_id; taken before no other */
    struct comma_adapter *plain;     /* the backbone without prompts */
    struct comma_adapter **adapters; /* [n_adapters] sorted by name */
    size_t n_adapters;
    uint64_t next_id;

    /* Under the pool's lock. */
    struct job_list calls, texts, images; /* jobs that wait for a thread, by what they need next */
    size_t waiting;                       /* jobs submitted and not yet started */
    size_t running;
    struct comma_engine_stats stats;
    atomic_int_least64_t *busy_since; /* [n_threads] start of the task under way, 0 if none; relaxed: for display */
};

/* Runs fn on one of the engine's threads and waits for it. */
void comma_engine_call(struct comma_engine *e, void (*fn)(void *arg, struct comma_worker *w), void *arg);

/* Queues n calls of fn with arg and waits for all. Each thread runs its own. */
COMMA_MUST_CHECK
bool comma_engine_call_many(struct comma_engine *e, size_t n, void (*fn)(void *arg, struct comma_worker *w), void *arg,
                            struct comma_error *err);

/* The pool's client (jobs.c). */
void *comma_jobs_take(void *engine, unsigned idle);
void comma_jobs_run(void *engine, void *task, struct comma_worker *w);

/* Ends a job: fills in its timing, frees its state, counts, calls done(). */
void comma_job_end(struct comma_engine *e, struct comma_job *job);

/* Marks a job failed; text: index of the text at fault or SIZE_MAX. The first failure stays. */
void comma_job_fail(struct comma_job *job, size_t text, const struct comma_error *why);

/* True (and failed) if its deadline has passed or its client is gone. */
bool comma_job_dead(struct comma_job *job);

/* The text stage for jobs that wait together: looks labels up, encodes what is new as ragged batches, stores it. */
void comma_jobs_encode_texts(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs);

/* Waits for labels that other jobs compute; encodes those that were given up. False: the job has failed. */
bool comma_job_collect_texts(struct comma_engine *e, struct comma_worker *w, struct comma_job *job);

/* CoCoOp: encodes all texts of a job anew with the context of its image, into state->features [n_texts, embed_dim].
 * Only SOS and the prompt's words are shared, within the one image. False: the job has failed. */
bool comma_job_encode_conditioned(struct comma_engine *e, struct comma_worker *w, struct comma_job *job);

/* The image stage for a batch: decode, resize, encode; sets state->image_feature of those that do not fail. */
void comma_jobs_encode_images(struct comma_engine *e, struct comma_worker *w, struct comma_job *jobs, size_t n);
size_t comma_jobs_image_scratch_bytes(const struct comma_engine *e);
size_t comma_jobs_text_scratch_bytes(const struct comma_engine *e);

/* Of labels where neither the request nor the adapter says otherwise. */
extern const struct comma_text comma_default_template; /* "a photo of a {}." */

/* similarities and scores of a job from its image feature and label matrix (classifier.c). */
COMMA_MUST_CHECK
bool comma_classify_features(struct comma_worker *w, const float *image_feature, const float *labels, size_t n_labels,
                             size_t dim, float logit_scale, float *similarities, float *scores,
                             struct comma_error *err);

/* x /= |x|, plain L2 norm (SPEC 1). False if the norm is zero or not finite. */
bool comma_normalise(float *x, size_t dim);

/* Makes an adapter on one of the engine's threads; takes over nothing of dir. */
COMMA_MUST_CHECK
bool comma_adapter_make(struct comma_engine *e, const char *name, const struct comma_adapter_dir *dir,
                        struct comma_adapter **out, struct comma_error *err);

/* 1 to 64 of [A-Za-z0-9._-]. */
bool comma_adapter_name_valid(const char *name);

/* As comma_engine_open(), over a model that is open already and is taken over, also when this fails. */
COMMA_MUST_CHECK
bool comma_engine_open_clip(const struct comma_engine_options *options, struct comma_clip *clip,
                            struct comma_engine **out, struct comma_error *err);

/* Opens the adapters in the model's own adapters/ folder. */
COMMA_MUST_CHECK
bool comma_engine_add_own_adapters(struct comma_engine *e, struct comma_error *err);

#endif
