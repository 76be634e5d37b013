"""What tells the volumes of one series apart: attributes, each with the tolerance within which its values are equal.

Numbers are compared as numbers, since they are rounded and written in many ways ("2.5" and "2.50"), and never rounded
into steps: sorted, they are cut where the gap to the next one is larger than the tolerance. So a value that drifts
along a series stays one value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from voxflow.dicom.grid import FAR_EDGE_PIXELS, limit_same_position, measure_spacing
from voxflow.dicom.headers import VARYING, DicomHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from numpy.typing import NDArray

# Well above how scanners round a value, and well below what tells two volumes apart.
ECHO_TIME_TOLERANCE_MS = 0.005
TOLERANCE_AND_UNIT = {
    "InversionTime (0018,0082)": (0.5, "ms"),
    "FlipAngle (0018,1314)": (0.1, "degrees"),
    "DiffusionBValue (0018,9087)": (1.0, "s/mm2"),
    "TriggerTime (0018,1060)": (0.5, "ms"),
    "FrameReferenceTime (0054,1300)": (0.5, "ms"),
    "AcquisitionTime (0008,0032)": (0.001, "s"),
    "ContentTime (0008,0033)": (0.001, "s"),
}
# Cosines: half a degree. Slices that differ by less make no two stacks; whether they make one, the grid judges.
ORIENTATION_TOLERANCE = 0.01
# PS3.5 6.2, TM: hours, minutes, seconds; the oldest files have colons between them.
_TIME_OF_DAY = re.compile(r"(\d\d):?(\d\d)?:?(\d\d(?:\.\d*)?)?")


@dataclass(frozen=True)
class SplitAttribute:
    """What may tell the volumes of a series apart.

    Attributes:
        name: as it is told to the user.
        number: numbers the different values of objects, ascending from 0; equal ones have one number.
        read: the number of one object, NaN where it has none; None for attributes that are no numbers.
        unit: of that number.
        tolerance: how far apart equal numbers may be.
        repeats: whether the volumes then cover the same places; else slices of one volume could be dealt out.
    """

    name: str
    number: Callable[[Sequence[DicomHeader]], list[int]]
    read: Callable[[DicomHeader], float] | None = None
    unit: str = ""
    tolerance: float = 0.0
    repeats: bool = False

    @property
    def is_time_of_day(self) -> bool:
        """Whether its numbers are seconds since midnight."""
        return self.unit == "s"

    def describe(self, volume: Sequence[DicomHeader], series: Sequence[DicomHeader]) -> str:
        """Describe the values of one volume; of texts and UIDs the name alone, since they may hold personal data."""
        if self.read is None:
            return self.name
        values = np.array([self.read(header) for header in volume])
        if not np.isfinite(values).all():
            return f"{self.name} missing"
        if self.is_time_of_day:
            values -= np.nanmin([self.read(header) for header in series])
        low, high = (f"{value:.6g}" for value in (values.min(), values.max()))
        text = low if values.max() - values.min() <= self.tolerance else f"{low} to {high}"
        after = " after the first" if self.is_time_of_day else ""
        return " ".join(part for part in (self.name, text, self.unit + after) if part)


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


def number_places(headers: Sequence[DicomHeader]) -> list[int]:
    """Number the different places of slices, in any order; those at one place have one number."""
    return _number_vectors([header.plane.position for header in headers], limit_same_position(headers[0].plane))


def number_uids(uids: Sequence[str]) -> list[int]:
    """Number UIDs; where objects have none, they count with the others, if these have one alone."""
    return number_values(uids) if len(set(uids) - {""}) > 1 else [0] * len(uids)


def _number_vectors(vectors: Sequence[tuple[float, ...]], tolerance: float) -> list[int]:
    """Number the different vectors; a gap larger than the tolerance in any of their components parts them."""
    if len(set(vectors)) == 1:
        return [0] * len(vectors)
    lengths = {len(vector) for vector in vectors}
    if len(lengths) > 1:
        return number_values(vectors)
    components = np.array(vectors, dtype=np.float64).reshape(len(vectors), -1)
    labels = np.column_stack([_cut_at_gaps(column, tolerance) for column in components.T])
    return [int(number) for number in np.unique(labels, axis=0, return_inverse=True)[1].ravel()]


def _cut_at_gaps(values: NDArray[np.float64], tolerance: float) -> NDArray[np.intp]:
    """Number values, ascending, by the gaps between them; those that are no numbers come last."""
    order = np.argsort(values, kind="stable")
    numbers = np.empty(len(values), dtype=np.intp)
    # A comparison with NaN is false: so it is parted from the last number, and NaN from NaN.
    numbers[order] = np.concatenate([[0], np.cumsum(~(np.diff(values[order]) <= tolerance))])
    return numbers


def _make_sort_key(value: object) -> tuple[float, str]:
    """Numbers by their size, before all else."""
    size = _read_number(value)
    return (size, "") if np.isfinite(size) else (np.inf, str(value))


def _read_number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        return np.nan


def _read_time_of_day(text: str) -> float:
    """Seconds since midnight; NaN where it is no time.

    Example:
        >>> _read_time_of_day("080130.5"), _read_time_of_day("08:01:30.50")
        (28890.5, 28890.5)
    """
    match = _TIME_OF_DAY.fullmatch(text.strip())
    if match is None:
        return np.nan
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _make_number(
    name: str, read: Callable[[DicomHeader], str], tolerance: float = 0.0, unit: str = "", *, repeats: bool = False
) -> SplitAttribute:
    """An attribute whose values are numbers, or times of day where their unit is seconds."""
    parse = _read_time_of_day if unit == "s" else _read_number

    def number(headers: Sequence[DicomHeader]) -> list[int]:
        sizes = [parse(read(header)) for header in headers]
        # What is no number is compared as it is written.
        values = [size if np.isfinite(size) else read(header) for size, header in zip(sizes, headers, strict=True)]
        return number_values(values, tolerance)

    return SplitAttribute(name, number, lambda header: parse(read(header)), unit, tolerance, repeats)


def _read_varying(position: int) -> Callable[[DicomHeader], str]:
    return lambda header: header.varying[position]


SPLIT_ATTRIBUTES = (
    SplitAttribute("ImageType (0008,0008)", lambda headers: number_values([header.image_type for header in headers])),
    _make_number("EchoTime (0018,0081)", lambda header: header.echo_time, ECHO_TIME_TOLERANCE_MS, "ms"),
    _make_number("AcquisitionNumber (0020,0012)", lambda header: header.acquisition),
    _make_number("TemporalPositionIdentifier (0020,0100)", lambda header: header.temporal_position),
    SplitAttribute("ImageOrientationPatient (0020,0037)", number_orientations),
    SplitAttribute("matrix", number_matrices),
    *(_make_number(name, _read_varying(n), *TOLERANCE_AND_UNIT[name], repeats=True) for n, name in enumerate(VARYING)),
)
# Slices of another study, series or frame of reference are never slices of one volume, wherever they lie. Where
# anonymisers gave one SeriesInstanceUID to all series, their numbers often stayed.
DIVIDING_ATTRIBUTES = (
    replace(
        _make_number("SeriesNumber (0020,0011)", lambda header: header.series_number),
        number=lambda headers: number_uids([header.series_number for header in headers]),
    ),
    SplitAttribute(
        "StudyInstanceUID (0020,000D)", lambda headers: number_uids([header.study_uid for header in headers])
    ),
    SplitAttribute(
        "FrameOfReferenceUID (0020,0052)",
        lambda headers: number_uids([header.frame_of_reference for header in headers]),
    ),
)
