# SPDX-License-Identifier: MIT
"""From start to end: readiness, draining, overload, keys, adapters reloaded, the second listener."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from conftest import BINARY, ROOT, SAMPLES, wait_until

LABELS = ["pizza", "rocket"]


def admin(server, path, method="GET", headers=None):
    port = next(int(line.rsplit(":", 1)[1].split('"')[0]) for line in server.log if "admin" in line and ":" in line)
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    c.request(method, path, headers=headers or {})
    r = c.getresponse()
    return r.status, r.read()


def test_sigterm_finishes_what_was_accepted_and_ends_with_0(start, pizza):
    server = start("--threads", "1")
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(server.classify, pizza, [f"{i} {j}" for j in range(40)]) for i in range(40)]
        wait_until(lambda: b"\ncomma_requests_in_flight 0\n" not in server.ask("GET", "/metrics").body)
        time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        done = []
        for request in asked:
            try:
                done.append(request.result().status)
            except (ConnectionError, http.client.HTTPException):
                done.append(None)  # came after the listener closed
    assert server.stop(None) == 0
    assert done.count(200) > 0 and set(done) <= {200, 503, None}
    accepted = [json.loads(line) for line in server.log if '"route":"/classify"' in line]
    assert len(accepted) == len([status for status in done if status])  # none was accepted and then dropped


def test_draining_serves_on_but_says_so(start, pizza):
    server = start("--drain-delay", "1.5")
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.ask("GET", "/readyz").status == 503, 1)
    assert server.ask("GET", "/healthz").status == 200
    assert server.classify(pizza, LABELS).status == 200
    assert server.stop(None) == 0


def test_a_second_sigterm_ends_at_once(start):
    server = start("--drain-delay", "60")
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 20


def test_overload_is_answered_503_with_retry_after(start, pizza):
    server = start("--threads", "1", "--max-queue", "2")
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: server.classify(pizza, [f"{i} {j}" for j in range(200)]), range(96)))
    statuses = [a.status for a in answers]
    assert statuses.count(200) > 0 and statuses.count(503) > 0 and set(statuses) == {200, 503}
    for answer in answers:
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json["status"] == 503
    assert server.classify(pizza, LABELS).status == 200
    assert server.stop() == 0


def test_an_open_address_wants_keys_or_insecure():
    done = subprocess.run([BINARY, "serve", "--host", "0.0.0.0", "--port", "0"], capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "--insecure" in done.stderr and "--api-keys-file" in done.stderr


def test_adapters_are_reloaded_without_losing_a_request(start, tmp_path, pizza):
    adapters = tmp_path / "adapters"
    shutil.copytree(ROOT / "models" / "emoji" / "adapters" / "groups", adapters / "one")
    server = start("--adapters", str(adapters))
    names = lambda: [a["name"] for a in server.ask("GET", "/models").json["adapters"]]  # noqa: E731
    assert names() == ["groups", "one"]
    shutil.copytree(adapters / "one", adapters / "two")
    (adapters / "bad").mkdir()
    (adapters / "bad" / "adapter_model.safetensors").write_bytes(b"nonsense")
    (adapters / "bad" / "adapter_config.json").write_text("{}")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(server.classify, pizza, LABELS, model="one") for _ in range(40)]
        server.process.send_signal(signal.SIGHUP)
        assert all(a.result().status == 200 for a in asked)
    wait_until(lambda: names() == ["groups", "one", "two"])
    shutil.rmtree(adapters / "one")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: names() == ["groups", "two"])
    assert server.classify(pizza, LABELS, model="one").status == 404
    assert server.classify(pizza, LABELS, model="two").status == 200
    assert server.stop() == 0


def test_options_come_from_the_environment_too(start, pizza):
    server = start(env={"COMMA_MAX_LABELS": "3", "COMMA_THREADS": "1"})
    assert server.classify(pizza, ["a", "b", "c", "d"]).status == 422
    assert server.classify(pizza, ["a", "b", "c"]).status == 200


def test_a_named_adapter_is_served_beside_the_backbone(start, pizza):
    server = start("--adapter", "mine=" + str(ROOT / "models" / "emoji" / "adapters" / "groups"))
    mine = server.classify(pizza, LABELS, model="mine").json
    groups = server.classify(pizza, LABELS, model="groups").json
    assert mine["model"] == "mine"
    assert mine["results"] == groups["results"]


def test_what_cannot_be_served_is_said_in_one_line(tmp_path):
    for args, words in [(["--model", "/nowhere"], "/nowhere"), (["--port", "99999"], "65535"),
                        (["--adapter", "x"], "NAME=DIR"), (["--adapter", "x=/nowhere"], "/nowhere"),
                        (["--backend", "abacus"], "abacus"), (["--nonsense"], "--nonsense")]:
        done = subprocess.run([BINARY, "serve", "--port", "0", *args], capture_output=True, text=True, timeout=30)
        assert done.returncode in (1, 2), args
        assert words in done.stderr, (args, done.stderr)


def test_a_dead_decoder_costs_one_request(start, pizza):
    server = start("--decoder-sandbox", "on")
    assert server.classify(pizza, LABELS).status == 200
    children = pathlib.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    assert children
    for zygote in children:
        below = pathlib.Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        for child in below:
            os.kill(int(child), signal.SIGKILL)
    statuses = [server.classify(pizza, LABELS).status for _ in range(8)]
    assert set(statuses) <= {200, 422, 503} and statuses[-1] == 200
    assert server.stop() == 0


def test_memory_stays_where_it_was(start, pizza):
    server = start("--threads", "2")
    if "san.so" in pathlib.Path(f"/proc/{server.process.pid}/maps").read_text():
        pytest.skip("a sanitizer keeps freed memory")
    pictures = [f.read_bytes() for f in SAMPLES.glob("*.png")]

    def resident():
        text = server.ask("GET", "/metrics").body.decode()
        return float(next(line for line in text.splitlines() if line.startswith("process_resident_memory_bytes")).split()[1])

    def load(n):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: server.classify(pictures[i % len(pictures)], LABELS + [f"label {i % 50}"]), range(n)))
    load(300)
    before = resident()
    load(900)
    assert resident() - before < 32 << 20  # caches of allocators, not a leak of 900 requests
    assert server.stop() == 0
