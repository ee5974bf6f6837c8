/* SPDX-License-Identifier: MIT */
/* image_memory.c - memory that runs out at any moment: each allocation of a decode and a resize fails once, and the
 * answer is COMMA_E_NOMEM without a leak. The linker sends malloc and its kin of our own code here (--wrap); what
 * libjpeg-turbo allocates inside its shared library is not reached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/preprocess.h"
#include "tests/unit/pictures.h"

static size_t n_calls, failing; /* the call that fails, counted from 1; 0: none */

static bool fails(void)
{
    return ++n_calls == failing;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

/* Decodes and squares with the n-th allocation failing, for each n until all succeed. */
static void assert_survives_any_failure(const char *name, size_t at_least)
{
    const struct comma_image_limits limits = comma_image_default_limits();
    static unsigned char out[50 * 50 * 3];
    struct buffer file = golden_file(name);
    bool ok = false;

    for (size_t n = 1; !ok; n++) {
        struct comma_image image = { 0 };
        struct comma_error err = { 0 };

        n_calls = 0;
        failing = n;
        ok = comma_image_decode(buffer_bytes(&file), &limits, true, 0, &image, &err) &&
             comma_preprocess_square(&image, 50, out, &err);
        failing = 0;
        comma_image_finish(&image);
        if (ok)
            assert_true(n > at_least && n_calls < n);
        else if (err.code != COMMA_E_NOMEM || !strstr(err.message, "out of memory"))
            fail_msg("%s, call %zu: %s", name, n, err.message);
    }
    free(file.data);
}

static void a_png_survives_any_failed_allocation(void **state)
{
    (void)state;
    assert_survives_any_failure("tiny/images/rgb16.png", 13);
    assert_survives_any_failure("tiny/images/palette.png", 13);
}

static void a_jpeg_survives_any_failed_allocation(void **state)
{
    (void)state;
    assert_survives_any_failure("tiny/images/exif6.jpg", 10); /* turned, too */
    assert_survives_any_failure("tiny/images/cmyk.jpg", 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_png_survives_any_failed_allocation),
        cmocka_unit_test(a_jpeg_survives_any_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
