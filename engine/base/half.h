/* SPDX-License-Identifier: MIT */
/* half.h - the two 16-bit float formats that checkpoints store, to and from f32, one value at a time.
 *
 * f16 is IEEE 754 binary16 with subnormals, infinities and NaN; bf16 is the upper half of an f32. Rounding is to
 * nearest, ties to even. Arrays go through engine/kernels, which uses the processor's own conversions. */
#ifndef COMMA_BASE_HALF_H
#define COMMA_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float comma_float_of_bits(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint32_t comma_bits_of_float(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static inline float comma_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = (h >> 10) & 31, fraction = h & 0x3FF;

    if (exponent == 31)
        return comma_float_of_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in f32 */
        const float f = (float)fraction * 0x1p-24f;

        return sign ? -f : f;
    }
    return comma_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t comma_f32_to_f16(float f)
{
    const uint32_t bits = comma_bits_of_float(f), magnitude = bits & 0x7FFFFFFF;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);

    if (magnitude > 0x7F800000)
        return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) /* rounds past 65504 */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000) { /* subnormal in f16: adding 0.5 lets the f32 adder do the rounding */
        const float shifted = comma_float_of_bits(magnitude) + 0.5f;

        return (uint16_t)(sign | (comma_bits_of_float(shifted) - 0x3F000000));
    }
    return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}

static inline float comma_bf16_to_f32(uint16_t h)
{
    return comma_float_of_bits((uint32_t)h << 16);
}

static inline uint16_t comma_f32_to_bf16(float f)
{
    const uint32_t bits = comma_bits_of_float(f);

    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

#endif
