"""The calibration of one model: agreement and Dice of cases that it did not learn from, in one JSON file.

It names the model's files by their digests and the settings of the prediction, so that no other model, and no other
way to run it, is judged by it. It names no case and no patient.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from voxflow.errors import DataError
from voxflow.trust.conformal import DicePredictor
from voxflow.trust.features import Range, find_ranges, find_unusual
from voxflow.trust.model_calibration import ModelCalibration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

DIGITS = 6
EMPTY, NO_AGREEMENT, NO_DICE = "empty mask", "no agreement was measured", "no Dice is defined"
SAME_PATIENT, LEARNED = "a further case of a patient", "the model learned from the case or its patient"


@dataclass(frozen=True)
class Observation:
    """What is known of one case that was judged.

    Attributes:
        case: its name.
        agreement: of the model's answers; NaN where none was measured.
        dice: the mean over its classes; NaN where none is defined.
        is_empty: whether the mask has no voxel of any class.
        features: of its image and mask.
        patient: the patient's pseudonym; empty: the case stands for a patient of its own.
    """

    case: str
    agreement: float
    dice: float
    is_empty: bool
    features: Mapping[str, float] = field(default_factory=dict)
    patient: str = ""


class Calibration(ModelCalibration):
    """What the trust in a model's masks rests on.

    Attributes:
        signal: what agrees: the models of "folds", the "mirrors" of an image, or the "probabilities" with the mask.
        agreement, dice: of the cases that tell something, one a patient.
        ranges: least and greatest value of each feature; empty where there are too few cases.
    """

    signal: Literal["folds", "mirrors", "probabilities"]
    agreement: tuple[float, ...]
    dice: tuple[float, ...]
    ranges: dict[str, Range] = Field(default_factory=dict)

    @cached_property
    def predictor(self) -> DicePredictor:
        """What predicts a new case's Dice."""
        return DicePredictor.fit(self.agreement, self.dice)

    def explain_mismatch(self, models: Sequence[Mapping[str, str]], settings: Mapping[str, Any], signal: str) -> str:
        """Say why it does not speak of a prediction; empty where it does.

        Args:
            models: digests by name of the files that the engine read, of each model.
            settings: of the prediction.
            signal: what agrees in it.
        """
        mismatch = self.explain_other_use(models, settings)
        if mismatch or signal == self.signal:
            return mismatch
        return f"calibrated by the agreement of {self.signal}, not of {signal}"

    def find_unusual(self, features: Mapping[str, float]) -> dict[str, str]:
        """Find what a case has that the cases of the calibration did not; see ``voxflow.trust.find_unusual``."""
        return find_unusual(features, self.ranges)


def build_calibration(
    observations: Sequence[Observation],
    *,
    signal: str,
    models: Sequence[Mapping[str, str]],
    settings: Mapping[str, Any],
    part: str,
    learned: Collection[str] = (),
) -> Calibration:
    """Calibrate a model with the cases that it was judged on.

    Several cases of a patient are alike, and would make the bound too sure: the first one counts. A case with an empty
    mask or without an agreement is left out, since a new one gets no bound either; so is one without a defined Dice.

    Args:
        observations: of cases that were judged.
        signal: what agrees.
        models: digests of the files of each model, by name.
        settings: of the prediction.
        part: the datalist's key of the cases.
        learned: names of cases and patients that the model learned from; such cases are left out.
    """
    usable, left_out = _select_usable(observations, learned)
    return Calibration(
        signal=signal,  # type: ignore[arg-type]
        models=tuple(dict(files) for files in models),
        settings=dict(settings),
        part=part,
        cases=len(observations),
        left_out=dict(left_out),
        agreement=tuple(round(observation.agreement, DIGITS) for observation in usable),
        dice=tuple(round(observation.dice, DIGITS) for observation in usable),
        ranges=find_ranges([observation.features for observation in usable]),
    )


def _select_usable(
    observations: Sequence[Observation], learned: Collection[str]
) -> tuple[list[Observation], Counter[str]]:
    """The cases to calibrate with, one a patient, and how many of the others there are by the reason."""
    left_out: Counter[str] = Counter()
    usable: list[Observation] = []
    patients: set[str] = set()
    for observation in sorted(observations, key=lambda observation: observation.case):
        patient = observation.patient or observation.case
        reason = LEARNED if {observation.case, patient} & {*learned} else _explain_useless(observation)
        reason = reason or (SAME_PATIENT if patient in patients else "")
        if reason:
            left_out[reason] += 1
            continue
        patients.add(patient)
        usable.append(observation)
    return usable, left_out


def _explain_useless(observation: Observation) -> str:
    if observation.is_empty:
        return EMPTY
    if not math.isfinite(observation.agreement):
        return NO_AGREEMENT
    return "" if math.isfinite(observation.dice) else NO_DICE


def read_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        DataError: the file is none.
        FileNotFoundError: there is none.
    """
    calibration = Calibration.read(path)
    values = (*calibration.agreement, *calibration.dice)
    if len(calibration.agreement) != len(calibration.dice) or not all(map(math.isfinite, values)):
        raise DataError("no calibration: agreement and dice are to hold as many numbers", path=path)
    return calibration
