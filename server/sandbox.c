/* SPDX-License-Identifier: MIT */
/* sandbox.c - the server's side of the decoder sandbox: slots, each with its shared memory and its child.
 *
 * A caller takes a free slot, puts the file into its memory, tells the child and waits for the answer. What comes back
 * is a stranger's word: sizes are checked before they reach memory, and pixels are copied out. A slot belongs to one
 * caller at a time; `lock` guards the list of free slots and the counters, `control_lock` the talk with the zygote, and
 * neither is held while the other is taken. */
#include "server/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/checked.h"
#include "engine/base/clock.h"
#include "engine/base/cpu.h"
#include "server/sandbox_impl.h"

#define MAX_CHILDREN 256
#define KEPT_BYTES   ((size_t)8 << 20) /* of a slot's memory, once a picture has used more */

struct slot {
    unsigned index;
    int fd; /* our end of the child's socket; -1: there is no child */
    unsigned n_images;
    struct slot *next_free;
};

struct comma_sandbox {
    struct comma_sandbox_plan plan;
    size_t memory_bytes;
    pid_t zygote;
    int control;
    pthread_mutex_t lock, control_lock;
    pthread_cond_t freed;
    struct slot *slots; /* [plan.n_slots] */
    struct slot *free;
    struct comma_sandbox_stats stats;
};

struct comma_sandbox_options comma_sandbox_default_options(void)
{
    return (struct comma_sandbox_options){ .images_per_child = 256,
                                           .max_cpu_ms = 2000,
                                           .max_wall_ms = 10000,
                                           .max_file_bytes = (size_t)16 << 20,
                                           .limits = comma_image_default_limits() };
}

/* ---- children ---- */

/* Reads one message of exactly that size, within ms. */
static bool receive(int fd, void *out, size_t size, unsigned ms)
{
    const int64_t deadline = comma_now_ns() + (int64_t)ms * 1000000;
    ssize_t n = -1;

    for (;;) {
        const int64_t left_ms = (deadline - comma_now_ns() + 999999) / 1000000;
        struct pollfd wait = { fd, POLLIN, 0 };
        const int ready = poll(&wait, 1, left_ms > 0 ? (int)left_ms : 0);

        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        n = recv(fd, out, size, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        return n == (ssize_t)size;
    }
}

/* The zygote's answer: 0 and a descriptor, or an errno. */
static int receive_child(int control, int *fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } attached = { 0 };
    int result = 0;
    struct iovec data = { &result, sizeof(result) };
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = attached.room, .msg_controllen = sizeof(attached.room)
    };
    ssize_t n;

    do
        n = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(result))
        return EPIPE;
    if (result == 0) {
        if (message.msg_controllen < CMSG_LEN(sizeof(int)) || attached.head.cmsg_type != SCM_RIGHTS)
            return EPROTO;
        memcpy(fd, CMSG_DATA(&attached.head), sizeof(*fd));
    }
    return result;
}

/* Gives the slot's pages back, but for the first few. */
static void shrink(unsigned char *memory, size_t used_bytes)
{
    if (used_bytes > KEPT_BYTES)
        madvise(memory + KEPT_BYTES, used_bytes - KEPT_BYTES, MADV_REMOVE);
}

/* Ends the slot's child, whatever it is doing, and starts another. On failure the slot has none. */
static bool replace_child(struct comma_sandbox *s, struct slot *slot, struct comma_error *err)
{
    struct comma_sandbox_reply ready;
    int result;

    if (slot->fd >= 0)
        close(slot->fd);
    slot->fd = -1;
    slot->n_images = 0;
    shrink(comma_sandbox_out(&s->plan, slot->index), s->plan.out_bytes);
    pthread_mutex_lock(&s->control_lock);
    result = send(s->control, &slot->index, sizeof(slot->index), MSG_NOSIGNAL) == (ssize_t)sizeof(slot->index)
                 ? receive_child(s->control, &slot->fd)
                 : EPIPE;
    pthread_mutex_unlock(&s->control_lock);
    if (result == EPIPE)
        return comma_fail(err, COMMA_E_INTERNAL, "the image decoders have ended; the server must be restarted");
    if (result != 0)
        return comma_fail(err, COMMA_E_IO, "an image decoder cannot be started: %s", strerror(result));
    if (!receive(slot->fd, &ready, sizeof(ready), s->plan.options.max_wall_ms)) {
        close(slot->fd);
        slot->fd = -1;
        return comma_fail(err, COMMA_E_IO, "an image decoder ended as soon as it was started");
    }
    if (!ready.ok) {
        close(slot->fd);
        slot->fd = -1;
        if (err)
            *err = ready.error; /* our own code's words, from before any picture was seen */
    }
    return ready.ok;
}

/* ---- slots ---- */

static struct slot *take_slot(struct comma_sandbox *s)
{
    struct slot *slot;

    pthread_mutex_lock(&s->lock);
    s->stats.images++;
    while (!s->free)
        pthread_cond_wait(&s->freed, &s->lock);
    slot = s->free;
    s->free = slot->next_free;
    pthread_mutex_unlock(&s->lock);
    return slot;
}

/* Last in, first out: the child used last has its memory at hand. */
static void give_slot(struct comma_sandbox *s, struct slot *slot)
{
    pthread_mutex_lock(&s->lock);
    slot->next_free = s->free;
    s->free = slot;
    pthread_cond_signal(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

static void count(struct comma_sandbox *s, uint64_t *counter)
{
    pthread_mutex_lock(&s->lock);
    ++*counter;
    pthread_mutex_unlock(&s->lock);
}

/* ---- one picture ---- */

/* Hands the request to the slot's child; to a new one where the old one turns out to have died in its sleep. */
static bool ask(struct comma_sandbox *s, struct slot *slot, const struct comma_sandbox_request *request,
                struct comma_error *err)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if ((slot->fd < 0 || attempt > 0) && !replace_child(s, slot, err))
            return false;
        if (send(slot->fd, request, sizeof(*request), MSG_NOSIGNAL) == (ssize_t)sizeof(*request))
            return true;
    }
    return comma_fail(err, COMMA_E_INTERNAL, "an image decoder ended as soon as it was started");
}

/* A reply from a child that may be in a stranger's hands: false unless all of it makes sense. */
static bool check_reply(const struct comma_sandbox_plan *plan, struct comma_sandbox_reply *reply)
{
    size_t bytes;

    if (reply->ok)
        return reply->width > 0 && reply->height > 0 && comma_mul(reply->width, reply->height, &bytes) &&
               comma_mul(bytes, 3, &bytes) && bytes <= plan->out_bytes;
    reply->error.message[sizeof(reply->error.message) - 1] = '\0';
    return reply->error.code > COMMA_OK && reply->error.code < COMMA_N_CODES &&
           comma_utf8_valid(reply->error.message, strlen(reply->error.message));
}

static bool take_pixels(struct comma_sandbox *s, const struct slot *slot, const struct comma_sandbox_reply *reply,
                        struct comma_image *out, struct comma_error *err)
{
    unsigned char *shared = comma_sandbox_out(&s->plan, slot->index);
    const size_t bytes = 3 * reply->width * reply->height;
    struct comma_image image = { reply->width, reply->height, malloc(bytes) };

    if (image.pixels)
        memcpy(image.pixels, shared, bytes);
    shrink(shared, bytes);
    if (!image.pixels)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while decoding the image");
    *out = image;
    return true;
}

static bool decode_in(struct comma_sandbox *s, struct slot *slot, const struct comma_sandbox_request *request,
                      struct comma_image *out, struct comma_error *err)
{
    struct comma_sandbox_reply reply;
    bool ok;

    if (!ask(s, slot, request, err))
        return false;
    if (!receive(slot->fd, &reply, sizeof(reply), s->plan.options.max_wall_ms) || !check_reply(&s->plan, &reply)) {
        count(s, &s->stats.deaths);
        /* At once, for a child that only takes too long would go on; where that fails the next caller tries again. */
        (void)!replace_child(s, slot, NULL);
        return comma_fail(err, COMMA_E_INPUT, "the image could not be decoded");
    }
    if (reply.ok)
        ok = take_pixels(s, slot, &reply, out, err);
    else
        ok = comma_fail(err, reply.error.code, "%s", reply.error.message);
    if (++slot->n_images >= s->plan.options.images_per_child) {
        count(s, &s->stats.recycled);
        (void)!replace_child(s, slot, NULL);
    }
    return ok;
}

bool comma_sandbox_decode(void *sandbox, struct comma_bytes file, const struct comma_image_limits *limits,
                          bool auto_orient, size_t min_side_px, size_t square_px, struct comma_image *out,
                          struct comma_error *err)
{
    struct comma_sandbox *s = sandbox;
    const struct comma_sandbox_request request = { file.size, min_side_px, square_px, *limits, auto_orient };
    const size_t max_bytes = s->plan.options.max_file_bytes;
    struct slot *slot;
    bool ok;

    if (file.size > max_bytes)
        return comma_fail(err, COMMA_E_LIMIT, "the image file has %zu bytes; at most %zu are allowed", file.size,
                          max_bytes);
    slot = take_slot(s);
    if (file.size > 0)
        memcpy(comma_sandbox_in(&s->plan, slot->index), file.data, file.size);
    ok = decode_in(s, slot, &request, out, err);
    shrink(comma_sandbox_in(&s->plan, slot->index), file.size);
    give_slot(s, slot);
    return ok;
}

void comma_sandbox_get_stats(struct comma_sandbox *sandbox, struct comma_sandbox_stats *out)
{
    pthread_mutex_lock(&sandbox->lock);
    *out = sandbox->stats;
    pthread_mutex_unlock(&sandbox->lock);
}

/* ---- open and close ---- */

static size_t whole_pages(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page) / page * page; /* at least one */
}

static bool map_memory(struct comma_sandbox *s, struct comma_error *err)
{
    struct comma_sandbox_plan *plan = &s->plan;
    size_t pixels_bytes, slot_bytes;
    void *memory;

    if (!comma_mul(plan->options.limits.max_pixels, 3, &pixels_bytes) || pixels_bytes > SIZE_MAX / 4 ||
        plan->options.max_file_bytes > SIZE_MAX / 4)
        return comma_fail(err, COMMA_E_LIMIT, "the decoder sandbox is asked for more memory than there can be");
    plan->in_bytes = whole_pages(plan->options.max_file_bytes);
    plan->out_bytes = whole_pages(pixels_bytes);
    slot_bytes = plan->in_bytes + plan->out_bytes;
    if (!comma_mul(slot_bytes, plan->n_slots, &s->memory_bytes))
        return comma_fail(err, COMMA_E_LIMIT, "the decoder sandbox is asked for more memory than there can be");
    /* Taken from the system only as pictures use it */
    memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return comma_fail(err, COMMA_E_NOMEM, "the decoder sandbox cannot map %zu bytes", s->memory_bytes);
    plan->memory = memory;
    return true;
}

static bool start_zygote(struct comma_sandbox *s, struct comma_error *err)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return comma_fail(err, COMMA_E_IO, "the decoder sandbox cannot make a socket: %s", strerror(errno));
    s->zygote = fork();
    if (s->zygote == 0)
        comma_sandbox_zygote(&s->plan, ends[1]);
    close(ends[1]);
    s->control = ends[0];
    if (s->zygote < 0)
        return comma_fail(err, COMMA_E_IO, "the decoder sandbox cannot make a process: %s", strerror(errno));
    return true;
}

bool comma_sandbox_open(const struct comma_sandbox_options *options, struct comma_sandbox **out,
                        struct comma_error *err)
{
    struct comma_sandbox *s = calloc(1, sizeof(*s));
    const unsigned wanted = options->n_children > 0 ? options->n_children : comma_cpu_count();
    bool ok = false;

    if (!s)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while opening the decoder sandbox");
    s->control = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->control_lock, NULL);
    pthread_cond_init(&s->freed, NULL);
    s->plan.options = *options;
    s->plan.n_slots = wanted < MAX_CHILDREN ? wanted : MAX_CHILDREN;
    s->stats.n_children = s->plan.n_slots;
    s->slots = calloc(s->plan.n_slots, sizeof(*s->slots));
    if (!s->slots) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory while opening the decoder sandbox");
        goto out;
    }
    for (unsigned i = 0; i < s->plan.n_slots; i++)
        s->slots[i] = (struct slot){ .index = i, .fd = -1 };
    if (!map_memory(s, err) || !start_zygote(s, err))
        goto out;
    for (unsigned i = 0; i < s->plan.n_slots; i++) {
        if (!replace_child(s, &s->slots[i], err))
            goto out;
        give_slot(s, &s->slots[i]);
    }
    ok = true;
out:
    if (ok)
        *out = s;
    else
        comma_sandbox_close(s);
    return ok;
}

void comma_sandbox_close(struct comma_sandbox *sandbox)
{
    struct comma_sandbox *s = sandbox;

    if (!s)
        return;
    for (unsigned i = 0; s->slots && i < s->plan.n_slots; i++)
        if (s->slots[i].fd >= 0)
            close(s->slots[i].fd);
    if (s->control >= 0)
        close(s->control);
    if (s->zygote > 0)
        while (waitpid(s->zygote, NULL, 0) < 0 && errno == EINTR)
            ;
    if (s->plan.memory)
        munmap(s->plan.memory, s->memory_bytes);
    pthread_cond_destroy(&s->freed);
    pthread_mutex_destroy(&s->control_lock);
    pthread_mutex_destroy(&s->lock);
    free(s->slots);
    free(s);
}
