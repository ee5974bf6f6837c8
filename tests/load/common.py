# SPDX-License-Identifier: MIT
"""What the load and fault scripts share: a server of their own on loopback, a client that keeps many requests under way
in one thread, a prober in a process of its own, and figures from /proc. Python's standard library only."""
import argparse
import atexit
import collections
import contextlib
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "models" / "emoji" / "samples"
MIB = 1 << 20
BOUNDARY = "comma-load"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def parser(doc):
    p = argparse.ArgumentParser(description=doc.split("\n\n")[0], epilog="Exit status: 0 if the promises held, else 1.")
    p.add_argument("--binary", default=os.environ.get("COMMA_BIN") or str(ROOT / "build" / "server" / "comma"))
    p.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1),
                   help="compute threads of the server; the load wants a core, too (default: all cores but one)")
    p.add_argument("--server", default="", help="more options for comma serve, blank-separated")
    return p


# ---- the server ----

class Server:
    """comma serve on free ports, until stop(). `wrap` stands before the command (a limit, a tracer)."""

    def __init__(self, options, *args, wrap=()):
        command = [*wrap, options.binary, "serve", "--port", "0", "--admin-port", "0", "--threads", str(options.threads),
                   *args, *options.server.split()]
        self.log = collections.deque(maxlen=20000)
        self.port = self.admin_port = None
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                                        errors="replace")
        atexit.register(self.process.kill)  # a script that fails leaves no server behind
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
            sys.exit("the server did not start:\n" + "".join(self.log))
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)

    def alive(self):
        return self.process.poll() is None

    def _status(self, field):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(field + r":\s+(\d+) kB", text)[1]) << 10

    def resident(self):
        return self._status("VmRSS")

    def peak(self):
        """Most resident memory since reset_peak()."""
        return self._status("VmHWM")

    def reset_peak(self):
        pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def family(self):
        """The process, and those that decode for it."""
        pids, found = [self.pid], []
        while pids:
            pid = pids.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                pids += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def family_resident(self):
        """Proportional share of memory of all of them: what is shared is counted once."""
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                total += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
        return total << 10

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self):
        """Of the process alone."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, method, path, body=None, headers=None, timeout=60, port=None):
        """(status, headers, body) of one request on a connection of its own; status None if the server closed it."""
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()
        except (OSError, http.client.HTTPException):
            return None, {}, b""
        finally:
            c.close()

    def metrics(self):
        values = {}
        for line in self.ask("GET", "/metrics", port=self.admin_port)[2].decode().splitlines():
            if line and line[0] != "#":
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def quiet(self, seconds=30):
        """Waits until nothing is in work any more; False if that does not come about."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            m = self.metrics()
            if m.get("comma_requests_in_flight") == 0 and m.get("comma_jobs_running") == 0 and \
                    m.get("comma_request_memory_bytes") == 0:
                return True
            time.sleep(0.1)
        return False

    def figures(self):
        return f"resident {self.resident() / MIB:.0f} MiB, {self.descriptors()} descriptors, " \
               f"{self.metrics().get('comma_http_connections', 0):.0f} connections"

    def reports(self):
        """What a sanitizer said."""
        return [line for line in self.log if "Sanitizer" in line or "runtime error" in line]

    def stop(self, timeout=120):
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.reader.join(5)
        return status


class Verdict:
    """Promises, each said to be kept or broken; end() is the exit status."""

    def __init__(self):
        self.broken = 0

    def check(self, kept, words):
        print(("  kept    " if kept else "  BROKEN  ") + words, flush=True)
        self.broken += not kept

    def end(self, server=None):
        if server:
            self.check(server.alive(), "the server is the process that it was")
            self.check(server.stop() == 0, "it ends with 0")
            self.check(not server.reports(), f"no sanitizer said a word {''.join(server.reports()[:3])}")
        print("broken promises: %d" % self.broken)
        return 1 if self.broken else 0


# ---- requests as bytes ----

def form(image, labels, **more):
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'.encode() + image]
    for name, value in [("labels", labels), *more.items()]:
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    return b"\r\n".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(body, content_type=FORM, path="/classify", more=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            f"{more}\r\n").encode() + body


def pictures():
    return [f.read_bytes() for f in sorted(SAMPLES.glob("*.png"))]


# ---- many requests under way in one thread ----

class Connection:
    def __init__(self, port, source):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect_ex(("127.0.0.1", port))

    def begin(self, request, done):
        self.unsent, self.answer, self.size, self.done = memoryview(request), bytearray(), None, done
        self.began = time.perf_counter()

    def complete(self):
        """Whether the answer is here, and whether the server keeps the connection."""
        if self.size is None:
            end = self.answer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.answer[:end]).lower()
            self.keep = b"connection: close" not in head
            found = re.search(rb"content-length: (\d+)", head)
            self.size = end + 4 + (int(found[1]) if found else 0)
        return len(self.answer) >= self.size


class Client:
    """send() begins a request on a kept connection or a new one; step() moves all of them. done(status, seconds) is
    called with status 0 where the server closed without an answer."""

    def __init__(self, port, source=None):
        self.port, self.source = port, source
        self.selector = selectors.DefaultSelector()
        self.idle = []
        self.under_way = 0

    def _kept(self):
        """An idle connection that the server has not closed meanwhile; None if there is none."""
        while self.idle:
            connection = self.idle.pop()
            try:
                connection.socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return connection
            except OSError:
                pass
            connection.socket.close()
        return None

    def send(self, request, done):
        connection = self._kept() or Connection(self.port, self.source)
        connection.begin(request, done)
        self.under_way += 1
        try:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent):]
        except OSError:
            pass  # not connected yet, or closed: the selector will tell
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        self.selector.register(connection.socket, events, connection)

    def _end(self, connection, status, keep):
        self.selector.unregister(connection.socket)
        self.under_way -= 1
        if keep:
            self.idle.append(connection)
        else:
            connection.socket.close()
        connection.done(status, time.perf_counter() - connection.began)

    def _move(self, connection, events):
        if events & selectors.EVENT_WRITE and connection.unsent:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent):]
            if not connection.unsent:
                self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
        if events & selectors.EVENT_READ:
            data = connection.socket.recv(1 << 16)
            connection.answer += data
            if connection.complete():
                self._end(connection, int(connection.answer[9:12]), connection.keep and not connection.unsent)
            elif not data:
                self._end(connection, 0, False)

    def step(self, seconds):
        for key, events in self.selector.select(max(seconds, 0)):
            try:
                self._move(key.data, events)
            except BlockingIOError:
                continue
            except OSError:
                # A server that answers early closes while we send; its answer may be there all the same.
                with contextlib.suppress(OSError):
                    while data := key.data.socket.recv(1 << 16):
                        key.data.answer += data
                self._end(key.data, int(key.data.answer[9:12]) if key.data.complete() else 0, False)

    def finish(self, seconds):
        """Waits for what is under way."""
        end = time.perf_counter() + seconds
        while self.under_way and time.perf_counter() < end:
            self.step(0.1)

    def close(self):
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        for connection in self.idle:
            connection.socket.close()
        self.selector.close()


class Tally:
    """Answers by status, with their times."""

    def __init__(self):
        self.times = collections.defaultdict(list)

    def __call__(self, status, seconds):
        self.times[status].append(seconds)

    def count(self, *statuses):
        return sum(len(self.times[s]) for s in statuses)

    def total(self):
        return sum(map(len, self.times.values()))

    def ms(self, share, *statuses):
        return percentile(sorted(t for s in statuses for t in self.times[s]), share) * 1e3

    def words(self):
        return ", ".join(f"{n} x {'closed' if s == 0 else s}" for s, n in
                         sorted((s, len(t)) for s, t in self.times.items() if t)) or "none"


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def closed_loop(client, make, concurrency, seconds, tally):
    """Each of so many clients sends its next request when the last is answered; answers per second with 200."""
    began, ok = time.perf_counter(), [0]

    def done(status, took):
        tally(status, took)
        ok[0] += status == 200
        if time.perf_counter() < began + seconds:
            client.send(make(), done)
    for _ in range(concurrency):
        client.send(make(), done)
    while client.under_way and time.perf_counter() < began + seconds:
        client.step(0.1)
    rate = ok[0] / (time.perf_counter() - began)
    client.finish(60)
    return rate


def open_loop(client, make, per_s, seconds, tally):
    """Requests at their times, answered or not. Returns how late the loop was at worst."""
    began, sent, latest = time.perf_counter(), 0, 0.0
    while (now := time.perf_counter()) < began + seconds:
        while began + sent / per_s <= now:
            latest = max(latest, now - began - sent / per_s)
            client.send(make(), tally)
            sent += 1
        client.step(began + sent / per_s - time.perf_counter())
    return latest


# ---- probes ----

def _probe(port, path, every, pipe):
    times, failed = [], 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while not pipe.poll(every):
        began = time.perf_counter()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            failed += answer.status != 200
            times.append(time.perf_counter() - began)
        except (OSError, http.client.HTTPException):
            failed += 1
            connection.close()
    pipe.send((times, failed))


class Prober:
    """Asks for a path again and again from a process of its own, so that the load's own thread does not count."""

    def __init__(self, port, path="/healthz", every=0.02):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_probe, args=(port, path, every, theirs), daemon=True)
        self.process.start()

    def end(self):
        """(number, failed, p50, p99, max in ms)"""
        self.pipe.send(None)
        times, failed = self.pipe.recv()
        self.process.join()
        times.sort()
        return len(times), failed, *(1e3 * percentile(times, s) for s in (0.5, 0.99, 1))


def raise_descriptor_limit(wanted):
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


def write_json(path, record):
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
