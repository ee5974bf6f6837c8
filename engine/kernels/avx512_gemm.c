/* SPDX-License-Identifier: MIT */
/* avx512_gemm.c - what stands round a packed product, with AVX-512: rows to bf16 or int8 before it, sums to floats
 * behind it. Beside a product that runs on bf16 or int8 units these loops are what is left, so each touches its data
 * once.
 *
 * Part of the level avx512; c.c is the definition. quantize_row and finish_int8 multiply and add in the order of c.c
 * without fusing, so they give the same bits. */
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"

enum { LANES = 16 };

/* Lanes i .. i + 15 of n. */
static inline __mmask16 lanes_left(size_t n, size_t i)
{
    return n - i >= LANES ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
}

/* Upper halves, rounded to nearest with ties to even: the lower half plus 0x7FFF and the last bit kept carries. */
static inline __m256i to_bf16(__m512 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7FFF)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}

static void f32_to_bf16(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 mask = lanes_left(n, i);

        _mm256_mask_storeu_epi16(out + i, mask, to_bf16(_mm512_maskz_loadu_ps(mask, in + i)));
    }
}

static void quantize_row(uint8_t *q, float *scale, int32_t *zero, const float *x, size_t n)
{
    __m512 least = _mm512_setzero_ps(), most = least, bad = least, inverse;
    __m512i zeros;

    for (size_t i = 0; i < n; i += LANES) {
        const __m512 v = _mm512_maskz_loadu_ps(lanes_left(n, i), x + i);

        least = _mm512_min_ps(v, least);
        most = _mm512_max_ps(v, most);
        bad = _mm512_fmadd_ps(v, _mm512_setzero_ps(), bad); /* NaN if v is not finite */
    }
    *scale = (_mm512_reduce_max_ps(most) - _mm512_reduce_min_ps(least)) / 255 + _mm512_reduce_add_ps(bad);
    *zero = 0;
    if (!isfinite(*scale) || *scale < FLT_MIN) {
        *scale = isfinite(*scale) ? 0 : NAN;
        memset(q, 0, n);
        return;
    }
    inverse = _mm512_set1_ps(1 / *scale);
    *zero = (int32_t)lrintf(-_mm512_reduce_min_ps(least) * (1 / *scale));
    zeros = _mm512_set1_epi32(*zero);
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 mask = lanes_left(n, i);
        const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
        const __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(v), zeros);

        /* vpmovusdb takes its input as unsigned, so negative ones go to 0 first */
        _mm512_mask_cvtusepi32_storeu_epi8(q + i, mask, _mm512_max_epi32(whole, _mm512_setzero_si512()));
    }
}

static inline void put(float *y, __m512 v, __mmask16 mask, int accumulate)
{
    if (accumulate)
        v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), v);
    _mm512_mask_storeu_ps(y, mask, v);
}

static void finish_f32(float *y, size_t ldy, const float *sums, size_t ld_sums, const float *bias, size_t rows,
                       size_t width, int accumulate)
{
    for (size_t r = 0; r < rows; r++, y += ldy, sums += ld_sums)
        for (size_t i = 0; i < width; i += LANES) {
            const __mmask16 mask = lanes_left(width, i);
            const __m512 b = bias ? _mm512_maskz_loadu_ps(mask, bias + i) : _mm512_setzero_ps();

            put(y + i, _mm512_add_ps(_mm512_maskz_loadu_ps(mask, sums + i), b), mask, accumulate);
        }
}

static void finish_int8(float *y, size_t ldy, const int32_t *sums, size_t ld_sums, const struct comma_int8_scales *s,
                        size_t rows, size_t width, int accumulate)
{
    for (size_t r = 0; r < rows; r++, y += ldy, sums += ld_sums) {
        const __m512 scale = _mm512_set1_ps(s->row_scale[r]);
        const __m512i zero = _mm512_set1_epi32(s->row_zero[r]);

        for (size_t i = 0; i < width; i += LANES) {
            const __mmask16 mask = lanes_left(width, i);
            const __m512i shift = _mm512_mullo_epi32(zero, _mm512_maskz_loadu_epi32(mask, s->column_sum + i));
            const __m512i sum = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(mask, sums + i), shift);
            const __m512 factor = _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(mask, s->column_scale + i));
            const __m512 b = s->bias ? _mm512_maskz_loadu_ps(mask, s->bias + i) : _mm512_setzero_ps();

            /* not fused: the same bits as c.c */
            put(y + i, _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor), b), mask, accumulate);
        }
    }
}

void comma_kernels_init_avx512_gemm(struct comma_kernels *k)
{
    k->f32_to_bf16 = f32_to_bf16;
    k->quantize_row = quantize_row;
    k->finish_f32 = finish_f32;
    k->finish_int8 = finish_int8;
}
