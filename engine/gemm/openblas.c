/* SPDX-License-Identifier: MIT */
/* openblas.c - the default back end: f32 through cblas_sgemm, weights where they lie in the mapping.
 *
 * OpenBLAS copies the weights into its own order in each call, so nothing is packed at load and a model is ready at
 * once. For a few rows, a lone label or the prompts at load, that copy is most of the time, and a kernel of ours reads
 * the weights where they lie. Its own threads stay off: the engine's threads call it on column ranges. */
#include <cblas.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/checked.h"
#include "engine/comma.h"
#include "engine/gemm/gemm_impl.h"
#include "engine/kernels/kernels.h"

#define MAX_PARTS 3

struct part {
    const float *w; /* [n, k] */
    size_t n;
};

struct linear {
    struct comma_linear base;
    struct part parts[MAX_PARTS];
    size_t n_parts;
    float *owned; /* the weights where they were not f32 in place, else NULL */
    float *bias;  /* [n] or NULL */
};

static void destroy(struct comma_linear *l)
{
    struct linear *o = (struct linear *)l;

    free(o->owned);
    free(o->bias);
    free(o);
}

static inline size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* y[:, n0:n1] = bias, += bias, or left alone; returns the beta that makes sgemm continue from there. */
static float start_from_bias(const struct linear *o, size_t m, size_t n0, size_t n1, float *y, size_t ldy,
                             bool accumulate)
{
    if (!o->bias)
        return accumulate ? 1.0f : 0.0f;
    for (size_t i = 0; i < m; i++) {
        float *row = y + i * ldy;

        if (accumulate)
            for (size_t j = n0; j < n1; j++)
                row[j] += o->bias[j];
        else
            memcpy(row + n0, o->bias + n0, (n1 - n0) * sizeof(float));
    }
    return 1.0f;
}

static void run(const struct comma_linear *l, const float *x, size_t ldx, const void *input, size_t m, size_t n0,
                size_t n1, float *y, size_t ldy, bool accumulate, void *workspace)
{
    const struct linear *o = (const struct linear *)l;
    const bool few = m <= comma_kernels()->most_few_rows;
    const float beta = few ? 0 : start_from_bias(o, m, n0, n1, y, ldy, accumulate);
    const size_t rows = (m + COMMA_ROW_TILE - 1) / COMMA_ROW_TILE * COMMA_ROW_TILE;
    size_t first = 0;

    (void)input, (void)workspace;
    for (size_t p = 0; p < o->n_parts; first += o->parts[p++].n) {
        const size_t lo = n0 > first ? n0 - first : 0, hi = n1 > first ? min(n1 - first, o->parts[p].n) : 0;

        if (lo >= hi)
            continue;
        if (few)
            comma_kernels()->few_rows(y + first + lo, ldy, x, ldx, m, o->parts[p].w + lo * l->k, l->k, hi - lo, l->k,
                                      o->bias ? o->bias + first + lo : NULL, accumulate);
        else /* the sizes fit an int: checked when the layer was made, and m by the caller's arena */
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)(hi - lo), (int)l->k, 1.0f, x,
                        (int)ldx, o->parts[p].w + lo * l->k, (int)l->k, beta, y + first + lo, (int)ldy);
    }
}

static const struct comma_linear_ops ops = { .destroy = destroy, .run = run };

/* Uses the weights in place where all are f32 and aligned; else one f32 copy of them, stacked. */
static bool take_weights(struct linear *o, const struct comma_tensor *weights, size_t n_parts, struct comma_error *err)
{
    size_t count, at = 0;

    for (size_t i = 0; i < n_parts; i++) {
        o->parts[i] = (struct part){ comma_tensor_as_f32(&weights[i]), weights[i].shape[0] };
        if (!o->parts[i].w)
            break;
        o->n_parts = i + 1;
    }
    if (o->n_parts == n_parts) {
        /* q, k and v of a fused in_proj lie one after another: one product instead of three */
        while (o->n_parts > 1 && o->parts[0].w + o->parts[0].n * o->base.k == o->parts[1].w) {
            o->parts[0].n += o->parts[1].n;
            memmove(o->parts + 1, o->parts + 2, (o->n_parts - 2) * sizeof(o->parts[0]));
            o->n_parts--;
        }
        return true;
    }
    if (!comma_mul(o->base.n, o->base.k, &count) || !(o->owned = comma_alloc_floats(count)))
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", weights[0].name);
    for (size_t i = 0; i < n_parts; at += weights[i++].shape[0])
        if (!comma_tensor_to_f32(&weights[i], o->owned + at * o->base.k, err))
            return false;
    o->parts[0] = (struct part){ o->owned, o->base.n };
    o->n_parts = 1;
    return true;
}

static bool create(struct comma_gemm *g, const struct comma_tensor *weights, const struct comma_tensor *biases,
                   size_t n_parts, bool exact, struct comma_linear **out, struct comma_error *err)
{
    struct linear *o = calloc(1, sizeof(*o));
    bool ok = false;

    (void)g;
    (void)exact; /* f32 is */
    if (!o || n_parts > MAX_PARTS) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", weights[0].name);
        goto out;
    }
    o->base = (struct comma_linear){ .ops = &ops, .k = weights[0].shape[1] };
    for (size_t i = 0; i < n_parts; i++)
        o->base.n += weights[i].shape[0];
    if (o->base.n > INT_MAX / 8 || o->base.k > INT_MAX / 8) {
        comma_fail(err, COMMA_E_MODEL, "%s: a layer of %zu x %zu is too large", weights[0].name, o->base.n, o->base.k);
        goto out;
    }
    ok = take_weights(o, weights, n_parts, err) && comma_gemm_join_biases(biases, n_parts, o->base.n, &o->bias, err);
    o->base.bytes = (o->base.n * o->base.k + (o->bias ? o->base.n : 0)) * sizeof(float);
out:
    if (ok)
        *out = &o->base;
    else if (o)
        destroy(&o->base);
    return ok;
}

static void close_gemm(struct comma_gemm *g)
{
    (void)g; /* the one static struct below */
}

const char *comma_openblas_core(void)
{
    return openblas_get_corename();
}

static void threads_off(void)
{
    openblas_set_num_threads(1);
}

bool comma_gemm_open_openblas(const char *precision, struct comma_gemm **out, struct comma_error *err)
{
    static struct comma_gemm openblas = { "openblas", "f32", create, close_gemm, false };
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (strcmp(precision, "f32") != 0)
        return comma_fail(err, COMMA_E_UNSUPPORTED, "OpenBLAS computes in f32 only; %s needs --backend onednn",
                          precision);
    pthread_once(&once, threads_off);
    *out = &openblas;
    return true;
}
