/* SPDX-License-Identifier: MIT */
/* avx512.c - the kernels with AVX-512 F, BW, VL and DQ: 16 lanes, 32 registers, and masks for the ends of rows. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>

typedef __m512 vf;
typedef struct {
    __m512d low, high;
} vd;

enum {
    LANES = 16,
    TILE_ROWS = 6, /* attention: 6 x 4 sums, 4 vectors of keys or values, a query: 29 of 32 registers */
    TILE_VECTORS = 4,
    DOT_X = 6, /* few_rows: 6 x 4 sums, 4 vectors of weights, one of x: 29 of 32 registers */
    DOT_W = 4,
};

static inline __mmask16 mask_n(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline vf v_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline vf v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(mask_n(n), p);
}

static inline void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm512_mask_storeu_ps(p, mask_n(n), a);
}

static inline vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}

/* magnitude >= 0 */
static inline vf v_copysign(vf magnitude, vf sign)
{
    return _mm512_or_ps(magnitude, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}

static inline vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf v_scale2(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}

static inline vf v_select_less(vf a, vf b, vf less, vf otherwise)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, less);
}

static inline float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}

static inline float v_max_lane(vf a)
{
    return _mm512_reduce_max_ps(a);
}

/* out[j * ldo + i] = rows[i][d + j] */
static inline void transpose_4x4(float *out, size_t ldo, const float *const rows[4], size_t d)
{
    __m128 a = _mm_loadu_ps(rows[0] + d), b = _mm_loadu_ps(rows[1] + d);
    __m128 c = _mm_loadu_ps(rows[2] + d), e = _mm_loadu_ps(rows[3] + d);

    _MM_TRANSPOSE4_PS(a, b, c, e);
    _mm_storeu_ps(out, a);
    _mm_storeu_ps(out + ldo, b);
    _mm_storeu_ps(out + 2 * ldo, c);
    _mm_storeu_ps(out + 3 * ldo, e);
}

static inline vd vd_zero(void)
{
    return (vd){ _mm512_setzero_pd(), _mm512_setzero_pd() };
}

static inline vd vd_add(vd sum, vf x)
{
    sum.low = _mm512_add_pd(sum.low, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    sum.high = _mm512_add_pd(sum.high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
    return sum;
}

static inline double vd_sum(vd sum)
{
    return _mm512_reduce_add_pd(_mm512_add_pd(sum.low, sum.high));
}

#include "engine/kernels/vector.inc"

#include "engine/kernels/attention.inc"

static void f16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 16; n -= 16, in += 16, out += 16)
        _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)in)));
    if (n)
        v_store_n(out, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask_n(n), in)), n);
}

static inline vf of_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static void bf16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 16; n -= 16, in += 16, out += 16)
        _mm512_storeu_ps(out, of_bf16(_mm256_loadu_si256((const __m256i *)in)));
    if (n)
        v_store_n(out, of_bf16(_mm256_maskz_loadu_epi16(mask_n(n), in)), n);
}

/* clamp(sum >> 22) to bytes; vpmovusdb takes its input as unsigned, so negative ones go to 0 first. */
static inline __m128i fixed_to_u8(__m512i sum)
{
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_srai_epi32(sum, 22), _mm512_setzero_si512()));
}

static inline __m512i weigh(__m512i sum, __m128i bytes, __m512i weights)
{
    return _mm512_add_epi32(sum, _mm512_mullo_epi32(_mm512_cvtepu8_epi32(bytes), weights));
}

static void resize_vertical(unsigned char *out, const unsigned char *in, size_t in_stride, const int32_t *weights,
                            size_t n_weights, size_t n)
{
    size_t x = 0;

    for (; x + 64 <= n; x += 64) {
        __m512i sum[4];

        UNROLL for (int v = 0; v < 4; v++) sum[v] = _mm512_set1_epi32(1 << 21);
        for (size_t j = 0; j < n_weights; j++) {
            const __m128i *row = (const __m128i *)(in + j * in_stride + x);
            const __m512i w = _mm512_set1_epi32(weights[j]);

            UNROLL for (int v = 0; v < 4; v++) sum[v] = weigh(sum[v], _mm_loadu_si128(row + v), w);
        }
        UNROLL for (int v = 0; v < 4; v++) _mm_storeu_si128((__m128i *)(out + x) + v, fixed_to_u8(sum[v]));
    }
    for (; x < n; x += 16) {
        const __mmask16 mask = mask_n(n - x < 16 ? n - x : 16);
        __m512i sum = _mm512_set1_epi32(1 << 21);

        for (size_t j = 0; j < n_weights; j++)
            sum = weigh(sum, _mm_maskz_loadu_epi8(mask, in + j * in_stride + x), _mm512_set1_epi32(weights[j]));
        _mm_mask_storeu_epi8(out + x, mask, fixed_to_u8(sum));
    }
}

/* Five pixels, 15 bytes, are a vector: lane i weighs channel i % 3 of pixel i / 3, and lane 15 nothing. */
static void resize_row(unsigned char *out, const unsigned char *in, const struct comma_resize_rows *r)
{
    const int32_t *weights = r->weights;
    const __m512i thirds = _mm512_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4);
    const __m512i pixels_5 = _mm512_add_epi32(thirds, _mm512_set1_epi32(5));
    const __m512i pixels_10 = _mm512_add_epi32(thirds, _mm512_set1_epi32(10));

    for (size_t i = 0; i < r->n_out; i++, weights += r->max_count) {
        const unsigned char *rgb = in + (size_t)3 * r->first[i];
        __m512i a = _mm512_setzero_si512(), b = a, c = a;
        size_t j = 0;

        for (; j + 15 < r->count[i]; j += 15, rgb += 45) { /* one weight and pixel more than used are read */
            const __m512i w = _mm512_loadu_si512(weights + j);

            a = weigh(a, _mm_loadu_si128((const __m128i *)rgb), _mm512_maskz_permutexvar_epi32(0x7FFF, thirds, w));
            b = weigh(b, _mm_loadu_si128((const __m128i *)(rgb + 15)),
                      _mm512_maskz_permutexvar_epi32(0x7FFF, pixels_5, w));
            c = weigh(c, _mm_loadu_si128((const __m128i *)(rgb + 30)),
                      _mm512_maskz_permutexvar_epi32(0x7FFF, pixels_10, w));
        }
        for (; j < r->count[i]; j += 5, rgb += 15) {
            const size_t n = r->count[i] - j < 5 ? r->count[i] - j : 5;
            const __m512i w = _mm512_maskz_loadu_epi32(mask_n(n), weights + j);

            a = weigh(a, _mm_maskz_loadu_epi8(mask_n(3 * n), rgb), _mm512_permutexvar_epi32(thirds, w));
        }
        a = _mm512_add_epi32(_mm512_add_epi32(a, b), c);
        b = _mm512_add_epi32(a, _mm512_alignr_epi32(a, a, 6)); /* pixels 0 + 2 and 1 + 3 */
        c = _mm512_add_epi32(_mm512_alignr_epi32(b, b, 3), _mm512_alignr_epi32(a, a, 12));
        b = _mm512_add_epi32(_mm512_add_epi32(b, c), _mm512_set1_epi32(1 << 21));
        _mm_mask_storeu_epi8(out + 3 * i, 7, fixed_to_u8(b));
    }
}

static void resize_horizontal(const struct comma_resize_rows *r)
{
    for (size_t row = 0; row < r->n_rows; row++)
        resize_row(r->out + row * r->out_stride, r->in + row * r->in_stride, r);
}

void comma_kernels_init_avx512(struct comma_kernels *k)
{
    k->name = "avx512";
    k->layer_norm = layer_norm;
    k->quick_gelu = quick_gelu;
    k->gelu = gelu;
    k->attention = attention;
    k->add_bias = add_bias;
    k->dot_rows = dot_rows;
    k->few_rows = few_rows;
    k->most_few_rows = 24;
    k->softmax = softmax;
    k->f16_to_f32 = f16_to_f32;
    k->bf16_to_f32 = bf16_to_f32;
    k->resize_vertical = resize_vertical;
    k->resize_horizontal = resize_horizontal;
    comma_kernels_init_avx512_gemm(k);
}
