#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A long run at changing load: adapters replaced and SIGHUP each minute, hostile requests one in a hundred, clients that
leave and that dawdle. At the end resident memory and descriptors are what they were after the first part of the run.

--seconds 3600 is the hour that a release is held against: figures after ten minutes and at the end are medians of two
minutes each. In short runs the same parts of the time are taken: a sixth, and medians of a thirtieth."""
import itertools
import json
import math
import pathlib
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time

from common import MIB, ROOT, Client, Server, Tally, Verdict, form, parser, pictures, post
from pictures import bombs, corpus

ADAPTER = ROOT / "models" / "emoji" / "adapters" / "groups"
LOOK_S = 2


class Load:
    """Requests at a rate that rises and falls, in an open loop."""

    def __init__(self, server, options, folder):
        self.server, self.options, self.folder = server, options, folder
        self.client, self.usual, self.hostile = Client(server.port), Tally(), Tally()
        self.random, self.serial, self.broken = random.Random(options.seed), itertools.count(), corpus(options.seed)
        self.images = pictures()
        self.bombs = [b for b in bombs() if len(b[2]) < 2 * MIB]
        self.wrong, self.reloads, self.dawdlers = [], 0, []

    def request(self):
        i = next(self.serial)
        labels = [f"label {self.random.randrange(400)}" for _ in range(self.random.choice((3, 10, 30)))]
        if i % 10 == 0:
            labels.append(f"never seen {i}")
        model = self.random.choice(("emoji", "groups", "one", "one", "two"))
        if i % 17 == 0:
            return post(json.dumps({"texts": labels, "model": model}).encode(), "application/json", "/embed")
        return post(form(self.images[i % len(self.images)], json.dumps(labels), model=model))

    def answered(self, status, seconds):
        self.usual(status, seconds)
        if status not in (200, 404, 429, 503):  # 404: "two" comes and goes
            self.wrong.append(status)

    def send_hostile(self):
        kind = self.random.randrange(5)
        if kind == 0:
            words, content_type, body, _ = self.random.choice(self.bombs)
            path = "/classify" if content_type == "application/json" else "/classify?labels=a"
            self.client.send(post(body, content_type, path), self.hostile)
        elif kind == 1:
            _, content_type, body = next(self.broken)
            self.client.send(post(body, content_type, "/classify?labels=a,b"), self.hostile)
        elif kind == 2:
            self.client.send(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                             self.hostile)
        elif kind == 3:  # leaves
            with socket.create_connection(("127.0.0.1", self.server.port)) as s:
                whole = self.request()
                s.sendall(whole[:self.random.randrange(len(whole))])
        else:  # dawdles until it is cut off
            s = socket.create_connection(("127.0.0.1", self.server.port))
            s.sendall(b"GET /mod")
            self.dawdlers.append((time.monotonic() + 8, s))
            while self.dawdlers and self.dawdlers[0][0] < time.monotonic():
                self.dawdlers.pop(0)[1].close()

    def reload(self):
        """One adapter is replaced, one comes and goes, one is broken from time to time."""
        self.reloads += 1
        fresh = self.folder.parent / f"fresh {self.reloads}"
        shutil.copytree(ADAPTER, fresh)
        old = self.folder.parent / f"old {self.reloads}"
        (self.folder / "one").rename(old)
        fresh.rename(self.folder / "one")
        shutil.rmtree(old)
        if self.reloads % 2:
            shutil.copytree(ADAPTER, self.folder / "two")
        else:
            shutil.rmtree(self.folder / "two")
        bad = self.folder / "bad"
        if self.reloads % 3 == 0:
            bad.mkdir()
            (bad / "adapter_config.json").write_text("{}")
        elif bad.exists():
            shutil.rmtree(bad)
        self.server.process.send_signal(signal.SIGHUP)

    def run(self, began, look):
        o = self.options
        due, n, next_reload, next_look = began, 0, began + o.reload_every, began
        while (now := time.monotonic()) < began + o.seconds and self.server.alive():
            # Between nothing and twice the mean, in waves of a few minutes, with a burst at times.
            wave = 1 + math.sin(2 * math.pi * (now - began) / o.wave)
            rate = o.rate * max(0.02, wave) * (3 if (now - began) % 97 < 2 else 1)
            while due <= now:
                n += 1
                if n % 100 == 0:
                    self.send_hostile()
                elif self.client.under_way < 400:
                    self.client.send(self.request(), self.answered)
                due = max(due, now - 1) + 1 / rate
            if now >= next_reload:
                self.reload()
                next_reload += o.reload_every
            if now >= next_look:
                look(now - began, rate)
                next_look += LOOK_S
            self.client.step(min(due - time.monotonic(), 0.5))


def main():
    p = parser(__doc__)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--rate", type=float, default=20, help="requests a second in the mean")
    p.add_argument("--wave", type=float, default=300, help="seconds from one height of the load to the next")
    p.add_argument("--reload-every", type=float, help="seconds; a minute, in short runs a tenth of the time")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--report-every", type=float, help="seconds; a minute, in short runs a tenth of the time")
    options = p.parse_args()
    options.reload_every = options.reload_every or min(60, options.seconds / 10)
    options.report_every = options.report_every or min(60, options.seconds / 10)
    with tempfile.TemporaryDirectory() as top:
        return soak(options, pathlib.Path(top) / "adapters")


def soak(options, folder):
    folder.mkdir()
    shutil.copytree(ADAPTER, folder / "one")
    # The cache is small enough to be full early, or its filling would look like a leak.
    server, verdict = Server(options, "--adapters", str(folder), "--label-cache-mb", "2"), Verdict()
    load, looks, reported, began = Load(server, options, folder), [], [0.0], time.monotonic()

    def look(second, rate):
        looks.append((second, server.resident(), server.descriptors(), server.family_resident()))
        if second >= reported[0]:
            reported[0] += options.report_every
            m = server.metrics()
            print(f"{second:6.0f} s: {rate:5.1f} requests/s, resident {looks[-1][1] / MIB:6.1f} MiB, with decoders "
                  f"{looks[-1][3] / MIB:6.1f} MiB, {looks[-1][2]} descriptors, {m['comma_http_connections']:.0f} connections, "
                  f"cache {m['comma_label_cache_bytes'] / MIB:.2f} MiB, {load.reloads} reloads, CPU {server.cpu_seconds():.1f} s; "
                  f"{load.usual.words()}; hostile: {load.hostile.words()}", flush=True)
            for tally in (load.usual, load.hostile):  # counts are enough for an hour
                for status, times in tally.times.items():
                    tally.times[status] = times[:1] * len(times)

    load.run(began, look)
    load.client.finish(60)
    took = time.monotonic() - began
    quiet = server.quiet()
    m = server.metrics() if server.alive() else {}

    def median(column, start):
        return statistics.median(x[column] for x in looks if start <= x[0] <= start + span)
    # What is touched for the first time in a short run is no leak.
    grace = (8 if options.seconds >= 1800 else 32) * MIB
    span = max(options.seconds / 30, 3 * LOOK_S)
    early, late = options.seconds / 6, options.seconds - span
    for words, column, slack in (("resident memory", 1, grace), ("memory with decoders", 3, 2 * grace)):
        a, b = median(column, early), median(column, late)
        verdict.check(b - a <= slack, f"{words} after {early:.0f} s {a / MIB:.1f} MiB, at the end {b / MIB:.1f} MiB")
    a, b = min(x[2] for x in looks if early <= x[0] <= 2 * early), min(x[2] for x in looks if x[0] >= options.seconds * 0.7)
    verdict.check(b <= a + 2, f"descriptors, the fewest: in the first part {a}, in the last {b}")
    verdict.check(not load.wrong, f"every request was answered 200, 404 (an adapter that is not there now), 429 or 503 "
                                  f"{sorted(set(load.wrong))} x {len(load.wrong)}")
    verdict.check(set(s for s, t in load.hostile.times.items() if t) <= {0, 200, 400, 404, 413, 415, 422, 429, 503},
                  "every hostile one 200, 4xx or 503")
    failed = m.get('comma_reloads_total{result="failed"}', -1)
    verdict.check(m.get('comma_reloads_total{result="ok"}', 0) + failed == load.reloads and load.reloads > 0,
                  f"{load.reloads} reloads, {failed:.0f} with a broken adapter in the folder")
    verdict.check(quiet, "nothing is left in work")
    verdict.check(took < options.seconds + 60, f"it took {took:.0f} s")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
