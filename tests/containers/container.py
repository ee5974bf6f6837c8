# SPDX-License-Identifier: MIT
"""The docker command, as the tests and chaos.py beside it use it: builds the images, starts containers under names of
their own, asks them over HTTP, and takes all of it away again.

Images are tagged by the path of this tree, so that a second run builds only what changed and two trees do not meet."""
import atexit
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "models" / "emoji" / "samples"
# One of these is what the Dockerfile builds on; the last one is made where none is there.
BASES = ["debian:bookworm-slim", "debian:bookworm", "debian:12", "debian-bookworm:local"]
TREE = hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]
OURS = f"comma-test-{os.getpid()}"
_count = itertools.count(1)


class Unavailable(Exception):
    """Why containers cannot be tried here, in words."""


def docker(*args, timeout=600, check=True, **more):
    """stdout of a docker command; RuntimeError with its stderr where it fails."""
    done = subprocess.run(["docker", *map(os.fspath, args)], capture_output=True, text=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(map(str, args))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def need_engine():
    if not shutil.which("docker"):
        raise Unavailable("there is no docker command")
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=30)
    except (RuntimeError, subprocess.TimeoutExpired) as e:
        raise Unavailable(f"no Docker engine answers: {e}") from None


def image_id(name):
    return docker("image", "inspect", "--format", "{{.Id}}", name, check=False)


def base_image():
    """The name of a Debian 12 image; made by debootstrap where there is none."""
    for name in [os.environ.get("BASE"), *BASES]:
        if name and image_id(name):
            return name
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        raise Unavailable("there is no Debian image (docker pull debian:bookworm-slim), and making one takes root and "
                          "debootstrap")
    done = subprocess.run([ROOT / "docker" / "base-image", BASES[-1]], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise Unavailable("docker/base-image failed, is there a package mirror? " + done.stderr.strip()[-500:])
    return BASES[-1]


def build(image):
    """Builds an image of the Dockerfile, "comma" or one of its neighbours; its name. The stage that compiles is kept, as
    a cache."""
    base = base_image()
    for stage in (["build"] if image == "comma" else []) + [image]:
        name = f"comma-test:{TREE}" + ("" if stage == "comma" else "-" + stage)
        before = image_id(name)
        # The host's network: where a machine reaches the mirror by its own means only, a bridge may not.
        # The server without a target's name, as docker/README.md has it.
        target = [] if stage == "comma" else ["--target", stage]
        docker("build", "--network", "host", "--build-arg", f"BASE={base}", "-f", ROOT / "docker" / "Dockerfile",
               *target, "-t", name, ROOT, timeout=1500)
        if before and before != image_id(name):
            docker("image", "rm", before, check=False)
    return name


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


BOUNDARY = "----a-boundary"


def form(*fields):
    """Headers and body of a multipart form of (name, value) pairs; bytes are a file."""
    parts = []
    for name, value in fields:
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            head += '; filename="x"\r\nContent-Type: application/octet-stream'
        else:
            value = value.encode()
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + value + b"\r\n")
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, body


def ask(port, method, path, body=None, headers=None, timeout=30):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        return Answer(r.status, dict(r.getheaders()), r.read())
    finally:
        c.close()


def wait_until(true, seconds=60, words="it"):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{words}: still not so after {seconds} s")
        time.sleep(0.05)


class Container:
    """docker run with options, both listeners published on loopback; a context manager that removes it."""

    def __init__(self, image, *options, env=None, command=(), publish=(8080, 8081)):
        self.name = f"{OURS}-{next(_count)}"
        args = [*options]
        for key, value in (env or {}).items():
            args += ["-e", f"{key}={value}"]
        for port in publish:
            args += ["-p", f"127.0.0.1::{port}"]
        docker("run", "-d", "--name", self.name, "--label", f"comma-test={os.getpid()}", *args, image, *command)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        docker("rm", "-f", "-v", self.name, check=False)

    def state(self, what):
        return docker("inspect", "--format", "{{.State." + what + "}}", self.name)

    def logs(self):
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def port(self, inside):
        return int(docker("port", self.name, f"{inside}/tcp").split("\n")[0].rsplit(":", 1)[1])

    def wait_ready(self, seconds=60):
        def ready():
            if self.state("Running") != "true":
                raise AssertionError("the container ended:\n" + self.logs())
            try:
                return ask(self.port(8081), "GET", "/readyz", timeout=5).status == 200
            except OSError:
                return False
        wait_until(ready, seconds, "/readyz")
        return self

    def ask(self, method, path, body=None, headers=None, inside=8080, timeout=30):
        return ask(self.port(inside), method, path, body, headers, timeout)

    def classify(self, image, labels, headers=None, **more):
        made, body = form(("image", image), ("labels", json.dumps(labels)), *((k, str(v)) for k, v in more.items()))
        return self.ask("POST", "/classify", body, {**made, **(headers or {})})

    def metrics(self):
        """{"name{labels}": value} of its /metrics."""
        lines = self.ask("GET", "/metrics", inside=8081).body.decode().split("\n")
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def kill(self, signal):
        docker("kill", "-s", signal, self.name)

    def wait(self, seconds=60):
        """Its exit status, when it has ended."""
        return int(docker("wait", self.name, timeout=seconds))

    def processes(self):
        """The /proc/PID/status of each of its processes as a dict; the first is the server. Decoders come and go."""
        found = []
        for pid in docker("top", self.name, "-o", "pid").split("\n")[1:]:
            with contextlib.suppress(OSError):
                lines = pathlib.Path(f"/proc/{pid.strip()}/status").read_text().split("\n")
                found.append({k: v.strip() for k, _, v in (line.partition(":") for line in lines)})
        return found


@atexit.register
def _remove_what_is_left():
    """Also where a test was interrupted: nothing of this process stays behind."""
    if not shutil.which("docker"):
        return
    left = docker("ps", "-aq", "--filter", f"label=comma-test={os.getpid()}", check=False).split()
    if left:
        docker("rm", "-f", "-v", *left, check=False)
