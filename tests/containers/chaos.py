#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Three replicas behind HAProxy, as docker/compose.yaml has them, under a steady load while things go wrong.

    tests/containers/chaos.py [--seconds 20] [--rate 40] [--clients 16] [PHASE]...

Builds the images (see docker/README.md where no registry can be reached), starts everything under a name and on ports
of its own, and takes it away at the end. Half of the clients keep their connection, half open one for each request;
half send 12 KB, half 480 KB, more than HAProxy can keep to send again. A client tries up to five times, as it may: a
classification has no side effects. Phases, each --seconds long and ended by all three being well:

    faultless   nothing happens
    kill        one replica at a time is killed (SIGKILL) and started again
    drain       one at a time gets SIGTERM, ends by itself, and is started again
    restart     one at a time is restarted by the engine
    freeze      one stands still for the whole phase, its sockets open
    roll        all three are replaced by new containers, one after the other
    reload      HAProxy reads its configuration anew, every three seconds

Exit status 0: no request was lost in any phase, and none failed even once but in kill and freeze, where only large
bodies may have had to be sent again by the client."""
import argparse
import itertools
import sys
import time

from container import Unavailable
from fleet import REPLICAS, Fleet
from load import Load, percentile

PHASES = ["faultless", "kill", "drain", "restart", "freeze", "roll", "reload"]
HARSH = {"kill", "freeze"}


def go_wrong(fleet, phase, seconds):
    """Does the phase's mischief for a time, to one replica after the other."""
    end = time.monotonic() + seconds
    for name in itertools.cycle(REPLICAS):
        if phase == "roll":
            for each in REPLICAS:
                fleet.roll(each)
        elif phase == "reload":
            fleet.reload()
            time.sleep(3)
        elif phase == "freeze":
            fleet.freeze(name, seconds)
        elif phase == "faultless":
            time.sleep(seconds)
        else:
            getattr(fleet, phase)(name)
        if time.monotonic() > end:
            break
        time.sleep(1)
    fleet.wait_whole()


def failures(outcomes):
    """"502 x3, RemoteDisconnected x1" of those that failed at least once."""
    counts = {}
    for outcome in outcomes:
        for failure in outcome.failures:
            counts[failure] = counts.get(failure, 0) + 1
    return ", ".join(f"{name} x{n}" for name, n in sorted(counts.items()))


def judge(phase, outcomes):
    """Prints the phase's row; True if it kept the promise."""
    again = [o for o in outcomes if o.failures]
    small = [o for o in again if o.kind == "small"]
    lost = [o for o in outcomes if o.lost]
    seconds = [o.seconds for o in outcomes]
    allowed = not small if phase in HARSH else not again
    ok = bool(outcomes) and not lost and allowed
    print(f"{phase:<10}{len(outcomes):>9}{len(small):>13}{len(again) - len(small):>13}{len(lost):>6}"
          f"{1e3 * percentile(seconds, .5):>9.0f}{1e3 * percentile(seconds, .99):>9.0f}{1e3 * max(seconds, default=0):>9.0f}"
          f"  {'ok' if ok else 'NOT OK'} {failures(again)}", flush=True)
    return ok


def run(fleet, load, phases, seconds):
    print("           requests  small again  large again  lost  p50 ms   p99 ms   max ms")
    ok = True
    load.start()
    for phase in phases:
        load.take()
        go_wrong(fleet, phase, seconds)
        time.sleep(0.5)
        if phase == phases[-1]:
            ok &= judge(phase, load.stop())
        else:
            ok &= judge(phase, load.take())
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="Phases: " + ", ".join(PHASES))
    parser.add_argument("phases", nargs="*", metavar="PHASE", help="all of them by default")
    parser.add_argument("--seconds", type=float, default=20, help="length of a phase")
    parser.add_argument("--rate", type=float, default=40, help="requests a second in all")
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    for phase in options.phases:
        if phase not in PHASES:
            parser.error(f"no phase {phase}; there are {', '.join(PHASES)}")
    try:
        fleet = Fleet()
    except Unavailable as why:
        print(f"chaos: {why}", file=sys.stderr)
        return 2
    with fleet:
        return 0 if run(fleet, Load(fleet.port, options.rate, options.clients), options.phases or PHASES,
                        options.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
