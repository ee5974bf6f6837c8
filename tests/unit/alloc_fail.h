/* SPDX-License-Identifier: MIT */
/* alloc_fail.h - makes the n-th allocation of the calling thread fail, to walk a function through all its ways out.
 *
 *     for (long n = 0; ; n++) {
 *         alloc_fail_at(n);
 *         ok = comma_thing_open(..., &err);
 *         if (!alloc_fail_happened())
 *             break;                         (n allocations were all there are)
 *         assert_false(ok); assert_int_equal(err.code, COMMA_E_NOMEM);
 *     }
 *
 * To be included by one file of a program that is linked with alloc_fail (tests/unit/meson.build), which put
 * these functions before the real ones in the program's own objects and static libraries; shared libraries keep
 * theirs. Run under AddressSanitizer the leaks on the way out show too. */
#ifndef COMMA_TESTS_ALLOC_FAIL_H
#define COMMA_TESTS_ALLOC_FAIL_H

#include <stdbool.h>
#include <stddef.h>

static _Thread_local long alloc_fail_countdown = -1; /* allocations until the one that fails; below 0: none does */
static _Thread_local bool alloc_fail_done;

/* Lets n allocations pass and the next one fail. */
static inline void alloc_fail_at(long n)
{
    alloc_fail_countdown = n;
    alloc_fail_done = false;
}

/* Whether it came to that; ends it in any case. */
static inline bool alloc_fail_happened(void)
{
    alloc_fail_countdown = -1;
    return alloc_fail_done;
}

static inline bool alloc_fail_now(void)
{
    if (alloc_fail_countdown < 0 || alloc_fail_countdown-- > 0)
        return false;
    alloc_fail_done = true;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *s);

void *__wrap_malloc(size_t size)
{
    return alloc_fail_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return alloc_fail_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return alloc_fail_now() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return alloc_fail_now() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *s)
{
    return alloc_fail_now() ? NULL : __real_strdup(s);
}

#endif
