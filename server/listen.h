/* SPDX-License-Identifier: MIT */
/* listen.h - listening sockets: our own, or handed over by a supervisor (systemd's LISTEN_FDS). */
#ifndef COMMA_SERVER_LISTEN_H
#define COMMA_SERVER_LISTEN_H

#include <stddef.h>

#include "engine/base/error.h"

/* Opens a listening TCP socket.
 *   port        0: any free one
 *   reuse_port  share it with other processes (SO_REUSEPORT)
 * Fails with COMMA_E_IO. */
COMMA_MUST_CHECK
bool comma_listen(const char *host, unsigned port, bool reuse_port, int *out, struct comma_error *err);

/* Number of sockets that were handed over to this process; they begin at descriptor 3. Forgets them, so that children
 * do not take them for theirs. */
int comma_listen_inherited(void);

/* "http://127.0.0.1:8080" of a socket. out: [size] */
void comma_listen_url(int socket, bool tls, char *out, size_t size);

#endif
