#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Loads a running server over kept-alive connections and holds its throughput against the engine's own.

    comma bench --json --model DIR --adapter DIR > engine.json
    comma serve --model DIR --adapter task=DIR &
    tests/bench/http.py --image pet.jpg --labels cat,dog --concurrency 64 --seconds 20 --engine engine.json

Each connection sends POST /classify again as soon as its answer is there. One thread with non-blocking sockets, and
requests that are made once, so that the load takes little from the cores it measures; what it takes is printed too. It
ends after --seconds or --requests, whichever comes first. Throughput is the answers that came after the first --warmup
seconds, by the time up to the last of them, while all connections were busy; latencies are of requests sent after the
warm-up. Exit status: 0 if all answers were 200, else 1."""
import argparse
import json
import os
import pathlib
import selectors
import socket
import sys
import time
import urllib.parse

BOUNDARY = "comma-load"


def make_request(url, image, labels, model):
    """The bytes of one multipart request."""
    def field(name, value, more=""):
        return (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n').encode() + value + b"\r\n"

    body = field("image", image, '; filename="image"\r\nContent-Type: application/octet-stream')
    body += field("labels", labels.encode())
    if model:
        body += field("model", model.encode())
    body += f"--{BOUNDARY}--\r\n".encode()
    return (f"POST /classify HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: keep-alive\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


class Connection:
    """One client: a request is sent, its answer is read, and so on."""

    def __init__(self, address, request):
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.request = request
        self.begin()

    def begin(self):
        self.unsent, self.answer, self.size = memoryview(self.request), b"", None
        self.began = time.perf_counter()

    def send(self):
        self.unsent = self.unsent[self.socket.send(self.unsent):]

    def receive(self):
        """The status once the answer is complete, else None; ConnectionError if the server closed."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.answer += data
        end = self.answer.find(b"\r\n\r\n")
        if self.size is None and end >= 0:
            head = self.answer[:end].decode("latin-1").lower().split("\r\n")
            lengths = [line.split(":", 1)[1] for line in head[1:] if line.startswith("content-length:")]
            self.size = end + 4 + int(lengths[0])
        if self.size is None or len(self.answer) < self.size:
            return None
        return int(self.answer[9:12])


class Load:
    def __init__(self, options, url, request):
        self.options, self.address, self.request = options, (url.hostname, url.port or 80), request
        self.selector = selectors.DefaultSelector()
        self.latencies, self.statuses, self.errors, self.sent, self.answered = [], {}, 0, 0, 0

    def open(self):
        connection = Connection(self.address, self.request)
        self.selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        self.sent += 1

    def close(self, connection):
        self.selector.unregister(connection.socket)
        connection.socket.close()

    def may_send(self, now):
        return self.sent < self.options.requests and now < self.until

    def step(self, connection, events):
        """What one socket is ready for."""
        if events & selectors.EVENT_WRITE and connection.unsent:
            connection.send()
            if not connection.unsent:
                self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
        if not events & selectors.EVENT_READ:
            return
        status = connection.receive()
        if status is None:
            return
        now = time.perf_counter()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if now >= self.from_ and not self.draining:
            self.answered += 1
            self.last = now
        if connection.began >= self.from_:
            self.latencies.append(now - connection.began)
        self.draining |= not self.may_send(now)
        if not self.draining:
            connection.begin()
            self.selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
            self.sent += 1
        else:
            self.close(connection)

    def run(self):
        begin, busy = time.perf_counter(), time.process_time()
        self.from_ = self.last = begin + self.options.warmup
        self.until, self.draining = self.from_ + self.options.seconds, False
        for _ in range(min(self.options.concurrency, self.options.requests)):
            self.open()
        give_up = self.until + self.options.patience
        while self.selector.get_map() and time.perf_counter() < give_up:
            for key, events in self.selector.select(timeout=1):
                try:
                    self.step(key.data, events)
                except BlockingIOError:
                    continue
                except (ConnectionError, IndexError, ValueError):
                    self.errors += 1
                    self.close(key.data)
                    if self.may_send(time.perf_counter()):
                        self.open()
        self.errors += len(self.selector.get_map() or ())  # still no answer
        cores = len(os.sched_getaffinity(0))
        self.cpu_share = (time.process_time() - busy) / (time.perf_counter() - begin) / cores


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def report(load, options):
    ordered = sorted(load.latencies)
    seconds = load.last - load.from_
    per_s = load.answered / seconds if seconds > 0 else 0.0
    figures = {"concurrency": options.concurrency, "requests": load.answered, "seconds": round(seconds, 3),
               "per_s": round(per_s, 3), "client_cpu_share": round(load.cpu_share, 4), "statuses": {str(k): v for k, v in sorted(load.statuses.items())},
               "errors": load.errors,
               "latency_ms": {name: round(1e3 * percentile(ordered, share), 3)
                              for name, share in [("p50", .5), ("p90", .9), ("p99", .99), ("max", 1)]}}
    if options.engine:
        engine = json.loads(sys.stdin.read() if options.engine == "-" else pathlib.Path(options.engine).read_text())
        figures["engine_per_s"] = engine["image"]["per_s"]
        figures["share_of_engine"] = round(per_s / engine["image"]["per_s"], 4)
    return figures


def show(figures):
    print(f"{figures['per_s']:.1f} requests/s over {figures['concurrency']} connections "
          f"({figures['requests']} in {figures['seconds']:.1f} s)")
    print(f"this client took {100 * figures['client_cpu_share']:.1f} % of the processor time there is")
    print("latency " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in figures["latency_ms"].items()))
    if "engine_per_s" in figures:
        print(f"{100 * figures['share_of_engine']:.1f} % of the engine's own {figures['engine_per_s']:.1f} images/s")
    if figures["errors"] or set(figures["statuses"]) - {"200"}:
        print(f"answers by status: {figures['statuses']}; connections that failed: {figures['errors']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--image", required=True, help="PNG or JPEG file that every request sends")
    parser.add_argument("--labels", default="cat,dog,red apple", help="as the field of a request")
    parser.add_argument("--model", help="adapter, or the backbone's name")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--requests", type=int, default=1000000, help="at most so many")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--patience", type=float, default=30, help="seconds to wait for the last answers")
    parser.add_argument("--engine", help="what comma bench --json printed, to compare with; - is standard input")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    url = urllib.parse.urlsplit(options.url)
    load = Load(options, url, make_request(url, pathlib.Path(options.image).read_bytes(), options.labels, options.model))
    load.run()
    figures = report(load, options)
    print(json.dumps(figures)) if options.json else show(figures)
    return 0 if figures["requests"] and not load.errors and set(load.statuses) == {200} else 1


if __name__ == "__main__":
    sys.exit(main())
