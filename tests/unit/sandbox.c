/* SPDX-License-Identifier: MIT */
/* sandbox.c - decoder children that crash, loop, break out or are killed, and what their callers see of it. What runs
 * in the child is this file's decoder: the first letter of the "picture" says what it does. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/preprocess.h"
#include "server/sandbox.h"
#include "server/sandbox_impl.h"
#include "tests/unit/pictures.h"

#define PATIENT 0 /* the usual time limits */

/* ---- what the children do ---- */

static volatile int sink;
static volatile int *volatile nowhere = NULL;

static void misbehave(char how)
{
    switch (how) {
    case 'c': /* crash */
        raise(SIGSEGV);
        break;
    case 'n': /* null */
        sink = *nowhere;
        break;
    case 'x':
        _exit(0);
    case 'l': /* loop */
        for (;;)
            sink++;
    case 'L': { /* loop, and take the alarm off the wall first */
        const struct itimerval never = { 0 };

        setitimer(ITIMER_PROF, &never, NULL);
        for (;;)
            sink++;
    }
    case 'o':
        sink = open("/etc/passwd", O_RDONLY);
        break;
    case 's':
        sink = socket(AF_INET, SOCK_STREAM, 0);
        break;
    case 'f':
        sink = fork();
        break;
    case 'e':
        sink = execl("/bin/true", "true", (char *)NULL);
        break;
    case 'k':
        sink = kill(getppid(), SIGKILL);
        break;
    case 'm': /* code of one's own */
        sink = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
        break;
    case 'w': /* to another descriptor */
        sink = (int)write(2, "x", 1);
        break;
    case 'p':
        sink = prctl(PR_SET_DUMPABLE, 1);
        break;
    case 'S': { /* an answer past the code that checks it */
        const struct comma_sandbox_reply huge = { .ok = true, .width = 1 << 20, .height = 1 << 20 };

        sink = (int)write(COMMA_SANDBOX_FD, &huge, sizeof(huge));
        break;
    }
    case 'T': /* half an answer */
        sink = (int)write(COMMA_SANDBOX_FD, "half", 4);
        break;
    default:
        break;
    }
}

/* Lies in its answer: more pixels than there is room for, or words that are no text. */
static bool lie(char how, struct comma_image *out, struct comma_error *err)
{
    if (how == 'B') {
        *out = (struct comma_image){ SIZE_MAX / 2, 3, NULL };
        return true;
    }
    err->code = how == 'C' ? (enum comma_code)99 : COMMA_E_INPUT;
    memset(err->message, 0xFF, sizeof(err->message));
    return false;
}

/* A picture of the size that bytes 1 and 2 say, each byte of it byte 3; or misdeeds. */
static bool test_decode(void *user, struct comma_bytes file, const struct comma_image_limits *limits, bool auto_orient,
                        size_t min_side_px, size_t square_px, struct comma_image *out, struct comma_error *err)
{
    (void)user;
    (void)limits;
    (void)square_px;
    assert(file.size >= 1);
    if (memchr("BCU", file.data[0], 3))
        return lie((char)file.data[0], out, err);
    if (file.data[0] == 'r')
        return comma_fail(err, COMMA_E_LIMIT, "refused as asked, caf\xC3\xA9");
    if (file.data[0] == 'h') {                        /* a memory hog gets no memory, and lives */
        void *volatile hog = malloc((size_t)8 << 30); /* volatile, or the compiler leaves it out */

        free(hog);
        return hog ? comma_fail(err, COMMA_E_INTERNAL, "8 GiB were given")
                   : comma_fail(err, COMMA_E_NOMEM, "no memory, as hoped");
    }
    if (file.data[0] != 'g')
        misbehave((char)file.data[0]);
    if (file.size < 4)
        return comma_fail(err, COMMA_E_INPUT, "still here after %c", file.data[0]);
    *out = (struct comma_image){ file.data[1] + (auto_orient ? 1 : 0), file.data[2] + min_side_px, NULL };
    out->pixels = malloc(3 * out->width * out->height);
    assert(out->pixels);
    memset(out->pixels, file.data[3], 3 * out->width * out->height);
    return true;
}

/* ---- what the server sees ---- */

static struct comma_sandbox *opened(unsigned n_children, unsigned max_cpu_ms, unsigned max_wall_ms, bool real)
{
    struct comma_sandbox_options options = comma_sandbox_default_options();
    struct comma_sandbox *sandbox = NULL;
    struct comma_error err = { 0 };

    options.n_children = n_children;
    if (max_cpu_ms != PATIENT)
        options.max_cpu_ms = max_cpu_ms;
    if (max_wall_ms != PATIENT)
        options.max_wall_ms = max_wall_ms;
    options.images_per_child = 10;
    options.limits.max_pixels = 1000000;
    if (!real)
        options.decode = test_decode;
    if (!comma_sandbox_open(&options, &sandbox, &err))
        fail_msg("%s", err.message);
    return sandbox;
}

static bool decode(struct comma_sandbox *sandbox, const void *data, size_t size, struct comma_image *out,
                   struct comma_error *err)
{
    const struct comma_image_limits limits = comma_image_default_limits();

    return comma_sandbox_decode(sandbox, (struct comma_bytes){ data, size }, &limits, true, 0, 0, out, err);
}

/* A 'g' file: all is well with the sandbox. */
static void assert_decodes(struct comma_sandbox *sandbox, unsigned char value)
{
    const unsigned char file[] = { 'g', 29, 20, value };
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    if (!decode(sandbox, file, sizeof(file), &image, &err))
        fail_msg("%s", err.message);
    assert_int_equal(image.width, 30); /* auto_orient went over, too */
    assert_int_equal(image.height, 20);
    for (size_t i = 0; i < 3 * 30 * 20; i++)
        assert_int_equal(image.pixels[i], value);
    comma_image_finish(&image);
}

static void assert_dies(struct comma_sandbox *sandbox, char how)
{
    struct comma_sandbox_stats before, after;
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    comma_sandbox_get_stats(sandbox, &before);
    assert_false(decode(sandbox, &how, 1, &image, &err));
    if (err.code != COMMA_E_INPUT || strcmp(err.message, "the image could not be decoded") != 0)
        fail_msg("%c: %s", how, err.message);
    comma_sandbox_get_stats(sandbox, &after);
    assert_int_equal(after.deaths, before.deaths + 1);
}

static void pixels_and_sentences_come_back(void **state)
{
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, false);
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_decodes(sandbox, 7);
    assert_false(decode(sandbox, "r", 1, &image, &err));
    assert_int_equal(err.code, COMMA_E_LIMIT);
    assert_string_equal(err.message, "refused as asked, caf\xC3\xA9");
    comma_sandbox_close(sandbox);
}

static void a_real_picture_comes_out_as_without_the_sandbox(void **state)
{
    static const char *const names[] = { "tiny/images/exif6.jpg", "tiny/images/rgb16.png", "tiny/images/cmyk.jpg",
                                         "tiny/images/palette.gif" };
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, true);
    const struct comma_image_limits limits = comma_image_default_limits();

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct buffer file = golden_file(names[i]);
        struct comma_image inside = { 0 }, outside = { 0 };
        struct comma_error err_inside = { 0 }, err_outside = { 0 };
        const bool ok = comma_image_decode(buffer_bytes(&file), &limits, true, 0, &outside, &err_outside);

        assert_int_equal(decode(sandbox, file.data, file.size, &inside, &err_inside), ok);
        assert_string_equal(err_inside.message, err_outside.message);
        assert_int_equal(inside.width, outside.width);
        assert_int_equal(inside.height, outside.height);
        if (ok)
            assert_memory_equal(inside.pixels, outside.pixels, 3 * inside.width * inside.height);
        comma_image_finish(&inside);
        comma_image_finish(&outside);
        free(file.data);
    }
    comma_sandbox_close(sandbox);
}

static void a_square_comes_out_as_it_is_resized_without_the_sandbox(void **state)
{
    static const char *const names[] = { "tiny/images/exif6.jpg", "tiny/images/large.jpg", "tiny/images/rgb16.png" };
    enum { SQUARE_PX = 32 };
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, true);
    const struct comma_image_limits limits = comma_image_default_limits();

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        for (int raw = 0; raw < 2; raw++) {
            struct buffer file = golden_file(names[i]);
            const size_t min_side_px = 40 * i; /* 80: large.jpg comes out at half its size */
            unsigned char want[SQUARE_PX * SQUARE_PX * 3];
            struct comma_image whole = { 0 }, square = { 0 };
            struct comma_error err = { 0 };

            assert_true(comma_image_decode(buffer_bytes(&file), &limits, !raw, min_side_px, &whole, &err));
            assert_true(comma_preprocess_square(&whole, SQUARE_PX, want, &err));
            assert_true(comma_sandbox_decode(sandbox, buffer_bytes(&file), &limits, !raw, min_side_px, SQUARE_PX,
                                             &square, &err));
            assert_int_equal(square.width, SQUARE_PX);
            assert_int_equal(square.height, SQUARE_PX);
            assert_memory_equal(square.pixels, want, sizeof(want));
            comma_image_finish(&square);
            comma_image_finish(&whole);
            free(file.data);
        }
    comma_sandbox_close(sandbox);
}

static void a_child_that_crashes_or_reaches_out_costs_one_picture(void **state)
{
    static const char misdeeds[] = "cnxosfekmwp";
    struct comma_sandbox *sandbox = opened(2, PATIENT, PATIENT, false);

    (void)state;
    for (size_t i = 0; misdeeds[i]; i++) {
        assert_dies(sandbox, misdeeds[i]);
        assert_decodes(sandbox, (unsigned char)i);
    }
    comma_sandbox_close(sandbox);
}

static void a_child_that_does_not_end_is_ended(void **state)
{
    struct comma_sandbox *by_processor_time = opened(1, 50, 60000, false);
    struct comma_sandbox *by_the_clock = opened(1, 60000, 300, false);

    (void)state;
    assert_dies(by_processor_time, 'l');
    assert_decodes(by_processor_time, 1);
    assert_dies(by_the_clock, 'L');
    assert_decodes(by_the_clock, 2);
    comma_sandbox_close(by_processor_time);
    comma_sandbox_close(by_the_clock);
}

static void a_child_that_lies_is_not_believed(void **state)
{
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, false);
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_false(decode(sandbox, "B", 1, &image, &err)); /* already the child's own code refuses this */
    assert_string_equal(err.message, "the image has more pixels than the decoder may return");
    assert_dies(sandbox, 'C');
    assert_dies(sandbox, 'U');
    assert_dies(sandbox, 'S');
    assert_dies(sandbox, 'T');
    assert_decodes(sandbox, 3);
    comma_sandbox_close(sandbox);
}

#if COMMA_SANDBOX_LIMITS_MEMORY
static void a_child_gets_no_more_memory_than_it_may_have(void **state)
{
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, false);
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_false(decode(sandbox, "h", 1, &image, &err));
    assert_string_equal(err.message, "no memory, as hoped");
    comma_sandbox_close(sandbox);
}
#endif

static void a_file_of_more_than_the_limit_is_refused(void **state)
{
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, false);
    const size_t size = ((size_t)16 << 20) + 1;
    unsigned char *file = calloc(1, size);
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };

    (void)state;
    assert_non_null(file);
    assert_false(decode(sandbox, file, size, &image, &err));
    assert_int_equal(err.code, COMMA_E_LIMIT);
    assert_string_equal(err.message, "the image file has 16777217 bytes; at most 16777216 are allowed");
    memcpy(file, "g\1\1\1", 4);
    assert_true(decode(sandbox, file, size - 1, &image, &err));
    comma_image_finish(&image);
    free(file);
    comma_sandbox_close(sandbox);
}

/* ---- processes and descriptors ---- */

/* The children of process pid, whatever their state; returns how many there are, and how many of them are zombies. */
static size_t children_of(pid_t pid, pid_t *out, size_t room, size_t *n_zombies)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(proc);
    *n_zombies = 0;
    while ((entry = readdir(proc)) != NULL && n < room) {
        char path[300], state;
        int parent;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        f = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (!f)
            continue;
        if (fscanf(f, "%*d (%*[^)]) %c %d", &state, &parent) == 2 && parent == pid) {
            *n_zombies += state == 'Z';
            out[n++] = (pid_t)atoi(entry->d_name);
        }
        fclose(f);
    }
    closedir(proc);
    return n;
}

static size_t n_descriptors(void)
{
    size_t n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void a_child_killed_in_its_sleep_costs_nothing(void **state)
{
    struct comma_sandbox *sandbox = opened(2, PATIENT, PATIENT, false);
    struct comma_sandbox_stats stats;
    pid_t zygote[8], child[8];
    size_t n_zombies;

    (void)state;
    assert_int_equal(children_of(getpid(), zygote, 8, &n_zombies), 1);
    assert_int_equal(children_of(zygote[0], child, 8, &n_zombies), 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(kill(child[i], SIGKILL), 0);
    while (children_of(zygote[0], child, 8, &n_zombies) > 0) /* the zygote buries them by itself */
        usleep(1000);
    for (unsigned char i = 0; i < 4; i++)
        assert_decodes(sandbox, i);
    comma_sandbox_get_stats(sandbox, &stats);
    assert_int_equal(stats.deaths, 0);
    comma_sandbox_close(sandbox);
}

static void without_its_zygote_the_sandbox_says_so(void **state)
{
    struct comma_sandbox *sandbox = opened(1, PATIENT, PATIENT, false);
    struct comma_image image = { 0 };
    struct comma_error err = { 0 };
    pid_t zygote[8];
    size_t n_zombies;

    (void)state;
    assert_int_equal(children_of(getpid(), zygote, 8, &n_zombies), 1);
    assert_int_equal(kill(zygote[0], SIGKILL), 0);
    assert_dies(sandbox, 'c');
    assert_false(decode(sandbox, "g\1\1\1", 4, &image, &err));
    assert_int_equal(err.code, COMMA_E_INTERNAL);
    assert_string_equal(err.message, "the image decoders have ended; the server must be restarted");
    comma_sandbox_close(sandbox);
}

static void neither_processes_nor_descriptors_are_left_behind(void **state)
{
    const size_t before = n_descriptors();
    pid_t zygote[8], child[8];
    size_t n_zombies;

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct comma_sandbox *sandbox = opened(2, PATIENT, PATIENT, false);
        struct comma_sandbox_stats stats;

        assert_int_equal(n_descriptors(), before + 3); /* control, and one for each child */
        for (unsigned char i = 0; i < 25; i++)
            assert_decodes(sandbox, i);
        assert_dies(sandbox, 'c');
        assert_int_equal(n_descriptors(), before + 3);
        comma_sandbox_get_stats(sandbox, &stats);
        assert_int_equal(stats.images, 26);
        assert_int_equal(stats.recycled, 2); /* a fresh one after ten pictures */
        assert_int_equal(children_of(getpid(), zygote, 8, &n_zombies), 1);
        assert_int_equal(children_of(zygote[0], child, 8, &n_zombies), 2);
        assert_int_equal(n_zombies, 0);
        comma_sandbox_close(sandbox);
        assert_int_equal(children_of(getpid(), zygote, 8, &n_zombies), 0);
        assert_int_equal(n_descriptors(), before);
    }
}

/* ---- many at once ---- */

struct caller {
    struct comma_sandbox *sandbox;
    unsigned char value;
    size_t n_right;
    pthread_t thread;
};

/* Ten good pictures, each compared, and a crash between them. No cmocka here: it knows one thread. */
static void *call_often(void *user)
{
    struct caller *c = user;

    for (int i = 0; i < 11; i++) {
        const unsigned char file[] = { i == 5 ? 'c' : 'g', 9, 10, c->value };
        struct comma_image image = { 0 };
        struct comma_error err = { 0 };
        const bool ok = decode(c->sandbox, file, sizeof(file), &image, &err);

        if (i == 5)
            c->n_right += !ok && err.code == COMMA_E_INPUT;
        else
            c->n_right += ok && image.width == 10 && image.height == 10 && image.pixels[0] == c->value &&
                          memcmp(image.pixels, image.pixels + 1, 3 * 10 * 10 - 1) == 0;
        comma_image_finish(&image);
    }
    return NULL;
}

static void sixty_four_callers_each_get_their_own_picture(void **state)
{
    struct comma_sandbox *sandbox = opened(3, PATIENT, PATIENT, false);
    struct caller callers[64];
    struct comma_sandbox_stats stats;

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        callers[i] = (struct caller){ .sandbox = sandbox, .value = (unsigned char)i };
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
    }
    for (size_t i = 0; i < 64; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].n_right, 11);
    }
    comma_sandbox_get_stats(sandbox, &stats);
    assert_int_equal(stats.images, 64 * 11);
    assert_int_equal(stats.deaths, 64);
    comma_sandbox_close(sandbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_and_sentences_come_back),
        cmocka_unit_test(a_real_picture_comes_out_as_without_the_sandbox),
        cmocka_unit_test(a_square_comes_out_as_it_is_resized_without_the_sandbox),
        cmocka_unit_test(a_child_that_crashes_or_reaches_out_costs_one_picture),
        cmocka_unit_test(a_child_that_does_not_end_is_ended),
        cmocka_unit_test(a_child_that_lies_is_not_believed),
#if COMMA_SANDBOX_LIMITS_MEMORY
        cmocka_unit_test(a_child_gets_no_more_memory_than_it_may_have),
#endif
        cmocka_unit_test(a_file_of_more_than_the_limit_is_refused),
        cmocka_unit_test(a_child_killed_in_its_sleep_costs_nothing),
        cmocka_unit_test(without_its_zygote_the_sandbox_says_so),
        cmocka_unit_test(neither_processes_nor_descriptors_are_left_behind),
        cmocka_unit_test(sixty_four_callers_each_get_their_own_picture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
