/* SPDX-License-Identifier: MIT */
/* amx.c - attention in bf16 on the tile units of Intel's AMX: 16 queries at a time, both products on tiles, the softmax
 * between them in f32.
 *
 * A tile is 16 rows of 64 bytes. In its second operand a row holds pairs: dword n of row r is elements 2 r and 2 r + 1
 * of column n. So keys are converted and transposed by dwords, values interleaved by pairs of rows, once a head. The
 * tile units are so fast that what remains is the exponentials; these need no more digits than bf16 keeps of them.
 *
 * The AVX-512 units' own bf16 products would not do: on Sapphire Rapids they run at half the speed of f32
 * (tests/bench/LOG.md). */
#include "engine/kernels/kernels.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { ROWS = 16, PAIRS = 16, DEPTH = 2 * PAIRS, TILE = ROWS * DEPTH };

/* bf16 as uint16_t. Sizes in elements; n_keys rounded up to DEPTH, so that a tile of weights is whole. */
struct packed {
    uint16_t *keys;    /* [padded / 16, head_dim / 32] tiles */
    uint16_t *values;  /* [padded / 32, head_dim / 16] tiles */
    uint16_t *queries; /* [16, head_dim]; also room to convert rows in */
    uint16_t *weights; /* [16, padded] */
    float *scores;     /* [16, padded] */
    float *out;        /* [16, head_dim] */
    size_t n_keys, padded, head_dim;
};

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static void configure_tiles(void)
{
    struct tile_config config = { .palette = 1 };

    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 2 * DEPTH;
        config.rows[i] = ROWS;
    }
    _tile_loadconfig(&config);
}

static inline const float *key_row(const struct comma_attention *a, size_t i)
{
    return i < a->n_shared ? a->shared_k + i * a->ld_shared : a->k + (i - a->n_shared) * a->ldk;
}

static inline const float *value_row(const struct comma_attention *a, size_t i)
{
    return i < a->n_shared ? a->shared_v + i * a->ld_shared : a->v + (i - a->n_shared) * a->ldv;
}

/* One row to bf16; NULL gives zeros. */
static void convert_row(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i += DEPTH) {
        __m512i both = _mm512_setzero_si512();

        if (in)
            both = (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + i + ROWS), _mm512_loadu_ps(in + i));
        _mm512_storeu_si512(out + i, both);
    }
}

/* tile[r] = dwords r of the 16 rows. */
static void transpose_dwords(uint16_t *tile, const uint16_t *rows, size_t ld)
{
    for (size_t r = 0; r < PAIRS; r += 4)
        for (size_t n = 0; n < ROWS; n += 4) {
            const float *from = (const float *)(const void *)(rows + n * ld + 2 * r);
            float *to = (float *)(void *)(tile + r * DEPTH + 2 * n);
            __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + ld / 2);
            __m128 c = _mm_loadu_ps(from + ld), d = _mm_loadu_ps(from + ld + ld / 2);

            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(to, a);
            _mm_storeu_ps(to + PAIRS, b);
            _mm_storeu_ps(to + 2 * PAIRS, c);
            _mm_storeu_ps(to + 3 * PAIRS, d);
        }
}

static void pack_keys(const struct packed *p, const struct comma_attention *a)
{
    uint16_t *tile = p->keys;

    for (size_t first = 0; first < p->padded; first += ROWS) {
        for (size_t i = 0; i < ROWS; i++)
            convert_row(p->queries + i * p->head_dim, first + i < p->n_keys ? key_row(a, first + i) : NULL,
                        p->head_dim);
        for (size_t d = 0; d < p->head_dim; d += DEPTH, tile += TILE)
            transpose_dwords(tile, p->queries + d, p->head_dim);
    }
}

static inline __m512i low_halves(const float *row)
{
    return row ? _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(row))) : _mm512_setzero_si512();
}

static void pack_values(const struct packed *p, const struct comma_attention *a)
{
    uint16_t *tile = p->values;

    for (size_t first = 0; first < p->padded; first += DEPTH)
        for (size_t d = 0; d < p->head_dim; d += ROWS)
            for (size_t r = 0; r < PAIRS; r++, tile += DEPTH) {
                const size_t i = first + 2 * r;
                const __m512i even = low_halves(i < p->n_keys ? value_row(a, i) + d : NULL);
                const __m512i odd = low_halves(i + 1 < p->n_keys ? value_row(a, i + 1) + d : NULL);

                _mm512_storeu_si512(tile, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
            }
}

/* scores = queries keys^T. The tiles' numbers are part of the instructions; two products side by side hide each other's
 * latency. */
static void score(const struct packed *p)
{
    const size_t steps = p->head_dim / DEPTH, ld = 2 * p->head_dim;

    for (size_t key = 0; key < p->padded; key += DEPTH) {
        const uint16_t *left = p->keys + key * p->head_dim, *right = left + ROWS * p->head_dim;

        _tile_zero(0);
        _tile_zero(1);
        for (size_t s = 0; s < steps; s++) {
            _tile_loadd(2, p->queries + s * DEPTH, ld);
            _tile_loadd(3, left + s * TILE, 2 * DEPTH);
            _tile_loadd(4, right + s * TILE, 2 * DEPTH);
            _tile_dpbf16ps(0, 2, 3);
            _tile_dpbf16ps(1, 2, 4);
        }
        _tile_stored(0, p->scores + key, p->padded * sizeof(float));
        _tile_stored(1, p->scores + key + ROWS, p->padded * sizeof(float));
    }
}

/* out = weights values, for 32 dimensions at a time */
static void weigh(const struct packed *p)
{
    const size_t tiles = p->head_dim / ROWS;

    for (size_t t = 0; t < tiles; t += 2) {
        _tile_zero(0);
        _tile_zero(1);
        for (size_t key = 0; key < p->padded; key += DEPTH) {
            const uint16_t *values = p->values + key * p->head_dim + t * TILE;

            _tile_loadd(2, p->weights + key, p->padded * sizeof(uint16_t));
            _tile_loadd(3, values, 2 * DEPTH);
            _tile_loadd(4, values + TILE, 2 * DEPTH);
            _tile_dpbf16ps(0, 2, 3);
            _tile_dpbf16ps(1, 2, 4);
        }
        _tile_stored(0, p->out + t * ROWS, p->head_dim * sizeof(float));
        _tile_stored(1, p->out + (t + 1) * ROWS, p->head_dim * sizeof(float));
    }
}

/* 2^x for x <= 0, to 2^-14 of its value: the Taylor series on half an octave either side. */
static inline __m512 exp2_coarse(__m512 x)
{
    const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm512_sub_ps(x, n);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0x1.3b2ab6p-7f), f, _mm512_set1_ps(0x1.c6b08ep-5f));

    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.ebfbe0p-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.62e430p-1f));
    return _mm512_scalef_ps(_mm512_fmadd_ps(p, f, _mm512_set1_ps(1)), n);
}

/* A row of scores to exp(scale (score - max)) in bf16; returns 1 / their sum before rounding. NaN spoils the row. */
static float weigh_row(uint16_t *weights, const float *scores, const struct packed *p, float scale)
{
    const __m512 factor = _mm512_set1_ps(scale * 0x1.715476p+0f); /* log2 e */
    const size_t whole = p->n_keys / ROWS * ROWS;
    const __mmask16 rest = (__mmask16)((1u << (p->n_keys - whole)) - 1);
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();

    for (size_t i = 0; i < whole; i += ROWS)
        max = _mm512_max_ps(max, _mm512_loadu_ps(scores + i));
    max = _mm512_mask_max_ps(max, rest, max, _mm512_maskz_loadu_ps(rest, scores + whole));
    max = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(max)), factor);
    for (size_t i = 0; i < p->padded; i += ROWS) {
        const __mmask16 mask = i < whole ? 0xFFFF : i == whole ? rest : 0;
        const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor, max);
        const __m512 e = _mm512_maskz_mov_ps(mask, exp2_coarse(x));

        sum = _mm512_add_ps(sum, e);
        _mm256_storeu_si256((__m256i *)(void *)(weights + i), (__m256i)_mm512_cvtneps_pbh(e));
    }
    return 1 / _mm512_reduce_add_ps(sum);
}

static void attend(const struct packed *p, const struct comma_attention *a, size_t first)
{
    const size_t n_rows = a->n_q - first < ROWS ? a->n_q - first : ROWS;
    float inverse[ROWS];

    for (size_t r = 0; r < ROWS; r++)
        convert_row(p->queries + r * p->head_dim, r < n_rows ? a->q + (first + r) * a->ldq : NULL, p->head_dim);
    score(p);
    for (size_t r = 0; r < ROWS; r++)
        inverse[r] = weigh_row(p->weights + r * p->padded, p->scores + r * p->padded, p, a->scale);
    weigh(p);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t d = 0; d < p->head_dim; d += ROWS)
            _mm512_storeu_ps(a->out + (first + r) * a->ldo + d,
                             _mm512_mul_ps(_mm512_loadu_ps(p->out + r * p->head_dim + d), _mm512_set1_ps(inverse[r])));
}

static void attention_bf16(const struct comma_attention *a)
{
    const size_t n_keys = a->n_shared + a->n_k, padded = (n_keys + DEPTH - 1) / DEPTH * DEPTH, dim = a->head_dim;
    struct packed p = { .n_keys = n_keys, .padded = padded, .head_dim = dim };

    p.keys = (uint16_t *)(a->scratch + (-(uintptr_t)a->scratch / sizeof(float)) % 16); /* a cache line's start */
    p.values = p.keys + padded * dim;
    p.queries = p.values + padded * dim;
    p.weights = p.queries + ROWS * dim;
    p.scores = (float *)(void *)(p.weights + ROWS * padded);
    p.out = p.scores + ROWS * padded;
    pack_keys(&p, a);
    pack_values(&p, a);
    configure_tiles();
    for (size_t row = 0; row < a->n_q; row += ROWS)
        attend(&p, a, row);
    _tile_release();
}

void comma_kernels_init_amx(struct comma_kernels *k)
{
    k->name = "amx";
    k->attention_bf16 = attention_bf16;
}
