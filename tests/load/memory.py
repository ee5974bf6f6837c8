#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The memory ceiling: with --max-memory-mb, the most hostile mix of requests is refused in part (503), never answered by
the kernel's OOM killer.

At once: bodies of the largest size in all three kinds, ten thousand new labels or texts a request, pictures of most
pixels, uploads that stay half done, answers that are not read, many idle connections. Memory is the proportional share
of the server and its decoders, read every 50 ms, and the server's own high-water mark. --limit also sets RLIMIT_AS, so
that allocations really fail: then every answer is still 200, 4xx or 503 by the same process. With --cgroup (root, cgroup
v2) the kernel enforces the ceiling, and the server finds it by itself."""
import base64
import itertools
import json
import pathlib
import random
import socket
import sys
import threading
import time

from common import MIB, Client, Server, Tally, Verdict, form, parser, pictures, post, raise_descriptor_limit
from pictures import deflated_zeros, jpeg, png

JSON = "application/json"


def requests(source, only):
    """Endless, each as bytes: hostile in size, all of them well-formed."""
    image, serial = pictures()[0], itertools.count()
    # What follows a picture's end is left alone by decoders.
    large = image + random.Random(1).randbytes((16 << 20) - len(image) - 4096)
    raw = post(large, "image/png", "/classify?labels=pizza,dog")
    in_form = post(form(large[:-4096], "pizza,dog"))
    in_json = post(json.dumps({"image": base64.b64encode(large[:12 * 1000 * 1000]).decode(), "labels": ["a", "b"]}).encode(), JSON)
    wide = png(7000, 7000, deflated_zeros(7000 * (1 + 3 * 7000)))
    pixels = [post(wide, "image/png", "/classify?labels=a"), post(jpeg(7000, 7000), "image/jpeg", "/classify?labels=a"),
              post(jpeg(5000, 5000, 60, True), "image/jpeg", "/classify?labels=a")]

    def labels(n, each):
        i = next(serial)
        return [f"{i} {j} ".ljust(each, "x" if each < 40 else " ") for j in range(n)]

    def many_labels():
        return post(form(image, json.dumps(labels(10000, 12))))

    def long_labels():
        return post(json.dumps({"image": base64.b64encode(image).decode(), "labels": labels(4000, 1000)}).encode(), JSON)

    def many_texts():
        return post(json.dumps({"texts": labels(10000, 12), "encoding": source.choice(["float", "base64"])}).encode(), JSON,
                    "/embed")
    kinds = {"raw": lambda: raw, "form": lambda: in_form, "json": lambda: in_json, "pixels": lambda: source.choice(pixels),
             "labels": many_labels, "long": long_labels, "texts": many_texts,
             "usual": lambda: post(form(image, "pizza,rocket"))}
    while True:
        yield kinds[source.choice(only or list(kinds))]()


class Watcher(threading.Thread):
    """Reads memory until end()."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.family, self.ending, self.reserved = server, 0, False, 0
        self.start()

    def run(self):
        while not self.ending and self.server.alive():
            try:
                self.family = max(self.family, self.server.family_resident())
            except (OSError, TypeError):
                pass
            time.sleep(0.05)

    def end(self):
        self.ending = True
        self.join()


def hold(port, n):
    """Uploads that stay half done, answers that nobody reads, connections that say nothing."""
    held = []
    for i in range(n):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", port))
        s.settimeout(0.2)
        try:
            if i % 3 == 0:
                s.sendall(b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                          b"Content-Length: 16777216\r\n\r\n" + bytes(1 << 20))
            elif i % 3 == 1:
                texts = json.dumps({"texts": [f"held {j}" for j in range(5000)]}).encode()
                s.sendall(post(texts, JSON, "/embed"))
        except OSError:
            pass
        held.append(s)
    return held


def cgroup(name, limit):
    """A cgroup of that limit; None where there is no cgroup v2 that can be written to."""
    top = pathlib.Path("/sys/fs/cgroup")
    control = top / "cgroup.subtree_control"
    if not control.exists() or "memory" not in control.read_text():
        print("no cgroup v2 with a memory controller here")
        return None
    try:
        group = top / name
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(str(limit))
        return group
    except OSError as e:
        print(f"no cgroup of its own: {e}")
        return None


def main():
    p = parser(__doc__)
    p.add_argument("--max-memory-mb", type=int, default=640)
    p.add_argument("--seconds", type=float, default=25)
    p.add_argument("--concurrency", type=int, default=24)
    p.add_argument("--held", type=int, default=12)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", nargs="*", metavar="KIND", help="of raw, form, json, pixels, labels, long, texts, usual")
    p.add_argument("--limit", type=int, default=0, metavar="MB", help="RLIMIT_AS of the server's processes as well")
    p.add_argument("--cgroup", action="store_true")
    options = p.parse_args()
    raise_descriptor_limit(4096)
    ceiling, wrap, group = options.max_memory_mb * MIB, (), None
    arguments = ["--no-access-log", "--label-cache-mb", "64", "--max-memory-mb", str(options.max_memory_mb)]
    if options.cgroup:
        group = cgroup("comma-load", ceiling)
        if not group:
            return 2
        wrap, arguments = ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$0" "$@"'), arguments[:-2]
    if options.limit:
        wrap = ("prlimit", f"--as={options.limit * MIB}", *wrap)
    server, verdict = Server(options, *arguments, wrap=wrap), Verdict()
    ready = next((line for line in server.log if '"ready"' in line), "")
    print(f"before: {server.figures()}, with decoders {server.family_resident() / MIB:.0f} MiB\n        {ready.strip()}", flush=True)
    held, watcher = hold(server.port, options.held), Watcher(server)
    client, tally = Client(server.port), Tally()
    stream, end = requests(random.Random(options.seed), options.only), time.monotonic() + options.seconds

    def done(status, took):
        tally(status, took)
        if time.monotonic() < end and server.alive():
            client.send(next(stream), done)
    for _ in range(options.concurrency):
        client.send(next(stream), done)
    while client.under_way and time.monotonic() < end + 90 and server.alive():
        client.step(0.5)
    for s in held:
        s.close()
    client.close()
    watcher.end()
    peak = server.peak() if server.alive() else 0
    print(f"during: {tally.total()} requests: {tally.words()}; with decoders at most {watcher.family / MIB:.0f} MiB, the "
          f"server alone {peak / MIB:.0f} MiB; the ceiling is {options.max_memory_mb} MiB", flush=True)
    verdict.check(server.alive(), "the server lives")
    if not server.alive():
        print("".join(list(server.log)[-5:]))
        return verdict.end()
    if group:
        events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
        most = int((group / "memory.peak").read_text()) if (group / "memory.peak").exists() else 0
        print(f"        the cgroup's peak {most / MIB:.0f} MiB; its events: {events}")
        verdict.check(events.get("oom_kill", "0") == "0", "the kernel killed nothing")
    quiet = server.quiet(60)
    usual = server.ask("POST", "/classify?labels=pizza,dog", pictures()[0], {"Content-Type": "image/png"})[0]
    print(f"after:  {server.figures()}, with decoders {server.family_resident() / MIB:.0f} MiB", flush=True)
    verdict.check(watcher.family <= ceiling, "memory stayed below the ceiling")
    verdict.check(set(s for s, t in tally.times.items() if t) <= {0, 200, 413, 422, 429, 503, 504},
                  "every answer is 200, 413, 422, 429, 503 or 504, or the server closed an upload that it refused")
    verdict.check(tally.count(200) > 0 and tally.count(503) > 0, "some were served, some refused")
    verdict.check(tally.count(0) <= tally.total() // 4, "few were closed without a word")
    verdict.check(quiet and usual == 200, "it serves on, and holds nothing of requests any more")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
