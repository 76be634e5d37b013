"""Parses JSON and YAML that strangers may have written: every text either is a value or one clear line says why not.

Nesting is bounded, so that no parser runs out of stack; references of YAML are counted as what they stand for, so that
a kilobyte is no billion values; and a key that stands twice is refused, since one of the two would be lost.
"""

from __future__ import annotations

import json
import math
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# JSON: a datalist of 100,000 cases has 30 MB, and one value takes up to 30 times its text in memory. YAML: 0.2 MB for a
# hundred workspaces.
MOST_JSON_CHARACTERS, MOST_YAML_CHARACTERS = 64_000_000, 2_000_000
MOST_LEVELS = 100
MOST_VALUES = 1_000_000
MOST_DIGITS = 20  # 64 bits and a sign
MOST_NUMBER_CHARACTERS = 400
_OF_NUMBERS = string.hexdigits + "xob_+-:."
SHOWN = 80


def escape(text: str) -> str:
    r"""Write what a terminal would obey or break a line at as an escape.

    Example:
        >>> escape("a\x1b[2J\n")
        'a\\x1b[2J\\n'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's pairs.

    Raises:
        ValueError: a key stands twice.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {repeated[:SHOWN]!r} stands twice in one object")
    return content


def parse_json(text: str, path: Path | None = None) -> Any:
    """Parse JSON.

    Raises:
        DataError: it is no JSON, too long or too deep, holds NaN, an infinite number or one of thousands of digits, or
            a key stands twice in one object.

    Example:
        >>> parse_json('{"case": "a", "case": "b"}')
        Traceback (most recent call last):
        ...
        voxflow.errors.DataError: not valid JSON: the key 'case' stands twice in one object
    """
    try:
        return decode_json(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {_shorten(error)}", path=path) from error
    except DataError as error:
        raise DataError(error.message, path=path) from error


def decode_json(text: str, make: Callable[[list[tuple[str, Any]]], Any] = make_object) -> Any:
    """Parse JSON for a reader that says itself where a fault of syntax is; all else is as for :func:`parse_json`.

    Args:
        text: as the file holds it.
        make: makes a value of the names and values of an object.

    Raises:
        json.JSONDecodeError: it is no JSON.
        DataError: as for :func:`parse_json`.
    """
    if len(text) > MOST_JSON_CHARACTERS:
        raise DataError(f"a JSON of {len(text):,} characters; at most {MOST_JSON_CHARACTERS:,} are read")
    try:
        value = json.loads(
            text, object_pairs_hook=make, parse_constant=parse_float, parse_float=parse_float, parse_int=parse_int
        )
    except RecursionError as error:
        raise DataError(describe_depth("JSON")) from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise DataError(f"not valid JSON: {_shorten(error)}") from error
    if is_too_deep(value):
        raise DataError(describe_depth("JSON"))
    return value


def parse_yaml(text: str, path: Path | None = None) -> Any:
    """Parse YAML, by the rules of ``yaml.safe_load``: it makes plain values, and no objects.

    Raises:
        DataError: it is no YAML, too long or too deep, its references stand for too much, or a key stands twice.
    """
    import yaml

    if len(text) > MOST_YAML_CHARACTERS:
        raise DataError(f"a YAML of {len(text):,} characters; at most {MOST_YAML_CHARACTERS:,} are read", path=path)
    # The parser in C is ten times faster; its own limit of nesting is 1000.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        check_yaml(text)
        return yaml.load(text, Loader=loader)  # noqa: S506 - one of the two safe loaders
    except RecursionError as error:
        raise DataError(describe_depth("YAML"), path=path) from error
    # ValueError: a date that is none, or an integer of thousands of digits; TypeError: a key that is a list.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise DataError(f"not valid YAML: {_shorten(error)}", path=path) from error


def parse_int(digits: str) -> int:
    """Parse a whole number of JSON.

    Raises:
        ValueError: it has more digits than 64 bits hold.
    """
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def parse_float(number: str) -> float:
    """Parse a number of JSON.

    Raises:
        ValueError: it is NaN or infinite, as 1e999 is.
    """
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:SHOWN]} is no number of JSON; write null or leave it out")
    return value


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other more than :data:`MOST_LEVELS` deep."""
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            member
            for collection in level
            if isinstance(collection, dict | list)
            for member in (collection.values() if isinstance(collection, dict) else collection)
            if isinstance(member, dict | list)
        ]
        if not level:
            return False
    return True


class _Collection:
    """A mapping or list of YAML that is being read: its name, its values so far, and the keys of a mapping."""

    def __init__(self, anchor: str | None, *, is_mapping: bool) -> None:
        self.anchor, self.is_mapping = anchor, is_mapping
        self.values, self.members = 1, 0
        self.keys: set[str] = set()


def check_yaml(text: str, *, may_repeat: bool = False) -> None:
    """Refuse nesting, references and repeated keys, from the events of the parser, which makes no values yet.

    Args:
        text: YAML.
        may_repeat: let a key stand twice.

    Raises:
        ValueError: it is nested too deep, stands for too many values, or a key stands twice.
        YAMLError: it is no YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    opened: list[_Collection] = []
    values_by_anchor: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Collection(event.anchor, is_mapping=isinstance(event, yaml.MappingStartEvent)))
            if len(opened) > MOST_LEVELS:
                raise ValueError(describe_depth("YAML"))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            values, anchor = opened[-1].values, opened.pop().anchor
        elif isinstance(event, yaml.AliasEvent):
            values, anchor = values_by_anchor.get(event.anchor, MOST_VALUES), None
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event)
            values, anchor = 1, event.anchor
        else:
            continue
        if anchor:
            values_by_anchor[anchor] = values
        if opened:
            _add_member(opened[-1], event, values, may_repeat=may_repeat)


def _check_number(event: Any) -> None:
    """Refuse a number that no program can print."""
    count = len(event.value)
    if event.implicit[0] and count > MOST_NUMBER_CHARACTERS and not event.value.strip(_OF_NUMBERS):
        raise ValueError(f"line {event.start_mark.line + 1}: a number of {count} characters")


def _add_member(collection: _Collection, event: Any, values: int, *, may_repeat: bool) -> None:
    import yaml

    line = event.start_mark.line + 1
    collection.values += values
    if collection.values > MOST_VALUES:
        raise ValueError(f"line {line}: its references (&, *) stand for more than {MOST_VALUES:,} values")
    if not may_repeat and collection.is_mapping and collection.members % 2 == 0 and isinstance(event, yaml.ScalarEvent):
        if event.value in collection.keys and event.value != "<<":
            raise ValueError(f"line {line}: the key {event.value[:SHOWN]!r} stands twice in one mapping")
        collection.keys.add(event.value)
    collection.members += 1


def describe_depth(form: str) -> str:
    """Say that a text is nested too deeply; ``form``: JSON or YAML."""
    return f"not readable: nested too deeply, a {form} of more than {MOST_LEVELS} levels of lists and objects"


def _shorten(error: Exception) -> str:
    """The words of a parser, in one line, without what it shows of a long text."""
    words = " ".join(str(error).split())
    return words if len(words) <= 4 * SHOWN else f"{words[: 4 * SHOWN]}…"
