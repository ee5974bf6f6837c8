#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten times as many requests as the server can do, in an open loop: what it completes, and how fast the rest is told.

First a closed loop finds the capacity, then requests come at --factor times that rate whether or not the others are
answered, then the same closed loop again. Each request brings --fresh labels never seen before, so that it costs the
server much and the load little."""
import itertools
import sys
import time

from common import MIB, Client, Prober, Server, Tally, Verdict, closed_loop, form, open_loop, parser, pictures, post, \
    raise_descriptor_limit


def main():
    p = parser(__doc__)
    p.add_argument("--factor", type=float, default=10)
    p.add_argument("--seconds", type=float, default=12, help="of each phase")
    p.add_argument("--fresh", type=int, default=60, help="labels of a request that the server has not seen")
    p.add_argument("--concurrency", type=int, default=16, help="clients of the closed loop")
    options = p.parse_args()
    raise_descriptor_limit(8192)
    server, verdict, serial = Server(options, "--no-access-log", "--label-cache-mb", "16"), Verdict(), itertools.count()
    images = pictures()

    def make():
        i = next(serial)
        return post(form(images[i % len(images)], ",".join(f"{i} {j}" for j in range(options.fresh))))

    client = Client(server.port)
    closed_loop(client, make, options.concurrency, options.seconds / 4, Tally())
    before = Tally()
    capacity = closed_loop(client, make, options.concurrency, options.seconds, before)
    resident = server.resident()
    print(f"before: {capacity:.1f} requests/s by {options.concurrency} clients, p50 {before.ms(.5, 200):.0f} ms, "
          f"{server.figures()}", flush=True)

    during, prober = Tally(), Prober(server.admin_port)
    began, done = time.perf_counter(), server.metrics().get('comma_jobs_total{result="ok"}', 0)
    latest = open_loop(client, make, options.factor * capacity, options.seconds, during)
    seconds = time.perf_counter() - began
    goodput = (server.metrics()['comma_jobs_total{result="ok"}'] - done) / seconds
    peak = server.resident()
    client.finish(120)
    n, failed, p50, p99, most = prober.end()
    rate = during.total() / seconds
    refused = (429, 503)
    print(f"during: {rate:.0f} requests/s came, {goodput:.1f}/s were completed; {during.words()}\n"
          f"        refusals p50 {during.ms(.5, *refused):.1f} ms, p99 {during.ms(.99, *refused):.1f} ms; completed p99 "
          f"{during.ms(.99, 200):.0f} ms; the load was at most {1e3 * latest:.0f} ms late\n"
          f"        {n} probes of the admin listener: p50 {p50:.1f}, p99 {p99:.1f}, max {most:.1f} ms; "
          f"resident {peak / MIB:.0f} MiB", flush=True)

    after = Tally()
    again = closed_loop(client, make, options.concurrency, options.seconds, after)
    print(f"after:  {again:.1f} requests/s; {after.words()}; {server.figures()}", flush=True)
    client.close()
    offered, capacity = rate / capacity, (capacity + again) / 2  # a shared machine's speed drifts

    verdict.check(offered >= 0.9 * options.factor, f"the load came at {offered:.1f} times the capacity")
    verdict.check(goodput >= 0.9 * capacity, f"goodput {100 * goodput / capacity:.0f} % of the capacity (before and after), promised 90")
    verdict.check(during.ms(.99, *refused) <= 10, f"refusals within {during.ms(.99, *refused):.1f} ms (p99), promised 10")
    verdict.check(set(s for s, t in during.times.items() if t) <= {200, 429, 503}, "every request was answered 200, 429 or 503")
    verdict.check(failed == 0, "every probe was answered")
    verdict.check(set(s for s, t in after.times.items() if t) == {200}, "afterwards every request is answered 200 again")
    verdict.check(peak - resident < 100 * MIB, f"memory grew by {(peak - resident) / MIB:.0f} MiB")
    return verdict.end(server)


if __name__ == "__main__":
    sys.exit(main())
