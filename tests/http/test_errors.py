# SPDX-License-Identifier: MIT
"""Every status of the contract, with a problem document whose sentence says what to change."""
import base64
import json
import struct
import zlib

import pytest
from conftest import BOUNDARY, FORM, JSON, form

PNG = {"Content-Type": "image/png"}


def png(width, height, idat=b""):
    """A PNG that claims a size."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", idat) + chunk(b"IEND", b""))


def crafted_huffman():
    """A JPEG whose Huffman table counts add up to more than 256: crashes the decoder of an old stb_image."""
    dht = b"\xff\xc4" + struct.pack(">H", 2 + 17 + 255) + b"\x00" + bytes([255] * 16) + bytes(range(255))
    sof = b"\xff\xc0" + struct.pack(">HBHHBBBB", 11, 8, 16, 16, 1, 1, 0x11, 0)
    dqt = b"\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
    return b"\xff\xd8" + dqt + sof + dht + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(64) + b"\xff\xd9"


def cases(image):
    text = base64.b64encode(image).decode()
    many = json.dumps([f"label {i}" for i in range(10001)])
    return [
        # what, method, path, body, headers, status, words of the detail, pointer
        ("no such path", "GET", "/nowhere", None, {}, 404, "", None),
        ("wrong method", "GET", "/classify", None, {}, 405, "", None),
        ("wrong method 2", "DELETE", "/models", None, {}, 405, "", None),
        ("no content type", "POST", "/classify", b"x", {}, 415, "multipart/form-data", None),
        ("odd content type", "POST", "/classify", b"x", {"Content-Type": "text/html"}, 415, "application/json", None),
        ("not json", "POST", "/classify", b"{", JSON, 400, "", None),
        ("json array", "POST", "/classify", b"[]", JSON, 400, "", None),
        ("no image", "POST", "/classify", json.dumps({"labels": ["a"]}), JSON, 400, "image", "/image"),
        ("bad base64", "POST", "/classify", json.dumps({"image": "*", "labels": ["a"]}), JSON, 400, "", "/image"),
        ("unknown field", "POST", "/classify", json.dumps({"image": text, "labels": ["a"], "x": 1}), JSON, 400, "x",
         None),
        ("labels no list", "POST", "/classify", json.dumps({"image": text, "labels": 3}), JSON, 400, "", "/labels"),
        ("label no text", "POST", "/classify", json.dumps({"image": text, "labels": ["a", 3]}), JSON, 400, "",
         "/labels/1"),
        ("control character", "POST", "/classify", json.dumps({"image": text, "labels": ["a", "b\u0000"]}), JSON, 400,
         "", None),
        ("not utf-8", "POST", "/classify?labels=%ff", image, PNG, 400, "UTF-8", None),
        ("no labels", "POST", "/classify", json.dumps({"image": text, "labels": []}), JSON, 422, "", "/labels"),
        ("no labels 2", "POST", "/classify", image, PNG, 422, "", "/labels"),
        ("too many labels", "POST", "/classify", form(("image", image), ("labels", many)), FORM, 422, "10000", None),
        ("long label", "POST", "/classify", form(("image", image), ("labels", json.dumps(["ok", "a " * 60]))), FORM, 422,
         "a a a", "/labels/1"),
        ("top_k 0", "POST", "/classify?labels=a&top_k=0", image, PNG, 400, "top_k", "/top_k"),
        ("top_k word", "POST", "/classify?labels=a&top_k=x", image, PNG, 400, "top_k", "/top_k"),
        ("no {}", "POST", "/classify?labels=a&template=photo", image, PNG, 422, "{}", None),
        ("template with a prompt", "POST", "/classify?labels=a&template=a+%7B%7D&model=groups", image, PNG, 422, "", None),
        ("unknown model", "POST", "/classify?labels=a&model=nobody", image, PNG, 404, "/models", "/model"),
        ("no picture", "POST", "/classify?labels=a", b"GIF89a....", PNG, 415, "PNG", None),
        ("empty picture", "POST", "/classify?labels=a", b"", PNG, (400, 415), "", None),
        ("half a picture", "POST", "/classify?labels=a", image[:len(image) // 2], PNG, 422, "", None),
        ("too many pixels", "POST", "/classify?labels=a", png(65000, 65000), PNG, 413, "", None),
        ("no pixels", "POST", "/classify?labels=a", png(0, 5), PNG, 422, "", None),
        ("inflates to much", "POST", "/classify?labels=a", png(1, 1, zlib.compress(bytes(64 << 20), 9)), PNG, 422, "",
         None),
        ("crafted Huffman table", "POST", "/classify?labels=a", crafted_huffman(), {"Content-Type": "image/jpeg"}, 422,
         "", None),
        ("no boundary", "POST", "/classify", b"x", {"Content-Type": "multipart/form-data"}, 400, "boundary", None),
        ("broken form", "POST", "/classify", f"--{BOUNDARY}\r\n".encode(), FORM, 400, "", None),
        ("two images", "POST", "/classify", form(("image", image), ("image", image), ("labels", "a")), FORM, 400, "",
         "/image"),
        ("embed nothing", "POST", "/embed", b"{}", JSON, 400, "", None),
        ("embed no texts", "POST", "/embed", b'{"texts":[]}', JSON, 422, "", "/texts"),
        ("deep json", "POST", "/classify", b"[" * 1000, JSON, (400, 413), "", None),
        ("many parts", "POST", "/classify", b'{"labels":[' + b"{}," * 300000 + b"{}]}", JSON, 413, "", None),
    ]


def test_each_refusal_is_a_problem_document(server, contract, pizza):
    for what, method, path, body, headers, status, words, pointer in cases(pizza):
        answer = server.ask(method, path, body, headers)
        wanted = status if isinstance(status, tuple) else (status,)
        assert answer.status in wanted, (what, answer.status, answer.body[:300])
        assert answer.headers["Content-Type"] == "application/problem+json", what
        problem = answer.json
        assert problem["status"] == answer.status and problem["type"] and problem["title"], what
        assert words in problem["detail"], (what, problem)
        if pointer is not None:
            assert problem.get("pointer") == pointer, (what, problem)
        if answer.status == 405:
            assert answer.headers["Allow"]
        contract.check(method, path.split("?")[0], answer.status, answer.headers, answer.body)
    assert server.classify(pizza, ["a"]).status == 200  # and it serves on


def test_a_body_over_the_limit_is_refused_before_it_is_read(start, pizza):
    server = start("--max-body-mb", "1")
    head = (f"POST /classify?labels=a HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            f"Content-Length: {100 << 20}\r\nExpect: 100-continue\r\n\r\n").encode()
    got = server.raw(head)
    assert got.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in got
    connection = server.connect()
    connection.request("POST", "/classify?labels=a", iter([bytes(65536)] * 24), {"Content-Type": "image/png"},
                       encode_chunked=True)
    assert connection.getresponse().status == 413
    assert server.classify(pizza, ["a"]).status == 200


def test_a_length_is_needed(server):
    got = server.raw(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 411 ")
    assert b"\r\nconnection: close\r\n" in got.lower()  # where its body would end cannot be known


def test_exif_orientation_is_applied_unless_refused(server):
    Image = pytest.importorskip("PIL.Image", reason="python3-pil is not installed")
    import io
    from conftest import SAMPLES
    picture = Image.open(SAMPLES / "guitar.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    picture.transpose(Image.ROTATE_90).save(out, "JPEG", quality=95, exif=exif)
    upright, turned = io.BytesIO(), out.getvalue()
    picture.save(upright, "JPEG", quality=95)

    def similarity(image, **more):
        return server.classify(image, ["guitar"], **more).json["results"][0]["similarity"]
    assert similarity(turned) == pytest.approx(similarity(upright.getvalue()), abs=5e-3)
    assert abs(similarity(turned, auto_orient="false") - similarity(turned)) > 1e-3
