#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A thousand clients at a byte a second, in the head and in the body, a thousand that say nothing, and some that do not
read their answers, while others ask as usual: all of the slow are cut off at their deadline, and nobody else notices."""
import contextlib
import selectors
import socket
import sys
import time

from common import MIB, Client, Prober, Server, Tally, Verdict, form, parser, pictures, post, raise_descriptor_limit

HEAD = b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n"


class Slow:
    """Sockets that each send one byte a second of what they have left, if anything."""

    def __init__(self, port, n, first, drip, buffer=None):
        self.selector, self.drip, self.lives = selectors.DefaultSelector(), drip, {}
        for _ in range(n):
            s = socket.socket()
            if buffer:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            s.connect(("127.0.0.1", port))
            s.setblocking(False)
            if first:
                s.send(first)
            self.selector.register(s, selectors.EVENT_READ)
            self.lives[s] = time.monotonic()
        self.ended, self.heads, self.next = [], [], time.monotonic() + 1

    def step(self, seconds, read=True):
        for key, _ in self.selector.select(seconds) if read else ():
            s, data = key.fileobj, b""
            with contextlib.suppress(OSError):
                data = s.recv(4096)
            if data:
                self.heads.append(data[:12])
                continue
            self.close(s)
        if not read:
            time.sleep(seconds)
        if self.drip and time.monotonic() > self.next:
            self.next += 1
            for s in list(self.lives):
                with contextlib.suppress(OSError):
                    s.send(b"x")

    def close(self, s):
        self.ended.append(time.monotonic() - self.lives.pop(s))
        self.selector.unregister(s)
        s.close()


def ask_as_usual(server, make, seconds, slow=None, read=True):
    """Two clients, one request after the other; the slow ones' turn is between. Ends early once all slow are gone."""
    tally, client = Tally(), Client(server.port)
    end = time.monotonic() + seconds

    def done(status, took):
        tally(status, took)
        if time.monotonic() < end:
            client.send(make(), done)
    for _ in range(2):
        client.send(make(), done)
    while time.monotonic() < end and (slow is None or slow.lives):
        client.step(0.002)
        if slow:
            slow.step(0, read)
    end = 0
    client.finish(30)
    client.close()
    return tally


def main():
    p = parser(__doc__)
    p.add_argument("--clients", type=int, default=1000)
    p.add_argument("--header-timeout", type=float, default=5)
    p.add_argument("--body-timeout", type=float, default=12)
    p.add_argument("--idle-timeout", type=float, default=10)
    p.add_argument("--min-upload-rate", type=int, default=0, help="0: the byte a second lives until the body's deadline")
    options = p.parse_args()
    raise_descriptor_limit(4 * options.clients + 512)
    server = Server(options, "--no-access-log", "--header-timeout", str(options.header_timeout), "--body-timeout",
                    str(options.body_timeout), "--keep-alive-timeout", str(options.idle_timeout), "--min-upload-rate",
                    str(options.min_upload_rate), "--max-connections", str(options.clients + 200))
    verdict, images = Verdict(), pictures()
    body = post(form(images[0], "pizza,rocket,dog"))

    def make():
        return body
    ask_as_usual(server, make, 2)
    usual = ask_as_usual(server, make, 4)
    files, resident = server.descriptors(), server.resident()
    print(f"before: {usual.count(200)} answers in 4 s, p50 {usual.ms(.5, 200):.1f}, p99 {usual.ms(.99, 200):.1f} ms; "
          f"{server.figures()}", flush=True)
    n, texts = options.clients, ",".join(f'"{i} {"long text " * 3}"' for i in range(10000))
    idle = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    huge = post(('{"texts":[' + texts + "]}").encode(), "application/json", "/embed")
    for words, number, first, drip, limit, read in [
            ("a byte a second of the head", n, HEAD[:20], True, options.header_timeout, True),
            ("a byte a second of the body", n, HEAD + b"\r\n", True, options.body_timeout, True),
            ("not a byte", n, None, False, options.header_timeout, True),
            ("one request, then nothing", n, idle, False, options.idle_timeout, True),
            ("an answer of 10 MB that is not read", 20, None, False, options.body_timeout, False)]:
        slow = Slow(server.port, number, first, drip, None if read else 4096)
        if not read:
            for s in slow.lives:
                s.setblocking(True)
                s.sendall(huge)
                s.setblocking(False)
        killed = server.metrics()["comma_http_connections_killed_total"]
        prober = Prober(server.admin_port)
        tally = ask_as_usual(server, make, limit + (3 if read else 8), slow, read)
        probes, failed, _, p99, most = prober.end()
        killed = server.metrics()["comma_http_connections_killed_total"] - killed
        late = max(slow.ended, default=0)
        print(f"during: {number} x {words}: {len(slow.ended)} ended by the server after {min(slow.ended, default=0):.1f} to "
              f"{late:.1f} s; {killed:.0f} killed; {slow.heads.count(b'HTTP/1.1 408')} x 408\n"
              f"        others: {tally.words()}, p50 {tally.ms(.5, 200):.1f}, p99 {tally.ms(.99, 200):.1f} ms; probes p99 "
              f"{p99:.1f}, max {most:.1f} ms", flush=True)
        if read:
            verdict.check(len(slow.ended) == number and late <= limit + 1.5,
                          f"{words}: all were ended within {limit:g} s and a little")
        else:
            verdict.check(killed == number, f"{words}: all were ended")
        verdict.check(tally.count(200) == tally.total() > 0, "every other request was answered 200")
        verdict.check(failed == 0 and p99 < 50, "the probes' p99 stayed below 50 ms")
        for s in list(slow.lives):
            slow.close(s)
    verdict.check(server.quiet(), "nothing is left in work")
    time.sleep(1)
    after = ask_as_usual(server, make, 4)
    time.sleep(options.idle_timeout + 1)
    print(f"after:  {after.count(200)} answers in 4 s, p50 {after.ms(.5, 200):.1f}, p99 {after.ms(.99, 200):.1f} ms; "
          f"{server.figures()}", flush=True)
    verdict.check(server.descriptors() <= files, f"descriptors are as before: {files}, {server.descriptors()}")
    verdict.check(server.resident() - resident < 150 * MIB, "memory grew by "
                  f"{(server.resident() - resident) / MIB:.0f} MiB, less than 150 (48 KiB a connection, and answers)")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
