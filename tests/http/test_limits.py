# SPDX-License-Identifier: MIT
"""Overload, deadlines and clients that misbehave: who is refused, who is dropped, and that the others are served.

A picture's decoder that stands still (SIGSTOP) holds the only worker for as long as a test likes, so nothing here hangs on
how fast a machine is."""
import concurrent.futures
import contextlib
import http.client
import json
import re
import socket
import struct
import time

import pytest
from conftest import FORM, JSON, form, wait_until

PNG = {"Content-Type": "image/png"}
ONE = ("--threads", "1", "--decoder-sandbox", "on", "--admin-port", "0")


def post(image, path="/classify?labels=a", more=""):
    return (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n{more}"
            f"\r\n").encode() + image


def begin(server, data, source=None):
    s = socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=source and (source, 0))
    s.sendall(data)
    return s


def status_of(s):
    got = b""
    while b"\r\n\r\n" not in got and (data := s.recv(65536)):
        got += data
    return int(got[9:12]) if got else None


def in_work(server, n):
    wait_until(lambda: server.metrics()["comma_requests_in_flight"] == n)


def problems(server, reason):
    return server.metrics()[f'comma_requests_rejected_total{{reason="{reason}"}}']


def test_the_queue_has_an_end_and_says_so_before_the_body_comes(start, pizza):
    server = start(*ONE, "--max-queue", "4")
    with server.stuck():
        held = [begin(server, post(pizza)) for _ in range(4)]
        in_work(server, 4)
        refused = begin(server, post(pizza)[:300].replace(b"Content-Length", b"Expect: 100-continue\r\nContent-Length"))
        got = refused.recv(65536)
        assert got.startswith(b"HTTP/1.1 503 ") and b"100 Continue" not in got
        assert re.search(rb"\r\nRetry-After: [123]\r\n", got) and b"queue is full" in got
        # A short body is skipped and its connection kept, for the next try; a long one is not waited for.
        kept = server.connect()
        for _ in range(2):
            answer = server.ask("POST", "/classify?labels=a", pizza, PNG, connection=kept)
            assert answer.status == 503 and "Connection" not in answer.headers
        assert server.ask("GET", "/healthz", connection=kept).status == 200
        long = begin(server, b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nxx").recv(65536)
        assert long.startswith(b"HTTP/1.1 503 ") and b"Connection: close" in long
        for path in ("/healthz", "/readyz", "/models", "/metrics", "/openapi.yaml"):  # what is not queued is served on
            assert server.ask("GET", path).status == 200
    assert [status_of(s) for s in held] == [200] * 4
    assert server.metrics()["comma_requests_in_flight"] == 0
    assert server.stop() == 0


def test_a_client_that_floods_does_not_shut_out_another(start, pizza):
    server = start(*ONE, "--max-queue", "16")
    with server.stuck():
        flood = [begin(server, post(pizza), "127.0.0.2") for _ in range(16)]
        wait_until(lambda: server.metrics()["comma_requests_in_flight"] >= 14)
        modest = begin(server, post(pizza))  # from another address
        in_work(server, 15)
        again = begin(server, post(pizza), "127.0.0.2")
        assert status_of(again) in (429, 503)
    assert status_of(modest) == 200
    statuses = [status_of(s) for s in flood]
    assert statuses.count(200) == 14 and set(statuses) == {200, 503}
    assert server.stop() == 0


def test_above_half_of_the_places_each_client_has_its_share(start, pizza):
    server = start(*ONE, "--max-queue", "8")
    with server.stuck():
        first = [begin(server, post(pizza), "127.0.0.2") for _ in range(4)]
        in_work(server, 4)
        other = begin(server, post(pizza), "127.0.0.3")
        in_work(server, 5)
        over = begin(server, post(pizza), "127.0.0.2")
        got = over.recv(65536)
        assert got.startswith(b"HTTP/1.1 429 ") and b"Retry-After" in got and b"your share" in got
        more = [begin(server, post(pizza), "127.0.0.3") for _ in range(2)]  # it holds less than half
        in_work(server, 7)
    assert [status_of(s) for s in (*first, other, *more)] == [200] * 7
    assert server.stop() == 0


def test_a_client_that_left_is_not_computed_for(start, pizza):
    server = start(*ONE)
    before = server.metrics()
    with server.stuck():
        held = begin(server, post(pizza))
        in_work(server, 1)
        wait_until(lambda: server.metrics()["comma_jobs_running"] == 1)
        gone = [begin(server, post(pizza, f"/classify?labels=nobody+waits+for+{i}")) for i in range(10)]
        in_work(server, 11)
        for i, s in enumerate(gone):
            if i % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        time.sleep(0.1)
    assert status_of(held) == 200
    in_work(server, 0)
    wait_until(lambda: server.metrics().get('comma_http_requests_total{route="/classify",code="499"}') == 10)
    after = server.metrics()
    assert after['comma_jobs_total{result="failed"}'] - before['comma_jobs_total{result="failed"}'] == 10
    assert after["comma_texts_encoded_total"] - before["comma_texts_encoded_total"] == 1  # "a" alone
    assert after["comma_request_memory_bytes"] == 0
    assert server.stop() == 0


def test_who_closed_only_the_sending_side_gets_an_answer(server, pizza):
    with begin(server, post(pizza)) as s:
        s.shutdown(socket.SHUT_WR)
        assert status_of(s) == 200
    with begin(server, post(pizza)[:200]) as s:  # but half a request is not waited for
        s.shutdown(socket.SHUT_WR)
        assert status_of(s) is None


def test_who_leaves_in_the_head_or_body_is_forgotten_at_once(start, pizza):
    server = start("--header-timeout", "600", "--body-timeout", "600", "--min-upload-rate", "0", "--admin-port", "0")
    before = server.metrics()
    whole = post(pizza)
    for cut in (1, 20, 60, whole.index(b"\r\n\r\n") + 4, len(whole) // 2, len(whole) - 1):
        for reset in (False, True):
            s = begin(server, whole[:cut])
            if reset:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    wait_until(lambda: server.metrics()["comma_http_connections"] <= before["comma_http_connections"])
    wait_until(lambda: server.metrics()["comma_request_memory_bytes"] == 0)
    assert server.stop() == 0


@pytest.mark.parametrize("how", ["header", "field", "option"])
def test_a_deadline_is_kept_even_by_a_worker_that_is_stuck(start, pizza, how):
    server = start(*ONE, *(["--request-timeout", "0.4"] if how == "option" else []))
    server.classify(pizza, ["a"])
    with server.stuck():
        path = "/classify?labels=a" + ("&timeout_ms=400" if how == "field" else "")
        with begin(server, post(pizza, path, "X-Request-Timeout: 0.4\r\n" if how == "header" else "")) as s:
            got = s.recv(65536)
        assert got.startswith(b"HTTP/1.1 504 ") and b"within its time" in got, got
        assert server.ask("GET", "/healthz").status == 200
    wait_until(lambda: server.metrics()["comma_jobs_running"] == 0)
    assert problems(server, "deadline-exceeded") == 1
    assert server.metrics()['comma_http_requests_total{route="/classify",code="504"}'] == 1
    assert server.classify(pizza, ["a"]).status == 200 or how == "option"
    assert server.stop() == 0


def test_a_deadline_that_cannot_be_is_400(start, pizza):
    server = start("--request-timeout", "10")
    for value in ("0", "-1", "11", "nan", "inf", "1e3", "0x1", "1 2", "", ".", "1.2.3", "9" * 40, "1,5"):
        answer = server.ask("POST", "/classify?labels=a", pizza, {**PNG, "X-Request-Timeout": value})
        assert answer.status == 400 and "X-Request-Timeout" in answer.json["detail"], (value, answer.status)
    for value in ("0", "10001", "-5", "1.5", "x", "99999999999999999999"):
        answer = server.ask("POST", f"/classify?labels=a&timeout_ms={value}", pizza, PNG)
        assert answer.status == 400 and answer.json["pointer"] == "/timeout_ms", value
    for value in ("10", "9.5"):
        assert server.ask("POST", "/classify?labels=a", pizza, {**PNG, "X-Request-Timeout": value}).status == 200


def test_the_watchdog_sees_a_worker_that_is_stuck(start, pizza):
    server = start(*ONE, "--watchdog-timeout", "1")
    assert server.ask("GET", "/healthz").status == 200
    with server.stuck():
        with begin(server, post(pizza)) as s:
            wait_until(lambda: server.ask("GET", "/healthz").status == 503)
            answer = server.ask("GET", "/healthz")
            assert "a worker is stuck" in answer.json["detail"]
            assert server.metrics()["comma_oldest_job_seconds"] > 1
            assert server.ask("GET", "/readyz").status == 200  # others may still be served
    wait_until(lambda: server.ask("GET", "/healthz").status == 200)
    assert server.stop() == 0


def test_each_address_has_its_connections(start):
    server = start("--max-connections-per-address", "3", "--admin-port", "0")
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
    for s in held:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(s) == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        with contextlib.suppress(OSError):
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert s.recv(100) == b""
    other = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10, source_address=("127.0.0.2", 0))
    assert server.ask("GET", "/healthz", connection=other).status == 200
    held.pop().close()
    wait_until(lambda: server.metrics()["comma_http_connections"] <= 4)  # two, the other's, and this question's
    assert server.ask("GET", "/healthz").status == 200
    assert server.stop() == 0


def test_the_second_listener_answers_when_the_first_is_full(start):
    server = start("--max-connections", "5", "--admin-port", "0")
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(8)]
    for path in ("/healthz", "/readyz", "/metrics"):
        assert server.ask("GET", path, connection=server._admin()).status == 200
    for s in held:
        s.close()
    assert server.ask("GET", "/healthz").status == 200
    assert server.stop() == 0


def test_an_upload_that_is_too_slow_is_408(start):
    server = start("--header-timeout", "1", "--body-timeout", "1", "--keep-alive-timeout", "1", "--admin-port", "0")
    body = b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nxx"
    for data, words in ((b"GET /mod", b"header fields took too long"), (body, b"body took too long"), (b"", None),
                        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", None)):
        with begin(server, data) as s:
            got = b""
            with contextlib.suppress(ConnectionError):
                while piece := s.recv(65536):
                    got += piece
        if words:
            head, _, document = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ") and b"application/problem+json" in head
            assert words in document and json.loads(document)["status"] == 408
        else:
            assert b"408" not in got
    wait_until(lambda: server.metrics()["comma_http_connections_killed_total"] == 4)
    assert server.stop() == 0


def test_a_rate_of_upload_is_asked_for(start):
    server = start("--min-upload-rate", "100000", "--body-timeout", "600", "--admin-port", "0")
    with begin(server, b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                       b"Content-Length: 1000000\r\n\r\n" + bytes(50000)) as s:
        assert status_of(s) == 408  # after its five seconds of grace
    assert server.stop() == 0


def test_bodies_in_flight_are_bounded_by_the_memory_there_is(start, pizza):
    small = ("--threads", "1", "--label-cache-mb", "1", "--max-connections", "200", "--admin-port", "0")
    taken = int(start(*small).metrics()["process_resident_memory_bytes"]) >> 20  # much, where a sanitizer watches
    server = start(*small, "--max-memory-mb", str(taken + 360))
    most = server.metrics()["comma_request_memory_max_bytes"]
    assert 0 < most < 360 << 20
    head = b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 16777216\r\n\r\n"
    held, refused = [], 0
    for _ in range(30):
        s = begin(server, head)
        s.settimeout(0.2)
        try:
            got = s.recv(65536)
            assert got.startswith(b"HTTP/1.1 503 ") and b"memory for requests is in use" in got and b"Retry-After" in got
            refused += 1
        except socket.timeout:
            held.append(s)
    assert held and refused
    assert server.metrics()["comma_request_memory_bytes"] <= most
    assert server.ask("POST", "/classify?labels=a", pizza, PNG).status in (200, 503)
    for s in held:
        s.close()
    wait_until(lambda: server.metrics()["comma_request_memory_bytes"] == 0)
    assert server.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
    texts = json.dumps({"texts": [f"{i}" for i in range(500)]})
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: server.ask("POST", "/embed", texts, JSON).status, range(16)))
    assert set(statuses) <= {200, 503} and 200 in statuses
    assert server.stop() == 0


def test_a_ceiling_that_cannot_hold_is_an_error_at_start():
    import subprocess
    from conftest import BINARY
    done = subprocess.run([BINARY, "serve", "--port", "0", "--max-memory-mb", "100"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--max-memory-mb" in done.stderr and "--label-cache-mb" in done.stderr


def test_many_requests_on_one_connection(server, pizza):
    connection = server.connect()
    closed = None
    for i in range(1001):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        if answer.getheader("Connection") == "close":
            closed = i
            break
    assert closed == 999  # and the next begins anew
    body = form(("image", pizza), ("labels", "a"))
    assert server.ask("POST", "/classify", body, FORM, connection=connection).status == 200
