/* SPDX-License-Identifier: MIT */
/* kernels.h - the loops that are not GEMM, as a table: filled with plain C, then overwritten by what the CPU has
 * faster.
 *
 * c.c is the definition of correct. Rows are row-major f32; ld is the distance of two rows in floats. Pointers need no
 * alignment, and no kernel reads or writes outside the rows and columns it is given. Kernels do not allocate. */
#ifndef COMMA_ENGINE_KERNELS_H
#define COMMA_ENGINE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Queries of one head of one sequence against all keys that they see. Keys stand in two runs: shared ones first (a
 * prefix of a prompt, computed once; may be empty), then the sequence's own. */
struct comma_attention {
    const float *q; /* [n_q, head_dim] */
    size_t ldq;
    const float *shared_k; /* [n_shared, head_dim]; NULL if n_shared is 0 */
    const float *shared_v;
    size_t ld_shared; /* of both */
    size_t n_shared;
    const float *k, *v; /* [n_k, head_dim] */
    size_t ldk, ldv;
    size_t n_k;
    float *out; /* [n_q, head_dim] */
    size_t ldo;
    size_t n_q, head_dim;
    float scale; /* 1 / sqrt(head_dim) */
    /* Causal: query i sees all shared keys and own keys 0 .. causal_from + i. Otherwise it sees every key. */
    int causal;
    size_t causal_from;
    float *scratch; /* [comma_attention_scratch(n_shared + n_k, head_dim)] */
};

/* Floats of scratch for one comma_attention call, whatever level runs it. */
size_t comma_attention_scratch(size_t n_keys, size_t head_dim);

/* How sums of an int8 product become floats: x = row_scale (q - row_zero), w = column_scale q, so that
 * y = row_scale column_scale (sum - row_zero column_sum) + bias. */
struct comma_int8_scales {
    const float *row_scale;    /* [rows] */
    const int32_t *row_zero;   /* [rows], 0 .. 255 */
    const float *column_scale; /* [width] */
    const int32_t *column_sum; /* [width] sum of the column's weights q */
    const float *bias;         /* [width] or NULL */
};

/* Rows of RGB bytes made shorter or longer, all by the same weights:
 * out[3 * i + c] = clamp((2^21 + sum_j weights[i * max_count + j] * in[3 * (first[i] + j) + c]) >> 22), j < count[i].
 * An output's weights add up to 2^22 and each is below 2^23 - 2^16 in size. */
struct comma_resize_rows {
    unsigned char *out;
    const unsigned char *in;
    size_t out_stride, in_stride, n_rows; /* strides in bytes */
    const int32_t *weights;               /* [n_out, max_count] */
    size_t max_count, n_out;
    const uint32_t *first, *count; /* [n_out] */
};

struct comma_kernels {
    const char *name; /* "c", "avx2", "avx512", "avx512_vnni", "amx", "neon" */

    /* y = (x - mean) / sqrt(var + eps) * weight + bias over each row; population variance. y may be x. */
    void (*layer_norm)(float *y, size_t ldy, const float *x, size_t ldx, const float *weight, const float *bias,
                       size_t rows, size_t width, float eps);

    /* x = x * sigmoid(1.702 x), in place. */
    void (*quick_gelu)(float *x, size_t ldx, size_t rows, size_t width);

    /* x = x / 2 * (1 + erf(x / sqrt 2)), in place. */
    void (*gelu)(float *x, size_t ldx, size_t rows, size_t width);

    /* softmax(q k^T * scale, masked) v. */
    void (*attention)(const struct comma_attention *a);

    /* The same, not causal, head_dim a multiple of 32 and at least one key: q, k, v and the weights may be rounded to
     * bf16 on the way into their products. It is attention itself where the processor has nothing faster. */
    void (*attention_bf16)(const struct comma_attention *a);

    /* Each row of y += bias [width]. */
    void (*add_bias)(float *y, size_t ldy, const float *bias, size_t rows, size_t width);

    /* out[i] = sum_j x[j] * w[i * ldw + j], i < rows: one vector against the rows of a matrix. */
    void (*dot_rows)(float *out, const float *x, const float *w, size_t ldw, size_t rows, size_t width);

    /* y = x w^T + bias (NULL: none), or y += that, for few rows x: weights pass through once, where they lie, which a GEMM
     * library that first copies them into an order of its own cannot do.
     *   x [m, k], w [n, k] as torch stores a Linear, y [m, n] */
    void (*few_rows)(float *y, size_t ldy, const float *x, size_t ldx, size_t m, const float *w, size_t ldw, size_t n,
                     size_t k, const float *bias, int accumulate);
    size_t most_few_rows; /* m up to which that is faster than OpenBLAS: tests/bench/LOG.md */

    /* In place: exp(x - max) / sum; n >= 1. Accumulates the sum in f64. */
    void (*softmax)(float *x, size_t n);

    /* Arrays of 16-bit floats to f32. */
    void (*f16_to_f32)(float *out, const uint16_t *in, size_t n);
    void (*bf16_to_f32)(float *out, const uint16_t *in, size_t n);

    /* Round a packed product (engine/gemm/onednn.c): its input on the way in, its sums on the way out. */

    /* Nearest, ties to even; NaN stays NaN. */
    void (*f32_to_bf16)(uint16_t *out, const float *in, size_t n);

    /* A row as x = scale (q - zero) with q in 0 .. 255: the range is that of its values and 0. scale is NaN, and q 0,
     * where a value is not finite. */
    void (*quantize_row)(uint8_t *q, float *scale, int32_t *zero, const float *x, size_t n);

    /* y = sums + bias (NULL: none), or y += that. */
    void (*finish_f32)(float *y, size_t ldy, const float *sums, size_t ld_sums, const float *bias, size_t rows,
                       size_t width, int accumulate);
    void (*finish_int8)(float *y, size_t ldy, const int32_t *sums, size_t ld_sums, const struct comma_int8_scales *s,
                        size_t rows, size_t width, int accumulate);

    /* Bicubic resize of u8 RGB by fixed-point weights, Pillow's way (SPEC 8.3); see preprocess.c.
     * vertical: out[x] = clamp((2^21 + sum_j weights[j] * in[j * in_stride + x]) >> 22), x < n bytes. */
    void (*resize_vertical)(unsigned char *out, const unsigned char *in, size_t in_stride, const int32_t *weights,
                            size_t n_weights, size_t n);
    void (*resize_horizontal)(const struct comma_resize_rows *r);
};

/* The fastest level among cpu (COMMA_CPU_ flags of base/cpu.h); a parameter, so that one machine tests every level it
 * has. */
void comma_kernels_init(struct comma_kernels *k, uint32_t cpu);

/* The table of comma_cpu_features(), made once; any thread. */
const struct comma_kernels *comma_kernels(void);

/* One level each; they replace only what they make faster. Present in every build for its architecture. */
void comma_kernels_init_c(struct comma_kernels *k);
void comma_kernels_init_avx2(struct comma_kernels *k);
void comma_kernels_init_avx512(struct comma_kernels *k);
void comma_kernels_init_avx512_gemm(struct comma_kernels *k); /* part of avx512 */
void comma_kernels_init_avx512_vnni(struct comma_kernels *k);
void comma_kernels_init_amx(struct comma_kernels *k);
void comma_kernels_init_neon(struct comma_kernels *k);

#endif
