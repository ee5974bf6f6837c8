/* SPDX-License-Identifier: MIT */
/* log.c - see log.h. The ring is bytes: whole lines, oldest at `tail`; `lock` guards all fields below it. */
#include "server/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"

#define RING_BYTES     ((size_t)1 << 20)
#define MAX_VALUE      256 /* bytes of a string in a line */
#define FLUSH_NS       1000000000
#define WRITE_BYTES    4096 /* POLLOUT on a pipe means that this much fits */
#define POLL_MS        200
#define DETAIL_BYTES   600
#define TIMESTAMP_SIZE 32

struct comma_log {
    int fd;
    enum comma_log_level level;
    pthread_t writer;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    char *ring;
    size_t tail, used;
    uint64_t dropped;
    bool ending;
    int64_t give_up_ns; /* where ending */
};

/* Whether the writer may go on trying: always, until the end gave it a time. */
static bool may_write(struct comma_log *log)
{
    bool may;

    pthread_mutex_lock(&log->lock);
    may = !log->ending || comma_now_ns() < log->give_up_ns;
    pthread_mutex_unlock(&log->lock);
    return may;
}

/* Writes all of data, or gives up at the end of the process or when nobody can read it any more. */
static void write_out(struct comma_log *log, const char *data, size_t size)
{
    while (size > 0) {
        struct pollfd p = { .fd = log->fd, .events = POLLOUT };
        ssize_t n;

        if (!may_write(log))
            return;
        if (poll(&p, 1, POLL_MS) == 0)
            continue;
        n = write(log->fd, data, size < WRITE_BYTES ? size : WRITE_BYTES);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return; /* a closed pipe or a full disk: the line is lost, the server goes on */
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
}

static void *write_lines(void *arg)
{
    struct comma_log *log = arg;
    char piece[WRITE_BYTES];

    pthread_mutex_lock(&log->lock);
    while (log->used > 0 || !log->ending) {
        size_t n = log->used < sizeof(piece) ? log->used : sizeof(piece);

        if (n == 0) {
            pthread_cond_wait(&log->wake, &log->lock);
            continue;
        }
        for (size_t i = 0; i < n; i++)
            piece[i] = log->ring[(log->tail + i) % RING_BYTES];
        log->tail = (log->tail + n) % RING_BYTES;
        log->used -= n;
        pthread_mutex_unlock(&log->lock);
        write_out(log, piece, n);
        pthread_mutex_lock(&log->lock);
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

bool comma_log_create(int fd, enum comma_log_level level, struct comma_log **out, struct comma_error *err)
{
    struct comma_log *log = calloc(1, sizeof(*log));

    if (log)
        log->ring = malloc(RING_BYTES);
    if (!log || !log->ring) {
        free(log);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the log");
    }
    log->fd = fd;
    log->level = level;
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->wake, NULL);
    if (pthread_create(&log->writer, NULL, write_lines, log) != 0) {
        pthread_cond_destroy(&log->wake);
        pthread_mutex_destroy(&log->lock);
        free(log->ring);
        free(log);
        return comma_fail(err, COMMA_E_NOMEM, "no thread can be started for the log");
    }
    *out = log;
    return true;
}

void comma_log_destroy(struct comma_log *log)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    log->ending = true;
    log->give_up_ns = comma_now_ns() + FLUSH_NS;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->writer, NULL);
    pthread_cond_destroy(&log->wake);
    pthread_mutex_destroy(&log->lock);
    free(log->ring);
    free(log);
}

static void put_line(struct comma_log *log, const char *data, size_t size)
{
    pthread_mutex_lock(&log->lock);
    if (size > RING_BYTES - log->used) {
        log->dropped++;
    } else {
        const size_t head = (log->tail + log->used) % RING_BYTES;
        const size_t first = size < RING_BYTES - head ? size : RING_BYTES - head;

        memcpy(log->ring + head, data, first);
        memcpy(log->ring, data + first, size - first);
        log->used += size;
        pthread_cond_signal(&log->wake);
    }
    pthread_mutex_unlock(&log->lock);
}

enum comma_log_level comma_log_level_of(const char *name)
{
    return strcmp(name, "error") == 0   ? COMMA_LOG_ERROR
           : strcmp(name, "warn") == 0  ? COMMA_LOG_WARN
           : strcmp(name, "debug") == 0 ? COMMA_LOG_DEBUG
                                        : COMMA_LOG_INFO;
}

/* RFC 3339, milliseconds, UTC. */
static void write_timestamp(char *out, size_t size)
{
    struct timespec now;
    struct tm tm;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(out, size, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, size - n, ".%03ldZ", now.tv_nsec / 1000000);
}

bool comma_log_begin(struct comma_log *log, enum comma_log_level level, const char *message,
                     struct comma_log_line *line)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    char now[TIMESTAMP_SIZE];

    if (!log || level > log->level)
        return false;
    write_timestamp(now, sizeof(now));
    comma_buffer_init_fixed(&line->buffer, line->bytes, sizeof(line->bytes));
    comma_buffer_puts(&line->buffer, "{\"ts\":");
    comma_json_string(&line->buffer, now);
    comma_buffer_puts(&line->buffer, ",\"level\":");
    comma_json_string(&line->buffer, names[level]);
    comma_log_text(line, "msg", comma_text_of(message));
    return true;
}

static void put_name(struct comma_log_line *line, const char *name)
{
    comma_buffer_puts(&line->buffer, ",");
    comma_json_string(&line->buffer, name);
    comma_buffer_puts(&line->buffer, ":");
}

void comma_log_text(struct comma_log_line *line, const char *name, struct comma_text value)
{
    if (value.size == 0)
        return;
    if (value.size > MAX_VALUE) /* half a character at the cut becomes U+FFFD in the escaper */
        value.size = MAX_VALUE;
    put_name(line, name);
    comma_json_text(&line->buffer, value);
}

void comma_log_size(struct comma_log_line *line, const char *name, size_t value)
{
    put_name(line, name);
    comma_json_size(&line->buffer, value);
}

void comma_log_ms(struct comma_log_line *line, const char *name, double ms)
{
    put_name(line, name);
    comma_json_ms(&line->buffer, ms);
}

void comma_log_end(struct comma_log *log, struct comma_log_line *line)
{
    comma_buffer_puts(&line->buffer, "}\n");
    if (comma_buffer_ok(&line->buffer, NULL)) {
        put_line(log, line->buffer.data, line->buffer.size);
    } else { /* cannot be by the sizes above; if it is, it is seen */
        pthread_mutex_lock(&log->lock);
        log->dropped++;
        pthread_mutex_unlock(&log->lock);
    }
}

void comma_log_event(struct comma_log *log, enum comma_log_level level, const char *message, const char *detail, ...)
{
    struct comma_log_line line;
    char text[DETAIL_BYTES];
    va_list args;

    if (!comma_log_begin(log, level, message, &line))
        return;
    va_start(args, detail);
    vsnprintf(text, sizeof(text), detail, args);
    va_end(args);
    put_name(&line, "detail");
    comma_json_string(&line.buffer, text);
    comma_log_end(log, &line);
}

void comma_log_plain(struct comma_log *log, const char *text)
{
    char line[512];
    const int n = snprintf(line, sizeof(line), "%s\n", text);

    if (n > 0 && (size_t)n < sizeof(line))
        put_line(log, line, (size_t)n);
}

uint64_t comma_log_dropped(struct comma_log *log)
{
    uint64_t n;

    if (!log)
        return 0;
    pthread_mutex_lock(&log->lock);
    n = log->dropped;
    pthread_mutex_unlock(&log->lock);
    return n;
}
