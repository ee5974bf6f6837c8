/* SPDX-License-Identifier: MIT */
/* keys.c - see keys.h. `lock` guards the buckets and the count of references. */
#include "server/keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_KEYS = 10000, DIGEST_BYTES = 32, MAX_NAME = 64 };

struct comma_key {
    struct comma_keys *set;
    char name[MAX_NAME + 1];
    unsigned char digest[DIGEST_BYTES];
    double rate, burst; /* requests a second, and at once; rate 0: no limit */
    double tokens;
    int64_t filled_ns; /* when tokens was right; 0: never */
    char *models;      /* ",emoji,groups,"; NULL: all */
};

struct comma_keys {
    pthread_mutex_t lock;
    unsigned refs;
    struct comma_key *items;
    size_t n;
};

struct comma_keys *comma_keys_ref(struct comma_keys *keys)
{
    if (keys) {
        pthread_mutex_lock(&keys->lock);
        keys->refs++;
        pthread_mutex_unlock(&keys->lock);
    }
    return keys;
}

void comma_keys_unref(struct comma_keys *keys)
{
    bool last;

    if (!keys)
        return;
    pthread_mutex_lock(&keys->lock);
    last = --keys->refs == 0;
    pthread_mutex_unlock(&keys->lock);
    if (!last)
        return;
    for (size_t i = 0; i < keys->n; i++)
        free(keys->items[i].models);
    free(keys->items);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}

static bool read_name(const char *text, char *out)
{
    const size_t size = strlen(text);

    for (size_t i = 0; i < size; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", text[i]))
            return false;
    if (size == 0 || size > MAX_NAME)
        return false;
    memcpy(out, text, size + 1);
    return true;
}

static bool read_digest(const char *text, unsigned char *out)
{
    if (strlen(text) != 2 * DIGEST_BYTES || strspn(text, "0123456789abcdefABCDEF") != 2 * DIGEST_BYTES)
        return false;
    for (size_t i = 0; i < DIGEST_BYTES; i++)
        if (sscanf(text + 2 * i, "%2hhx", &out[i]) != 1)
            return false;
    return true;
}

static bool read_rate(const char *text, double *out)
{
    char *end;

    errno = 0;
    *out = strtod(text, &end);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && *out <= 1e6;
}

/* Reads one line, which it cuts into pieces. */
static bool read_key(char *line, struct comma_key *key, const char *path, size_t number, struct comma_error *err)
{
    char *fields[5] = { NULL };

    for (size_t i = 0; i < 5; i++)
        fields[i] = strsep(&line, ":");
    if (!fields[4] || line)
        return comma_fail(err, COMMA_E_INPUT, "%s:%zu: a key is name:sha256:rate:burst:models", path, number);
    if (!read_name(fields[0], key->name))
        return comma_fail(err, COMMA_E_INPUT, "%s:%zu: a key's name is 1 to %d of A-Z a-z 0-9 . _ -", path, number,
                          MAX_NAME);
    if (!read_digest(fields[1], key->digest))
        return comma_fail(err, COMMA_E_INPUT, "%s:%zu: %s: the second field is not a SHA-256 of 64 hexadecimal digits",
                          path, number, key->name);
    if (!read_rate(fields[2], &key->rate) || !read_rate(fields[3], &key->burst))
        return comma_fail(err, COMMA_E_INPUT, "%s:%zu: %s: rate and burst are numbers from 0 to 1000000", path, number,
                          key->name);
    if (key->burst < 1)
        key->burst = 1;
    if (strcmp(fields[4], "*") != 0 && asprintf(&key->models, ",%s,", fields[4]) < 0) {
        key->models = NULL;
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while reading %s", path);
    }
    return true;
}

static bool add_line(struct comma_keys *keys, char *line, const char *path, size_t number, struct comma_error *err)
{
    struct comma_key *items;

    line[strcspn(line, "#\r\n")] = '\0';
    for (size_t n = strlen(line); n > 0 && strchr(" \t", line[n - 1]); n--)
        line[n - 1] = '\0';
    if (*line == '\0')
        return true;
    if (keys->n == MAX_KEYS)
        return comma_fail(err, COMMA_E_LIMIT, "%s: more than %d keys", path, MAX_KEYS);
    items = realloc(keys->items, (keys->n + 1) * sizeof(*items));
    if (!items)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while reading %s", path);
    keys->items = items;
    items[keys->n] = (struct comma_key){ .set = keys };
    return read_key(line, &items[keys->n++], path, number, err);
}

bool comma_keys_load(const char *path, struct comma_keys **out, struct comma_error *err)
{
    struct comma_keys *keys = calloc(1, sizeof(*keys));
    FILE *file = NULL;
    char *line = NULL;
    size_t room = 0, number = 0;
    bool ok = false;

    if (!keys)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while reading %s", path);
    pthread_mutex_init(&keys->lock, NULL);
    keys->refs = 1;
    file = fopen(path, "re");
    if (!file) {
        comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    while (getline(&line, &room, file) >= 0)
        if (!add_line(keys, line, path, ++number, err))
            goto out;
    if (ferror(file)) {
        comma_fail(err, COMMA_E_IO, "%s: cannot be read", path);
        goto out;
    }
    if (keys->n == 0) {
        comma_fail(err, COMMA_E_INPUT, "%s holds no key, so nobody could be served", path);
        goto out;
    }
    ok = true;
out:
    if (ok)
        *out = keys;
    else
        comma_keys_unref(keys);
    if (file)
        fclose(file);
    free(line);
    return ok;
}

/* No early exit: the time says nothing about where two digests differ. */
static bool equal(const unsigned char *a, const unsigned char *b)
{
    volatile unsigned char difference = 0;

    for (size_t i = 0; i < DIGEST_BYTES; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

struct comma_key *comma_keys_find(struct comma_keys *keys, struct comma_text presented)
{
    unsigned char digest[DIGEST_BYTES];
    struct comma_key *found = NULL;

    comma_sha256(presented.data, presented.size, digest);
    for (size_t i = 0; i < keys->n; i++)
        if (equal(digest, keys->items[i].digest))
            found = &keys->items[i];
    if (found)
        comma_keys_ref(keys);
    return found;
}

void comma_key_unref(struct comma_key *key)
{
    if (key)
        comma_keys_unref(key->set);
}

const char *comma_key_name(const struct comma_key *key)
{
    return key->name;
}

bool comma_key_is_admin(const struct comma_key *key)
{
    return strcmp(key->name, "admin") == 0;
}

bool comma_key_allows(const struct comma_key *key, const char *model)
{
    char name[MAX_NAME + 3];

    if (!key->models)
        return true;
    if ((size_t)snprintf(name, sizeof(name), ",%s,", model) >= sizeof(name))
        return false;
    return strstr(key->models, name) != NULL;
}

bool comma_key_take(struct comma_key *key, int64_t now_ns, unsigned *retry_after_s)
{
    bool ok = true;

    if (key->rate <= 0)
        return true;
    pthread_mutex_lock(&key->set->lock);
    key->tokens = key->filled_ns ? key->tokens + (double)(now_ns - key->filled_ns) * 1e-9 * key->rate : key->burst;
    if (key->tokens > key->burst)
        key->tokens = key->burst;
    key->filled_ns = now_ns;
    if (key->tokens >= 1)
        key->tokens -= 1;
    else
        ok = false;
    if (!ok)
        *retry_after_s = 1 + (unsigned)((1 - key->tokens) / key->rate < 3600 ? (1 - key->tokens) / key->rate : 3600);
    pthread_mutex_unlock(&key->set->lock);
    return ok;
}
