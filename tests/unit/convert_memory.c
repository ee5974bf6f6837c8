/* SPDX-License-Identifier: MIT */
/* convert_memory.c - a conversion that runs out of memory at any point says so and leaves nothing, neither on the disk
 * nor, under AddressSanitizer, in memory. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/comma.h"
#include "tests/unit/alloc_fail.h"

#define GOLDEN COMMA_SOURCE_ROOT "/tests/golden/data/"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    strcpy(scratch, "/tmp/comma-convert-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_all(const char *path)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    return system(command);
}

static int remove_scratch(void **state)
{
    (void)state;
    return remove_all(scratch);
}

static size_t n_entries(void)
{
    DIR *d = opendir(scratch);
    size_t n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* . and .. */
}

/* Each allocation of the calling thread fails once, all of the first hundred and then fewer and fewer of thousands. */
static void walk(const struct comma_convert_options *options, long *runs)
{
    bool failed = true;

    for (long n = 0; failed; n += 1 + n / 100) {
        struct comma_converted made = { 0 };
        struct comma_error err = { 0 };
        bool ok;

        alloc_fail_at(n);
        ok = comma_convert(options, &made, &err);
        failed = alloc_fail_happened();
        if (!ok) {
            assert_true(failed);
            if (err.code != COMMA_E_NOMEM)
                fail_msg("allocation %ld: \"%s\"", n, err.message);
            assert_int_equal(n_entries(), 0);
        } else { /* memory for a warning or a progress bar may be missing */
            assert_int_equal(n_entries(), 1);
            comma_converted_finish(&made);
            assert_int_equal(remove_all(options->out), 0);
        }
        ++*runs;
    }
}

static void a_model_with_an_adapter_leaves_nothing_when_memory_runs_out(void **state)
{
    const struct comma_convert_adapter adapter = { NULL, GOLDEN "tiny/comma/MultiModalPromptLearner/model.pth.tar-5" };
    char out[96];
    struct comma_convert_options options = { .source = GOLDEN "tiny/clip.pt",
                                             .adapters = &adapter,
                                             .n_adapters = 1,
                                             .merges = GOLDEN "bpe_400.txt",
                                             .out = out,
                                             .n_threads = 1 };
    long runs = 0;

    (void)state;
    snprintf(out, sizeof(out), "%s", scratch);
    strcat(out, "/model");
    walk(&options, &runs);
    assert_true(runs > 200);
}

static void prompts_alone_leave_nothing_when_memory_runs_out(void **state)
{
    char out[96];
    struct comma_convert_options options = { .source = GOLDEN "tiny/comma/MultiModalPromptLearner/model.pth.tar-5",
                                             .out = out,
                                             .n_threads = 1 };
    long runs = 0;

    (void)state;
    snprintf(out, sizeof(out), "%s", scratch);
    strcat(out, "/adapter");
    walk(&options, &runs);
    assert_true(runs > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_model_with_an_adapter_leaves_nothing_when_memory_runs_out, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(prompts_alone_leave_nothing_when_memory_runs_out, make_scratch, remove_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
