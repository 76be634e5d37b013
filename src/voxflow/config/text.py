"""JSON files of configurations: comments and trailing commas are forgiven, faults named by line and column."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import forgive_json, read_text
from voxflow.findings import DEFAULT_CODE, FaultyConfigError, Finding, FindingCollector, nearest_name, show
from voxflow.texts import decode_json

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

MOST_SHOWN = 200  # characters of a line
LITERALS = ("true", "false", "null")


def read_json(path: Path, findings: FindingCollector | None = None) -> dict[str, Any]:
    """Read a JSON object.

    ``//`` and ``/* */`` comments and trailing commas are forgiven with a warning. A key that begins with two
    underscores is a comment too.

    Args:
        path: the file.
        findings: where the warning goes; None: to the log.

    Raises:
        FaultyConfigError: the file is missing, is no JSON object, names a key twice, or breaks JSON's syntax; the
            message then gives line, column and the line itself.

    Example:
        >>> from pathlib import Path
        >>> size = Path("config.json").write_text('{"epochs": 20, "__note": "long enough", "lr": Ture}')
        >>> read_json(Path("config.json"))
        Traceback (most recent call last):
        ...
        voxflow.findings.FaultyConfigError: config.json: line 1, column 47: not valid JSON: ...; did you mean true?
        >>> size = Path("config.json").write_text('{"epochs": 20, "__note": "long enough"}')
        >>> read_json(Path("config.json"))
        {'epochs': 20}
    """
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise _make_fault(path, "missing-file", "file not found") from error
    except OSError as error:
        raise _make_fault(path, "unreadable-file", f"unreadable: {error}") from error
    except DataError as error:
        raise _make_fault(path, "unreadable-file", f"unreadable: {error.message}") from error
    plain, warning = _forgive(text, path)
    if warning and findings:
        findings.add(dataclasses.replace(warning, file=findings.file))
    elif warning:
        log_warning(warning)
    # Both texts have the same length and lines, so that a fault's column is that of the user's own file.
    value = _parse(plain, text, path)
    if not isinstance(value, dict):
        raise _make_fault(path, "syntax", f"expected a JSON object {{...}}, received a {type(value).__name__}")
    return value


def _forgive(text: str, path: Path) -> tuple[str, Finding | None]:
    """Blank out comments and trailing commas, with the warning that says so."""
    plain, comments, commas = forgive_json(text)
    if comments or commas:
        message, fix = (
            f"forgave {comments} comment(s) and {commas} trailing comma(s)",
            "take them out: JSON has neither",
        )
        return plain, Finding("syntax", "warning", path, "", message, fix, "JSON has neither")
    return plain, None


def log_warning(finding: Finding) -> None:
    """Log a warning as one line: file, place, what it is."""
    place = f"{finding.file}: {finding.where}" if finding.where else f"{finding.file}"
    logger.warning("%s: %s", place, finding.text)


def _make_fault(path: Path, code: str, message: str, place: str = "", literal: str = "") -> FaultyConfigError:
    """One fault that leaves nothing to be read; ``literal`` is the JSON literal that was probably meant."""
    fix = f"write {literal}" if literal else "mend the JSON there" if code == "syntax" else ""
    text = f"{message}; did you mean {literal}?" if literal else message
    return FaultyConfigError.of(Finding(code, "error", path, place, message, fix), text)


def _parse(plain: str, text: str, path: Path) -> Any:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        repeated.extend(sorted(key for key, count in counts.items() if count > 1))
        return {key: value for key, value in pairs if not key.startswith("__")}

    try:
        value = decode_json(plain, unique)
    except json.JSONDecodeError as error:
        # A file that is cut off breaks after its last line.
        line = next(iter(text.splitlines()[error.lineno - 1 :]), "").strip()
        place = f"line {error.lineno}, column {error.colno}"
        ending, literal = _guess_literal(plain, error.pos)
        message = f"not valid JSON: {error.msg}, at {show(line, MOST_SHOWN)}{ending}"
        raise _make_fault(path, "syntax", message, place, literal) from error
    except DataError as error:
        raise _make_fault(path, DEFAULT_CODE, error.message) from error
    if repeated:
        raise _make_fault(path, "syntax", f"a key stands twice in one object: {', '.join(map(repr, repeated))}")
    return value


def _guess_literal(text: str, position: int) -> tuple[str, str]:
    """What to say of a bare word, and the literal that it was meant to be: ``ture`` and Python's ``True`` are true."""
    word = re.match(r"[A-Za-z]+", text[position:])
    if word is None:
        return "", ""
    literal = "null" if word[0] == "None" else nearest_name(word[0].lower(), LITERALS)
    return "" if literal else "; text stands in quotation marks", literal
