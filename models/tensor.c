/* SPDX-License-Identifier: MIT */
/* tensor.c - see tensor.h. */
#include "models/tensor.h"

size_t comma_dtype_bytes(enum comma_dtype dtype)
{
    static const unsigned char bytes[COMMA_N_DTYPES] = {
        [COMMA_F32] = 4, [COMMA_F16] = 2, [COMMA_BF16] = 2, [COMMA_F64] = 8, [COMMA_I64] = 8,
        [COMMA_I32] = 4, [COMMA_I16] = 2, [COMMA_I8] = 1,   [COMMA_U8] = 1,  [COMMA_BOOL] = 1,
    };

    return bytes[dtype];
}
