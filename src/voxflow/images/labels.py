"""Reads a label file for an image: whole, known values on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxflow.errors import DataError, join_names
from voxflow.volumes import Volume, align, describe_forms, describe_turn, read_volume, round_labels

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from voxflow.geometry import Geometry

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


def read_known_label(path: Path, grid: Geometry, values: Collection[int] | None) -> LabelReading:
    """Read a label and bring it onto its image's grid.

    Args:
        path: the file.
        grid: of its image.
        values: that have a name; None: any.

    Raises:
        DataError: it is unreadable, its voxels are not its image's, or it has values that it should not have.
    """
    volume = read_volume(path)
    remarks = describe_forms(volume.geometry), describe_turn(volume.geometry, grid)
    array = round_labels(align(volume, grid).array)
    present_values = tuple(int(value) for value in np.unique(array))
    unknown = sorted(set(present_values) - {0, *values}) if values else []
    if unknown:
        texts = [join_names([str(value) for value in numbers]) for numbers in (unknown, sorted(values or ()))]
        raise DataError(f"label values [{texts[0]}] have no name in the option labels, which names [{texts[1]}]")
    return LabelReading(Volume(array, grid), present_values, "; ".join(f"label: {text}" for text in remarks if text))
