# SPDX-License-Identifier: MIT
"""chaos.py and pressure.py, a few seconds of each: that they run, and that nothing is lost even then. By hand they run
for as long as one likes."""
import pathlib
import re
import subprocess
import sys

import pytest
from container import Unavailable
from fleet import compose_command

HERE = pathlib.Path(__file__).resolve().parent


def script(name, *args):
    done = subprocess.run([sys.executable, str(HERE / name), *args], capture_output=True, text=True, timeout=600, check=False)
    print("\n" + done.stdout + done.stderr)
    return done


def test_no_request_is_lost_when_replicas_are_killed_replaced_and_the_balancer_reloads(image, haproxy_image):
    try:
        compose_command()
    except Unavailable as why:
        pytest.skip(str(why))
    phases = ["faultless", "kill", "roll", "reload"]
    done = script("chaos.py", "--seconds", "3", "--rate", "20", *phases)
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) ", done.stdout, re.M)
    assert [row[0] for row in rows] == phases
    for phase, n, _, _, lost in rows:
        assert int(n) > 20 and lost == "0", phase
    assert done.returncode == 0


def test_a_container_with_little_memory_outlives_those_who_want_it_all(image):
    done = script("pressure.py", "memory", "--seconds", "6")
    assert "killed for memory: false" in done.stdout
    assert done.returncode == 0
