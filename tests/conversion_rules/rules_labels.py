"""Rules of which image a label belongs to, and which voxels it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import FRAME, Series, random_values, rtstruct, save

if TYPE_CHECKING:
    from pathlib import Path

TRIANGLE = np.array([[1.0, 1, 2], [5, 1, 2], [3, 8, 2]])


def write_label_by_frame(folder: Path, is_inside: bool) -> None:
    Series(random_values()).write(folder / "ct")
    save(rtstruct([TRIANGLE], frame=FRAME if is_inside else "1.2.99"), folder / "rt")


RULES = [
    Rule(
        "label of a frame of reference",
        write_label_by_frame,
        "shares its frame of reference",
        inside=("converted", "converted"),
    )
]
