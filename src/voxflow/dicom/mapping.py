"""The file from pseudonyms to patients: only its owner can read it, and it is never versioned or published."""

from __future__ import annotations

import csv
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from voxflow.dicom.headers import DicomHeader
    from voxflow.images import ConvertedCase

FOLDER_VARIABLE = "VOXFLOW_MAPPING_FOLDER"
FOLDER = Path(".voxflow/mapping")
HEADER = ("case", "patient", "patient_id", "study_uid", "series_uid", "source")
# Neither git nor DVC looks into a folder that says so itself, wherever it lies.
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
    return folder / (re.sub(r"[^A-Za-z0-9.-]+", "_", target_folder.as_posix()).strip("_") + ".csv")


def write_mapping(path: Path, cases: Sequence[ConvertedCase], headers: Iterable[DicomHeader]) -> None:
    """Write which patient, study and series each case is, or which file; readable by its owner alone.

    Args:
        path: where :func:`choose_mapping_path` says; replaced whole or not at all.
        cases: what was made.
        headers: of the objects that they were made of; PatientID (0010,0020) comes from there.
    """
    # By the series: each case names the one that it was made of.
    patients = {header.series_uid: header.patient_id for header in headers}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in IGNORES:
        (path.parent / name).write_text("*\n", encoding="ascii")
    # Made for its owner only, and so from its first byte on.
    handle, temporary = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            for case in cases:
                patient_id = patients.get(case.series_uid, "")
                writer.writerow((case.case, case.patient, patient_id, case.study_uid, case.series_uid, case.source))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
