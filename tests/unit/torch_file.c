/* SPDX-License-Identifier: MIT */
/* torch_file.c - PyTorch checkpoints of every kind give the tensors that the safetensors files have, and hostile
 * pickles and archives end in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/pickle.h"
#include "models/safetensors.h"
#include "models/torch_file.h"

#define GOLDEN           COMMA_SOURCE_ROOT "/tests/golden/data/"
#define COMMA_CHECKPOINT GOLDEN "tiny/comma/MultiModalPromptLearner/model.pth.tar-5"

static struct comma_tensors *open_checkpoint(const char *path)
{
    struct comma_tensors *ts = NULL;
    struct comma_error err = { 0 };

    if (!comma_checkpoint_open(path, &ts, &err))
        fail_msg("%s", err.message);
    return ts;
}

static float *floats_of(const struct comma_tensor *t)
{
    struct comma_error err = { 0 };
    float *out = malloc((comma_tensor_count(t) + 1) * sizeof(*out));

    assert_non_null(out);
    if (!comma_tensor_to_f32(t, out, &err))
        fail_msg("%s", err.message);
    return out;
}

/* Each tensor of expected is in ts under prefix + name with equal values. */
static void assert_contains(const struct comma_tensors *ts, const char *prefix, const struct comma_tensors *expected)
{
    for (size_t i = 0; i < comma_tensors_size(expected); i++) {
        const struct comma_tensor *want = comma_tensors_at(expected, i), *got;
        char name[256];
        float *x, *y;

        snprintf(name, sizeof(name), "%s%s", prefix, want->name);
        got = comma_tensors_find(ts, name);
        if (!got)
            fail_msg("%s is missing", name);
        assert_int_equal(got->n_dims, want->n_dims);
        assert_memory_equal(got->shape, want->shape, want->n_dims * sizeof(*want->shape));
        x = floats_of(got);
        y = floats_of(want);
        assert_memory_equal(x, y, comma_tensor_count(want) * sizeof(*x));
        free(x);
        free(y);
    }
}

static void every_container_of_torch_gives_the_same_tensors(void **state)
{
    static const struct {
        const char *file, *prefix;
    } cases[] = {
        { GOLDEN "micro/openai_state_dict.pt", "" },
        { GOLDEN "micro/openai_torchscript.pt", "" },
        { GOLDEN "micro/open_clip_checkpoint.pt", "module." },
    };
    struct comma_tensors *expected = open_checkpoint(GOLDEN "micro/openai_names_f32.safetensors");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct comma_tensors *ts = open_checkpoint(cases[i].file);

        assert_contains(ts, cases[i].prefix, expected);
        comma_tensors_close(ts);
    }
    comma_tensors_close(expected);
}

static void a_comma_checkpoint_with_its_optimizer_gives_its_prompts(void **state)
{
    struct comma_tensors *expected = open_checkpoint(GOLDEN "tiny/comma.safetensors");
    struct comma_tensors *ts = open_checkpoint(COMMA_CHECKPOINT);

    (void)state;
    assert_contains(ts, "", expected);
    assert_non_null(comma_tensors_find(ts, "prompt_learner.token_suffix"));
    assert_non_null(comma_tensors_find(ts, "image_encoder.conv1.weight"));
    comma_tensors_close(ts);
    comma_tensors_close(expected);
}

/* ---- hostile pickles ---- */

static void assert_pickle_refused(const void *bytes, size_t size, const char *words)
{
    struct comma_pickle p = { 0 };
    struct comma_error err = { 0 };

    if (comma_pickle_parse((struct comma_bytes){ bytes, size }, "file", &p, &err))
        fail_msg("accepted, but should say \"%s\"", words);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
}

static void a_hostile_pickle_is_refused_with_the_place(void **state)
{
#define CASE(bytes, words)                                                                                             \
    {                                                                                                                  \
        bytes, sizeof(bytes) - 1, words                                                                                \
    }
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } cases[] = {
        CASE("", "the end comes too early at byte 0"),
        CASE("\x80\x02", "the end comes too early at byte 2"),
        CASE("\x80\x09N.", "a protocol that is not 2 to 5"),
        CASE("\x80\x02.", "nothing on the stack"),
        CASE("\x80\x02t.", "no mark"),
        CASE("(.", "nothing on the stack"),
        CASE("(}(s.", "nothing on the stack"),
        CASE("N(R.", "nothing on the stack"),
        CASE("X\xff\xff\xff\xffhello", "the end comes too early"),
        CASE("\x8d\xff\xff\xff\xff\xff\xff\xff\xffhello", "the end comes too early"),
        CASE("\x8b\xff\xff\xff\xff.", "the end comes too early"),
        CASE("h\x00.", "an empty memo is read"),
        CASE("Nr\xff\xff\xff\xff.", "a memo number beyond"),
        CASE("j\xff\xff\xff\xff.", "an empty memo is read"),
        CASE("}(Nu.", "a key without its value"),
        CASE("(Nd.", "a key without its value"),
        CASE("N(NNu.", "items for what holds none"),
        CASE("(Ne.", "nothing to add to"),
        CASE("cos", "a line does not end"),
        CASE("I01\n.", "the unknown opcode 0x49"),
        CASE("\x82\x01.", "the unknown opcode 0x82"),
        CASE("NN\x93.", "a global that is not named by strings"),
    };
#undef CASE
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_pickle_refused(cases[i].bytes, cases[i].size, cases[i].words);
}

static void a_forbidden_global_is_only_a_name(void **state)
{
    static const char bytes[] = "\x80\x02"
                                "cos\nsystem\nX\x0f\x00\x00\x00touch /tmp/gone\x85R.";
    struct comma_pickle p = { 0 };
    struct comma_error err = { 0 };
    const struct comma_pickle_value *root;

    (void)state;
    if (!comma_pickle_parse((struct comma_bytes){ (const unsigned char *)bytes, sizeof(bytes) - 1 }, "file", &p, &err))
        fail_msg("%s", err.message);
    root = &p.values[p.root];
    assert_int_equal(root->kind, COMMA_PICKLE_OBJECT);
    assert_true(comma_pickle_is_global(comma_pickle_item(&p, root, 0), "os", "system"));
    comma_pickle_finish(&p);
}

static void depth_and_cycles_cost_nothing(void **state)
{
    const size_t depth = 10000;
    char *bytes = malloc(depth * 2 + 64), *at = bytes;
    struct comma_pickle p = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_non_null(bytes);
    memset(at, ']', depth); /* depth lists, each put into the one before */
    memset(at + depth, 'a', depth - 1);
    at[2 * depth - 1] = '.';
    assert_true(comma_pickle_parse((struct comma_bytes){ (unsigned char *)bytes, 2 * depth }, "file", &p, &err));
    comma_pickle_finish(&p);
    free(bytes);
    /* A list that is in itself, and a dictionary that is its own value. */
    assert_true(comma_pickle_parse((struct comma_bytes){ (const unsigned char *)"]q\0h\0a.", 7 }, "file", &p, &err));
    comma_pickle_finish(&p);
    assert_true(
        comma_pickle_parse((struct comma_bytes){ (const unsigned char *)"}q\0X\1\0\0\0ah\0s.", 13 }, "file", &p, &err));
    assert_ptr_equal(comma_pickle_get(&p, &p.values[p.root], "a"), &p.values[p.root]);
    comma_pickle_finish(&p);
}

/* ---- damaged archives ---- */

static unsigned char *read_file(const char *path, size_t *size)
{
    unsigned char *bytes = malloc(4 << 20);
    FILE *f = fopen(path, "rb");

    assert_non_null(bytes);
    assert_non_null(f);
    *size = fread(bytes, 1, 4 << 20, f);
    fclose(f);
    return bytes;
}

/* In memory of exactly that size, so that ASan sees a read behind it. */
static bool parses(const unsigned char *bytes, size_t size, struct comma_error *err)
{
    unsigned char *exact = malloc(size + 1);
    struct comma_tensors *ts = NULL;
    bool ok;

    assert_non_null(exact);
    memcpy(exact + 1, bytes, size);
    ok = comma_torch_parse((struct comma_bytes){ exact + 1, size }, "file", &ts, err);
    for (size_t i = 0; ok && i < comma_tensors_size(ts); i++)
        if (comma_dtype_is_float(comma_tensors_at(ts, i)->dtype))
            free(floats_of(comma_tensors_at(ts, i)));
    comma_tensors_close(ts);
    free(exact);
    return ok;
}

static void a_file_cut_at_any_hundredth_is_refused(void **state)
{
    struct comma_error err = { 0 };
    size_t size;
    unsigned char *bytes = read_file(GOLDEN "micro/openai_state_dict.pt", &size);

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        assert_false(parses(bytes, size * i / 100, &err));
        assert_int_equal(err.code, COMMA_E_MODEL);
        assert_true(strlen(err.message) > 10);
    }
    assert_true(parses(bytes, size, &err));
    free(bytes);
}

static void flipped_bits_are_noticed_or_harmless(void **state)
{
    struct comma_error err = { 0 };
    size_t size;
    unsigned char *bytes = read_file(GOLDEN "micro/openai_state_dict.pt", &size);
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < 400; i++) {
        size_t at;
        unsigned char was;

        random = random * 1664525 + 1013904223;
        /* Half of them in the directory at the end, where offsets and sizes stand. */
        at = i % 2 ? random % size : size - 1 - random % 4000;
        was = bytes[at];
        bytes[at] ^= (unsigned char)(1 << random % 8);
        (void)!parses(bytes, size, &err);
        bytes[at] = was;
    }
    assert_true(parses(bytes, size, &err));
    free(bytes);
}

static void a_damaged_weight_is_seen_by_its_checksum(void **state)
{
    struct comma_error err = { 0 };
    size_t size;
    unsigned char *bytes = read_file(GOLDEN "micro/openai_state_dict.pt", &size);

    (void)state;
    bytes[size / 2] ^= 1; /* the token embedding lies there */
    assert_false(parses(bytes, size, &err));
    assert_non_null(strstr(err.message, "damaged"));
    free(bytes);
}

static void formats_that_are_not_read_are_named(void **state)
{
    static const unsigned char old[] = "\x80\x02\x8a\x0alFCFORMAT....";
    struct comma_error err = { 0 };

    (void)state;
    assert_false(parses(old, sizeof(old), &err));
    assert_int_equal(err.code, COMMA_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "torch before 1.6"));
    assert_false(parses((const unsigned char *)"PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, &err));
    assert_non_null(strstr(err.message, "no data.pkl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container_of_torch_gives_the_same_tensors),
        cmocka_unit_test(a_comma_checkpoint_with_its_optimizer_gives_its_prompts),
        cmocka_unit_test(a_hostile_pickle_is_refused_with_the_place),
        cmocka_unit_test(a_forbidden_global_is_only_a_name),
        cmocka_unit_test(depth_and_cycles_cost_nothing),
        cmocka_unit_test(a_file_cut_at_any_hundredth_is_refused),
        cmocka_unit_test(flipped_bits_are_noticed_or_harmless),
        cmocka_unit_test(a_damaged_weight_is_seen_by_its_checksum),
        cmocka_unit_test(formats_that_are_not_read_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
