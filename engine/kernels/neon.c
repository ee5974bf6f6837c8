/* SPDX-License-Identifier: MIT */
/* neon.c - the kernels with Advanced SIMD of the 64-bit Arm architecture: 4 lanes, 32 registers. */
#include "engine/kernels/kernels.h"

#include <arm_neon.h>
#include <math.h>

typedef float32x4_t vf;
typedef struct {
    float64x2_t low, high;
} vd;

enum {
    LANES = 4,
    TILE_ROWS = 6, /* attention: 6 x 4 sums, 4 vectors of keys or values, a query: 29 of 32 registers */
    TILE_VECTORS = 4,
    DOT_X = 4, /* few_rows: 4 x 4 sums, 4 vectors of weights, one of x: 21 of 32 registers */
    DOT_W = 4,
};

static inline vf v_set1(float x)
{
    return vdupq_n_f32(x);
}

static inline vf v_load(const float *p)
{
    return vld1q_f32(p);
}

static inline vf v_load_n(const float *p, size_t n)
{
    vf a = vdupq_n_f32(0);

    if (n >= 2)
        a = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    if (n == 1)
        return vld1q_lane_f32(p, a, 0);
    return n == 3 ? vld1q_lane_f32(p + 2, a, 2) : a;
}

static inline void v_store(float *p, vf a)
{
    vst1q_f32(p, a);
}

static inline void v_store_n(float *p, vf a, size_t n)
{
    if (n >= 2)
        vst1_f32(p, vget_low_f32(a));
    if (n == 1)
        vst1q_lane_f32(p, a, 0);
    if (n == 3)
        vst1q_lane_f32(p + 2, a, 2);
}

static inline vf v_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}

static inline vf v_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}

static inline vf v_mul(vf a, vf b)
{
    return vmulq_f32(a, b);
}

static inline vf v_div(vf a, vf b)
{
    return vdivq_f32(a, b);
}

static inline vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

static inline vf v_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}

static inline vf v_min(vf a, vf b)
{
    return vminq_f32(a, b);
}

static inline vf v_abs(vf a)
{
    return vabsq_f32(a);
}

/* magnitude >= 0 */
static inline vf v_copysign(vf magnitude, vf sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000), sign, magnitude);
}

static inline vf v_round(vf a)
{
    return vrndnq_f32(a);
}

static inline vf v_scale2(vf a, vf n)
{
    /* In two steps, since 2^-150 is no float; both factors are normal numbers, so that only the last product rounds. */
    const int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1), bias = vdupq_n_s32(127);
    const int32x4_t h = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t rest = vshlq_n_s32(vaddq_s32(vsubq_s32(whole, half), bias), 23);

    return vmulq_f32(vmulq_f32(a, vreinterpretq_f32_s32(h)), vreinterpretq_f32_s32(rest));
}

static inline vf v_select_less(vf a, vf b, vf less, vf otherwise)
{
    return vbslq_f32(vcltq_f32(a, b), less, otherwise);
}

static inline float v_sum(vf a)
{
    return vaddvq_f32(a);
}

static inline float v_max_lane(vf a)
{
    return vmaxvq_f32(a);
}

/* out[j * ldo + i] = rows[i][d + j] */
static inline void transpose_4x4(float *out, size_t ldo, const float *const rows[4], size_t d)
{
    const vf a = vld1q_f32(rows[0] + d), b = vld1q_f32(rows[1] + d);
    const vf c = vld1q_f32(rows[2] + d), e = vld1q_f32(rows[3] + d);
    const vf ac_low = vzip1q_f32(a, c), ac_high = vzip2q_f32(a, c);
    const vf be_low = vzip1q_f32(b, e), be_high = vzip2q_f32(b, e);

    vst1q_f32(out, vzip1q_f32(ac_low, be_low));
    vst1q_f32(out + ldo, vzip2q_f32(ac_low, be_low));
    vst1q_f32(out + 2 * ldo, vzip1q_f32(ac_high, be_high));
    vst1q_f32(out + 3 * ldo, vzip2q_f32(ac_high, be_high));
}

static inline vd vd_zero(void)
{
    return (vd){ vdupq_n_f64(0), vdupq_n_f64(0) };
}

static inline vd vd_add(vd sum, vf x)
{
    sum.low = vaddq_f64(sum.low, vcvt_f64_f32(vget_low_f32(x)));
    sum.high = vaddq_f64(sum.high, vcvt_high_f64_f32(x));
    return sum;
}

static inline double vd_sum(vd sum)
{
    return vaddvq_f64(vaddq_f64(sum.low, sum.high));
}

#include "engine/kernels/vector.inc"

#include "engine/kernels/attention.inc"

static inline vf of_f16(uint16x4_t h)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}

static inline vf of_bf16(uint16x4_t h)
{
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}

/* n <= 4 of them, the rest 0 */
static inline uint16x4_t load_halves(const uint16_t *p, size_t n)
{
    uint16_t some[4] = { 0 };

    memcpy(some, p, n * sizeof(*p));
    return vld1_u16(some);
}

static void f16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 8; n -= 8, in += 8, out += 8) {
        const uint16x8_t h = vld1q_u16(in);

        vst1q_f32(out, of_f16(vget_low_u16(h)));
        vst1q_f32(out + 4, of_f16(vget_high_u16(h)));
    }
    for (; n >= 4; n -= 4, in += 4, out += 4)
        vst1q_f32(out, of_f16(vld1_u16(in)));
    if (n)
        v_store_n(out, of_f16(load_halves(in, n)), n);
}

static void bf16_to_f32(float *out, const uint16_t *in, size_t n)
{
    for (; n >= 8; n -= 8, in += 8, out += 8) {
        const uint16x8_t h = vld1q_u16(in);

        vst1q_f32(out, of_bf16(vget_low_u16(h)));
        vst1q_f32(out + 4, of_bf16(vget_high_u16(h)));
    }
    for (; n >= 4; n -= 4, in += 4, out += 4)
        vst1q_f32(out, of_bf16(vld1_u16(in)));
    if (n)
        v_store_n(out, of_bf16(load_halves(in, n)), n);
}

/* Four bytes, widened to 16 bits, times their weights. */
static inline int32x4_t weigh(int32x4_t sum, uint16x4_t bytes, int32x4_t weights)
{
    return vmlaq_s32(sum, vreinterpretq_s32_u32(vmovl_u16(bytes)), weights);
}

/* sum >> 22, not below 0, in 16 bits; narrowing that with saturation clamps to bytes. */
static inline uint16x4_t fixed_to_u16(int32x4_t sum)
{
    return vqmovun_s32(vshrq_n_s32(sum, 22));
}

/* n <= 8 bytes, the rest 0 */
static inline uint8x8_t load_bytes(const unsigned char *p, size_t n)
{
    unsigned char some[8] = { 0 };

    memcpy(some, p, n);
    return vld1_u8(some);
}

static void resize_vertical(unsigned char *out, const unsigned char *in, size_t in_stride, const int32_t *weights,
                            size_t n_weights, size_t n)
{
    size_t x = 0;

    for (; x + 32 <= n; x += 32) {
        int32x4_t sum[8];

        UNROLL for (int v = 0; v < 8; v++) sum[v] = vdupq_n_s32(1 << 21);
        for (size_t j = 0; j < n_weights; j++) {
            const unsigned char *row = in + j * in_stride + x;
            const int32x4_t w = vdupq_n_s32(weights[j]);

            UNROLL for (int v = 0; v < 4; v++)
            {
                const uint16x8_t bytes = vmovl_u8(vld1_u8(row + 8 * v));

                sum[2 * v] = weigh(sum[2 * v], vget_low_u16(bytes), w);
                sum[2 * v + 1] = weigh(sum[2 * v + 1], vget_high_u16(bytes), w);
            }
        }
        UNROLL for (int v = 0; v < 4; v++)
            vst1_u8(out + x + 8 * v, vqmovn_u16(vcombine_u16(fixed_to_u16(sum[2 * v]), fixed_to_u16(sum[2 * v + 1]))));
    }
    for (; x < n; x += 8) {
        const size_t width = n - x < 8 ? n - x : 8;
        int32x4_t low = vdupq_n_s32(1 << 21), high = low;
        unsigned char some[8];

        for (size_t j = 0; j < n_weights; j++) {
            const uint16x8_t bytes = vmovl_u8(load_bytes(in + j * in_stride + x, width));
            const int32x4_t w = vdupq_n_s32(weights[j]);

            low = weigh(low, vget_low_u16(bytes), w);
            high = weigh(high, vget_high_u16(bytes), w);
        }
        vst1_u8(some, vqmovn_u16(vcombine_u16(fixed_to_u16(low), fixed_to_u16(high))));
        memcpy(out + x, some, width);
    }
}

/* Eight weights; the first `skip` of them as 0. */
static inline int32x4x2_t load_weights(const int32_t *weights, size_t skip)
{
    static const int32_t places[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    const int32x4_t from = vdupq_n_s32((int32_t)skip);
    const int32x4_t low = vreinterpretq_s32_u32(vcgeq_s32(vld1q_s32(places), from));
    const int32x4_t high = vreinterpretq_s32_u32(vcgeq_s32(vld1q_s32(places + 4), from));

    return (int32x4x2_t){ { vandq_s32(vld1q_s32(weights), low), vandq_s32(vld1q_s32(weights + 4), high) } };
}

/* Eight pixels at a time, which one load takes apart into their channels. */
static void resize_row(unsigned char *out, const unsigned char *in, const struct comma_resize_rows *r)
{
    const int32_t *weights = r->weights;

    for (size_t i = 0; i < r->n_out; i++, weights += r->max_count) {
        const unsigned char *rgb = in + (size_t)3 * r->first[i];
        int32x4_t sum[3] = { vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0) };

        for (size_t j = 0; j < r->count[i]; j += 8) {
            const size_t left = r->count[i] - j;
            unsigned char few[24] = { 0 };
            int32_t few_weights[8] = { 0 };
            const unsigned char *p = rgb + 3 * j;
            int32x4x2_t w;
            uint8x8x3_t pixels;

            if (left >= 8) {
                w = vld1q_s32_x2(weights + j);
            } else if (r->count[i] >= 8) { /* the last 8 again, without those already counted */
                p = rgb + (size_t)3 * (r->count[i] - 8);
                w = load_weights(weights + r->count[i] - 8, 8 - left);
            } else {
                p = memcpy(few, rgb, (size_t)3 * r->count[i]);
                w = vld1q_s32_x2(memcpy(few_weights, weights, r->count[i] * sizeof(*weights)));
            }
            pixels = vld3_u8(p);
            UNROLL for (int c = 0; c < 3; c++)
            {
                const uint16x8_t bytes = vmovl_u8(pixels.val[c]);

                sum[c] = weigh(sum[c], vget_low_u16(bytes), w.val[0]);
                sum[c] = weigh(sum[c], vget_high_u16(bytes), w.val[1]);
            }
        }
        UNROLL for (int c = 0; c < 3; c++)
        {
            const int32x4_t total = vdupq_n_s32(vaddvq_s32(sum[c]) + (1 << 21));

            out[3 * i + (size_t)c] = vget_lane_u8(vqmovn_u16(vcombine_u16(fixed_to_u16(total), vdup_n_u16(0))), 0);
        }
    }
}

static void resize_horizontal(const struct comma_resize_rows *r)
{
    for (size_t row = 0; row < r->n_rows; row++)
        resize_row(r->out + row * r->out_stride, r->in + row * r->in_stride, r);
}

void comma_kernels_init_neon(struct comma_kernels *k)
{
    k->name = "neon";
    k->layer_norm = layer_norm;
    k->quick_gelu = quick_gelu;
    k->gelu = gelu;
    k->attention = attention;
    k->add_bias = add_bias;
    k->dot_rows = dot_rows;
    k->few_rows = few_rows;
    k->most_few_rows = 4;
    k->softmax = softmax;
    k->f16_to_f32 = f16_to_f32;
    k->bf16_to_f32 = bf16_to_f32;
    k->resize_vertical = resize_vertical;
    k->resize_horizontal = resize_horizontal;
}
