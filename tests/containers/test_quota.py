# SPDX-License-Identifier: MIT
"""A CPU quota that is not a container's: of a systemd unit, say. The groups of the other controllers lie elsewhere then."""
import os
import pathlib
import re
import subprocess

import pytest

BINARY = os.environ.get("COMMA_BIN") or str(pathlib.Path(__file__).resolve().parents[2] / "build" / "server" / "comma")


@pytest.fixture
def group():
    """A control group that pays for one CPU, of version 1 or 2."""
    root = pathlib.Path("/sys/fs/cgroup")
    path = (root / "cpu" if (root / "cpu").is_dir() else root) / f"comma-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as why:
        pytest.skip(f"no control group can be made here: {why}")
    try:
        if (path / "cpu.cfs_quota_us").exists():
            (path / "cpu.cfs_quota_us").write_text((path / "cpu.cfs_period_us").read_text())
        else:
            (path / "cpu.max").write_text("100000 100000")
        yield path
    except OSError as why:
        pytest.skip(f"no CPU quota can be set here: {why}")
    finally:
        path.rmdir()


def test_threads_follow_a_quota_outside_of_containers(group):
    def join():
        (group / "cgroup.procs").write_text("0")
    with subprocess.Popen([BINARY, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True, preexec_fn=join) as server:
        ready = next(line for line in server.stderr if '"msg":"ready"' in line)
        server.terminate()
    assert re.search(r" on 1 threads", ready), ready
