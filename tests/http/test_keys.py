# SPDX-License-Identifier: MIT
"""API keys: who is let in, to what, how often; reloaded without a gap, and never seen in a log."""
import hashlib
import json
import signal
import subprocess

import pytest
from conftest import BINARY, FORM, form, wait_until

PNG = {"Content-Type": "image/png"}


def line(name, key, rest="0:1:*"):
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}:{rest}\n"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(start, tmp_path):
    """A server with keys for everybody, for one model, with a rate, and for its operator."""
    path = tmp_path / "keys"
    path.write_text("# who may do what\n\n" + line("alice", "key-of-alice") + line("bob", "key-of-bob", "0:1:groups") +
                    line("carol", "key-of-carol", "0.01:3:*") + line("admin", "key-of-the-operator"))
    s = start("--api-keys-file", str(path), "--admin-port", "0")
    s.keys = path
    return s


def classify(server, pizza, headers, query="labels=a", **more):
    return server.ask("POST", f"/classify?{query}", pizza, {**PNG, **headers}, **more)


def test_without_a_key_or_with_a_wrong_one_it_is_401(keyed, pizza):
    for headers in [{}, bearer("wrong"), bearer("key-of-alic"), bearer("key-of-alicee"), bearer(""), bearer("key-of-alice\t"),
                    {"Authorization": "Basic key-of-alice"}, {"Authorization": "key-of-alice"}, {"X-API-Key": "wrong"},
                    bearer(hashlib.sha256(b"key-of-alice").hexdigest()), bearer("alice")]:
        answer = classify(keyed, pizza, headers)
        ok = headers.get("Authorization", "").rstrip() == "Bearer key-of-alice"  # blanks round a value are not part of it
        assert answer.status == (200 if ok else 401), headers
        if not ok:
            assert answer.headers["WWW-Authenticate"] == "Bearer" and "Bearer KEY" in answer.json["detail"]
    for path in ("/models", "/metrics"):
        assert keyed.ask("GET", path).status == 401
        assert keyed.ask("HEAD", path).status == 401
    assert keyed.ask("POST", "/embed", b'{"texts":["a"]}', {"Content-Type": "application/json"}).status == 401


def test_a_key_is_taken_from_either_header(keyed, pizza):
    for headers in [bearer("key-of-alice"), {"authorization": "bearer key-of-alice"}, {"X-API-Key": "key-of-alice"}]:
        assert classify(keyed, pizza, headers).status == 200, headers


def test_what_tells_nothing_is_open_to_everybody(keyed):
    for path in ("/healthz", "/readyz", "/openapi.yaml", "/"):
        assert keyed.ask("GET", path).status == 200, path
    assert keyed.ask("OPTIONS", "/classify").status == 204


def test_the_key_is_asked_for_before_the_body_comes(keyed):
    got = keyed.raw(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n"
                    b"Expect: 100-continue\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 401 ") and b"100 Continue" not in got


def test_a_key_opens_only_its_models(keyed, pizza):
    assert classify(keyed, pizza, bearer("key-of-bob"), "labels=a&model=groups").status == 200
    refused = classify(keyed, pizza, bearer("key-of-bob"), "labels=a&model=emoji")
    assert refused.status == 403 and refused.json["pointer"] == "/model" and "emoji" in refused.json["detail"]
    assert classify(keyed, pizza, bearer("key-of-bob")).status == 403  # the default is the backbone
    assert classify(keyed, pizza, bearer("key-of-bob"), "labels=a&model=group").status == 404
    assert classify(keyed, pizza, bearer("key-of-alice"), "labels=a&model=groups").status == 200


def test_a_rate_that_is_used_up_is_429_with_the_time_to_wait(keyed, pizza):
    statuses = [classify(keyed, pizza, bearer("key-of-carol")) for _ in range(5)]
    assert [a.status for a in statuses] == [200, 200, 200, 429, 429]
    assert 1 <= int(statuses[-1].headers["Retry-After"]) <= 101
    assert "rate" in statuses[-1].json["detail"]
    assert classify(keyed, pizza, bearer("key-of-alice")).status == 200  # others are not held up


def test_the_operators_key_reloads_and_does_nothing_else(keyed, pizza):
    admin = lambda headers, method="POST": keyed.ask(  # noqa: E731
        method, "/admin/reload", None, headers, connection=keyed._admin()).status
    assert admin({}) == 401
    assert admin(bearer("key-of-alice")) == 403
    assert admin(bearer("key-of-the-operator")) == 202
    assert admin(bearer("key-of-the-operator"), "GET") == 405
    assert keyed.ask("POST", "/admin/reload", None, bearer("key-of-the-operator")).status == 404  # not on the main listener
    assert classify(keyed, pizza, bearer("key-of-the-operator")).status == 403
    wait_until(lambda: keyed.lines("reloaded"))


def test_keys_are_read_again_and_broken_ones_never_replace_good_ones(keyed, pizza):
    def reload(text, result):
        before, lines = keyed.metrics()[f'comma_reloads_total{{result="{result}"}}'], len(keyed.lines("reloaded"))
        keyed.keys.write_text(text)
        keyed.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(keyed.lines("reloaded")) > lines)
        assert keyed.metrics()[f'comma_reloads_total{{result="{result}"}}'] == before + 1

    for broken, words in [("nonsense\n", ":1: a key is name:sha256:rate:burst:models"), ("", "holds no key"),
                          (line("dave", "x").replace(":0:1:", ":-1:1:"), "rate and burst"),
                          (line("da ve", "x"), "a key's name"), ("dave:key-in-clear:0:1:*\n", "not a SHA-256"),
                          (line("alice", "new")[:-10], "a key is")]:
        reload(broken, "failed")
        told = keyed.lines("reload_failed")[-1]["detail"]
        assert words in told and "stay as they were" in told, told
        assert classify(keyed, pizza, bearer("key-of-alice")).status == 200
    reload(line("alice", "a-new-key-of-alice"), "ok")
    assert classify(keyed, pizza, bearer("key-of-alice")).status == 401
    assert classify(keyed, pizza, bearer("a-new-key-of-alice")).status == 200


def test_no_key_is_ever_logged(keyed, pizza):
    secret = "an-unknown-key-5f4dcc3b"
    classify(keyed, pizza, bearer(secret))
    classify(keyed, pizza, {"X-API-Key": secret})
    classify(keyed, pizza, bearer("key-of-alice"))
    keyed.ask("GET", f"/models?key={secret}", headers=bearer("key-of-alice"))
    wait_until(lambda: len(keyed.lines("request")) >= 4)
    log = "".join(keyed.log)
    assert secret not in log and "key-of-alice" not in log
    assert hashlib.sha256(b"key-of-alice").hexdigest() not in log
    assert [r["key"] for r in keyed.lines("request") if "key" in r][:1] == ["alice"]  # by name
    assert keyed.stop() == 0


@pytest.mark.parametrize("text,words", [("nonsense\n", ":1: a key is"), ("", "holds no key"), (None, "No such file")])
def test_a_file_of_keys_that_cannot_be_used_is_an_error_at_start(tmp_path, text, words):
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    done = subprocess.run([BINARY, "serve", "--port", "0", "--api-keys-file", str(path)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1 and words in done.stderr


def test_a_form_with_a_key_is_classified(keyed, pizza):
    answer = keyed.ask("POST", "/classify", form(("image", pizza), ("labels", json.dumps(["a", "b"]))),
                       {**FORM, **bearer("key-of-alice")})
    assert answer.status == 200 and len(answer.json["results"]) == 2
