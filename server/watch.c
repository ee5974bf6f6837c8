/* SPDX-License-Identifier: MIT */
/* watch.c - see watch.h. A scan of a thousand connections takes less than a millisecond, so there is no heap of
 * deadlines.
 *
 * The library tells nothing of bytes that came before a request line is whole. So for an idle connection the kernel is
 * asked how many bytes it has received: once there are more than at the last request's end, a head has begun. */
#include "server/watch.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "api/problem.h"
#include "engine/base/clock.h"
#include "server/ids.h"

enum { PERIOD_MS = 50, MAX_LATE = 64, RATE_GRACE_S = 5, ENDED_LOOKS = 4 };
enum { CLOSED = 7, CLOSE_WAIT = 8 }; /* of tcp_info: <netinet/tcp.h> has names for them, and clashes with linux/tcp.h */

struct comma_watch {
    struct comma_watch_options options;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below, and each connection's fields */
    pthread_cond_t wake;
    bool ending;
    struct comma_watched *first;
};

/* Bytes that the kernel has received. *ended, where wanted: the client has closed its side and all it sent is read, so
 * that nothing can come any more. */
static uint64_t tcp_received(int fd, bool *ended)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof(info);
    int unread = 0;

    if (ended)
        *ended = false;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    if (ended && (info.tcpi_state == CLOSED || info.tcpi_state == CLOSE_WAIT))
        *ended = ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
    return info.tcpi_bytes_received;
}

/* Says 408 by hand: the library has begun no answer in these phases, and cannot be asked for one from here. What does
 * not fit into the socket's buffer at once is not worth waiting for. */
static void write_timeout(int fd, const char *what)
{
    struct comma_problem problem;
    char body[COMMA_PROBLEM_BYTES], head[512], id[COMMA_REQUEST_ID_BYTES];
    size_t size;
    int n;

    comma_request_id((struct comma_text){ NULL, 0 }, id);
    comma_problem_set(&problem, COMMA_PROBLEM_TIMEOUT, NULL, "%s", what);
    size = comma_problem_write(&problem, id, body);
    n = snprintf(head, sizeof(head),
                 "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                 "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\n\r\n",
                 COMMA_PROBLEM_CONTENT_TYPE, size, id);
    if (n > 0 && send(fd, head, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE) == n &&
        send(fd, body, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* it is shut down next in any case */
}

static void shut(struct comma_watched *w)
{
    shutdown(w->fd, SHUT_RDWR);
    w->phase = COMMA_PHASE_DEAD;
}

static void kill_connection(struct comma_watch *watch, struct comma_watched *w, const char *what)
{
    if (what && !w->silent)
        write_timeout(w->fd, what);
    shut(w);
    watch->options.killed(watch->options.user);
}

/* The library, whose epoll is edge-triggered, misses an end that came along with the last bytes, and would keep half a
 * request until its deadline. It may just now be at work on those bytes, so they get some looks' time. */
static bool has_left(struct comma_watched *w, bool ended)
{
    w->ended_looks = ended ? w->ended_looks + 1 : 0;
    return w->ended_looks >= ENDED_LOOKS;
}

static bool too_slow(const struct comma_watch *watch, const struct comma_watched *w, int64_t now)
{
    const double seconds = (double)(now - w->since_ns) * 1e-9;

    return watch->options.min_rate > 0 && seconds > RATE_GRACE_S &&
           (double)w->received < seconds * (double)watch->options.min_rate;
}

/* Looks at one; true if `late` is to be called for it. */
static bool look_at(struct comma_watch *watch, struct comma_watched *w, int64_t now)
{
    const bool late = now >= w->deadline_ns;
    const bool reading = w->phase == COMMA_PHASE_IDLE || w->phase == COMMA_PHASE_HEAD || w->phase == COMMA_PHASE_BODY;
    bool ended = false;
    const uint64_t received = reading ? tcp_received(w->fd, &ended) : 0;

    if (reading && has_left(w, ended)) {
        shut(w);
        return false;
    }
    switch (w->phase) {
    case COMMA_PHASE_IDLE:
        if (received != w->tcp_received) {
            w->phase = COMMA_PHASE_HEAD;
            w->deadline_ns = now + watch->options.head_ns;
        } else if (late) {
            kill_connection(watch, w, NULL);
        }
        break;
    case COMMA_PHASE_HEAD:
        if (late) /* one that sent nothing at all asked for nothing */
            kill_connection(watch, w, received ? "the header fields took too long" : NULL);
        break;
    case COMMA_PHASE_BODY:
        if (late || too_slow(watch, w, now))
            kill_connection(watch, w, "the body took too long");
        break;
    case COMMA_PHASE_WORK:
        return watch->options.claim_late(w->call, now);
    case COMMA_PHASE_ANSWER:
        if (late)
            kill_connection(watch, w, NULL);
        break;
    case COMMA_PHASE_DEAD:
        break;
    }
    return false;
}

static void *look(void *arg)
{
    struct comma_watch *watch = arg;
    void *late[MAX_LATE];

    pthread_mutex_lock(&watch->lock);
    while (!watch->ending) {
        const int64_t now = comma_now_ns(), next = now + PERIOD_MS * 1000000;
        const struct timespec until = { .tv_sec = next / 1000000000, .tv_nsec = next % 1000000000 };
        size_t n_late = 0;

        for (struct comma_watched *w = watch->first; w && n_late < MAX_LATE; w = w->next)
            if (look_at(watch, w, now))
                late[n_late++] = w->call;
        pthread_mutex_unlock(&watch->lock);
        for (size_t i = 0; i < n_late; i++)
            watch->options.late(late[i]);
        pthread_mutex_lock(&watch->lock);
        if (n_late < MAX_LATE && !watch->ending)
            pthread_cond_timedwait(&watch->wake, &watch->lock, &until);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

bool comma_watch_create(const struct comma_watch_options *options, struct comma_watch **out, struct comma_error *err)
{
    struct comma_watch *watch = calloc(1, sizeof(*watch));
    pthread_condattr_t attributes;

    if (!watch)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the deadlines of connections");
    watch->options = *options;
    pthread_mutex_init(&watch->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&watch->thread, NULL, look, watch) != 0) {
        pthread_cond_destroy(&watch->wake);
        pthread_mutex_destroy(&watch->lock);
        free(watch);
        return comma_fail(err, COMMA_E_NOMEM, "no thread can be started for the deadlines of connections");
    }
    *out = watch;
    return true;
}

void comma_watch_destroy(struct comma_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->ending = true;
    pthread_cond_signal(&watch->wake);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

void comma_watch_add(struct comma_watch *watch, struct comma_watched *w, int fd)
{
    const int64_t now = comma_now_ns();

    w->fd = fd;
    w->phase = COMMA_PHASE_HEAD;
    w->ended_looks = 0;
    w->since_ns = now;
    w->deadline_ns = now + watch->options.head_ns;
    pthread_mutex_lock(&watch->lock);
    w->previous = NULL;
    w->next = watch->first;
    if (w->next)
        w->next->previous = w;
    watch->first = w;
    pthread_mutex_unlock(&watch->lock);
}

void comma_watch_remove(struct comma_watch *watch, struct comma_watched *w)
{
    pthread_mutex_lock(&watch->lock);
    if (w->previous)
        w->previous->next = w->next;
    else
        watch->first = w->next;
    if (w->next)
        w->next->previous = w->previous;
    pthread_mutex_unlock(&watch->lock);
}

bool comma_watch_enter(struct comma_watch *watch, struct comma_watched *w, enum comma_phase phase, void *call)
{
    const struct comma_watch_options *o = &watch->options;
    const int64_t now = comma_now_ns();
    bool alive;

    pthread_mutex_lock(&watch->lock);
    alive = w->phase != COMMA_PHASE_DEAD;
    /* A head that has begun goes on under the deadline that it had when its first byte came. */
    if (alive && !(phase == COMMA_PHASE_HEAD && w->phase == COMMA_PHASE_HEAD)) {
        w->phase = phase;
        w->since_ns = now;
        w->received = 0;
        w->ended_looks = 0;
        w->call = call;
        w->deadline_ns = phase == COMMA_PHASE_IDLE   ? now + o->idle_ns
                         : phase == COMMA_PHASE_HEAD ? now + o->head_ns
                                                     : now + o->body_ns;
        if (phase == COMMA_PHASE_IDLE)
            w->tcp_received = tcp_received(w->fd, NULL);
    }
    pthread_mutex_unlock(&watch->lock);
    return alive;
}

bool comma_watch_received(struct comma_watch *watch, struct comma_watched *w, size_t size)
{
    bool alive;

    pthread_mutex_lock(&watch->lock);
    alive = w->phase != COMMA_PHASE_DEAD;
    w->received += size;
    pthread_mutex_unlock(&watch->lock);
    return alive;
}

void comma_watch_close_idle(struct comma_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    for (struct comma_watched *w = watch->first; w; w = w->next)
        if (w->phase == COMMA_PHASE_IDLE && tcp_received(w->fd, NULL) == w->tcp_received)
            shut(w);
    pthread_mutex_unlock(&watch->lock);
}
