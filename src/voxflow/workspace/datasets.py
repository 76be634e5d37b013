"""Writes a workspace's cases as a data set for others' tools, with the split of its datalists."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voxflow.datalist import Datalist
from voxflow.errors import ConfigError, DataError, join_names
from voxflow.files import read_text
from voxflow.images import list_files, read_channel_rules, read_ignore, read_regions
from voxflow.layouts import (
    ChannelSource,
    DatasetForm,
    Fold,
    LabelSource,
    Layout,
    LayoutCase,
    recognise_layout,
    write_dataset,
)
from voxflow.naming import make_case_name
from voxflow.places import PARAMS
from voxflow.tables import LABELLED, read_rows
from voxflow.texts import parse_json
from voxflow.volumes import CHANNEL_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.places import Places
    from voxflow.tables import Row

ExportStage = Literal["volumes", "resampled"]
FOLDERS: Mapping[DatasetForm, str] = {"nnunet": "Dataset001_{}", "msd": "Task01_{}"}
NO_NAME = "image"
COLUMNS = ("case", "patient", "image", "label")
PARTS = ("training", "validation")


@dataclass(frozen=True)
class DatasetExport:
    """A data set that was written.

    Attributes:
        target: its folder.
        layout: what it holds.
        left_out: the cases that it does not have, with the reason in ``remarks``.
        remarks: what the user should know, one sentence each.
    """

    target: Path
    layout: Layout
    left_out: tuple[str, ...]
    remarks: tuple[str, ...]

    def line(self) -> str:
        """Say in one line what was written and where."""
        layout, labelled = self.layout, sum(bool(case.labels) for case in self.layout.cases)
        return (
            f"{len(layout.cases)} cases, {labelled} labelled, {len(layout.channels)} channel(s), "
            f"{len(layout.classes)} class(es) → {self.target}"
        )


def export_dataset(
    places: Places, form: DatasetForm, target: Path | None = None, stage: ExportStage = "volumes"
) -> DatasetExport:
    """Write the cases of a workspace that its split has, all or none.

    Args:
        places: the workspace.
        form: the layout to write.
        target: the folder to make; None: one below data/datasets.
        stage: whose cases: as they were converted, or as they were resampled.

    Raises:
        ConfigError: the workspace has radiographs.
        DataError: the stage has not run, the folder is not empty, or a case can't be written in this form.
    """
    if places.task != "segmentation":
        message = f"{form} is a layout of volumes with label maps; the workspace's task is {places.task}"
        raise ConfigError(message, path=PARAMS, where=f"workspaces.{places.workspace}.task")
    target = target or Path("data/datasets") / FOLDERS[form].format(places.workspace)
    folder = places.volumes if stage == "volumes" else places.resampled
    if target.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"lies in {folder}, which belongs to a stage; choose another folder by --output", path=target)
    splits = _read_splits(places.datalists)
    rows = _read_table(places, folder / "cases.csv", stage)
    unsplit = [row["case"] for row in rows if splits and row["case"] not in splits[0]]
    partial = [row["case"] for row in rows if row.get("labelled")]
    rows = [row for row in rows if row["case"] not in {*unsplit, *partial}]
    layout = _describe_cases(places, form, folder, rows, splits)
    remarks = write_dataset(layout, target, form, title=places.workspace, folds=_list_folds(splits, rows))
    split = f"dvc repro split@{places.workspace}"
    if unsplit:
        names = f"{join_names(unsplit)}; if they are new, run: {split}"
        remarks.append(f"left out {len(unsplit)} case(s) that the split does not have: {names}")
    if partial:
        reason = "of which some classes were not labelled, and neither layout can say so"
        remarks.append(f"left out {len(partial)} case(s) {reason}: {join_names(partial)}")
    if any(row.get("label_channels") for row in rows):
        remarks.append(
            "overlaps are in the masks of overlap: channels alone; overlap: regions keeps them in the labels"
        )
    if not splits:
        remarks.append(f"no split yet ({split}), so the data set's own parts count")
    if layout.channels == (NO_NAME,) and form == "nnunet":
        remarks.append('the channel has no name; for CT write "CT" into channel_names, by which nnU-Net scales it')
    return DatasetExport(target, layout, (*unsplit, *partial), tuple(remarks))


def _read_table(places: Places, path: Path, stage: ExportStage) -> list[Row]:
    rows = read_rows(path)
    if not rows:
        name = "convert" if stage == "volumes" else "resample"
        raise DataError(f"no cases here; run: dvc repro {name}@{places.workspace}", path=path)
    lacking = [column for column in COLUMNS if column not in rows[0]]
    if lacking:
        raise DataError(f"lacks the column(s) {', '.join(lacking)}", path=path)
    counts = Counter(row["case"] for row in rows)
    wrong = [name for name, count in counts.items() if count > 1 or make_case_name(name) != name]
    if wrong:
        raise DataError(f"{wrong[0]!r} names no case, or two", path=path, where="case")
    return rows


def _describe_cases(
    places: Places, form: DatasetForm, folder: Path, rows: Sequence[Row], splits: Sequence[Mapping[str, str]]
) -> Layout:
    """The cases of a folder as the layout that is to be written."""
    regions, ignore = read_regions(folder), read_ignore(folder)
    names = _read_names(folder / "labels.json")
    named = {value: name for value, name in names.items() if value not in (0, ignore)}
    twin = next((name for name in named.values() if list(named.values()).count(name) > 1), None)
    if twin is not None and not regions:
        raise DataError(f"two values are called {twin!r}; a class has one name", path=folder / "labels.json")
    partial = [row["case"] for row in rows if row.get(LABELLED)]
    if partial:
        message = f"in {join_names(partial)} only some classes were labelled, which {form} can't say"
        raise DataError(message, path=folder / "cases.csv", where=LABELLED)
    cases = [_make_case(row, folder, splits[0] if splits else None) for row in rows]
    return Layout(
        name=form,
        root=folder,
        channels=_name_channels(places, folder, rows),
        classes=regions or {name: (value,) for value, name in named.items()},
        cases=tuple(cases),
        ignore=ignore,
        value_names=named,
    )


def _read_names(path: Path) -> dict[int, str]:
    """The name of each label value."""
    try:
        return {int(value): str(name) for value, name in _read_json(path).items()}
    except ValueError as error:
        raise DataError('expected names by value, such as {"1": "spleen"}', path=path) from error


def _make_case(row: Row, folder: Path, split: Mapping[str, str] | None) -> LayoutCase:
    part = row.get("subset", "") if split is None else split.get(row["case"], "")
    is_training = bool(row["label"]) and part not in ("testing", "inference")
    return LayoutCase(
        name=row["case"],
        patient=row["patient"],
        channels=tuple(ChannelSource(folder / name) for name in row["image"].split(CHANNEL_SEPARATOR)),
        labels=(LabelSource(folder / row["label"]),) if row["label"] else (),
        part="training" if is_training else "testing",
    )


def _name_channels(places: Places, folder: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """The channels' names; of a single one its modality, or what the source's own description calls it."""
    channels = tuple(read_channel_rules(folder))
    if channels:
        return channels
    modalities = {row.get("modality", "") for row in rows}
    if len(modalities) == 1 and all(modalities):
        return (modalities.pop(),)
    name = (places.block.get("convert") or {}).get("layout")
    if name and places.source.is_dir():
        with contextlib.suppress(DataError):  # of a source that has changed since: a name is not worth a failure
            layout = recognise_layout(places.source, list_files(places.source), name)
            if layout and len(layout.channels) == 1:
                return layout.channels
    return (NO_NAME,)


def _read_splits(folder: Path) -> list[dict[str, str]]:
    """The part of each case, in the split and then in each fold; nothing where there is no split yet."""
    names = ["dataset_0.json", *sorted((path.name for path in folder.glob("fold_*.json")), key=_number_fold)]
    datalists = [Datalist.read(folder / name) for name in names if (folder / name).is_file()]
    return [{case.id: part for part, cases in datalist.parts.items() for case in cases} for datalist in datalists]


def _number_fold(name: str) -> int:
    digits = "".join(character for character in name if character.isdigit())
    return int(digits or 0)


def _list_folds(splits: Sequence[Mapping[str, str]], rows: Sequence[Row]) -> list[Fold]:
    """The folds of a cross-validation, or the split alone, of the cases that are there."""
    cases = {row["case"] for row in rows}
    return [
        Fold(*(tuple(case for case in split if split[case] == part and case in cases) for part in PARTS))
        for split in splits[1:] or splits
    ]


def _read_json(path: Path) -> dict[str, Any]:
    content = parse_json(read_text(path), path)
    if not isinstance(content, dict):
        raise DataError("expected an object", path=path)
    return content
