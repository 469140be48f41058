"""Validates TOML files against a JSON Schema.

Usage: schema.py SCHEMA FILE...

Ends with an error if SCHEMA itself is not valid. Prints a JSON object: for each FILE the messages of the
validator, or null where it is not TOML.
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator


def verdict(validator, path):
    with open(path, "rb") as file:
        try:
            value = tomllib.load(file)
        except tomllib.TOMLDecodeError:
            return None
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def main(schema_path, *paths):
    with open(schema_path, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    json.dump({path: verdict(validator, path) for path in paths}, sys.stdout)


main(*sys.argv[1:])
