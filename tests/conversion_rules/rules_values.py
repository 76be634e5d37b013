"""Rules of what the numbers in a volume mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conversion_rules.rule import Rule
from tests.dicom.objects import Series, item, random_values
from tests.dicom.test_pet import DOSE, STATED

if TYPE_CHECKING:
    from pathlib import Path


def write_pet_of_weight(folder: Path, is_inside: bool) -> None:
    tags = STATED | {"RadiopharmaceuticalInformationSequence": [item(**DOSE)], "PatientWeight": 70 if is_inside else 0}
    Series(random_values().clip(0), changes=tags).write(folder)


RULES = [
    Rule(
        "weight",
        write_pet_of_weight,
        "not in SUV: PatientWeight (0010,1030) is missing or no positive number",
        "converted",
    )
]
