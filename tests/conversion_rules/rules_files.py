"""Rules of which files belong together, and of files that are no DICOM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.conversion_rules.rule import Rule
from voxflow.geometry import Geometry
from voxflow.volumes import Volume, write_volume

if TYPE_CHECKING:
    from pathlib import Path


def write_pair(folder: Path, is_inside: bool) -> None:
    image, label = (Geometry.from_parts((5, 6, 7), (1, 1, 1), (x, 0, 0)) for x in (0.0, 0.0 if is_inside else 3.0))
    write_volume(
        folder / "images/a.nii.gz", Volume(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32), image)
    )
    write_volume(folder / "labels/a.nii.gz", Volume(np.ones((5, 6, 7), np.uint8), label))


RULES = [
    Rule("one grid for image and label", write_pair, "grid", inside=("converted",), options={"labels": {"one": 1}})
]
