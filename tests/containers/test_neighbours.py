# SPDX-License-Identifier: MIT
"""What stands beside the server: HAProxy's and Prometheus' own programs read what docker/ gives them."""
import shutil

import queries
import yaml
from container import ROOT, docker
from queries import PROMETHEUS


def promtool(image, folder, *args):
    folder.chmod(0o755)
    return docker("run", "--rm", "--network", "none", "-v", f"{folder}:/rules:ro", "-w", "/rules", "--entrypoint",
                  "promtool", image, *args)


def test_haproxy_takes_its_configuration(haproxy_image):
    docker("run", "--rm", "--network", "none", "--read-only", haproxy_image, "haproxy", "-c", "-f",
           "/etc/haproxy/haproxy.cfg")


def test_prometheus_takes_its_configuration_and_rules(prometheus_image, tmp_path):
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / name, tmp_path)
    assert "9 rules found" in promtool(prometheus_image, tmp_path, "check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_not_when_not(prometheus_image, tmp_path):
    shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
    shutil.copy(ROOT / "tests" / "containers" / "alerts_test.yml", tmp_path)
    promtool(prometheus_image, tmp_path, "test", "rules", "alerts_test.yml")
    tested = (tmp_path / "alerts_test.yml").read_text()
    for rule in yaml.safe_load((tmp_path / "alerts.yml").read_text())["groups"][0]["rules"]:
        assert f"alertname: {rule['alert']}\n        exp_alerts:\n" in tested, f"{rule['alert']} is never seen to fire"


def test_queries_of_dashboard_and_autoscaler_are_promql(prometheus_image, tmp_path):
    asked = [*queries.dashboard(), *queries.adapter()]
    assert len(asked) > 10
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(asked)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool(prometheus_image, tmp_path, "check", "rules", "queries.yml")
