/* SPDX-License-Identifier: MIT */
/* http_head.c - any bytes on a connection to the real listener: libmicrohttpd's parser, the guard, routes, keys, ids,
 * trace context, the log. The service has no model, so that no body is read. Each answer must be a whole and clean one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http.h"
#include "server/listen.h"
#include "tests/fuzz/fuzz.h"

enum { MOST_INPUT = 64 << 10, MOST_ANSWER = 4 << 20, PATIENCE_MS = 20 };

static struct sockaddr_in address;

#define must(condition) ((condition) ? (void)0 : fail(#condition))

static void fail(const char *condition)
{
    fprintf(stderr, "not so: %s (errno: %s)\n", condition, strerror(errno));
    abort();
}

static void reload(void *user)
{
    (void)user;
}

static void killed(void *user)
{
    (void)user;
}

/* One key, "k", of alice. */
static struct comma_keys *make_keys(void)
{
    static const char digits[] = "0123456789abcdef";
    const int fd = memfd_create("keys", 0);
    unsigned char digest[32];
    char line[128] = "alice:", path[64], *p = line + 6;
    struct comma_keys *keys = NULL;

    comma_sha256("k", 1, digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        *p++ = digits[digest[i] >> 4];
        *p++ = digits[digest[i] & 15];
    }
    strcpy(p, ":0:1:*\n");
    must(fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    must(comma_keys_load(path, &keys, NULL));
    close(fd);
    return keys;
}

static void start(void)
{
    struct comma_service_options o = { .limits = comma_api_default_limits(),
                                       .max_places = 4,
                                       .request_timeout_ns = 1000000000,
                                       .watchdog_ns = 1000000000,
                                       .access_log = true,
                                       .reload = reload };
    struct comma_http_options h = {
        .listener = COMMA_LISTENER_MAIN | COMMA_LISTENER_ADMIN,
        .max_connections = 64,
        .watch = { .head_ns = 2000000000, .body_ns = 2000000000, .idle_ns = 2000000000, .killed = killed }
    };
    socklen_t size = sizeof(address);
    struct comma_keys *keys = make_keys();
    struct comma_http *http;
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    must(null >= 0 && comma_log_create(null, COMMA_LOG_DEBUG, &o.log, NULL) && comma_metrics_create(&o.metrics, NULL) &&
         comma_admission_create(4, 0, &o.admission, NULL) && comma_service_create(&o, &h.service, NULL));
    comma_service_set_keys(h.service, keys);
    comma_keys_unref(keys);
    must(comma_listen("127.0.0.1", 0, false, &h.socket, NULL));
    must(getsockname(h.socket, (struct sockaddr *)&address, &size) == 0);
    must(comma_http_start(&h, &http, NULL));
}

/* Returns where the answer at the front ends; its head has no byte that does not belong there. */
static size_t check_answer(const char *answer, size_t size, bool whole)
{
    const char *end = memmem(answer, size, "\r\n\r\n", 4), *length;
    size_t body = 0;
    int status;

    if (!end) {
        must(!whole);
        return size;
    }
    must(size > 13 && memcmp(answer, "HTTP/1.", 7) == 0);
    status = atoi(answer + 9);
    must(status >= 100 && status < 600 && status != 500);
    for (const char *p = answer; p < end; p++)
        must((unsigned char)*p >= 0x20 ? (unsigned char)*p < 0x7F : *p == '\r' || *p == '\n');
    length = memmem(answer, (size_t)(end - answer), "Content-Length: ", 16);
    if (length)
        body = strtoul(length + 16, NULL, 10);
    return (size_t)(end - answer) + 4 + body;
}

static void check_answers(const char *answers, size_t size)
{
    size_t at = 0;

    /* Behind HEAD there is no body, and the library's own 400 comes with its head twice: what stands then in the place
     * of an answer is none. */
    while (at < size && (at == 0 || (size - at > 7 && memcmp(answers + at, "HTTP/1.", 7) == 0)))
        at += check_answer(answers + at, size - at, at == 0);
}

/* libFuzzer's clock interrupts calls once a second: a connect() goes on by itself then, a poll() is begun again. */
static int patient_poll(struct pollfd *p, int ms)
{
    int n;

    do
        n = poll(p, 1, ms);
    while (n < 0 && errno == EINTR);
    return n;
}

static bool patient_connect(int fd)
{
    struct pollfd p = { fd, POLLOUT, 0 };
    socklen_t size = sizeof(int);
    int error;

    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return true;
    return errno == EINTR && patient_poll(&p, 10000) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
           error == 0;
}

/* From ever another address: the ports of one are used up in seconds, each being kept for a minute by the kernel. */
static int open_connection(void)
{
    static uint32_t n;
    const struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = { htonl(0x7F010000 + n++ % 60000) } };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    must(fd >= 0 && setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){ 1 }, sizeof(int)) == 0 &&
         bind(fd, (const struct sockaddr *)&from, sizeof(from)) == 0 && patient_connect(fd));
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char after[] = "\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    static char answers[MOST_ANSWER + 1];
    const struct linger reset = { 1, 0 };
    struct pollfd p;
    size_t n = 0;
    ssize_t got;

    if (address.sin_port == 0)
        start();
    if (size > MOST_INPUT)
        return -1;
    p = (struct pollfd){ open_connection(), POLLIN, 0 };
    /* Whatever does not go out was answered already. */
    if (size == 0 || send(p.fd, data, size, MSG_NOSIGNAL) == (ssize_t)size)
        (void)!send(p.fd, after, sizeof(after) - 1, MSG_NOSIGNAL);
    while (n < MOST_ANSWER && patient_poll(&p, PATIENCE_MS) > 0 &&
           (got = recv(p.fd, answers + n, MOST_ANSWER - n, 0)) > 0)
        n += (size_t)got;
    answers[n] = '\0';
    setsockopt(p.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(p.fd);
    check_answers(answers, n);
    return 0;
}
