"""Adds patients to a workspace without a leak: the test part stays as it was, and the raw data is versioned.

The steps, of which none changes the repository before all checks have passed:

1. The new folder is converted in a temporary folder, which gives patients their pseudonyms.
2. A patient, or an image with the same pixels, of the test part refuses the whole folder.
3. Files are copied, tables of findings get the new rows, and the patients of the test part are listed by name in
   params.yaml, so that the split keeps them.
4. ``dvc add`` versions the source. When anything fails, copies are removed and texts written back.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxflow.dicom import ConvertOptions, convert_folder
from voxflow.errors import ConfigError, DataError, VoxflowError, join_names
from voxflow.files import atomic_path, read_text, write_text
from voxflow.images import list_files
from voxflow.naming import shorten_pseudonym
from voxflow.places import PARAMS, read_params
from voxflow.quality import measure_cases
from voxflow.tables import is_labelled, read_rows
from voxflow.workspace.add_layout import append_rows, plan_layout_addition, read_tables
from voxflow.workspace.params_file import set_value

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping, Sequence

    from voxflow.places import Places
    from voxflow.tables import Row
    from voxflow.workspace.add_layout import LayoutAddition

TESTING = "testing"


@dataclass(frozen=True)
class AddedPatients:
    """What an addition of patients brought.

    Attributes:
        new: patients that the workspace did not have.
        returning: patients that it has more studies of now.
        cases, labelled: cases, and labelled cases, of both.
        files: number of files that were copied.
        frozen: patients of the test part, which stays as it is; 0 where there was no split yet.
        place: the folder that the files are in now.
        refused: why series and files of the folder make no case, a line each; they are copied with the others.
    """

    new: int
    returning: int
    cases: int
    labelled: int
    files: int
    frozen: int
    place: Path
    refused: tuple[str, ...] = ()

    def line(self) -> str:
        """Say in one line for a person what was added, and what became of the test part."""
        test_part = (
            f"the test part stays as it is ({self.frozen} patients)"
            if self.frozen
            else "there was no split yet, so that no test part had to be kept"
        )
        more = f" and more studies of {self.returning}" if self.returning else ""
        return (
            f"{self.new} new patients{more}, {self.cases} cases, {self.labelled} labelled, {self.files} files "
            f"→ {self.place}; {test_part}"
        )


def add_patients(places: Places, folder: Path) -> AddedPatients:
    """Add a folder of images to a workspace's source, or nothing of it.

    The folder is converted first, so that patients are known by their pseudonyms. DICOM goes to a sub-folder of the
    source, other images to the same places as in ``folder``, since their names tell who belongs to whom. The source of
    a known layout stays one data set.

    Raises:
        ConfigError: the source is not in the repository, or a stage makes it.
        DataError: the folder is missing or holds nothing usable; a patient, or an image, of the test part is in it; a
            file of the same name with other content is there already.
        VoxflowError: DVC could not take the data in; nothing was added then.
    """
    source = _require_source(places)
    if not folder.is_dir():
        raise DataError("no such folder", path=folder)
    if folder.resolve().is_relative_to(source.resolve()):
        raise DataError(f"lies in {source} already; name a folder outside of it", path=folder)
    split = read_rows(places.datalists / "split.csv") or []
    with tempfile.TemporaryDirectory() as scratch:
        cases, refused = _convert_folder(places, folder, Path(scratch) / "volumes")
        _require_no_leak(cases, split, places, Path(scratch) / "volumes", folder)
    layout = places.options_of("convert", ConvertOptions).layout
    addition = plan_layout_addition(source, folder, layout) if layout else None
    if addition:
        pairs, tables = addition.pairs, addition.texts
    else:
        pairs = _plan_copies(source, folder, is_dicom=any(row.get("series_uid") for row in cases))
        tables = _merge_tables(places, source, folder, _find_prefix(pairs, folder, source))
    _require_no_clash(pairs, tables, folder, source)
    test_patients = sorted({row["patient"] for row in split if row["part"] == TESTING})
    _take_in(places, pairs, tables, test_patients, addition)
    split_patients = {row["patient"] for row in split}
    patients = _list_patients(cases, split_patients)
    return AddedPatients(
        new=len(patients - split_patients),
        returning=len(patients & split_patients),
        cases=len(cases),
        labelled=sum(is_labelled(row) for row in cases),
        files=len(pairs),
        frozen=len(test_patients),
        place=_find_place(pairs, source),
        refused=refused,
    )


def _take_in(
    places: Places,
    pairs: Sequence[tuple[Path, Path]],
    tables: Mapping[Path, tuple[str, str]],
    test_patients: list[str],
    addition: LayoutAddition | None,
) -> None:
    """Copy the files, write the tables, list the patients of the test part and version the source, or nothing of it."""
    source, params = places.source, read_text(PARAMS)
    new_files = [target for _, target in pairs if not target.exists()]
    try:
        for origin, target in pairs:
            # Whole files only: after a kill, the same addition finds what it has copied and goes on.
            with atomic_path(target) as temporary:
                shutil.copy2(origin, temporary)
        for path, (_, text) in tables.items():
            write_text(path, text)
        if addition:
            addition.require_readable()
        if test_patients:
            # Listed by name, no addition changes it; a share of more patients would be another choice.
            write_text(PARAMS, set_value(params, ("workspaces", places.workspace, "split", TESTING), test_patients))
        dvc_add(source)
    except BaseException:  # Ctrl-C, too: half of the patients would be a data set that nobody meant
        _undo(new_files, source, {PARAMS: params} | {path: text for path, (text, _) in tables.items()})
        raise


def _find_place(pairs: list[tuple[Path, Path]], source: Path) -> Path:
    """The sub-folder that everything went to, or the source itself."""
    tops = {target.relative_to(source).parts[0] for _, target in pairs}
    single_folder = source / next(iter(tops))
    return single_folder if len(tops) == 1 and single_folder.is_dir() else source


def _require_source(places: Places) -> Path:
    source, root = places.source, Path.cwd()
    if not source.resolve().is_relative_to(root):
        raise ConfigError(
            f"the source {source} is not in this repository, so that DVC can't version it; copy it to "
            f"data/raw/{places.workspace} and name that as the source",
            path=PARAMS,
            where=f"workspaces.{places.workspace}.source",
        )
    if places.workspace in (read_params().get("samples") or {}):
        raise ConfigError(f"the stage sample makes {source}; real patients go to a workspace of their own")
    if not (root / ".dvc").is_dir():
        raise ConfigError("no DVC repository; run from the root of the repository", path=root / ".dvc")
    return source


def _convert_folder(places: Places, folder: Path, target: Path) -> tuple[list[Row], tuple[str, ...]]:
    """The cases that a folder holds, and why other things in it are none."""
    options = places.options_of("convert", ConvertOptions).model_copy(update={"mapping": False})
    summary = convert_folder(folder, target, options)
    return read_rows(target / "cases.csv") or [], summary.reasons


def _list_patients(cases: Sequence[Row], earlier_patients: Collection[str]) -> set[str]:
    """The patients of cases, by the names that they had when the split was made; earlier versions gave shorter ones."""
    names = {row["patient"] for row in cases}
    return {short if (short := shorten_pseudonym(name)) in earlier_patients else name for name in names}


def _require_no_leak(cases: Sequence[Row], split: Sequence[Row], places: Places, volumes: Path, folder: Path) -> None:
    """No patient, and no image, that the model is tested on may come back as training data."""
    test_patients = {row["patient"] for row in split if row["part"] == TESTING}
    leaking_patients = sorted(_list_patients(cases, test_patients) & test_patients)
    if leaking_patients:
        verb = "is" if len(leaking_patients) == 1 else "are"
        raise DataError(
            f"leakage: {join_names(leaking_patients)} {verb} in the test part; new studies of them would change what "
            "models are judged on, or train on it. Nothing was added: take them out of the folder",
            path=folder,
        )
    test_cases = {row["case"] for row in split if row["part"] == TESTING}
    test_pixels = {
        row["pixel_hash"]: row["case"]
        for row in read_rows(places.quality / "measurements.csv") or []
        if row["case"] in test_cases and row.get("pixel_hash")
    }
    if not test_pixels:
        return
    import pandas as pd

    table = pd.read_csv(volumes / "cases.csv", dtype="str", keep_default_na=False)
    pixel_hashes = dict(zip(table["case"], measure_cases(table, volumes)["pixel_hash"], strict=True))
    same_pixels = [
        f"{case} (as {test_pixels[digest]})" for case, digest in pixel_hashes.items() if digest in test_pixels
    ]
    if same_pixels:
        message = f"leakage: {join_names(same_pixels)} shows the same pixels as the test part; nothing was added"
        raise DataError(message, path=folder)


def _plan_copies(source: Path, folder: Path, *, is_dicom: bool) -> list[tuple[Path, Path]]:
    target = source
    if is_dicom:
        # A sub-folder of its own: files of DICOM are often called alike in every delivery (IM0001).
        target, number = source / folder.resolve().name, 2
        while target.exists():
            target, number = source / f"{folder.resolve().name}-{number}", number + 1
    files = sorted(path for path in list_files(folder) if path.is_file())
    return [(path, target / path.relative_to(folder)) for path in files]


def _require_no_clash(pairs: list[tuple[Path, Path]], joined: Container[Path], folder: Path, source: Path) -> None:
    clashes = [
        str(target.relative_to(source))
        for origin, target in pairs
        if target.exists() and target not in joined and not filecmp.cmp(origin, target, shallow=False)
    ]
    if clashes:
        raise DataError(f"{join_names(clashes)} would replace a file of another content in {source}", path=folder)


def _find_prefix(pairs: list[tuple[Path, Path]], folder: Path, source: Path) -> Path:
    """The sub-folder of the source, from there, that files are copied to."""
    origin, target = pairs[0]
    return target.parents[len(origin.relative_to(folder).parts) - 1].relative_to(source)


def _merge_tables(places: Places, source: Path, folder: Path, prefix: Path) -> dict[Path, tuple[str, str]]:
    """Tables of findings and of cases that both have: before, and with the new rows at the end."""
    options = places.options_of("convert", ConvertOptions)
    tables = [name for name in (options.findings, options.cases) if name]
    merged = {}
    for name in tables:
        if not (source / name).is_file() or not (folder / name).is_file():
            continue
        header, rows, new_rows, delimiter = read_tables(source / name, folder / name)
        if name == options.cases:
            new_rows = [[_move_path(cell, folder, prefix) for cell in row] for row in new_rows]
            _require_new_names(header, rows, new_rows, folder / name)
        text = append_rows(source / name, [row for row in new_rows if row not in rows], delimiter)
        merged[source / name] = (read_text(source / name), text)
    return merged


def _move_path(cell: str, folder: Path, prefix: Path) -> str:
    """A cell that names a file or folder, by its path after the copy."""
    path = cell.strip().replace("\\", "/")
    is_path = bool(path) and (folder / path.partition("#")[0]).exists()
    return (prefix / path).as_posix() if is_path else cell


def _require_new_names(header: list[str], rows: list[list[str]], new_rows: list[list[str]], path: Path) -> None:
    """No case of the new rows may be called as one that is there: both rows would be refused."""
    column = header.index("case")
    names = {row[column].strip() for row in rows if row and row not in new_rows}
    repeated = sorted(names & {row[column].strip() for row in new_rows if row})
    if repeated:
        raise DataError(f"names cases that the workspace has already: {join_names(repeated)}", path=path, where="case")


def dvc_add(source: Path) -> None:
    """Version a folder with DVC.

    Raises:
        VoxflowError: DVC could not take it in.
    """
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", str(source)], capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        raise VoxflowError(f"DVC could not take {source} in: {lines[0] if lines else result.returncode}")


def _undo(new_files: Sequence[Path], source: Path, texts: dict[Path, str]) -> None:
    for path in new_files:
        path.unlink(missing_ok=True)
    # Deepest first, so that a folder is empty when its turn comes.
    for folder in sorted({parent for path in new_files for parent in path.parents}, key=lambda p: -len(p.parts)):
        if folder.is_dir() and folder != source and folder.is_relative_to(source) and not any(folder.iterdir()):
            folder.rmdir()
    for path, text in texts.items():
        write_text(path, text)
