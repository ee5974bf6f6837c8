# SPDX-License-Identifier: MIT
"""The contract itself is sound, and openapi_check refuses answers that break it. No server is started."""

import json

import openapi_check
import pytest

ID = {"X-Request-Id": "abc"}
JSON = {"Content-Type": "application/json", **ID}
PROBLEM = {"Content-Type": "application/problem+json", **ID}


@pytest.fixture(scope="module")
def contract():
    return openapi_check.load()


def walk(node):
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from walk(child)


def test_each_reference_leads_somewhere_and_each_component_is_used(contract):
    text = json.dumps(contract.spec)
    for node in walk(contract.spec):
        if isinstance(node, dict) and "$ref" in node:
            assert contract.resolve(node) is not None
    for kind, components in contract.spec["components"].items():
        if kind != "securitySchemes":
            for name in components:
                assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name} is not used"


def test_each_schema_is_a_schema(contract):
    import jsonschema

    for schema in contract.spec["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_each_operation_names_its_problems(contract):
    for path, item in contract.spec["paths"].items():
        for method, operation in item.items():
            statuses = set(operation["responses"])
            assert statuses & {"200", "202", "204"}, f"{method} {path}"
            if method != "options":
                assert "405" in statuses, f"{method} {path}"
    for path in ("/classify", "/embed"):
        named = set(contract.spec["paths"][path]["post"]["responses"])
        assert named >= {"400", "401", "403", "404", "405", "408", "411", "413", "415", "422", "429", "500", "503"}


def answer(**changes):
    body = {
        "model": "emoji",
        "results": [{"label": "red apple", "score": 0.94, "similarity": 0.41}],
        "labels": {"count": 3, "cached": 2},
        "timing_ms": {"queue": 0.1, "decode": 1.2, "image": 9.8, "text": 2.0, "total": 13.3},
    }
    body.update(changes)
    return json.dumps(body).encode()


def problem(status=422, **changes):
    body = {"type": "urn:comma:problem:no-labels", "title": "t", "status": status, "detail": "d", "pointer": "/labels"}
    body.update(changes)
    return json.dumps(body).encode()


GOOD = {
    "the design's example": ("POST", "/classify", 200, JSON, answer()),
    "a problem": ("POST", "/classify", 422, PROBLEM, problem()),
    "a path that is not there": ("GET", "/nowhere", 404, PROBLEM, problem(404)),
    "a wrong method": ("DELETE", "/models", 405, {**PROBLEM, "Allow": "GET, HEAD, OPTIONS"}, problem(405)),
    "methods": ("OPTIONS", "/classify", 204, {**ID, "Allow": "POST, OPTIONS"}, b""),
    "a busy server": ("POST", "/embed", 503, {**PROBLEM, "Retry-After": "1"}, problem(503)),
    "alive": ("GET", "/healthz", 200, JSON, b'{"status":"ok"}'),
    "alive, HEAD": ("HEAD", "/healthz", 200, JSON, b""),
}

BAD = {
    "a field too many": ("POST", "/classify", 200, JSON, answer(extra=1)),
    "NaN": ("POST", "/classify", 200, JSON, answer(model=float("nan"))),
    "no results": ("POST", "/classify", 200, JSON, answer(results=[])),
    "a score of 2": ("POST", "/classify", 200, JSON,
                     answer(results=[{"label": "a", "score": 2, "similarity": 0}])),
    "half a body": ("POST", "/classify", 200, JSON, answer()[:-1]),
    "the wrong type": ("POST", "/classify", 422, JSON, problem()),
    "no request id": ("POST", "/classify", 422, {"Content-Type": "application/problem+json"}, problem()),
    "another status inside": ("POST", "/classify", 422, PROBLEM, problem(400)),
    "a status that is not named": ("POST", "/classify", 418, PROBLEM, problem(418)),
    "no Retry-After": ("POST", "/embed", 503, PROBLEM, problem(503)),
    "no Allow": ("DELETE", "/models", 405, PROBLEM, problem(405)),
    "a pointer that is none": ("POST", "/classify", 422, PROBLEM, problem(pointer="labels")),
    "a body for HEAD": ("HEAD", "/healthz", 200, JSON, b"{}"),
    "a path that is not there": ("GET", "/nowhere", 200, JSON, b"{}"),
}


@pytest.mark.parametrize("case", GOOD)
def test_an_answer_as_the_contract_says_passes(contract, case):
    contract.check(*GOOD[case])


@pytest.mark.parametrize("case", BAD)
def test_an_answer_that_breaks_the_contract_is_refused(contract, case):
    with pytest.raises(openapi_check.ContractError):
        contract.check(*BAD[case])
