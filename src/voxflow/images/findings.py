"""Radiograph findings: what a CSV, or the name of the folder that an image lies in, says about an image."""

from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from voxflow.errors import DataError
from voxflow.progress import say
from voxflow.tables import read_csv_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

IMAGE_COLUMNS = ("sop_instance_uid", "sopinstanceuid", "file", "filename", "image")
PATIENT_COLUMNS = ("patient_id", "patientid", "patient")
POSITIVE, NEGATIVE, UNKNOWN = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no"), ("", "nan", "-1", "-1.0")
# A folder of this name holds images without any of the findings that the other folders are named after.
WITHOUT_FINDING = ("no_finding", "no_findings", "normal", "healthy", "negative")


@dataclass(frozen=True)
class RadiographFindings:
    """A table of findings.

    Attributes:
        names: of the findings.
        values: 0, 1 or None (unknown) for each finding, by image; see :func:`normalise_key`.
        patients: the patient that the table names, by image.
    """

    names: tuple[str, ...] = ()
    values: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)

    def look_up(self, *keys: str) -> tuple[int | None, ...]:
        """Look an image up under several names that the table may know it by.

        Args:
            keys: such as its SOPInstanceUID and its file's name; the first that the table knows counts.

        Returns:
            0, 1 or None for each finding; all None where the table does not know the image.

        Example:
            >>> findings = RadiographFindings(("mass",), {"a.png": (1,)})
            >>> findings.look_up("images/a.png", "a.png"), findings.look_up("b.png")
            ((1,), (None,))
        """
        known_values = [self.values[key] for key in map(normalise_key, keys) if key in self.values]
        return known_values[0] if known_values else (None,) * len(self.names)

    def find_patient(self, *keys: str) -> str:
        """Find the patient that the table gives to an image, by the same names; empty where it says nothing."""
        return next((self.patients[key] for key in map(normalise_key, keys) if self.patients.get(key)), "")

    def knows(self, *keys: str) -> bool:
        """Whether the table names an image by one of several names."""
        return any(normalise_key(key) in self.values for key in keys)

    def report_unmatched(self, images: Collection[str]) -> int:
        """Count the rows that name none of some images, and tell the user where there are any.

        Args:
            images: all names that the images of the folder may go by.
        """
        known_keys = {normalise_key(key) for key in images}
        unmatched_count = sum(key not in known_keys for key in self.values)
        if unmatched_count:
            say(f"findings: {unmatched_count} of {len(self.values)} rows name no image in the folder")
        return unmatched_count


def normalise_key(text: str) -> str:
    r"""Write the name of an image in one way, whoever wrote it: Windows, macOS, or a person by hand.

    Example:
        >>> normalise_key(r" .\images\a.png")
        'images/a.png'
    """
    return unicodedata.normalize("NFC", text.strip().replace("\\", "/").removeprefix("./"))


def read_findings(path: Path) -> RadiographFindings:
    """Read a CSV of findings; all that is wrong with it is reported at once.

    Args:
        path: as :func:`voxflow.tables.read_csv_text` reads it, with a header. One column names the image
            (``sop_instance_uid``, ``file`` ...), one may name the patient, each other one is a finding with 0, 1 or
            nothing.

    Raises:
        DataError: missing, without a column that names the image, a value that is neither 0, 1 nor empty, or an
            image named twice.
    """
    try:
        text, delimiter = read_csv_text(path)
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except FileNotFoundError as error:
        raise DataError("file not found", path=path) from error
    except csv.Error as error:
        raise DataError(f"no CSV: {error}", path=path) from error
    header = [name.strip() for name in rows[0]] if rows else []
    image = _find_column(header, IMAGE_COLUMNS)
    if image is None:
        raise DataError(
            f"no column names the image; expected one of {', '.join(IMAGE_COLUMNS)}, received {', '.join(header)}",
            path=path,
        )
    patient = _find_column(header, PATIENT_COLUMNS)
    columns = [n for n in range(len(header)) if n not in (image, patient)]
    return _parse_rows(path, header, rows[1:], (image, patient), columns)


def _parse_rows(
    path: Path, header: list[str], rows: Sequence[list[str]], keys: tuple[int, int | None], columns: list[int]
) -> RadiographFindings:
    values: dict[str, tuple[int | None, ...]] = {}
    patients: dict[str, str] = {}
    faults = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            faults.append(f"row {number} has {len(row)} values, the header {len(header)}")
            continue
        key = normalise_key(row[keys[0]])
        if key in values:
            faults.append(f"row {number} names an image for the second time")
        wrong_values = [f"{header[n]}={row[n]!r}" for n in columns if _normalise(row[n]) not in _VALUE_BY_TEXT]
        if wrong_values:
            faults.append(f"row {number}: {', '.join(wrong_values)}; expected 0, 1 or nothing")
        values[key] = tuple(_VALUE_BY_TEXT.get(_normalise(row[n])) for n in columns)
        if keys[1] is not None:
            patients[key] = row[keys[1]].strip()
    if faults:
        first_faults = faults[:5] + ([f"and {len(faults) - 5} more"] if len(faults) > 5 else [])
        raise DataError("; ".join(first_faults), path=path)
    return RadiographFindings(tuple(header[n] for n in columns), values, patients)


def read_findings_from_folders(files: Mapping[str, str]) -> RadiographFindings:
    """Take the name of the folder that each image lies in as its only finding.

    Args:
        files: folder by image; a folder such as ``no_findings`` or ``normal`` means none of the others.

    Returns:
        No findings at all where all images lie in one folder.

    Example:
        >>> findings = read_findings_from_folders({"1.png": "pneumonia", "2.png": "normal"})
        >>> findings.names, findings.values
        (('pneumonia',), {'1.png': (1,), '2.png': (0,)})
    """
    folders = sorted(set(files.values()))
    names = tuple(folder for folder in folders if folder.lower() not in WITHOUT_FINDING)
    # One folder tells nothing apart.
    if len(folders) < 2:
        return RadiographFindings()
    values = {normalise_key(key): tuple(int(folder == name) for name in names) for key, folder in files.items()}
    return RadiographFindings(names, values)


_VALUE_BY_TEXT: dict[str, int | None] = {
    **dict.fromkeys(POSITIVE, 1),
    **dict.fromkeys(NEGATIVE, 0),
    **dict.fromkeys(UNKNOWN, None),
}


def _normalise(cell: str) -> str:
    return cell.strip().lower().replace(",", ".")  # a decimal comma


def _find_column(header: Sequence[str], accepted: Sequence[str]) -> int | None:
    lower = [name.lower() for name in header]
    return next((lower.index(name) for name in accepted if name in lower), None)
