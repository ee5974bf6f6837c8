# SPDX-License-Identifier: MIT
"""Request smuggling: what a proxy might read otherwise than this server is refused, and what follows is not executed.

Each head is followed by a second request with an id of its own. A refused head closes the connection, so that the second
request is never looked at."""
import re
import socket

import pytest

GET = b"GET /models HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 61\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": POST + b"Content-Length: 61\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a blank before the colon of Transfer-Encoding": POST + b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "a blank before the colon of Content-Length": POST + b"Content-Length : 5\r\n\r\n",
    "a length with a plus": POST + b"Content-Length: +5\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 5, 5\r\n\r\n",
    "two numbers as length": POST + b"Content-Length: 5 5\r\n\r\n",
    "a length in hexadecimal": POST + b"Content-Length: 0x5\r\n\r\n",
    "an empty length": POST + b"Content-Length: \r\n\r\n",
    "a length in words": POST + b"Content-Length: five\r\n\r\n",
    "a length that wraps round 64 bits": POST + b"Content-Length: 18446744073709551621\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, but not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "a coding more": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked with a parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity, then chunked": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked on a folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a first field that begins with a blank": b"GET /models HTTP/1.1\r\n Host: x\r\n\r\n",
    "a field without a name": GET + b": x\r\n\r\n",
    "a field without a colon": GET + b"Oops\r\n\r\n",
    "a control character in a name": GET + b"X\x01Y: x\r\n\r\n",
    "a lone carriage return in a value": GET + b"X-A: a\rb\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "no host": b"GET /models HTTP/1.1\r\n\r\n",
    "a list of hosts": b"GET /models HTTP/1.1\r\nHost: x, y\r\n\r\n",
    "a host with a user": b"GET /models HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a body for GET": GET + b"Content-Length: 61\r\n\r\n",
    "chunks for HEAD": b"HEAD /models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "%00 in the path": b"GET /mod%00els HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the path": b"GET /mod\x01els HTTP/1.1\r\nHost: x\r\n\r\n",
    "a blank in the path": b"GET /mod els HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte above 127 in the path": b"GET /mod\xffels HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /models#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path without a slash": b"GET models HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /models HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /models HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http in small letters": b"GET /models http/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /models\r\n\r\n",
    "CONNECT": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is no token": b"G(T /models HTTP/1.1\r\nHost: x\r\n\r\n",
    "an expectation that nobody can meet": POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\n",
    "two types": POST + b"Content-Type: image/jpeg\r\nContent-Length: 0\r\n\r\n",
    "two keys": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"-1\r\n\r\n",
    "a chunk's size with 0x": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a chunk's size behind a blank": CHUNKED + b" 0\r\n\r\n",
    "a chunk's size of 17 digits": CHUNKED + b"fffffffffffffffff\r\na\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\naXX0\r\n\r\n",
    "a chunk's extension with a line feed": CHUNKED + b"0;a\nb\r\n\r\n",
    "lines that end with LF alone": b"GET /models HTTP/1.1\nHost: x\n\n",
    "one line that ends with LF alone": b"GET /models HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "a head whose last line is LF alone": GET + b"X-A: b\r\n\n",
    "NUL in a value": GET + b"X-A: a\x00b\r\n\r\n",
    "NUL in the path": b"GET /models\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a name": GET + b"X\x00A: b\r\n\r\n",
    "a folded line": GET + b"X-A: b\r\n c\r\n\r\n",
    "a folded line in the middle": GET + b"X-A: b\r\n\tc\r\nX-B: d\r\n\r\n",
    "a field without a name or value": GET + b":\r\n\r\n",
    "two blanks in the request line": b"GET  /models HTTP/1.1\r\nHost: x\r\n\r\n",
    "more fields than are taken": GET + b"X-A: a\r\n" * 65 + b"\r\n",
    "fields of 20 kB": GET + b"X-A: " + b"a" * 20000 + b"\r\n\r\n",
    "fields of 60 kB": GET + b"X-A: " + b"a" * 60000 + b"\r\n\r\n",
    "a path of 9 kB": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of 60 kB": b"GET /" + b"a" * 60000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}

STATUS = {"HTTP/2.0": {505}, "HTTP/2's preface": {505}, "an expectation that nobody can meet": {417}, "fields of 20 kB": {431},
          "fields of 60 kB": {431}, "a path of 9 kB": {414}, "a path of 60 kB": {414},
          "chunked on a folded line": {400, 411}, "a length that wraps round 64 bits": {400, 413},
          "a chunk's size of 17 digits": {400, 413}}


def hidden(name):
    identity = re.sub(r"[^a-z0-9]", "-", name.lower())[:60]
    return identity, f"GET /models HTTP/1.1\r\nHost: x\r\nX-Request-Id: {identity}\r\n\r\n".encode()


def ask(port, data, until_closed=True):
    got, closed = b"", False
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        try:
            s.sendall(data)
            if not until_closed:
                s.shutdown(socket.SHUT_WR)
            while chunk := s.recv(65536):
                got += chunk
            closed = True
        except ConnectionError:
            closed = True
        except socket.timeout:
            pass
    return [int(x) for x in re.findall(rb"HTTP/1\.[01] (\d+) ", got)], closed


@pytest.mark.parametrize("name", REFUSED)
def test_a_head_with_two_readings_is_refused_and_hides_no_request(server, name):
    identity, second = hidden(name)
    statuses, closed = ask(server.port, REFUSED[name] + second)
    assert closed, "the connection stayed open"
    # libmicrohttpd writes the answers that it makes itself twice
    assert statuses and set(statuses) <= STATUS.get(name, {400}) and len(statuses) <= 2, statuses
    assert server.ask("GET", "/healthz").status == 200
    assert identity not in [line["request_id"] for line in server.lines("request")]


@pytest.mark.parametrize("field", [b"X-A:b", b"X-A: b", b"X-A: \t b", b"X-A: b  ", b"X-A: b\t", b"X-A:", b"X-A:  ",
                                   b'Cookie: a=b; c="d"',
                                   b"X-A: \xc3\xa4"])
def test_a_field_may_have_blanks_round_its_value(server, field):
    statuses, _ = ask(server.port, GET + field + b"\r\nX-B: c\r\n" + field + b"\r\n\r\n" + GET + b"\r\n", until_closed=False)
    assert statuses == [200, 200]


def test_trace_is_not_echoed(server):
    statuses, _ = ask(server.port, b"TRACE / HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\n\r\n", until_closed=False)
    assert statuses == [405]


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_chunked_body_may_be_cut_anywhere(server, pizza, cut):
    body = b"%x;extension=1\r\n" % 1000 + pizza[:1000] + b"\r\n" + b"%X\r\n" % (len(pizza) - 1000) + pizza[1000:] + \
        b"\r\n0\r\nTrailer: x\r\n\r\n"
    data = CHUNKED + body + GET + b"Connection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        edges = {i for mark in (b"\r\n", b"\r", b"0\r") for i in range(len(data)) if data.startswith(mark, i)
                 and (i < len(CHUNKED) + 20 or i > len(data) - len(GET) - 60)}
        at = 0
        for edge in sorted(e + cut % 3 for e in edges):
            s.sendall(data[at:edge])
            at = max(at, edge)
        s.sendall(data[at:])
        got = b""
        while chunk := s.recv(65536):
            got += chunk
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"200", b"200"]
