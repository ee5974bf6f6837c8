/* SPDX-License-Identifier: MIT */
/* json_request.c - any bytes as a JSON request. */
#include "tests/fuzz/api_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_both_endpoints("application/json", comma_text_of(""), data, size);
    return 0;
}
