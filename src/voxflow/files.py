"""Writes files and folders whole or not at all, and reads texts that people write."""

import codecs
import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voxflow.errors import DataError
from voxflow.texts import parse_json

# One token at a time, so that what looks like a comment inside a string stays a string.
# A string or a comment without an end goes as far as it can: looked for from each of its marks, megabytes take hours.
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*+"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
# A comma that follows a value: "[,]" stays an error.
_STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*+"?|[\[{,]\s*,|,(?=\s*[}\]])')
MOST_FORGIVEN = 16_000_000  # characters: people write no longer texts by hand
_FORGIVABLE = re.compile(r"/[/*]|,\s*[}\]]")

# UTF-32's mark begins with that of UTF-16.
_OTHER_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SPECIAL_FILES = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MOST_TEXT_BYTES = 1 << 28  # a table of a million cases
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block ends well.

    The temporary name keeps the target's suffixes, since many writers choose their format by them.

    Example:
        >>> with atomic_path(Path("scores.csv")) as temporary:
        ...     _ = temporary.write_text("case,dice")
        ...     Path("scores.csv").exists()
        False
        >>> Path("scores.csv").read_text()
        'case,dice'
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(target.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        # A write to an open file does not say which one it was.
        if error.errno in _NO_ROOM and error.filename is None:
            error.filename = str(target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``target`` that replaces it when the block ends well.

    When the block raises, the temporary folder is removed, and what stood at ``target`` stays as it was.

    Args:
        target: the folder to write; its parents are made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed left half written below a folder that nobody writes to any more."""
    for partial in list(folder.rglob(".partial-*")):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def describe_special_file(path: Path) -> str:
    """Say what a path is that must never be opened, such as "a named pipe": reading may wait for ever, or never end.

    Returns:
        Empty for a regular file, a folder, a link to one of them, and what is not there.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return next((name for is_special, name in _SPECIAL_FILES if is_special(mode)), "")


def require_regular_file(path: Path) -> None:
    """Refuse a named pipe, a socket or a device before it is opened.

    Raises:
        DataError: it is one.
    """
    special = describe_special_file(path)
    if special:
        raise DataError(f"{special}, expected a file; it is not opened", path=path)


def read_text(path: Path) -> str:
    r"""Read a text that a person may have written: UTF-8, with or without a byte-order mark, with any line ends.

    Returns:
        The text without the mark; every line ends in ``\n``.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is in another encoding, such as UTF-16; it is longer than any text; or it is no regular file.

    Example:
        >>> size = Path("table.csv").write_bytes(b"\xef\xbb\xbfcase,dice\r\na,0.9\r\n")
        >>> read_text(Path("table.csv"))
        'case,dice\na,0.9\n'
    """
    require_regular_file(path)
    byte_count = path.stat().st_size
    if byte_count > MOST_TEXT_BYTES:
        raise DataError(f"a text of {byte_count:,} bytes; at most {MOST_TEXT_BYTES:,} are read", path=path)
    raw = path.read_bytes()
    encoding = next((name for mark, name in _OTHER_ENCODINGS if raw.startswith(mark)), "")
    if encoding:
        raise DataError(f"a text in {encoding}; save it as UTF-8", path=path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"no UTF-8: line {line} holds the byte 0x{raw[error.start]:02x}; save the file as UTF-8"
        raise DataError(message, path=path) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def forgive_json(text: str) -> tuple[str, int, int]:
    """Blank out what JSON does not know and people write: ``//`` and ``/* */`` comments, and trailing commas.

    Returns:
        The text with every other character at its line and column, the number of comments, that of commas.

    Example:
        >>> forgive_json('{"url": "http://a", /* b */ "size": [1, 2,],}')
        ('{"url": "http://a",         "size": [1, 2 ] }', 1, 2)
    """
    if len(text) > MOST_FORGIVEN or not _FORGIVABLE.search(text):  # datalists may be long
        return text, 0, 0
    without_comments, comments = _blank(_STRING_OR_COMMENT, text)
    plain, commas = _blank(_STRING_OR_COMMA, without_comments)
    return plain, comments, commas


def _blank(pattern: re.Pattern[str], text: str) -> tuple[str, int]:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        if match[0][0] in '"[{' or (len(match[0]) > 1 and match[0][0] == ","):
            return match[0]
        count += 1
        return re.sub(r"[^\n]", " ", match[0])

    return pattern.sub(replace, text), count


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with atomic_path(target) as temporary:
        # A file name that is no UTF-8 stays readable, as JSON writes it.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(target: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write JSON whole or not at all: indented, with the keys in the order of ``value``.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not know.
    """
    write_text(target, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json_or_none(path: Path) -> Any:
    """Read JSON of any kind that another program left; None when it is not there, can't be read or is no JSON."""
    try:
        return parse_json(read_text(path))
    except (OSError, DataError):
        return None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
