/* SPDX-License-Identifier: MIT */
/* avx512_vnni.c - what the dot products of bytes (AVX-512 VNNI) make faster: shortening the rows of a picture, which
 * for a large photo takes as long as decoding it.
 *
 * One instruction multiplies four pixels' bytes by four signed bytes and adds the products to a 32-bit sum. A weight
 * has 23 bits and a sign, so it is written in three digits of base 256 that run from -128 to 127; each digit has a sum
 * of its own, and in the end they are joined. All of that is exact, modulo 2^32, and the result fits. Several rows at a
 * time, since splitting the weights costs as much as using them. */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <string.h>

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { ROWS = 4, PIXELS = 16 };

/* The digits of 16 weights: in each of three vectors four bytes a pixel group, the same in all four lanes of 32 bits.
 */
struct digits {
    __m512i of[3];
};

static inline struct digits split(const int32_t *weights, __mmask16 mask)
{
    const __m512i carry = _mm512_set1_epi32(0x808080);
    const __m512i w = _mm512_maskz_loadu_epi32(mask, weights);
    /* Adding 128 to each digit carries into the next one where it is over 127; turning the top bit takes it off. */
    const __m512i d = _mm512_xor_si512(_mm512_add_epi32(w, carry), carry);
    const __m512i lowest = _mm512_set1_epi32(0x0C080400), one = _mm512_set1_epi32(0x01010101);
    const __m512i middle = _mm512_add_epi32(lowest, one);

    return (struct digits){ { _mm512_shuffle_epi8(d, lowest), _mm512_shuffle_epi8(d, middle),
                              _mm512_shuffle_epi8(d, _mm512_add_epi32(middle, one)) } };
}

/* 16 pixels, of which those of the mask are read: groups of four, each as four bytes of red, of green, of blue, and 0.
 */
static inline __m512i load_pixels(const unsigned char *rgb, __mmask64 mask)
{
    const __m512i groups = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    const __m512i channels =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));

    return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(groups, _mm512_maskz_loadu_epi8(mask, rgb)), channels);
}

/* One row's sums of the digits, joined, over the four groups: red, green, blue, 0, each >> 22. */
static inline __m128i join(const __m512i sums[3])
{
    const __m512i high = _mm512_add_epi32(sums[1], _mm512_slli_epi32(sums[2], 8));
    const __m512i all = _mm512_add_epi32(sums[0], _mm512_slli_epi32(high, 8));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));

    return _mm_srai_epi32(_mm_add_epi32(sum, _mm_set1_epi32(1 << 21)), 22);
}

/* Adds n <= 16 pixels of n_rows rows, a constant, to their sums. */
static inline __attribute__((always_inline)) void add_pixels(__m512i sums[ROWS][3], const unsigned char *in,
                                                             size_t in_stride, const int32_t *weights, size_t n,
                                                             const int n_rows)
{
    const struct digits w = split(weights, (__mmask16)((1u << n) - 1));

    UNROLL for (int row = 0; row < n_rows; row++)
    {
        const __m512i p = load_pixels(in + (size_t)row * in_stride, ((__mmask64)1 << (3 * n)) - 1);

        UNROLL for (int d = 0; d < 3; d++) sums[row][d] = _mm512_dpbusd_epi32(sums[row][d], p, w.of[d]);
    }
}

/* Output i of n_rows rows, a constant. */
static inline __attribute__((always_inline)) void resize_one(const struct comma_resize_rows *r, unsigned char *out,
                                                             const unsigned char *in, size_t i, const int n_rows)
{
    const int32_t *weights = r->weights + i * r->max_count;
    const size_t count = r->count[i], in_stride = r->in_stride;
    __m512i sums[ROWS][3];
    __m128i rgb[ROWS] = { 0 };
    unsigned char pixels[4 * ROWS];
    size_t j = 0;

    in += (size_t)3 * r->first[i];
    UNROLL for (int row = 0; row < n_rows; row++) UNROLL for (int d = 0; d < 3; d++) sums[row][d] =
        _mm512_setzero_si512();
    for (; j + PIXELS <= count; j += PIXELS)
        add_pixels(sums, in + 3 * j, in_stride, weights + j, PIXELS, n_rows);
    if (j < count)
        add_pixels(sums, in + 3 * j, in_stride, weights + j, count - j, n_rows);
    UNROLL for (int row = 0; row < n_rows; row++) rgb[row] = join(sums[row]);
    /* Packing saturates, first to 16 bits with sign, then to bytes. */
    _mm_storeu_si128((__m128i *)pixels,
                     _mm_packus_epi16(_mm_packs_epi32(rgb[0], rgb[1]), _mm_packs_epi32(rgb[2], rgb[3])));
    UNROLL for (int row = 0; row < n_rows; row++)
        memcpy(out + (size_t)row * r->out_stride + 3 * i, pixels + (size_t)4 * (size_t)row, 3);
}

static void resize_horizontal(const struct comma_resize_rows *r)
{
    size_t row = 0;

    for (; row + ROWS <= r->n_rows; row += ROWS)
        for (size_t i = 0; i < r->n_out; i++)
            resize_one(r, r->out + row * r->out_stride, r->in + row * r->in_stride, i, ROWS);
    for (; row < r->n_rows; row++)
        for (size_t i = 0; i < r->n_out; i++)
            resize_one(r, r->out + row * r->out_stride, r->in + row * r->in_stride, i, 1);
}

void comma_kernels_init_avx512_vnni(struct comma_kernels *k)
{
    k->name = "avx512_vnni";
    k->resize_horizontal = resize_horizontal;
}
