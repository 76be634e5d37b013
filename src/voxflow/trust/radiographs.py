"""The calibration of a classifier: logits of held-out radiographs by finding, in the file trust.json.

It holds what corrects the probabilities (Platt scaling), and the logits that label sets are told from: split conformal
prediction by label, and where each fold judged what it held out, cross-conformal prediction (Vovk 2015), which is right
somewhat more often than it claims, since the folds together err less than each. One radiograph counts of each patient
with a finding, and one without. It names no case and no patient.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveFloat

from voxflow.files import read_json_or_none
from voxflow.trust.calibration import LEARNED, read_calibration
from voxflow.trust.model_calibration import ModelCalibration
from voxflow.trust.platt import IDENTITY, LEAST_OF_EACH, Platt, fit_platt, probabilities_to_logits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from voxflow.trust.calibration import Calibration

DIGITS = 6
GROUPS = 5  # that the patients of a single model are dealt into, to fit without each


@dataclass(frozen=True)
class HeldOutRadiograph:
    """A radiograph that a model judged and did not learn from.

    Attributes:
        case: its name.
        patient: the patient's pseudonym, or the case's name.
        model: the number of the model that judged it, from 0.
        truth: 0 or 1 by finding.
        probabilities: by finding.
        is_learned: whether that model learned from the case, or from its patient; it then counts as left out.
    """

    case: str
    patient: str
    model: int
    truth: tuple[int, ...]
    probabilities: tuple[float, ...]
    is_learned: bool = False


class FindingCalibration(BaseModel):
    """What the calibration knows of one finding.

    Attributes:
        positives: of each model, the logits of the held-out radiographs that have the finding, one a patient.
        negatives: of those that have it not.
        slope, intercept: of the logistic calibration; None where the patients are too few, and nothing is corrected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    positives: tuple[tuple[FiniteFloat, ...], ...]
    negatives: tuple[tuple[FiniteFloat, ...], ...]
    slope: PositiveFloat | None = None
    intercept: FiniteFloat | None = None

    @property
    def platt(self) -> Platt:
        """The logistic calibration; where there is none, the one that changes nothing."""
        return IDENTITY if self.slope is None else Platt(self.slope, self.intercept or 0.0)

    @property
    def counts(self) -> tuple[int, int]:
        """Patients with the finding, and patients without."""
        return sum(map(len, self.positives)), sum(map(len, self.negatives))

    def measure_p_values(self, logits: NDArray[Any]) -> tuple[float, float]:
        """Tell how usual a radiograph is among those that have the finding, and among those that have it not.

        Args:
            logits: of the radiograph, one a model, in the order of the calibration.

        Returns:
            Of the calibration's radiographs with the finding, and the new one, the share whose logit is at most that
            of the same model here; of those without, the share whose logit is at least that.
        """
        lower = sum(int((np.array(own) <= logit).sum()) for own, logit in zip(self.positives, logits, strict=True))
        higher = sum(int((np.array(own) >= logit).sum()) for own, logit in zip(self.negatives, logits, strict=True))
        positives, negatives = self.counts
        return (lower + 1) / (positives + 1), (higher + 1) / (negatives + 1)


class RadiographCalibration(ModelCalibration):
    """What the trust in a classifier's probabilities rests on.

    Attributes:
        kind: tells the file from one of masks.
        findings: by the model's class name, in its order.
    """

    kind: Literal["radiographs"] = "radiographs"
    findings: dict[str, FindingCalibration]

    @property
    def corrected(self) -> list[str]:
        """The findings whose probabilities are corrected."""
        return [name for name, finding in self.findings.items() if finding.slope is not None]

    @property
    def too_few(self) -> dict[str, tuple[int, int]]:
        """Of the other findings, the patients with and without."""
        return {name: finding.counts for name, finding in self.findings.items() if finding.slope is None}


def build_radiograph_calibration(
    radiographs: Sequence[HeldOutRadiograph],
    names: Sequence[str],
    *,
    models: Sequence[Mapping[str, str]],
    settings: Mapping[str, Any],
    part: str,
) -> RadiographCalibration:
    """Calibrate a classifier, or the folds' together, with radiographs that were held out.

    Args:
        radiographs: each judged by one of the models.
        names: of the findings.
        models: digests of the files of each model, by name.
        settings: of the prediction.
        part: the datalist's key of the cases.
    """
    usable = [radiograph for radiograph in radiographs if not radiograph.is_learned]
    return RadiographCalibration(
        models=tuple(dict(files) for files in models),
        settings=dict(settings),
        part=part,
        cases=len(radiographs),
        left_out=dict(Counter(LEARNED for radiograph in radiographs if radiograph.is_learned)),
        findings={name: _calibrate_finding(usable, number, len(models)) for number, name in enumerate(names)},
    )


def cross_fit(radiographs: Sequence[HeldOutRadiograph]) -> NDArray[np.float64]:
    """Calibrate each radiograph by the others: those of the other folds, or of the other fifths of the patients.

    Returns:
        Probabilities (radiograph, finding); those that the others are too few for are as they were.
    """
    groups = _deal_groups(radiographs)
    calibrated = np.array([radiograph.probabilities for radiograph in radiographs], dtype=float)
    logits = probabilities_to_logits(calibrated)
    for group in sorted(set(groups)):
        others = [radiograph for radiograph, own in zip(radiographs, groups, strict=True) if own != group]
        rows = [n for n, own in enumerate(groups) if own == group]
        models = 1 + max((radiograph.model for radiograph in others), default=0)
        for number in range(calibrated.shape[1]):
            finding = _calibrate_finding(others, number, models)
            if finding.slope is not None:
                calibrated[rows, number] = finding.platt.apply(logits[rows, number])
    return calibrated


def _deal_groups(radiographs: Sequence[HeldOutRadiograph]) -> list[int]:
    if len({radiograph.model for radiograph in radiographs}) > 1:
        return [radiograph.model for radiograph in radiographs]
    patients = sorted({radiograph.patient for radiograph in radiographs})
    group_of = {patient: number % GROUPS for number, patient in enumerate(patients)}
    return [group_of[radiograph.patient] for radiograph in radiographs]


def _calibrate_finding(radiographs: Sequence[HeldOutRadiograph], number: int, models: int) -> FindingCalibration:
    """Calibrate the finding of a number, from the first radiograph of each patient that has it, and that has it not."""
    by_truth: dict[int, list[list[float]]] = {truth: [[] for _ in range(models)] for truth in (1, 0)}
    seen: set[tuple[str, int]] = set()
    for radiograph in sorted(radiographs, key=lambda radiograph: radiograph.case):
        truth = radiograph.truth[number]
        if (radiograph.patient, truth) not in seen:
            seen.add((radiograph.patient, truth))
            logit = float(probabilities_to_logits(radiograph.probabilities[number]))
            by_truth[truth][radiograph.model].append(round(logit, DIGITS))
    positives, negatives = (tuple(map(tuple, by_truth[truth])) for truth in (1, 0))
    finding = FindingCalibration(positives=positives, negatives=negatives)
    if min(finding.counts) < LEAST_OF_EACH:
        return finding
    present, absent = np.concatenate(positives), np.concatenate(negatives)
    platt = fit_platt(np.r_[present, absent], np.r_[np.ones(len(present)), np.zeros(len(absent))])
    return finding.model_copy(update={"slope": platt.slope, "intercept": platt.intercept})


def read_any_calibration(path: Path) -> Calibration | RadiographCalibration:
    """Read a calibration of masks or of radiographs.

    Raises:
        DataError: the file is neither.
        FileNotFoundError: there is none.
    """
    content = read_json_or_none(path)
    is_radiographs = isinstance(content, dict) and content.get("kind") == "radiographs"
    return RadiographCalibration.read(path) if is_radiographs else read_calibration(path)
