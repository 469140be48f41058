"""Holds Kubernetes objects against the OpenAPI schemas of Kubernetes versions, strictly: no field may be unknown.

Usage: kubernetes.py VERSION,... <OBJECTS

OBJECTS is a JSON list. Prints for each object, as JSON, what is wrong by version: lines of text. An object that no schema of
a version knows is an error as well.
"""

import functools
import importlib.resources
import json
import re
import sys

import jsonschema_rs

SCHEMAS = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"


def schema(version, name):
    return json.loads((SCHEMAS / f"v{version}.0-local-strict" / name).read_text(encoding="utf-8"))


@functools.cache
def definitions(version):
    """What the schemas of all kinds refer to."""
    contents = schema(version, "_definitions.json")
    return jsonschema_rs.Registry([(contents["$id"], contents)])


@functools.cache
def validator(version, api_version, kind):
    """That of a kind; None where this version has no such kind."""
    group = re.sub(r"^([^./]*)(?:[.][^/]*)?/", r"\1-", api_version)
    try:
        contents = schema(version, f"{kind.lower()}-{group}.json")
    except FileNotFoundError:
        return None
    return jsonschema_rs.validator_for(contents, registry=definitions(version))


def errors(version, document):
    api_version, kind = (str(document.get(key)) for key in ("apiVersion", "kind"))
    name = f"{kind} {(document.get('metadata') or {}).get('name')}"
    found = validator(version, api_version, kind)
    if found is None:
        return [f"{name}: Kubernetes {version} has no {kind} of {api_version}"]
    return [f"{name}: {'.'.join(map(str, error.instance_path))}: {error.message}" for error in found.iter_errors(document)]


def main(versions):
    verdicts = [{version: errors(version, document) for version in versions.split(",")} for document in json.load(sys.stdin)]
    json.dump(verdicts, sys.stdout)


main(*sys.argv[1:])
