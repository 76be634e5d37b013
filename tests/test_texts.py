"""JSON and YAML that strangers wrote: a value, or one line that says why not."""

from __future__ import annotations

from typing import Any

import pytest

from voxflow.errors import DataError
from voxflow.texts import parse_json, parse_yaml


def _write_references(first: str, pattern: str) -> str:
    """Nine levels, each of nine references to the one before: 9^9 values in 400 bytes."""
    lines = [f"a: &a {first}"]
    lines += [f"{c}: &{c} {pattern % ','.join([f'*{p}'] * 9)}" for p, c in zip("abcdefghi", "bcdefghij", strict=True)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "more than 100 levels"),
        ("[" * 101 + "1" + "]" * 101, "more than 100 levels"),
        ('{"a":' * 200 + "1" + "}" * 200, "more than 100 levels"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        ('{"a": 1', "line 1 column 8"),
        ("", "Expecting value"),
        (" " * 64_000_001, "64,000,001 characters; at most"),
    ],
)
def test_hostile_json_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "more than 100 levels"),
        ("- " * 100_000, "more than 100 levels"),
        ("? " * 100_000, "more than 100 levels"),
        (_write_references("[1, 1]", "[%s]"), "stand for more than 1,000,000 values"),
        (_write_references("{x: 1}", "{<<: [%s]}"), "stand for more than 1,000,000 values"),
        ("&a [*a]", "stand for more than"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice"),
        ("? [1, 2]\n: 3", "unhashable key"),
        ("a: " + "9" * 5000, "a number of 5000 characters"),
        ("a: 0x" + "f" * 5000, "a number of 5002 characters"),
        ("a: " + ":".join(["59"] * 20_000), "a number of"),
        ("a: 2001-99-99", "month must be in"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: \0", "control characters"),
        ("workspaces: [", "not valid YAML"),
        ("#" * 2_000_001, "2,000,001 characters; at most"),
    ],
)
def test_hostile_yaml_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        parse_yaml(text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{"a": [1, -2.5e3, None, True, "x"], "b": {}}, [], 5, "text", -(2**63)])
def test_honest_json_is_read(value: Any) -> None:
    import json

    assert parse_json(json.dumps(value)) == value


def test_honest_yaml_is_read() -> None:
    text = "defaults: &d {seed: 7, low: .nan}\na: {<<: *d, seed: 8}\nb: [*d, *d]\n'1': 2001-01-01\n"
    content = parse_yaml(text)
    assert content["a"]["seed"] == 8
    assert len(content["b"]) == 2
    assert parse_yaml("") is None
