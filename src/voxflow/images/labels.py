"""Reads a label file for an image: whole, known values on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxflow.volumes import Volume, align, describe_forms, describe_turn, read_volume

if TYPE_CHECKING:
    from pathlib import Path

    from voxflow.geometry import Geometry
    from voxflow.images.label_values import LabelValues

NO_NAMES = (
    "label files hold numbers, and other labels here have names: say by the option labels which number is which name"
)


@dataclass(frozen=True)
class LabelReading:
    """A label on its image's grid.

    Attributes:
        volume: uint8, or uint16 where a value needs it.
        values: those that occur; 0 among them.
        remark: what the user should know of its grid; empty where there is nothing.
    """

    volume: Volume
    values: tuple[int, ...]
    remark: str


def read_known_label(path: Path, grid: Geometry, values: LabelValues) -> LabelReading:
    """Read a label and bring it onto its image's grid.

    Raises:
        DataError: it is unreadable, its voxels are not its image's, or it has values that it should not have.
    """
    volume = read_volume(path)
    array, present_values, ignored = values.convert(align(volume, grid).array)
    remarks = describe_forms(volume.geometry), describe_turn(volume.geometry, grid), ignored
    return LabelReading(Volume(array, grid), present_values, "; ".join(f"label: {text}" for text in remarks if text))
