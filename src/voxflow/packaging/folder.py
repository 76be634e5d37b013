"""Writes a folder that others receive: into an empty place, whole, with the SHA-256 of every file."""

from __future__ import annotations

import contextlib
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from voxflow.errors import InputError
from voxflow.files import atomic_directory, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKSUMS = "SHA256SUMS"


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out`` when the block ends well, with ``SHA256SUMS`` of all that is in it.

    Raises:
        InputError: something is there already.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise InputError("is there already, and no empty folder; name a new one", path=out)
    with atomic_directory(out) as folder:
        yield folder
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
        write_text(folder / CHECKSUMS, "".join(lines))


def fill_template(template: str, **values: str) -> str:
    """Fill a text of this package's templates, whose holes look like ``@NAME@``."""
    text = files("voxflow.packaging").joinpath("templates", template).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key.upper()}@", value)
    return text


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
