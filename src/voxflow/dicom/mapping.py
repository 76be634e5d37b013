"""The file from pseudonyms to patients: only its owner can read it, and it is never versioned or published."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError
from voxflow.images import RowOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxflow.images import ConversionRow, ConvertedCase

FOLDER_VARIABLE = "VOXFLOW_MAPPING_FOLDER"
FOLDER = Path(".voxflow/mapping")
HEADER = ("case", "patient", "patient_id", "study_uid", "series_uid", "source", "name", "row", "verdict")
# Neither git nor DVC looks into a folder that says so itself, wherever it lies.
MAX_NAME_LENGTH = 200
IGNORES = (".gitignore", ".dvcignore")


def choose_mapping_path(target: Path) -> Path:
    """The file for one conversion, named after the folder that it made.

    It lies in the folder that the environment names, since this is a matter of the machine, else in the hidden one.

    Raises:
        ConfigError: it would lie in the folder that is made, which is versioned and pushed.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)
    target_folder, working_folder = target.resolve(), Path.cwd()
    if folder.resolve().is_relative_to(target_folder):
        raise ConfigError(f"the mapping of pseudonyms would lie in {target}, which is passed on", path=folder)
    if target_folder.is_relative_to(working_folder):
        target_folder = target_folder.relative_to(working_folder)
    text = target_folder.as_posix()
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")
    # "a b" and "a_b" are two conversions, and a file system takes 255 bytes.
    if re.search(r"[^A-Za-z0-9._/-]", text) or len(name) > MAX_NAME_LENGTH:
        name = f"{name[:MAX_NAME_LENGTH]}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}"
    return folder / f"{name}.csv"


def write_mapping(path: Path, rows: Sequence[ConversionRow], cases: Sequence[ConvertedCase], source: Path) -> None:
    """Write which patient, series and files each row of conversion.csv is; readable by its owner alone.

    Args:
        path: where :func:`choose_mapping_path` says; replaced whole or not at all.
        rows: what became of each series and file; a row of several files has a line for each.
        cases: what was made.
        source: the folder that was converted.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in IGNORES:
        (path.parent / name).write_text("*\n", encoding="ascii")
    # Made for its owner only, and so from its first byte on.
    handle, temporary = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(_list_lines(rows, cases, source))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _list_lines(
    rows: Sequence[ConversionRow], cases: Sequence[ConvertedCase], source: Path
) -> Iterator[tuple[object, ...]]:
    patients = {case.case: case.patient for case in cases}
    for number, row in enumerate(rows, start=1):
        origin = row.origin or RowOrigin(source)
        uids = (row.study_uid, row.series_uid)
        for path in (origin.path, *origin.other_paths):
            # A name that is no valid UTF-8 is written as Python writes its bytes.
            place = os.fsencode(path.relative_to(source).as_posix()).decode("utf-8", "backslashreplace")
            name = row.source or place
            yield row.case, patients.get(row.case, ""), origin.patient_id, *uids, place, name, number, row.verdict
