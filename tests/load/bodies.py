#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bodies that are too large, too many pieces, too many labels: refused early, in little time and memory."""
import json
import socket
import sys
import time

from common import MIB, Server, Verdict, form, parser, pictures

CHUNKED = b"POST /classify?labels=pizza,dog HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"


def send(port, head, pieces):
    """Sends as far as the server takes it; (status or 0, bytes sent, seconds to the answer)."""
    began, sent, answer = time.perf_counter(), 0, b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        try:
            s.sendall(head)
            for piece in pieces:
                s.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        try:
            while b"\r\n\r\n" not in answer and (data := s.recv(65536)):
                answer += data
        except OSError:
            pass
    return (int(answer[9:12]) if answer[:5] == b"HTTP/" else 0), sent, time.perf_counter() - began


def zeros(megabytes, chunked):
    piece = bytes(MIB)
    for _ in range(megabytes):
        yield b"%x\r\n" % MIB + piece + b"\r\n" if chunked else piece
    if chunked:
        yield b"0\r\n\r\n"


def one_by_one(data, a_send):
    """Chunks of a byte each, so many of them in a send."""
    chunks = [b"1\r\n%c\r\n" % byte for byte in data] + [b"0\r\n\r\n"]
    for i in range(0, len(chunks), a_send):
        yield b"".join(chunks[i:i + a_send])


def main():
    p = parser(__doc__)
    p.add_argument("--times", type=int, default=3, help="how often each is sent")
    options = p.parse_args()
    server, verdict = Server(options, "--no-access-log"), Verdict()
    image = pictures()[0]
    png = {"Content-Type": "image/png"}
    many = form(image, json.dumps([f"label {i}" for i in range(100000)]))
    form_head = {"Content-Type": "multipart/form-data; boundary=comma-load"}

    def with_length(n):
        return (f"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {n}\r\n"
                "\r\n").encode()
    # 3 MB: a picture and what does not belong to it, which a decoder leaves alone.
    padded = image + bytes(3_000_000 - len(image))
    cases = [
        ("100 MB with Content-Length", lambda: send(server.port, with_length(100 * MIB), zeros(100, False)), {413}, 0.1),
        ("1 GiB claimed, nothing sent", lambda: send(server.port, with_length(1 << 30), ()), {413}, 0.1),
        ("2^62 bytes claimed", lambda: send(server.port, with_length(1 << 62), ()), {400, 413}, 0.1),
        ("100 MB in chunks", lambda: send(server.port, CHUNKED, zeros(100, True)), {0, 413}, None),
        ("3 MB in chunks of one byte", lambda: send(server.port, CHUNKED, one_by_one(padded, 1000)), {200}, None),
        ("30,000 chunks of one byte, each sent alone",
         lambda: send(server.port, CHUNKED, one_by_one(padded[:30000], 1)), {200}, None),
        ("a chunk that claims 2^64 bytes", lambda: send(server.port, CHUNKED, [b"ffffffffffffffff\r\nx"]), {0, 400, 408, 413}, None),
        ("100,000 labels", lambda: (server.ask("POST", "/classify", many, form_head)[0], len(many), 0), {422}, None),
    ]
    server.ask("POST", "/classify?labels=pizza,dog", image, png)
    print(f"before: {server.figures()}", flush=True)
    for words, run, wanted, seconds in cases:
        resident = server.resident()
        server.reset_peak()
        cpu, answers = server.cpu_seconds(), [run() for _ in range(options.times)]
        cpu = (server.cpu_seconds() - cpu) / options.times
        peak, slowest = (server.peak() - resident) / MIB, max(a[2] for a in answers)
        statuses = sorted({a[0] for a in answers})
        print(f"{words}: {statuses}, {answers[0][1]:,} bytes went out, {1e3 * slowest:.0f} ms, CPU {cpu:.3f} s each, peak "
              f"+{peak:.0f} MiB", flush=True)
        verdict.check(set(statuses) <= wanted, f"{words}: answered as it should be")
        if seconds:
            verdict.check(slowest < seconds, f"{words}: in less than {1e3 * seconds:.0f} ms")
        verdict.check(peak < 80, f"{words}: peak memory +{peak:.0f} MiB, less than 80 (the limit of a body is 16)")
        verdict.check(cpu < 1, f"{words}: less than a second of CPU each")
        verdict.check(server.ask("POST", "/classify?labels=pizza,dog", image, png)[0] == 200, "it serves on")
    verdict.check(server.quiet(), "nothing is left in work")
    print(f"after:  {server.figures()}", flush=True)
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
