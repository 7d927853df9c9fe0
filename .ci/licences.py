#!/usr/bin/env python3
"""Checks the licences of all dependencies against licences.toml. Reads what cargo has; asks nobody."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = tomllib.loads((HERE / "licences.toml").read_text())


def fulfilled(expression, allowed):
    """An SPDX expression, of which `/` is the old form of OR. AND binds closer than OR."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        result = both()
        while words and words[0] == "OR":
            words.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one():
        word = words.pop(0)
        if word == "(":
            result = either()
            assert words.pop(0) == ")", expression
            return result
        if words[:1] == ["WITH"]:
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    result = either()
    assert not words, expression
    return result


def shipped(metadata):
    """The packages of which something is in the server, by following all but development dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    members = set(metadata["workspace_members"])
    seen, todo = set(), [p["id"] for p in metadata["packages"] if p["id"] in members and p["name"] == "vorpal"]
    while todo:
        package = todo.pop()
        if package not in seen:
            seen.add(package)
            todo += [d["pkg"] for d in nodes[package]["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
    return seen


def check(manifest):
    metadata = json.loads(subprocess.check_output(
        ["cargo", "metadata", "--locked", "--format-version=1", "--manifest-path", manifest]))
    in_server = shipped(metadata)
    bad = []
    for package in metadata["packages"]:
        allowed = set(RULES["allow"])
        if package["id"] not in in_server:
            allowed |= set(RULES["allow-in-tests"])
        licence = RULES["exceptions"].get(package["name"]) or package["license"]
        if not licence or not fulfilled(licence, allowed):
            bad.append(f"{package['name']} {package['version']}: {licence or 'no licence'}")
    return bad


def main():
    bad = [line for manifest in ("Cargo.toml", "fuzz/Cargo.toml") for line in check(str(HERE.parent / manifest))]
    if bad:
        sys.exit("licences that licences.toml does not allow:\n" + "\n".join(sorted(set(bad))))


if __name__ == "__main__":
    main()
