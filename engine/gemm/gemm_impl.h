/* SPDX-License-Identifier: MIT */
/* gemm_impl.h - what a back end fills in; only the files of this folder include it. See gemm.h for the contracts. */
#ifndef COMMA_ENGINE_GEMM_IMPL_H
#define COMMA_ENGINE_GEMM_IMPL_H

#include "engine/gemm/gemm.h"

struct comma_linear_ops {
    void (*destroy)(struct comma_linear *l);
    size_t (*input_bytes)(const struct comma_linear *l, size_t m);
    void (*prepare)(const struct comma_linear *l, const float *x, size_t ldx, size_t m, size_t first, size_t n,
                    void *input);
    size_t (*workspace_bytes)(const struct comma_linear *l);
    size_t (*group)(const struct comma_linear *l);
    void (*run)(const struct comma_linear *l, const float *x, size_t ldx, const void *input, size_t m, size_t n0,
                size_t n1, float *y, size_t ldy, bool accumulate, void *workspace);
};

/* First member of a back end's own struct. */
struct comma_linear {
    const struct comma_linear_ops *ops;
    size_t n, k;
    size_t bytes; /* of the weights and biases as served */
};

struct comma_gemm {
    const char *backend, *precision;
    bool (*create)(struct comma_gemm *g, const struct comma_tensor *weights, const struct comma_tensor *biases,
                   size_t n_parts, bool exact, struct comma_linear **out, struct comma_error *err);
    void (*close)(struct comma_gemm *g);
    bool packs; /* its layers hold weights of their own even where f32 lies in a mapping */
};

COMMA_MUST_CHECK
bool comma_gemm_open_openblas(const char *precision, struct comma_gemm **out, struct comma_error *err);

#ifdef COMMA_HAVE_ONEDNN
COMMA_MUST_CHECK
bool comma_gemm_open_onednn(const char *precision, struct comma_gemm **out, struct comma_error *err);
#endif

/* All biases one after another as f32, NULL (and true) if there are none; free() it. */
COMMA_MUST_CHECK
bool comma_gemm_join_biases(const struct comma_tensor *biases, size_t n_parts, size_t n, float **out,
                            struct comma_error *err);

#endif
