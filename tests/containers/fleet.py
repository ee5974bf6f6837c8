# SPDX-License-Identifier: MIT
"""docker/compose.yaml, started under a name and on ports of its own: three replicas behind HAProxy, and what can be done
to them."""
import csv
import os
import shutil
import socket
import subprocess
import sys
import time

from container import OURS, ROOT, Unavailable, ask, base_image, build, docker, need_engine, wait_until

COMPOSE = ROOT / "docker" / "compose.yaml"
REPLICAS = ["comma1", "comma2", "comma3"]


def compose_command():
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise Unavailable("there is neither docker compose nor docker-compose")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Fleet:
    """A context manager: up at its beginning, gone at its end."""

    def __init__(self, environment=None):
        need_engine()
        self.command = compose_command()
        self.port, self.stats_port = free_port(), free_port()
        images = [build(target) for target in ("comma", "haproxy")]
        self.environment = {**os.environ, "COMPOSE_PROJECT_NAME": OURS, "PORT": str(self.port),
                            "STATS_PORT": str(self.stats_port), "IMAGE": images[0], "BASE": base_image(),
                            **(environment or {})}

    def compose(self, *args):
        done = subprocess.run([*self.command, "-f", str(COMPOSE), *args], capture_output=True, text=True, timeout=300,
                              env=self.environment, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"compose {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def __enter__(self):
        try:
            self.compose("up", "-d", "--no-build", "haproxy")
            self.wait_whole()
        except BaseException:
            print(self.compose("logs", "--no-color", "--tail", "20"), file=sys.stderr)
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run([*self.command, "-f", str(COMPOSE), "kill"], capture_output=True, env=self.environment, timeout=300,
                       check=False)
        self.compose("down", "-v")

    def id(self, service):
        return self.compose("ps", "-q", service)

    def statistics(self):
        """HAProxy's own counters: {(proxy, server): {field: text}}."""
        text = ask(self.stats_port, "GET", "/;csv").body.decode().lstrip("# ")
        return {(row["pxname"], row["svname"]): row for row in csv.DictReader(text.splitlines())}

    def up(self):
        """Names of the replicas that HAProxy sends requests to."""
        try:
            rows = self.statistics()
        except OSError:
            return []
        return [name for name in REPLICAS if rows["replicas", name]["status"].startswith("UP")]

    def wait_whole(self, seconds=90):
        wait_until(lambda: self.up() == REPLICAS, seconds, "three replicas that are up")

    # What is done to it, each until all is well again but for freeze.

    def kill(self, name):
        self.signal(name, "KILL")
        docker("wait", self.id(name))
        time.sleep(2)
        docker("start", self.id(name))
        self.wait_whole()

    def drain(self, name):
        self.signal(name, "TERM")
        status = docker("wait", self.id(name))
        if status != "0":
            raise RuntimeError(f"{name} ended with {status} after SIGTERM")
        docker("start", self.id(name))
        self.wait_whole()

    def restart(self, name):
        docker("restart", "-t", "35", self.id(name))
        self.wait_whole()

    def freeze(self, name, seconds):
        docker("pause", self.id(name))
        time.sleep(seconds)
        docker("unpause", self.id(name))
        self.wait_whole()

    def roll(self, name):
        """Replaces a replica by a new container, as an update of the image does."""
        self.compose("up", "-d", "--no-build", "--no-deps", "--force-recreate", name)
        self.wait_whole()

    def reload(self):
        self.signal("haproxy", "USR2")

    def signal(self, name, signal):
        docker("kill", "-s", signal, self.id(name))
