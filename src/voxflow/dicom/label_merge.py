"""The one label volume of an image: the masks of all its label objects, painted in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.headers import PARSE_ERRORS, explain_parse_error
from voxflow.dicom.rtstruct import StructureSet
from voxflow.dicom.seg import Segmentation
from voxflow.errors import DicomError, join_names
from voxflow.layouts import IGNORE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.label_grid import LabelGrid, LabelMask
    from voxflow.dicom.labels import LabelObject, LabelShare
    from voxflow.dicom.options import ConvertOptions

_OVERLAP_RULES = {
    "last": "the last by number counts",
    "first": "the first by number counts",
    "listed": "the last as listed counts",
    "channels": "each is whole in its channel, and the last by number counts in the label volume",
    "regions": "each is whole in its region",
}


@dataclass(frozen=True)
class LabelOutcome:
    """What became of one label object in the label volume of an image.

    Attributes:
        label: the object.
        is_usable: whether anything of it is in the volume.
        problem: what of it could not be used, and why; empty where all could.
        remedy: how it came onto the image's grid, where it was not drawn on it.
        remark: what else the user should know.
    """

    label: LabelObject
    is_usable: bool
    problem: str = ""
    remedy: str = ""
    remark: str = ""


@dataclass(frozen=True)
class MergedLabels:
    """The one label volume of an image, and what became of each label object.

    Attributes:
        array: labels (i, j, k).
        channels: where ``overlap`` is "channels" or "regions", the whole mask (i, j, k) of each label value.
        outcomes: of each object, in the order in which they count.
        labelled: the values of the classes that someone labelled here, be they empty.
    """

    array: NDArray[np.uint8] | NDArray[np.uint16]
    channels: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    outcomes: list[LabelOutcome] = field(default_factory=list)
    labelled: set[int] = field(default_factory=set)


def merge_labels(
    shares: Sequence[LabelShare], grid: LabelGrid, values: Mapping[str, int], options: ConvertOptions
) -> MergedLabels:
    """Make one label volume of all label objects of an image.

    The objects count in the order of their numbers (:attr:`LabelObject.order`), and their segments or ROIs in that of
    theirs. Where they overlap, ``options.overlap`` says which one counts: the last or the first of that order, or the
    one that ``labels`` names last. With "channels" the last counts here, and each label is kept whole beside it.
    One name in two objects is one label where they share no voxel, or all; else the first object's counts.
    What is called "ignore" is no class: it is painted last, over everything.
    """
    fits_8_bits = max(values.values(), default=0) < 256
    size = grid.geometry.size
    merged = MergedLabels(np.zeros(size, np.uint8) if fits_8_bits else np.zeros(size, np.uint16))
    if options.overlap in ("channels", "regions"):
        # Of every label, drawn here or not, so that all cases have the same channels.
        merged.channels.update({n: np.zeros(size, np.bool_) for n in sorted({*values.values()} - {values.get(IGNORE)})})
    drawings = [
        _Drawing(share, grid, values, resample=options.label_grid == "resample")
        for share in sorted(shares, key=lambda share: share.label.order)
    ]
    order = [(drawing, number) for drawing in drawings for number in drawing.numbers]
    if options.overlap == "listed":
        name_order = list(values)
        order.sort(key=lambda entry: name_order.index(entry[0].names[entry[1]]))
    order.sort(key=lambda entry: entry[0].names[entry[1]] == IGNORE)
    painter = _Painter(merged, options.overlap, _find_repeated_names(drawings))
    for drawing, number in order:
        mask = drawing.read(number)
        if mask is not None:
            painter.paint(drawing, number, mask, values[drawing.names[number]])
    merged.outcomes.extend(drawing.conclude(_OVERLAP_RULES[options.overlap]) for drawing in drawings)
    return merged


class _Drawing:
    """One label object while its masks are read, and what became of each."""

    def __init__(self, share: LabelShare, grid: LabelGrid, values: Mapping[str, int], *, resample: bool) -> None:
        self.share, self.grid, self._resample = share, grid, resample
        self.names = {
            n: share.label.names[n].casefold() for n in share.items if share.label.names[n].casefold() in values
        }
        self.numbers = sorted(self.names)
        self.problems: dict[int, str] = {}
        self.overlapping_voxels = 0
        self._remedies: dict[int, str] = {}
        self._remarks: dict[int, str] = {}
        self._reader: StructureSet | Segmentation | None = None
        self._fault = ""
        self._has_voxels = False

    def read(self, number: int) -> LabelMask | None:
        """The mask of a segment or ROI; None, and a problem, where it can't be read."""
        try:
            mask = self._open().read_mask(number, self.share.items[number], self.grid)
        except DicomError as error:
            self.problems[number] = str(error)
            return None
        except PARSE_ERRORS as error:
            self.problems[number] = explain_parse_error(error)
            return None
        self._remedies[number], self._remarks[number] = mask.remedy, mask.remark
        self._has_voxels |= bool(mask.array.any())
        return mask

    def note(self, number: int, remark: str) -> None:
        """Add a remark about a segment or ROI."""
        self._remarks[number] = ", ".join(text for text in (self._remarks.get(number, ""), remark) if text)

    def conclude(self, overlap_rule: str) -> LabelOutcome:
        """Put into words what became of the object."""
        label = self.share.label
        # A segment may be empty, but a structure set that encloses nothing does not say that there is nothing.
        if label.kind == "rtstruct" and not self._has_voxels:
            self.problems = self._remarks | self.problems
        problem = label.describe_numbers(self.problems, self.numbers) if self.problems else ""
        if len(self.problems) == len(self.numbers):
            return LabelOutcome(label, is_usable=False, problem=problem)
        repeated = [name for name in dict.fromkeys(self.names.values()) if list(self.names.values()).count(name) > 1]
        remarks = {number: remark for number, remark in self._remarks.items() if remark}
        texts = [
            self.share.remark,
            f"{self.overlapping_voxels} voxels lie in several segments: {overlap_rule}"
            if self.overlapping_voxels
            else "",
            f"several of one name are one label: {join_names(repeated)}" if repeated else "",
            label.describe_numbers(remarks, []) if remarks else "",
        ]
        remedy = "; ".join(dict.fromkeys(text for text in self._remedies.values() if text))
        return LabelOutcome(label, True, problem, remedy, "; ".join(text for text in texts if text))

    def _open(self) -> StructureSet | Segmentation:
        if self._fault:
            raise DicomError(self._fault)
        if self._reader is None:
            label = self.share.label
            try:
                if label.kind == "rtstruct":
                    self._reader = StructureSet(label.path)
                else:
                    self._reader = Segmentation(label.path, self.share.items, resample=self._resample)
            except DicomError as error:
                self._fault = str(error)
                raise
        return self._reader


class _Painter:
    """Paints masks into the label volume, one after the other, and counts where they overlap."""

    def __init__(self, merged: MergedLabels, overlap: str, repeated_names: set[str]) -> None:
        self._merged, self._keeps_first = merged, overlap == "first"
        self._covered = np.zeros(merged.array.shape, dtype=np.bool_)
        self._by_name: dict[str, list[tuple[_Drawing, NDArray[np.bool_]]]] = {name: [] for name in repeated_names}

    def paint(self, drawing: _Drawing, number: int, label_mask: LabelMask, value: int) -> None:
        """Paint one mask, unless another object has that label there already."""
        mask, array = label_mask.array, self._merged.array
        problem = self._compare_with_other_objects(drawing, number, mask)
        if problem:
            drawing.problems[number] = problem
            return
        if drawing.names[number] == IGNORE:
            array[mask] = value
            drawing.note(number, f"{int(mask.sum())} voxels are not labelled (ignore)")
            return
        # An empty segment says that nothing is there; a structure set without a voxel does not.
        if drawing.share.label.kind == "seg" or mask.any():
            self._merged.labelled.add(value)
        drawing.overlapping_voxels += int((self._covered & mask & (array != value)).sum())
        array[mask & ~self._covered if self._keeps_first else mask] = value
        self._covered |= mask
        if self._merged.channels:
            self._merged.channels[value] |= mask

    def _compare_with_other_objects(self, drawing: _Drawing, number: int, mask: NDArray[np.bool_]) -> str:
        """Why a label of a name that another object has too can't be used; empty where it can."""
        name = drawing.names[number]
        if name not in self._by_name:
            return ""
        earlier = np.zeros_like(mask)
        for painted_drawing, painted in self._by_name[name]:
            if painted_drawing is not drawing:
                earlier |= painted
        shared, union = int((earlier & mask).sum()), int((earlier | mask).sum())
        if shared and shared < union:
            return (
                f"already labelled by another object of the same image, and differs: {shared} of {union} voxels are in "
                f"both. Leave one of the two out of the source, or give them different names"
            )
        if shared:
            drawing.note(number, "equal to the label of that name in another object")
        self._by_name[name].append((drawing, mask))
        return ""


def _find_repeated_names(drawings: Sequence[_Drawing]) -> set[str]:
    """The names that several objects have."""
    names = [name for drawing in drawings for name in set(drawing.names.values())]
    return {name for name in names if names.count(name) > 1}
