# SPDX-License-Identifier: MIT
"""Starts the real binary on a free port and speaks to it as clients do. COMMA_BIN names it (meson test does)."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import openapi_check
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("COMMA_BIN") or str(ROOT / "build" / "server" / "comma")
SAMPLES = ROOT / "models" / "emoji" / "samples"
BOUNDARY = "----a-boundary"


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def form(*fields):
    """A multipart body of (name, value) pairs; bytes are a file."""
    parts = []
    for name, value in fields:
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            head += '; filename="x"\r\nContent-Type: application/octet-stream'
        else:
            value = value.encode()
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + value + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


class Server:
    """comma serve with options, until stop(). `more` goes to Popen."""

    def __init__(self, *args, env=None, command=(BINARY,), **more):
        self.process = subprocess.Popen([*command, "serve", "--port", "0", *args], stderr=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, text=True, env={**os.environ, **(env or {})}, **more)
        self.log, self.admin_port, self.port = [], None, None
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r'"msg":"admin_listening".*:(\d+)"', line)
            if found:
                self.admin_port = int(found[1])
            found = re.match(r"listening on https?://[^ ]*:(\d+)$", line.strip())
            if found:
                self.port = int(found[1])
                break
        if self.port is None:
            raise RuntimeError("the server did not start:\n" + "".join(self.log))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)

    def connect(self, timeout=60, source=None):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout, source_address=source and (source, 0))

    def ask(self, method, path, body=None, headers=None, connection=None):
        c = connection or self.connect()
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        answer = Answer(r.status, dict(r.getheaders()), r.read())
        if not connection:
            c.close()
        return answer

    def classify(self, image, labels, **more):
        fields = [("image", image), ("labels", json.dumps(labels))] + [(k, str(v)) for k, v in more.items()]
        return self.ask("POST", "/classify", form(*fields), FORM)

    def raw(self, data, timeout=5):
        """Bytes in, all bytes that come back until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            with contextlib.suppress(OSError):
                s.sendall(data)
            got = b""
            with contextlib.suppress(OSError):
                while chunk := s.recv(65536):
                    got += chunk
            return got

    def metrics(self):
        """{series: value}"""
        lines = self.ask("GET", "/metrics", connection=self._admin()).body.decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def _admin(self):
        return http.client.HTTPConnection("127.0.0.1", self.admin_port or self.port, timeout=30)

    def lines(self, message=None):
        """The log's lines as dicts, of one kind or all."""
        found = [json.loads(line) for line in list(self.log) if line.startswith("{")]
        return [line for line in found if message in (None, line["msg"])]

    def decoders(self):
        """The processes that decode pictures."""
        def children(pid):
            return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [child for zygote in children(self.process.pid) for child in children(zygote)]

    @contextlib.contextmanager
    def stuck(self):
        """A picture's decoder stands still, and with it the worker that waits for it."""
        stopped = self.decoders()
        assert stopped
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Its exit status; sig None: it has been told to end already, and a second SIGTERM would end it at once."""
        if sig and self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(timeout)
        self.reader.join(5)
        return status


@pytest.fixture(scope="session")
def server():
    s = Server()
    yield s
    assert s.process.poll() is None, "the server died:\n" + "".join(s.log[-20:])
    assert s.stop() == 0
    assert not [line for line in s.log if "ERROR: " in line or "runtime error" in line]


def makers(kind):
    """Yields a function that starts a server of this kind; ends those that still run afterwards. For fixtures."""
    started = []

    def make(*args, **more):
        started.append(kind(*args, **more))
        return started[-1]

    yield make
    for s in started:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()


@pytest.fixture
def start():
    """Servers with options of their own, stopped at the end of the test."""
    yield from makers(Server)


@pytest.fixture(scope="session")
def contract():
    return openapi_check.load()


@pytest.fixture(scope="session")
def pizza():
    return (SAMPLES / "pizza.png").read_bytes()


@pytest.fixture(scope="session")
def golden():
    """What an independent reading of the embedded model gives: plain, and with its COMMA adapter."""
    return [json.loads((ROOT / "models" / "emoji" / name).read_text()) for name in ("golden.json", "golden_comma.json")]


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return false_after(seconds)


def false_after(seconds):
    raise AssertionError(f"still not so after {seconds} s")
