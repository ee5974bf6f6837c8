/* SPDX-License-Identifier: MIT */
/* fuzz.h - what a fuzz target defines. libFuzzer calls it with inputs of its own, replay_main.c with committed ones. */
#ifndef COMMA_TESTS_FUZZ_H
#define COMMA_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
