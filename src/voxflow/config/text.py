"""Owns a configuration's text: JSON with comments and trailing commas forgiven, faults named by line and column."""

from __future__ import annotations

import difflib
import json
import logging
import re
from typing import TYPE_CHECKING, Any

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

LITERALS = ("true", "false", "null")
# One token at a time, so that what looks like a comment inside a string stays a string.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"|,(?=\s*[}\]])')


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    ``//`` and ``/* */`` comments and trailing commas are forgiven and logged as a warning. A key that begins
    with two underscores is a comment too.

    Raises:
        ConfigError: the file is missing, is no JSON object, names a key twice, or breaks JSON's syntax; the
            message then gives line, column and the line itself.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError("file not found", path=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"unreadable: {error}", path=path) from error
    value = _parse(_forgive(text, path), text, path)
    if not isinstance(value, dict):
        raise ConfigError(f"expected a JSON object {{...}}, received a {type(value).__name__}", path=path)
    return value


def _forgive(text: str, path: Path) -> str:
    """Blank out comments and trailing commas; every other character keeps its line and column."""
    without_comments, comments = _blank(_STRING_OR_COMMENT, text)
    plain, commas = _blank(_STRING_OR_COMMA, without_comments)
    if comments or commas:
        logger.warning("%s: forgave %d comment(s) and %d trailing comma(s); JSON has neither", path, comments, commas)
    return plain


def _blank(pattern: re.Pattern[str], text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if match[0].startswith('"'):
            return match[0]
        count += 1
        return re.sub(r"[^\n]", " ", match[0])

    return pattern.sub(replace, text), count


def _parse(plain: str, text: str, path: Path) -> Any:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        repeated.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return {key: value for key, value in pairs if not key.startswith("__")}

    try:
        value = json.loads(plain, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        # A file that is cut off breaks after its last line.
        line = next(iter(text.splitlines()[error.lineno - 1 :]), "").strip()
        where = f"line {error.lineno}, column {error.colno}"
        message = f"not valid JSON: {error.msg}, at {line!r}{_literal_hint(plain, error.pos)}"
        raise ConfigError(message, path=path, where=where) from error
    except RecursionError as error:
        raise ConfigError("not readable: its objects and lists are nested too deeply", path=path) from error
    if repeated:
        raise ConfigError(f"a key stands twice in one object: {', '.join(map(repr, repeated))}", path=path)
    return value


def _literal_hint(text: str, position: int) -> str:
    """The literal that a bare word was meant to be: ``ture`` and Python's ``True`` are both true."""
    word = re.match(r"[A-Za-z]+", text[position:])
    if word is None:
        return ""
    meant = "null" if word[0] == "None" else next(iter(difflib.get_close_matches(word[0].lower(), LITERALS, n=1)), "")
    return f"; did you mean {meant}?" if meant else "; text stands in quotation marks"
