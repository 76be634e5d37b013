"""The files behind pseudonyms: only their owner can read them, and they are never versioned or published.

Each conversion has a mapping, which leads from its cases back to patients. One file, ``pseudonyms.txt``, keeps which
pseudonym a patient has in all conversions of a repository: lines are added to it, and none is ever changed.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.errors import ConfigError
from voxflow.files import name_partials
from voxflow.images import PseudonymBook, RowOrigin
from voxflow.places import find_home
from voxflow.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxflow.images import ConversionRow, ConvertedCase

FOLDER_VARIABLE = "VOXFLOW_MAPPING_FOLDER"
FOLDER = Path(".voxflow/mapping")
HEADER = ("case", "patient", "patient_id", "study_uid", "series_uid", "source", "name", "row", "verdict")
# Neither git nor DVC looks into a folder that says so itself, wherever it lies.
MAX_NAME_LENGTH = 200
IGNORES = (".gitignore", ".dvcignore")
# A name that no mapping has, since they all end in .csv.
BOOK = "pseudonyms.txt"
BOOK_LINE = re.compile(r"([0-9a-f]{8,64}) ([0-9a-f]{8,64})")
DIGEST_LENGTH = 64


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
    _make_private_folder(path.parent)
    # Made for its owner only, and so from its first byte on.
    handle, temporary = tempfile.mkstemp(prefix=name_partials(), dir=path.parent)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(_list_lines(rows, cases, source))
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_pseudonyms(key: bytes, mapping: Path | None) -> PseudonymBook:
    """Read which patients have a pseudonym.

    Args:
        key: the secret of the pseudonyms.
        mapping: of the conversion. Where there is no ``pseudonyms.txt`` yet, the mappings beside it, which an earlier
            version wrote, tell the pseudonyms that are in use; None: they are not read.
    """
    book = PseudonymBook(key)
    path = _find_book()
    if path.is_file():
        _read_book(path, book)
    elif mapping is not None:
        for file in (mapping, *sorted(mapping.parent.glob("*.csv"))):
            try:
                _read_old_mapping(file, book)
            except (OSError, csv.Error) as error:
                say(f"warning: {file} can't be read, so patients of it may get other pseudonyms: {error}")
    return book


def keep_pseudonyms(book: PseudonymBook) -> None:
    """Add to ``pseudonyms.txt`` what it does not have.

    Raises:
        OSError: the disk is full, say.
    """
    path, earlier = _find_book(), PseudonymBook(book.key)
    _make_private_folder(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a+", encoding="ascii", errors="replace") as stream:
        _read_book(path, earlier)
        new_names = {digest: name for digest, name in book.names.items() if digest not in earlier.names}
        new_names |= {name: name for name in book.old_names - earlier.old_names}
        text = "".join(f"{digest} {name}\n" for digest, name in sorted(new_names.items()))
        # A process that was killed while it wrote may have left half a line.
        stream.write(f"\n{text}" if stream.tell() and not _ends_in_newline(path) else text)


def _find_book() -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE) or find_home() / FOLDER) / BOOK


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _read_book(path: Path, book: PseudonymBook) -> None:
    """Add what a file says; the first line of a patient, and of a pseudonym, counts."""
    used = set()
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        match = BOOK_LINE.fullmatch(line)
        if match is None or not match[1].startswith(match[2]):
            continue
        if len(match[1]) < DIGEST_LENGTH:
            book.old_names.add(match[2])
        elif match[1] not in book.names and match[2] not in used:
            book.names[match[1]] = match[2]
            used.add(match[2])


def _read_old_mapping(path: Path, book: PseudonymBook) -> None:
    """Add the pseudonyms of a mapping that an earlier version wrote, by the patients that its lines name."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        rows = csv.DictReader(stream)
        patients = {(row.get("patient") or "", row.get("patient_id"), row.get("study_uid")) for row in rows}
    used = set(book.names.values())
    for name, patient_id, study_uid in sorted(patients, key=str):
        if not re.fullmatch(r"[0-9a-f]{8,64}", name) or name in used:
            continue
        # As DicomHeader.patient has it; what stands for the patient of another file is not in the mapping.
        text = f"id {patient_id}" if patient_id else f"study {study_uid}" if study_uid else ""
        digest = book.digest_patient(text)
        if not text:
            book.old_names.add(name)
        elif digest.startswith(name):
            book.names.setdefault(digest, name)


def _make_private_folder(folder: Path) -> None:
    """Make a folder that its owner alone can look into, and that neither git nor DVC takes."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in IGNORES:
        (folder / name).write_text("*\n", encoding="ascii")


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
