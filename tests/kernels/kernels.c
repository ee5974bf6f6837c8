/* SPDX-License-Identifier: MIT */
/* kernels.c - every level that this processor has against the plain C one.
 *
 * Rows end where an inaccessible page begins, so that a read or write behind them is a fault, and gaps between rows
 * (ld > width) must keep their pattern. Data start at addresses that are multiples of 4 bytes (f32) or 1 (u8) and of
 * nothing more. Rounding: u = 2^-24 is half an ulp of 1; each tolerance says how many roundings it allows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/cpu.h"
#include "engine/base/half.h"
#include "engine/kernels/kernels.h"

#define U   0x1p-24f
#define GAP 1.25e33f /* what stands between rows */

static const uint32_t levels[] = { COMMA_CPU_AVX2, COMMA_CPU_AVX2 | COMMA_CPU_AVX512,
                                   COMMA_CPU_AVX2 | COMMA_CPU_AVX512 | COMMA_CPU_VNNI,
                                   COMMA_CPU_AVX2 | COMMA_CPU_AVX512 | COMMA_CPU_BF16 | COMMA_CPU_AMX, COMMA_CPU_NEON };
static struct comma_kernels c, fast;

/* Runs a check with `fast` being each level in turn. */
static void on_each_level(void (*check)(void))
{
    comma_kernels_init(&c, 0);
    assert_string_equal(c.name, "c");
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((comma_cpu_features() & levels[i]) == levels[i]) {
            comma_kernels_init(&fast, levels[i]);
            check();
        }
}

/* Memory that ends at an inaccessible page; mapped once and reused, so that thousands of cases stay quick. */
enum { SLOTS = 8, SLOT_BYTES = 1 << 20 };

static unsigned char *slot_end(int slot)
{
    static unsigned char *ends[SLOTS];

    if (!ends[slot]) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        unsigned char *p = mmap(NULL, SLOT_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        assert_true(p != MAP_FAILED);
        assert_int_equal(mprotect(p + SLOT_BYTES, page, PROT_NONE), 0);
        ends[slot] = p + SLOT_BYTES;
    }
    return ends[slot];
}

static unsigned char *last_bytes(int slot, size_t n)
{
    assert_true(n <= SLOT_BYTES);
    return slot_end(slot) - n;
}

static float *last_floats(int slot, size_t n)
{
    return (float *)(void *)last_bytes(slot, n * sizeof(float));
}

static uint32_t seed = 1;

static uint32_t random_bits(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static float random_in(float low, float high)
{
    return low + (high - low) * (float)random_bits() * 0x1p-24f;
}

static void fill(float *x, size_t n, float low, float high)
{
    for (size_t i = 0; i < n; i++)
        x[i] = random_in(low, high);
}

/* Rows of width floats, ld apart, the last one ending at the page; gaps hold GAP. */
static float *rows_in(int slot, size_t rows, size_t width, size_t ld, float low, float high)
{
    float *x = last_floats(slot, (rows - 1) * ld + width);

    for (size_t r = 0; r < rows; r++) {
        fill(x + r * ld, width, low, high);
        for (size_t i = width; i < ld && r + 1 < rows; i++)
            x[r * ld + i] = GAP;
    }
    return x;
}

static float *copy_in(int slot, const float *x, size_t rows, size_t width, size_t ld)
{
    const size_t n = (rows - 1) * ld + width;

    return memcpy(last_floats(slot, n), x, n * sizeof(*x));
}

static void assert_close(float got, float want, float tolerance)
{
    if (isnan(want) ? isnan(got) : (got == want || fabsf(got - want) <= tolerance))
        return;
    fail_msg("%s: %.9g, C has %.9g, allowed are %g", fast.name, (double)got, (double)want, (double)tolerance);
}

static void assert_gaps_kept(const float *x, size_t rows, size_t width, size_t ld)
{
    for (size_t r = 0; r + 1 < rows; r++)
        for (size_t i = width; i < ld; i++)
            assert_true(x[r * ld + i] == GAP);
}

static void check_layer_norm(void)
{
    enum { ROWS = 3 };

    for (size_t width = 1; width <= 130; width++) {
        const size_t ld = width + 3;
        const float *x = rows_in(0, ROWS, width, ld, -1, 3);
        const float *weight = rows_in(1, 1, width, width, -2, 2), *bias = rows_in(2, 1, width, width, -1, 1);
        float *want = copy_in(3, x, ROWS, width, ld), *got = copy_in(4, x, ROWS, width, ld);

        c.layer_norm(want, ld, x, ld, weight, bias, ROWS, width, 1e-5f);
        fast.layer_norm(got, ld, x, ld, weight, bias, ROWS, width, 1e-5f);
        for (size_t r = 0; r < ROWS; r++)
            for (size_t i = 0; i < width; i++) {
                /* The mean sums `width` values up to 3 in f32, so it is off by up to 3 (width + 1) u; that shifts
                 * (x - mean) / deviation. The deviation is off by as many roundings, relatively. */
                double mean = 0, square = 0;

                for (size_t j = 0; j < width; j++)
                    mean += (double)x[r * ld + j] / (double)width;
                for (size_t j = 0; j < width; j++)
                    square += pow((double)x[r * ld + j] - mean, 2) / (double)width;
                const float spread = fabsf(weight[i]) / (float)sqrt(square + 1e-5);
                const float n = (float)width + 8;

                assert_close(got[r * ld + i], want[r * ld + i],
                             n * U * (3 * spread + fabsf(want[r * ld + i] - bias[i]) + 1));
            }
        assert_gaps_kept(got, ROWS, width, ld);
        memcpy(want, got, ((ROWS - 1) * ld + width) * sizeof(*got));
        got = copy_in(4, x, ROWS, width, ld);
        fast.layer_norm(got, ld, got, ld, weight, bias, ROWS, width, 1e-5f);
        assert_memory_equal(got, want, ((ROWS - 1) * ld + width) * sizeof(*got));
    }
}

static void layer_norm_is_as_in_c_and_may_be_in_place(void **state)
{
    (void)state;
    on_each_level(check_layer_norm);
}

static const float specials[] = { 0,        -0.0f,  NAN,       INFINITY, -INFINITY, 1e-45f,  -1e-45f, 1e-38f,
                                  3e38f,    -3e38f, 88.72283f, 88.7229f, -87.3f,    -103.9f, -104.1f, 0.5f,
                                  -0.9999f, 52.13f, -52.1292f, -52.14f,  5.657f,    -5.657f, 1.414f,  -1.415f };
enum { N_SPECIALS = sizeof(specials) / sizeof(specials[0]) };

/* Both take exp (1 ulp off at most) or erf (1.1), round two or three times more, and C's own functions are half an ulp
 * off: 8 u of the result's terms. gelu's 1 + erf cancels, so there the unit is x, not the result. Results near the
 * smallest normal numbers may be 0 on one side, where exp overflows a rounding earlier. */
static void check_gelus(void)
{
    enum { ROWS = 3 };

    for (size_t width = 1; width <= 130; width++)
        for (int quick = 0; quick < 2; quick++) {
            const size_t ld = width + 5;
            float *x = rows_in(0, ROWS, width, ld, -12, 12), *want, *got;

            for (size_t i = 0; i < width; i++) {
                x[i] = specials[(i + width) % N_SPECIALS];
                x[ld + i] *= 10;
            }
            want = copy_in(1, x, ROWS, width, ld);
            got = copy_in(2, x, ROWS, width, ld);
            (quick ? c.quick_gelu : c.gelu)(want, ld, ROWS, width);
            (quick ? fast.quick_gelu : fast.gelu)(got, ld, ROWS, width);
            for (size_t r = 0; r < ROWS; r++)
                for (size_t i = r * ld; i < r * ld + width; i++)
                    assert_close(got[i], want[i], 8 * U * fabsf(quick ? want[i] : x[i]) + 1e-36f);
            assert_gaps_kept(got, ROWS, width, ld);
        }
}

static void both_gelus_are_as_in_c_at_infinities_nan_and_overflow_too(void **state)
{
    (void)state;
    on_each_level(check_gelus);
}

static void gelus_have_the_values_of_their_formulas(void **state)
{
    float x[2] = { 1, -2 }, y[2] = { 1, -2 };

    (void)state;
    comma_kernels_init(&c, 0);
    c.gelu(x, 2, 1, 2);
    c.quick_gelu(y, 2, 1, 2);
    assert_true(fabsf(x[0] - 0.84134475f) < 1e-7f); /* Phi(1) */
    assert_true(fabsf(x[1] + 0.04550026f) < 3e-7f); /* -2 Phi(-2) */
    assert_true(fabsf(y[0] - 0.84579577f) < 1e-7f); /* 1 / (1 + e^-1.702) */
    assert_true(fabsf(y[1] + 0.06434137f) < 1e-7f); /* -2 / (1 + e^3.404) */
}

/* exp: 1 ulp and C's half, twice (element and sum), products: 8 u. */
static void check_softmax(void)
{
    for (size_t n = 1; n <= 130; n++)
        for (int kind = 0; kind < 6; kind++) {
            float *got = rows_in(0, 1, n, n, -30, 30), *want;
            const size_t at = n / 2;

            if (kind >= 1 && kind <= 3) /* NaN, or +inf, spoils all; -inf is a 0 unless it is alone */
                got[at] = (const float[]){ NAN, INFINITY, -INFINITY }[kind - 1];
            for (size_t i = 0; kind == 4 && i < n; i++)
                got[i] = -INFINITY;
            if (kind == 5)
                got[at] = 3e38f;
            want = copy_in(1, got, 1, n, n);
            c.softmax(want, n);
            fast.softmax(got, n);
            for (size_t i = 0; i < n; i++)
                assert_close(got[i], want[i], 8 * U * want[i] + 0x1p-126f);
            assert_true((kind == 1 || kind == 2 || kind == 4) == isnan(got[0]) || n == 1);
        }
}

static void softmax_is_as_in_c_and_nan_spoils_all_of_it(void **state)
{
    float x[4] = { 7, 7, 7, 7 };

    (void)state;
    on_each_level(check_softmax);
    c.softmax(x, 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(x[i] == 0.25f);
}

static void check_add_bias(void)
{
    for (size_t width = 1; width <= 130; width++) {
        float *got = rows_in(0, 4, width, width + 1, -2, 2), *want = copy_in(1, got, 4, width, width + 1);
        const float *bias = rows_in(2, 1, width, width, -2, 2);

        c.add_bias(want, width + 1, bias, 4, width);
        fast.add_bias(got, width + 1, bias, 4, width);
        assert_memory_equal(got, want, (3 * (width + 1) + width) * sizeof(*got));
    }
}

static void add_bias_is_equal_to_c(void **state)
{
    (void)state;
    on_each_level(check_add_bias);
}

static void check_dot_rows(void)
{
    for (size_t width = 1; width <= 130; width++) {
        const size_t rows = 1 + width % 19, ld = width + width % 4;
        const float *x = rows_in(0, 1, width, width, -1, 1), *w = rows_in(1, rows, width, ld, -1, 1);
        float *want = last_floats(2, rows), *got = last_floats(3, rows);

        c.dot_rows(want, x, w, ld, rows, width);
        fast.dot_rows(got, x, w, ld, rows, width);
        for (size_t r = 0; r < rows; r++) /* two sums of `width` products below 1, in two orders */
            assert_close(got[r], want[r], 2 * (float)(width * width) * U);
    }
}

static void dot_rows_is_as_in_c(void **state)
{
    (void)state;
    on_each_level(check_dot_rows);
}

static void check_half_floats(void)
{
    uint16_t *in = (uint16_t *)(void *)last_bytes(0, 2 * 0x10000);
    float *got = last_floats(1, 0x10000), *want = last_floats(2, 0x10000);

    for (uint32_t h = 0; h < 0x10000; h++)
        in[h] = (uint16_t)h;
    for (size_t n = 0x10000; n > 0; n = n > 130 ? 130 : n - 1) /* the last n, up to the page */
        for (int b = 0; b < 2; b++) {
            const uint16_t *from = in + 0x10000 - n;
            float *to = got + 0x10000 - n;

            (b ? c.bf16_to_f32 : c.f16_to_f32)(want, from, n);
            (b ? fast.bf16_to_f32 : fast.f16_to_f32)(to, from, n);
            for (size_t i = 0; i < n; i++)
                assert_true(isnan(want[i]) ? isnan(to[i]) : memcmp(to + i, want + i, sizeof(*to)) == 0);
        }
}

static void every_16_bit_float_converts_as_in_c(void **state)
{
    (void)state;
    on_each_level(check_half_floats);
}

/* n weights of a sharpening filter, that add up to 2^22. */
static void fill_weights(int32_t *weights, size_t n)
{
    int32_t sum = 0;

    for (size_t j = 0; j < n; j++) {
        weights[j] = (int32_t)(random_bits() % (1u << 22) / n) - (int32_t)((1u << 20) / n);
        sum += weights[j];
    }
    weights[n / 2] += (1 << 22) - sum;
}

static void fill_bytes(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) /* many extremes, so that clamping happens */
        p[i] = (unsigned char)(random_bits() % 4 == 0 ? 0 : random_bits() % 4 == 0 ? 255 : random_bits());
}

static void check_resize_vertical(void)
{
    for (size_t n = 1; n <= 200; n++) {
        const size_t n_weights = 1 + n * 7 % 75, stride = n + n % 3;
        unsigned char *in = last_bytes(0, (n_weights - 1) * stride + n), *got = last_bytes(1, n), want[200];
        int32_t *weights = (int32_t *)(void *)last_bytes(2, n_weights * sizeof(*weights));

        fill_bytes(in, (n_weights - 1) * stride + n);
        fill_weights(weights, n_weights);
        c.resize_vertical(want, in, stride, weights, n_weights, n);
        fast.resize_vertical(got, in, stride, weights, n_weights, n);
        assert_memory_equal(got, want, n);
    }
}

static void check_resize_horizontal(void)
{
    enum { N_OUT = 23, LONGEST = 75, MAX_ROWS = 7, OUT_STRIDE = 3 * N_OUT + 5 };

    for (size_t longest = 1; longest <= LONGEST; longest++) {
        uint32_t first[N_OUT], count[N_OUT];
        const size_t n_weights = (N_OUT - 1) * longest + 1 + 20 % longest; /* the last one is shorter */
        const size_t n_rows = 1 + longest % MAX_ROWS, in_bytes = 3 * (N_OUT + longest), in_stride = in_bytes + n_rows;
        const size_t out_bytes = (n_rows - 1) * OUT_STRIDE + 3 * N_OUT;
        unsigned char *in = last_bytes(0, (n_rows - 1) * in_stride + in_bytes), *got = last_bytes(1, out_bytes);
        unsigned char want[MAX_ROWS * OUT_STRIDE];
        int32_t *weights = (int32_t *)(void *)last_bytes(2, n_weights * sizeof(*weights));
        struct comma_resize_rows r = { want, in, OUT_STRIDE, in_stride, n_rows, weights, longest, N_OUT, first, count };

        fill_bytes(in, (n_rows - 1) * in_stride + in_bytes);
        memset(want, 77, sizeof(want)); /* gaps between rows */
        memset(got, 77, out_bytes);
        for (size_t i = 0; i < N_OUT; i++) {
            count[i] = (uint32_t)(1 + (i * 5 + 20 % longest) % longest);
            if (i == N_OUT - 1)
                count[i] = (uint32_t)(1 + 20 % longest);
            first[i] = (uint32_t)(N_OUT + longest - count[i] - (N_OUT - 1 - i)); /* the last ends at the page */
            fill_weights(weights + i * longest, count[i]);
        }
        c.resize_horizontal(&r);
        r.out = got;
        fast.resize_horizontal(&r);
        assert_memory_equal(got, want, out_bytes);
    }
}

static void resizing_is_equal_to_c_bit_for_bit(void **state)
{
    (void)state;
    on_each_level(check_resize_vertical);
    on_each_level(check_resize_horizontal);
}

struct shape {
    size_t n_q, n_shared, n_k, head_dim;
    int causal;
    size_t causal_from;
};

/* Fills *a with random rows whose last ones end at pages. */
static void make_attention(struct comma_attention *a, const struct shape *s)
{
    const size_t d = s->head_dim, n_keys = s->n_shared + s->n_k;

    *a = (struct comma_attention){ .ldq = d + 1, .ld_shared = d + 2, .ldk = d + 3, .ldv = d, .ldo = d + 4 };
    a->n_q = s->n_q;
    a->n_shared = s->n_shared;
    a->n_k = s->n_k;
    a->head_dim = d;
    a->causal = s->causal;
    a->causal_from = s->causal_from;
    a->scale = 1 / sqrtf((float)d);
    a->q = rows_in(0, s->n_q, d, a->ldq, -1, 1);
    if (s->n_shared) {
        a->shared_k = rows_in(1, s->n_shared, d, a->ld_shared, -2, 2);
        a->shared_v = rows_in(2, s->n_shared, d, a->ld_shared, -2, 2);
    }
    if (s->n_k) {
        a->k = rows_in(3, s->n_k, d, a->ldk, -2, 2);
        a->v = rows_in(4, s->n_k, d, a->ldv, -2, 2);
    }
    a->scratch = last_floats(5, comma_attention_scratch(n_keys, d));
    memset(a->scratch, 0xFF, comma_attention_scratch(n_keys, d) * sizeof(float)); /* NaN */
}

/* A score sums head_dim products below 2, times scale: off by head_dim^1.5 2 u on either side. Weights are off by
 * twice that relatively (their sum too), and by an exp and a sum of n_keys; values stay below 2. */
static float attention_tolerance(const struct shape *s)
{
    const float d = (float)s->head_dim, n = (float)(s->n_shared + s->n_k);

    return 2 * U * (8 * d * sqrtf(d) + 2 * n + 16);
}

static void assert_attention_as_in_c(const struct shape *s)
{
    struct comma_attention a;
    float *want, *got;

    make_attention(&a, s);
    want = rows_in(6, s->n_q, s->head_dim, a.ldo, 0, 1);
    a.out = want;
    c.attention(&a);
    got = rows_in(7, s->n_q, s->head_dim, a.ldo, 0, 1);
    a.out = got;
    fast.attention(&a);
    for (size_t r = 0; r < s->n_q; r++)
        for (size_t i = 0; i < s->head_dim; i++)
            assert_close(got[r * a.ldo + i], want[r * a.ldo + i], attention_tolerance(s));
    assert_gaps_kept(got, s->n_q, s->head_dim, a.ldo);
}

static void check_attention(void)
{
    static const size_t queries[] = { 1, 3, 7, 8, 12, 19 }, shared[] = { 0, 5, 17 }, own[] = { 0, 1, 4, 16, 33, 70 };

    for (size_t dim = 1; dim <= 130; dim++)
        for (size_t i = 0; i < 6; i++)
            assert_attention_as_in_c(
                &(struct shape){ queries[i], shared[(dim + i) % 3], own[(dim * 5 + i) % 6], dim, dim % 2, i % 3 });
    for (size_t q = 0; q < 6; q++)
        for (size_t s = 0; s < 3; s++)
            for (size_t k = 0; k < 6; k++)
                for (int causal = 0; causal < 2; causal++)
                    assert_attention_as_in_c(&(struct shape){ queries[q], shared[s], own[k], 64, causal, q % 3 });
    assert_attention_as_in_c(&(struct shape){ 9, 3, 40, 256, 1, 0 });
    assert_attention_as_in_c(&(struct shape){ 199, 0, 199, 64, 0, 0 });
    assert_attention_as_in_c(&(struct shape){ 77, 0, 77, 64, 1, 0 });
}

static void attention_is_as_in_c_for_all_shapes(void **state)
{
    (void)state;
    on_each_level(check_attention);
}

/* Splitting changes which micro-kernel a row meets, so rounding only. */
static void check_split(void)
{
    const struct shape s = { 29, 5, 29, 64, 1, 0 };
    struct comma_attention a;
    float *whole, *parts;

    make_attention(&a, &s);
    whole = rows_in(6, s.n_q, s.head_dim, a.ldo, 0, 1);
    parts = rows_in(7, s.n_q, s.head_dim, a.ldo, 0, 1);
    a.out = whole;
    fast.attention(&a);
    for (size_t at = 0, n = 1; at < s.n_q; at += n, n = n * 2 < s.n_q - at ? n * 2 : s.n_q - at) {
        struct comma_attention part = a;

        part.q = a.q + at * a.ldq;
        part.out = parts + at * a.ldo;
        part.n_q = n;
        part.causal_from = at;
        fast.attention(&part);
    }
    for (size_t i = 0; i < s.n_q * a.ldo - 4; i++)
        assert_close(parts[i], whole[i], attention_tolerance(&s));
}

static void attention_does_not_depend_on_how_queries_are_split(void **state)
{
    (void)state;
    on_each_level(check_split);
}

static void check_nan(void)
{
    static const size_t n_queries[] = { 5, 21 }; /* either way of working */

    for (size_t i = 0; i < 2; i++) {
        const struct shape s = { n_queries[i], 2, n_queries[i], 33, 1, 0 };
        struct comma_attention a;
        const size_t bad = 3; /* the own key and value that are NaN: queries before 3 do not see them */

        make_attention(&a, &s);
        ((float *)a.k)[bad * a.ldk + 7] = NAN;
        ((float *)a.v)[bad * a.ldv + 7] = NAN;
        ((float *)a.v)[(bad + 1) * a.ldv + 7] = INFINITY;
        a.out = rows_in(6, s.n_q, s.head_dim, a.ldo, 0, 1);
        fast.attention(&a);
        for (size_t r = 0; r < s.n_q; r++)
            for (size_t d = 0; d < s.head_dim; d++)
                assert_true((r >= bad) == isnan(a.out[r * a.ldo + d]));
    }
}

static void a_key_that_is_not_seen_may_be_nan(void **state)
{
    (void)state;
    comma_kernels_init(&fast, 0);
    check_nan();
    on_each_level(check_nan);
}

static void round_to_bf16(float *x, size_t rows, size_t width, size_t ld)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i++)
            x[r * ld + i] = comma_bf16_to_f32(comma_f32_to_bf16(x[r * ld + i]));
}

/* Inputs that bf16 holds, so that scores are exact but for sums in f32. What is left: exp to 2^-14, and weights rounded
 * to bf16, 2^-9 of each, to values below 2; the sum is that of the unrounded ones. */
static void assert_coarse_attention_as_in_c(const struct shape *s, bool rounded)
{
    struct comma_attention a;
    float *want, *got, tolerance = attention_tolerance(s) + 2 * (0x1p-9f + 2 * 0x1p-14f);

    make_attention(&a, s);
    if (rounded) {
        round_to_bf16((float *)a.q, s->n_q, s->head_dim, a.ldq);
        round_to_bf16((float *)a.shared_k, s->n_shared, s->head_dim, a.ld_shared);
        round_to_bf16((float *)a.shared_v, s->n_shared, s->head_dim, a.ld_shared);
        round_to_bf16((float *)a.k, s->n_k, s->head_dim, a.ldk);
        round_to_bf16((float *)a.v, s->n_k, s->head_dim, a.ldv);
    } else { /* q, k: 2^-8 of head_dim products below 2, twice in the softmax; v */
        tolerance += 2 * 2 * (2 * sqrtf((float)s->head_dim) * 0x1p-8f) + 2 * 0x1p-9f;
    }
    want = rows_in(6, s->n_q, s->head_dim, a.ldo, 0, 1);
    a.out = want;
    c.attention(&a);
    got = rows_in(7, s->n_q, s->head_dim, a.ldo, 0, 1);
    a.out = got;
    fast.attention_bf16(&a);
    for (size_t r = 0; r < s->n_q; r++)
        for (size_t i = 0; i < s->head_dim; i++)
            assert_close(got[r * a.ldo + i], want[r * a.ldo + i], tolerance);
    assert_gaps_kept(got, s->n_q, s->head_dim, a.ldo);
}

static void check_coarse_attention(void)
{
    static const size_t queries[] = { 1, 15, 16, 17, 50 }, shared[] = { 0, 5, 33 }, own[] = { 1, 15, 16, 31, 32, 70 };

    for (size_t dim = 32; dim <= 128; dim += 32)
        for (size_t i = 0; i < 5 * 3 * 6; i++)
            assert_coarse_attention_as_in_c(
                &(struct shape){ queries[i % 5], shared[i / 5 % 3], own[i / 15], dim, 0, 0 }, i % 4 != 0);
    assert_coarse_attention_as_in_c(&(struct shape){ 199, 0, 199, 64, 0, 0 }, true);
    assert_coarse_attention_as_in_c(&(struct shape){ 197, 2, 197, 64, 0, 0 }, false);
}

static void attention_in_bf16_is_as_in_c_but_for_rounding(void **state)
{
    (void)state;
    on_each_level(check_coarse_attention);
}

static void check_coarse_nan(void)
{
    const struct shape s = { 20, 0, 20, 64, 0, 0 };
    struct comma_attention a;

    make_attention(&a, &s);
    ((float *)a.q)[3 * a.ldq + 7] = NAN;
    a.out = rows_in(6, s.n_q, s.head_dim, a.ldo, 0, 1);
    fast.attention_bf16(&a);
    for (size_t r = 0; r < s.n_q; r++)
        for (size_t d = 0; d < s.head_dim; d++)
            assert_true((r == 3) == isnan(a.out[r * a.ldo + d]));
}

static void a_query_that_is_nan_spoils_its_own_row_in_bf16_too(void **state)
{
    (void)state;
    on_each_level(check_coarse_nan);
}

static void attention_to_one_key_is_its_value(void **state)
{
    const struct shape s = { 9, 1, 0, 16, 0, 0 };
    struct comma_attention a;

    (void)state;
    comma_kernels_init(&c, 0);
    make_attention(&a, &s);
    a.out = rows_in(6, s.n_q, s.head_dim, a.ldo, 0, 1);
    c.attention(&a);
    for (size_t r = 0; r < s.n_q; r++)
        assert_memory_equal(a.out + r * a.ldo, a.shared_v, 16 * sizeof(float));
}

static void the_process_gets_its_fastest_level(void **state)
{
    struct comma_kernels k;

    (void)state;
    comma_kernels_init(&k, comma_cpu_features());
    assert_string_equal(comma_kernels()->name, k.name);
    assert_ptr_equal(comma_kernels(), comma_kernels());
#if defined(__aarch64__)
    if (!getenv("COMMA_CPU"))
        assert_string_equal(k.name, "neon"); /* every processor of this architecture has it */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_norm_is_as_in_c_and_may_be_in_place),
        cmocka_unit_test(both_gelus_are_as_in_c_at_infinities_nan_and_overflow_too),
        cmocka_unit_test(gelus_have_the_values_of_their_formulas),
        cmocka_unit_test(softmax_is_as_in_c_and_nan_spoils_all_of_it),
        cmocka_unit_test(add_bias_is_equal_to_c),
        cmocka_unit_test(dot_rows_is_as_in_c),
        cmocka_unit_test(every_16_bit_float_converts_as_in_c),
        cmocka_unit_test(resizing_is_equal_to_c_bit_for_bit),
        cmocka_unit_test(attention_is_as_in_c_for_all_shapes),
        cmocka_unit_test(attention_does_not_depend_on_how_queries_are_split),
        cmocka_unit_test(a_key_that_is_not_seen_may_be_nan),
        cmocka_unit_test(attention_in_bf16_is_as_in_c_but_for_rounding),
        cmocka_unit_test(a_query_that_is_nan_spoils_its_own_row_in_bf16_too),
        cmocka_unit_test(attention_to_one_key_is_its_value),
        cmocka_unit_test(the_process_gets_its_fastest_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
