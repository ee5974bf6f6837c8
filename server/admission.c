/* SPDX-License-Identifier: MIT */
/* admission.c - see admission.h. Clients are told apart by a hash into a table of counters: two that fall on one
 * counter share a share, which costs them a retry and nobody else anything. */
#include "server/admission.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/base/clock.h"

enum { N_CLIENTS = 4096, KEPT_SHARE = 8 };

struct comma_admission {
    pthread_mutex_t lock; /* guards all below */
    unsigned max_places, places;
    size_t max_bytes, bytes;
    int64_t busy_ns;    /* when the last request ended, or the first came in, with no idle time since; 0: idle */
    double interval_ns; /* moving average of the time from one end of work to the next while busy */
    bool shut;
    unsigned n_clients; /* counters that are not 0 */
    unsigned held_by[N_CLIENTS];
};

bool comma_admission_create(unsigned max_places, size_t max_bytes, struct comma_admission **out,
                            struct comma_error *err)
{
    struct comma_admission *a = calloc(1, sizeof(*a));

    if (!a)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for the admission of requests");
    pthread_mutex_init(&a->lock, NULL);
    a->max_places = max_places;
    a->max_bytes = max_bytes;
    *out = a;
    return true;
}

void comma_admission_destroy(struct comma_admission *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a);
}

void comma_admission_set_max_bytes(struct comma_admission *a, size_t max_bytes)
{
    pthread_mutex_lock(&a->lock);
    a->max_bytes = max_bytes;
    pthread_mutex_unlock(&a->lock);
}

/* Whether there is a place for this client; the lock is held. */
static enum comma_admission_verdict room(const struct comma_admission *a, unsigned slot)
{
    const unsigned kept = a->held_by[slot] > 0 ? a->max_places / KEPT_SHARE : 0;

    return a->shut ? COMMA_REFUSE_CLOSING : a->places >= a->max_places - kept ? COMMA_REFUSE_QUEUE : COMMA_ADMIT;
}

enum comma_admission_verdict comma_admission_peek(struct comma_admission *a, uint64_t client)
{
    enum comma_admission_verdict verdict;

    pthread_mutex_lock(&a->lock);
    verdict = room(a, (unsigned)(client % N_CLIENTS));
    pthread_mutex_unlock(&a->lock);
    return verdict;
}

enum comma_admission_verdict comma_admission_reserve(struct comma_admission *a, struct comma_admitted *held,
                                                     size_t bytes)
{
    enum comma_admission_verdict verdict = COMMA_ADMIT;
    size_t sum;

    pthread_mutex_lock(&a->lock);
    if (a->shut) {
        verdict = COMMA_REFUSE_CLOSING;
    } else if (!comma_add(a->bytes, bytes, &sum) || sum > a->max_bytes) {
        verdict = COMMA_REFUSE_BYTES;
    } else {
        a->bytes = sum;
        held->bytes += bytes;
    }
    pthread_mutex_unlock(&a->lock);
    return verdict;
}

enum comma_admission_verdict comma_admission_enter(struct comma_admission *a, struct comma_admitted *held,
                                                   uint64_t client, int64_t wait_ns)
{
    const unsigned slot = (unsigned)(client % N_CLIENTS);
    enum comma_admission_verdict verdict;

    pthread_mutex_lock(&a->lock);
    verdict = room(a, slot);
    if (verdict == COMMA_ADMIT && a->places >= (a->max_places + 1) / 2 && a->held_by[slot] > 0 &&
        a->held_by[slot] >= a->max_places / a->n_clients)
        verdict = COMMA_REFUSE_SHARE;
    /* Only clearly hopeless requests are refused: the guess knows nothing of what each will cost. */
    if (verdict == COMMA_ADMIT && wait_ns > 0 && a->places * a->interval_ns > 2.0 * (double)wait_ns)
        verdict = COMMA_REFUSE_WAIT;
    if (verdict == COMMA_ADMIT) {
        if (a->places++ == 0)
            a->busy_ns = comma_now_ns();
        a->n_clients += a->held_by[slot]++ == 0;
        held->place = true;
        held->client = slot;
    }
    pthread_mutex_unlock(&a->lock);
    return verdict;
}

/* Learns how fast work comes to its end; the lock is held. Batches end many at once, which the average evens out. */
static void learn(struct comma_admission *a)
{
    const int64_t now = comma_now_ns();

    a->interval_ns += (a->interval_ns > 0 ? 0.05 : 1.0) * ((double)(now - a->busy_ns) - a->interval_ns);
    a->busy_ns = now;
}

void comma_admission_leave(struct comma_admission *a, struct comma_admitted *held, bool worked)
{
    if (!held->place)
        return;
    pthread_mutex_lock(&a->lock);
    if (worked)
        learn(a);
    a->places--;
    a->n_clients -= --a->held_by[held->client] == 0;
    pthread_mutex_unlock(&a->lock);
    held->place = false;
}

void comma_admission_keep(struct comma_admission *a, struct comma_admitted *held, size_t bytes)
{
    if (held->bytes <= bytes)
        return;
    pthread_mutex_lock(&a->lock);
    a->bytes -= held->bytes - bytes;
    pthread_mutex_unlock(&a->lock);
    held->bytes = bytes;
}

void comma_admission_shut(struct comma_admission *a)
{
    pthread_mutex_lock(&a->lock);
    a->shut = true;
    pthread_mutex_unlock(&a->lock);
}

void comma_admission_usage(struct comma_admission *a, unsigned *places, size_t *bytes, size_t *max_bytes)
{
    pthread_mutex_lock(&a->lock);
    if (places)
        *places = a->places;
    if (bytes)
        *bytes = a->bytes;
    if (max_bytes)
        *max_bytes = a->max_bytes;
    pthread_mutex_unlock(&a->lock);
}
