#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that leave in the head, in the body, while they wait, while they are computed, and while they are answered:
nothing of them stays, and what was not yet computed is not computed for nobody."""
import itertools
import socket
import struct
import sys
import time

from common import MIB, Server, Verdict, form, parser, pictures, post


def leave(s, reset):
    """Closes; with a reset, as a client that crashed, or in order."""
    if reset:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def begin(port, data):
    s = socket.create_connection(("127.0.0.1", port), timeout=30)
    s.sendall(data)
    return s


def main():
    p = parser(__doc__)
    p.add_argument("--times", type=int, default=200, help="clients that leave in each phase")
    p.add_argument("--rounds", type=int, default=1)
    options = p.parse_args()
    server, verdict, serial = Server(options, "--no-access-log", "--max-queue", "1000"), Verdict(), itertools.count()
    image = pictures()[0]

    def fresh(n=200):
        i = next(serial)
        return post(form(image, ",".join(f"{i} {j}" for j in range(n))))

    def ask(n):
        return server.ask("POST", "/classify", form(image, ",".join(f"warm {j}" for j in range(n))),
                          {"Content-Type": "multipart/form-data; boundary=comma-load"})[0]
    ask(10)
    ask(200)
    whole, texts = fresh(), ",".join(f'"{i}"' for i in range(2000))
    answer = post(('{"texts":[' + texts + "]}").encode(), "application/json", "/embed")
    socket.create_connection(("127.0.0.1", server.port)).close()
    server.ask("POST", "/embed", answer.split(b"\r\n\r\n", 1)[1], {"Content-Type": "application/json"})
    server.quiet()
    files, resident = server.descriptors(), server.resident()
    print(f"before: {server.figures()}", flush=True)
    for _ in range(options.rounds):
        for phase in ("head", "body", "queue", "inference", "response"):
            before, cpu, began = server.metrics(), server.cpu_seconds(), time.monotonic()
            blocker = begin(server.port, fresh(3000)) if phase == "queue" else None
            if blocker:
                time.sleep(0.05)
            waiting = []
            for i in range(options.times):
                if phase == "head":
                    leave(begin(server.port, whole[:20 + i % 100]), i % 2)
                elif phase == "body":
                    leave(begin(server.port, whole[:len(whole) // 2]), i % 2)
                elif phase == "queue":
                    waiting.append(begin(server.port, fresh()))
                elif phase == "inference":
                    s = begin(server.port, fresh(400))
                    time.sleep(0.003)
                    leave(s, True)
                else:
                    s = begin(server.port, answer)
                    s.recv(1)
                    leave(s, i % 2)
            for i, s in enumerate(waiting):
                leave(s, True)
            if blocker:
                blocker.recv(100)
                leave(blocker, False)
            gone = server.quiet(60)
            after = server.metrics()
            took = {name: after.get(name, 0) - before.get(name, 0) for name in after}
            n_499 = sum(v for k, v in took.items() if "requests_total" in k and 'code="499"' in k)
            dropped = took.get('comma_jobs_total{result="failed"}', 0)
            print(f"{phase}: {options.times} left; {n_499:.0f} counted as 499, {dropped:.0f} jobs dropped, "
                  f"{took['comma_texts_encoded_total']:.0f} labels encoded; CPU {server.cpu_seconds() - cpu:.2f} s in "
                  f"{time.monotonic() - began:.1f} s; {server.figures()}", flush=True)
            verdict.check(gone, f"{phase}: no request, job or byte is left")
            if phase == "queue":
                most = 3000 + options.times * 200 // 4
                verdict.check(took["comma_texts_encoded_total"] <= most,
                              f"{phase}: of {options.times * 200} labels nobody waits for, at most a quarter were encoded")
    end = time.monotonic() + 10
    while server.descriptors() > files + 1 and time.monotonic() < end:
        time.sleep(0.1)
    print(f"after:  {server.figures()}", flush=True)
    verdict.check(server.descriptors() <= files + 1, f"descriptors are as before: {files}, {server.descriptors()}")
    verdict.check(server.resident() - resident < 64 * MIB, f"memory grew by {(server.resident() - resident) / MIB:.0f} MiB")
    verdict.check(ask(10) == 200, "it serves on")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
