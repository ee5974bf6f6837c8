/* SPDX-License-Identifier: MIT */
/* sandbox_zygote.c - the small process that forks decoder children, and what a child does.
 *
 * The zygote has one thread and nothing mapped but the program and the slots' memory, so a fork is quick and leaves no
 * lock held. It alone waits for its children, so that a process id it kills is always that child's. It lives until the
 * server closes the control socket or dies, and takes its children with it. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/checked.h"
#include "server/sandbox_impl.h"

#define KEPT_HEAP_BYTES (32 << 20) /* the largest that glibc takes as a threshold */
#define SLACK_BYTES     ((size_t)64 << 20)

struct zygote {
    const struct comma_sandbox_plan *plan;
    int control;
    pid_t *children; /* [n_slots], 0: none */
};

/* ---- a child ---- */

static void close_from(unsigned first)
{
    const long open_max = sysconf(_SC_OPEN_MAX);

#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
#endif
    for (unsigned fd = first; fd < (open_max > 0 && open_max < 65536 ? (unsigned)open_max : 65536); fd++)
        close((int)fd);
}

/* The child's end becomes COMMA_SANDBOX_FD, and no other stays open. */
static bool keep_only(int fd)
{
    if (fd != COMMA_SANDBOX_FD && dup2(fd, COMMA_SANDBOX_FD) < 0)
        return false;
    for (int below = 0; below < COMMA_SANDBOX_FD; below++)
        close(below);
    close_from(COMMA_SANDBOX_FD + 1);
    return true;
}

/* A child must not see other children's pictures. */
static bool unmap_others(const struct comma_sandbox_plan *plan, unsigned slot)
{
    const size_t bytes = plan->in_bytes + plan->out_bytes;

    return (slot == 0 || munmap(plan->memory, slot * bytes) == 0) &&
           (slot + 1 == plan->n_slots ||
            munmap(plan->memory + (slot + 1) * bytes, (plan->n_slots - slot - 1) * bytes) == 0);
}

/* Lets SIGPROF end this process after so much processor time; 0: never. */
static void set_timer(unsigned ms)
{
    const struct itimerval t = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

    setitimer(ITIMER_PROF, &t, NULL);
}

static bool decode(const struct comma_sandbox_plan *plan, struct comma_bytes file,
                   const struct comma_sandbox_request *r, struct comma_image *out, struct comma_error *err)
{
    const struct comma_sandbox_options *o = &plan->options;

    if (o->decode)
        return o->decode(o->decode_user, file, &r->limits, r->auto_orient, r->min_side_px, r->square_px, out, err);
    return comma_image_decode_square(file, &r->limits, r->auto_orient, r->min_side_px, r->square_px, out, err);
}

static void answer(const struct comma_sandbox_plan *plan, unsigned slot, const struct comma_sandbox_request *request,
                   struct comma_sandbox_reply *reply)
{
    const struct comma_bytes file = { comma_sandbox_in(plan, slot), request->file_bytes };
    struct comma_image image = { 0 };
    size_t bytes;

    memset(reply, 0, sizeof(*reply));
    reply->ok = decode(plan, file, request, &image, &reply->error);
    if (reply->ok &&
        (!comma_mul(image.width, image.height, &bytes) || !comma_mul(bytes, 3, &bytes) || bytes > plan->out_bytes))
        reply->ok = comma_fail(&reply->error, COMMA_E_LIMIT, "the image has more pixels than the decoder may return");
    if (reply->ok) {
        reply->width = image.width;
        reply->height = image.height;
        memcpy(comma_sandbox_out(plan, slot), image.pixels, bytes);
    }
    comma_image_finish(&image);
}

static _Noreturn void child_main(const struct comma_sandbox_plan *plan, unsigned slot, int fd)
{
    struct comma_sandbox_request request;
    struct comma_sandbox_reply reply = { 0 };

    if (!keep_only(fd) || !unmap_others(plan, slot))
        _exit(1);
    reply.ok = comma_sandbox_jail(plan->options.limits.max_decode_bytes + SLACK_BYTES, &reply.error);
    while (write(COMMA_SANDBOX_FD, &reply, sizeof(reply)) == (ssize_t)sizeof(reply) &&
           read(COMMA_SANDBOX_FD, &request, sizeof(request)) == (ssize_t)sizeof(request)) {
        set_timer(plan->options.max_cpu_ms);
        answer(plan, slot, &request, &reply);
        set_timer(0);
    }
    _exit(0);
}

/* ---- the zygote ---- */

static void ignore_signal(int signal)
{
    (void)signal;
}

/* A terminal's Ctrl-C and a supervisor's SIGTERM reach the whole group; the server decides when decoding ends. */
static void set_signals(bool zygote)
{
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };
    struct sigaction action = { .sa_handler = SIG_IGN };
    sigset_t mask;

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        sigaction(ignored[i], &action, NULL);
    action.sa_handler = SIG_DFL;
    sigaction(SIGPROF, &action, NULL);
    action.sa_handler = zygote ? ignore_signal : SIG_DFL;
    sigaction(SIGCHLD, &action, NULL);
    sigemptyset(&mask);
    if (zygote)
        sigaddset(&mask, SIGCHLD); /* comes in while ppoll() waits */
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

static void reap(struct zygote *z)
{
    pid_t dead;

    while ((dead = waitpid(-1, NULL, WNOHANG)) > 0)
        for (unsigned i = 0; i < z->plan->n_slots; i++)
            if (z->children[i] == dead)
                z->children[i] = 0;
}

static void end_child(struct zygote *z, unsigned slot)
{
    if (z->children[slot] == 0)
        return;
    kill(z->children[slot], SIGKILL);
    while (waitpid(z->children[slot], NULL, 0) < 0 && errno == EINTR)
        ;
    z->children[slot] = 0;
}

/* Returns 0 and the server's end of the child's socket, or an errno. */
static int start_child(struct zygote *z, unsigned slot, int *server_end)
{
    int ends[2], failed;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return errno;
    pid = fork();
    if (pid == 0) {
        set_signals(false);
        child_main(z->plan, slot, ends[1]);
    }
    failed = pid < 0 ? errno : 0;
    close(ends[1]);
    if (failed != 0) {
        close(ends[0]);
        return failed;
    }
    z->children[slot] = pid;
    *server_end = ends[0];
    return 0;
}

/* Sends an errno, and the descriptor along with it where that is 0. */
static bool send_child(int control, int result, int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } attached = { 0 };
    struct iovec data = { &result, sizeof(result) };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

    if (result == 0) {
        message.msg_control = attached.room;
        message.msg_controllen = sizeof(attached.room);
        attached.head.cmsg_level = SOL_SOCKET;
        attached.head.cmsg_type = SCM_RIGHTS;
        attached.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&attached.head), &fd, sizeof(fd));
    }
    return sendmsg(control, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(result);
}

/* Waits for the server's next word. False once it is gone. */
static bool next_slot(struct zygote *z, unsigned *slot)
{
    struct pollfd wait = { z->control, POLLIN, 0 };
    sigset_t none;
    ssize_t n;

    sigemptyset(&none);
    for (;;) {
        reap(z);
        if (ppoll(&wait, 1, NULL, &none) < 0) {
            if (errno == EINTR)
                continue;
            return false;
        }
        n = recv(z->control, slot, sizeof(*slot), 0);
        return n == (ssize_t)sizeof(*slot) && *slot < z->plan->n_slots;
    }
}

/* Decodes a picture of one pixel and makes four of it, so that what libraries and kernels set up at the first call
 * (which may read files, or wake threads) is there before the fork. */
static void warm_up(const struct comma_sandbox_plan *plan)
{
    static const unsigned char tables[] = {
        0xFF, 0xC0, 0, 11,   8,    0, 1,    0,    1, 1, 1, 0x11, 0, /* 1 x 1, gray */
        0xFF, 0xC4, 0, 20,   0,    1, 0,    0,    0, 0, 0, 0,    0, 0, 0,  0, 0,    0,    0,
        0,    0,    0, 0xFF, 0xC4, 0, 20,   0x10, 1, 0, 0, 0,    0, 0, 0,  0, 0,    0,    0,
        0,    0,    0, 0,    0,    0, 0xFF, 0xDA, 0, 8, 1, 1,    0, 0, 63, 0, 0x3F, 0xFF, 0xD9
    };
    unsigned char jpeg[7 + 64 + sizeof(tables)] = { 0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0 };
    struct comma_image image = { 0 };
    struct comma_error err;

    memset(jpeg + 7, 1, 64);
    memcpy(jpeg + 7 + 64, tables, sizeof(tables));
    if (comma_image_decode_square((struct comma_bytes){ jpeg, sizeof(jpeg) }, &plan->options.limits, false, 0, 2,
                                  &image, &err))
        comma_image_finish(&image);
}

void comma_sandbox_zygote(const struct comma_sandbox_plan *plan, int control)
{
    struct zygote z = { plan, control, calloc(plan->n_slots, sizeof(pid_t)) };
    unsigned slot;

    prctl(PR_SET_NAME, "comma-decoders");
    set_signals(true);
    if (!z.children || !keep_only(control))
        _exit(1);
    z.control = COMMA_SANDBOX_FD;
#ifdef __GLIBC__
    /* Pixels of the next picture take the memory of the last one, instead of fresh pages from the kernel. */
    mallopt(M_MMAP_THRESHOLD, KEPT_HEAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_HEAP_BYTES);
#endif
    warm_up(plan);
    while (next_slot(&z, &slot)) {
        int fd = -1, result;

        end_child(&z, slot);
        result = start_child(&z, slot, &fd);
        if (!send_child(z.control, result, fd))
            break;
        if (fd >= 0)
            close(fd);
    }
    for (slot = 0; slot < plan->n_slots; slot++)
        end_child(&z, slot);
    _exit(0);
}
