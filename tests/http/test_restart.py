# SPDX-License-Identifier: MIT
"""From one process to the next without a gap: a socket handed over (LISTEN_FDS), a shared port (SO_REUSEPORT); and what
is said and done while a model is loaded."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import BINARY, ROOT, Server, makers, wait_until

GROUPS = ROOT / "models" / "emoji" / "adapters" / "groups"
PNG = {"Content-Type": "image/png"}


def listening(port=0, share=False):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", port))
    s.listen(128)
    return s


class Asking(threading.Thread):
    """Asks again and again, each time on a connection of its own, until end(); what was not answered with 200."""

    def __init__(self, port, pizza):
        super().__init__(daemon=True)
        self.port, self.pizza, self.ending, self.n, self.wrong = port, pizza, False, 0, []
        self.start()

    def once(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            c.request("POST", "/classify?labels=pizza,dog", self.pizza, PNG)
            return c.getresponse().status
        except (OSError, http.client.HTTPException) as e:
            return type(e).__name__
        finally:
            c.close()

    def run(self):
        while not self.ending:
            status = self.once()
            self.n += 1
            if status != 200:
                self.wrong.append(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.ending = True
        self.join(60)
        return self.wrong


# LISTEN_PID is the process that systemd starts, known only after the fork: a shell puts it in place.
class Activated(Server):
    def __init__(self, sockets, *args, pid='$$', **more):
        fds = [s.fileno() for s in sockets]
        shell = f"export LISTEN_PID={pid} LISTEN_FDS={len(fds)}; exec \"$0\" \"$@\""

        def place():
            spare = [os.dup(fd) for fd in fds]  # first, since one may lie where another goes
            for i, fd in enumerate(spare):
                os.dup2(fd, 3 + i)
        binary = ["sh", "-c", shell, BINARY]
        super().__init__(*args, command=binary, preexec_fn=place, pass_fds=tuple(range(3, 3 + len(fds))), **more)


@pytest.fixture
def activate():
    yield from makers(Activated)


def test_a_socket_that_is_handed_over_is_served_and_outlives_the_process(activate, pizza):
    with listening() as main, listening() as second:
        port, admin = main.getsockname()[1], second.getsockname()[1]
        one = activate([main, second])
        assert (one.port, one.admin_port) == (port, admin)
        assert one.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
        assert one.metrics()["comma_ready"] == 1
        environment = pathlib.Path(f"/proc/{one.process.pid}/environ").read_bytes()
        assert b"LISTEN_FDS" in environment  # it was handed over so, and not by options
        with Asking(port, pizza) as asking:
            for _ in range(3):  # the next one is there before the last one goes
                two = activate([main, second])
                assert one.stop() == 0
                one = two
            wait_until(lambda: asking.n > 10)
            assert asking.end() == []
        assert one.stop() == 0
        with Asking(port, pizza) as asking:  # between two processes clients wait in the socket's queue
            time.sleep(0.2)
            three = activate([main, second])
            wait_until(lambda: asking.n > 3)
            assert asking.end() == []
        assert three.stop() == 0


def test_a_shared_port_is_left_to_the_process_that_serves_until_the_next_is_ready(start, pizza):
    one = start("--reuse-port")
    with Asking(one.port, pizza) as asking:
        for _ in range(3):
            start("--reuse-port", "--port", str(one.port))
        assert asking.end() == []


def test_sockets_for_another_process_are_left_alone(activate):
    with listening() as main:
        server = activate([main], pid="1")
        assert server.port != main.getsockname()[1]
        assert server.stop() == 0


def test_two_processes_share_a_port_and_one_goes(start, pizza):
    one = start("--reuse-port")
    two = start("--reuse-port", "--port", str(one.port))
    assert one.port == two.port
    for _ in range(30):
        assert one.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
    served = [len(s.lines("request")) for s in (one, two)]
    assert all(served), served
    assert one.stop() == 0
    for _ in range(10):
        assert two.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
    assert two.stop() == 0


def test_without_reuse_port_a_taken_port_is_an_error_at_once(start):
    server = start()
    done = subprocess.run([BINARY, "serve", "--port", str(server.port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"port {server.port}" in done.stderr and "in use" in done.stderr


def test_it_is_alive_but_not_ready_while_a_model_is_loaded(tmp_path):
    """An adapter whose configuration is a pipe holds the start up until we have looked; then it is no adapter."""
    adapters = tmp_path / "adapters"
    shutil.copytree(GROUPS, adapters / "slow")
    (adapters / "slow" / "adapter_config.json").unlink()
    os.mkfifo(adapters / "slow" / "adapter_config.json")
    with socket.socket() as s:  # a free port, since the line that names it comes at the end
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([BINARY, "serve", "--port", str(port), "--admin-port", "0", "--adapter", f"slow={adapters / 'slow'}"],
                               stderr=subprocess.PIPE, text=True)
    try:
        admin = int(re.search(r"admin_listening.*:(\d+)\"", process.stderr.readline())[1])
        for at in (port, admin):
            assert request(at, "GET", "/healthz")[0] == 200
            status, body = request(at, "GET", "/readyz")
            assert status == 503 and "being loaded" in json.loads(body)["detail"]
            assert b"\ncomma_ready 0\n" in request(at, "GET", "/metrics")[1]
        for method, path in (("POST", "/classify"), ("POST", "/embed"), ("GET", "/models")):
            assert request(port, method, path)[0] == 503, path
        os.close(os.open(adapters / "slow" / "adapter_config.json", os.O_WRONLY))
        rest = process.stderr.read()
        assert process.wait(30) == 1 and "adapter 'slow'" in rest and "listening on" not in rest
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def request(port, method, path):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request(method, path)
    r = c.getresponse()
    return r.status, r.read()


def corrupt(tmp_path, change):
    target = tmp_path / "bad"
    shutil.copytree(GROUPS, target)
    weights = target / "adapter_model.safetensors"
    weights.write_bytes(change(weights.read_bytes()))
    return target


def with_nan(data):
    header = int.from_bytes(data[:8], "little")
    start = 8 + header
    return data[:start] + b"\xff\xff\xff\xff" * ((len(data) - start) // 4)


BROKEN = [("cut", lambda d: d[:len(d) // 2], "is the download complete"), ("NaN everywhere", with_nan, "finite"),
          ("a header of nonsense", lambda d: d[:8] + b"x" * (len(d) - 8), ""), ("empty", lambda d: b"", ""),
          ("a header without end", lambda d: b"\xff" * 8 + d[8:], "")]


@pytest.mark.parametrize("name,change,words", BROKEN, ids=[b[0] for b in BROKEN])
def test_a_broken_adapter_is_refused_at_start_and_never_replaces_one_at_reload(start, tmp_path, pizza, name, change, words):
    bad = corrupt(tmp_path, change)
    done = subprocess.run([BINARY, "serve", "--port", "0", "--adapter", f"mine={bad}"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("comma serve: ") and "mine" in told and words in told, told

    live = tmp_path / "live"
    shutil.copytree(GROUPS, live)
    server = start("--adapter", f"mine={live}")
    before = server.classify(pizza, ["fruit", "mammal"], model="mine").json["results"]
    os.replace(bad / "adapter_model.safetensors", live / "adapter_model.safetensors")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: server.metrics()['comma_reloads_total{result="failed"}'] == 1)
    wait_until(lambda: server.lines("reloaded"))
    assert words in server.lines("reload_failed")[0]["detail"]
    assert server.classify(pizza, ["fruit", "mammal"], model="mine").json["results"] == before
    assert server.ask("GET", "/readyz").status == 200
    assert server.stop() == 0


def test_a_broken_model_is_an_error_at_start(tmp_path):
    tiny = ROOT / "tests" / "golden" / "data" / "tiny" / "clip"
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    for change, words in [(lambda d: d[:len(d) - 100], "complete"), (with_nan, "nan"), (lambda d: b"x" * 100, "")]:
        weights.write_bytes(change(whole))
        done = subprocess.run([BINARY, "serve", "--port", "0", "--model", str(model)], capture_output=True, text=True,
                              timeout=60)
        told = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and told.startswith("comma serve: ") and words in told, (words, done.stderr)


def test_a_second_sigterm_ends_at_once_even_with_work_under_way(start, pizza):
    server = start("--drain-delay", "60", "--decoder-sandbox", "on")
    with server.stuck():
        asking = threading.Thread(target=lambda: Asking.once(type("", (), {"port": server.port, "pizza": pizza})), daemon=True)
        asking.start()
        wait_until(lambda: server.metrics()["comma_jobs_running"] == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.lines("draining"))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 128 + signal.SIGTERM
    wait_until(lambda: server.lines("killed"))
