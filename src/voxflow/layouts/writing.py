"""Writes a data set in another tool's layout: nnU-Net's raw data, or a task of the Medical Segmentation Decathlon.

Both have imagesTr, labelsTr, imagesTs and dataset.json. nnU-Net takes a file for each channel, consecutive label values
and regions; the Decathlon one 4D file, and any values. What neither has a key for stands under ``voxflow``, so that
:mod:`voxflow.layouts.dataset_json` reads back what was written: the values before they were numbered, their names, and
which cases are of one patient.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.errors import DataError, join_names
from voxflow.executor import thread_map
from voxflow.files import atomic_directory, write_json
from voxflow.layouts.dataset_json import FILE, NOTES
from voxflow.layouts.model import IGNORE
from voxflow.volumes import (
    Volume,
    read_geometry,
    read_volume,
    renumber_labels,
    round_labels,
    write_channels,
    write_volume,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxflow.layouts.model import Layout, LayoutCase

DatasetForm = Literal["nnunet", "msd"]
SPLITS = "splits_final.json"  # nnU-Net copies it from here to its preprocessed data
BACKGROUND = "background"
NIFTI = ".nii.gz"
ENDINGS = (NIFTI, ".nrrd", ".mha")  # which nnU-Net reads; other files are written anew
TRAINING = "training"


@dataclass(frozen=True)
class Fold:
    """One division of the cases for training.

    Attributes:
        training, validation: names of cases.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]


def write_dataset(layout: Layout, target: Path, form: DatasetForm, *, title: str, folds: Sequence[Fold]) -> list[str]:
    """Write all cases of a data set, or nothing.

    Args:
        layout: cases with a file for each channel and one label map; what is not of the part "training" goes to the
            test part.
        target: the folder to make; an empty one may be there.
        form: the layout to write.
        title: what the data set is called.
        folds: the first is the split; several are those of a cross-validation.

    Returns:
        What the user should know, one sentence each.

    Raises:
        DataError: the folder holds something, the classes can't be written in this form, or a case can't be; all such
            cases are named.
    """
    if target.is_dir() and any(target.iterdir()):
        raise DataError("the folder is not empty; remove it, or choose another by --output", path=target)
    _require_names(layout)
    with atomic_directory(target) as folder:
        writer = _Writer(layout, folder, form)
        with thread_map(None) as run:
            faults = [fault for fault in run(writer.write_case, layout.cases) if fault]
        if faults:
            raise DataError("\n".join([f"{len(faults)} case(s) can't be written", *faults]))
        describe = _describe_nnunet if form == "nnunet" else _describe_decathlon
        write_json(folder / FILE, describe(writer, title, folds))
        if form == "nnunet" and folds:
            write_json(folder / SPLITS, [{"train": [*fold.training], "val": [*fold.validation]} for fold in folds])
    return _list_remarks(writer, form)


def number_values(layout: Layout) -> dict[int, int]:
    """Number the label values from 1 without a gap, as nnU-Net demands; the value to ignore is the highest.

    Example:
        >>> from pathlib import Path
        >>> from voxflow.layouts import Layout
        >>> number_values(Layout("nnunet", Path(), ("CT",), {"organ": (1, 4), "tumour": (4,)}, (), ignore=2))
        {1: 1, 4: 2, 2: 3}
    """
    values = sorted({value for values in layout.classes.values() for value in values} - {layout.ignore})
    ordered = values if layout.ignore is None else [*values, layout.ignore]
    return {value: number for number, value in enumerate(ordered, start=1)}


def drop_unused_values(layout: Layout) -> Layout:
    """Take values that no label holds out of the regions, so that what lies in another region is a part of it.

    Where masks overlapped, each class has a value for its own voxels, too. In a whole tumour there are none of the
    core alone; nnU-Net would take the two for regions that cross each other, and could not show both in one mask.
    """
    with thread_map(None) as run:
        used = set().union(*run(_list_values, [label.path for case in layout.cases for label in case.labels]))
    classes = {
        name: tuple(value for value in values if value in used) or values[:1] for name, values in layout.classes.items()
    }
    return replace(layout, classes=classes)


def _list_values(path: Path) -> set[int]:
    try:
        return {int(value) for value in np.unique(round_labels(read_volume(path).array))}
    except DataError:  # which the writing of its case will tell
        return set()


class _Writer:
    """Writes the files of cases, several at a time.

    Attributes:
        layout: the data set, with the values that are written.
        regions: the values of each class as they were, where nnU-Net gets fewer.
        numbers: what each label value becomes.
        ending: of all files.
    """

    def __init__(self, layout: Layout, folder: Path, form: DatasetForm) -> None:
        self._folder, self._form = folder, form
        is_reduced = form == "nnunet" and layout.has_regions
        self.regions = layout.classes if is_reduced else {}
        self.layout = layout = drop_unused_values(layout) if is_reduced else layout
        consecutive = number_values(layout)
        self.numbers = consecutive if form == "nnunet" else {value: value for value in consecutive}
        endings = {_find_ending(path) for case in layout.cases for path in case.files}
        self.ending = (endings.pop() if form == "nnunet" and len(endings) == 1 else "") or NIFTI

    def write_case(self, case: LayoutCase) -> str:
        """Write the images and the label of a case; gives the reason where that can't be."""
        part = name_part(case)
        try:
            paths = [source.path for source in case.channels if source]
            if len(paths) != len(self.layout.channels):
                raise DataError(f"has {len(paths)} image(s), expected {join_names(self.layout.channels)}")
            self._require_one_grid([*paths, *(label.path for label in case.labels)])
            images = self._folder / f"images{part}"
            if self._form == "nnunet":
                for number, path in enumerate(paths):
                    self._write_copy(path, images / f"{case.name}_{number:04d}{self.ending}")
            elif len(paths) == 1:
                self._write_copy(paths[0], images / f"{case.name}{self.ending}")
            else:
                write_channels(images / f"{case.name}{self.ending}", [read_volume(path) for path in paths])
            for label in case.labels:
                self._write_label(label.path, self._folder / f"labels{part}" / f"{case.name}{self.ending}")
        except DataError as error:
            return f"{case.name}: {error}"
        return ""

    def _require_one_grid(self, paths: Sequence[Path]) -> None:
        grid = read_geometry(paths[0])
        for path in paths[1:]:
            if not read_geometry(path).is_close(grid, tolerance_mm=1e-2):
                message = f"its grid is not that of {paths[0].name}; the stage resample brings both onto one"
                raise DataError(f"{message} (--from resampled)", path=path)

    def _write_label(self, path: Path, target: Path) -> None:
        label = read_volume(path)
        array = round_labels(label.array, path)
        values = {int(value) for value in np.unique(array)} - {0}
        unknown = sorted(str(value) for value in values - self.numbers.keys())
        if unknown:
            raise DataError(f"label values [{join_names(unknown)}] have no name", path=path)
        if all(self.numbers[value] == value for value in values):
            self._write_copy(path, target)
        else:
            write_volume(target, Volume(renumber_labels(array, self.numbers), label.geometry))

    def _write_copy(self, path: Path, target: Path) -> None:
        """Give a file a second name where its bytes can stay, or a copy on another disk; else write it anew."""
        if _find_ending(path) != self.ending:
            write_volume(target, read_volume(path))
            return
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)


def name_part(case: LayoutCase) -> str:
    """How the folders of a case's part end: Tr or Ts."""
    return "Tr" if case.part == TRAINING else "Ts"


def _describe_nnunet(writer: _Writer, title: str, folds: Sequence[Fold]) -> dict[str, Any]:
    layout, numbers = writer.layout, writer.numbers
    regions = {name: [numbers[value] for value in values] for name, values in _order_regions(layout)}
    labels: dict[str, Any] = {BACKGROUND: 0}
    content: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(layout.channels)},
        "labels": labels,
    }
    if layout.has_regions:
        labels |= regions
        content["regions_class_order"] = [numbers[value] for value in paint_order(layout)]
    else:
        labels |= {name: numbers[values[0]] for name, values in layout.classes.items()}
    if layout.ignore is not None:
        labels[IGNORE] = numbers[layout.ignore]
    training = sum(case.part == TRAINING for case in layout.cases)
    return content | {
        "numTraining": training,
        "file_ending": writer.ending,
        "name": title,
        NOTES: _describe_notes(writer),
    }


def _describe_decathlon(writer: _Writer, title: str, folds: Sequence[Fold]) -> dict[str, Any]:
    layout = writer.layout
    validation = set(folds[0].validation) if folds else set()
    items: dict[str, list[Any]] = {"training": [], "validation": [], "test": []}
    has_test_labels = any(case.labels for case in layout.cases if case.part != TRAINING)
    for case in layout.cases:
        part, file = name_part(case), f"{case.name}{writer.ending}"
        item = {"image": f"./images{part}/{file}"}
        if case.labels:
            item["label"] = f"./labels{part}/{file}"
        if case.part == TRAINING:
            items["validation" if case.name in validation else "training"].append(item)
        else:
            items["test"].append(item if has_test_labels else item["image"])
    values = {value: name for value, name in _name_values(layout).items() if value in writer.numbers}
    content: dict[str, Any] = {
        "name": title,
        "tensorImageSize": "4D" if len(layout.channels) > 1 else "3D",
        "modality": {str(number): name for number, name in enumerate(layout.channels)},
        "labels": {"0": BACKGROUND, **{str(value): name for value, name in sorted(values.items())}},
    }
    if layout.has_regions:
        content["regions"] = {name: list(values) for name, values in layout.classes.items()}
    if not items["validation"]:
        del items["validation"]
    counts = {"numTraining": len(items["training"]), "numTest": len(items["test"])}
    return content | counts | items | {NOTES: _describe_notes(writer)}


def _describe_notes(writer: _Writer) -> dict[str, Any]:
    """What no key of the layout holds; see this module's docstring."""
    names = _name_values(writer.layout)
    patients = {case.name: case.patient for case in writer.layout.cases}
    notes: dict[str, Any] = {
        "label_values": {str(number): value for value, number in writer.numbers.items()},
        "value_names": {str(value): names[value] for value in sorted(names) if names[value] != IGNORE},
        "patients": patients,
    }
    if writer.regions:
        notes["regions"] = {name: list(values) for name, values in writer.regions.items()}
    return notes


def _name_values(layout: Layout) -> dict[int, str]:
    names = {values[0]: name for name, values in layout.classes.items() if len(values) == 1} | dict(layout.value_names)
    return names if layout.ignore is None else names | {layout.ignore: IGNORE}


def _order_regions(layout: Layout) -> list[tuple[str, tuple[int, ...]]]:
    """The largest first: nnU-Net paints one region over the other, and the last one counts."""
    return sorted(layout.classes.items(), key=lambda item: -len(item[1]))


def paint_order(layout: Layout) -> list[int]:
    """The value that each region, the largest first, gets in nnU-Net's masks: one that no later region has.

    Example:
        >>> from pathlib import Path
        >>> from voxflow.layouts import Layout
        >>> regions = {"enhancing": (4,), "whole": (1, 2, 4), "core": (1, 4)}
        >>> paint_order(Layout("nnunet", Path(), ("T1",), regions, ()))
        [2, 1, 4]
    """
    regions = [values for _, values in _order_regions(layout)]
    later = [{value for values in regions[number + 1 :] for value in values} for number in range(len(regions))]
    return [
        next((value for value in values if value not in rest), values[0])
        for values, rest in zip(regions, later, strict=True)
    ]


def _list_remarks(writer: _Writer, form: DatasetForm) -> list[str]:
    layout, remarks = writer.layout, []
    changed = [f"{value} → {number}" for value, number in writer.numbers.items() if value != number]
    if changed:
        remarks.append(f"label values are numbered anew ({join_names(changed)}); {FILE} has both under {NOTES!r}")
    if form == "nnunet" and layout.has_regions:
        painted = {
            value: last
            for last, (_, values) in zip(paint_order(layout), _order_regions(layout), strict=True)
            for value in values
        }
        names = _name_values(layout)
        lost = [names.get(value, str(value)) for value, last in sorted(painted.items()) if last != value]
        if lost:
            remarks.append(f"nnU-Net learns each region, but its masks show one a voxel, never {join_names(lost)}")
    return remarks


def _require_names(layout: Layout) -> None:
    """Refuse class names that mean something else in dataset.json."""
    reserved = [name for name in layout.classes if name.casefold() in (BACKGROUND, IGNORE) or not name]
    if reserved:
        raise DataError(f"a class called {reserved[0]!r} would be read as something else; rename it (option labels)")
    if not layout.classes:
        raise DataError("no class has a name; see labels.json")
    if not any(case.labels and case.part == TRAINING for case in layout.cases):
        raise DataError("no case for training has a label")


def _find_ending(path: Path) -> str:
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")
