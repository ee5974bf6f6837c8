#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Broken PNGs and JPEGs, mutations of good ones: every answer is 200 or 4xx, by the process that it was, in flat memory."""
import sys
import time

from common import MIB, Client, Server, Tally, Verdict, parser, post
from pictures import corpus


def main():
    p = parser(__doc__)
    p.add_argument("--pictures", type=int, default=6000)
    p.add_argument("--seconds", type=float, default=60, help="at most")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--concurrency", type=int, default=4)
    p.add_argument("--keep", help="directory for pictures that got another answer")
    options = p.parse_args()
    server, verdict, source = Server(options, "--no-access-log"), Verdict(), corpus(options.seed)
    client, tally, bad = Client(server.port), Tally(), []
    began, sent = time.monotonic(), 0

    def begin():
        nonlocal sent
        name, kind, data = next(source)
        sent += 1
        client.send(post(data, kind, "/classify?labels=pizza,dog"), lambda status, took: end(name, data, status, took))

    def end(name, data, status, took):
        tally(status, took)
        if status != 200 and not 400 <= status < 500:
            bad.append((name, status, data))
        if sent < n and time.monotonic() < began + options.seconds:
            begin()

    def run(many):
        nonlocal n
        n = many
        for _ in range(options.concurrency):
            begin()
        while client.under_way:
            client.step(0.5)
    n = 0
    run(options.pictures // 6)
    server.quiet()
    resident, family = server.resident(), server.family_resident()
    print(f"after the first {sent}: {server.figures()}, with decoders {family / MIB:.0f} MiB", flush=True)
    run(options.pictures)
    server.quiet()
    seconds = time.monotonic() - began
    print(f"{sent} pictures in {seconds:.0f} s: {tally.words()}; slowest {tally.ms(1, *tally.times):.0f} ms\n"
          f"after all: {server.figures()}, with decoders {server.family_resident() / MIB:.0f} MiB", flush=True)
    if options.keep:
        for i, (name, status, data) in enumerate(bad):
            with open(f"{options.keep}/{i}-{status}-{name}", "wb") as file:
                file.write(data)
    verdict.check(not bad, f"every answer is 200 or 4xx {[(b[0], b[1]) for b in bad[:5]]}")
    verdict.check(tally.count(200) > 0 and tally.count(415, 422, 413, 400) > 0, "some were good enough, some were not")
    verdict.check(server.resident() - resident < 50 * MIB, f"it grew by {(server.resident() - resident) / MIB:.0f} MiB")
    verdict.check(server.family_resident() - family < 64 * MIB, "and not by its decoders either")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
