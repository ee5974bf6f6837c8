# SPDX-License-Identifier: MIT
"""Runs the real binary, as a user does: COMMA_BINARY names it (meson test does)."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.path.abspath(os.environ.get("COMMA_BINARY") or ROOT / "build" / "server" / "comma")


def run(*args, stdin=b"", **more):
    """A subcommand's whole life: .returncode, .stdout and .stderr as text, .lines of stdout."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run([BINARY, *map(os.fspath, args)], input=stdin, capture_output=True, timeout=300, **more)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    done.lines = done.stdout.split("\n")[:-1]  # splitlines() would break at U+2028, too
    return done


def run_json(*args, **more):
    """The objects of a run that has to succeed, one a line."""
    done = run(*args, **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.lines]


def find_shared(*names):
    """A file or folder of the material beside the project, or None."""
    path = ROOT.parent.joinpath("shared", *names)
    return path if path.exists() else None


def find_emoji(name):
    """A file of the embedded model's own folder: where the project keeps it, else beside the project."""
    path = ROOT / "models" / "emoji" / name
    return path if path.exists() else find_shared("emoji", name)


@pytest.fixture(scope="session")
def golden_emoji():
    """What a plain numpy reading of the embedded model gives: without and with its COMMA prompts."""
    paths = find_emoji("golden.json"), find_emoji("golden_comma.json")
    if not all(paths):
        pytest.skip("golden.json of the emoji model is not there")
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="session")
def samples():
    folder = find_emoji("samples")
    if not folder:
        pytest.skip("the emoji model's sample pictures are not there")
    return folder


@pytest.fixture(scope="session")
def cat(samples):
    return samples / "cat.png"


@pytest.fixture(scope="session")
def emoji_model():
    """The embedded model as a directory."""
    return ROOT / "models" / "emoji"


@pytest.fixture(scope="session")
def micro():
    from golden import find_golden  # which itself wants this file
    return find_golden("micro") or pytest.skip("the golden set micro is not there")


@pytest.fixture(scope="session")
def tiny():
    from golden import find_golden  # which itself wants this file
    return find_golden("tiny") or pytest.skip("the golden set tiny is not there")
