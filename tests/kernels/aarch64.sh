#!/bin/sh
# SPDX-License-Identifier: MIT
# aarch64.sh - builds the kernels and their tests for 64-bit Arm and runs them in QEMU, so that NEON is held against
# plain C on any machine. On Arm itself the ordinary test does that. Also compiles what else has code of its own for that
# processor. Exit status 77, with a word, where compiler or emulator is missing.
#
#   tests/kernels/aarch64.sh BUILD_DIRECTORY
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$1/aarch64
compiler=aarch64-linux-gnu-gcc emulator=
for candidate in qemu-aarch64 qemu-aarch64-static; do
    [ -n "$emulator" ] || emulator=$(command -v $candidate || true)
done
if ! command -v $compiler >/dev/null || [ -z "$emulator" ]; then
    echo "skipped: $compiler or qemu-aarch64 is missing (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
    exit 77
fi
mkdir -p "$out"
cd "$top"
flags="-std=c11 -O2 -g -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes
    -Wno-missing-field-initializers -Werror -D_GNU_SOURCE -fno-math-errno -I. -Itests/kernels/cross"
# Static: the emulator then needs no library of that processor.
for test in kernels product; do
    # shellcheck disable=SC2086
    $compiler $flags -static engine/base/cpu.c engine/kernels/c.c engine/kernels/kernels.c engine/kernels/neon.c \
        tests/kernels/$test.c -lm -lpthread -o "$out/$test"
done
# shellcheck disable=SC2086
$compiler $flags -c engine/peak.c -o "$out/peak.o"
"$emulator" "$out/kernels"
"$emulator" "$out/product"
