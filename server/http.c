/* SPDX-License-Identifier: MIT */
/* http.c - see http.h. The only file that knows libmicrohttpd.
 *
 * Order of its calls for a connection: on_connection(started); for each request on_target (the raw target, before it
 * is decoded), handle() once with the head, once for each piece of the body and once at its end, again after a resume,
 * then on_completed; on_connection(closed). All but comma_http_* run on the listener's one thread. `resume` is called
 * from other threads, on a connection that is suspended and which nobody else resumes: the exchange's claim sees to
 * that. */
#include "server/http.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_REQUESTS = 1000, POOL_BYTES = 48 << 10 };

struct comma_http {
    struct comma_http_options options;
    struct MHD_Daemon *daemon;
    struct comma_watch *watch;
    int quiesced; /* the listening socket after the quiesce, else -1 */
};

/* A connection. */
struct peer {
    struct comma_http *http;
    struct comma_watched watched;
    char address[INET6_ADDRSTRLEN];
    unsigned n_requests;
};

enum stage { STAGE_HEAD, STAGE_BODY, STAGE_READY, STAGE_WORK, STAGE_SENT };

/* A request of it. */
struct call {
    struct comma_exchange *ex;
    struct MHD_Connection *connection;
    struct peer *peer;
    enum stage stage;
};

static void resume(struct comma_exchange *ex)
{
    const struct call *call = ex->wire;

    MHD_resume_connection(call->connection);
}

static bool claim_late(void *call, int64_t now_ns)
{
    return comma_service_late(((struct call *)call)->ex, now_ns);
}

static void late(void *call)
{
    resume(((struct call *)call)->ex);
}

/* ---- connections ---- */

static void write_address(const struct sockaddr *address, char *out)
{
    out[0] = '\0';
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, out, INET6_ADDRSTRLEN);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, out, INET6_ADDRSTRLEN);
}

static struct peer *open_peer(struct comma_http *http, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *from = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct peer *peer = calloc(1, sizeof(*peer));

    if (!peer || !fd) {
        free(peer);
        return NULL;
    }
    peer->http = http;
    peer->watched.silent = http->options.tls_cert != NULL;
    write_address(from ? from->client_addr : NULL, peer->address);
    setsockopt(fd->connect_fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    comma_watch_add(http->watch, &peer->watched, fd->connect_fd);
    return peer;
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct comma_http *http = user;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = open_peer(http, connection);
        comma_service_count_connection(http->options.service, 1);
    } else {
        struct peer *peer = *context;

        comma_service_count_connection(http->options.service, -1);
        if (peer)
            comma_watch_remove(http->watch, &peer->watched);
        free(peer);
        *context = NULL;
    }
}

/* ---- requests ---- */

/* The first that is heard of a request. NULL where memory ran out: handle() then closes the connection. */
static void *on_target(void *user, const char *target, struct MHD_Connection *connection)
{
    struct comma_http *http = user;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct peer *peer = info ? info->socket_context : NULL;
    struct call *call = peer ? calloc(1, sizeof(*call)) : NULL;

    if (!call)
        return NULL;
    call->ex = comma_exchange_create(http->options.service, comma_text_of(target));
    if (!call->ex) {
        free(call);
        return NULL;
    }
    call->connection = connection;
    call->peer = peer;
    call->ex->wire = call;
    call->ex->resume = resume;
    call->ex->fd = peer->watched.fd;
    call->ex->listener = http->options.listener;
    memcpy(call->ex->address, peer->address, sizeof(peer->address));
    comma_watch_enter(http->watch, &peer->watched, COMMA_PHASE_HEAD, NULL);
    return call;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct comma_http *http = user;
    struct call *call = *context;

    (void)connection;
    *context = NULL;
    if (!call)
        return;
    if (call->stage != STAGE_HEAD)
        comma_service_end(call->ex, code == MHD_REQUEST_TERMINATED_COMPLETED_OK && call->stage == STAGE_SENT);
    comma_watch_enter(http->watch, &call->peer->watched, COMMA_PHASE_IDLE, NULL);
    comma_exchange_unref(call->ex);
    free(call);
}

/* The target is used as it came; decoding it in place would only lose what it was. */
static size_t leave_escaped(void *user, struct MHD_Connection *connection, char *s)
{
    (void)user;
    (void)connection;
    return strlen(s);
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    /* Only memory can run out here; an answer with a header less is still the better one. */
    if (value && *value)
        (void)MHD_add_response_header(response, name, value);
}

static struct MHD_Response *make_response(struct call *call)
{
    struct comma_answer *a = &call->ex->answer;
    /* Not owned: static, or in the exchange, which lives until on_completed. */
    struct MHD_Response *response = MHD_create_response_from_buffer(
        a->body_size, (void *)(uintptr_t)a->body, a->owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    char seconds[16];

    if (!response)
        return NULL;
    a->owned = false;
    add_header(response, "X-Request-Id", call->ex->request_id);
    add_header(response, "traceparent", call->ex->traceparent);
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Content-Type", a->content_type);
    add_header(response, "Allow", a->allow);
    add_header(response, "Content-Security-Policy", a->content_security);
    add_header(response, "Cache-Control", a->content_security ? "no-cache" : "no-store");
    if (a->authenticate)
        add_header(response, "WWW-Authenticate", "Bearer");
    if (a->retry_after_s > 0) {
        snprintf(seconds, sizeof(seconds), "%u", a->retry_after_s);
        add_header(response, "Retry-After", seconds);
    }
    if (a->close || ++call->peer->n_requests >= MAX_REQUESTS ||
        comma_service_state(call->peer->http->options.service) == COMMA_DRAINING)
        add_header(response, "Connection", "close");
    return response;
}

static enum MHD_Result send_answer(struct call *call)
{
    struct comma_http *http = call->peer->http;
    struct MHD_Response *response;
    enum MHD_Result result;

    if (!comma_watch_enter(http->watch, &call->peer->watched, COMMA_PHASE_ANSWER, NULL))
        return MHD_NO;
    response = make_response(call);
    if (!response)
        return MHD_NO;
    call->stage = STAGE_SENT;
    result = MHD_queue_response(call->connection, call->ex->answer.status, response);
    MHD_destroy_response(response);
    return result;
}

struct header_list {
    struct comma_header items[COMMA_MAX_HEADERS];
    size_t n; /* all that came, also beyond the room */
};

static enum MHD_Result add_to_list(void *user, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                   const char *value, size_t value_size)
{
    struct header_list *list = user;

    (void)kind;
    if (list->n < COMMA_MAX_HEADERS)
        list->items[list->n] = (struct comma_header){ { name, name_size }, { value ? value : "", value_size } };
    list->n++;
    return MHD_YES;
}

/* Whether the bytes between what the library found are those that belong there, so that nothing hides in them. 0.9.75
 * cuts lines in place and leaves them where they were read: a NUL ends a value or the target, a field without a name
 * (": x") ends the whole head, a lone LF a line, and none of this shows in what it hands out; but the gaps do. */
static bool is_contiguous(const struct call *call, const struct comma_head *head)
{
#if MHD_VERSION < 0x01000000
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *at = head->version.data + head->version.size + 2; /* behind a line's CR LF */

    if (!info || head->method.data + head->method.size + 1 + head->target.size + 1 != head->version.data)
        return false;
    for (size_t i = 0; i < head->n_headers; i++) {
        const struct comma_header *h = &head->headers[i];

        if (h->name.data != at || h->value.data <= h->name.data + h->name.size)
            return false;
        at = h->value.data + h->value.size + 2;
    }
    return head->method.data + info->header_size == at + 2;
#else
    (void)call;
    (void)head;
    return true;
#endif
}

static enum MHD_Result take_head(struct call *call, const char *method, const char *version)
{
    struct header_list list = { .n = 0 };
    struct comma_head head = { .method = comma_text_of(method),
                               .target = comma_text_of(call->ex->target),
                               .version = comma_text_of(version),
                               .headers = list.items };

    MHD_get_connection_values_n(call->connection, MHD_HEADER_KIND, add_to_list, &list);
    head.n_headers = list.n;
    head.has_gaps = list.n <= COMMA_MAX_HEADERS && !is_contiguous(call, &head);
    call->stage = STAGE_BODY;
    if (comma_service_head(call->ex, &head) == COMMA_STEP_ANSWER) {
        /* libmicrohttpd closes a connection that is answered at its first call, so an answer that may
         * keep it waits for the end of the request. */
        if (call->ex->answer.close)
            return send_answer(call);
        call->stage = STAGE_READY;
    }
    return comma_watch_enter(call->peer->http->watch, &call->peer->watched, COMMA_PHASE_BODY, NULL) ? MHD_YES : MHD_NO;
}

static enum MHD_Result take_body(struct call *call, const char *data, size_t *size)
{
    const size_t n = *size;

    *size = 0;
    if (!comma_watch_received(call->peer->http->watch, &call->peer->watched, n))
        return MHD_NO;
    return comma_service_body(call->ex, data, n) == COMMA_STEP_DROP ? MHD_NO : MHD_YES;
}

static enum MHD_Result skip_body(struct call *call, size_t *size)
{
    const size_t n = *size;

    *size = 0;
    call->ex->body_seen += n;
    return comma_watch_received(call->peer->http->watch, &call->peer->watched, n) ? MHD_YES : MHD_NO;
}

static enum MHD_Result take_end(struct call *call)
{
    if (comma_service_complete(call->ex) == COMMA_STEP_ANSWER)
        return send_answer(call);
    /* Suspended first, since to resume what is not yet suspended is undefined; then the watch may see it. */
    call->stage = STAGE_WORK;
    MHD_suspend_connection(call->connection);
    if (comma_watch_enter(call->peer->http->watch, &call->peer->watched, COMMA_PHASE_WORK, call))
        comma_service_start(call->ex);
    else
        resume(call->ex); /* shut down meanwhile: send_answer() will find it so */
    return MHD_YES;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **context)
{
    struct call *call = *context;

    (void)user;
    (void)connection;
    (void)url;
    if (!call)
        return MHD_NO;
    switch (call->stage) {
    case STAGE_HEAD:
        return take_head(call, method, version);
    case STAGE_BODY:
        return *size > 0 ? take_body(call, data, size) : take_end(call);
    case STAGE_READY: /* a short body that is not wanted, then its end */
        return *size > 0 ? skip_body(call, size) : send_answer(call);
    case STAGE_WORK: /* resumed: the answer is there */
        return send_answer(call);
    case STAGE_SENT: /* the rest of a body that was answered early */
        *size = 0;
        return MHD_YES;
    }
    return MHD_NO;
}

/* ---- the listener ---- */

/* In GnuTLS's words. RFC 8996: older ones must not be spoken. */
static const char tls_versions[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";

static struct MHD_Daemon *start_daemon(struct comma_http *http)
{
    const struct comma_http_options *o = &http->options;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    struct MHD_OptionItem tls[] = { { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->tls_cert },
                                    { MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->tls_key },
                                    { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)tls_versions },
                                    { MHD_OPTION_END, 0, NULL } };
    struct MHD_OptionItem plain[] = { { MHD_OPTION_END, 0, NULL } };

    if (o->tls_cert)
        flags |= MHD_USE_TLS;
    return MHD_start_daemon(flags, 0, NULL, NULL, handle, http, MHD_OPTION_LISTEN_SOCKET, o->socket,
                            MHD_OPTION_CONNECTION_LIMIT, o->max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                            o->max_connections_per_address, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
                            MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
#if MHD_VERSION >= 0x01000000
                            MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#endif
                            MHD_OPTION_URI_LOG_CALLBACK, on_target, http, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped,
                            NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_NOTIFY_COMPLETED,
                            on_completed, http, MHD_OPTION_ARRAY, o->tls_cert ? tls : plain, MHD_OPTION_END);
}

bool comma_http_start(const struct comma_http_options *options, struct comma_http **out, struct comma_error *err)
{
    struct comma_http *http = calloc(1, sizeof(*http));
    struct comma_watch_options watch = options->watch;

    if (!http) {
        close(options->socket);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a listener");
    }
    http->options = *options;
    http->quiesced = -1;
    watch.claim_late = claim_late;
    watch.late = late;
    if (!comma_watch_create(&watch, &http->watch, err)) {
        close(options->socket);
        goto out;
    }
    http->daemon = start_daemon(http); /* on failure it leaves the socket to us */
    if (http->daemon) {
        *out = http;
        return true;
    }
    comma_fail(err, COMMA_E_IO, "the HTTP library cannot start on this socket%s",
               options->tls_cert ? "; do certificate and key belong together?" : "");
    close(options->socket);
out:
    comma_watch_destroy(http->watch);
    free(http);
    return false;
}

void comma_http_quiesce(struct comma_http *http)
{
    if (http->quiesced >= 0)
        return;
    http->quiesced = MHD_quiesce_daemon(http->daemon);
    /* Else the kernel would go on completing handshakes, and those clients would hang. */
    if (http->quiesced >= 0 && !http->options.keep_socket)
        shutdown(http->quiesced, SHUT_RDWR);
}

void comma_http_close_idle(struct comma_http *http)
{
    comma_watch_close_idle(http->watch);
}

void comma_http_stop(struct comma_http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->daemon);
    if (http->quiesced >= 0)
        close(http->quiesced);
    comma_watch_destroy(http->watch);
    free(http);
}

bool comma_http_has_tls(void)
{
    return MHD_is_feature_supported(MHD_FEATURE_TLS) == MHD_YES;
}
