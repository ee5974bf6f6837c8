/* SPDX-License-Identifier: MIT */
/* config.h - the settings of comma serve, and the one table that says how each is given. */
#ifndef COMMA_SERVER_CONFIG_H
#define COMMA_SERVER_CONFIG_H

#include "server/options.h"

struct comma_serve_config {
    /* what is served */
    const char *model;             /* NULL: the embedded default */
    struct comma_strings adapters; /* NAME=DIR */
    const char *adapters_dir;      /* NULL, or: each folder in it is an adapter */
    unsigned threads;              /* 0: the cores this process may use */
    const char *backend;           /* NULL: the engine's choice */
    const char *precision;
    size_t label_cache_mb;
    bool fast_decode, no_auto_orient;
    const char *decoder_sandbox; /* auto, on, off */

    /* where */
    const char *host;
    unsigned port; /* 0: any free one */
    const char *admin_host;
    const char *admin_port; /* "off", or a number */
    bool reuse_port, insecure;
    const char *tls_cert, *tls_key, *api_keys_file;

    /* limits */
    size_t max_body_mb, max_labels, max_megapixels, max_memory_mb;
    unsigned max_queue, max_connections, max_connections_per_address;
    double header_timeout, body_timeout, request_timeout, keep_alive_timeout, watchdog_timeout; /* seconds */
    size_t min_upload_rate;                                                                     /* bytes a second */

    /* life */
    double drain_delay, drain_timeout; /* seconds */
    const char *log_level;
    bool no_access_log;
};

extern const struct comma_option_table comma_serve_options;

/* What the table cannot say: options that need each other. Fails with COMMA_E_INPUT. */
COMMA_MUST_CHECK
bool comma_serve_config_check(const struct comma_serve_config *config, struct comma_error *err);

/* The port of the admin listener; false if it is off. */
bool comma_serve_admin_port(const struct comma_serve_config *config, unsigned *port);

/* Whether an address is this machine's own: "localhost", 127.0.0.0/8 or ::1. */
bool comma_host_is_loopback(const char *host);

#endif
