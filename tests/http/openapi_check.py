# SPDX-License-Identifier: MIT
"""Holds an answer against api/openapi.yaml: status, headers, content type and body.

    contract = openapi_check.load()           # skips the test with a word where a Debian package is missing
    contract.check_response(requests.get(url + "/models"))
    contract.check("GET", "/models", 200, {"Content-Type": "application/json", ...}, b"{...}")

An answer that the contract does not name is a failure, as is a body with a field more than its schema has.
"""

import json
import pathlib
from urllib.parse import urlsplit

import pytest

CONTRACT = pathlib.Path(__file__).resolve().parents[2] / "api" / "openapi.yaml"
METHODS = ("get", "post", "put", "delete", "patch", "options")


class ContractError(AssertionError):
    """The answer is not what the contract promises."""


def load(path=CONTRACT):
    yaml = pytest.importorskip("yaml", reason="python3-yaml is not installed")
    pytest.importorskip("jsonschema", reason="python3-jsonschema is not installed")
    with open(path, encoding="utf-8") as file:
        return Contract(yaml.safe_load(file))


class Contract:
    def __init__(self, spec):
        self.spec = spec

    def resolve(self, node):
        """What a {"$ref": "#/..."} stands for; other nodes are themselves."""
        while isinstance(node, dict) and "$ref" in node:
            target = self.spec
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def errors_of(self, schema, value):
        """The first thing that is wrong with value, as words; None if nothing is."""
        import jsonschema

        resolver = jsonschema.RefResolver("", self.spec)
        validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        return error and f"{error.json_path}: {error.message[:300]}"

    def response_of(self, method, path, status):
        """The response object for an answer; 404 outside the contract's paths and 405 belong to no operation."""
        item = self.spec["paths"].get(path)
        responses = self.spec["components"]["responses"]
        if item is None:
            # a target that is malformed has no path; neither has one that is not served, nor what a full server refuses
            name = {400: "Problem", 404: "Problem", 408: "Problem", 414: "Problem", 431: "Problem", 503: "TryLater"}
            if path == "*" and status == 204:
                return responses["Allow"]
            if status in name:
                return responses[name[status]]
            raise ContractError(f"{path} is not in the contract, and answers {status}")
        if status == 405:
            return responses["WrongMethod"]
        if method == "OPTIONS":
            return responses["Allow"] if status == 204 else None
        operation = item.get("get" if method == "HEAD" else method.lower())
        if operation is None:
            raise ContractError(f"{method} {path} is not in the contract, and answers {status}")
        response = operation["responses"].get(str(status))
        if response is None:
            raise ContractError(f"{method} {path} answers {status}, which the contract does not name")
        return self.resolve(response)

    def check_headers(self, response, headers, where):
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            if name.lower() not in headers:
                if header.get("required"):
                    raise ContractError(f"{where}: the header {name} is missing")
                continue
            wrong = self.errors_of(header["schema"], headers[name.lower()])
            if wrong:
                raise ContractError(f"{where}: header {name} {wrong}")

    def check(self, method, path, status, headers, body):
        """Fails with ContractError unless the answer is as the contract says.

        path is without the query; body is the bytes that came."""
        where = f"{method} {path} -> {status}"
        headers = {name.lower(): value for name, value in headers.items()}
        response = self.response_of(method, path, status)
        if response is None:
            raise ContractError(f"{where}: the contract does not name that status")
        self.check_headers(response, headers, where)
        contents = response.get("content", {})
        if not contents:
            if body:
                raise ContractError(f"{where}: a body of {len(body)} bytes where there is none")
            return
        content_type = headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type not in contents:
            raise ContractError(f"{where}: Content-Type {content_type!r}, not {' or '.join(contents)}")
        if method == "HEAD":
            if body:
                raise ContractError(f"{where}: HEAD with a body")
            return
        self.check_body(contents[content_type]["schema"], content_type, status, body, where)

    def check_body(self, schema, content_type, status, body, where):
        try:
            value = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ContractError(f"{where}: the body is not UTF-8: {error}") from None
        if content_type.endswith("json"):
            try:
                value = json.loads(value, parse_constant=refuse_constant)
            except ValueError as error:
                raise ContractError(f"{where}: the body is not JSON: {error}") from None
        wrong = self.errors_of(schema, value)
        if wrong:
            raise ContractError(f"{where}: {wrong}")
        if content_type == "application/problem+json" and value["status"] != status:
            raise ContractError(f"{where}: the document says {value['status']}")

    def check_response(self, response):
        """The same for an answer of the requests library."""
        self.check(response.request.method, urlsplit(response.request.url).path or "/", response.status_code,
                   response.headers, response.content)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")
