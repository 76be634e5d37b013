"""Compares a correction with our mask, and with the version before it, class by class on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from voxflow.corrections.classes import ClassMatch, match_classes
from voxflow.corrections.compare import ClassChange, is_within_rounding, measure_change, measure_dice
from voxflow.corrections.facts import read_facts
from voxflow.dicom import ImageMasks
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from voxflow.corrections.recognise import Recognition
    from voxflow.dicom import ConvertOptions, ObjectMasks, SourceFiles
    from voxflow.geometry import Geometry
    from voxflow.places import WorkspaceLayout


@dataclass
class VersionComparison:
    """A correction beside our mask.

    Attributes:
        patient: pseudonym.
        geometry: the image's grid.
        source: the files of the image that the masks lie on.
        files: those of all channels.
        changes: by class.
        combinations: label values by class; a voxel of several classes has a value of its own.
        array: the corrected label (i, j, k).
        is_unchanged: nobody changed anything.
        missing: classes that our mask has and the correction lacks.
        remarks: what the user should know.
    """

    patient: str
    geometry: Geometry
    source: SourceFiles
    files: list[Path]
    array: NDArray[np.uint16]
    changes: dict[str, ClassChange] = field(default_factory=dict)
    combinations: dict[str, list[int]] = field(default_factory=dict)
    is_unchanged: bool = True
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _Reader:
    """The masks of one object; each is read when it is asked for, since all of them may not fit into memory.

    Attributes:
        numbers: segments by class.
        is_rounded: a mask that was read is of contours, or of another grid.
    """

    def __init__(self, masks: ObjectMasks, size: tuple[int, ...]) -> None:
        self.masks = masks
        self.numbers: dict[str, list[int]] = {}
        self._size = size
        self.is_rounded = False

    def read(self, numbers: Iterable[int]) -> NDArray[np.bool_]:
        """The union of some segments."""
        union = np.zeros(self._size, dtype=np.bool_)
        for number in numbers:
            mask, is_rounded = self.masks.read(number)
            union |= mask
            self.is_rounded |= is_rounded
        return union

    def read_class(self, name: str) -> NDArray[np.bool_]:
        """The mask of a class; empty where it has no segment."""
        return self.read(self.numbers.get(name, ()))


def compare_version(
    recognition: Recognition, earlier: Path | None, places: WorkspaceLayout, options: ConvertOptions
) -> VersionComparison:
    """Compare a correction with our mask and with the present label of its image.

    Args:
        recognition: the correction, and our mask.
        earlier: the label that came of the version before; it may be missing. None: there is none.
        places: of the workspace.
        options: of its conversion.

    Raises:
        DicomError: the correction or our mask lies on no image that is here, or no segment of it is one of our classes.
    """
    facts, mask_facts = recognition.facts, recognition.result.facts
    files = recognition.result.list_image_files(places, options)
    if not files:
        raise DicomError("the images that the mask was made from are no longer here")
    images = ImageMasks(files, options)
    our_masks, masks = images.open(mask_facts.path), images.open(facts.path)
    if masks.place != our_masks.place:
        raise DicomError("it was drawn on another volume of the series than our mask")
    geometry = images.geometry(masks.place)
    reader, mask_reader = _Reader(masks, geometry.size), _Reader(our_masks, geometry.size)
    match = _match(recognition, reader, mask_reader)
    mask_reader.numbers = {segment.label: [segment.number] for segment in mask_facts.segments}
    reader.numbers = match.numbers
    comparison = VersionComparison(
        images.name_patient(masks.place, places.volumes),
        geometry,
        images.source_files(masks.place),
        files,
        np.zeros(geometry.size, np.uint16),
        remarks=list(match.remarks),
    )
    earlier_reader = _open_earlier(images, earlier, geometry.size)
    _compare_classes(comparison, mask_reader, reader, earlier_reader, paints_absent=options.absent_labels == "empty")
    comparison.missing = [name for name in match.missing if comparison.changes[name].mask_ml]
    return comparison


def _compare_classes(
    comparison: VersionComparison,
    mask_reader: _Reader,
    reader: _Reader,
    earlier: _Reader | None,
    *,
    paints_absent: bool,
) -> None:
    """Measure what changed in each class, paint the corrected label, and note whether anybody changed anything."""
    is_as_mask, is_as_earlier = True, earlier is not None
    for name, numbers in reader.numbers.items():
        corrected, mask = reader.read(numbers), mask_reader.read_class(name)
        before = earlier.read_class(name) if earlier else None
        comparison.changes[name] = measure_change(mask, corrected, comparison.geometry.spacing, before)
        is_as_mask &= _is_same(mask, corrected, is_rounded=reader.is_rounded)
        is_as_earlier &= before is not None and _is_same(before, corrected, is_rounded=reader.is_rounded)
        if numbers or paints_absent:
            _paint(comparison, name, corrected)
    comparison.is_unchanged = is_as_mask or is_as_earlier
    if is_as_mask:
        comparison.remarks.append("as our mask" + (", but for the rounding of edges" if reader.is_rounded else ""))
    elif is_as_earlier:
        comparison.remarks.append("as the correction that is the label already")


def _match(recognition: Recognition, reader: _Reader, mask_reader: _Reader) -> ClassMatch:
    readable = set(reader.masks.numbers)
    segments = [segment for segment in recognition.facts.segments if segment.number in readable]

    def compute_dice(mask_number: int, number: int) -> float:
        return measure_dice(mask_reader.read([mask_number]), reader.read([number]))

    match = match_classes(recognition.result.facts.segments, segments, compute_dice)
    if not any(match.numbers.values()):
        raise DicomError(f"none of its {len(recognition.facts.segments)} segments is a class of the model")
    unreadable = {segment.number for segment in recognition.facts.segments} - readable
    if unreadable:
        reasons = "; ".join(dict.fromkeys(reader.masks.problems.get(n, "it lies on no image") for n in unreadable))
        raise DicomError(f"segments {', '.join(map(str, sorted(unreadable)))} can't be read: {reasons}")
    return match


def _open_earlier(images: ImageMasks, path: Path | None, size: tuple[int, ...]) -> _Reader | None:
    """The present label of the image; None where it has none."""
    if path is None or not path.is_file():
        return None
    reader = _Reader(images.open(path), size)
    for segment in read_facts(path).segments:
        reader.numbers.setdefault(segment.label, []).append(segment.number)
    return reader


def _is_same(mask: NDArray[np.bool_], corrected: NDArray[np.bool_], *, is_rounded: bool) -> bool:
    return is_within_rounding(mask, corrected) if is_rounded else np.array_equal(mask, corrected)


def _paint(comparison: VersionComparison, name: str, mask: NDArray[np.bool_]) -> None:
    """Add a class to the label; where it meets others, the voxels get a value that stands for all of them."""
    array, combinations = comparison.array, comparison.combinations
    next_value = int(max((value for values in combinations.values() for value in values), default=0)) + 1
    values = []
    for value in np.unique(array[mask]):
        array[mask & (array == value)] = next_value
        for members in combinations.values():
            if int(value) in members:
                members.append(next_value)
        values.append(next_value)
        next_value += 1
    combinations[name] = values
