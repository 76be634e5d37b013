"""Divides a series that holds several volumes: echoes, time points, acquisitions, orientations.

Plan: a series whose slices all look one way and lie at different places is one volume. Otherwise the attributes of
:data:`SPLIT_ATTRIBUTES` are tried, first alone, then in pairs and threes, until the groups of slices with equal values
are each one volume of enough slices. Times and the like only count where all volumes cover the same places, since else
they could deal the slices of one volume out over two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.enhanced import find_functional_group, read_frame_planes
from voxflow.dicom.headers import PARSE_ERRORS, VARYING, DicomHeader, read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset

# No series is known to vary in more attributes at once than, say, echo, image type and time.
MOST_ATTRIBUTES = 3


@dataclass(frozen=True)
class SplitAttribute:
    """What may tell the volumes of a series apart.

    Attributes:
        name: as it is told to the user.
        value: of one object.
        repeats: whether the volumes then cover the same places; else slices of one volume could be dealt out.
    """

    name: str
    value: Callable[[DicomHeader], object]
    repeats: bool = False


def round_orientation(header: DicomHeader) -> tuple[float, ...]:
    """Round ImageOrientationPatient (0020,0037) to two decimals, so that noise makes no second orientation."""
    return tuple(round(value, 2) + 0.0 for value in header.plane.orientation)


def describe_matrix(header: DicomHeader) -> tuple[object, ...]:
    """Rows, columns, and the distance between pixels."""
    return header.plane.rows, header.plane.columns, header.plane.spacing


def _read_varying(position: int) -> Callable[[DicomHeader], object]:
    return lambda header: header.varying[position]


SPLIT_ATTRIBUTES = (
    SplitAttribute("ImageType (0008,0008)", lambda header: header.image_type),
    SplitAttribute("EchoTime (0018,0081)", lambda header: header.echo_time),
    SplitAttribute("AcquisitionNumber (0020,0012)", lambda header: header.acquisition),
    SplitAttribute("TemporalPositionIdentifier (0020,0100)", lambda header: header.temporal_position),
    SplitAttribute("ImageOrientationPatient (0020,0037)", round_orientation),
    SplitAttribute("matrix", describe_matrix),
    *(SplitAttribute(name, _read_varying(n), repeats=True) for n, name in enumerate(VARYING)),
)


@dataclass(frozen=True)
class SeriesPiece:
    """One volume of a series.

    Attributes:
        members: indices into the headers that were taken apart.
        by: the attributes that tell it from the others; empty where there are no others.
    """

    members: tuple[int, ...]
    by: str = ""


def split_series(headers: Sequence[DicomHeader], min_slices: int) -> list[SeriesPiece]:
    """Take a series apart by the fewest attributes that leave each volume plain, ordered by their values.

    Args:
        headers: of the series, or of the frames of one object.
        min_slices: fewer are no volume.

    Returns:
        One piece a volume. A series that no attributes take apart into whole volumes stays as it is; the grid check
        then names its fault.
    """
    unsplit = [SeriesPiece(tuple(range(len(headers))))]
    if _is_one_volume(headers):
        return unsplit
    max_volumes = len(headers) // min_slices
    varying = [
        attribute
        for attribute in SPLIT_ATTRIBUTES
        if 1 < len({attribute.value(header) for header in headers}) <= max_volumes
    ]
    for count in range(1, MOST_ATTRIBUTES + 1):
        for attributes in combinations(varying, count):
            pieces = _group_by_values(headers, attributes)
            members = [[headers[n] for n in piece] for piece in pieces]
            if not all(len(piece) >= min_slices and _is_one_volume(piece) for piece in members):
                continue
            if (
                not any(attribute.repeats for attribute in attributes)
                or len({_collect_positions(piece) for piece in members}) == 1
            ):
                name = " and ".join(attribute.name for attribute in attributes)
                return [SeriesPiece(tuple(piece), name) for piece in pieces]
    return unsplit


def read_frame_headers(header: DicomHeader) -> list[DicomHeader]:
    """Make a header of each frame of a multi-frame object, with what its functional groups say.

    Returns:
        One header a frame; the object's own header alone where its frames can't be read.
    """
    try:
        dataset = read_dataset(header.path)
        planes = read_frame_planes(dataset)
        return [replace(header, plane=plane, **_read_frame_attributes(dataset, n)) for n, plane in enumerate(planes)]
    except (DicomError, *PARSE_ERRORS):
        return [header]


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


def _group_by_values(headers: Sequence[DicomHeader], attributes: Sequence[SplitAttribute]) -> list[list[int]]:
    pieces: dict[tuple[object, ...], list[int]] = {}
    for n, header in enumerate(headers):
        pieces.setdefault(tuple(attribute.value(header) for attribute in attributes), []).append(n)
    return [pieces[values] for values in sorted(pieces, key=_make_sort_key)]


def _make_sort_key(values: tuple[object, ...]) -> list[tuple[float, str]]:
    """Numbers by their size, before all else."""
    sort_key = []
    for value in values:
        try:
            sort_key.append((float(str(value)), ""))
        except ValueError:
            sort_key.append((np.inf, str(value)))
    return sort_key


def _collect_positions(headers: Sequence[DicomHeader]) -> frozenset[tuple[float, ...]]:
    return frozenset(tuple(round(value, 3) for value in header.plane.position) for header in headers)


def _is_one_volume(headers: Sequence[DicomHeader]) -> bool:
    """Whether all look one way, have one matrix, and no two lie at one place."""
    # Two slices at one place belong to two volumes, whatever else they share.
    if len({(round_orientation(header), describe_matrix(header)) for header in headers}) > 1:
        return False
    return len(_collect_positions(headers)) == len(headers)
