/* SPDX-License-Identifier: MIT */
/* clock.h - the one clock for deadlines and timings. */
#ifndef COMMA_BASE_CLOCK_H
#define COMMA_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic nanoseconds, from an arbitrary start. */
static inline int64_t comma_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline double comma_ms(int64_t ns)
{
    return (double)ns * 1e-6;
}

#endif
