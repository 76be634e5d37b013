"""Adds a folder of a known layout to a source of the same: files go to their places, descriptions become one."""

from __future__ import annotations

import csv
import filecmp
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxflow.errors import DataError
from voxflow.files import read_text
from voxflow.images import list_files
from voxflow.layouts import TITLES, Layout, recognise_layout
from voxflow.tables import read_csv_text
from voxflow.texts import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.layouts import LayoutName

DATASET, BIDS = "dataset.json", "dataset_description.json"
MEANING = ("channel_names", "modality", "labels", "regions_class_order", "file_ending", "voxflow")
COUNTS = {"numTraining": "training", "numTest": "testing"}


@dataclass(frozen=True)
class LayoutAddition:
    """How a folder of a known layout joins the source.

    Attributes:
        pairs: each file, and where it goes.
        texts: of each description that both have and that differs: as it is, and with the new cases.
        source: the folder that is added to.
        name: the layout of both.
        images: what the cases that arrived are made of, at their new places.
    """

    pairs: list[tuple[Path, Path]]
    texts: dict[Path, tuple[str, str]]
    source: Path
    name: LayoutName
    images: frozenset[Path]

    def require_readable(self) -> None:
        """Read the source with the new files in it.

        Raises:
            DataError: it is no data set of the layout any more, or leaves out a case that arrived.
        """
        try:
            layout = recognise_layout(self.source, list_files(self.source), self.name)
        except DataError as error:
            message = f"with these files it would not be {TITLES[self.name]}: {error.message}; nothing was added"
            raise DataError(message, path=self.source) from error
        cases = sorted(layout.cases if layout else (), key=lambda case: not case.fault)
        faults = {file: case.fault for case in cases for file in case.files}
        lacking = {file for file in self.images if faults.get(file, "of no case")}
        if lacking:
            file = min(lacking)
            why = f" ({faults[file]})" if file in faults else ""
            name = file.relative_to(self.source).as_posix()
            raise DataError(f"{name} would be of no case there{why}; nothing was added", path=self.source)


def plan_layout_addition(source: Path, folder: Path, name: LayoutName) -> LayoutAddition:
    """Say where the files of a folder go, so that the source stays one data set of its layout.

    Args:
        source: the workspace's.
        folder: what has arrived, in the same layout.
        name: the layout.

    Raises:
        DataError: one of the two has not this layout, or their descriptions contradict each other.
    """
    arrived = _read_layout(folder, name)
    present = _read_layout(source, name) if source.is_dir() and list_files(source) else None

    def find_target(file: Path) -> Path:
        if present and file.is_relative_to(arrived.root):
            return present.root / file.relative_to(arrived.root)
        return source / file.relative_to(folder)

    pairs = [(file, find_target(file)) for file in sorted(list_files(folder)) if file.is_file()]
    texts = {
        target: (read_text(target), text)
        for origin, target in pairs
        if present and target.parent == present.root and target.is_file()
        if not filecmp.cmp(origin, target, shallow=False)
        if (text := _join_descriptions(target, origin, present, arrived)) is not None
    }
    images = frozenset(find_target(file) for case in arrived.cases if not case.fault for file in case.files)
    return LayoutAddition(pairs, texts, source, name, images)


def _read_layout(folder: Path, name: LayoutName) -> Layout:
    layout = recognise_layout(folder, list_files(folder), name)
    if layout is None:
        raise DataError(f"does not look like {TITLES[name]}", path=folder)
    return layout


def _join_descriptions(target: Path, origin: Path, present: Layout, arrived: Layout) -> str | None:
    """A description with the cases of both; None: the file is none, so that it may not be replaced."""
    if target.name == DATASET:
        return _join_dataset_json(target, origin, present, arrived)
    if target.name == BIDS:
        return read_text(target)
    if target.suffix.lower() in (".csv", ".tsv"):
        _, rows, new_rows, delimiter = read_tables(target, origin)
        return append_rows(target, [row for row in new_rows if row not in rows], delimiter)
    return None


def _join_dataset_json(target: Path, origin: Path, present: Layout, arrived: Layout) -> str:
    first, second = (_read_json(path) for path in (target, origin))
    different = [key for key in MEANING if first.get(key) != second.get(key)]
    if different:
        raise DataError(f"its {different[0]!r} are not those of {target}", path=origin, where=different[0])
    joined = dict(first)
    for key in ("training", "validation", "test"):
        if isinstance(first.get(key, []), list) and isinstance(second.get(key), list):
            listed = first.get(key, [])
            joined[key] = listed + [item for item in second[key] if item not in listed]
    if isinstance(first.get("dataset"), dict) and isinstance(second.get("dataset"), dict):
        joined["dataset"] = first["dataset"] | second["dataset"]
    for key, part in COUNTS.items():
        if key in first:
            joined[key] = len({case.name for case in (*present.cases, *arrived.cases) if case.part == part})
    return json.dumps(joined, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path))
    if not isinstance(content, dict):
        raise DataError("expected an object", path=path)
    return content


def read_tables(target: Path, origin: Path) -> tuple[list[str], list[list[str]], list[list[str]], str]:
    """Read two CSV files of the same columns: header, the rows of each, and what separates the cells of ``target``.

    Raises:
        DataError: they have other columns.
    """
    (before, delimiter), (more, other_delimiter) = read_csv_text(target), read_csv_text(origin)
    header, *rows = csv.reader(io.StringIO(before), delimiter=delimiter)
    other_header, *new_rows = csv.reader(io.StringIO(more), delimiter=other_delimiter)
    if header != other_header:
        raise DataError(f"other columns than {target}", path=origin)
    return header, rows, new_rows, delimiter


def append_rows(target: Path, rows: list[list[str]], delimiter: str) -> str:
    """The text of a CSV file with rows at its end."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return read_text(target).rstrip("\n") + "\n" + text.getvalue()
