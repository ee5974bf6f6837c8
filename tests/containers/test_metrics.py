# SPDX-License-Identifier: MIT
"""Whatever dashboard, alerts and autoscaler ask for is there in the /metrics of a real server."""
import os
import re
import subprocess

import container
import pytest
import queries

BINARY = os.environ.get("COMMA_BIN") or str(container.ROOT / "build" / "server" / "comma")
# Prometheus' own, and labels that scraping adds.
ITS_OWN = {"up"}
ADDED = {"job", "instance", "namespace", "pod"}
SELECTOR = re.compile(r"\b((?:comma|process)_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|=|!=)\s*"([^"]*)"')


@pytest.fixture(scope="module")
def exported():
    """{name of a series: {label: set of its values}}, after one request that passes every stage."""
    server = subprocess.Popen([BINARY, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        port = next(int(m[1]) for m in (re.match(r"listening on http://.*:(\d+)$", line) for line in server.stderr) if m)
        headers, body = container.form(("image", (container.SAMPLES / "pizza.png").read_bytes()), ("labels", "cat,dog"))
        assert container.ask(port, "POST", "/classify", body, headers).status == 200
        text = container.ask(port, "GET", "/metrics").body.decode()
    finally:
        server.terminate()
        server.communicate(timeout=60)
    series = {}
    for line in text.split("\n"):
        found = re.match(r"(\w+)(?:\{(.*)\})? ", line)
        if found and line[0] != "#":
            labels = series.setdefault(found[1], {})
            for name, _, value in MATCHER.findall(found[2] or ""):
                labels.setdefault(name, set()).add(value)
    return series


@pytest.mark.parametrize("source", [queries.dashboard, queries.alerts, queries.adapter], ids=lambda f: f.__name__)
def test_every_metric_and_label_is_exported(exported, source):
    asked = [selector for query in source() for selector in SELECTOR.findall(query)]
    assert asked
    for name, matchers in asked:
        if name in ITS_OWN:
            continue
        assert name in exported, name
        for label, _, _ in MATCHER.findall(matchers):
            assert label in exported[name] or label in ADDED, f"{name} has no label {label}"


def test_values_that_alerts_look_for_exist(exported):
    """A reason or result that no server ever writes would make an alert that never fires."""
    for query in queries.alerts():
        for name, matchers in SELECTOR.findall(query):
            for label, _, values in MATCHER.findall(matchers):
                if label in ("reason", "result"):
                    assert set(values.split("|")) <= exported[name][label]


def test_every_panel_and_alert_says_what_it_is():
    text = (queries.PROMETHEUS / "alerts.yml").read_text()
    assert text.count("summary:") == text.count("action:") == text.count("severity:") == len(list(queries.alerts()))
