"""Owns taking a series apart that holds several volumes: echoes, time points, acquisitions, orientations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from voxflow.dicom.enhanced import frame_planes, functional_group
from voxflow.dicom.headers import UNREADABLE, VARYING, Header, read_dataset
from voxflow.errors import DicomError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom.dataset import Dataset

# No series is known to vary in more attributes at once than, say, echo, image type and time.
MOST_ATTRIBUTES = 3


@dataclass(frozen=True)
class Attribute:
    """What may tell the volumes of a series apart.

    Attributes:
        name: as it is told to the user.
        value: of one object.
        repeats: whether the volumes then cover the same places; else slices of one volume could be dealt out.
    """

    name: str
    value: Callable[[Header], object]
    repeats: bool = False


def orientation(header: Header) -> tuple[float, ...]:
    """ImageOrientationPatient, rounded so that noise makes no second orientation."""
    return tuple(round(value, 2) + 0.0 for value in header.plane.orientation)


def matrix(header: Header) -> tuple[object, ...]:
    """Rows, columns, and the distance between pixels."""
    return header.plane.rows, header.plane.columns, header.plane.spacing


def _varying(position: int) -> Callable[[Header], object]:
    return lambda header: header.varying[position]


ATTRIBUTES = (
    Attribute("ImageType (0008,0008)", lambda header: header.image_type),
    Attribute("EchoTime (0018,0081)", lambda header: header.echo_time),
    Attribute("AcquisitionNumber (0020,0012)", lambda header: header.acquisition),
    Attribute("TemporalPositionIdentifier (0020,0100)", lambda header: header.temporal_position),
    Attribute("ImageOrientationPatient (0020,0037)", orientation),
    Attribute("matrix", matrix),
    *(Attribute(name, _varying(n), repeats=True) for n, name in enumerate(VARYING)),
)


@dataclass(frozen=True)
class Piece:
    """One volume of a series.

    Attributes:
        members: indices into what was taken apart.
        by: the attributes that tell it from the others; empty where there are no others.
    """

    members: tuple[int, ...]
    by: str = ""


def take_apart(headers: Sequence[Header], min_slices: int) -> list[Piece]:
    """Take a series apart by the fewest attributes that leave each volume plain, ordered by their values.

    A series that no attributes take apart into whole volumes stays as it is; the grid check then names its fault.
    """
    whole = [Piece(tuple(range(len(headers))))]
    if _plain(headers):
        return whole
    most = len(headers) // min_slices
    varied = [each for each in ATTRIBUTES if 1 < len({each.value(header) for header in headers}) <= most]
    for count in range(1, MOST_ATTRIBUTES + 1):
        for chosen in combinations(varied, count):
            pieces = _by(headers, chosen)
            members = [[headers[n] for n in piece] for piece in pieces]
            if not all(len(piece) >= min_slices and _plain(piece) for piece in members):
                continue
            if not any(each.repeats for each in chosen) or len({_places(piece) for piece in members}) == 1:
                name = " and ".join(each.name for each in chosen)
                return [Piece(tuple(piece), name) for piece in pieces]
    return whole


def frames_as_headers(header: Header) -> list[Header]:
    """One header for each frame of a multi-frame object; the whole's own alone where its frames can't be read."""
    try:
        dataset = read_dataset(header.path)
        planes = frame_planes(dataset)
        return [replace(header, plane=plane, **_frame(dataset, n)) for n, plane in enumerate(planes)]
    except (DicomError, *UNREADABLE):
        return [header]


def _frame(dataset: Dataset, frame: int) -> dict[str, Any]:
    content = functional_group(dataset, frame, "FrameContentSequence")
    kind = functional_group(dataset, frame, "MRImageFrameTypeSequence")
    echo = functional_group(dataset, frame, "MREchoSequence")
    weighting = functional_group(dataset, frame, "MRDiffusionSequence")
    heart = functional_group(dataset, frame, "CardiacSynchronizationSequence")
    values = dict.fromkeys(VARYING, "")
    values["DiffusionBValue (0018,9087)"] = _text(weighting, "DiffusionBValue")
    values["TriggerTime (0018,1060)"] = _text(heart, "NominalCardiacTriggerDelayTime")
    return {
        "image_type": tuple(kind.get("FrameType") or ()) if kind is not None else (),
        "echo_time": _text(echo, "EffectiveEchoTime"),
        "acquisition": _text(content, "FrameAcquisitionNumber"),
        "temporal_position": _text(content, "TemporalPositionIndex"),
        "varying": tuple(values.values()),
    }


def _text(item: Dataset | None, keyword: str) -> str:
    value = item.get(keyword) if item is not None else None
    return "" if value is None else str(value)


def _by(headers: Sequence[Header], attributes: Sequence[Attribute]) -> list[list[int]]:
    pieces: dict[tuple[object, ...], list[int]] = {}
    for n, header in enumerate(headers):
        pieces.setdefault(tuple(each.value(header) for each in attributes), []).append(n)
    return [pieces[values] for values in sorted(pieces, key=_rank)]


def _rank(values: tuple[object, ...]) -> list[tuple[float, str]]:
    """Numbers by their size, before all else."""
    out = []
    for value in values:
        try:
            out.append((float(str(value)), ""))
        except ValueError:
            out.append((np.inf, str(value)))
    return out


def _places(headers: Sequence[Header]) -> frozenset[tuple[float, ...]]:
    return frozenset(tuple(round(value, 3) for value in header.plane.position) for header in headers)


def _plain(headers: Sequence[Header]) -> bool:
    """Whether all look one way, have one matrix, and no two lie at one place."""
    if len({(orientation(header), matrix(header)) for header in headers}) > 1:
        return False
    return len(_places(headers)) == len(headers)
