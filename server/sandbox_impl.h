/* SPDX-License-Identifier: MIT */
/* sandbox_impl.h - what the three parts of the sandbox agree on: sandbox.c in the server, sandbox_zygote.c in the
 * zygote and its children, sandbox_jail.c in a child. Nobody else includes it.
 *
 * Server and zygote speak over one control socket: the server sends the number of a slot, the zygote ends that slot's
 * child, starts another and answers with an errno and, if that is 0, the server's end of the new child's own socket.
 * Over that the child first says with a reply whether its jail stands, then answers each request with one reply. All
 * sockets are SOCK_SEQPACKET, one struct a message; the end of a socket is the death of the other side. */
#ifndef COMMA_SERVER_SANDBOX_IMPL_H
#define COMMA_SERVER_SANDBOX_IMPL_H

#include "server/sandbox.h"

/* Address space is not limited where a sanitizer has laid out terabytes of shadow memory in it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COMMA_SANDBOX_LIMITS_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COMMA_SANDBOX_LIMITS_MEMORY 0
#endif
#endif
#ifndef COMMA_SANDBOX_LIMITS_MEMORY
#define COMMA_SANDBOX_LIMITS_MEMORY 1
#endif

/* A child's end of its socket, the only descriptor it has. */
#define COMMA_SANDBOX_FD 3

/* The file's bytes are in the slot's in. */
struct comma_sandbox_request {
    size_t file_bytes, min_side_px, square_px;
    struct comma_image_limits limits;
    bool auto_orient;
};

/* The pixels are in the slot's out. */
struct comma_sandbox_reply {
    bool ok;
    size_t width, height;     /* where ok */
    struct comma_error error; /* where not */
};

/* Memory of one slot, shared by the server and the slot's child: file bytes, then pixels. */
struct comma_sandbox_plan {
    struct comma_sandbox_options options;
    unsigned n_slots;
    unsigned char *memory;      /* [n_slots, in_bytes + out_bytes] */
    size_t in_bytes, out_bytes; /* whole pages */
};

static inline unsigned char *comma_sandbox_in(const struct comma_sandbox_plan *plan, unsigned slot)
{
    return plan->memory + slot * (plan->in_bytes + plan->out_bytes);
}

static inline unsigned char *comma_sandbox_out(const struct comma_sandbox_plan *plan, unsigned slot)
{
    return comma_sandbox_in(plan, slot) + plan->in_bytes;
}

/* The zygote's life, from the fork to the end of the control socket. */
_Noreturn void comma_sandbox_zygote(const struct comma_sandbox_plan *plan, int control);

/* Takes from this process all but computing, memory_bytes more of memory, COMMA_SANDBOX_FD, and ITIMER_PROF. There is
 * no way back. Fails with COMMA_E_UNSUPPORTED. */
COMMA_MUST_CHECK
bool comma_sandbox_jail(size_t memory_bytes, struct comma_error *err);

#endif
