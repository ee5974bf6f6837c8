/* SPDX-License-Identifier: MIT */
/* admission.h - who may come in: requests in work and their bytes, both bounded, and a fair share for each client.
 *
 * Bytes are reserved when a request's head is read, a place in the queue when its body is complete, so that a slow
 * upload holds no place. Refusal is at once: waiting to be let in is what a queue behind a load balancer must not do.
 * While at least half of the places are taken, no client may hold more than its equal share of all of them, and an
 * eighth is kept for clients that hold none: one that floods does not shut out the others. A request whose deadline
 * would pass while it waits is refused too. Any thread; one lock, held for a few instructions. */
#ifndef COMMA_SERVER_ADMISSION_H
#define COMMA_SERVER_ADMISSION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct comma_admission;

enum comma_admission_verdict {
    COMMA_ADMIT,
    COMMA_REFUSE_QUEUE,  /* all places are taken */
    COMMA_REFUSE_SHARE,  /* this client holds its share already */
    COMMA_REFUSE_BYTES,  /* memory for requests is taken */
    COMMA_REFUSE_WAIT,   /* the deadline would pass while it waits */
    COMMA_REFUSE_CLOSING /* comma_admission_shut() was called */
};

/* What one request holds; zeroed before the first use, and its owner's alone. */
struct comma_admitted {
    size_t bytes;
    unsigned client; /* where place */
    bool place;
};

COMMA_MUST_CHECK
bool comma_admission_create(unsigned max_places, size_t max_bytes, struct comma_admission **out,
                            struct comma_error *err);
void comma_admission_destroy(struct comma_admission *a); /* NULL is fine */

/* Changes the bytes that requests may hold, once it is known what the model takes. */
void comma_admission_set_max_bytes(struct comma_admission *a, size_t max_bytes);

/* Whether a place is free for this client now, without taking it. client: as for comma_admission_enter(). */
enum comma_admission_verdict comma_admission_peek(struct comma_admission *a, uint64_t client);

/* Reserves bytes on top of what it holds. */
COMMA_MUST_CHECK
enum comma_admission_verdict comma_admission_reserve(struct comma_admission *a, struct comma_admitted *held,
                                                     size_t bytes);

/* Takes a place.
 *   client   a hash of who asks: the key's name or the address
 *   wait_ns  time until its deadline; 0: it has none */
COMMA_MUST_CHECK
enum comma_admission_verdict comma_admission_enter(struct comma_admission *a, struct comma_admitted *held,
                                                   uint64_t client, int64_t wait_ns);

/* Gives the place back, if it has one.
 *   worked  it was computed, so that its end counts for the guess of waiting times */
void comma_admission_leave(struct comma_admission *a, struct comma_admitted *held, bool worked);

/* Gives bytes back until it holds at most so many. */
void comma_admission_keep(struct comma_admission *a, struct comma_admitted *held, size_t bytes);

/* Refuses everything from now on. */
void comma_admission_shut(struct comma_admission *a);

/* What is held at this moment; each may be NULL. */
void comma_admission_usage(struct comma_admission *a, unsigned *places, size_t *bytes, size_t *max_bytes);

#endif
