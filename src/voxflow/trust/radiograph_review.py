"""Judges a classifier's answers: calibrated probabilities, label sets, how far the models disagree, send or review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.trust.conformal import ROUNDING
from voxflow.trust.platt import IDENTITY, bound_logits
from voxflow.trust.review import Reviewer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxflow.trust.radiographs import RadiographCalibration
    from voxflow.trust.review import Verdict

# What the calibration lets a finding be: one label, both, or none where the radiograph is unlike those of either.
Labels = Literal["present", "absent", "either", "neither"]
LABELS: dict[tuple[bool, bool], Labels] = {
    (True, False): "present",
    (False, True): "absent",
    (True, True): "either",
    (False, False): "neither",
}
UNCALIBRATED, LABEL_SET, SPREAD = "uncalibrated_", "labels_", "spread_"


@dataclass(frozen=True)
class RadiographTrust:
    """How far the answer to one radiograph can be trusted.

    Attributes:
        probabilities: calibrated, by finding.
        uncalibrated: as the model, or the folds' models on average, gave them.
        labels: what each finding may be, at the confidence asked for.
        spread: the greatest less the least calibrated probability of the models; nothing of a single model.
    """

    probabilities: Mapping[str, float]
    uncalibrated: Mapping[str, float]
    labels: Mapping[str, Labels]
    spread: Mapping[str, float]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a person should look at it: the findings that have no single label."""
        return tuple(f"{name}: {labels}" for name, labels in self.labels.items() if labels in ("either", "neither"))

    @property
    def verdict(self) -> Verdict:
        """Say "send" where every finding has one label."""
        return "review" if self.reasons else "send"

    def as_row(self) -> dict[str, Any]:
        """Return the cells of a table, by the names of :meth:`RadiographReviewer.name_columns`."""
        row: dict[str, Any] = {f"{UNCALIBRATED}{name}": value for name, value in self.uncalibrated.items()}
        row |= {f"{LABEL_SET}{name}": labels for name, labels in self.labels.items()}
        row |= {f"{SPREAD}{name}": round(value, 4) for name, value in self.spread.items()}
        return row | {"verdict": self.verdict, "reasons": "; ".join(self.reasons)}


@dataclass(frozen=True)
class RadiographReviewer:
    """Judges the answers of one classifier.

    Attributes:
        calibration: of the model, or of the folds' models together.
        order: the number that each model of the engine has in the calibration.
        confidence: the share of the radiographs with a finding, and of those without, whose label set is to be right.
    """

    calibration: RadiographCalibration
    order: tuple[int, ...]
    confidence: float = 0.9

    def assess(self, logits: NDArray[Any]) -> RadiographTrust:
        """Judge one radiograph.

        Args:
            logits: (model, finding), in the engine's order.
        """
        values = np.empty(logits.shape)
        values[list(self.order)] = logits
        findings = self.calibration.findings
        uncalibrated = IDENTITY.apply(values)
        calibrated = np.stack(
            [finding.platt.apply(values[:, number]) for number, finding in enumerate(findings.values())], axis=1
        )
        spread = np.ptp(calibrated, axis=0) if len(values) > 1 else ()
        return RadiographTrust(
            dict(zip(findings, map(float, calibrated.mean(axis=0)), strict=True)),
            dict(zip(findings, map(float, uncalibrated.mean(axis=0)), strict=True)),
            {name: self._find_labels(name, values[:, number]) for number, name in enumerate(findings)},
            dict(zip(findings, map(float, spread), strict=False)),
        )

    def name_columns(self, names: Sequence[str]) -> list[str]:
        """List the columns of a table beside the probabilities of these findings."""
        kinds = (UNCALIBRATED, LABEL_SET, *((SPREAD,) if len(self.order) > 1 else ()))
        return [*(f"{kind}{name}" for kind in kinds for name in names), "verdict", "reasons"]

    def explain_other_findings(self, names: Sequence[str]) -> str:
        """Say why it does not speak of a model with these findings; empty where it does."""
        columns = [*names, *self.name_columns(names)]
        if len(set(columns)) < len(columns):
            return "a finding is called as a column of the table is, such as verdict"
        return "" if list(names) == list(self.calibration.findings) else "the calibration is of other findings"

    def describe(self) -> str:
        """Say in a sentence what is corrected, and what not."""
        corrected, too_few = self.calibration.corrected, self.calibration.too_few
        text = f"probabilities of {', '.join(corrected) or 'no finding'} are calibrated"
        counts = ", ".join(f"{name} ({present} with, {absent} without)" for name, (present, absent) in too_few.items())
        return f"{text}; too few held-out patients for {counts}" if counts else text

    def _find_labels(self, name: str, logits: NDArray[Any]) -> Labels:
        # As the held-out ones were, which come from tables.
        present, absent = self.calibration.findings[name].measure_p_values(bound_logits(logits))
        least = 1 - self.confidence + ROUNDING
        return LABELS[present > least, absent > least]


AnyReviewer = Reviewer | RadiographReviewer
