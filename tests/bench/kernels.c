/* SPDX-License-Identifier: MIT */
/* kernels.c - what each kernel costs at each level of this processor; prints a table and judges nothing.
 *
 * Shapes are those of ViT-B/16 with two prompts (199 rows of 768, 12 heads of 64), of a label behind a shared prefix
 * (3 own rows, 5 shared keys), and of a 12-megapixel photo. Each figure is the best of several short runs, so that a
 * busy neighbour spoils few of them. LOG.md keeps what was tried. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/cpu.h"
#include "engine/kernels/kernels.h"

enum { ROWS = 199, WIDTH = 3072, HEAD_DIM = 64, PHOTO = 4000, TAPS = 72, N_OUT = 299 };

static const struct comma_kernels *k;
static float *x, *y, *scratch;
static unsigned char *bytes, *bytes_out;
static int32_t *weights;
static uint32_t first[N_OUT], count[N_OUT];

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double best_ns(void (*run)(void))
{
    double best = 1e18;

    for (int i = 0; i < 7; i++) {
        const double start = now_ns();
        int n = 0;

        do {
            run();
            n++;
        } while (now_ns() - start < 5e6);
        const double ns = (now_ns() - start) / n;

        best = ns < best ? ns : best;
    }
    return best;
}

static void run_layer_norm(void)
{
    k->layer_norm(y, 768, x, 768, x, x, ROWS, 768, 1e-5f);
}

static void refill(void)
{
    memcpy(y, x, ROWS * WIDTH * sizeof(*y));
}

static void run_quick_gelu(void)
{
    refill(); /* in place, so that values would run away */
    k->quick_gelu(y, WIDTH, ROWS, WIDTH);
}

static void run_gelu(void)
{
    refill();
    k->gelu(y, WIDTH, ROWS, WIDTH);
}

static void run_softmax(void)
{
    memcpy(y, x, 100000 * sizeof(*y));
    k->softmax(y, 100000);
}

static void run_add_bias(void)
{
    k->add_bias(y, WIDTH, x, ROWS, WIDTH);
}

static void run_dot_rows(void)
{
    k->dot_rows(y, x, x, 512, 1000, 512);
}

static void run_f16(void)
{
    k->f16_to_f32(y, (const uint16_t *)(const void *)x, ROWS * WIDTH);
}

static void run_vertical(void)
{
    k->resize_vertical(bytes_out, bytes, 3 * N_OUT, weights, 54, 3 * N_OUT);
}

static void run_horizontal(void)
{
    const struct comma_resize_rows r = {
        bytes_out, bytes, 3 * N_OUT, 3 * PHOTO, 8, weights, TAPS, N_OUT, first, count
    };

    k->resize_horizontal(&r);
}

static void attend(size_t n_q, size_t n_shared, size_t n_k, int causal)
{
    const size_t ld = (size_t)3 * 768;
    const struct comma_attention a = { .q = x,
                                       .ldq = ld,
                                       .shared_k = x + 64,
                                       .shared_v = x + 128,
                                       .ld_shared = ld,
                                       .n_shared = n_shared,
                                       .k = x + 768,
                                       .v = x + 1536,
                                       .ldk = ld,
                                       .ldv = ld,
                                       .n_k = n_k,
                                       .out = y,
                                       .ldo = 768,
                                       .n_q = n_q,
                                       .head_dim = HEAD_DIM,
                                       .scale = 0.125f,
                                       .causal = causal,
                                       .scratch = scratch };

    k->attention(&a);
}

static void run_attention_image(void)
{
    attend(ROWS, 0, ROWS, 0);
}

static void run_attention_bf16(void)
{
    struct comma_kernels coarse = *k;
    const struct comma_kernels *all = k;

    coarse.attention = k->attention_bf16;
    k = &coarse;
    attend(ROWS, 0, ROWS, 0);
    k = all;
}

static void run_attention_half(void)
{
    attend(100, 0, ROWS, 0);
}

static void run_attention_text(void)
{
    attend(77, 0, 77, 1);
}

static void run_attention_8(void)
{
    attend(8, 5, 8, 1);
}

static void run_attention_label(void)
{
    attend(3, 5, 3, 1);
}

static void run_attention_class(void)
{
    attend(1, 0, ROWS, 0);
}

static const struct bench {
    const char *name, *unit;
    void (*run)(void);
    double per; /* figure = per / ns where unit is a rate, ns / per otherwise */
} benches[] = {
    { "layer_norm 199 x 768", "ns/element", run_layer_norm, ROWS * 768.0 },
    { "quick_gelu 199 x 3072", "ns/element", run_quick_gelu, ROWS *(double)WIDTH },
    { "gelu 199 x 3072", "ns/element", run_gelu, ROWS *(double)WIDTH },
    { "copy alone (in both gelus)", "ns/element", refill, ROWS *(double)WIDTH },
    { "softmax 100000 (with copy)", "ns/element", run_softmax, 100000 },
    { "add_bias 199 x 3072", "ns/element", run_add_bias, ROWS *(double)WIDTH },
    { "dot_rows 1000 x 512", "GFLOP/s", run_dot_rows, 2.0 * 1000 * 512 },
    { "f16_to_f32", "ns/element", run_f16, ROWS *(double)WIDTH },
    { "resize_vertical 54 rows", "ns/tap", run_vertical, 54.0 * 3 * N_OUT },
    { "resize_horizontal 54 taps", "ns/tap", run_horizontal, 8 * 54.0 * 3 * N_OUT },
    { "attention 199 x 199", "GFLOP/s", run_attention_image, 4.0 * ROWS *ROWS *HEAD_DIM },
    { "attention_bf16 199 x 199", "GFLOP/s", run_attention_bf16, 4.0 * ROWS *ROWS *HEAD_DIM },
    { "attention 100 x 199", "GFLOP/s", run_attention_half, 4.0 * 100 * ROWS *HEAD_DIM },
    { "attention 77 x 77 causal", "GFLOP/s", run_attention_text, 4.0 * 77 * 39 * HEAD_DIM },
    { "attention 8 x (5 + 8) causal", "ns/call", run_attention_8, 1 },
    { "attention 3 x (5 + 3) causal", "ns/call", run_attention_label, 1 },
    { "attention 1 x 199", "ns/call", run_attention_class, 1 },
};

static void make_data(void)
{
    const size_t n = (size_t)ROWS * WIDTH + 4096;

    x = malloc(n * sizeof(*x));
    y = malloc(n * sizeof(*y));
    scratch = malloc(comma_attention_scratch(256, HEAD_DIM) * sizeof(*scratch));
    bytes = malloc(54 * 3 * PHOTO);
    bytes_out = malloc(3 * PHOTO);
    weights = malloc(sizeof(*weights) * N_OUT * TAPS);
    if (!x || !y || !scratch || !bytes || !bytes_out || !weights)
        exit(1);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(rand() % 2001 - 1000) * 0.003f;
    memcpy(y, x, n * sizeof(*x));
    for (size_t i = 0; i < (size_t)54 * 3 * PHOTO; i++)
        bytes[i] = (unsigned char)rand();
    for (size_t i = 0; i < (size_t)N_OUT * TAPS; i++)
        weights[i] = rand() % 100000;
    for (uint32_t i = 0; i < N_OUT; i++) {
        first[i] = i * (PHOTO - 54) / N_OUT;
        count[i] = 54;
    }
}

int main(void)
{
    static const uint32_t levels[] = { 0,
                                       COMMA_CPU_AVX2,
                                       COMMA_CPU_AVX2 | COMMA_CPU_AVX512,
                                       COMMA_CPU_AVX2 | COMMA_CPU_AVX512 | COMMA_CPU_VNNI,
                                       COMMA_CPU_AVX2 | COMMA_CPU_AVX512 | COMMA_CPU_BF16 | COMMA_CPU_AMX,
                                       COMMA_CPU_NEON };
    static struct comma_kernels tables[6];
    size_t n_levels = 0;

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((comma_cpu_features() & levels[i]) == levels[i])
            comma_kernels_init(&tables[n_levels++], levels[i]);
    make_data();
    printf("%-30s", "");
    for (size_t l = 0; l < n_levels; l++)
        printf("%12s", tables[l].name);
    printf("\n");
    for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
        const struct bench *b = &benches[i];

        printf("%-30s", b->name);
        for (size_t l = 0; l < n_levels; l++) {
            k = &tables[l];
            const double ns = best_ns(b->run);

            printf("%12.3f", strcmp(b->unit, "GFLOP/s") == 0 ? b->per / ns : ns / b->per);
        }
        printf("  %s\n", b->unit);
    }
    free(weights);
    free(bytes_out);
    free(bytes);
    free(scratch);
    free(y);
    free(x);
    return 0;
}
