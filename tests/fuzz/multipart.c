/* SPDX-License-Identifier: MIT */
/* multipart.c - any bytes as a form whose boundary is "B". */
#include "tests/fuzz/api_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_both_endpoints("multipart/form-data; boundary=B", comma_text_of(""), data, size);
    return 0;
}
