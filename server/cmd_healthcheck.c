/* SPDX-License-Identifier: MIT */
/* cmd_healthcheck.c - comma healthcheck: asks a server on this machine whether it is well, by exit status. A container
 * without a shell has nothing else to ask with. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netdb.h>

#include "server/command.h"
#include "server/options.h"

struct settings {
    const char *host, *path;
    unsigned port;
    double timeout;
};

static const struct comma_option options[] = {
    { "host", 0, NULL, COMMA_STRING_FIELD(struct settings, host), "127.0.0.1", 0, 0, "ADDRESS", "where to ask" },
    { "port", 'p', "COMMA_PORT", COMMA_UINT_FIELD(struct settings, port), "8080", 1, 65535, "N",
      "port of the server, or better of its admin listener" },
    { "path", 0, NULL, COMMA_STRING_FIELD(struct settings, path), "/healthz", 0, 0, "PATH", "/healthz or /readyz" },
    { "timeout", 0, NULL, COMMA_NUMBER_FIELD(struct settings, timeout), "3", 0.1, 60, "SECONDS", "how long to wait" },
};

static const struct comma_option_table table = { "healthcheck",
                                                 "[option]...",
                                                 "Ends with 0 if a server on this machine answers 200, else with 1.",
                                                 options,
                                                 sizeof(options) / sizeof(*options),
                                                 NULL };

static int connect_to(const struct settings *s)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    const struct timeval wait = { .tv_sec = (time_t)s->timeout,
                                  .tv_usec = (suseconds_t)((s->timeout - (double)(time_t)s->timeout) * 1e6) };
    struct addrinfo *list = NULL;
    char port[16];
    int fd = -1;

    snprintf(port, sizeof(port), "%u", s->port);
    if (getaddrinfo(s->host, port, &hints, &list) != 0)
        return -1;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
                        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0 ||
                        connect(fd, a->ai_addr, a->ai_addrlen) != 0)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

/* True if the answer's status line says 200. */
static bool ask(const struct settings *s)
{
    char request[512], answer[16];
    const int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                           s->path, s->host);
    const int fd = connect_to(s);
    bool ok;

    ok = fd >= 0 && n > 0 && (size_t)n < sizeof(request) && send(fd, request, (size_t)n, MSG_NOSIGNAL) == n &&
         recv(fd, answer, sizeof(answer), MSG_WAITALL) == (ssize_t)sizeof(answer) &&
         memcmp(answer, "HTTP/1.1 200 ", 13) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

int comma_command_healthcheck(int argc, char **argv)
{
    struct settings s;
    const int status = comma_options_main(&table, argc, argv, &s, sizeof(s), NULL);

    if (status >= 0)
        return status;
    if (ask(&s))
        return 0;
    fprintf(stderr, "comma healthcheck: %s port %u is not well\n", s.host, s.port);
    return 1;
}
