# SPDX-License-Identifier: MIT
"""What dashboard, alerts and autoscaler ask Prometheus, with the variables of each put in."""
import json
import pathlib

import yaml

PROMETHEUS = pathlib.Path(__file__).resolve().parents[2] / "docker" / "prometheus"


def dashboard():
    board = json.loads((PROMETHEUS / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$__rate_interval", "5m").replace("$job", "comma")


def alerts():
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def adapter():
    """Templates of prometheus-adapter."""
    for rule in yaml.safe_load((PROMETHEUS / "adapter.yaml").read_text())["rules"]["custom"]:
        yield rule["seriesQuery"]
        query = rule["metricsQuery"]
        for template, value in [("<<.Series>>", rule["seriesQuery"].split("{")[0]),
                                ("<<.LabelMatchers>>", 'namespace="default"'), ("<<.GroupBy>>", "pod")]:
            query = query.replace(template, value)
        yield query
