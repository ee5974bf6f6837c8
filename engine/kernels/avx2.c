/* SPDX-License-Identifier: MIT */
/* avx2.c - the kernels with AVX2, FMA and F16C: 8 lanes, 16 registers. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>

typedef __m256 vf;
typedef struct {
    __m256d low, high;
} vd;

enum {
    LANES = 8,
    TILE_ROWS = 6, /* attention: 6 x 2 sums, 2 vectors of keys or values, a query: 15 of 16 registers */
    TILE_VECTORS = 2,
    DOT_X = 4, /* few_rows: 4 x 2 sums, 2 vectors of weights, one of x: 11 of 16 registers */
    DOT_W = 2,
};

/* n lanes of ones, then zeros */
static inline __m256i mask_n(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf v_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline vf v_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, mask_n(n));
}

static inline void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    _mm256_maskstore_ps(p, mask_n(n), a);
}

static inline vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

/* magnitude >= 0 */
static inline vf v_copysign(vf magnitude, vf sign)
{
    return _mm256_or_ps(magnitude, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}

static inline vf v_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf v_scale2(vf a, vf n)
{
    /* In two steps, since 2^-150 is no float; both factors are normal numbers, so that only the last product rounds. */
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i h = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i rest = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);

    return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(h)), _mm256_castsi256_ps(rest));
}

static inline vf v_select_less(vf a, vf b, vf less, vf otherwise)
{
    return _mm256_blendv_ps(otherwise, less, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

static inline float v_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float v_max_lane(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
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
    return (vd){ _mm256_setzero_pd(), _mm256_setzero_pd() };
}

static inline vd vd_add(vd sum, vf x)
{
    sum.low = _mm256_add_pd(sum.low, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
    sum.high = _mm256_add_pd(sum.high, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
    return sum;
}

static inline double vd_sum(vd sum)
{
    const __m256d s = _mm256_add_pd(sum.low, sum.high);
    const __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));

    return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

#include "engine/kernels/vector.inc"

#include "engine/kernels/attention.inc"

static void f16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 8; n -= 8, in += 8, out += 8)
        _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)in)));
    if (n) {
        uint16_t rest[8] = { 0 };

        memcpy(rest, in, n * sizeof(*in));
        v_store_n(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)rest)), n);
    }
}

static inline vf of_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static void bf16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 8; n -= 8, in += 8, out += 8)
        _mm256_storeu_ps(out, of_bf16(_mm_loadu_si128((const __m128i *)in)));
    if (n) {
        uint16_t rest[8] = { 0 };

        memcpy(rest, in, n * sizeof(*in));
        v_store_n(out, of_bf16(_mm_loadu_si128((const __m128i *)rest)), n);
    }
}

static inline __m256i weigh(__m256i sum, __m128i bytes, __m256i weights)
{
    return _mm256_add_epi32(sum, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes), weights));
}

/* clamp(sum >> 22) of 8 sums into the low 8 bytes: packing saturates, first to 16 bits with sign, then to bytes. */
static inline __m128i fixed_to_u8(__m256i sum)
{
    const __m256i v = _mm256_srai_epi32(sum, 22);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    return _mm_packus_epi16(words, words);
}

/* n <= 8 bytes, the rest 0 */
static inline __m128i load_bytes(const unsigned char *p, size_t n)
{
    uint64_t bytes = 0;

    memcpy(&bytes, p, n);
    return _mm_cvtsi64_si128((long long)bytes);
}

static void resize_vertical(unsigned char *out, const unsigned char *in, size_t in_stride, const int32_t *weights,
                            size_t n_weights, size_t n)
{
    size_t x = 0;

    for (; x + 32 <= n; x += 32) {
        __m256i sum[4];

        UNROLL for (int v = 0; v < 4; v++) sum[v] = _mm256_set1_epi32(1 << 21);
        for (size_t j = 0; j < n_weights; j++) {
            const unsigned char *row = in + j * in_stride + x;
            const __m256i w = _mm256_set1_epi32(weights[j]);

            UNROLL for (int v = 0; v < 4; v++) sum[v] =
                weigh(sum[v], _mm_loadl_epi64((const __m128i *)(row + 8 * v)), w);
        }
        UNROLL for (int v = 0; v < 4; v++) _mm_storel_epi64((__m128i *)(out + x + 8 * v), fixed_to_u8(sum[v]));
    }
    for (; x < n; x += 8) {
        const size_t width = n - x < 8 ? n - x : 8;
        __m256i sum = _mm256_set1_epi32(1 << 21);
        __m128i bytes;

        for (size_t j = 0; j < n_weights; j++)
            sum = weigh(sum, load_bytes(in + j * in_stride + x, width), _mm256_set1_epi32(weights[j]));
        bytes = fixed_to_u8(sum);
        memcpy(out + x, &bytes, width);
    }
}

/* Eight pixels, 24 bytes, are three vectors; byte i of them is weighed by weight i / 3. */
static void resize_row(unsigned char *out, const unsigned char *in, const struct comma_resize_rows *r)
{
    const int32_t *weights = r->weights;
    const __m256i low = _mm256_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2), middle = _mm256_setr_epi32(2, 3, 3, 3, 4, 4, 4, 5);
    const __m256i high = _mm256_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7);

    for (size_t i = 0; i < r->n_out; i++, weights += r->max_count) {
        const unsigned char *rgb = in + (size_t)3 * r->first[i];
        __m256i a = _mm256_setzero_si256(), b = a, c = a;
        __m128i p0, p1, p2, total, bytes;

        for (size_t j = 0; j < r->count[i]; j += 8) {
            const size_t left = r->count[i] - j;
            unsigned char few[24] = { 0 };
            const unsigned char *p = rgb + 3 * j;
            __m256i w;

            if (left >= 8) {
                w = _mm256_loadu_si256((const __m256i *)(weights + j));
            } else if (r->count[i] >= 8) { /* the last 8 again, without those already counted */
                p = rgb + (size_t)3 * (r->count[i] - 8);
                w = _mm256_loadu_si256((const __m256i *)(weights + r->count[i] - 8));
                w = _mm256_andnot_si256(mask_n(8 - left), w);
            } else {
                p = memcpy(few, rgb, (size_t)3 * r->count[i]);
                w = _mm256_maskload_epi32(weights, mask_n(left));
            }
            a = weigh(a, _mm_loadl_epi64((const __m128i *)p), _mm256_permutevar8x32_epi32(w, low));
            b = weigh(b, _mm_loadl_epi64((const __m128i *)(p + 8)), _mm256_permutevar8x32_epi32(w, middle));
            c = weigh(c, _mm_loadl_epi64((const __m128i *)(p + 16)), _mm256_permutevar8x32_epi32(w, high));
        }
        /* 24 sums, channel after channel: four pixels further the pattern repeats, so fold it, then align pixels 1-3 */
        p0 = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(b, 1));
        p1 = _mm_add_epi32(_mm256_extracti128_si256(a, 1), _mm256_castsi256_si128(c));
        p2 = _mm_add_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(c, 1));
        total = _mm_add_epi32(_mm_set1_epi32(1 << 21), _mm_add_epi32(p0, _mm_alignr_epi8(p1, p0, 12)));
        total = _mm_add_epi32(total, _mm_add_epi32(_mm_alignr_epi8(p2, p1, 8), _mm_srli_si128(p2, 4)));
        bytes = fixed_to_u8(_mm256_castsi128_si256(total));
        memcpy(out + 3 * i, &bytes, 3);
    }
}

static void resize_horizontal(const struct comma_resize_rows *r)
{
    for (size_t row = 0; row < r->n_rows; row++)
        resize_row(r->out + row * r->out_stride, r->in + row * r->in_stride, r);
}

void comma_kernels_init_avx2(struct comma_kernels *k)
{
    k->name = "avx2";
    k->layer_norm = layer_norm;
    k->quick_gelu = quick_gelu;
    k->gelu = gelu;
    k->attention = attention;
    k->add_bias = add_bias;
    k->dot_rows = dot_rows;
    k->few_rows = few_rows;
    k->most_few_rows = 8;
    k->softmax = softmax;
    k->f16_to_f32 = f16_to_f32;
    k->bf16_to_f32 = bf16_to_f32;
    k->resize_vertical = resize_vertical;
    k->resize_horizontal = resize_horizontal;
}
