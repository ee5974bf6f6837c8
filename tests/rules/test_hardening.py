# SPDX-License-Identifier: MIT
"""What compiler and linker were asked to do against exploits is in the binary.

    COMMA_BUILD=build pytest tests/rules"""
import json
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("COMMA_BUILD") or "nowhere")
BINARY = BUILD / "server" / "comma"


def options():
    path = BUILD / "meson-info" / "intro-buildoptions.json"
    return {o["name"]: o["value"] for o in json.loads(path.read_text())} if path.exists() else {}


pytestmark = [pytest.mark.skipif(not BINARY.exists(), reason="COMMA_BUILD has no binary"),
              pytest.mark.skipif(options().get("b_sanitize", "none") != "none", reason="a sanitizer has guards of its own")]


def readelf(*args):
    return subprocess.run(["readelf", "--wide", *args, str(BINARY)], capture_output=True, text=True, check=True).stdout


def symbols():
    """Names that the binary takes from libraries."""
    lines = (line.split() for line in readelf("--dyn-syms").splitlines())
    return {line[7].split("@")[0] for line in lines if len(line) > 7 and line[6] == "UND"}


def test_it_is_position_independent():
    assert "DYN (Position-Independent Executable file)" in readelf("--file-header")
    assert "PIE" in readelf("--dynamic").split("(FLAGS_1)")[1].split("\n")[0]


def test_its_relocations_are_read_only_before_it_runs():
    assert "GNU_RELRO" in readelf("--program-headers")
    assert "BIND_NOW" in readelf("--dynamic") or "NOW" in readelf("--dynamic").split("(FLAGS_1)")[1].split("\n")[0]
    assert "TEXTREL" not in readelf("--dynamic")


def test_nothing_is_both_writable_and_executable():
    lines = [line.split() for line in readelf("--program-headers").splitlines()]
    stack, = (line for line in lines if line[:1] == ["GNU_STACK"])
    assert "E" not in stack[6]
    for line in lines:
        if line[:1] == ["LOAD"]:
            flags = "".join(line[6:-1])
            assert not ("W" in flags and "E" in flags), line


def test_stacks_are_guarded():
    assert "__stack_chk_fail" in symbols()


@pytest.mark.skipif(options().get("optimization") in ("0", "plain"), reason="FORTIFY works on optimised code only")
def test_copies_are_checked():
    checked = {name for name in symbols() if name.endswith("_chk") and name != "__stack_chk_fail"}
    assert checked & {"__memcpy_chk", "__memmove_chk"} and checked & {"__snprintf_chk", "__vsnprintf_chk"}

