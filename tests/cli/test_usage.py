# SPDX-License-Identifier: MIT
"""The command line itself: subcommands, --help, exit statuses, streams."""
import os
import pathlib
import pty
import re
import subprocess
import time

import pytest
from conftest import BINARY, run

SUBCOMMANDS = ["classify", "embed", "tokenize", "convert", "inspect", "bench"]


def test_without_a_subcommand_the_usage_goes_to_stderr_with_status_2():
    done = run()
    assert done.returncode == 2 and done.stdout == ""
    assert all(name in done.stderr for name in SUBCOMMANDS)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_goes_to_stdout_with_status_0(flag):
    done = run(flag)
    assert done.returncode == 0 and done.stderr == ""
    assert all(name in done.stdout for name in SUBCOMMANDS)


def test_an_unknown_subcommand_is_answered_with_the_list_and_status_2():
    done = run("clasify")
    assert done.returncode == 2 and done.stdout == ""
    assert 'unknown subcommand "clasify"' in done.stderr
    assert all(name in done.stderr for name in SUBCOMMANDS)


def cpu_flags():
    return set(next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split())


@pytest.mark.skipif("avx2" not in cpu_flags(), reason="this processor has no AVX2")
def test_openblas_does_not_fall_back_to_old_kernels():
    # What it does where it does not know the processor. Said once a start: the program may execute itself anew.
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    done = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=60,
                          env={**env, "OPENBLAS_VERBOSE": "2"})
    cores = re.findall(r"Core: (\w+)", done.stdout + done.stderr)
    if not cores:
        pytest.skip("this OpenBLAS does not say which kernels it runs")
    assert cores[-1] not in ("Prescott", "Core2", "Penryn", "Nehalem", "Sandybridge", "Barcelona", "Bulldozer")


def test_version_is_one_line():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("comma ") and len(done.lines) == 1


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_subcommand_has_help(name):
    done = run(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: comma {name} ")
    assert "--model DIR" in done.stdout


@pytest.mark.parametrize("args, words", [
    (["classify", "x.png"], "no labels were given"),
    (["classify", "--labels", "cat"], "no picture was given"),
    (["classify", "--labels", " , ,", "x.png"], "no labels"),
    (["classify", "--labels", '["cat", 3]', "x.png"], "labels"),
    (["classify", "--labels", "cat", "--template", "a photo", "x.png"], "{}"),
    (["classify", "--labels", "cat", "--top-k", "0", "x.png"], "--top-k"),
    (["classify", "--labels", "cat", "-", "-"], "standard input"),
    (["classify", "--labels-file", "-", "-"], "standard input"),
    (["classify", "--labels", "cat", "--nonsense", "x.png"], "--nonsense"),
    (["classify", "--labels", "cat", "--precision", "f64", "x.png"], "f32|bf16|int8"),
    (["classify", "--adapter", "groups", "--template", "a {}", "--labels", "cat", "x.png"], "prompt of its own"),
    (["embed"], "nothing to embed"),
    (["embed", "--text"], "--text wants a value"),
    (["embed", "cat.png"], "cat.png"),
    (["tokenize"], "no text was given"),
    (["convert", "-o", "x"], "one source, not 0"),
    (["convert", "a", "b", "-o", "x"], "one source, not 2"),
    (["convert", "a"], "-o DIR"),
    (["convert", "a", "-o", "x", "--heads", "many"], "--heads"),
    (["convert", "a", "-o", "x", "--heads", "2,0"], "--heads"),
    (["convert", "a", "-o", "x", "--activation", "relu"], "quick_gelu|gelu"),
    (["convert", "a", "-o", "x", "--dtype", "int8"], "f32|f16|bf16"),
    (["convert", "a", "-o", "x", "--last-layer", "0"], "--last-layer"),
    (["inspect", "a", "b"], "one path"),
    (["bench", "extra"], "extra"),
    (["bench", "--seconds", "soon"], "--seconds"),
])
def test_wrong_usage_is_said_in_words_with_status_2(args, words):
    done = run(*args)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and words in done.stderr
    assert done.stderr.startswith("comma")


@pytest.mark.parametrize("args", [
    ["classify", "--labels", "cat", "x.png"],
    ["embed", "--text", "cat"],
    ["tokenize", "cat"],
    ["bench"],
])
@pytest.mark.parametrize("option, words", [
    (["--model", "/nonexistent/model"], "/nonexistent/model"),
])
def test_a_model_that_cannot_be_opened_is_named_with_status_1(args, option, words):
    done = run(args[0], *option, *args[1:])
    assert done.returncode == 1 and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_adapter_that_is_not_there_is_answered_with_those_that_are():
    done = run("embed", "--adapter", "/nonexistent/adapter", "--text", "cat")
    assert done.returncode == 1
    assert "/nonexistent/adapter" in done.stderr and "groups" in done.stderr


def test_a_reader_that_goes_away_ends_the_work_quietly():
    many = [f"word {i}" for i in range(2000)]
    process = subprocess.Popen([BINARY, "embed", "--text", *many], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_a_full_disk_is_said_with_status_1():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BINARY, "tokenize", "cat"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert b"standard output: No space left on device" in done.stderr


def on_terminal(*args):
    """Runs with stdout and stderr on a terminal; what it shows."""
    try:
        ours, theirs = pty.openpty()
    except OSError as why: # a chroot without /dev/pts
        pytest.skip(f"no terminal to be had: {why}")
    process = subprocess.Popen([BINARY, *map(os.fspath, args)], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # how Linux says that the last writer is gone
            break
        if not more:
            break
        shown += more
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def test_a_progress_bar_is_shown_on_a_terminal_and_none_in_a_pipe(samples):
    args = ["classify", "--labels", "cat,dog", *sorted(samples.glob("*.png"))]
    assert "images [" in on_terminal(*args)
    assert run(*args).stderr == ""


def test_convert_shows_its_progress_on_a_terminal_and_none_in_a_pipe(emoji_model, tmp_path):
    assert "MB [" in on_terminal("convert", emoji_model, "-o", tmp_path / "a")
    assert run("convert", emoji_model, "-o", tmp_path / "b").stderr == ""


def test_a_table_on_a_terminal_is_aligned_even_with_wide_characters(cat):
    shown = on_terminal("classify", "--labels", "cat,火车,red apple", cat)
    rows = [line for line in shown.splitlines() if line.startswith("  ")]
    columns = {sum(2 if ch > "\u2e80" else 1 for ch in row) for row in rows}
    assert len(rows) == 3 and len(columns) == 1
    assert "\t" not in shown


def test_control_characters_of_a_path_do_not_reach_the_terminal(tmp_path):
    done = run("classify", "--labels", "cat", tmp_path / "a\x1b[31mb.png")
    assert done.returncode == 1
    assert "\x1b" not in done.stderr and "a?[31mb.png" in done.stderr


def test_the_process_sets_up_its_environment_once_and_keeps_its_name():
    process = subprocess.Popen([BINARY, "embed", "--text-file", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env={"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "7"})
    proc = pathlib.Path("/proc", str(process.pid))
    deadline = time.monotonic() + 30
    while b"OPENBLAS_NUM_THREADS=1\0" not in (proc / "environ").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b"OPENBLAS_NUM_THREADS=1\0" in (proc / "environ").read_bytes()
    assert (proc / "cmdline").read_bytes().split(b"\0")[0] == os.fsencode(BINARY)
    while (proc / "comm").read_text() == "exe\n" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (proc / "comm").read_text().strip() == os.path.basename(BINARY)[:15]
    process.communicate(b"cat\n", timeout=60)
    assert process.returncode == 0
