/* SPDX-License-Identifier: MIT */
/* input.c - see input.h. */
#include "server/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES    ((size_t)64 << 10)
#define MAX_LINE_BYTES ((size_t)256 << 20) /* of a list of texts */

/* Bytes read so far, in memory that doubles. */
struct growing {
    unsigned char *data;
    size_t size, capacity;
};

/* Makes room for at least one more byte. */
static bool grow(struct growing *g)
{
    const size_t capacity = g->capacity ? g->capacity * 2 : FIRST_BYTES;
    unsigned char *data = g->size < g->capacity ? g->data : realloc(g->data, capacity);

    if (!data)
        return false;
    if (g->size == g->capacity)
        g->capacity = capacity;
    g->data = data;
    return true;
}

static bool read_all(int fd, size_t max_bytes, struct growing *g, struct comma_error *err)
{
    for (;;) {
        ssize_t n;

        if (!grow(g))
            return comma_fail(err, COMMA_E_NOMEM, "out of memory after %zu bytes", g->size);
        n = read(fd, g->data + g->size, g->capacity - g->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return comma_fail(err, COMMA_E_IO, "%s", strerror(errno));
        if (n == 0)
            return true;
        g->size += (size_t)n;
        if (g->size > max_bytes)
            return comma_fail(err, COMMA_E_LIMIT, "larger than %zu bytes, the most that is read", max_bytes);
    }
}

bool comma_input_read(const char *path, size_t max_bytes, struct comma_bytes *out, struct comma_error *err)
{
    const bool from_stdin = strcmp(path, "-") == 0;
    const int fd = from_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    struct growing g = { 0 };
    bool ok = false;

    if (fd < 0)
        return comma_fail(err, COMMA_E_IO, "%s", strerror(errno));
    ok = read_all(fd, max_bytes, &g, err);
    if (!from_stdin)
        close(fd);
    if (ok)
        *out = (struct comma_bytes){ g.data, g.size };
    else
        free(g.data);
    return ok;
}

static bool is_blank(const char *line, size_t size)
{
    while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\t'))
        size--;
    return size == 0;
}

static bool add_lines(struct comma_text text, struct comma_strings *lines, struct comma_error *err)
{
    if (text.size >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) {
        text.data += 3;
        text.size -= 3;
    }
    for (size_t at = 0; at < text.size;) {
        const char *first = text.data + at;
        const char *end = memchr(first, '\n', text.size - at);
        size_t size = end ? (size_t)(end - first) : text.size - at;

        at += size + 1;
        if (size > 0 && first[size - 1] == '\r')
            size--;
        if (memchr(first, '\0', size))
            return comma_fail(err, COMMA_E_INPUT, "line %zu has a NUL byte; is it a text file?", lines->n + 1);
        if (!is_blank(first, size) && !comma_strings_add(lines, first, size, err))
            return false;
    }
    return true;
}

bool comma_input_lines(const char *path, struct comma_strings *lines, struct comma_error *err)
{
    struct comma_bytes file;
    bool ok = comma_input_read(path, MAX_LINE_BYTES, &file, err);

    if (ok) {
        ok = add_lines((struct comma_text){ (const char *)file.data, file.size }, lines, err);
        free((void *)(uintptr_t)file.data);
    }
    return ok || comma_fail_within(err, "%s", strcmp(path, "-") == 0 ? "standard input" : path);
}
