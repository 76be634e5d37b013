"""Compares the features of two groups of patients: which features differ, how much, and how certain that is."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxflow.drift.statistics import (
    adjust_p_values,
    category_stability,
    fisher_p_value,
    kolmogorov_smirnov,
    population_stability,
    round_to_tolerance,
    smallest_p_value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxflow.drift.features import PatientFeatures, Value
    from voxflow.drift.options import MonitorOptions
    from voxflow.drift.statistics import Numbers

Verdict = Literal["moved", "same", "too few"]
SHOWN_CATEGORIES = 3
NAMED_FEATURES = 5


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature differs between the training's and the incoming patients.

    Attributes:
        name: such as "spacing_k_mm".
        verdict: "moved" where both the index and the test say so; "too few" where no drift could be proven.
        psi: population stability index.
        statistic: Kolmogorov-Smirnov's D; None for a category.
        p_value: p of the test of this feature alone.
        adjusted: p adjusted for looking at all features (Holm).
        before, now: median and middle half, or the most frequent categories, as text.
        outside: share of the incoming patients beyond what training had: below its least, above its greatest value,
            or a category that it did not have.
    """

    name: str
    verdict: Verdict
    psi: float
    statistic: float | None
    p_value: float
    adjusted: float
    before: str
    now: str
    outside: float

    @property
    def line(self) -> str:
        """What the feature was, what it is now, and how far and how surely it moved."""
        return f"{self.name}: {self.before} → {self.now} (PSI {self.psi:.2f}, p {self.adjusted:.2g})"


@dataclass(frozen=True)
class DriftResult:
    """Which features of the incoming patients differ from the training's.

    Attributes:
        features: those that moved first.
        reference, incoming: patients in each sample.
        alpha, psi: the bounds.
    """

    features: tuple[FeatureDrift, ...]
    reference: int
    incoming: int
    alpha: float
    psi: float

    @property
    def moved_features(self) -> tuple[FeatureDrift, ...]:
        """The features that moved."""
        return tuple(feature for feature in self.features if feature.verdict == "moved")

    @property
    def too_few(self) -> bool:
        """Whether so few studies came that no drift could have been proven."""
        return bool(self.features) and all(feature.verdict == "too few" for feature in self.features)

    def line(self) -> str:
        """Say in one line for a person what moved, at most five features by name, or that nothing could be told."""
        if self.moved_features:
            unnamed = len(self.moved_features) - NAMED_FEATURES
            more = f" and {unnamed} more" if unnamed > 0 else ""
            lines = "; ".join(feature.line for feature in self.moved_features[:NAMED_FEATURES])
            return f"DRIFT in {self.incoming} patients: {lines}{more}"
        if self.too_few:
            return f"{self.incoming} patients are too few to tell drift from chance"
        return f"no drift in {self.incoming} patients, {len(self.features)} features compared with {self.reference}"

    def as_json(self) -> dict[str, Any]:
        """Return the content of drift.json.

        Returns:
            ``alert`` and ``moved`` for programs that watch, the counts, the bounds, and every feature with its numbers.
        """
        return {
            "alert": bool(self.moved_features),
            "moved": [feature.name for feature in self.moved_features],
            "too_few": self.too_few,
            "reference_patients": self.reference,
            "incoming_patients": self.incoming,
            "alpha": self.alpha,
            "psi": self.psi,
            "features": [vars(feature) for feature in self.features],
        }


def compare_samples(reference: PatientFeatures, incoming: PatientFeatures, options: MonitorOptions) -> DriftResult:
    """Compare incoming studies with those of the training, patient by patient, feature by feature.

    A feature moved where its population stability index reaches ``options.psi`` and, since that index alone is large by
    chance in small samples, a test proves a difference: Kolmogorov-Smirnov for numbers, Fisher's for categories, both
    exact, adjusted for the number of features so that ``options.alpha`` holds for all of them together.
    """
    names = [name for name in reference.features if name in incoming.features and name not in options.ignore]
    pairs = [(reference.features[name], incoming.features[name]) for name in names]
    results = [_compare_feature(name, *pair, options.tolerance) for name, pair in zip(names, pairs, strict=True)]
    # Every feature is one more chance of a false alarm.
    adjusted = adjust_p_values([result.p_value for result in results])
    features = []
    for pair, result, p in zip(pairs, results, adjusted, strict=True):
        verdict: Verdict = "same"
        if p <= options.alpha and result.psi >= options.psi:
            verdict = "moved"
        # Where even two samples that don't overlap could not pass, "same" would say more than is known.
        elif smallest_p_value(len(pair[0]), len(pair[1])) * len(names) > options.alpha:
            verdict = "too few"
        features.append(replace(result, verdict=verdict, adjusted=p))
    features.sort(key=lambda result: (result.verdict != "moved", result.adjusted, -result.psi, result.name))
    return DriftResult(tuple(features), reference.patients, incoming.patients, options.alpha, options.psi)


def _compare_feature(
    name: str, reference: Mapping[str, Value], incoming: Mapping[str, Value], tolerance: float
) -> FeatureDrift:
    """Compare one feature by itself; its verdict and its adjusted p follow when all features are known."""
    old, new = list(reference.values()), list(incoming.values())
    if all(isinstance(value, float) for value in (*old, *new)):
        return _compare_numbers(name, np.array(old, float), np.array(new, float), tolerance)
    return _compare_categories(name, [str(value) for value in old], [str(value) for value in new])


def _compare_numbers(name: str, reference: Numbers, incoming: Numbers, tolerance: float) -> FeatureDrift:
    old, new = round_to_tolerance(reference, incoming, tolerance)
    statistic, p_value = kolmogorov_smirnov(old, new)
    return FeatureDrift(
        name=name,
        verdict="same",
        psi=population_stability(old, new),
        statistic=statistic,
        p_value=p_value,
        adjusted=p_value,
        before=_format_middle(reference),
        now=_format_middle(incoming),
        outside=float(np.mean((new < old.min()) | (new > old.max()))),
    )


def _compare_categories(name: str, reference: Sequence[str], incoming: Sequence[str]) -> FeatureDrift:
    p_value = fisher_p_value(reference, incoming)
    return FeatureDrift(
        name=name,
        verdict="same",
        psi=category_stability(reference, incoming),
        statistic=None,
        p_value=p_value,
        adjusted=p_value,
        before=_format_frequent(reference),
        now=_format_frequent(incoming),
        outside=statistics.fmean(value not in {*reference} for value in incoming),
    )


def _format_middle(values: Numbers) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"


def _format_frequent(values: Sequence[str]) -> str:
    counts = Counter(values).most_common()
    parts = [f"{name or 'not stated'} {count / len(values):.0%}" for name, count in counts[:SHOWN_CATEGORIES]]
    return ", ".join(parts + (["..."] if len(counts) > SHOWN_CATEGORIES else []))
