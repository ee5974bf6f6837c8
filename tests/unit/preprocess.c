/* SPDX-License-Identifier: MIT */
/* preprocess.c - resize, crop and normalise against what the authors' transform made of the golden pictures with
 * Pillow: every byte at 32 pixels, every float before the model, SHA-256 at 224. The PNG copies of Pillow's decoded
 * JPEGs and the pictures in formats that are not read stand aside: JPEGs are decoded here, GIF and BMP are left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/preprocess.h"
#include "models/safetensors.h"
#include "tests/unit/pictures.h"
#include "tests/unit/sha256.h"

#define SMALL 32 /* the golden model's image size */
#define LARGE 224

/* As CLIP's own transform has them (SPEC 8.4). */
static const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
static const float std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

struct golden {
    json_t *index;
    struct comma_tensors *tensors;
};

static int open_golden(void **state)
{
    static struct golden golden;
    struct buffer index = golden_file("tiny/index.json");
    struct comma_error err = { 0 };
    char path[4096];

    snprintf(path, sizeof(path), "%s/tiny/preprocess.safetensors", golden_root());
    golden.index = json_loadb((const char *)index.data, index.size, 0, NULL);
    free(index.data);
    *state = &golden;
    return golden.index && comma_safetensors_open(path, &golden.tensors, &err) ? 0 : -1;
}

static int close_golden(void **state)
{
    struct golden *golden = *state;

    json_decref(golden->index);
    comma_tensors_close(golden->tensors);
    return 0;
}

/* Picture i of the set through decoder, resize and crop; false for a format that is not read. */
static bool squared(const struct golden *golden, size_t i, size_t size_px, unsigned char *out, const char **name)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };
    struct buffer file;
    char path[256];
    bool ok;

    *name = json_string_value(json_object_get(json_array_get(json_object_get(golden->index, "images"), i), "file"));
    assert_non_null(*name);
    snprintf(path, sizeof(path), "tiny/images/%s", *name);
    file = golden_file(path);
    ok = comma_image_decode(buffer_bytes(&file), &limits, false, 0, &image, &err);
    if (!ok)
        assert_int_equal(err.code, COMMA_E_FORMAT);
    else
        assert_true(comma_preprocess_square(&image, size_px, out, &err));
    comma_image_finish(&image);
    free(file.data);
    return ok;
}

/* Pillow of the golden set saturates 16-bit gray (SPEC 8.1); its own tensor has the high byte. */
static bool is_gray16(const char *name)
{
    return strcmp(name, "gray16.png") == 0;
}

static const unsigned char *tensor_at(const struct golden *golden, const char *name, size_t i)
{
    const struct comma_tensor *t = comma_tensors_find(golden->tensors, name);

    assert_non_null(t);
    return t->data + i * (comma_tensor_count(t) / (t->n_dims == 4 ? t->shape[0] : 1)) * comma_dtype_bytes(t->dtype);
}

static void every_byte_is_pillows_at_the_small_size(void **state)
{
    static unsigned char out[SMALL * SMALL * 3];
    const struct golden *golden = *state;
    const size_t n = json_array_size(json_object_get(golden->index, "images"));
    size_t n_compared = 0;

    for (size_t i = 0; i < n; i++) {
        const char *name;

        if (!squared(golden, i, SMALL, out, &name))
            continue;
        if (memcmp(out, is_gray16(name) ? tensor_at(golden, "gray16_high_byte_u8", 0) : tensor_at(golden, "u8", i),
                   sizeof(out)) != 0)
            fail_msg("%s", name);
        n_compared++;
    }
    assert_int_equal(n_compared, 22);
}

static void every_float_before_the_model_is_the_authors(void **state)
{
    static unsigned char square[SMALL * SMALL * 3];
    static float out[3 * SMALL * SMALL];
    const struct golden *golden = *state;
    const size_t n = json_array_size(json_object_get(golden->index, "images"));

    for (size_t i = 0; i < n; i++) {
        const char *name;
        const bool gray16 = squared(golden, i, SMALL, square, &name) && is_gray16(name);

        /* From the golden bytes, so that GIF and BMP count too */
        memcpy(square, gray16 ? tensor_at(golden, "gray16_high_byte_u8", 0) : tensor_at(golden, "u8", i),
               sizeof(square));
        comma_preprocess_normalise(square, SMALL, mean, std, out);
        if (memcmp(out, gray16 ? tensor_at(golden, "gray16_high_byte_pixels", 0) : tensor_at(golden, "pixels", i),
                   sizeof(out)) != 0)
            fail_msg("%s", name);
    }
}

static void every_byte_is_pillows_at_the_size_of_a_real_model(void **state)
{
    static unsigned char out[LARGE * LARGE * 3];
    const struct golden *golden = *state;
    const json_t *digests = json_object_get(json_object_get(golden->index, "preprocess"), "at_224");
    size_t n_compared = 0;

    for (size_t i = 0; i < json_array_size(digests); i++) {
        const char *name, *digest = json_string_value(json_object_get(json_array_get(digests, i), "sha256_u8_hwc"));
        char hex[65];

        assert_non_null(digest);
        if (!squared(golden, i, LARGE, out, &name) || is_gray16(name))
            continue;
        sha256_hex(out, sizeof(out), hex);
        if (strcmp(hex, digest) != 0)
            fail_msg("%s", name);
        n_compared++;
    }
    assert_int_equal(n_compared, 21);
}

/* One colour stays one colour, for the weights of a pixel add up to one: so a wrong index or a read past the end shows.
 */
static void any_size_and_aspect_can_be_resized(void **state)
{
    static const size_t sizes[][2] = { { 1, 1 },     { 1, 2 },     { 2, 1 },      { 1, 65500 }, { 65500, 1 },
                                       { 3, 65500 }, { 65500, 7 }, { 224, 1000 }, { 225, 224 }, { 5000, 4999 },
                                       { 31, 32 },   { 32, 31 },   { 2, 3 } };
    static unsigned char out[LARGE * LARGE * 3];

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct comma_image image = { sizes[i][0], sizes[i][1], malloc(3 * sizes[i][0] * sizes[i][1]) };
        struct comma_error err = { 0 };

        assert_non_null(image.pixels);
        memset(image.pixels, 0xC8, 3 * image.width * image.height);
        for (size_t size_px = 1; size_px <= LARGE; size_px += size_px == 1 ? 31 : 192) {
            memset(out, 0, sizeof(out));
            assert_true(comma_preprocess_square(&image, size_px, out, &err));
            for (size_t p = 0; p < 3 * size_px * size_px; p++)
                assert_int_equal(out[p], 0xC8);
        }
        comma_image_finish(&image);
    }
}

/* The middle of a picture of one row: with an odd difference of the sizes the cut is rounded to even. */
static void the_square_is_cut_from_the_middle(void **state)
{
    static const struct {
        size_t width, left;
    } cases[] = { { 4, 0 }, { 5, 0 }, { 6, 1 }, { 7, 2 }, { 8, 2 }, { 9, 2 }, { 11, 4 }, { 13, 4 } };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char pixels[13 * 4 * 3], out[4 * 4 * 3];
        struct comma_image image = { cases[i].width, 4, pixels };
        struct comma_error err;

        for (size_t p = 0; p < cases[i].width * 4; p++)
            memset(pixels + 3 * p, (int)(p % cases[i].width), 3);
        assert_true(comma_preprocess_square(&image, 4, out, &err));
        for (size_t p = 0; p < 16; p++)
            assert_int_equal(out[3 * p], cases[i].left + p % 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_pillows_at_the_small_size),
        cmocka_unit_test(every_float_before_the_model_is_the_authors),
        cmocka_unit_test(every_byte_is_pillows_at_the_size_of_a_real_model),
        cmocka_unit_test(any_size_and_aspect_can_be_resized),
        cmocka_unit_test(the_square_is_cut_from_the_middle),
    };

    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
