# SPDX-License-Identifier: MIT
"""docker/kubernetes/ and docker/compose.yaml: valid by the API's schemas, in step with each other and with the program."""
import copy
import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("COMMA_BIN") or str(ROOT / "build" / "server" / "comma")
FOLDER = ROOT / "docker" / "kubernetes"
# Kinds that no Kubernetes schema has: other projects' own.
CUSTOM = {"InferenceService", "PodMonitor"}
# What KServe adds to a pod's fields in a predictor.
KSERVE_FIELDS = {"minReplicas", "maxReplicas", "labels", "annotations"}


def documents():
    return {(path.name, d["kind"]): d for path in sorted(FOLDER.glob("*.yaml"))
            for d in yaml.safe_load_all(path.read_text()) if "kind" in d}


DOCUMENTS = documents()
NATIVE = [key for key in DOCUMENTS if key[1] not in CUSTOM]
DEPLOYMENT = DOCUMENTS["deployment.yaml", "Deployment"]
PREDICTOR = DOCUMENTS["inference-service.yaml", "InferenceService"]["spec"]["predictor"]
PODS = {"deployment": DEPLOYMENT["spec"]["template"]["spec"],
        "predictor": {k: v for k, v in PREDICTOR.items() if k not in KSERVE_FIELDS}}


@pytest.fixture(scope="module")
def schema():
    pytest.importorskip("kubernetes.client", reason="python3-kubernetes is not installed")
    import kube_schema
    return kube_schema


@pytest.fixture(scope="module")
def options():
    """{name: (environment, default)} of comma serve, by its own --help."""
    text = subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return text


def native(schema, document):
    return list(schema.model_complaints(schema.model_of(document["kind"]), document, document["kind"]))


@pytest.mark.parametrize("key", NATIVE, ids="-".join)
def test_a_manifest_is_valid(schema, key):
    assert native(schema, DOCUMENTS[key]) == []


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_valid(schema, name):
    assert list(schema.complaints("V1PodSpec", PODS[name], name)) == []


@pytest.mark.parametrize("path, value, words", [
    (["spec", "replica"], 3, "spec.replica: V1DeploymentSpec has no such field"),
    (["spec", "selector"], None, "Invalid value for `selector`"),
    (["spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"], "http", "'http' is not of type int"),
    (["spec", "template", "spec", "containers", 0, "securityContext", "readOnlyRootFileSystem"], True, "no such field"),
    (["spec", "template", "spec", "volumes"], {"name": "keys"}, "volumes: a list is expected"),
])
def test_a_breach_of_the_schema_is_seen(schema, path, value, words):
    broken = at = copy.deepcopy(DEPLOYMENT)
    for step in path[:-1]:
        at = at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    found = native(schema, broken)
    assert len(found) >= 1 and words in found[0]


def test_manifests_are_valid_by_the_published_schemas():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: it is on PyPI, "
                                   "not in Debian")
    for version in ("1.25", "1.31", "1.37"):
        for key in NATIVE:
            validate.validate(DOCUMENTS[key], version, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights(name):
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False  # they would set COMMA_PORT to an URL
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert not pod.get(key)
    for container in pod["containers"]:
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                                "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert {e["name"]: e["value"] for e in container["env"]}["COMMA_DECODER_SANDBOX"] == "on"
        assert "COMMA_INSECURE" not in {e["name"] for e in container["env"]}


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_the_admin_listener_and_paths_that_are_there(name):
    container, = PODS[name]["containers"]
    contract = yaml.safe_load((ROOT / "api" / "openapi.yaml").read_text())["paths"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert ports[get["port"]] == 8081 and get["path"] in contract
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"  # a replica that drains must not be killed for it
    mounted = {m["name"] for m in container["volumeMounts"]}
    assert mounted == {v["name"] for v in PODS[name]["volumes"]}


def default_of(options, name):
    found = re.search(rf"--{name} SECONDS.*?\(default ([0-9.]+)\)", options, re.S)
    return float(found[1])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_time_to_drain(options, name):
    container, = PODS[name]["containers"]
    environment = {e["name"]: e["value"] for e in container["env"]}
    delay, drain = float(environment["COMMA_DRAIN_DELAY"]), default_of(options, "drain-timeout")
    probe = container["readinessProbe"]
    assert delay > probe["periodSeconds"] * probe["failureThreshold"]
    assert drain > delay
    assert PODS[name]["terminationGracePeriodSeconds"] >= drain + 5


def test_every_variable_is_an_option(options):
    text = "".join(path.read_text() for path in [ROOT / "docker" / "Dockerfile", *(ROOT / "docker").glob("*.yaml"),
                                                 *FOLDER.glob("*.yaml")])
    used = set(re.findall(r"\bCOMMA_[A-Z_]+", text))
    assert {"COMMA_DRAIN_DELAY", "COMMA_INSECURE"} <= used
    assert used <= set(re.findall(r"\bCOMMA_[A-Z_]+", options))


def test_what_selects_the_pods_finds_them():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert PREDICTOR["labels"].items() <= labels.items()
    selectors = {name: d["spec"].get("selector") or d["spec"].get("podSelector") for name, d in DOCUMENTS.items()}
    for name in [("service.yaml", "Service"), ("disruption-budget.yaml", "PodDisruptionBudget"),
                 ("network-policy.yaml", "NetworkPolicy"), ("pod-monitor.yaml", "PodMonitor")]:
        selector = selectors[name].get("matchLabels", selectors[name])
        assert selector.items() <= labels.items(), name


def test_ports_are_those_of_the_container():
    container, = PODS["deployment"]["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert [p["targetPort"] for p in DOCUMENTS["service.yaml", "Service"]["spec"]["ports"]] == ["http"]
    policy = DOCUMENTS["network-policy.yaml", "NetworkPolicy"]["spec"]
    assert sorted(p["port"] for rule in policy["ingress"] for p in rule["ports"]) == sorted(ports.values())
    assert policy["egress"] == [] and set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert [e["port"] for e in DOCUMENTS["pod-monitor.yaml", "PodMonitor"]["spec"]["podMetricsEndpoints"]] == ["admin"]
    assert "EXPOSE 8080 8081" in (ROOT / "docker" / "Dockerfile").read_text()


def test_the_autoscaler_scales_the_deployment_on_a_metric_that_the_adapter_makes():
    scaler = DOCUMENTS["autoscaler.yaml", "HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": DEPLOYMENT["apiVersion"], "kind": "Deployment",
                                        "name": DEPLOYMENT["metadata"]["name"]}
    assert "replicas" not in DEPLOYMENT["spec"]  # an apply would undo what the autoscaler did
    metric, = (m["pods"]["metric"]["name"] for m in scaler["metrics"])
    rule, = yaml.safe_load((ROOT / "docker" / "prometheus" / "adapter.yaml").read_text())["rules"]["custom"]
    assert rule["seriesQuery"].startswith(metric + "{")
    assert "<<.Series>>{<<.LabelMatchers>>}" in rule["metricsQuery"] and "<<.GroupBy>>" in rule["metricsQuery"]
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


def test_replicas_of_compose_are_confined_and_have_time_to_drain(options):
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    haproxy = (ROOT / "docker" / "haproxy" / "haproxy.cfg").read_text()
    inter, fall = map(float, re.search(r"inter (\d+)s .*fall (\d+)", haproxy).groups())
    assert float(re.search(r"COMMA_DRAIN_DELAY=(\d+)", dockerfile)[1]) > inter * fall + 1
    replicas = [name for name in compose["services"] if re.fullmatch(r"comma\d", name)]
    assert sorted(replicas) == sorted(re.findall(r"^ +server (\w+) ", haproxy, re.M)) and len(replicas) == 3
    scraped = yaml.safe_load((ROOT / "docker" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"{name}:8081" for name in replicas]
    for name in replicas:
        replica = compose["services"][name]
        assert replica["read_only"] and replica["cap_drop"] == ["ALL"]
        assert replica["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in replica  # reached through HAProxy only
        assert replica["environment"]["COMMA_DECODER_SANDBOX"] == "on"
        assert float(replica["stop_grace_period"].rstrip("s")) >= default_of(options, "drain-timeout") + 5
