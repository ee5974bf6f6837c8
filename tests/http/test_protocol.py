# SPDX-License-Identifier: MIT
"""HTTP itself: ids, methods, pages, metrics, clients that go away. Framing is in test_framing.py."""
import re
import socket
import time

from conftest import FORM, SAMPLES, form, wait_until

def test_a_request_id_is_kept_or_made(server):
    assert server.ask("GET", "/models", headers={"X-Request-Id": "abc.DEF_1-2"}).headers["X-Request-Id"] == "abc.DEF_1-2"
    for odd in ["a b", "x" * 65, "<script>"]:
        made = server.ask("GET", "/models", headers={"X-Request-Id": odd}).headers["X-Request-Id"]
        assert made != odd and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", made)


def test_head_options_and_keep_alive(server, pizza):
    connection = server.connect()
    assert server.ask("HEAD", "/models", connection=connection).body == b""
    assert server.ask("OPTIONS", "/classify", connection=connection).headers["Allow"]
    for _ in range(3):
        body = form(("image", pizza), ("labels", "a,b"))
        assert server.ask("POST", "/classify", body, FORM, connection=connection).status == 200
    first = connection.sock
    for path in ("/models", "/nowhere", "/healthz"):
        server.ask("GET", path, connection=connection)
        assert connection.sock is first, path  # http.client would connect anew without a word
    connection.close()


def test_pipelined_requests_are_answered_in_order(server):
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    got = server.raw(one + b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" +
                     b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"200", b"404", b"200"]


def test_a_chunked_body_and_one_that_waits_for_100_continue(server, pizza):
    body = form(("image", pizza), ("labels", "pizza,dog"))
    connection = server.connect()
    connection.request("POST", "/classify", iter([body[i:i + 100] for i in range(0, len(body), 100)]), FORM,
                       encode_chunked=True)
    assert connection.getresponse().status == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as s:
        s.sendall(f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\nExpect: 100-continue\r\n"
                  f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
        assert s.recv(100).startswith(b"HTTP/1.1 100 ")
        s.sendall(body)
        assert b"HTTP/1.1 200 " in s.recv(65536)


def test_pages_and_the_contract_are_served(server):
    assert b"openapi: 3.1" in server.ask("GET", "/openapi.yaml").body
    page = server.ask("GET", "/")
    assert page.status == 200 and "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_metrics_count_what_was_asked(server, pizza):
    def value(text, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))
    name = 'comma_http_requests_total{route="/classify",code="200"}'
    before = value(server.ask("GET", "/metrics").body.decode(), name)
    server.classify(pizza, ["one of the metrics' labels"])
    server.classify(pizza, ["one of the metrics' labels"])
    text = server.ask("GET", "/metrics").body.decode()
    assert value(text, name) == before + 2
    for wanted in ["comma_label_cache_hits_total", "comma_queue_depth", "comma_build_info", "comma_images_encoded_total",
                   "process_resident_memory_bytes", "comma_stage_duration_seconds_bucket"]:
        assert wanted in text
    assert all(re.match(r"(#.*|[a-z_]+(\{.*\})? [-+0-9.eInfNa]+)$", line) for line in text.splitlines())


def test_slow_clients_are_cut_off_and_slow_nobody(start, pizza):
    server = start("--header-timeout", "1", "--body-timeout", "2")
    slow = []
    for i in range(100):
        s = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        s.sendall(b"GET /models HT" if i % 2 else
                  b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nxx")
        slow.append(s)
    start_s = time.monotonic()
    while time.monotonic() - start_s < 1:
        for s in slow[::7]:
            try:
                s.sendall(b"x")
            except OSError:
                pass
        assert server.classify(pizza, ["a", "b"]).status == 200
    for s in slow:
        s.settimeout(10)
        try:
            while s.recv(4096):
                pass
        except ConnectionError:
            pass
        s.close()
    assert server.classify(pizza, ["a", "b"]).status == 200


def test_clients_that_go_away_leave_nothing_behind(server, pizza):
    body = form(("image", pizza), ("labels", "a,b,c"))
    head = (f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    for cut in [10, len(head) - 1, len(head) + 5, len(head) + len(body)] * 10:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as s:
            s.sendall((head + body)[:cut])
    wait_until(lambda: b"\ncomma_requests_in_flight 1\n" in server.ask("GET", "/metrics").body or
               b"\ncomma_requests_in_flight 0\n" in server.ask("GET", "/metrics").body)
    assert server.classify(pizza, ["a"]).status == 200


def test_mutated_pictures_get_200_or_4xx(server):
    state = 1
    for picture in sorted(SAMPLES.glob("*.png"))[:4]:
        data = picture.read_bytes()
        for _ in range(40):
            broken = bytearray(data)
            for _ in range(3):
                state = (state * 1103515245 + 12345) % 2**31
                broken[state % len(broken)] = state >> 8 & 255
            status = server.ask("POST", "/classify?labels=a,b", bytes(broken), {"Content-Type": "image/png"}).status
            assert status == 200 or 400 <= status < 500
