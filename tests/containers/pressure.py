#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""More than it can do, and less memory than it would like.

    tests/containers/pressure.py overload [--seconds 20]    three replicas behind HAProxy: what they complete with as many
                                                            requests as they can do, with ten times as many, and after
    tests/containers/pressure.py memory [--seconds 60]      one container of 512 MiB, and clients that want all of it

Exit status 0: under overload at least nine tenths of the capacity were completed, and every other request was told so
with 503 or 504; in little memory the process lived, no process of its container was killed for memory, and every answer
was a 200, a 4xx or a 503."""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import random
import sys
import threading
import time
import zlib

import container
from container import Container, Unavailable, ask, build, docker, form, need_engine
from fleet import REPLICAS, Fleet
from load import noise_png, percentile, png

MIB = 1 << 20


# ---- overload ----

def heavy():
    """A request that takes long enough to compute for ten times as many to be sent from the same machine."""
    labels = "\n".join(f"thing {random.randrange(1 << 40)}" for _ in range(150))
    return form(("image", PIZZA), ("labels", labels))


PIZZA = (container.SAMPLES / "pizza.png").read_bytes()


class Tally:
    """Answers by status, and how long those took; any thread."""

    def __init__(self, patience):
        self.lock, self.seconds = threading.Lock(), collections.defaultdict(list)
        self.patience = {"X-Request-Timeout": str(patience)} if patience else {}

    def add(self, port):
        headers, body = heavy()
        began = time.monotonic()
        try:
            status = ask(port, "POST", "/classify", body, {**headers, **self.patience}, timeout=60).status
        except OSError as e:
            status = type(e).__name__
        with self.lock:
            self.seconds[status].append(time.monotonic() - began)

    def per_second(self, seconds):
        return len(self.seconds[200]) / seconds

    def report(self, name, seconds):
        done, refused = self.seconds[200], [s for k, v in self.seconds.items() if k != 200 for s in v]
        print(f"{name:<10}{sum(map(len, self.seconds.values())) / seconds:>9.1f}{self.per_second(seconds):>9.1f}"
              f"{1e3 * percentile(done, .5):>9.0f}{1e3 * percentile(done, .99):>9.0f}"
              f"{1e3 * percentile(refused, .5):>12.1f}{1e3 * percentile(refused, .99):>12.1f}  "
              f"{ {str(k): len(v) for k, v in self.seconds.items()} }", flush=True)


def closed_loop(port, clients, seconds, patience):
    """clients that send again as soon as they have their answer."""
    tally, end = Tally(patience), time.monotonic() + seconds

    def client(_):
        while time.monotonic() < end:
            tally.add(port)
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return tally


def open_loop(port, rate, seconds, patience):
    """rate requests a second, however many are still under way."""
    tally, began = Tally(patience), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(600) as pool:
        for i in range(int(rate * seconds)):
            time.sleep(max(0, began + i / rate - time.monotonic()))
            pool.submit(tally.add, port)
    return tally


def memory_of(fleet):
    return {name: docker("stats", "--no-stream", "--format", "{{.MemUsage}}", fleet.id(name)).split(" /")[0]
            for name in REPLICAS}


def overload(seconds, patience):
    with Fleet() as fleet:
        print("           offered     done  p50 ms   p99 ms  refused p50 refused p99  answers (a second, but the last)")
        closed_loop(fleet.port, 16, 2, patience)
        capacity = closed_loop(fleet.port, 16, seconds, patience)
        capacity.report("capacity", seconds)
        before = memory_of(fleet)
        over = open_loop(fleet.port, 10 * capacity.per_second(seconds), seconds, patience)
        over.report("ten times", seconds)
        after = closed_loop(fleet.port, 16, seconds, patience)
        after.report("after", seconds)
        print(f"memory: {before} before, {memory_of(fleet)} after")
        kept = over.per_second(seconds) / capacity.per_second(seconds)
        print(f"{100 * kept:.0f} % of the capacity were completed under ten times the load")
        return kept >= 0.9 and set(over.seconds) <= {200, 503, 504} and set(capacity.seconds) == set(after.seconds) == {200}


# ---- memory ----

def flat_png(side):
    """side x side pixels in few bytes."""
    deflate = zlib.compressobj(1)
    return png(side, b"".join(deflate.compress(bytes(3 * side + 1)) for _ in range(side)) + deflate.flush())


def hostile_requests():
    """name: (headers, body) of requests that each want much memory."""
    many = "\n".join(f"label {i} of many" for i in range(10000))
    return {"49 megapixels": form(("image", flat_png(7000)), ("labels", "cat,dog")),
            "16 megapixels": form(("image", flat_png(4000)), ("labels", "cat,dog")),
            "15 MB of noise": form(("image", noise_png(2270)), ("labels", "cat,dog")),
            "10,000 labels": form(("image", PIZZA), ("labels", many)),
            "20 MB": form(("image", b"\x89PNG" + bytes(20 * MIB)), ("labels", "cat")),
            "JSON of nothing": ({"Content-Type": "application/json"}, b'{"labels":[' + b"{}," * 4000000 + b"{}]}"),
            "small": form(("image", PIZZA), ("labels", "pizza,rocket"))}


def peak_of(name):
    """Most memory the container's group ever had, in MiB, its file cache with it; None where the engine hides it."""
    number = docker("inspect", "--format", "{{.Id}}", name)
    for path in (f"/sys/fs/cgroup/memory/docker/{number}/memory.max_usage_in_bytes",
                 f"/sys/fs/cgroup/system.slice/docker-{number}.scope/memory.peak",
                 f"/sys/fs/cgroup/docker/{number}/memory.peak"):
        if pathlib.Path(path).exists():
            return int(pathlib.Path(path).read_text()) / MIB
    return None


def resident(server):
    """MiB that its processes hold beside mapped files, what they share counted in each."""
    def kib(process):
        return sum(int(process.get(k, "0").split()[0]) for k in ("RssAnon", "RssShmem"))
    return sum(map(kib, server.processes())) / 1024


def besiege(server, seconds, clients=24):
    """{name: {status: count}} of hostile requests from many clients at once."""
    requests, port, end = hostile_requests(), server.port(8080), time.monotonic() + seconds
    counts, lock = collections.defaultdict(collections.Counter), threading.Lock()

    def client(number):
        rnd = random.Random(number)
        while time.monotonic() < end:
            name = rnd.choice(list(requests))
            headers, body = requests[name]
            try:
                status = ask(port, "POST", "/classify", body, headers, timeout=120).status
            except ConnectionError:
                status = "closed"  # refused before the body was read, and the answer lost with it
            with lock:
                counts[name][status] += 1
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for done in [pool.submit(client, i) for i in range(clients)]:
            done.result()
    return counts


def memory(seconds, limit="512m"):
    need_engine()
    options = ["--read-only", "--cap-drop", "ALL", "-m", limit, "--memory-swap", limit]
    environment = {"COMMA_INSECURE": "1", "COMMA_LABEL_CACHE_MB": "48", "COMMA_MAX_CONNECTIONS": "256"}
    with Container(build("comma"), *options, env=environment) as server:
        server.wait_ready()
        first, before = server.state("Pid"), resident(server)
        peak, ended = [before], threading.Event()

        def watch():
            while not ended.wait(0.2):
                peak.append(resident(server))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            counts = besiege(server, seconds)
        finally:
            ended.set()
            watcher.join()
        for name, statuses in counts.items():
            print(f"{name:<18}{json.dumps({str(k): v for k, v in sorted(statuses.items(), key=str)})}")
        killed = server.state("OOMKilled")
        print(f"limit {limit}: {before:.0f} MiB before, at most {max(peak):.0f}, {resident(server):.0f} after; with file "
              f"cache at most {peak_of(server.name) or float('nan'):.0f}; killed for memory: {killed}")
        allowed = {"closed", 200, 503, *range(400, 500)}
        return (killed == "false" and server.state("Pid") == first and not set().union(*counts.values()) - allowed and
                server.classify(PIZZA, ["pizza", "rocket"]).status == 200)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["overload", "memory"])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--patience", type=float, help="seconds that each request of overload has (X-Request-Timeout)")
    options = parser.parse_args()
    try:
        if options.part == "overload":
            return 0 if overload(options.seconds, options.patience) else 1
        return 0 if memory(options.seconds) else 1
    except Unavailable as why:
        print(f"pressure: {why}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
