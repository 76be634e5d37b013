"""Divides a series that holds several volumes: echoes, time points, acquisitions, orientations.

Plan: a series whose slices all look one way and lie at different places is one volume. Otherwise the attributes of
:data:`SPLIT_ATTRIBUTES` are tried, first alone, then in pairs and threes, until the groups of slices with equal values
are each one volume of enough slices. Times and the like only count where all volumes cover the same places, since else
they could deal the slices of one volume out over two. Numbers are equal within the attribute's tolerance: they are
rounded and written in many ways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.enhanced import find_functional_group, read_frame_planes
from voxflow.dicom.grid import (
    FAR_EDGE_PIXELS,
    IrregularSlicesError,
    fit_slice_grid,
    limit_same_position,
    measure_spacing,
)
from voxflow.dicom.headers import PARSE_ERRORS, VARYING, DicomHeader, read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

# No series is known to vary in more attributes at once than, say, echo, image type and time.
MOST_ATTRIBUTES = 3
# Time points cover the same places when their slices lie within this share of a pixel of each other.
SAME_PLACES_PIXELS = 0.1
# How far numbers of one volume may differ, in the attribute's own unit (ms, degrees, s/mm2): well above how scanners
# round them, and well below what tells two volumes apart.
TOLERANCES = {
    "InversionTime (0018,0082)": 0.5,
    "FlipAngle (0018,1314)": 0.1,
    "DiffusionBValue (0018,9087)": 1.0,
    "TriggerTime (0018,1060)": 0.5,
    "FrameReferenceTime (0054,1300)": 0.5,
}
ECHO_TIME_TOLERANCE_MS = 0.005
# Cosines: half a degree. Slices that differ by less make no two stacks; whether they make one, the grid judges.
ORIENTATION_TOLERANCE = 0.01


@dataclass(frozen=True)
class SplitAttribute:
    """What may tell the volumes of a series apart.

    Attributes:
        name: as it is told to the user.
        number: numbers the different values of objects, ascending from 0; equal ones have one number.
        repeats: whether the volumes then cover the same places; else slices of one volume could be dealt out.
        divides: whether slices of different values make no volume together, even where each lies at its own place.
    """

    name: str
    number: Callable[[Sequence[DicomHeader]], list[int]]
    repeats: bool = False
    divides: bool = False


def number_values(values: Sequence[Hashable], tolerance: float = 0.0) -> list[int]:
    """Number the different values, ascending from 0.

    Args:
        values: numbers, or texts that may be numbers; what is no number comes last, by its text.
        tolerance: numbers that are no further apart than this have one number.

    Example:
        >>> number_values(["9.2", "4.60", "4.6", "", "9.20001"], tolerance=0.005)
        [1, 0, 0, 2, 1]
    """
    sort_keys = {value: _make_sort_key(value) for value in set(values)}
    numbers: dict[Hashable, int] = {}
    number, previous = -1, -np.inf
    for value in sorted(sort_keys, key=lambda value: sort_keys[value]):
        size = sort_keys[value][0]
        is_equal = np.isfinite(size) and size - previous <= tolerance
        number += not is_equal
        numbers[value], previous = number, size
    return [numbers[value] for value in values]


def number_orientations(headers: Sequence[DicomHeader]) -> list[int]:
    """Number the different values of ImageOrientationPatient (0020,0037), which are equal within half a degree."""
    return _number_vectors([header.plane.orientation for header in headers], ORIENTATION_TOLERANCE)


def number_matrices(headers: Sequence[DicomHeader]) -> list[int]:
    """Number the different matrices: rows, columns, and the distance between pixels."""
    # Most series have one; measuring each slice would take longer than all the rest.
    if len({(header.plane.rows, header.plane.columns, header.plane.spacing) for header in headers}) == 1:
        return [0] * len(headers)
    sizes = number_values([(header.plane.rows, header.plane.columns) for header in headers])
    spacings = _number_vectors([tuple(measure_spacing(header.plane).tolist()) for header in headers], FAR_EDGE_PIXELS)
    return number_values([size * len(headers) + spacing for size, spacing in zip(sizes, spacings, strict=True)])


def _number_vectors(vectors: Sequence[tuple[float, ...]], tolerance: float) -> list[int]:
    """Number the different vectors in their order; one that lies within the tolerance of another has its number."""
    groups: list[list[tuple[float, ...]]] = []
    numbers: dict[tuple[float, ...], int] = {}
    for vector in sorted(set(vectors), key=lambda vector: (len(vector), vector)):
        for number, group in enumerate(groups):
            if len(group[0]) == len(vector) and _is_near(vector, group, tolerance):
                group.append(vector)
                numbers[vector] = number
                break
        else:
            numbers[vector] = len(groups)
            groups.append([vector])
    return [numbers[vector] for vector in vectors]


def _is_near(vector: tuple[float, ...], group: Sequence[tuple[float, ...]], tolerance: float) -> bool:
    if not vector:
        return True
    return bool((np.abs(np.array(group) - vector).max(axis=1) <= tolerance).any())


def _number_by(read: Callable[[DicomHeader], Hashable], tolerance: float = 0.0) -> Callable[..., list[int]]:
    return lambda headers: number_values([read(header) for header in headers], tolerance)


def _number_uids(read: Callable[[DicomHeader], str]) -> Callable[[Sequence[DicomHeader]], list[int]]:
    """Number UIDs; where objects have none, they count with the others, if these have one alone."""

    def number(headers: Sequence[DicomHeader]) -> list[int]:
        uids = [read(header) for header in headers]
        return number_values(uids) if len(set(uids) - {""}) > 1 else [0] * len(uids)

    return number


def _read_varying(position: int) -> Callable[[DicomHeader], str]:
    return lambda header: header.varying[position]


_ORIENTATION = SplitAttribute("ImageOrientationPatient (0020,0037)", number_orientations)
_MATRIX = SplitAttribute("matrix", number_matrices)
SPLIT_ATTRIBUTES = (
    SplitAttribute("ImageType (0008,0008)", _number_by(lambda header: header.image_type)),
    SplitAttribute("EchoTime (0018,0081)", _number_by(lambda header: header.echo_time, ECHO_TIME_TOLERANCE_MS)),
    SplitAttribute("AcquisitionNumber (0020,0012)", _number_by(lambda header: header.acquisition)),
    SplitAttribute("TemporalPositionIdentifier (0020,0100)", _number_by(lambda header: header.temporal_position)),
    _ORIENTATION,
    _MATRIX,
    SplitAttribute(
        "FrameOfReferenceUID (0020,0052)", _number_uids(lambda header: header.frame_of_reference), divides=True
    ),
    SplitAttribute("StudyInstanceUID (0020,000D)", _number_uids(lambda header: header.study_uid), divides=True),
    *(
        SplitAttribute(name, _number_by(_read_varying(n), TOLERANCES.get(name, 0.0)), repeats=True)
        for n, name in enumerate(VARYING)
    ),
)
_DIVIDING = tuple(attribute for attribute in SPLIT_ATTRIBUTES if attribute.divides)


@dataclass(frozen=True)
class SeriesPiece:
    """One volume of a series.

    Attributes:
        members: indices into the headers that were taken apart.
        by: the attributes that tell it from the others; empty where there are no others.
        left_out: why it is no volume, where it is a scout among the slices of a volume.
    """

    members: tuple[int, ...]
    by: str = ""
    left_out: str = ""


def split_series(headers: Sequence[DicomHeader], min_slices: int, tolerance_mm: float) -> list[SeriesPiece]:
    """Take a series apart by the fewest attributes that leave each volume plain, ordered by their values.

    Args:
        headers: of the series, or of the frames of one object.
        min_slices: fewer are no volume.
        tolerance_mm: how far a slice may lie from its place on the regular grid.

    Returns:
        One piece a volume, and one for a scout that lies among its slices. A series that no attributes take apart into
        whole volumes stays as it is; the grid check then names its fault.
    """
    unsplit = [SeriesPiece(tuple(range(len(headers))))]
    if _is_one_volume(headers, min_slices):
        return unsplit
    max_volumes = len(headers) // min_slices
    numbers = {attribute.name: attribute.number(headers) for attribute in SPLIT_ATTRIBUTES}
    varying = [attribute for attribute in SPLIT_ATTRIBUTES if 0 < max(numbers[attribute.name]) < max_volumes]
    for count in range(1, MOST_ATTRIBUTES + 1):
        for attributes in combinations(varying, count):
            pieces = _group_members(list(zip(*(numbers[attribute.name] for attribute in attributes), strict=True)))
            members = [[headers[n] for n in piece] for piece in pieces]
            if not all(len(piece) >= min_slices and _is_one_volume(piece, min_slices) for piece in members):
                continue
            if not any(attribute.repeats for attribute in attributes) or _cover_same_places(members):
                name = " and ".join(attribute.name for attribute in attributes)
                return [SeriesPiece(tuple(piece), name) for piece in pieces]
    return _leave_out_scouts(headers, min_slices, tolerance_mm) or unsplit


def _leave_out_scouts(headers: Sequence[DicomHeader], min_slices: int, tolerance_mm: float) -> list[SeriesPiece]:
    """The volume, and what looks another way, too few slices for a volume; nothing where the rest is not whole."""
    orientations = number_orientations(headers)
    pieces = _group_members(list(zip(orientations, number_matrices(headers), strict=True)))
    volumes = [piece for piece in pieces if len(piece) >= min_slices]
    scouts = [n for piece in pieces if len(piece) < min_slices for n in piece]
    if len(volumes) != 1 or not scouts or orientations[volumes[0][0]] in {orientations[n] for n in scouts}:
        return []
    members = [headers[n] for n in volumes[0]]
    if not _is_one_volume(members, min_slices):
        return []
    try:
        fit_slice_grid([header.plane for header in members], tolerance_mm=tolerance_mm, min_slices=min_slices)
    except IrregularSlicesError:
        pass  # whole, and for a remedy to judge
    except DicomError:
        return []
    reason = f"{len(scouts)} slice(s) of another orientation than the other {len(members)} of the series, as of a scout"
    return [SeriesPiece(tuple(volumes[0])), SeriesPiece(tuple(scouts), left_out=reason)]


def read_frame_headers(objects: Sequence[DicomHeader]) -> list[DicomHeader]:
    """Make a header of each frame of a multi-frame object, or of a concatenation, with what its functional groups say.

    Args:
        objects: one, or the parts of a concatenation in their order.

    Returns:
        One header a frame; the objects' own headers alone where the frames can't be read.
    """
    headers = []
    try:
        for header in objects:
            dataset = read_dataset(header.path)
            planes = read_frame_planes(dataset)
            headers += [
                replace(header, plane=plane, **_read_frame_attributes(dataset, n)) for n, plane in enumerate(planes)
            ]
    except (DicomError, *PARSE_ERRORS):
        return list(objects)
    return headers


def _read_frame_attributes(dataset: Dataset, frame: int) -> dict[str, Any]:
    content = find_functional_group(dataset, frame, "FrameContentSequence")
    kind = find_functional_group(dataset, frame, "MRImageFrameTypeSequence")
    echo = find_functional_group(dataset, frame, "MREchoSequence")
    weighting = find_functional_group(dataset, frame, "MRDiffusionSequence")
    heart = find_functional_group(dataset, frame, "CardiacSynchronizationSequence")
    values = dict.fromkeys(VARYING, "")
    values["DiffusionBValue (0018,9087)"] = _read_text(weighting, "DiffusionBValue")
    values["TriggerTime (0018,1060)"] = _read_text(heart, "NominalCardiacTriggerDelayTime")
    return {
        "image_type": tuple(kind.get("FrameType") or ()) if kind is not None else (),
        "echo_time": _read_text(echo, "EffectiveEchoTime"),
        "acquisition": _read_text(content, "FrameAcquisitionNumber"),
        "temporal_position": _read_text(content, "TemporalPositionIndex"),
        "varying": tuple(values.values()),
    }


def _read_text(item: Dataset | None, keyword: str) -> str:
    value = item.get(keyword) if item is not None else None
    return "" if value is None else str(value)


def _group_members(values: Sequence[Hashable]) -> list[list[int]]:
    """The indices of equal values, in the order of the values."""
    pieces: dict[Any, list[int]] = {}
    for n, value in enumerate(values):
        pieces.setdefault(value, []).append(n)
    return [pieces[value] for value in sorted(pieces)]


def _make_sort_key(value: object) -> tuple[float, str]:
    """Numbers by their size, before all else."""
    try:
        size = float(str(value))
    except ValueError:
        size = np.inf
    return (size, "") if np.isfinite(size) else (np.inf, str(value))


def _sort_positions(headers: Sequence[DicomHeader]) -> NDArray[np.float64] | None:
    """Positions and, in the last column, distances along the normal, by which they ascend; None where some lack."""
    first = headers[0].plane.orientation
    if len(first) != 6 or any(len(header.plane.position) != 3 for header in headers):
        return None
    positions = np.array([header.plane.position for header in headers])
    distances = positions @ np.cross(first[:3], first[3:])
    return np.column_stack([positions, distances])[np.argsort(distances, kind="stable")]


def _cover_same_places(volumes: Sequence[Sequence[DicomHeader]]) -> bool:
    positions = [_sort_positions(volume) for volume in volumes]
    first = positions[0]
    tolerance_mm = SAME_PLACES_PIXELS * min(volumes[0][0].plane.spacing, default=0.0)
    return first is not None and all(
        other is not None and other.shape == first.shape and bool((np.abs(other - first) <= tolerance_mm).all())
        for other in positions
    )


def _is_one_volume(headers: Sequence[DicomHeader], min_slices: int) -> bool:
    """Whether all look one way, have one matrix, no two lie at one place, and nothing says that they are of two."""
    if any(max(attribute.number(headers)) for attribute in (_ORIENTATION, _MATRIX)):
        return False
    if any(_is_divided(attribute.number(headers), min_slices) for attribute in _DIVIDING):
        return False
    positions = _sort_positions(headers)
    # Two slices at one place belong to two volumes, whatever else they share. What lacks a position, the grid names.
    return positions is None or bool((np.diff(positions[:, 3]) >= limit_same_position(headers[0].plane)).all())


def _is_divided(numbers: Sequence[int], min_slices: int) -> bool:
    """Whether each value has slices for a volume; a UID of its own in each slice is an anonymiser's work."""
    counts = np.bincount(numbers)
    return len(counts) > 1 and int(counts.min()) >= min_slices
