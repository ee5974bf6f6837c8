# SPDX-License-Identifier: MIT
"""Hostile pictures and JSON as bytes, made here: bombs, and mutations of good files."""
import base64
import json
import random
import struct
import zlib

from common import ROOT, pictures


def chunk(kind, data, length=None):
    return struct.pack(">I", len(data) if length is None else length) + kind + data + \
        struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, idat, depth=8, color=2, n_idat=1):
    """A PNG of these sizes whose IDAT chunks hold idat."""
    size = max(1, -(-len(idat) // n_idat))
    pieces = [idat[i:i + size] for i in range(0, len(idat), size)] or [b""]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)) +
            b"".join(chunk(b"IDAT", piece) for piece in pieces) + chunk(b"IEND", b""))


def deflated_zeros(n):
    c = zlib.compressobj(9)
    out, piece = [], bytes(1 << 20)
    for _ in range(n >> 20):
        out.append(c.compress(piece))
    out.append(c.compress(bytes(n & ((1 << 20) - 1))))
    return b"".join(out) + c.flush()


def jpeg(width, height, scans=1, progressive=False):
    """A gray JPEG of these sizes with (almost) no data; progressive: with so many scans of one coefficient."""
    def segment(marker, data):
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data
    counts = bytes([1] + [0] * 15)  # one code, of one bit: 0
    out = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    out += segment(0xC2 if progressive else 0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0))
    out += segment(0xC4, b"\0" + counts + b"\0") + segment(0xC4, b"\x10" + counts + b"\0")
    for i in range(scans):
        spectral = b"\0\x3f\0" if not progressive else b"\0\0\0" if i == 0 else bytes([1 + i % 63, 1 + i % 63, 0])
        out += segment(0xDA, b"\1\1\0" + spectral) + bytes(16)
    return out + b"\xff\xd9"


def bombs():
    """[(what, content type, body, statuses that are right)]"""
    many = png(64, 64, zlib.compress(bytes(64 * 193)), n_idat=64 * 193)  # shortest pieces
    empty = chunk(b"IDAT", b"")
    at = many.index(b"IDAT") - 4
    crowded = many[:at] + empty * 200000 + many[at:]
    nested = b'{"labels":' + b"[" * 100000 + b"]" * 100000 + b"}"
    tuples = b'{"image":"x","labels":[' + b"{}," * 340000 + b"{}]}"
    refused = {400, 413, 415, 422}
    return [
        ("PNG 65,500 x 65,500, header only", "image/png", png(65500, 65500, b""), refused),
        ("PNG 65,535 x 65,535 of 1 bit, whole", "image/png",
         png(65535, 65535, deflated_zeros(65535 * (1 + 65535 // 8)), 1, 0), refused),
        ("PNG 1 x 1 that inflates to 1 GiB", "image/png", png(1, 1, deflated_zeros(1 << 30)), refused),
        ("PNG 8,000 x 8,000 RGBA of 16 bit", "image/png", png(8000, 8000, deflated_zeros(8000 * (1 + 8 * 8000)), 16, 6),
         refused),
        ("PNG 7,000 x 7,000 RGB, whole", "image/png", png(7000, 7000, deflated_zeros(7000 * (1 + 3 * 7000))), {200, 413, 503}),
        ("PNG with 200,000 empty IDATs", "image/png", crowded, {200, 413, 422}),
        ("PNG whose IDAT claims 2 GiB", "image/png",
         png(1, 1, b"")[:33] + struct.pack(">I", 0x7FFFFFFF) + b"IDAT" + bytes(100), refused),
        ("PNG 0 x 1", "image/png", png(0, 1, b""), refused),
        ("JPEG 65,500 x 65,500 in some bytes", "image/jpeg", jpeg(65500, 65500), refused),
        ("JPEG 7,000 x 7,000 in some bytes", "image/jpeg", jpeg(7000, 7000), {200, 422, 413}),
        ("JPEG progressive 4,000 x 4,000, 1,000 scans", "image/jpeg", jpeg(4000, 4000, 1000, True), refused),
        ("JPEG progressive 4,000 x 4,000, 20,000 scans", "image/jpeg", jpeg(4000, 4000, 20000, True), refused),
        ("JPEG progressive 6,000 x 6,000, 90 scans", "image/jpeg", jpeg(6000, 6000, 90, True), {200, 413, 422}),
        ("JSON of a million brackets", "application/json", nested, {400, 413}),
        ("JSON of 340,000 objects", "application/json", tuples, {400, 413}),
        ("JSON of a million empty strings", "application/json", b'{"labels":[' + b'"",' * 1000000 + b'""]}', {400, 413, 422}),
        ("JSON of a 15 MB number", "application/json", b'{"top_k":' + b"9" * 15000000 + b"}", {400, 413}),
        ("JSON of a 15 MB name", "application/json", b'{"' + b"a" * 15000000 + b'":1}', {400, 413}),
        ("JSON with a bomb in base64", "application/json",
         json.dumps({"image": base64.b64encode(png(1, 1, deflated_zeros(1 << 28))).decode(), "labels": ["a"]}).encode(),
         refused),
    ]


def seeds():
    """Good pictures to mutate: [(name, bytes)]"""
    folder = ROOT / "tests" / "golden" / "data" / "tiny" / "images"
    found = [(f.name, f.read_bytes()) for f in sorted(folder.iterdir()) if f.suffix in (".png", ".jpg")]
    return found + [(f"sample {i}", data) for i, data in enumerate(pictures()[:4])]


def mutate(data, source):
    """A broken copy. Half of the PNGs get right checksums again, so that it is not those that refuse them."""
    out = bytearray(data)
    kind = source.randrange(7)
    if kind == 0:
        return bytes(out[:source.randrange(len(out))])
    if kind == 1:
        at = source.randrange(len(out))
        out[at:at] = source.randbytes(source.randrange(1, 64))
    elif kind == 2:
        at = source.randrange(len(out))
        del out[at:at + source.randrange(1, 64)]
    elif kind == 3:
        at, to, n = source.randrange(len(out)), source.randrange(len(out)), source.randrange(1, 256)
        out[to:to + n] = out[at:at + n]
    elif kind == 4:
        at = source.randrange(min(len(out), 200))  # headers are where sizes are
        out[at] = source.choice((0, 1, 0x7F, 0x80, 0xFF))
    else:
        for _ in range(source.choice((1, 3, 20))):
            out[source.randrange(len(out))] ^= 1 << source.randrange(8)
    if out[:4] == b"\x89PNG" and source.randrange(2):
        fix_checksums(out)
    return bytes(out)


def fix_checksums(out):
    at = 8
    while at + 12 <= len(out):
        n = int.from_bytes(out[at:at + 4], "big")
        if at + 12 + n > len(out):
            return
        out[at + 8 + n:at + 12 + n] = struct.pack(">I", zlib.crc32(bytes(out[at + 4:at + 8 + n])))
        at += 12 + n


def corpus(seed):
    """Endless: (name, content type, broken bytes)"""
    source, files = random.Random(seed), seeds()
    while True:
        name, data = source.choice(files)
        yield name, "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png", mutate(data, source)
