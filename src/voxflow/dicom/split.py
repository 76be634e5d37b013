"""Divides a series that holds several volumes: echoes, time points, acquisitions, orientations.

Plan: slices of another study, series number or frame of reference are no volume together. What is left is one volume if
its slices all look one way and lie at different places. Otherwise the attributes of :data:`SPLIT_ATTRIBUTES` are tried,
first alone, then in pairs and threes, until the groups of slices with equal values are each one volume of enough
slices. Times and the like only count where all volumes cover the same places, since else they could deal the slices of
one volume out over two. Where each slice has a value of its own, the first of each place make one volume, the second
another, and so on, if no value of one volume lies among those of another. A scout that lies among the slices is left
out before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.attributes import (
    DIVIDING_ATTRIBUTES,
    SPLIT_ATTRIBUTES,
    SplitAttribute,
    number_matrices,
    number_orientations,
    number_places,
)
from voxflow.dicom.grid import IrregularSlicesError, compute_plane_axes, fit_slice_grid, limit_same_position
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from voxflow.dicom.headers import DicomHeader

# No series is known to vary in more attributes at once than, say, echo, image type and time.
MOST_ATTRIBUTES = 3
# Time points cover the same places when their slices lie within this share of a pixel of each other.
SAME_PLACES_PIXELS = 0.1
# Scouts look along another axis of the patient; a slice that is tilted by less belongs to its series.
SCOUT_DEGREES = 30.0
# Of the heart's phases, which last longer or shorter with each beat, the n-th of each place belong together.
TRIGGER_TIME = "TriggerTime (0018,1060)"


@dataclass(frozen=True)
class SeriesPiece:
    """One volume of a series.

    Attributes:
        members: indices into the headers that were taken apart.
        by: the attributes that tell it from the others, with their values; empty where there are no others.
        left_out: why it is no volume, where it is a scout among the slices of a volume.
        remark: what else the user should know of it.
    """

    members: tuple[int, ...]
    by: str = ""
    left_out: str = ""
    remark: str = ""


@dataclass(frozen=True)
class _GridLimits:
    """When slices are a volume: at least how many, and how far one may lie from its place on the regular grid, mm."""

    min_slices: int
    tolerance_mm: float


def split_series(headers: Sequence[DicomHeader], min_slices: int, tolerance_mm: float) -> list[SeriesPiece]:
    """Take a series apart by the fewest attributes that leave each volume plain, ordered by their values.

    Args:
        headers: of the series, or of the frames of one object.
        min_slices: fewer are no volume.
        tolerance_mm: how far a slice may lie from its place on the regular grid.

    Returns:
        One piece a volume, and one for scouts that lie among its slices. A series that no attributes take apart into
        whole volumes stays as it is; the grid check then names its fault.
    """
    limits = _GridLimits(min_slices, tolerance_mm)
    scouts = _find_scouts(headers, limits)
    if scouts:
        others = [n for n in range(len(headers)) if n not in scouts]
        pieces = _select_members(_divide_series([headers[n] for n in others], limits), others)
        if all(_is_whole([headers[n] for n in piece.members], limits) for piece in pieces):
            reason = (
                f"{len(scouts)} slice(s) of another orientation than the other {len(others)} of the series, "
                "as of a scout"
            )
            return [*pieces, SeriesPiece(tuple(sorted(scouts)), left_out=reason)]
    return _divide_series(headers, limits)


def _divide_series(headers: Sequence[DicomHeader], limits: _GridLimits) -> list[SeriesPiece]:
    """The volumes of each study and frame of reference."""
    frames_of_reference = {header.frame_of_reference for header in headers}
    if 1 < len(frames_of_reference) == len(headers):
        # An anonymiser that makes a new UID for each slice; that they lie on one grid, the grid check then shows.
        remark = "each slice has a FrameOfReferenceUID (0020,0052) of its own; their positions are taken as of one"
        unified = [replace(header, frame_of_reference="") for header in headers]
        return [replace(piece, remark=remark) for piece in _divide_series(unified, limits)]
    numbers = {attribute: attribute.number(headers) for attribute in DIVIDING_ATTRIBUTES}
    varying = [attribute for attribute in DIVIDING_ATTRIBUTES if max(numbers[attribute])]
    if not varying:
        return _split_by_values(headers, limits)
    pieces = []
    for members in _group_members(list(zip(*(numbers[attribute] for attribute in varying), strict=True))):
        names = [attribute.describe([headers[n] for n in members], headers) for attribute in varying]
        for piece in _select_members(_split_by_values([headers[n] for n in members], limits), members):
            pieces.append(replace(piece, by=" and ".join([*names, *([piece.by] if piece.by else [])])))
    return pieces


def _split_by_values(headers: Sequence[DicomHeader], limits: _GridLimits) -> list[SeriesPiece]:
    if _is_one_volume(headers):
        return [SeriesPiece(tuple(range(len(headers))))]
    max_volumes = len(headers) // limits.min_slices
    numbers = {attribute: attribute.number(headers) for attribute in SPLIT_ATTRIBUTES}
    varying = [attribute for attribute in SPLIT_ATTRIBUTES if 0 < max(numbers[attribute]) < max_volumes]
    for count in range(1, MOST_ATTRIBUTES + 1):
        for attributes in combinations(varying, count):
            groups = _group_members(list(zip(*(numbers[attribute] for attribute in attributes), strict=True)))
            volumes = [[headers[n] for n in members] for members in groups]
            if not all(len(volume) >= limits.min_slices and _is_one_volume(volume) for volume in volumes):
                continue
            if not any(attribute.repeats for attribute in attributes) or _cover_same_places(volumes):
                return _describe_pieces(headers, groups, attributes)
    return _split_by_order(headers, limits) or [SeriesPiece(tuple(range(len(headers))))]


def _split_by_order(headers: Sequence[DicomHeader], limits: _GridLimits) -> list[SeriesPiece]:
    """Volumes whose slices each have a value of their own, by the order of the values at each place; none if unclear.

    So a time series is taken apart whose slices were acquired one after the other, and an echo time that drifts.
    """
    if max(number_orientations(headers)) or max(number_matrices(headers)):
        return []
    places = number_places(headers)
    counts = set(Counter(places).values())
    if len(counts) > 1 or counts == {1} or len(headers) // max(counts) < limits.min_slices:
        return []
    for attribute in SPLIT_ATTRIBUTES:
        values = np.array([np.nan if attribute.read is None else attribute.read(header) for header in headers])
        if not np.isfinite(values).all():
            continue
        order = np.lexsort((values, np.array(places)))
        # Row: a place; column: the volumes in their order.
        table = values[order].reshape(-1, max(counts))
        is_apart = bool((np.diff(table, axis=1) > attribute.tolerance).all())
        is_ordered = attribute.name == TRIGGER_TIME or bool(
            (table.max(axis=0)[:-1] + attribute.tolerance < table.min(axis=0)[1:]).all()
        )
        if is_apart and is_ordered:
            groups = [sorted(int(n) for n in members) for members in order.reshape(table.shape).T]
            return _describe_pieces(headers, groups, [attribute])
    return []


def _describe_pieces(
    headers: Sequence[DicomHeader], groups: Sequence[Sequence[int]], attributes: Sequence[SplitAttribute]
) -> list[SeriesPiece]:
    pieces = []
    for members in groups:
        volume = [headers[n] for n in members]
        by = " and ".join(attribute.describe(volume, headers) for attribute in attributes)
        pieces.append(SeriesPiece(tuple(members), by))
    return pieces


def _select_members(pieces: Sequence[SeriesPiece], members: Sequence[int]) -> list[SeriesPiece]:
    """Pieces of some members of a series, by indices into the whole series."""
    return [replace(piece, members=tuple(members[n] for n in piece.members)) for piece in pieces]


def _find_scouts(headers: Sequence[DicomHeader], limits: _GridLimits) -> set[int]:
    """What looks along another axis than the volumes of the series, too few slices for a volume of their own."""
    orientations = number_orientations(headers)
    if not max(orientations) or any(len(header.plane.orientation) != 6 for header in headers):
        return set()
    stacks = _group_members(orientations)
    try:
        normals = [compute_plane_axes(headers[members[0]].plane)[2] for members in stacks]
    except DicomError:
        # A slice whose orientation is damaged is none; the grid check names it.
        return set()
    axes = [normal for normal, members in zip(normals, stacks, strict=True) if len(members) >= limits.min_slices]
    scouts: set[int] = set()
    for normal, members in zip(normals, stacks, strict=True):
        if len(members) < limits.min_slices:
            if any(abs(normal @ axis) > np.cos(np.radians(SCOUT_DEGREES)) for axis in axes):
                return set()
            scouts.update(members)
    return scouts if axes else set()


def _is_whole(headers: Sequence[DicomHeader], limits: _GridLimits) -> bool:
    """Whether slices are all there and make a volume, perhaps after a remedy."""
    try:
        fit_slice_grid(
            [header.plane for header in headers], tolerance_mm=limits.tolerance_mm, min_slices=limits.min_slices
        )
    except IrregularSlicesError:
        return True
    except DicomError:
        return False
    return True


def _group_members(values: Sequence[Hashable]) -> list[list[int]]:
    """The indices of equal values, in the order of the values."""
    members_by_value: dict[Any, list[int]] = {}
    for n, value in enumerate(values):
        members_by_value.setdefault(value, []).append(n)
    return [members_by_value[value] for value in sorted(members_by_value)]


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


def _is_one_volume(headers: Sequence[DicomHeader]) -> bool:
    """Whether all look one way, have one matrix, and no two lie at one place."""
    if max(number_orientations(headers)) or max(number_matrices(headers)):
        return False
    positions = _sort_positions(headers)
    # Two slices at one place belong to two volumes, whatever else they share. What lacks a position, the grid names.
    return positions is None or bool((np.diff(positions[:, 3]) >= limit_same_position(headers[0].plane)).all())
