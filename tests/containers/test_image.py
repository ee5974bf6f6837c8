# SPDX-License-Identifier: MIT
"""The image of docker/Dockerfile: what is in it, what it needs none of, and how it keeps to a container's limits."""
import concurrent.futures
import hashlib
import shutil
import subprocess

import pytest
from container import OURS, ROOT, SAMPLES, docker, wait_until

LABELS = ["dog face", "pizza", "rocket"]
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "256"]
OPEN = {"COMMA_INSECURE": "1", "COMMA_DECODER_SANDBOX": "on"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def listing(image):
    """{path: (mode, size)} of the image's file system."""
    name = f"{OURS}-files"
    docker("create", "--name", name, image)
    try:
        with subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as export:
            lines = subprocess.run(["tar", "-tv"], stdin=export.stdout, capture_output=True, text=True, check=True).stdout
        assert export.returncode == 0
    finally:
        docker("rm", "-f", name)
    split = (line.split(None, 5) for line in lines.splitlines())
    return {path.split(" -> ")[0]: (mode, size) for mode, _, size, _, _, path in split}


def n_threads(container):
    return next(key.split('threads="')[1].split('"')[0] for key in container.metrics() if "model_info" in key)


def test_the_image_is_small(image):
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image)) / MIB
    print(f"\nthe image has {size:.1f} MiB")
    assert size < 160


def test_there_is_the_binary_and_its_libraries_and_no_shell(listing):
    # The engine puts empty files in by itself.
    full = {path: mode for path, (mode, size) in listing.items() if mode[0] == "-" and size != "0"}
    assert [path for path, mode in full.items() if "x" in mode and ".so" not in path] == ["usr/bin/comma"]
    assert not [path for path, mode in full.items() if "s" in mode], "setuid or setgid"
    folders = {path.split("/")[0] for path in listing}
    assert folders <= {".dockerenv", "adapters", "dev", "etc", "lib", "lib64", "models", "proc", "sys", "usr"}


def test_a_shell_cannot_be_run(image):
    with pytest.raises(RuntimeError, match="no such file"):
        docker("run", "--rm", "--entrypoint", "/bin/sh", image, "-c", "true")


def test_confined_it_turns_healthy_and_gives_the_golden_scores(run, golden):
    server = run(*CONFINED, env=OPEN)
    wait_until(lambda: server.state("Health.Status") == "healthy", 60, "HEALTHCHECK")
    assert docker("exec", server.name, "/usr/bin/comma", "healthcheck", "--port", "8081") == ""
    with pytest.raises(RuntimeError):
        docker("exec", server.name, "/usr/bin/comma", "healthcheck", "--port", "8082")
    for image in golden["images"]:
        answer = server.classify((SAMPLES / image["file"]).read_bytes(), golden["classes"])
        assert answer.status == 200, answer.body
        found = {r["label"]: r["score"] for r in answer.json["results"]}
        for label, score in image["top5"]:
            assert found[label] == pytest.approx(score, abs=1e-4)
    assert docker("diff", server.name) == ""


@pytest.mark.parametrize("backend, precision", [("openblas", "f32"), ("onednn", "f32")])
def test_each_back_end_is_whole(run, pizza, backend, precision):
    """What a library loads only when it is used would be missed by a look at what the binary links."""
    server = run(*CONFINED, env={**OPEN, "COMMA_BACKEND": backend, "COMMA_PRECISION": precision}).wait_ready()
    assert server.classify(pizza, LABELS).json["results"][0]["label"] == "pizza"
    assert any(f'backend="{backend}",precision="{precision}"' in key for key in server.metrics())


def test_it_has_no_rights_and_its_decoders_still_less(run):
    server = run(*CONFINED, env=OPEN).wait_ready()
    first, *decoders = server.processes()
    for process in [first, *decoders]:
        assert process["Uid"].split() == ["65532"] * 4
        assert int(process["Groups"] or 65532) == 65532
        assert {process[c] for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert process["NoNewPrivs"] == "1"
    # The engine's default filter, and in each decoder (not in the process that forks them) one of our own on top.
    assert first["Seccomp"] == "2"
    filters = [int(d["Seccomp_filters"]) for d in decoders]
    assert filters.count(int(first["Seccomp_filters"]) + 1) == len(decoders) - 1 >= 1


def test_a_mounted_model_and_its_adapters_are_served(run, golden, tmp_path):
    model, adapters = tmp_path / "mine", tmp_path / "adapters"
    shutil.copytree(ROOT / "models" / "emoji", model, ignore=shutil.ignore_patterns("adapters", "samples", "*.py"))
    shutil.copytree(ROOT / "models" / "emoji" / "adapters" / "groups", adapters / "kinds")
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    server = run(*CONFINED, "-v", f"{model}:/models/mine:ro", "-v", f"{adapters}:/adapters:ro",
                 env={**OPEN, "COMMA_MODEL": "/models/mine", "COMMA_ADAPTERS": "/adapters"}).wait_ready()
    served = server.ask("GET", "/models").json
    assert [a["name"] for a in served["adapters"]] == ["kinds"]
    image = golden["images"][0]
    answer = server.classify((SAMPLES / image["file"]).read_bytes(), golden["classes"]).json
    assert answer["model"] == "mine"
    for result, (label, score) in zip(answer["results"], image["top5"]):
        assert (result["label"], result["score"]) == (label, pytest.approx(score, abs=1e-4))
    assert server.classify((SAMPLES / image["file"]).read_bytes(), ["fruit", "mammal"], model="kinds").status == 200


def test_a_model_that_cannot_be_read_ends_it_with_words(run, tmp_path):
    server = run(*CONFINED, "-v", f"{tmp_path}:/models/mine:ro", env={**OPEN, "COMMA_MODEL": "/models/mine"})
    assert server.wait() == 1
    assert "/models/mine" in server.logs().strip().split("\n")[-1]


def test_keys_are_demanded_unless_insecure(run, tmp_path, pizza):
    server = run(*CONFINED)
    assert server.wait() != 0
    assert "--api-keys-file" in server.logs() and "--insecure" in server.logs()

    keys = tmp_path / "keys"
    keys.write_text("alice:" + hashlib.sha256(b"secret-of-alice").hexdigest() + ":0:1:*\n")
    keys.chmod(0o644)
    tmp_path.chmod(0o755)
    server = run(*CONFINED, "-v", f"{keys}:/etc/comma/keys:ro", env={"COMMA_API_KEYS_FILE": "/etc/comma/keys"}).wait_ready()
    assert server.classify(pizza, LABELS).status == 401
    assert server.classify(pizza, LABELS, headers={"Authorization": "Bearer guessed"}).status == 401
    assert server.classify(pizza, LABELS, headers={"Authorization": "Bearer secret-of-alice"}).status == 200


def test_sigterm_drains_and_ends_with_0(run, pizza):
    server = run(*CONFINED, env={**OPEN, "COMMA_DRAIN_DELAY": "2", "COMMA_THREADS": "1"}).wait_ready()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        # What one thread works on for a good while, all of it accepted before the signal.
        asked = [pool.submit(server.classify, pizza, [f"{i} {j}" for j in range(300)]) for i in range(8)]
        wait_until(lambda: server.metrics().get("comma_queue_depth", 0) >= 1, 20, "a queue")
        docker("kill", "-s", "TERM", server.name)
        wait_until(lambda: server.ask("GET", "/readyz", inside=8081).status == 503, 10, "/readyz")
        assert server.classify(pizza, LABELS).status == 200  # readiness is withdrawn, service is not
        assert [a.result().status for a in asked] == [200] * 8
    assert server.wait() == 0
    assert "all accepted requests were answered" in server.logs()


def test_threads_follow_the_cpu_limit(run):
    for options, expected in [(["--cpus", "1"], "1"), (["--cpus", "0.5"], "1"), (["--cpuset-cpus", "0"], "1")]:
        assert n_threads(run(*CONFINED, *options, env=OPEN).wait_ready()) == expected, options
    unlimited = run(*CONFINED, env=OPEN).wait_ready()
    assert n_threads(unlimited) == docker("info", "--format", "{{.NCPU}}")


def test_memory_follows_the_memory_limit(run):
    small = {**OPEN, "COMMA_LABEL_CACHE_MB": "32", "COMMA_THREADS": "1", "COMMA_MAX_CONNECTIONS": "256"}
    room = {}
    for limit in (384, 768):
        server = run(*CONFINED, "-m", f"{limit}m", env=small).wait_ready()
        room[limit] = server.metrics()["comma_request_memory_max_bytes"] / MIB
        assert 0 < room[limit] < 0.9 * limit
    assert room[768] > room[384]

    server = run(*CONFINED, "-m", "128m", env=OPEN)
    assert server.wait() == 1
    assert "MiB of memory are too little" in server.logs() and "--label-cache-mb" in server.logs()
