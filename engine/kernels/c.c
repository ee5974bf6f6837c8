/* SPDX-License-Identifier: MIT */
/* c.c - every kernel in plain C: the definition that the faster levels are tested against, and what a processor
 * without any of them runs.
 *
 * Sums keep several partial sums side by side, written out, because the compiler may not reorder additions by itself;
 * everything else it turns into vectors as it stands. The mathematics is that of SPEC "Transformer block" and
 * "Resampling, bit exact". All functions are pure; any thread. */
#include "engine/kernels/kernels.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/half.h"

enum { LANES = 8 };

static float dot(const float *a, const float *b, size_t n)
{
    float lanes[LANES] = { 0 }, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (size_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

/* sum of (x - shift)^power, power 1 or 2, in f64: the mean of a row, then its variance round it. */
static double sum_f64(const float *x, size_t n, double shift, int power)
{
    double lanes[LANES] = { 0 }, sum = 0;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            const double d = x[i + l] - shift;

            lanes[l] += power == 1 ? d : d * d;
        }
    for (; i < n; i++) {
        const double d = x[i] - shift;

        sum += power == 1 ? d : d * d;
    }
    for (size_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

static void layer_norm(float *y, size_t ldy, const float *x, size_t ldx, const float *weight, const float *bias,
                       size_t rows, size_t width, float eps)
{
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        const double mean = sum_f64(x, width, 0, 1) / (double)width;
        const double variance = sum_f64(x, width, mean, 2) / (double)width;
        const float m = (float)mean, inverse = (float)(1 / sqrt(variance + (double)eps));

        for (size_t i = 0; i < width; i++)
            y[i] = (x[i] - m) * inverse * weight[i] + bias[i];
    }
}

static void quick_gelu(float *x, size_t ldx, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, x += ldx)
        for (size_t i = 0; i < width; i++)
            x[i] = x[i] / (1 + expf(-1.702f * x[i]));
}

static void gelu(float *x, size_t ldx, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, x += ldx)
        for (size_t i = 0; i < width; i++)
            x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678118654752f));
}

/* NaN anywhere, or +inf, or nothing but -inf, makes every element NaN: the caller's check of a score sees it. */
static void softmax(float *x, size_t n)
{
    float max = x[0];
    double sum = 0;

    for (size_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += (double)x[i];
    }
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(x[i] / sum);
}

/* out[head_dim] += sum over keys of p[key] * v[key] */
static void add_weighted_rows(float *out, const float *p, const float *v, size_t ldv, size_t n, size_t head_dim)
{
    for (size_t key = 0; key < n; key++, v += ldv)
        for (size_t i = 0; i < head_dim; i++)
            out[i] += p[key] * v[i];
}

static void attention(const struct comma_attention *a)
{
    float *p = a->scratch; /* [n_shared + n_k] one query's scores, then its weights */

    for (size_t row = 0; row < a->n_q; row++) {
        const float *q = a->q + row * a->ldq;
        float *out = a->out + row * a->ldo;
        const size_t own = a->causal && a->causal_from + row < a->n_k ? a->causal_from + row + 1 : a->n_k;

        for (size_t i = 0; i < a->n_shared; i++)
            p[i] = dot(q, a->shared_k + i * a->ld_shared, a->head_dim) * a->scale;
        for (size_t i = 0; i < own; i++)
            p[a->n_shared + i] = dot(q, a->k + i * a->ldk, a->head_dim) * a->scale;
        if (a->n_shared + own > 0)
            softmax(p, a->n_shared + own);
        for (size_t i = 0; i < a->head_dim; i++)
            out[i] = 0;
        add_weighted_rows(out, p, a->shared_v, a->ld_shared, a->n_shared, a->head_dim);
        add_weighted_rows(out, p + a->n_shared, a->v, a->ldv, own, a->head_dim);
    }
}

static void add_bias(float *y, size_t ldy, const float *bias, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++, y += ldy)
        for (size_t i = 0; i < width; i++)
            y[i] += bias[i];
}

static void dot_rows(float *out, const float *x, const float *w, size_t ldw, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++)
        out[r] = dot(x, w + r * ldw, width);
}

static void few_rows(float *y, size_t ldy, const float *x, size_t ldx, size_t m, const float *w, size_t ldw, size_t n,
                     size_t k, const float *bias, int accumulate)
{
    for (size_t j = 0; j < n; j++, w += ldw)
        for (size_t i = 0; i < m; i++) {
            const float v = dot(x + i * ldx, w, k) + (bias ? bias[j] : 0);

            y[i * ldy + j] = accumulate ? y[i * ldy + j] + v : v;
        }
}

static void f16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = comma_f16_to_f32(in[i]);
}

static void bf16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = comma_bf16_to_f32(in[i]);
}

static void f32_to_bf16(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = comma_f32_to_bf16(in[i]);
}

static void quantize_row(uint8_t *q, float *scale, int32_t *zero, const float *x, size_t n)
{
    float least = 0, most = 0, bad = 0, inverse;

    for (size_t i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        bad += x[i] * 0; /* NaN if x is not finite */
    }
    *scale = (most - least) / 255 + bad;
    *zero = 0;
    if (!isfinite(*scale) || *scale < FLT_MIN) { /* a row of zeros, or of what is as good as that */
        *scale = isfinite(*scale) ? 0 : NAN;
        memset(q, 0, n);
        return;
    }
    inverse = 1 / *scale;
    *zero = (int32_t)lrintf(-least * inverse);
    for (size_t i = 0; i < n; i++) {
        const int32_t v = (int32_t)lrintf(x[i] * inverse) + *zero;

        q[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

static void finish_f32(float *y, size_t ldy, const float *sums, size_t ld_sums, const float *bias, size_t rows,
                       size_t width, int accumulate)
{
    for (size_t r = 0; r < rows; r++, y += ldy, sums += ld_sums)
        for (size_t i = 0; i < width; i++)
            y[i] = (accumulate ? y[i] : 0) + (sums[i] + (bias ? bias[i] : 0));
}

static void finish_int8(float *y, size_t ldy, const int32_t *sums, size_t ld_sums, const struct comma_int8_scales *s,
                        size_t rows, size_t width, int accumulate)
{
    for (size_t r = 0; r < rows; r++, y += ldy, sums += ld_sums)
        for (size_t i = 0; i < width; i++) {
            const float product =
                (float)(sums[i] - s->row_zero[r] * s->column_sum[i]) * (s->row_scale[r] * s->column_scale[i]);

            y[i] = (accumulate ? y[i] : 0) + (product + (s->bias ? s->bias[i] : 0));
        }
}

/* The sum fits 32 bits: weights of one output add up to 2^22, negative ones to no more than a third of it. */
static unsigned char fixed_to_u8(int32_t sum)
{
    const int32_t v = sum >> 22; /* arithmetic, as gcc and clang define it */

    return (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_vertical(unsigned char *out, const unsigned char *in, size_t in_stride, const int32_t *weights,
                            size_t n_weights, size_t n)
{
    enum { BLOCK = 64 }; /* bytes side by side, so that rows are read along and sums stay in registers */
    int32_t sum[BLOCK];

    for (size_t x = 0; x < n; x += BLOCK) {
        const size_t width = n - x < BLOCK ? n - x : BLOCK;

        for (size_t i = 0; i < width; i++)
            sum[i] = 1 << 21;
        for (size_t j = 0; j < n_weights; j++)
            for (size_t i = 0; i < width; i++)
                sum[i] += weights[j] * in[j * in_stride + x + i];
        for (size_t i = 0; i < width; i++)
            out[x + i] = fixed_to_u8(sum[i]);
    }
}

static void resize_row(unsigned char *out, const unsigned char *in, const struct comma_resize_rows *r)
{
    const int32_t *weights = r->weights;

    for (size_t i = 0; i < r->n_out; i++, weights += r->max_count) {
        const unsigned char *rgb = in + (size_t)3 * r->first[i];
        int32_t sum[3] = { 1 << 21, 1 << 21, 1 << 21 };

        for (size_t j = 0; j < r->count[i]; j++)
            for (size_t c = 0; c < 3; c++)
                sum[c] += weights[j] * rgb[3 * j + c];
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = fixed_to_u8(sum[c]);
    }
}

static void resize_horizontal(const struct comma_resize_rows *r)
{
    for (size_t row = 0; row < r->n_rows; row++)
        resize_row(r->out + row * r->out_stride, r->in + row * r->in_stride, r);
}

void comma_kernels_init_c(struct comma_kernels *k)
{
    *k = (struct comma_kernels){
        .name = "c",
        .layer_norm = layer_norm,
        .quick_gelu = quick_gelu,
        .gelu = gelu,
        .attention = attention,
        .add_bias = add_bias,
        .dot_rows = dot_rows,
        .few_rows = few_rows,
        .most_few_rows = 1,
        .softmax = softmax,
        .f16_to_f32 = f16_to_f32,
        .bf16_to_f32 = bf16_to_f32,
        .f32_to_bf16 = f32_to_bf16,
        .quantize_row = quantize_row,
        .finish_f32 = finish_f32,
        .finish_int8 = finish_int8,
        .resize_vertical = resize_vertical,
        .resize_horizontal = resize_horizontal,
    };
}
