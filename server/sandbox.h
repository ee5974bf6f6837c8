/* SPDX-License-Identifier: MIT */
/* sandbox.h - image decoding in confined child processes, so that a file which breaks a decoder costs one request.
 *
 * A child can compute, take memory up to a limit and talk to its one socket; files, network, other processes and new
 * descriptors are out of its reach (seccomp, resource limits, no_new_privs; no privileges are needed to set them up).
 * Picture bytes go in and pixels come out through shared memory; only the square that is wanted, for a large photo has
 * 36 MB of them. A child that crashes, calls what it may not, or takes
 * too long is killed and replaced, and its caller gets COMMA_E_INPUT.
 *
 * Who forks: a small process of its own, the zygote, which comma_sandbox_open() makes while the server is still small
 * and has one thread. So call it first thing, before the model is mapped and before any thread is started:
 *
 *     struct comma_sandbox_options options = comma_sandbox_default_options();
 *     struct comma_sandbox *sandbox;
 *
 *     options.limits = engine_options.image;
 *     if (!comma_sandbox_open(&options, &sandbox, &err))
 *         ... COMMA_E_UNSUPPORTED: this kernel cannot confine a process
 *     engine_options.decode = comma_sandbox_decode;
 *     engine_options.decode_user = sandbox;
 *     ... comma_engine_open, serve, comma_engine_close ...
 *     comma_sandbox_close(sandbox);
 *
 * All but open and close may be called from any thread. Source: RELIABILITY 2.4 and 2.5. */
#ifndef COMMA_SERVER_SANDBOX_H
#define COMMA_SERVER_SANDBOX_H

#include "engine/comma.h"

struct comma_sandbox;

struct comma_sandbox_options {
    unsigned n_children;              /* pictures decoded at one time; 0 (default): one for each core */
    unsigned images_per_child;        /* after so many a child is replaced by a fresh one; 256 by default */
    unsigned max_cpu_ms, max_wall_ms; /* for one picture; 2,000 and 10,000 by default */
    size_t max_file_bytes;            /* of a picture; 16 MiB by default */
    struct comma_image_limits limits; /* the highest that decode calls will bring */
    comma_decode_fn decode;           /* what runs in the child; NULL: comma_image_decode_square(). Tests put theirs */
    void *decode_user;
};

struct comma_sandbox_stats {
    uint64_t images; /* asked for */
    uint64_t deaths; /* children that crashed, did what they may not, or were killed for taking too long */
    uint64_t recycled;
    unsigned n_children;
};

struct comma_sandbox_options comma_sandbox_default_options(void);

/* Starts the zygote and its children and waits until each is confined. Fails with COMMA_E_UNSUPPORTED where the kernel
 * refuses a filter, COMMA_E_NOMEM, or COMMA_E_IO where it refuses processes or sockets. */
COMMA_MUST_CHECK
bool comma_sandbox_open(const struct comma_sandbox_options *options, struct comma_sandbox **out,
                        struct comma_error *err);

/* Ends all children and frees the sandbox; no decode may be under way. NULL is fine. */
void comma_sandbox_close(struct comma_sandbox *sandbox);

/* A comma_decode_fn; sandbox is the user pointer. Waits for a free child. Fails as the decoder does, with COMMA_E_LIMIT
 * for a file of more than max_file_bytes, with COMMA_E_INPUT where the child did not survive it, and with
 * COMMA_E_INTERNAL where no child could be started any more. */
COMMA_MUST_CHECK
bool comma_sandbox_decode(void *sandbox, struct comma_bytes file, const struct comma_image_limits *limits,
                          bool auto_orient, size_t min_side_px, size_t square_px, struct comma_image *out,
                          struct comma_error *err);

void comma_sandbox_get_stats(struct comma_sandbox *sandbox, struct comma_sandbox_stats *out);

#endif
