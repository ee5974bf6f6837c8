/* SPDX-License-Identifier: MIT */
/* buffer.h - bytes that are written one after another, with a maximum from birth, and JSON into them.
 *
 * Writing never fails halfway in silence: once a byte did not fit, the buffer is failed, takes no more, and says so in
 * comma_buffer_ok(). So writers write on and the last line checks. One thread at a time. */
#ifndef COMMA_API_BUFFER_H
#define COMMA_API_BUFFER_H

#include "engine/comma.h"

struct comma_buffer {
    char *data; /* size bytes, not NUL-terminated */
    size_t size, capacity, max;
    bool owned;          /* data is malloc's, and grows */
    enum comma_code why; /* COMMA_OK, or COMMA_E_NOMEM, _LIMIT (max), _INTERNAL (a number that is not finite) */
};

/* An empty buffer that grows up to max bytes; allocates nothing yet. */
void comma_buffer_init(struct comma_buffer *b, size_t max);

/* A buffer over the caller's memory, for answers that must work when memory is what ran out. */
void comma_buffer_init_fixed(struct comma_buffer *b, char *data, size_t size);
void comma_buffer_finish(struct comma_buffer *b); /* a zeroed one is fine */

/* Gives data to the caller, who free()s it; the buffer is empty then. NULL if nothing was written. */
char *comma_buffer_steal(struct comma_buffer *b, size_t *size);

/* True if all that was written is there; else fails with the code and words of what went wrong. */
COMMA_MUST_CHECK
bool comma_buffer_ok(const struct comma_buffer *b, struct comma_error *err);

/* size more bytes as they are. */
void comma_buffer_put(struct comma_buffer *b, const char *data, size_t size);
void comma_buffer_puts(struct comma_buffer *b, const char *s);

/* ---- JSON pieces ---- */

/* text with quotes and escapes, UTF-8 kept; bytes that are not UTF-8 (a path's) become U+FFFD. */
void comma_json_text(struct comma_buffer *b, struct comma_text text);
void comma_json_string(struct comma_buffer *b, const char *s);

/* An f32 in so many digits that reading gives the same f32, at most 9. Not finite: the buffer fails. */
void comma_json_float(struct comma_buffer *b, float value);
void comma_json_size(struct comma_buffer *b, size_t value);
void comma_json_int(struct comma_buffer *b, int64_t value);

/* Milliseconds with three decimals. Not finite: the buffer fails. */
void comma_json_ms(struct comma_buffer *b, double ms);

/* size bytes as a string of base64 (RFC 4648 section 4, padded). */
void comma_json_base64(struct comma_buffer *b, struct comma_bytes bytes);

#endif
