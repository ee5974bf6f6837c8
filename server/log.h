/* SPDX-License-Identifier: MIT */
/* log.h - what the process tells its operator: one JSON object a line on stderr.
 *
 * A line is copied into a bounded ring and written by a thread of its own, so no request ever waits for a pipe that
 * nobody reads; what does not fit is dropped and counted. Every string goes through one escaper and is cut at 256
 * bytes, so a client's bytes can neither forge a line nor flood one. Any thread.
 *
 *     struct comma_log_line line;
 *     if (comma_log_begin(log, COMMA_LOG_INFO, "listening", &line)) {
 *         comma_log_text(&line, "address", comma_text_of(url));
 *         comma_log_end(log, &line);
 *     } */
#ifndef COMMA_SERVER_LOG_H
#define COMMA_SERVER_LOG_H

#include "api/buffer.h"
#include "engine/comma.h"

enum comma_log_level { COMMA_LOG_ERROR, COMMA_LOG_WARN, COMMA_LOG_INFO, COMMA_LOG_DEBUG };

struct comma_log;

struct comma_log_line {
    char bytes[4096]; /* at most PIPE_BUF, so that a line is written whole */
    struct comma_buffer buffer;
};

/* Starts the writer.
 *   fd  where lines go, borrowed */
COMMA_MUST_CHECK
bool comma_log_create(int fd, enum comma_log_level level, struct comma_log **out, struct comma_error *err);

/* Writes what is in the ring, waiting at most a second for a reader, and frees. NULL is fine. */
void comma_log_destroy(struct comma_log *log);

/* "error", "warn", "info" or "debug". */
enum comma_log_level comma_log_level_of(const char *name);

/* Starts a line with time, level and msg; false if lines of this level are not wanted (a NULL log wants none). */
bool comma_log_begin(struct comma_log *log, enum comma_log_level level, const char *message,
                     struct comma_log_line *line);
void comma_log_text(struct comma_log_line *line, const char *name, struct comma_text value); /* nothing if empty */
void comma_log_size(struct comma_log_line *line, const char *name, size_t value);
void comma_log_ms(struct comma_log_line *line, const char *name, double ms);
void comma_log_end(struct comma_log *log, struct comma_log_line *line);

/* A whole line: a message and the sentence of what happened, printf-like. */
void comma_log_event(struct comma_log *log, enum comma_log_level level, const char *message, const char *detail, ...)
    COMMA_PRINTF(4, 5);

/* A line as it stands, not JSON, whatever the level: the one that tells where the server listens. */
void comma_log_plain(struct comma_log *log, const char *text);

uint64_t comma_log_dropped(struct comma_log *log); /* lines that did not fit into the ring */

#endif
