# SPDX-License-Identifier: MIT
"""NUL, invalid UTF-8 and control characters in each field of each kind of body: 400 with the field's name, and no harm."""
import base64
import json
import socket
import urllib.parse

import pytest
from conftest import BOUNDARY, FORM, JSON

PNG = {"Content-Type": "image/png"}
TEXTS = ["labels", "template", "model", "encoding", "texts"]
OTHERS = ["top_k", "timeout_ms", "auto_orient", "normalize"]
FOR = {"texts": "/embed", "encoding": "/embed", "normalize": "/embed"}
BAD = {"NUL": b"a\x00b", "NUL alone": b"\x00", "a lone continuation byte": b"a\x80", "cut short": b"a\xc3", "overlong": b"\xc0\xaf",
       "a surrogate": b"\xed\xa0\x80", "above U+10FFFF": b"\xf4\x90\x80\x80", "0xFF": b"\xff", "escape": b"a\x1b[2J",
       "delete": b"\x7f", "a noncharacter": b"\xef\xbf\xbe"}


def path_of(field):
    return FOR.get(field, "/classify")


def check(server, answer, field, what):
    assert answer.status == 400, (field, what, answer.status, answer.body)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.body.decode())  # UTF-8, whatever came
    assert problem["status"] == 400
    assert all(byte >= 0x20 for byte in answer.body)
    return problem


@pytest.mark.parametrize("field", TEXTS + OTHERS)
def test_in_a_form(server, pizza, field):
    for what, value in BAD.items():
        parts = [("image", pizza)] if path_of(field) == "/classify" else []
        parts += [("labels", b"a")] if field != "labels" and path_of(field) == "/classify" else []
        parts += [("texts", b"a")] if field in ("encoding", "normalize") else []
        body = b"".join(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n'.encode() + v + b"\r\n"
                        for n, v in parts + [(field, value)]) + f"--{BOUNDARY}--\r\n".encode()
        problem = check(server, server.ask("POST", path_of(field), body, FORM), field, what)
        assert problem["pointer"].startswith("/" + field), problem
    assert server.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("field", TEXTS + OTHERS)
def test_in_a_query(server, pizza, field):
    if path_of(field) == "/embed" and field == "texts":
        pytest.skip("a picture has no texts beside it")
    for what, value in BAD.items():
        query = f"{field}={urllib.parse.quote(value, safe='')}" + ("&labels=a" if field != "labels" and
                                                                    path_of(field) == "/classify" else "")
        check(server, server.ask("POST", f"{path_of(field)}?{query}", pizza, PNG), field, what)
    assert server.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("field", TEXTS + OTHERS)
def test_in_json(server, pizza, field):
    base = {"image": base64.b64encode(pizza).decode(), "labels": ["a"]} if path_of(field) == "/classify" else {"texts": ["a"]}
    for what, value in BAD.items():
        for as_list in (False, True):
            if field in ("labels", "texts") and not as_list:
                continue
            marked = dict(base, **{field: ["@@"] if as_list else "@@"})
            raw = json.dumps(marked).encode().replace(b"@@", value)
            check(server, server.ask("POST", path_of(field), raw, JSON), field, what)
    for escape in ("\\u0000", "\\ud800", "\\udc00\\ud800", "\\u001b", "\\ufffe", "\\x41"):
        marked = dict(base, **{field: ["@@"] if field in ("labels", "texts", "template") else "@@"})
        raw = json.dumps(marked).replace("@@", escape)
        check(server, server.ask("POST", path_of(field), raw, JSON), field, escape)
    assert server.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("what", BAD)
def test_in_a_name(server, pizza, what):
    value = BAD[what]
    body = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="'.encode() + value + \
        f'"\r\n\r\nx\r\n--{BOUNDARY}--\r\n'.encode()
    check(server, server.ask("POST", "/classify", body, FORM), "name", what)
    check(server, server.ask("POST", "/classify", b'{"' + value + b'":1,"labels":["a"]}', JSON), "name", what)
    check(server, server.ask("POST", f"/classify?labels=a&{urllib.parse.quote(value, safe='')}=1", pizza, PNG), "name", what)


@pytest.mark.parametrize("what", BAD)
def test_in_base64_and_in_headers(server, pizza, what):
    value = BAD[what]
    picture = base64.b64encode(pizza)
    for image in (value, picture + value, picture[:40] + value + picture[40:], b"data:image/png" + value + b";base64," + picture):
        raw = b'{"labels":["a"],"image":"' + image + b'"}'
        check(server, server.ask("POST", "/classify", raw, JSON), "image", what)
    for name in (b"Content-Type", b"X-Request-Id", b"traceparent", b"Authorization", b"X-Request-Timeout", b"X-API-Key"):
        head = b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + name + b": " + value + b"\r\n\r\nhello"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
            s.sendall(head)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while data := s.recv(65536):
                got += data
        assert got[9:12] in (b"400", b"415"), (name, what, got[:200])
        assert value not in got.split(b"\r\n\r\n")[0]  # nothing of it comes back in a header
    assert server.ask("GET", "/healthz").status == 200


def test_a_picture_is_never_fetched(server):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        s.settimeout(0.5)
        url = f"http://127.0.0.1:{s.getsockname()[1]}/x.png"
        for image in (url, url.replace("http", "HTTPS"), "file:///etc/passwd", "ftp://127.0.0.1/x"):
            answer = server.ask("POST", "/classify", json.dumps({"image": image, "labels": ["a"]}), JSON)
            assert answer.status == 400 and answer.json["pointer"] == "/image", image
        assert "fetches none" in server.ask("POST", "/classify", json.dumps({"image": url, "labels": ["a"]}), JSON).json["detail"]
        with pytest.raises(socket.timeout):
            s.accept()
