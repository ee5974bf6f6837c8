/* SPDX-License-Identifier: MIT */
/* watch.h - total deadlines for connections, since libmicrohttpd's time-out is one of inactivity: a client that sends
 * a byte a second lives for ever there.
 *
 * A thread looks at all connections twenty times a second. Who is late while sending is told 408 where that is possible
 * and shut down, which the network's thread then notices; so is who closed in the middle of a request. Who waits for work
 * that is late is answered by the owner's `late`. Any thread; one lock, under which also the descriptor is known to be
 * open. */
#ifndef COMMA_SERVER_WATCH_H
#define COMMA_SERVER_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct comma_watch;

enum comma_phase {
    COMMA_PHASE_IDLE,   /* between two requests */
    COMMA_PHASE_HEAD,   /* header fields are coming */
    COMMA_PHASE_BODY,   /* the body is coming */
    COMMA_PHASE_WORK,   /* set aside; claim_late is asked again and again */
    COMMA_PHASE_ANSWER, /* the answer is going out */
    COMMA_PHASE_DEAD    /* shut down; nothing more may be done with it */
};

/* A connection; the caller's memory, from comma_watch_add() to comma_watch_remove(). */
struct comma_watched {
    int fd;
    bool silent; /* no 408 can be written by hand: TLS */
    enum comma_phase phase;
    int64_t deadline_ns, since_ns;
    uint64_t received; /* of the body */
    uint64_t tcp_received;
    unsigned ended_looks; /* scans that found the client's side closed and all of it read */
    void *call; /* what `late` is called with */
    struct comma_watched *previous, *next;
};

struct comma_watch_options {
    int64_t head_ns, body_ns, idle_ns;              /* time each phase may take in all; body_ns for the answer too */
    uint64_t min_rate;                              /* bytes a second of a body after its first five seconds; 0: any */
    bool (*claim_late)(void *call, int64_t now_ns); /* asked under the lock; true: `late` is to be called */
    void (*late)(void *call);                       /* without the lock */
    void (*killed)(void *user);                     /* a connection was shut down for being slow */
    void *user;
};

COMMA_MUST_CHECK
bool comma_watch_create(const struct comma_watch_options *options, struct comma_watch **out, struct comma_error *err);
void comma_watch_destroy(struct comma_watch *watch); /* NULL is fine */

void comma_watch_add(struct comma_watch *watch, struct comma_watched *w, int fd); /* in the phase HEAD */
void comma_watch_remove(struct comma_watch *watch, struct comma_watched *w);

/* Enters a phase; call is for WORK. False if it was shut down meanwhile. */
bool comma_watch_enter(struct comma_watch *watch, struct comma_watched *w, enum comma_phase phase, void *call);

/* size more bytes of the body came; false if it was shut down meanwhile. */
bool comma_watch_received(struct comma_watch *watch, struct comma_watched *w, size_t size);

/* Shuts down those between two requests: the process is about to end. */
void comma_watch_close_idle(struct comma_watch *watch);

#endif
