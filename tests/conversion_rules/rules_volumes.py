"""Rules of which slices make one volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import Series, random_values, save

if TYPE_CHECKING:
    from pathlib import Path


def write_shifted_slice(folder: Path, is_inside: bool) -> None:
    datasets = Series(random_values()).datasets()
    datasets[2].ImagePositionPatient = [0, 0, 4.09 if is_inside else 4.15]
    for k, dataset in enumerate(datasets):
        save(dataset, folder / str(k))


RULES = [Rule("regular spacing", write_shifted_slice, "irregular spacing: slices lie 1.850 to 2.150 mm apart")]
