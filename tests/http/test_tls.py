# SPDX-License-Identifier: MIT
"""TLS by --tls-cert and --tls-key, with a certificate made here."""
import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from conftest import BINARY, FORM, form

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def certificate(folder, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{folder}/{name}.key", "-out",
                    f"{folder}/{name}.pem"], check=True, capture_output=True, timeout=60)
    return f"{folder}/{name}.pem", f"{folder}/{name}.key"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture
def tls(start, files):
    server = start("--tls-cert", files[0], "--tls-key", files[1], "--header-timeout", "1", "--body-timeout", "1")
    server.context = ssl.create_default_context(cafile=files[0])
    return server


def connect(server):
    return http.client.HTTPSConnection("localhost", server.port, timeout=20, context=server.context)


def test_a_picture_is_classified_over_tls_on_a_kept_connection(tls, pizza):
    assert any(line.startswith("listening on https://") for line in tls.log)
    connection = connect(tls)
    for _ in range(3):
        answer = tls.ask("POST", "/classify", form(("image", pizza), ("labels", json.dumps(["pizza", "dog"]))), FORM,
                         connection=connection)
        assert answer.status == 200 and answer.json["results"][0]["label"] == "pizza"
    connection.request("POST", "/classify", iter([form(("image", pizza), ("labels", "a"))[i::2] for i in (0,)]), FORM,
                       encode_chunked=True)
    assert connection.getresponse().status == 400  # half a form, in chunks
    assert tls.ask("GET", "/openapi.yaml", connection=connect(tls)).status == 200  # larger than a record
    assert tls.stop() == 0


def test_plain_http_and_noise_on_the_tls_port_hurt_nobody(tls):
    for noise in (b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n", bytes(500), b"\x16\x03\x01\x02\x00\x01" + bytes(600), b""):
        assert b"200 OK" not in tls.raw(noise)
    assert tls.ask("GET", "/healthz", connection=connect(tls)).status == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_protocol_is_not_spoken(tls):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    try:
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
    except (ValueError, ssl.SSLError):
        pytest.skip("this Python cannot speak it either")
    with socket.create_connection(("127.0.0.1", tls.port), timeout=10) as s, pytest.raises((ssl.SSLError, OSError)):
        old.wrap_socket(s)


def test_clients_that_dawdle_in_the_handshake_head_or_body_are_cut_off(tls):
    with socket.create_connection(("127.0.0.1", tls.port), timeout=20) as raw:
        raw.sendall(b"\x16\x03\x01")
        assert raw.recv(100) == b""
    for part in (b"GET /mod", b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
                              b"Content-Length: 1000\r\n\r\nxx"):
        with socket.create_connection(("127.0.0.1", tls.port), timeout=20) as raw:
            s = tls.context.wrap_socket(raw, server_hostname="localhost")
            s.sendall(part)
            with contextlib.suppress(OSError):
                while s.recv(4096):
                    pass
    assert tls.ask("GET", "/healthz", connection=connect(tls)).status == 200


def test_a_client_that_leaves_is_forgotten(tls):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", tls.port), timeout=20) as raw:
            s = tls.context.wrap_socket(raw, server_hostname="localhost")
            s.sendall(b"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxx")
    end = time.monotonic() + 20
    while b"\ncomma_http_connections 1\n" not in tls.ask("GET", "/metrics", connection=connect(tls)).body:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_cannot_be_served_is_said(tmp_path, files):
    other = certificate(tmp_path, "other")
    (tmp_path / "empty").write_text("")
    for cert, key, words in [(files[0], other[1], "belong together"), ("/nowhere", files[1], "/nowhere"),
                             (files[0], "/nowhere", "/nowhere"), (str(tmp_path / "empty"), files[1], "belong together"),
                             (files[0], None, "want each other"), (None, files[1], "want each other")]:
        args = (["--tls-cert", cert] if cert else []) + (["--tls-key", key] if key else [])
        done = subprocess.run([BINARY, "serve", "--port", "0", *args], capture_output=True, text=True, timeout=60)
        assert done.returncode in (1, 2) and words in done.stderr, (args, done.stderr)
