/* SPDX-License-Identifier: MIT */
/* buffer.c - see buffer.h; the JSON pieces are in json_write.c. */
#include "api/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 512 };

void comma_buffer_init(struct comma_buffer *b, size_t max)
{
    *b = (struct comma_buffer){ .max = max, .owned = true };
}

void comma_buffer_init_fixed(struct comma_buffer *b, char *data, size_t size)
{
    *b = (struct comma_buffer){ .data = data, .capacity = size, .max = size };
}

void comma_buffer_finish(struct comma_buffer *b)
{
    if (b->owned)
        free(b->data);
    *b = (struct comma_buffer){ 0 };
}

char *comma_buffer_steal(struct comma_buffer *b, size_t *size)
{
    char *data = b->data;

    *size = b->size;
    b->data = NULL;
    b->size = b->capacity = 0;
    return data;
}

bool comma_buffer_ok(const struct comma_buffer *b, struct comma_error *err)
{
    switch (b->why) {
    case COMMA_OK:
        return true;
    case COMMA_E_NOMEM:
        return comma_fail(err, COMMA_E_NOMEM, "the answer: out of memory");
    case COMMA_E_LIMIT:
        return comma_fail(err, COMMA_E_LIMIT, "the answer is longer than %zu bytes; ask for fewer results", b->max);
    default:
        return comma_fail(err, COMMA_E_INTERNAL, "the answer holds a number that is not finite");
    }
}

/* Makes room for size more bytes, at least doubling, or fails the buffer. */
static bool reserve(struct comma_buffer *b, size_t size)
{
    size_t capacity;
    char *data;

    if (b->why != COMMA_OK)
        return false;
    if (size <= b->capacity - b->size)
        return true;
    if (!b->owned || size > b->max - b->size) {
        b->why = COMMA_E_LIMIT;
        return false;
    }
    capacity = b->capacity < FIRST_CAPACITY ? FIRST_CAPACITY : b->capacity;
    while (capacity - b->size < size && capacity <= b->max / 2)
        capacity *= 2;
    if (capacity - b->size < size || capacity > b->max)
        capacity = b->max;
    data = realloc(b->data, capacity);
    if (!data) {
        b->why = COMMA_E_NOMEM;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void comma_buffer_put(struct comma_buffer *b, const char *data, size_t size)
{
    if (size == 0 || !reserve(b, size))
        return;
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void comma_buffer_puts(struct comma_buffer *b, const char *s)
{
    comma_buffer_put(b, s, strlen(s));
}
