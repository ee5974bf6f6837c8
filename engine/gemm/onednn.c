/* SPDX-License-Identifier: MIT */
/* onednn.c - the packing back end: f32, bf16 and int8 by oneDNN, weights brought into its order once, at load.
 *
 * A product's sums go to a small dense block that stays in the core's cache, and from there to y: with the bias, added
 * to what is there (the residual) or not, and for int8 with the scales. In between nothing is allocated or locked.
 *
 * bf16: weights and inputs rounded to bf16, sums in f32.
 * int8: weights s8 with a scale for each output; inputs u8 with a scale and a zero point for each row, found anew in
 *   each call (dynamic). The zero points cost one multiplication a sum, in exchange for twice the resolution where a
 * row lies on one side of zero, as it does behind an activation. Layers that are asked for as exact stay in bf16, or in
 *   f32 where that is what there is. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/arena.h"
#include "engine/base/checked.h"
#include "engine/base/cpu.h"
#include "engine/gemm/gemm_impl.h"
#include "engine/gemm/onednn_product.h"
#include "engine/kernels/kernels.h"

/* Rows of prepared inputs come in whole tiles of this many. */
#define INPUT_TILE 16

struct gemm {
    struct comma_gemm base;
    struct comma_onednn *library;
    enum comma_onednn_kind kind, exact_kind;
};

struct linear {
    struct comma_linear base;
    const struct comma_onednn *library;
    enum comma_onednn_kind kind;
    size_t panel_bytes;
    unsigned char *packed; /* panel after panel */
    float *bias;           /* [n] or NULL */
    float *column_scale;   /* INT8: [n] */
    int32_t *column_sum;   /* INT8: [n] */
};

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t tiles(size_t m, size_t tile)
{
    return (m + tile - 1) / tile * tile;
}

static void destroy(struct comma_linear *l)
{
    struct linear *o = (struct linear *)l;

    free(o->packed);
    free(o->bias);
    free(o->column_scale);
    free(o->column_sum);
    free(o);
}

/* ---- inputs: rows [tiles(m), k of the kind], then for int8 a scale and a zero point a row ---- */

static size_t row_bytes(const struct linear *o)
{
    return comma_onednn_k(o->kind, o->base.k) * comma_onednn_element(o->kind);
}

static size_t input_bytes(const struct comma_linear *l, size_t m)
{
    const struct linear *o = (const struct linear *)l;
    const size_t scales = o->kind == COMMA_ONEDNN_INT8 ? sizeof(float) + sizeof(int32_t) : 0;

    return o->kind == COMMA_ONEDNN_F32 ? 0 : tiles(m, INPUT_TILE) * (row_bytes(o) + scales);
}

static float *row_scales(const struct linear *o, const void *input, size_t m)
{
    return (float *)(void *)((unsigned char *)(uintptr_t)input + tiles(m, INPUT_TILE) * row_bytes(o));
}

static int32_t *row_zeros(const struct linear *o, const void *input, size_t m)
{
    return (int32_t *)(void *)(row_scales(o, input, m) + tiles(m, INPUT_TILE));
}

static void prepare_row(const struct linear *o, const float *x, size_t m, size_t i, void *input)
{
    const size_t k = o->base.k, used = k * comma_onednn_element(o->kind);
    unsigned char *row = (unsigned char *)input + i * row_bytes(o);

    if (o->kind == COMMA_ONEDNN_INT8)
        comma_kernels()->quantize_row(row, row_scales(o, input, m) + i, row_zeros(o, input, m) + i, x, k);
    else
        comma_kernels()->f32_to_bf16((uint16_t *)(void *)row, x, k);
    memset(row + used, 0, row_bytes(o) - used);
}

static void prepare(const struct comma_linear *l, const float *x, size_t ldx, size_t m, size_t first, size_t n,
                    void *input)
{
    const struct linear *o = (const struct linear *)l;

    for (size_t i = first; i < first + n; i++)
        prepare_row(o, x + i * ldx, m, i, input);
    if (first + n == m) /* rows of the last tile that are not there */
        memset((unsigned char *)input + m * row_bytes(o), 0, (tiles(m, INPUT_TILE) - m) * row_bytes(o));
}

/* ---- running ---- */

static size_t workspace_bytes(const struct comma_linear *l)
{
    const struct linear *o = (const struct linear *)l;

    return comma_onednn_max_sums(comma_onednn_k(o->kind, l->k)) * sizeof(float) +
           comma_onednn_scratch_bytes(o->library);
}

static size_t group(const struct comma_linear *l)
{
    const struct linear *o = (const struct linear *)l;

    return comma_onednn_next_panels(comma_onednn_k(o->kind, l->k), SIZE_MAX) * COMMA_PANEL;
}

/* A block of y from its sums: rows done .. end of x stand from sums row `skip` on. */
struct block {
    size_t done, end, skip;
    size_t n0, n1, ld_sums;
};

static void finish(const struct linear *o, const struct block *b, const void *sums, const void *input, size_t m,
                   float *y, size_t ldy, bool accumulate)
{
    const size_t rows = b->end - b->done, width = b->n1 - b->n0;
    const float *bias = o->bias ? o->bias + b->n0 : NULL;

    y += b->done * ldy + b->n0;
    if (o->kind == COMMA_ONEDNN_INT8) {
        const struct comma_int8_scales s = { row_scales(o, input, m) + b->done, row_zeros(o, input, m) + b->done,
                                             o->column_scale + b->n0, o->column_sum + b->n0, bias };

        comma_kernels()->finish_int8(y, ldy, (const int32_t *)sums + b->skip * b->ld_sums, b->ld_sums, &s, rows, width,
                                     accumulate);
    } else {
        comma_kernels()->finish_f32(y, ldy, (const float *)sums + b->skip * b->ld_sums, b->ld_sums, bias, rows, width,
                                    accumulate);
    }
}

static void fill_nan(const struct block *b, float *y, size_t ldy)
{
    for (size_t i = b->done; i < b->end; i++)
        for (size_t j = b->n0; j < b->n1; j++)
            y[i * ldy + j] = NAN;
}

static void run(const struct comma_linear *l, const float *x, size_t ldx, const void *input, size_t m, size_t n0,
                size_t n1, float *y, size_t ldy, bool accumulate, void *workspace)
{
    const struct linear *o = (const struct linear *)l;
    const size_t there = tiles(m, input ? INPUT_TILE : COMMA_ROW_TILE), k = comma_onednn_k(o->kind, l->k);
    const size_t stride = input ? row_bytes(o) : l->k * sizeof(float);
    unsigned char *scratch = workspace;
    void *sums = scratch + comma_onednn_scratch_bytes(o->library);
    const size_t all = (n1 - n0 + COMMA_PANEL - 1) / COMMA_PANEL;

    assert(input || ldx == l->k); /* rows of f32 are read where they lie, and products are made for dense ones */
    for (size_t panel = 0, panels; panel < all; panel += panels) {
        struct block b = { .n0 = n0 + panel * COMMA_PANEL };
        const unsigned char *w = o->packed + b.n0 / COMMA_PANEL * o->panel_bytes;

        panels = comma_onednn_next_panels(k, all - panel);
        b.ld_sums = panels * COMMA_PANEL;
        b.n1 = smaller(n1, b.n0 + b.ld_sums);
        for (b.done = 0; b.done < m; b.done = b.end) {
            size_t first;
            const size_t rows = comma_onednn_next_rows(b.done, m, there, &first);
            const unsigned char *from = (const unsigned char *)(input ? input : (const void *)x) + first * stride;

            b.end = smaller(m, first + rows);
            b.skip = b.done - first;
            if (comma_onednn_run(o->library, o->kind, l->k, rows, panels, from, w, sums, scratch))
                finish(o, &b, sums, input, m, y, ldy, accumulate);
            else
                fill_nan(&b, y, ldy);
        }
    }
}

static const struct comma_linear_ops ops = { .destroy = destroy,
                                             .input_bytes = input_bytes,
                                             .prepare = prepare,
                                             .workspace_bytes = workspace_bytes,
                                             .group = group,
                                             .run = run };

/* ---- making a layer ---- */

/* Largest magnitude of w, sixteen side by side, so that it becomes vectors. */
static float largest(const float *w, size_t n)
{
    float lanes[16] = { 0 }, most = 0;
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++) {
            const float v = fabsf(w[i + l]);

            lanes[l] = v > lanes[l] ? v : lanes[l];
        }
    for (; i < n; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    for (size_t l = 0; l < 16; l++)
        most = lanes[l] > most ? lanes[l] : most;
    return most;
}

/* A weight of `rows` outputs in one panel: f32 rows to s8 with a scale each. */
static void quantize_outputs(struct linear *o, const float *w, size_t first, size_t rows, int8_t *out)
{
    const size_t k = o->base.k;

    for (size_t i = 0; i < rows; i++, w += k, out += k) {
        const float most = largest(w, k), inverse = most > 1e-30f ? 127 / most : 0;
        int32_t sum = 0;

        for (size_t j = 0; j < k; j++) {
            out[j] = (int8_t)lrintf(w[j] * inverse);
            sum += out[j];
        }
        o->column_scale[first + i] = most / 127;
        o->column_sum[first + i] = sum;
    }
}

/* Outputs first .. first + rows of the stacked weights as f32. */
static bool gather(const struct comma_tensor *weights, size_t n_parts, size_t first, size_t rows, float *out,
                   struct comma_error *err)
{
    for (size_t p = 0, at = 0; p < n_parts && rows > 0; at += weights[p++].shape[0]) {
        const size_t lo = first - at, n = lo < weights[p].shape[0] ? smaller(rows, weights[p].shape[0] - lo) : 0;
        struct comma_tensor part;

        if (n == 0)
            continue;
        part = comma_tensor_rows(&weights[p], lo, n);
        if (!comma_tensor_to_f32(&part, out, err))
            return false;
        out += n * weights[p].shape[1];
        first += n;
        rows -= n;
    }
    return true;
}

/* True for numbers only; int8 has no NaN to hand on. */
static bool is_finite(const float *w, size_t n)
{
    float sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += w[i] * 0;
    return sum == 0;
}

static bool pack(struct linear *o, struct comma_onednn *library, const struct comma_tensor *weights, size_t n_parts,
                 struct comma_error *err)
{
    const size_t n = o->base.n, k = o->base.k;
    float *rows = comma_alloc_floats(COMMA_PANEL * k);
    int8_t *small = o->kind == COMMA_ONEDNN_INT8 ? malloc(COMMA_PANEL * k) : NULL;
    bool ok = rows && (small || o->kind != COMMA_ONEDNN_INT8);

    if (!ok)
        comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", weights[0].name);
    for (size_t first = 0; ok && first < n; first += COMMA_PANEL) {
        const size_t count = smaller(COMMA_PANEL, n - first);

        ok = gather(weights, n_parts, first, count, rows, err);
        if (ok && small && !is_finite(rows, count * k))
            ok = comma_fail(err, COMMA_E_MODEL, "%s: weights that are not finite cannot be served in int8",
                            weights[0].name);
        if (ok && small)
            quantize_outputs(o, rows, first, count, small);
        ok = ok && comma_onednn_pack(library, o->kind, small ? (const void *)small : rows, count, k,
                                     o->packed + first / COMMA_PANEL * o->panel_bytes, err);
    }
    free(rows);
    free(small);
    return ok;
}

static bool allocate(struct linear *o, struct comma_error *err)
{
    const size_t n = o->base.n, panels = (n + COMMA_PANEL - 1) / COMMA_PANEL;
    size_t bytes;

    if (!comma_mul(panels, o->panel_bytes, &bytes))
        return comma_fail(err, COMMA_E_MODEL, "a layer of %zu x %zu is too large", n, o->base.k);
    o->packed = aligned_alloc(COMMA_ALIGN, tiles(bytes, COMMA_ALIGN));
    o->base.bytes += bytes;
    if (o->kind == COMMA_ONEDNN_INT8) {
        o->column_scale = comma_alloc_floats(n);
        o->column_sum = calloc(n, sizeof(*o->column_sum));
        o->base.bytes += n * (sizeof(float) + sizeof(int32_t));
    }
    if (!o->packed || (o->kind == COMMA_ONEDNN_INT8 && (!o->column_scale || !o->column_sum)))
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a layer of %zu x %zu", n, o->base.k);
    return true;
}

static bool create(struct comma_gemm *gemm, const struct comma_tensor *weights, const struct comma_tensor *biases,
                   size_t n_parts, bool exact, struct comma_linear **out, struct comma_error *err)
{
    struct gemm *g = (struct gemm *)gemm;
    struct linear *o = calloc(1, sizeof(*o));

    if (!o)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %s", weights[0].name);
    o->base = (struct comma_linear){ .ops = &ops, .k = weights[0].shape[1] };
    for (size_t i = 0; i < n_parts; i++)
        o->base.n += weights[i].shape[0];
    o->library = g->library;
    o->kind = exact ? g->exact_kind : g->kind;
    o->panel_bytes = comma_onednn_panel_bytes(g->library, o->kind, o->base.k);
    o->base.bytes = biases ? o->base.n * sizeof(float) : 0;
    if (o->base.n > INT32_MAX / 8 || o->base.k > 65536) { /* 255 * 127 * k must fit a sum of 32 bits */
        comma_fail(err, COMMA_E_MODEL, "%s: a layer of %zu x %zu is too large", weights[0].name, o->base.n, o->base.k);
        destroy(&o->base);
        return false;
    }
    if (!comma_onednn_prepare(g->library, o->kind, o->base.k, o->base.n, err) || !allocate(o, err) ||
        !comma_gemm_join_biases(biases, n_parts, o->base.n, &o->bias, err) ||
        !pack(o, g->library, weights, n_parts, err)) {
        destroy(&o->base);
        return false;
    }
    *out = &o->base;
    return true;
}

/* ---- opening ---- */

static void close_gemm(struct comma_gemm *gemm)
{
    struct gemm *g = (struct gemm *)gemm;

    comma_onednn_close(g->library);
    free(g);
}

static const char *const names[] = {
    [COMMA_ONEDNN_F32] = "f32", [COMMA_ONEDNN_BF16] = "bf16", [COMMA_ONEDNN_INT8] = "int8"
};

static bool choose_kind(struct gemm *g, const char *precision, struct comma_error *err)
{
    char has[32] = "";

    for (size_t i = 0; i < COMMA_ONEDNN_N_KINDS; i++)
        if (strcmp(precision, names[i]) == 0)
            g->kind = (enum comma_onednn_kind)i;
    if (comma_onednn_has(g->library, g->kind)) {
        g->exact_kind = g->kind != COMMA_ONEDNN_INT8                      ? g->kind
                        : comma_onednn_has(g->library, COMMA_ONEDNN_BF16) ? COMMA_ONEDNN_BF16
                                                                          : COMMA_ONEDNN_F32;
        g->base = (struct comma_gemm){ "onednn", names[g->kind], create, close_gemm, true };
        return true;
    }
    for (size_t i = 0; i < COMMA_ONEDNN_N_KINDS; i++)
        if (comma_onednn_has(g->library, (enum comma_onednn_kind)i)) {
            strcat(has, has[0] ? ", " : "");
            strcat(has, names[i]);
        }
    return comma_fail(err, COMMA_E_UNSUPPORTED,
                      "this processor (%s) has no %s products; with --backend onednn it can serve --precision %s",
                      comma_cpu_level_name(comma_cpu_features()), names[g->kind], has[0] ? has : "(none)");
}

bool comma_gemm_open_onednn(const char *precision, struct comma_gemm **out, struct comma_error *err)
{
    struct gemm *g = calloc(1, sizeof(*g));

    if (!g)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for oneDNN");
    if (!comma_onednn_open(&g->library, err) || !choose_kind(g, precision, err)) {
        comma_onednn_close(g->library);
        free(g);
        return false;
    }
    *out = &g->base;
    return true;
}
