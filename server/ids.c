/* SPDX-License-Identifier: MIT */
/* ids.c - see ids.h. */
#include "server/ids.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static bool is_plain(struct comma_text t)
{
    if (t.size == 0 || t.size >= COMMA_REQUEST_ID_BYTES)
        return false;
    for (size_t i = 0; i < t.size; i++) {
        const char c = t.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '_' ||
              c == '-'))
            return false;
    }
    return true;
}

void comma_request_id(struct comma_text client, char *out)
{
    unsigned char random[16] = { 0 };

    if (is_plain(client)) {
        memcpy(out, client.data, client.size);
        out[client.size] = '\0';
        return;
    }
    /* 16 bytes come whole or, before the kernel's pool is seeded, not at all: an id need not be secret. */
    if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        memset(random, 0, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        snprintf(out + 2 * i, 3, "%02x", random[i]);
}

/* size lower-case hexadecimal digits, not all of them zero unless zero_is_fine. */
static bool is_hex(const char *s, size_t size, bool zero_is_fine)
{
    for (size_t i = 0; i < size; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
        zero_is_fine |= s[i] != '0';
    }
    return zero_is_fine;
}

bool comma_traceparent_read(struct comma_text value, char *trace_id)
{
    const char *s = value.data;

    trace_id[0] = '\0';
    if (value.size != 55 || memcmp(s, "00-", 3) != 0 || s[35] != '-' || s[52] != '-' || !is_hex(s + 3, 32, false) ||
        !is_hex(s + 36, 16, false) || !is_hex(s + 53, 2, true))
        return false;
    memcpy(trace_id, s + 3, 32);
    trace_id[32] = '\0';
    return true;
}
