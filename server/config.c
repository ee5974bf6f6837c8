/* SPDX-License-Identifier: MIT */
/* config.c - see config.h. README's table of options is compared with this one by a test. */
#include "server/config.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define C struct comma_serve_config

static const struct comma_option options[] = {
    { "model", 0, "COMMA_MODEL", COMMA_STRING_FIELD(C, model), NULL, 0, 0, "DIR",
      "model directory in Hugging Face layout; left out: the embedded emoji model" },
    { "adapter", 0, "COMMA_ADAPTER", COMMA_STRINGS_FIELD(C, adapters), NULL, 0, 0, "NAME=DIR",
      "serve the COMMA prompts in DIR under NAME; may be given again" },
    { "adapters", 0, "COMMA_ADAPTERS", COMMA_STRING_FIELD(C, adapters_dir), NULL, 0, 0, "DIR",
      "serve each adapter directory in DIR under its own name; looked through again at SIGHUP" },
    { "host", 0, "COMMA_HOST", COMMA_STRING_FIELD(C, host), "127.0.0.1", 0, 0, "ADDRESS",
      "address to listen on; other than loopback wants --api-keys-file or --insecure" },
    { "port", 'p', "COMMA_PORT", COMMA_UINT_FIELD(C, port), "8080", 0, 65535, "N",
      "TCP port; 0 takes a free one and prints it" },
    { "admin-host", 0, "COMMA_ADMIN_HOST", COMMA_STRING_FIELD(C, admin_host), "127.0.0.1", 0, 0, "ADDRESS",
      "address of the second listener" },
    { "admin-port", 0, "COMMA_ADMIN_PORT", COMMA_STRING_FIELD(C, admin_port), "off", 0, 0, "N",
      "second listener for probes, metrics and POST /admin/reload; it answers when the main one is full. 0 takes a "
      "free port" },
    { "threads", 't', "COMMA_THREADS", COMMA_UINT_FIELD(C, threads), "0", 0, 1024, "N",
      "threads that compute; 0: as many as affinity mask and cgroup quota allow" },
    { "backend", 0, "COMMA_BACKEND", COMMA_CHOICE_FIELD(C, backend), "openblas", 0, 0, "openblas|onednn",
      "library that multiplies matrices" },
    { "precision", 0, "COMMA_PRECISION", COMMA_CHOICE_FIELD(C, precision), "f32", 0, 0, "f32|bf16|int8",
      "numbers it multiplies; bf16 and int8 want --backend onednn" },
    { "label-cache-mb", 0, "COMMA_LABEL_CACHE_MB", COMMA_SIZE_FIELD(C, label_cache_mb), "256", 0, 1048576, "N",
      "memory for features of labels seen before" },
    { "fast-decode", 0, "COMMA_FAST_DECODE", COMMA_FLAG_FIELD(C, fast_decode), NULL, 0, 0, NULL,
      "decode large JPEGs at reduced size: faster, changes pixels a little" },
    { "no-auto-orient", 0, "COMMA_NO_AUTO_ORIENT", COMMA_FLAG_FIELD(C, no_auto_orient), NULL, 0, 0, NULL,
      "leave a picture's EXIF orientation out of account" },
    { "decoder-sandbox", 0, "COMMA_DECODER_SANDBOX", COMMA_CHOICE_FIELD(C, decoder_sandbox), "auto", 0, 0,
      "auto|on|off", "decode pictures in confined child processes; auto: where the kernel allows it" },
    { "max-body-mb", 0, "COMMA_MAX_BODY_MB", COMMA_SIZE_FIELD(C, max_body_mb), "16", 1, 1024, "N",
      "largest request body, in MiB" },
    { "max-megapixels", 0, "COMMA_MAX_MEGAPIXELS", COMMA_SIZE_FIELD(C, max_megapixels), "50", 1, 1000, "N",
      "largest picture, in million pixels" },
    { "max-labels", 0, "COMMA_MAX_LABELS", COMMA_SIZE_FIELD(C, max_labels), "10000", 1, 1000000, "N",
      "most labels or texts of a request" },
    { "max-memory-mb", 0, "COMMA_MAX_MEMORY_MB", COMMA_SIZE_FIELD(C, max_memory_mb), "0", 0, 67108864, "N",
      "ceiling of the process's memory, kept by refusing requests; 0: nine tenths of the cgroup's or machine's" },
    { "max-queue", 0, "COMMA_MAX_QUEUE", COMMA_UINT_FIELD(C, max_queue), "256", 1, 65536, "N",
      "requests in work or waiting; more are answered 503 at once" },
    { "max-connections", 0, "COMMA_MAX_CONNECTIONS", COMMA_UINT_FIELD(C, max_connections), "2000", 1, 100000, "N",
      "open connections" },
    { "max-connections-per-address", 0, "COMMA_MAX_CONNECTIONS_PER_ADDRESS",
      COMMA_UINT_FIELD(C, max_connections_per_address), "0", 0, 100000, "N",
      "open connections of one address; 0: no limit of its own, as behind a load balancer" },
    { "header-timeout", 0, "COMMA_HEADER_TIMEOUT", COMMA_NUMBER_FIELD(C, header_timeout), "5", 0.1, 600, "SECONDS",
      "a request's header fields must be here after this time in all" },
    { "body-timeout", 0, "COMMA_BODY_TIMEOUT", COMMA_NUMBER_FIELD(C, body_timeout), "30", 0.1, 3600, "SECONDS",
      "a request's body must be here, and its answer taken, after this time in all" },
    { "min-upload-rate", 0, "COMMA_MIN_UPLOAD_RATE", COMMA_SIZE_FIELD(C, min_upload_rate), "1024", 0, 1e9, "BYTES",
      "bytes a second that a body must come with, after its first five seconds; 0: any" },
    { "request-timeout", 0, "COMMA_REQUEST_TIMEOUT", COMMA_NUMBER_FIELD(C, request_timeout), "60", 0.1, 3600, "SECONDS",
      "a request must be answered this long after it came; a client may ask for less" },
    { "keep-alive-timeout", 0, "COMMA_KEEP_ALIVE_TIMEOUT", COMMA_NUMBER_FIELD(C, keep_alive_timeout), "75", 0.1, 3600,
      "SECONDS", "an idle connection is closed after this time" },
    { "watchdog-timeout", 0, "COMMA_WATCHDOG_TIMEOUT", COMMA_NUMBER_FIELD(C, watchdog_timeout), "120", 1, 86400,
      "SECONDS", "/healthz turns 503 when one job has been under way for longer" },
    { "drain-delay", 0, "COMMA_DRAIN_DELAY", COMMA_NUMBER_FIELD(C, drain_delay), "0", 0, 600, "SECONDS",
      "after SIGTERM, how long to go on accepting while /readyz says 503" },
    { "drain-timeout", 0, "COMMA_DRAIN_TIMEOUT", COMMA_NUMBER_FIELD(C, drain_timeout), "25", 0, 3600, "SECONDS",
      "after SIGTERM, when to end at the latest" },
    { "api-keys-file", 0, "COMMA_API_KEYS_FILE", COMMA_STRING_FIELD(C, api_keys_file), NULL, 0, 0, "FILE",
      "serve only requests with one of these keys; lines are name:sha256:rate:burst:models" },
    { "insecure", 0, "COMMA_INSECURE", COMMA_FLAG_FIELD(C, insecure), NULL, 0, 0, NULL,
      "serve without keys on an address that others can reach" },
    { "tls-cert", 0, "COMMA_TLS_CERT", COMMA_STRING_FIELD(C, tls_cert), NULL, 0, 0, "FILE",
      "serve HTTPS with this certificate chain (PEM)" },
    { "tls-key", 0, "COMMA_TLS_KEY", COMMA_STRING_FIELD(C, tls_key), NULL, 0, 0, "FILE", "its private key (PEM)" },
    { "reuse-port", 0, "COMMA_REUSE_PORT", COMMA_FLAG_FIELD(C, reuse_port), NULL, 0, 0, NULL,
      "share the port with other processes (SO_REUSEPORT), for restarts without a gap" },
    { "log-level", 0, "COMMA_LOG_LEVEL", COMMA_CHOICE_FIELD(C, log_level), "info", 0, 0, "error|warn|info|debug",
      "what is logged" },
    { "no-access-log", 0, "COMMA_NO_ACCESS_LOG", COMMA_FLAG_FIELD(C, no_access_log), NULL, 0, 0, NULL,
      "leave out the line for each request" },
};

const struct comma_option_table comma_serve_options = {
    "serve",
    "[option]...",
    "Serves a model over HTTP: POST /classify and /embed, GET /models, /healthz, /readyz, /metrics, /openapi.yaml.",
    options,
    sizeof(options) / sizeof(*options),
    "SIGTERM finishes what was accepted and ends; SIGHUP reads adapters and keys again. A socket handed over by\n"
    "systemd (LISTEN_FDS) is used in place of --host and --port.",
};

bool comma_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool comma_serve_admin_port(const struct comma_serve_config *config, unsigned *port)
{
    char *end;
    unsigned long value;

    if (strcmp(config->admin_port, "off") == 0)
        return false;
    value = strtoul(config->admin_port, &end, 10);
    *port = *end == '\0' && value <= 65535 ? (unsigned)value : 65536;
    return true;
}

static bool check_adapters(const struct comma_serve_config *config, struct comma_error *err)
{
    for (size_t i = 0; i < config->adapters.n; i++) {
        const char *item = config->adapters.items[i];
        const char *equals = strchr(item, '=');

        if (!equals || equals == item || !equals[1])
            return comma_fail(err, COMMA_E_INPUT, "--adapter: \"%.80s\" is not NAME=DIR", item);
    }
    return true;
}

bool comma_serve_config_check(const struct comma_serve_config *config, struct comma_error *err)
{
    unsigned port = 0;

    if (comma_serve_admin_port(config, &port) && (port > 65535 || !strchr("0123456789", config->admin_port[0])))
        return comma_fail(err, COMMA_E_INPUT,
                          "--admin-port: \"%.80s\" is neither off nor a port; allowed is 0 to 65535",
                          config->admin_port);
    if (!config->tls_cert != !config->tls_key)
        return comma_fail(err, COMMA_E_INPUT, "--tls-cert and --tls-key want each other");
    if (!comma_host_is_loopback(config->host) && !config->api_keys_file && !config->insecure)
        return comma_fail(err, COMMA_E_INPUT,
                          "--host %.80s can be reached by others; give --api-keys-file, or --insecure if a network "
                          "policy or proxy keeps strangers out",
                          config->host);
    return check_adapters(config, err);
}
