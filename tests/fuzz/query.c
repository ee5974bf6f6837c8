/* SPDX-License-Identifier: MIT */
/* query.c - any bytes as the query of a raw picture, and as the Content-Type and route of a request. */
#include "api/routes.h"
#include "tests/fuzz/api_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct comma_text text = { (const char *)data, size };
    char *type = malloc(size + 1);

    must(type != NULL);
    memcpy(type, data, size);
    type[size] = '\0';
    comma_route_find("POST", text, COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN);
    check_both_endpoints("image/png", text, (const uint8_t *)"X", 1);
    check_both_endpoints(type, comma_text_of(""), (const uint8_t *)"--B--", 5);
    free(type);
    return 0;
}
