/* SPDX-License-Identifier: MIT */
/* towers.c - both towers against the authors' code, layer by layer: folded prompts, hidden states, features, logits,
 * for plain CLIP and for COMMA with last_layer 1 and more. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/golden/golden.h"

#define N_IMAGES 24
#define N_LABELS 36
#define CONTEXT  77
#define EMBED    48

static const struct set {
    const char *name, *expected, *learner;
    struct comma_adapter_config config; /* n_ctx 0: plain CLIP */
    size_t n_prefix;                    /* tokens before the label: SOS and "a photo of a" */
} sets[] = {
    { "plain", "tiny/plain.safetensors", NULL, { .n_ctx = 0 }, 5 },
    { "comma, last_layer 1",
      "tiny/comma_last1.safetensors",
      "tiny/comma.safetensors",
      { "comma", "a photo of a", "", .n_ctx = 2, .prompt_depth = 3, .last_layer = 1 },
      5 },
    { "comma, last_layer 2",
      "tiny/comma_last2.safetensors",
      "tiny/comma.safetensors",
      { "comma", "a photo of a", "", .n_ctx = 2, .prompt_depth = 3, .last_layer = 2 },
      5 },
    { "comma depth 2, last_layer 1",
      "tiny/comma_depth2_last1.safetensors",
      "tiny/comma_depth2.safetensors",
      { "comma", "a photo of a", "", .n_ctx = 4, .prompt_depth = 2, .last_layer = 1 },
      5 },
    { "comma depth 2, last_layer 3",
      "tiny/comma_depth2_last3.safetensors",
      "tiny/comma_depth2.safetensors",
      { "comma", "a photo of a", "", .n_ctx = 4, .prompt_depth = 2, .last_layer = 3 },
      5 },
};

struct run {
    struct comma_engine *e;
    const struct set *set;
    struct comma_tensors *expected;
    struct comma_prompts prompts;
    const float *pixels; /* [N_IMAGES, 3, 32, 32] */
    const int32_t *tokens;
    size_t n_labels;
    float images[N_IMAGES * EMBED], texts[N_LABELS * EMBED];
    /* Hidden states after each application: picture 0 and label 2. */
    float *vision_states[3], *text_states[3];
    size_t vision_rows[3], text_rows[3], width;
    size_t per_call; /* pictures and labels of a batch */
    bool ok;
    struct comma_error err;
};

static void keep_vision(void *user, size_t application, const float *x, size_t m)
{
    struct run *r = user;

    r->vision_rows[application] = m;
    r->vision_states[application] = malloc(m * r->e->vision.width * sizeof(float));
    memcpy(r->vision_states[application], x, m * r->e->vision.width * sizeof(float));
}

static void keep_text(void *user, size_t application, const float *x, size_t m)
{
    struct run *r = user;

    r->text_rows[application] = m;
    r->text_states[application] = malloc(m * r->e->text.width * sizeof(float));
    memcpy(r->text_states[application], x, m * r->e->text.width * sizeof(float));
}

static void encode_pictures(struct run *r, struct comma_worker *w)
{
    struct comma_vision_prompts folded;
    struct comma_picture pictures[N_IMAGES];

    r->ok = comma_vision_fold(&r->e->vision, w, &r->prompts, &folded, &r->err);
    if (!r->ok)
        return;
    for (size_t i = 0; i < N_IMAGES; i++)
        pictures[i] = (struct comma_picture){ r->pixels + i * 3 * 32 * 32, &folded, r->images + i * EMBED };
    comma_vision_encode(&r->e->vision, w, pictures, 1, keep_vision, r);
    for (size_t i = 0; i < N_IMAGES; i += r->per_call)
        comma_vision_encode(&r->e->vision, w, pictures + i, r->per_call < N_IMAGES - i ? r->per_call : N_IMAGES - i,
                            NULL, NULL);
    comma_vision_prompts_finish(&folded);
}

static size_t eot_of(const int32_t *ids)
{
    size_t at = 0;

    for (size_t i = 1; i < CONTEXT; i++)
        if (ids[i] > ids[at])
            at = i;
    return at;
}

static void encode_labels(struct run *r, struct comma_worker *w)
{
    struct comma_sentence s[N_LABELS];
    struct comma_prefix prefix;
    const size_t n = r->set->n_prefix;
    int32_t ids[CONTEXT];

    memcpy(ids, r->tokens, n * sizeof(*ids));
    for (size_t i = 0; i < r->prompts.n_text; i++)
        ids[1 + i] = -1 - (int32_t)i;
    r->ok = comma_prefix_make(&r->e->text, w, &r->prompts, ids, n, &prefix, &r->err);
    if (!r->ok)
        return;
    for (size_t i = 0; i < r->n_labels; i++) {
        const int32_t *row = r->tokens + i * CONTEXT;

        s[i] = (struct comma_sentence){ &prefix, row + n, eot_of(row) + 1 - n, r->texts + i * EMBED };
    }
    comma_text_encode(&r->e->text, w, s + 2, 1, keep_text, r);
    for (size_t i = 0; i < r->n_labels; i += r->per_call)
        comma_text_encode(&r->e->text, w, s + i, r->per_call < r->n_labels - i ? r->per_call : r->n_labels - i, NULL,
                          NULL);
    comma_prefix_finish(&prefix);
}

static void encode(void *arg, struct comma_worker *w)
{
    struct run *r = arg;

    encode_pictures(r, w);
    if (r->ok)
        encode_labels(r, w);
}

/* Runs a set on the tiny model; the caller compares and calls run_finish(). False where this build or processor has not
 * the back end or its precision. */
static bool run_set_on(struct run *r, const struct set *set, unsigned n_threads, size_t per_call, const char *backend,
                       const char *precision)
{
    struct comma_tensors *pixels = golden_open("tiny/preprocess.safetensors");
    struct comma_adapter_dir adapter = { .config = set->config };
    size_t n;
    float *values;

    *r = (struct run){ .set = set, .per_call = per_call };
    r->e = golden_engine_on("tiny/clip", n_threads, backend, precision);
    if (!r->e) {
        comma_tensors_close(pixels);
        return false;
    }
    r->expected = golden_open(set->expected);
    r->tokens = golden_tokens(r->expected, &r->n_labels);
    assert_int_equal(r->n_labels, N_LABELS);
    values = golden_floats(pixels, "pixels", &n);
    assert_int_equal(n, N_IMAGES * 3 * 32 * 32);
    r->pixels = values;
    if (set->learner) {
        adapter.tensors = golden_open(set->learner);
        if (!comma_prompts_fold(&r->prompts, &adapter, comma_clip_config(r->e->clip), &r->err))
            fail_msg("%s", r->err.message);
        comma_adapter_dir_close(&adapter);
    }
    golden_run(r->e, encode, r);
    if (!r->ok)
        fail_msg("%s", r->err.message);
    free(values);
    r->pixels = NULL;
    comma_tensors_close(pixels);
    return true;
}

static void run_set(struct run *r, const struct set *set, unsigned n_threads, size_t per_call)
{
    assert_true(run_set_on(r, set, n_threads, per_call, NULL, NULL));
}

static void run_finish(struct run *r)
{
    for (size_t i = 0; i < 3; i++) {
        free(r->vision_states[i]);
        free(r->text_states[i]);
    }
    comma_prompts_finish(&r->prompts);
    comma_tensors_close(r->expected);
    comma_engine_close(r->e);
}

static void expect(const struct run *r, const char *tensor, const float *got, size_t n, double limit)
{
    char what[128];
    size_t n_want;
    float *want = golden_floats(r->expected, tensor, &n_want);

    snprintf(what, sizeof(what), "%s: %s", r->set->name, tensor);
    assert_int_equal(n, n_want);
    golden_compare(what, got, want, n, limit);
    free(want);
}

static void check_logits(struct run *r)
{
    float logits[N_IMAGES * N_LABELS], scores[N_IMAGES * N_LABELS];
    const float scale = expf(comma_clip_config(r->e->clip)->logit_scale);

    for (size_t i = 0; i < N_IMAGES; i++) {
        comma_kernels()->dot_rows(logits + i * N_LABELS, r->images + i * EMBED, r->texts, EMBED, N_LABELS, EMBED);
        for (size_t c = 0; c < N_LABELS; c++)
            logits[i * N_LABELS + c] *= scale;
        memcpy(scores + i * N_LABELS, logits + i * N_LABELS, N_LABELS * sizeof(float));
        comma_kernels()->softmax(scores + i * N_LABELS, N_LABELS);
    }
    expect(r, "logits", logits, N_IMAGES * N_LABELS, LOGIT_LIMIT);
    expect(r, "probs", scores, N_IMAGES * N_LABELS, LOGIT_LIMIT);
}

static void check_features(struct run *r)
{
    expect(r, "image_features_raw", r->images, N_IMAGES * EMBED, STATE_LIMIT);
    expect(r, "text_features_raw", r->texts, N_LABELS * EMBED, STATE_LIMIT);
    golden_normalise(r->images, N_IMAGES, EMBED);
    golden_normalise(r->texts, N_LABELS, EMBED);
    expect(r, "image_features", r->images, N_IMAGES * EMBED, FEATURE_LIMIT);
    expect(r, "text_features", r->texts, N_LABELS * EMBED, FEATURE_LIMIT);
    check_logits(r);
}

static void features_and_logits_are_the_authors(void **state)
{
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        run_set(r, &sets[i], 1, 1);
        check_features(r);
        run_finish(r);
    }
    free(r);
}

static void batches_and_threads_change_nothing(void **state)
{
    static const struct {
        unsigned threads;
        size_t per_call;
    } ways[] = { { 1, 5 }, { 2, 1 }, { 3, 8 } };
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        run_set(r, &sets[1], ways[i].threads, ways[i].per_call);
        check_features(r);
        run_finish(r);
    }
    free(r);
}

static void packed_f32_is_as_good(void **state)
{
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        if (run_set_on(r, &sets[i], 1 + (unsigned)i % 2, 1 + i, "onednn", "f32")) {
            check_features(r);
            run_finish(r);
        }
    free(r);
}

/* Least cosine of rows of got with the authors' features. */
static double least_cosine(const struct run *r, const char *tensor, float *got, size_t n_rows)
{
    size_t n;
    float *want = golden_floats(r->expected, tensor, &n);
    double least = 1;

    assert_int_equal(n, n_rows * EMBED);
    golden_normalise(got, n_rows, EMBED);
    for (size_t i = 0; i < n_rows; i++) {
        double cosine = 0;

        for (size_t j = 0; j < EMBED; j++)
            cosine += (double)got[i * EMBED + j] * want[i * EMBED + j];
        if (!(cosine >= least))
            least = cosine;
    }
    free(want);
    return least;
}

static void reduced_precisions_point_the_same_way(void **state)
{
    static const struct {
        const char *precision;
        double cosine;
    } ways[] = { { "bf16", 0.9995 }, { "int8", 0.999 } };
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
        for (size_t j = 0; j < 2; j++) {
            double images, texts;

            if (!run_set_on(r, &sets[i], 2, 4, "onednn", ways[j].precision))
                continue;
            images = least_cosine(r, "image_features", r->images, N_IMAGES);
            texts = least_cosine(r, "text_features", r->texts, N_LABELS);
            print_message("             %-30s %s: cosine %.6f images, %.6f texts\n", sets[i].name, ways[j].precision,
                          images, texts);
            if (!(images >= ways[j].cosine && texts >= ways[j].cosine))
                fail_msg("%s, %s: cosines %.6f and %.6f, wanted %.4f", sets[i].name, ways[j].precision, images, texts,
                         ways[j].cosine);
            run_finish(r);
        }
    free(r);
}

static void folded_prompts_are_the_authors(void **state)
{
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 1; i < sizeof(sets) / sizeof(sets[0]); i++) {
        run_set(r, &sets[i], 1, 8);
        const size_t n = r->prompts.n_text, deep = r->prompts.n_text_deep;

        expect(r, "ctx", r->prompts.text_input, n * 64, 0);
        expect(r, "shared_ctx", r->prompts.vision_input, n * 128, FEATURE_LIMIT);
        expect(r, "deep_text", r->prompts.text_deep, deep * n * 64, 0);
        expect(r, "deep_image", r->prompts.vision_deep, deep * n * 128, FEATURE_LIMIT);
        run_finish(r);
    }
    free(r);
}

/* Rows that savings leave out are not compared: prompts that are replaced, the prefix, all but one in the last block.
 */
static void hidden_states_of_each_block_are_the_authors(void **state)
{
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 1; i <= 2; i++) {
        size_t n;
        float *want;

        run_set(r, &sets[i], 1, 8);
        want = golden_floats(r->expected, "debug_vision_blocks", &n);
        assert_int_equal(n, 3 * 19 * 128);
        for (size_t a = 0; a < 3; a++) {
            assert_int_equal(r->vision_rows[a], a == 2 ? 1 : 17);
            golden_compare("vision states", r->vision_states[a], want + a * 19 * 128, r->vision_rows[a] * 128,
                           STATE_LIMIT);
        }
        free(want);
        want = golden_floats(r->expected, "debug_text_blocks", &n);
        assert_int_equal(n, 3 * 17 * 64);
        for (size_t a = 0; a < 3; a++) {
            assert_int_equal(r->text_rows[a], a == 2 ? 1 : 17 - 5);
            golden_compare("text states", r->text_states[a], want + (a * 17 + (a == 2 ? 16 : 5)) * 64,
                           r->text_rows[a] * 64, STATE_LIMIT);
        }
        free(want);
        run_finish(r);
    }
    free(r);
}

/* MaPLe, IVLP and VPT (SPEC 10) fold into the same form; their sets have logits of the first 12 names only. */
static void other_methods_give_the_authors_logits(void **state)
{
    static const struct set others[] = {
        { "maple",
          "tiny/plain.safetensors",
          "tiny/other/maple.safetensors",
          { "maple", "a photo of a", "", .n_ctx = 2, .prompt_depth = 3, .last_layer = 1 },
          5 },
        { "ivlp",
          "tiny/plain.safetensors",
          "tiny/other/ivlp.safetensors",
          { "ivlp", "a photo of a", "", .n_ctx = 2, .prompt_depth = 3, .last_layer = 1 },
          5 },
        { "vpt",
          "tiny/plain.safetensors",
          "tiny/other/vpt.safetensors",
          { "vpt", "a photo of a", "", .n_ctx = 5, .prompt_depth = 3, .last_layer = 1 },
          5 },
    };
    struct run *r = malloc(sizeof(*r));

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char name[96];
        size_t n;
        float *want, logits[12];
        struct comma_tensors *expected;

        snprintf(name, sizeof(name), "tiny/other/%s_expected.safetensors", others[i].name);
        expected = golden_open(name);
        want = golden_floats(expected, "logits", &n);
        assert_int_equal(n, N_IMAGES * 12);
        run_set(r, &others[i], 2, 4);
        golden_normalise(r->images, N_IMAGES, EMBED);
        golden_normalise(r->texts, 12, EMBED);
        for (size_t j = 0; j < N_IMAGES; j++) {
            comma_kernels()->dot_rows(logits, r->images + j * EMBED, r->texts, EMBED, 12, EMBED);
            for (size_t c = 0; c < 12; c++)
                logits[c] *= expf(comma_clip_config(r->e->clip)->logit_scale);
            golden_compare(others[i].name, logits, want + j * 12, 12, LOGIT_LIMIT);
        }
        run_finish(r);
        free(want);
        comma_tensors_close(expected);
    }
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_prompts_are_the_authors),
        cmocka_unit_test(hidden_states_of_each_block_are_the_authors),
        cmocka_unit_test(features_and_logits_are_the_authors),
        cmocka_unit_test(batches_and_threads_change_nothing),
        cmocka_unit_test(packed_f32_is_as_good),
        cmocka_unit_test(reduced_precisions_point_the_same_way),
        cmocka_unit_test(other_methods_give_the_authors_logits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
