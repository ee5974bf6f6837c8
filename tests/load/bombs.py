#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Decompression, pixel, scan and JSON bombs, one after the other: each is refused or cut at a limit in bounded time and
memory, while others are served."""
import sys
import time

from common import MIB, Server, Verdict, parser, pictures
from pictures import bombs


def family_cpu(server):
    """Seconds of all processes, ended children's included."""
    total = 0
    for pid in server.family():
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += sum(map(int, fields[11:15]))
        except OSError:
            pass
    return total / 100


def main():
    p = parser(__doc__)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--cpu", type=float, default=2.5, help="seconds of CPU that one may cost")
    options = p.parse_args()
    server, verdict = Server(options, "--no-access-log", "--decoder-sandbox", "on"), Verdict()
    image = pictures()[0]

    def usual():
        return server.ask("POST", "/classify?labels=pizza,dog", image, {"Content-Type": "image/png"})[0]
    usual()
    resident, family = server.resident(), server.family_resident()
    print(f"before: {server.figures()}, with decoders {family / MIB:.0f} MiB", flush=True)
    for _ in range(options.rounds):
        for words, kind, body, wanted in bombs():
            server.reset_peak()
            cpu, began = family_cpu(server), time.perf_counter()
            status, _, answer = server.ask("POST", "/classify?labels=a" if kind != "application/json" else "/classify",
                                           body, {"Content-Type": kind})
            took, cpu = time.perf_counter() - began, family_cpu(server) - cpu
            print(f"{words}: {len(body):,} bytes, {status}, {1e3 * took:.0f} ms, CPU {cpu:.2f} s, peak "
                  f"+{(server.peak() - resident) / MIB:.0f} MiB; {answer[-180:].decode(errors='replace') if status != 200 else ''}", flush=True)
            verdict.check(status in wanted, f"{words}: {status} is right")
            verdict.check(cpu <= options.cpu, f"{words}: at most {options.cpu:g} s of CPU")
            verdict.check(server.peak() - resident < 400 * MIB, f"{words}: peak memory below +400 MiB")
            verdict.check(usual() == 200, "it serves on")
    server.quiet()
    grown = server.family_resident() - family
    print(f"after:  {server.figures()}, with decoders {server.family_resident() / MIB:.0f} MiB", flush=True)
    verdict.check(grown < 128 * MIB, f"with decoders it grew by {grown / MIB:.0f} MiB")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
