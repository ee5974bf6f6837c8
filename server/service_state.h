/* SPDX-License-Identifier: MIT */
/* service_state.h - what service.c, service_work.c and service_pages.c share: the inside of struct comma_service. */
#ifndef COMMA_SERVER_SERVICE_STATE_H
#define COMMA_SERVER_SERVICE_STATE_H

#include <pthread.h>

#include "server/service.h"

enum { COMMA_N_PARSERS = 2 };

struct comma_service {
    struct comma_service_options options;
    _Atomic(struct comma_engine *) engine; /* set once; acquire and release, so that who sees it may use it and info */
    struct comma_engine_info info;
    atomic_int state;
    atomic_uint in_flight;  /* on the main listener */
    atomic_int connections; /* on both; only for a gauge */
    atomic_bool aborting;

    pthread_mutex_t keys_lock; /* guards keys, the pointer */
    struct comma_keys *keys;

    pthread_mutex_t lock; /* guards the queue of bodies to be parsed */
    pthread_cond_t wake;
    struct comma_exchange *first, **last;
    bool ending;
    pthread_t parsers[COMMA_N_PARSERS];
    unsigned n_parsers;
};

/* service_work.c: what a parser's thread runs. */
void *comma_service_parser(void *service);

/* service_pages.c: answers what needs no body. */
void comma_service_get(struct comma_exchange *ex);

#endif
