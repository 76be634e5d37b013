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
    """The masks of one object; each is read when it is asked for, since all of them may not fit into memory."""

    def __init__(self, masks: ObjectMasks, size: tuple[int, ...]) -> None:
        self.masks = masks
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


def compare_version(
    recognition: Recognition, earlier: Path, places: WorkspaceLayout, options: ConvertOptions
) -> VersionComparison:
    """Compare a correction with our mask and with the present label of its image.

    Args:
        recognition: the correction, and our mask.
        earlier: the label that came of the version before; it may be missing.
        places: of the workspace.
        options: of its conversion.

    Raises:
        DicomError: the correction or our mask lies on no image that is here, or no segment of it is one of our classes.
    """
    facts, own = recognition.facts, recognition.result.facts
    files = recognition.result.list_image_files(places, options)
    if not files:
        raise DicomError("the images that the mask was made from are no longer here")
    images = ImageMasks(files, options)
    own_masks, masks = images.open(own.path), images.open(facts.path)
    if masks.place != own_masks.place:
        raise DicomError("it was drawn on another volume of the series than our mask")
    geometry = images.geometry(masks.place)
    reader, own_reader = _Reader(masks, geometry.size), _Reader(own_masks, geometry.size)
    match = _match(recognition, reader, own_reader)
    source = images.source_files(masks.place)
    comparison = VersionComparison(
        images.name_patient(masks.place, places.volumes), geometry, source, files, np.zeros(geometry.size, np.uint16)
    )
    earlier_reader, earlier_numbers = _open_earlier(images, earlier, geometry.size)
    number_of = {segment.label: segment.number for segment in own.segments}
    is_as_earlier = earlier_reader is not None
    for name, numbers in match.numbers.items():
        corrected, mask = reader.read(numbers), own_reader.read([number_of[name]])
        before = earlier_reader.read(earlier_numbers.get(name, ())) if earlier_reader else None
        comparison.changes[name] = measure_change(mask, corrected, geometry.spacing, before)
        comparison.is_unchanged &= _is_same(mask, corrected, is_rounded=reader.is_rounded)
        is_as_earlier &= before is not None and np.array_equal(before, corrected)
        if numbers or options.absent_labels == "empty":
            _paint(comparison, name, corrected)
    comparison.remarks = list(match.remarks)
    comparison.missing = [name for name in match.missing if comparison.changes[name].mask_ml]
    if comparison.is_unchanged:
        comparison.remarks.append("as our mask" + (", but for the rounding of edges" if reader.is_rounded else ""))
    elif is_as_earlier:
        comparison.is_unchanged = True
        comparison.remarks.append("as the correction that is the label already")
    return comparison


def _match(recognition: Recognition, reader: _Reader, own_reader: _Reader) -> ClassMatch:
    readable = set(reader.masks.numbers)
    segments = [segment for segment in recognition.facts.segments if segment.number in readable]

    def compute_dice(own_number: int, number: int) -> float:
        return measure_dice(own_reader.read([own_number]), reader.read([number]))

    match = match_classes(recognition.result.facts.segments, segments, compute_dice)
    if not any(match.numbers.values()):
        raise DicomError(f"none of its {len(recognition.facts.segments)} segments is a class of the model")
    unreadable = {segment.number for segment in recognition.facts.segments} - readable
    if unreadable:
        reasons = "; ".join(dict.fromkeys(reader.masks.problems.get(n, "it lies on no image") for n in unreadable))
        raise DicomError(f"segments {', '.join(map(str, sorted(unreadable)))} can't be read: {reasons}")
    return match


def _open_earlier(images: ImageMasks, path: Path, size: tuple[int, ...]) -> tuple[_Reader | None, dict[str, list[int]]]:
    if not path.is_file():
        return None, {}
    numbers: dict[str, list[int]] = {}
    for segment in read_facts(path).segments:
        numbers.setdefault(segment.label, []).append(segment.number)
    return _Reader(images.open(path), size), numbers


def _is_same(mask: NDArray[np.bool_], corrected: NDArray[np.bool_], *, is_rounded: bool) -> bool:
    return is_within_rounding(mask, corrected) if is_rounded else np.array_equal(mask, corrected)


def _paint(comparison: VersionComparison, name: str, mask: NDArray[np.bool_]) -> None:
    """Add a class to the label; where it meets others, the voxels get a value that stands for all of them."""
    array, combinations = comparison.array, comparison.combinations
    next_value = int(max((value for values in combinations.values() for value in values), default=0)) + 1
    values = []
    for value in np.unique(array[mask]):
        array[mask & (array == value)] = next_value
        for others in combinations.values():
            if int(value) in others:
                others.append(next_value)
        values.append(next_value)
        next_value += 1
    combinations[name] = values
