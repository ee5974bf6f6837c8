# SPDX-License-Identifier: MIT
"""Holds Kubernetes manifests against the API's own description, as Debian's python3-kubernetes carries it: each model
there names its fields, their JSON names and types, and refuses to be made without what is required. Strict: a field that
the API does not know is a complaint, where kubectl would drop it."""
import re

from kubernetes import client

# Newer than the API of Debian 12's package (1.22), where the same fields stand under another name.
MODELS = {"HorizontalPodAutoscaler": ["V2HorizontalPodAutoscaler", "V2beta2HorizontalPodAutoscaler"],
          "Deployment": ["V1Deployment"], "Service": ["V1Service"], "NetworkPolicy": ["V1NetworkPolicy"],
          "PodDisruptionBudget": ["V1PodDisruptionBudget"], "PodSpec": ["V1PodSpec"], "ObjectMeta": ["V1ObjectMeta"]}
PLAIN = {"str": str, "int": int, "bool": bool}


def model_of(kind):
    return next(getattr(client, name) for name in MODELS[kind] if hasattr(client, name))


def complaints(type_name, value, path=""):
    """Yields a sentence for each thing in value that is not of the type, which is the name of a model or of plain data."""
    found = re.fullmatch(r"list\[(.*)\]", type_name)
    if found:
        if not isinstance(value, list):
            yield f"{path}: a list is expected"
            return
        for i, entry in enumerate(value):
            yield from complaints(found[1], entry, f"{path}[{i}]")
        return
    found = re.fullmatch(r"dict\(str, (.*)\)", type_name)
    if found:
        for key, entry in value.items():
            yield from complaints(found[1], entry, f"{path}.{key}")
        return
    if type_name in PLAIN:
        if not isinstance(value, PLAIN[type_name]) or (type_name == "int" and isinstance(value, bool)):
            yield f"{path}: {value!r} is not of type {type_name}"
    elif hasattr(client, type_name):
        yield from model_complaints(getattr(client, type_name), value, path)
    elif type_name != "object": # int-or-string and quantities
        yield f"{path}: the type {type_name} is not known"


def model_complaints(model, value, path):
    if not isinstance(value, dict):
        yield f"{path}: a mapping is expected"
        return
    fields = {json: (name, model.openapi_types[name]) for name, json in model.attribute_map.items()}
    for key, entry in value.items():
        if key not in fields:
            yield f"{path}.{key}: {model.__name__} has no such field"
        else:
            yield from complaints(fields[key][1], entry, f"{path}.{key}")
    try:
        model(**{fields[key][0]: entry for key, entry in value.items() if key in fields})
    except ValueError as missing:
        yield f"{path}: {missing}"
