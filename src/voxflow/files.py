"""Writes files and folders whole or not at all, and reads texts that people write."""

import codecs
import contextlib
import ctypes
import errno
import functools
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from voxflow.errors import DataError, last_line_of
from voxflow.leftovers import PARTIAL, REPLACED, remove_leftovers, sign_process
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
# A file system with less than two blocks free can't take the smallest file in its own folder.
_FULL_BYTES = 8192
# Of Linux's renameat2 (linux/fs.h, fcntl.h).
_RENAME_EXCHANGE, _AT_CWD = 2, -100


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that replaces it when the block ends well.

    The temporary name keeps the target's suffixes, since many writers choose their format by them.

    Raises:
        OSError: the disk is full, say, whatever the writer in the block raised then; an older file stays.

    Example:
        >>> with atomic_path(Path("scores.csv")) as temporary:
        ...     _ = temporary.write_text("case,dice")
        ...     Path("scores.csv").exists()
        False
        >>> Path("scores.csv").read_text()
        'case,dice'
    """
    with _name_full_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers_once(target.parent.absolute())
        suffix = "".join(target.suffixes[-2:])
        handle, name = tempfile.mkstemp(prefix=name_partials(), suffix=suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``target`` that replaces it when the block ends well.

    When the block raises, the temporary folder is removed, and what stood at ``target`` stays as it was. A process that
    is killed leaves at ``target`` the old folder or the new one, whole; the next one that writes beside it clears the
    other away.

    Args:
        target: the folder to write; its parents are made.

    Raises:
        NotADirectoryError: a file is there.
        OSError: the disk is full, say, whatever the writer in the block raised then.
    """
    target = target.resolve() if target.is_symlink() else target
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    with temporary_folder(target.parent) as temporary, _name_full_disk(target, temporary):
        yield temporary
        replace_folder(temporary, target)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder inside ``parent`` that is gone when the block ends, or when the next run finds it there.

    For what is too large for /tmp, and for what is renamed to its place when it is whole.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    temporary = Path(tempfile.mkdtemp(prefix=name_partials(), dir=parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(folder: Path, target: Path) -> None:
    """Put a folder into the place of another, which is removed; a kill at any moment leaves one of them there, whole.

    The two names are swapped in one step where the file system can do it. Elsewhere the old folder stands aside for a
    moment, and :func:`voxflow.leftovers.remove_leftovers` brings it back when the process died then.

    Args:
        folder: the new one, beside ``target``.
        target: what it is called from now on; it need not exist.
    """
    folder.chmod(0o777 & ~_umask())
    if not target.exists():
        folder.replace(target)
    elif exchange(folder, target):
        # Its name is that of the new one until now: what a kill leaves of it counts as half written.
        shutil.rmtree(folder, ignore_errors=True)
    else:
        aside = target.with_name(f"{REPLACED}{sign_process()}-{target.name}")
        try:
            target.replace(aside)
        except OSError as error:
            # The folder of an image of Docker can't be renamed, only removed.
            if error.errno != errno.EXDEV:
                raise
            shutil.rmtree(target)
        try:
            folder.replace(target)
        except OSError:
            aside.replace(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Swap two names of one file system in one step; False where the system or the file system can't."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _RENAME_EXCHANGE) == 0)


@contextlib.contextmanager
def report_failed_write(target: Path) -> Iterator[None]:
    """Make an ``OSError`` of what a library in C++ raises when it can't write a file."""
    try:
        yield
    except RuntimeError as error:
        _raise_if_full(target, error)
        raise OSError(f"{target}: could not be written: {last_line_of(error)}") from error


def name_partials() -> str:
    """Return what the names of files and folders that this process has half written begin with."""
    return f"{PARTIAL}{sign_process()}-"


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed left half written below a folder that nobody writes to any more."""
    for partial in list(folder.rglob(f"{PARTIAL}*")):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def explain_os_error(error: OSError) -> str:
    """Say what an error of the system means for who runs a command; a full disk comes with what to do.

    Example:
        >>> print(explain_os_error(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv")))
        [Errno 2] No such file or directory: 'a.csv'
    """
    if error.errno not in _NO_ROOM:
        return str(error)
    is_full = error.errno == errno.ENOSPC and error.filename
    free = _measure_free(Path(os.fsdecode(error.filename))) if is_full else None
    room = "" if free is None else f"{free / 1e6:.1f} MB are free there and it needs more; "
    return f"{error}; {room}make room and run the same command again: what was finished stays"


@contextlib.contextmanager
def _name_full_disk(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Make of a library's error on a full disk one that says so, and which file it was, by the name that it gets."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) or error.errno is None:
            _raise_if_full(target, error)
        # A write to an open file does not say which one it was.
        elif error.errno in _NO_ROOM and error.filename is None:
            error.filename = str(target)
        elif temporary is not None and isinstance(error.filename, (str, Path)):
            error.filename = str(error.filename).replace(str(temporary), str(target), 1)
        raise


def _raise_if_full(target: Path, error: Exception) -> None:
    """Raise the error of a full disk in the place of what a library made of it."""
    code, cause = 0, error.__cause__ or error.__context__
    while cause is not None and not code:  # pydicom's error is a text with a traceback
        code = cause.errno or 0 if isinstance(cause, OSError) and cause.errno in _NO_ROOM else 0
        cause = cause.__cause__ or cause.__context__
    free = _measure_free(target)
    if not code and free is not None and free < _FULL_BYTES:
        # Libraries in C++ say anything then: a failed write, or a file that is cut off when they read it again.
        code = errno.ENOSPC
    if code:
        raise OSError(code, os.strerror(code), str(target)) from error


def _measure_free(path: Path) -> int | None:
    """The bytes that are free where a file is or would be; None where that can't be known."""
    for folder in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


@functools.lru_cache(maxsize=1024)
def _remove_leftovers_once(folder: Path) -> None:
    """Once for each folder and process: a folder of many images would be listed for each of them."""
    remove_leftovers(folder)


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
