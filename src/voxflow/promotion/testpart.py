"""Decides whether two evaluations used the same cases, by a digest of the test part with images and labels."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.tables import FINDING_PREFIX, read_rows
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from pathlib import Path


def digest_test_part(datalist: Path, volumes: Path, key: str = "testing") -> str:
    """SHA-256 over the cases of one part: their names, findings, and the content of their original files.

    New training cases leave it as it is; a case that came or went, and a label that was corrected, change it.

    Args:
        datalist: the datalist file.
        volumes: the folder of the stage convert.
        key: the part.

    Raises:
        DataError: a file is missing, or the datalist names a case that cases.csv does not have.
    """
    digest = hashlib.sha256()
    all_rows = read_rows(volumes / "cases.csv")
    if all_rows is None:
        raise DataError("file not found; the stage convert writes it", path=volumes / "cases.csv")
    rows = {row["case"]: row for row in all_rows}
    for case in sorted(_list_cases(datalist, key)):
        if case not in rows:
            raise DataError(f"no row for {case}; run the stages convert and split again", path=volumes / "cases.csv")
        digest.update(case.encode())
        row = rows[case]
        for name in [*row["image"].split(";"), row.get("label", "")]:
            if name.strip():
                digest.update(_digest_file(volumes / name.strip()))
        # Findings are the labels of a radiograph; columns in alphabetical order, so that their order does not count.
        digest.update(json.dumps([row[column] for column in sorted(row) if column.startswith(FINDING_PREFIX)]).encode())
    return digest.hexdigest()


def _list_cases(datalist: Path, key: str) -> list[str]:
    try:
        content: dict[str, Any] = parse_json(read_text(datalist), datalist)
        return [str(entry["case"]) for entry in content[key]]
    except FileNotFoundError as error:
        raise DataError("file not found; the stage split writes it", path=datalist) from error
    except (KeyError, TypeError) as error:
        raise DataError(f"expected a list of cases, each with its name: {error}", path=datalist, where=key) from error


def _digest_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", path=path) from error
