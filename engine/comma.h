/* SPDX-License-Identifier: MIT */
/* comma.h - the public header of libcomma: an image and class names in, similarity scores out.
 *
 * An engine is one backbone (a CLIP ViT), the adapters over it (COMMA prompts, one task each), a cache of label
 * features and a pool of threads. Work is handed over as jobs; the engine's threads decode, encode and score them,
 * those that wait together as one batch. Where the mathematics is from: the project's SPEC, section by section, as the
 * file comments say.
 *
 *     struct comma_engine *engine;
 *     struct comma_engine_options options = comma_engine_default_options();
 *     struct comma_job job = { .image = { png, png_size }, .texts = labels, .n_texts = 3, .kind = COMMA_JOB_CLASSIFY };
 *
 *     if (comma_engine_open(&options, &engine, &err) && comma_engine_run(engine, &job))
 *         ... job.scores[i] belongs to labels[i]; comma_job_finish(&job); comma_engine_close(engine);
 *
 * All functions may be called from any thread. */
#ifndef COMMA_ENGINE_COMMA_H
#define COMMA_ENGINE_COMMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"
#include "engine/base/text.h"
#include "engine/image.h"

#define COMMA_VERSION "0.1.0"

struct comma_engine;
struct comma_adapter;

/* Turns image bytes into pixels, in place of comma_image_decode_square(): the server puts its sandbox here. A picture
 * that comes back in another size is resized as usual. Any thread. */
typedef bool (*comma_decode_fn)(void *user, struct comma_bytes file, const struct comma_image_limits *limits,
                                bool auto_orient, size_t min_side_px, size_t square_px, struct comma_image *out,
                                struct comma_error *err);

struct comma_engine_options {
    const char *model_dir;    /* NULL: the embedded default */
    const char *backend;      /* "openblas" (NULL), "onednn" */
    const char *precision;    /* "f32" (NULL), "bf16", "int8" */
    unsigned n_threads;       /* 0: the cores that affinity and cgroup allow */
    size_t label_cache_bytes; /* 256 MiB by default */
    size_t max_queue;         /* jobs that may wait; submit fails with COMMA_E_BUSY beyond. 1,024 by default */
    struct comma_image_limits image;
    bool no_own_adapters;   /* leave a model directory's adapters/ folder to the caller */
    bool fast_decode;       /* scaled JPEG decoding for large photos: faster, changes pixels */
    comma_decode_fn decode; /* NULL: in this process */
    void *decode_user;
};

struct comma_engine_options comma_engine_default_options(void);

/* Opens the model, folds what can be folded, starts the threads, and opens the adapters that lie in the model's own
 * adapters/ folder; one that is broken fails it. Fails with COMMA_E_MODEL, COMMA_E_IO, COMMA_E_UNSUPPORTED or
 * COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_engine_open(const struct comma_engine_options *options, struct comma_engine **out, struct comma_error *err);

/* Waits for jobs that were submitted, ends the threads and frees all. NULL is fine. */
void comma_engine_close(struct comma_engine *engine);

/* ---- adapters ---- */

/* Opens an adapter directory under a name; replaces the one of that name for later jobs (jobs under way keep theirs).
 * Names: 1 to 64 of [A-Za-z0-9._-], not the backbone's. On failure what was there stays. */
COMMA_MUST_CHECK
bool comma_engine_add_adapter(struct comma_engine *engine, const char *name, const char *dir, struct comma_error *err);

/* Takes an adapter away for later jobs; false if there is none of that name. */
bool comma_engine_remove_adapter(struct comma_engine *engine, const char *name);

/* Looks a name up: an adapter's, or the backbone's own for plain CLIP (as NULL or "" is). The reference is the
 * caller's, to be given back. NULL if there is none. */
struct comma_adapter *comma_engine_get_adapter(struct comma_engine *engine, const char *name);
void comma_adapter_unref(struct comma_adapter *adapter); /* NULL is fine */
const char *comma_adapter_name(const struct comma_adapter *adapter);

/* Whether the adapter has a prompt of its own, so that templates make no sense with it. False for the backbone. */
bool comma_adapter_has_prompt(const struct comma_adapter *adapter);

/* ---- jobs ---- */

enum comma_job_kind {
    COMMA_JOB_CLASSIFY,    /* image and texts (class names): similarity and score of each */
    COMMA_JOB_EMBED_IMAGE, /* image: its feature */
    COMMA_JOB_EMBED_TEXTS  /* texts: their features. With an adapter's prompt a text is a class name put into it;
                              without one it is encoded as it stands. Templates are not used */
};

/* Milliseconds of each stage of a job. */
struct comma_timing {
    double queue, decode, image, text, total;
};

/* One request. The caller fills in the first part and keeps it, and what it points to, alive until the job is done. */
struct comma_job {
    enum comma_job_kind kind;
    struct comma_adapter *adapter; /* NULL: plain CLIP. Borrowed: the caller's reference must outlive the job */
    struct comma_bytes image;      /* PNG or JPEG */
    const struct comma_text *texts;
    size_t n_texts;
    const struct comma_text *templates; /* each with one {}; none: "a photo of a {}.". Refused with a prompt */
    size_t n_templates;
    bool raw_orientation; /* leave the EXIF orientation out of account, as the authors' code does */
    bool not_normalized;  /* EMBED_*: features as the projection gives them, not divided by their L2 norm */
    int64_t deadline_ns;  /* on comma_now_ns()'s clock; 0: none. Past it the job fails with COMMA_E_CANCELLED */
    bool (*cancelled)(const struct comma_job *job); /* asked between steps; NULL: never */
    void (*done)(struct comma_job *job);            /* called once, on a thread of the engine; only for _submit */
    void *user;

    /* Results, the engine's to write, the job's to free (comma_job_finish). */
    bool ok;
    struct comma_error error; /* where !ok */
    size_t error_text;        /* index of the text at fault, SIZE_MAX if it is none of them */
    float *image_feature;     /* EMBED_IMAGE: [embed_dim] */
    float *text_features;     /* EMBED_TEXTS: [n_texts, embed_dim] */
    float *similarities;      /* CLASSIFY: [n_texts] cosines */
    float *scores;            /* CLASSIFY: [n_texts] softmax of exp(logit_scale) * similarity over these texts */
    size_t n_cached;          /* texts whose features were there already */
    struct comma_timing timing;

    struct comma_job *next;           /* the engine's */
    int64_t submitted_ns, started_ns; /* the engine's */
    struct comma_job_state *state;    /* the engine's */
};

/* Queues a job; done() tells its end. Fails with COMMA_E_BUSY where the queue is full, done() is then not called. */
COMMA_MUST_CHECK
bool comma_engine_submit(struct comma_engine *engine, struct comma_job *job, struct comma_error *err);

/* Runs a job to its end on the calling thread's time; job->done is not used. Returns job->ok. */
COMMA_MUST_CHECK
bool comma_engine_run(struct comma_engine *engine, struct comma_job *job);

/* Frees the results; inputs are the caller's. */
void comma_job_finish(struct comma_job *job);

/* Indices of the k best scores, falling; equal scores in their order. k is lowered to n.
 *   order  out: [min(k, n)] */
void comma_top_k(const float *scores, size_t n, size_t k, size_t *order);

/* Ids of text as it stands, with SOS and EOT, no padding. ids: room for max_ids. For tools. */
COMMA_MUST_CHECK
bool comma_engine_tokenize(struct comma_engine *engine, struct comma_text text, int32_t *ids, size_t max_ids,
                           size_t *n_ids, struct comma_error *err);

/* ---- what an engine is and does ---- */

struct comma_adapter_info {
    char name[65];
    char method[32];
    char ctx_init[512];
    size_t n_ctx, prompt_depth, last_layer;
    size_t bytes;     /* memory it takes once folded */
    size_t n_classes; /* 0, or it has vectors of its own for so many class names and takes no others (CoOp) */
};

struct comma_engine_info {
    const char *name; /* of the backbone */
    size_t image_size, patch_size, vision_width, vision_layers, vision_heads;
    size_t text_width, text_layers, text_heads, context_length, vocab_size, embed_dim;
    const char *activation; /* "quick_gelu" or "gelu" */
    float logit_scale;
    size_t n_parameters, stored_bytes;
    const char *dtype; /* as stored: "F16" */
    bool has_tokenizer;
    const char *backend, *precision, *cpu_level;
    unsigned n_threads;
    size_t weights_bytes; /* of the served weights: mapped, converted or packed */
    double image_gflop;   /* nominal: every token of every layer, with n_ctx prompts of the largest adapter */
    double token_gflop;   /* nominal, a text token through all layers */
};

struct comma_engine_stats {
    uint64_t jobs_done, jobs_failed, images_encoded, texts_encoded, text_tokens_encoded;
    uint64_t image_batches, text_batches;
    size_t queue_depth, jobs_running;
    struct {
        uint64_t hits, misses, shared, evictions, list_hits;
        size_t bytes, max_bytes, n_rows;
    } cache;
    int64_t oldest_running_ns; /* age of the job longest under way; 0 if none: for a watchdog */
};

/* Name of the kernels that OpenBLAS chose when the process was loaded: "Haswell", "SkylakeX". For programs that want to
 * see whether it knows their processor; see server/blas_env.c. */
const char *comma_openblas_core(void);

void comma_engine_get_info(struct comma_engine *engine, struct comma_engine_info *out);
void comma_engine_get_stats(struct comma_engine *engine, struct comma_engine_stats *out);

/* The adapters at this moment, sorted by name; *out is an array to free(). */
COMMA_MUST_CHECK
bool comma_engine_list_adapters(struct comma_engine *engine, struct comma_adapter_info **out, size_t *n,
                                struct comma_error *err);

/* ---- measuring (comma bench) ---- */

/* GFLOP/s of fused multiply-adds in f32 that `n_threads` threads reach together in about `seconds`. */
double comma_measure_peak_gflops(unsigned n_threads, double seconds);

/* Encodes one random picture's pixels `n` times: on all threads at once, each its own batches as a deep queue gives them,
 * or one after another split over all threads (lone). Returns seconds taken; the engine should be idle. */
COMMA_MUST_CHECK
bool comma_engine_time_images(struct comma_engine *engine, struct comma_adapter *adapter, size_t n, bool lone,
                              double *seconds, struct comma_error *err);

/* Encodes n random labels of `tokens` own tokens (those behind the shared prefix, EOT too), past the cache, on all
 * threads; full_context computes all context_length positions of each label and shares no prefix, as PyTorch does. */
COMMA_MUST_CHECK
bool comma_engine_time_labels(struct comma_engine *engine, struct comma_adapter *adapter, size_t n, size_t tokens,
                              bool full_context, double *seconds, struct comma_error *err);

/* Puts made-up features of these labels into the cache, as if they had been encoded for the adapter with its prompt or
 * the default template, so that requests with many cached labels can be measured without encoding them first. Fails
 * with COMMA_E_NOMEM. */
COMMA_MUST_CHECK
bool comma_engine_fill_cache(struct comma_engine *engine, struct comma_adapter *adapter,
                             const struct comma_text *labels, size_t n_labels, struct comma_error *err);

/* ---- looking at files (comma inspect): nothing is folded for use, no engine is needed ---- */

enum comma_inspected {
    COMMA_INSPECTED_MODEL,    /* a model directory, or the embedded one */
    COMMA_INSPECTED_ADAPTER,  /* an adapter directory */
    COMMA_INSPECTED_BACKBONE, /* a file with a CLIP ViT, for comma convert */
    COMMA_INSPECTED_PROMPTS,  /* a file with a learner's prompts, for comma convert */
    COMMA_INSPECTED_TENSORS   /* a file with something else */
};

struct comma_inspected_tensor {
    const char *name, *dtype;
    unsigned n_dims;
    size_t shape[8];
    size_t bytes;
};

/* All tensors of one dtype. */
struct comma_inspected_dtype {
    const char *name; /* "F16" */
    size_t n_tensors, n_parameters, bytes;
};

struct comma_inspected_adapter {
    struct comma_adapter_info info; /* bytes: of its tensors as stored */
    char base_model[256];           /* that it says it was trained on; may be empty */
    size_t n_parameters;
    bool compared, fits; /* compared: with the model itself, or with the one given */
    char reason[480];    /* why it does not fit, or cannot be opened */
};

struct comma_inspection {
    enum comma_inspected kind;
    char name[256];                           /* last part of the path; "emoji" for the embedded model */
    const char *container;                    /* of a file: "torch" or "safetensors"; NULL of a directory */
    char note[480];                           /* of a file: what is assumed of it, or why it is no backbone */
    struct comma_engine_info model;           /* MODEL, BACKBONE: what the files say; nothing of an engine */
    struct comma_inspected_adapter *adapters; /* MODEL: those in its adapters/ folder; ADAPTER, PROMPTS: itself */
    size_t n_adapters;
    struct comma_inspected_tensor *tensors; /* all but MODEL: in the file's order */
    size_t n_tensors;
    struct comma_inspected_dtype dtypes[10];
    size_t n_dtypes;
    struct comma_inspected_files *files; /* what the strings point to */
};

/* Looks at a model directory, an adapter directory, a file of torch.save or safetensors or, with path NULL, the
 * embedded model.
 *
 *   model_dir  NULL, or the model to compare an adapter with; prompts in a file also by what they carry of theirs
 *   out        to be closed
 *
 * An adapter of a model that does not fit or is broken is told in its reason; what path itself names and cannot be read
 * fails as comma_engine_open() does. */
COMMA_MUST_CHECK
bool comma_inspect(const char *path, const char *model_dir, struct comma_inspection *out, struct comma_error *err);
void comma_inspection_close(struct comma_inspection *inspection); /* a zeroed one is fine */

/* ---- making models of checkpoints (comma convert) ---- */

struct comma_convert_adapter {
    const char *name; /* NULL: the method's, with -2, -3, ... where it is taken */
    const char *path; /* a prompt-learning checkpoint, or an adapter directory */
};

struct comma_convert_options {
    const char *source; /* a checkpoint or a model directory; a prompt-learning checkpoint gives an adapter directory */
    const char *out;    /* the directory to be made; its parent is there */
    const struct comma_convert_adapter *adapters; /* [n_adapters] to lie in its adapters/ folder */
    size_t n_adapters;
    const char *model_dir;  /* where source is prompts alone: the backbone to hold them against. NULL: none */
    const char *merges;     /* CLIP's list of merges, plain or gzip, or a merges.txt. NULL: the source's own, if any */
    const char *activation; /* "quick_gelu", "gelu"; NULL: as the files tell, else quick_gelu */
    size_t vision_heads, text_heads; /* 0: as the files tell, else width / 64 */
    const char *dtype;               /* of the backbone's weights: "f32", "f16", "bf16"; NULL: as they are stored */
    const char *ctx_init;            /* NULL: found out from the checkpoint where it can be, else the authors' */
    size_t last_layer;               /* 0: 1 */
    char *const *classnames;         /* [n_classnames] for CoOp with class-specific contexts, in their order */
    size_t n_classnames;
    const char *class_token_position;                        /* "end", "middle", "front", for CoOp; NULL: "end" */
    bool allow_nan;                                          /* weights of the backbone may be NaN or infinite */
    bool force;                                              /* replace a model or adapter directory that is there */
    unsigned n_threads;                                      /* for the trial at the end; 0: all */
    bool (*progress)(void *user, size_t done, size_t total); /* bytes; false: give up. NULL: not asked */
    void (*warn)(void *user, const char *sentence); /* what is assumed or contradicts the files. NULL: not told */
    void *user;
};

struct comma_converted {
    enum comma_inspected kind;           /* COMMA_INSPECTED_MODEL or _ADAPTER */
    struct comma_adapter_info *adapters; /* [n_adapters] those written, with their names */
    size_t n_adapters;
    bool has_tokenizer; /* MODEL */
    bool tried;         /* a picture, and with a tokenizer a label, were encoded with source and result alike */
    double agreement;   /* smallest cosine between features of the source and the result; where tried and finite */
};

/* Reads the source, writes the result beside its place, reads it back, encodes one picture and one label with both, and
 * puts it into its place, whole or not at all. What is there already is left alone, or with force exchanged.
 * Fails with COMMA_E_INPUT (options that cannot be), COMMA_E_MODEL, COMMA_E_UNSUPPORTED, COMMA_E_IO, COMMA_E_NOMEM, or
 * COMMA_E_CANCELLED where progress said so; nothing is left then. */
COMMA_MUST_CHECK
bool comma_convert(const struct comma_convert_options *options, struct comma_converted *out, struct comma_error *err);
void comma_converted_finish(struct comma_converted *converted); /* a zeroed one is fine */

#endif
