# SPDX-License-Identifier: MIT
"""What an operator sees: one JSON line a request without a client's bytes in it, trace context, metrics by convention."""
import json
import re
import socket

import pytest
from conftest import FORM, JSON, form, wait_until

PNG = {"Content-Type": "image/png"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line_of(server, identity):
    wait_until(lambda: any(r["request_id"] == identity for r in server.lines("request")))
    return next(r for r in server.lines("request") if r["request_id"] == identity)


def test_a_request_is_one_line_with_sizes_stages_and_outcome(start, pizza):
    server = start()
    secret = "a-label-that-nobody-else-may-read"
    body = form(("image", pizza), ("labels", json.dumps([secret, "dog"])))
    server.ask("POST", "/classify", body, {**FORM, "X-Request-Id": "one", "traceparent": TRACE})
    one = line_of(server, "one")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["ts"]) and one["level"] == "info"
    assert (one["method"], one["route"], one["status"], one["client"]) == ("POST", "/classify", 200, "127.0.0.1")
    assert (one["bytes_in"], one["image_bytes"], one["labels"], one["cached"]) == (len(body), len(pizza), 2, 0)
    assert one["trace_id"] == TRACE[3:35] and one["model"] == "emoji" and one["bytes_out"] > 100
    for stage in ("queue_ms", "decode_ms", "image_ms", "text_ms", "total_ms"):
        assert 0 <= one[stage] <= one["total_ms"] + 1, one
    server.ask("POST", "/classify?labels=" + secret, b"no picture at all, " + secret.encode(), {**PNG, "X-Request-Id": "two"})
    two = line_of(server, "two")
    assert two["status"] == 415 and two["reason"] == "unsupported-image"
    server.ask("GET", f"/nowhere/{secret}?q={secret}", headers={"X-Request-Id": "three"})
    assert line_of(server, "three")["route"] == "other"
    assert secret not in "".join(server.log)
    assert server.stop() == 0


def test_a_clients_bytes_cannot_forge_or_break_a_line(start):
    server = start()
    for method in (b'G"},{"level":"error', b"G\\u0041T", b"GET\x1b[31m", b"M" * 31, b"\xff\xfe"):
        for target in (b"/models", b"/%0a%7b%7d", b'/"},{', b"/\x1b[2J"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
                s.sendall(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\"b\r\nConnection: close\r\n\r\n")
                while s.recv(65536):
                    pass
    server.ask("POST", "/classify?labels=a&model=" + "%22%0a%7b" * 9, b"x", PNG)
    server.ask("POST", "/classify", b'{"labels":["a"],"\\n{}":1}', JSON)
    assert server.stop() == 0
    for line in server.log:
        if not line.startswith("listening on "):
            entry = json.loads(line)  # each is one object
            assert entry["level"] in ("info", "warn") and entry["msg"] != "{" and "\x1b" not in line
    assert len(server.lines("request")) >= 20


def test_levels_and_the_access_log_can_be_turned_down(start, pizza):
    server = start("--no-access-log")
    assert server.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
    quiet = start("--log-level", "error")
    assert quiet.ask("POST", "/classify?labels=a", pizza, PNG).status == 200
    assert server.stop() == quiet.stop() == 0
    assert not server.lines("request") and server.lines("ready")
    assert [line for line in quiet.log if line.startswith("{")] == []


def test_a_log_that_nobody_reads_holds_nobody_up(pizza):
    import os
    import subprocess
    from conftest import BINARY
    ours, theirs = os.pipe()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([BINARY, "serve", "--port", str(port)], stderr=theirs)
    os.close(theirs)
    try:
        def ready():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
                    s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    return s.recv(100).startswith(b"HTTP/1.1 200")
            except OSError:
                return False
        wait_until(ready)
        # Lines of 300 bytes: a pipe of 64 KiB and the ring behind it are full long before the end.
        one = b"GET /models HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + b"r" * 64 + b"\r\n\r\n"
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
                answered = b""
                s.sendall(one * 900 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                while data := s.recv(1 << 20):
                    answered += data
                assert answered.count(b"HTTP/1.1 200 ") == 901
        with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b""
            while data := s.recv(1 << 20):
                text += data
        assert int(re.search(rb"\ncomma_log_dropped_total (\d+)", text)[1]) > 0
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("value,taken", [
    (TRACE, True), (TRACE[:-2] + "00", True),
    (TRACE.upper(), False), ("ff" + TRACE[2:], False), ("00-" + "0" * 32 + TRACE[35:], False),
    (TRACE[:36] + "0" * 16 + TRACE[52:], False), (TRACE + "-more", False), (TRACE[:-1], False), ("", False), ("x" * 300, False),
    (TRACE.replace("-", "_"), False), (TRACE[:10] + "g" + TRACE[11:], False)])
def test_traceparent_is_passed_on_if_it_is_one(server, value, taken):
    answer = server.ask("GET", "/models", headers={"traceparent": value, "X-Request-Id": "trace" + str(abs(hash(value)))})
    assert answer.status == 200
    assert answer.headers.get("traceparent") == (value if taken else None)
    assert line_of(server, answer.headers["X-Request-Id"]).get("trace_id", "") == (value[3:35] if taken else "")


def test_metrics_have_conventional_names_and_no_client_in_them(server, pizza):
    server.ask("POST", "/classify?labels=a&model=never-heard-of", pizza, PNG)
    server.ask("GET", "/never/heard/of")
    server.ask("BREW", "/models")
    text = server.ask("GET", "/metrics").body.decode()
    assert "never" not in text and "BREW" not in text
    kinds, helped, series = {}, set(), []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, f"{name} comes twice"
            kinds[name] = kind
        elif line.startswith("# HELP "):
            helped.add(line.split(" ")[2])
        else:
            series.append(re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="[^"\n]*",?)*\})? ([-+0-9.e]+|\+Inf|NaN)', line)[1])
    assert set(kinds) == helped and len(series) == len([s for s in text.splitlines() if s[:1] != "#"]) < 500
    for name, kind in kinds.items():
        assert name.startswith(("comma_", "process_")), name
        assert name.endswith("_total") == (kind == "counter"), (name, kind)
        assert not re.search(r"_(ms|mb|kb|milliseconds|megabytes|percent)(_|$)", name), name
    for name in series:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in kinds or kinds.get(base) == "histogram", name
    for wanted in ("comma_http_requests_total", "comma_http_request_duration_seconds", "comma_stage_duration_seconds",
                   "comma_queue_depth", "comma_image_batches_total", "comma_images_encoded_total", "comma_build_info",
                   "comma_label_cache_hits_total", "comma_http_request_bytes_total", "process_open_fds",
                   "process_cpu_seconds_total", "comma_requests_rejected_total", "comma_model_info", "comma_ready"):
        assert wanted in kinds, wanted


def test_nothing_is_shared_with_other_origins(server, pizza):
    for method, path in (("GET", "/models"), ("OPTIONS", "/classify"), ("POST", "/classify?labels=a"), ("GET", "/"),
                         ("POST", "/nowhere")):
        answer = server.ask(method, path, pizza if method == "POST" else None,
                            {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST", **PNG})
        assert not [h for h in answer.headers if h.lower().startswith("access-control")], path
        assert answer.headers.get("Set-Cookie") is None
