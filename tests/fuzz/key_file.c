/* SPDX-License-Identifier: MIT */
/* key_file.c - any bytes as a file of API keys, and as a key that is presented; and as the headers that carry ids. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/ids.h"
#include "server/keys.h"
#include "tests/fuzz/fuzz.h"

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_keys(struct comma_keys *keys, struct comma_text presented)
{
    struct comma_key *key = comma_keys_find(keys, presented);
    unsigned wait = 0;

    comma_keys_unref(keys); /* a key pins its set */
    if (!key)
        return;
    must(strlen(comma_key_name(key)) >= 1 && strlen(comma_key_name(key)) <= 64);
    comma_key_allows(key, "emoji");
    comma_key_is_admin(key);
    for (int64_t now = 1; now < 5; now++)
        must(comma_key_take(key, now * 1000000000, &wait) || wait > 0);
    comma_key_unref(key);
}

static void check_ids(struct comma_text text)
{
    char id[COMMA_REQUEST_ID_BYTES], trace[COMMA_TRACE_ID_BYTES];
    size_t n;

    comma_request_id(text, id);
    n = strlen(id);
    must(n >= 1 && n <= 64 && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n);
    if (comma_traceparent_read(text, trace))
        must(strlen(trace) == 32 && strspn(trace, "0123456789abcdef") == 32 && strspn(trace, "0") < 32);
    else
        must(trace[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct comma_text text = { (const char *)data, size };
    const int fd = memfd_create("keys", MFD_CLOEXEC);
    struct comma_keys *keys = NULL;
    struct comma_error err = { 0 };
    char path[64];

    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (comma_keys_load(path, &keys, &err))
        check_keys(keys, (struct comma_text){ "password", 8 });
    else
        must(err.code != COMMA_OK && err.message[0] && strlen(err.message) < sizeof(err.message));
    close(fd);
    check_ids(text);
    return 0;
}
