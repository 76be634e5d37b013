"""What a known folder layout says: its channels, its classes, and the files of each case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from voxflow.errors import DataError, join_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

IGNORE = "ignore"  # the name, as nnU-Net has it, of the value of voxels that nobody labelled
IGNORE_VALUE = 255  # of a mask or segment of that name, unless there are more classes
LayoutName = Literal["nnunet", "msd", "brats", "bids", "totalsegmentator", "slicer", "masks", "table"]
Part = Literal["", "training", "testing"]


@dataclass(frozen=True)
class ChannelSource:
    """Where one channel of an image lies.

    Attributes:
        path: the file.
        index: which volume of a 4D file, from 0; None: the file is 3D.
    """

    path: Path
    index: int | None = None


@dataclass(frozen=True)
class LabelSource:
    """Where a label of a case lies: a map of values, or the mask of one class.

    Attributes:
        path: the file.
        class_name: of which class it is the mask; empty: the file's values are those of :attr:`Layout.classes`.
        value: of the class's voxels in the file; None: each that is not 0.
        layer: which layer of a file of several, from 0; None: the file has one.
        numbers: of a map whose values are numbered otherwise than the layout's: what each one stands for.
    """

    path: Path
    class_name: str = ""
    value: int | None = None
    layer: int | None = None
    numbers: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LayoutCase:
    """The files of one case.

    Attributes:
        name: unique in the layout.
        patient: whose images they are; the same text for several cases of one patient.
        channels: in the order of :attr:`Layout.channels`; None where the case lacks one.
        labels: a map, or masks of classes; empty where the case has none.
        part: what the data set itself uses the case for; empty where it does not say.
        labelled: names of the classes that were labelled in it; None where the data set does not say.
        fault: why the table that lists it makes no case of it, with the line; empty where it does.
        table: that lists it, where one does.
    """

    name: str
    patient: str
    channels: tuple[ChannelSource | None, ...]
    labels: tuple[LabelSource, ...] = ()
    part: Part = ""
    labelled: tuple[str, ...] | None = None
    fault: str = ""
    table: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, each once: the images, then the labels."""
        images = [channel.path for channel in self.channels if channel]
        return tuple(dict.fromkeys([*images, *(label.path for label in self.labels)]))


@dataclass(frozen=True)
class Layout:
    """A folder that is read by a known layout.

    Attributes:
        name: of the layout, as the option ``layout`` takes it.
        root: the folder that the layout begins in.
        channels: names of the channels in the model's order.
        classes: the values of each class in the label maps, without the background. One value: the classes exclude each
            other. Several: the class is a region that other classes may lie in.
        ignore: the value of voxels that nobody labelled; None where there is none.
        cases: ordered by name.
        unplaced: files that the layout has no place for, with the reason.
        remarks: what the user should know, one sentence each.
        value_names: names of label values, where they are others than those of the classes.
    """

    name: LayoutName
    root: Path
    channels: tuple[str, ...]
    classes: Mapping[str, tuple[int, ...]]
    cases: tuple[LayoutCase, ...]
    ignore: int | None = None
    unplaced: Mapping[Path, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    value_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def has_regions(self) -> bool:
        """Whether a voxel may belong to several classes."""
        values = [value for values in self.classes.values() for value in values]
        return len(values) != len(set(values)) or any(len(values) > 1 for values in self.classes.values())

    def select_channels(self, names: Iterable[str]) -> Layout:
        """Return the layout with some of its channels, in another order.

        Args:
            names: of the channels to keep, upper and lower case alike.

        Raises:
            DataError: the layout has no channel of a name.
        """
        places = {channel.casefold(): number for number, channel in enumerate(self.channels)}
        chosen = []
        for name in names:
            if name.casefold() not in places:
                raise DataError(f"no channel {name!r}: it has {', '.join(self.channels)}", path=self.root)
            chosen.append(places[name.casefold()])
        cases = tuple(replace(case, channels=tuple(case.channels[number] for number in chosen)) for case in self.cases)
        return replace(self, channels=tuple(self.channels[number] for number in chosen), cases=cases)

    def format_lines(self) -> list[str]:
        """Say in a few lines what the folder is taken for: cases, channels, classes, and what has no place."""
        cases = [case for case in self.cases if not case.fault]
        labelled = sum(bool(case.labels) for case in cases)
        patients = len({case.patient for case in cases})
        lines = [f"{self.root}: {TITLES[self.name]}"]
        lines.append(f"  {len(cases)} cases of {patients} patients, {labelled} labelled{_count_parts(cases)}")
        lines.append(f"  channels: {', '.join(self.channels)}")
        faults = [f"{case.name}: {case.fault}" for case in self.cases if case.fault and not case.table]
        if faults:
            lines.append(f"  {len(faults)} case(s) that can't be told: {join_names(faults, 3)}")
        lines += self._list_incomplete()
        unlabelled = [case.name for case in cases if case.part == "training" and not case.labels]
        if labelled and unlabelled:
            lines.append(f"  cases for training without a label: {join_names(unlabelled)}")
        lines.append(f"  classes: {_format_classes(self.classes)}")
        if self.ignore is not None:
            lines.append(f"  value {self.ignore}: not labelled (ignore), left out of training and scores")
        lines += [f"  {remark}" for remark in self.remarks]
        return lines + _format_unplaced(self.unplaced, self.root)

    def _list_incomplete(self) -> list[str]:
        counts = Counter(
            channel
            for case in self.cases
            for channel, file in zip(self.channels, case.channels, strict=True)
            if not file and not case.fault
        )
        return [f"  {count} case(s) lack the channel {channel}" for channel, count in counts.items()]


TITLES: Mapping[LayoutName, str] = {
    "nnunet": "nnU-Net's raw data",
    "msd": "a task of the Medical Segmentation Decathlon",
    "brats": "a BraTS data set: a folder for each case, a file for each contrast",
    "bids": "a BIDS data set with its derivatives",
    "totalsegmentator": "TotalSegmentator's data: a folder for each case, a mask for each class",
    "slicer": "images with segmentations of 3D Slicer (.seg.nrrd)",
    "masks": "images with a mask for each class beside them",
    "table": "a table of paths",
}
MAX_UNPLACED = 5


def sort_cases(cases: Iterable[LayoutCase]) -> tuple[LayoutCase, ...]:
    """Order cases by their names, so that equal folders give equal tables."""
    return tuple(sorted(cases, key=lambda case: case.name))


def _count_parts(cases: Iterable[LayoutCase]) -> str:
    counts = Counter(case.part for case in cases if case.part)
    return "".join(f", {counts[part]} for {part}" for part in ("training", "testing") if counts[part])


def _format_classes(classes: Mapping[str, tuple[int, ...]]) -> str:
    named = ", ".join(f"{name} ({' + '.join(map(str, values))})" for name, values in classes.items())
    return named or "none named; name the label values below convert, such as labels: {tumour: 1}"


def _format_unplaced(unplaced: Mapping[Path, str], root: Path) -> list[str]:
    lines = [
        f"  no place for {_shorten(path, root)}: {reason}" for path, reason in list(unplaced.items())[:MAX_UNPLACED]
    ]
    more = len(unplaced) - MAX_UNPLACED
    return [*lines, f"  and {more} more files without a place"] if more > 0 else lines


def _shorten(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
