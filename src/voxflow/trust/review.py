"""Sorts cases: which masks can be sent as they are, and which a person should look at first, each with the reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from voxflow.trust.calibration import EMPTY, NO_AGREEMENT
from voxflow.trust.conformal import count_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxflow.trust.calibration import Calibration

Verdict = Literal["send", "review"]
MOST_NAMED = 3  # features that a reason names


@dataclass(frozen=True)
class CaseTrust:
    """How far the mask of one case can be trusted.

    Attributes:
        verdict: "send" or "review".
        reasons: why it is to be reviewed.
        agreement: of the model's answers; None where none was measured.
        estimate: the Dice that such a case reaches as often as not; None: not known.
        bound: the Dice that it reaches at least; None: not known.
        level: the share of cases that the bound holds for.
        unusual: features that no case of the calibration was near to, in words by name.
    """

    COLUMNS: ClassVar = ("verdict", "dice_bound", "bound_holds", "estimated_dice", "agreement", "reasons")

    verdict: Verdict
    reasons: tuple[str, ...]
    agreement: float | None = None
    estimate: float | None = None
    bound: float | None = None
    level: float | None = None
    unusual: Mapping[str, str] | None = None

    @property
    def description(self) -> str:
        """What DICOM SEG, RTSTRUCT and Structured Report say of the mask."""
        return "AI result, review advised" if self.verdict == "review" else "AI result"

    def as_row(self) -> dict[str, Any]:
        """Return the cells of a table, by the names of the columns; what is not known is None."""

        def shorten(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        return {
            "verdict": self.verdict,
            "dice_bound": shorten(self.bound),
            "bound_holds": shorten(self.level),
            "estimated_dice": shorten(self.estimate),
            "agreement": shorten(self.agreement),
            "reasons": "; ".join(self.reasons),
        }


@dataclass(frozen=True)
class Reviewer:
    """Judges the masks of one model.

    Attributes:
        review_below: a case whose bound is lower is to be reviewed.
        confidence: the share of cases that the bound is to hold for.
        calibration: of the model; None: there is none, and every case is to be reviewed.
        absence: why there is none.
    """

    review_below: float
    confidence: float
    calibration: Calibration | None = None
    absence: str = ""

    def assess(self, agreement: float | None, features: Mapping[str, float], *, is_empty: bool) -> CaseTrust:
        """Judge one case.

        Args:
            agreement: of the model's answers; None or NaN where none was measured.
            features: of its image and mask.
            is_empty: whether the mask has no voxel of any class; its Dice is 0 if there was anything to find.
        """
        agreement = agreement if agreement is not None and math.isfinite(agreement) else None
        if self.calibration is None:
            return CaseTrust("review", (f"no estimate: {self.absence}",), agreement)
        if is_empty or agreement is None:
            return CaseTrust("review", (EMPTY if is_empty else NO_AGREEMENT,), agreement)
        predictor = self.calibration.predictor
        if not predictor.errors:
            return CaseTrust("review", ("no estimate: the calibration has no case",), agreement)
        bound = predictor.bound(agreement, self.confidence)
        unusual = self.calibration.find_unusual(features)
        reasons = []
        if bound < self.review_below:
            reasons.append(f"its Dice may be as low as {bound:.3f}, below {self.review_below:g}")
        if unusual:
            names = list(unusual.values())[:MOST_NAMED]
            more = f", and {len(unusual) - MOST_NAMED} more" if len(unusual) > MOST_NAMED else ""
            reasons.append(
                f"unlike the cases of the calibration, whose bound may not hold for it: {', '.join(names)}{more}"
            )
        estimate, level = predictor.estimate(agreement), predictor.level(self.confidence)
        return CaseTrust("review" if reasons else "send", tuple(reasons), agreement, estimate, bound, level, unusual)

    def describe(self) -> str:
        """Say in a sentence what the bounds rest on, and how much they claim."""
        if self.calibration is None:
            return f"no case has an estimate: {self.absence}"
        count = len(self.calibration.predictor.errors)
        level = self.calibration.predictor.level(self.confidence)
        signals = {
            "folds": "of the folds' models",
            "mirrors": "of the answers to mirror images",
            "probabilities": "of the mask with the model's own probabilities",
        }
        text = f"the bound rests on {count} patients and the agreement {signals[self.calibration.signal]}"
        if level < self.confidence:
            return f"{text}; too few for {self.confidence:.0%}: it holds for {level:.0%} of such cases"
        return f"{text}; it holds for {level:.0%} of such cases"


def measure_review_share(calibration: Calibration, review_below: float, confidence: float) -> float | None:
    """Measure the share of the calibration's own cases that would be reviewed, but for what their images are like.

    Returns:
        None where it has no case.
    """
    predictor = calibration.predictor
    if not predictor.errors:
        return None
    bounds = [predictor.bound(agreement, confidence) for agreement in calibration.agreement]
    return count_below(bounds, review_below) / len(bounds)
