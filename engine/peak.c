/* SPDX-License-Identifier: MIT */
/* peak.c - what the processor's multiply-add units give at most: the yardstick of `comma bench`.
 *
 * Each thread runs independent chains of fused multiply-adds in registers, with the widest vectors the processor has
 * and enough chains to hide the latency of each, so nothing but the units themselves limits it. The processor is asked
 * directly and not through comma_cpu_features(), whose COMMA_CPU lowers only our own kernels: OpenBLAS, which is
 * measured against this, does not follow it. */
#include <pthread.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "engine/comma.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define STEPS 4096 /* of a call: some microseconds, so that looking at the clock in between costs nothing */

/* Chains by number: an array of vectors would stay in registers only if the compiler unrolls its loops. 12 fit the 16
 * registers of AVX2 beside the constant and exceed its 2 units x latency 5; NEON has up to 4 units x latency 4. */
#define EACH_OF_12(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define EACH_OF_16(DO) EACH_OF_12(DO) DO(12) DO(13) DO(14) DO(15)

/* Runs STEPS steps x = x * c + c of each chain and returns a sum of the results, so that the work cannot be left out.
 * c is 0.5: x goes to 1 from anywhere, no overflow and no subnormal. It is an argument since clang, which knows that
 * 1 * 0.5 + 0.5 is 1, drops the chain that starts there. */
typedef float (*chains_fn)(float c);

struct unit {
    chains_fn chains;
    double flops; /* of one call: two a lane, chain and step */
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float chains_avx512(float c)
{
    const __m512 cs = _mm512_set1_ps(c);
    __m512 sum = _mm512_setzero_ps();
#define START(i) __m512 x##i = _mm512_set1_ps((float)i);
#define STEP(i)  x##i = _mm512_fmadd_ps(x##i, cs, cs);
#define ADD(i)   sum = _mm512_add_ps(sum, x##i);
    EACH_OF_12(START)
    for (int step = 0; step < STEPS; step++) {
        EACH_OF_12(STEP)
    }
    EACH_OF_12(ADD)
    return _mm512_reduce_add_ps(sum);
#undef START
#undef STEP
#undef ADD
}

__attribute__((target("avx2,fma"))) static float chains_avx2(float c)
{
    const __m256 cs = _mm256_set1_ps(c);
    __m256 sum = _mm256_setzero_ps();
    float lanes[8];
#define START(i) __m256 x##i = _mm256_set1_ps((float)i);
#define STEP(i)  x##i = _mm256_fmadd_ps(x##i, cs, cs);
#define ADD(i)   sum = _mm256_add_ps(sum, x##i);
    EACH_OF_12(START)
    for (int step = 0; step < STEPS; step++) {
        EACH_OF_12(STEP)
    }
    EACH_OF_12(ADD)
    _mm256_storeu_ps(lanes, sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] + lanes[4] + lanes[5] + lanes[6] + lanes[7];
#undef START
#undef STEP
#undef ADD
}

/* Without fused multiply-add: SSE2, the base architecture. */
static float chains_base(float c)
{
    const __m128 cs = _mm_set1_ps(c);
    __m128 sum = _mm_setzero_ps();
#define START(i) __m128 x##i = _mm_set1_ps((float)i);
#define STEP(i)  x##i = _mm_add_ps(_mm_mul_ps(x##i, cs), cs);
#define ADD(i)   sum = _mm_add_ps(sum, x##i);
    EACH_OF_12(START)
    for (int step = 0; step < STEPS; step++) {
        EACH_OF_12(STEP)
    }
    EACH_OF_12(ADD)
    return _mm_cvtss_f32(sum);
#undef START
#undef STEP
#undef ADD
}

static struct unit widest_unit(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return (struct unit){ chains_avx512, 2.0 * 16 * 12 * STEPS };
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (struct unit){ chains_avx2, 2.0 * 8 * 12 * STEPS };
    return (struct unit){ chains_base, 2.0 * 4 * 12 * STEPS };
}
#elif defined(__aarch64__)
static float chains_neon(float c)
{
    const float32x4_t cs = vdupq_n_f32(c);
    float32x4_t sum = vdupq_n_f32(0);
#define START(i) float32x4_t x##i = vdupq_n_f32((float)i);
#define STEP(i)  x##i = vfmaq_f32(cs, x##i, cs);
#define ADD(i)   sum = vaddq_f32(sum, x##i);
    EACH_OF_16(START)
    for (int step = 0; step < STEPS; step++) {
        EACH_OF_16(STEP)
    }
    EACH_OF_16(ADD)
    return vaddvq_f32(sum);
#undef START
#undef STEP
#undef ADD
}

static struct unit widest_unit(void)
{
    return (struct unit){ chains_neon, 2.0 * 4 * 16 * STEPS };
}
#else
static float chains_scalar(float c)
{
    float sum = 0;
#define START(i) float x##i = (float)i;
#define STEP(i)  x##i = x##i * c + c;
#define ADD(i)   sum += x##i;
    EACH_OF_16(START)
    for (int step = 0; step < STEPS; step++) {
        EACH_OF_16(STEP)
    }
    EACH_OF_16(ADD)
    return sum;
#undef START
#undef STEP
#undef ADD
}

static struct unit widest_unit(void)
{
    return (struct unit){ chains_scalar, 2.0 * 16 * STEPS };
}
#endif

struct measurer {
    pthread_t thread;
    struct unit unit;
    float c;
    int64_t end_ns;
    float kept;
    double flops_per_s;
};

/* Calls until the end that all threads share; the rate is over this thread's own time, so a late start costs none. */
static void *measure(void *arg)
{
    struct measurer *m = arg;
    const int64_t begin_ns = comma_now_ns();
    int64_t now_ns;
    size_t n_calls = 0;

    do {
        m->kept += m->unit.chains(m->c);
        n_calls++;
        now_ns = comma_now_ns();
    } while (now_ns < m->end_ns);
    m->flops_per_s = (double)n_calls * m->unit.flops / ((double)(now_ns - begin_ns) * 1e-9);
    return NULL;
}

double comma_measure_peak_gflops(unsigned n_threads, double seconds)
{
    struct measurer *all = calloc(n_threads, sizeof(*all));
    const int64_t end_ns = comma_now_ns() + (int64_t)(seconds * 1e9);
    unsigned n_started = 0;
    double flops_per_s = 0;

    if (!all)
        return 0;
    while (n_started < n_threads) {
        all[n_started] = (struct measurer){ .unit = widest_unit(), .c = 0.5f, .end_ns = end_ns };
        if (pthread_create(&all[n_started].thread, NULL, measure, &all[n_started]) != 0)
            break;
        n_started++;
    }
    for (unsigned i = 0; i < n_started; i++) {
        pthread_join(all[i].thread, NULL);
        /* Each chain has gone to 1: a use of the result that the compiler cannot foresee, and a check of the units. */
        if (all[i].kept > 0)
            flops_per_s += all[i].flops_per_s;
    }
    free(all);
    return n_started == n_threads ? flops_per_s * 1e-9 : 0;
}
